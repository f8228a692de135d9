//! What a search could find: the resources and actions that are worth a decision.
//!
//! A search can't list every resource that a pattern matches, so it answers with patterns: a `*` stands for every value
//! in its place. Read as a resource, a pattern is granted exactly by the permissions with a `*` in that place, and
//! those grant every other value there too. So each text that passes a decision is an answer, and no answer is missing:
//! whatever is granted matches one of them.
//!
//! Constraints, rates, links and budgets are left to the decisions.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use foldhash::fast::FixedState;

use crate::agent::Agent;
use crate::decision::request::Request;
use crate::delegation::Delegation;
use crate::id::AgentId;
use crate::limits::MAX_SEARCH_PAIRS;
use crate::permission::pattern::{Pattern, Segments};
use crate::permission::{Permission, PermissionSet};
use crate::tenant::{Caller, Tenant};
use crate::time::Timestamp;

/// The texts that are worth a decision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidates {
    /// Resources, or actions, in byte order.
    pub texts: BTreeSet<String>,
    /// Whether finding the rest would have taken too much work.
    pub cut_off: bool,
}

impl Tenant {
    /// Whether the request would be allowed. Nothing is recorded or counted.
    pub fn would_allow(&self, request: &Request, at: Timestamp) -> bool {
        self.decide(&Caller::Operator, request, self.next_moment(at), &mut ()).allows()
    }

    /// Resources that start with the segment `kind`, have a second segment, and on which the agent might do the action.
    /// A `*` is every value.
    pub fn resources_to_try(&self, agent: AgentId, action: &str, kind: &str, at: Timestamp) -> Candidates {
        let is_wanted =
            |permission: &Permission| permission.grants_action(action) && of_kind(permission.pattern(), kind).is_some();
        let mut walk = Walk::new(self, at, is_wanted);
        let patterns = walk.held_by(agent);
        let texts = patterns.iter().filter_map(|pattern| of_kind(pattern, kind)).collect();
        Candidates { texts, cut_off: walk.cut_off }
    }

    /// Actions that the agent might do on the resource; `*` is every action.
    pub fn actions_to_try(&self, agent: AgentId, resource: &str, at: Timestamp) -> Candidates {
        let segments = Segments::of(resource);
        let mut texts = BTreeSet::new();
        let mut walk = Walk::new(self, at, |permission| {
            let is_about = permission.pattern().matches(segments.as_slice());
            if is_about {
                texts.extend(permission.actions().map(str::to_owned));
            }
            is_about
        });
        walk.held_by(agent);
        let cut_off = walk.cut_off;
        Candidates { texts, cut_off }
    }
}

/// The pattern as a resource of that kind; `None` if it matches none.
fn of_kind(pattern: &Pattern, kind: &str) -> Option<String> {
    match pattern.as_str().split_once(':') {
        None if pattern.as_str() == "*" => Some(format!("{kind}:*")),
        Some((first, rest)) if first == "*" || first == kind => Some(format!("{kind}:{rest}")),
        _ => None,
    }
}

/// The second segment of a pattern, `*` if a `*` covers it.
fn second_of(pattern: &Pattern) -> &str {
    let mut segments = pattern.as_str().split(':');
    segments.next();
    segments.next().unwrap_or("*")
}

type Patterns = BTreeSet<Box<str>>;

/// A walk through an agent's own and delegated permissions. It visits each link once.
struct Walk<'t, F> {
    tenant: &'t Tenant,
    at: Timestamp,
    /// Which permissions to look for.
    is_wanted: F,
    links: HashMap<u32, Rc<Vec<Pattern>>, FixedState>,
    left: usize,
    /// Patterns that links passed on. Counted apart from the pairs: when those run out, what was found is still passed
    /// on.
    passed_on: usize,
    cut_off: bool,
}

impl<'t, F: FnMut(&Permission) -> bool> Walk<'t, F> {
    fn new(tenant: &'t Tenant, at: Timestamp, is_wanted: F) -> Self {
        Self { tenant, at, is_wanted, links: HashMap::default(), left: MAX_SEARCH_PAIRS, passed_on: 0, cut_off: false }
    }

    /// Patterns of everything the agent may use.
    fn held_by(&mut self, agent: AgentId) -> Vec<Pattern> {
        let Some(agent) = self.tenant.agent(agent) else { return Vec::new() };
        let arriving = self.tenant.links().arriving(agent.profile.id);
        let arriving = arriving.map(|links| links.open(self.at)).unwrap_or_default();
        self.held_through(agent, arriving)
    }

    /// Patterns of the agent's own permissions, and of what these links lend.
    fn held_through(&mut self, agent: &Agent, links: &[u32]) -> Vec<Pattern> {
        let mut seen = Patterns::new();
        let mut held = self.wanted(&agent.profile.spec.permissions);
        for place in links {
            // Many links may stand on one that lends much.
            for pattern in &*self.lent_by(*place) {
                if self.passed_on == MAX_SEARCH_PAIRS {
                    self.cut_off = true;
                    break;
                }
                self.passed_on += 1;
                held.push(pattern.clone());
            }
        }
        held.retain(|pattern| seen.insert(pattern.as_str().into()));
        held
    }

    /// Patterns of what a link lends, as far as its grantor has it. A link stands on smaller places only, so this ends.
    fn lent_by(&mut self, place: u32) -> Rc<Vec<Pattern>> {
        if let Some(known) = self.links.get(&place) {
            return Rc::clone(known);
        }
        let lent = Rc::new(self.tenant.delegation_at(place).map(|link| self.met(link)).unwrap_or_default());
        self.links.insert(place, Rc::clone(&lent));
        lent
    }

    fn met(&mut self, link: &Delegation) -> Vec<Pattern> {
        let spec = &link.profile.spec;
        let lent = self.wanted(&spec.permissions);
        let Some(grantor) = self.tenant.agent(spec.from).filter(|_| !lent.is_empty()) else { return Vec::new() };
        let held = self.held_through(grantor, &spec.stands_on);
        let mut by_second: HashMap<&str, Vec<&Pattern>, FixedState> = HashMap::default();
        for pattern in &held {
            by_second.entry(second_of(pattern)).or_default().push(pattern);
        }
        let mut seen = Patterns::new();
        let mut met = Vec::new();
        for lent in &lent {
            // Where both have text there, the texts must be equal.
            let second = second_of(lent);
            let meeting: Vec<_> = match second {
                "*" => by_second.values().collect(),
                second => [second, "*"].into_iter().filter_map(|second| by_second.get(second)).collect(),
            };
            for held in meeting.into_iter().flatten() {
                if !self.affords() {
                    return met;
                }
                met.extend(lent.meet(held).filter(|both| seen.insert(both.as_str().into())));
            }
        }
        met
    }

    fn wanted(&mut self, permissions: &PermissionSet) -> Vec<Pattern> {
        let mut wanted = Vec::new();
        for permission in permissions.as_slice() {
            if !self.affords() {
                break;
            }
            if (self.is_wanted)(permission) {
                wanted.push(permission.pattern().clone());
            }
        }
        wanted
    }

    fn affords(&mut self) -> bool {
        self.cut_off |= self.left == 0;
        self.left = self.left.saturating_sub(1);
        !self.cut_off
    }
}

//! What an agent may do by delegation: the search through the links to it.
//!
//! One search answers both whether a call is granted and whether a permission may be delegated further; a `Question`
//! decides for a single set of permissions. The search visits each link and each grantor once, so a graph in which many
//! paths meet costs no more than its links.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use crate::agent::{Agent, AgentStatus};
use crate::delegation::graph::Standing;
use crate::delegation::{Delegation, DelegationStatus};
use crate::event::{Grant, LinkUse};
use crate::id::{AgentId, DelegationId};
use crate::permission::{Permission, PermissionSet, PermissionSpec};
use crate::tenant::Tenant;
use crate::time::Timestamp;

/// A question to sets of permissions, one set at a time.
pub(crate) trait Question {
    /// Position of the agent's own permission that says yes.
    fn own(&mut self, tenant: &Tenant, agent: &Agent) -> Option<u32>;
    /// Position of the link's permission that says yes.
    fn delegated(&mut self, tenant: &Tenant, link: &Delegation) -> Option<u32>;
    /// Called for a link that is not live.
    fn dead(&mut self, _: &Delegation, _: DelegationStatus) {}
    /// Called for a link that says yes though its grantor gets a no.
    fn unheld(&mut self, _: &Delegation) {}
}

/// What a link's yes rests on: its own permission, and what that stands on.
#[derive(Clone, Copy)]
struct Basis {
    permission: u32,
    rests_on: Footing,
}

/// What a delegated permission stands on.
#[derive(Clone, Copy)]
pub(crate) enum Footing {
    /// The grantor's own permission at that position.
    Own(u32),
    /// The link at that place.
    Link(u32),
}

/// A search for one question at one moment.
pub(crate) struct Search<'t> {
    tenant: &'t Tenant,
    at: Timestamp,
    standing: Standing,
    links: HashMap<u32, Option<Basis>, FixedState>,
    agents: HashMap<AgentId, Option<u32>, FixedState>,
}

impl<'t> Search<'t> {
    pub(crate) fn new(tenant: &'t Tenant, at: Timestamp) -> Self {
        Self { tenant, at, standing: Standing::default(), links: HashMap::default(), agents: HashMap::default() }
    }

    /// The first of these links that says yes.
    pub(crate) fn first(&mut self, links: &[u32], question: &mut impl Question) -> Option<u32> {
        links.iter().copied().find(|place| self.holds(*place, question))
    }

    fn holds(&mut self, place: u32, question: &mut impl Question) -> bool {
        if let Some(known) = self.links.get(&place) {
            return known.is_some();
        }
        let basis = self.ask(place, question);
        self.links.insert(place, basis);
        basis.is_some()
    }

    fn ask(&mut self, place: u32, question: &mut impl Question) -> Option<Basis> {
        let link = self.tenant.delegation_at(place)?;
        let status = self.standing.of(self.tenant, place, self.at);
        if status != DelegationStatus::Active {
            question.dead(link, status);
            return None;
        }
        let permission = question.delegated(self.tenant, link)?;
        let rests_on = self.footing(link, question);
        if rests_on.is_none() {
            question.unheld(link);
        }
        rests_on.map(|rests_on| Basis { permission, rests_on })
    }

    /// What lets the grantor of a live link say yes: its own permission, else a link this one stands on. Links made to
    /// the grantor later don't count: they could make a chain longer than its links allow.
    fn footing(&mut self, link: &Delegation, question: &mut impl Question) -> Option<Footing> {
        let spec = &link.profile.spec;
        let own = match self.agents.get(&spec.from) {
            Some(known) => *known,
            None => {
                let own = self.tenant.agent(spec.from).and_then(|grantor| question.own(self.tenant, grantor));
                self.agents.insert(spec.from, own);
                own
            }
        };
        own.map(Footing::Own).or_else(|| self.first(&spec.stands_on, question).map(Footing::Link))
    }

    /// Forgets the answers, for another question. The status of links stays known.
    fn ask_anew(&mut self) {
        self.links.clear();
        self.agents.clear();
    }

    /// Whether the agent holds everything that the permission grants: by its own permission, or by a live link. Takes
    /// from the steps left; at none, nobody holds anything.
    pub(crate) fn covers(&mut self, agent: &Agent, wanted: &Permission, left: &mut usize) -> bool {
        self.ask_anew();
        let mut question = Cover { wanted, left };
        if question.own(self.tenant, agent).is_some() {
            return true;
        }
        let arriving = self.tenant.links().arriving(agent.profile.id);
        let arriving = arriving.map(|links| links.open(self.at)).unwrap_or_default();
        self.first(arriving, &mut question).is_some()
    }

    /// Whether the link's grantor holds everything that the permission grants; `None` if the steps ran out.
    fn holds_below(&mut self, link: &Delegation, wanted: &Permission, left: &mut usize) -> Option<bool> {
        if *left == 0 {
            return None;
        }
        self.ask_anew();
        let held = self.footing(link, &mut Cover { wanted, left }).is_some();
        (held || *left > 0).then_some(held)
    }

    /// The whole way from the link at that place, which says yes, to an agent's own permission.
    pub(crate) fn grant(&self, place: u32) -> Option<Grant> {
        let mut links = Vec::new();
        let mut at = place;
        loop {
            let Basis { permission, rests_on } = self.links.get(&at).copied().flatten()?;
            links.push(LinkUse { link: at, permission });
            match rests_on {
                Footing::Own(permission) => return Some(Grant { links, permission }),
                Footing::Link(below) => at = below,
            }
        }
    }
}

/// Asks who holds everything that a permission grants. Constraints are left out: they apply when a call is decided.
struct Cover<'p> {
    wanted: &'p Permission,
    /// Steps left. At none, nobody holds anything.
    left: &'p mut usize,
}

impl Cover<'_> {
    fn first(&mut self, permissions: &PermissionSet) -> Option<u32> {
        permissions.covering(self.wanted, self.left)
    }
}

impl Question for Cover<'_> {
    fn own(&mut self, _: &Tenant, agent: &Agent) -> Option<u32> {
        self.first(&agent.profile.spec.permissions)
    }

    fn delegated(&mut self, _: &Tenant, link: &Delegation) -> Option<u32> {
        self.first(&link.profile.spec.permissions)
    }
}

/// A permission that an agent can use, and where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct EffectivePermission {
    /// The permission. Those it stands on have constraints of their own, which apply too.
    pub permission: PermissionSpec,
    /// The link that brings it; `None` if it is the agent's own.
    pub link: Option<DelegationSource>,
}

/// The link that brings a permission.
#[derive(Clone, Debug, PartialEq)]
pub struct DelegationSource {
    /// The link's id.
    pub id: DelegationId,
    /// Its grantor.
    pub from: AgentId,
    /// Links of the longest chain that ends with it.
    pub depth: u32,
    /// When it expires.
    pub expires_at: Option<Timestamp>,
    /// Whether the grantor holds all of the permission now. If not, calls are granted as far as the grantor's
    /// permissions go. `None` if finding out would have taken too much work.
    pub held: Option<bool>,
}

impl Tenant {
    /// What the agent can use now, its own permissions first. An inactive agent can use nothing. `left` is how many
    /// steps it may take to find out what grantors hold.
    pub fn effective_permissions(&self, agent: &Agent, at: Timestamp, mut left: usize) -> Vec<EffectivePermission> {
        if agent.status(at) != AgentStatus::Active {
            return Vec::new();
        }
        let own = agent.profile.spec.permissions.specs();
        let mut all: Vec<_> =
            own.into_iter().map(|permission| EffectivePermission { permission, link: None }).collect();
        let mut search = Search::new(self, at);
        for (place, link) in self.open_links(self.links().arriving(agent.profile.id), at) {
            if search.standing.of(self, place, at) != DelegationStatus::Active {
                continue;
            }
            let profile = &link.profile;
            all.extend(profile.spec.permissions.as_slice().iter().map(|permission| EffectivePermission {
                permission: permission.spec(),
                link: Some(DelegationSource {
                    id: profile.id,
                    from: profile.spec.from,
                    depth: profile.spec.depth,
                    expires_at: profile.spec.expires_at,
                    held: search.holds_below(link, permission, &mut left),
                }),
            }));
        }
        all
    }
}

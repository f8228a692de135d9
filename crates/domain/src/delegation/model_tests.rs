//! Delegation checked against a model as plain as its rules: no lookups, no memory of earlier answers, every question
//! answered by recursion over all that ever happened.

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::json;

use crate::agent::commands::{AgentPatch, SetSuspended};
use crate::delegation::commands::RevokeDelegation;
use crate::delegation::example_tests::World;
use crate::permission::PermissionSpec;
use crate::*;

/// A permission, and when it granted calls.
#[derive(Clone, Debug)]
struct Lent {
    json: serde_json::Value,
    resource: Vec<String>,
    actions: Vec<String>,
    most: Option<usize>,
    argument: Option<String>,
    mornings_only: bool,
    granted: Vec<i64>,
}

#[derive(Clone, Debug)]
struct Call {
    resource: Vec<String>,
    action: String,
    argument: Option<String>,
}

#[derive(Debug)]
struct Agent {
    id: AgentId,
    own: Vec<Lent>,
    revoked: bool,
    suspended: bool,
    expires: Option<i64>,
}

#[derive(Debug)]
struct Link {
    id: DelegationId,
    from: usize,
    to: usize,
    lent: Vec<Lent>,
    revoked: bool,
    expires: Option<i64>,
    max_depth: u32,
    stands_on: Vec<usize>,
}

#[derive(Debug, Default)]
struct Model {
    now: i64,
    agents: Vec<Agent>,
    links: Vec<Link>,
}

/// Which permission granted a call, and whether it is an agent's or a link's.
#[derive(Clone, Copy, Debug)]
enum Used {
    Agent(usize, usize),
    Link(usize, usize),
}

fn matches(pattern: &[String], resource: &[String]) -> bool {
    match (pattern, resource) {
        ([], []) => true,
        ([star], [_, ..]) if star == "*" => true,
        ([part, pattern @ ..], [segment, resource @ ..]) => {
            (part == "*" || part == segment) && matches(pattern, resource)
        }
        _ => false,
    }
}

impl Lent {
    fn spec(&self) -> PermissionSpec {
        serde_json::from_value(self.json.clone()).unwrap()
    }

    /// Fills in its JSON.
    fn spelled(mut self) -> Self {
        let mut constraints = serde_json::Map::new();
        constraints.extend(self.most.map(|most| ("maxCallsPerHour".to_owned(), json!(most))));
        constraints.extend(self.argument.as_ref().map(|text| ("allowedArgPatterns".to_owned(), json!([text]))));
        if self.mornings_only {
            constraints.insert("timeWindow".to_owned(), json!({ "start": "00:00", "end": "12:00" }));
        }
        let resource = self.resource.join(":");
        self.json = json!({ "resource": resource, "actions": self.actions, "constraints": constraints });
        self
    }

    fn is_about(&self, resource: &[String], action: &str) -> bool {
        matches(&self.resource, resource) && self.actions.iter().any(|own| own == "*" || own == action)
    }

    fn used(&self, now: i64) -> usize {
        self.seen(now).iter().filter(|at| **at / 300_000 > now / 300_000 - 12).count()
    }

    /// The calls that count. If the clock was set back, the calls of the hour up to the newest count as made by now.
    fn seen(&self, now: i64) -> Vec<i64> {
        let newest = self.granted.iter().map(|at| at / 300_000).max().unwrap_or(0);
        if newest <= now / 300_000 {
            return self.granted.clone();
        }
        self.granted.iter().filter(|at| **at / 300_000 > newest - 12).map(|_| now).collect()
    }

    fn count(&mut self, now: i64) {
        self.granted = self.seen(now);
        self.granted.push(now);
    }

    fn grants(&self, call: &Call, now: i64) -> bool {
        self.is_about(&call.resource, &call.action)
            && self.most.is_none_or(|most| self.used(now) < most)
            && self.argument.as_ref().is_none_or(|wanted| call.argument.as_ref() == Some(wanted))
            && (!self.mornings_only || now / 60_000 % 1_440 < 720)
    }

    /// Whether this covers every call that the other covers: by trying all calls.
    fn covers(&self, other: &Lent) -> bool {
        UNIVERSE.iter().all(|resource| {
            ["r", "w", "z"].iter().all(|action| !other.is_about(resource, action) || self.is_about(resource, action))
        })
    }
}

/// Every resource of one to four segments over the letters that patterns use and one that none does.
static UNIVERSE: LazyLock<Vec<Vec<String>>> = LazyLock::new(|| {
    let (mut all, mut longest) = (Vec::new(), vec![vec![]]);
    for _ in 0..4 {
        longest = longest
            .iter()
            .flat_map(|start: &Vec<String>| ["a", "b", "z"].map(|part| [start.as_slice(), &[part.to_owned()]].concat()))
            .collect();
        all.extend(longest.iter().cloned());
    }
    all
});

impl Model {
    fn is_active(&self, agent: usize) -> bool {
        let agent = &self.agents[agent];
        !agent.revoked && !agent.suspended && agent.expires.is_none_or(|expires| self.now < expires)
    }

    fn any(&self, link: usize, is: &dyn Fn(&Link) -> bool) -> bool {
        is(&self.links[link]) || self.links[link].stands_on.iter().any(|below| self.any(*below, is))
    }

    /// Revokes all these links, and what stands on them, except those that are past already.
    fn revoke(&mut self, is: &dyn Fn(&Link) -> bool) {
        for link in 0..self.links.len() {
            self.links[link].revoked |= self.any(link, is) && !self.is_past(link);
        }
    }

    fn is_past(&self, link: usize) -> bool {
        self.any(link, &|link| link.expires.is_some_and(|expires| expires <= self.now))
    }

    fn status(&self, link: usize) -> DelegationStatus {
        if self.links[link].revoked {
            return DelegationStatus::Revoked;
        }
        let Link { from, to, stands_on, .. } = &self.links[link];
        if self.is_past(link) {
            DelegationStatus::Expired
        } else if self.agents[*from].revoked {
            DelegationStatus::Revoked
        } else if self.agents[*from].suspended {
            DelegationStatus::Suspended
        } else if !self.is_active(*from) {
            DelegationStatus::Expired
        } else {
            // What was revoked after it was past stays revoked if the clock is set back.
            let mut below = stands_on.iter().map(|below| self.status(*below));
            let own = if self.agents[*to].revoked { DelegationStatus::Revoked } else { DelegationStatus::Active };
            below.find(|status| *status != DelegationStatus::Active).unwrap_or(own)
        }
    }

    fn live_into(&self, agent: usize) -> Vec<usize> {
        (0..self.links.len())
            .filter(|link| self.links[*link].to == agent && self.status(*link) == DelegationStatus::Active)
            .collect()
    }

    fn by_own(&self, agent: usize, call: &Call) -> Option<Vec<Used>> {
        let at = self.agents[agent].own.iter().position(|own| own.grants(call, self.now))?;
        Some(vec![Used::Agent(agent, at)])
    }

    fn by_link(&self, link: usize, call: &Call) -> Option<Vec<Used>> {
        if self.status(link) != DelegationStatus::Active {
            return None;
        }
        let Link { from, lent, stands_on, .. } = &self.links[link];
        let at = lent.iter().position(|lent| lent.grants(call, self.now))?;
        let below =
            self.by_own(*from, call).or_else(|| stands_on.iter().find_map(|below| self.by_link(*below, call)))?;
        Some([vec![Used::Link(link, at)], below].concat())
    }

    fn decide(&self, agent: usize, call: &Call) -> Option<Vec<Used>> {
        if !self.is_active(agent) {
            return None;
        }
        let links = (0..self.links.len()).filter(|link| self.links[*link].to == agent);
        self.by_own(agent, call).or_else(|| links.into_iter().find_map(|link| self.by_link(link, call)))
    }

    fn count(&mut self, used: &[Used]) {
        for used in used {
            match used {
                Used::Agent(agent, at) => self.agents[*agent].own[*at].count(self.now),
                Used::Link(link, at) => self.links[*link].lent[*at].count(self.now),
            }
        }
    }

    fn holds(&self, agent: usize, links: &[usize], wanted: &Lent) -> bool {
        self.agents[agent].own.iter().any(|own| own.covers(wanted))
            || links.iter().any(|link| {
                let Link { from, lent, stands_on, .. } = &self.links[*link];
                lent.iter().any(|lent| lent.covers(wanted)) && self.holds(*from, stands_on, wanted)
            })
    }

    /// The agent with that number; for numbers past the last, one that a late link reaches.
    fn chosen(&self, number: usize) -> usize {
        match self.links.iter().rev().nth(number % 3) {
            Some(link) if number >= AGENTS => link.to,
            _ => number % AGENTS,
        }
    }

    /// Everything that the agent's own permissions and the live links to it grant.
    fn said_to(&self, agent: usize) -> Vec<&Lent> {
        let links = self.live_into(agent).into_iter().flat_map(|link| &self.links[link].lent);
        self.agents[agent].own.iter().chain(links).collect()
    }

    /// Whether live links lead from one agent to another. They may form a circle: a clock that is set back brings links
    /// back that had expired.
    fn leads_to(&self, from: usize, to: usize) -> bool {
        let (mut seen, mut open) = (vec![false; AGENTS], vec![from]);
        while let Some(agent) = open.pop() {
            let leaving = self
                .links
                .iter()
                .enumerate()
                .filter(|(at, link)| link.from == agent && !link.revoked && !self.is_past(*at));
            for (_, link) in leaving {
                if link.to == to {
                    return true;
                }
                if !std::mem::replace(&mut seen[link.to], true) {
                    open.push(link.to);
                }
            }
        }
        false
    }

    fn depth(&self, link: usize) -> u32 {
        1 + self.links[link].stands_on.iter().map(|below| self.depth(*below)).max().unwrap_or(0)
    }

    fn least_max_depth(&self, link: usize) -> u32 {
        let below = self.links[link].stands_on.iter().map(|below| self.least_max_depth(*below));
        below.chain([self.links[link].max_depth]).min().unwrap()
    }

    fn refusal(&self, from: usize, to: usize, lent: &[Lent], max_depth: u32) -> Option<Code> {
        let live = self.live_into(from);
        let depth = 1 + live.iter().map(|link| self.depth(*link)).max().unwrap_or(0);
        let most = live.iter().map(|link| self.least_max_depth(*link)).chain([max_depth]).min().unwrap();
        if from == to {
            Some(Code::DelegationSelf)
        } else if !self.is_active(from) {
            Some(Code::DelegationGrantorInactive)
        } else if self.agents[to].revoked {
            Some(Code::AgentIsRevoked)
        } else if self.leads_to(to, from) {
            Some(Code::DelegationCycle)
        } else if depth > most {
            Some(Code::DelegationDepthExceeded)
        } else if !lent.iter().all(|wanted| self.holds(from, &live, wanted)) {
            Some(Code::InsufficientPermissions)
        } else {
            None
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Delegate {
        from: usize,
        /// The grantee, counted from the grantor.
        to: usize,
        lent: Vec<Lent>,
        /// Lends what the grantor holds instead: the permission that many places further in its list.
        again: Option<usize>,
        expires: Option<i64>,
        max_depth: u32,
    },
    RevokeLink(usize),
    RevokeAgent(usize),
    Suspend(usize, bool),
    Replace(usize, Vec<Lent>),
    Keep(usize, usize),
    Expire(usize, Option<i64>),
    Wait(i64),
    Call(usize, Call),
    Restart,
}

const AGENTS: usize = 6;

fn lent() -> impl Strategy<Value = Lent> {
    let resource = prop_oneof![
        3 => Just("*".to_owned()),
        2 => prop::collection::vec("[ab*]", 1..4).prop_map(|parts| parts.join(":")),
    ];
    let actions = prop_oneof![3 => Just(vec!["*"]), 1 => Just(vec!["r"]), 1 => Just(vec!["r", "w"])];
    let most = prop_oneof![3 => Just(None), 2 => (0usize..4).prop_map(Some)];
    let argument = prop_oneof![5 => Just(None), 1 => Just(Some("x".to_owned()))];
    (resource, actions, most, argument, prop::bool::weighted(0.1)).prop_map(
        |(resource, actions, most, argument, mornings_only)| {
            let actions = actions.into_iter().map(ToOwned::to_owned).collect();
            let resource = resource.split(':').map(ToOwned::to_owned).collect();
            Lent { json: json!(null), resource, actions, most, argument, mornings_only, granted: Vec::new() }.spelled()
        },
    )
}

fn op() -> impl Strategy<Value = Op> {
    let several = || prop::collection::vec(lent(), 1..3);
    let soon =
        || prop::option::weighted(0.2, prop_oneof![Just(300i64), Just(1_800), Just(7_000), Just(8_800), 1i64..20_000]);
    let other = prop_oneof![15 => 1..AGENTS, 1 => Just(0)];
    let call = (prop::collection::vec("[aabz]", 1..4), "[rrwz]", prop::option::weighted(0.5, "[xxy]"))
        .prop_map(|(resource, action, argument)| Call { resource, action, argument });
    prop_oneof![
        8 => (0..2 * AGENTS, other, several(), prop::option::weighted(0.8, 0usize..4), soon(), 1u32..6).prop_map(
            |(from, to, lent, again, expires, max_depth)| {
                Op::Delegate { from, to, lent, again, expires, max_depth }
            }
        ),
        1 => any::<usize>().prop_map(Op::RevokeLink),
        1 => (0..AGENTS, prop::bool::weighted(0.3)).prop_map(|(agent, really)| {
            if really { Op::RevokeAgent(agent) } else { Op::Wait(1) }
        }),
        2 => (0..AGENTS, prop::bool::weighted(0.4)).prop_map(|(agent, suspended)| Op::Suspend(agent, suspended)),
        1 => (0..AGENTS, several()).prop_map(|(agent, own)| Op::Replace(agent, own)),
        1 => (0..AGENTS, 0usize..3).prop_map(|(agent, first)| Op::Keep(agent, first)),
        1 => (0..AGENTS, soon()).prop_map(|(agent, expires)| Op::Expire(agent, expires)),
        2 => prop_oneof![Just(1i64), Just(299), Just(300), Just(1_800), Just(-60), Just(-7_000), Just(7_000), Just(20_000)]
            .prop_map(Op::Wait),
        12 => (0..2 * AGENTS, call).prop_map(|(agent, call)| Op::Call(agent, call)),
        1 => Just(Op::Restart),
    ]
}

/// The real tenant beside the model.
struct Both {
    world: World,
    model: Model,
}

impl Both {
    fn new(agents: Vec<Vec<Lent>>, cap: Option<u32>) -> Self {
        let mut both = Self { world: World::new(cap), model: Model::default() };
        both.model.now = both.world.now.millis();
        for own in agents {
            let id = both.world.agent(own.iter().map(Lent::spec).collect());
            both.model.agents.push(Agent { id, own, revoked: false, suspended: false, expires: None });
        }
        both
    }

    fn patch(&mut self, agent: usize, patch: AgentPatch) -> bool {
        let patched = self.world.patch(self.model.agents[agent].id, patch);
        assert_eq!(patched.is_err(), self.model.agents[agent].revoked);
        patched.is_ok()
    }

    /// Replaces all of an agent's permissions; equal ones keep their counts.
    fn replace(&mut self, agent: usize, own: Vec<Lent>) {
        let specs = own.iter().map(Lent::spec).collect();
        if !self.patch(agent, AgentPatch { permissions: Some(specs), ..AgentPatch::default() }) {
            return;
        }
        let mut old: Vec<Lent> = self.model.agents[agent].own.drain(..).collect();
        self.model.agents[agent].own = own
            .into_iter()
            .map(|new| match old.iter().position(|kept| kept.json == new.json) {
                Some(at) => old.remove(at),
                None => Lent { granted: Vec::new(), ..new },
            })
            .collect();
    }

    fn step(&mut self, op: Op, cap: Option<u32>) {
        let Self { world, model } = self;
        match op {
            Op::Delegate { from, to, mut lent, again, expires, max_depth } => {
                let from = model.chosen(from);
                let to = (from + to) % AGENTS;
                let held = model.said_to(from);
                if let (Some(again), false) = (again, held.is_empty()) {
                    let held = held[again % held.len()];
                    for lent in &mut lent {
                        let (resource, actions) = (held.resource.clone(), held.actions.clone());
                        *lent = Lent { resource, actions, ..lent.clone() }.spelled();
                    }
                }
                let expires = expires.map(|seconds| model.now + seconds * 1_000);
                let capped = max_depth.min(cap.unwrap_or(max_depth));
                let specs = lent.iter().map(Lent::spec).collect();
                let (from_id, to_id) = (model.agents[from].id, model.agents[to].id);
                let made = world.delegate(from_id, to_id, specs, expires.map(Timestamp::from_millis), Some(max_depth));
                let expected = model.refusal(from, to, &lent, capped);
                assert_eq!(made.as_ref().err().map(Error::code), expected);
                if let Ok(view) = made {
                    let stands_on = model.live_into(from);
                    let id = view.delegation.profile.id;
                    model.links.push(Link {
                        id,
                        from,
                        to,
                        lent,
                        revoked: false,
                        expires,
                        max_depth: capped,
                        stands_on,
                    });
                    let last = model.links.len() - 1;
                    assert_eq!(view.delegation.profile.spec.depth, model.depth(last));
                    assert!(model.depth(last) <= model.least_max_depth(last));
                }
            }
            Op::RevokeLink(_) if model.links.is_empty() => {}
            Op::RevokeLink(at) => {
                let at = at % model.links.len();
                let id = model.links[at].id;
                world.run(RevokeDelegation(id)).unwrap();
                model.revoke(&|link| link.id == id);
                model.links[at].revoked = true;
            }
            Op::RevokeAgent(agent) => {
                world.revoke_agent(model.agents[agent].id);
                // A second time nothing happens, also to links that a clock set back brings back.
                if !model.agents[agent].revoked {
                    model.revoke(&|link| link.from == agent || link.to == agent);
                }
                model.agents[agent].revoked = true;
            }
            Op::Suspend(agent, suspended) => {
                let set = world.run(SetSuspended { id: model.agents[agent].id, suspended });
                assert_eq!(set.is_err(), model.agents[agent].revoked);
                model.agents[agent].suspended = suspended;
            }
            Op::Replace(agent, own) => self.replace(agent, own),
            Op::Keep(agent, first) => {
                let mut own = model.agents[agent].own.clone();
                let by = first % own.len().max(1);
                own.rotate_left(by);
                self.replace(agent, own);
            }
            Op::Expire(agent, expires) => {
                let expires = expires.map(|seconds| model.now + seconds * 1_000 - 3_000_000);
                let text = expires.map(|millis| Timestamp::from_millis(millis).to_string());
                if self.patch(agent, AgentPatch { expires_at: Some(text), ..AgentPatch::default() }) {
                    self.model.agents[agent].expires = expires;
                }
            }
            // The clock may step back, and small steps are waited out.
            Op::Wait(seconds) => {
                world.later(seconds);
                model.now = world.tenant.next_moment(world.now).wall.millis();
            }
            Op::Call(agent, call) => self.call(self.model.chosen(agent), &call),
            Op::Restart => world.restart(),
        }
    }

    fn call(&mut self, agent: usize, call: &Call) {
        let Self { world, model } = self;
        let mut request = Request::new(&call.action, &call.resource.join(":")).unwrap();
        if let Some(text) = &call.argument {
            request = request.with_arguments(&json!({ "path": text }).to_string()).unwrap();
        }
        // Every agent's answer at this moment, before anything is counted.
        let allowed: Vec<bool> = model.agents.iter().map(|agent| world.peek(agent.id, &request).allowed).collect();
        for (agent, allowed) in allowed.iter().enumerate() {
            // The rule itself, checked on the real tenant for each grantor: no agent is allowed what neither it nor a
            // live grantor of it, within what the link says, could do.
            let lent = model.live_into(agent).into_iter().any(|link| {
                let link = &model.links[link];
                let link_says = link.lent.iter().any(|lent| lent.grants(call, model.now));
                link_says && world.peek(model.agents[link.from].id, &request).allowed
            });
            assert!(!allowed || model.by_own(agent, call).is_some() || lent, "agent {agent} may what nobody lent it");
            assert_eq!(*allowed, model.decide(agent, call).is_some(), "agent {agent}");
        }
        let decision = world.ask(model.agents[agent].id, &request);
        let expected = model.decide(agent, call);
        assert_eq!(decision.allowed, expected.is_some());
        model.count(&expected.unwrap_or_default());
    }

    /// Statuses and windows equal the model's.
    fn compare(&self) {
        let Self { world, model } = self;
        let now = Timestamp::from_millis(model.now);
        for (at, link) in model.links.iter().enumerate() {
            let (real, expected) = (world.status(link.id), model.status(at));
            // A link that is over for two reasons may name either.
            let names_either = real == DelegationStatus::Expired && expected == DelegationStatus::Revoked;
            if !(names_either && model.is_past(at)) {
                assert_eq!(real, expected, "link {at}");
            }
            let (_, real) = world.tenant.delegation(link.id).unwrap();
            for (position, lent) in (0..).zip(&link.lent) {
                let used = real.window(position).map(|window| window.used(now) as usize);
                assert_eq!(used, lent.most.map(|_| lent.used(model.now)), "link {at}, permission {position}");
            }
        }
        for (at, agent) in model.agents.iter().enumerate() {
            let real = world.tenant.agent(agent.id).unwrap();
            for (position, own) in (0..).zip(&agent.own) {
                let used = real.window(position).map(|window| window.used(now) as usize);
                assert_eq!(used, own.most.map(|_| own.used(model.now)), "agent {at}, permission {position}");
            }
        }
    }
}

#[test]
fn no_agent_is_ever_allowed_what_none_of_its_grantors_could_do() {
    let cases = if cfg!(debug_assertions) { 600 } else { 8_000 };
    // Most agents hold nothing of their own.
    let own = |count: std::ops::Range<usize>| prop::collection::vec(lent(), count);
    let agents = (own(1..4), own(0..3), prop::collection::vec(prop_oneof![3 => own(0..1), 1 => own(1..2)], AGENTS - 2))
        .prop_map(|(first, second, others)| [vec![first, second], others].concat());
    let config = ProptestConfig { cases, max_shrink_iters: 2_000, failure_persistence: None, ..Default::default() };
    proptest!(config, |(
        agents in agents,
        cap in prop::option::weighted(0.3, 1u32..5),
        ops in prop::collection::vec(op(), 1..80),
    )| {
        let mut both = Both::new(agents, cap);
        for op in ops {
            both.step(op, cap);
            both.compare();
        }
        // Replaying the journal makes an equal state, though the tenant was restored from snapshots on its way.
        prop_assert_eq!(both.world.replayed().state(), both.world.tenant.state());
    });
}

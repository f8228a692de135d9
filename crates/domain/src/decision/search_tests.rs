//! Searches checked against every resource and every action, in random worlds: agents with patterns and constraints,
//! links between them, and changes after the links were made, so that what a link lends and what its grantor holds
//! overlap in every way.

use std::cell::Cell;
use std::collections::BTreeSet;

use proptest::prelude::*;

use crate::TenantId;
use crate::agent::commands::{AgentPatch, CreateAgent, NewAgent, RevokeAgent, UpdateAgent};
use crate::author::By;
use crate::decision::request::Request;
use crate::delegation::commands::{CreateDelegation, NewDelegation};
use crate::event::{Change, ChangeRecord, Event};
use crate::id::AgentId;
use crate::permission::pattern::{Pattern, Segments};
use crate::secret::Secret;
use crate::tenant::commands::TenantSpec;
use crate::tenant::{Command, Tenant};
use crate::time::Timestamp;

const AGENTS: usize = 4;
const SEGMENTS: [&str; 3] = ["a", "b", "z"];
const ACTIONS: [&str; 3] = ["read", "write", "drop"];

/// Permissions as JSON: a pattern, actions, and whether approval is required, which no call has.
type HeldPermissions = Vec<(String, Vec<&'static str>, bool)>;

#[derive(Clone, Debug)]
enum Op {
    Lend(usize, usize, HeldPermissions),
    Replace(usize, HeldPermissions),
    Revoke(usize),
}

fn pattern() -> impl Strategy<Value = String> {
    prop::collection::vec("[ab*]", 1..4).prop_map(|parts| parts.join(":"))
}

fn held() -> impl Strategy<Value = HeldPermissions> {
    let actions = prop::sample::subsequence(vec!["read", "write", "*"], 1..3);
    prop::collection::vec((pattern(), actions, prop::bool::weighted(0.15)), 0..4)
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..AGENTS, 0..AGENTS, held()).prop_map(|(from, to, held)| Op::Lend(from, to, held)),
        4 => (0..AGENTS, held()).prop_map(|(agent, held)| Op::Replace(agent, held)),
        1 => (0..AGENTS).prop_map(Op::Revoke),
    ]
}

fn permissions(held: &HeldPermissions) -> serde_json::Value {
    let one = |(resource, actions, asks): &(String, Vec<&str>, bool)| {
        let constraints = asks.then(|| serde_json::json!({ "requireApproval": true }));
        serde_json::json!({ "resource": resource, "actions": actions, "constraints": constraints })
    };
    held.iter().map(one).collect()
}

struct World {
    tenant: Tenant,
    agents: Vec<AgentId>,
    now: Timestamp,
}

impl World {
    fn new(held: &[HeldPermissions]) -> Self {
        let mut world = Self { tenant: Tenant::default(), agents: Vec::new(), now: Timestamp::from_millis(1) };
        world.happen(TenantSpec::default_tenant().created(TenantId::DEFAULT));
        for (held, n) in held.iter().zip(1..) {
            let new =
                serde_json::json!({ "ownerId": "u", "name": "b", "type": "service", "permissions": permissions(held) });
            let new: NewAgent = serde_json::from_value(new).unwrap();
            let token = Secret::agent_token(TenantId::DEFAULT, [n; 32]).hash();
            assert!(world.carry_out(CreateAgent::parse(new, token).unwrap()));
        }
        world.agents = world.tenant.agents().iter().map(|agent| agent.profile.id).collect();
        world
    }

    fn happen(&mut self, change: Change) {
        let moment = self.tenant.next_moment(self.now);
        self.tenant.apply(moment, &Event::Changed(ChangeRecord::new(By::Operator, change)));
        self.now = self.now.plus_millis(1);
    }

    /// Whether it was accepted.
    fn carry_out<C: Command>(&mut self, command: C) -> bool {
        let decided = command.decide(&self.tenant, By::Operator, self.tenant.next_moment(self.now));
        let Ok((change, _)) = decided else { return false };
        change.into_iter().for_each(|change| self.happen(change));
        true
    }

    fn step(&mut self, op: &Op) {
        match op {
            Op::Lend(from, to, held) => {
                let body = serde_json::json!({
                    "fromAgent": self.agents[*from].to_string(), "toAgent": self.agents[*to].to_string(),
                    "permissions": permissions(held),
                });
                let new: NewDelegation = serde_json::from_value(body).unwrap();
                if let Ok(command) = CreateDelegation::parse(new) {
                    self.carry_out(command);
                }
            }
            Op::Replace(agent, held) => {
                let patch = serde_json::json!({ "permissions": permissions(held) });
                let patch: AgentPatch = serde_json::from_value(patch).unwrap();
                self.carry_out(UpdateAgent::parse(self.agents[*agent], patch).unwrap());
            }
            Op::Revoke(agent) => {
                self.carry_out(RevokeAgent(self.agents[*agent]));
            }
        }
    }

    fn allows(&self, agent: AgentId, action: &str, resource: &str) -> bool {
        let request = Request::new(action, resource).unwrap().for_agent(agent);
        self.tenant.would_allow(&request, self.now)
    }
}

/// Resources of a type with one, two or three more segments.
fn resources(kind: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut longest = vec![kind.to_owned()];
    for _ in 0..3 {
        longest = longest.iter().flat_map(|start| SEGMENTS.map(|segment| format!("{start}:{segment}"))).collect();
        all.extend(longest.iter().cloned());
    }
    all
}

#[test]
fn a_search_finds_what_is_allowed_and_nothing_else() {
    let config = ProptestConfig::with_cases(if cfg!(debug_assertions) { 150 } else { 3_000 });
    let through_links = Cell::new(0);
    let world = (prop::collection::vec(held(), AGENTS), prop::collection::vec(op(), 0..12));
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let outcome = runner.run(&world, |(held, ops)| {
        let mut world = World::new(&held);
        ops.iter().for_each(|op| world.step(op));
        for agent in &world.agents {
            for action in ACTIONS {
                for kind in SEGMENTS {
                    let tried = world.tenant.resources_to_try(*agent, action, kind, world.now);
                    prop_assert!(!tried.cut_off);
                    let found: Vec<String> =
                        tried.texts.into_iter().filter(|text| world.allows(*agent, action, text)).collect();
                    for resource in resources(kind) {
                        let segments = Segments::of(&resource);
                        let matches =
                            |text: &String| Pattern::parse("resource", text).unwrap().matches(segments.as_slice());
                        let allowed = world.allows(*agent, action, &resource);
                        prop_assert_eq!(found.iter().any(matches), allowed, "{} {} {:?}", action, resource, found);
                    }
                }
            }
            for resource in SEGMENTS.iter().flat_map(|kind| resources(kind)) {
                let tried = world.tenant.actions_to_try(*agent, &resource, world.now);
                prop_assert!(!tried.cut_off);
                let allows = |text: &String| world.allows(*agent, text, &resource);
                let found: BTreeSet<String> = tried.texts.into_iter().filter(allows).collect();
                for action in ACTIONS {
                    let is_found = found.contains(action) || found.contains("*");
                    prop_assert_eq!(is_found, world.allows(*agent, action, &resource), "{} {:?}", resource, found);
                }
                let place = world.agents.iter().position(|other| other == agent).unwrap();
                if !found.is_empty() && world.tenant.agents()[place].profile.spec.permissions.as_slice().is_empty() {
                    through_links.set(through_links.get() + 1);
                }
            }
        }
        Ok(())
    });
    outcome.unwrap();
    assert!(through_links.get() > 0, "no world had anything that was lent to one that holds nothing");
}

/// One permission to read each of `count` resources, spelled by `spell`.
fn each(count: usize, spell: impl Fn(usize) -> String) -> HeldPermissions {
    (0..count).map(|n| (spell(n), vec!["read"], false)).collect()
}

#[test]
fn a_search_finds_everything_that_a_full_agent_lends() {
    let mut world = World::new(&[each(1_000, |n| format!("a:{n}")), Vec::new(), Vec::new()]);
    world.step(&Op::Lend(0, 1, each(1_000, |n| format!("a:{n}"))));
    world.step(&Op::Lend(1, 2, each(1_000, |n| format!("a:{n}"))));
    let tried = world.tenant.resources_to_try(world.agents[2], "read", "a", world.now);
    assert_eq!((tried.texts.len(), tried.cut_off), (1_000, false));
}

#[test]
fn a_search_ends_when_it_takes_too_much() {
    let mut world = World::new(&[each(400, |n| format!("a:*:{n}:*")), Vec::new()]);
    world.step(&Op::Lend(0, 1, each(400, |n| format!("a:*:{n}:x"))));
    let (lender, borrower) = (world.agents[0], world.agents[1]);
    assert!(!world.tenant.resources_to_try(lender, "read", "a", world.now).cut_off);
    let tried = world.tenant.resources_to_try(borrower, "read", "a", world.now);
    assert!(tried.cut_off && !tried.texts.is_empty(), "400 times 400 pairs are too many");
    assert!(tried.texts.iter().all(|text| world.allows(borrower, "read", text)));
}

#[test]
fn patterns_count_for_each_link_that_passes_them_on() {
    // One link lends 150 patterns that each overlap with another 150; everything that stands on it is about something
    // else.
    let [lent, met] = [150, 150];
    let mut world = World::new(&[vec![("a:*".to_owned(), vec!["read"], false)], Vec::new(), Vec::new()]);
    world.step(&Op::Lend(0, 1, each(lent, |n| format!("a:*:{n}:*"))));
    for n in 0..40 {
        world.step(&Op::Lend(1, 2, vec![(format!("a:z{n}:0:q"), vec!["read"], false)]));
    }
    world.step(&Op::Replace(0, each(met, |n| format!("a:y:*:{n}"))));
    let [_, between, last] = world.agents[..] else { panic!("three agents") };
    let tried = world.tenant.resources_to_try(between, "read", "a", world.now);
    assert_eq!((tried.texts.len(), tried.cut_off), (lent * met, false));
    let links = world.tenant.links().arriving(last).unwrap().open(world.now).len();
    assert_eq!(links, 40);
    assert!(world.tenant.resources_to_try(last, "read", "a", world.now).cut_off, "a million patterns are passed on");
}

//! What delegation may cost: how much a decision looks at, how much a revocation does, how much we keep.

use std::cell::Cell;

use crate::agent::commands::AgentPatch;
use crate::decision::explain::{Step, Steps, Trace};
use crate::delegation::commands::*;
use crate::delegation::example_tests::{READ_ALL, READ_GITHUB, World, permissions};
use crate::delegation::index::LinkIndex;
use crate::delegation::{DelegationProfile, DelegationSpec};
use crate::limits::{
    MAX_ACTIONS, MAX_DELEGATION_WEIGHT, MAX_DELEGATIONS_FROM_AGENT, MAX_ENDED_WEIGHT, MAX_EXPLAINED_STEPS,
    MAX_MATCH_STEPS, MAX_PERMISSIONS, MAX_RESOURCE_BYTES, MAX_STANDS_ON,
};
use crate::permission::{PermissionSet, PermissionSpec};
use crate::*;

#[test]
fn many_paths_are_searched_once() {
    let mut world = World::new(Some(32));
    let mut below = vec![world.agent(permissions(READ_ALL))];
    // Fifteen layers of two agents, each linked with both of the layer below: 2^15 paths.
    for _ in 0..15 {
        let layer: Vec<_> = (0..2).map(|_| world.agent(vec![])).collect();
        for from in &below {
            for to in &layer {
                world.delegate(*from, *to, permissions(READ_ALL), None, Some(32)).unwrap();
            }
        }
        below = layer;
    }
    assert!(world.may(below[1], "read", "mcp:x"));
    assert!(!world.may(below[1], "write", "mcp:x"));
    assert!(!world.explain(below[1], "write", "mcp:x").is_empty());
    let last = world.tenant.delegations().last().unwrap().profile.id;
    let first = world.tenant.delegations()[0].profile.id;
    world.run(RevokeDelegation(first)).unwrap();
    assert_eq!(world.status(last), DelegationStatus::Revoked);
}

#[test]
fn the_weight_of_an_agents_delegations_is_limited() {
    let mut world = World::new(None);
    let (root, worker) = (world.agent(permissions(READ_ALL)), world.agent(vec![]));
    let hour = Some(world.now.plus_millis(3_600_000));
    let hundred = vec![permissions(READ_GITHUB).remove(0); 100];
    for _ in 0..MAX_DELEGATION_WEIGHT / 100 {
        world.delegate(root, worker, hundred.clone(), hour, None).unwrap();
    }
    assert_eq!(world.refusal(root, worker, READ_ALL), Code::DelegationLimitExceeded);
    // Links that are over do not count.
    world.later(3_600);
    world.link(root, worker, READ_ALL);
}

/// Counts the permissions that a decision finds, and keeps nothing.
struct Found(usize);

impl Trace for Found {
    const KEPT: bool = true;

    fn step(&mut self, make: impl FnOnce() -> Step) {
        self.0 += usize::from(make().check == "permission");
    }
}

#[test]
fn a_decision_looks_at_a_limited_number_of_grantor_permissions() {
    let mut world = World::new(None);
    // A long resource costs more steps than a short one.
    let resource = format!("{}:b", "a".repeat(MAX_RESOURCE_BYTES - 2));
    let spec = |constraints: &str| {
        permissions(&format!(r#"[{{"resource":"{resource}","actions":["read"],"constraints":{constraints}}}]"#))
    };
    let (closed, open) = (spec(r#"{"timeWindow":{"start":"02:00","end":"02:01"}}"#), spec("null"));
    let worker = world.agent(vec![]);
    let looks = MAX_MATCH_STEPS / PermissionSet::parse(closed.clone()).unwrap().as_slice()[0].steps();
    let mut grantors: Vec<_> = (0..=looks / MAX_PERMISSIONS).map(|_| world.agent(open.clone())).collect();
    grantors.push(world.agent(open.clone()));
    for grantor in &grantors {
        world.delegate(*grantor, worker, open.clone(), None, None).unwrap();
    }
    assert!(world.may(worker, "read", &resource));
    // The weight of what is lent stays constant while the grantors' permissions grow.
    let last = grantors.pop().unwrap();
    for grantor in &grantors {
        let many = vec![closed[0].clone(); MAX_PERMISSIONS];
        world.patch(*grantor, AgentPatch { permissions: Some(many), ..AgentPatch::default() }).unwrap();
    }
    let mut found = Found(0);
    let decision = world.watch(worker, "read", &resource, &mut found);
    assert!((looks / 2..=looks).contains(&found.0), "{}", found.0);
    assert_eq!((decision.allowed, decision.code), (false, Some(Code::PermissionDenied)));
    let reason = decision.reason.unwrap();
    assert!(reason.starts_with("No permission for action 'read'") && reason.contains("more work"), "{reason}");
    let mut steps = Steps::default();
    world.watch(worker, "read", &resource, &mut steps);
    assert_eq!(steps.shown.len(), MAX_EXPLAINED_STEPS);
    assert!(steps.more > looks / 2, "{}", steps.more);

    // The limit leaves room for many, and an agent's own permissions are always looked at.
    let narrower = AgentPatch { permissions: Some(closed), ..AgentPatch::default() };
    world.patch(grantors[0], narrower).unwrap();
    world.patch(grantors[1], AgentPatch { permissions: Some(vec![]), ..AgentPatch::default() }).unwrap();
    assert!(world.may(worker, "read", &resource), "by way of {last}");
}

#[test]
fn a_revocation_looks_once_at_each_link_that_may_fall() {
    let mut world = World::new(None);
    let agents: Vec<_> = (0..3).map(|_| world.agent(vec![])).collect();
    let mut links = Vec::new();
    let mut link = |from, to, stands_on: Vec<u32>| {
        let id = DelegationId::derive(world.now, links.len() as u64 + 1, world.tenant.id().tag());
        let spec = DelegationSpec {
            from: agents[from],
            to: agents[to],
            permissions: PermissionSet::default(),
            expires_at: None,
            max_depth: 3,
            effective_max_depth: 3,
            depth: 1,
            stands_on,
        };
        let place = u32::try_from(links.len()).unwrap();
        links.push(Delegation::new(place, DelegationProfile { id, spec, ends_at: None, created_at: world.now }));
    };
    // A star as older versions could make it: each link of the second half stands on all of the first.
    let (below, above) = (500, 1_000);
    (0..below).for_each(|_| link(0, 1, Vec::new()));
    (0..above).for_each(|_| link(1, 2, (0..below).collect()));
    link(1, 2, Vec::new());
    let index = LinkIndex::build(&links, world.now);
    let looked_at = Cell::new(0);
    let link_at = |place: u32| {
        looked_at.set(looked_at.get() + 1);
        links.get(place as usize)
    };
    let falling = index.falling_with((0..below).collect(), world.now, link_at);
    assert_eq!(falling, (0..below + above).collect::<Vec<_>>());
    assert_eq!(looked_at.get(), links.len());
    // Links revoked earlier are not looked at again.
    looked_at.set(0);
    for link in &mut links[below as usize..] {
        link.revoked = true;
    }
    let index = LinkIndex::build(&links, world.now);
    let link_at = |place: u32| {
        looked_at.set(looked_at.get() + 1);
        links.get(place as usize)
    };
    assert_eq!(index.falling_with(vec![0], world.now, link_at), [0]);
    assert_eq!(looked_at.get(), 1);
}

#[test]
fn a_delegation_stands_on_a_limited_number() {
    let mut world = World::new(None);
    let (root, worker, other) = (world.agent(permissions(READ_ALL)), world.agent(vec![]), world.agent(vec![]));
    for _ in 0..MAX_STANDS_ON {
        world.link(root, worker, READ_ALL);
    }
    world.link(worker, other, READ_ALL);
    let one_more = world.link(root, worker, READ_ALL);
    assert_eq!(world.refusal(worker, other, READ_ALL), Code::DelegationLimitExceeded);
    world.run(RevokeDelegation(one_more)).unwrap();
    world.link(worker, other, READ_ALL);
}

#[test]
fn links_to_revoked_agents_are_over() {
    let mut world = World::new(None);
    let orchestrator = world.agent(permissions(READ_ALL));
    for _ in 0..=MAX_DELEGATIONS_FROM_AGENT {
        let worker = world.agent(vec![]);
        world.link(orchestrator, worker, READ_ALL);
        world.revoke_agent(worker);
    }
    assert_eq!(world.tenant.open_links_count(world.now), 0);
    let last = world.tenant.delegations().last().unwrap().profile.id;
    assert_eq!(world.status(last), DelegationStatus::Revoked);
}

#[test]
fn ended_delegations_are_forgotten_after_many_newer_ones() {
    let mut world = World::new(None);
    let (root, worker, other) = (world.agent(permissions(READ_ALL)), world.agent(vec![]), world.agent(vec![]));
    let twice = r#"[{"resource":"mcp:*","actions":["read"],"constraints":{"maxCallsPerHour":2}}]"#;
    let lasting = world.delegate(root, worker, permissions(READ_ALL), None, None).unwrap().delegation;
    let first = world.link(root, other, READ_ALL);
    world.run(RevokeDelegation(first)).unwrap();
    // Each weighs forty.
    let many = vec![permissions(READ_GITHUB).remove(0); 39];
    let (most, rounds) = (MAX_ENDED_WEIGHT / 40, MAX_ENDED_WEIGHT / 40 + 900);
    let mut last = first;
    for round in 0..rounds {
        let soon = Some(world.now.plus_millis(1_000));
        last = world.delegate(root, other, many.clone(), soon, None).unwrap().delegation.profile.id;
        if round % 50 == 0 {
            world.run(RevokeDelegation(last)).unwrap();
        }
        if round == rounds / 2 || round == rounds - 200 {
            world.restart();
        }
        world.later(1);
    }
    assert_eq!(world.replayed().state(), world.tenant.state());
    let kept = world.tenant.delegations().len();
    // Forgetting goes by the time of a link made a while before.
    assert!((most..most + 2 * 260).contains(&kept), "{kept}");
    let listed = |from, to| {
        DelegationView::list(&world.tenant, DelegationFilter { from, to, status: None }, world.now, None, usize::MAX)
            .len()
    };
    assert_eq!((listed(None, None), listed(Some(root), None)), (kept, kept));
    assert_eq!((listed(None, Some(other)), listed(None, Some(worker))), (kept - 1, 1));
    let find = |world: &World, id| DelegationView::find(&world.tenant, id, world.now);
    assert_eq!(find(&world, first).unwrap_err().code(), Code::DelegationNotFound);
    assert_eq!(find(&world, last).unwrap().status, DelegationStatus::Expired);
    assert_eq!(find(&world, last).unwrap().delegation.profile.spec.permissions.as_slice().len(), 39);
    assert_eq!(find(&world, lasting.profile.id).unwrap().delegation, lasting);
    // Links are still found by their places, whether earlier ones were forgotten or not.
    let above = world.link(worker, other, twice);
    assert!(world.may(other, "read", "mcp:x") && world.may(other, "read", "mcp:x"));
    assert_eq!(world.call(other, "read", "mcp:x").code, Some(Code::RateLimited));
    assert_eq!(world.replayed().state(), world.tenant.state());
    world.restart();
    assert_eq!(world.call(other, "read", "mcp:x").code, Some(Code::RateLimited));
    world.run(RevokeDelegation(lasting.profile.id)).unwrap();
    assert_eq!(world.status(above), DelegationStatus::Revoked);
    assert_eq!(world.replayed().state(), world.tenant.state());
}

#[test]
fn places_run_out() {
    let mut world = World::new(None);
    let (root, worker) = (world.agent(permissions(READ_ALL)), world.agent(vec![]));
    world.link(root, worker, READ_ALL);
    world.restart_with(|state| state.delegations[0].place = u32::MAX - 1);
    world.link(root, worker, READ_ALL);
    assert_eq!(world.refusal(root, worker, READ_ALL), Code::DelegationLimitExceeded);
    assert!(world.may(worker, "read", "mcp:x"));
}

#[test]
fn whether_a_permission_is_held_is_unknown_without_steps() {
    let mut world = World::new(None);
    let (root, a, b) = (world.agent(permissions(READ_ALL)), world.agent(vec![]), world.agent(vec![]));
    world.link(root, a, READ_ALL);
    let lent = [permissions(READ_GITHUB), permissions(READ_ALL)].concat();
    world.delegate(a, b, lent, None, None).unwrap();
    // What the answer is with no steps, with one, with two, ..., each answer once.
    let said = |world: &World| {
        let agent = world.tenant.agent(b).unwrap();
        let said = (0..5_000).map(|left| {
            let all = world.tenant.effective_permissions(agent, world.now, left);
            all.into_iter().map(|permission| permission.link.unwrap().held).collect::<Vec<_>>()
        });
        let mut said: Vec<_> = said.collect();
        said.dedup();
        said
    };
    assert_eq!(said(&world), [[None, None], [Some(true), None], [Some(true), Some(true)]]);
    world.patch(root, AgentPatch { permissions: Some(permissions(READ_GITHUB)), ..AgentPatch::default() }).unwrap();
    assert_eq!(said(&world), [[None, None], [Some(true), None], [Some(true), Some(false)]]);
}

#[test]
fn finding_out_who_holds_a_delegated_permission_takes_limited_work() {
    let mut world = World::new(None);
    // Each of the grantor's permissions has all wanted actions but the last, and the last of them has all.
    let spec = |last: &str| {
        let actions = (1..MAX_ACTIONS).map(|number| number.to_string()).chain([last.to_owned()]).collect();
        PermissionSpec { resource: "a".to_owned(), actions, constraints: None }
    };
    let own = vec![spec("other"); MAX_PERMISSIONS - 1].into_iter().chain([spec("last")]).collect();
    let (root, worker) = (world.agent(own), world.agent(vec![]));
    let error = world.delegate(root, worker, vec![spec("last"); MAX_PERMISSIONS], None, None).unwrap_err();
    assert_eq!(error.code(), Code::DelegationLimitExceeded);
    world.delegate(root, worker, vec![spec("last")], None, None).unwrap();
    // A permission held exactly as it is lent is found at once, no matter how many there are.
    let same = world.agent(vec![spec("last")]);
    world.delegate(same, worker, vec![spec("last"); MAX_PERMISSIONS], None, None).unwrap();
}

#[test]
fn an_older_snapshots_links_to_revoked_agents_are_over() {
    let mut world = World::new(None);
    let (root, worker) = (world.agent(permissions(READ_ALL)), world.agent(vec![]));
    let hour = Some(world.now.plus_millis(3_600_000));
    world.delegate(root, worker, permissions(READ_ALL), hour, None).unwrap();
    world.later(3_600);
    world.link(root, worker, READ_ALL);
    world.revoke_agent(worker);
    let state = world.tenant.state();
    assert_eq!(state.delegations.iter().map(|link| link.revoked).collect::<Vec<_>>(), [false, true]);
    world.restart_with(|state| state.delegations[1].revoked = false);
    assert_eq!(world.tenant.state(), state);
}

#[test]
fn links_that_are_over_are_swept_out() {
    let mut world = World::new(None);
    let (root, worker) = (world.agent(permissions(READ_ALL)), world.agent(vec![]));
    for _ in 0..500 {
        let soon = Some(world.now.plus_millis(10_000));
        world.delegate(root, worker, permissions(READ_ALL), soon, None).unwrap();
        world.later(1);
    }
    // Ten of them are open at any time.
    let open = |links: Option<&crate::delegation::index::Links>| links.unwrap().open(world.now).len();
    assert!(open(world.tenant.links().arriving(worker)) <= 32);
    assert!(open(world.tenant.links().leaving(root)) <= 32);
    assert!(world.tenant.open_links_at_most(world.now) <= 32);
    assert_eq!(world.tenant.open_links_count(world.now), 9);
    world.restart();
    assert!(world.may(worker, "read", "mcp:x"));
    world.later(10);
    assert!(!world.may(worker, "read", "mcp:x"));
}

//! A decision in memory by the size of its tenant and its agent: decided, recorded, encoded, applied.

use std::hint::black_box;
use std::time::Instant;

use kavach::domain::Request;
use kavach::domain::budget::cost::Cost;
use kavach::domain::tenant::Caller;
use serde_json::json;

use crate::common::{ROLES, World, call, high_limits, measuring, permissions, usual_agent, usual_request};
use crate::interleaved::{GOAL, Side, compare};

/// A tenant and the calls that it gets, one after another.
struct Scene {
    world: World,
    /// The callers, each with the request that it makes.
    callers: Vec<(Caller, usize)>,
    requests: Vec<Request>,
    /// The next caller.
    next: usize,
    buffer: Vec<u8>,
}

pub fn run() {
    let side = |name: String, mut scene: Scene| Side::new(name, move || scene.run());
    let by_permissions = [1, 10, 100, 1_000].map(|count| side(format!("{count} permissions"), holding(count)));
    compare("decision", by_permissions.into(), 2.0);
    let by_policies = [10, 100, 1_000, 10_000].map(|count| side(format!("3 of {count} policies match"), among(count)));
    compare("decision", by_policies.into(), GOAL);
    let most = if measuring() { 100_000 } else { 100 };
    let by_agents = [10, most].map(|count| side(format!("one of {count} agents after the other"), of_agents(count)));
    compare("decision", by_agents.into(), GOAL);
}

/// An agent with `count` permissions, which asks for the last of them.
fn holding(count: usize) -> Scene {
    let mut world = World::new();
    let all = permissions(count);
    let request = call(&all[count - 1], 7);
    let caller = world.add_agent(all);
    Scene::new(world, vec![(caller, 0)], vec![request])
}

/// A tenant with `policies` policies: one for all its agents, one for the caller and one for its owner; all others for
/// other owners.
fn among(policies: usize) -> Scene {
    let mut scene = holding(10);
    let agent = scene.world.agent_id(0);
    for about in [json!({}), json!({ "agentId": agent }), json!({ "userId": "user-1" })] {
        scene.world.add_policy(about, high_limits());
    }
    for n in 3..policies {
        scene.world.add_policy(json!({ "userId": format!("other-{n}") }), high_limits());
    }
    scene.requests[0].cost = Some(Cost::from_millionths(1));
    scene
}

/// A tenant with `count` agents, which ask in an order that no cache can guess.
fn of_agents(count: usize) -> Scene {
    let mut world = World::new();
    let mut callers: Vec<_> = (0..count).map(|n| (world.add(usual_agent(n)), n % ROLES)).collect();
    shuffle(&mut callers);
    Scene::new(world, callers, (0..ROLES).map(usual_request).collect())
}

/// The Fisher-Yates shuffle, with a fixed seed.
pub fn shuffle<T>(all: &mut [T]) {
    let mut random = 88_172_645_463_325_252_u64;
    for at in (1..all.len()).rev() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        all.swap(at, (random % (at as u64 + 1)) as usize);
    }
}

impl Scene {
    fn new(mut world: World, callers: Vec<(Caller, usize)>, requests: Vec<Request>) -> Self {
        world.events = Vec::new();
        Self { world, callers, requests, next: 0, buffer: Vec::with_capacity(4_096) }
    }

    /// Decides many calls. Returns the nanoseconds of each.
    fn run(&mut self) -> f64 {
        let Self { world, callers, requests, next, buffer } = self;
        let count = if measuring() { 50_000 } else { 10 };
        let first = *next % callers.len();
        *next += count;
        let start = Instant::now();
        for (caller, request) in callers.iter().cycle().skip(first).take(count) {
            buffer.clear();
            assert!(black_box(world.decide(caller, black_box(&requests[*request]), buffer)).allowed);
        }
        start.elapsed().as_nanos() as f64 / count as f64
    }
}

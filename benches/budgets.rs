//! The cost of a decision by the number of its agent's policies: decided, written as a record, and applied.
#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a bench that can't be set up has to stop")]

mod common;

use std::hint::black_box;

use common::{World, call, high_limits, permissions};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use kavach::domain::budget::cost::Cost;
use serde_json::json;

fn budgets(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("budgets");
    for matching in [0, 1, 10, 100] {
        let mut world = World::new();
        let all = permissions(4);
        let caller = world.add_agent(all.clone());
        let agent = world.agent_id(0);
        for n in 0..matching {
            let about = [json!({}), json!({ "userId": "user-1" }), json!({ "agentId": agent })];
            world.add_policy(about[n % about.len()].clone(), high_limits());
        }
        let mut request = call(&all[0], 7);
        request.cost = Some(Cost::from_millionths(1));
        let mut buffer = Vec::with_capacity(4_096);
        world.decide(&caller, &request, &mut buffer);
        let charged = world.tenant.policies().iter().filter(|policy| policy.usage.day.open.calls == 1).count();
        assert_eq!(charged, matching, "all are charged");
        group.bench_function(BenchmarkId::new("matching", matching), |bencher| {
            bencher.iter(|| {
                buffer.clear();
                black_box(world.decide(&caller, black_box(&request), &mut buffer))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, budgets);
criterion_main!(benches);

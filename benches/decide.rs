//! One decision: decide, record, encode, apply. No actor, no file.
#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a bench that can't be set up has to stop")]

mod common;

use std::hint::black_box;

use common::{World, call, permissions};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use kavach::domain::Request;
use kavach::domain::permission::PermissionSpec;
use kavach::domain::permission::constraint::ConstraintsSpec;
use kavach::domain::permission::constraint::time_window::TimeWindowSpec;
use kavach::domain::tenant::Caller;

fn run(b: &mut criterion::Bencher<'_>, world: &mut World, caller: Caller, request: &Request) {
    let mut buffer = Vec::with_capacity(4_096);
    b.iter(|| {
        buffer.clear();
        black_box(world.decide(black_box(&caller), black_box(request), &mut buffer))
    });
}

fn by_permissions(c: &mut Criterion) {
    let mut group = c.benchmark_group("decide");
    for count in [1, 10, 100, 1_000] {
        let all = permissions(count);
        let mut world = World::new();
        let caller = world.add_agent(all.clone());
        let unknown = PermissionSpec {
            resource: "mcp:github:drop_everything".into(),
            actions: vec!["read".into()],
            constraints: None,
        };
        for (name, wanted) in [("first", &all[0]), ("last", &all[count - 1]), ("none", &unknown)] {
            let request = call(wanted, 7);
            group.bench_function(BenchmarkId::new(name, count), |b| run(b, &mut world, caller, &request));
        }
    }
    group.finish();
}

fn by_constraint(c: &mut Criterion) {
    let mut group = c.benchmark_group("decide/constraint");
    let none = ConstraintsSpec::default;
    let patterns = |all: &[&str]| Some(all.iter().map(|text| (*text).to_owned()).collect());
    for (name, constraints) in [
        ("rate", ConstraintsSpec { max_calls_per_hour: Some(u32::MAX), ..none() }),
        ("glob", ConstraintsSpec { allowed_arg_patterns: patterns(&["/srv/data/**", "**"]), ..none() }),
        ("regex", ConstraintsSpec { allowed_arg_patterns: patterns(&["^/srv/.*", "^[a-z_ 0-9-]+"]), ..none() }),
        ("ip", ConstraintsSpec { ip_allowlist: Some(vec!["192.0.2.0/24".into(), "10.0.0.0/8".into()]), ..none() }),
        (
            "time",
            ConstraintsSpec {
                time_window: Some(TimeWindowSpec { start: "06:00".into(), end: "22:00".into() }),
                ..none()
            },
        ),
    ] {
        let mut permission = permissions(1).remove(0);
        permission.constraints = Some(constraints);
        let mut world = World::new();
        let caller = world.add_agent(vec![permission.clone()]);
        let mut request = call(&permission, 7);
        request.ip = Some([10, 1, 2, 3].into());
        assert!(world.decide(&caller, &request, &mut Vec::new()).allowed, "{name}");
        group.bench_function(name, |b| run(b, &mut world, caller, &request));
    }
    group.finish();
}

criterion_group!(benches, by_permissions, by_constraint);
criterion_main!(benches);

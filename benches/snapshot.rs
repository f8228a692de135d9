//! A snapshot: the copy that stalls the actor, then what another thread does with it.
#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a bench that can't be set up has to stop")]

mod common;

use common::{OnDisk, World, measuring, usual_permissions};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use kavach::store::codec;

fn of_agents(count: usize) -> World {
    let mut world = World::new();
    for n in 0..if measuring() { count } else { 100 } {
        world.add_agent(usual_permissions(n));
    }
    world
}

fn copy(c: &mut Criterion) {
    for count in [10_000, 100_000] {
        let world = of_agents(count);
        let mut group = c.benchmark_group(format!("snapshot/{count}_agents"));
        // The writing thread drops the copy, not the actor.
        group.bench_function("copy", |b| b.iter_batched(|| (), |()| world.tenant.state(), BatchSize::PerIteration));
        group.finish();
    }
}

fn write(c: &mut Criterion) {
    let world = of_agents(10_000);
    let state = world.tenant.state();
    let mut group = c.benchmark_group("snapshot/10000_agents");
    group.sample_size(10);
    group.bench_function("encode", |b| b.iter_with_large_drop(|| codec::encode_state(&state).unwrap()));
    let disk = OnDisk::new(&world.events);
    let journal = disk.journal.as_ref().unwrap();
    group.bench_function("encode_write_fsync", |b| {
        b.iter(|| journal.begin_snapshot(journal.written_seq()).run(|file| codec::write_state(&state, file)).unwrap());
    });
    group.finish();
}

criterion_group!(benches, copy, write);
criterion_main!(benches);

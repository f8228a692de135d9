//! Group commit: append some decision events, then one write.
#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a bench that can't be set up has to stop")]

mod common;

use std::time::{Duration, Instant};

use common::{OnDisk, World, call, usual_permissions};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// Rounds before a new journal begins, so that no run fills the disk.
const ROUNDS: u64 = 4_096;

fn append_and_flush(c: &mut Criterion) {
    let mut world = World::new();
    let caller = world.add_agent(usual_permissions(0));
    let mut event = Vec::new();
    world.decide(&caller, &call(&usual_permissions(0)[0], 7), &mut event);

    let mut group = c.benchmark_group("journal/append_flush");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    for count in [1, 8, 64] {
        group.throughput(Throughput::Elements(count));
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter_custom(|rounds| {
                let mut spent = Duration::ZERO;
                let mut left = rounds;
                while left > 0 {
                    let now = left.min(ROUNDS);
                    let mut disk = OnDisk::new(&[]);
                    let journal = disk.journal.as_mut().unwrap();
                    let start = Instant::now();
                    for _ in 0..now {
                        for _ in 0..count {
                            let seq = journal.next_seq();
                            journal.append(seq, |buffer| buffer.extend_from_slice(&event)).unwrap();
                        }
                        journal.flush().unwrap();
                    }
                    spent += start.elapsed();
                    left -= now;
                }
                spent
            });
        });
    }
    group.finish();
}

criterion_group!(benches, append_and_flush);
criterion_main!(benches);

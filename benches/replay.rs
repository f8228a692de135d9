//! Loading a tenant: reading its folder and applying its events.
#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a bench that can't be set up has to stop")]

mod common;

use std::time::{Duration, Instant};

use common::{OnDisk, World, call, measuring, now, tenant_id, usual_permissions};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kavach::journal::{JournalOptions, Tail};
use kavach::store::loader::load;

/// Events between two writes, as under load.
const BATCH: usize = 64;

/// A folder with that many decisions of 100 agents, cleanly closed, with older segments sealed on request.
fn folder(events: usize, sealed: bool) -> (OnDisk, usize) {
    let mut world = World::new();
    let callers: Vec<_> = (0..100).map(|n| world.add_agent(usual_permissions(n))).collect();
    let calls: Vec<_> = usual_permissions(0).iter().take(4).enumerate().map(|(n, all)| call(all, n)).collect();
    let mut disk = OnDisk::new(&world.events);
    let mut journal = disk.journal.take().unwrap();
    let mut bytes = 0;
    for n in 0..events {
        let mut event = Vec::new();
        world.decide(&callers[n % callers.len()], &calls[n % calls.len()], &mut event);
        bytes += event.len();
        journal.append(journal.next_seq(), |buffer| buffer.extend_from_slice(&event)).unwrap();
        if n % BATCH == BATCH - 1 {
            journal.flush().unwrap();
            journal.rotate_if_due(now().millis()).unwrap();
        }
    }
    let point = journal.begin_sync().run().unwrap();
    journal.finish_sync(point, now().millis()).unwrap();
    let jobs = journal.take_compression_jobs();
    if sealed {
        jobs.into_iter().for_each(|job| job.run().unwrap());
    }
    journal.close(now().millis()).unwrap();
    (disk, bytes)
}

fn replay(c: &mut Criterion) {
    let events = if measuring() { 500_000 } else { 200 };
    let mut group = c.benchmark_group("replay");
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    group.throughput(Throughput::Elements(events as u64));
    for (name, sealed) in [("raw", false), ("sealed", true)] {
        let (disk, _) = folder(events, sealed);
        group.bench_function(name, |b| {
            b.iter_custom(|rounds| {
                (0..rounds)
                    .map(|_| {
                        let start = Instant::now();
                        let loaded =
                            load(&disk.folder, &Tail::default(), tenant_id(0), now(), JournalOptions::default())
                                .unwrap();
                        let spent = start.elapsed();
                        assert_eq!(loaded.tenant.seq(), events as u64 + 101);
                        spent
                    })
                    .sum()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, replay);
criterion_main!(benches);

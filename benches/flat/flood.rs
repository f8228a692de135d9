//! The effect on one tenant while another is flooded: both on one arbiter, which is the worst case.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use actix_rt::System;
use kavach::domain::{Code, Credential};
use kavach::journal::DataDir;
use kavach::{App, Kavach, ServerSettings};

use crate::claim;
use crate::common::{World, create_folder, measuring, tenant_id, token, usual_agent, usual_request};
use crate::probe::{percentile, probe};

/// Calls of the flooded tenant under way at any time.
const UNDER_WAY: usize = 2_000;
const GOAL: f64 = 3.0;

pub fn run() {
    let calls = if measuring() { 4_000 } else { 20 };
    let root = tempfile::tempdir().unwrap();
    let data = DataDir::open(root.path()).unwrap();
    for number in 0..2 {
        let mut world = World::of(number);
        world.add(usual_agent(0));
        create_folder(&data, number, &world.events);
    }
    drop(data);
    let system = System::new();
    let app =
        system.block_on(App::open(&ServerSettings { workers: Some(1), ..ServerSettings::new(root.path()) })).unwrap();
    let agent = |number| app.kavach().acting_for(Credential::parse(token(tenant_id(number), 0).reveal()));
    let (flooded, quiet) = (agent(0), agent(1));

    let work = move || {
        let alone = probe(&quiet, |made| made < calls);
        let flood = Flood::begin(flooded);
        let beside = probe(&quiet, |made| made < calls);
        (alone, beside, flood.end())
    };
    // The registry lives on this thread, and has the tenants read.
    let measured = system.block_on(async { actix_rt::task::spawn_blocking(work).await });
    let (mut alone, mut beside, rate) = measured.unwrap();
    for (at, name) in [(50, "median"), (90, "p90"), (99, "p99")] {
        let (alone, beside) = (percentile(&mut alone, at), percentile(&mut beside, at));
        claim::note(&format!("{name} of a quiet tenant's calls, alone"), alone, "microseconds");
        claim::note(&format!("{name} of a quiet tenant's calls, beside a flood"), beside, "microseconds");
        if at == 99 {
            claim::at_most("p99 of a quiet tenant beside a flood", beside / alone, "times that without", GOAL);
        }
    }
    claim::note("calls of the flooded tenant", rate, "a second");
    system.block_on(app.close());
}

/// A thread that calls as often as it can.
struct Flood {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    begun: Instant,
    thread: std::thread::JoinHandle<()>,
}

impl Flood {
    fn begin(kavach: Kavach) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let thread = std::thread::spawn({
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            move || System::new().block_on(Self::calls(kavach, stop, answered))
        });
        // The flood is in full swing once all callers had an answer.
        while answered.load(Ordering::Relaxed) < UNDER_WAY as u64 {
            std::thread::yield_now();
        }
        Self { stop, answered, begun: Instant::now(), thread }
    }

    async fn calls(kavach: Kavach, stop: Arc<AtomicBool>, answered: Arc<AtomicU64>) {
        let tasks: Vec<_> = (0..UNDER_WAY)
            .map(|_| {
                let (kavach, stop, answered) = (kavach.clone(), Arc::clone(&stop), Arc::clone(&answered));
                actix_rt::spawn(async move {
                    while !stop.load(Ordering::Relaxed) {
                        match kavach.authorize(usual_request(0)).await {
                            Ok(decision) => assert!(decision.allowed),
                            Err(error) => assert_eq!(error.code(), Code::Overloaded),
                        }
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    }

    /// Ends it. Returns its calls per second.
    fn end(self) -> f64 {
        let rate = self.answered.load(Ordering::Relaxed) as f64 / self.begun.elapsed().as_secs_f64();
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        rate
    }
}

//! A spend report over a long trail: how long it takes, and what the tenant's calls notice of it.
//! `KAVACH_BENCH_ENTRIES` sets the length, 10 million by default.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use actix_rt::System;
use kavach::domain::Credential;
use kavach::domain::spend::group_by::GroupBy;
use kavach::journal::DataDir;
use kavach::service::SpendQuery;
use kavach::{App, Kavach, ServerSettings};
use rustix::time::{ClockId, clock_gettime};

use crate::calls::fill;
use crate::claim;
use crate::common::{measuring, tenant_id, token};
use crate::probe::{percentile, probe};

/// Agents that share the trail.
const AGENTS: usize = 1_000;
/// What each report groups by; the trail is read once for each.
const GROUPED_BY: [&str; 3] = ["tenant", "agent,day", "owner,resource,action,month"];
const GOAL_SECONDS: f64 = 10.0;
/// How much longer the slowest calls may take beside a report. A figure of the same program alone varies as much.
const GOAL: f64 = 1.2;

pub fn run() {
    let (entries, alone_calls) = if measuring() { (entries(), 4_000) } else { (3_000, 20) };
    let root = tempfile::tempdir().unwrap();
    fill(&DataDir::open(root.path()).unwrap(), 0, AGENTS, entries);
    let system = System::new();
    // One arbiter: the calls have a core of their own.
    let settings = ServerSettings { workers: Some(1), ..ServerSettings::new(root.path()) };
    let app = system.block_on(App::open(&settings)).unwrap();
    let kavach = app.kavach();
    let agent = kavach.acting_for(Credential::parse(token(tenant_id(0), 0).reveal()));
    let work = move || {
        let alone = percentile(&mut probe(&agent, |calls| calls < alone_calls), 99);
        claim::note("p99 of calls, without a report", alone, "microseconds");
        for by in GROUPED_BY {
            let report = Report::begin(kavach.clone(), by, entries as u64);
            let ended = Arc::clone(&report.ended);
            let beside = percentile(&mut probe(&agent, |calls| calls == 0 || !ended.load(Ordering::Relaxed)), 99);
            let (seconds, cpu) = report.thread.join().unwrap();
            let what = format!("report by {by} over {entries} entries");
            claim::at_most(&what, seconds, "seconds", GOAL_SECONDS);
            claim::note("    CPU of the process meanwhile", cpu, "seconds");
            claim::at_most("    p99 of calls beside it", beside / alone, "times that without", GOAL);
        }
    };
    // The registry lives on this thread, and has the tenant read.
    system.block_on(async { actix_rt::task::spawn_blocking(work).await }).unwrap();
    system.block_on(app.close());
}

fn entries() -> usize {
    std::env::var("KAVACH_BENCH_ENTRIES").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000_000)
}

/// A report that is made on a thread of its own.
struct Report {
    ended: Arc<AtomicBool>,
    /// Returns the seconds that it took, and those of CPU.
    thread: std::thread::JoinHandle<(f64, f64)>,
}

impl Report {
    fn begin(kavach: Kavach, by: &str, entries: u64) -> Self {
        let query = SpendQuery { group_by: GroupBy::parse("groupBy", by).unwrap(), ..SpendQuery::default() };
        let ended = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let ended = Arc::clone(&ended);
            move || {
                let (start, cpu) = (Instant::now(), cpu_seconds());
                let report = System::new().block_on(kavach.audit().spend(query)).unwrap();
                let taken = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu);
                assert!(report.total.calls + report.total.denied >= entries);
                ended.store(true, Ordering::Relaxed);
                taken
            }
        });
        Self { ended, thread }
    }
}

fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

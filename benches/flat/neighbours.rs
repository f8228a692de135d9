//! The effect of a neighbour on a tenant that calls now and then: one with an actor that panics over and over, one that
//! is flooded, one with a full mailbox, one with 100,000 agents that are listed and snapshotted, one that reads its
//! whole audit trail. Over HTTP, with both on one thread.
//!
//! Each is measured in turn: with the quiet tenant alone, with the disturbance in another server on this machine (which
//! shows the share of the machine's cores), and beside it.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kavach::journal::DataDir;

use crate::calls::fill;
use crate::claim;
use crate::common::{measuring, tenant_id, token, usual_request};
use crate::interleaved::median;
use crate::served::{OPERATOR_KEY, Served, request};

/// Time between two calls of the quiet tenant.
const PAUSE: Duration = Duration::from_millis(1);
/// How much a neighbour may raise a quiet tenant's p99.
const GOAL: f64 = 3.0;

/// The tenants' numbers.
const QUIET: u32 = 0;
const PANICKING: u32 = 1;
const LARGE: u32 = 2;
const READ: u32 = 3;

/// A disturbance beside the quiet tenant.
struct Disturbance {
    name: &'static str,
    /// Runs until stopped. Returns what it did, in a few words.
    run: fn(&Neighbourhood, &AtomicBool) -> String,
}

struct Neighbourhood {
    served: Served,
    /// The targets of a flood.
    targets: tempfile::TempDir,
}

fn prepare(root: &Path) {
    let (agents, entries) = if measuring() { (100_000, 400_000) } else { (50, 200) };
    let data = DataDir::open(root).unwrap();
    fill(&data, QUIET, 1, 1);
    fill(&data, PANICKING, 1, 100);
    fill(&data, LARGE, agents, 1);
    fill(&data, READ, 1, entries);
}

fn authorize(tenant: u32) -> Vec<u8> {
    let call = usual_request(0);
    let body = serde_json::json!({ "action": call.action(), "resource": call.resource() }).to_string();
    request("POST", "/v1/authorize", token(tenant_id(tenant), 0).reveal(), &body, false)
}

fn by_operator(method: &str, path: &str, body: &str) -> Vec<u8> {
    request(method, path, OPERATOR_KEY, body, true)
}

fn slug(tenant: u32) -> String {
    format!("acme-{tenant}")
}

impl Neighbourhood {
    fn new() -> Self {
        let served = Served::start(prepare);
        let targets = tempfile::tempdir().unwrap();
        let mut load = Command::new(env!("CARGO_BIN_EXE_kavach"));
        load.args(["load", "--url", &format!("http://{}", served.address), "--key", OPERATOR_KEY, "--setup-only"]);
        load.args(["--tenants", "1", "--agents", "20", "--save"]).arg(targets.path().join("targets.json"));
        assert!(load.output().unwrap().status.success());
        Self { served, targets }
    }

    /// Calls now and then for that long. Returns the microseconds of each call.
    fn probe(&self, lasts: Duration) -> Vec<f64> {
        let (mut connection, call) = (self.served.connect(), authorize(QUIET));
        connection.call(&call);
        let (begun, mut times) = (Instant::now(), Vec::new());
        while begun.elapsed() < lasts || times.is_empty() {
            std::thread::sleep(PAUSE);
            let start = Instant::now();
            assert_eq!(connection.call(&call), 200);
            times.push(start.elapsed().as_nanos() as f64 / 1e3);
        }
        times
    }
}

/// Runs work on several threads until stopped; returns how often it was done.
fn until_stopped(stop: &AtomicBool, threads: usize, work: impl Fn() + Sync) -> u64 {
    let done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    work();
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    done.into_inner()
}

fn panics(beside: &Neighbourhood, stop: &AtomicBool) -> String {
    let call = authorize(PANICKING);
    let times = until_stopped(stop, 1, || {
        // As soon as it is back.
        let mut connection = beside.served.connect();
        while connection.call(&call) != 200 && !stop.load(Ordering::Relaxed) {}
        beside.served.inject_panic(&slug(PANICKING));
    });
    format!("{times} panics")
}

fn flood(beside: &Neighbourhood, stop: &AtomicBool) -> String {
    load(beside, stop, "64")
}

fn full_mailbox(beside: &Neighbourhood, stop: &AtomicBool) -> String {
    // More calls at once than a mailbox holds.
    load(beside, stop, if measuring() { "6000" } else { "16" })
}

fn load(beside: &Neighbourhood, stop: &AtomicBool, connections: &str) -> String {
    let mut load = Command::new(env!("CARGO_BIN_EXE_kavach"));
    load.args(["load", "--url", &format!("http://{}", beside.served.address), "--connections", connections]);
    load.args(["--json", "--warmup", "0s", "--duration", "60s", "--targets"]);
    load.arg(beside.targets.path().join("targets.json"));
    let child = load.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(5));
    }
    interrupted(child)
}

/// The result that an interrupted load prints.
fn interrupted(child: Child) -> String {
    let pid = rustix::process::Pid::from_child(&child);
    // Not SIGINT: a shell ignores it for background programs until the load asks for it.
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    format!("{} requests a second, of which failed: {}", report["requestsPerSecond"], report["errors"])
}

fn lists(beside: &Neighbourhood, stop: &AtomicBool) -> String {
    let list = by_operator("GET", &format!("/v1/agents?tenantId={}", slug(LARGE)), "");
    let times = until_stopped(stop, 1, || assert_eq!(beside.served.read_off(&list), Some(200)));
    format!("{times} lists of all agents")
}

fn pages(beside: &Neighbourhood, stop: &AtomicBool) -> String {
    let list = by_operator("GET", &format!("/v1/agents?tenantId={}&limit=1000", slug(LARGE)), "");
    let times = until_stopped(stop, 1, || assert_eq!(beside.served.read_off(&list), Some(200)));
    format!("{times} lists of 1,000 agents")
}

fn snapshots(beside: &Neighbourhood, stop: &AtomicBool) -> String {
    let (call, snapshot) = (authorize(LARGE), by_operator("POST", "/v1/snapshot", "{}"));
    let times = until_stopped(stop, 1, || {
        // Else a snapshot would have nothing new to write.
        assert_eq!(beside.served.connect().call(&call), 200);
        assert_eq!(beside.served.read_off(&snapshot), Some(200));
    });
    format!("{times} snapshots")
}

fn exports(beside: &Neighbourhood, stop: &AtomicBool) -> String {
    let export = by_operator("GET", &format!("/v1/audit/export?format=ndjson&tenantId={}", slug(READ)), "");
    // As many agents as a tenant may have.
    let times = until_stopped(stop, 2, || assert_eq!(beside.served.read_off(&export), Some(200)));
    format!("{times} exports, 2 at once")
}

fn queries(beside: &Neighbourhood, stop: &AtomicBool) -> String {
    // No entry matches, so the search reads all of them.
    let path = format!("/v1/audit?tenantId={}&userId=nobody", slug(READ));
    let query = by_operator("GET", &path, "");
    let times = until_stopped(stop, 4, || assert_eq!(beside.served.read_off(&query), Some(200)));
    format!("{times} queries of all of it, 4 at once")
}

const DISTURBANCES: [Disturbance; 8] = [
    Disturbance { name: "a tenant with an actor that panics over and over", run: panics },
    Disturbance { name: "a tenant that 64 connections flood", run: flood },
    Disturbance { name: "a tenant with a full mailbox, by 6,000 connections", run: full_mailbox },
    Disturbance { name: "lists of all of 100,000 agents", run: lists },
    Disturbance { name: "lists of 1,000 of 100,000 agents", run: pages },
    Disturbance { name: "snapshots of 100,000 agents", run: snapshots },
    Disturbance { name: "exports of a whole audit trail", run: exports },
    Disturbance { name: "queries of a whole audit trail", run: queries },
];

/// The quiet tenant's p50 and p99 while the disturbance runs there.
fn beside(quiet: &Neighbourhood, lasts: Duration, there: Option<(&Neighbourhood, &Disturbance)>) -> ([f64; 2], String) {
    let stop = AtomicBool::new(false);
    let (mut times, did) = std::thread::scope(|scope| {
        let stop = &stop;
        let going_on = there.map(|(there, disturbance)| scope.spawn(|| (disturbance.run)(there, stop)));
        if going_on.is_some() && measuring() {
            // Until it is in full swing.
            std::thread::sleep(Duration::from_millis(700));
        }
        let times = quiet.probe(lasts);
        stop.store(true, Ordering::Relaxed);
        (times, going_on.map_or_else(String::new, |going_on| going_on.join().unwrap()))
    });
    times.sort_by(f64::total_cmp);
    ([50, 99].map(|percent| times[(times.len() - 1) * percent / 100]), did)
}

pub fn run() {
    let rounds = std::env::var("KAVACH_BENCH_ROUNDS").map_or(3, |text| text.parse().expect("a number"));
    let (rounds, lasts) = if measuring() { (rounds, Duration::from_millis(1_200)) } else { (1, Duration::ZERO) };
    let (here, elsewhere) = (Neighbourhood::new(), Neighbourhood::new());
    for disturbance in &DISTURBANCES {
        // Alone, with it elsewhere, with it here; p50 and p99 of each.
        let mut figures: [[Vec<f64>; 2]; 3] = Default::default();
        let mut did = String::new();
        for _ in 0..rounds {
            let there = [None, Some((&elsewhere, disturbance)), Some((&here, disturbance))];
            for (figures, there) in figures.iter_mut().zip(there) {
                let (measured, what) = beside(&here, lasts, there);
                figures.iter_mut().zip(measured).for_each(|(figures, figure)| figures.push(figure));
                did = what;
            }
        }
        let [alone, elsewhere, here] = figures.map(|figures| figures.map(|mut figures| median(&mut figures)));
        if measuring() {
            println!("beside {} ({did} in the last round):", disturbance.name);
        }
        for (at, name) in ["p50", "p99"].into_iter().enumerate() {
            claim::note(&format!("    {name} alone"), alone[at], "microseconds");
            claim::note(&format!("    {name} with it in another process"), elsewhere[at], "microseconds");
            claim::note(&format!("    {name} beside it"), here[at], "microseconds");
        }
        claim::note("    p99 against that with it in another process", here[1] / elsewhere[1], "times");
        claim::at_most("    p99 against that alone", here[1] / alone[1], "times", GOAL);
    }
}

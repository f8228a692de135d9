//! The server over HTTP against a bare actix-web handler on one machine, in one run.
//!
//! Both are separate processes, started anew in every round and driven by `kavach load` with equal bytes. The server
//! does all its usual work: journal, audit trail, constraints, and three budgets on every agent. What counts are the
//! ratios of each round, since its two halves ran on the machine in one state.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a bench stops where it fails")]
#![allow(clippy::print_stdout, reason = "it is a program for people")]

mod bare;
mod figures;
mod process;

use figures::{Figure, Goal};
use process::MeasuredProcess;

/// The program's own allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Requests in a batch.
const BATCH: usize = 100;

/// What each round measures.
struct Scenario {
    title: &'static str,
    durability: &'static str,
    tenants: usize,
    agents: usize,
    load: LoadPlan,
    figures: Vec<Figure>,
}

/// How load is sent.
enum LoadPlan {
    /// As much as that many connections can, each with one request under way.
    Closed { connections: u16, batch: usize },
    /// By a schedule that waits for no answer: half of the server's best throughput in this round.
    HalfOfMost,
}

fn scenarios() -> Vec<Scenario> {
    use Figure as F;
    let scenario = |title, tenants, agents, load, figures| Scenario {
        title,
        durability: "interval",
        tenants,
        agents,
        load,
        figures,
    };
    let closed = |connections| LoadPlan::Closed { connections, batch: 0 };
    let most = || {
        let (throughput, cpu) = (F::throughput(Goal::RatioAtLeast(0.85)), F::server_cpu(Goal::RatioAtMost(1.3)));
        vec![throughput, cpu, F::p50(Goal::None), F::p99(Goal::None)]
    };
    let half = vec![F::p99(Goal::RatioAtMost(1.5)), F::p50(Goal::None), F::server_cpu(Goal::None)];
    let light = vec![F::p50(Goal::RatioAtMost(3.0)), F::p99(Goal::None), F::server_cpu(Goal::None)];
    let batches = vec![F::decisions(Goal::AtLeast(1e6)), F::p50(Goal::None), F::server_cpu(Goal::None)];
    let fsync = || vec![F::throughput(Goal::None), F::server_cpu(Goal::None), F::p50(Goal::None), F::p99(Goal::None)];
    vec![
        scenario("one hot tenant, 64 connections", 1, 100, closed(64), most()),
        scenario("open loop at half of that", 1, 100, LoadPlan::HalfOfMost, half),
        scenario("one hot tenant, 8 connections", 1, 100, closed(8), light),
        scenario("100 tenants, 64 connections", 100, 10, closed(64), most()),
        scenario("10,000 tenants in turn, 64 connections", 10_000, 1, closed(64), most()),
        scenario(
            "batches of 100 from 16 tenants, 32 connections",
            16,
            10,
            LoadPlan::Closed { connections: 32, batch: BATCH },
            batches,
        ),
        Scenario {
            durability: "fsync",
            ..scenario("each decision on disk before its answer, 64 connections", 1, 100, closed(64), fsync())
        },
        Scenario {
            durability: "fsync",
            ..scenario("the same with 10,000 tenants in turn", 10_000, 1, closed(64), fsync())
        },
    ]
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, batch] = args.as_slice()
        && flag == "--bare"
    {
        return bare::serve(batch.parse().unwrap()).unwrap();
    }
    let given = |wanted| args.iter().any(|arg| arg == wanted);
    let (rounds, seconds) = if given("--bench") && !given("--test") {
        (setting("KAVACH_BENCH_ROUNDS", 5.0) as usize, setting("KAVACH_BENCH_SECONDS", 4.0))
    } else {
        // As a test: once, and for a moment.
        (1, 0.2)
    };
    let wanted: Vec<&String> = args.iter().filter(|arg| !arg.starts_with("--")).collect();
    let mut scenarios = scenarios();
    scenarios.retain(|scenario| wanted.is_empty() || wanted.iter().any(|text| scenario.title.contains(*text)));
    for round in 0..rounds {
        let mut most = None;
        for scenario in &mut scenarios {
            scenario.run(seconds, round % 2 == 1, &mut most);
        }
    }
    println!(
        "medians of {rounds} rounds of {seconds} s; ratios are those of each round, with the least and the most\n"
    );
    println!("  {:<14} {:>10} {:>10}", "", "kavach", "bare");
    for Scenario { title, figures, .. } in &scenarios {
        println!("{title}");
        figures.iter().for_each(Figure::show);
    }
}

fn setting(name: &str, default: f64) -> f64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

impl Scenario {
    /// Measures the server and the yardstick, one after the other. `most` is the server's last throughput at full load.
    fn run(&mut self, seconds: f64, bare_first: bool, most: &mut Option<f64>) {
        let Self { durability, tenants, agents, .. } = *self;
        let server = MeasuredProcess::server(durability);
        let targets = server.make_targets(tenants, agents);
        let bare = MeasuredProcess::bare(BATCH);
        if let (LoadPlan::HalfOfMost, None) = (&self.load, &most) {
            *most = Some(server.measure(&targets, seconds, &["--connections", "64"]).load.requests_per_second);
        }
        let args: Vec<String> = match self.load {
            LoadPlan::Closed { connections, batch: 0 } => vec!["--connections".into(), connections.to_string()],
            LoadPlan::Closed { connections, batch } => {
                ["--connections", &connections.to_string(), "--batch", &batch.to_string()].map(String::from).into()
            }
            LoadPlan::HalfOfMost => {
                let rate = (most.unwrap_or(2_000.0) / 2.0).max(1.0) as u64;
                vec!["--rate".into(), rate.to_string(), "--connections".into(), "64".into()]
            }
        };
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let measure = |process: &MeasuredProcess| process.measure(&targets, seconds, &args);
        let (kavach, bare) = if bare_first {
            let bare = measure(&bare);
            (measure(&server), bare)
        } else {
            (measure(&server), measure(&bare))
        };
        if let LoadPlan::Closed { batch: 0, .. } = self.load {
            *most = Some(kavach.load.requests_per_second);
        }
        self.figures.iter_mut().for_each(|figure| figure.add(&kavach, &bare));
    }
}

//! Very many tenants on one node, of which few are in memory: how fast they are made, a start after a kill and after a
//! clean stop, the first call of a tenant that is not in memory, memory and open files.
//! `KAVACH_BENCH_TENANTS=1000000` makes a million, which takes a quarter of an hour and 20 GB.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::claim;
use crate::common::measuring;
use crate::served::{Connection, OPERATOR_KEY, request};

/// Connections that make tenants and agents.
const CONNECTIONS: usize = 64;
/// Agents of each tenant that is called.
const AGENTS: usize = 100;
/// Calls to each of these tenants once they are in memory.
const CALLS: usize = 50;

/// The program, serving.
struct Node(Child);

impl Node {
    /// Starts it, and waits until it is ready. Returns how long that took.
    fn start(folder: &Path) -> (Self, String, Duration) {
        let begun = Instant::now();
        let mut command = Command::new(env!("CARGO_BIN_EXE_kavach"));
        command.args(["--addr", "127.0.0.1:0", "--data-dir"]).arg(folder).env("KAVACH_OPERATOR_KEY", OPERATOR_KEY);
        command.env("RUST_LOG", "warn");
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.map_while(Result::ok).find_map(|line| Some(line.split_once("http://")?.1.to_owned()));
        let address = address.expect("it says where it listens");
        let mut connection = Connection::to(&address).unwrap();
        assert_eq!(connection.call(&request("GET", "/readyz", "", "", false)), 200);
        (Self(child), address, begun.elapsed())
    }

    /// Bytes of its memory.
    fn resident(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0
    }

    fn open_files(&self) -> f64 {
        fs::read_dir(format!("/proc/{}/fd", self.0.id())).unwrap().count() as f64
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Stops it cleanly. Returns how long that took.
    fn stop(mut self) -> Duration {
        let begun = Instant::now();
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        assert!(self.0.wait().unwrap().success());
        begun.elapsed()
    }
}

/// Makes tenants and agents, kills the server, starts it again, and looks.
pub fn run() {
    let given = std::env::var("KAVACH_BENCH_TENANTS").ok().and_then(|count| count.parse().ok());
    let (tenants, active) = if measuring() { (given.unwrap_or(20_000), 1_000) } else { (40, 4) };
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (node, address, _) = Node::start(folder.path());

    let begun = Instant::now();
    each(&address, tenants, |connection, number| {
        let body = json!({ "name": format!("Tenant {number}"), "slug": format!("tenant-{number}") });
        assert_eq!(post(connection, "/v1/tenants", OPERATOR_KEY, &body), 201);
    });
    let rate = tenants as f64 / begun.elapsed().as_secs_f64();
    claim::at_least(&format!("{tenants} tenants made"), rate, "a second", 2_000.0);
    claim::note("    memory with all of them made", node.resident() / MIB, "MiB");

    let tokens = make_agents(&address, tenants, active);
    let mut connection = Connection::to(&address).unwrap();
    tokens.iter().for_each(|token| authorize(&mut connection, token));
    node.kill();

    let (node, address, took) = Node::start(folder.path());
    claim::at_most(&format!("{tenants} tenants ready after a kill"), took.as_secs_f64(), "seconds", 3.0);
    claim::note("    memory then", node.resident() / MIB, "MiB");
    let mut connection = Connection::to(&address).unwrap();
    let mut first: Vec<f64> = tokens
        .iter()
        .map(|token| {
            let begun = Instant::now();
            authorize(&mut connection, token);
            begun.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    first.sort_by(f64::total_cmp);
    claim::note("    median of a cold tenant's first call", first[first.len() / 2], "ms");
    claim::at_most("p99 of a cold tenant's first call", first[first.len() * 99 / 100], "ms", 10.0);
    each(&address, CALLS * tokens.len(), |connection, number| authorize(connection, &tokens[number % tokens.len()]));
    claim::at_most(&format!("memory with {active} tenants active"), node.resident() / MIB, "MiB", 512.0);
    claim::at_most("open files", node.open_files(), "files", 4_096.0);
    claim::note("    a clean stop", node.stop().as_secs_f64(), "seconds");

    let (node, _, took) = Node::start(folder.path());
    claim::at_most(&format!("{tenants} tenants ready after a clean stop"), took.as_secs_f64(), "seconds", 3.0);
    node.stop();
}

const MIB: f64 = (1 << 20) as f64;

/// Does something that many times, over several connections.
fn each(address: &str, count: usize, act: impl Fn(&mut Connection, usize) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                let mut connection = Connection::to(address).unwrap();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    act(&mut connection, number);
                }
            });
        }
    });
}

/// Gives some tenants their agents, and returns a token for each of those tenants.
fn make_agents(address: &str, tenants: usize, active: usize) -> Vec<String> {
    let tokens = Mutex::new(Vec::new());
    each(address, active * AGENTS, |connection, number| {
        let (tenant, agent) = (number / AGENTS, number % AGENTS);
        let body = json!({
            "tenantId": format!("tenant-{}", tenant * (tenants / active)), "ownerId": "bench", "name": format!("agent {agent}"),
            "type": "service", "permissions": [{ "resource": "mcp:*", "actions": ["*"] }],
        });
        assert_eq!(post(connection, "/v1/agents", OPERATOR_KEY, &body), 201);
        if agent == 0 {
            let made: Value = serde_json::from_slice(connection.body()).unwrap();
            tokens.lock().unwrap().push(made["token"].as_str().unwrap().to_owned());
        }
    });
    tokens.into_inner().unwrap()
}

fn post(connection: &mut Connection, path: &str, key: &str, body: &Value) -> u16 {
    connection.call(&request("POST", path, key, &body.to_string(), false))
}

fn authorize(connection: &mut Connection, token: &str) {
    let body = json!({ "action": "read", "resource": "mcp:github:repos" });
    assert_eq!(post(connection, "/v1/authorize", token, &body), 200);
}

//! A start with many tenants: from the process's beginning until `/readyz` says 200, with its data in the system's
//! cache.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kavach::journal::DataDir;
use kavach::store::codec;

use crate::claim;
use crate::common::{World, call, create_folder, measuring, now, usual_agent, usual_permissions};

/// Agents of each tenant.
pub const AGENTS: usize = 3;
/// Decisions before the snapshot, and as many after it.
const DECISIONS: usize = 20;
const GOAL_SECONDS: f64 = 2.0;
const KEY: &str = "kvo_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// Prepares the data, starts the program on it a few times, and prints how long that took.
pub fn run() {
    let (tenants, starts) = if measuring() { (10_000, 5) } else { (20, 1) };
    let root = tempfile::tempdir().unwrap();
    prepare(root.path(), tenants);
    let mut times: Vec<_> = (0..starts).map(|_| start(root.path(), tenants).as_secs_f64()).collect();
    times.sort_by(f64::total_cmp);
    claim::at_most(&format!("{tenants} tenants ready"), times[times.len() / 2], "seconds", GOAL_SECONDS);
    claim::note("    the slowest of those starts", times[times.len() - 1], "seconds");
}

/// Fills a data directory with tenants, each with a snapshot and a journal that continues after it.
pub fn prepare(root: &Path, tenants: u32) {
    let data = DataDir::open(root).unwrap();
    let threads = 4;
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let data = &data;
            scope.spawn(move || (thread..tenants).step_by(threads as usize).for_each(|number| tenant(data, number)));
        }
    });
}

fn tenant(data: &DataDir, number: u32) {
    let mut world = World::of(number);
    let callers: Vec<_> = (0..AGENTS).map(|n| world.add(usual_agent(n))).collect();
    let request = call(&usual_permissions(0)[0], 7);
    let mut journal = create_folder(data, number, &world.events);
    for decided in 0..2 * DECISIONS {
        if decided == DECISIONS {
            journal
                .begin_snapshot(journal.written_seq())
                .run(|file| codec::write_state(&world.tenant.state(), file))
                .unwrap();
        }
        let seq = journal.next_seq();
        journal
            .append(seq, |buffer| {
                world.decide(&callers[decided % AGENTS], &request, buffer);
            })
            .unwrap();
        journal.flush().unwrap();
    }
    journal.close(now().millis()).unwrap();
}

/// Starts the program, waits until it is ready, and kills it.
fn start(root: &Path, tenants: u32) -> Duration {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let begun = Instant::now();
    let mut server = Command::new(env!("CARGO_BIN_EXE_kavach"))
        .args(["--addr", &address.to_string(), "--data-dir"])
        .arg(root)
        .env("KAVACH_OPERATOR_KEY", KEY)
        .env("RUST_LOG", "warn")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while !is_ready(address) {
        assert!(server.try_wait().unwrap().is_none(), "the server ended");
        std::thread::sleep(Duration::from_millis(2));
    }
    let took = begun.elapsed();
    let listed = get(address, "/v1/tenants").unwrap().matches("\"slug\"").count();
    assert_eq!(listed, tenants as usize, "all tenants are there");
    // A kill leaves everything as it was: an orderly end would write snapshots.
    server.kill().unwrap();
    server.wait().unwrap();
    took
}

fn is_ready(address: SocketAddr) -> bool {
    get(address, "/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

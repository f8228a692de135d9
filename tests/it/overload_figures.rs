//! How the server and its other clients fare under more load than it can take. Prints figures for the build it runs
//! with:
//!
//! ```text
//! cargo nextest run --release --run-ignored only --no-capture -E 'test(overload_figures)'
//! ```

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::client::Client;
use crate::harness::{OPERATOR_KEY, Server};
use crate::world::{call, permits};

/// Connections of each slow kind.
const SLOW: usize = 1_000;
/// Of those, the ones that send half a body: more than all incoming bodies together may take.
const HALF_BODIES: usize = 400;
/// The ones that pipeline requests and read no answers, each some ten thousand before the sockets are full.
const PIPELINED: usize = 50;
/// Clients that request a large page and don't read it.
const READERS: usize = 40;

/// MiB of memory that the server has, and its peak.
fn memory(server: &Server) -> [u64; 2] {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid().as_raw_nonzero())).unwrap();
    ["VmRSS:", "VmHWM:"].map(|name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    })
}

/// Latencies of successful calls, and the number of failed ones.
#[derive(Default)]
struct Calls {
    micros: Vec<u64>,
    failed: usize,
}

impl Calls {
    fn time(&mut self, good: impl FnOnce() -> bool) {
        let start = Instant::now();
        if good() {
            self.micros.push(u64::try_from(start.elapsed().as_micros()).unwrap());
        } else {
            self.failed += 1;
        }
    }

    fn figures(&mut self) -> String {
        self.micros.sort_unstable();
        let last = self.micros.len().saturating_sub(1);
        let at = |part: f64| self.micros.get((last as f64 * part) as usize).map_or(0.0, |micros| *micros as f64 / 1e3);
        let (p50, p99, max, calls, failed) = (at(0.5), at(0.99), at(1.0), self.micros.len(), self.failed);
        format!("p50 {p50:7.2} ms, p99 {p99:8.2} ms, max {max:8.2} ms of {calls} ({failed} failed)")
    }
}

/// Calls by clients without any part in the load, one after another, while `load` runs.
fn phase<T>(name: &str, server: &Server, quiet: &Client, request: &Value, load: impl FnOnce() -> T + Send) -> T
where
    T: Send,
{
    let over = AtomicBool::new(false);
    let (mut alive, mut decisions, mut most) = (Calls::default(), Calls::default(), 0);
    let body = request.to_string();
    let done = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let done = load();
            over.store(true, Ordering::Relaxed);
            done
        });
        let anonymous = server.anonymous();
        while !over.load(Ordering::Relaxed) && !load.is_finished() {
            let ask = |client: &Client, method, path, body: Option<&str>| {
                client.try_send(method, path, &[], body.map(str::as_bytes)).is_ok_and(|answer| answer.status == 200)
            };
            alive.time(|| ask(&anonymous, "GET", "/livez", None));
            decisions.time(|| ask(quiet, "POST", "/v1/authorize", Some(&body)));
            most = most.max(memory(server)[0]);
        }
        load.join().unwrap()
    });
    let [now, peak] = memory(server);
    println!("{name}");
    println!("  /livez                    {}", alive.figures());
    println!("  another tenant's decision {}", decisions.figures());
    println!("  memory                    {most} MiB at most, {now} at the end, {peak} ever");
    done
}

/// A client that sends these bytes, as far as the server takes them.
fn connect(server: &Server, bytes: &[u8]) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(server.host()).ok()?;
    stream.set_write_timeout(Some(Duration::from_millis(20))).ok()?;
    let _ = stream.write_all(bytes);
    Some(stream)
}

/// The fate of a connection: the status of its first answer, and whether it is still open.
fn fate(mut stream: &TcpStream) -> String {
    stream.set_nonblocking(true).unwrap();
    let (mut answer, mut bytes) = (Vec::new(), vec![0; 1 << 16]);
    let end = loop {
        match stream.read(&mut bytes) {
            Ok(0) => break "closed",
            Ok(count) => answer.extend_from_slice(&bytes[..count]),
            Err(problem) if problem.kind() == std::io::ErrorKind::WouldBlock => break "open",
            Err(_) => break "reset",
        }
    };
    let status = answer.get(9..12).map_or("no answer".into(), String::from_utf8_lossy);
    format!("{status}, {end}")
}

fn head(method: &str, path: &str, length: usize) -> String {
    let bearer = format!("Authorization: Bearer {OPERATOR_KEY}");
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{bearer}\r\nContent-Length: {length}\r\n\r\n")
}

#[test]
#[ignore = "it prints figures, and takes a minute"]
fn more_than_it_can_take() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let server = Server::start();
    let operator = server.operator();
    let agent = operator.agent(operator.tenant("quiet").id, permits("docs:*", &["read"]));
    let quiet = server.with_key(&agent.token);
    let request = json!({ "action": "read", "resource": "docs:1" });
    let rest = |seconds| move || std::thread::sleep(Duration::from_secs(seconds));
    phase("before", &server, &quiet, &request, rest(3));

    let load = |args: &'static [&'static str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kavach"));
        command.args(["load", "--url", server.base(), "--key", OPERATOR_KEY, "--json", "--warmup", "0"]).args(args);
        move || {
            let output = command.output().unwrap();
            let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            (report["requestsPerSecond"].clone(), report["total"].clone(), report["errors"].clone())
        }
    };
    let flood = load(&["--connections", "8000", "--duration", "10s"]);
    let (rate, total, errors) = phase("8,000 calls of one tenant under way", &server, &quiet, &request, flood);
    println!("  the flood                 {rate} answered a second; in all {total}; errors {errors}");
    let flood = load(&["--connections", "500", "--no-keep-alive", "--duration", "10s"]);
    let (rate, total, errors) = phase("500 clients that connect anew for each call", &server, &quiet, &request, flood);
    println!("  the flood                 {rate} answered a second; in all {total}; errors {errors}");

    let mut large = call(&agent.id);
    large["arguments"] = json!({ "text": "x".repeat(30_000) });
    for _ in 0..40 {
        operator.post("/v1/authorize/batch", json!({ "requests": vec![large.clone(); 30] })).expect(200);
    }
    let held = phase("slow clients of all kinds, and wrong keys", &server, &quiet, &request, || {
        let flood = b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n".repeat(30_000);
        let mut body = head("POST", "/v1/authorize/batch", 1 << 20).into_bytes();
        body.extend(vec![b' '; 512 * 1024]);
        let page = head("GET", "/v1/audit?tenantId=quiet&limit=1000", 0);
        let kinds: [(&[u8], usize); 5] = [
            (b"", SLOW),
            (b"POST /v1/authorize HTTP/1.1\r\nHost: x\r\nX-Long: ", SLOW),
            (&flood, PIPELINED),
            (&body, HALF_BODIES),
            (page.as_bytes(), READERS),
        ];
        let held: Vec<_> = std::thread::scope(|scope| {
            let wrong = scope.spawn(|| {
                let client = server.with_key("kvo_wrong");
                (0..20_000).filter(|_| client.get("/v1/tenants").status == 429).count()
            });
            let held = kinds.map(|(bytes, count)| {
                let server = &server;
                scope.spawn(move || (0..count).filter_map(|_| connect(server, bytes)).collect::<Vec<_>>())
            });
            let held = held.into_iter().map(|kind| kind.join().unwrap()).collect();
            println!("(of 20,000 calls with a wrong key {} were refused as too many)", wrong.join().unwrap());
            held
        });
        std::thread::sleep(Duration::from_secs(12));
        held
    });
    for (kind, streams) in ["silent", "in a head", "taking no answers", "in a body", "taking no page"].iter().zip(&held)
    {
        let mut fates = std::collections::BTreeMap::<_, usize>::new();
        for stream in streams {
            *fates.entry(fate(stream)).or_default() += 1;
        }
        println!("  {kind:25} {fates:?}");
    }
    drop(held);
    phase("after", &server, &quiet, &request, rest(5));
    println!("the log has {} lines", server.log().lines().count());
}

//! `kavach load`: it counts what happened, and a stalling server can't hide from it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::harness::{OPERATOR_KEY, Server, eventually};

/// The program, for a server at that address.
fn command(url: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kavach"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("KAVACH_")) {
        command.env_remove(name);
    }
    command.args(["load", "--url", url]).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(url: &str, args: &[&str]) -> Output {
    command(url, args).output().unwrap()
}

/// The result of a load that must succeed.
#[track_caller]
fn result(url: &str, args: &[&str]) -> Value {
    let output = run(url, &[&["--json"], args].concat());
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The sentence of a load that must fail with that exit code.
#[track_caller]
fn failure(url: &str, args: &[&str], code: i32) -> String {
    let output = run(url, args);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stderr).unwrap()
}

/// Makes targets on a server, and saves them.
fn make_targets(server: &Server, home: &Path, args: &[&str]) -> PathBuf {
    let file = home.join("targets.json");
    let args = [&["--key", OPERATOR_KEY, "--setup-only", "--save", file.to_str().unwrap()], args].concat();
    let output = run(server.base(), &args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    file
}

fn read(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

/// How many entries a tenant's audit log has, by result and code.
fn logged(server: &Server, tenant: &str) -> Value {
    let mut counts = json!({ "allowed": 0, "denied": 0, "PERMISSION_DENIED": 0, "ARGUMENT_NOT_ALLOWED": 0 });
    for entry in server.operator().trail(&format!("tenantId={tenant}")) {
        for name in [&entry["result"], &entry["code"]] {
            if let Some(name) = name.as_str() {
                counts[name] = (counts[name].as_u64().unwrap_or_default() + 1).into();
            }
        }
    }
    counts
}

#[test]
fn the_counts_agree_with_the_audit_log() {
    let (server, home) = (Server::start(), tempfile::tempdir().unwrap());
    let file = make_targets(&server, home.path(), &["--agents", "5"]);
    let made = read(&file);
    let (tenant, path) = (made["tenants"][0]["id"].as_str().unwrap(), file.to_str().unwrap());
    let mut expected = json!({ "allowed": 0, "denied": 0 });
    for args in [
        &["--rate", "400", "--duration", "500ms", "--warmup", "250ms"][..],
        &["--connections", "3", "--duration", "200ms", "--warmup", "50ms", "--seed", "2"],
        &["--connections", "2", "--pipeline", "7", "--duration", "200ms", "--warmup", "50ms"],
        &["--connections", "2", "--batch", "13", "--duration", "200ms", "--warmup", "50ms"],
        &["--rate", "200", "--no-keep-alive", "--duration", "300ms", "--warmup", "0"],
    ] {
        let result = result(server.base(), &[&["--targets", path, "--deny-share", "0.3"], args].concat());
        assert_eq!(result["errors"], json!({}), "{args:?}: {result}");
        assert_eq!(result["total"]["errors"], 0, "{args:?}: {result}");
        let decisions = result["decisions"].as_u64().unwrap();
        assert!(decisions > 0, "{args:?}: {result}");
        assert_eq!(decisions, result["requests"].as_u64().unwrap() * result["batch"].as_u64().unwrap().max(1));
        let denials: u64 = result["denials"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
        assert_eq!(result["denied"], denials, "{args:?}: {result}");
        for name in ["allowed", "denied"] {
            expected[name] = (expected[name].as_u64().unwrap() + result["total"][name].as_u64().unwrap()).into();
            assert!(result[name].as_u64() <= result["total"][name].as_u64(), "{args:?}: {result}");
        }
        let logged = logged(&server, tenant);
        for name in ["allowed", "denied"] {
            assert_eq!(logged[name], expected[name], "{args:?}: {result}");
        }
        // Every denial is an intended one.
        let meant = |code: &str| logged[code].as_u64().unwrap();
        assert!(meant("PERMISSION_DENIED") > 0 && meant("ARGUMENT_NOT_ALLOWED") > 0, "{logged}");
        assert_eq!(logged["denied"], meant("PERMISSION_DENIED") + meant("ARGUMENT_NOT_ALLOWED"), "{logged}");
    }
}

#[test]
fn a_fixed_rate_sends_exactly_what_was_due() {
    let (server, home) = (Server::start(), tempfile::tempdir().unwrap());
    let file = make_targets(&server, home.path(), &["--agents", "2"]);
    let args = ["--targets", file.to_str().unwrap(), "--rate", "300", "--duration", "1s", "--warmup", "0.5"];
    let result = result(server.base(), &args);
    assert_eq!(
        (&result["mode"], &result["targetRate"], &result["connections"]),
        (&json!("open"), &json!(300), &json!(64))
    );
    assert_eq!((&result["requests"], &result["total"]["requests"]), (&json!(300), &json!(450)));
    assert_eq!((&result["allowed"], &result["denied"]), (&json!(270), &json!(30)));
    let latency = |name: &str| result["latencyMicros"][name].as_f64().unwrap();
    let order = ["min", "p50", "p90", "p99", "p999", "max"].map(latency);
    assert!(order[0] > 0.0 && order.is_sorted(), "{result}");
    for name in ["bytesSent", "bytesReceived", "clientCpuSeconds", "durationSeconds", "requestsPerSecond"] {
        assert!(result[name].as_f64().unwrap() > 0.0, "{name}: {result}");
    }
}

#[test]
fn the_share_of_denials_is_as_requested() {
    let (server, home) = (Server::start(), tempfile::tempdir().unwrap());
    let file = make_targets(&server, home.path(), &["--agents", "3", "--budgets", "0"]);
    // Every call of a round through all bodies, through both routes.
    for (share, route) in [("0", "0"), ("1", "0"), ("0", "20"), ("1", "20"), ("0.5", "20")] {
        let args = ["--targets", file.to_str().unwrap(), "--deny-share", share, "--batch", route];
        let size: u64 = route.parse::<u64>().unwrap().max(1);
        let rate = if size == 1 { "1000" } else { "64" };
        let result =
            result(server.base(), &[&args[..], &["--rate", rate, "--duration", "1", "--warmup", "0"]].concat());
        let decisions = result["decisions"].as_u64().unwrap();
        assert_eq!(decisions, rate.parse::<u64>().unwrap() * size);
        let wanted = if share == "0.5" { decisions / 2 } else { decisions * share.parse::<u64>().unwrap() };
        assert_eq!(result["denied"], wanted, "{share} by {route}: {result}");
    }
}

#[test]
fn tenants_agents_and_policies_are_created_charged_and_deleted() {
    let (server, home) = (Server::start(), tempfile::tempdir().unwrap());
    let operator = server.operator();
    let kept = operator.tenant("kept");
    let file = make_targets(&server, home.path(), &["--tenants", "3", "--agents", "12", "--budgets", "4"]);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let made = read(&file);
    let tenants = made["tenants"].as_array().unwrap();
    assert_eq!(tenants.len(), 3);
    for tenant in tenants {
        assert!(tenant["slug"].as_str().unwrap().starts_with("load-"), "{tenant}");
        let id = tenant["id"].as_str().unwrap();
        let agents = operator.get(&format!("/v1/agents?tenantId={id}")).items();
        assert_eq!((agents.len(), tenant["agents"].as_array().unwrap().len()), (12, 12));
        assert!(agents.iter().all(|agent| agent["permissions"].as_array().unwrap().len() == 8));
        // Two of the tenant, one of each of two owners, one of each agent.
        assert_eq!(operator.get(&format!("/v1/policies?tenantId={id}")).items().len(), 2 + 2 + 12);
    }
    let args = ["--targets", file.to_str().unwrap(), "--rate", "300", "--duration", "0.5", "--warmup", "0"];
    let result = result(server.base(), &args);
    // Each allowed call is charged to each of its four policies.
    let mut charged = 0;
    for tenant in tenants {
        let policies = operator.get(&format!("/v1/policies?tenantId={}", tenant["id"].as_str().unwrap())).items();
        charged += policies.iter().map(|policy| policy["currentUsage"]["callsToday"].as_u64().unwrap()).sum::<u64>();
    }
    assert_eq!(charged, 4 * result["total"]["allowed"].as_u64().unwrap(), "{result}");

    // A file may name any tenant; only what a load created is deleted.
    let mut other = made.clone();
    other["tenants"].as_array_mut().unwrap().push(json!({ "id": kept.id, "slug": kept.slug, "agents": [] }));
    fs::write(&file, other.to_string()).unwrap();
    let output = run(server.base(), &[&args[..], &["--clean-up", "--key", OPERATOR_KEY]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let left: Vec<Value> = operator.get("/v1/tenants").items();
    assert_eq!(left.iter().map(|tenant| &tenant["slug"]).collect::<Vec<_>>(), ["kept"]);
}

#[test]
fn the_table_and_the_plot_show_the_result() {
    let (server, home) = (Server::start(), tempfile::tempdir().unwrap());
    let plot = home.path().join("latency.svg");
    let args = ["--key", OPERATOR_KEY, "--agents", "2", "--rate", "200", "--duration", "1", "--clean-up", "--plot"];
    let output = run(server.base(), &[&args[..], &[plot.to_str().unwrap()]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let table = String::from_utf8(output.stdout).unwrap();
    for text in ["open loop, 64 connections, 1.0 s", "of 200 due", "PERMISSION_DENIED", "p99.9", "own processor time"] {
        assert!(table.contains(text), "{text}: {table}");
    }
    // Without a terminal there are no bars.
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    let svg = fs::read_to_string(plot).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("<polyline") && svg.ends_with("</svg>\n"), "{svg}");
    assert!(server.operator().get("/v1/tenants").items().is_empty());
}

#[test]
fn a_load_that_cannot_run_says_why_in_a_sentence() {
    let (server, home) = (Server::start(), tempfile::tempdir().unwrap());
    let url = server.base();
    let missing = home.path().join("none.json");
    let missing = missing.to_str().unwrap();
    assert!(failure("http://127.0.0.1:1", &[], 1).contains("no server can be reached at http://127.0.0.1:1"));
    assert!(failure(url, &[], 1).contains("--key or KAVACH_OPERATOR_KEY is needed"));
    let wrong = failure(url, &["--key", "kvo_not-the-operator-key-of-this-server-at-all"], 1);
    assert!(wrong.contains("refuses the key") && wrong.contains("INVALID_TOKEN"), "{wrong}");
    assert!(failure(url, &["--targets", missing], 1).contains("none.json"));
    assert!(failure(url, &["--targets", missing, "--clean-up"], 1).contains("--clean-up needs"));
    let nowhere = home.path().join("no/where");
    let nowhere = nowhere.to_str().unwrap();
    assert!(failure(url, &["--key", OPERATOR_KEY, "--save", nowhere], 1).contains("can't be written"));
    // Nothing was created for a file that can't be written.
    assert!(server.operator().get("/v1/tenants").items().is_empty());
    assert!(failure(url, &["--rate", "none"], 2).contains("--rate"));
    // Tokens that the server doesn't know.
    let file = tokens(home.path(), 1);
    let refused = run(url, &["--targets", file.to_str().unwrap(), "--rate", "50", "--duration", "0.2", "--json"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no request"), "{refused:?}");
    let result: Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert_eq!(result["errors"], json!({ "401 INVALID_TOKEN": 10 }));
}

#[test]
fn an_interrupt_ends_a_load_with_the_result_so_far() {
    let (home, server) = (tempfile::tempdir().unwrap(), Puppet::start(|_| Deed::Answer("HTTP/1.1 200 OK", "ok")));
    let file = tokens(home.path(), 1);
    let args = ["--targets", file.to_str().unwrap(), "--rate", "500", "--duration", "1h", "--warmup", "0", "--json"];
    let child: Child = command(&server.url, &args).spawn().unwrap();
    eventually("a hundred requests came", || (server.requests() > 100).then_some(()));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(result["requests"].as_u64().unwrap() >= 100, "{result}");
    assert!(result["durationSeconds"].as_f64().unwrap() < 3600.0, "{result}");
    assert_eq!(result["total"]["requests"], server.requests());
}

/// How long the puppet stalls.
const STALL: Duration = Duration::from_millis(300);

#[test]
fn a_stall_counts_for_every_request_that_was_due_meanwhile() {
    let home = tempfile::tempdir().unwrap();
    let server = Puppet::start(|n| if n == 200 { Deed::Stall } else { Deed::Answer("HTTP/1.1 200 OK", "ok") });
    let file = tokens(home.path(), 5);
    let args = ["--rate", "1000", "--connections", "8", "--duration", "1", "--warmup", "0"];
    let open = result(&server.url, &[&["--targets", file.to_str().unwrap()], &args[..]].concat());
    // A thousand were due, one per millisecond. The stall began after the 200th was due: that one and those due within
    // the next 10 ms waited for all of it, or all but 10 ms.
    assert_eq!((&open["requests"], &open["errors"]), (&json!(1000), &json!({})));
    let waited = |result: &Value, name: &str| result["latencyMicros"][name].as_f64().unwrap();
    let stall = STALL.as_secs_f64() * 1e6;
    assert!(waited(&open, "max") >= stall, "{open}");
    assert!(waited(&open, "p99") >= stall - 20_000.0, "{open}");
    // Of all thousand, those due in the stall's first half waited for its second half.
    assert!(waited(&open, "p90") >= stall / 2.0, "{open}");
}

#[test]
fn a_closed_loop_meets_the_stall_once() {
    let home = tempfile::tempdir().unwrap();
    let server = Puppet::start(|n| if n == 50 { Deed::Stall } else { Deed::Answer("HTTP/1.1 200 OK", "ok") });
    let file = tokens(home.path(), 5);
    let args = ["--connections", "1", "--duration", "2", "--warmup", "0"];
    let closed = result(&server.url, &[&["--targets", file.to_str().unwrap()], &args[..]].concat());
    assert_eq!(closed["total"]["requests"], server.requests());
    if closed["requests"].as_u64().unwrap() > 50 {
        assert!(closed["latencyMicros"]["max"].as_f64().unwrap() >= STALL.as_secs_f64() * 1e6, "{closed}");
    }
}

#[test]
fn another_servers_answers_are_not_errors() {
    let home = tempfile::tempdir().unwrap();
    let file = tokens(home.path(), 3);
    let server = Puppet::start(|n| match n % 3 {
        0 => Deed::Answer("HTTP/1.1 200 OK", "fixed bytes"),
        1 => Deed::Answer("HTTP/1.1 503 Service Unavailable", r#"{"status":503,"code":"OVERLOADED"}"#),
        _ => Deed::Close,
    });
    let args = ["--rate", "100", "--connections", "1", "--duration", "0.9", "--warmup", "0"];
    let result = result(&server.url, &[&["--targets", file.to_str().unwrap()], &args[..]].concat());
    assert_eq!((&result["requests"], &result["decisions"], &result["allowed"]), (&json!(30), &json!(0), &json!(0)));
    assert_eq!(result["errors"], json!({ "503 OVERLOADED": 30, "closed": 30 }));
    // Every request was complete, each by an agent of the file.
    assert_eq!(server.requests(), 90);
}

#[test]
fn requests_that_never_get_an_answer_are_reported() {
    let home = tempfile::tempdir().unwrap();
    let server = Puppet::start(|n| if n < 5 { Deed::Answer("HTTP/1.1 200 OK", "ok") } else { Deed::Never });
    let file = tokens(home.path(), 3);
    let args = ["--rate", "100", "--connections", "1", "--duration", "0.5", "--warmup", "0"];
    let result = result(&server.url, &[&["--targets", file.to_str().unwrap()], &args[..]].concat());
    // One was sent; those behind it never were.
    assert_eq!((&result["requests"], &result["errors"]), (&json!(5), &json!({ "timeout": 45 })));
    assert_eq!(server.requests(), 6);
    // They count with the time they waited, until 5 seconds after the end.
    assert!(result["latencyMicros"]["p50"].as_f64().unwrap() >= 5e6, "{result}");
}

/// A file of that many agents with tokens that the server never issued.
fn tokens(home: &Path, count: usize) -> PathBuf {
    let agents: Vec<Value> =
        (0..count).map(|n| json!({ "id": format!("agt_{n}"), "token": format!("kv_{n}") })).collect();
    let file = home.join("tokens.json");
    fs::write(&file, json!({ "tenants": [{ "id": "tnt_1", "slug": "none", "agents": agents }] }).to_string()).unwrap();
    file
}

/// What a puppet does with a request.
enum Deed {
    /// Answers with that status line and body.
    Answer(&'static str, &'static str),
    /// Answers nobody for [`STALL`], and then everybody.
    Stall,
    /// Closes the connection.
    Close,
    /// Never answers.
    Never,
}

/// A server that follows a script for each request, by its number.
struct Puppet {
    url: String,
    requests: Arc<AtomicUsize>,
}

impl Puppet {
    fn start(deed: impl Fn(usize) -> Deed + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let (count, deed, turn) = (Arc::clone(&requests), Arc::new(deed), Arc::new(Mutex::new(())));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (count, deed, turn) = (Arc::clone(&count), Arc::clone(&deed), Arc::clone(&turn));
                // A broken connection ends its thread.
                std::thread::spawn(move || serve(stream.ok()?, &count, &*deed, &turn));
            }
        });
        Self { url, requests }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn serve(stream: TcpStream, count: &AtomicUsize, deed: &dyn Fn(usize) -> Deed, turn: &Mutex<()>) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut input = BufReader::new(stream.try_clone().ok()?);
    let mut output = stream;
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if input.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse().ok()?;
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        input.read_exact(&mut body).ok()?;
        let _: Value = serde_json::from_slice(&body).ok()?;
        let (status, body) = match deed(count.fetch_add(1, Ordering::SeqCst)) {
            Deed::Answer(status, body) => (status, body),
            Deed::Stall => {
                let _turn = turn.lock().unwrap();
                std::thread::sleep(STALL);
                ("HTTP/1.1 200 OK", "late")
            }
            Deed::Close => return None,
            Deed::Never => {
                // Until the other side gives up.
                let _ = input.read(&mut [0]);
                return None;
            }
        };
        let _turn = turn.lock().unwrap();
        write!(output, "{status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).ok()?;
    }
}

//! Gateways: a real nginx in front of an upstream, and the requests of Traefik and Envoy.

use std::cell::Cell;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Answer, Client, send_bytes};
use crate::harness::{OPERATOR_KEY, Options, Server, eventually};
use crate::world::Agent;

/// The documentation's example, which runs here.
const NGINX: &str = include_str!("../../docs/gateways/nginx.conf");

/// An upstream that answers everything with 200, and the requests it got: request lines and headers.
struct Upstream {
    address: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Upstream {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let noted = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let noted = Arc::clone(&noted);
                std::thread::spawn(move || answer_one(stream.unwrap(), &noted));
            }
        });
        Self { address, seen }
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

fn answer_one(stream: TcpStream, noted: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(&stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        // A port check sends nothing.
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return;
        }
    }
    let lower = head.to_lowercase();
    let length = lower.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse().ok());
    reader.read_exact(&mut vec![0; length.unwrap_or(0)]).unwrap();
    noted.lock().unwrap().push(lower);
    let _ = (&stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello");
}

/// An nginx that runs as the tests' user, in its own directory.
struct Nginx {
    child: Child,
    address: String,
    home: TempDir,
}

impl Nginx {
    fn start(kavach: &str, upstream: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let mut site = NGINX.to_owned();
        for (example, ours) in [
            ("server 127.0.0.1:7600;", format!("server {kavach};")),
            ("server 127.0.0.1:9000;", format!("server {upstream};")),
            ("listen 8080;", format!("listen {address};")),
        ] {
            assert_eq!(site.matches(example).count(), 1, "{example}");
            site = site.replace(example, &ours);
        }
        std::fs::write(home.path().join("site.conf"), site).unwrap();
        let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {}/{kind};", home.path().display()))
            .concat();
        let main = format!(
            "daemon off; master_process off; worker_processes 1; pid {0}/nginx.pid; error_log {0}/error.log;\n\
             events {{ worker_connections 64; }}\n\
             http {{ access_log off; {paths} include {0}/site.conf; }}\n",
            home.path().display()
        );
        std::fs::write(home.path().join("nginx.conf"), main).unwrap();
        let log = home.path().join("error.log");
        let child = command(home.path(), &log).spawn().unwrap_or_else(|problem| {
            panic!("nginx can't be started ({problem}): install it, on Debian by 'apt-get install nginx-light'")
        });
        let mut this = Self { child, address, home };
        eventually("nginx listens", || {
            let ended = this.child.try_wait().unwrap();
            assert!(ended.is_none(), "nginx ended: {}", this.log());
            TcpStream::connect(&this.address).ok()
        });
        this
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("error.log")).unwrap_or_default()
    }

    fn client(&self, token: Option<&str>) -> Client {
        Client::new(&format!("http://{}", self.address), token.map(|token| format!("Bearer {token}")).as_deref())
    }

    /// Sends exactly this request line, which no client library would send.
    fn raw(&self, token: &str, line: &str, headers: &str) -> Answer {
        let request = format!(
            "{line} HTTP/1.1\r\nHost: app\r\nAuthorization: Bearer {token}\r\n{headers}Connection: close\r\n\r\n"
        );
        send_bytes(&self.address, request.as_bytes()).unwrap_or_else(|problem| panic!("{line}: {problem}"))
    }
}

fn command(home: &Path, log: &Path) -> Command {
    let mut command = Command::new("nginx");
    // Debian installs it outside an ordinary user's path.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command.arg("-p").arg(home).arg("-e").arg(log).arg("-c").arg(home.join("nginx.conf"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("nginx's last words:\n{}", self.log());
        }
    }
}

fn kavach(kind: &'static str) -> Server {
    Server::start_with(Options::args(&["--forward-auth", kind, "--trusted-proxies", "127.0.0.1"]))
}

/// An agent of `acme` that may get documents, and `slow` things twice an hour.
fn agent(operator: &Client) -> Agent {
    operator.tenant("acme");
    let permissions = json!([
        { "resource": "http:docs:*", "actions": ["get", "head"] },
        { "resource": "http:slow", "actions": ["get"], "constraints": { "maxCallsPerHour": 2 } },
        { "resource": "http:near", "actions": ["get"], "constraints": { "ipAllowlist": ["127.0.0.1"] } },
    ]);
    operator.agent("acme", permissions)
}

fn newest(operator: &Client) -> Value {
    operator.get("/v1/audit?tenantId=acme&limit=1").items().first().cloned().unwrap_or_default()
}

#[test]
fn nginx_lets_through_what_kavach_allows_and_nothing_else() {
    let mut server = kavach("nginx");
    let operator = server.operator();
    let agent = agent(&operator);
    let upstream = Upstream::start();
    let nginx = Nginx::start(server.host(), &upstream.address);
    let client = nginx.client(Some(&agent.token));
    let decisions = Cell::new(0);
    let recorded = |what: &str| {
        let trail = operator.trail("tenantId=acme");
        assert_eq!(trail.len(), decisions.get(), "{what}: each decision is recorded, once");
        trail.first().cloned().unwrap_or_default()
    };
    let decided = |what: &str| {
        decisions.set(decisions.get() + 1);
        recorded(what)
    };

    // Allowed: the upstream learns the caller, but not the token.
    let trace = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".as_slice();
    let spoofed = b"agt_spoofed".as_slice();
    let headers = [
        ("traceparent", trace),
        ("Kavach-Agent-Id", spoofed),
        ("Kavach-Audit-Id", spoofed),
        ("Kavach-Warnings", spoofed),
        ("User-Agent", b"bot/1"),
    ];
    let answer = client.try_send("GET", "/docs/1?q=1", &headers, None).unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
    let entry = decided("allowed");
    for (member, value) in [
        ("agentId", json!(agent.id)),
        ("action", json!("get")),
        ("resource", json!("http:docs:1")),
        ("result", json!("allowed")),
        ("ip", json!("127.0.0.1")),
        ("userAgent", json!("bot/1")),
        ("traceId", json!("4bf92f3577b34da6a3ce929d0e0e4736")),
        ("parameters", json!({})),
    ] {
        assert_eq!(entry[member], value, "{member}: {entry}");
    }
    let seen = upstream.take();
    let [seen] = seen.as_slice() else { panic!("{seen:?}") };
    assert!(seen.starts_with("get /docs/1?q=1 http/1."), "{seen}");
    assert!(!seen.contains("authorization") && !seen.contains("spoofed"), "{seen}");
    let tenant = entry["tenantId"].as_str().unwrap();
    for (name, value) in [("agent", &*agent.id), ("tenant", tenant), ("audit", entry["id"].as_str().unwrap())] {
        assert_eq!(seen.matches(&format!("kavach-{name}-id: {value}\r\n")).count(), 1, "{name}: {seen}");
    }
    assert_eq!(client.send("HEAD", "/docs/1", None).status, 200);
    assert_eq!(decided("a HEAD")["action"], "head");
    assert_eq!(upstream.take().len(), 1);

    // A body does not get in the way, and plays no part in the decision.
    let answer = client.post("/docs/1", json!({ "a": "x".repeat(100_000) }));
    assert_eq!((answer.status, answer.header("kavach-code")), (403, Some("PERMISSION_DENIED")));
    let entry = decided("a POST");
    assert_eq!(entry["action"], "post");
    assert_eq!(answer.header("kavach-audit-id"), entry["id"].as_str());
    assert_eq!(answer.header("kavach-reason"), entry["reason"].as_str());
    let answer = client.get("/other/1");
    assert_eq!((answer.status, answer.header("kavach-code")), (403, Some("PERMISSION_DENIED")));
    decided("another path");

    // Callers without a valid token, and callers that are not agents.
    for (token, status) in [(None, 401), (Some("no-token"), 401), (Some(OPERATOR_KEY), 403)] {
        let answer = nginx.client(token).get("/docs/1");
        assert_eq!(answer.status, status, "{token:?}");
        assert_eq!(answer.header("www-authenticate").is_some(), status == 401, "{token:?}");
        let code = (status == 403).then_some("FORBIDDEN");
        assert_eq!(answer.header("kavach-code"), code, "{token:?}");
    }
    recorded("nothing was decided");

    // A used-up rate.
    for _ in 0..2 {
        assert_eq!(client.get("/slow").status, 200);
        decided("within the rate");
    }
    let answer = client.get("/slow");
    assert_eq!((answer.status, answer.header("kavach-code")), (429, Some("RATE_LIMITED")));
    assert!(answer.header("retry-after").unwrap().parse::<u64>().is_ok_and(|seconds| seconds > 0));
    assert_eq!(decided("past the rate")["result"], "rate_limited");
    assert_eq!(upstream.take().len(), 2);

    // A client's claims about its own request don't count.
    for (name, value) in [
        ("X-Original-URI", "/docs/1"),
        ("X-Original-Method", "GET"),
        ("X-Forwarded-Uri", "/docs/1"),
        ("X-Forwarded-Method", "GET"),
        ("X-Original_URI", "/docs/1"),
    ] {
        let answer = nginx.raw(&agent.token, "DELETE /other/2", &format!("{name}: {value}\r\n"));
        assert_eq!(answer.status, 403, "{name}");
        let entry = decided(name);
        assert_eq!((&entry["action"], &entry["resource"]), (&json!("delete"), &json!("http:other:2")), "{name}");
    }
    let answer = nginx.raw(&agent.token, "GET /near", "X-Forwarded-For: 192.0.2.1\r\n");
    assert_eq!(answer.status, 200, "nginx says where it came from");
    decided("a forwarded address");
    assert_eq!(upstream.take().len(), 1);

    // Paths that a program may read differently reach neither a decision nor the upstream.
    for path in [
        "/docs/../other",
        "/docs/%2e%2e/other",
        "/docs/..%2fother",
        "/docs//1",
        "//docs/1",
        "/docs/1;x=1",
        "/docs:1",
        "/docs/a%3ab",
        "/docs/*",
        "/docs/%2A",
        "/docs/%252e",
        "/docs/a%5cb",
        "/docs/./1",
    ] {
        let answer = nginx.raw(&agent.token, &format!("GET {path}"), "");
        assert_eq!((answer.status, answer.header("kavach-code")), (403, Some("UNMAPPED_REQUEST")), "{path}");
    }
    recorded("nothing was decided");
    let long = format!("GET /docs/{}", "x".repeat(600));
    let answer = nginx.raw(&agent.token, &long, "");
    assert_eq!((answer.status, answer.header("kavach-code")), (403, Some("PERMISSION_DENIED")));
    assert!(answer.header("kavach-reason").unwrap().contains("512"), "{answer:?}");
    decided("a path that is too long");
    let deep = format!("GET /docs{}", "/x".repeat(40));
    assert_eq!(nginx.raw(&agent.token, &deep, "").status, 403);
    decided("a path that is too deep");
    // Another spelling of a path is that path.
    assert_eq!(nginx.raw(&agent.token, "GET /%64ocs/a%20b/", "").status, 200);
    assert_eq!(decided("an encoded path")["resource"], "http:docs:a b");
    assert_eq!(upstream.take().len(), 1);

    // A suspended tenant, and a server that is down: nobody gets through.
    operator.post("/v1/tenants/acme/suspend", json!({})).expect(200);
    let answer = client.get("/docs/1");
    assert_eq!((answer.status, answer.header("kavach-code")), (403, Some("TENANT_SUSPENDED")));
    decided("a suspended tenant");
    operator.post("/v1/tenants/acme/activate", json!({})).expect(200);
    assert_eq!(client.get("/docs/1").status, 200);
    decided("an active tenant");
    assert_eq!(upstream.take().len(), 1);
    server.kill();
    assert_eq!(client.get("/docs/1").status, 500);
    assert_eq!(upstream.take(), Vec::<String>::new());
}

#[test]
fn too_many_wrong_tokens_are_403_to_nginx() {
    let server = kavach("nginx");
    let client = server.with_key("nobody").forwarded_for("192.0.2.7");
    let statuses: Vec<_> = (0..120).map(|_| client.get("/v1/forward-auth").status).collect();
    assert!(statuses.iter().all(|status| [401, 403].contains(status)), "{statuses:?}");
    assert_eq!((statuses[0], statuses[119]), (401, 403));
}

#[test]
fn traefik_is_answered() {
    let server = kavach("traefik");
    let operator = server.operator();
    let agent = agent(&operator);
    let client = server.with_key(&agent.token).forwarded_for("198.51.100.7");
    // Traefik's ForwardAuth sends a GET to one address, with the original request in these headers.
    let ask = |method: &str, uri: &str, more: &[(&str, &[u8])]| {
        let mut headers: Vec<(&str, &[u8])> = vec![
            ("X-Forwarded-Method", method.as_bytes()),
            ("X-Forwarded-Proto", b"https"),
            ("X-Forwarded-Host", b"app.example.com"),
            ("X-Forwarded-Uri", uri.as_bytes()),
            ("X-Forwarded-Port", b"443"),
            ("X-Forwarded-Server", b"edge"),
            ("X-Real-Ip", b"198.51.100.7"),
        ];
        headers.extend_from_slice(more);
        client.try_send("GET", "/v1/forward-auth", &headers, None).unwrap()
    };
    let answer = ask("GET", "/docs/1?x=1", &[("X-Original-URI", b"/other"), ("X-Original-Method", b"DELETE")]);
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    let entry = newest(&operator);
    assert_eq!((&entry["resource"], &entry["ip"]), (&json!("http:docs:1"), &json!("198.51.100.7")));
    assert_eq!(answer.header("kavach-agent-id"), Some(&*agent.id));
    assert_eq!(answer.header("kavach-tenant-id"), entry["tenantId"].as_str());
    assert_eq!(answer.header("kavach-audit-id"), entry["id"].as_str());
    assert_eq!(answer.header("kavach-warnings"), Some("0"));
    // Anything but a 2xx reaches the client unchanged, with the reason.
    let answer = ask("DELETE", "/docs/1", &[]);
    answer.problem(403, "PERMISSION_DENIED");
    assert_eq!(answer.json()["details"]["auditId"], newest(&operator)["id"]);
    for _ in 0..2 {
        assert_eq!(ask("GET", "/slow", &[]).status, 200);
    }
    let answer = ask("GET", "/slow", &[]);
    assert_eq!((answer.status, answer.json()["code"].as_str()), (429, Some("RATE_LIMITED")));
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert_eq!(answer.json()["details"]["retryAfter"], seconds);
    // One header is missing, or repeated.
    ask("GET", "/docs/1", &[("X-Forwarded-Uri", b"/docs/2")]).problem(403, "UNMAPPED_REQUEST");
    ask("GET", "/docs/1", &[("X-Forwarded-Method", b"GET")]).problem(403, "UNMAPPED_REQUEST");
    ask("GET", "/docs/1", &[("X-Forwarded-Host", b"app")]).problem(403, "UNMAPPED_REQUEST");
    let hostless = [("X-Forwarded-Method", &b"GET"[..]), ("X-Forwarded-Uri", b"/docs/1")];
    let hostless = client.try_send("GET", "/v1/forward-auth", &hostless, None).unwrap();
    assert!(hostless.problem(403, "UNMAPPED_REQUEST").contains("X-Forwarded-Host"));
    client.get("/v1/forward-auth").problem(403, "UNMAPPED_REQUEST");
    client.get("/v1/forward-auth/docs/1").problem(403, "UNMAPPED_REQUEST");
    let before = operator.trail("tenantId=acme").len();
    server.anonymous().get("/v1/forward-auth").problem(401, "UNAUTHENTICATED");
    server.with_key("kv_x").get("/v1/forward-auth").problem(401, "INVALID_TOKEN");
    server.operator().get("/v1/forward-auth").problem(403, "FORBIDDEN");
    assert_eq!(operator.trail("tenantId=acme").len(), before);
    // Too many from one address: like any other refusal it has the reason in headers too.
    let nobody = server.anonymous().forwarded_for("192.0.2.9");
    let refused = (0..1_000).map(|_| nobody.get("/v1/forward-auth")).find(|answer| answer.status != 401).unwrap();
    let sentence = refused.problem(429, "AUTH_RATE_LIMITED");
    assert_eq!(refused.header("kavach-code"), Some("AUTH_RATE_LIMITED"));
    assert_eq!(refused.header("kavach-reason"), Some(&*sentence));
    assert!(refused.header("retry-after").is_some());
}

#[test]
fn envoy_is_answered() {
    let server = kavach("envoy");
    let operator = server.operator();
    let agent = agent(&operator);
    // Envoy's ext_authz sends the original method and host, the path behind a prefix, and no body.
    let ask = |method: &str, path: &str, more: &str| {
        let request = format!(
            "{method} /v1/forward-auth{path} HTTP/1.1\r\nHost: app.example.com\r\nContent-Length: 0\r\n\
             Authorization: Bearer {}\r\nX-Envoy-Internal: true\r\nX-Forwarded-For: 198.51.100.7\r\n{more}\
             Connection: close\r\n\r\n",
            agent.token
        );
        send_bytes(server.host(), request.as_bytes()).unwrap_or_else(|problem| panic!("{method} {path}: {problem}"))
    };
    let allowed = ask("GET", "/docs/1?x=1", "");
    assert_eq!((allowed.status, allowed.header("kavach-agent-id")), (200, Some(&*agent.id)));
    assert_eq!(newest(&operator)["resource"], "http:docs:1");
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"] {
        let headers = "X-Original-Method: GET\r\nX-Forwarded-Method: GET\r\nX-HTTP-Method-Override: GET\r\n";
        ask(method, "/docs/1", headers).problem(403, "PERMISSION_DENIED");
        assert_eq!(newest(&operator)["action"], method.to_lowercase());
    }
    let client = server.with_key(&agent.token);
    assert_eq!(client.send("HEAD", "/v1/forward-auth/docs/1", None).status, 200);
    let long = format!("/docs/{}", "x".repeat(600));
    for path in ["", "?x=1", "//docs/1", "/docs//1", "/docs/../x", "/docs/%2e%2e/x", "/docs/a%2fb", "/docs:1"] {
        ask("GET", path, "").problem(403, "UNMAPPED_REQUEST");
    }
    // What comes before a '#' is not the path: no client sends one.
    for path in ["/docs/1#x", "/docs#/1", "#", "/docs/1?x#y"] {
        assert_eq!(ask("GET", path, "").status, 400, "{path}");
    }
    ask("GET", "/docs/1", &format!("Authorization: Bearer {}\r\n", agent.token)).problem(401, "UNAUTHENTICATED");
    ask("GET", &long, "").problem(403, "PERMISSION_DENIED");
    server.anonymous().get("/v1/forward-authx").problem(404, "ROUTE_NOT_FOUND");
    ask("GET", "x/docs/1", "").problem(404, "ROUTE_NOT_FOUND");
}

#[test]
fn rules_come_from_a_file_and_a_wrong_one_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules.json");
    std::fs::write(
        &file,
        r#"{"rules": [
            {"host": "git.example.com", "path": "/api/{repo}/issues/{id}", "action": "{crud}", "resource": "repo:{repo}:issue:{id}"},
            {"methods": ["POST"], "path": "/mcp", "action": "call", "resource": "mcp:{header.x-mcp-tool}"}
        ]}"#,
    )
    .unwrap();
    let path: &'static str = Box::leak(file.display().to_string().into_boxed_str());
    let options =
        Options { env: vec![("KAVACH_FORWARD_AUTH_RULES", path)], ..Options::args(&["--forward-auth", "envoy"]) };
    let mut server = Server::start_with(options);
    let operator = server.operator();
    operator.tenant("acme");
    let agent = operator.agent(
        "acme",
        json!([
            { "resource": "repo:core:issue:*", "actions": ["read", "update"] },
            { "resource": "mcp:search", "actions": ["call"] },
        ]),
    );
    let ask = |host: &str, line: &str, more: &str| {
        let token = &agent.token;
        let request = format!(
            "{line} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n{more}Connection: close\r\n\r\n"
        );
        let answer = send_bytes(server.host(), request.as_bytes()).unwrap();
        (answer.status, answer.header("kavach-code").map(str::to_owned))
    };
    let no = |code: &str| (403, Some(code.to_owned()));
    let issue = "PATCH /v1/forward-auth/api/core/issues/7";
    assert_eq!(ask("Git.Example.com:443", issue, ""), (200, None));
    assert_eq!(ask("git.example.com", &issue.replace("PATCH", "DELETE"), ""), no("PERMISSION_DENIED"));
    assert_eq!(ask("git.example.com", &issue.replace("core", "other"), ""), no("PERMISSION_DENIED"));
    assert_eq!(ask("other.example.com", issue, ""), no("UNMAPPED_REQUEST"));
    assert_eq!(ask("x", "POST /v1/forward-auth/mcp", "X-Mcp-Tool: search\r\n"), (200, None));
    assert_eq!(ask("x", "POST /v1/forward-auth/mcp", ""), no("UNMAPPED_REQUEST"));
    let twice = "X-Mcp-Tool: search\r\nX-Mcp-Tool: search\r\n";
    assert_eq!(ask("x", "POST /v1/forward-auth/mcp", twice), no("UNMAPPED_REQUEST"));
    assert_eq!(ask("x", "GET /v1/forward-auth/mcp", "X-Mcp-Tool: search\r\n"), no("UNMAPPED_REQUEST"));
    let resources: Vec<_> = operator.trail("tenantId=acme").iter().map(|entry| entry["resource"].clone()).collect();
    assert_eq!(resources, ["mcp:search", "repo:other:issue:7", "repo:core:issue:7", "repo:core:issue:7"]);

    server.stop();
    std::fs::write(&file, r#"{"rules": [{"path": "/a", "resource": "a:{b}"}]}"#).unwrap();
    let said = server.try_start_again().unwrap_err();
    assert!(said.contains(path) && said.contains("rules[0].resource"), "{said}");
}

#[test]
fn the_documentation_shows_the_configuration_that_is_tested() {
    let page = include_str!("../../docs/gateways.md");
    assert!(page.contains(&format!("```nginx\n{NGINX}```")), "docs/gateways.md shows another nginx.conf");
}

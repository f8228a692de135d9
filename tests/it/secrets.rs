//! No secret is stored, logged or shown, whatever callers do with it.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use actix_web::http::Method;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kavach::api::endpoints;
use serde_json::{Value, json};

use crate::client::{Answer, Client, send_bytes};
use crate::harness::{OPERATOR_KEY, Options, Server, eventually};
use crate::leaks::Pieces;
use crate::world::{Agent, call};

fn files_under(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files_under(&path, found) } else { found.push(path) }
    }
}

/// Every file in the folder with its bytes, sealed segments uncompressed.
fn files_of(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut paths = Vec::new();
    files_under(folder, &mut paths);
    let mut files = Vec::new();
    for path in paths {
        let bytes = fs::read(&path).unwrap();
        if path.extension().is_some_and(|ending| ending == "zst") {
            files.push((format!("{} as it was", path.display()), zstd::decode_all(&*bytes).unwrap()));
        }
        files.push((path.display().to_string(), bytes));
    }
    files
}

/// A run of the server, and everything it said.
struct Scene {
    server: Server,
    said: Vec<(String, Vec<u8>)>,
    secrets: Vec<(String, String)>,
}

/// 32 random bytes in base64url, as keys have them.
fn random() -> String {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).unwrap();
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Scene {
    fn start(args: &[&'static str]) -> Self {
        let key: &'static str = Box::leak(format!("kvo_{}", random()).into_boxed_str());
        let env = vec![("RUST_LOG", "trace"), ("KAVACH_OPERATOR_KEY", key)];
        let server = Server::start_with(Options { env, args: args.to_vec(), ..Options::default() });
        Self { server, said: Vec::new(), secrets: vec![("the operator key".to_owned(), key.to_owned())] }
    }

    fn operator(&self) -> Client {
        self.server.with_key(&self.secrets[0].1)
    }

    fn keep(&mut self, name: &str, secret: &str) {
        self.secrets.push((name.to_owned(), secret.to_owned()));
    }

    fn note(&mut self, what: String, answer: &Answer) {
        for (name, value) in &answer.headers {
            self.said.push((format!("{what}: {name}"), value.as_bytes().to_vec()));
        }
        self.said.push((what, answer.body.clone()));
    }

    fn ask(&mut self, client: &Client, method: &str, path: &str, body: Option<&Value>) {
        let body = body.map(Value::to_string);
        let what = format!("{method} {path} {}", body.as_deref().unwrap_or_default());
        // If the client can't even send a path or a header, it does not matter.
        if let Ok(answer) = client.try_send(method, path, &[], body.as_deref().map(str::as_bytes)) {
            self.note(what, &answer);
        }
    }

    /// Makes one of every kind of secret, and some that are almost one.
    fn make_secrets(&mut self) -> (String, Agent) {
        let operator = self.operator();
        let (acme, globex) = (operator.tenant("acme"), operator.tenant("globex"));
        self.keep("a tenant key", &acme.key);
        self.keep("a revoked tenant key", &globex.key);
        operator.delete(&format!("/v1/tenants/globex/keys/{}", globex.key_id)).expect(204);
        let agent = operator.reader(&acme);
        self.keep("a token in its grace", &agent.token);
        let rotate = |grace: u64| {
            let body = json!({ "graceSeconds": grace });
            Agent::from(&operator.post(&format!("/v1/agents/{}/rotate", agent.id), body).expect(200))
        };
        let rotated = rotate(600);
        self.keep("a rotated token", &rotated.token);
        let other = operator.reader(&acme);
        self.keep("a replaced token", &other.token);
        let replaced = operator.post(&format!("/v1/agents/{}/rotate", other.id), json!({})).expect(200);
        self.keep("the token after it", replaced["token"].as_str().unwrap());
        let gone = operator.reader(&acme);
        self.keep("a revoked agent's token", &gone.token);
        operator.delete(&format!("/v1/agents/{}", gone.id)).expect(204);
        for (name, right) in self.secrets.clone() {
            // The last character but one is changed: the last one of some has unused bits.
            let at = right.len() - 2;
            let other = if right.as_bytes()[at] == b'x' { "y" } else { "x" };
            self.keep(&format!("nearly {name}"), &format!("{}{other}{}", &right[..at], &right[at + 1..]));
        }
        self.keep("a token that was made up", &format!("kv_{}{}", "A".repeat(21), random()));
        self.keep("a token that is too long", &format!("{}xY", rotated.token));
        self.keep("a token that is too short", &rotated.token[..60]);
        self.keep("an operator key that was made up", &format!("kvo_{}", random()));
        (acme.id, rotated)
    }

    /// Presents a secret properly, and in every header where it does not belong.
    fn present(&mut self, secret: &str, agent: &Agent) {
        let client = self.server.with_key(secret);
        for endpoint in endpoints() {
            if endpoint.method == Method::GET && !endpoint.path.contains('{') && !endpoint.path.ends_with("/stream") {
                self.ask(&client, "GET", endpoint.path, None);
            }
        }
        for (path, body) in [
            ("/v1/authorize", call(&agent.id)),
            ("/v1/authorize", json!({ "action": "" })),
            ("/v1/authorize/batch", json!({ "requests": [call(&agent.id)] })),
            ("/v1/authorize/explain", call(&agent.id)),
            ("/v1/tenants", json!({ "bad": 1 })),
        ] {
            self.ask(&client, "POST", path, Some(&body));
        }
        let host = self.server.host().to_owned();
        for header in [
            format!("Authorization: {secret}"),
            format!("Authorization: Basic {secret}"),
            format!("Authorization: Bearer {secret} {secret}"),
            format!("X-Api-Key: {secret}\r\nCookie: session={secret}"),
            format!("Content-Length: {secret}"),
            format!("Transfer-Encoding: {secret}"),
            format!("Host: {secret}"),
            format!("Expect: {secret}\r\nUpgrade: {secret}\r\nConnection: {secret}"),
            format!("{secret}: 1"),
            secret.to_owned(),
        ] {
            let request = format!("GET /v1/tenants HTTP/1.1\r\nHost: h\r\n{header}\r\n\r\n");
            if let Ok(answer) = send_bytes(&host, request.as_bytes()) {
                self.note(request, &answer);
            }
        }
        for line in [
            format!("GET {secret} HTTP/1.1"),
            format!("{secret} / HTTP/1.1"),
            format!("GET / {secret}"),
            secret.to_owned(),
        ] {
            if let Ok(answer) = send_bytes(&host, format!("{line}\r\nHost: h\r\n\r\n").as_bytes()) {
                self.note(line, &answer);
            }
        }
    }

    /// Puts a secret where an operator or an agent may put it by mistake.
    fn misplace(&mut self, secret: &str, tenant: &str, agent: &Agent) {
        let operator = self.operator();
        for path in ["/v1/agents/", "/v1/tenants/", "/v1/policies/", "/v1/delegations/", "/v1/audit/", "/no/such/"] {
            self.ask(&operator, "GET", &format!("{path}{secret}"), None);
        }
        self.ask(&operator, "DELETE", &format!("/v1/tenants/acme/keys/{secret}"), None);
        self.ask(&operator, "POST", &format!("/v1/agents/{secret}/authorize"), Some(&call(&agent.id)));
        for query in [
            "agents?tenantId=",
            "agents?userId=",
            "agents?cursor=",
            "agents?status=",
            "agents?limit=",
            "agents?x=1&",
            "policies?agentId=",
            "delegations?fromAgent=",
            "audit?since=",
            "audit?actions=",
            "audit?agentId=",
            "audit?result=",
            "audit/export?format=",
            "audit/export?userId=",
            "tenants?cursor=",
        ] {
            self.ask(&operator, "GET", &format!("/v1/{query}{secret}"), None);
        }
        self.ask(&operator, "DELETE", &format!("/v1/tenants/acme?confirm={secret}"), None);
        let permission = |resource: &str, action: &str, pattern: &str| json!({ "resource": resource, "actions": [action], "constraints": { "allowedArgPatterns": [pattern] } });
        let create = |owner: &str, name: &str, permission: Value, metadata: Value| {
            json!({ "tenantId": tenant, "ownerId": owner, "name": name, "type": "service",
                    "permissions": [permission], "metadata": metadata })
        };
        let good = || permission("a", "b", "c");
        let long = format!("{} {secret}", "x".repeat(60));
        for (path, body) in [
            ("/v1/agents", create(secret, "n", good(), json!({}))),
            ("/v1/agents", create("u", &long, good(), json!({}))),
            ("/v1/agents", create("u", "n", permission(secret, "b", "c"), json!({}))),
            ("/v1/agents", create("u", "n", permission(&format!("*{secret}"), "b", "c"), json!({}))),
            ("/v1/agents", create("u", "n", permission("a", secret, "c"), json!({}))),
            ("/v1/agents", create("u", "n", permission("a", "b", &format!("^{secret}$")), json!({}))),
            ("/v1/agents", create("u", "n", permission("a", "b", &format!("^{secret}(")), json!({}))),
            ("/v1/agents", create("u", "n", good(), json!({ "token": [secret] }))),
            ("/v1/agents", create("u", "n", good(), json!({ secret: 1 }))),
            ("/v1/agents", json!({ secret: secret })),
            ("/v1/agents", json!({ "type": secret })),
            ("/v1/agents", json!(secret)),
            ("/v1/tenants", json!({ "name": secret, "slug": "other" })),
            ("/v1/tenants", json!({ "name": "n", "slug": secret })),
            ("/v1/tenants/acme/keys", json!({ "name": secret })),
            ("/v1/policies", json!({ "agentId": secret, "limits": { "maxCallsPerDay": 1 } })),
            (
                "/v1/policies",
                json!({ "tenantId": tenant, "userId": secret, "limits": { "maxCallsPerDay": 1_000_000 } }),
            ),
            ("/v1/delegations", json!({ "fromAgent": secret, "toAgent": secret, "permissions": [good()] })),
            ("/v1/usage", json!({ "agentId": agent.id, "auditId": secret })),
            ("/v1/usage", json!({ "agentId": secret, "tokensCost": 1 })),
            ("/v1/budget/check", json!({ "agentId": agent.id, "tokensCost": secret })),
        ] {
            self.ask(&operator, "POST", path, Some(&body));
        }
        let own = self.server.with_key(&agent.token);
        let mut asked = vec![
            json!({ "action": secret, "resource": "docs:1" }),
            json!({ "action": "read", "resource": format!("docs:{secret}") }),
            json!({ "action": "read", "resource": secret, "tokensCost": secret }),
            json!({ "action": "read", "resource": "docs:1", "arguments": { "env": format!("A=1 TOKEN={secret}\n"), secret: [secret] } }),
            json!({ "action": "read", "resource": "docs:1", "tenantId": secret }),
            json!({ "agentId": secret, "action": "read", "resource": "docs:1" }),
        ];
        asked.push(json!({ "agentId": agent.id, "action": "read", "resource": "docs:1", "context": { "ip": secret } }));
        asked.push(
            json!({ "agentId": agent.id, "action": "read", "resource": "docs:1", "context": { "userAgent": secret } }),
        );
        for body in asked {
            for client in [&operator, &own] {
                self.ask(client, "POST", "/v1/authorize", Some(&body));
                self.ask(client, "POST", "/v1/authorize/batch", Some(&json!({ "requests": [body] })));
                self.ask(client, "POST", "/v1/authorize/explain", Some(&body));
            }
        }
        let body = call(&agent.id).to_string();
        for (name, value) in [("User-Agent", secret), ("X-Forwarded-For", secret), ("Last-Event-ID", secret)] {
            let answer = own.try_send("POST", "/v1/authorize", &[(name, value.as_bytes())], Some(body.as_bytes()));
            self.note(format!("{name}: {value}"), &answer.unwrap());
        }
        let answer = operator.send("POST", "/v1/agents", Some(secret.as_bytes()));
        self.note("a body that is a secret".to_owned(), &answer);
    }

    /// Everything that can be read, at the end.
    fn read_all(&mut self) {
        let operator = self.operator();
        for endpoint in endpoints() {
            let is_plain = endpoint.method == Method::GET && !endpoint.path.contains('{');
            if is_plain && !endpoint.path.ends_with("/stream") {
                let answer = operator.get(endpoint.path);
                assert_ne!(answer.status, 401, "{}", endpoint.path);
                self.note(endpoint.path.to_owned(), &answer);
            }
        }
        for kind in ["decision", "admin", "usage"] {
            for format in ["json", "ndjson", "csv"] {
                let path = format!("/v1/audit/export?kind={kind}&format={format}");
                let answer = operator.get(&path);
                assert_eq!(answer.status, 200);
                self.note(path, &answer);
            }
            let newest = operator.get(&format!("/v1/audit?kind={kind}&tenantId=acme&limit=1")).items();
            if let Some(id) = newest.first().map(|entry| entry["id"].as_str().unwrap().to_owned()) {
                let stream = self.stream(&format!("kind={kind}&tenantId=acme&since=2020-01-01T00:00:00Z"), &id);
                self.said.push((format!("the stream of {kind}"), stream));
            }
        }
    }

    /// A stream up to the entry with that id.
    fn stream(&self, query: &str, last: &str) -> Vec<u8> {
        let mut connection = TcpStream::connect(self.server.host()).unwrap();
        let key = &self.secrets[0].1;
        let request =
            format!("GET /v1/audit/stream?{query} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {key}\r\n\r\n");
        connection.write_all(request.as_bytes()).unwrap();
        let (mut read, mut block) = (Vec::new(), vec![0; 1 << 16]);
        loop {
            let length = connection.read(&mut block).unwrap();
            assert!(length > 0, "the stream ended before {last}");
            let from = read.len().saturating_sub(last.len());
            read.extend_from_slice(&block[..length]);
            if read[from..].windows(last.len()).any(|window| window == last.as_bytes()) {
                return read;
            }
        }
    }

    /// No piece of a secret is in anything said, logged or written.
    fn search(mut self) {
        let log = self.server.log();
        assert!(log.contains("TRACE"), "the log is as loud as it gets");
        self.said.push(("the log".to_owned(), log.into_bytes()));
        let (mut pieces, mut hashes) = (Pieces::default(), Pieces::default());
        for (name, secret) in &self.secrets {
            pieces.add_secret(name, secret);
            hashes.add_hash(name, secret);
        }
        let files = files_of(&self.server.data_dir());
        for ending in [".journal", ".snapshot", "tenant.json"] {
            assert!(files.iter().any(|(name, _)| name.ends_with(ending)), "{ending}");
        }
        for (place, text) in self.said.iter().chain(&files) {
            assert_eq!(
                pieces.find_in(text),
                None,
                "{place} shows a secret: {}",
                String::from_utf8_lossy(&text[..text.len().min(500)])
            );
        }
        for (place, text) in &self.said {
            assert_eq!(hashes.find_in(text), None, "{place}");
        }
    }
}

fn use_every_secret_everywhere(scene: &mut Scene) -> Agent {
    let (tenant, agent) = scene.make_secrets();
    for (_, secret) in scene.secrets.clone() {
        scene.present(&secret, &agent);
        scene.misplace(&secret, &tenant, &agent);
    }
    agent
}

#[test]
fn no_piece_of_a_secret_is_stored_logged_or_shown() {
    let mut scene = Scene::start(&[]);
    let agent = use_every_secret_everywhere(&mut scene);
    scene.read_all();
    // More than a segment holds, so that one is sealed.
    let own = scene.server.with_key(&agent.token);
    let request = json!({ "action": "read", "resource": "docs:1", "arguments": { "token": agent.token, "text": "x".repeat(30_000) } });
    let batch = json!({ "requests": vec![request; 30] });
    for _ in 0..20 {
        own.post("/v1/authorize/batch", batch.clone()).expect(200);
    }
    scene.operator().post("/v1/snapshot", json!({})).expect(200);
    let data = scene.server.data_dir();
    eventually("a segment is sealed", || {
        let mut paths = Vec::new();
        files_under(&data, &mut paths);
        paths.iter().any(|path| path.extension().is_some_and(|ending| ending == "zst")).then_some(())
    });
    scene.server.crash_and_start();
    scene.server.with_key(&agent.token).granted(call(&agent.id));
    scene.server.stop();
    scene.search();
}

#[test]
fn nor_in_a_log_of_json_lines() {
    let mut scene = Scene::start(&["--log-json"]);
    use_every_secret_everywhere(&mut scene);
    scene.operator().post("/v1/snapshot", json!({})).expect(200);
    scene.server.stop();
    assert!(scene.server.log().lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
    scene.search();
}

#[test]
fn debug_output_shows_no_secret() {
    use kavach::domain::{Credential, Secret, TenantId};
    use kavach::service::KeyWithSecret;

    let secret = Secret::tenant_key(TenantId::DEFAULT, [0xA5; 32]);
    let mut pieces = Pieces::default();
    pieces.add_secret("the key", secret.reveal());
    pieces.add_hash("the key", secret.reveal());
    let key = kavach::domain::tenant::key::ApiKey {
        id: kavach::domain::KeyId::derive(kavach::domain::Timestamp::default(), 1, TenantId::DEFAULT.tag()),
        name: "ci".into(),
        hash: secret.hash(),
        prefix: secret.prefix(),
        created_at: kavach::domain::Timestamp::default(),
        role: kavach::domain::KeyRole::Admin,
        expires_at: None,
    };
    let mut settings = kavach::ServerSettings::new(Path::new("data"));
    settings.operator_key = Some(format!("kvo_{}", &secret.reveal()[20..]).parse().unwrap());
    let credential = Credential::parse(secret.reveal());
    let shown = format!("{settings:?} {credential:?} {:?}", KeyWithSecret { key, secret });
    assert_eq!(pieces.find_in(shown.as_bytes()), None, "{shown}");
}

#[test]
fn the_first_start_makes_an_operator_key_and_shows_it_once() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    let home = tempfile::tempdir().unwrap();
    let start = || {
        let mut child = Command::new(env!("CARGO_BIN_EXE_kavach"))
            .args(["--addr", "127.0.0.1:0", "--data-dir", "data"])
            .env_clear()
            .current_dir(home.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut said = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let listening = line.starts_with("Listening on ");
            said.push(line);
            if listening {
                break;
            }
        }
        (child, said)
    };
    let ask = |said: &[String], key: &str| {
        let base = said.last().unwrap().strip_prefix("Listening on ").unwrap();
        crate::client::Client::new(base, Some(&format!("Bearer {key}"))).get("/v1/tenants").status
    };
    let (mut child, said) = start();
    let key = said.iter().find_map(|line| line.split_whitespace().find(|word| word.starts_with("kvo_"))).unwrap();
    let key = key.to_owned();
    assert_eq!(key.len(), 4 + 43);
    assert_eq!((ask(&said, &key), ask(&said, OPERATOR_KEY)), (200, 401));
    child.kill().unwrap();
    child.wait().unwrap();
    let (mut child, said) = start();
    let again = said.join("\n").contains("kvo_");
    let status = ask(&said, &key);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!again, "{said:?}");
    assert_eq!(status, 200);
    let mut pieces = Pieces::default();
    pieces.add_secret("the operator key", &key);
    let files = files_of(home.path());
    assert!(files.iter().any(|(name, _)| name.ends_with("operator.json")));
    for (name, bytes) in files {
        assert_eq!(pieces.find_in(&bytes), None, "{name}");
    }
}

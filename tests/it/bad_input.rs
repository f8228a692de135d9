//! Bad requests: each gets a 4xx with a code and a sentence that names the field, and changes nothing.

use kavach::domain::limits::{MAX_AUTHORIZE_BODY_BYTES, MAX_BODY_BYTES};
use serde_json::{Value, json};

use crate::bad_table;
use crate::client::{Client, send_bytes};
use crate::harness::{OPERATOR_KEY, Server};
use crate::world::{Agent, call};

/// A tenant and an agent for the bad requests to name.
pub fn prepare(server: &Server) -> Agent {
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let settings = json!({ "settings": { "allowedAgentTypes": ["autonomous", "service"] } });
    operator.patch("/v1/tenants/acme", settings).expect(200);
    operator.reader(&acme)
}

/// Everything on the server.
pub fn everything(operator: &Client) -> Value {
    json!({ "tenants": operator.get("/v1/tenants").expect(200), "acme": operator.all_of("acme"), "default": operator.all_of("default") })
}

#[test]
fn each_bad_request_names_its_field_and_changes_nothing() {
    let table = bad_table::all();
    assert!(table.len() > 250);
    refused(&table);
}

#[test]
fn an_array_is_no_object() {
    refused(&bad_table::positional());
}

/// Sends each request and checks its answer, and at the end that nothing changed.
fn refused(table: &[bad_table::Bad]) {
    let server = Server::start();
    let agent = prepare(&server);
    let operator = server.operator();
    let before = everything(&operator);
    let mut wrong = Vec::new();
    for bad in table {
        let path = bad.path.replace("{agent}", &agent.id);
        let body = (bad.method != "GET" && bad.method != "DELETE").then(|| bad.body.to_string());
        let answer = operator.send(bad.method, &path, body.as_deref().map(str::as_bytes));
        let shown: String = format!("{} {path} {}", bad.method, bad.body).chars().take(200).collect();
        if (answer.status, answer.code().as_deref()) != (bad.status, Some(bad.code)) {
            wrong.push(format!("{shown}\n    {} was wanted, not {}", bad.code, answer.text()));
            continue;
        }
        let sentence = answer.problem(bad.status, bad.code);
        if !sentence.contains(bad.names) {
            wrong.push(format!("{shown}\n    '{}' is not named: {sentence}", bad.names));
        }
        assert!(answer.body.len() < 2_000, "an error does not repeat all it was given: {}", answer.body.len());
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), table.len(), wrong.join("\n"));
    assert_eq!(everything(&operator), before);
    operator.granted(call(&agent.id));
}

/// A request as bytes.
fn raw(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {OPERATOR_KEY}\r\n{headers}\r\n");
    [head.as_bytes(), body].concat()
}

fn with_length(method: &str, path: &str, body: &[u8]) -> Vec<u8> {
    raw(method, path, &format!("Content-Length: {}\r\n", body.len()), body)
}

fn chunked(method: &str, path: &str, body: &[u8]) -> Vec<u8> {
    let mut chunks = Vec::new();
    for chunk in body.chunks(10_000) {
        chunks.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        chunks.extend_from_slice(chunk);
        chunks.extend_from_slice(b"\r\n");
    }
    chunks.extend_from_slice(b"0\r\n\r\n");
    raw(method, path, "Transfer-Encoding: chunked\r\n", &chunks)
}

#[test]
fn a_body_over_its_limit_is_refused_however_it_is_sent() {
    let server = Server::start();
    let agent = prepare(&server);
    let operator = server.operator();
    let before = everything(&operator);
    let call = json!({ "agentId": agent.id, "action": "read", "resource": "docs:1" });
    let tenant = json!({ "name": "N", "slug": "new" });
    let new = json!({ "tenantId": "acme", "ownerId": "u", "name": "b", "type": "service" });
    let by_agent = format!("/v1/agents/{}/authorize", agent.id);
    for (path, limit, body) in [
        ("/v1/authorize", MAX_AUTHORIZE_BODY_BYTES, &call),
        ("/v1/authorize/explain", MAX_AUTHORIZE_BODY_BYTES, &call),
        (&by_agent, MAX_AUTHORIZE_BODY_BYTES, &call),
        ("/v1/tenants/acme/authorize", MAX_AUTHORIZE_BODY_BYTES, &call),
        ("/v1/authorize/batch", MAX_BODY_BYTES, &json!({ "requests": [call] })),
        ("/v1/tenants", MAX_BODY_BYTES, &tenant),
        ("/v1/agents", MAX_BODY_BYTES, &new),
    ] {
        // White space counts, so that a body of exactly that size can be a good one.
        let mut text = body.to_string().into_bytes();
        text.resize(limit + 1, b' ');
        for bytes in [with_length("POST", path, &text), chunked("POST", path, &text)] {
            let message = send_bytes(server.host(), &bytes).unwrap().problem(413, "PAYLOAD_TOO_LARGE");
            assert!(message.contains(&limit.to_string()), "{message}");
        }
        // A body that only claims to be large is refused before it is sent.
        let claim = raw("POST", path, "Content-Length: 99999999999\r\n", b"{");
        send_bytes(server.host(), &claim).unwrap().problem(413, "PAYLOAD_TOO_LARGE");
    }
    assert_eq!(everything(&operator), before);
    for (path, limit, body) in
        [("/v1/authorize", MAX_AUTHORIZE_BODY_BYTES, &call), ("/v1/agents", MAX_BODY_BYTES, &new)]
    {
        let mut text = body.to_string().into_bytes();
        text.resize(limit, b' ');
        for bytes in [with_length("POST", path, &text), chunked("POST", path, &text)] {
            let answer = send_bytes(server.host(), &bytes).unwrap();
            assert!(answer.status < 300, "{}", answer.text());
        }
    }
}

#[test]
fn an_error_about_bad_json_names_the_place() {
    let server = Server::start();
    let agent = prepare(&server);
    let operator = server.operator();
    let before = everything(&operator);
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(30_000), close.repeat(30_000)).into_bytes();
    let bodies: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"{".to_vec(),
        b"{}x".to_vec(),
        b"{} {}".to_vec(),
        b"null".to_vec(),
        b"[".to_vec(),
        b"\xff\xfe{}".to_vec(),
        b"\xef\xbb\xbf{}".to_vec(),
        b"{\"name\":\"\xff\"}".to_vec(),
        b"{\"name\":\"\\ud800\"}".to_vec(),
        b"{'name':'x'}".to_vec(),
        b"{\"name\":\"a\",\"name\":\"b\",\"slug\":\"c\"}".to_vec(),
        b"{\"action\":\"a\",\"action\":\"b\",\"resource\":\"c\"}".to_vec(),
        b"{\"requests\":[}".to_vec(),
        b"name=x&slug=y".to_vec(),
        b"\0".repeat(100),
        b"{\"name\": NaN}".to_vec(),
        deep("[", "]"),
        deep("{\"a\":", "}")[..60_000].to_vec(),
        [br#"{"name":"#.to_vec(), deep("[", "]"), b"}".to_vec()].concat(),
        [br#"{"action":"#.to_vec(), deep("[", "]"), b"}".to_vec()].concat()[..60_000].to_vec(),
    ];
    let agent_path = format!("/v1/agents/{}", agent.id);
    let by_agent = format!("{agent_path}/authorize");
    for (method, path) in [
        ("POST", "/v1/tenants"),
        ("PATCH", "/v1/tenants/acme"),
        ("POST", "/v1/tenants/acme/keys"),
        ("POST", "/v1/agents"),
        ("PATCH", &agent_path),
        ("POST", "/v1/authorize"),
        ("POST", "/v1/authorize/batch"),
        ("POST", "/v1/authorize/explain"),
        ("POST", &by_agent),
        ("POST", "/v1/tenants/acme/authorize"),
    ] {
        for body in &bodies {
            let answer = operator.send(method, path, Some(body));
            let shown: String = String::from_utf8_lossy(body).chars().take(60).collect();
            assert_eq!(answer.status, 400, "{method} {path} {shown}: {}", answer.text());
            let message = answer.problem(400, "INVALID_BODY");
            // Some lack a field before they go wrong.
            let says_what = message.contains("can't be read") || message.ends_with("is missing");
            assert!(says_what, "{shown}: {message}");
        }
    }
    assert_eq!(everything(&operator), before);
}

#[test]
fn a_missing_field_and_an_unknown_word_are_named() {
    let server = Server::start();
    let agent = prepare(&server);
    let operator = server.operator();
    let robot = json!({ "ownerId": "o", "name": "n", "type": "robot", "permissions": [] });
    for (path, body, field, sentence) in [
        ("/v1/usage", json!({ "tokensCost": 1 }), "agentId", "agentId is missing"),
        ("/v1/policies", json!({}), "limits", "limits is missing"),
        ("/v1/authorize", json!({ "agentId": agent.id, "action": "read" }), "resource", "resource is missing"),
        ("/v1/agents", robot, "type", "type must be one of `autonomous`, `delegated`, `service`, not 'robot'"),
    ] {
        let answer = operator.post(path, body);
        assert_eq!(answer.problem(400, "INVALID_BODY"), sentence);
        assert_eq!(answer.json()["details"]["field"], field, "{}", answer.text());
    }
    let batch = json!({ "requests": [{ "agentId": agent.id, "action": "read" }] });
    let answer = operator.post("/v1/authorize/batch", batch).expect(200);
    assert_eq!(answer["results"][0]["error"]["details"], json!({ "field": "requests[0].resource" }));
}

#[test]
fn all_that_is_wrong_with_a_body_is_named_at_once() {
    let server = Server::start();
    let agent = prepare(&server);
    let operator = server.operator();
    let before = everything(&operator);
    let rule = json!({ "resource": 1, "action": ["read"] });
    let robot = json!({ "ownerId": "o", "type": "robot", "color": "red", "permissions": [rule] });
    for (method, path, body, fields) in [
        ("POST", "/v1/agents", json!({ "tenantId": "acme" }), vec!["ownerId", "name", "type"]),
        (
            "POST",
            "/v1/agents",
            robot,
            vec!["color", "permissions[0].action", "permissions[0].actions", "permissions[0].resource", "name", "type"],
        ),
        ("POST", "/v1/tenants", json!({}), vec!["name", "slug"]),
        (
            "PATCH",
            "/v1/tenants/acme",
            json!({ "name": 1, "settings": { "maxAgents": "x", "max": 1 } }),
            vec!["name", "settings.maxAgents", "settings.max"],
        ),
        ("POST", "/v1/delegations", json!({}), vec!["fromAgent", "toAgent", "permissions"]),
        ("POST", "/v1/policies", json!({ "action": "stop", "limits": { "most": 1 } }), vec!["action", "limits.most"]),
        ("POST", "/v1/webhooks", json!({}), vec!["url", "events"]),
        ("POST", "/v1/authorize", json!({ "agentId": agent.id }), vec!["action", "resource"]),
    ] {
        let answer = operator.send(method, path, Some(body.to_string().as_bytes()));
        let sentence = answer.problem(400, "INVALID_BODY");
        let details = answer.json()["details"].clone();
        let problems = details["problems"].as_array().unwrap_or_else(|| panic!("{path}: {details}"));
        let mut named: Vec<_> = problems.iter().map(|problem| problem["field"].as_str().unwrap()).collect();
        assert_eq!(details["field"], named[0], "the first of them");
        let sentences: Vec<_> = problems.iter().map(|problem| problem["message"].as_str().unwrap()).collect();
        assert_eq!(sentence, sentences.join("; "));
        let mut expected = fields;
        named.sort_unstable();
        expected.sort_unstable();
        assert_eq!(named, expected, "{path}: {sentence}");
    }
    let batch = json!({ "requests": [{ "agentId": agent.id }, { "agentId": agent.id, "action": 1, "resource": 2 }] });
    let answer = operator.post("/v1/authorize/batch", batch).expect(200);
    let fields = |at: usize| {
        let problems = answer["results"][at]["error"]["details"]["problems"].as_array().unwrap().clone();
        problems.into_iter().map(|problem| problem["field"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(fields(0), ["requests[0].action", "requests[0].resource"]);
    assert_eq!(fields(1), ["requests[1].action", "requests[1].resource"]);
    assert_eq!(everything(&operator), before);
}

#[test]
fn errors_about_a_body_need_a_valid_key() {
    let server = Server::start();
    let agent = prepare(&server);
    let client = server.with_key("kvo_nobodys-key-0123456789012345678901234567");
    for path in ["/v1/tenants", "/v1/agents", "/v1/authorize", "/v1/authorize/batch", "/v1/authorize/explain"] {
        for body in ["", "{", "{\"action\":1}", "{\"requests\":[]}"] {
            client.send("POST", path, Some(body.as_bytes())).problem(401, "INVALID_TOKEN");
            server.anonymous().send("POST", path, Some(body.as_bytes())).problem(401, "UNAUTHENTICATED");
        }
    }
    // The answer comes before the body.
    let claim = "POST /v1/authorize/batch HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer kvo_nobody\r\nContent-Length: 1000000\r\n\r\n{";
    send_bytes(server.host(), claim.as_bytes()).unwrap().problem(401, "INVALID_TOKEN");
    client.get("/v1/audit?limit=x").problem(401, "INVALID_TOKEN");
    client.get(&format!("/v1/agents/{}", agent.id)).problem(401, "INVALID_TOKEN");
    client.post("/v1/tenants/nobody/authorize", call(&agent.id)).problem(401, "INVALID_TOKEN");
}

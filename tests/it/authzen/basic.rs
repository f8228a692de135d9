//! Basic Core: sections 2.2 to 2.6 of the scenario, and 5.

use serde_json::json;

use super::{EVALUATION, EVALUATIONS, Fixture, SEARCH_ACTION, SEARCH_RESOURCE, SEARCH_SUBJECT, request, with};

#[test]
fn request_acceptance() {
    let fixture = Fixture::new();
    // 2.2.1 and 2.2.2, and rules 2 and 3.
    assert!(fixture.decision(request("alice", "read", "record-1")));
    assert!(fixture.decision(request("alice", "write", "record-1")));
    assert!(fixture.decision(request("bob", "read", "record-1")));
    assert!(!fixture.decision(request("bob", "write", "record-1")));
    // 2.2.3 Request with optional context.
    let context = json!({ "time": "2025-06-27T18:03-07:00", "ip": "192.168.1.1" });
    assert!(fixture.decision(with(request("alice", "read", "record-1"), json!({ "context": context }))));
    // 2.2.8 Request with additional properties.
    let request_with_properties = json!({
        "subject": { "type": "user", "id": "alice", "properties": { "department": "Sales", "role": "manager" } },
        "action": { "name": "read", "properties": { "method": "GET" } },
        "resource": { "type": "record", "id": "record-1", "properties": { "status": "active", "owner": "bob" } },
    });
    assert!(fixture.decision(request_with_properties));
    // 2.2.9 Request with unknown fields.
    let unknown = json!({ "foo": "bar", "futureField": { "nested": true } });
    assert!(fixture.decision(with(request("alice", "read", "record-1"), unknown)));
}

#[test]
fn response_format() {
    // 2.3.1 and 2.3.2 are checked for every decision; the transport's 5.2 is here.
    let fixture = Fixture::new();
    for subject in ["alice", "bob"] {
        let answer = fixture.ask(EVALUATION, request(subject, "write", "record-1"));
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert!(answer.json().is_object());
    }
}

#[test]
fn missing_required_fields() {
    let fixture = Fixture::new();
    let whole = request("alice", "read", "record-1");
    // 2.4.1
    for field in ["subject", "action", "resource"] {
        let answer = fixture.ask(EVALUATION, with(whole.clone(), json!({ field: null })));
        assert!(answer.problem(400, "INVALID_BODY").contains(field));
    }
    // 2.4.2
    for (entity, parts) in [("subject", ["type", "id"]), ("resource", ["type", "id"]), ("action", ["name", "name"])] {
        for part in parts {
            let body = with(whole.clone(), json!({ entity: with(whole[entity].clone(), json!({ part: null })) }));
            let sentence = fixture.ask(EVALUATION, body).problem(400, "INVALID_BODY");
            assert!(sentence.contains(entity) && sentence.contains(part), "{sentence}");
        }
    }
    assert!(fixture.recorded().is_empty(), "what could not be read was not decided");
}

#[test]
fn invalid_content_type() {
    // 2.4.3, on every route.
    let fixture = Fixture::new();
    let body = fixture.named(request("alice", "read", "record-1")).to_string();
    let host = fixture.server.host();
    for path in [EVALUATION, EVALUATIONS, SEARCH_SUBJECT, SEARCH_RESOURCE, SEARCH_ACTION] {
        let ask = |content_type: &str| {
            let (key, length) = (&fixture.tenant.key, body.len());
            let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n{content_type}");
            let bytes = format!("{head}Content-Length: {length}\r\n\r\n{body}");
            crate::client::send_bytes(host, bytes.as_bytes()).unwrap()
        };
        for wrong in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "application/xml", ""] {
            ask(&format!("Content-Type: {wrong}\r\n")).problem(400, "INVALID_BODY");
        }
        assert!(ask("").problem(400, "INVALID_BODY").contains("Content-Type"));
        for right in ["application/json", "application/json; charset=utf-8", "Application/JSON ;charset=UTF-8"] {
            ask(&format!("Content-Type: {right}\r\n")).expect(200);
        }
    }
}

#[test]
fn malformed_and_empty_bodies_and_wrong_types() {
    let fixture = Fixture::new();
    // 2.4.4 and 2.4.5
    for body in ["{", "", "[]", "null", "{\"subject\":}", "{} {}"] {
        for path in [EVALUATION, EVALUATIONS, SEARCH_SUBJECT, SEARCH_RESOURCE, SEARCH_ACTION] {
            fixture.pep.send("POST", path, Some(body.as_bytes())).problem(400, "INVALID_BODY");
        }
    }
    // 2.4.6
    let whole = request("alice", "read", "record-1");
    for (entity, value) in [
        ("subject", json!("alice")),
        ("action", json!({ "name": 123 })),
        ("subject", json!({ "type": "user", "id": 5 })),
        ("subject", json!({ "type": "user", "id": "alice", "properties": [] })),
        ("action", json!({ "name": "read", "properties": "soft" })),
        ("resource", json!(["record", "record-1"])),
        ("context", json!([])),
    ] {
        let body = with(whole.clone(), json!({ entity: value }));
        let sentence = fixture.ask(EVALUATION, body).problem(400, "INVALID_BODY");
        assert!(sentence.contains(entity), "{sentence}");
    }
}

#[test]
fn x_request_id() {
    let fixture = Fixture::new();
    let body = fixture.named(request("alice", "read", "record-1")).to_string();
    let ask = |client: &crate::client::Client, method: &str, path: &str, body: Option<&[u8]>, id: &[u8]| {
        client.try_send(method, path, &[("X-Request-ID", id)], body).unwrap()
    };
    let id = "bfe9eb29-ab87-4ca3-be83-a1d5d8305716";
    // 2.5.1, for every answer.
    for path in [EVALUATION, EVALUATIONS, SEARCH_SUBJECT, SEARCH_RESOURCE, SEARCH_ACTION] {
        for (client, sent, status) in [
            (&fixture.pep, body.as_bytes(), 200),
            (&fixture.pep, &b"{"[..], 400),
            (&fixture.server.anonymous(), body.as_bytes(), 401),
            (&fixture.server.with_key("nobody"), body.as_bytes(), 401),
        ] {
            let answer = ask(client, "POST", path, Some(sent), id.as_bytes());
            assert_eq!((answer.status, answer.header("x-request-id")), (status, Some(id)), "{path}");
        }
        let answer = ask(&fixture.pep, "GET", path, None, id.as_bytes());
        assert_eq!((answer.status, answer.header("x-request-id")), (405, Some(id)), "{path}");
    }
    let answer = ask(&fixture.server.anonymous(), "GET", "/.well-known/authzen-configuration", None, id.as_bytes());
    assert_eq!((answer.status, answer.header("x-request-id")), (200, Some(id)));
    // An arbitrary string, but nobody looks for one of a kilobyte.
    let long = vec![b'x'; 1_024];
    for id in [&b"a b;c=\"d\""[..], &long] {
        let answer = ask(&fixture.pep, "POST", EVALUATION, Some(body.as_bytes()), id);
        assert_eq!(answer.headers.get("x-request-id").unwrap().as_bytes(), id);
    }
    let answer = ask(&fixture.pep, "POST", EVALUATION, Some(body.as_bytes()), &vec![b'x'; 1_025]);
    assert_eq!((answer.status, answer.header("x-request-id")), (200, None));
    // 2.5.2
    let answer = fixture.pep.send("POST", EVALUATION, Some(body.as_bytes()));
    assert_eq!((answer.status, answer.header("x-request-id")), (200, None));
    // Other routes don't have it.
    assert_eq!(ask(&fixture.pep, "GET", "/v1/agents", None, id.as_bytes()).header("x-request-id"), None);
}

#[test]
fn idempotency() {
    // 2.6
    let fixture = Fixture::new();
    for _ in 0..5 {
        assert!(fixture.decision(request("alice", "read", "record-1")));
        assert!(!fixture.decision(request("bob", "write", "record-1")));
    }
}

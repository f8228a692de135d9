//! Words in reasons and messages that clients look for. Codes are for programs, but some read the sentences.

use serde_json::{Value, json};

use crate::client::Client;
use crate::harness::Server;
use crate::world::{call, constrained, permits};

/// The message of an error.
fn refused(client: &Client, method: &str, path: &str, body: Value, status: u16) -> String {
    let bytes = body.to_string();
    let answer = client.send(method, path, (!body.is_null()).then_some(bytes.as_bytes()));
    assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
    answer.json()["message"].as_str().unwrap().to_owned()
}

#[test]
fn denials_use_the_words_that_clients_look_for() {
    let server = Server::start();
    let operator = server.operator();
    operator.tenant("acme");
    for (constraints, code, words) in [
        (json!({ "requireApproval": true }), "REQUIRES_APPROVAL", "requires human approval"),
        (json!({ "ipAllowlist": ["192.0.2.0/24"] }), "IP_NOT_ALLOWED", "IP_NOT_ALLOWED"),
        (json!({ "allowedArgPatterns": ["a"] }), "ARGUMENT_NOT_ALLOWED", "does not match pattern"),
        (json!({ "arguments": { "n": { "max": 1 } } }), "ARGUMENT_NOT_ALLOWED", "maximum"),
        (json!({ "maxCallsPerHour": 0 }), "RATE_LIMITED", "Rate limit exceeded: 0/0 "),
    ] {
        let agent = operator.agent("acme", constrained("docs:*", constraints));
        let mut ask = call(&agent.id);
        ask["context"] = json!({ "ip": "198.51.100.7" });
        ask["arguments"] = json!({ "n": 2, "x": "b" });
        let reason = operator.denied(ask, code);
        assert!(reason.contains(words), "{reason}");
    }
    // Whatever time it is, it is outside one of these.
    let windows = [("00:00", "12:00"), ("12:00", "00:00")].map(|(start, end)| {
        let agent =
            operator.agent("acme", constrained("docs:*", json!({ "timeWindow": { "start": start, "end": end } })));
        operator.authorize(call(&agent.id)).expect(200)
    });
    let denied = windows.iter().find(|decision| decision["allowed"] == false).unwrap();
    assert_eq!(denied["code"], "OUTSIDE_TIME_WINDOW");
    assert!(denied["reason"].as_str().unwrap().contains("only allowed between "), "{denied}");
    let nobody = operator.agent("acme", json!([]));
    assert!(operator.denied(call(&nobody.id), "PERMISSION_DENIED").starts_with("No permission "));
    let unknown = operator.denied(call("agt_00000000000070008000000000000000"), "AGENT_NOT_FOUND");
    assert!(unknown.contains("not found"), "{unknown}");
}

#[test]
fn errors_use_the_words_that_clients_look_for() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    for (method, path) in [
        ("GET", "/v1/tenants/nobody"),
        ("GET", "/v1/tenants/tnt_018e418ddd2874029a221871fe851b36"),
        ("GET", "/v1/tenants/No Tenant"),
        ("GET", "/v1/agents/agt_1"),
        ("GET", "/v1/policies/pol_1"),
        ("GET", "/v1/delegations/dlg_1"),
        ("GET", "/v1/webhooks/whk_1"),
        ("GET", "/v1/holds/aud_1"),
        ("GET", "/v1/audit/aud_1"),
        ("DELETE", "/v1/tenants/acme/keys/key_1"),
        ("GET", "/v1/nothing"),
    ] {
        let path = path.replace(' ', "%20");
        let message = refused(&operator, method, &path, Value::Null, 404);
        assert!(message.contains("not found"), "{path}: {message}");
    }
    for slug in ["acme", "default"] {
        let message = refused(&operator, "POST", "/v1/tenants", json!({ "name": "A", "slug": slug }), 409);
        assert!(message.contains("already exists"), "{message}");
    }
    let agent = |permissions: Value| operator.agent("acme", permissions).id;
    let [a, b, c] = [permits("docs:*", &["read"]), json!([]), json!([])].map(agent);
    let lend = |from: &str, to: &str, resource: &str, depth: u32| json!({ "fromAgent": from, "toAgent": to, "permissions": permits(resource, &["read"]), "maxDepth": depth });
    let message = refused(&operator, "POST", "/v1/delegations", lend(&a, &b, "mail:*", 1), 422);
    assert!(message.contains("subset"), "{message}");
    operator.post("/v1/delegations", lend(&a, &b, "docs:*", 1)).expect(201);
    let message = refused(&operator, "POST", "/v1/delegations", lend(&b, &c, "docs:*", 1), 422);
    assert!(message.contains("depth") && message.contains("maximum"), "{message}");
    let settings = json!({ "settings": { "maxAgents": 3 } });
    operator.patch(&format!("/v1/tenants/{}", acme.id), settings).expect(200);
    let body = json!({ "tenantId": "acme", "ownerId": "u", "name": "n", "type": "service", "permissions": [] });
    let message = refused(&operator, "POST", "/v1/agents", body, 422);
    assert!(message.contains("maximum"), "{message}");
}

#[test]
fn a_malformed_agent_id_is_kept_short_and_without_secrets() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let token = format!("kv_{}", "aB3-".repeat(16));
    let long = "x".repeat(5_000);
    for (asked, kept) in [
        ("bot-7", "'bot-7'"),
        ("", "''"),
        ("agt_\u{202e}1", "'agt_\\u{202e}1'"),
        (&*format!("id {token}"), "'id kv_(hidden)'"),
        (&*long, &*format!("'{}…'", "x".repeat(80))),
    ] {
        for client in [operator.clone(), server.with_key(&acme.key)] {
            let decision = client.authorize(call(asked)).expect(200);
            assert_eq!(decision["code"], "AGENT_NOT_FOUND");
            let entry = operator.get(&format!("/v1/audit/{}", decision["auditId"].as_str().unwrap())).expect(200);
            assert_eq!((&entry["agentId"], &entry["reason"]), (&Value::Null, &decision["reason"]));
            assert!(entry["reason"].as_str().unwrap().contains(kept), "{asked}: {entry}");
        }
    }
    operator.post("/v1/agents/bot-8/authorize", json!({ "action": "read", "resource": "docs:1" })).expect(200);
    assert!(operator.trail("tenantId=default")[0]["reason"].as_str().unwrap().contains("'bot-8'"));
}

#[test]
fn an_entry_has_the_user_agent_of_who_makes_the_call_only() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let headers: [(&str, &[u8]); 1] = [("User-Agent", b"gateway/1")];
    let last = |client: &Client, path: &str, body: Value| {
        client.try_send("POST", path, &headers, Some(body.to_string().as_bytes())).unwrap().expect(200);
        operator.trail("tenantId=acme")[0]["userAgent"].clone()
    };
    let mut told = call(&agent.id);
    told["context"] = json!({ "userAgent": "browser/2" });
    let evaluation = json!({
        "subject": { "type": "agent", "id": agent.id }, "action": { "name": "read" }, "resource": { "type": "docs", "id": "1" },
        "context": { "tenantId": "acme" },
    });
    for asking in [operator.clone(), server.with_key(&acme.key)] {
        assert_eq!(last(&asking, "/v1/authorize", call(&agent.id)), Value::Null, "that of the asking service");
        assert_eq!(last(&asking, "/v1/authorize", told.clone()), "browser/2");
        assert_eq!(last(&asking, "/v1/authorize/batch", json!({ "requests": [call(&agent.id)] })), Value::Null);
        assert_eq!(last(&asking, "/access/v1/evaluation", evaluation.clone()), Value::Null);
    }
    let own = server.with_key(&agent.token);
    assert_eq!(last(&own, "/v1/authorize", call(&agent.id)), "gateway/1");
    assert_eq!(last(&own, "/v1/authorize", told), "gateway/1", "an agent can't say otherwise");
}

#[test]
fn parameters_are_an_empty_object_where_there_are_none() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let ask = |arguments: Value| {
        let mut ask = call(&agent.id);
        ask["arguments"] = arguments;
        ask
    };
    for (body, parameters) in [
        (call(&agent.id), json!({})),
        (ask(Value::Null), json!({})),
        (ask(json!({})), json!({})),
        (ask(json!([])), json!([])),
        (ask(json!({ "a": null })), json!({ "a": null })),
    ] {
        let id = operator.granted(body);
        assert_eq!(operator.get(&format!("/v1/audit/{id}")).expect(200)["parameters"], parameters);
    }
    operator.delete(&format!("/v1/agents/{}", agent.id)).expect(204);
    let all = operator.trail("tenantId=acme&kind=all");
    assert!(all.len() > 6 && all.iter().all(|entry| !entry["parameters"].is_null()), "{all:?}");
    let csv = operator.get("/v1/audit/export?tenantId=acme&format=csv").text();
    assert!(csv.lines().nth(1).unwrap().contains(",{},"), "{csv}");
}

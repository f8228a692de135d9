//! Changes in the audit trail: who made them from where, and the old values.

use serde_json::{Value, json};

use crate::client::Client;
use crate::harness::Server;
use crate::world::{call, permits};

fn changes(client: &Client, query: &str) -> Vec<Value> {
    client.trail(&format!("kind=admin&{query}"))
}

/// Sends a change as a client with that name.
fn change(client: &Client, method: &str, path: &str, body: Option<Value>) -> u16 {
    let headers: [(&str, &[u8]); 1] = [("User-Agent", b"console/3")];
    let body = body.map(|body| body.to_string());
    client.try_send(method, path, &headers, body.as_ref().map(String::as_bytes)).unwrap().status
}

#[test]
fn the_default_tenants_trail_records_once_who_erased_a_tenant() {
    let mut server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    operator.granted(call(&agent.id));
    // A refused deletion is not recorded.
    assert_eq!(change(&operator, "DELETE", "/v1/tenants/acme?confirm=globex", None), 400);
    assert_eq!(change(&server.with_key(&acme.key), "DELETE", "/v1/tenants/acme?confirm=acme", None), 403);
    assert_eq!(change(&operator, "DELETE", "/v1/tenants/default?confirm=default", None), 422);
    assert_eq!(changes(&operator, "tenantId=default&actions=tenant.delete"), Vec::<Value>::new());
    // Of many who ask at once, one erases it.
    let erase = || change(&operator, "DELETE", "/v1/tenants/acme?confirm=acme", None);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..8).map(|_| scope.spawn(erase)).collect();
        tries.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 204).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [204, 404].contains(status)), "{statuses:?}");
    for round in 0..2 {
        let operator = server.operator();
        let found = changes(&operator, "actions=tenant.delete");
        assert_eq!(found.len(), 1, "{round}: {found:?}");
        let entry = &found[0];
        for (member, value) in [
            ("tenantId", Value::Null),
            ("resource", json!(acme.id)),
            ("parameters", json!({ "slug": "acme" })),
            ("by", json!("operator")),
            ("keyName", Value::Null),
            ("ip", json!("127.0.0.1")),
            ("userAgent", json!("console/3")),
        ] {
            assert_eq!(entry[member], value, "{member}: {entry}");
        }
        assert_eq!((&entry["before"]["slug"], &entry["before"]["status"]), (&json!("acme"), &json!("active")));
        server.kill();
        server.start_again();
    }
}

#[test]
fn changes_of_webhooks_and_requests_for_tenants_are_recorded() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let key = server.with_key(&acme.key);
    let last = |method: &str, path: &str, body: Option<Value>| {
        let status = change(&key, method, path, body);
        assert!((200..300).contains(&status), "{method} {path}: {status}");
        let entry = operator.get("/v1/audit?kind=admin&tenantId=acme&limit=1").items().remove(0);
        assert_eq!((&entry["by"], &entry["userAgent"]), (&json!(acme.key_id), &json!("console/3")), "{entry}");
        entry
    };
    let new =
        json!({ "url": "https://hooks.example.com/a-secret-path", "events": ["agent.*"], "description": "pager" });
    let seen = last("POST", "/v1/webhooks", Some(new));
    let id = seen["resource"].as_str().unwrap().to_owned();
    let shown = |events: Value| {
        json!({
            "url": "https://hooks.example.com/...", "events": events, "format": "standard", "description": "pager",
            "disabled": false,
        })
    };
    let (old, new) = (shown(json!(["agent.*"])), shown(json!(["key.*"])));
    assert_eq!((&seen["action"], &seen["parameters"], &seen["before"]), (&json!("webhook.create"), &old, &Value::Null));
    let (path, none) = (format!("/v1/webhooks/{id}"), json!({}));
    for (method, tail, body, action, parameters, before) in [
        ("PATCH", "", Some(json!({ "events": ["key.*"] })), "webhook.update", &new, &old),
        ("POST", "/rotate", None, "webhook.rotate", &none, &Value::Null),
        ("POST", "/test", None, "webhook.test", &none, &Value::Null),
        ("DELETE", "?reason=moved", None, "webhook.delete", &none, &new),
    ] {
        let seen = last(method, &format!("{path}{tail}"), body);
        assert_eq!((&seen["action"], &seen["resource"]), (&json!(action), &json!(id)));
        assert_eq!((&seen["parameters"], &seen["before"]), (parameters, before), "{action}");
        assert_eq!(seen["reason"], if method == "DELETE" { json!("moved") } else { Value::Null });
    }
    // All policies at once: which counts, of the tenant.
    let policy = json!({ "limits": { "maxCallsPerDay": 5 } });
    key.post("/v1/policies", policy).expect(201);
    let seen = last("POST", "/v1/policies/reset", Some(json!({ "period": "week" })));
    assert_eq!((&seen["action"], &seen["resource"]), (&json!("policy.reset_all"), &json!(acme.id)));
    assert_eq!((&seen["parameters"], &seen["before"]), (&json!({ "period": "week" }), &Value::Null));
    // A tenant that was asked for with an idempotency key, in the trail that remembers the key.
    let body = json!({ "name": "Globex", "slug": "globex" }).to_string();
    let headers: [(&str, &[u8]); 2] = [("User-Agent", b"console/3"), ("Idempotency-Key", b"k")];
    for _ in 0..2 {
        operator.try_send("POST", "/v1/tenants", &headers, Some(body.as_bytes())).unwrap().expect(201);
    }
    let globex = operator.get("/v1/tenants/globex").expect(200);
    let found = changes(&operator, "tenantId=default&actions=tenant.request");
    assert_eq!(found.len(), 1, "{found:?}");
    for (member, value) in [
        ("resource", globex["id"].clone()),
        ("parameters", json!({ "slug": "globex" })),
        ("before", Value::Null),
        ("by", json!("operator")),
        ("userAgent", json!("console/3")),
    ] {
        assert_eq!(found[0][member], value, "{member}: {}", found[0]);
    }
    assert_eq!(changes(&operator, "tenantId=globex").len(), 1, "its own trail has its creation");
}

#[test]
fn a_change_says_who_made_it_from_where_and_what_was_before() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let key = server.with_key(&acme.key);
    let name = operator.get("/v1/tenants/acme/keys").items()[0]["name"].clone();
    let (agent, other) = (key.reader(&acme), key.reader(&acme));
    let policy = json!({ "limits": { "maxTokensCostPerDay": 123456789.123457 }, "action": "block" });
    let policy = key.post("/v1/policies", policy).expect(201)["id"].as_str().unwrap().to_owned();
    let link = json!({
        "fromAgent": agent.id, "toAgent": other.id, "permissions": permits("docs:1", &["read"]),
    });
    let link = key.post("/v1/delegations", link).expect(201)["id"].as_str().unwrap().to_owned();
    key.post("/v1/usage", json!({ "agentId": agent.id, "calls": 2, "tokensCost": 0.100001 })).expect(200);

    let last = |client: &Client, method: &str, path: &str, body: Option<Value>| {
        let status = change(client, method, path, body);
        assert!((200..300).contains(&status), "{method} {path}: {status}");
        operator.get("/v1/audit?kind=admin&tenantId=acme&limit=1").items().remove(0)
    };
    let seen = last(&key, "PATCH", &format!("/v1/agents/{}", agent.id), Some(json!({ "name": "renamed" })));
    let (before, now) = (&seen["before"], &seen["parameters"]);
    assert_eq!(now["name"], "renamed");
    assert_ne!(before["name"], "renamed");
    assert_eq!(before["permissions"], now["permissions"]);
    for (member, value) in [("ip", json!("127.0.0.1")), ("userAgent", json!("console/3")), ("keyName", name.clone())] {
        assert_eq!(seen[member], value, "{member}: {seen}");
    }

    let seen = last(&key, "POST", &format!("/v1/policies/{policy}/reset"), Some(json!({ "period": "day" })));
    assert_eq!(seen["before"]["callsToday"], 2, "{seen}");
    assert_eq!(seen["before"]["tokensCostToday"].to_string(), "0.100001", "{seen}");
    let seen = last(&key, "PATCH", &format!("/v1/policies/{policy}"), Some(json!({ "status": "disabled" })));
    assert_eq!((&seen["before"]["disabled"], &seen["parameters"]["disabled"]), (&json!(false), &json!(true)));
    let seen = last(&key, "DELETE", &format!("/v1/policies/{policy}"), None);
    assert_eq!(seen["before"]["limits"]["maxTokensCostPerDay"].to_string(), "123456789.123457", "{seen}");
    assert_eq!((&seen["before"]["disabled"], &seen["parameters"]), (&json!(true), &json!({})));
    let seen = last(&key, "DELETE", &format!("/v1/delegations/{link}"), None);
    assert_eq!(seen["before"]["permissions"][0]["resource"], "docs:1", "{seen}");
    let seen = last(&key, "DELETE", &format!("/v1/agents/{}", agent.id), None);
    assert_eq!(seen["before"]["name"], "renamed", "{seen}");

    let seen = last(&operator, "PATCH", "/v1/tenants/acme", Some(json!({ "settings": { "maxAgents": 3 } })));
    assert_eq!(
        (&seen["before"]["settings"]["maxAgents"], &seen["parameters"]["settings"]["maxAgents"]),
        (&Value::Null, &json!(3))
    );
    let seen = last(&operator, "POST", "/v1/tenants/acme/suspend", None);
    assert_eq!(
        (&seen["before"], &seen["parameters"]),
        (&json!({ "status": "active" }), &json!({ "status": "suspended" }))
    );
    for (way, now) in [("suspend", true), ("activate", false)] {
        let seen = last(&operator, "POST", &format!("/v1/agents/{}/{way}", other.id), None);
        assert_eq!(seen["action"], format!("agent.{way}"));
        assert_eq!(
            (&seen["before"], &seen["parameters"]),
            (&json!({ "suspended": !now }), &json!({ "suspended": now })),
            "{seen}"
        );
    }
    let seen = last(&operator, "DELETE", &format!("/v1/tenants/acme/keys/{}", acme.key_id), None);
    assert_eq!((&seen["before"]["name"], &seen["keyName"]), (&name, &Value::Null), "{seen}");
    // A secret that somebody put in the wrong place is hidden here too.
    let secret = format!("curl {}", acme.key).into_bytes();
    let headers: [(&str, &[u8]); 1] = [("User-Agent", &secret)];
    operator.try_send("POST", "/v1/tenants/acme/activate", &headers, None).unwrap().expect(200);
    let text = operator.get("/v1/audit?kind=admin&tenantId=acme&limit=1").text().to_owned();
    assert!(text.contains("tenant.activate") && !text.contains(&acme.key), "{text}");
    // A created thing begins with nothing before it.
    let made = changes(&operator, "tenantId=acme&actions=tenant.create,agent.create,policy.create,agent.rotate");
    assert!(made.iter().all(|entry| entry["before"].is_null() && entry["ip"] == "127.0.0.1"), "{made:?}");
}

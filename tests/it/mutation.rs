//! Random bytes and mutated JSON to every route that reads a body: never a 5xx, never a broken connection.

use kavach::api::endpoints;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use crate::bad_input::prepare;
use crate::harness::Server;
use crate::world::call;

/// A body that most routes partly understand.
fn seed(agent: &str) -> Value {
    json!({
        "name": "N", "slug": "mutant", "settings": { "maxAgents": 5, "allowedAgentTypes": ["service"] },
        "tenantId": "acme", "ownerId": "u", "type": "service", "expiresAt": "2099-01-01T00:00:00Z",
        "permissions": [{
            "resource": "docs:*", "actions": ["read"],
            "constraints": {
                "maxCallsPerHour": 3, "allowedArgPatterns": ["^a+$", "/srv/**"], "ipAllowlist": ["10.0.0.0/8"],
                "timeWindow": { "start": "09:00", "end": "17:00" }, "requireApproval": false,
                "arguments": { "path": { "match": ["/srv/**"], "oneOf": ["/srv/a", 5, true], "absent": true }, "n[].m": { "max": 5, "min": 1 } },
                "otherArguments": "strings",
            },
        }],
        "metadata": { "a": 1 }, "agentId": agent, "action": "read", "resource": "docs:1", "tokensCost": 0.5,
        "arguments": { "path": "/srv/x" }, "context": { "ip": "10.0.0.1", "userAgent": "x" }, "graceSeconds": 1,
        "requests": [{ "agentId": agent, "action": "read", "resource": "docs:1" }],
        "fromAgent": agent, "toAgent": agent, "maxDepth": 2, "limits": { "maxCallsPerDay": 100_000 }, "period": "day", "calls": 1,
        "hold": { "ttlSeconds": 60 }, "ttlSeconds": 60, "role": "admin", "token": "kv_no",
        "labels": { "team": "data" }, "actions": ["read"], "timeZone": "Europe/Berlin", "weekStartsOn": "sunday", "monthStartsOn": 28,
        "temporary": { "limits": { "maxCallsPerWeek": 100_000 }, "until": "2099-01-01T00:00:00Z" },
        "url": "https://kavach.invalid/hook", "events": ["agent.*", "key.created"], "format": "slack",
    })
}

/// The members that a route reads; it would not know the others.
fn part(seed: &Value, path: &str) -> Value {
    let names: &[&str] = match path {
        "/v1/tenants" => &["name", "slug", "settings"],
        "/v1/tenants/{tenant}" => &["settings"],
        "/v1/tenants/{tenant}/keys" => &["name", "expiresAt"],
        "/v1/keys" => &["name", "role", "expiresAt"],
        "/v1/keys/{id}" | "/v1/tenants/{tenant}/keys/{id}" => &["name", "expiresAt"],
        "/v1/tokens/introspect" => &["token"],
        "/v1/agents" => &["tenantId", "ownerId", "name", "type", "permissions", "expiresAt", "metadata", "labels"],
        "/v1/agents/{id}" => &["name", "permissions", "expiresAt", "metadata", "labels"],
        "/v1/agents/{id}/rotate" => &["graceSeconds"],
        "/v1/authorize/batch" => &["requests"],
        "/v1/delegations" => &["fromAgent", "toAgent", "permissions", "expiresAt", "maxDepth"],
        "/v1/policies" => &[
            "tenantId",
            "agentId",
            "limits",
            "timeZone",
            "weekStartsOn",
            "monthStartsOn",
            "labels",
            "resource",
            "actions",
            "temporary",
        ],
        "/v1/policies/{id}" => &["limits", "timeZone", "weekStartsOn", "monthStartsOn", "temporary"],
        "/v1/policies/{id}/reset" => &["period"],
        "/v1/holds/{id}/extend" => &["ttlSeconds"],
        "/v1/policies/reset" => &["tenantId", "period"],
        "/v1/webhooks" => &["tenantId", "url", "events", "format"],
        "/v1/webhooks/{id}" => &["url", "events", "format"],
        "/v1/budget/check" => &["agentId", "tokensCost"],
        "/v1/usage" => &["agentId", "tokensCost", "calls"],
        _ => &["agentId", "tenantId", "action", "resource", "arguments", "tokensCost", "hold", "context"],
    };
    names.iter().map(|name| ((*name).to_owned(), seed[*name].clone())).collect::<serde_json::Map<_, _>>().into()
}

/// Values that parsers and checks trip over.
fn odd_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!(true)),
        Just(json!({})),
        Just(json!([])),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        "[*:^$(){}\\\\|+?\\[\\]/.a-c0-9]{0,24}".prop_map(Value::from),
        "\\PC{0,300}".prop_map(Value::from),
        Just(Value::from("a:".repeat(300))),
        Just(Value::from("9999-12-31T23:59:60Z")),
        Just(Value::from("::ffff:1.2.3.4/128")),
        (1usize..120).prop_map(crate::bad_table::nested),
    ]
}

/// Puts a value in one of the places inside another.
fn replace(value: &mut Value, place: &mut usize, with: &Value) -> bool {
    if *place == 0 {
        *value = with.clone();
        return true;
    }
    *place -= 1;
    match value {
        Value::Object(members) => members.values_mut().any(|member| replace(member, place, with)),
        Value::Array(items) => items.iter_mut().any(|item| replace(item, place, with)),
        _ => false,
    }
}

#[derive(Clone, Debug)]
enum Body {
    Bytes(Vec<u8>),
    /// Values in places.
    Changed(Vec<(usize, Value)>),
    /// Cut off, or with changed bytes.
    Broken(usize, u8),
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..200).prop_map(Body::Bytes),
        4 => prop::collection::vec((0usize..24, odd_value()), 1..3).prop_map(Body::Changed),
        2 => (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Body::Broken(at, byte)),
    ]
}

#[test]
fn no_body_crashes_the_server() {
    let mut server = Server::start();
    let agent = prepare(&server);
    let victim = server.operator().agent("acme", json!([]));
    let operator = server.operator();
    let policy = operator
        .post("/v1/policies", json!({ "tenantId": "acme", "limits": { "maxCallsPerDay": 9 }, "action": "warn" }));
    let policy = policy.expect(201)["id"].as_str().unwrap().to_owned();
    operator.tenant("other");
    let routes: Vec<_> =
        endpoints().into_iter().filter(|route| ["POST", "PATCH"].contains(&route.method.as_str())).collect();
    let seed = seed(&victim.id);
    let mut runner = TestRunner::new(Config { cases: 600, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&(0..routes.len(), body()), |(route, body)| {
        let route = &routes[route];
        // Nothing here may change the tenant of the agent that is asked at the end.
        let id = if route.path.starts_with("/v1/policies/") { &policy } else { &victim.id };
        let path = route.path.replace("{tenant}", "other").replace("{id}", id);
        let mut json = part(&seed, route.path);
        let bytes = match body {
            Body::Bytes(bytes) => bytes,
            Body::Changed(changes) => {
                for (place, value) in changes {
                    replace(&mut json, &mut place.clone(), &value);
                }
                json.to_string().into_bytes()
            }
            Body::Broken(at, byte) => {
                let mut bytes = json.to_string().into_bytes();
                let at = at % bytes.len();
                bytes[at] = byte;
                if byte % 2 == 0 {
                    bytes.truncate(at);
                }
                bytes
            }
        };
        let answer = operator.try_send(route.method.as_str(), &path, &[], Some(&bytes));
        let answer = answer.map_err(|problem| TestCaseError::fail(format!("{path}: {problem}")))?;
        prop_assert!(answer.status < 500, "{} {}: {}", route.method, path, answer.text());
        if answer.status >= 400 {
            prop_assert!(answer.code().is_some(), "{}", answer.text());
        } else {
            prop_assert!(serde_json::from_slice::<Value>(&answer.body).is_ok(), "{}", answer.text());
        }
        Ok(())
    });
    if let Err(problem) = outcome {
        panic!("{problem}");
    }
    assert!(server.is_running());
    operator.granted(call(&agent.id));
    assert!(!server.log().contains("panicked"), "{}", server.log());
    // Everything that was accepted can be read again.
    let before = operator.get("/v1/agents").expect(200);
    server.crash_and_start();
    assert_eq!(server.operator().get("/v1/agents").expect(200), before);
    assert_eq!(server.operator().get("/readyz").expect(200)["unavailableTenants"], json!([]));
}

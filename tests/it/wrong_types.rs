//! Values of wrong types in every place of every body: the answer names the field and what it takes, in words that a
//! client's author knows, and no type of the server.

use kavach::api::openapi_document;
use serde_json::{Value, json};

use crate::access::World;
use crate::access_table::rows;
use crate::harness::Server;
use crate::world::permits;

/// The paths of all places in a value.
fn places(value: &Value, at: &str, all: &mut Vec<String>) {
    all.push(at.to_owned());
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| places(value, &format!("{at}/{name}"), all)),
        Value::Array(items) => items.iter().zip(0..).for_each(|(item, n)| places(item, &format!("{at}/{n}"), all)),
        _ => {}
    }
}

/// A body with everything that a route accepts.
fn full(method: &str, path: &str, body: Value) -> Value {
    let permissions = json!([{
        "resource": "docs:1", "actions": ["read"],
        "constraints": {
            "maxCallsPerHour": 3, "allowedArgPatterns": ["^a+$"], "ipAllowlist": ["10.0.0.0/8"],
            "timeWindow": { "start": "09:00", "end": "17:00" }, "requireApproval": false,
            "arguments": { "path": { "match": ["/srv/**"], "oneOf": ["/srv/a", 5, true], "absent": true }, "n[].m": { "max": 5, "min": 1 } },
            "otherArguments": "strings",
        },
    }]);
    let settings = json!({
        "maxAgents": 5, "maxDelegationDepth": 2, "auditRetentionDays": 30, "allowedAgentTypes": ["service"]
    });
    let limits = json!({
        "maxCallsPerDay": 5, "maxCallsPerMonth": 5, "maxTokensCostPerDay": 1, "maxTokensCostPerMonth": 1
    });
    let call = json!({
        "arguments": { "a": 1 }, "tokensCost": 1, "tenantId": "default", "context": { "ip": "::1", "userAgent": "x" },
        "hold": { "ttlSeconds": 1 }, "idempotencyKey": "k",
    });
    let more = match (method, path) {
        ("POST", "/v1/tenants") | ("PATCH", "/v1/tenants/{tenant}") => json!({ "settings": settings }),
        ("POST", "/v1/agents") | ("PATCH", "/v1/agents/{id}") => {
            json!({ "permissions": permissions, "expiresAt": "2099-01-01T00:00:00Z", "metadata": { "a": 1 }, "type": "service", "labels": { "a": "b" } })
        }
        (_, "/v1/agents/{id}/rotate") => json!({ "graceSeconds": 1 }),
        (_, "/v1/keys" | "/v1/tenants/{tenant}/keys") => {
            json!({ "role": "admin", "expiresAt": "2099-01-01T00:00:00Z" })
        }
        (_, "/v1/keys/{id}" | "/v1/tenants/{tenant}/keys/{id}") => json!({ "expiresAt": "2099-01-01T00:00:00Z" }),
        (_, "/v1/tokens/introspect") => json!({ "token_type_hint": "access_token" }),
        (_, "/v1/delegations") => json!({ "permissions": permissions, "maxDepth": 2, "expiresAt": null }),
        (_, "/v1/policies") => {
            with_terms(json!({ "limits": limits, "action": "warn", "userId": "u", "agentId": null }))
        }
        (_, "/v1/policies/{id}") => with_terms(json!({ "limits": limits, "action": "warn", "status": "active" })),
        (_, "/v1/webhooks") => json!({ "format": "slack", "description": "x" }),
        (_, "/v1/webhooks/{id}") => {
            json!({ "url": "https://kavach.invalid/", "events": ["*"], "format": "slack", "status": "active" })
        }
        (_, "/v1/usage") => json!({ "tokensCost": 1, "calls": 1, "auditId": null }),
        (_, "/v1/budget/check") => json!({ "tokensCost": 1 }),
        (_, "/access/v1/evaluation") => {
            json!({ "context": { "ip": "::1", "userAgent": "x", "tenantId": "t", "tokensCost": 1 } })
        }
        (_, "/access/v1/evaluations") => json!({ "options": { "evaluations_semantic": "execute_all" } }),
        (_, path) if path.starts_with("/access/v1/search/") => json!({ "page": { "limit": 1, "token": "" } }),
        (_, path) if path.ends_with("/authorize") || path.ends_with("/explain") => call,
        _ => json!({}),
    };
    let mut body = if body.is_null() { json!({}) } else { body };
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// A policy with all that it may have besides.
fn with_terms(mut policy: Value) -> Value {
    let terms = json!({
        "timeZone": "Europe/Berlin", "weekStartsOn": "sunday", "monthStartsOn": 28, "labels": { "a": "b" },
        "resource": "docs:*", "actions": ["read"],
        "temporary": { "limits": { "maxCallsPerDay": 5, "maxTokensCostTotal": null }, "until": "2099-01-01T00:00:00Z" },
    });
    policy.as_object_mut().unwrap().extend(terms.as_object().unwrap().clone());
    policy
}

/// Words of an answer that are names of types: Rust's own, serde's, or in Rust's style.
fn type_names(text: &str) -> Vec<&str> {
    let own = ["struct", "enum", "tuple", "variant identifier", "Option", "Vec", "String", "unit"];
    let numbers = ["u8", "u16", "u32", "u64", "usize", "i8", "i16", "i32", "i64", "isize", "f32", "f64", "bool"];
    let is_camel = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_uppercase())
            && word.chars().skip(1).any(|c| c.is_ascii_uppercase())
            && word.chars().any(|c| c.is_ascii_lowercase())
    };
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| own.contains(word) || numbers.contains(word) || is_camel(word))
        .filter(|word| !["AuthZEN", "UserAgent"].contains(word))
        .collect()
}

#[test]
fn an_error_about_a_wrong_type_uses_the_words_of_the_api() {
    let server = Server::start();
    let operator = server.operator();
    let world = World::new(&operator, 1);
    let (document, _) = openapi_document();
    let schemas: Vec<&str> =
        document["components"]["schemas"].as_object().unwrap().keys().map(String::as_str).collect();
    operator.agent("default", permits("docs:*", &["read"]));
    let mut refused = 0;
    for row in rows() {
        if document["paths"][row.path][row.method.to_lowercase()]["requestBody"].is_null() {
            continue;
        }
        let body = full(row.method, row.path, (row.body)(&world.own.target));
        let mut all = Vec::new();
        places(&body, "", &mut all);
        for place in all {
            for wrong in [
                json!(5),
                json!(-1),
                json!(1.5),
                json!("x"),
                json!([]),
                json!({}),
                json!([{}]),
                json!(true),
                json!(null),
            ] {
                let mut body = body.clone();
                *body.pointer_mut(&place).unwrap() = wrong;
                let bytes = body.to_string();
                let answer = operator.send(row.method, &row.path_to(&world.own.target), Some(bytes.as_bytes()));
                assert!(answer.status < 500, "{}", answer.text());
                if answer.code().as_deref() != Some("INVALID_BODY") {
                    continue;
                }
                refused += 1;
                let message = answer.problem(400, "INVALID_BODY");
                let place = || format!("{} {} {bytes}\n{message}", row.method, row.path);
                assert_eq!(type_names(&message), Vec::<&str>::new(), "{}", place());
                for schema in &schemas {
                    let named = message.split(|c: char| !c.is_alphanumeric()).any(|word| word == *schema);
                    assert!(!named || schema.chars().all(char::is_lowercase), "{schema}: {}", place());
                }
            }
        }
    }
    assert!(refused > 400, "{refused}");
}

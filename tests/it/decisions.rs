//! The decision: the order of its checks, the tenant that decides and records, batches, and explain.

use serde_json::{Value, json};

use crate::harness::Server;
use crate::world::{Agent, audit_id, call, constrained, permits};

/// An agent id in that tenant's form that no event made.
pub fn unknown_like(agent: &str) -> String {
    let (time, rest) = agent.split_at("agt_".len() + 4);
    let digit = if rest.starts_with('f') { 'e' } else { 'f' };
    format!("{time}{digit}{}", &rest[1..])
}

/// `HH:MM` that many minutes from now.
pub fn clock(minutes: i64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let minute = (now as i64 / 60 + minutes).rem_euclid(24 * 60);
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

#[test]
fn the_first_failure_in_order_wins() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    operator.tenant("globex");
    let never = json!({ "start": clock(120), "end": clock(180) });
    // Everything is wrong at once; each step below fixes the reported cause.
    let constraints = json!({
        "timeWindow": never, "ipAllowlist": ["192.0.2.0/24"], "allowedArgPatterns": ["/srv/**"],
        "requireApproval": true, "maxCallsPerHour": 0,
    });
    let agent = operator.agent_with(
        "acme",
        json!({ "permissions": constrained("docs:*", constraints.clone()), "expiresAt": "2020-01-01T00:00:00Z" }),
    );
    operator.post("/v1/tenants/acme/suspend", json!({})).expect(200);
    let body = json!({
        "agentId": agent.id, "tenantId": "globex", "action": "read", "resource": "other:1",
        "arguments": { "path": "/etc/passwd" }, "context": { "ip": "198.51.100.1" },
    });
    let ask = |changes: Value| {
        let mut body = body.clone();
        body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        body
    };
    let unknown = unknown_like(&agent.id);
    server.with_key("kv_nobody").authorize(body.clone()).problem(401, "INVALID_TOKEN");
    operator.denied(ask(json!({})), "TENANT_MISMATCH");
    operator.denied(ask(json!({ "tenantId": "acme" })), "TENANT_SUSPENDED");
    let mut own = json!({ "tenantId": "acme", "agentId": unknown });
    operator.denied(ask(own.clone()), "TENANT_SUSPENDED");
    operator.post("/v1/tenants/acme/activate", json!({})).expect(200);
    operator.denied(ask(own.clone()), "AGENT_NOT_FOUND");
    own["agentId"] = json!(agent.id);
    operator.denied(ask(own.clone()), "AGENT_EXPIRED");
    let path = format!("/v1/agents/{}", agent.id);
    operator.patch(&path, json!({ "expiresAt": null })).expect(200);
    let reason = operator.denied(ask(own.clone()), "PERMISSION_DENIED");
    assert!(reason.starts_with("No permission ") && reason.contains("other:1"), "{reason}");
    own["resource"] = json!("docs:1");
    let mut repaired = constraints;
    for (constraint, repair, code) in [
        ("timeWindow", json!({ "start": clock(-60), "end": clock(60) }), "OUTSIDE_TIME_WINDOW"),
        ("ipAllowlist", json!(["198.51.100.1"]), "IP_NOT_ALLOWED"),
        ("allowedArgPatterns", json!(["/etc/*"]), "ARGUMENT_NOT_ALLOWED"),
        ("requireApproval", json!(false), "REQUIRES_APPROVAL"),
        ("maxCallsPerHour", json!(1), "RATE_LIMITED"),
    ] {
        operator.denied(ask(own.clone()), code);
        repaired[constraint] = repair;
        operator.patch(&path, json!({ "permissions": constrained("docs:*", repaired.clone()) })).expect(200);
    }
    operator.granted(ask(own.clone()));
    let reason = operator.denied(ask(own.clone()), "RATE_LIMITED");
    assert!(reason.starts_with("Rate limit exceeded: 1/1 "), "{reason}");
    // Revocation comes before expiry.
    operator.patch(&path, json!({ "expiresAt": "2020-01-01T00:00:00Z" })).expect(200);
    operator.delete(&path).expect(204);
    operator.denied(ask(own), "AGENT_REVOKED");
    // Each decision was recorded, only in the agent's own tenant.
    assert_eq!(operator.trail("tenantId=acme").len(), 14);
    assert_eq!(operator.trail("tenantId=globex").len() + operator.trail("tenantId=default").len(), 0);
    assert_eq!(acme.slug, "acme");
}

#[test]
fn any_permission_that_holds_grants_else_the_first_failure_is_the_reason() {
    let server = Server::start();
    let operator = server.operator();
    operator.tenant("acme");
    let permission = |resource: &str, constraints: Value| json!({ "resource": resource, "actions": ["read"], "constraints": constraints });
    let agent = operator.agent(
        "acme",
        json!([
            permission("docs:*", json!({ "ipAllowlist": ["192.0.2.1"] })),
            permission("*", json!({ "requireApproval": true })),
            permission("docs:*:draft", json!({ "maxCallsPerHour": 1 })),
        ]),
    );
    let ask = |resource: &str, ip: &str| json!({ "agentId": agent.id, "action": "read", "resource": resource, "context": { "ip": ip } });
    operator.granted(ask("docs:1", "192.0.2.1"));
    operator.denied(ask("docs:1", "192.0.2.2"), "IP_NOT_ALLOWED");
    operator.denied(ask("other:1", "192.0.2.1"), "REQUIRES_APPROVAL");
    // The third grants once; then the reason is the first one's failure, not the third's.
    operator.granted(ask("docs:1:draft", "192.0.2.2"));
    operator.denied(ask("docs:1:draft", "192.0.2.2"), "IP_NOT_ALLOWED");
    // A call that another permission granted was not counted in the third's window.
    let steps = operator.post("/v1/authorize/explain", ask("docs:1:draft", "192.0.2.1")).expect(200);
    assert_eq!((&steps["allowed"], steps.get("auditId")), (&json!(true), None), "{steps}");
}

#[test]
fn patterns_match_as_the_contract_says() {
    let server = Server::start();
    let operator = server.operator();
    operator.tenant("acme");
    for (pattern, resource, granted) in [
        ("*", "a", true),
        ("*", "a:b:c", true),
        ("mcp:*", "mcp:github:repos", true),
        ("mcp:*", "mcp:github", true),
        ("mcp:*", "mcp", false),
        ("mcp:*", "mcpx:github", false),
        ("mcp:*:repos", "mcp:github:repos", true),
        ("mcp:*:repos", "mcp:a:b:repos", false),
        ("mcp:*:repos", "mcp:repos", false),
        ("*:github:*", "mcp:github:a:b", true),
        ("mcp:github", "mcp:*", false),
        ("mcp:github", "MCP:github", false),
    ] {
        let agent = operator.agent("acme", permits(pattern, &["read", "list"]));
        let ask = |action: &str| json!({ "agentId": agent.id, "action": action, "resource": resource });
        let decision = operator.authorize(ask("list")).expect(200);
        assert_eq!(decision["allowed"], granted, "{pattern} {resource}");
        operator.denied(ask("*"), "PERMISSION_DENIED");
        operator.denied(ask("READ"), "PERMISSION_DENIED");
    }
}

#[test]
fn a_request_that_names_another_tenant_is_a_mismatch_to_every_key_but_the_operators() {
    let server = Server::start();
    let operator = server.operator();
    let (acme, globex) = (operator.tenant("acme"), operator.tenant("globex"));
    let agent = operator.reader(&acme);
    let mut texts = Vec::new();
    for tenant in [&*globex.id, "globex", "tnt_00000000000070008000000000000001", "nobody", "default", "No Slug!", ""] {
        let body = json!({ "agentId": agent.id, "tenantId": tenant, "action": "read", "resource": "docs:1" });
        for key in [&agent.token, &acme.key] {
            let reason = server.with_key(key).denied(body.clone(), "TENANT_MISMATCH");
            texts.push(reason);
        }
    }
    texts.dedup();
    assert_eq!(texts.len(), 1, "the answer reveals which tenants exist: {texts:?}");
    for tenant in [json!("acme"), json!(acme.id), Value::Null] {
        let body = json!({ "agentId": agent.id, "tenantId": tenant, "action": "read", "resource": "docs:1" });
        for key in [&agent.token, &acme.key] {
            server.with_key(key).granted(body.clone());
        }
    }
    // All of this is in the key's tenant, and none of it in the named tenant.
    assert_eq!(operator.trail("tenantId=acme").len(), 7 * 2 + 3 * 2);
    assert_eq!(operator.trail("tenantId=globex").len() + operator.trail("tenantId=default").len(), 0);
    // An operator may name any tenant, but only the agent's own is right.
    let body =
        |tenant: Value| json!({ "agentId": agent.id, "tenantId": tenant, "action": "read", "resource": "docs:1" });
    operator.granted(body(json!("acme")));
    operator.granted(body(Value::Null));
    operator.denied(body(json!("globex")), "TENANT_MISMATCH");
    operator.denied(body(json!("default")), "TENANT_MISMATCH");
    assert_eq!(operator.trail("tenantId=acme").len(), 7 * 2 + 3 * 2 + 4);
    // A path that names another tenant than the agent's is a mismatch too.
    let by_path = operator.post("/v1/tenants/globex/authorize", call(&agent.id)).expect(200);
    assert_eq!(by_path["code"], "TENANT_MISMATCH");
    operator.granted(call(&agent.id));
}

#[test]
fn a_decision_about_an_unknown_agent_is_recorded_in_the_tenant_of_the_key_or_the_request() {
    let server = Server::start();
    let operator = server.operator();
    let (acme, globex) = (operator.tenant("acme"), operator.tenant("globex"));
    let agent = operator.reader(&acme);
    let unknown = unknown_like(&agent.id);
    let count = |tenant: &str| operator.trail(&format!("tenantId={tenant}")).len();
    let counts = || [count("acme"), count("globex"), count("default")];
    let ask = |agent: &str| json!({ "agentId": agent, "action": "read", "resource": "docs:1" });
    // A tenant key: its own tenant, whatever the id says.
    server.with_key(&globex.key).denied(ask(&agent.id), "AGENT_NOT_FOUND");
    server.with_key(&globex.key).denied(ask(&unknown), "AGENT_NOT_FOUND");
    server.with_key(&globex.key).denied(ask("no id at all"), "AGENT_NOT_FOUND");
    assert_eq!(counts(), [0, 3, 0]);
    // An operator: the tenant it names, else the default one.
    operator.denied(ask(&unknown), "AGENT_NOT_FOUND");
    operator.denied(ask("agt_zzz"), "AGENT_NOT_FOUND");
    assert_eq!(counts(), [0, 3, 2]);
    let mut named = ask(&unknown);
    named["tenantId"] = json!("globex");
    operator.denied(named.clone(), "AGENT_NOT_FOUND");
    assert_eq!(counts(), [0, 4, 2]);
    operator.post("/v1/tenants/acme/authorize", ask(&unknown)).expect(200);
    assert_eq!(counts(), [1, 4, 2]);
    named["tenantId"] = json!("nobody");
    operator.authorize(named).problem(404, "TENANT_NOT_FOUND");
    assert_eq!(counts(), [1, 4, 2]);
    // In the default tenant's own view its id is null, and text with the form of an id is shown.
    let entry = &operator.trail("tenantId=default")[1];
    assert_eq!((&entry["tenantId"], &entry["agentId"]), (&Value::Null, &json!(unknown)), "{entry}");
    assert_eq!((&entry["userId"], &entry["code"]), (&Value::Null, &json!("AGENT_NOT_FOUND")));
}

#[test]
fn an_agent_may_only_ask_about_itself() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let (one, two) = (operator.reader(&acme), operator.reader(&acme));
    let client = server.with_key(&one.token);
    for other in [&*two.id, &unknown_like(&one.id), "garbage"] {
        client.authorize(call(other)).problem(403, "FORBIDDEN");
        let batch = json!({ "requests": [call(&one.id), call(other)] });
        client.post("/v1/authorize/batch", batch).problem(403, "FORBIDDEN");
        let body = json!({ "action": "read", "resource": "docs:1" });
        client.post(&format!("/v1/agents/{other}/authorize"), body).problem(403, "FORBIDDEN");
    }
    assert_eq!(operator.trail("tenantId=acme").len(), 0, "nothing was decided");
    client.granted(call(&one.id));
    let path = format!("/v1/agents/{}/authorize", one.id);
    client.post(&path, json!({ "action": "read", "resource": "docs:1" })).expect(200);
    client.post("/v1/tenants/acme/authorize", json!({ "action": "read", "resource": "docs:1" })).expect(200);
    assert_eq!(operator.trail("tenantId=acme&result=allowed").len(), 3);
    // The path and the body must not name different agents.
    operator.post(&path, call(&two.id)).problem(400, "INVALID_FIELD");
}

#[test]
fn a_batch_is_decided_in_order_each_on_its_own() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.agent("acme", constrained("docs:*", json!({ "maxCallsPerHour": 3 })));
    let requests: Vec<Value> =
        (0..6).map(|n| json!({ "action": "read", "resource": format!("docs:{n}"), "arguments": { "n": n } })).collect();
    let answer = server.with_key(&agent.token).post("/v1/authorize/batch", json!({ "requests": requests })).expect(200);
    let results = answer["results"].as_array().unwrap();
    let allowed: Vec<_> = results.iter().map(|result| result["allowed"].as_bool().unwrap()).collect();
    assert_eq!(allowed, [true, true, true, false, false, false]);
    assert!(results[3..].iter().all(|result| result["code"] == "RATE_LIMITED"), "{answer}");
    // Each has its own entry, which shows its own resource.
    for (n, result) in results.iter().enumerate() {
        let entry = operator.get(&format!("/v1/audit/{}", audit_id(result))).expect(200);
        assert_eq!((&entry["resource"], &entry["parameters"]["n"]), (&json!(format!("docs:{n}")), &json!(n)));
    }
    assert_eq!(operator.trail("tenantId=acme").len(), 6);
    // A thousand are accepted; one more is not, nor is an empty list.
    let many = |count: usize| json!({ "requests": vec![json!({ "action": "list", "resource": "docs:1" }); count] });
    let client = server.with_key(&agent.token);
    assert_eq!(client.post("/v1/authorize/batch", many(1_000)).expect(200)["results"].as_array().unwrap().len(), 1_000);
    for count in [0, 1_001] {
        let message = client.post("/v1/authorize/batch", many(count)).problem(400, "INVALID_FIELD");
        assert!(message.starts_with("requests "), "{message}");
    }
    assert_eq!(operator.trail("tenantId=acme").len(), 1_006);
    assert_eq!(server.with_key(&acme.key).trail("").len(), 1_006);
}

#[test]
fn a_malformed_request_in_a_batch_affects_no_other() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let policy = json!({ "tenantId": "acme", "limits": { "maxCallsPerDay": 1_000 } });
    let policy = operator.post("/v1/policies", policy).expect(201)["id"].as_str().unwrap().to_owned();
    let good = call(&agent.id);
    let with = |member: &str, value: Value| {
        let mut body = good.clone();
        body[member] = value;
        body
    };
    let without = |member: &str| {
        let mut body = good.clone();
        body.as_object_mut().unwrap().remove(member);
        body
    };
    // Each with the code that it would get alone, and the field.
    let bad = [
        (json!(5), "INVALID_BODY", ""),
        (json!(null), "INVALID_BODY", ""),
        (json!([]), "INVALID_BODY", ""),
        (json!({}), "INVALID_BODY", ".action"),
        (without("resource"), "INVALID_BODY", ".resource"),
        (without("agentId"), "INVALID_FIELD", ".agentId"),
        (with("resource", json!(1)), "INVALID_BODY", ".resource"),
        (with("tokensCost", json!(-1)), "INVALID_FIELD", ".tokensCost"),
        (with("context", json!({ "ip": "home" })), "INVALID_FIELD", ".context.ip"),
        (with("context", json!({ "ip": {} })), "INVALID_BODY", ".context.ip"),
    ];
    let mut requests = vec![good.clone()];
    for (body, ..) in &bad {
        requests.extend([body.clone(), good.clone()]);
    }
    for client in [operator.clone(), server.with_key(&acme.key)] {
        let answer = client.post("/v1/authorize/batch", json!({ "requests": requests })).expect(200);
        let results = answer["results"].as_array().unwrap();
        assert_eq!(results.len(), requests.len());
        for result in results.iter().step_by(2) {
            assert_eq!(result["allowed"], true, "{result}");
            audit_id(result);
        }
        for ((at, result), (_, code, field)) in results.iter().enumerate().skip(1).step_by(2).zip(&bad) {
            assert_eq!((&result["allowed"], &result["error"]["code"]), (&json!(false), &json!(code)), "{result}");
            assert_eq!(result.as_object().unwrap().len(), 2, "{result}");
            let field = format!("requests[{at}]{field}");
            assert_eq!(result["error"]["details"]["field"], field, "{result}");
            assert!(result["error"]["message"].as_str().unwrap().starts_with(&format!("{field} ")), "{result}");
        }
    }
    // A request that can't be decided is neither recorded nor charged.
    let decided = 2 * (bad.len() + 1);
    assert_eq!(operator.trail("tenantId=acme").len(), decided);
    let usage = operator.get(&format!("/v1/policies/{policy}")).expect(200)["currentUsage"].clone();
    assert_eq!(usage["callsToday"], decided, "{usage}");
    // If all are bad, none is decided; without a key none is read; and invalid JSON is no batch.
    let answer = operator.post("/v1/authorize/batch", json!({ "requests": [5, {}] })).expect(200);
    assert_eq!(answer["results"].as_array().unwrap().len(), 2);
    server.anonymous().post("/v1/authorize/batch", json!({ "requests": [5] })).problem(401, "UNAUTHENTICATED");
    operator.send("POST", "/v1/authorize/batch", Some(b"{\"requests\":[{]}")).problem(400, "INVALID_BODY");
}

#[test]
fn an_operators_batch_spans_tenants() {
    let server = Server::start();
    let operator = server.operator();
    let (acme, globex) = (operator.tenant("acme"), operator.tenant("globex"));
    let (a, g, d) =
        (operator.reader(&acme), operator.reader(&globex), operator.agent(Value::Null, permits("docs:*", &["read"])));
    let unknown = unknown_like(&a.id);
    let mut named = call(&unknown);
    named["tenantId"] = json!("globex");
    let mut nowhere = call(&unknown);
    nowhere["tenantId"] = json!("nobody");
    let requests =
        [call(&a.id), call(&g.id), call(&unknown), call(&d.id), named, nowhere, call(&a.id), call("garbage")];
    let answer = operator.post("/v1/authorize/batch", json!({ "requests": requests })).expect(200);
    let codes: Vec<_> = answer["results"].as_array().unwrap().iter().map(|r| r["code"].as_str()).collect();
    let unknown_agent = Some("AGENT_NOT_FOUND");
    let expected = [None, None, unknown_agent, None, unknown_agent, Some("TENANT_NOT_FOUND"), None, unknown_agent];
    assert_eq!(codes, expected);
    assert!(answer["results"][5].get("auditId").is_none(), "{answer}");
    let count = |tenant: &str| operator.trail(&format!("tenantId={tenant}")).len();
    assert_eq!([count("acme"), count("globex"), count("default")], [2, 2, 3]);
    // The default tenant's agent has a token that works like any other.
    server.with_key(&d.token).granted(json!({ "action": "read", "resource": "docs:1" }));
}

#[test]
fn explain_decides_and_changes_nothing() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.agent("acme", constrained("docs:*", json!({ "maxCallsPerHour": 2 })));
    let before = operator.all_of("acme");
    let key = server.with_key(&acme.key);
    for client in [&operator, &key, &operator] {
        let explained = client.post("/v1/authorize/explain", call(&agent.id)).expect(200);
        assert_eq!((&explained["allowed"], explained.get("auditId")), (&json!(true), None), "{explained}");
        let steps = explained["steps"].as_array().unwrap();
        assert!(steps.iter().any(|step| step["check"] == "maxCallsPerHour"), "{explained}");
        let details: Vec<_> = steps.iter().filter_map(|step| step["detail"].as_str()).collect();
        assert!(details.iter().any(|text| text.contains("0 of 2")), "{explained}");
    }
    assert_eq!(operator.all_of("acme"), before);
    server.with_key(&agent.token).post("/v1/authorize/explain", call(&agent.id)).problem(403, "FORBIDDEN");
    // It predicts authorize's answer.
    for _ in 0..3 {
        let explained = operator.post("/v1/authorize/explain", call(&agent.id)).expect(200);
        let decided = operator.authorize(call(&agent.id)).expect(200);
        assert_eq!((&explained["allowed"], explained.get("code")), (&decided["allowed"], decided.get("code")));
    }
    for (agent, code) in [(unknown_like(&agent.id), "AGENT_NOT_FOUND"), ("garbage".into(), "AGENT_NOT_FOUND")] {
        let count = operator.trail("").len();
        assert_eq!(operator.post("/v1/authorize/explain", call(&agent)).expect(200)["code"], code);
        assert_eq!(operator.trail("").len(), count, "nothing is recorded anywhere");
    }
}

#[test]
fn one_tenants_log_shows_nothing_of_another() {
    let server = Server::start();
    let operator = server.operator();
    let (acme, globex) = (operator.tenant("acme"), operator.tenant("globex"));
    let (a, g): (Agent, Agent) = (operator.reader(&acme), operator.reader(&globex));
    for _ in 0..3 {
        server.with_key(&a.token).granted(call(&a.id));
        server.with_key(&g.token).granted(call(&g.id));
    }
    for (tenant, other) in [(&acme, &globex), (&globex, &acme)] {
        let client = server.with_key(&tenant.key);
        for kind in ["decision", "admin"] {
            let trail = client.trail(&format!("kind={kind}"));
            assert!(trail.len() >= 2);
            assert!(trail.iter().all(|entry| entry["tenantId"] == tenant.id), "{trail:?}");
            assert!(!json!(trail).to_string().contains(&other.id));
        }
        assert_eq!(client.get("/v1/tenants").items().len(), 1);
        assert_eq!(client.get("/v1/agents").items().len(), 1);
    }
    // An operator sees both, each once, newest first.
    let all = operator.trail("");
    assert_eq!(all.len(), 6);
    assert!(all.windows(2).all(|pair| pair[0]["id"].as_str() > pair[1]["id"].as_str()), "{all:?}");
}

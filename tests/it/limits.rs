//! The limits at their edge: the last allowed value is accepted (the first refused ones are in the table of bad input).

use kavach::domain::limits::{
    MAX_ACTION_BYTES, MAX_ACTIONS, MAX_AGENTS, MAX_ARG_PATTERN_BYTES, MAX_ARG_PATTERNS, MAX_ARGUMENTS_BYTES,
    MAX_AUDIT_OFFSET, MAX_DELEGATION_DEPTH, MAX_FILTER_ACTIONS, MAX_GRACE_SECONDS, MAX_IP_NETS, MAX_JSON_DEPTH,
    MAX_METADATA_BYTES, MAX_NAME_CHARS, MAX_PAGE, MAX_PERMISSIONS, MAX_RESOURCE_BYTES, MAX_RESOURCE_SEGMENTS,
    MAX_RETENTION_DAYS, MAX_SLUG_CHARS, MAX_TENANT_KEYS,
};
use serde_json::json;

use crate::bad_table::nested;
use crate::harness::{Options, Server};
use crate::world::{constrained, permits};

#[test]
fn values_just_within_a_limit_are_accepted() {
    let mut server = Server::start();
    let operator = server.operator();
    let slug = "s".repeat(MAX_SLUG_CHARS);
    let settings = json!({
        "maxAgents": MAX_AGENTS, "maxDelegationDepth": MAX_DELEGATION_DEPTH, "auditRetentionDays": MAX_RETENTION_DAYS,
    });
    let body = json!({ "name": "é".repeat(MAX_NAME_CHARS), "slug": slug, "settings": settings });
    operator.post("/v1/tenants", body).expect(201);

    let resource = format!("r:{}", "x".repeat(MAX_RESOURCE_BYTES - 2));
    let segments = vec!["s"; MAX_RESOURCE_SEGMENTS].join(":");
    let action = "a".repeat(MAX_ACTION_BYTES);
    let actions: Vec<_> = (0..MAX_ACTIONS).map(|n| format!("action-{n}")).collect();
    let nets: Vec<_> = (0..MAX_IP_NETS).map(|n| format!("10.0.{n}.0/24")).collect();
    let patterns: Vec<_> =
        (0..MAX_ARG_PATTERNS).map(|n| format!("p{n}-{}", "x".repeat(MAX_ARG_PATTERN_BYTES - 6))).collect();
    let permissions = json!([
        { "resource": resource, "actions": [action] },
        { "resource": segments, "actions": actions },
        { "resource": "net", "actions": ["*"], "constraints": { "ipAllowlist": nets } },
        { "resource": "arg", "actions": ["*"], "constraints": { "allowedArgPatterns": patterns } },
    ]);
    let metadata = json!({ "a": "x".repeat(MAX_METADATA_BYTES - r#"{"a":""}"#.len()) });
    let fields = json!({
        "ownerId": "o".repeat(MAX_NAME_CHARS), "permissions": permissions, "metadata": metadata,
        "expiresAt": "9999-12-31T23:59:59.999Z",
    });
    let agent = operator.agent_with(&*slug, fields);
    let ask = |action: &str, resource: &str| json!({ "agentId": agent.id, "action": action, "resource": resource });
    operator.granted(ask(&action, &resource));
    operator.granted(ask("action-63", &segments));
    let mut from = ask("x", "net");
    from["context"] = json!({ "ip": "10.0.255.7" });
    operator.granted(from);
    let mut with = ask("x", "arg");
    with["arguments"] = json!({ "a": patterns[63] });
    operator.granted(with);
    for arguments in [json!({ "a": "x".repeat(MAX_ARGUMENTS_BYTES - r#"{"a":""}"#.len()) }), nested(MAX_JSON_DEPTH)] {
        let mut large = ask(&action, &resource);
        large["arguments"] = arguments.clone();
        let id = operator.granted(large);
        assert_eq!(operator.get(&format!("/v1/audit/{id}")).expect(200)["parameters"], arguments);
    }
    let mut dear = ask(&action, &resource);
    dear["tokensCost"] = json!(1_000_000_000);
    operator.granted(dear);
    operator.post(&format!("/v1/agents/{}/rotate", agent.id), json!({ "graceSeconds": MAX_GRACE_SECONDS })).expect(200);
    let names = vec!["a"; MAX_FILTER_ACTIONS].join(",");
    operator.get(&format!("/v1/audit?limit={MAX_PAGE}&offset={MAX_AUDIT_OFFSET}&actions={names}")).expect(200);

    // All of it survives.
    let before = operator.all_of(&slug);
    server.crash_and_start();
    assert_eq!(server.operator().all_of(&slug), before);
}

#[test]
fn an_agent_may_hold_a_thousand_permissions_and_the_last_one_counts() {
    let server = Server::start();
    let operator = server.operator();
    operator.tenant("acme");
    let permissions: Vec<_> =
        (0..MAX_PERMISSIONS).map(|n| json!({ "resource": format!("docs:{n}:*"), "actions": ["read"] })).collect();
    let agent = operator.agent("acme", json!(permissions));
    let ask = |n: usize| json!({ "agentId": agent.id, "action": "read", "resource": format!("docs:{n}:x") });
    operator.granted(ask(0));
    operator.granted(ask(MAX_PERMISSIONS - 1));
    operator.denied(ask(MAX_PERMISSIONS), "PERMISSION_DENIED");
    assert_eq!(operator.get(&format!("/v1/agents/{}", agent.id)).expect(200)["permissions"], json!(permissions));
}

#[test]
fn the_number_of_a_tenants_keys_is_limited() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    for n in 1..MAX_TENANT_KEYS {
        operator.post("/v1/tenants/acme/keys", json!({ "name": format!("key {n}") })).expect(201);
    }
    operator.post("/v1/tenants/acme/keys", json!({ "name": "one more" })).problem(422, "KEY_LIMIT_EXCEEDED");
    operator.delete(&format!("/v1/tenants/acme/keys/{}", acme.key_id)).expect(204);
    operator.post("/v1/tenants/acme/keys", json!({ "name": "one more" })).expect(201);
    assert_eq!(operator.get("/v1/tenants/acme/keys").items().len(), MAX_TENANT_KEYS);
}

#[test]
fn many_short_strings_cost_as_much_as_a_long_one() {
    let server = Server::start();
    let operator = server.operator();
    operator.tenant("acme");
    let patterns = |one: &str| {
        let many = (0..63).map(|n| one.replace('N', &n.to_string()));
        json!({ "allowedArgPatterns": many.chain(["**".to_owned()]).collect::<Vec<_>>() })
    };
    for (pattern, count) in [("https://hN/*", 15_000), ("{aN,bN}", 15_000), ("^aN$", 15_000), ("**", 20_000)] {
        let agent = operator.agent("acme", constrained("docs:*", patterns(pattern)));
        let arguments = json!({ "list": vec![""; count] });
        let body = json!({ "agentId": agent.id, "action": "read", "resource": "docs:1", "arguments": arguments });
        let reason = operator.denied(body, "ARGUMENT_NOT_ALLOWED");
        assert!(reason.contains("more work"), "{pattern}: {reason}");
    }
}

#[test]
fn a_batch_leaves_other_tenants_their_turn() {
    let server = Server::start_with(Options::args(&["--workers", "1"]));
    let operator = server.operator();
    operator.tenant("acme");
    operator.tenant("other");
    let patterns: Vec<_> = (0..64).map(|n| format!("https://h{n}/*")).collect();
    let agent = operator.agent("acme", constrained("docs:*", json!({ "allowedArgPatterns": patterns })));
    let quick = operator.agent("other", permits("docs:*", &["read"]));
    let heavy = json!({ "action": "read", "resource": "docs:1", "arguments": { "list": vec![""; 2_000] } });
    let batch = json!({ "requests": vec![heavy; 40] });
    let token = server.with_key(&agent.token);
    let (started, begun) = std::sync::mpsc::channel();
    let asking = std::thread::spawn(move || {
        started.send(()).unwrap();
        token.post("/v1/authorize/batch", batch).expect(200)["results"].as_array().unwrap().len()
    });
    begun.recv().unwrap();
    // Calls are answered while it is under way: some before its end, however long each decision takes.
    let mut answered = 0;
    while !asking.is_finished() {
        operator.granted(crate::world::call(&quick.id));
        answered += 1;
    }
    assert_eq!(asking.join().unwrap(), 40);
    assert!(answered > 3, "only {answered} calls of another tenant were answered while a batch was decided");
}

#[test]
fn no_pattern_can_slow_the_server_down() {
    let server = Server::start();
    let operator = server.operator();
    operator.tenant("acme");
    // Classics of their kind; each is answered, and so is the next call.
    for pattern in ["^(a+)+$", "^(a|aa)+$", "^(.*a){12}$", "**/**/**/**/**/x", &"*a".repeat(200)] {
        let agent = operator.agent("acme", constrained("docs:*", json!({ "allowedArgPatterns": [pattern] })));
        let arguments = json!({ "a": format!("{}!", "a/".repeat(10_000)) });
        let body = json!({ "agentId": agent.id, "action": "read", "resource": "docs:1", "arguments": arguments });
        operator.denied(body, "ARGUMENT_NOT_ALLOWED");
    }
    let agent = operator.agent("acme", permits("docs:*", &["read"]));
    operator.granted(crate::world::call(&agent.id));
}

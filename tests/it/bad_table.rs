//! Requests that are wrong in one way each, with the code they get and the field that the sentence must name.

use kavach::domain::limits::{
    MAX_ACTION_BYTES, MAX_ACTIONS, MAX_AGENTS, MAX_ARG_PATTERN_BYTES, MAX_ARG_PATTERNS, MAX_ARGUMENT_NAME_BYTES,
    MAX_DELEGATION_DEPTH, MAX_GRACE_SECONDS, MAX_HOLD_SECONDS, MAX_IP_NETS, MAX_JSON_DEPTH, MAX_LABELS,
    MAX_METADATA_BYTES, MAX_NAME_CHARS, MAX_PERMISSIONS, MAX_RESOURCE_BYTES, MAX_RESOURCE_SEGMENTS, MAX_RETENTION_DAYS,
    MAX_SLUG_CHARS,
};
use serde_json::{Value, json};

/// One bad request. `{agent}` in a path is an existing agent, `acme` an existing tenant.
pub struct Bad {
    pub method: &'static str,
    pub path: String,
    pub body: Value,
    pub status: u16,
    pub code: &'static str,
    pub names: &'static str,
}

fn bad(method: &'static str, path: &str, body: Value, code: &'static str, names: &'static str) -> Bad {
    let status = match code {
        "SLUG_TAKEN" => 409,
        "AGENT_TYPE_NOT_ALLOWED" | "DEFAULT_TENANT_FIXED" => 422,
        "TENANT_NOT_FOUND" | "AGENT_NOT_FOUND" | "KEY_NOT_FOUND" | "AUDIT_ENTRY_NOT_FOUND" => 404,
        "DELEGATION_NOT_FOUND" | "HOLD_NOT_FOUND" => 404,
        "DELEGATION_SELF" => 422,
        _ => 400,
    };
    Bad { method, path: path.to_owned(), body, status, code, names }
}

const FIELD: &str = "INVALID_FIELD";
const PATTERN: &str = "INVALID_PATTERN";
const BODY: &str = "INVALID_BODY";
const QUERY: &str = "INVALID_QUERY";

fn with(base: &Value, changes: Value) -> Value {
    let mut body = base.clone();
    for (name, value) in changes.as_object().unwrap() {
        // A field to leave out.
        if value == "<absent>" {
            body.as_object_mut().unwrap().remove(name);
        } else {
            body[name] = value.clone();
        }
    }
    body
}

/// JSON text nested so deep that no parser should follow it.
pub fn nested(depth: usize) -> Value {
    let mut value = json!(1);
    for _ in 0..depth {
        value = json!([value]);
    }
    value
}

fn long(count: usize) -> String {
    "x".repeat(count)
}

/// Arrays in place of objects, which a derived deserializer takes for the members in order.
pub fn positional() -> Vec<Bad> {
    let agent = json!({ "tenantId": "acme", "ownerId": "u", "name": "b", "type": "service" });
    let window = json!({ "timeWindow": ["09:00", "17:00"] });
    let permission = json!([{ "resource": "a", "actions": ["b"], "constraints": window }]);
    vec![
        bad("POST", "/v1/tenants", json!(["N", "new"]), BODY, "body"),
        bad("POST", "/v1/tenants", json!({ "name": "N", "slug": "new", "settings": [] }), BODY, "settings"),
        bad("PATCH", "/v1/tenants/acme", json!([]), BODY, "body"),
        bad("POST", "/v1/tenants/acme/keys", json!(["k"]), BODY, "body"),
        bad("PATCH", "/v1/agents/{agent}", json!([]), BODY, "body"),
        bad("POST", "/v1/agents", with(&agent, json!({ "permissions": [["a", ["b"]]] })), BODY, "permissions[0]"),
        bad("POST", "/v1/agents", with(&agent, json!({ "permissions": permission })), BODY, "timeWindow"),
        bad("POST", "/v1/authorize", json!(["agt_1", null, "read", "docs:1", null, null, null]), BODY, "body"),
        bad(
            "POST",
            "/v1/authorize",
            json!({ "agentId": "agt_1", "action": "read", "resource": "docs:1", "context": ["10.0.0.1"] }),
            BODY,
            "context",
        ),
        bad("POST", "/v1/authorize/batch", json!([[]]), BODY, "body"),
        bad("POST", "/v1/agents/{agent}/rotate", json!([0]), BODY, "body"),
        bad("POST", "/v1/policies", json!({ "limits": [5] }), BODY, "limits"),
        bad("PATCH", "/v1/tenants/acme", json!({ "settings": [5] }), BODY, "settings"),
        bad("POST", "/v1/webhooks", json!(["https://kavach.invalid/", ["*"]]), BODY, "body"),
        bad("POST", "/v1/usage", json!(["agt_1"]), BODY, "body"),
        bad("POST", "/v1/delegations", json!([]), BODY, "body"),
    ]
}

/// All of them.
pub fn all() -> Vec<Bad> {
    let mut table = tenants();
    table.extend(agents());
    table.extend(permissions());
    table.extend(calls());
    table.extend(queries());
    table.extend(delegations());
    table.extend(holds());
    table.extend(webhooks());
    table
}

fn webhooks() -> Vec<Bad> {
    let base = json!({ "tenantId": "acme", "url": "https://kavach.invalid/", "events": ["*"] });
    let post = |changes: Value, code, names| bad("POST", "/v1/webhooks", with(&base, changes), code, names);
    let urls = [
        "",
        "kavach.invalid",
        "http://kavach.invalid/",
        "ftp://kavach.invalid/",
        "https://",
        "https://user@kavach.invalid/",
        "https://kavach.invalid/#x",
        "https://kavach.invalid:0/",
        "https://127.0.0.1/",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f.0.0.1/",
        "https://0177.0.0.1/",
        "https://10.0.0.1/",
        "https://172.16.0.1/",
        "https://192.168.1.1/",
        "https://169.254.169.254/latest/meta-data/",
        "https://100.64.0.1/",
        "https://224.0.0.1/",
        "https://0.0.0.0/",
        "https://255.255.255.255/",
        "https://[::1]/",
        "https://[::]/",
        "https://[fe80::1]/",
        "https://[fd00::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://[64:ff9b::a00:1]/",
        "https://[ff02::1]/",
        "https://[2002:7f00:1::]/",
        "https://127.0.0.1./",
    ];
    let mut table: Vec<Bad> = urls.into_iter().map(|url| post(json!({ "url": url }), FIELD, "url")).collect();
    table.extend([
        post(json!({ "url": format!("https://kavach.invalid/{}", long(2_048)) }), FIELD, "url"),
        post(json!({ "url": "<absent>" }), BODY, "url"),
        post(json!({ "url": 5 }), BODY, "url"),
        post(json!({ "events": "<absent>" }), BODY, "events"),
        post(json!({ "events": "*" }), BODY, "events"),
        post(json!({ "events": [] }), FIELD, "events"),
        post(json!({ "events": [""] }), FIELD, "events"),
        post(json!({ "events": ["agent.exploded"] }), FIELD, "events"),
        post(json!({ "events": ["agent*"] }), FIELD, "events"),
        post(json!({ "events": vec!["*"; 65] }), FIELD, "events"),
        post(json!({ "format": "xml" }), BODY, "format"),
        post(json!({ "description": "" }), FIELD, "description"),
        post(json!({ "description": long(257) }), FIELD, "description"),
        post(json!({ "tenantId": "nobody" }), "TENANT_NOT_FOUND", "nobody"),
        post(json!({ "secret": "whsec_x" }), BODY, "secret"),
    ]);
    table
}

fn holds() -> Vec<Bad> {
    let extend = |body: Value, code, names| bad("POST", "/v1/holds/aud_1/extend", body, code, names);
    let get = |path: &str, code, names| bad("GET", path, Value::Null, code, names);
    vec![
        extend(json!({}), BODY, "ttlSeconds"),
        extend(json!({ "ttlSeconds": 0 }), FIELD, "ttlSeconds"),
        extend(json!({ "ttlSeconds": MAX_HOLD_SECONDS + 1 }), FIELD, "ttlSeconds"),
        extend(json!({ "ttlSeconds": -1 }), BODY, "ttlSeconds"),
        extend(json!({ "ttlSeconds": null }), BODY, "ttlSeconds"),
        extend(json!({ "ttlSeconds": 1, "until": "2099-01-01T00:00:00Z" }), BODY, "until"),
        extend(json!({ "ttlSeconds": 1 }), "HOLD_NOT_FOUND", "aud_1"),
        bad("POST", "/v1/holds/nothing/release", json!({}), "HOLD_NOT_FOUND", "nothing"),
        get("/v1/holds/aud_1", "HOLD_NOT_FOUND", "aud_1"),
        get("/v1/holds?agentId=bot", QUERY, "agentId"),
        get("/v1/holds?status=open", QUERY, "status"),
        get("/v1/holds?tenantId=nobody", "TENANT_NOT_FOUND", "nobody"),
    ]
}

fn tenants() -> Vec<Bad> {
    let base = json!({ "name": "N", "slug": "new" });
    let post = |changes: Value, code, names| bad("POST", "/v1/tenants", with(&base, changes), code, names);
    let patch = |body: Value, code, names| bad("PATCH", "/v1/tenants/acme", body, code, names);
    let mut table: Vec<Bad> = ["", "-", "a-", "-a", "a--b", "A", "a_b", "a b", "ä", "a.b", "a/b", "a\n", "a\u{0}"]
        .into_iter()
        .map(|slug| post(json!({ "slug": slug }), FIELD, "slug"))
        .collect();
    table.extend([
        post(json!({ "slug": long(MAX_SLUG_CHARS + 1) }), FIELD, "slug"),
        post(json!({ "slug": "acme" }), "SLUG_TAKEN", "slug"),
        post(json!({ "slug": "default" }), "SLUG_TAKEN", "slug"),
        post(json!({ "slug": "<absent>" }), BODY, "slug"),
        post(json!({ "slug": null }), BODY, "slug"),
        post(json!({ "slug": 5 }), BODY, "slug"),
        post(json!({ "slug": ["new"] }), BODY, "slug"),
        post(json!({ "name": "<absent>" }), BODY, "name"),
        post(json!({ "name": "" }), FIELD, "name"),
        post(json!({ "name": " \t " }), FIELD, "name"),
        post(json!({ "name": "a\u{7}b" }), FIELD, "name"),
        post(json!({ "name": "é".repeat(MAX_NAME_CHARS + 1) }), FIELD, "name"),
        post(json!({ "name": {} }), BODY, "name"),
        post(json!({ "id": "tnt_1" }), BODY, "id"),
        post(json!({ "status": "suspended" }), BODY, "status"),
        post(json!({ "settings": "none" }), BODY, "settings"),
        post(json!({ "settings": { "maxAgent": 5 } }), BODY, "maxAgent"),
        post(json!({ "settings": { "maxAgents": "5" } }), BODY, "maxAgents"),
        post(json!({ "settings": { "maxAgents": -1 } }), BODY, "maxAgents"),
        post(json!({ "settings": { "maxAgents": 1.5 } }), BODY, "maxAgents"),
        post(json!({ "settings": { "maxAgents": 1e30 } }), BODY, "maxAgents"),
        post(json!({ "settings": { "maxAgents": MAX_AGENTS + 1 } }), FIELD, "settings.maxAgents"),
        post(json!({ "settings": { "maxDelegationDepth": 0 } }), FIELD, "settings.maxDelegationDepth"),
        post(
            json!({ "settings": { "maxDelegationDepth": MAX_DELEGATION_DEPTH + 1 } }),
            FIELD,
            "settings.maxDelegationDepth",
        ),
        post(json!({ "settings": { "auditRetentionDays": 0 } }), FIELD, "settings.auditRetentionDays"),
        post(
            json!({ "settings": { "auditRetentionDays": MAX_RETENTION_DAYS + 1 } }),
            FIELD,
            "settings.auditRetentionDays",
        ),
        post(json!({ "settings": { "allowedAgentTypes": [] } }), FIELD, "settings.allowedAgentTypes"),
        post(
            json!({ "settings": { "allowedAgentTypes": ["service", "service"] } }),
            FIELD,
            "settings.allowedAgentTypes",
        ),
        post(json!({ "settings": { "allowedAgentTypes": ["robot"] } }), BODY, "allowedAgentTypes"),
        post(json!({ "settings": { "allowedAgentTypes": "service" } }), BODY, "allowedAgentTypes"),
        patch(json!({ "slug": "other" }), BODY, "slug"),
        patch(json!({ "name": "" }), FIELD, "name"),
        patch(json!({ "settings": { "maxAgents": 5, "unknown": 1 } }), BODY, "unknown"),
        patch(json!({ "name": "Good", "settings": { "auditRetentionDays": 0 } }), FIELD, "settings.auditRetentionDays"),
        patch(json!("x"), BODY, "body"),
        bad("PATCH", "/v1/tenants/nobody", json!({ "name": "x" }), "TENANT_NOT_FOUND", "nobody"),
        bad("GET", "/v1/tenants/No%20Slug", Value::Null, "TENANT_NOT_FOUND", "tenant"),
        bad("POST", "/v1/tenants/default/suspend", Value::Null, "DEFAULT_TENANT_FIXED", "default"),
        bad("DELETE", "/v1/tenants/acme", Value::Null, "CONFIRMATION_REQUIRED", "confirm"),
        bad("DELETE", "/v1/tenants/acme?confirm=Acme", Value::Null, "CONFIRMATION_REQUIRED", "confirm"),
        bad("DELETE", "/v1/tenants/acme?force=true", Value::Null, QUERY, "force"),
        bad("POST", "/v1/tenants/acme/keys", json!({}), BODY, "name"),
        bad("POST", "/v1/tenants/acme/keys", json!({ "name": "" }), FIELD, "name"),
        bad("POST", "/v1/tenants/acme/keys", json!({ "name": "k", "key": "kvt_mine" }), BODY, "key"),
        bad("POST", "/v1/tenants/acme/keys", json!({ "name": "k", "role": "owner" }), BODY, "role"),
        bad("POST", "/v1/tenants/acme/keys", json!({ "name": "k", "role": null }), BODY, "role"),
        bad("POST", "/v1/tenants/acme/keys", json!({ "name": "k", "expiresAt": "soon" }), FIELD, "expiresAt"),
        bad(
            "POST",
            "/v1/tenants/acme/keys",
            json!({ "name": "k", "expiresAt": "2020-01-01T00:00:00Z" }),
            FIELD,
            "expiresAt",
        ),
        bad("POST", "/v1/keys", json!({ "name": "k" }), BODY, "role"),
        bad("POST", "/v1/keys", json!({ "role": "admin" }), BODY, "name"),
        bad("POST", "/v1/keys", json!({ "name": "k", "role": "viewer" }), BODY, "role"),
        bad("POST", "/v1/keys", json!({ "name": " ", "role": "admin" }), FIELD, "name"),
        bad(
            "POST",
            "/v1/keys",
            json!({ "name": "k", "role": "admin", "expiresAt": "2020-01-01T00:00:00Z" }),
            FIELD,
            "expiresAt",
        ),
        bad("POST", "/v1/keys", json!({ "name": "k", "role": "admin", "key": "kvo_mine" }), BODY, "key"),
        bad("PATCH", "/v1/keys/key_1", json!({ "name": "k" }), "KEY_NOT_FOUND", "key_1"),
        bad("PATCH", "/v1/keys/key_1", json!({ "role": "admin" }), BODY, "role"),
        bad("PATCH", "/v1/tenants/acme/keys/key_1", json!({ "name": "k" }), "KEY_NOT_FOUND", "key_1"),
        bad("PATCH", "/v1/tenants/acme/keys/key_1", json!({ "role": "admin" }), BODY, "role"),
        bad("DELETE", "/v1/keys/key_1", Value::Null, "KEY_NOT_FOUND", "key_1"),
        bad("DELETE", "/v1/keys/operator", Value::Null, "KEY_NOT_FOUND", "operator"),
        bad("POST", "/v1/tokens/introspect", json!({}), BODY, "token"),
        bad("POST", "/v1/tokens/introspect", json!({ "token": 5 }), BODY, "token"),
        bad("POST", "/v1/tokens/introspect", json!({ "token": "x", "agentId": "y" }), BODY, "agentId"),
        bad("DELETE", "/v1/tenants/acme/keys/key_1", Value::Null, "KEY_NOT_FOUND", "key_1"),
    ]);
    table
}

fn agents() -> Vec<Bad> {
    let base = json!({ "tenantId": "acme", "ownerId": "u", "name": "b", "type": "service", "permissions": [] });
    let post = |changes: Value, code, names| bad("POST", "/v1/agents", with(&base, changes), code, names);
    let patch = |body: Value, code, names| bad("PATCH", "/v1/agents/{agent}", body, code, names);
    let rotate = |body: Value, code, names| bad("POST", "/v1/agents/{agent}/rotate", body, code, names);
    let many_labels: Value = (0..=MAX_LABELS).map(|number| (format!("k{number}"), json!("v"))).collect();
    vec![
        post(json!({ "tenantId": "nobody" }), "TENANT_NOT_FOUND", "nobody"),
        post(json!({ "tenantId": "No Slug" }), "TENANT_NOT_FOUND", "tenant"),
        post(json!({ "tenantId": 5 }), BODY, "tenantId"),
        post(json!({ "ownerId": "<absent>" }), BODY, "ownerId"),
        post(json!({ "ownerId": "" }), FIELD, "ownerId"),
        post(json!({ "ownerId": long(MAX_NAME_CHARS + 1) }), FIELD, "ownerId"),
        post(json!({ "name": "a\nb" }), FIELD, "name"),
        post(json!({ "type": "<absent>" }), BODY, "type"),
        post(json!({ "type": "robot" }), BODY, "type"),
        post(json!({ "type": "Service" }), BODY, "type"),
        post(json!({ "type": "delegated" }), "AGENT_TYPE_NOT_ALLOWED", "type"),
        post(json!({ "permission": [] }), BODY, "permission"),
        post(json!({ "token": "kv_mine" }), BODY, "token"),
        post(json!({ "status": "active" }), BODY, "status"),
        post(json!({ "expiresAt": "tomorrow" }), FIELD, "expiresAt"),
        post(json!({ "expiresAt": "2026-02-30T00:00:00Z" }), FIELD, "expiresAt"),
        post(json!({ "expiresAt": "2026-02-03" }), FIELD, "expiresAt"),
        post(json!({ "expiresAt": "1969-12-31T23:59:59Z" }), FIELD, "expiresAt"),
        post(json!({ "expiresAt": 1_700_000_000 }), BODY, "expiresAt"),
        post(json!({ "labels": [] }), BODY, "labels"),
        post(json!({ "labels": { "team": 1 } }), BODY, "labels"),
        post(json!({ "labels": { "a:b": "c" } }), FIELD, "labels"),
        post(json!({ "labels": { "": "c" } }), FIELD, "labels"),
        post(json!({ "labels": { "team": long(64) } }), FIELD, "labels.team"),
        post(json!({ "labels": { (long(64)): "c" } }), FIELD, "labels"),
        post(json!({ "labels": many_labels }), FIELD, "labels"),
        post(json!({ "labels": { "team": "a\u{200b}" } }), FIELD, "labels.team"),
        post(json!({ "metadata": [] }), FIELD, "metadata"),
        post(json!({ "metadata": "text" }), FIELD, "metadata"),
        post(json!({ "metadata": { "a": nested(MAX_JSON_DEPTH) } }), FIELD, "metadata"),
        post(json!({ "metadata": { "a": long(MAX_METADATA_BYTES) } }), FIELD, "metadata"),
        patch(json!({ "tenantId": "globex" }), BODY, "tenantId"),
        patch(json!({ "name": "" }), FIELD, "name"),
        patch(json!({ "ownerId": 7 }), BODY, "ownerId"),
        patch(json!({ "type": "delegated" }), "AGENT_TYPE_NOT_ALLOWED", "type"),
        patch(json!({ "name": "Good", "expiresAt": "" }), FIELD, "expiresAt"),
        patch(
            json!({ "name": "Good", "permissions": [{ "resource": "a*", "actions": ["*"] }] }),
            PATTERN,
            "permissions[0].resource",
        ),
        patch(json!({ "status": "active" }), BODY, "status"),
        rotate(json!({ "graceSeconds": MAX_GRACE_SECONDS + 1 }), FIELD, "graceSeconds"),
        rotate(json!({ "graceSeconds": -1 }), BODY, "graceSeconds"),
        rotate(json!({ "graceSeconds": "1" }), BODY, "graceSeconds"),
        rotate(json!({ "grace": 1 }), BODY, "grace"),
        bad("GET", "/v1/agents/agt_1", Value::Null, "AGENT_NOT_FOUND", "agt_1"),
        bad("PATCH", "/v1/agents/nobody", json!({ "name": "x" }), "AGENT_NOT_FOUND", "nobody"),
        bad("DELETE", "/v1/agents/nobody", Value::Null, "AGENT_NOT_FOUND", "nobody"),
    ]
}

fn permissions() -> Vec<Bad> {
    let base = json!({ "tenantId": "acme", "ownerId": "u", "name": "b", "type": "service" });
    let post = |permissions: Value, code, names| {
        bad("POST", "/v1/agents", with(&base, json!({ "permissions": permissions })), code, names)
    };
    let one = |changes: Value, code, names| {
        post(json!([with(&json!({ "resource": "a:b", "actions": ["read"] }), changes)]), code, names)
    };
    let constraint = |constraints: Value, code, names| one(json!({ "constraints": constraints }), code, names);
    let window = |start: &str, end: &str, names| {
        constraint(json!({ "timeWindow": { "start": start, "end": end } }), PATTERN, names)
    };
    const RESOURCE: &str = "permissions[0].resource";
    let mut table: Vec<Bad> = ["a*", "*a", "mcp:git*", "mcp:*hub:x", "**", "mcp:**"]
        .map(|text| one(json!({ "resource": text }), PATTERN, RESOURCE))
        .into();
    table.extend(
        ["", ":", "a:", ":a", "a\u{202e}", "a\u{0}"].map(|text| one(json!({ "resource": text }), FIELD, RESOURCE)),
    );
    table.extend(["10.0.0.0/33", "10.0.0", "::/129", "localhost", "", "10.0.0.0/", "10.0.0.1/-1", " 10.0.0.1"].map(
        |net| {
            constraint(
                json!({ "ipAllowlist": ["10.0.0.1", net] }),
                PATTERN,
                "permissions[0].constraints.ipAllowlist[1]",
            )
        },
    ));
    table.extend(
        ["24:00", "9:00", "09:60", "0900", "", "09:00:00", "-1:00", "+9:00", "aa:bb"]
            .map(|clock| window(clock, "23:00", "permissions[0].constraints.timeWindow.start")),
    );
    table.extend([
        window("09:00", "25:00", "permissions[0].constraints.timeWindow.end"),
        window("09:00", "09:00", "permissions[0].constraints.timeWindow"),
        one(json!({ "resource": long(MAX_RESOURCE_BYTES + 1) }), FIELD, RESOURCE),
        one(json!({ "resource": vec!["a"; MAX_RESOURCE_SEGMENTS + 1].join(":") }), FIELD, RESOURCE),
        one(json!({ "resource": "<absent>" }), BODY, "resource"),
        one(json!({ "resource": 1 }), BODY, "permissions[0].resource"),
        one(json!({ "actions": [] }), FIELD, "permissions[0].actions"),
        one(json!({ "actions": vec!["a"; MAX_ACTIONS + 1] }), FIELD, "permissions[0].actions"),
        one(json!({ "actions": ["read", ""] }), FIELD, "permissions[0].actions[1]"),
        one(json!({ "actions": ["re*"] }), PATTERN, "permissions[0].actions[0]"),
        one(json!({ "actions": [long(MAX_ACTION_BYTES + 1)] }), FIELD, "permissions[0].actions[0]"),
        one(json!({ "actions": "read" }), BODY, "permissions[0].actions"),
        one(json!({ "action": ["read"] }), BODY, "action"),
        // Misspelled, it would widen access.
        one(json!({ "constraint": { "requireApproval": true } }), BODY, "constraint"),
        constraint(json!({ "maxCallPerHour": 1 }), BODY, "maxCallPerHour"),
        constraint(json!({ "maxCallsPerHour": -1 }), BODY, "maxCallsPerHour"),
        constraint(json!({ "maxCallsPerHour": 4_294_967_296u64 }), BODY, "maxCallsPerHour"),
        constraint(json!({ "requireApproval": "yes" }), BODY, "requireApproval"),
        constraint(json!({ "timeWindow": { "start": "09:00" } }), BODY, "end"),
        constraint(json!({ "timeWindow": { "start": "09:00", "end": "10:00", "zone": "CET" } }), BODY, "zone"),
        constraint(json!({ "ipAllowlist": [] }), FIELD, "permissions[0].constraints.ipAllowlist"),
        constraint(
            json!({ "ipAllowlist": vec!["10.0.0.1"; MAX_IP_NETS + 1] }),
            FIELD,
            "permissions[0].constraints.ipAllowlist",
        ),
        constraint(json!({ "allowedArgPatterns": [] }), FIELD, "permissions[0].constraints.allowedArgPatterns"),
        constraint(
            json!({ "allowedArgPatterns": vec!["a"; MAX_ARG_PATTERNS + 1] }),
            FIELD,
            "permissions[0].constraints.allowedArgPatterns",
        ),
        constraint(
            json!({ "allowedArgPatterns": ["a", ""] }),
            PATTERN,
            "permissions[0].constraints.allowedArgPatterns[1]",
        ),
        constraint(
            json!({ "allowedArgPatterns": [long(MAX_ARG_PATTERN_BYTES + 1)] }),
            PATTERN,
            "allowedArgPatterns[0]",
        ),
        constraint(
            json!({ "allowedArgPatterns": ["^(a"] }),
            PATTERN,
            "permissions[0].constraints.allowedArgPatterns[0]",
        ),
        constraint(json!({ "allowedArgPatterns": [r"^(\w{1,9}){1,9}{9}{9}$"] }), PATTERN, "allowedArgPatterns[0]"),
        constraint(json!({ "allowedArgPatterns": ["^.{1000}{1000}{1000}$"] }), PATTERN, "allowedArgPatterns[0]"),
        constraint(
            json!({ "allowedArgPatterns": [format!("^{}", "(".repeat(500))] }),
            PATTERN,
            "allowedArgPatterns[0]",
        ),
        constraint(json!({ "arguments": {} }), FIELD, "permissions[0].constraints.arguments"),
        constraint(json!({ "arguments": [] }), BODY, "arguments"),
        constraint(json!({ "arguments": { "a": 1 } }), BODY, "a"),
        constraint(json!({ "arguments": { "a": { "maximum": 1 } } }), BODY, "maximum"),
        constraint(json!({ "arguments": { "a..b": {} } }), FIELD, "permissions[0].constraints.arguments.a..b"),
        constraint(json!({ "arguments": { "a": {}, "a.b": {} } }), FIELD, "permissions[0].constraints.arguments.a.b"),
        constraint(json!({ "arguments": { "a": { "match": ["^(a"] } } }), PATTERN, "arguments.a.match[0]"),
        constraint(json!({ "arguments": { "a": { "oneOf": [] } } }), FIELD, "arguments.a.oneOf"),
        constraint(json!({ "arguments": { "a": { "oneOf": [{}] } } }), FIELD, "arguments.a.oneOf[0]"),
        constraint(json!({ "arguments": { "a": { "max": "100" } } }), FIELD, "arguments.a.max"),
        constraint(json!({ "arguments": { "a": { "max": 1, "min": 2 } } }), FIELD, "arguments.a.max"),
        constraint(json!({ "arguments": { "a": { "max": 1, "match": ["a"] } } }), FIELD, "arguments.a"),
        constraint(json!({ "arguments": { "a": { "absent": false } } }), FIELD, "arguments.a.absent"),
        constraint(json!({ "arguments": { (long(MAX_ARGUMENT_NAME_BYTES + 1)): {} } }), FIELD, "constraints.arguments"),
        constraint(json!({ "otherArguments": "none" }), BODY, "otherArguments"),
        post(json!(vec![json!({ "resource": "a", "actions": ["b"] }); MAX_PERMISSIONS + 1]), FIELD, "permissions"),
        post(json!({}), BODY, "permissions"),
        post(json!([1]), BODY, "permissions[0]"),
    ]);
    table
}

fn calls() -> Vec<Bad> {
    let base = json!({ "agentId": "agt_1", "action": "read", "resource": "docs:1" });
    let mut table = Vec::new();
    for path in ["/v1/authorize", "/v1/authorize/explain", "/v1/agents/agt_1/authorize", "/v1/tenants/acme/authorize"] {
        let post = |changes: Value, code, names| bad("POST", path, with(&base, changes), code, names);
        table.extend([
            post(json!({ "action": "<absent>" }), BODY, "action"),
            post(json!({ "resource": "<absent>" }), BODY, "resource"),
            post(json!({ "action": ["read"] }), BODY, "action"),
            post(json!({ "resource": null }), BODY, "resource"),
            post(json!({ "tokensCost": -1 }), FIELD, "tokensCost"),
            post(json!({ "tokensCost": "one" }), FIELD, "tokensCost"),
            post(json!({ "tokensCost": 1e300 }), FIELD, "tokensCost"),
            post(json!({ "tokensCost": [] }), FIELD, "tokensCost"),
            post(json!({ "hold": { "ttlSeconds": 60 } }), FIELD, "hold"),
            post(json!({ "tokensCost": null, "hold": { "ttlSeconds": 60 } }), FIELD, "hold"),
            post(json!({ "tokensCost": 1, "hold": { "ttlSeconds": 0 } }), FIELD, "hold.ttlSeconds"),
            post(json!({ "tokensCost": 1, "hold": { "ttlSeconds": MAX_HOLD_SECONDS + 1 } }), FIELD, "hold.ttlSeconds"),
            post(json!({ "tokensCost": 1, "hold": { "ttlSeconds": u64::MAX } }), FIELD, "hold.ttlSeconds"),
            post(json!({ "tokensCost": 1, "hold": { "ttlSeconds": -1 } }), BODY, "hold.ttlSeconds"),
            post(json!({ "tokensCost": 1, "hold": { "ttlSeconds": 1.5 } }), BODY, "hold.ttlSeconds"),
            post(json!({ "tokensCost": 1, "hold": { "ttlSeconds": "60" } }), BODY, "hold.ttlSeconds"),
            post(json!({ "tokensCost": 1, "hold": {} }), BODY, "ttlSeconds"),
            post(json!({ "tokensCost": 1, "hold": 60 }), BODY, "hold"),
            post(json!({ "tokensCost": 1, "hold": [60] }), BODY, "hold"),
            post(json!({ "context": { "ip": "somewhere" } }), FIELD, "context.ip"),
            post(json!({ "context": { "ip": "10.0.0.1/8" } }), FIELD, "context.ip"),
            post(json!({ "context": { "ip": 5 } }), BODY, "context.ip"),
            post(json!({ "context": "here" }), BODY, "context"),
            post(json!({ "tenantId": [] }), BODY, "tenantId"),
            post(json!({ "idempotencyKey": "" }), FIELD, "idempotencyKey"),
            post(json!({ "idempotencyKey": "a b" }), FIELD, "idempotencyKey"),
            post(json!({ "idempotencyKey": 7 }), BODY, "idempotencyKey"),
        ]);
        if !path.contains("/agents/") {
            table.push(post(json!({ "agentId": "<absent>" }), FIELD, "agentId"));
        }
        table.push(post(json!({ "agentId": {} }), BODY, "agentId"));
    }
    let batch = |body: Value, code, names| bad("POST", "/v1/authorize/batch", body, code, names);
    table.extend([
        batch(json!({}), BODY, "requests"),
        batch(json!({ "requests": {} }), BODY, "requests"),
        batch(json!({ "requests": [] }), FIELD, "requests"),
        batch(json!({ "requests": null }), BODY, "requests"),
        batch(json!({ "requests": vec![base.clone(); 1_001] }), FIELD, "requests"),
    ]);
    table
}

fn queries() -> Vec<Bad> {
    let get = |path: &str, names| bad("GET", path, Value::Null, QUERY, names);
    let field = |path: &str, names| bad("GET", path, Value::Null, FIELD, names);
    let mut table = Vec::new();
    for path in ["/v1/tenants", "/v1/agents", "/v1/delegations", "/v1/holds", "/v1/audit"] {
        for (query, names) in [
            ("limit=0", "limit"),
            ("limit=1001", "limit"),
            ("limit=-1", "limit"),
            ("limit=ten", "limit"),
            ("limit=", "limit"),
            ("limit=99999999999999999999999", "limit"),
            ("limit=1&limit=2", "limit"),
            ("cursor=", "cursor"),
            ("cursor=garbage", "cursor"),
            ("cursor=%FF%FE", "cursor"),
            ("unknown=1", "unknown"),
            ("Limit=1", "Limit"),
        ] {
            table.push(get(&format!("{path}?{query}"), names));
        }
    }
    table.extend([
        get("/v1/agents?status=gone", "status"),
        get("/v1/agents?type=robot", "type"),
        get("/v1/audit?kind=every", "kind"),
        get("/v1/audit?result=maybe", "result"),
        get("/v1/audit?agentId=agt_1", "agentId"),
        get("/v1/audit?offset=-1", "offset"),
        get("/v1/audit?offset=10001", "offset"),
        get(&format!("/v1/audit?actions={}", vec!["a"; 65].join(",")), "actions"),
        get("/v1/audit?actions=a,,b", "actions"),
        get("/v1/audit?actions=,", "actions"),
        get("/v1/audit?since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", "since"),
        field("/v1/audit?since=yesterday", "since"),
        field("/v1/audit?since=2026-02-30", "since"),
        field("/v1/audit/export?until=2026-1-1", "until"),
        field("/v1/audit/stream?since=20260101", "since"),
        get("/v1/audit?since=2026-01-02&until=2026-01-01", "since"),
        get("/v1/audit?traceId=4BF92F3577B34DA6A3CE929D0E0E4736", "traceId"),
        get("/v1/audit/export?traceId=00000000000000000000000000000000", "traceId"),
        get("/v1/audit?code=NO_SUCH_CODE", "code"),
        get("/v1/audit/export?code=permission_denied", "code"),
        get("/v1/audit?resource=docs:a*", "resource"),
        get("/v1/audit?resource=:docs", "resource"),
        get("/v1/audit/stream?resource=docs:%E2%80%AEx", "resource"),
        get("/v1/audit?ip=10.0.0.0/33", "ip"),
        get("/v1/audit?ip=localhost", "ip"),
        field("/v1/audit?until=2026-13-01T00:00:00Z", "until"),
        get("/v1/spend?groupBy=", "groupBy"),
        get("/v1/spend?groupBy=color", "groupBy"),
        get("/v1/spend?groupBy=day,day", "groupBy"),
        get("/v1/spend?groupBy=label:", "groupBy"),
        field("/v1/spend?timeZone=Mars/Olympus", "timeZone"),
        field("/v1/spend?timeZone=%2B02:00", "timeZone"),
        get("/v1/spend?groupBy=tenant,agent,owner,action,day", "groupBy"),
        get("/v1/spend?since=2026-01-02&until=2026-01-01", "since"),
        field("/v1/spend?since=yesterday", "since"),
        field("/v1/spend?until=2026-13-01", "until"),
        get("/v1/spend?agentId=agt_1", "agentId"),
        get("/v1/spend?format=ndjson", "format"),
        get("/v1/spend?spreadsheet=true", "spreadsheet"),
        get("/v1/spend?userId=ana&ownerId=ben", "ownerId"),
        get("/v1/spend?limit=1", "limit"),
        bad("GET", "/v1/spend?tenantId=nobody", Value::Null, "TENANT_NOT_FOUND", "nobody"),
        bad("GET", "/v1/audit?tenantId=nobody", Value::Null, "TENANT_NOT_FOUND", "nobody"),
        bad("GET", "/v1/agents?tenantId=nobody", Value::Null, "TENANT_NOT_FOUND", "nobody"),
        bad("GET", "/v1/audit/aud_1", Value::Null, "AUDIT_ENTRY_NOT_FOUND", "aud_1"),
    ]);
    table
}

fn delegations() -> Vec<Bad> {
    let unknown = "agt_00000000000070008000000000000000";
    let permissions = json!([{ "resource": "docs:1", "actions": ["read"] }]);
    let base = json!({ "fromAgent": unknown, "toAgent": unknown, "permissions": permissions });
    let post = |changes: Value, code, names| bad("POST", "/v1/delegations", with(&base, changes), code, names);
    let get = |path: &str, code, names| bad("GET", path, Value::Null, code, names);
    vec![
        post(json!({}), "AGENT_NOT_FOUND", "fromAgent"),
        post(json!({ "fromAgent": "agt_1" }), "AGENT_NOT_FOUND", "fromAgent"),
        post(json!({ "toAgent": "bot" }), "AGENT_NOT_FOUND", "toAgent"),
        post(json!({ "fromAgent": "<absent>" }), BODY, "fromAgent"),
        post(json!({ "toAgent": null }), BODY, "toAgent"),
        post(json!({ "toAgents": [] }), BODY, "toAgents"),
        post(json!({ "permissions": "<absent>" }), BODY, "permissions"),
        post(json!({ "permissions": [] }), FIELD, "permissions"),
        post(
            json!({ "permissions": [{ "resource": "foo*", "actions": ["read"] }] }),
            PATTERN,
            "permissions[0].resource",
        ),
        post(json!({ "permissions": [{ "resource": "a", "actions": ["b"], "constraint": {} }] }), BODY, "constraint"),
        post(json!({ "maxDepth": 0 }), FIELD, "maxDepth"),
        post(json!({ "maxDepth": MAX_DELEGATION_DEPTH + 1 }), FIELD, "maxDepth"),
        post(json!({ "maxDepth": 1.5 }), BODY, "maxDepth"),
        post(json!({ "maxDepth": -1 }), BODY, "maxDepth"),
        post(json!({ "expiresAt": "tomorrow" }), FIELD, "expiresAt"),
        post(json!({ "expiresAt": 5 }), BODY, "expiresAt"),
        get("/v1/delegations?fromAgent=bot", QUERY, "fromAgent"),
        get("/v1/delegations?toAgent=bot", QUERY, "toAgent"),
        get("/v1/delegations?tenantId=nobody", "TENANT_NOT_FOUND", "nobody"),
        get("/v1/delegations/dlg_1", "DELEGATION_NOT_FOUND", "dlg_1"),
        get("/v1/delegations/other", "DELEGATION_NOT_FOUND", "other"),
        get("/v1/delegations/agt_1", "AGENT_NOT_FOUND", "agt_1"),
        get("/v1/delegations/{agent}?limit=0", QUERY, "limit"),
        get("/v1/delegations/{agent}?cursor=x", QUERY, "cursor"),
        get("/v1/delegations/dlg_01890a5d000070008000000000000000?cursor=x", QUERY, "cursor"),
        get("/v1/delegations/dlg_1/permissions", "AGENT_NOT_FOUND", "dlg_1"),
        bad("DELETE", "/v1/delegations/{agent}", Value::Null, "DELEGATION_NOT_FOUND", "agt_"),
    ]
}

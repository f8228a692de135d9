//! Every route, with an example call and the answer for each kind of caller. A route without a row fails the test.

use serde_json::{Value, json};

use crate::world::permits;

/// The ids that a call names.
#[derive(Clone, Debug)]
pub struct Target {
    pub tenant: String,
    pub agent: String,
    pub key: String,
    pub entry: String,
    pub policy: String,
    /// An agent that the agent lends to, through that link.
    pub friend: String,
    pub link: String,
    pub webhook: String,
    /// A message of that webhook.
    pub delivery: String,
}

impl Target {
    pub fn ids(&self) -> [&str; 9] {
        let Self { tenant, agent, key, entry, policy, friend, link, webhook, delivery } = self;
        [tenant, agent, key, entry, policy, friend, link, webhook, delivery]
    }
}

/// An answer: the status, and the code if there is one.
pub type Outcome = (u16, Option<&'static str>);

/// One route.
pub struct Row {
    pub method: &'static str,
    pub path: &'static str,
    pub body: fn(&Target) -> Value,
    /// The query string.
    pub query: fn(&Target) -> String,
    /// For a caller who may call the route, about its own things.
    pub granted: Outcome,
    /// For an operator, about something that doesn't exist.
    pub missing: Outcome,
    /// For a tenant key, about something of another tenant, or something that doesn't exist.
    pub hidden: Outcome,
    /// `hidden` for an agent token, if one may call the route at all.
    pub hidden_from_agent: Outcome,
    /// Whether a granted call changes more than the audit trail.
    pub changes: bool,
}

/// The URL of webhooks that nobody is to be called by: no such name can exist (RFC 6761).
pub const WEBHOOK_URL: &str = "https://kavach.invalid/hook";

const OK: Outcome = (200, None);
const ACCEPTED: Outcome = (202, None);
const CREATED: Outcome = (201, None);
const GONE: Outcome = (204, None);
const NO_TENANT: Outcome = (404, Some("TENANT_NOT_FOUND"));
const NO_AGENT: Outcome = (404, Some("AGENT_NOT_FOUND"));
const NO_KEY: Outcome = (404, Some("KEY_NOT_FOUND"));
const NO_ENTRY: Outcome = (404, Some("AUDIT_ENTRY_NOT_FOUND"));
const NO_POLICY: Outcome = (404, Some("POLICY_NOT_FOUND"));
const NO_HOLD: Outcome = (404, Some("HOLD_NOT_FOUND"));
const NO_WEBHOOK: Outcome = (404, Some("WEBHOOK_NOT_FOUND"));
const NO_LINK: Outcome = (404, Some("DELEGATION_NOT_FOUND"));
const MISMATCH: Outcome = (403, Some("TENANT_MISMATCH"));
const NOT_FOUND: Outcome = (200, Some("AGENT_NOT_FOUND"));
pub const FORBIDDEN: Outcome = (403, Some("FORBIDDEN"));

fn row(method: &'static str, path: &'static str, granted: Outcome, missing: Outcome, hidden: Outcome) -> Row {
    Row {
        method,
        path,
        body: |_| Value::Null,
        query: |_| String::new(),
        granted,
        missing,
        hidden,
        hidden_from_agent: FORBIDDEN,
        changes: false,
    }
}

impl Row {
    fn body(self, body: fn(&Target) -> Value) -> Self {
        Self { body, ..self }
    }

    fn query(self, query: fn(&Target) -> String) -> Self {
        Self { query, ..self }
    }

    fn changes(self) -> Self {
        Self { changes: true, ..self }
    }

    /// Whether the call names anything that can be another's.
    pub fn has_target(&self) -> bool {
        let mark = || "\u{1}".to_owned();
        let marked = Target {
            tenant: mark(),
            agent: mark(),
            key: mark(),
            entry: mark(),
            policy: mark(),
            friend: mark(),
            link: mark(),
            webhook: mark(),
            delivery: mark(),
        };
        self.path.contains('{')
            || (self.query)(&marked).contains('\u{1}')
            || (self.body)(&marked).to_string().contains("\\u0001")
    }

    /// The path of a call.
    pub fn path_to(&self, target: &Target) -> String {
        let id = if self.path.starts_with("/v1/agents/") {
            &target.agent
        } else if self.path.starts_with("/v1/audit/") || self.path.starts_with("/v1/holds/") {
            &target.entry
        } else if self.path == "/v1/delegations/{id}/permissions" {
            &target.agent
        } else if self.path.starts_with("/v1/delegations/") {
            &target.link
        } else if self.path.starts_with("/v1/webhooks/") {
            &target.webhook
        } else if self.path.starts_with("/v1/policies/") {
            &target.policy
        } else {
            &target.key
        };
        let path = self
            .path
            .replace("{tenant}", &target.tenant)
            .replace("{id}", id)
            .replace("{delivery}", &target.delivery)
            .replace("{file}", "app.js");
        path + &(self.query)(target)
    }
}

fn ask(target: &Target) -> Value {
    json!({ "agentId": target.agent, "action": "read", "resource": "docs:1" })
}

/// That call in AuthZEN's form.
fn evaluation(target: &Target) -> Value {
    json!({
        "subject": { "type": "agent", "id": target.agent },
        "action": { "name": "read" },
        "resource": { "type": "docs", "id": "1" },
    })
}

/// Every route of this version.
pub fn rows() -> Vec<Row> {
    let public = |path| row("GET", path, OK, OK, OK);
    let decision = |path| row("POST", path, OK, NOT_FOUND, NOT_FOUND).body(ask);
    vec![
        public("/livez"),
        public("/readyz"),
        public("/metrics"),
        public("/openapi.json"),
        public("/"),
        public("/docs"),
        public("/assets/{file}"),
        row("POST", "/v1/tenants", CREATED, CREATED, FORBIDDEN).body(|_| json!({ "name": "N", "slug": "new" })).changes(),
        row("GET", "/v1/tenants", OK, OK, OK),
        row("GET", "/v1/tenants/{tenant}", OK, NO_TENANT, NO_TENANT),
        row("PATCH", "/v1/tenants/{tenant}", OK, NO_TENANT, FORBIDDEN).body(|_| json!({ "name": "Other" })).changes(),
        row("DELETE", "/v1/tenants/{tenant}", (400, Some("CONFIRMATION_REQUIRED")), NO_TENANT, FORBIDDEN)
            .query(|_| "?confirm=wrong".into()),
        row("POST", "/v1/tenants/{tenant}/suspend", OK, NO_TENANT, FORBIDDEN).changes(),
        row("POST", "/v1/tenants/{tenant}/activate", OK, NO_TENANT, FORBIDDEN).changes(),
        row("POST", "/v1/tenants/{tenant}/keys", CREATED, NO_TENANT, FORBIDDEN).body(|_| json!({ "name": "k" })).changes(),
        row("GET", "/v1/tenants/{tenant}/keys", OK, NO_TENANT, NO_TENANT),
        row("PATCH", "/v1/tenants/{tenant}/keys/{id}", OK, NO_TENANT, FORBIDDEN)
            .body(|_| json!({ "name": "Other" }))
            .changes(),
        row("DELETE", "/v1/tenants/{tenant}/keys/{id}", GONE, NO_TENANT, FORBIDDEN).changes(),
        row("POST", "/v1/keys", CREATED, CREATED, FORBIDDEN).body(|_| json!({ "name": "k", "role": "auditor" })),
        row("GET", "/v1/keys", OK, OK, FORBIDDEN),
        // The key that it names is a tenant's.
        row("PATCH", "/v1/keys/{id}", NO_KEY, NO_KEY, FORBIDDEN).body(|_| json!({ "name": "Other" })),
        row("DELETE", "/v1/keys/{id}", NO_KEY, NO_KEY, FORBIDDEN),
        row("POST", "/v1/tokens/introspect", OK, OK, OK).body(|_| json!({ "token": "kv_no" })),
        Row { hidden_from_agent: NO_TENANT, ..row("POST", "/v1/tenants/{tenant}/authorize", OK, NO_TENANT, NO_TENANT) }
            .body(ask),
        row("POST", "/v1/agents", CREATED, NO_TENANT, MISMATCH)
            .body(|target| {
                let permissions = permits("docs:*", &["read"]);
                json!({ "tenantId": target.tenant, "ownerId": "u", "name": "b", "type": "service", "permissions": permissions })
            })
            .changes(),
        row("GET", "/v1/agents", OK, NO_TENANT, MISMATCH).query(|target| format!("?tenantId={}", target.tenant)),
        row("GET", "/v1/agents/{id}", OK, NO_AGENT, NO_AGENT),
        row("PATCH", "/v1/agents/{id}", OK, NO_AGENT, NO_AGENT).body(|_| json!({ "name": "Other" })).changes(),
        row("DELETE", "/v1/agents/{id}", GONE, NO_AGENT, NO_AGENT).changes(),
        row("GET", "/v1/agents/{id}/policies", OK, NO_AGENT, NO_AGENT),
        row("POST", "/v1/agents/{id}/suspend", OK, NO_AGENT, NO_AGENT).changes(),
        row("POST", "/v1/agents/{id}/activate", OK, NO_AGENT, NO_AGENT).changes(),
        row("POST", "/v1/agents/{id}/rotate", OK, NO_AGENT, NO_AGENT).changes(),
        row("POST", "/v1/agents/{id}/authorize", OK, NOT_FOUND, NOT_FOUND)
            .body(|_| json!({ "action": "read", "resource": "docs:1" })),
        decision("/v1/authorize"),
        decision("/v1/authorize/explain"),
        row("POST", "/v1/authorize/batch", OK, NOT_FOUND, NOT_FOUND).body(|target| json!({ "requests": [ask(target)] })),
        row("GET", "/v1/audit", OK, NO_TENANT, MISMATCH).query(|target| format!("?tenantId={}", target.tenant)),
        row("GET", "/v1/audit/{id}", OK, NO_ENTRY, NO_ENTRY),
        row("GET", "/v1/audit/export", OK, NO_TENANT, MISMATCH).query(|target| format!("?tenantId={}", target.tenant)),
        row("GET", "/v1/audit/stream", OK, NO_TENANT, MISMATCH).query(|target| format!("?tenantId={}", target.tenant)),
        row("GET", "/v1/audit/checkpoint", OK, NO_TENANT, MISMATCH)
            .query(|target| format!("?tenantId={}", target.tenant)),
        row("POST", "/v1/delegations", CREATED, NO_AGENT, NO_AGENT)
            .body(|target| {
                let permissions = permits("docs:1", &["read"]);
                json!({ "fromAgent": target.agent, "toAgent": target.friend, "permissions": permissions })
            })
            .changes(),
        row("GET", "/v1/delegations", OK, NO_TENANT, MISMATCH).query(|target| format!("?tenantId={}", target.tenant)),
        row("GET", "/v1/delegations/{id}", OK, NO_LINK, NO_LINK),
        row("DELETE", "/v1/delegations/{id}", GONE, NO_LINK, NO_LINK).changes(),
        row("GET", "/v1/delegations/{id}/permissions", OK, NO_AGENT, NO_AGENT),
        row("POST", "/v1/policies", CREATED, NO_TENANT, MISMATCH)
            .body(|target| json!({ "tenantId": target.tenant, "limits": { "maxCallsPerDay": 1_000_000 } }))
            .changes(),
        row("GET", "/v1/policies", OK, NO_TENANT, MISMATCH).query(|target| format!("?tenantId={}", target.tenant)),
        row("GET", "/v1/policies/{id}", OK, NO_POLICY, NO_POLICY),
        row("PATCH", "/v1/policies/{id}", OK, NO_POLICY, NO_POLICY).body(|_| json!({ "action": "warn" })).changes(),
        row("DELETE", "/v1/policies/{id}", GONE, NO_POLICY, NO_POLICY).changes(),
        row("POST", "/v1/policies/{id}/reset", OK, NO_POLICY, NO_POLICY).body(|_| json!({ "period": "all" })).changes(),
        row("POST", "/v1/policies/reset", OK, NO_TENANT, MISMATCH)
            .body(|target| json!({ "tenantId": target.tenant, "period": "all" }))
            .changes(),
        row("POST", "/v1/webhooks", CREATED, NO_TENANT, MISMATCH)
            .body(|target| json!({ "tenantId": target.tenant, "url": WEBHOOK_URL, "events": ["tenant.deleted"] }))
            .changes(),
        row("GET", "/v1/webhooks", OK, NO_TENANT, MISMATCH).query(|target| format!("?tenantId={}", target.tenant)),
        row("GET", "/v1/webhooks/{id}", OK, NO_WEBHOOK, NO_WEBHOOK),
        row("PATCH", "/v1/webhooks/{id}", OK, NO_WEBHOOK, NO_WEBHOOK).body(|_| json!({ "description": "x" })).changes(),
        row("DELETE", "/v1/webhooks/{id}", GONE, NO_WEBHOOK, NO_WEBHOOK).changes(),
        row("POST", "/v1/webhooks/{id}/rotate", OK, NO_WEBHOOK, NO_WEBHOOK).changes(),
        row("POST", "/v1/webhooks/{id}/test", ACCEPTED, NO_WEBHOOK, NO_WEBHOOK).changes(),
        row("GET", "/v1/webhooks/{id}/deliveries", OK, NO_WEBHOOK, NO_WEBHOOK),
        row("POST", "/v1/webhooks/{id}/deliveries/{delivery}/redeliver", ACCEPTED, NO_WEBHOOK, NO_WEBHOOK),
        row("POST", "/v1/budget/check", OK, NO_AGENT, NO_AGENT).body(|target| json!({ "agentId": target.agent })),
        row("POST", "/v1/usage", OK, NO_AGENT, NO_AGENT)
            .body(|target| json!({ "agentId": target.agent, "calls": 1 }))
            .changes(),
        row("GET", "/v1/holds", OK, NO_TENANT, MISMATCH).query(|target| format!("?tenantId={}", target.tenant)),
        row("GET", "/v1/holds/{id}", OK, NO_HOLD, NO_HOLD),
        row("POST", "/v1/holds/{id}/release", OK, NO_HOLD, NO_HOLD).changes(),
        row("POST", "/v1/holds/{id}/extend", OK, NO_HOLD, NO_HOLD).body(|_| json!({ "ttlSeconds": 60 })).changes(),
        row("GET", "/v1/spend", OK, NO_TENANT, MISMATCH).query(|target| format!("?tenantId={}", target.tenant)),
        row("POST", "/v1/snapshot", OK, OK, FORBIDDEN),
        public("/.well-known/authzen-configuration"),
        row("POST", "/access/v1/evaluation", OK, NOT_FOUND, NOT_FOUND).body(evaluation),
        row("POST", "/access/v1/evaluations", OK, NOT_FOUND, NOT_FOUND)
            .body(|target| json!({ "evaluations": [evaluation(target)] })),
        row("POST", "/access/v1/search/subject", OK, NO_TENANT, OK).body(|target| {
            let mut body = evaluation(target);
            body["subject"] = json!({ "type": "agent" });
            body["context"] = json!({ "tenantId": target.tenant });
            body
        }),
        row("POST", "/access/v1/search/resource", OK, OK, OK).body(evaluation),
        row("POST", "/access/v1/search/action", OK, OK, OK).body(evaluation),
        // It names only what an agent asks for itself.
        Row {
            hidden_from_agent: (403, Some("UNMAPPED_REQUEST")),
            ..row("GET", "/v1/forward-auth", FORBIDDEN, FORBIDDEN, FORBIDDEN)
        },
        row("GET", "/v1/stats", OK, NO_TENANT, MISMATCH).query(|target| format!("?tenantId={}", target.tenant)),
        row("GET", "/v1/whoami", OK, OK, OK),
    ]
}

//! Tenants, keys and agents for a test, and the few calls that almost every test makes.

use serde_json::{Value, json};

use crate::client::{Answer, Client};

/// A tenant with its own key.
#[derive(Clone, Debug)]
pub struct Tenant {
    pub id: String,
    pub slug: String,
    pub key: String,
    pub key_id: String,
}

/// An agent with its token.
#[derive(Clone, Debug)]
pub struct Agent {
    pub id: String,
    pub token: String,
}

/// `[{resource, actions}]`
pub fn permits(resource: &str, actions: &[&str]) -> Value {
    json!([{ "resource": resource, "actions": actions }])
}

/// `[{resource, actions: [any], constraints}]`
pub fn constrained(resource: &str, constraints: Value) -> Value {
    json!([{ "resource": resource, "actions": ["*"], "constraints": constraints }])
}

/// A call of `read` on `docs:1` by that agent.
pub fn call(agent: &str) -> Value {
    json!({ "agentId": agent, "action": "read", "resource": "docs:1" })
}

impl Client {
    /// A tenant without settings, with a key.
    pub fn tenant(&self, slug: &str) -> Tenant {
        let made = self.post("/v1/tenants", json!({ "name": slug, "slug": slug })).expect(201);
        let id = made["id"].as_str().unwrap().to_owned();
        let key = self.post(&format!("/v1/tenants/{id}/keys"), json!({ "name": "first" })).expect(201);
        let text = |member: &str| key[member].as_str().unwrap().to_owned();
        Tenant { id, slug: slug.to_owned(), key: text("key"), key_id: text("id") }
    }

    /// An agent of that tenant (`null` is the default one) with these permissions.
    pub fn agent(&self, tenant: impl Into<Value>, permissions: Value) -> Agent {
        self.agent_with(tenant, json!({ "permissions": permissions }))
    }

    /// An agent that may read `docs`.
    pub fn reader(&self, tenant: &Tenant) -> Agent {
        self.agent(tenant.id.as_str(), permits("docs:*", &["read"]))
    }

    /// An agent with these fields besides the required ones.
    pub fn agent_with(&self, tenant: impl Into<Value>, fields: Value) -> Agent {
        let mut body = json!({ "tenantId": tenant.into(), "ownerId": "user-1", "name": "bot", "type": "service" });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        Agent::from(&self.post("/v1/agents", body).expect(201))
    }

    /// A delegation between these agents; returns its id.
    pub fn delegation(&self, from: &str, to: &str, permissions: Value) -> String {
        let body = json!({ "fromAgent": from, "toAgent": to, "permissions": permissions });
        self.post("/v1/delegations", body).expect(201)["id"].as_str().unwrap().to_owned()
    }

    pub fn authorize(&self, body: Value) -> Answer {
        self.post("/v1/authorize", body)
    }

    /// Asks, and expects a yes. Returns the audit entry's id.
    #[track_caller]
    pub fn granted(&self, body: Value) -> String {
        let decision = self.authorize(body).expect(200);
        assert_eq!(decision["allowed"], true, "{decision}");
        for member in ["code", "reason", "retryAfter"] {
            assert!(decision.get(member).is_none(), "{decision}");
        }
        audit_id(&decision)
    }

    /// Asks, and expects a recorded no with that code. Returns the reason.
    #[track_caller]
    pub fn denied(&self, body: Value, code: &str) -> String {
        let decision = self.authorize(body).expect(200);
        assert_eq!((&decision["allowed"], decision["code"].as_str()), (&json!(false), Some(code)), "{decision}");
        audit_id(&decision);
        decision["reason"].as_str().unwrap_or_else(|| panic!("no reason: {decision}")).to_owned()
    }

    /// The whole audit trail of a query, newest first, page by page.
    pub fn trail(&self, query: &str) -> Vec<Value> {
        let mut path = Some(format!("/v1/audit?limit=1000&{query}"));
        let mut entries = Vec::new();
        while let Some(page) = path {
            let answer = self.get(&page);
            entries.extend(answer.items());
            path = next_page(&answer);
        }
        entries
    }

    /// Everything that can be read of a tenant, to see whether anything changed.
    pub fn all_of(&self, tenant: &str) -> Value {
        let get = |path: String| self.get(&path).expect(200);
        // What became of the last attempt changes while a message is tried again, though nobody does anything.
        let mut webhooks = get(format!("/v1/webhooks?tenantId={tenant}"));
        for webhook in webhooks.as_array_mut().unwrap() {
            let shown = webhook.as_object_mut().unwrap();
            shown.retain(|member, _| !member.starts_with("last"));
        }
        // Every call of a key changes when it was used last.
        let keys = self.get(&format!("/v1/tenants/{tenant}/keys")).items().into_iter().map(|mut key| {
            for member in ["lastUsedAt", "trackedSince"] {
                key.as_object_mut().unwrap().remove(member).unwrap();
            }
            key
        });
        json!({
            "tenant": get(format!("/v1/tenants/{tenant}")),
            "keys": keys.collect::<Vec<_>>(),
            "agents": get(format!("/v1/agents?tenantId={tenant}")),
            "delegations": get(format!("/v1/delegations?tenantId={tenant}")),
            "policies": get(format!("/v1/policies?tenantId={tenant}")),
            "holds": get(format!("/v1/holds?tenantId={tenant}")),
            "webhooks": webhooks,
            "decisions": self.trail(&format!("tenantId={tenant}")),
            "changes": self.trail(&format!("tenantId={tenant}&kind=admin")),
        })
    }
}

impl From<&Value> for Agent {
    fn from(made: &Value) -> Self {
        let text = |member: &str| made[member].as_str().unwrap().to_owned();
        Self { id: text("id"), token: text("token") }
    }
}

/// The path of the next page, as the `Link` header gives it (RFC 8288).
pub fn next_page(answer: &Answer) -> Option<String> {
    let link = answer.header("link")?;
    let (path, relation) = link.strip_prefix('<').and_then(|rest| rest.split_once('>')).unwrap();
    assert_eq!(relation, "; rel=\"next\"", "{link}");
    Some(path.to_owned())
}

#[track_caller]
pub fn audit_id(decision: &Value) -> String {
    let id = decision["auditId"].as_str().unwrap_or_else(|| panic!("nothing was recorded: {decision}"));
    assert!(id.starts_with("aud_"), "{id}");
    id.to_owned()
}

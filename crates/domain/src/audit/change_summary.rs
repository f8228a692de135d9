//! A change as the audit trail shows it: its action, what it is about, and what there was before.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use crate::agent::labels::Labels;
use crate::agent::{AgentSpec, AgentType};
use crate::budget::policy::PolicyAction;
use crate::budget::policy_limits::Limits;
use crate::budget::terms_view::TermsView;
use crate::budget::used_view::UsedView;
use crate::delegation::DelegationSpec;
use crate::event::{Before, Change};
use crate::id::{AgentId, WebhookId};
use crate::permission::PermissionSpec;
use crate::tenant::TenantStatus;
use crate::time::Timestamp;
use crate::webhook::WebhookSpec;
use crate::webhook::target::shown_origin;

/// A change as the audit trail shows it, without the hashes of secrets.
pub(super) struct ChangeSummary<'a> {
    pub action: &'static str,
    pub agent: Option<AgentId>,
    pub owner: Option<&'a str>,
    /// The id of what changed; `None` is the tenant itself.
    pub subject: Option<String>,
    pub parameters: Option<Box<RawValue>>,
}

/// A policy after the change. It is serialized directly, because `Value` would turn its costs into floats.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PolicyParameters<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_id: Option<&'a Option<AgentId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a Option<Arc<str>>>,
    limits: &'a Limits,
    action: PolicyAction,
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled: Option<bool>,
    #[serde(flatten)]
    terms: Option<TermsView>,
}

/// An agent after the change. It is serialized directly too, because `Value` would round the numbers of its permissions.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AgentParameters<'a> {
    owner_id: &'a str,
    name: &'a str,
    r#type: AgentType,
    permissions: Vec<PermissionSpec>,
    expires_at: Option<Timestamp>,
    metadata: Option<&'a RawValue>,
    labels: &'a Labels,
}

/// A delegation, likewise.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DelegationParameters<'a> {
    from_agent: &'a AgentId,
    to_agent: &'a AgentId,
    permissions: Vec<PermissionSpec>,
    expires_at: Option<Timestamp>,
    max_depth: u32,
    depth: u32,
}

impl<'a> ChangeSummary<'a> {
    pub(super) fn of(change: &'a Change) -> Self {
        let raw = |parameters: Value| (!parameters.is_null()).then(|| to_raw_value(&parameters).ok()).flatten();
        let tenant = |action, parameters: Value| {
            let parameters = raw(parameters);
            ChangeSummary { action, agent: None, owner: None, subject: None, parameters }
        };
        let agent = |action, agent: &AgentId, parameters: Value| ChangeSummary {
            agent: Some(*agent),
            subject: Some(agent.to_string()),
            ..tenant(action, parameters)
        };
        let whole = |action, id: &AgentId, spec: &'a AgentSpec| ChangeSummary {
            owner: Some(&spec.owner),
            parameters: to_raw_value(&AgentParameters::of(spec)).ok(),
            ..agent(action, id, Value::Null)
        };
        let webhook = |action, id: &WebhookId, parameters: Value| ChangeSummary {
            subject: Some(id.to_string()),
            ..tenant(action, parameters)
        };
        match change {
            Change::TenantCreated { id: _, name, slug, settings } => {
                tenant("tenant.create", json!({ "name": name, "slug": slug, "settings": settings }))
            }
            Change::TenantUpdated { name, settings } => {
                tenant("tenant.update", json!({ "name": name, "settings": settings }))
            }
            Change::TenantSuspended => tenant("tenant.suspend", json!({ "status": TenantStatus::Suspended })),
            Change::TenantActivated => tenant("tenant.activate", json!({ "status": TenantStatus::Active })),
            Change::TenantDeleted { tenant: id, slug } => {
                ChangeSummary { subject: Some(id.folder_name()), ..tenant("tenant.delete", json!({ "slug": slug })) }
            }
            Change::TenantRequested { tenant: id, slug } => {
                ChangeSummary { subject: Some(id.folder_name()), ..tenant("tenant.request", json!({ "slug": slug })) }
            }
            Change::KeyCreated { key, name, hash: _, prefix, role, expires_at } => ChangeSummary {
                subject: Some(key.to_string()),
                ..tenant("key.create", key_json(name, prefix, role, *expires_at))
            },
            Change::KeyRevoked { key } => {
                ChangeSummary { subject: Some(key.to_string()), ..tenant("key.revoke", Value::Null) }
            }
            Change::KeyUpdated { key, name, expires_at } => ChangeSummary {
                subject: Some(key.to_string()),
                ..tenant("key.update", json!({ "name": name, "expiresAt": expires_at }))
            },
            Change::OperatorKeyCreated { key, name, hash: _, prefix, role, expires_at } => ChangeSummary {
                subject: Some(key.to_string()),
                ..tenant("operator_key.create", key_json(name, prefix, role, *expires_at))
            },
            Change::OperatorKeyRevoked { key } => {
                ChangeSummary { subject: Some(key.to_string()), ..tenant("operator_key.revoke", Value::Null) }
            }
            Change::OperatorKeyUpdated { key, name, expires_at } => ChangeSummary {
                subject: Some(key.to_string()),
                ..tenant("operator_key.update", json!({ "name": name, "expiresAt": expires_at }))
            },
            Change::PolicyCreated { policy, agent, owner, limits, action, terms } => ChangeSummary {
                agent: *agent,
                owner: owner.as_deref(),
                subject: Some(policy.to_string()),
                parameters: to_raw_value(&PolicyParameters {
                    agent_id: Some(agent),
                    user_id: Some(owner),
                    limits,
                    action: *action,
                    disabled: None,
                    terms: terms.as_deref().map(TermsView::of),
                })
                .ok(),
                ..tenant("policy.create", Value::Null)
            },
            Change::PolicyUpdated { policy, limits, action, disabled, terms } => ChangeSummary {
                subject: Some(policy.to_string()),
                parameters: to_raw_value(&PolicyParameters {
                    agent_id: None,
                    user_id: None,
                    limits,
                    action: *action,
                    disabled: Some(*disabled),
                    terms: terms.as_deref().map(TermsView::of),
                })
                .ok(),
                ..tenant("policy.update", Value::Null)
            },
            Change::PolicyDeleted { policy } => {
                ChangeSummary { subject: Some(policy.to_string()), ..tenant("policy.delete", Value::Null) }
            }
            Change::PolicyReset { policy, period } => ChangeSummary {
                subject: Some(policy.to_string()),
                ..tenant("policy.reset", json!({ "period": period }))
            },
            Change::PoliciesReset { period } => tenant("policy.reset_all", json!({ "period": period })),
            Change::DelegationCreated { delegation, spec } => ChangeSummary {
                agent: Some(spec.from),
                subject: Some(delegation.to_string()),
                parameters: to_raw_value(&DelegationParameters::of(spec)).ok(),
                ..tenant("delegation.create", Value::Null)
            },
            Change::DelegationRevoked { delegation, from, to } => ChangeSummary {
                agent: Some(*from),
                subject: Some(delegation.to_string()),
                ..tenant("delegation.revoke", json!({ "fromAgent": from, "toAgent": to }))
            },
            Change::WebhookCreated { webhook: id, spec } => webhook("webhook.create", id, webhook_json(spec)),
            Change::WebhookUpdated { webhook: id, spec } => webhook("webhook.update", id, webhook_json(spec)),
            Change::WebhookDeleted { webhook: id } => webhook("webhook.delete", id, Value::Null),
            Change::WebhookRotated { webhook: id } => webhook("webhook.rotate", id, Value::Null),
            Change::WebhookTested { webhook: id } => webhook("webhook.test", id, Value::Null),
            Change::WebhookRedelivered { webhook: id, message } => {
                webhook("webhook.redeliver", id, json!({ "message": message }))
            }
            Change::AgentCreated { agent: id, spec, token: _ } => whole("agent.create", id, spec),
            Change::AgentUpdated { agent: id, spec } => whole("agent.update", id, spec),
            Change::AgentRevoked { agent: id } => agent("agent.revoke", id, Value::Null),
            Change::AgentSuspended { agent: id } => agent("agent.suspend", id, json!({ "suspended": true })),
            Change::AgentActivated { agent: id } => agent("agent.activate", id, json!({ "suspended": false })),
            Change::TokenRotated { agent: id, token: _, grace_until } => {
                agent("agent.rotate", id, json!({ "graceUntil": grace_until }))
            }
        }
    }
}

/// A key without its hash.
fn key_json(name: &str, prefix: &str, role: &impl Serialize, expires_at: Option<Timestamp>) -> Value {
    json!({ "name": name, "prefix": prefix, "role": role, "expiresAt": expires_at })
}

impl<'a> AgentParameters<'a> {
    fn of(spec: &'a AgentSpec) -> Self {
        let AgentSpec { owner, name, kind, permissions, expires_at, metadata, labels } = spec;
        Self {
            owner_id: owner,
            name,
            r#type: *kind,
            permissions: permissions.specs(),
            expires_at: *expires_at,
            metadata: metadata.as_deref().and_then(|json| serde_json::from_str(json).ok()),
            labels,
        }
    }
}

/// A webhook without the part of its URL that may be a secret.
fn webhook_json(spec: &WebhookSpec) -> Value {
    let WebhookSpec { url, events, format, description, disabled } = spec;
    json!({
        "url": shown_origin(url),
        "events": events,
        "format": format,
        "description": description,
        "disabled": disabled,
    })
}

impl<'a> DelegationParameters<'a> {
    fn of(spec: &'a DelegationSpec) -> Self {
        let DelegationSpec {
            from,
            to,
            permissions,
            expires_at,
            max_depth,
            effective_max_depth: _,
            depth,
            stands_on: _,
        } = spec;
        Self {
            from_agent: from,
            to_agent: to,
            permissions: permissions.specs(),
            expires_at: *expires_at,
            max_depth: *max_depth,
            depth: *depth,
        }
    }
}

/// The state before a change that says it itself: nothing is recorded that changes nothing.
pub(super) fn implied_before(change: &Change) -> Option<Box<RawValue>> {
    let suspended = match change {
        Change::AgentSuspended { .. } => false,
        Change::AgentActivated { .. } => true,
        _ => return None,
    };
    to_raw_value(&json!({ "suspended": suspended })).ok()
}

/// The state before the change, in the form of the state after it.
pub(super) fn before_json(before: &Before, change: &Change) -> Option<Box<RawValue>> {
    match before {
        Before::Tenant { name, slug, settings, suspended } => {
            let status = if *suspended { TenantStatus::Suspended } else { TenantStatus::Active };
            to_raw_value(&match change {
                Change::TenantSuspended | Change::TenantActivated => json!({ "status": status }),
                Change::TenantUpdated { .. } => json!({ "name": name, "settings": settings }),
                _ => json!({ "name": name, "slug": slug, "settings": settings, "status": status }),
            })
        }
        Before::Key { name, prefix, role, expires_at } => to_raw_value(&key_json(name, prefix, role, *expires_at)),
        Before::OperatorKey { name, prefix, role, expires_at } => {
            to_raw_value(&key_json(name, prefix, role, *expires_at))
        }
        Before::Agent(spec) => to_raw_value(&AgentParameters::of(spec)),
        Before::Policy { agent, owner, limits, action, disabled, terms } => to_raw_value(&PolicyParameters {
            agent_id: Some(agent),
            user_id: Some(owner),
            limits,
            action: *action,
            disabled: Some(*disabled),
            terms: terms.as_deref().map(TermsView::of),
        }),
        // Not through a `Value`, for the same reason.
        Before::Used(used) => to_raw_value(&UsedView::from(&**used)),
        Before::Delegation(spec) => to_raw_value(&DelegationParameters::of(spec)),
        Before::Webhook(spec) => to_raw_value(&webhook_json(spec)),
    }
    .ok()
}

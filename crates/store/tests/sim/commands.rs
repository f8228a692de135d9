//! Random commands to a tenant, decided by the production code.

use fastrand::Rng;
use kavach_domain::agent::commands::{CreateAgent, RevokeAgent, RotateToken, SetSuspended, UpdateAgent};
use kavach_domain::author::By;
use kavach_domain::budget::cost::Cost;
use kavach_domain::budget::counts::Period;
use kavach_domain::budget::hold::HoldTime;
use kavach_domain::budget::hold_commands::HoldView;
use kavach_domain::budget::policy_commands::{CreatePolicy, DeletePolicy, ResetPolicies, ResetPolicy};
use kavach_domain::budget::settlement::UsageRecord;
use kavach_domain::delegation::commands::{CreateDelegation, RevokeDelegation};
use kavach_domain::event::ChangeRecord;
use kavach_domain::idempotency::kept_reply::KeptReply;
use kavach_domain::idempotency::key::{IdempotencyKey, KeyOwner, RequestKey};
use kavach_domain::tenant::TenantStatus;
use kavach_domain::tenant::commands::{SetStatus, UpdateTenant};
use kavach_domain::tenant::key_commands::CreateKey;
use kavach_domain::webhook::commands::{CreateWebhook, DeleteWebhook, RotateWebhook, TestWebhook, UpdateWebhook};
use kavach_domain::{AgentId, Change, Command, Error, Moment, Request, Secret, Tenant};
use serde_json::json;

/// Agents, policies and links of one tenant: few, so that commands meet each other.
const MANY: usize = 5;

const RESOURCES: [&str; 4] = ["docs:a", "docs:b:c", "mail:inbox", "nothing:here"];

fn agent(rng: &mut Rng, tenant: &Tenant) -> Option<AgentId> {
    rng.choice(tenant.agents()).map(|agent| agent.profile.id)
}

fn decided<C: Command>(command: Result<C, Error>, tenant: &Tenant, moment: Moment) -> Option<Change> {
    command.and_then(|command| command.decide(tenant, By::Operator, moment)).ok()?.0
}

/// What is recorded of a random change, sometimes with an idempotency key; `None` if it changes nothing or is refused.
pub fn change_record(rng: &mut Rng, tenant: &Tenant, moment: Moment) -> Option<ChangeRecord> {
    let mut record = ChangeRecord::new(By::Operator, change(rng, tenant, moment)?);
    if rng.u32(0..4) == 0 {
        let key = IdempotencyKey::parse("key", &format!("{}-{}", moment.seq, rng.u64(..))).unwrap();
        record.key = Some(RequestKey::new(key, &[]).used_by(KeyOwner::Operators));
        record.kept = KeptReply::of(tenant, moment, &record);
    }
    Some(record)
}

/// A random change; `None` if it changes nothing or is refused.
fn change(rng: &mut Rng, tenant: &Tenant, moment: Moment) -> Option<Change> {
    let secret = |rng: &mut Rng| Secret::agent_token(tenant.id(), [rng.u8(..); 32]);
    match rng.u32(0..16) {
        0..3 if tenant.agents().len() < MANY => {
            let limit = rng.bool().then(|| rng.u32(1..6));
            let new = json!({
                "ownerId": if rng.bool() { "user-1" } else { "user-2" },
                "name": "bot",
                "type": "autonomous",
                "permissions": [
                    { "resource": "docs:*", "actions": ["read", "write"], "constraints": { "maxCallsPerHour": limit } },
                    { "resource": "mail:inbox", "actions": ["*"] },
                ],
                "metadata": { "note": "x".repeat(rng.usize(0..200)) },
            });
            let new = serde_json::from_value(without_nulls(new)).unwrap();
            decided(CreateAgent::parse(new, secret(rng).hash()), tenant, moment)
        }
        3 => {
            let patch = json!({ "name": format!("bot-{}", rng.u8(..)) }).to_string();
            decided(UpdateAgent::parse(agent(rng, tenant)?, serde_json::from_str(&patch).unwrap()), tenant, moment)
        }
        4 if rng.u32(0..3) == 0 => decided(Ok(RevokeAgent(agent(rng, tenant)?)), tenant, moment),
        5 => {
            let token = secret(rng).hash();
            decided(RotateToken::new(agent(rng, tenant)?, token, rng.u64(0..1000)), tenant, moment)
        }
        6..8 if tenant.policies().len() < MANY => {
            let action = ["warn", "throttle", "block", "revoke"][rng.usize(0..4)];
            let zone = ["UTC", "Asia/Kolkata", "Europe/Berlin"][rng.usize(0..3)];
            let mut new = json!({ "limits": { "maxCallsPerDay": rng.u32(1..30) }, "action": action, "timeZone": zone });
            if rng.bool() {
                new["limits"]["maxCallsPerHour"] = rng.u32(1..30).into();
                new["resource"] = "docs:*".into();
            }
            decided(CreatePolicy::parse(serde_json::from_value(new).unwrap()), tenant, moment)
        }
        8 => {
            let id = rng.choice(tenant.policies())?.profile.id;
            match rng.u32(0..4) {
                0 | 1 => decided(Ok(DeletePolicy(id)), tenant, moment),
                2 => decided(Ok(ResetPolicies(Period::Day)), tenant, moment),
                _ => decided(Ok(ResetPolicy { id, period: Period::All }), tenant, moment),
            }
        }
        9..11 => {
            let (from, to) = (agent(rng, tenant)?, agent(rng, tenant)?);
            let new = json!({
                "fromAgent": from.to_string(),
                "toAgent": to.to_string(),
                "permissions": [{ "resource": "docs:a", "actions": ["read"] }],
            });
            decided(CreateDelegation::parse(serde_json::from_value(new).unwrap()), tenant, moment)
        }
        11 => decided(Ok(RevokeDelegation(rng.choice(tenant.delegations())?.profile.id)), tenant, moment),
        12 => {
            let status = if rng.u32(0..4) == 0 { TenantStatus::Suspended } else { TenantStatus::Active };
            decided(Ok(SetStatus(status)), tenant, moment)
        }
        13 => {
            let patch = json!({ "settings": { "auditRetentionDays": rng.u32(1..4) } });
            decided(Ok(UpdateTenant(serde_json::from_value(patch).unwrap())), tenant, moment)
        }
        14 if tenant.webhooks().len() < MANY && rng.bool() => {
            let new = json!({ "url": "https://hooks.example.com/", "events": ["agent.*", "policy.reset"] });
            decided(CreateWebhook::parse(serde_json::from_value(new).unwrap()), tenant, moment)
        }
        14 => {
            let id = rng.choice(tenant.webhooks())?.profile.id;
            match rng.u32(0..8) {
                0 => decided(Ok(DeleteWebhook(id)), tenant, moment),
                1 | 2 => decided(Ok(RotateWebhook(id)), tenant, moment),
                3 | 4 => {
                    let patch = json!({ "status": if rng.bool() { "active" } else { "disabled" } });
                    let patch = serde_json::from_value(patch).unwrap();
                    decided(Ok(UpdateWebhook { id, patch }), tenant, moment)
                }
                _ => decided(Ok(TestWebhook(id)), tenant, moment),
            }
        }
        15 => decided(Ok(SetSuspended { id: agent(rng, tenant)?, suspended: rng.u32(0..3) == 0 }), tenant, moment),
        _ if tenant.keys().len() < MANY => {
            decided(CreateKey::new("ci", &Secret::tenant_key(tenant.id(), [rng.u8(..); 32])), tenant, moment)
        }
        _ => None,
    }
}

/// A random call.
pub fn call(rng: &mut Rng, tenant: &Tenant, moment: Moment) -> Request {
    let stranger = || AgentId::derive(moment.at, 9_999_999, tenant.id().tag());
    let id = agent(rng, tenant).unwrap_or_else(stranger);
    let action = ["read", "write", "send"][rng.usize(0..3)];
    let mut request = Request::new(action, RESOURCES[rng.usize(0..RESOURCES.len())]).unwrap().for_agent(id);
    if rng.bool() {
        let arguments = json!({ "text": "y".repeat(rng.usize(0..300)) }).to_string();
        request = request.with_arguments(&arguments).unwrap();
    }
    request.cost = rng.bool().then(|| Cost::from_millionths(rng.u64(0..2_000_000)));
    match request.cost {
        Some(_) if rng.bool() => request.holding(rng.u64(1..200)).unwrap(),
        _ => request,
    }
}

/// Releases or prolongs a random hold; `None` if there is none.
pub fn hold_change(rng: &mut Rng, tenant: &Tenant, moment: Moment) -> Option<UsageRecord> {
    let open: Vec<_> = HoldView::list(tenant, None, None, MANY, moment.wall);
    let id = rng.choice(&open)?.id;
    match rng.bool() {
        true => tenant.decide_release(By::Operator, id, moment).unwrap().0,
        false => {
            let time = HoldTime::parse("ttlSeconds", rng.u64(1..200)).unwrap();
            Some(tenant.decide_extension(By::Operator, id, time, moment).unwrap().0)
        }
    }
}

/// A usage report that names no decision.
pub fn spent(rng: &mut Rng, tenant: &Tenant) -> Option<kavach_domain::budget::usage::UsageReport> {
    let cost = Cost::from_millionths(rng.u64(0..2_000_000));
    kavach_domain::budget::usage::UsageReport::new(agent(rng, tenant)?, rng.u64(0..3), cost).ok()
}

fn without_nulls(mut value: serde_json::Value) -> serde_json::Value {
    if let serde_json::Value::Object(fields) = &mut value {
        fields.retain(|_, field| !field.is_null());
    }
    match value {
        serde_json::Value::Object(fields) => {
            serde_json::Value::Object(fields.into_iter().map(|(name, field)| (name, without_nulls(field))).collect())
        }
        serde_json::Value::Array(items) => serde_json::Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

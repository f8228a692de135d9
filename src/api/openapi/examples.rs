//! An example of each request and response body. Together they tell one story: the tenant `acme`, its agents, and what
//! they do.

use serde_json::{Value, json};

use super::example::{Example, Examples};
use crate::actors::messages::Explanation;
use crate::api::agents::Rotation;
use crate::api::authorize::BatchAnswer;
use crate::api::authorize_body::{AuthorizeBody, BatchBody};
use crate::api::authzen::discovery::Metadata;
use crate::api::authzen::evaluation::{Evaluated, EvaluationBody};
use crate::api::authzen::evaluations::{EvaluationsAnswer, EvaluationsBody};
use crate::api::authzen::search::{ActionAnswer, ActionBody, EntityAnswer, ResourceBody, SearchAnswer, SubjectBody};
use crate::api::health::{Liveness, Readiness};
use crate::api::holds::HoldExtension;
use crate::api::introspection::{IntrospectionJson, TokenBody};
use crate::api::operator_keys::{NewOperatorKey, OperatorKeyJson};
use crate::api::policies::{CheckBody, CheckJson, Reset, ResetAll, ResetAllJson};
use crate::api::responses::{
    AgentJson, AgentPolicyJson, DelegationJson, EffectivePermissionJson, HoldJson, KeyJson, PolicyJson, TenantJson,
};
use crate::api::spend::SpendReportJson;
use crate::api::stats::StatsJson;
use crate::api::tenants::{NewKey, SnapshotJson};
use crate::api::usage::UsageBody;
use crate::api::webhooks::WebhookJson;
use crate::api::whoami::WhoamiJson;
use crate::domain::agent::commands::{AgentPatch, NewAgent};
use crate::domain::budget::policy_commands::{NewPolicy, PolicyPatch};
use crate::domain::budget::usage::UsageAnswer;
use crate::domain::delegation::commands::NewDelegation;
use crate::domain::tenant::commands::{NewTenant, TenantPatch};
use crate::domain::tenant::key_update::KeyPatch;
use crate::domain::webhook::commands::{DeliveryView, NewWebhook, WebhookPatch};
use crate::domain::{AuditEntry, Code, Decision};
use crate::store::checkpoint::KeptCheckpoint;

macro_rules! examples {
    ($($type:ty { $($name:literal: $value:tt)+ })*) => {
        $(
            impl Example for $type {
                fn examples() -> Examples {
                    vec![$(($name, json!($value))),+]
                }
            }
        )*
    };
}

const TENANT: &str = "tnt_019ac1d2e3f47a5b8c6d7e8f9a0b1c2d";
const KEY: &str = "key_019ac1d300007000800000049a0b1c2d";
const AGENT: &str = "agt_019ac1d400007000800000059a0b1c2d";
const HELPER: &str = "agt_019ac1d400507000800000069a0b1c2d";
const POLICY: &str = "pol_019ac1d500007000800000079a0b1c2d";
const LINK: &str = "dlg_019ac1d600007000800000089a0b1c2d";
const ENTRY: &str = "aud_019ac1d700007000800000099a0b1c2d";
const REPORT: &str = "aud_019ac1d7100070008000000a9a0b1c2d";
/// Not in the form of a real token, so that nobody takes it for a leaked secret.
const WEBHOOK: &str = "whk_019ac1d8000070008000000b9a0b1c2d";
const MESSAGE: &str = "msg_019ac1d8100070008000000c9a0b1c2d";
const TOKEN: &str = "kv_(64 characters)";
const MADE: &str = "2026-11-24T09:30:00.000Z";

examples! {
    NewTenant { "a tenant": { "name": "Acme Inc.", "slug": "acme", "settings": { "maxAgents": 200, "auditRetentionDays": 365 } } }
    TenantPatch { "settings": { "settings": { "maxAgents": 500, "auditRetentionDays": null } } }
    TenantJson {
        "a tenant": {
            "id": TENANT,
            "name": "Acme Inc.",
            "slug": "acme",
            "settings": {
                "maxAgents": 200, "maxDelegationDepth": null, "auditRetentionDays": 365, "allowedAgentTypes": null
            },
            "status": "active",
            "createdAt": MADE,
            "updatedAt": MADE,
        }
    }
    EvaluationBody<'_> {
        "a call": {
            "subject": { "type": "agent", "id": AGENT },
            "action": { "name": "read", "properties": { "repo": "acme/site" } },
            "resource": { "type": "mcp", "id": "github:repos" },
            "context": { "ip": "10.1.2.3", "tokensCost": 0.05 },
        }
    }
    Evaluated {
        "permitted": { "decision": true, "context": { "auditId": ENTRY } }
        "denied": {
            "decision": false,
            "context": {
                "auditId": ENTRY,
                "code": "PERMISSION_DENIED",
                "reason": "No permission for action 'drop' on resource 'mcp:github:repos'",
                "reason_admin": { "403": "No permission for action 'drop' on resource 'mcp:github:repos'" },
                "reason_user": { "403": "No permission of the agent matches the action and the resource." },
            },
        }
    }
    EvaluationsBody<'_> {
        "two calls": {
            "subject": { "type": "agent", "id": AGENT },
            "action": { "name": "read" },
            "evaluations": [
                { "resource": { "type": "mcp", "id": "github:repos" } },
                { "resource": { "type": "mcp", "id": "github:issues" } },
            ],
            "options": { "evaluations_semantic": "deny_on_first_deny" },
        }
    }
    EvaluationsAnswer {
        "decisions": { "evaluations": [{ "decision": true, "context": { "auditId": ENTRY } }] }
        "only one": { "decision": true, "context": { "auditId": ENTRY } }
    }
    SubjectBody<'_> {
        "a search": {
            "subject": { "type": "agent" },
            "action": { "name": "read" },
            "resource": { "type": "mcp", "id": "github:repos" },
            "page": { "limit": 100 },
        }
    }
    ResourceBody<'_> {
        "a search": {
            "subject": { "type": "agent", "id": AGENT },
            "action": { "name": "read" },
            "resource": { "type": "mcp" },
        }
    }
    ActionBody<'_> {
        "a search": { "subject": { "type": "agent", "id": AGENT }, "resource": { "type": "mcp", "id": "github:repos" } }
    }
    SearchAnswer<EntityAnswer<'_>> {
        "agents": { "page": { "next_token": "", "count": 1 }, "results": [{ "type": "agent", "id": AGENT }] }
        "resources": { "page": { "next_token": "", "count": 1 }, "results": [{ "type": "mcp", "id": "github:*" }] }
    }
    SearchAnswer<ActionAnswer> {
        "actions": { "page": { "next_token": "", "count": 2 }, "results": [{ "name": "read" }, { "name": "write" }] }
    }
    Metadata {
        "a server": {
            "policy_decision_point": "https://kavach.acme.example",
            "access_evaluation_endpoint": "https://kavach.acme.example/access/v1/evaluation",
            "access_evaluations_endpoint": "https://kavach.acme.example/access/v1/evaluations",
            "search_subject_endpoint": "https://kavach.acme.example/access/v1/search/subject",
            "search_resource_endpoint": "https://kavach.acme.example/access/v1/search/resource",
            "search_action_endpoint": "https://kavach.acme.example/access/v1/search/action",
        }
    }
    NewKey {
        "a key": { "name": "billing service" }
        "a gateway's": { "name": "gateway", "role": "caller", "expiresAt": "2027-11-24T09:30:00.000Z" }
    }
    NewOperatorKey {
        "an auditor's": { "name": "Ada, audit 2026", "role": "auditor", "expiresAt": "2027-01-31T00:00:00.000Z" }
    }
    KeyPatch {
        "another end": { "expiresAt": "2027-06-30T00:00:00.000Z" }
        "another name, and no end": { "name": "gateway in Frankfurt", "expiresAt": null }
    }
    OperatorKeyJson {
        "a key": {
            "id": KEY,
            "name": "Ada, audit 2026",
            "key": "kvo_(43 characters)",
            "prefix": "kvo_Q7h2Lk",
            "role": "auditor",
            "expiresAt": "2027-01-31T00:00:00.000Z",
            "lastUsedAt": null,
            "trackedSince": MADE,
            "createdAt": MADE,
        }
    }
    TokenBody { "a token": { "token": TOKEN } }
    IntrospectionJson {
        "a good one": {
            "active": true,
            "client_id": AGENT,
            "sub": AGENT,
            "username": "user-1",
            "token_type": "Bearer",
            "exp": 1_827_826_200,
            "tenantId": TENANT,
            "status": "active",
            "tenantStatus": "active",
        }
        "any other": { "active": false }
    }
    KeyJson {
        "a key": {
            "id": KEY,
            "name": "billing service",
            "key": "kvt_(64 characters)",
            "prefix": "kvt_AZrB0uP0eluMbX6PmgscLQQ7h2Lk",
            "role": "admin",
            "expiresAt": null,
            "lastUsedAt": null,
            "trackedSince": MADE,
            "createdAt": MADE,
        }
    }
    SnapshotJson { "written": { "tenants": 3 } }
    NewAgent {
        "an agent": {
            "tenantId": "acme",
            "ownerId": "user-1",
            "name": "Release bot",
            "type": "autonomous",
            "permissions": [
                { "resource": "mcp:github:*", "actions": ["read"] },
                {
                    "resource": "mcp:github:issues",
                    "actions": ["write"],
                    "constraints": {
                        "maxCallsPerHour": 60,
                        "allowedArgPatterns": ["acme/**"],
                        "timeWindow": { "start": "08:00", "end": "18:00" },
                        "ipAllowlist": ["10.0.0.0/8"],
                    },
                },
            ],
            "expiresAt": "2027-12-31T23:59:59Z",
            "metadata": { "team": "release" },
            "labels": { "env": "production" },
        }
    }
    AgentPatch { "a name and an end": { "name": "Release bot 2", "expiresAt": null } }
    AgentJson {
        "an agent": {
            "id": AGENT,
            "tenantId": TENANT,
            "ownerId": "user-1",
            "name": "Release bot",
            "type": "autonomous",
            "permissions": [{ "resource": "mcp:github:*", "actions": ["read"] }],
            "status": "active",
            "expiresAt": "2027-12-31T23:59:59.000Z",
            "metadata": { "team": "release" },
            "labels": { "env": "production" },
            "lastActiveAt": null,
            "createdAt": MADE,
            "updatedAt": MADE,
            "token": TOKEN,
        }
    }
    Rotation { "with grace": { "graceSeconds": 3600 } }
    AuthorizeBody<'_> {
        "a tool call": {
            "agentId": AGENT,
            "action": "write",
            "resource": "mcp:github:issues",
            "arguments": { "repository": "acme/web", "title": "Broken link" },
            "tokensCost": 0.0125,
            "context": { "ip": "10.1.2.3", "userAgent": "release-bot/2.1" },
        }
        "with a hold": {
            "agentId": AGENT,
            "action": "write",
            "resource": "mcp:github:issues",
            "tokensCost": 0.0125,
            "hold": { "ttlSeconds": 300 },
        }
    }
    BatchBody<'_> {
        "two calls": {
            "requests": [
                { "agentId": AGENT, "action": "read", "resource": "mcp:github:repos" },
                { "agentId": AGENT, "action": "delete", "resource": "mcp:github:repos" },
            ]
        }
    }
    BatchAnswer {
        "one of two": {
            "results": [
                { "allowed": true, "auditId": ENTRY },
                { "allowed": false, "auditId": REPORT, "code": "PERMISSION_DENIED", "reason": "No permission ..." },
            ]
        }
        "one can't be read": {
            "results": [
                { "allowed": true, "auditId": ENTRY },
                {
                    "allowed": false,
                    "error": {
                        "code": "INVALID_FIELD",
                        "message": "requests[1].resource must not be empty",
                        "details": { "field": "requests[1].resource" },
                    }
                },
            ]
        }
    }
    Explanation {
        "allowed": {
            "allowed": true,
            "steps": [
                { "check": "tenant", "passed": true, "detail": "the tenant is active" },
                { "check": "agent", "passed": true, "detail": "the agent is active" },
                { "check": "permission", "passed": true, "permission": 0, "detail": "'mcp:github:*' matches" },
            ],
        }
    }
    NewDelegation {
        "reading alone": {
            "fromAgent": AGENT,
            "toAgent": HELPER,
            "permissions": [{ "resource": "mcp:github:repos", "actions": ["read"] }],
            "maxDepth": 2,
            "expiresAt": "2027-01-01T00:00:00Z",
        }
    }
    DelegationJson {
        "a delegation": {
            "id": LINK,
            "tenantId": TENANT,
            "fromAgent": AGENT,
            "toAgent": HELPER,
            "permissions": [{ "resource": "mcp:github:repos", "actions": ["read"] }],
            "expiresAt": "2027-01-01T00:00:00.000Z",
            "maxDepth": 2,
            "depth": 1,
            "status": "active",
            "createdAt": MADE,
        }
    }
    EffectivePermissionJson {
        "a lent one": {
            "resource": "mcp:github:repos",
            "actions": ["read"],
            "source": "delegation",
            "delegationId": LINK,
            "fromAgent": AGENT,
            "depth": 1,
            "expiresAt": "2027-01-01T00:00:00.000Z",
            "held": true,
        }
    }
    NewPolicy {
        "a budget": {
            "agentId": AGENT,
            "limits": { "maxCallsPerDay": 1000, "maxTokensCostPerMonth": 25.5 },
            "action": "block",
        }
        "one limit over all tenants": {
            "scope": "instance",
            "limits": { "maxTokensCostPerDay": 500 },
            "resource": "llm:*",
        }
    }
    PolicyPatch {
        "a higher limit": { "limits": { "maxCallsPerDay": 2000 } }
        "more until Monday": {
            "temporary": { "limits": { "maxCallsPerDay": 5000 }, "until": "2099-11-30T00:00:00Z" },
        }
    }
    AgentPolicyJson {
        "a policy of the whole instance": {
            "id": POLICY,
            "scope": "instance",
            "action": "block",
            "labels": null,
            "resource": "llm:*",
            "actions": null,
            "createdAt": "2026-11-24T08:00:00.000Z",
        }
    }
    PolicyJson {
        "a policy": {
            "id": POLICY,
            "tenantId": TENANT,
            "agentId": AGENT,
            "userId": null,
            "limits": { "maxCallsPerDay": 1000, "maxTokensCostPerMonth": 25.5 },
            "action": "block",
            "status": "active",
            "currentUsage": {
                "callsToday": 17,
                "callsThisMonth": 412,
                "tokensCostToday": 0.2125,
                "tokensCostThisMonth": 5.15,
                "lastUpdated": "2026-11-24T10:15:00.000Z",
            },
            "windows": [
                {
                    "period": "day",
                    "startsAt": "2026-11-24T00:00:00.000Z",
                    "endsAt": "2026-11-25T00:00:00.000Z",
                    "calls": 17,
                    "maxCalls": 1000,
                    "callsLeft": 983,
                    "tokensCostSpent": 0.2,
                    "tokensCostHeld": 0.0125,
                },
                {
                    "period": "month",
                    "startsAt": "2026-11-01T00:00:00.000Z",
                    "endsAt": "2026-12-01T00:00:00.000Z",
                    "calls": 412,
                    "tokensCostSpent": 5.1375,
                    "tokensCostHeld": 0.0125,
                    "maxTokensCost": 25.5,
                    "tokensCostLeft": 20.35,
                },
            ],
            "timeZone": "UTC",
            "weekStartsOn": "monday",
            "monthStartsOn": 1,
            "labels": null,
            "resource": null,
            "actions": null,
            "temporary": null,
            "thresholds": [80, 100],
            "matchesAgents": 3,
            "lastDeniedAt": null,
            "createdAt": MADE,
            "updatedAt": MADE,
        }
    }
    Reset { "the day's": { "period": "day" } }
    ResetAll { "a tenant's": { "tenantId": "acme", "period": "all" } }
    ResetAllJson { "three policies": { "policies": 3 } }
    CheckBody { "a call": { "agentId": AGENT, "tokensCost": 0.5 } }
    CheckJson {
        "exceeded": {
            "allowed": false,
            "code": "BUDGET_EXCEEDED",
            "reason": "Budget maxCallsPerDay exceeded: 1000 of 1000 used, 1 requested",
            "policyId": POLICY,
            "retryAfter": 3600,
            "warnings": [],
            "policies": [],
        }
    }
    HoldJson {
        "a hold": {
            "auditId": ENTRY,
            "tenantId": TENANT,
            "agentId": AGENT,
            "userId": "user-1",
            "tokensCost": 0.0125,
            "createdAt": "2026-11-24T10:15:00.000Z",
            "until": "2026-11-24T10:20:00.000Z",
        }
    }
    HoldExtension { "ten more minutes": { "ttlSeconds": 600 } }
    UsageBody {
        "settle a decision": { "agentId": AGENT, "tokensCost": 0.0131, "auditId": ENTRY }
        "report calls": { "agentId": AGENT, "tokensCost": 2, "calls": 40 }
    }
    UsageAnswer { "settled": { "auditId": REPORT, "ref": ENTRY, "agentId": AGENT, "tokensCost": 0.0131, "calls": 0 } }
    NewWebhook {
        "an endpoint": {
            "tenantId": "acme",
            "url": "https://ops.acme.example/kavach",
            "events": ["agent.*", "policy.updated"],
            "description": "To the pager",
        }
    }
    WebhookPatch { "another list": { "events": ["*"], "status": "active" } }
    WebhookJson {
        "a webhook": {
            "id": WEBHOOK,
            "tenantId": TENANT,
            "url": "https://ops.acme.example/kavach",
            "events": ["agent.*", "policy.updated"],
            "format": "standard",
            "description": "To the pager",
            "status": "active",
            "pending": 0,
            "dead": 0,
            "lastOutcome": "delivered",
            "lastOutcomeAt": MADE,
            "lastProblem": null,
            "createdAt": MADE,
            "updatedAt": MADE,
            "secret": "whsec_(44 characters)",
        }
    }
    DeliveryView {
        "given up": {
            "id": MESSAGE,
            "type": "agent.created",
            "status": "dead",
            "attempts": 8,
            "httpStatus": 503,
            "problem": "it answered 503",
            "createdAt": MADE,
            "finishedAt": "2026-11-25T09:30:00.000Z",
        }
    }
    AuditEntry {
        "a decision": {
            "id": ENTRY,
            "kind": "decision",
            "tenantId": TENANT,
            "agentId": AGENT,
            "userId": "user-1",
            "action": "write",
            "resource": "mcp:github:issues",
            "parameters": { "repository": "acme/web", "title": "Broken link" },
            "result": "allowed",
            "code": null,
            "reason": null,
            "durationMs": 0.041,
            "tokensCost": 0.0125,
            "ip": "10.1.2.3",
            "userAgent": "release-bot/2.1",
            "policyId": null,
            "ref": null,
            "by": null,
            "timestamp": "2026-11-24T10:15:00.000Z",
            "traceId": "4bf92f3577b34da6a3ce929d0e0e4736",
            "clockTime": null,
            "keyName": null,
            "before": null,
            "settledCost": 0.0098,
            "heldUntil": null,
        }
    }
    SpendReportJson {
        "by owner and month": {
            "asOf": "2026-12-01T08:00:00.000Z",
            "rows": [
                {
                    "userId": "user-1", "month": "2026-11",
                    "calls": 1204, "denied": 31, "estimated": 15.05, "settled": 11.2043, "held": 0, "cost": 13.4793
                },
                {
                    "userId": "user-2", "month": "2026-11",
                    "calls": 40, "denied": 0, "estimated": 0, "settled": 2, "held": 0, "cost": 2
                },
            ],
            "total": { "calls": 1244, "denied": 31, "estimated": 15.05, "settled": 13.2043, "held": 0, "cost": 15.4793 },
            "unavailableTenants": [],
        }
    }
    KeptCheckpoint {
        "a checkpoint": {
            "tenantId": TENANT,
            "seq": 412,
            "hash": "6f1ed002ab5595859014ebf0951522d9b1b8b2c4f0a2f6d1b6c8f0f4a8c3e5d7",
            "time": "2026-11-24T10:15:00.000Z",
        }
    }
    StatsJson {
        "of a tenant": {
            "at": "2026-11-24T10:15:00.000Z",
            "startedAt": MADE,
            "agents": { "active": 12, "revoked": 1, "expired": 0 },
            "decisions": { "allowed": 100, "denied": 5, "rateLimited": 2 },
            "denials": [{ "code": "PERMISSION_DENIED", "count": 5 }],
            "seconds": {
                "from": "2026-11-24T10:14:00.000Z", "step": 1, "allowed": [2, 3], "denied": [0, 0], "rateLimited": [0, 0]
            },
            "minutes": {
                "from": "2026-11-24T09:15:00.000Z", "step": 60, "allowed": [0, 40], "denied": [0, 2], "rateLimited": [0, 0]
            },
            "latency": { "count": 107, "p50Ms": 0.08, "p90Ms": 0.2, "p99Ms": 1.2, "maxMs": 4.0 },
            "slowestTenants": [{ "tenantId": TENANT, "slug": "acme", "name": "Acme Inc.", "decisions": 107, "p99Ms": 1.2 }],
            "budgets": [],
        }
    }
    WhoamiJson { "an operator": { "kind": "operator", "role": "admin", "keyId": null } }
    Liveness { "alive": { "status": "alive" } }
    Readiness {
        "ready": { "status": "ready", "storage": "ok", "clock": "ok", "unavailableTenants": [], "refusedFolders": [] }
    }
}

/// A yes, and a no of each kind.
impl Example for Decision {
    fn examples() -> Examples {
        let denials = Code::ALL.iter().filter(|code| code.denies());
        let denials = denials.map(|code| (code.as_str(), denied(*code)));
        let held = json!({ "allowed": true, "auditId": ENTRY, "hold": { "until": "2026-11-24T10:20:00.000Z" } });
        let allowed = [("allowed", json!({ "allowed": true, "auditId": ENTRY })), ("allowed, with a hold", held)];
        allowed.into_iter().chain(denials).collect()
    }
}

/// A decision that says no, with that code.
pub fn denied(code: Code) -> Value {
    let mut decision = json!({ "allowed": false, "auditId": ENTRY, "code": code, "reason": code.meaning() });
    match code {
        Code::PermissionDenied => {
            decision["reason"] = "No permission for action 'delete' on resource 'mcp:github:issues'".into();
        }
        Code::RateLimited => {
            decision["reason"] = "Rate limit exceeded: 60/60 calls per hour for permission 'mcp:github:issues'".into();
            decision["retryAfter"] = 240.into();
        }
        Code::BudgetExceeded => {
            let reason = format!("Budget maxCallsPerDay of policy {POLICY} exceeded: 1000 of 1000 used, 1 requested");
            decision["reason"] = reason.into();
            decision["policyId"] = POLICY.into();
            decision["retryAfter"] = 3_600.into();
        }
        Code::HoldLimitExceeded => {
            decision["reason"] = "Limit of open holds exceeded: 100000 are open".into();
            decision["retryAfter"] = 20.into();
        }
        _ => {}
    }
    decision
}

/// The start of an audit trail in each format.
pub fn export_json() -> Examples {
    Vec::<AuditEntry>::examples()
}

/// See [`export_json`].
pub fn export_ndjson() -> Examples {
    AuditEntry::examples().into_iter().map(|(name, entry)| (name, format!("{entry}\n").into())).collect()
}

/// See [`export_json`].
pub fn export_csv() -> Examples {
    let text = format!("id,kind,tenantId,agentId,...\r\n{ENTRY},decision,{TENANT},{AGENT},...\r\n");
    vec![("a decision", text.into())]
}

/// A spend report as CSV.
pub fn spend_csv() -> Examples {
    let text = "userId,month,calls,denied,estimated,settled,held,cost\r\n\
                user-1,2026-11,1204,31,15.05,11.2043,0,13.4793\r\nuser-2,2026-11,40,0,0,2,0,2\r\n";
    vec![("by owner and month", text.into())]
}

/// The start of a stream.
pub fn stream() -> Examples {
    let event = |(name, entry): (_, Value)| (name, format!(": following\n\nid: {ENTRY}\ndata: {entry}\n\n").into());
    AuditEntry::examples().into_iter().map(event).collect()
}

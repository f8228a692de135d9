//! An entry of the audit trail, and the event that it shows.

use std::net::IpAddr;

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

use crate::audit::change_summary::{ChangeSummary, before_json, implied_before};
use crate::author::By;
use crate::budget::cost::Cost;
use crate::budget::settlement::{HoldChange, UsageRecord};
use crate::error::Code;
use crate::event::{ChangeRecord, Event, Record};
use crate::id::{AgentId, AuditId, MessageId, PolicyId, TenantId};
use crate::moment::Moment;
use crate::time::Timestamp;
use crate::trace_id::TraceId;
use crate::webhook::outbox::{DeliveryRecord, Outcome};

/// What an entry is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum AuditKind {
    /// A decided call.
    #[default]
    Decision,
    /// A usage report.
    Usage,
    /// An administrative change.
    Admin,
    /// A message to a webhook that was delivered or given up.
    Delivery,
}

/// Which kinds of entries a query wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum AuditKinds {
    /// Decided calls.
    #[default]
    Decision,
    /// Usage reports.
    Usage,
    /// Administrative changes.
    Admin,
    /// Messages to webhooks that were delivered or given up.
    Delivery,
    /// Entries of every kind.
    All,
}

impl AuditKinds {
    /// Whether the query wants entries of this kind.
    pub fn has(self, kind: AuditKind) -> bool {
        match self {
            Self::All => true,
            Self::Decision => kind == AuditKind::Decision,
            Self::Usage => kind == AuditKind::Usage,
            Self::Admin => kind == AuditKind::Admin,
            Self::Delivery => kind == AuditKind::Delivery,
        }
    }
}

/// The result of a call or a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum AuditResult {
    /// It was allowed.
    Allowed,
    /// It was denied.
    Denied,
    /// It was denied because a rate is used up.
    RateLimited,
}

impl AuditResult {
    /// The result of the recorded call.
    pub fn of(record: &Record<'_>) -> Self {
        match (record.allowed(), record.rate_limited) {
            (true, _) => Self::Allowed,
            (false, true) => Self::RateLimited,
            (false, false) => Self::Denied,
        }
    }
}

/// An audit entry.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    /// The entry's id.
    pub id: AuditId,
    /// The kind of entry.
    pub kind: AuditKind,
    /// The tenant; `null` is the default one.
    pub tenant_id: TenantId,
    /// The agent, if there is one.
    pub agent_id: Option<AgentId>,
    /// The agent's owner at that time.
    pub user_id: Option<Box<str>>,
    /// The action, or for `admin` the kind of change, such as `agent.create`.
    pub action: Box<str>,
    /// The resource, or for `admin` the id of what changed.
    pub resource: Box<str>,
    /// The call's arguments, or for `admin` the new values. Arguments over 32 KiB, or nested too deep, are replaced by
    /// `{"sha256", "bytes"}` of their JSON as `JSON.stringify` writes it. `{}` if there are none.
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::AnyJson"))]
    pub parameters: Option<Box<RawValue>>,
    /// The result.
    pub result: AuditResult,
    /// Why a call was denied.
    pub code: Option<Code>,
    /// The reason in words; for `admin` the reason that the caller gave.
    pub reason: Option<Box<str>>,
    /// Milliseconds from the request's arrival to the decision.
    pub duration_ms: f64,
    /// The call's cost, exact.
    pub tokens_cost: Option<Cost>,
    /// The caller's address.
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::Address>"))]
    pub ip: Option<IpAddr>,
    /// The `User-Agent` of an agent that asked itself, or what the asking service says in `context.userAgent`.
    pub user_agent: Option<Box<str>>,
    /// The policy that denied the call.
    pub policy_id: Option<PolicyId>,
    /// For `usage` the decision that it settled, or whose hold it ended or prolonged; for `delivery` the entry that the
    /// message told of.
    pub r#ref: Option<AuditId>,
    /// For `admin` and `usage` the author: a key's id, `operator` for the first operator key, or `time` for a hold that
    /// ended by itself.
    pub by: Option<Box<str>>,
    /// When it happened.
    pub timestamp: Timestamp,
    /// The trace that the call was part of.
    pub trace_id: Option<TraceId>,
    /// What the clock said, if that differs from `timestamp`. Time windows, expiry and budgets go by the clock, the
    /// order of entries by `timestamp`.
    pub clock_time: Option<Timestamp>,
    /// For `admin` the name of the key that made the change, at that time. The first operator key has none.
    pub key_name: Option<Box<str>>,
    /// For `admin` the old values of what was changed or ended.
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::AnyJson"))]
    pub before: Option<Box<RawValue>>,
    /// What a settled decision really cost; 0 if its hold was given back. A live stream never shows it.
    pub settled_cost: Option<Cost>,
    /// When the hold on the call's cost ended by itself if nothing else ended it before; for `usage` that prolonged a
    /// hold, its new end.
    pub held_until: Option<Timestamp>,
}

impl AuditEntry {
    /// The entry that shows this event of the tenant.
    pub fn of(tenant: TenantId, moment: Moment, event: &Event<'_>) -> Self {
        let id = AuditId::derive(moment.at, moment.seq, tenant.tag());
        let entry = match event {
            Event::Decided(record) => Self::of_decision(id, tenant, moment, record),
            Event::Changed(record) => Self::of_change(id, tenant, moment, record),
            Event::Used(record) => Self::of_usage(id, tenant, moment, record),
            Event::Delivered(record) => Self::of_delivery(id, tenant, moment, record),
            // No entry of the trail, but what a message about thresholds tells of.
            Event::Leased(_) => Self::bare(id, AuditKind::Usage, tenant, moment, LEASE_ACTION, tenant.folder_name()),
        };
        let none = || RawValue::from_string("{}".to_owned()).ok();
        Self { parameters: entry.parameters.or_else(none), ..entry }
    }

    /// Whether a usage report may settle this decision.
    pub fn can_be_settled(&self) -> bool {
        self.kind == AuditKind::Decision && self.result == AuditResult::Allowed
    }

    fn of_decision(id: AuditId, tenant: TenantId, moment: Moment, record: &Record<'_>) -> Self {
        Self {
            id,
            kind: AuditKind::Decision,
            tenant_id: tenant,
            agent_id: record.agent,
            user_id: record.owner.as_deref().map(Into::into),
            action: record.action.into(),
            resource: record.resource.into(),
            parameters: record.arguments.and_then(|json| RawValue::from_string(json.to_owned()).ok()),
            result: AuditResult::of(record),
            code: record.code,
            reason: record.reason.as_deref().map(Into::into),
            duration_ms: f64::from(record.micros) / 1_000.0,
            tokens_cost: record.cost,
            ip: record.ip,
            user_agent: record.user_agent.map(Into::into),
            policy_id: record.policy,
            r#ref: None,
            by: None,
            timestamp: moment.at,
            trace_id: record.trace,
            clock_time: moment.other_wall(),
            key_name: None,
            before: None,
            settled_cost: None,
            held_until: record.extras.as_ref().and_then(|extras| extras.held_until),
        }
    }

    /// An entry about which nothing else is known: of something that was done, by nobody.
    fn bare(
        id: AuditId,
        kind: AuditKind,
        tenant: TenantId,
        moment: Moment,
        action: &str,
        resource: impl Into<Box<str>>,
    ) -> Self {
        Self {
            id,
            kind,
            tenant_id: tenant,
            agent_id: None,
            user_id: None,
            action: action.into(),
            resource: resource.into(),
            parameters: None,
            result: AuditResult::Allowed,
            code: None,
            reason: None,
            duration_ms: 0.0,
            tokens_cost: None,
            ip: None,
            user_agent: None,
            policy_id: None,
            r#ref: None,
            by: None,
            timestamp: moment.at,
            trace_id: None,
            clock_time: moment.other_wall(),
            key_name: None,
            before: None,
            held_until: None,
            settled_cost: None,
        }
    }

    fn of_usage(id: AuditId, tenant: TenantId, moment: Moment, record: &UsageRecord) -> Self {
        let UsageRecord {
            by,
            agent,
            owner,
            calls,
            cost,
            settles,
            hold,
            scoped: _,
            opens: _,
            key: _,
            crossed: _,
            instance: _,
        } = record;
        let (decision, held, held_until) = match hold {
            None => (settles.as_ref(), "", None),
            Some(HoldChange::Released) => (settles.as_ref(), ",\"hold\":\"released\"", None),
            Some(HoldChange::Expired) => (settles.as_ref(), ",\"hold\":\"expired\"", None),
            Some(HoldChange::Extended { decision, until }) => (Some(decision), ",\"hold\":\"extended\"", Some(*until)),
        };
        // Written by hand, because a JSON value in memory would turn the cost into a float.
        let estimate = decision.map_or_else(|| "null".to_owned(), |decision| decision.estimate.to_string());
        let parameters = format!("{{\"calls\":{calls},\"estimate\":{estimate}{held}}}");
        Self {
            agent_id: Some(*agent),
            user_id: Some((**owner).into()),
            parameters: RawValue::from_string(parameters).ok(),
            tokens_cost: held_until.is_none().then_some(*cost),
            r#ref: decision.map(|decision| AuditId::derive(decision.at, decision.seq, tenant.tag())),
            by: Some(author_id(*by)),
            held_until,
            ..Self::bare(id, AuditKind::Usage, tenant, moment, USAGE_ACTION, agent.to_string())
        }
    }

    fn of_delivery(id: AuditId, tenant: TenantId, moment: Moment, record: &DeliveryRecord) -> Self {
        let DeliveryRecord { webhook, seq, at, kind, outcome, attempts, status, problem } = record;
        let message = MessageId::derive(*at, *seq, tenant.tag());
        let parameters = json!({
            "message": message,
            "type": kind,
            "outcome": outcome,
            "attempts": attempts,
            "httpStatus": status,
        });
        Self {
            parameters: to_raw_value(&parameters).ok(),
            result: delivery_result(record),
            reason: problem.clone(),
            r#ref: Some(AuditId::derive(*at, *seq, tenant.tag())),
            ..Self::bare(id, AuditKind::Delivery, tenant, moment, DELIVERY_ACTION, webhook.to_string())
        }
    }

    fn of_change(id: AuditId, tenant: TenantId, moment: Moment, record: &ChangeRecord) -> Self {
        let ChangeRecord { by, reason, author, change, before, opens: _, key: _, kept: _ } = record;
        let author = author.as_deref();
        let ChangeSummary { action, agent, owner, subject, parameters } = ChangeSummary::of(change);
        Self {
            agent_id: agent,
            user_id: owner.map(Into::into),
            parameters,
            reason: reason.clone(),
            ip: author.and_then(|author| author.ip),
            user_agent: author.and_then(|author| author.user_agent.clone()),
            by: Some(author_id(*by)),
            key_name: author.and_then(|author| author.key_name.clone()),
            before: before.as_deref().and_then(|before| before_json(before, change)).or_else(|| implied_before(change)),
            ..Self::bare(id, AuditKind::Admin, tenant, moment, action, subject.unwrap_or_else(|| tenant.folder_name()))
        }
    }
}

/// The action in the entry of a message that was delivered or given up.
pub(super) const DELIVERY_ACTION: &str = "webhook.deliver";

/// The action in a message about what tenants have spent of an instance policy.
const LEASE_ACTION: &str = "instance.spend";

/// Whether the endpoint took the message.
pub(super) fn delivery_result(record: &DeliveryRecord) -> AuditResult {
    match record.outcome {
        Outcome::Delivered => AuditResult::Allowed,
        Outcome::Dead => AuditResult::Denied,
    }
}

/// The action in the entry of a usage report.
pub(super) const USAGE_ACTION: &str = "usage";

fn author_id(by: By) -> Box<str> {
    match by {
        By::Operator => "operator".into(),
        By::OperatorKey(key) | By::Key(key) => key.to_string().into(),
        By::Time => "time".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::labels::Labels;
    use crate::agent::{AgentSpec, AgentType};
    use crate::budget::policy::PolicyAction;
    use crate::budget::policy_limits::Limits;
    use crate::event::{Before, Change};

    #[test]
    fn policy_costs_keep_every_digit() {
        let cost = Cost::parse("cost", "123456789012.123457").unwrap();
        let limits = Limits { max_tokens_cost_per_day: Some(cost), ..Limits::default() };
        let at = Timestamp::from_millis(1_700_000_000_000);
        let policy = PolicyId::derive(at, 2, TenantId::DEFAULT.tag());
        let action = PolicyAction::Block;
        let created =
            Change::PolicyCreated { policy, agent: None, owner: None, limits: limits.clone(), action, terms: None };
        let updated = Change::PolicyUpdated { policy, limits, action, disabled: true, terms: None };
        let shown = |change| {
            let event = Event::Changed(ChangeRecord::new(By::Operator, change));
            AuditEntry::of(TenantId::DEFAULT, Moment::new(at, 2), &event).parameters.unwrap().get().to_owned()
        };
        let limits = r#""limits":{"maxCallsPerDay":null,"maxCallsPerMonth":null,"maxTokensCostPerDay":123456789012.123457,"maxTokensCostPerMonth":null},"action":"block""#;
        assert_eq!(shown(created), format!(r#"{{"agentId":null,"userId":null,{limits}}}"#));
        assert_eq!(shown(updated), format!(r#"{{{limits},"disabled":true}}"#));
    }

    #[test]
    fn numbers_of_permissions_keep_every_digit() {
        let rules = r#"{"arguments":{"amount":{"max":100.00000000000000000010}},"otherArguments":"deny"}"#;
        let permissions = format!(r#"[{{"resource":"pay","actions":["*"],"constraints":{rules}}}]"#);
        let specs = serde_json::from_str(&permissions).unwrap();
        let spec = AgentSpec {
            owner: "u".into(),
            name: "n".into(),
            kind: AgentType::Service,
            permissions: crate::permission::PermissionSet::parse(specs).unwrap().into(),
            expires_at: None,
            metadata: Some(r#"{"a":1.0}"#.into()),
            labels: Labels::default(),
        };
        let at = Timestamp::from_millis(1_700_000_000_000);
        let agent = AgentId::derive(at, 2, TenantId::DEFAULT.tag());
        let change = Change::AgentUpdated { agent, spec: Box::new(spec.clone()) };
        let before = Some(Box::new(Before::Agent(Box::new(spec))));
        let event = Event::Changed(ChangeRecord { before, ..ChangeRecord::new(By::Operator, change) });
        let entry = AuditEntry::of(TenantId::DEFAULT, Moment::new(at, 2), &event);
        let expected = format!(
            r#"{{"ownerId":"u","name":"n","type":"service","permissions":{permissions},"expiresAt":null,"metadata":{{"a":1.0}},"labels":{{}}}}"#
        );
        assert_eq!(entry.parameters.unwrap().get(), expected);
        assert_eq!(entry.before.unwrap().get(), expected);
    }
}

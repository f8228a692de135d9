//! Commands about policies.

use std::sync::Arc;

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::agent::commands::no_such_agent;
use crate::author::By;
use crate::budget::cost::Cost;
use crate::budget::policy::{Limits, Period, Policy, PolicyAction, PolicyStatus};
use crate::error::{Code, Error};
use crate::event::Change;
use crate::id::{AgentId, PolicyId, TenantId};
use crate::limits::MAX_POLICIES;
use crate::moment::Moment;
use crate::tenant::settings::given;
use crate::tenant::{Command, Creates, Tenant};
use crate::text::{parse_owner, quote};
use crate::time::Timestamp;

/// A policy to create, as a request spells it.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewPolicy {
    /// The tenant it belongs to: id, slug, or `null`. With `agentId`, that agent's tenant.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::TenantName>"))]
    pub tenant_id: Option<String>,
    /// The only agent it applies to.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<AgentId>"))]
    pub agent_id: Option<String>,
    /// The only owner whose agents it applies to. `ownerId` is accepted as well.
    #[serde(default, alias = "ownerId")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::Name>"))]
    pub user_id: Option<String>,
    /// Its limits, at least one.
    #[cfg_attr(feature = "schema", schemars(extend("minProperties" = 1)))]
    pub limits: LimitsPatch,
    /// What happens when one is exceeded; `block` by default.
    #[serde(default)]
    pub action: PolicyAction,
}

/// Limits to set: an omitted one keeps its value, `null` clears it.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LimitsPatch {
    /// Granted calls in a UTC day.
    #[serde(default, deserialize_with = "given")]
    pub max_calls_per_day: Option<Option<u64>>,
    /// Granted calls in a calendar month.
    #[serde(default, deserialize_with = "given")]
    pub max_calls_per_month: Option<Option<u64>>,
    /// Cost in a UTC day.
    #[serde(default, deserialize_with = "given")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Cost>"))]
    pub max_tokens_cost_per_day: Option<Option<Box<RawValue>>>,
    /// Cost in a calendar month.
    #[serde(default, deserialize_with = "given")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Cost>"))]
    pub max_tokens_cost_per_month: Option<Option<Box<RawValue>>>,
}

impl LimitsPatch {
    fn merge(self, into: &Limits) -> Result<Limits, Error> {
        let Self { max_calls_per_day, max_calls_per_month, max_tokens_cost_per_day, max_tokens_cost_per_month } = self;
        let cost = |name: &str, value: Option<Option<Box<RawValue>>>, old: Option<Cost>| match value {
            None => Ok(old),
            Some(None) => Ok(None),
            Some(Some(number)) => Cost::parse_limit(&format!("limits.{name}"), number.get()).map(Some),
        };
        let limits = Limits {
            max_calls_per_day: max_calls_per_day.unwrap_or(into.max_calls_per_day),
            max_calls_per_month: max_calls_per_month.unwrap_or(into.max_calls_per_month),
            max_tokens_cost_per_day: cost(
                "maxTokensCostPerDay",
                max_tokens_cost_per_day,
                into.max_tokens_cost_per_day,
            )?,
            max_tokens_cost_per_month: cost(
                "maxTokensCostPerMonth",
                max_tokens_cost_per_month,
                into.max_tokens_cost_per_month,
            )?,
        };
        if limits == Limits::default() {
            let problem = "must contain at least one of maxCallsPerDay, maxCallsPerMonth, maxTokensCostPerDay, \
                           maxTokensCostPerMonth";
            return Err(Error::field(Code::InvalidField, "limits", problem));
        }
        Ok(limits)
    }
}

/// A policy as an answer shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyView {
    /// The tenant it belongs to.
    pub tenant: TenantId,
    /// The policy, with its current usage.
    pub policy: Policy,
    /// Its current status.
    pub status: PolicyStatus,
}

impl PolicyView {
    /// The policy's state at `now`.
    pub fn of(tenant: &Tenant, policy: &Policy, now: Timestamp) -> Self {
        let shown = Policy { usage: policy.usage.now(now), ..policy.clone() };
        Self { tenant: tenant.id(), policy: shown, status: policy.status(now) }
    }

    /// The policy with that id.
    ///
    /// # Errors
    /// `POLICY_NOT_FOUND`.
    pub fn find(tenant: &Tenant, id: PolicyId, now: Timestamp) -> Result<Self, Error> {
        existing(tenant, id).map(|policy| Self::of(tenant, policy, now))
    }
}

fn existing(tenant: &Tenant, id: PolicyId) -> Result<&Policy, Error> {
    tenant.policies().iter().find(|policy| policy.profile.id == id).ok_or_else(|| unknown_policy(&id.to_string()))
}

/// The error for a policy that doesn't exist or isn't the caller's.
pub fn unknown_policy(id: &str) -> Error {
    Error::new(Code::PolicyNotFound, format!("there is no policy '{}'", quote(id)))
}

/// The policy with that id, if this caller may change it.
fn changeable(tenant: &Tenant, id: PolicyId, by: By) -> Result<&Policy, Error> {
    let policy = existing(tenant, id)?;
    match (by, policy.profile.by) {
        (By::Operator, _) | (By::Key(_), By::Key(_)) => Ok(policy),
        (By::Key(_), By::Operator) => {
            Err(Error::new(Code::Forbidden, "an operator set this policy last, so only an operator key can change it"))
        }
    }
}

/// Creates a policy.
pub struct CreatePolicy {
    agent: Option<AgentId>,
    owner: Option<Arc<str>>,
    limits: Limits,
    action: PolicyAction,
}

impl CreatePolicy {
    /// Reads a new policy. The caller has settled which tenant it belongs to.
    ///
    /// # Errors
    /// `INVALID_FIELD`, naming the field; `AGENT_NOT_FOUND` for text that is not an agent's id.
    pub fn parse(new: NewPolicy) -> Result<Self, Error> {
        let NewPolicy { tenant_id: _, agent_id, user_id, limits, action } = new;
        let agent = match agent_id {
            Some(text) => Some(AgentId::parse(&text).ok_or_else(|| no_such_agent(&text))?),
            None => None,
        };
        let owner = user_id.map(|text| parse_owner("userId", &text)).transpose()?.map(Arc::from);
        Ok(Self { agent, owner, limits: limits.merge(&Limits::default())?, action })
    }
}

impl Command for CreatePolicy {
    type Subject = PolicyId;
    type Reply = Option<PolicyView>;

    fn decide(self, tenant: &Tenant, _: By, moment: Moment) -> Result<(Option<Change>, PolicyId), Error> {
        let Self { agent, owner, limits, action } = self;
        if let Some(id) = agent.filter(|id| tenant.agent(*id).is_none()) {
            return Err(no_such_agent(&id.to_string()));
        }
        if tenant.policies().len() >= MAX_POLICIES {
            let message = format!("the tenant has {MAX_POLICIES} policies already; delete one first");
            return Err(Error::new(Code::PolicyLimitExceeded, message));
        }
        let policy = PolicyId::derive(moment.at, moment.seq, tenant.id().tag());
        Ok((Some(Change::PolicyCreated { policy, agent, owner, limits, action }), policy))
    }

    fn reply(tenant: &Tenant, id: PolicyId, now: Timestamp) -> Option<PolicyView> {
        PolicyView::find(tenant, id, now).ok()
    }
}

/// A change of a policy: an omitted field keeps its value.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PolicyPatch {
    /// Limits to merge.
    #[serde(default)]
    pub limits: Option<LimitsPatch>,
    /// A new action.
    #[serde(default)]
    pub action: Option<PolicyAction>,
    /// `disabled` switches it off, `active` on.
    #[serde(default)]
    pub status: Option<PolicyStatus>,
}

impl Creates for CreatePolicy {
    fn made(tenant: &Tenant, change: &Change, now: Timestamp) -> Option<Self::Reply> {
        let Change::PolicyCreated { policy, .. } = change else { return None };
        Some(Self::reply(tenant, *policy, now))
    }
}

/// Changes a policy.
pub struct UpdatePolicy {
    /// The policy.
    pub id: PolicyId,
    /// The new values.
    pub patch: PolicyPatch,
}

impl Command for UpdatePolicy {
    type Subject = PolicyId;
    type Reply = Option<PolicyView>;

    fn decide(self, tenant: &Tenant, by: By, _: Moment) -> Result<(Option<Change>, PolicyId), Error> {
        let Self { id, patch: PolicyPatch { limits, action, status } } = self;
        let old = &changeable(tenant, id, by)?.profile;
        // An operator who sets a key's policy to equal values still takes it over.
        let takes_over = matches!((by, old.by), (By::Operator, By::Key(_)))
            && (limits.is_some() || action.is_some() || status.is_some());
        let limits = limits.unwrap_or_default().merge(&old.limits)?;
        let action = action.unwrap_or(old.action);
        let disabled = match status {
            None => old.disabled,
            Some(PolicyStatus::Active) => false,
            Some(PolicyStatus::Disabled) => true,
            Some(PolicyStatus::Triggered) => {
                let problem = "must be active or disabled; a policy is triggered when a limit is used up";
                return Err(Error::field(Code::InvalidField, "status", problem));
            }
        };
        let changed = takes_over || (&limits, action, disabled) != (&old.limits, old.action, old.disabled);
        Ok((changed.then_some(Change::PolicyUpdated { policy: id, limits, action, disabled }), id))
    }

    fn reply(tenant: &Tenant, id: PolicyId, now: Timestamp) -> Option<PolicyView> {
        PolicyView::find(tenant, id, now).ok()
    }
}

/// Deletes a policy.
pub struct DeletePolicy(
    /// The policy.
    pub PolicyId,
);

impl Command for DeletePolicy {
    type Subject = ();
    type Reply = ();

    fn decide(self, tenant: &Tenant, by: By, _: Moment) -> Result<(Option<Change>, ()), Error> {
        changeable(tenant, self.0, by)?;
        Ok((Some(Change::PolicyDeleted { policy: self.0 }), ()))
    }

    fn reply(_: &Tenant, (): (), _: Timestamp) {}
}

/// Resets a policy's usage to zero.
pub struct ResetPolicy {
    /// The policy.
    pub id: PolicyId,
    /// The counts to reset.
    pub period: Period,
}

impl Command for ResetPolicy {
    type Subject = PolicyId;
    type Reply = Option<PolicyView>;

    fn decide(self, tenant: &Tenant, by: By, _: Moment) -> Result<(Option<Change>, PolicyId), Error> {
        changeable(tenant, self.id, by)?;
        Ok((Some(Change::PolicyReset { policy: self.id, period: self.period }), self.id))
    }

    fn reply(tenant: &Tenant, id: PolicyId, now: Timestamp) -> Option<PolicyView> {
        PolicyView::find(tenant, id, now).ok()
    }
}

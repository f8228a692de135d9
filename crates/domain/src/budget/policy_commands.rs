//! Commands about policies.

use std::sync::Arc;

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::Deserialize;

use crate::agent::commands::no_such_agent;
use crate::author::By;
use crate::budget::counts::Period;
use crate::budget::policy::{Policy, PolicyAction, PolicyStatus};
use crate::budget::policy_limits::{Limits, LimitsPatch};
use crate::budget::window_view::WindowView;
use crate::error::{Code, Error};
use crate::event::Change;
use crate::id::{AgentId, PolicyId, TenantId};
use crate::limits::MAX_POLICIES;
use crate::moment::Moment;
use crate::tenant::{Command, Tenant};
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

/// A policy as an answer shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyView {
    /// The tenant it belongs to.
    pub tenant: TenantId,
    /// The policy, with its current usage.
    pub policy: Policy,
    /// Its current status.
    pub status: PolicyStatus,
    /// The limits that hold now.
    pub limits: Limits,
    /// Its current windows.
    pub windows: Vec<WindowView>,
}

impl PolicyView {
    /// The state at `now` of a policy, one of [those of that time](Tenant::policies_at).
    pub fn of(tenant: &Tenant, policy: &Policy, now: Timestamp) -> Self {
        let shown = Policy { usage: policy.used(now).into_owned(), ..policy.clone() };
        let (limits, windows) = (policy.limits(now).into_owned(), policy.windows(now));
        Self { tenant: tenant.id(), policy: shown, status: policy.status(now), limits, windows }
    }

    /// The policy with that id.
    ///
    /// # Errors
    /// `POLICY_NOT_FOUND`.
    pub fn find(tenant: &Tenant, id: PolicyId, now: Timestamp) -> Result<Self, Error> {
        let policies = tenant.policies_at(now);
        let policy = policies.iter().find(|policy| policy.profile.id == id);
        policy.map(|policy| Self::of(tenant, policy, now)).ok_or_else(|| unknown_policy(&id.to_string()))
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
        (By::Key(_) | By::Time, By::Operator | By::Time) | (By::Time, By::Key(_)) => {
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

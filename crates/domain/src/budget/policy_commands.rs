//! Commands about policies.

use std::sync::Arc;

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::Deserialize;

use crate::agent::commands::{no_such_agent, unknown_agent};
use crate::agent::labels::{Labels, LabelsSpec};
use crate::author::By;
use crate::budget::calendar::{Calendar, MonthStart, Weekday, parse_zone};
use crate::budget::counts::Period;
use crate::budget::policy::{Policy, PolicyAction, PolicyScope, PolicyStatus, PolicyTerms};
use crate::budget::policy_limits::{Limits, LimitsPatch, TemporarySpec};
use crate::budget::scope::{Scope, parse_actions, parse_resource, some_labels};
use crate::budget::threshold::{DEFAULT_THRESHOLDS, parse_thresholds};
use crate::budget::window_view::WindowView;
use crate::error::{Code, Error};
use crate::event::{Change, ChangeRecord};
use crate::id::{AgentId, PolicyId, TenantId};
use crate::idempotency::kept_reply::KeptReply;
#[cfg(feature = "schema")]
use crate::limits::{MAX_ACTIONS, MAX_MONTH_START, MAX_THRESHOLDS};
use crate::limits::{MAX_INSTANCE_POLICIES, MAX_POLICIES};
use crate::moment::Moment;
use crate::tenant::if_unchanged::Versioned;
use crate::tenant::settings::given;
use crate::tenant::{Command, Creates, Repeatable, Tenant};
use crate::text::{parse_owner, quote};
use crate::time::Timestamp;
use crate::version::Version;

/// A policy to create, as a request spells it.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewPolicy {
    /// Whose calls it is about: those of one `tenant`, which is the default, or of the whole `instance`. The latter takes an
    /// operator key, names no tenant, agent or owner, and blocks or throttles.
    #[serde(default)]
    pub scope: PolicyScope,
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
    /// The time zone of its windows, an IANA name; `UTC` by default.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::ZoneName>"))]
    pub time_zone: Option<String>,
    /// The first day of its weeks; `monday` by default.
    #[serde(default)]
    pub week_starts_on: Option<Weekday>,
    /// The day on which its months start, 1 to 28; 1 by default.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = MAX_MONTH_START)))]
    pub month_starts_on: Option<u64>,
    /// Labels, at least one: it charges only agents that have all of them.
    #[serde(default)]
    pub labels: Option<LabelsSpec>,
    /// A resource pattern: it charges only calls about matching resources.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::ResourcePattern>"))]
    pub resource: Option<String>,
    /// Actions, at least one: it charges only these. `*` is any.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Vec<crate::schema::ActionPattern>>", length(min = 1, max = MAX_ACTIONS)))]
    pub actions: Option<Vec<String>>,
    /// Limits that replace its own of the same names until a time.
    #[serde(default)]
    pub temporary: Option<TemporarySpec>,
    /// At which percents of its limits webhooks are told `budget.threshold`, once in each window; 80 and 100 by default.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Vec<crate::schema::Threshold>>", length(max = MAX_THRESHOLDS)))]
    pub thresholds: Option<Vec<u64>>,
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
        let mut view = Self { tenant: tenant.id(), policy: shown, status: policy.status(now), limits, windows };
        if policy.profile.terms.instance {
            let held = tenant.with_lent(policy, now);
            view.status = held.status(now);
            view.windows = held.windows(now);
            for window in &mut view.windows {
                window.calls_held = Some(tenant.calls_lent(policy, window.period, now));
            }
            view.policy.usage = held.usage;
        }
        view
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
    Error::new(Code::PolicyNotFound, format!("policy '{}' not found", quote(id)))
}

/// The policy with that id, if this caller may change it.
fn changeable(tenant: &Tenant, id: PolicyId, by: By) -> Result<&Policy, Error> {
    let policy = existing(tenant, id)?;
    if policy.profile.terms.instance && !by.is_operator() {
        return Err(unknown_policy(&id.to_string()));
    }
    if by.may_change(policy.profile.by) {
        Ok(policy)
    } else {
        Err(Error::new(Code::Forbidden, "an operator set this policy last, so only an operator key can change it"))
    }
}

/// Creates a policy.
pub struct CreatePolicy {
    agent: Option<AgentId>,
    owner: Option<Arc<str>>,
    limits: Limits,
    action: PolicyAction,
    terms: PolicyTerms,
}

impl CreatePolicy {
    /// Reads a new policy. The caller has settled which tenant it belongs to.
    ///
    /// # Errors
    /// `INVALID_FIELD`, naming the field; `AGENT_NOT_FOUND` for text that is not an agent's id.
    pub fn parse(new: NewPolicy) -> Result<Self, Error> {
        if new.scope == PolicyScope::Instance {
            check_instance_fields(&new)?;
        }
        let NewPolicy { scope, tenant_id: _, agent_id, user_id, limits, action, .. } = new;
        let patch = TermsPatch {
            time_zone: new.time_zone.map(Some),
            week_starts_on: new.week_starts_on.map(Some),
            month_starts_on: new.month_starts_on.map(Some),
            labels: new.labels.map(Some),
            resource: new.resource.map(Some),
            actions: new.actions.map(Some),
            temporary: new.temporary.map(Some),
            thresholds: new.thresholds.map(Some),
        };
        let agent = match agent_id {
            Some(text) => Some(AgentId::parse(&text).ok_or_else(|| no_such_agent(&text))?),
            None => None,
        };
        let owner = user_id.map(|text| parse_owner("userId", &text)).transpose()?.map(Arc::from);
        let (limits, terms) = (limits.merge(&Limits::default())?, patch.merge(&PolicyTerms::default())?);
        let terms = PolicyTerms { instance: scope == PolicyScope::Instance, ..terms };
        Ok(Self { agent, owner, limits, action, terms })
    }
}

impl Command for CreatePolicy {
    type Subject = PolicyId;
    type Reply = Option<PolicyView>;

    fn decide(self, tenant: &Tenant, by: By, moment: Moment) -> Result<(Option<Change>, PolicyId), Error> {
        let Self { agent, owner, limits, action, terms } = self;
        if terms.instance {
            check_instance(tenant, by)?;
        }
        if let Some(id) = agent.filter(|id| tenant.agent(*id).is_none()) {
            return Err(no_such_agent(&id.to_string()));
        }
        if tenant.policies().len() >= MAX_POLICIES {
            let message = format!("the tenant has {MAX_POLICIES} policies, the maximum; delete one first");
            return Err(Error::new(Code::PolicyLimitExceeded, message));
        }
        check_until(&terms, moment)?;
        let policy = PolicyId::derive(moment.at, moment.seq, tenant.id().tag());
        let terms = terms.stored();
        Ok((Some(Change::PolicyCreated { policy, agent, owner, limits, action, terms }), policy))
    }

    fn reply(tenant: &Tenant, id: PolicyId, now: Timestamp) -> Option<PolicyView> {
        PolicyView::find(tenant, id, now).ok()
    }
}

/// A change of a policy: an omitted field keeps its value.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
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
    /// The time zone of its windows, an IANA name; `null` is UTC. What is counted stays, and counts until the new calendar
    /// ends the window.
    #[serde(default, deserialize_with = "given")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::ZoneName>"))]
    pub time_zone: Option<Option<String>>,
    /// The first day of its weeks; `null` is `monday`.
    #[serde(default, deserialize_with = "given")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Weekday>"))]
    pub week_starts_on: Option<Option<Weekday>>,
    /// The day on which its months start, 1 to 28; `null` is 1.
    #[serde(default, deserialize_with = "given")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<u64>", range(min = 1, max = MAX_MONTH_START)))]
    pub month_starts_on: Option<Option<u64>>,
    /// Labels in place of the old ones; `null` is agents with any. A policy without labels, resource and actions gets none
    /// later, and one that has some keeps at least one.
    #[serde(default, deserialize_with = "given")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<LabelsSpec>"))]
    pub labels: Option<Option<LabelsSpec>>,
    /// A resource pattern; `null` is any resource.
    #[serde(default, deserialize_with = "given")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::ResourcePattern>"))]
    pub resource: Option<Option<String>>,
    /// Actions in place of the old ones; `null` is any.
    #[serde(default, deserialize_with = "given")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Vec<crate::schema::ActionPattern>>", length(min = 1, max = MAX_ACTIONS)))]
    pub actions: Option<Option<Vec<String>>>,
    /// Limits that replace its own of the same names until a time; `null` ends them now.
    #[serde(default, deserialize_with = "given")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<TemporarySpec>"))]
    pub temporary: Option<Option<TemporarySpec>>,
    /// Percents in place of the old ones; `null` is 80 and 100, an empty list none. What is not reached any more is told anew.
    #[serde(default, deserialize_with = "given")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Vec<crate::schema::Threshold>>", length(max = MAX_THRESHOLDS)))]
    pub thresholds: Option<Option<Vec<u64>>>,
}

/// Terms to set: an omitted one keeps its value.
#[derive(Debug)]
struct TermsPatch {
    time_zone: Option<Option<String>>,
    week_starts_on: Option<Option<Weekday>>,
    month_starts_on: Option<Option<u64>>,
    labels: Option<Option<LabelsSpec>>,
    resource: Option<Option<String>>,
    actions: Option<Option<Vec<String>>>,
    temporary: Option<Option<TemporarySpec>>,
    thresholds: Option<Option<Vec<u64>>>,
}

impl TermsPatch {
    fn is_empty(&self) -> bool {
        let Self { time_zone, week_starts_on, month_starts_on, labels, resource, actions, temporary, thresholds } =
            self;
        (time_zone.is_none() && week_starts_on.is_none() && month_starts_on.is_none())
            && (labels.is_none()
                && resource.is_none()
                && actions.is_none()
                && temporary.is_none()
                && thresholds.is_none())
    }

    fn merge(self, old: &PolicyTerms) -> Result<PolicyTerms, Error> {
        let Self { time_zone, week_starts_on, month_starts_on, labels, resource, actions, temporary, thresholds } =
            self;
        let calendar = Calendar {
            zone: match time_zone {
                Some(name) => name.map_or(Ok(None), |name| parse_zone(&name))?,
                None => old.calendar.zone.clone(),
            },
            week_starts_on: week_starts_on.map_or(old.calendar.week_starts_on, Option::unwrap_or_default),
            month_starts_on: match month_starts_on {
                Some(day) => day.map(MonthStart::parse).transpose()?.unwrap_or_default(),
                None => old.calendar.month_starts_on,
            },
        };
        let kept = old.scope.as_deref().cloned().unwrap_or_default();
        let scope = Scope {
            labels: match labels {
                Some(spec) => spec
                    .map(|spec| Labels::parse("labels", spec).and_then(some_labels))
                    .transpose()?
                    .unwrap_or_default(),
                None => kept.labels,
            },
            resource: match resource {
                Some(text) => text.map(|text| parse_resource(&text)).transpose()?,
                None => kept.resource,
            },
            actions: match actions {
                Some(list) => list.map(parse_actions).transpose()?.unwrap_or_default(),
                None => kept.actions,
            },
        };
        let temporary = match temporary {
            Some(spec) => spec.map(TemporarySpec::parse).transpose()?.map(Box::new),
            None => old.temporary.clone(),
        };
        let thresholds = match thresholds {
            Some(percents) => percents.map(parse_thresholds).transpose()?,
            None => old.thresholds.clone(),
        };
        // The usual ones need no mention.
        let thresholds = thresholds.filter(|percents| *percents != DEFAULT_THRESHOLDS);
        let scope = (!scope.is_empty()).then(|| Box::new(scope));
        Ok(PolicyTerms { calendar, temporary, scope, thresholds, instance: old.instance })
    }
}

/// An instance policy is about all tenants, and must be able to stop a call.
fn check_instance_fields(new: &NewPolicy) -> Result<(), Error> {
    let refuse = |field, problem| Err(Error::field(Code::InvalidField, field, problem));
    let named = "must be left out with scope instance: such a policy is about the calls of all tenants";
    if new.tenant_id.is_some() {
        return refuse("tenantId", named);
    }
    if new.agent_id.is_some() {
        return refuse("agentId", named);
    }
    if new.user_id.is_some() {
        return refuse("userId", named);
    }
    check_instance_action(new.action)
}

fn check_instance_action(action: PolicyAction) -> Result<(), Error> {
    match action {
        PolicyAction::Block | PolicyAction::Throttle => Ok(()),
        PolicyAction::Warn | PolicyAction::Revoke => {
            let problem =
                "must be block or throttle for a policy of the whole instance, whose limits are never exceeded";
            Err(Error::field(Code::InvalidField, "action", problem))
        }
    }
}

fn check_instance(tenant: &Tenant, by: By) -> Result<(), Error> {
    if !by.is_operator() {
        return Err(Error::new(Code::Forbidden, "scope instance requires an operator key"));
    }
    if !tenant.id().is_default() {
        return Err(Error::field(Code::InvalidField, "tenantId", "must be left out with scope instance"));
    }
    let count = tenant.policies().iter().filter(|policy| policy.profile.terms.instance).count();
    if count >= MAX_INSTANCE_POLICIES {
        let message =
            format!("the server has {MAX_INSTANCE_POLICIES} instance policies, the maximum; delete one first");
        return Err(Error::new(Code::PolicyLimitExceeded, message));
    }
    Ok(())
}

/// Limits for a while must not be over already.
fn check_until(terms: &PolicyTerms, moment: Moment) -> Result<(), Error> {
    match &terms.temporary {
        Some(temporary) if temporary.until <= moment.wall => {
            Err(Error::field(Code::InvalidField, "temporary.until", "must be in the future"))
        }
        _ => Ok(()),
    }
}

/// A decision lists the policies with a scope that it charged, and only those. So none gets a scope or loses it.
fn check_scope(old: &PolicyTerms, new: &PolicyTerms) -> Result<(), Error> {
    let (field, problem) = match (&old.scope, &new.scope) {
        (None, Some(scope)) => {
            let field = match (scope.labels.is_empty(), &scope.resource) {
                (false, _) => "labels",
                (true, Some(_)) => "resource",
                (true, None) => "actions",
            };
            (field, "can't be given to a policy that was made without labels, resource and actions; create another")
        }
        (Some(scope), None) => {
            let field = match (scope.labels.is_empty(), &scope.resource) {
                (false, _) => "labels",
                (true, Some(_)) => "resource",
                (true, None) => "actions",
            };
            (field, "must stay, or another of labels, resource and actions; resource * is any")
        }
        _ => return Ok(()),
    };
    Err(Error::field(Code::InvalidField, field, problem))
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

    fn decide(self, tenant: &Tenant, by: By, moment: Moment) -> Result<(Option<Change>, PolicyId), Error> {
        let Self { id, patch } = self;
        let old = &changeable(tenant, id, by)?.profile;
        let PolicyPatch { limits, action, status, time_zone, week_starts_on, month_starts_on, .. } = patch;
        let PolicyPatch { labels, resource, actions, temporary, thresholds, .. } = patch;
        let sets_until = matches!(temporary, Some(Some(_)));
        let patch =
            TermsPatch { time_zone, week_starts_on, month_starts_on, labels, resource, actions, temporary, thresholds };
        let sets_terms = !patch.is_empty();
        // An operator who sets a key's policy to equal values still takes it over.
        let takes_over = by.is_operator()
            && matches!(old.by, By::Key(_))
            && (limits.is_some() || action.is_some() || status.is_some() || sets_terms);
        let limits = limits.unwrap_or_default().merge(&old.limits)?;
        let action = action.unwrap_or(old.action);
        if old.terms.instance {
            check_instance_action(action)?;
        }
        let disabled = match status {
            None => old.disabled,
            Some(PolicyStatus::Active) => false,
            Some(PolicyStatus::Disabled) => true,
            Some(PolicyStatus::Triggered) => {
                let problem = "must be active or disabled; a policy is triggered when a limit is used up";
                return Err(Error::field(Code::InvalidField, "status", problem));
            }
        };
        let terms = patch.merge(&old.terms)?;
        check_scope(&old.terms, &terms)?;
        if sets_until {
            check_until(&terms, moment)?;
        }
        let is_new = (&limits, action, disabled, &terms) != (&old.limits, old.action, old.disabled, &old.terms);
        let terms = terms.stored();
        let update = Change::PolicyUpdated { policy: id, limits, action, disabled, terms };
        Ok(((takes_over || is_new).then_some(update), id))
    }

    fn reply(tenant: &Tenant, id: PolicyId, now: Timestamp) -> Option<PolicyView> {
        PolicyView::find(tenant, id, now).ok()
    }
}

impl Versioned for UpdatePolicy {
    fn version(&self, tenant: &Tenant) -> Option<Version> {
        version(tenant, self.id)
    }
}

fn version(tenant: &Tenant, id: PolicyId) -> Option<Version> {
    existing(tenant, id).ok().map(|policy| policy.profile.version())
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

impl Versioned for DeletePolicy {
    fn version(&self, tenant: &Tenant) -> Option<Version> {
        version(tenant, self.0)
    }
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

impl Repeatable for ResetPolicy {
    fn first_answer(alone: &Tenant, record: &ChangeRecord, now: Timestamp) -> Option<Self::Reply> {
        let (Change::PolicyReset { .. }, Some(KeptReply::Policy(policy))) = (&record.change, &record.kept) else {
            return None;
        };
        Some(Some(PolicyView::of(alone, policy, now)))
    }
}

/// Resets the usage of all policies that the author may change.
pub struct ResetPolicies(
    /// The counts to reset.
    pub Period,
);

impl Command for ResetPolicies {
    type Subject = usize;
    type Reply = usize;

    fn decide(self, tenant: &Tenant, by: By, _: Moment) -> Result<(Option<Change>, usize), Error> {
        let count = tenant.policies().iter().filter(|policy| policy.profile.is_reset_with_all(by)).count();
        Ok(((count > 0).then_some(Change::PoliciesReset { period: self.0 }), count))
    }

    fn reply(_: &Tenant, count: usize, _: Timestamp) -> usize {
        count
    }
}

impl Repeatable for ResetPolicies {
    fn first_answer(_: &Tenant, record: &ChangeRecord, _: Timestamp) -> Option<usize> {
        let (Change::PoliciesReset { .. }, Some(KeptReply::Policies(count))) = (&record.change, &record.kept) else {
            return None;
        };
        usize::try_from(*count).ok()
    }
}

/// The policies that bind an agent now, oldest first.
///
/// # Errors
/// `AGENT_NOT_FOUND`.
pub fn policies_of_agent(tenant: &Tenant, agent: AgentId, now: Timestamp) -> Result<Vec<PolicyView>, Error> {
    let agent = tenant.agent(agent).ok_or_else(|| unknown_agent(&agent.to_string()))?;
    let policies = tenant.policies_at(now);
    let binding = policies.iter().filter(|policy| policy.binds(agent));
    Ok(binding.map(|policy| PolicyView::of(tenant, policy, now)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delegation::example_tests::World;

    #[test]
    fn null_is_the_default_and_an_omitted_term_stays() {
        let mut world = World::new(None);
        let json = r#"{"limits":{"maxCallsPerWeek":1},"timeZone":"Asia/Kolkata","weekStartsOn":"sunday",
            "monthStartsOn":28,"thresholds":[50]}"#;
        let new: NewPolicy = serde_json::from_str(json).unwrap();
        let made = world.run(CreatePolicy::parse(new).unwrap()).unwrap().unwrap().policy.profile.clone();
        let mut terms = made.terms.clone();
        for patch in ["{}", r#"{"action":"warn"}"#] {
            world.update_policy(made.id, patch);
            assert_eq!(world.tenant.policies()[0].profile.terms, terms);
        }
        for member in ["weekStartsOn", "monthStartsOn", "timeZone", "thresholds"] {
            match member {
                "weekStartsOn" => terms.calendar.week_starts_on = Weekday::Monday,
                "monthStartsOn" => terms.calendar.month_starts_on = MonthStart::default(),
                "timeZone" => terms.calendar.zone = None,
                _ => terms.thresholds = None,
            }
            world.update_policy(made.id, &format!("{{\"{member}\":null}}"));
            assert_eq!(world.tenant.policies()[0].profile.terms, terms, "{member}");
        }
        assert_eq!(terms, PolicyTerms::default());
        // In a new policy too.
        let json = r#"{"limits":{"maxCallsPerWeek":1},"timeZone":null,"weekStartsOn":null,"monthStartsOn":null}"#;
        let new: NewPolicy = serde_json::from_str(json).unwrap();
        let view = world.run(CreatePolicy::parse(new).unwrap()).unwrap().unwrap();
        assert_eq!(view.policy.profile.terms, PolicyTerms::default());
    }

    impl World {
        fn update_policy(&mut self, id: PolicyId, patch: &str) {
            self.run(UpdatePolicy { id, patch: serde_json::from_str(patch).unwrap() }).unwrap();
        }
    }
}

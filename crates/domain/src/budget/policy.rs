//! Budget policies: their limits, their agents, and how much is used.

use std::borrow::Cow;
use std::sync::Arc;

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::agent::Agent;
use crate::author::By;
use crate::budget::calendar::{Calendar, Span};
use crate::budget::cost::Cost;
use crate::budget::counts::{Period, StoredUsage, Usage};
use crate::budget::policy_limits::{Limits, Temporary};
use crate::budget::scope::{Call, Scope};
use crate::budget::window::{Bounds, Window};
use crate::id::{AgentId, PolicyId};
use crate::moment::Moment;
use crate::time::Timestamp;
use crate::version::Version;

/// What happens when a limit is exceeded, from the mildest to the most severe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum PolicyAction {
    /// Allow the call, with a warning.
    Warn,
    /// Deny the call as rate limited.
    Throttle,
    /// Deny the call.
    #[default]
    Block,
    /// Deny the call and revoke its agent.
    Revoke,
}

/// Whose calls a policy is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum PolicyScope {
    /// One tenant's.
    #[default]
    Tenant,
    /// Those of all tenants of the server.
    Instance,
}

/// The state of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum PolicyStatus {
    /// Enabled, with no limit used up.
    Active,
    /// Enabled, with a limit used up.
    Triggered,
    /// Switched off. It stops nothing, but calls are still counted, so that its numbers are right when it comes back.
    Disabled,
}

/// A policy without what is used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyProfile {
    /// The policy's id.
    pub id: PolicyId,
    /// The only agent it applies to, if it names one.
    pub agent: Option<AgentId>,
    /// The only owner whose agents it applies to, if it names one.
    pub owner: Option<Arc<str>>,
    /// Its own limits. [`Policy::limits`] has those that hold now.
    pub limits: Limits,
    /// What happens when one is exceeded.
    pub action: PolicyAction,
    /// Whether it is switched off.
    pub disabled: bool,
    /// Who last created or changed it. A tenant key may change a policy only if a tenant key set it last. A reset does
    /// not count.
    pub by: By,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// What only some policies have.
    #[serde(default, skip_serializing_if = "PolicyTerms::are_plain")]
    pub terms: PolicyTerms,
}

/// What only some policies have. A part that a policy lacks takes no byte.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyTerms {
    /// What days, weeks and months it counts by.
    #[serde(skip_serializing_if = "Calendar::is_plain")]
    pub calendar: Calendar,
    /// Limits that replace some of its own for a while.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temporary: Option<Box<Temporary>>,
    /// The calls it is about, if not all of its agents'. A policy with a scope always has one, and one without never gets
    /// one: a decision lists the scoped policies that it charged, and only those.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<Box<Scope>>,
    /// At which percents of its limits somebody is told, in ascending order; `None` is the usual ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thresholds: Option<Vec<u16>>,
    /// Whether it is about the calls of all tenants: then none of its own tenant's calls charges it, and tenants get
    /// [slices](crate::instance) of it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub instance: bool,
}

impl PolicyTerms {
    /// Whether there are none.
    pub fn are_plain(&self) -> bool {
        *self == Self::default()
    }

    /// The terms as an event holds them: `None` if there are none.
    pub fn stored(&self) -> Option<Box<Self>> {
        (!self.are_plain()).then(|| Box::new(self.clone()))
    }

    /// Whether a policy with these limits counts that span: the day and the month always, the others if a limit asks for
    /// them.
    pub fn counts(&self, limits: &Limits, span: Span) -> bool {
        let by_limit = limits.has(span) || self.temporary.as_ref().is_some_and(|temporary| temporary.has(span));
        matches!(span, Span::Day | Span::Month) || by_limit
    }
}

/// A policy. A copy is cheap: copies share the profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "StoredPolicy")]
pub struct Policy {
    /// The part that rarely changes.
    pub profile: Arc<PolicyProfile>,
    /// How much is used.
    pub usage: Usage,
    /// When it last denied a call; `None` if it did not since it was last changed or reset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_denied_at: Option<Timestamp>,
}

/// A policy in a snapshot of any version.
#[derive(Deserialize)]
struct StoredPolicy {
    profile: Arc<PolicyProfile>,
    usage: StoredUsage,
    #[serde(default)]
    last_denied_at: Option<Timestamp>,
}

impl From<StoredPolicy> for Policy {
    fn from(stored: StoredPolicy) -> Self {
        let StoredPolicy { profile, usage, last_denied_at } = stored;
        let usage = usage.restored(profile.created_at);
        Self { profile, usage, last_denied_at }
    }
}

impl Policy {
    /// A policy without charges. Its windows begin with those it was made in, even if its first charge comes under a
    /// clock that is ahead. `bounds` tells their bounds where the event has them; the others are those of UTC.
    pub fn new(profile: PolicyProfile, bounds: impl Fn(Span) -> Option<Bounds>) -> Self {
        let at = profile.created_at;
        let bounds = |span: Span| bounds(span).unwrap_or_else(|| profile.terms.calendar.utc(span, at));
        let mut usage = Usage::empty(bounds);
        usage.keep(|span| profile.terms.counts(&profile.limits, span), bounds, 0);
        Self { profile: Arc::new(profile), usage, last_denied_at: None }
    }

    /// Charges calls and cost. A held cost is charged too, until [`Policy::end_hold`] says what became of it.
    pub fn charge(&mut self, moment: Moment, calls: u64, cost: Cost, held: bool) {
        self.turn_to(moment);
        self.usage.charge(calls, cost, held);
    }

    /// Gives back a cost charged at `charged` where that window is still open: not over, and not reset since. Nothing
    /// goes below zero.
    pub fn give_back(&mut self, moment: Moment, charged: Moment, cost: Cost) {
        self.turn_to(moment);
        self.usage.give_back(charged, cost);
    }

    /// Ends the hold of the call at `charged`: of its estimate, `actual` was spent, and the rest is given back where its
    /// window is still open. What was spent beyond the estimate is charged to the windows that are open now.
    pub fn end_hold(&mut self, moment: Moment, charged: Moment, estimate: Cost, actual: Cost) {
        self.turn_to(moment);
        self.usage.end_hold(charged, estimate, estimate.minus(actual));
        self.usage.charge(0, actual.minus(estimate), false);
    }

    /// Takes other limits, action and terms, as an event says. A new count begins at zero. With another calendar the
    /// counts go on, until the new calendar ends them. `bounds` tells the bounds of windows where the event has them; the
    /// others are those of UTC.
    pub fn renew(
        &mut self,
        moment: Moment,
        bounds: impl Fn(Span) -> Option<Bounds>,
        change: impl FnOnce(&mut PolicyProfile),
    ) {
        let old = self.profile.terms.calendar.clone();
        change(Arc::make_mut(&mut self.profile));
        let profile = &self.profile;
        let bounds = |span: Span| bounds(span).unwrap_or_else(|| profile.terms.calendar.utc(span, moment.wall));
        if profile.terms.calendar != old {
            for (span, count) in self.usage.counts_mut() {
                *count = count.turned_to(bounds(span), moment.wall, moment.seq);
            }
        }
        self.usage.keep(|span| profile.terms.counts(&profile.limits, span), bounds, moment.seq);
    }

    /// Sets the counts of that period to zero.
    pub fn reset(&mut self, moment: Moment, period: Period) {
        self.turn_to(moment);
        self.last_denied_at = None;
        self.usage.reset(moment.seq, period);
    }

    /// Goes to the windows of an event. A clock that was set back does it for all policies: what was used until then
    /// belongs to no later day. The windows of a zone are [opened](Policy::open) before, with bounds from the event.
    pub fn turn_to(&mut self, moment: Moment) {
        if !self.usage.is_open_at(moment.wall) && !self.profile.terms.calendar.is_zoned() {
            let calendar = &self.profile.terms.calendar;
            self.usage.turn_to(|span| calendar.utc(span, moment.wall), moment.wall, moment.seq);
        }
        self.usage.at = Some(moment.wall);
    }

    /// Goes to a window with these bounds, as an event says. If the open one is not over, it goes on until the new end.
    pub fn open(&mut self, span: Span, bounds: Bounds, moment: Moment) {
        if !bounds.contains(moment.wall) {
            return;
        }
        for (_, count) in self.usage.counts_mut().filter(|(own, _)| *own == span) {
            *count = count.turned_to(bounds, moment.wall, moment.seq);
        }
    }

    /// The bounds of that span's window at `now`.
    pub fn bounds(&self, span: Span, now: Timestamp) -> Bounds {
        let open = self.usage.count(span).map(|count| count.open.bounds()).filter(|bounds| bounds.contains(now));
        open.unwrap_or_else(|| self.profile.terms.calendar.bounds(span, now))
    }

    /// What was charged in that span's window at `now`, if it is counted.
    pub fn window(&self, span: Span, now: Timestamp) -> Option<Window> {
        let count = self.usage.count(span)?;
        Some(if count.open.contains(now) {
            count.open
        } else {
            count.turned_to(self.profile.terms.calendar.bounds(span, now), now, 0).open
        })
    }

    /// How much is used at `now`: nothing in a window that just begins. Mostly none does, and nothing is copied.
    pub fn used(&self, now: Timestamp) -> Cow<'_, Usage> {
        if self.usage.is_open_at(now) { Cow::Borrowed(&self.usage) } else { Cow::Owned(self.turned_to(now)) }
    }

    #[cold]
    fn turned_to(&self, now: Timestamp) -> Usage {
        let mut usage = self.usage.clone();
        usage.turn_to(|span| self.profile.terms.calendar.bounds(span, now), now, 0);
        usage
    }

    /// The limits that hold at `now`.
    pub fn limits(&self, now: Timestamp) -> Cow<'_, Limits> {
        Temporary::at(self.profile.terms.temporary.as_deref(), &self.profile.limits, now)
    }

    /// Whether it denied a call today.
    pub fn denied_today(&self, now: Timestamp) -> bool {
        self.last_denied_at.is_some_and(|at| self.bounds(Span::Day, now).contains(at))
    }

    /// Whether that span is counted and its window does not have that time.
    pub fn is_over(&self, span: Span, now: Timestamp) -> bool {
        self.usage.count(span).is_some_and(|count| !count.open.contains(now))
    }

    /// Whether it applies to an agent with that id and owner. Its scope may still except the agent or a call.
    pub fn is_about(&self, agent: AgentId, owner: &str) -> bool {
        !self.profile.terms.instance
            && self.profile.agent.is_none_or(|own| own == agent)
            && self.profile.owner.as_deref().is_none_or(|own| own == owner)
    }

    /// Whether it charges that call of the agent.
    pub fn charges(&self, agent: &Agent, call: Call<'_>) -> bool {
        let spec = &agent.profile.spec;
        self.is_about(agent.profile.id, &spec.owner)
            && self.profile.terms.scope.as_ref().is_none_or(|scope| scope.matches(&spec.labels, call))
    }

    /// Whether it charges some calls of the agent.
    pub fn binds(&self, agent: &Agent) -> bool {
        let spec = &agent.profile.spec;
        self.is_about(agent.profile.id, &spec.owner)
            && self.profile.terms.scope.as_ref().is_none_or(|scope| spec.labels.has_all(&scope.labels))
    }

    /// Its status at `now`.
    pub fn status(&self, now: Timestamp) -> PolicyStatus {
        if self.profile.disabled {
            PolicyStatus::Disabled
        } else if self.at(now, |standing| standing.meters(0, Cost::default()).any(|meter| meter.used_up)) {
            PolicyStatus::Triggered
        } else {
            PolicyStatus::Active
        }
    }
}

impl PolicyProfile {
    /// Its version.
    pub fn version(&self) -> Version {
        Version::of(self)
    }

    /// Whether it is among those that this author resets by resetting all of a tenant.
    pub(crate) fn is_reset_with_all(&self, by: By) -> bool {
        by.may_change(self.by) && !self.terms.instance
    }
}

#[cfg(test)]
impl PolicyProfile {
    /// A policy that blocks everyone's calls past these limits.
    pub(crate) fn blocking(limits: Limits, terms: PolicyTerms, created_at: Timestamp) -> Self {
        Self {
            id: PolicyId::derive(created_at, 1, crate::id::TenantTag(0)),
            agent: None,
            owner: None,
            limits,
            action: PolicyAction::Block,
            disabled: false,
            by: By::Operator,
            created_at,
            updated_at: created_at,
            terms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse("at", text).unwrap()
    }

    fn cost(text: &str) -> Cost {
        Cost::parse("cost", text).unwrap()
    }

    fn event(seq: u64, text: &str) -> Moment {
        Moment::new(at(text), seq)
    }

    fn policy(limits: Limits, created: Timestamp) -> Policy {
        Policy::new(PolicyProfile::blocking(limits, PolicyTerms::default(), created), |_| None)
    }

    /// Calls and cost of the day, then of the month.
    fn used(policy: &Policy, text: &str) -> [(u64, Cost); 2] {
        let usage = policy.used(at(text));
        [usage.day.open, usage.month.open].map(|window| (window.calls, window.cost))
    }

    #[test]
    fn counts_belong_to_their_day_and_month() {
        let mut policy = policy(Limits::default(), at("2024-02-28T00:00:00Z"));
        policy.charge(event(9, "2024-02-28T23:59:59Z"), 1, cost("0.1"), false);
        policy.charge(event(9, "2024-02-29T00:00:00Z"), 2, cost("0.2"), false);
        assert_eq!(used(&policy, "2024-02-29T23:59:59.999Z"), [(2, cost("0.2")), (3, cost("0.3"))]);
        assert_eq!(used(&policy, "2024-03-01T00:00:00Z"), [(0, cost("0")); 2]);
        // March of another year is another month.
        assert_eq!(used(&policy, "2025-02-28T12:00:00Z"), [(0, cost("0")); 2]);
    }

    #[test]
    fn hours_weeks_and_all_time_are_counted_where_a_limit_asks_for_them() {
        let limits = Limits {
            max_calls_per_hour: Some(5),
            max_tokens_cost_per_week: Some(cost("9")),
            max_calls_total: Some(3),
            ..Limits::default()
        };
        let mut policy = policy(limits, at("2026-11-29T22:00:00Z"));
        policy.charge(event(9, "2026-11-29T23:59:59Z"), 1, cost("1"), false);
        policy.charge(event(10, "2026-11-30T00:00:00Z"), 1, cost("2"), true);
        let calls = |span, text: &str| policy.window(span, at(text)).map(|window| window.calls);
        assert_eq!(calls(Span::Hour, "2026-11-30T00:59:59Z"), Some(1));
        assert_eq!(calls(Span::Hour, "2026-11-30T01:00:00Z"), Some(0));
        assert_eq!(calls(Span::Week, "2026-12-06T23:59:59Z"), Some(1), "the first call was on a Sunday");
        assert_eq!(calls(Span::Total, "2036-12-06T23:59:59Z"), Some(2));
        assert_eq!(policy.window(Span::Total, at("2036-12-06T23:59:59Z")).unwrap().held, cost("2"));
        let meters: Vec<_> =
            policy.at(at("2026-11-30T00:10:00Z"), |standing| standing.meters(2, cost("7.5")).collect());
        let exceeded: Vec<_> = meters.iter().map(|meter| (meter.name, meter.exceeded, meter.resets_at)).collect();
        assert_eq!(
            exceeded,
            [
                ("maxCallsPerHour", false, Some(at("2026-11-30T01:00:00Z"))),
                ("maxCallsTotal", true, None),
                ("maxTokensCostPerWeek", true, Some(at("2026-12-07T00:00:00Z"))),
            ]
        );
    }

    #[test]
    fn cost_is_given_back_only_to_open_windows_and_never_below_zero() {
        let mut policy = policy(Limits::default(), at("2026-03-30T10:00:00Z"));
        policy.charge(event(9, "2026-03-30T10:00:00Z"), 1, cost("10"), false);
        policy.give_back(event(9, "2026-03-31T10:00:00Z"), event(1, "2026-03-30T10:00:00Z"), cost("4"));
        assert_eq!(used(&policy, "2026-03-31T10:00:00Z").map(|(_, cost)| cost), [cost("0"), cost("6")]);
        policy.give_back(event(9, "2026-03-31T11:00:00Z"), event(2, "2026-03-31T10:00:00Z"), cost("100"));
        assert_eq!(policy.usage.month.open.cost, cost("0"));
    }

    #[test]
    fn cost_cleared_by_a_reset_is_not_given_back() {
        let noon = event(9, "2026-03-30T12:00:00Z");
        let mut policy = policy(Limits::default(), noon.wall);
        policy.charge(noon, 1, cost("10"), false);
        policy.reset(event(2, "2026-03-30T12:00:00Z"), Period::Day);
        policy.charge(noon, 1, cost("5"), false);
        policy.give_back(noon, event(1, "2026-03-30T12:00:00Z"), cost("6"));
        assert_eq!(used(&policy, "2026-03-30T12:00:00Z").map(|(_, cost)| cost), [cost("5"), cost("9")]);
        policy.give_back(noon, event(3, "2026-03-30T12:00:00Z"), cost("1"));
        assert_eq!(used(&policy, "2026-03-30T12:00:00Z").map(|(_, cost)| cost), [cost("4"), cost("8")]);
    }

    #[test]
    fn a_hold_is_spent_up_to_what_the_call_cost_and_more_is_charged_now() {
        let hold = event(2, "2026-03-30T23:00:00Z");
        for (actual, day, month) in [("0", "0", "0"), ("4", "0", "4"), ("10", "0", "10"), ("15", "5", "15")] {
            let mut policy = policy(Limits::default(), hold.wall);
            policy.charge(hold, 1, cost("10"), true);
            policy.end_hold(event(3, "2026-03-31T01:00:00Z"), hold, cost("10"), cost(actual));
            let found = used(&policy, "2026-03-31T01:00:00Z").map(|(_, cost)| cost);
            assert_eq!(found, [cost(day), cost(month)], "{actual}");
            assert_eq!(policy.usage.month.open.held, cost("0"));
        }
    }
}

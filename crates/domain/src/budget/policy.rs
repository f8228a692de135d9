//! Budget policies: their limits, their agents, and how much is used.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use crate::author::By;
use crate::budget::cost::Cost;
use crate::budget::window::BudgetWindow;
use crate::id::{AgentId, PolicyId};
use crate::moment::Moment;
use crate::schema::inline_schema;
use crate::time::Timestamp;

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

/// A policy's limits, at least one. Zero is a limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Granted calls in a UTC day.
    pub max_calls_per_day: Option<u64>,
    /// Granted calls in a calendar month.
    pub max_calls_per_month: Option<u64>,
    /// Cost in a UTC day.
    pub max_tokens_cost_per_day: Option<Cost>,
    /// Cost in a calendar month.
    pub max_tokens_cost_per_month: Option<Cost>,
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
    /// Its limits.
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
}

/// A policy. A copy is cheap: copies share the profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// The part that rarely changes.
    pub profile: Arc<PolicyProfile>,
    /// How much is used.
    pub usage: Usage,
    /// When it last denied a call; `None` if it did not since it was last changed or reset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_denied_at: Option<Timestamp>,
}

/// The charges to a policy in the day and the month of `at`. [`window`](crate::budget::window) says how other days and
/// months are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// When it was last charged; `None` before the first charge.
    pub at: Option<Timestamp>,
    /// Calls of that day.
    pub calls_today: u64,
    /// Calls of that month.
    pub calls_this_month: u64,
    /// Cost of that day.
    pub tokens_cost_today: Cost,
    /// Cost of that month.
    pub tokens_cost_this_month: Cost,
    /// Number of the event that last reset the day; 0 before the first. Earlier charges no longer count, so they can't
    /// be given back.
    #[serde(default)]
    pub day_reset: u64,
    /// Number of the event that last reset the month; 0 before the first.
    #[serde(default)]
    pub month_reset: u64,
    /// The day that was charged before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_day: Option<BudgetWindow>,
    /// The month that was charged before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_month: Option<BudgetWindow>,
}

impl Usage {
    /// How much is used now: nothing, if the day or month is over.
    #[must_use]
    pub fn now(self, now: Timestamp) -> Self {
        self.turned_to(now, 0)
    }

    /// Whether the last charge fell on the day of that time, and so in its month. Most do, and then neither the calendar,
    /// which costs more than this, nor a copy is needed.
    fn is_of_day(&self, time: Timestamp) -> bool {
        self.at.is_none_or(|at| at.day() == time.day())
    }

    /// How much is used when event `seq` finds the clock at `now`.
    fn turned_to(mut self, now: Timestamp, seq: u64) -> Self {
        let Some(at) = self.at.filter(|_| !self.is_of_day(now)) else { return self };
        let Self { calls_today: calls, tokens_cost_today: cost, day_reset: reset, .. } = self;
        let left = BudgetWindow { number: at.day(), calls, cost, reset };
        let BudgetWindow { number: _, calls, cost, reset } = left.turn_to(now.day(), &mut self.other_day, seq);
        (self.calls_today, self.tokens_cost_today, self.day_reset) = (calls, cost, reset);
        let (month, now) = (at.month(), now.month());
        if month != now {
            let Self { calls_this_month: calls, tokens_cost_this_month: cost, month_reset: reset, .. } = self;
            let left = BudgetWindow { number: month, calls, cost, reset };
            let BudgetWindow { number: _, calls, cost, reset } = left.turn_to(now, &mut self.other_month, seq);
            (self.calls_this_month, self.tokens_cost_this_month, self.month_reset) = (calls, cost, reset);
        }
        self
    }

    /// Goes to the day and month of an event.
    fn turn_to(&mut self, moment: Moment) {
        if !self.is_of_day(moment.wall) {
            *self = self.turned_to(moment.wall, moment.seq);
        }
        self.at = Some(moment.wall);
    }

    /// Charges calls and cost to the current day and month.
    pub fn charge(&mut self, moment: Moment, calls: u64, cost: Cost) {
        self.turn_to(moment);
        self.calls_today = self.calls_today.saturating_add(calls);
        self.calls_this_month = self.calls_this_month.saturating_add(calls);
        self.tokens_cost_today = self.tokens_cost_today.plus(cost);
        self.tokens_cost_this_month = self.tokens_cost_this_month.plus(cost);
        if let Some(other) = self.other_day.as_mut().filter(|other| other.number < moment.wall.day()) {
            other.charge(calls, cost);
        }
        if let Some(other) = &mut self.other_month
            && other.number < moment.wall.month()
        {
            other.charge(calls, cost);
        }
    }

    /// Gives back a cost charged at `charged` if that day or month is still open: not over, and not reset since.
    /// Nothing goes below zero.
    pub fn give_back(&mut self, moment: Moment, charged: Moment, cost: Cost) {
        self.turn_to(moment);
        let (now, charged_at) = (moment.wall, charged.wall);
        if charged_at.day() == now.day() && charged.seq > self.day_reset {
            self.tokens_cost_today = self.tokens_cost_today.minus(cost);
        }
        if charged_at.month() == now.month() && charged.seq > self.month_reset {
            self.tokens_cost_this_month = self.tokens_cost_this_month.minus(cost);
        }
    }

    /// Sets the counts of that period to zero, also those that a clock set back would return to.
    pub fn reset(&mut self, moment: Moment, period: Period) {
        self.turn_to(moment);
        if period != Period::Month {
            self.calls_today = 0;
            self.tokens_cost_today = Cost::default();
            self.day_reset = moment.seq;
            self.other_day = None;
        }
        if period != Period::Day {
            self.calls_this_month = 0;
            self.tokens_cost_this_month = Cost::default();
            self.month_reset = moment.seq;
            self.other_month = None;
        }
    }
}

/// The counts that a reset clears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Period {
    /// The day's.
    Day,
    /// The month's.
    Month,
    /// Both.
    All,
}

/// An amount of a limit: calls or cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// A number of calls.
    Calls(u64),
    /// A cost.
    Cost(Cost),
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Calls(calls) => calls.fmt(f),
            Self::Cost(cost) => cost.fmt(f),
        }
    }
}

inline_schema!(Amount { "type": "number", "minimum": 0 });

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Calls(calls) => calls.serialize(serializer),
            Self::Cost(cost) => cost.serialize(serializer),
        }
    }
}

/// One limit of a policy, and how much of it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meter {
    /// The limit's name, such as `maxCallsPerDay`.
    pub name: &'static str,
    /// How much is used.
    pub used: Amount,
    /// How much the call asks for.
    pub requested: Amount,
    /// The limit.
    pub max: Amount,
    /// Whether the limit is used up, no matter what the call asks for.
    pub used_up: bool,
    /// Whether the call exceeds it: it is used up, or the call would go past it.
    pub exceeded: bool,
    /// Seconds until the count starts anew.
    pub reset_seconds: u64,
    /// Whether the limit is for a day rather than a month.
    pub daily: bool,
}

impl Policy {
    /// A policy without charges.
    pub fn new(profile: PolicyProfile) -> Self {
        Self { profile: Arc::new(profile), usage: Usage::default(), last_denied_at: None }
    }

    /// Charges calls and cost.
    pub fn charge(&mut self, moment: Moment, calls: u64, cost: Cost) {
        self.begin();
        self.usage.charge(moment, calls, cost);
    }

    /// See [`Usage::give_back`].
    pub fn give_back(&mut self, moment: Moment, charged: Moment, cost: Cost) {
        self.begin();
        self.usage.give_back(moment, charged, cost);
    }

    /// See [`Usage::reset`].
    pub fn reset(&mut self, moment: Moment, period: Period) {
        self.begin();
        self.last_denied_at = None;
        self.usage.reset(moment, period);
    }

    /// Moves to the day and month of a clock that was set back: what was used until then belongs to no later day.
    pub fn turn_back(&mut self, moment: Moment) {
        self.begin();
        self.usage.turn_to(moment);
    }

    /// A policy's windows begin with the day it was made in, even if its first charge comes under a clock that is
    /// ahead.
    fn begin(&mut self) {
        self.usage.at.get_or_insert(self.profile.created_at);
    }

    /// Whether it denied a call today.
    pub fn denied_today(&self, now: Timestamp) -> bool {
        self.last_denied_at.is_some_and(|at| at.day() == now.day())
    }

    /// Whether it applies to an agent with that id and owner.
    pub fn is_about(&self, agent: AgentId, owner: &str) -> bool {
        self.profile.agent.is_none_or(|own| own == agent)
            && self.profile.owner.as_deref().is_none_or(|own| own == owner)
    }

    /// How much is used now. Mostly no window has ended, and nothing is copied.
    fn used(&self, now: Timestamp) -> Cow<'_, Usage> {
        if self.usage.is_of_day(now) { Cow::Borrowed(&self.usage) } else { Cow::Owned(self.usage.now(now)) }
    }

    /// Whether these calls and this cost exceed no limit at `now`: what the meters say, without making them.
    pub fn has_room(&self, now: Timestamp, calls: u64, cost: Cost) -> bool {
        let Limits { max_calls_per_day, max_calls_per_month, max_tokens_cost_per_day, max_tokens_cost_per_month } =
            &self.profile.limits;
        let used = self.used(now);
        let fits = |used, requested, max| reach(used, requested, max) == Reach { used_up: false, passed: false };
        let calls_fit = |used, max: &Option<u64>| max.is_none_or(|max| fits(used, calls, max));
        let cost_fits = |used: Cost, max: &Option<Cost>| {
            max.is_none_or(|max| fits(used.millionths(), cost.millionths(), max.millionths()))
        };
        calls_fit(used.calls_today, max_calls_per_day)
            && calls_fit(used.calls_this_month, max_calls_per_month)
            && cost_fits(used.tokens_cost_today, max_tokens_cost_per_day)
            && cost_fits(used.tokens_cost_this_month, max_tokens_cost_per_month)
    }

    /// Its limits, checked against these calls and this cost at `now`.
    pub fn meters(&self, now: Timestamp, calls: u64, cost: Cost) -> impl Iterator<Item = Meter> {
        let Limits { max_calls_per_day, max_calls_per_month, max_tokens_cost_per_day, max_tokens_cost_per_month } =
            self.profile.limits;
        let used = self.used(now);
        let calls = move |name, used, max: Option<u64>, day| {
            let max = max?;
            let amounts = (Amount::Calls(used), Amount::Calls(calls), Amount::Calls(max));
            Some(meter(name, amounts, reach(used, calls, max), now, day))
        };
        let cost = move |name, used: Cost, max: Option<Cost>, day| {
            let max = max?;
            let amounts = (Amount::Cost(used), Amount::Cost(cost), Amount::Cost(max));
            Some(meter(name, amounts, reach(used.millionths(), cost.millionths(), max.millionths()), now, day))
        };
        [
            calls("maxCallsPerDay", used.calls_today, max_calls_per_day, true),
            calls("maxCallsPerMonth", used.calls_this_month, max_calls_per_month, false),
            cost("maxTokensCostPerDay", used.tokens_cost_today, max_tokens_cost_per_day, true),
            cost("maxTokensCostPerMonth", used.tokens_cost_this_month, max_tokens_cost_per_month, false),
        ]
        .into_iter()
        .flatten()
    }

    /// Its status at `now`.
    pub fn status(&self, now: Timestamp) -> PolicyStatus {
        if self.profile.disabled {
            PolicyStatus::Disabled
        } else if self.meters(now, 0, Cost::default()).any(|meter| meter.used_up) {
            PolicyStatus::Triggered
        } else {
            PolicyStatus::Active
        }
    }
}

/// How far usage and a request reach, against a limit.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Reach {
    /// Nothing is left.
    used_up: bool,
    /// What is left is less than the request.
    passed: bool,
}

fn reach(used: u64, requested: u64, max: u64) -> Reach {
    Reach { used_up: used >= max, passed: requested > max.saturating_sub(used) }
}

fn meter(
    name: &'static str,
    (used, requested, max): (Amount, Amount, Amount),
    Reach { used_up, passed }: Reach,
    now: Timestamp,
    daily: bool,
) -> Meter {
    let exceeded = used_up || passed;
    // We look up the reset only of a limit that is in the way: the calendar costs more than the comparison.
    let reset_seconds = match (exceeded, daily) {
        (false, _) => 0,
        (true, true) => now.seconds_to_next_day(),
        (true, false) => now.seconds_to_next_month(),
    };
    Meter { name, used, requested, max, used_up, exceeded, reset_seconds, daily }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::TenantTag;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse("at", text).unwrap()
    }

    fn cost(text: &str) -> Cost {
        Cost::parse("cost", text).unwrap()
    }

    fn event(seq: u64, text: &str) -> Moment {
        Moment::new(at(text), seq)
    }

    fn limits() -> impl Strategy<Value = Limits> {
        let limit = || prop::option::of(0u64..4);
        (limit(), limit(), limit(), limit()).prop_map(|(day, month, cost_day, cost_month)| Limits {
            max_calls_per_day: day,
            max_calls_per_month: month,
            max_tokens_cost_per_day: cost_day.map(Cost::from_millionths),
            max_tokens_cost_per_month: cost_month.map(Cost::from_millionths),
        })
    }

    proptest! {
        #[test]
        fn there_is_room_where_no_meter_is_exceeded(
            limits in limits(),
            charges in prop::collection::vec((0i64..70, 0u64..3, 0u64..3), 0..4),
            (day, calls, cost) in (0i64..70, 0u64..3, 0u64..3),
        ) {
            let at = |day: i64| Timestamp::from_millis(1_772_357_400_000 + day * 86_400_000);
            let mut policy = Policy::new(PolicyProfile {
                id: PolicyId::derive(at(0), 1, TenantTag(0)),
                agent: None,
                owner: None,
                limits,
                action: PolicyAction::Block,
                disabled: false,
                by: By::Operator,
                created_at: at(0),
                updated_at: at(0),
            });
            for (seq, (day, calls, cost)) in (2..).zip(charges) {
                policy.charge(Moment::new(at(day), seq), calls, Cost::from_millionths(cost));
            }
            let cost = Cost::from_millionths(cost);
            let exceeded = policy.meters(at(day), calls, cost).any(|meter| meter.exceeded);
            prop_assert_eq!(policy.has_room(at(day), calls, cost), !exceeded);
        }
    }

    #[test]
    fn counts_belong_to_their_day_and_month() {
        let mut usage = Usage::default();
        usage.charge(event(9, "2024-02-28T23:59:59Z"), 1, cost("0.1"));
        usage.charge(event(9, "2024-02-29T00:00:00Z"), 2, cost("0.2"));
        let leap_day = usage.now(at("2024-02-29T23:59:59.999Z"));
        assert_eq!((leap_day.calls_today, leap_day.calls_this_month), (2, 3));
        assert_eq!((leap_day.tokens_cost_today, leap_day.tokens_cost_this_month), (cost("0.2"), cost("0.3")));
        let march = usage.now(at("2024-03-01T00:00:00Z"));
        assert_eq!((march.calls_today, march.calls_this_month), (0, 0));
        // March of another year is another month.
        assert_eq!(usage.now(at("2025-02-28T12:00:00Z")).calls_this_month, 0);
    }

    #[test]
    fn cost_is_given_back_only_to_open_windows_and_never_below_zero() {
        let mut usage = Usage::default();
        usage.charge(event(9, "2026-03-30T10:00:00Z"), 1, cost("10"));
        usage.give_back(event(9, "2026-03-31T10:00:00Z"), event(1, "2026-03-30T10:00:00Z"), cost("4"));
        let now = usage.now(at("2026-03-31T10:00:00Z"));
        assert_eq!((now.tokens_cost_today, now.tokens_cost_this_month), (cost("0"), cost("6")));
        usage.give_back(event(9, "2026-03-31T11:00:00Z"), event(2, "2026-03-31T10:00:00Z"), cost("100"));
        assert_eq!(usage.tokens_cost_this_month, cost("0"));
    }

    #[test]
    fn cost_cleared_by_a_reset_is_not_given_back() {
        let noon = event(9, "2026-03-30T12:00:00Z");
        let mut usage = Usage::default();
        usage.charge(noon, 1, cost("10"));
        usage.reset(event(2, "2026-03-30T12:00:00Z"), Period::Day);
        usage.charge(noon, 1, cost("5"));
        usage.give_back(noon, event(1, "2026-03-30T12:00:00Z"), cost("6"));
        assert_eq!((usage.tokens_cost_today, usage.tokens_cost_this_month), (cost("5"), cost("9")));
        usage.give_back(noon, event(3, "2026-03-30T12:00:00Z"), cost("1"));
        assert_eq!((usage.tokens_cost_today, usage.tokens_cost_this_month), (cost("4"), cost("8")));
    }
}

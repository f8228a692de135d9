//! Budget policies: what they limit, whom they are about, and how much is used.

use std::fmt;
use std::sync::Arc;

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use crate::author::By;
use crate::budget::cost::Cost;
use crate::id::{AgentId, PolicyId};
use crate::moment::Moment;
use crate::schema::inline_schema;
use crate::time::Timestamp;
use crate::window::Window;

/// What happens when a limit is exceeded, from the mildest to the most severe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum PolicyAction {
    /// The call is allowed, with a warning.
    Warn,
    /// The call is denied as rate limited.
    Throttle,
    /// The call is denied.
    #[default]
    Block,
    /// The call is denied and its agent revoked.
    Revoke,
}

/// Whether a policy stops anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum PolicyStatus {
    /// It is watched, and none of its limits is used up.
    Active,
    /// One of its limits is used up.
    Triggered,
    /// It stops nothing. Calls are still counted, so that it is right when it comes back.
    Disabled,
}

/// Limits of a policy, at least one. Zero is a limit.
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

/// A policy but for what is used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyProfile {
    /// Its id.
    pub id: PolicyId,
    /// The only agent it is about, where it names one.
    pub agent: Option<AgentId>,
    /// The only owner whose agents it is about, where it names one.
    pub owner: Option<Arc<str>>,
    /// Its limits.
    pub limits: Limits,
    /// What happens when one is exceeded.
    pub action: PolicyAction,
    /// Whether it is switched off.
    pub disabled: bool,
    /// Who set it last, by creating or changing it: a tenant key may change only what a tenant key set last. Whoever only
    /// resets what is used of it sets nothing.
    pub by: By,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
}

/// A policy. A copy is cheap: copies share the profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// All that changes rarely.
    pub profile: Arc<PolicyProfile>,
    /// How much is used.
    pub usage: Usage,
}

/// What was charged to a policy, in the day and the month of `at`. See [`crate::window`] for the other ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// When it was charged last; `None` before the first time.
    pub at: Option<Timestamp>,
    /// Calls of that day.
    pub calls_today: u64,
    /// Calls of that month.
    pub calls_this_month: u64,
    /// Cost of that day.
    pub tokens_cost_today: Cost,
    /// Cost of that month.
    pub tokens_cost_this_month: Cost,
    /// Number of the event that reset the day last; 0 before the first. What was charged up to it counts no more, so
    /// it can't be given back either.
    #[serde(default)]
    pub day_reset: u64,
    /// The same of the month.
    #[serde(default)]
    pub month_reset: u64,
    /// The day that was charged before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_day: Option<Window>,
    /// The month that was charged before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_month: Option<Window>,
}

impl Usage {
    /// What is used now: of a day or month that is over, nothing.
    #[must_use]
    pub fn now(self, now: Timestamp) -> Self {
        self.turned_to(now, 0)
    }

    /// What is used by the clock of the event `seq`.
    fn turned_to(mut self, now: Timestamp, seq: u64) -> Self {
        let Some(at) = self.at else { return self };
        // Most charges are of the day of the one before, and then of its month too.
        let (day, month) = (at.day(), at.month());
        if day != now.day() {
            let Self { calls_today: calls, tokens_cost_today: cost, day_reset: reset, .. } = self;
            let left = Window { number: day, calls, cost, reset };
            let Window { number: _, calls, cost, reset } = left.turn_to(now.day(), &mut self.other_day, seq);
            (self.calls_today, self.tokens_cost_today, self.day_reset) = (calls, cost, reset);
            if month != now.month() {
                let Self { calls_this_month: calls, tokens_cost_this_month: cost, month_reset: reset, .. } = self;
                let left = Window { number: month, calls, cost, reset };
                let Window { number: _, calls, cost, reset } = left.turn_to(now.month(), &mut self.other_month, seq);
                (self.calls_this_month, self.tokens_cost_this_month, self.month_reset) = (calls, cost, reset);
            }
        }
        self
    }

    /// Goes to the day and month of an event.
    fn turn_to(&mut self, moment: Moment) {
        *self = self.turned_to(moment.wall, moment.seq);
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

    /// Gives back cost that was charged at `charged`, where that day or month is still open: not over, and not reset
    /// since. Nothing goes below zero.
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

    /// Sets the counts of that period back to nothing, also those that a clock which is set back would come to.
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

/// Which counts a reset is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Period {
    /// Those of the day.
    Day,
    /// Those of the month.
    Month,
    /// Both.
    All,
}

/// A number of calls, or a cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// Calls.
    Calls(u64),
    /// Cost.
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

/// One limit of a policy, with what is used of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meter {
    /// The limit's name, such as `maxCallsPerDay`.
    pub name: &'static str,
    /// What is used.
    pub used: Amount,
    /// What the call asks for.
    pub requested: Amount,
    /// The limit.
    pub max: Amount,
    /// Whether the limit is used up, whatever is asked for.
    pub used_up: bool,
    /// Whether the call exceeds it: it is used up, or would be passed.
    pub exceeded: bool,
    /// Seconds until it starts anew.
    pub reset_seconds: u64,
    /// Whether it is of a day, not of a month.
    pub daily: bool,
}

impl Policy {
    /// A policy that nothing was charged to.
    pub fn new(profile: PolicyProfile) -> Self {
        Self { profile: Arc::new(profile), usage: Usage::default() }
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
        self.usage.reset(moment, period);
    }

    /// Goes to the day and month that a clock shows which was set back: what was used by then is not of a later one.
    pub fn turn_back(&mut self, moment: Moment) {
        self.begin();
        self.usage.turn_to(moment);
    }

    /// What is charged first may be charged ahead of the day it was made in, where nothing was used of that yet.
    fn begin(&mut self) {
        self.usage.at.get_or_insert(self.profile.created_at);
    }

    /// Whether it is about agents of that id and owner.
    pub fn is_about(&self, agent: AgentId, owner: &str) -> bool {
        self.profile.agent.is_none_or(|own| own == agent)
            && self.profile.owner.as_deref().is_none_or(|own| own == owner)
    }

    /// Its limits, held against calls and a cost that are asked for now.
    pub fn meters(&self, now: Timestamp, calls: u64, cost: Cost) -> impl Iterator<Item = Meter> {
        let Limits { max_calls_per_day, max_calls_per_month, max_tokens_cost_per_day, max_tokens_cost_per_month } =
            self.profile.limits;
        let used = self.usage.now(now);
        let calls = move |name, used, max: Option<u64>, day| {
            let (used_up, passed) =
                (max.is_some_and(|max| used >= max), max.is_some_and(|max| calls > max.saturating_sub(used)));
            let amounts = (Amount::Calls(used), Amount::Calls(calls), max.map(Amount::Calls));
            meter(name, amounts, used_up, passed, now, day)
        };
        let cost = move |name, used: Cost, max: Option<Cost>, day| {
            let (used_up, passed) = (max.is_some_and(|max| used >= max), max.is_some_and(|max| cost > max.minus(used)));
            let amounts = (Amount::Cost(used), Amount::Cost(cost), max.map(Amount::Cost));
            meter(name, amounts, used_up, passed, now, day)
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

    /// Whether it stops anything now.
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

fn meter(
    name: &'static str,
    (used, requested, max): (Amount, Amount, Option<Amount>),
    used_up: bool,
    passed: bool,
    now: Timestamp,
    daily: bool,
) -> Option<Meter> {
    let max = max?;
    let exceeded = used_up || passed;
    // Only a limit that is in the way has its reset looked up: the calendar costs more than the comparison.
    let reset_seconds = match (exceeded, daily) {
        (false, _) => 0,
        (true, true) => now.seconds_to_next_day(),
        (true, false) => now.seconds_to_next_month(),
    };
    Some(Meter { name, used, requested, max, used_up, exceeded, reset_seconds, daily })
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
        // The same month of another year is another month.
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
    fn what_a_reset_took_away_is_not_given_back_once_more() {
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

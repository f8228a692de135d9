//! How much of a policy is used: a count for each span of time, and how they are stored.
//!
//! The day and the month are always counted. The others are counted only where a limit asks for them, so that a policy
//! without such a limit takes no room for them.

use serde::{Deserialize, Serialize};

use crate::budget::calendar::{Span, utc_day, utc_month};
use crate::budget::cost::Cost;
use crate::budget::window::{Bounds, Count, Window};
use crate::moment::Moment;
use crate::time::Timestamp;

/// The charges to a policy. [`window`](crate::budget::window) says how its windows follow the clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// When it was last charged; `None` before the first charge.
    pub at: Option<Timestamp>,
    /// The day.
    pub day: Count,
    /// The month.
    pub month: Count,
    /// The others, if any is counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub more: Option<Box<MoreCounts>>,
}

/// The counts that only some policies have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoreCounts {
    /// The hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hour: Option<Count>,
    /// The week.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub week: Option<Count>,
    /// All time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<Count>,
}

impl MoreCounts {
    fn get(&self, span: Span) -> Option<&Count> {
        match span {
            Span::Hour => self.hour.as_ref(),
            Span::Week => self.week.as_ref(),
            Span::Total => self.total.as_ref(),
            Span::Day | Span::Month => None,
        }
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = (Span, &mut Count)> {
        let Self { hour, week, total } = self;
        [(Span::Hour, hour), (Span::Week, week), (Span::Total, total)]
            .into_iter()
            .filter_map(|(span, count)| Some((span, count.as_mut()?)))
    }
}

impl Usage {
    /// Nothing is used. The windows have these bounds.
    pub fn empty(bounds: impl Fn(Span) -> Bounds) -> Self {
        let count = |span| Count::empty(bounds(span), 0);
        Self { at: None, day: count(Span::Day), month: count(Span::Month), more: None }
    }

    /// The count of that span, if it is counted.
    pub fn count(&self, span: Span) -> Option<&Count> {
        match span {
            Span::Day => Some(&self.day),
            Span::Month => Some(&self.month),
            Span::Hour | Span::Week | Span::Total => self.more.as_ref()?.get(span),
        }
    }

    /// All counts.
    pub fn counts_mut(&mut self) -> impl Iterator<Item = (Span, &mut Count)> {
        let Self { at: _, day, month, more } = self;
        let more = more.iter_mut().flat_map(|more| more.iter_mut());
        [(Span::Day, day), (Span::Month, month)].into_iter().chain(more)
    }

    /// Whether the time lies in all open windows. It mostly does. A day lies in its week and its month, but not always
    /// after a change of the calendar.
    pub fn is_open_at(&self, now: Timestamp) -> bool {
        let is_open = |count: &Option<Count>| count.as_ref().is_none_or(|count| count.open.contains(now));
        self.day.open.contains(now)
            && self.month.open.contains(now)
            && self.more.as_ref().is_none_or(|more| is_open(&more.hour) && is_open(&more.week))
    }

    /// Counts exactly these spans beside the day and the month. A new one begins at zero with the event `seq`.
    pub fn keep(&mut self, wanted: impl Fn(Span) -> bool, bounds: impl Fn(Span) -> Bounds, seq: u64) {
        let old = self.more.take().map(|more| *more).unwrap_or_default();
        let kept =
            |span, count: Option<Count>| wanted(span).then(|| count.unwrap_or_else(|| Count::empty(bounds(span), seq)));
        let more = MoreCounts {
            hour: kept(Span::Hour, old.hour),
            week: kept(Span::Week, old.week),
            total: kept(Span::Total, old.total),
        };
        self.more = (more != MoreCounts::default()).then(|| Box::new(more));
    }

    /// Goes to the window with these bounds, in which event `seq` finds the clock at `now`.
    pub fn turn_to(&mut self, bounds: impl Fn(Span) -> Bounds, now: Timestamp, seq: u64) {
        for (span, count) in self.counts_mut() {
            if !count.open.contains(now) {
                *count = count.turned_to(bounds(span), now, seq);
            }
        }
    }

    /// Charges calls and cost to the open windows.
    pub fn charge(&mut self, calls: u64, cost: Cost, held: bool) {
        self.day.charge(calls, cost, held);
        self.month.charge(calls, cost, held);
        if let Some(more) = &mut self.more {
            more.iter_mut().for_each(|(_, count)| count.charge(calls, cost, held));
        }
    }

    /// Gives back a part of the cost of that charge where its window is still open: not over, and not reset since.
    pub fn give_back(&mut self, charged: Moment, cost: Cost) {
        self.counts_mut().for_each(|(_, count)| count.give_back(charged, cost));
    }

    /// See [`Count::end_hold`].
    pub fn end_hold(&mut self, charged: Moment, estimate: Cost, less: Cost) {
        self.counts_mut().for_each(|(_, count)| count.end_hold(charged, estimate, less));
    }

    /// Sets the counts of that period to zero at the event `seq`, also those that a clock set back would return to.
    pub fn reset(&mut self, seq: u64, period: Period) {
        for (span, count) in self.counts_mut() {
            if period.has(span) {
                count.reset(seq);
            }
        }
    }
}

/// The counts that a reset clears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Period {
    /// The hour's, if it is counted.
    Hour,
    /// The day's.
    Day,
    /// The week's, if it is counted.
    Week,
    /// The month's.
    Month,
    /// That of all time, if it is counted.
    Total,
    /// All of them.
    All,
}

impl Period {
    fn has(self, span: Span) -> bool {
        match self {
            Self::Hour => span == Span::Hour,
            Self::Day => span == Span::Day,
            Self::Week => span == Span::Week,
            Self::Month => span == Span::Month,
            Self::Total => span == Span::Total,
            Self::All => true,
        }
    }
}

/// What a reset set to zero, as the journal keeps it. Also the layout of a policy's usage before its windows had bounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cleared {
    /// When it was last charged.
    pub at: Option<Timestamp>,
    /// Calls of the day.
    pub calls_today: u64,
    /// Calls of the month.
    pub calls_this_month: u64,
    /// Cost of the day.
    pub tokens_cost_today: Cost,
    /// Cost of the month.
    pub tokens_cost_this_month: Cost,
    /// Number of the event that last reset the day.
    #[serde(default)]
    pub day_reset: u64,
    /// Number of the event that last reset the month.
    #[serde(default)]
    pub month_reset: u64,
    /// Calls and cost of the hour, if it was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hour: Option<(u64, Cost)>,
    /// Calls and cost of the week, if it was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub week: Option<(u64, Cost)>,
    /// Calls and cost of all time, if they were counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<(u64, Cost)>,
}

impl From<&Usage> for Cleared {
    fn from(usage: &Usage) -> Self {
        let (day, month) = (usage.day.open, usage.month.open);
        let more = |span| usage.count(span).map(|count| (count.open.calls, count.open.cost));
        Self {
            at: usage.at,
            calls_today: day.calls,
            calls_this_month: month.calls,
            tokens_cost_today: day.cost,
            tokens_cost_this_month: month.cost,
            day_reset: day.reset,
            month_reset: month.reset,
            hour: more(Span::Hour),
            week: more(Span::Week),
            total: more(Span::Total),
        }
    }
}

/// A policy's usage in a snapshot of any version.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StoredUsage {
    at: Option<Timestamp>,
    #[serde(default)]
    day: Option<Count>,
    #[serde(default)]
    month: Option<Count>,
    #[serde(default)]
    more: Option<Box<MoreCounts>>,
    // What follows is of versions whose windows had numbers, those of the UTC day and month of `at`.
    #[serde(default)]
    calls_today: u64,
    #[serde(default)]
    calls_this_month: u64,
    #[serde(default)]
    tokens_cost_today: Cost,
    #[serde(default)]
    tokens_cost_this_month: Cost,
    #[serde(default)]
    day_reset: u64,
    #[serde(default)]
    month_reset: u64,
    #[serde(default)]
    other_day: Option<NumberedWindow>,
    #[serde(default)]
    other_month: Option<NumberedWindow>,
}

/// A window left, of such a version.
#[derive(Deserialize)]
struct NumberedWindow {
    number: i64,
    calls: u64,
    cost: Cost,
    reset: u64,
}

impl NumberedWindow {
    fn within(self, Bounds { start, end }: Bounds) -> Window {
        let Self { number: _, calls, cost, reset } = self;
        Window { calls, cost, ..Window::empty(Bounds { start, end }, reset) }
    }
}

impl StoredUsage {
    /// The usage of a policy created then: its windows begin with the day it was made in.
    pub(crate) fn restored(self, created_at: Timestamp) -> Usage {
        let at = self.at.unwrap_or(created_at);
        let count = |number, calls, cost, reset, other: Option<NumberedWindow>, bounds: fn(i64) -> Bounds| Count {
            open: NumberedWindow { number, calls, cost, reset }.within(bounds(number)),
            other: other.map(|other| {
                let bounds = bounds(other.number);
                other.within(bounds)
            }),
        };
        let day = self.day.unwrap_or_else(|| {
            count(at.day(), self.calls_today, self.tokens_cost_today, self.day_reset, self.other_day, utc_day)
        });
        let month = self.month.unwrap_or_else(|| {
            let (calls, cost) = (self.calls_this_month, self.tokens_cost_this_month);
            count(at.month(), calls, cost, self.month_reset, self.other_month, utc_month)
        });
        Usage { at: self.at, day, month, more: self.more }
    }
}

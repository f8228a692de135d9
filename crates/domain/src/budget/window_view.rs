//! A policy's windows as an answer shows them: `max = left + spent + held` for each limit at all times.

use std::fmt;

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::budget::calendar::Span;
use crate::budget::cost::Cost;
use crate::budget::policy::Policy;
use crate::schema::inline_schema;
use crate::time::Timestamp;

/// What was used in one window of a policy, and what is left of its limits.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct WindowView {
    /// What it spans.
    pub period: Span,
    /// Its first moment; absent for `total`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starts_at: Option<Timestamp>,
    /// When the next one begins, with nothing used; absent for `total`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<Timestamp>,
    /// Granted calls in it.
    pub calls: u64,
    /// Those of `calls` that tenants have slices for and are not known to have made. Only policies of all tenants have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls_held: Option<u64>,
    /// The most calls, if they are limited now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_calls: Option<u64>,
    /// `maxCalls` less `calls`. Below zero if the limit was lowered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls_left: Option<i64>,
    /// Cost that was spent in it.
    pub tokens_cost_spent: Cost,
    /// Cost that open holds hold in it.
    pub tokens_cost_held: Cost,
    /// The most cost, if it is limited now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens_cost: Option<Cost>,
    /// `maxTokensCost` less what is spent and held. Below zero if a settlement was above its estimate or the limit was
    /// lowered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_cost_left: Option<CostLeft>,
}

/// A cost that may be below zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CostLeft(i128);

impl CostLeft {
    /// What is left of `max`.
    pub fn of(max: Cost, used: Cost) -> Self {
        Self(i128::from(max.millionths()) - i128::from(used.millionths()))
    }

    /// The amount in millionths.
    pub fn millionths(self) -> i128 {
        self.0
    }
}

impl fmt::Display for CostLeft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let amount = u64::try_from(self.0.unsigned_abs()).unwrap_or(u64::MAX);
        write!(f, "{sign}{}", Cost::from_millionths(amount))
    }
}

inline_schema!(CostLeft { "type": "number" });

impl Serialize for CostLeft {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // All digits of the number; a float would round.
        RawValue::from_string(self.to_string()).map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

impl Policy {
    /// Its windows at `now`, the shortest first: those of a day and a month, and the others that are counted.
    pub fn windows(&self, now: Timestamp) -> Vec<WindowView> {
        let limits = self.limits(now);
        let view = |span| {
            let window = self.window(span, now)?;
            let ends_at = window.bounds().ends_at();
            let (max_calls, max_cost) = (limits.calls(span), limits.cost(span));
            let calls_left = |max| i128::from(max) - i128::from(window.calls);
            Some(WindowView {
                period: span,
                starts_at: ends_at.map(|_| Timestamp::from_millis(window.start)),
                ends_at,
                calls: window.calls,
                calls_held: None,
                max_calls,
                calls_left: max_calls.map(|max: u64| i64::try_from(calls_left(max)).unwrap_or(i64::MAX)),
                tokens_cost_spent: window.spent(),
                tokens_cost_held: window.held,
                max_tokens_cost: max_cost,
                tokens_cost_left: max_cost.map(|max| CostLeft::of(max, window.cost)),
            })
        };
        Span::ALL.into_iter().filter_map(view).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_may_be_below_zero() {
        let cost = Cost::from_millionths;
        for (max, used, shown) in [(1_500_000, 250_000, "1.25"), (0, 250_000, "-0.25"), (7, 7, "0")] {
            assert_eq!(serde_json::to_string(&CostLeft::of(cost(max), cost(used))).unwrap(), shown);
        }
    }
}

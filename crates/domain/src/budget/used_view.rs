//! How much of a policy is used, as answers and the audit trail show it.

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::Serialize;

use crate::budget::cost::Cost;
use crate::budget::counts::Cleared;

/// How much of a policy's limits is used.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct UsedView {
    /// Calls of this day.
    pub calls_today: u64,
    /// Calls of this month.
    pub calls_this_month: u64,
    /// Cost of this day, what is held included.
    pub tokens_cost_today: Cost,
    /// Cost of this month.
    pub tokens_cost_this_month: Cost,
    /// Calls of this hour, if a limit counts by hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls_this_hour: Option<u64>,
    /// Cost of this hour, if a limit counts by hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_cost_this_hour: Option<Cost>,
    /// Calls of this week, if a limit counts by weeks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls_this_week: Option<u64>,
    /// Cost of this week, if a limit counts by weeks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_cost_this_week: Option<Cost>,
    /// Calls since a limit counts all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls_total: Option<u64>,
    /// Cost since a limit counts all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_cost_total: Option<Cost>,
}

impl From<&Cleared> for UsedView {
    fn from(used: &Cleared) -> Self {
        let (hour, week, total) = (used.hour.unzip(), used.week.unzip(), used.total.unzip());
        Self {
            calls_today: used.calls_today,
            calls_this_month: used.calls_this_month,
            tokens_cost_today: used.tokens_cost_today,
            tokens_cost_this_month: used.tokens_cost_this_month,
            calls_this_hour: hour.0,
            tokens_cost_this_hour: hour.1,
            calls_this_week: week.0,
            tokens_cost_this_week: week.1,
            calls_total: total.0,
            tokens_cost_total: total.1,
        }
    }
}

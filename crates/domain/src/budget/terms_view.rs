//! A policy's terms as answers and the audit trail show them.

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::agent::labels::Labels;
use crate::budget::calendar::{UTC, Weekday};
use crate::budget::policy::{PolicyScope, PolicyTerms};
use crate::budget::policy_limits::{Temporary, calls_limit, cost_limit};
use crate::budget::threshold::DEFAULT_THRESHOLDS;
use crate::schema::inline_schema;
use crate::time::Timestamp;

/// When a policy's windows begin, which calls it charges, and which limits hold for a while.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct TermsView {
    /// `instance` if it is about the calls of all tenants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<PolicyScope>,
    /// The time zone of its windows, an IANA name.
    pub time_zone: Box<str>,
    /// The first day of its weeks.
    pub week_starts_on: Weekday,
    /// The day on which its months start, 1 to 28.
    pub month_starts_on: u8,
    /// It charges only agents with all of these labels; `null` is all agents.
    pub labels: Option<Labels>,
    /// It charges only calls about matching resources; `null` is all.
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::ResourcePattern>"))]
    pub resource: Option<Box<str>>,
    /// It charges only these actions; `null` is all.
    pub actions: Option<Vec<Box<str>>>,
    /// Limits that replace its own of the same names for a while; `null` if there are none.
    pub temporary: Option<TemporaryView>,
    /// At which percents of its limits webhooks are told.
    pub thresholds: Vec<u16>,
}

/// Limits for a while.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", schemars(rename = "TemporaryLimits"))]
pub struct TemporaryView {
    /// The limits; `null` lifts one.
    pub limits: OverridesView,
    /// When they end by themselves.
    pub until: Timestamp,
}

/// Limits by name, some of which may be `null`.
#[derive(Clone, Debug, PartialEq)]
pub struct OverridesView(Temporary);

inline_schema!(OverridesView { "type": "object", "additionalProperties": { "type": ["number", "null"] } });

impl Serialize for OverridesView {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Temporary { calls, costs, until: _ } = &self.0;
        let mut map = serializer.serialize_map(Some(calls.len() + costs.len()))?;
        for (span, max) in calls {
            map.serialize_entry(calls_limit(*span), max)?;
        }
        for (span, max) in costs {
            map.serialize_entry(cost_limit(*span), max)?;
        }
        map.end()
    }
}

impl TermsView {
    /// The terms, with the values of what they leave out.
    pub fn of(terms: &PolicyTerms) -> Self {
        let PolicyTerms { calendar, temporary, scope, thresholds, instance } = terms;
        let scope = scope.as_deref();
        let temporary = temporary.as_deref();
        Self {
            scope: instance.then_some(PolicyScope::Instance),
            time_zone: calendar.zone.as_deref().unwrap_or(UTC).into(),
            week_starts_on: calendar.week_starts_on,
            month_starts_on: calendar.month_starts_on.day(),
            labels: scope.map(|scope| scope.labels.clone()).filter(|labels| !labels.is_empty()),
            resource: scope.and_then(|scope| scope.resource.as_ref()).map(|pattern| pattern.as_str().into()),
            actions: scope.map(|scope| scope.actions.clone()).filter(|actions| !actions.is_empty()),
            temporary: temporary
                .map(|temporary| TemporaryView { limits: OverridesView(temporary.clone()), until: temporary.until }),
            thresholds: thresholds.clone().unwrap_or_else(|| DEFAULT_THRESHOLDS.to_vec()),
        }
    }
}

//! A policy's limits, and what replaces some of them for a while.

use std::borrow::Cow;

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::budget::calendar::Span;
use crate::budget::cost::Cost;
use crate::error::{Code, Error};
use crate::tenant::settings::given;
use crate::time::Timestamp;

/// A policy's limits, at least one. Zero is a limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Granted calls in a day.
    pub max_calls_per_day: Option<u64>,
    /// Granted calls in a month.
    pub max_calls_per_month: Option<u64>,
    /// Cost in a day.
    pub max_tokens_cost_per_day: Option<Cost>,
    /// Cost in a month.
    pub max_tokens_cost_per_month: Option<Cost>,
    /// Granted calls in an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_calls_per_hour: Option<u64>,
    /// Granted calls in a week.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_calls_per_week: Option<u64>,
    /// Granted calls in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_calls_total: Option<u64>,
    /// Cost in an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens_cost_per_hour: Option<Cost>,
    /// Cost in a week.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens_cost_per_week: Option<Cost>,
    /// Cost in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens_cost_total: Option<Cost>,
}

/// The name of the limit of calls in that span.
pub fn calls_limit(span: Span) -> &'static str {
    match span {
        Span::Hour => "maxCallsPerHour",
        Span::Day => "maxCallsPerDay",
        Span::Week => "maxCallsPerWeek",
        Span::Month => "maxCallsPerMonth",
        Span::Total => "maxCallsTotal",
    }
}

/// The name of the limit of cost in that span.
pub fn cost_limit(span: Span) -> &'static str {
    match span {
        Span::Hour => "maxTokensCostPerHour",
        Span::Day => "maxTokensCostPerDay",
        Span::Week => "maxTokensCostPerWeek",
        Span::Month => "maxTokensCostPerMonth",
        Span::Total => "maxTokensCostTotal",
    }
}

impl Limits {
    /// The most calls in that span.
    pub fn calls(&self, span: Span) -> Option<u64> {
        match span {
            Span::Hour => self.max_calls_per_hour,
            Span::Day => self.max_calls_per_day,
            Span::Week => self.max_calls_per_week,
            Span::Month => self.max_calls_per_month,
            Span::Total => self.max_calls_total,
        }
    }

    /// The most cost in that span.
    pub fn cost(&self, span: Span) -> Option<Cost> {
        match span {
            Span::Hour => self.max_tokens_cost_per_hour,
            Span::Day => self.max_tokens_cost_per_day,
            Span::Week => self.max_tokens_cost_per_week,
            Span::Month => self.max_tokens_cost_per_month,
            Span::Total => self.max_tokens_cost_total,
        }
    }

    fn calls_mut(&mut self, span: Span) -> &mut Option<u64> {
        match span {
            Span::Hour => &mut self.max_calls_per_hour,
            Span::Day => &mut self.max_calls_per_day,
            Span::Week => &mut self.max_calls_per_week,
            Span::Month => &mut self.max_calls_per_month,
            Span::Total => &mut self.max_calls_total,
        }
    }

    fn cost_mut(&mut self, span: Span) -> &mut Option<Cost> {
        match span {
            Span::Hour => &mut self.max_tokens_cost_per_hour,
            Span::Day => &mut self.max_tokens_cost_per_day,
            Span::Week => &mut self.max_tokens_cost_per_week,
            Span::Month => &mut self.max_tokens_cost_per_month,
            Span::Total => &mut self.max_tokens_cost_total,
        }
    }

    /// Whether a limit of that span is set.
    pub fn has(&self, span: Span) -> bool {
        self.calls(span).is_some() || self.cost(span).is_some()
    }
}

/// Limits that replace those of the same names until a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Temporary {
    /// Limits of calls; `None` lifts the limit.
    pub calls: Vec<(Span, Option<u64>)>,
    /// Limits of cost; `None` lifts the limit.
    pub costs: Vec<(Span, Option<Cost>)>,
    /// The first moment at which they no longer hold.
    pub until: Timestamp,
}

impl Temporary {
    /// The limits that hold meanwhile.
    pub fn over(&self, limits: &Limits) -> Limits {
        let mut limits = limits.clone();
        for (span, max) in &self.calls {
            *limits.calls_mut(*span) = *max;
        }
        for (span, max) in &self.costs {
            *limits.cost_mut(*span) = *max;
        }
        limits
    }

    /// The limits that hold at `now`.
    pub fn at<'a>(this: Option<&Self>, limits: &'a Limits, now: Timestamp) -> Cow<'a, Limits> {
        match this {
            Some(temporary) if now < temporary.until => Cow::Owned(temporary.over(limits)),
            _ => Cow::Borrowed(limits),
        }
    }

    /// Whether it sets a limit of that span.
    pub fn has(&self, span: Span) -> bool {
        let calls = self.calls.iter().any(|(of, max)| *of == span && max.is_some());
        calls || self.costs.iter().any(|(of, max)| *of == span && max.is_some())
    }
}

/// Limits to set: an omitted one keeps its value, `null` clears it.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LimitsPatch {
    /// Granted calls in a day.
    #[serde(default, deserialize_with = "given")]
    pub max_calls_per_day: Option<Option<u64>>,
    /// Granted calls in a month.
    #[serde(default, deserialize_with = "given")]
    pub max_calls_per_month: Option<Option<u64>>,
    /// Cost in a day.
    #[serde(default, deserialize_with = "given")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Cost>"))]
    pub max_tokens_cost_per_day: Option<Option<Box<RawValue>>>,
    /// Cost in a month.
    #[serde(default, deserialize_with = "given")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Cost>"))]
    pub max_tokens_cost_per_month: Option<Option<Box<RawValue>>>,
    /// Granted calls in an hour.
    #[serde(default, deserialize_with = "given")]
    pub max_calls_per_hour: Option<Option<u64>>,
    /// Granted calls in a week.
    #[serde(default, deserialize_with = "given")]
    pub max_calls_per_week: Option<Option<u64>>,
    /// Granted calls in all, since the limit was set.
    #[serde(default, deserialize_with = "given")]
    pub max_calls_total: Option<Option<u64>>,
    /// Cost in an hour.
    #[serde(default, deserialize_with = "given")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Cost>"))]
    pub max_tokens_cost_per_hour: Option<Option<Box<RawValue>>>,
    /// Cost in a week.
    #[serde(default, deserialize_with = "given")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Cost>"))]
    pub max_tokens_cost_per_week: Option<Option<Box<RawValue>>>,
    /// Cost in all, since the limit was set.
    #[serde(default, deserialize_with = "given")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Cost>"))]
    pub max_tokens_cost_total: Option<Option<Box<RawValue>>>,
}

/// The limits that a patch names, in the order of the spans.
type Named<T> = Vec<(Span, Option<T>)>;

impl LimitsPatch {
    /// The limits of calls and of cost that it names. `field` is where it stands in the body.
    ///
    /// # Errors
    /// `INVALID_FIELD` for a cost that is none.
    fn named(self, field: &str) -> Result<(Named<u64>, Named<Cost>), Error> {
        let calls = [
            (Span::Hour, self.max_calls_per_hour),
            (Span::Day, self.max_calls_per_day),
            (Span::Week, self.max_calls_per_week),
            (Span::Month, self.max_calls_per_month),
            (Span::Total, self.max_calls_total),
        ];
        let costs = [
            (Span::Hour, self.max_tokens_cost_per_hour),
            (Span::Day, self.max_tokens_cost_per_day),
            (Span::Week, self.max_tokens_cost_per_week),
            (Span::Month, self.max_tokens_cost_per_month),
            (Span::Total, self.max_tokens_cost_total),
        ];
        let calls = calls.into_iter().filter_map(|(span, max)| Some((span, max?))).collect();
        let parse = |(span, json): (Span, Option<Box<RawValue>>)| {
            let parse = |json: Box<RawValue>| Cost::parse_limit(&format!("{field}.{}", cost_limit(span)), json.get());
            Ok((span, json.map(parse).transpose()?))
        };
        let costs = costs.into_iter().filter_map(|(span, json)| Some((span, json?))).map(parse);
        Ok((calls, costs.collect::<Result<_, Error>>()?))
    }

    /// Applies it to `into`.
    ///
    /// # Errors
    /// `INVALID_FIELD` for a cost that is none, or if no limit is left.
    pub fn merge(self, into: &Limits) -> Result<Limits, Error> {
        let (calls, costs) = self.named("limits")?;
        let limits = Temporary { calls, costs, until: Timestamp::default() }.over(into);
        if limits == Limits::default() {
            let names: Vec<_> = Span::ALL.map(calls_limit).into_iter().chain(Span::ALL.map(cost_limit)).collect();
            let problem = format!("must contain at least one of {}", names.join(", "));
            return Err(Error::field(Code::InvalidField, "limits", problem));
        }
        Ok(limits)
    }
}

/// Limits for a while: those named replace the policy's own until that time, and `null` lifts one.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TemporarySpec {
    /// The limits, at least one.
    #[cfg_attr(feature = "schema", schemars(extend("minProperties" = 1)))]
    pub limits: LimitsPatch,
    /// When they end by themselves, RFC 3339.
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Time"))]
    pub until: String,
}

impl TemporarySpec {
    /// Reads it.
    ///
    /// # Errors
    /// `INVALID_FIELD` if it names no limit, or for a time or cost that is none.
    pub fn parse(self) -> Result<Temporary, Error> {
        let Self { limits, until } = self;
        let (calls, costs) = limits.named("temporary.limits")?;
        if calls.is_empty() && costs.is_empty() {
            return Err(Error::field(Code::InvalidField, "temporary.limits", "must name at least one limit"));
        }
        Ok(Temporary { calls, costs, until: Timestamp::parse("temporary.until", &until)? })
    }
}

//! The hours, days, weeks and months that budgets count by. They roll over by themselves: a charge belongs to the
//! window of its time, so nothing has to happen at midnight.

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, Utc};
#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::budget::window::Bounds;
use crate::time::Timestamp;

const HOUR_MILLIS: i64 = 60 * 60 * 1_000;
const DAY_MILLIS: i64 = 24 * HOUR_MILLIS;

/// What a window spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Span {
    /// An hour of the clock.
    Hour,
    /// A day.
    Day,
    /// A week.
    Week,
    /// A month.
    Month,
    /// All time.
    Total,
}

impl Span {
    /// All of them, the shortest first.
    pub const ALL: [Self; 5] = [Self::Hour, Self::Day, Self::Week, Self::Month, Self::Total];

    /// The window of that time in UTC. Weeks begin on Monday.
    pub fn utc(self, now: Timestamp) -> Bounds {
        let even = |length: i64, offset: i64| {
            let start = (now.millis() - offset).div_euclid(length) * length + offset;
            Bounds { start, end: start + length }
        };
        match self {
            Self::Hour => even(HOUR_MILLIS, 0),
            Self::Day => even(DAY_MILLIS, 0),
            // The epoch was a Thursday.
            Self::Week => even(7 * DAY_MILLIS, 4 * DAY_MILLIS),
            Self::Month => utc_month(now.month()),
            Self::Total => Bounds::FOREVER,
        }
    }
}

/// The hours, days, weeks and months of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Calendar {}

impl Calendar {
    /// Whether it is UTC with weeks from Monday and months from the 1st.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// Whether its windows need the rules of a time zone. Then events carry their bounds, and replay needs no rules.
    pub fn is_zoned(&self) -> bool {
        false
    }

    /// The window of that time.
    pub fn bounds(&self, span: Span, now: Timestamp) -> Bounds {
        self.utc(span, now)
    }

    /// The window of that time, if the zone were UTC.
    pub fn utc(&self, span: Span, now: Timestamp) -> Bounds {
        span.utc(now)
    }
}

/// The UTC day of that number, counted from the epoch.
pub fn utc_day(number: i64) -> Bounds {
    let start = number.saturating_mul(DAY_MILLIS);
    Bounds { start, end: start.saturating_add(DAY_MILLIS) }
}

/// The calendar month of that number in UTC, counted from January of the year 0.
pub fn utc_month(number: i64) -> Bounds {
    let start = |number: i64| {
        let year = i32::try_from(number.div_euclid(12)).unwrap_or(i32::MAX);
        let month = u32::try_from(number.rem_euclid(12)).unwrap_or(0) + 1;
        let first = NaiveDate::from_ymd_opt(year, month, 1).unwrap_or_default();
        first.and_time(NaiveTime::MIN).and_utc().timestamp_millis()
    };
    Bounds { start: start(number), end: start(number.saturating_add(1)) }
}

impl Timestamp {
    /// Number of the UTC day since the epoch.
    pub fn day(self) -> i64 {
        self.millis().div_euclid(DAY_MILLIS)
    }

    /// Number of the calendar month in UTC, counted from January of the year 0.
    pub fn month(self) -> i64 {
        let time = DateTime::<Utc>::from_timestamp_millis(self.millis()).unwrap_or_default();
        i64::from(time.year()) * 12 + i64::from(time.month0())
    }

    /// When the next UTC day begins.
    pub fn next_day(self) -> Self {
        Self::from_millis(Span::Day.utc(self).end)
    }

    /// Whole seconds, rounded up, until that time; 0 if it has come.
    pub fn seconds_until(self, end: Self) -> u64 {
        u64::try_from((end.millis() - self.millis() + 999) / 1_000).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse("at", text).unwrap()
    }

    #[test]
    fn months_end_where_the_calendar_says() {
        for (last, first) in [
            ("2024-02-29T23:59:59.999Z", "2024-03-01T00:00:00Z"),
            ("2023-02-28T23:59:59.999Z", "2023-03-01T00:00:00Z"),
            ("2000-02-29T23:59:59.999Z", "2000-03-01T00:00:00Z"),
            ("2026-12-31T23:59:59.999Z", "2027-01-01T00:00:00Z"),
            ("2026-04-30T23:59:59.999Z", "2026-05-01T00:00:00Z"),
        ] {
            assert_eq!(at(last).month() + 1, at(first).month(), "{last}");
            assert_eq!(at(last).day() + 1, at(first).day(), "{last}");
            for span in [Span::Hour, Span::Day, Span::Month] {
                let (before, after) = (span.utc(at(last)), span.utc(at(first)));
                assert_eq!((before.end, after.start), (at(first).millis(), at(first).millis()), "{last}");
                assert!(before.contains(at(last)) && after.contains(at(first)), "{last}");
            }
        }
        let february = Span::Month.utc(at("2024-02-10T08:00:00Z"));
        assert_eq!(at("2024-02-01T00:00:00Z").seconds_until(february.ends_at().unwrap()), 29 * 86_400);
        assert_eq!(at("2026-11-23T12:00:00Z").next_day(), at("2026-11-24T00:00:00Z"));
        assert_eq!(at("2026-11-23T12:00:00.001Z").seconds_until(at("2026-11-23T12:00:01Z")), 1);
        assert_eq!(at("2026-11-23T12:00:00Z").seconds_until(at("2026-11-23T11:00:00Z")), 0);
    }

    #[test]
    fn weeks_begin_on_monday() {
        let week = Span::Week.utc(at("2026-11-29T23:59:59.999Z"));
        assert_eq!((week.start, week.end), (at("2026-11-23T00:00:00Z").millis(), at("2026-11-30T00:00:00Z").millis()));
        assert_eq!(Span::Week.utc(at("2026-11-30T00:00:00Z")).start, week.end);
    }
}

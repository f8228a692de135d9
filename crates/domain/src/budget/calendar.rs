//! The hours, days, weeks and months that budgets count by. They roll over by themselves: a charge belongs to the
//! window of its time, so nothing has to happen at midnight.
//!
//! In UTC the bounds of a window follow from arithmetic. In another zone they follow from rules that governments change.
//! So there an event that opens a window carries its bounds ([`opening`](crate::budget::opening)), and what was once
//! decided stays so under later rules.

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, Offset, TimeZone, Utc};
use chrono_tz::Tz;
#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::budget::window::Bounds;
use crate::budget::zone::{self, ZoneClock};
use crate::error::{Code, Error};
use crate::limits::MAX_MONTH_START;
use crate::text::quote;
use crate::time::{DAY_MS, Timestamp};

/// The name of the zone without rules.
pub const UTC: &str = "UTC";

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

    /// The window of that time in UTC. Weeks begin on Monday and months on the 1st.
    pub fn utc(self, now: Timestamp) -> Bounds {
        Calendar::default().utc(self, now)
    }
}

/// A day of the week.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Weekday {
    /// The first by ISO 8601.
    #[default]
    Monday,
    /// The second.
    Tuesday,
    /// The third.
    Wednesday,
    /// The fourth.
    Thursday,
    /// The fifth.
    Friday,
    /// The sixth.
    Saturday,
    /// The last.
    Sunday,
}

/// The hours, days, weeks and months of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Calendar {
    /// The IANA name of its zone; `None` is UTC. It is a name, not rules: only a new window needs those.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<Box<str>>,
    /// The first day of its weeks.
    #[serde(skip_serializing_if = "is_default")]
    pub week_starts_on: Weekday,
    /// The first day of its months, 1 to 28.
    #[serde(skip_serializing_if = "MonthStart::is_first")]
    pub month_starts_on: MonthStart,
}

/// The day of the month on which a policy's months start, 1 to 28: every month has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MonthStart(u8);

impl Default for MonthStart {
    fn default() -> Self {
        Self(1)
    }
}

impl MonthStart {
    /// Reads the day.
    ///
    /// # Errors
    /// `INVALID_FIELD` for one that not every month has.
    pub fn parse(day: u64) -> Result<Self, Error> {
        match u8::try_from(day) {
            Ok(day) if (1..=MAX_MONTH_START).contains(&day) => Ok(Self(day)),
            _ => {
                let problem = format!("must be from 1 to {MAX_MONTH_START}, which every month has, not {day}");
                Err(Error::field(Code::InvalidField, "monthStartsOn", problem))
            }
        }
    }

    /// The day.
    pub fn day(self) -> u8 {
        self.0
    }

    // Serde passes a reference.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    fn is_first(&self) -> bool {
        self.0 == 1
    }
}

// Serde passes a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_default(day: &Weekday) -> bool {
    *day == Weekday::default()
}

/// Reads the name of a zone; `None` is UTC.
///
/// # Errors
/// `INVALID_FIELD` for a name that the time zone database does not have.
pub fn parse_zone(name: &str) -> Result<Option<Box<str>>, Error> {
    if name == UTC {
        return Ok(None);
    }
    let zone = name.parse::<Tz>().map_err(|_| {
        let problem =
            format!("must be the name of a time zone (IANA), such as Europe/Berlin or UTC, not '{}'", quote(name));
        Error::field(Code::InvalidField, "timeZone", problem)
    })?;
    Ok(Some(zone.name().into()))
}

impl Calendar {
    /// Whether it is UTC with weeks from Monday and months from the 1st.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// Whether its windows need the rules of a time zone. Then events carry their bounds, and replay needs no rules.
    pub fn is_zoned(&self) -> bool {
        self.zone.is_some()
    }

    /// The window of that time, by the rules we know today.
    pub fn bounds(&self, span: Span, now: Timestamp) -> Bounds {
        // A zone that is no longer known counts as UTC: its limits still hold.
        let Some(rules) = self.zone.as_ref().and_then(|name| name.parse::<Tz>().ok()) else {
            return self.utc(span, now);
        };
        self.window(span, now, |time| ahead_by(rules, time))
    }

    /// Milliseconds by which the zone's clock is ahead of UTC at that time, by the rules we know today.
    pub fn ahead_of_utc(&self, time: i64) -> i64 {
        self.zone.as_ref().and_then(|name| name.parse::<Tz>().ok()).map_or(0, |rules| ahead_by(rules, time))
    }

    /// When that date, of `YYYY-MM-DD`, begins there; `None` if it is not a date.
    pub fn start_of(&self, date: &str) -> Option<Timestamp> {
        let noon = Timestamp::parse("date", &format!("{date}T12:00:00Z")).ok()?.millis();
        let noon = Timestamp::from_millis(noon - self.ahead_of_utc(noon));
        Some(Timestamp::from_millis(self.bounds(Span::Day, noon).start))
    }

    /// The window of that time, if the zone were UTC.
    pub fn utc(&self, span: Span, now: Timestamp) -> Bounds {
        self.window(span, now, |_| 0)
    }

    fn window(&self, span: Span, now: Timestamp, ahead_of_utc: impl Fn(i64) -> i64) -> Bounds {
        let (clock, now) = (ZoneClock(ahead_of_utc), now.millis());
        match span {
            Span::Hour => clock.hour(now),
            Span::Day => clock.days(now, |date| (date, date + 1)),
            Span::Week => clock.days(now, |date| zone::week(date, self.week_starts_on as u8)),
            Span::Month => clock.days(now, |date| zone::month(date, self.month_starts_on.day())),
            Span::Total => Bounds::FOREVER,
        }
    }
}

fn ahead_by(rules: Tz, time: i64) -> i64 {
    let time = DateTime::<Utc>::from_timestamp_millis(time).unwrap_or_default();
    i64::from(rules.offset_from_utc_datetime(&time.naive_utc()).fix().local_minus_utc()) * 1_000
}

/// The UTC day of that number, counted from the epoch.
pub fn utc_day(number: i64) -> Bounds {
    let start = number.saturating_mul(DAY_MS);
    Bounds { start, end: start.saturating_add(DAY_MS) }
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
        self.millis().div_euclid(DAY_MS)
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

    fn shown(Bounds { start, end }: Bounds) -> [String; 2] {
        [start, end].map(|time| Timestamp::from_millis(time).to_string().replace(":00.000Z", ""))
    }

    fn calendar(zone: &str) -> Calendar {
        Calendar { zone: parse_zone(zone).unwrap(), ..Calendar::default() }
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
            assert_eq!(Span::Day.utc(at(last)), utc_day(at(last).day()));
            assert_eq!(Span::Month.utc(at(first)), utc_month(at(first).month()));
        }
        let february = Span::Month.utc(at("2024-02-10T08:00:00Z"));
        assert_eq!(at("2024-02-01T00:00:00Z").seconds_until(february.ends_at().unwrap()), 29 * 86_400);
        assert_eq!(at("2026-11-23T12:00:00Z").next_day(), at("2026-11-24T00:00:00Z"));
        assert_eq!(at("2026-11-23T12:00:00.001Z").seconds_until(at("2026-11-23T12:00:01Z")), 1);
        assert_eq!(at("2026-11-23T12:00:00Z").seconds_until(at("2026-11-23T11:00:00Z")), 0);
    }

    #[test]
    fn weeks_and_months_start_on_the_day_they_are_set_to() {
        let now = at("2026-11-29T23:59:59.999Z");
        assert_eq!(shown(Span::Week.utc(now)), ["2026-11-23T00:00", "2026-11-30T00:00"]);
        let sunday = Calendar { week_starts_on: Weekday::Sunday, ..Calendar::default() };
        assert_eq!(shown(sunday.bounds(Span::Week, now)), ["2026-11-29T00:00", "2026-12-06T00:00"]);
        let last = Calendar { month_starts_on: MonthStart::parse(28).unwrap(), ..Calendar::default() };
        assert_eq!(shown(last.bounds(Span::Month, now)), ["2026-11-28T00:00", "2026-12-28T00:00"]);
        let leap_day = at("2024-02-29T12:00:00Z");
        assert_eq!(shown(last.bounds(Span::Month, leap_day)), ["2024-02-28T00:00", "2024-03-28T00:00"]);
        assert_eq!(MonthStart::parse(29).unwrap_err().code(), Code::InvalidField);
    }

    #[test]
    fn days_are_those_of_the_zone() {
        for (zone, span, now, expected) in [
            ("Asia/Kolkata", Span::Day, "2026-11-29T18:29:59Z", ["2026-11-28T18:30", "2026-11-29T18:30"]),
            ("Asia/Kolkata", Span::Hour, "2026-11-29T18:31:00Z", ["2026-11-29T18:30", "2026-11-29T19:30"]),
            ("Asia/Kolkata", Span::Month, "2026-11-30T18:30:00Z", ["2026-11-30T18:30", "2026-12-31T18:30"]),
            // The clock is set forward on 29 March and back on 25 October.
            ("Europe/Berlin", Span::Day, "2026-03-29T10:00:00Z", ["2026-03-28T23:00", "2026-03-29T22:00"]),
            ("Europe/Berlin", Span::Day, "2026-10-25T10:00:00Z", ["2026-10-24T22:00", "2026-10-25T23:00"]),
            ("Europe/Berlin", Span::Week, "2026-10-25T10:00:00Z", ["2026-10-18T22:00", "2026-10-25T23:00"]),
            ("Europe/Berlin", Span::Hour, "2026-10-25T01:10:00Z", ["2026-10-25T01:00", "2026-10-25T02:00"]),
            // By half an hour.
            ("Australia/Lord_Howe", Span::Hour, "2026-10-03T15:40:00Z", ["2026-10-03T15:30", "2026-10-03T16:00"]),
            ("Australia/Lord_Howe", Span::Day, "2026-04-05T00:00:00Z", ["2026-04-04T13:00", "2026-04-05T13:30"]),
            // There is no midnight.
            ("America/Sao_Paulo", Span::Day, "2018-11-04T03:00:00Z", ["2018-11-04T03:00", "2018-11-05T02:00"]),
            ("America/Sao_Paulo", Span::Day, "2018-11-04T02:59:59Z", ["2018-11-03T03:00", "2018-11-04T03:00"]),
            ("Africa/Cairo", Span::Day, "2024-04-26T00:00:00Z", ["2024-04-25T22:00", "2024-04-26T21:00"]),
            ("Pacific/Apia", Span::Day, "2011-12-30T10:00:00Z", ["2011-12-30T10:00", "2011-12-31T10:00"]),
        ] {
            assert_eq!(shown(calendar(zone).bounds(span, at(now))), expected, "{zone} {now}");
        }
        let paid = Calendar { month_starts_on: MonthStart::parse(28).unwrap(), ..calendar("America/New_York") };
        let now = at("2024-03-28T03:59:59Z");
        assert_eq!(shown(paid.bounds(Span::Month, now)), ["2024-02-28T05:00", "2024-03-28T04:00"]);
    }

    #[test]
    fn a_zone_is_known_by_its_name() {
        assert_eq!(parse_zone("UTC").unwrap(), None);
        assert_eq!(parse_zone("Europe/Berlin").unwrap().as_deref(), Some("Europe/Berlin"));
        for bad in ["", "Berlin", "europe/berlin", "+02:00", "Mars/Olympus", "Europe/Berlin "] {
            let error = parse_zone(bad).unwrap_err();
            assert!(error.message().starts_with("timeZone must be the name of a time zone"), "{error}");
        }
        let unknown = Calendar { zone: Some("Mars/Olympus".into()), ..Calendar::default() };
        assert_eq!(unknown.bounds(Span::Day, at("2026-11-29T18:29:59Z")), Span::Day.utc(at("2026-11-29T18:29:59Z")));
    }
}

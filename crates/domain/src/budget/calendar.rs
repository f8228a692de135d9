//! UTC days and calendar months, which budgets count by. They roll over by themselves: a count belongs to the day and
//! month of its time, so nothing has to happen at midnight.

use chrono::{DateTime, Datelike, NaiveDate, Utc};

use crate::time::Timestamp;

const DAY_MILLIS: i64 = 24 * 60 * 60 * 1_000;

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
        Self::from_millis((self.day() + 1) * DAY_MILLIS)
    }

    /// Whole seconds, rounded up, until the next UTC day begins.
    pub fn seconds_to_next_day(self) -> u64 {
        seconds_up((self.day() + 1) * DAY_MILLIS - self.millis())
    }

    /// When the next calendar month begins in UTC.
    pub fn next_month(self) -> Self {
        Self::from_millis(self.next_month_millis())
    }

    /// Whole seconds, rounded up, until the next calendar month begins in UTC.
    pub fn seconds_to_next_month(self) -> u64 {
        seconds_up(self.next_month_millis() - self.millis())
    }

    fn next_month_millis(self) -> i64 {
        let next = self.month() + 1;
        let year = i32::try_from(next.div_euclid(12)).unwrap_or(i32::MAX);
        let month = u32::try_from(next.rem_euclid(12)).unwrap_or(0) + 1;
        let start = NaiveDate::from_ymd_opt(year, month, 1).unwrap_or_default().and_time(chrono::NaiveTime::MIN);
        start.and_utc().timestamp_millis()
    }
}

fn seconds_up(millis: i64) -> u64 {
    u64::try_from((millis + 999) / 1_000).unwrap_or(0)
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
            assert_eq!((at(last).seconds_to_next_month(), at(last).seconds_to_next_day()), (1, 1), "{last}");
        }
        assert_eq!(at("2024-02-01T00:00:00Z").seconds_to_next_month(), 29 * 86_400);
        assert_eq!(at("2026-11-23T12:00:00Z").seconds_to_next_day(), 12 * 3_600);
    }
}

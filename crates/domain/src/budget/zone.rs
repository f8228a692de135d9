//! Windows by the clock of a zone, which people set forward and back.
//!
//! - A day begins with the first moment of its date: at midnight, or, where the clock skips midnight, when it skips. It
//!   may have 23 or 25 hours.
//! - An hour begins with an hour of the clock. Where the clock is set while an hour lasts, it ends there, so none is
//!   longer than 60 minutes.
//!
//! What we know of a zone is one function: how far its clock is ahead of UTC at a time. All times are Unix milliseconds.

use chrono::{DateTime, Datelike, NaiveDate, Utc};

use crate::budget::window::Bounds;

const HOUR: i64 = 60 * 60 * 1_000;
const DAY: i64 = 24 * HOUR;

/// A zone's clock.
pub struct ZoneClock<F>(
    /// How far it is ahead of UTC at that time.
    pub F,
);

impl<F: Fn(i64) -> i64> ZoneClock<F> {
    /// The hour of that time.
    pub fn hour(&self, now: i64) -> Bounds {
        let ahead = self.ahead(now);
        let start = (now + ahead).div_euclid(HOUR) * HOUR - ahead;
        let end = start + HOUR;
        let is_same = |time: i64| self.ahead(time) == ahead;
        let start = if is_same(start) { start } else { first(start, now, is_same) };
        let end = if is_same(end - 1) { end } else { first(now, end, |time| !is_same(time)) };
        Bounds { start, end }
    }

    /// The days from the one in `start` up to the one in `end`; `days` tells them by the date now. Dates are days since
    /// 1970.
    pub fn days(&self, now: i64, days: impl Fn(i64) -> (i64, i64)) -> Bounds {
        let mut today = (now + self.ahead(now)).div_euclid(DAY);
        // A clock that is set back just past midnight shows yesterday again. Tomorrow has begun all the same.
        if self.begins(today + 1) <= now {
            today += 1;
        }
        let (start, end) = days(today);
        Bounds { start: self.begins(start).min(now), end: self.begins(end).max(now + 1) }
    }

    fn ahead(&self, time: i64) -> i64 {
        (self.0)(time)
    }

    /// The first moment of that date.
    fn begins(&self, date: i64) -> i64 {
        let midnight = date * DAY;
        let (before, after) = (self.ahead(midnight - DAY), self.ahead(midnight + DAY));
        let shown = [before, after].map(|ahead| midnight - ahead).into_iter().filter(|t| self.shows(*t) == midnight);
        // Where the clock is set back over midnight, it shows it twice; where it is set forward, perhaps never.
        let skipped = || {
            let (from, to) = (midnight - before.max(after), midnight - before.min(after));
            first(from, to, |time| self.shows(time) >= midnight)
        };
        shown.min().unwrap_or_else(skipped)
    }

    fn shows(&self, time: i64) -> i64 {
        time + self.ahead(time)
    }
}

/// The first moment after `from` and up to `to` for which it holds, if it holds for `to` and not for `from`, and changes
/// once between them.
fn first(mut from: i64, mut to: i64, holds: impl Fn(i64) -> bool) -> i64 {
    while to - from > 1 {
        let middle = from + (to - from) / 2;
        if holds(middle) {
            to = middle;
        } else {
            from = middle;
        }
    }
    to
}

/// Dates from the start of the week that has that date up to the next one. `first_day` is 0 for Monday.
pub fn week(date: i64, first_day: u8) -> (i64, i64) {
    // 1970 began on a Thursday.
    let start = date - (date + 3 - i64::from(first_day)).rem_euclid(7);
    (start, start + 7)
}

/// Dates from the start of the month that has that date up to the next one. Months start on `first_day`, at most 28.
pub fn month(date: i64, first_day: u8) -> (i64, i64) {
    let shown = DateTime::<Utc>::from_timestamp_millis(date.saturating_mul(DAY)).unwrap_or_default();
    let number = i64::from(shown.year()) * 12 + i64::from(shown.month0());
    let number = if shown.day() < u32::from(first_day) { number - 1 } else { number };
    let start = |number: i64| {
        let year = i32::try_from(number.div_euclid(12)).unwrap_or(i32::MAX);
        let month = u32::try_from(number.rem_euclid(12)).unwrap_or(0) + 1;
        let first = NaiveDate::from_ymd_opt(year, month, u32::from(first_day)).unwrap_or_default();
        first.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_millis().div_euclid(DAY)
    };
    (start(number), start(number + 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: i64 = 60_000;

    fn day(date: i64) -> (i64, i64) {
        (date, date + 1)
    }

    /// A clock that shows `date` plus `minute` minutes when it is set by so many minutes. It is UTC until then.
    fn set_at(date: i64, minute: i64, by: i64) -> ZoneClock<impl Fn(i64) -> i64> {
        let change = date * DAY + minute * MINUTE;
        ZoneClock(move |time| if time < change { 0 } else { by * MINUTE })
    }

    #[test]
    fn days_have_23_and_25_hours() {
        for (by, hours) in [(60, 23), (-60, 25)] {
            let Bounds { start, end } = set_at(10, 120, by).days(10 * DAY, day);
            assert_eq!((start, end - start), (10 * DAY, hours * HOUR));
        }
    }

    #[test]
    fn a_day_without_midnight_begins_where_the_clock_is_set() {
        // 23:59 is followed by 01:00.
        let clock = set_at(10, 0, 60);
        assert_eq!(clock.days(10 * DAY, day), Bounds { start: 10 * DAY, end: 11 * DAY - HOUR });
        assert_eq!(clock.days(10 * DAY - 1, day), Bounds { start: 9 * DAY, end: 10 * DAY });
        assert_eq!(clock.hour(10 * DAY), Bounds { start: 10 * DAY, end: 10 * DAY + HOUR });
        // A whole date is skipped.
        let clock = set_at(10, 0, 24 * 60);
        assert_eq!(clock.days(10 * DAY - 1, day), Bounds { start: 9 * DAY, end: 10 * DAY });
        assert_eq!(clock.days(10 * DAY, day), Bounds { start: 10 * DAY, end: 11 * DAY });
    }

    #[test]
    fn a_day_does_not_end_twice() {
        // One minute past midnight the clock is set back to 23:01, as in Newfoundland until 2011.
        let clock = set_at(10, 1, -60);
        for now in [10 * DAY, 10 * DAY + MINUTE, 10 * DAY + 59 * MINUTE, 11 * DAY] {
            assert_eq!(clock.days(now, day), Bounds { start: 10 * DAY, end: 11 * DAY + HOUR });
        }
        // At midnight it is set back to 23:00: the day before has 25 hours.
        let clock = set_at(10, 0, -60);
        assert_eq!(clock.days(10 * DAY, day), Bounds { start: 9 * DAY, end: 10 * DAY + HOUR });
        // At one it is set back to midnight: the day has two midnights and begins with the first.
        let clock = set_at(10, 60, -60);
        for now in [10 * DAY, 10 * DAY + 59 * MINUTE, 10 * DAY + 61 * MINUTE] {
            assert_eq!(clock.days(now, day), Bounds { start: 10 * DAY, end: 11 * DAY + HOUR });
        }
    }

    #[test]
    fn an_hour_ends_where_the_clock_is_set_by_half_an_hour() {
        // 01:59 is followed by 02:30.
        let clock = set_at(10, 120, 30);
        let at = |minutes: i64| 10 * DAY + minutes * MINUTE;
        assert_eq!(clock.hour(at(119)), Bounds { start: at(60), end: at(120) });
        assert_eq!(clock.hour(at(120)), Bounds { start: at(120), end: at(150) });
        // 01:59 is followed by 01:30.
        let clock = set_at(10, 120, -30);
        assert_eq!(clock.hour(at(125)), Bounds { start: at(120), end: at(150) });
        assert_eq!(clock.hour(at(150)), Bounds { start: at(150), end: at(210) });
        // By a quarter, in the middle of an hour.
        let clock = set_at(10, 130, 15);
        assert_eq!(clock.hour(at(129)), Bounds { start: at(120), end: at(130) });
        assert_eq!(clock.hour(at(130)), Bounds { start: at(130), end: at(165) });
    }

    proptest! {
        #[test]
        fn windows_follow_each_other_without_gap(
            minute in -2_000i64..2_000, by in prop::sample::select(vec![-60i64, -30, 0, 30, 60, 120, 1_440]),
            now in -4 * DAY..4 * DAY, first_day in 0u8..7, month_day in 1u8..29,
        ) {
            let clock = set_at(10_000, minute, by);
            let windows: [&dyn Fn(i64) -> Bounds; 4] = [
                &|now| clock.hour(now),
                &|now| clock.days(now, day),
                &|now| clock.days(now, |date| week(date, first_day)),
                &|now| clock.days(now, |date| month(date, month_day)),
            ];
            let now = 10_000 * DAY + now;
            for window in windows {
                let Bounds { start, end } = window(now);
                prop_assert!(start <= now && now < end);
                prop_assert_eq!((window(start), window(end - 1)), (Bounds { start, end }, Bounds { start, end }));
                prop_assert_eq!((window(end).start, window(start - 1).end), (end, start));
            }
        }

        #[test]
        fn weeks_and_months_start_on_their_day(date in 0i64..100_000, first_day in 0u8..7, month_day in 1u8..29) {
            let (start, end) = week(date, first_day);
            prop_assert!(start <= date && date < end && end - start == 7);
            prop_assert_eq!((start + 3).rem_euclid(7), i64::from(first_day));
            let (start, end) = month(date, month_day);
            prop_assert!(start <= date && date < end && (28..=31).contains(&(end - start)));
            for date in [start, end] {
                let shown = DateTime::<Utc>::from_timestamp_millis(date * DAY).unwrap();
                prop_assert_eq!(shown.day(), u32::from(month_day));
            }
        }
    }
}

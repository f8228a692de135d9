//! The day and the month of an event, by the clock of a zone.

use chrono::{DateTime, Utc};

use crate::budget::calendar::{Calendar, Span};
use crate::budget::window::Bounds;
use crate::time::Timestamp;

const DATE_CHARS: usize = "2026-03-01".len();
const MONTH_CHARS: usize = "2026-03".len();

/// Days of a zone. It remembers the last one, since most events are of the same day as the one before.
#[derive(Debug)]
pub struct LocalDays {
    calendar: Calendar,
    bounds: Bounds,
    date: Box<str>,
}

impl LocalDays {
    /// The days of that zone, an IANA name that was checked; `None` is UTC.
    pub fn new(zone: Option<Box<str>>) -> Self {
        let calendar = Calendar { zone, ..Calendar::default() };
        Self { calendar, bounds: Bounds { start: 0, end: 0 }, date: "".into() }
    }

    /// The date of the day that has that time, such as `2026-03-01`.
    pub fn date(&mut self, at: Timestamp) -> &str {
        if !self.bounds.contains(at) {
            self.bounds = self.calendar.bounds(Span::Day, at);
            // A day begins with the first moment that the clock shows its date.
            let start = self.bounds.start + self.calendar.ahead_of_utc(self.bounds.start);
            let shown = DateTime::<Utc>::from_timestamp_millis(start).unwrap_or_default();
            self.date = shown.format("%Y-%m-%d").to_string().into();
        }
        self.date.get(..DATE_CHARS).unwrap_or_default()
    }

    /// The month of that day, such as `2026-03`.
    pub fn month(&mut self, at: Timestamp) -> &str {
        self.date(at).get(..MONTH_CHARS).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::calendar::parse_zone;

    #[test]
    fn a_time_belongs_to_the_day_that_the_clock_shows() {
        for (zone, time, date) in [
            ("UTC", "2026-11-30T23:59:59.999Z", "2026-11-30"),
            ("UTC", "2026-12-01T00:00:00Z", "2026-12-01"),
            ("Asia/Kolkata", "2026-11-30T18:29:59.999Z", "2026-11-30"),
            ("Asia/Kolkata", "2026-11-30T18:30:00Z", "2026-12-01"),
            ("America/New_York", "2026-12-01T04:59:59Z", "2026-11-30"),
            ("Europe/Berlin", "2026-03-28T23:00:00Z", "2026-03-29"),
            ("Europe/Berlin", "2026-10-25T22:59:59Z", "2026-10-25"),
            ("Europe/Berlin", "2026-10-25T23:00:00Z", "2026-10-26"),
            // There is no midnight, and no 30 December.
            ("America/Sao_Paulo", "2018-11-04T03:00:00Z", "2018-11-04"),
            ("Pacific/Apia", "2011-12-30T09:59:59Z", "2011-12-29"),
            ("Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-31"),
        ] {
            let mut days = LocalDays::new(parse_zone(zone).unwrap());
            let at = Timestamp::parse("at", time).unwrap();
            assert_eq!(days.date(at), date, "{zone} {time}");
            for hours in [-40, 40, 5, -5, 0] {
                days.date(at.plus_millis(hours * 3_600_000));
            }
            assert_eq!((days.date(at).to_owned(), days.month(at)), (date.to_owned(), &date[..7]), "{zone} {time}");
        }
    }
}

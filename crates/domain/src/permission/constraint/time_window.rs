//! `timeWindow`: a time of day in UTC.

use std::borrow::Cow;

#[cfg(feature = "schema")]
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use crate::error::{Code, Error};
use crate::permission::constraint::kind::{Checked, Constraint, Facts, Fails};
use crate::permission::regexes::RegexCache;
use crate::permission::stored::StoredTimeWindow;
use crate::text::quote;

/// A time of day, `HH:MM` in UTC; the start counts, the end does not, and it may wrap midnight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", schemars(rename = "TimeWindow"))]
pub struct TimeWindowSpec {
    /// First minute.
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Clock"))]
    pub start: String,
    /// First minute after it.
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Clock"))]
    pub end: String,
}

/// A checked time of day, in minutes since midnight. It may wrap midnight.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TimeWindow {
    start: u16,
    /// The first minute after it.
    end: u16,
}

impl TimeWindow {
    fn read(field: &str, start: &str, end: &str) -> Result<Self, Error> {
        let read = |part, text| parse_clock(text).map_err(|problem| problem_of(&format!("{field}.{part}"), problem));
        let (start, end) = (read("start", start)?, read("end", end)?);
        if start == end {
            let problem = "must not start and end at the same minute; leave it out to allow every time";
            return Err(problem_of(field, problem.to_owned()));
        }
        Ok(Self { start, end })
    }
}

impl Constraint for TimeWindow {
    type Spec = TimeWindowSpec;
    type Stored = StoredTimeWindow;

    #[cfg(feature = "schema")]
    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = generator.subschema_for::<Option<TimeWindowSpec>>();
        schema.insert("description".to_owned(), "A time of day in UTC.".into());
        schema
    }

    fn parse(field: &str, spec: TimeWindowSpec) -> Result<Self, Error> {
        Self::read(field, &spec.start, &spec.end)
    }

    fn spec(&self) -> TimeWindowSpec {
        TimeWindowSpec { start: clock_text(self.start), end: clock_text(self.end) }
    }

    fn restore(field: &str, stored: StoredTimeWindow) -> Result<Self, Error> {
        Self::read(field, &stored.start, &stored.end)
    }

    fn stored(&self) -> StoredTimeWindow {
        StoredTimeWindow { start: clock_text(self.start), end: clock_text(self.end) }
    }

    fn restricts(&self) -> bool {
        true
    }

    fn steps(&self) -> usize {
        0
    }
}

impl Checked for TimeWindow {
    type Failure<'c> = OutsideTimeWindow;

    fn check(&self, facts: &Facts<'_>, _: &RegexCache) -> Result<(), OutsideTimeWindow> {
        let Self { start, end } = *self;
        let minute = facts.at.minute_of_day();
        let inside = if start < end { (start..end).contains(&minute) } else { minute >= start || minute < end };
        if inside { Ok(()) } else { Err(OutsideTimeWindow { start, end }) }
    }
}

/// The call is outside the window. Both ends are minutes since midnight.
pub struct OutsideTimeWindow {
    start: u16,
    end: u16,
}

impl Fails for OutsideTimeWindow {
    fn code(&self) -> Code {
        Code::OutsideTimeWindow
    }

    fn reason(&self) -> Cow<'static, str> {
        let (start, end) = (clock_text(self.start), clock_text(self.end));
        format!("The permission is only allowed between {start} and {end} UTC").into()
    }
}

fn problem_of(field: &str, problem: String) -> Error {
    Error::field(Code::InvalidPattern, field, problem)
}

fn parse_clock(text: &str) -> Result<u16, String> {
    let number = |digits: &str, below: u16| {
        let value = digits.parse::<u16>().ok()?;
        (digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit()) && value < below).then_some(value)
    };
    text.split_once(':')
        .and_then(|(hours, minutes)| Some(number(hours, 24)? * 60 + number(minutes, 60)?))
        .ok_or_else(|| format!("must be HH:MM from 00:00 to 23:59 in UTC, not '{}'", quote(text)))
}

fn clock_text(minute: u16) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

#[cfg(test)]
mod tests {
    use crate::permission::constraint::example_tests::{at_clock, denial_code, refused_fields};

    #[test]
    fn time_windows_wrap_midnight() {
        let day = r#"{"timeWindow":{"start":"09:00","end":"17:00"}}"#;
        let night = r#"{"timeWindow":{"start":"22:00","end":"06:00"}}"#;
        for (clock, by_day, by_night) in [
            ("08:59", false, false),
            ("09:00", true, false),
            ("16:59", true, false),
            ("17:00", false, false),
            ("22:00", false, true),
            ("00:00", false, true),
            ("05:59", false, true),
            ("06:00", false, false),
        ] {
            assert_eq!(denial_code(day, &at_clock(clock)).is_none(), by_day, "{clock}");
            assert_eq!(denial_code(night, &at_clock(clock)).is_none(), by_night, "{clock}");
        }
    }

    #[test]
    fn bad_windows_name_the_field() {
        refused_fields(&[
            (r#"{"timeWindow":{"start":"9:00","end":"17:00"}}"#, "timeWindow.start"),
            (r#"{"timeWindow":{"start":"09:00","end":"24:00"}}"#, "timeWindow.end"),
            (r#"{"timeWindow":{"start":"09:00","end":"+1:00"}}"#, "timeWindow.end"),
            (r#"{"timeWindow":{"start":"09:00","end":"09:00"}}"#, "timeWindow"),
        ]);
    }
}

//! Points in time, as the whole server stores and shows them.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::{Code, Error};
pub use crate::limits::DAY_MS;
use crate::schema::inline_schema;

/// A point in time: whole milliseconds since 1970-01-01T00:00:00Z, without leap seconds.
///
/// As text it is RFC 3339 in UTC with milliseconds (`2026-03-01T09:30:00.000Z`); in durable data it is the number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// The latest time with a four-digit year, as RFC 3339 demands.
const MAX_MILLIS: i64 = 253_402_300_799_999;

impl Timestamp {
    /// The time `millis` after the epoch, clamped to the years 1970 to 9999.
    pub fn from_millis(millis: i64) -> Self {
        Self(millis.clamp(0, MAX_MILLIS))
    }

    /// Milliseconds since the epoch.
    pub fn millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// This time, `millis` later (or earlier, if negative).
    pub fn plus_millis(self, millis: i64) -> Self {
        Self::from_millis(self.0.saturating_add(millis))
    }

    /// The minute of the day in UTC, 0 to 1439.
    pub fn minute_of_day(self) -> u16 {
        u16::try_from(self.0.div_euclid(60_000).rem_euclid(1_440)).unwrap_or(0)
    }

    /// Reads RFC 3339 text with any offset. Errors name `field`.
    ///
    /// # Errors
    /// `INVALID_FIELD` if the text is not an RFC 3339 time in the years 1970 to 9999.
    pub fn parse(field: &str, text: &str) -> Result<Self, Error> {
        let time = DateTime::parse_from_rfc3339(text).map_err(|_| {
            Error::field(
                Code::InvalidField,
                field,
                format!("must be an RFC 3339 time such as 2026-03-01T09:30:00Z, not '{}'", crate::text::quote(text)),
            )
        })?;
        let millis = time.timestamp_millis();
        if !(0..=MAX_MILLIS).contains(&millis) {
            return Err(Error::field(Code::InvalidField, field, "must be in the years 1970 to 9999"));
        }
        Ok(Self(millis))
    }

    /// Reads a filter's time: as [`Timestamp::parse`], or a date alone (`2026-03-01`), which is the start of that day
    /// in UTC.
    ///
    /// # Errors
    /// As for [`Timestamp::parse`].
    pub fn parse_or_day(field: &str, text: &str) -> Result<Self, Error> {
        let day = (text.len() == "2026-03-01".len()).then(|| Self::parse(field, &format!("{text}T00:00:00Z")).ok());
        day.flatten().map_or_else(|| Self::parse(field, text), Ok)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = DateTime::<Utc>::from_timestamp_millis(self.0).unwrap_or_default();
        f.write_str(&time.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { serializer.serialize_i64(self.0) }
    }
}

inline_schema!(Timestamp {
    "type": "string",
    "format": "date-time",
    "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z$",
});

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            Self::parse("time", &text).map_err(de::Error::custom)
        } else {
            i64::deserialize(deserializer).map(Self::from_millis)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_rfc_3339_utc_with_milliseconds() {
        let time = Timestamp::parse("at", "2024-02-29T23:59:59.5+02:00").unwrap();
        assert_eq!(time.to_string(), "2024-02-29T21:59:59.500Z");
        assert_eq!(Timestamp::parse("at", &time.to_string()).unwrap(), time);
        assert_eq!(time.minute_of_day(), 21 * 60 + 59);
    }

    #[test]
    fn in_a_filter_a_date_is_the_start_of_its_day() {
        let day = Timestamp::parse_or_day("since", "2024-02-29").unwrap();
        assert_eq!(day.to_string(), "2024-02-29T00:00:00.000Z");
        let time = "2024-02-29T01:00:00+02:00";
        assert_eq!(Timestamp::parse_or_day("since", time).unwrap(), Timestamp::parse("since", time).unwrap());
        for bad in
            ["2024-02-30", "2024-2-29", "2024-1-001", "20240229", "24-02-29", "2024-02-29T", "1969-12-31", "+024-02-29"]
        {
            let error = Timestamp::parse_or_day("since", bad).unwrap_err();
            assert!(error.message().contains(&format!("'{bad}'")), "{error:?}");
        }
    }

    #[test]
    fn an_error_about_a_bad_time_names_the_field() {
        for bad in ["", "tomorrow", "2024-02-30T00:00:00Z", "2024-01-01", "1969-12-31T23:59:59Z"] {
            let error = Timestamp::parse("expiresAt", bad).unwrap_err();
            assert!(error.message().starts_with("expiresAt "), "{error:?}");
        }
    }
}

//! Token costs: exact decimals with at most six fractional digits, held as whole millionths.

#[cfg(feature = "schema")]
use std::borrow::Cow;
use std::fmt;

#[cfg(feature = "schema")]
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::error::{Code, Error};

/// An amount of cost in millionths of the tenant's unit. Never negative, never a float.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(transparent)]
pub struct Cost(u64);

/// The largest cost of a call or a limit: a million million units. What sums up past eighteen of those stays there.
const MAX_MILLIONTHS: u64 = 1_000_000_000_000 * MILLION;
const MILLION: u64 = 1_000_000;
const FRACTION_DIGITS: i64 = 6;

impl Cost {
    /// So many millionths.
    pub fn from_millionths(millionths: u64) -> Self {
        Self(millionths)
    }

    /// The amount in millionths.
    pub fn millionths(self) -> u64 {
        self.0
    }

    /// The sum, at most the largest amount there is.
    #[must_use]
    pub fn plus(self, other: Cost) -> Cost {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, at least zero.
    #[must_use]
    pub fn minus(self, other: Cost) -> Cost {
        Self(self.0.saturating_sub(other.0))
    }

    /// Reads the text of a JSON number (RFC 8259), exponents included.
    ///
    /// # Errors
    /// `INVALID_FIELD` for negatives, more than six fractional digits, and more than a million million.
    pub fn parse(field: &str, number: &str) -> Result<Self, Error> {
        let refuse = |problem: String| Error::field(Code::InvalidField, field, problem);
        let malformed = || refuse(format!("must be a number, not {}", crate::text::quote(number)));
        if number.starts_with('-') {
            return Err(refuse("must not be negative".to_owned()));
        }
        let (mantissa, exponent) = match number.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent).ok_or_else(malformed)?),
            None => (number, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
            return Err(malformed());
        }
        let digits = format!("{whole}{fraction}");
        let significant = digits.trim_start_matches('0').trim_end_matches('0');
        if significant.is_empty() {
            return Ok(Self(0));
        }
        let trailing_zeros = digits.len() - digits.trim_end_matches('0').len();
        // The value is `significant` times ten to the power `scale`.
        let scale = i64::from(exponent) - fraction.len() as i64 + trailing_zeros as i64;
        if scale < -FRACTION_DIGITS {
            return Err(refuse(format!("must have at most {FRACTION_DIGITS} fractional digits")));
        }
        let too_large = || refuse("must be at most 1000000000000".to_owned());
        let shift = u32::try_from(scale + FRACTION_DIGITS).map_err(|_| too_large())?;
        let millionths = significant
            .parse::<u64>()
            .ok()
            .and_then(|value| 10u64.checked_pow(shift).and_then(|power| value.checked_mul(power)))
            .filter(|millionths| *millionths <= MAX_MILLIONTHS)
            .ok_or_else(too_large)?;
        Ok(Self(millionths))
    }
}

/// Reads an exponent. One past all that could matter stays there, so that the number is told to be too large or small.
fn parse_exponent(text: &str) -> Option<i32> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(if text.starts_with('-') { i32::MIN } else { i32::MAX }))
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / MILLION, self.0 % MILLION);
        if fraction == 0 {
            return write!(f, "{whole}");
        }
        let digits = format!("{fraction:06}");
        write!(f, "{whole}.{}", digits.trim_end_matches('0'))
    }
}

#[cfg(feature = "schema")]
impl JsonSchema for Cost {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Cost".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        if generator.contract().is_deserialize() {
            // No `multipleOf`: by floats, which most validators count with, 0.1 is no multiple of a millionth.
            let description = format!("With at most {FRACTION_DIGITS} fractional digits.");
            json_schema!({
                "type": "number",
                "minimum": 0,
                "maximum": MAX_MILLIONTHS / MILLION,
                "description": description,
            })
        } else {
            // A sum may be larger.
            json_schema!({ "type": "number", "minimum": 0 })
        }
    }
}

impl Serialize for Cost {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            // A number with all its digits, where a float would round.
            RawValue::from_string(self.to_string()).map_err(serde::ser::Error::custom)?.serialize(serializer)
        } else {
            serializer.serialize_u64(self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_and_back(millionths in 0..=MAX_MILLIONTHS) {
            let cost = Cost(millionths);
            prop_assert_eq!(Cost::parse("cost", &cost.to_string()).unwrap(), cost);
            prop_assert_eq!(serde_json::to_string(&cost).unwrap(), cost.to_string());
        }
    }

    #[test]
    fn decimals_are_exact() {
        for (text, millionths) in [
            ("0", 0),
            ("0.000001", 1),
            ("1e-6", 1),
            ("1e-06", 1),
            ("0.10", 100_000),
            ("1.5E2", 150_000_000),
            ("0.1000000000", 100_000),
            ("1000000000000", MAX_MILLIONTHS),
            ("0e999", 0),
            ("0e99999999999", 0),
            ("10e-7", 1),
        ] {
            assert_eq!(Cost::parse("tokensCost", text).unwrap().millionths(), millionths, "{text}");
        }
        for text in [
            "-1",
            "-0.5",
            "0.0000001",
            "1e-7",
            "0.30000000000000004",
            "1000000000000.000001",
            "1e300",
            "1e99999999999",
            "NaN",
            "",
            ".5",
            "0x1",
            "\"1\"",
        ] {
            assert_eq!(Cost::parse("tokensCost", text).unwrap_err().code(), Code::InvalidField, "{text}");
        }
        for (text, problem) in [
            ("1e99999999999", "at most 1000000000000"),
            ("1e-99999999999", "fractional digits"),
            ("1e", "a number"),
            ("1e+-1", "a number"),
        ] {
            let error = Cost::parse("tokensCost", text).unwrap_err();
            assert!(error.message().contains(problem), "{text}: {error}");
        }
    }
}

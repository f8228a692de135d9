//! Token costs: decimals held as whole millionths. A finer charge is rounded up, a finer limit down.

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

/// The largest cost of a call or a limit: a million million units. Sums saturate at eighteen times that.
const MAX_MILLIONTHS: u64 = 1_000_000_000_000 * MILLION;
const MILLION: u64 = 1_000_000;
const FRACTION_DIGITS: i64 = 6;

impl Cost {
    /// A cost of `millionths` millionths.
    pub fn from_millionths(millionths: u64) -> Self {
        Self(millionths)
    }

    /// The amount in millionths.
    pub fn millionths(self) -> u64 {
        self.0
    }

    /// Whether it is nothing.
    // Serde passes a reference.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    pub fn is_zero(&self) -> bool {
        self.0 == 0
    }

    /// The sum, saturating.
    #[must_use]
    pub fn plus(self, other: Cost) -> Cost {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, at least zero.
    #[must_use]
    pub fn minus(self, other: Cost) -> Cost {
        Self(self.0.saturating_sub(other.0))
    }

    /// Reads what a caller charges: a JSON number (RFC 8259), exponents included, or a JSON string that holds one.
    /// Finer than a millionth is rounded up, so that nothing is charged too little.
    ///
    /// # Errors
    /// `INVALID_FIELD` for negative numbers and for more than a million million.
    pub fn parse(field: &str, json: &str) -> Result<Self, Error> {
        Self::parse_rounding(field, json).map(|(cost, _)| cost)
    }

    /// Reads a charge, and says whether it was rounded.
    ///
    /// # Errors
    /// See [`Self::parse`].
    pub fn parse_rounding(field: &str, json: &str) -> Result<(Self, bool), Error> {
        let (Self(whole), rest) = Self::read(field, json)?;
        let cost = Self(whole + u64::from(rest));
        if cost.0 > MAX_MILLIONTHS { Err(too_large(field)) } else { Ok((cost, rest)) }
    }

    /// Reads a limit, in the forms that [`Self::parse`] takes. Finer than a millionth is rounded down, so that no limit
    /// grows.
    ///
    /// # Errors
    /// See [`Self::parse`].
    pub fn parse_limit(field: &str, json: &str) -> Result<Self, Error> {
        Self::read(field, json).map(|(cost, _)| cost)
    }

    /// The whole millionths of a number, and whether there is a rest.
    fn read(field: &str, json: &str) -> Result<(Self, bool), Error> {
        let refuse = |problem: String| Error::field(Code::InvalidField, field, problem);
        let malformed = || {
            let quoted = crate::text::quote(json);
            refuse(format!("must be a number, or a string with a decimal number, not {quoted}"))
        };
        let text = match json.strip_prefix('"') {
            Some(_) => serde_json::from_str::<Cow<'_, str>>(json).map_err(|_| malformed())?,
            None => Cow::Borrowed(json),
        };
        let number = text.strip_prefix('-').unwrap_or(&text);
        let (mantissa, exponent) = match number.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent).ok_or_else(malformed)?),
            None => (number, 0),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((_, "")) => return Err(malformed()),
            Some(parts) => parts,
            None => (mantissa, ""),
        };
        if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
            return Err(malformed());
        }
        let digits = format!("{whole}{fraction}");
        let significant = digits.trim_start_matches('0').trim_end_matches('0');
        if significant.is_empty() {
            return Ok((Self(0), false));
        }
        if number.len() < text.len() {
            return Err(refuse("must not be negative".to_owned()));
        }
        let trailing_zeros = digits.len() - digits.trim_end_matches('0').len();
        // The value is `significant` times ten to the power `scale`.
        let scale = i64::from(exponent) - fraction.len() as i64 + trailing_zeros as i64;
        let shift = scale + FRACTION_DIGITS;
        // The last significant digit is not zero, so leaving out any digit leaves a rest.
        let left_out = usize::try_from(-shift).unwrap_or(0);
        let kept = significant.len().checked_sub(left_out).and_then(|end| significant.get(..end)).unwrap_or_default();
        if kept.is_empty() {
            return Ok((Self(0), true));
        }
        let millionths = kept
            .parse::<u64>()
            .ok()
            .zip(u32::try_from(shift.max(0)).ok())
            .and_then(|(value, shift)| value.checked_mul(10u64.checked_pow(shift)?))
            .filter(|millionths| *millionths <= MAX_MILLIONTHS)
            .ok_or_else(|| too_large(field))?;
        Ok((Self(millionths), left_out > 0))
    }
}

fn too_large(field: &str) -> Error {
    Error::field(Code::InvalidField, field, format!("must be at most {}", MAX_MILLIONTHS / MILLION))
}

/// Reads an exponent. An extreme one is clamped, so that the error says that the number is too large or too small.
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
            // No `multipleOf`: most validators count with floats, and there 0.1 is no multiple of a millionth.
            json_schema!({
                "description": "A number, or a string that holds one. What is finer than a millionth is rounded: a charge \
                                up, a limit down.",
                "anyOf": [
                    { "type": "number", "minimum": 0, "maximum": MAX_MILLIONTHS / MILLION },
                    { "type": "string", "pattern": "^([0-9]+(\\.[0-9]+)?([eE][+-]?[0-9]+)?|-0+(\\.0+)?)$" },
                ],
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
            // All digits of the number; a float would round.
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
            ("-0", 0),
            ("-0.0", 0),
            ("-0e5", 0),
            ("\"0.05\"", 50_000),
            ("\"1.5e2\"", 150_000_000),
            ("\"\\u0030.5\"", 500_000),
            ("\"-0.0\"", 0),
        ] {
            assert_eq!(Cost::parse_rounding("tokensCost", text).unwrap(), (Cost(millionths), false), "{text}");
            assert_eq!(Cost::parse_limit("limit", text).unwrap().millionths(), millionths, "{text}");
        }
        // A charge is rounded up, a limit down.
        for (text, charged, limit) in [
            ("0.30000000000000004", 300_001, 300_000),
            ("0.0016150000000000001", 1_616, 1_615),
            ("0.00001845", 19, 18),
            ("\"0.00001845\"", 19, 18),
            ("1e-7", 1, 0),
            ("1e-99999999999", 1, 0),
            ("999999999999.9999999", MAX_MILLIONTHS, MAX_MILLIONTHS - 1),
            ("0.9999999", 1_000_000, 999_999),
        ] {
            assert_eq!(Cost::parse_rounding("tokensCost", text).unwrap(), (Cost(charged), true), "{text}");
            assert_eq!(Cost::parse_limit("limit", text).unwrap().millionths(), limit, "{text}");
        }
        assert!(Cost::parse("tokensCost", "1000000000000.0000001").is_err());
        for text in [
            "-1",
            "-0.5",
            "-1e-99",
            "1.",
            "+1",
            "1,5",
            "null",
            "true",
            "1000000000000.000001",
            "1e300",
            "1e99999999999",
            "NaN",
            "",
            ".5",
            "0x1",
            "\"\"",
            "\" 1\"",
            "\"1.\"",
            "\"-1\"",
            "\"NaN\"",
            "\"0x1\"",
            "\"1",
        ] {
            assert_eq!(Cost::parse("tokensCost", text).unwrap_err().code(), Code::InvalidField, "{text}");
        }
        for (text, problem) in [("1e99999999999", "at most 1000000000000"), ("1e", "a number"), ("1e+-1", "a number")] {
            let error = Cost::parse("tokensCost", text).unwrap_err();
            assert!(error.message().contains(problem), "{text}: {error}");
        }
    }
}

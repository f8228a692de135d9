//! Trace ids: which distributed trace a call is part of (W3C Trace Context, level 2).

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::{Code, Error};
use crate::schema::inline_schema;
use crate::text::{is_lower_hex, quote};

/// The id of a trace: 16 bytes, not all of them zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

impl TraceId {
    /// The id with these bytes; `None` if all are zero.
    pub fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
        (bytes != [0; 16]).then_some(Self(bytes))
    }

    /// Reads 32 lower-case hex digits, not all of them zero.
    pub fn parse(text: &str) -> Option<Self> {
        is_lower_hex(text, 32)
            .then(|| u128::from_str_radix(text, 16).ok())
            .flatten()
            .map(u128::to_be_bytes)
            .and_then(Self::from_bytes)
    }

    /// Reads the id in a query.
    ///
    /// # Errors
    /// `INVALID_QUERY`.
    pub fn parse_query(field: &str, text: &str) -> Result<Self, Error> {
        Self::parse(text).ok_or_else(|| {
            let problem = format!("must be 32 lower-case hex digits, not all of them 0, not '{}'", quote(text));
            Error::field(Code::InvalidQuery, field, problem)
        })
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// Text for people, 16 bytes in the journal.
impl Serialize for TraceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { serializer.serialize_bytes(&self.0) }
    }
}

inline_schema!(TraceId {
    "type": "string",
    "minLength": 32,
    "maxLength": 32,
    "pattern": "^[0-9a-f]*[1-9a-f][0-9a-f]*$",
});

/// From the journal's bytes.
impl<'de> Deserialize<'de> for TraceId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(BytesVisitor)
    }
}

struct BytesVisitor;

impl de::Visitor<'_> for BytesVisitor {
    type Value = TraceId;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the 16 bytes of a trace id, not all of them zero")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<TraceId, E> {
        let id = bytes.try_into().ok().and_then(TraceId::from_bytes);
        id.ok_or_else(|| E::invalid_value(de::Unexpected::Bytes(bytes), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_32_lower_case_digits_that_are_not_all_zero() {
        let good = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(TraceId::parse(good).map(|id| id.to_string()).as_deref(), Some(good));
        for bad in
            ["", &good[1..], &"0".repeat(32), &good.to_uppercase(), &good.replace('b', "g"), &good.replace("4b", "é")]
        {
            assert_eq!(TraceId::parse(bad), None, "{bad}");
        }
    }
}

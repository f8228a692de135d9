//! Trace ids: which distributed trace a call is part of (W3C Trace Context, level 2).

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::{Code, Error};
use crate::schema::inline_schema;
use crate::text::quote;

/// Characters of a `traceparent` in version 00. Later versions may only add to it.
const TRACEPARENT_CHARS: usize = 55;

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
        is_hex(text, 32)
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

    /// The trace that a `traceparent` header names: `version-trace-parent-flags`. `None` if it is not valid, which
    /// counts as absent. Of a version later than 00 we read only these four fields.
    pub fn of_traceparent(text: &str) -> Option<Self> {
        let (known, more) = text.split_at_checked(TRACEPARENT_CHARS)?;
        let mut fields = known.split('-');
        let mut hex = |digits| fields.next().filter(|field| is_hex(field, digits));
        let (version, trace, parent, _flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
        let goes_on = match version {
            "ff" => return None,
            "00" => false,
            _ => more.starts_with('-'),
        };
        let is_whole = more.is_empty() || goes_on;
        let has_parent = parent.bytes().any(|digit| digit != b'0');
        (is_whole && has_parent && fields.next().is_none()).then(|| Self::parse(trace)).flatten()
    }
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
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
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn read(text: &str) -> Option<String> {
        TraceId::of_traceparent(text).map(|id| id.to_string())
    }

    #[test]
    fn a_traceparent_is_read_strictly() {
        let good = format!("00-{TRACE}-00f067aa0ba902b7-01");
        let version = |version: &str, more: &str| format!("{version}{}{more}", &good[2..]);
        for text in [
            good.clone(),
            version("00", "").replace("-01", "-ff"),
            version("01", ""),
            version("cc", "-what-the-future-will-be-like"),
            version("fe", "-"),
        ] {
            assert_eq!(read(&text).as_deref(), Some(TRACE), "{text}");
        }
        for text in [
            String::new(),
            good[..54].to_owned(),
            version("00", "-"),
            version("00", "-more"),
            version("00", "0"),
            version("01", "more"),
            version("ff", ""),
            version("0F", ""),
            version("0x", ""),
            good.to_uppercase(),
            good.replace("4bf9", "4Bf9"),
            good.replace("4bf9", "4bg9"),
            good.replace(TRACE, &"0".repeat(32)),
            good.replace("00f067aa0ba902b7", &"0".repeat(16)),
            good.replace("00f067aa0ba902b7", "00F067aa0ba902b7"),
            good.replace("-01", "-0g"),
            good.replace('-', "_"),
            good.replace("-00f067aa0ba902b7-", "--0f067aa0ba902b7-"),
            good.replace(TRACE, &TRACE.replace('2', "-")),
            format!(" {good}"),
            format!("{good} "),
            good.replace("e0e4736-", "é4736-"),
        ] {
            assert_eq!(read(&text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_parsed_id_is_in_the_text(
            version in "[0-9a-f]{2}", trace: u128, parent: u64, flags: u8, more in "(-[ -~é]{0,9})?"
        ) {
            let text = format!("{version}-{trace:032x}-{parent:016x}-{flags:02x}{more}");
            let valid = version != "ff" && trace != 0 && parent != 0 && (version != "00" || more.is_empty());
            prop_assert_eq!(read(&text), valid.then(|| format!("{trace:032x}")));
        }

        #[test]
        fn no_text_panics(text in "(00-[0-9a-f-]{0,52}.{0,3}|.{0,80})") {
            if let Some(id) = TraceId::of_traceparent(&text) {
                prop_assert!(text.contains(&id.to_string()));
                prop_assert_eq!(TraceId::parse(&id.to_string()), Some(id));
            }
        }
    }
}

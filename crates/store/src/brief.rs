//! Reads of an event as much as a spend report needs, and passes over the rest without looking at it: over ten million
//! events, whatever is not read is what makes a report quick.

use kavach_domain::Event;
use kavach_domain::Timestamp;
use kavach_domain::event::{BriefEvent, BriefRecord, Extras};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::codec::{CodecError, EventKind, decode, decode_event};

/// Reads as much of an event as a spend report needs, and its time in the order of events.
///
/// # Errors
/// See [`decode_event`].
pub fn decode_brief(bytes: &[u8]) -> Result<(Timestamp, BriefEvent<'_>), CodecError> {
    match EventKind::of(bytes) {
        Some(
            kind @ (EventKind::Decided
            | EventKind::Traced
            | EventKind::DecidedOtherClock
            | EventKind::TracedOtherClock
            | EventKind::DecidedWithExtras),
        ) => decode_decision(kind, bytes),
        Some(
            EventKind::Changed
            | EventKind::ChangedOtherClock
            | EventKind::Used
            | EventKind::UsedOtherClock
            | EventKind::Delivered
            | EventKind::Leased,
        )
        | None => {
            let (moment, event) = decode_event(0, bytes)?;
            let brief = match event {
                Event::Used(record) => BriefEvent::Used(record),
                // Nor does a message to a webhook cost anything, and what a slice is spent on has an event of its own.
                Event::Changed(_) | Event::Decided(_) | Event::Delivered(_) | Event::Leased(_) => BriefEvent::Changed,
            };
            Ok((moment.at, brief))
        }
    }
}

/// The array of a `Record` in its layout, which never changes, within that of the event.
fn decode_decision(kind: EventKind, bytes: &[u8]) -> Result<(Timestamp, BriefEvent<'_>), CodecError> {
    let mut values = Values { rest: bytes };
    let parts = values.array()?;
    // Its kind.
    values.skip(1)?;
    let at = values.read()?;
    let fields = values.array()?;
    let agent = values.read()?;
    let owner = values.read()?;
    let action = values.read()?;
    let resource = values.read()?;
    // The arguments, and what granted it.
    values.skip(2)?;
    let code: Option<IgnoredAny> = values.read()?;
    // The reason of a denial, whether a rate is, whether it revoked the agent, and the policy.
    values.skip(4)?;
    let cost = values.read()?;
    values.skip(rest_of(fields, 12)?)?;
    let mut others = rest_of(parts, 3)?;
    let mut held = false;
    if kind == EventKind::DecidedWithExtras {
        held = values.read::<Extras>()?.held_until.is_some();
        others = rest_of(others, 1)?;
    }
    values.skip(others)?;
    Ok((at, BriefEvent::Decided(BriefRecord { agent, owner, action, resource, allowed: code.is_none(), cost, held })))
}

fn rest_of(length: usize, read: usize) -> Result<usize, CodecError> {
    length.checked_sub(read).ok_or_else(|| CodecError(format!("an array of {length} is too short")))
}

/// MessagePack values, one after another.
struct Values<'a> {
    rest: &'a [u8],
}

impl<'a> Values<'a> {
    /// The length of the array that begins here; its elements are next.
    fn array(&mut self) -> Result<usize, CodecError> {
        match *self.take(1)? {
            [head @ 0x90..=0x9f] => Ok(usize::from(head & 0x0f)),
            [0xdc] => self.length(2),
            [0xdd] => self.length(4),
            _ => Err(CodecError("no array where one belongs".to_owned())),
        }
    }

    /// The next value.
    fn read<T: Deserialize<'a>>(&mut self) -> Result<T, CodecError> {
        let from = self.rest;
        self.skip(1)?;
        decode(from.get(..from.len() - self.rest.len()).unwrap_or_default())
    }

    /// Passes over that many values.
    fn skip(&mut self, count: usize) -> Result<(), CodecError> {
        // Elements are values as well: what lies in arrays and maps is passed over in turn, however deep.
        let mut left = count;
        while left > 0 {
            left -= 1;
            let head = self.take(1)?.first().copied().unwrap_or_default();
            let (bytes, values) = match head {
                // Small numbers, nil and booleans.
                0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => (0, 0),
                0x80..=0x8f => (0, 2 * usize::from(head & 0x0f)),
                0x90..=0x9f => (0, usize::from(head & 0x0f)),
                0xa0..=0xbf => (usize::from(head & 0x1f), 0),
                // Bytes, then extensions with a byte for their type.
                0xc4 => (self.length(1)?, 0),
                0xc5 => (self.length(2)?, 0),
                0xc6 => (self.length(4)?, 0),
                0xc7 => (self.length(1)? + 1, 0),
                0xc8 => (self.length(2)? + 1, 0),
                0xc9 => (self.length(4)?.saturating_add(1), 0),
                // Numbers.
                0xcc | 0xd0 => (1, 0),
                0xcd | 0xd1 => (2, 0),
                0xca | 0xce | 0xd2 => (4, 0),
                0xcb | 0xcf | 0xd3 => (8, 0),
                // Extensions of 1, 2, 4, 8 and 16 bytes.
                0xd4..=0xd8 => (1 + (1 << (head - 0xd4)), 0),
                0xd9 => (self.length(1)?, 0),
                0xda => (self.length(2)?, 0),
                0xdb => (self.length(4)?, 0),
                0xdc => (0, self.length(2)?),
                0xdd => (0, self.length(4)?),
                0xde => (0, 2 * self.length(2)?),
                0xdf => (0, self.length(4)?.saturating_mul(2)),
                0xc1 => return Err(CodecError("a byte that MessagePack never uses".to_owned())),
            };
            self.take(bytes)?;
            left = left.saturating_add(values);
        }
        Ok(())
    }

    /// A length of that many bytes.
    fn length(&mut self, bytes: usize) -> Result<usize, CodecError> {
        Ok(self.take(bytes)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)))
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8], CodecError> {
        let (taken, rest) =
            self.rest.split_at_checked(bytes).ok_or_else(|| CodecError("an event that ends too soon".to_owned()))?;
        self.rest = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let number = prop_oneof![any::<i64>().prop_map(Value::from), any::<u64>().prop_map(Value::from)];
        let small = (-300i64..70_000).prop_map(Value::from);
        let text = prop_oneof![Just(0usize), 0..40usize, Just(255), Just(256), Just(65_536)];
        let text = text.prop_map(|length| Value::from("x".repeat(length)));
        let leaf = prop_oneof![Just(json!(null)), any::<bool>().prop_map(Value::from), number, small, text];
        leaf.prop_recursive(4, 64, 20, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..20).prop_map(Value::from),
                prop::collection::btree_map("[a-z]{0,3}", inner, 0..20).prop_map(|map| json!(map)),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_value_is_passed_over_whole(value in value(), after in any::<u8>()) {
            let mut bytes = rmp_serde::to_vec(&value).unwrap();
            let length = bytes.len();
            bytes.push(after);
            let mut values = Values { rest: &bytes };
            values.skip(1).unwrap();
            prop_assert_eq!(values.rest, [after]);
            for cut in 0..length.min(64) {
                let mut values = Values { rest: &bytes[..cut] };
                prop_assert!(values.skip(1).is_err(), "cut to {cut}");
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Values { rest: &bytes }.skip(3);
            let _ = decode_brief(&bytes);
        }
    }
}

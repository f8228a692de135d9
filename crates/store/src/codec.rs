//! How an event and a snapshot's state become bytes: MessagePack.
//!
//! An event is an array: its kind, its place in the order as a time in milliseconds, its body, and what its kind says.
//!
//! | kind | body | layout |
//! | --- | --- | --- |
//! | 1 | [`Record`] | an array, its fields in declared order: there is one a call, so names would double the journal |
//! | 2 | [`ChangeRecord`] | maps with named fields |
//! | 3 | [`UsageRecord`] | maps with named fields |
//! | 4 | [`Record`] of a call that is part of a trace | as 1; behind it the 16 bytes of the trace's id |
//! | 5 to 8 | as 1 to 4, of an event whose clock said another time | as those; behind all of it that time |
//!
//! A kind's layout never changes. A new layout is a new kind, and the old one stays readable. The state of a
//! snapshot is a map with named fields throughout.

use std::io::{self, Read, Write};

use serde::Deserialize;

use kavach_domain::budget::settlement::UsageRecord;
use kavach_domain::event::{ChangeRecord, Record};
use kavach_domain::tenant::State;
use kavach_domain::{Event, Moment, Timestamp, TraceId};

const KIND_DECIDED: u8 = 1;
const KIND_CHANGED: u8 = 2;
const KIND_USED: u8 = 3;
const KIND_TRACED: u8 = 4;
/// What is added to the kind of an event whose clock said another time than its place in the order.
const OTHER_WALL: u8 = 4;

/// Bytes that are no event, or none this version knows.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CodecError(String);

/// Appends an event's bytes to the buffer.
///
/// # Errors
/// None that these types can cause; the buffer may then hold a part of the event.
pub fn encode_event(moment: Moment, event: &Event<'_>, buffer: &mut Vec<u8>) -> Result<(), CodecError> {
    let at = moment.at;
    if let Some(wall) = moment.other_wall() {
        return encode_walled(at, wall, event, buffer).map_err(|error| CodecError(error.to_string()));
    }
    let written = match event {
        Event::Decided(record) => match record.trace {
            None => rmp_serde::encode::write(buffer, &(KIND_DECIDED, at, record)),
            Some(trace) => rmp_serde::encode::write(buffer, &(KIND_TRACED, at, record, trace)),
        },
        Event::Changed(record) => rmp_serde::encode::write_named(buffer, &(KIND_CHANGED, at, record)),
        Event::Used(record) => rmp_serde::encode::write_named(buffer, &(KIND_USED, at, record)),
    };
    written.map_err(|error| CodecError(error.to_string()))
}

/// The same of an event whose clock said another time.
fn encode_walled(
    at: Timestamp,
    wall: Timestamp,
    event: &Event<'_>,
    buffer: &mut Vec<u8>,
) -> Result<(), rmp_serde::encode::Error> {
    let kind = |kind| kind + OTHER_WALL;
    match event {
        Event::Decided(record) => match record.trace {
            None => rmp_serde::encode::write(buffer, &(kind(KIND_DECIDED), at, record, wall)),
            Some(trace) => rmp_serde::encode::write(buffer, &(kind(KIND_TRACED), at, record, trace, wall)),
        },
        Event::Changed(record) => rmp_serde::encode::write_named(buffer, &(kind(KIND_CHANGED), at, record, wall)),
        Event::Used(record) => rmp_serde::encode::write_named(buffer, &(kind(KIND_USED), at, record, wall)),
    }
}

/// Reads the bytes of the event with that number. What it says is borrowed from them.
///
/// # Errors
/// [`CodecError`] where the bytes are no event of a known kind.
pub fn decode_event(seq: u64, bytes: &[u8]) -> Result<(Moment, Event<'_>), CodecError> {
    let traced = |trace, record| Event::Decided(Record { trace: Some(trace), ..record });
    // The array's head and a kind below 128 are one byte each.
    match bytes.get(1) {
        Some(&KIND_DECIDED) => {
            let (_, at, record): (u8, Timestamp, Record<'_>) = decode(bytes)?;
            Ok((Moment::new(at, seq), Event::Decided(record)))
        }
        Some(&KIND_CHANGED) => {
            let (_, at, record): (u8, Timestamp, ChangeRecord) = decode(bytes)?;
            Ok((Moment::new(at, seq), Event::Changed(record)))
        }
        Some(&KIND_USED) => {
            let (_, at, record): (u8, Timestamp, UsageRecord) = decode(bytes)?;
            Ok((Moment::new(at, seq), Event::Used(record)))
        }
        Some(&KIND_TRACED) => {
            let (_, at, record, trace): (u8, Timestamp, Record<'_>, TraceId) = decode(bytes)?;
            Ok((Moment::new(at, seq), traced(trace, record)))
        }
        Some(kind @ 5..=8) => {
            let (at, wall, event) = match kind - OTHER_WALL {
                KIND_DECIDED => {
                    let (_, at, record, wall): (u8, Timestamp, Record<'_>, Timestamp) = decode(bytes)?;
                    (at, wall, Event::Decided(record))
                }
                KIND_CHANGED => {
                    let (_, at, record, wall): (u8, Timestamp, ChangeRecord, Timestamp) = decode(bytes)?;
                    (at, wall, Event::Changed(record))
                }
                KIND_USED => {
                    let (_, at, record, wall): (u8, Timestamp, UsageRecord, Timestamp) = decode(bytes)?;
                    (at, wall, Event::Used(record))
                }
                _ => {
                    let (_, at, record, trace, wall): (u8, Timestamp, Record<'_>, TraceId, Timestamp) = decode(bytes)?;
                    (at, wall, traced(trace, record))
                }
            };
            if wall >= at {
                return Err(CodecError(format!("an event of {at} whose clock said {wall}, which is not before that")));
            }
            Ok((Moment { at, wall, seq }, event))
        }
        Some(kind) => Err(CodecError(format!("an event of kind {kind}, which this version does not know"))),
        None => Err(CodecError("an event of less than two bytes".to_owned())),
    }
}

/// Writes a snapshot's state.
///
/// # Errors
/// The writer's; these types cause none.
pub fn write_state(state: &State, writer: &mut impl Write) -> io::Result<()> {
    rmp_serde::encode::write_named(writer, state).map_err(|error| match error {
        rmp_serde::encode::Error::InvalidValueWrite(error) => error.into(),
        other => io::Error::other(other),
    })
}

/// Reads a snapshot's state.
///
/// # Errors
/// [`CodecError`] where what is read is no state, or can't be read.
pub fn read_state(reader: impl Read) -> Result<State, CodecError> {
    rmp_serde::from_read(reader).map_err(|error| CodecError(error.to_string()))
}

/// The bytes of a snapshot's state, in memory.
///
/// # Errors
/// None that these types can cause.
pub fn encode_state(state: &State) -> Result<Vec<u8>, CodecError> {
    let mut bytes = Vec::new();
    write_state(state, &mut bytes).map_err(|error| CodecError(error.to_string()))?;
    Ok(bytes)
}

/// Reads the bytes of a snapshot's state.
///
/// # Errors
/// [`CodecError`] where the bytes are no state.
pub fn decode_state(bytes: &[u8]) -> Result<State, CodecError> {
    read_state(bytes)
}

fn decode<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, CodecError> {
    rmp_serde::from_slice(bytes).map_err(|error| CodecError(error.to_string()))
}

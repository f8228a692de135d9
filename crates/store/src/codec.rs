//! How an event and a snapshot's state become bytes: MessagePack.
//!
//! An event is an array: its kind, its time in milliseconds, its body, and of kind 4 a trace id.
//!
//! | kind | body | layout |
//! | --- | --- | --- |
//! | 1 | [`Record`] | an array, its fields in declared order: there is one a call, so names would double the journal |
//! | 2 | [`ChangeRecord`] | maps with named fields |
//! | 3 | [`UsageRecord`] | maps with named fields |
//! | 4 | [`Record`] of a call that is part of a trace | as 1; behind it the 16 bytes of the trace's id |
//!
//! A kind's layout never changes. A new layout is a new kind, and the old one stays readable. The state of a
//! snapshot is a map with named fields throughout.

use std::io::{self, Read, Write};

use serde::Deserialize;

use kavach_domain::budget::usage::UsageRecord;
use kavach_domain::event::{ChangeRecord, Record};
use kavach_domain::tenant::State;
use kavach_domain::{Event, Timestamp, TraceId};

const KIND_DECIDED: u8 = 1;
const KIND_CHANGED: u8 = 2;
const KIND_USED: u8 = 3;
const KIND_TRACED: u8 = 4;

/// Bytes that are no event, or none this version knows.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CodecError(String);

/// Appends an event's bytes to the buffer.
///
/// # Errors
/// None that these types can cause; the buffer may then hold a part of the event.
pub fn encode_event(at: Timestamp, event: &Event<'_>, buffer: &mut Vec<u8>) -> Result<(), CodecError> {
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

/// Reads an event's bytes. What it says is borrowed from them.
///
/// # Errors
/// [`CodecError`] where the bytes are no event of a known kind.
pub fn decode_event(bytes: &[u8]) -> Result<(Timestamp, Event<'_>), CodecError> {
    // The array's head and a kind below 128 are one byte each.
    match bytes.get(1) {
        Some(&KIND_DECIDED) => {
            let (_, at, record): (u8, Timestamp, Record<'_>) = decode(bytes)?;
            Ok((at, Event::Decided(record)))
        }
        Some(&KIND_CHANGED) => {
            let (_, at, record): (u8, Timestamp, ChangeRecord) = decode(bytes)?;
            Ok((at, Event::Changed(record)))
        }
        Some(&KIND_USED) => {
            let (_, at, record): (u8, Timestamp, UsageRecord) = decode(bytes)?;
            Ok((at, Event::Used(record)))
        }
        Some(&KIND_TRACED) => {
            let (_, at, record, trace): (u8, Timestamp, Record<'_>, TraceId) = decode(bytes)?;
            Ok((at, Event::Decided(Record { trace: Some(trace), ..record })))
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

//! How an event, and the state in a snapshot, become bytes: MessagePack.
//!
//! An event is an array: its kind, its time in the order of events (milliseconds), its record, and what its kind adds.
//!
//! | kind | record | layout |
//! | --- | --- | --- |
//! | 1 | [`Record`] | an array of its fields in declared order: every call writes one, and names would double the journal |
//! | 2 | [`ChangeRecord`] | maps with named fields |
//! | 3 | [`UsageRecord`] | maps with named fields |
//! | 4 | [`Record`] of a call that is part of a trace | as 1, then the 16 bytes of the trace id |
//! | 5 to 8 | as 1 to 4, where the clock said another time than the order of events | as those, then the clock's time |
//! | 9 | [`Record`] of a call with [`Extras`] | as 1, then a map with the names of its extras, the trace id or nil, and the clock's time or nil |
//! | 10 | [`DeliveryRecord`] | maps with named fields, then the clock's time or nil |
//! | 11 | [`LeaseRecord`] | as 10 |
//!
//! The layout of a kind never changes. A new layout is a new kind, and the old one stays readable. A new kind is a line
//! in `EventKind`; the compiler then asks how it is decoded. The state is a map with named fields throughout.

use std::io::{self, Read, Write};

use serde::Deserialize;

use kavach_domain::budget::settlement::UsageRecord;
use kavach_domain::event::{ChangeRecord, Extras, Record};
use kavach_domain::instance::lease::LeaseRecord;
use kavach_domain::tenant::State;
use kavach_domain::webhook::outbox::DeliveryRecord;
use kavach_domain::{Event, Moment, Timestamp, TraceId};

/// Declares the kinds once, so that whatever is written can be read.
macro_rules! event_kinds {
    ($($(#[$doc:meta])* $kind:ident = $number:literal,)*) => {
        /// The layouts of an event, by the number that is the first element of its array. All are below 128, so that
        /// each is one byte.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum EventKind {
            $($(#[$doc])* $kind = $number,)*
        }

        impl EventKind {
            /// The kind of that number; `None` for one that this version does not know.
            fn of_number(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$kind),)*
                    _ => None,
                }
            }

            /// The kind of the event with these bytes, if this version knows it.
            pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
                bytes.get(1).copied().and_then(Self::of_number)
            }
        }
    };
}

event_kinds! {
    Decided = 1,
    Changed = 2,
    Used = 3,
    /// A decision on a call that is part of a trace.
    Traced = 4,
    /// From here on, events with a clock time that differs from their place in the order.
    DecidedOtherClock = 5,
    ChangedOtherClock = 6,
    UsedOtherClock = 7,
    TracedOtherClock = 8,
    /// A decision on a call with extras.
    DecidedWithExtras = 9,
    /// What became of a message to a webhook.
    Delivered = 10,
    /// A slice of an instance policy was granted, taken or returned.
    Leased = 11,
}

impl EventKind {
    pub(crate) const fn number(self) -> u8 {
        self as u8
    }
}

/// MessagePack's head of an array with six elements.
const ARRAY_OF_SIX: u8 = 0x96;

/// Bytes that are not an event or a state, or not one that this version knows.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CodecError(pub(crate) String);

/// Appends an event's bytes to the buffer.
///
/// # Errors
/// None that these types can cause. The buffer may then end with half an event.
pub fn encode_event(moment: Moment, event: &Event<'_>, buffer: &mut Vec<u8>) -> Result<(), CodecError> {
    let at = moment.at;
    if let Event::Decided(record @ Record { extras: Some(extras), .. }) = event {
        return encode_with_extras(moment, record, extras, buffer).map_err(|error| CodecError(error.to_string()));
    }
    if let Some(wall) = moment.other_wall() {
        return encode_other_clock(at, wall, event, buffer).map_err(|error| CodecError(error.to_string()));
    }
    let written = match event {
        Event::Decided(record) => match record.trace {
            None => rmp_serde::encode::write(buffer, &(EventKind::Decided.number(), at, record)),
            Some(trace) => rmp_serde::encode::write(buffer, &(EventKind::Traced.number(), at, record, trace)),
        },
        Event::Changed(record) => rmp_serde::encode::write_named(buffer, &(EventKind::Changed.number(), at, record)),
        Event::Used(record) => rmp_serde::encode::write_named(buffer, &(EventKind::Used.number(), at, record)),
        Event::Delivered(record) => {
            let parts = (EventKind::Delivered.number(), at, record, None::<Timestamp>);
            rmp_serde::encode::write_named(buffer, &parts)
        }
        Event::Leased(record) => {
            let parts = (EventKind::Leased.number(), at, record, None::<Timestamp>);
            rmp_serde::encode::write_named(buffer, &parts)
        }
    };
    written.map_err(|error| CodecError(error.to_string()))
}

/// [`encode_event`] for a decision on a call with extras.
fn encode_with_extras(
    moment: Moment,
    record: &Record<'_>,
    extras: &Extras,
    buffer: &mut Vec<u8>,
) -> Result<(), rmp_serde::encode::Error> {
    // The array and the record have no names, the extras have.
    buffer.push(ARRAY_OF_SIX);
    rmp_serde::encode::write(buffer, &EventKind::DecidedWithExtras.number())?;
    rmp_serde::encode::write(buffer, &moment.at)?;
    rmp_serde::encode::write(buffer, record)?;
    rmp_serde::encode::write_named(buffer, extras)?;
    rmp_serde::encode::write(buffer, &record.trace)?;
    rmp_serde::encode::write(buffer, &moment.other_wall())
}

/// [`encode_event`] for an event with a clock time `wall` that differs from `at`.
fn encode_other_clock(
    at: Timestamp,
    wall: Timestamp,
    event: &Event<'_>,
    buffer: &mut Vec<u8>,
) -> Result<(), rmp_serde::encode::Error> {
    match event {
        Event::Decided(record) => match record.trace {
            None => {
                let kind = EventKind::DecidedOtherClock.number();
                rmp_serde::encode::write(buffer, &(kind, at, record, wall))
            }
            Some(trace) => {
                let kind = EventKind::TracedOtherClock.number();
                rmp_serde::encode::write(buffer, &(kind, at, record, trace, wall))
            }
        },
        Event::Changed(record) => {
            let kind = EventKind::ChangedOtherClock.number();
            rmp_serde::encode::write_named(buffer, &(kind, at, record, wall))
        }
        Event::Used(record) => {
            let kind = EventKind::UsedOtherClock.number();
            rmp_serde::encode::write_named(buffer, &(kind, at, record, wall))
        }
        // It has a place for the clock's time.
        Event::Delivered(record) => {
            let kind = EventKind::Delivered.number();
            rmp_serde::encode::write_named(buffer, &(kind, at, record, Some(wall)))
        }
        Event::Leased(record) => {
            let kind = EventKind::Leased.number();
            rmp_serde::encode::write_named(buffer, &(kind, at, record, Some(wall)))
        }
    }
}

/// Reads the bytes of event `seq`. The event borrows its text from them.
///
/// # Errors
/// [`CodecError`] if the bytes are not an event of a known kind.
pub fn decode_event(seq: u64, bytes: &[u8]) -> Result<(Moment, Event<'_>), CodecError> {
    // The array's head and its first element, the kind, are one byte each.
    let Some(&number) = bytes.get(1) else {
        return Err(CodecError("an event of less than two bytes".to_owned()));
    };
    let Some(kind) = EventKind::of_number(number) else {
        return Err(CodecError(format!("an event of kind {number}, which this version does not know")));
    };
    let traced = |trace, record| Event::Decided(Record { trace: Some(trace), ..record });
    match kind {
        EventKind::Decided => {
            let (_, at, record): (u8, Timestamp, Record<'_>) = decode(bytes)?;
            Ok((Moment::new(at, seq), Event::Decided(record)))
        }
        EventKind::Changed => {
            let (_, at, record): (u8, Timestamp, ChangeRecord) = decode(bytes)?;
            Ok((Moment::new(at, seq), Event::Changed(record)))
        }
        EventKind::Used => {
            let (_, at, record): (u8, Timestamp, UsageRecord) = decode(bytes)?;
            Ok((Moment::new(at, seq), Event::Used(record)))
        }
        EventKind::Traced => {
            let (_, at, record, trace): (u8, Timestamp, Record<'_>, TraceId) = decode(bytes)?;
            Ok((Moment::new(at, seq), traced(trace, record)))
        }
        EventKind::DecidedOtherClock => {
            let (_, at, record, wall): (u8, Timestamp, Record<'_>, Timestamp) = decode(bytes)?;
            Ok((other_clock(at, wall, seq)?, Event::Decided(record)))
        }
        EventKind::ChangedOtherClock => {
            let (_, at, record, wall): (u8, Timestamp, ChangeRecord, Timestamp) = decode(bytes)?;
            Ok((other_clock(at, wall, seq)?, Event::Changed(record)))
        }
        EventKind::UsedOtherClock => {
            let (_, at, record, wall): (u8, Timestamp, UsageRecord, Timestamp) = decode(bytes)?;
            Ok((other_clock(at, wall, seq)?, Event::Used(record)))
        }
        EventKind::TracedOtherClock => {
            let (_, at, record, trace, wall): (u8, Timestamp, Record<'_>, TraceId, Timestamp) = decode(bytes)?;
            Ok((other_clock(at, wall, seq)?, traced(trace, record)))
        }
        EventKind::DecidedWithExtras => {
            type Parts<'a> = (u8, Timestamp, Record<'a>, Box<Extras>, Option<TraceId>, Option<Timestamp>);
            let (_, at, record, extras, trace, wall): Parts<'_> = decode(bytes)?;
            let moment = wall.map_or(Ok(Moment::new(at, seq)), |wall| other_clock(at, wall, seq))?;
            Ok((moment, Event::Decided(Record { trace, extras: Some(extras), ..record })))
        }
        EventKind::Delivered => {
            let (_, at, record, wall): (u8, Timestamp, DeliveryRecord, Option<Timestamp>) = decode(bytes)?;
            let moment = wall.map_or(Ok(Moment::new(at, seq)), |wall| other_clock(at, wall, seq))?;
            Ok((moment, Event::Delivered(record)))
        }
        EventKind::Leased => {
            let (_, at, record, wall): (u8, Timestamp, LeaseRecord, Option<Timestamp>) = decode(bytes)?;
            let moment = wall.map_or(Ok(Moment::new(at, seq)), |wall| other_clock(at, wall, seq))?;
            Ok((moment, Event::Leased(record)))
        }
    }
}

/// Whether those are the bytes of a change, without reading more than its kind.
pub fn is_change(bytes: &[u8]) -> bool {
    matches!(EventKind::of(bytes), Some(EventKind::Changed | EventKind::ChangedOtherClock))
}

/// The same, but also `true` for a kind that this version does not know.
pub fn may_be_change(bytes: &[u8]) -> bool {
    is_change(bytes) || EventKind::of(bytes).is_none()
}

/// Whether those are the bytes of a usage report, without reading more than its kind.
pub fn is_usage(bytes: &[u8]) -> bool {
    matches!(EventKind::of(bytes), Some(EventKind::Used | EventKind::UsedOtherClock))
}

/// The moment of an event with the clock at `wall`, which must be before its place in the order.
fn other_clock(at: Timestamp, wall: Timestamp, seq: u64) -> Result<Moment, CodecError> {
    if wall >= at {
        return Err(CodecError(format!("an event at {at} has the clock time {wall}, which is not earlier")));
    }
    Ok(Moment { at, wall, seq })
}

/// Writes the state of a snapshot.
///
/// # Errors
/// Errors of the writer; these types cause none.
pub fn write_state(state: &State, writer: &mut impl Write) -> io::Result<()> {
    rmp_serde::encode::write_named(writer, state).map_err(|error| match error {
        rmp_serde::encode::Error::InvalidValueWrite(error) => error.into(),
        other => io::Error::other(other),
    })
}

/// Reads the state of a snapshot.
///
/// # Errors
/// [`CodecError`] if the bytes are not a state, or the reader fails.
pub fn read_state(reader: impl Read) -> Result<State, CodecError> {
    rmp_serde::from_read(reader).map_err(|error| CodecError(error.to_string()))
}

/// The bytes of a snapshot's state, all in memory.
///
/// # Errors
/// None that these types can cause.
pub fn encode_state(state: &State) -> Result<Vec<u8>, CodecError> {
    let mut bytes = Vec::new();
    write_state(state, &mut bytes).map_err(|error| CodecError(error.to_string()))?;
    Ok(bytes)
}

/// The state of a snapshot's bytes.
///
/// # Errors
/// [`CodecError`] if the bytes are not a state.
pub fn decode_state(bytes: &[u8]) -> Result<State, CodecError> {
    read_state(bytes)
}

pub(crate) fn decode<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, CodecError> {
    rmp_serde::from_slice(bytes).map_err(|error| CodecError(error.to_string()))
}

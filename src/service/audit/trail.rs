//! Looking things up in one tenant's journal, read as its audit trail.

use std::io;

use crate::actors::messages::AuditTrail;
use crate::domain::Moment;
use crate::domain::event::BriefEvent;
use crate::domain::{AuditId, Event, Timestamp};
use crate::store::{brief, codec};

/// Events read in one step: a few milliseconds of work.
pub(super) const STEP_EVENTS: usize = 8_192;

/// Decodes the event with number `seq`.
///
/// # Errors
/// `InvalidData` if the bytes are not an event.
pub(super) fn decode(seq: u64, bytes: &[u8]) -> io::Result<(Moment, Event<'_>)> {
    codec::decode_event(seq, bytes).map_err(|problem| io::Error::new(io::ErrorKind::InvalidData, problem))
}

/// Decodes as much of an event as a spend report needs.
///
/// # Errors
/// `InvalidData` if the bytes are not an event.
pub(super) fn decode_brief(bytes: &[u8]) -> io::Result<(Timestamp, BriefEvent<'_>)> {
    brief::decode_brief(bytes).map_err(|problem| io::Error::new(io::ErrorKind::InvalidData, problem))
}

/// Whether those are the bytes of a change.
pub(super) fn is_change(bytes: &[u8]) -> bool {
    codec::is_change(bytes)
}

/// Whether those are the bytes of a usage report.
pub(super) fn is_usage(bytes: &[u8]) -> bool {
    codec::is_usage(bytes)
}

impl AuditTrail {
    /// Calls `look` with the event behind an entry; `None` if there is no such entry, or it is past its retention.
    pub(in crate::service) fn look_up<T>(
        &self,
        id: AuditId,
        look: impl FnOnce(Moment, &Event<'_>) -> T,
    ) -> io::Result<Option<T>> {
        let found = self.look_at(id.seq(), |moment, event| {
            // The whole id must match: its number alone would fit an event of any tenant.
            let is_it = AuditId::derive(moment.at, id.seq(), self.tenant.tag()) == id;
            let is_kept = self.horizon.is_none_or(|horizon| moment.at >= horizon);
            (is_it && is_kept).then(|| look(moment, event))
        })?;
        Ok(found.flatten())
    }

    /// Calls `look` with the event of that number, past its retention or not; `None` if it is not there any more.
    pub(in crate::service) fn look_at<T>(
        &self,
        seq: u64,
        look: impl FnOnce(Moment, &Event<'_>) -> T,
    ) -> io::Result<Option<T>> {
        let Some(bytes) = self.reader.get(seq)? else { return Ok(None) };
        let (moment, event) = decode(seq, &bytes)?;
        Ok(Some(look(moment, &event)))
    }

    /// Whether a client that has seen this entry can go on after it: the trail holds it, or retention has removed
    /// everything up to it. An id from another history, such as before a backup was restored, has a number that this
    /// history has not reached or has given to another entry.
    pub(super) fn can_resume_after(&self, id: AuditId) -> io::Result<bool> {
        Ok(match self.reader.get(id.seq())? {
            Some(bytes) => AuditId::derive(decode(id.seq(), &bytes)?.0.at, id.seq(), self.tenant.tag()) == id,
            None => (1..=self.reader.last_seq()).contains(&id.seq()),
        })
    }

    /// The number of the first event at `time` or later.
    pub(super) fn first_at(&self, time: Timestamp) -> io::Result<u64> {
        self.reader.first_late(time.millis(), &mut |bytes| Ok(decode(0, bytes)?.0.at >= time))
    }
}

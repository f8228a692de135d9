//! Reading tenants' journals as audit trails, in steps of a few milliseconds on threads that serve no calls.
//!
//! A step holds one of a few permits ([`AuditDesk::readers`]), which are given out in turn: however far back somebody
//! reads, and however often, decisions keep their cores and others' short reads get through.
//!
//! [`AuditDesk::readers`]: crate::actors::desk::AuditDesk::readers

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use actix_rt::task::spawn_blocking;
use tracing::error;

use super::settled::Settled;
use super::{Kavach, ask};
use crate::actors::Route;
use crate::actors::messages::{AuditTrail, Verify};
use crate::actors::routes::unknown_tenant;
use crate::actors::turns::Party;
use crate::domain::moment::Moment;
use crate::domain::tenant::Caller;
use crate::domain::{AuditEntry, AuditFilter, AuditId, Code, Credential, Error, Event, TenantId, TenantRef, Timestamp};
use crate::journal::Walk;
use crate::store::codec;

/// Events looked at in one step: a few milliseconds' work.
pub(super) const STEP_EVENTS: usize = 8_192;

impl Kavach {
    /// Runs one step of reading that tenant's trail; `None` is a read of all of them.
    pub(super) async fn read_trail<T: Send + 'static>(
        &self,
        tenant: Option<TenantId>,
        step: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let permit = self.core.audit.readers.take(self.party(tenant)).await.map_err(unreadable)?;
        let read = spawn_blocking(move || {
            let read = step();
            // Not before: whoever waited for this may be gone while it still runs.
            drop(permit);
            read
        });
        read.await.map_err(unreadable)?.map_err(unreadable)
    }

    /// Whether the caller may still read that tenant's trail. One that was opened is a view of files, which outlives
    /// the key and the tenant: whoever reads on for long has to ask.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, `INVALID_TOKEN`, or the tenant can't answer.
    pub(super) async fn check_reader(&self, tenant: TenantId) -> Result<(), Error> {
        let route = self.core.routes.with(tenant.tag(), Route::clone);
        let route = route.filter(|route| route.id == tenant && !route.is_being_erased());
        let route = route.ok_or_else(|| unknown_tenant(&TenantRef::Id(tenant)))?;
        match self.credential {
            // The files can be read while the tenant has no actor.
            Credential::Operator(_) => self.check_operator_key(),
            credential @ (Credential::TenantKey(..) | Credential::AgentToken(..)) => {
                ask(&route, |reply| Verify { credential, reply }).await.and_then(Caller::as_author).map(drop)
            }
        }
    }
}

impl Kavach {
    /// On whose behalf that tenant's trail is read, or all of them.
    pub(super) fn party(&self, tenant: Option<TenantId>) -> Party {
        Party { operator: matches!(self.credential, Credential::Operator(_)), tenant }
    }

    /// Whether that tenant is there, and not being erased.
    pub(super) fn is_there(&self, tenant: TenantId) -> bool {
        let is_it = |route: &Route| route.id == tenant && !route.is_being_erased();
        self.core.routes.with(tenant.tag(), is_it).unwrap_or(false)
    }
}

pub(super) fn unreadable(problem: impl std::fmt::Display) -> Error {
    error!(%problem, "an audit trail could not be read");
    Error::new(Code::TenantUnavailable, "the audit trail can't be read; the server's log says why")
}

pub(super) fn decode(seq: u64, bytes: &[u8]) -> io::Result<(Moment, Event<'_>)> {
    codec::decode_event(seq, bytes).map_err(|problem| io::Error::new(io::ErrorKind::InvalidData, problem))
}

impl AuditTrail {
    /// Looks at the event whose entry has that id; `None` where there is none, or it is past the retention.
    pub(super) fn look_up<T>(&self, id: AuditId, look: impl FnOnce(Moment, &Event<'_>) -> T) -> io::Result<Option<T>> {
        let Some(bytes) = self.reader.get(id.seq())? else { return Ok(None) };
        let (moment, event) = decode(id.seq(), &bytes)?;
        // The whole id has to be right: a number alone names an event of any tenant.
        let is_it = AuditId::derive(moment.at, id.seq(), self.tenant.tag()) == id;
        let is_kept = self.horizon.is_none_or(|horizon| moment.at >= horizon);
        Ok((is_it && is_kept).then(|| look(moment, &event)))
    }
}

impl AuditTrail {
    /// Whether a client that has seen the entry of that id can go on after it: the trail holds that entry, or has
    /// removed all up to it since. An id of another history, such as that before a backup was restored, has a number
    /// that this one has not reached or has given to another entry.
    pub(super) fn goes_on_after(&self, id: AuditId) -> io::Result<bool> {
        Ok(match self.reader.get(id.seq())? {
            Some(bytes) => AuditId::derive(decode(id.seq(), &bytes)?.0.at, id.seq(), self.tenant.tag()) == id,
            None => (1..=self.reader.last_seq()).contains(&id.seq()),
        })
    }
}

/// Where to begin in a trail.
#[derive(Clone, Copy, Debug)]
pub(super) enum Start {
    /// With the first entry the filter may ask for.
    Oldest,
    /// With the first entry of that time or later.
    At(Timestamp),
    /// Right after that event.
    After(u64),
}

/// A trail read from its oldest entry on.
pub(super) struct Oldest {
    trail: AuditTrail,
    filter: Arc<AuditFilter>,
    start: Start,
    walk: Option<Walk>,
    rests: bool,
    /// What decisions were settled at, where their entries show it.
    settled: Option<Settled>,
}

impl Oldest {
    pub fn new(trail: AuditTrail, filter: Arc<AuditFilter>, start: Start) -> Self {
        Self { trail, filter, start, walk: None, rests: false, settled: None }
    }

    /// One whose entries show what decisions were settled at.
    pub fn with_settled(self, settled: Option<Settled>) -> Self {
        Self { settled, ..self }
    }

    /// One that gives back its memory after each step. What was in it is read again for the next, so that a step goes
    /// on to the end of it, unless `put` breaks.
    pub fn resting(self) -> Self {
        Self { rests: true, ..self }
    }

    /// Reads on, and hands over entries until `put` breaks; says whether that was all.
    pub fn step(&mut self, put: &mut dyn FnMut(&AuditEntry) -> io::Result<ControlFlow<()>>) -> io::Result<bool> {
        let ended = self.read(put);
        if let Some(walk) = self.walk.as_mut().filter(|_| self.rests) {
            walk.rest();
        }
        ended
    }

    fn read(&mut self, put: &mut dyn FnMut(&AuditEntry) -> io::Result<ControlFlow<()>>) -> io::Result<bool> {
        let Self { trail, filter, start, walk, rests, settled } = self;
        let oldest = trail.horizon.max(filter.since);
        let walk = match walk {
            Some(walk) => walk,
            None => walk.insert(trail.reader.walk(match (*start, oldest) {
                (Start::After(seq), _) => seq + 1,
                (Start::Oldest, None) => 0,
                (Start::Oldest, Some(time)) => trail.first_at(time)?,
                (Start::At(time), oldest) => trail.first_at(oldest.map_or(time, |oldest| oldest.max(time)))?,
            })),
        };
        let mut looked_at = 0;
        while looked_at < STEP_EVENTS || (*rests && !walk.is_between_pieces()) {
            looked_at += 1;
            if let Some(settled) = settled.as_mut()
                && settled.lacks(trail, walk.next_seq())
            {
                settled.read_on()?;
                continue;
            }
            let Some((seq, bytes)) = walk.step()? else { return Ok(true) };
            let (moment, event) = decode(seq, bytes)?;
            let at = moment.at;
            if filter.until.is_some_and(|until| at >= until) {
                return Ok(true);
            }
            if oldest.is_none_or(|oldest| at >= oldest) && filter.matches(at, &event) {
                let mut entry = AuditEntry::of(trail.tenant, moment, &event);
                if let Some(settled) = settled {
                    settled.tell(seq, &mut entry);
                }
                if put(&entry)?.is_break() {
                    return Ok(false);
                }
            }
        }
        Ok(false)
    }

    /// Whose trail it is.
    pub fn tenant(&self) -> TenantId {
        self.trail.tenant
    }

    /// The last event of this view.
    pub fn last_seq(&self) -> u64 {
        self.trail.reader.last_seq()
    }

    /// Where to begin to go on from here.
    pub fn rest_start(&self) -> Start {
        if self.walk.is_some() { Start::After(self.reached()) } else { self.start }
    }

    /// The last event that was looked at.
    pub fn reached(&self) -> u64 {
        match (&self.walk, self.start) {
            (Some(walk), _) => walk.next_seq().saturating_sub(1),
            (None, Start::After(seq)) => seq,
            (None, Start::Oldest | Start::At(_)) => 0,
        }
    }
}

impl AuditTrail {
    /// The first event of that time or later.
    pub(super) fn first_at(&self, time: Timestamp) -> io::Result<u64> {
        self.reader.first_late(time.millis(), &mut |bytes| Ok(decode(0, bytes)?.0.at >= time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::author::By;
    use crate::domain::event::{Change, ChangeRecord};
    use crate::domain::{Settings, audit::AuditKinds};
    use crate::journal::{DataDir, JournalOptions, NewTenant};

    #[test]
    fn a_reader_that_rests_reads_no_piece_twice() {
        const EVENTS: u64 = 2 * STEP_EVENTS as u64 + 10;
        const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
        let folder = tempfile::tempdir().unwrap();
        let tenant = TenantId::generate(Timestamp::default(), [7; 10]).unwrap();
        let change =
            Change::TenantCreated { id: tenant, name: "acme".into(), slug: None, settings: Settings::default() };
        let mut bytes = Vec::new();
        let event = Event::Changed(ChangeRecord::new(By::Operator, change));
        codec::encode_event(Moment::new(Timestamp::default(), 1), &event, &mut bytes).unwrap();
        let data = DataDir::open(folder.path()).unwrap();
        let (label, options) = (b"{}".as_slice(), JournalOptions::default());
        let (name, tenant_bytes, events) = (tenant.folder_name(), tenant.bytes(), [bytes.clone()]);
        let new = NewTenant { name: &name, label, tenant: tenant_bytes, now_ms: 0, events: &events, options };
        let mut journal = data.create_tenant(new).unwrap();
        for seq in 2..=EVENTS {
            journal.append(seq, |buffer| buffer.extend_from_slice(&bytes)).unwrap();
        }
        assert!(journal.rotate_if_due(DAY_MS).unwrap());
        journal.append(EVENTS + 1, |buffer| buffer.extend_from_slice(&bytes)).unwrap();
        journal.flush().unwrap();
        let trail = || AuditTrail { tenant, reader: journal.reader(), horizon: None };
        // Nothing of it is asked for, so that nothing else ends a step.
        let filter = Arc::new(AuditFilter { kind: AuditKinds::Usage, ..AuditFilter::default() });
        let steps = |mut reading: Oldest| {
            let mut reached = Vec::new();
            while !reading.step(&mut |_| Ok(ControlFlow::Break(()))).unwrap() {
                reached.push(reading.reached());
            }
            reached
        };
        let step = STEP_EVENTS as u64;
        assert_eq!(steps(Oldest::new(trail(), Arc::clone(&filter), Start::Oldest)), [step, 2 * step]);
        assert_eq!(steps(Oldest::new(trail(), filter, Start::Oldest).resting()), [EVENTS]);
    }
}

//! Reading tenants' journals as audit trails, in steps of a few milliseconds on threads that serve no calls.
//!
//! A step holds one of a few permits ([`AuditDesk::readers`]), which are given out in turn: however far back somebody
//! reads, and however often, decisions keep their cores and others' short reads get through.
//!
//! [`AuditDesk::readers`]: crate::actors::desk::AuditDesk::readers

use std::cmp::Reverse;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use actix_rt::task::spawn_blocking;
use tracing::error;

use super::{Kavach, ask};
use crate::actors::Route;
use crate::actors::messages::{AuditTrail, Verify};
use crate::actors::routes::unknown_tenant;
use crate::actors::turns::Party;
use crate::domain::tenant::{Caller, Moment};
use crate::domain::{AuditEntry, AuditFilter, AuditId, Code, Credential, Error, Event, TenantId, TenantRef, Timestamp};
use crate::journal::{Walk, codec};

/// Events looked at in one step: a few milliseconds' work.
const STEP_EVENTS: usize = 8_192;

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

fn unreadable(problem: impl std::fmt::Display) -> Error {
    error!(%problem, "an audit trail could not be read");
    Error::new(Code::TenantUnavailable, "the audit trail can't be read; the server's log says why")
}

fn decode(bytes: &[u8]) -> io::Result<(Timestamp, Event<'_>)> {
    codec::decode_event(bytes).map_err(|problem| io::Error::new(io::ErrorKind::InvalidData, problem))
}

impl AuditTrail {
    /// Looks at the event whose entry has that id; `None` where there is none, or it is past the retention.
    pub(super) fn look_up<T>(
        &self,
        id: AuditId,
        look: impl FnOnce(Timestamp, &Event<'_>) -> T,
    ) -> io::Result<Option<T>> {
        let Some(bytes) = self.reader.get(id.seq())? else { return Ok(None) };
        let (at, event) = decode(&bytes)?;
        // The whole id has to be right: a number alone names an event of any tenant.
        let is_it = AuditId::derive(at, id.seq(), self.tenant.tag()) == id;
        let is_kept = self.horizon.is_none_or(|horizon| at >= horizon);
        Ok((is_it && is_kept).then(|| look(at, &event)))
    }
}

/// The newest entries of some trails: a query under way.
pub(super) struct Newest {
    trails: Vec<AuditTrail>,
    /// Whether one that can't be read is done without.
    all: bool,
    /// Whose trails could not be read.
    unread: Vec<TenantId>,
    filter: AuditFilter,
    before: Option<AuditId>,
    most: usize,
    /// How far the last of the trails was read.
    before_seq: Option<u64>,
    /// Of all trails read so far, newest first but for those of the one being read.
    entries: Vec<AuditEntry>,
    /// Of those, the ones from the trail being read.
    of_trail: usize,
}

impl Newest {
    /// Up to `most` entries of the trails, the newest of those before that id. With `all` it does without a trail
    /// that can't be read.
    pub fn new(trails: Vec<AuditTrail>, all: bool, filter: AuditFilter, before: Option<AuditId>, most: usize) -> Self {
        let (entries, unread) = (Vec::new(), Vec::new());
        let mut query = Self { trails, all, unread, filter, before, most, before_seq: None, entries, of_trail: 0 };
        query.start_trail();
        query
    }

    fn start_trail(&mut self) {
        // A cursor of this tenant says where to start; one of another is compared entry by entry.
        let tag = self.trails.last().map(|trail| trail.tenant.tag());
        self.before_seq = self.before.filter(|id| Some(id.tag()) == tag).map(AuditId::seq);
        self.of_trail = 0;
    }

    /// Reads on; says whether that was all.
    pub fn step(&mut self) -> io::Result<bool> {
        let mut looked_at = 0;
        while looked_at < STEP_EVENTS {
            let Some(tenant) = self.trails.last().map(|trail| trail.tenant) else { return Ok(true) };
            self.before_seq = match self.piece(&mut looked_at) {
                Ok(next) => next,
                Err(problem) if self.all => {
                    error!(%tenant, %problem, "an audit trail could not be read; it is missing from a query of all tenants");
                    self.unread.push(tenant);
                    self.entries.retain(|entry| entry.tenant_id != tenant);
                    None
                }
                Err(problem) => return Err(problem),
            };
            if self.before_seq.is_none() {
                self.entries.sort_by_key(|entry| Reverse(entry.id));
                self.entries.truncate(self.most);
                self.trails.pop();
                self.start_trail();
            }
        }
        Ok(false)
    }

    /// Reads a piece of the last trail; answers where the next one ends, if more of the trail is wanted.
    fn piece(&mut self, looked_at: &mut usize) -> io::Result<Option<u64>> {
        let Self { trails, filter, before, before_seq, most, entries, of_trail, .. } = self;
        let Some(trail) = trails.last() else { return Ok(None) };
        let (tenant, oldest) = (trail.tenant, trail.horizon.max(filter.since));
        let mut failed = Ok(());
        let next = trail.reader.newest_piece(*before_seq, &mut |seq, bytes| {
            *looked_at += 1;
            let (at, event) = match decode(bytes) {
                Ok(decoded) => decoded,
                Err(problem) => {
                    failed = Err(problem);
                    return ControlFlow::Break(());
                }
            };
            if oldest.is_some_and(|oldest| at < oldest) {
                return ControlFlow::Break(());
            }
            let id = AuditId::derive(at, seq, tenant.tag());
            if before.is_none_or(|before| id < before) && filter.matches(at, &event) {
                entries.push(AuditEntry::of(tenant, Moment { at, seq }, &event));
                *of_trail += 1;
            }
            if *of_trail >= *most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        failed.map(|()| next)
    }

    /// What was found, newest first, and whose trails could not be read.
    pub fn found(self) -> (Vec<AuditEntry>, Vec<TenantId>) {
        (self.entries, self.unread)
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
}

impl Oldest {
    pub fn new(trail: AuditTrail, filter: Arc<AuditFilter>, start: Start) -> Self {
        Self { trail, filter, start, walk: None }
    }

    /// Reads on, and hands over entries until `put` breaks; says whether that was all.
    pub fn step(&mut self, put: &mut dyn FnMut(&AuditEntry) -> io::Result<ControlFlow<()>>) -> io::Result<bool> {
        let Self { trail, filter, start, walk } = self;
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
        for _ in 0..STEP_EVENTS {
            let Some((seq, bytes)) = walk.step()? else { return Ok(true) };
            let (at, event) = decode(bytes)?;
            if filter.until.is_some_and(|until| at >= until) {
                return Ok(true);
            }
            if oldest.is_none_or(|oldest| at >= oldest)
                && filter.matches(at, &event)
                && put(&AuditEntry::of(trail.tenant, Moment { at, seq }, &event))?.is_break()
            {
                return Ok(false);
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

    /// Gives back the memory until the next step.
    pub fn rest(&mut self) {
        if let Some(walk) = &mut self.walk {
            walk.rest();
        }
    }
}

impl AuditTrail {
    /// The first event of that time or later.
    fn first_at(&self, time: Timestamp) -> io::Result<u64> {
        self.reader.first_late(&mut |bytes| Ok(decode(bytes)?.0 >= time))
    }
}

//! A query: which entries of some trails are the newest that a filter asks for, and a page of them.
//!
//! The trails are read twice. The first time only the ids of what is asked for are kept, whatever lies before the page;
//! the second time the entries of the page are made, from the pieces that hold one. So a query that skips ten thousand
//! large entries takes no more memory than one that skips none.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io;
use std::ops::ControlFlow;

use tracing::error;

use super::trail::{STEP_EVENTS, decode};
use crate::actors::messages::AuditTrail;
use crate::domain::{AuditEntry, AuditFilter, AuditId, TenantId, TenantTag, Timestamp};

/// What becomes of a trail that can't be read.
pub(super) struct Unread {
    /// Whether it is done without, since all tenants are asked for.
    all: bool,
    /// Whose they are.
    tenants: Vec<TenantId>,
}

impl Unread {
    /// With `all`, a trail that can't be read is noted and done without.
    pub fn new(all: bool) -> Self {
        Self { all, tenants: Vec::new() }
    }

    fn note(&mut self, tenant: TenantId, problem: io::Error) -> io::Result<()> {
        if !self.all {
            return Err(problem);
        }
        error!(%tenant, %problem, "an audit trail could not be read; it is missing from a query of all tenants");
        self.tenants.push(tenant);
        Ok(())
    }

    /// Whose trails could not be read.
    pub fn into_tenants(self) -> Vec<TenantId> {
        self.tenants
    }
}

/// The first reading.
pub(super) struct Newest {
    /// The last one is being read.
    trails: Vec<AuditTrail>,
    filter: AuditFilter,
    before: Option<AuditId>,
    most: usize,
    /// One past the next event of the trail being read; `None` before the first.
    end: Option<u64>,
    /// In the trails read so far, newest first but for those of the one being read.
    ids: Vec<AuditId>,
    /// How many of them are of that one.
    of_trail: usize,
    done: Found,
}

/// What the first reading found.
pub(super) struct Found {
    /// Ids of the entries, newest first.
    pub ids: Vec<AuditId>,
    /// The trails that they are in.
    pub trails: Vec<AuditTrail>,
    pub unread: Unread,
}

impl Newest {
    /// Up to `most` entries of the trails, the newest of those before that id.
    pub fn new(
        trails: Vec<AuditTrail>,
        unread: Unread,
        filter: AuditFilter,
        before: Option<AuditId>,
        most: usize,
    ) -> Self {
        let done = Found { ids: Vec::new(), trails: Vec::with_capacity(trails.len()), unread };
        Self { trails, filter, before, most, end: None, ids: Vec::new(), of_trail: 0, done }
    }

    /// Reads on; says whether that was all.
    pub fn step(&mut self) -> io::Result<bool> {
        let mut looked_at = 0;
        while looked_at < STEP_EVENTS {
            let Some(tenant) = self.trails.last().map(|trail| trail.tenant) else { return Ok(true) };
            match self.piece(&mut looked_at) {
                Ok(Some(end)) => {
                    self.end = Some(end);
                    continue;
                }
                Ok(None) => self.done.trails.extend(self.trails.pop()),
                Err(problem) => {
                    self.done.unread.note(tenant, problem)?;
                    self.ids.retain(|id| id.tag() != tenant.tag());
                    self.trails.pop();
                }
            }
            self.ids.sort_unstable_by_key(|id| Reverse(*id));
            self.ids.truncate(self.most);
            (self.end, self.of_trail) = (None, 0);
        }
        Ok(false)
    }

    /// Reads a piece of the last trail; answers where the next one ends, if more of the trail is wanted.
    fn piece(&mut self, looked_at: &mut usize) -> io::Result<Option<u64>> {
        let Self { trails, filter, before, most, end, ids, of_trail, .. } = self;
        let Some(trail) = trails.last() else { return Ok(None) };
        let end = match *end {
            Some(end) => end,
            None => end_of(trail, filter, *before)?,
        };
        let oldest = trail.horizon.max(filter.since);
        let mut failed = Ok(());
        let next = trail.reader.newest_piece(Some(end), &mut |seq, bytes| {
            *looked_at += 1;
            let (at, event) = match decode(seq, bytes) {
                Ok((moment, event)) => (moment.at, event),
                Err(problem) => {
                    failed = Err(problem);
                    return ControlFlow::Break(());
                }
            };
            if oldest.is_some_and(|oldest| at < oldest) {
                return ControlFlow::Break(());
            }
            let id = AuditId::derive(at, seq, trail.tenant.tag());
            if before.is_none_or(|before| id < before) && filter.matches(at, &event) {
                ids.push(id);
                *of_trail += 1;
            }
            if *of_trail >= *most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        failed?;
        match (next, oldest) {
            // All that comes is too old, and need not be read to see that.
            (Some(end), Some(oldest)) if trail.reader.is_older_before(end, oldest.millis())? => Ok(None),
            (next, _) => Ok(next),
        }
    }

    /// What was found.
    pub fn found(self) -> Found {
        Found { ids: self.ids, ..self.done }
    }
}

/// One past the last event of a trail that a query may ask for.
fn end_of(trail: &AuditTrail, filter: &AuditFilter, before: Option<AuditId>) -> io::Result<u64> {
    // A cursor of this tenant says where it is; of another's, what is before it is not of a later time.
    if let Some(id) = before.filter(|id| id.tag() == trail.tenant.tag()) {
        return Ok(id.seq());
    }
    let after_cursor = before.map(|id| id.time().plus_millis(1));
    let times: [Option<Timestamp>; 2] = [after_cursor, filter.until];
    match times.into_iter().flatten().min() {
        Some(time) => trail.first_at(time),
        None => Ok(trail.reader.last_seq() + 1),
    }
}

/// The second reading: the entries of a page.
pub(super) struct Entries {
    /// Each trail with the numbers of those of its entries that were not read yet, the newest last.
    wanted: Vec<(AuditTrail, Vec<u64>)>,
    entries: Vec<AuditEntry>,
    unread: Unread,
}

impl Entries {
    /// The entries of those ids, of what was found.
    pub fn new(found: Found) -> Self {
        let Found { ids, trails, unread } = found;
        let mut seqs: HashMap<TenantTag, Vec<u64>> = HashMap::new();
        for id in ids.iter().rev() {
            seqs.entry(id.tag()).or_default().push(id.seq());
        }
        let of_trail = |trail: AuditTrail| seqs.remove(&trail.tenant.tag()).map(|seqs| (trail, seqs));
        Self {
            wanted: trails.into_iter().filter_map(of_trail).collect(),
            entries: Vec::with_capacity(ids.len()),
            unread,
        }
    }

    /// Reads on; says whether that was all.
    pub fn step(&mut self) -> io::Result<bool> {
        let Self { wanted, entries, unread } = self;
        let Some((trail, seqs)) = wanted.last_mut() else {
            entries.sort_unstable_by_key(|entry| Reverse(entry.id));
            return Ok(true);
        };
        let tenant = trail.tenant;
        if let Err(problem) = make_some(trail, seqs, entries) {
            unread.note(tenant, problem)?;
            entries.retain(|entry| entry.tenant_id != tenant);
            seqs.clear();
        }
        if seqs.is_empty() {
            wanted.pop();
        }
        Ok(false)
    }

    /// The entries, newest first, and whose trails could not be read.
    pub fn made(self) -> (Vec<AuditEntry>, Unread) {
        (self.entries, self.unread)
    }
}

/// Makes the entries of the newest of those numbers and of all in the same piece of the trail.
fn make_some(trail: &AuditTrail, seqs: &mut Vec<u64>, entries: &mut Vec<AuditEntry>) -> io::Result<()> {
    let Some(newest) = seqs.last().copied() else { return Ok(()) };
    let mut failed = Ok(());
    trail.reader.newest_piece(Some(newest + 1), &mut |seq, bytes| {
        if seqs.last() == Some(&seq) {
            seqs.pop();
            match decode(seq, bytes) {
                Ok((moment, event)) => entries.push(AuditEntry::of(trail.tenant, moment, &event)),
                Err(problem) => failed = Err(problem),
            }
        }
        if seqs.is_empty() || failed.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    // One that retention has removed since is not found.
    seqs.retain(|seq| *seq < newest);
    failed
}

//! A query: a page of the newest entries of some trails that a filter matches.
//!
//! It reads the trails twice. The first pass keeps only the ids of matching entries. The second builds the page's
//! entries, reading only the pieces of the journal that hold one. So a query that skips ten thousand large entries
//! takes no more memory than one that skips none.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::ControlFlow;

use tracing::error;

use super::trail::{STEP_EVENTS, decode};
use crate::actors::messages::AuditTrail;
use crate::domain::{AuditEntry, AuditFilter, AuditId, TenantId, TenantTag, Timestamp};

/// Trails that can't be read, and whether to go on without them.
pub(super) struct UnreadableTrails {
    /// Whether to go on without them, since the query is about all tenants.
    all: bool,
    /// The tenants they belong to.
    tenants: Vec<TenantId>,
}

impl UnreadableTrails {
    /// With `all`, a query notes a trail that it can't read and goes on. Otherwise it fails.
    pub fn new(all: bool) -> Self {
        Self { all, tenants: Vec::new() }
    }

    fn note(&mut self, tenant: TenantId, problem: io::Error) -> io::Result<()> {
        if !self.all {
            return Err(problem);
        }
        error!(%tenant, %problem, "could not read an audit trail; a query of all tenants goes on without it");
        self.tenants.push(tenant);
        Ok(())
    }

    /// The tenants of the trails that could not be read.
    pub fn into_tenants(self) -> Vec<TenantId> {
        self.tenants
    }
}

/// The first pass: the ids of the newest matching entries.
pub(super) struct NewestIds {
    /// Trails left to read. The last one is being read.
    trails: Vec<AuditTrail>,
    filter: AuditFilter,
    before: Option<AuditId>,
    most: usize,
    /// One past the next event of the trail being read; `None` before the first.
    end: Option<u64>,
    /// Matches so far: newest first, except for those of the trail being read, which are at the end.
    ids: Vec<AuditId>,
    /// How many of them are from the trail being read.
    of_trail: usize,
    done: MatchingIds,
}

/// What the first pass found.
pub(super) struct MatchingIds {
    /// Ids of the matching entries, newest first.
    pub ids: Vec<AuditId>,
    /// The trails they are in.
    pub trails: Vec<AuditTrail>,
    /// The trails that could not be read.
    pub unread: UnreadableTrails,
}

impl NewestIds {
    /// Looks for the `most` newest entries of all trails that are [added](Self::add), or the newest before the entry
    /// `before`.
    pub fn new(unread: UnreadableTrails, filter: AuditFilter, before: Option<AuditId>, most: usize) -> Self {
        let done = MatchingIds { ids: Vec::new(), trails: Vec::new(), unread };
        Self { trails: Vec::new(), filter, before, most, end: None, ids: Vec::new(), of_trail: 0, done }
    }

    /// Adds trails to look at.
    pub fn add(&mut self, trails: Vec<AuditTrail>) {
        // Of those that are read, only those with an entry that counts are needed again.
        let wanted: HashSet<_> = self.ids.iter().map(|id| id.tag()).collect();
        self.done.trails.retain(|trail| wanted.contains(&trail.tenant.tag()));
        self.trails = trails;
    }

    /// Whether no trail that ends at that time or before can have an entry that counts.
    pub fn is_full_after(&self, time: Timestamp) -> bool {
        self.ids.len() >= self.most && self.ids.last().is_some_and(|oldest| oldest.time() > time)
    }

    /// Reads on. Returns whether it is done.
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

    /// Reads one piece of the last trail. Returns where the next piece ends, or `None` if no more is wanted.
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
            if before.is_none_or(|before| id < before) && filter.matches(trail.tenant, at, &event) {
                ids.push(id);
                *of_trail += 1;
            }
            if *of_trail >= *most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        failed?;
        match (next, oldest) {
            // Everything before is too old. The index says so, without reading it.
            (Some(end), Some(oldest)) if trail.reader.is_older_before(end, oldest.millis())? => Ok(None),
            (next, _) => Ok(next),
        }
    }

    /// The result, once [`Self::step`] is done.
    pub fn found(self) -> MatchingIds {
        MatchingIds { ids: self.ids, ..self.done }
    }
}

/// One past the last event of a trail that a query can match.
fn end_of(trail: &AuditTrail, filter: &AuditFilter, before: Option<AuditId>) -> io::Result<u64> {
    // A cursor of this tenant is a place in this trail. Another tenant's cursor only bounds the time.
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

/// The second pass: builds the entries of a page.
pub(super) struct PageEntries {
    /// Each trail, with the numbers of its entries that are still to be read, newest last.
    wanted: Vec<(AuditTrail, Vec<u64>)>,
    entries: Vec<AuditEntry>,
    unread: UnreadableTrails,
}

impl PageEntries {
    /// Builds the entries that the first pass found.
    pub fn new(found: MatchingIds) -> Self {
        let MatchingIds { ids, trails, unread } = found;
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

    /// Reads on. Returns whether it is done.
    pub fn step(&mut self) -> io::Result<bool> {
        let Self { wanted, entries, unread } = self;
        let Some((trail, seqs)) = wanted.last_mut() else {
            entries.sort_unstable_by_key(|entry| Reverse(entry.id));
            return Ok(true);
        };
        let tenant = trail.tenant;
        if let Err(problem) = build_piece(trail, seqs, entries) {
            unread.note(tenant, problem)?;
            entries.retain(|entry| entry.tenant_id != tenant);
            seqs.clear();
        }
        if seqs.is_empty() {
            wanted.pop();
        }
        Ok(false)
    }

    /// The entries, newest first, and the trails that could not be read.
    pub fn made(self) -> (Vec<AuditEntry>, UnreadableTrails) {
        (self.entries, self.unread)
    }
}

/// Builds the entry of the newest number, and of every other number in the same piece of the journal.
fn build_piece(trail: &AuditTrail, seqs: &mut Vec<u64>, entries: &mut Vec<AuditEntry>) -> io::Result<()> {
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
    // Retention may have removed some in the meantime.
    seqs.retain(|seq| *seq < newest);
    failed
}

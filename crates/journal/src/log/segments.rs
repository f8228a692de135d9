//! Which segments hold events that folders don't have yet, and which slots can be used again.

use std::collections::{HashMap, HashSet, VecDeque};

use super::batch::{Floor, Section};
use super::slot::SharedSlot;

/// Tenants that fold at once: each has a file open until it is synced.
const MOST_ASKED: usize = 1_024;
/// Tenants that fold at once of those with events of before a start. That does not hurry, and each has to be read first.
const MOST_INHERITED: usize = 32;

/// A tenant's uuid.
type TenantKey = [u8; 16];

/// What is appended to a slot between two starts, or from its beginning on.
#[derive(Debug)]
pub(super) struct LogSegment {
    pub number: u64,
    pub slot: SharedSlot,
    pub first_position: u64,
    pub last_position: u64,
    /// The tenants with events in it that their folders don't have yet.
    shares: HashMap<TenantKey, Share>,
}

/// What a segment holds of a tenant.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    last_seq: u64,
    bytes: u64,
}

/// The segments in use, and the slots of those that are not.
#[derive(Debug)]
pub(super) struct LogSegments {
    /// Oldest first; the last one takes new batches.
    used: VecDeque<LogSegment>,
    /// Slots that nothing needs, once the floor behind their last position is on disk.
    released: Vec<(SharedSlot, u64)>,
    /// Slots that may be written over.
    free: Vec<SharedSlot>,
    /// Bytes of each tenant's tail.
    tails: HashMap<TenantKey, u64>,
    tail_bytes: u64,
    /// Tenants that were asked to fold and have not yet.
    asked: HashSet<TenantKey>,
    /// Segments up to this number are of before a start, and are folded soon.
    inherited: u64,
    /// Whether no slot may be used again now.
    is_held: bool,
}

impl LogSegments {
    pub fn new(free: Vec<SharedSlot>, released: Vec<(SharedSlot, u64)>) -> Self {
        let (used, tails, asked) = (VecDeque::new(), HashMap::new(), HashSet::new());
        Self { used, released, free, tails, tail_bytes: 0, asked, inherited: 0, is_held: false }
    }

    /// What there is now is of before a start.
    pub fn inherit(&mut self) {
        self.inherited = self.used.back().map_or(0, |segment| segment.number);
    }

    /// Starts a segment in a slot.
    pub fn start(&mut self, number: u64, slot: SharedSlot, first_position: u64) {
        let last_position = first_position.saturating_sub(1);
        self.used.push_back(LogSegment { number, slot, first_position, last_position, shares: HashMap::new() });
    }

    pub fn current(&self) -> Option<&LogSegment> {
        self.used.back()
    }

    /// A batch was written to the current segment.
    pub fn take(&mut self, position: u64, sections: &[Section]) {
        let Some(segment) = self.used.back_mut() else { return };
        segment.last_position = position;
        for Section { tenant, last_seq, length, .. } in sections {
            let bytes = u64::from(*length);
            let share = segment.shares.entry(*tenant).or_default();
            share.last_seq = share.last_seq.max(*last_seq);
            share.bytes += bytes;
            *self.tails.entry(*tenant).or_default() += bytes;
            self.tail_bytes += bytes;
        }
    }

    /// The tenant's folder has everything up to `seq` on disk.
    pub fn folded(&mut self, tenant: TenantKey, seq: u64) {
        self.asked.remove(&tenant);
        self.forget(tenant, |_, share| share.last_seq <= seq);
    }

    /// What older segments hold of the tenant stands in the current one too.
    pub fn carried(&mut self, tenant: TenantKey) {
        let current = self.used.back().map_or(0, |segment| segment.number);
        self.forget(tenant, |number, _| number < current);
    }

    /// Tenants with events in the oldest segments, if more than `most` are in use.
    pub fn pinning(&self, most: usize) -> Vec<TenantKey> {
        self.tenants_of_oldest(self.used.len().saturating_sub(most))
    }

    /// The tenants with events in that many of the oldest segments.
    fn tenants_of_oldest(&self, segments: usize) -> Vec<TenantKey> {
        let oldest = self.used.iter().take(segments);
        let mut all: Vec<_> = oldest.flat_map(|segment| segment.shares.keys().copied()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    fn forget(&mut self, tenant: TenantKey, is_over: impl Fn(u64, &Share) -> bool) {
        let mut gone = 0;
        for segment in &mut self.used {
            if let Some(share) = segment.shares.get(&tenant).filter(|share| is_over(segment.number, share)) {
                gone += share.bytes;
                segment.shares.remove(&tenant);
            }
        }
        if let Some(bytes) = self.tails.get_mut(&tenant) {
            *bytes = bytes.saturating_sub(gone);
            if *bytes == 0 {
                self.tails.remove(&tenant);
            }
        }
        self.tail_bytes = self.tail_bytes.saturating_sub(gone);
        while self.used.len() > 1
            && self.used.front().is_some_and(|segment| segment.shares.is_empty())
            && let Some(segment) = self.used.pop_front()
        {
            // After a start, a segment goes on in the slot of the one before.
            if self.used.front().is_none_or(|next| next.slot.number != segment.slot.number) {
                self.released.push((segment.slot, segment.last_position));
            }
        }
    }

    /// The first batch that recovery needs, if the next one is `next`.
    pub fn floor(&self, next: Floor) -> Floor {
        match self.used.front() {
            Some(only) if self.used.len() == 1 && only.shares.is_empty() => next,
            Some(oldest) => Floor { position: oldest.first_position, segment: oldest.number },
            None => next,
        }
    }

    /// A floor is on disk: slots behind it may be used again.
    pub fn floor_synced(&mut self, floor: Floor) {
        if self.is_held {
            return;
        }
        let Self { released, free, .. } = self;
        released.retain(|(slot, last_position)| {
            let waits = *last_position >= floor.position;
            if !waits {
                free.push(SharedSlot::clone(slot));
            }
            waits
        });
    }

    /// Keeps slots from being used again, or no longer.
    pub fn hold(&mut self, is_held: bool) {
        self.is_held = is_held;
    }

    /// The free slot that waited longest.
    pub fn take_oldest_free(&mut self) -> Option<SharedSlot> {
        (!self.free.is_empty()).then(|| self.free.remove(0))
    }

    /// The slots of all segments but the current one, also of those that nothing needs.
    pub fn closed(&self) -> Vec<SharedSlot> {
        let used = self.used.iter().rev().skip(1).map(|segment| &segment.slot);
        used.chain(self.released.iter().map(|(slot, _)| slot)).cloned().collect()
    }

    pub fn take_free(&mut self) -> Option<SharedSlot> {
        self.free.pop()
    }

    pub fn add_free(&mut self, slot: SharedSlot) {
        self.free.push(slot);
    }

    pub fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// The number of segments in use.
    pub fn used(&self) -> usize {
        self.used.len()
    }

    /// Slots of all kinds.
    pub fn slots(&self) -> usize {
        let (used, others) = (self.used.iter(), self.used.iter().skip(1));
        let shared = used.zip(others).filter(|(one, next)| one.slot.number == next.slot.number).count();
        self.used.len() - shared + self.released.len() + self.free.len()
    }

    pub fn tail_bytes(&self) -> u64 {
        self.tail_bytes
    }

    /// Tenants with a tail.
    pub fn tenants(&self) -> Vec<TenantKey> {
        self.tails.keys().copied().collect()
    }

    pub fn has_tail(&self, tenant: TenantKey) -> bool {
        self.tails.contains_key(&tenant)
    }

    /// The number of tenants with a tail.
    pub fn tails(&self) -> usize {
        self.tails.len()
    }

    /// The segments with events of the tenant: number, slot, last position.
    pub fn of_tenant(&self, tenant: TenantKey) -> Vec<(u64, SharedSlot, u64)> {
        let has = |segment: &&LogSegment| segment.shares.contains_key(&tenant);
        self.used.iter().filter(has).map(|s| (s.number, SharedSlot::clone(&s.slot), s.last_position)).collect()
    }

    /// Tenants that should fold now, each once until it has, and not too many at once: those with the largest tails if all tails together have more
    /// than `most_bytes`, those that keep the oldest segment if more than `most_segments` are in use, and those with
    /// events of before a start.
    pub fn due_to_fold(&mut self, most_bytes: u64, most_segments: usize) -> Vec<TenantKey> {
        let mut chosen = Vec::new();
        let room = MOST_ASKED.saturating_sub(self.asked.len());
        let asked_bytes: u64 = self.asked.iter().filter_map(|tenant| self.tails.get(tenant)).sum();
        let mut left = self.tail_bytes.saturating_sub(asked_bytes);
        if left > most_bytes {
            let mut by_size: Vec<_> = self.tails.iter().filter(|(tenant, _)| !self.asked.contains(*tenant)).collect();
            by_size.sort_unstable_by_key(|(tenant, bytes)| (std::cmp::Reverse(**bytes), **tenant));
            // Well below the limit, so that the next batch does not need to ask again.
            for (tenant, bytes) in by_size {
                if left <= most_bytes / 4 * 3 || chosen.len() == room {
                    break;
                }
                left -= bytes;
                chosen.push(*tenant);
            }
        }
        self.asked.extend(&chosen);
        self.ask_oldest(self.used.len().saturating_sub(most_segments), MOST_ASKED, &mut chosen);
        let inherited = self.used.iter().take_while(|segment| segment.number <= self.inherited).count();
        self.ask_oldest(inherited, MOST_INHERITED, &mut chosen);
        chosen
    }

    /// Asks tenants with events in that many of the oldest segments, as long as no more than `most` are asked.
    fn ask_oldest(&mut self, segments: usize, most: usize, chosen: &mut Vec<TenantKey>) {
        let room = most.saturating_sub(self.asked.len());
        if segments == 0 || room == 0 {
            return;
        }
        let mut oldest = self.tenants_of_oldest(segments);
        oldest.retain(|tenant| !self.asked.contains(tenant));
        oldest.truncate(room);
        self.asked.extend(&oldest);
        chosen.extend(oldest);
    }

    /// Whether tenants were asked to fold and have not yet.
    pub fn is_folding(&self) -> bool {
        !self.asked.is_empty()
    }

    /// A tenant could not fold: ask it again.
    pub fn ask_again(&mut self, tenant: TenantKey) {
        self.asked.remove(&tenant);
    }
}

//! What is measured about one tenant. It lives outside the actor, so a rebuilt actor continues with it.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::ThreadMeasures;
use super::decision_stats::DecisionStats;
use crate::domain::audit::entry::AuditResult;
use crate::domain::{Code, Timestamp};

/// What is measured about one tenant. An idle tenant costs two cache lines: one in which callers count references, and
/// one that only the actor's thread writes to.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct TenantMeasures {
    /// Made with the first decision, so that idle tenants stay small.
    traffic: OnceLock<Box<DecisionStats>>,
    version: AtomicU64,
    /// Whether the tenant has left memory: then its decisions are counted elsewhere.
    has_left: AtomicBool,
    /// When it was last called, on a clock that counts tenants read into memory.
    last_use: AtomicU64,
    /// The time of the oldest event that no snapshot holds, in Unix milliseconds; 0 if there is none.
    unsaved_since: AtomicI64,
    /// Each call waiting in the mailbox holds a clone, so the reference count is the queue's length.
    waiting: Arc<()>,
}

/// Held by a call while it waits in a mailbox or is on its way there.
#[derive(Debug, Default)]
pub struct Waiting(#[expect(dead_code, reason = "it is there to be counted")] Arc<()>);

impl TenantMeasures {
    /// Those of a tenant's actor with that number, which no other actor has.
    pub fn of(generation: u64) -> Self {
        // What is known of an earlier actor does not hold.
        Self { version: AtomicU64::new(generation << 32), ..Self::default() }
    }

    /// Notes that the tenant has left memory.
    pub(super) fn left(&self) {
        self.has_left.store(true, Ordering::Release);
    }

    /// Whether the tenant has left memory.
    pub(super) fn has_left(&self) -> bool {
        self.has_left.load(Ordering::Acquire)
    }

    /// Decisions since the tenant came into memory: allowed, denied, rate limited.
    pub fn results(&self) -> [u64; 3] {
        self.traffic().map(DecisionStats::results).unwrap_or_default()
    }

    /// Notes that it is called, at that time of a clock that counts tenants read into memory.
    pub fn used(&self, now: u64) {
        // Most calls find it noted, so they write to no cache line that others read.
        if self.last_use.load(Ordering::Relaxed) != now {
            self.last_use.store(now, Ordering::Relaxed);
        }
    }

    /// When it was last called; 0 if it never was.
    pub fn last_use(&self) -> u64 {
        self.last_use.load(Ordering::Relaxed)
    }

    /// The tenant's decisions; `None` before the first.
    pub fn traffic(&self) -> Option<&DecisionStats> {
        self.traffic.get().map(|traffic| &**traffic)
    }

    /// Counts one more waiting call, until the returned value is dropped.
    pub fn waits(&self) -> Waiting {
        Waiting(Arc::clone(&self.waiting))
    }

    /// How many calls are waiting.
    pub fn waiting(&self) -> usize {
        Arc::strong_count(&self.waiting) - 1
    }

    /// The time of the oldest event that no snapshot holds.
    pub fn unsaved_since(&self) -> Option<Timestamp> {
        Some(self.unsaved_since.load(Ordering::Relaxed)).filter(|millis| *millis != 0).map(Timestamp::from_millis)
    }

    /// Changes whenever the tenant's [census](crate::domain::tenant::census) may have changed.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }
}

/// How a tenant's actor records its measures.
#[derive(Debug)]
pub struct TenantMeter {
    tenant: Arc<TenantMeasures>,
    thread: Arc<ThreadMeasures>,
}

impl TenantMeter {
    /// For the actor of this tenant on this thread. A tenant has at most one at a time.
    pub fn new(tenant: Arc<TenantMeasures>, thread: Arc<ThreadMeasures>) -> Self {
        let meter = Self { tenant, thread };
        // The previous actor may have died with changes that were never written, so its census is void.
        meter.changed();
        meter
    }

    /// Records a decision.
    pub fn decided(&self, at: Timestamp, micros: u32, result: AuditResult, code: Option<Code>) {
        self.thread.traffic.note(at, micros, result, code);
        self.thread.decisions.add(micros);
        self.tenant.traffic.get_or_init(Box::default).note(at, micros, result, code);
    }

    /// Records the approximate time of the oldest event that no snapshot holds; `None` if there is none.
    pub fn unsaved(&self, since: Option<Timestamp>) {
        self.tenant.unsaved_since.store(since.map_or(0, Timestamp::millis), Ordering::Relaxed);
    }

    /// Whether there are events that no snapshot holds, as last recorded.
    pub fn has_unsaved(&self) -> bool {
        self.tenant.unsaved_since().is_some()
    }

    /// Records that the tenant was called. See [`TenantMeasures::used`].
    pub fn used(&self, now: u64) {
        self.tenant.used(now);
    }

    /// Records that the tenant's census may have changed.
    pub fn changed(&self) {
        let version = &self.tenant.version;
        version.store(version.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_actor_voids_its_predecessors_census() {
        let tenant = Arc::<TenantMeasures>::default();
        let _first = TenantMeter::new(Arc::clone(&tenant), Arc::default());
        let version = tenant.version();
        let _second = TenantMeter::new(Arc::clone(&tenant), Arc::default());
        assert_ne!(tenant.version(), version);
    }

    #[test]
    fn counters_of_two_threads_share_no_cache_line() {
        assert_eq!((align_of::<TenantMeasures>(), align_of::<DecisionStats>()), (64, 64));
    }
}

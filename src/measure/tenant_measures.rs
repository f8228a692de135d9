//! What is measured of one tenant, beside its actor: a rebuilt actor goes on with it.

use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::ThreadMeasures;
use super::decision_stats::DecisionStats;
use crate::domain::audit::AuditResult;
use crate::domain::{Code, Timestamp};

/// Of one tenant. A tenant that nobody asks for costs two cache lines: one that every caller counts its reference in,
/// and one that the actor's thread alone writes to.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct TenantMeasures {
    /// Since its first decision.
    traffic: OnceLock<Box<DecisionStats>>,
    version: AtomicU64,
    /// Since when there are events that no snapshot holds, in Unix milliseconds; 0 where there are none.
    unsaved_since: AtomicI64,
    /// Each call that waits in its mailbox holds one of these.
    waiting: Arc<()>,
}

/// Held by a call as long as it waits in a mailbox, or on its way there.
#[derive(Debug, Default)]
pub struct Waiting(#[expect(dead_code, reason = "it is there to be counted")] Arc<()>);

impl TenantMeasures {
    /// Its decisions, where there were any.
    pub fn traffic(&self) -> Option<&DecisionStats> {
        self.traffic.get().map(|traffic| &**traffic)
    }

    /// For one more call that waits.
    pub fn waits(&self) -> Waiting {
        Waiting(Arc::clone(&self.waiting))
    }

    /// How many calls wait.
    pub fn waiting(&self) -> usize {
        Arc::strong_count(&self.waiting) - 1
    }

    /// Since when there are events that no snapshot holds.
    pub fn unsaved_since(&self) -> Option<Timestamp> {
        Some(self.unsaved_since.load(Ordering::Relaxed)).filter(|millis| *millis != 0).map(Timestamp::from_millis)
    }

    /// A number that is another one whenever what a [census](crate::domain::tenant::census) says may have changed.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }
}

/// What an actor notes its decisions in.
#[derive(Debug)]
pub struct TenantMeter {
    tenant: Arc<TenantMeasures>,
    thread: Arc<ThreadMeasures>,
    /// Bytes of its journal that were counted.
    written: Cell<u64>,
}

impl TenantMeter {
    /// For the actor of that tenant, on that thread. There is one for each tenant at a time.
    pub fn new(tenant: Arc<TenantMeasures>, thread: Arc<ThreadMeasures>) -> Self {
        let meter = Self { tenant, thread, written: Cell::new(0) };
        // It may have lost what its predecessor had not written.
        meter.changed();
        meter
    }

    /// A call was decided.
    pub fn decided(&self, at: Timestamp, micros: u32, result: AuditResult, code: Option<Code>) {
        self.thread.traffic.note(at, micros, result, code);
        self.thread.decisions.add(micros);
        self.tenant.traffic.get_or_init(Box::default).note(at, micros, result, code);
    }

    /// Events were handed to the kernel, which took so long. `written` counts all bytes of the actor's journal so far.
    pub fn flushed(&self, took: Duration, written: u64) {
        self.thread.flushes.add_time(took);
        self.thread.written.add(written.saturating_sub(self.written.replace(written)));
    }

    /// There are events that no snapshot holds, the first of them from about then; or there are none.
    pub fn unsaved(&self, since: Option<Timestamp>) {
        self.tenant.unsaved_since.store(since.map_or(0, Timestamp::millis), Ordering::Relaxed);
    }

    /// Whether there are such events, as far as was said.
    pub fn has_unsaved(&self) -> bool {
        self.tenant.unsaved_since().is_some()
    }

    /// What a census says may have changed.
    pub fn changed(&self) {
        let version = &self.tenant.version;
        version.store(version.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_actor_makes_what_the_one_before_said_an_old_answer() {
        let tenant = Arc::<TenantMeasures>::default();
        let _first = TenantMeter::new(Arc::clone(&tenant), Arc::default());
        let version = tenant.version();
        let _second = TenantMeter::new(Arc::clone(&tenant), Arc::default());
        assert_ne!(tenant.version(), version);
    }

    #[test]
    fn what_one_thread_notes_shares_no_cache_line_with_what_others_write() {
        assert_eq!((align_of::<TenantMeasures>(), align_of::<DecisionStats>()), (64, 64));
    }
}

//! What is measured of one tenant, beside its actor: a rebuilt actor goes on with it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::traffic::Traffic;
use crate::domain::audit::AuditResult;
use crate::domain::{Code, Timestamp};

/// Of one tenant. A tenant that nobody asks for costs two cache lines: one that every caller counts its reference in,
/// and one that the actor's thread alone writes to.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct TenantMeasures {
    /// Since its first decision.
    traffic: OnceLock<Box<Traffic>>,
    version: AtomicU64,
}

impl TenantMeasures {
    /// Its decisions, where there were any.
    pub fn traffic(&self) -> Option<&Traffic> {
        self.traffic.get().map(|traffic| &**traffic)
    }

    /// A number that is another one whenever what a [census](crate::domain::census) says may have changed.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }
}

/// What an actor notes its decisions in.
#[derive(Debug)]
pub struct Meter {
    tenant: Arc<TenantMeasures>,
    thread: Arc<Traffic>,
}

impl Meter {
    /// For the actor of that tenant, on that thread. There is one for each tenant at a time.
    pub fn new(tenant: Arc<TenantMeasures>, thread: Arc<Traffic>) -> Self {
        let meter = Self { tenant, thread };
        // It may have lost what its predecessor had not written.
        meter.changed();
        meter
    }

    /// A call was decided.
    pub fn decided(&self, at: Timestamp, micros: u32, result: AuditResult, code: Option<Code>) {
        self.thread.note(at, micros, result, code);
        self.tenant.traffic.get_or_init(Box::default).note(at, micros, result, code);
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
        let _first = Meter::new(Arc::clone(&tenant), Arc::default());
        let version = tenant.version();
        let _second = Meter::new(Arc::clone(&tenant), Arc::default());
        assert_ne!(tenant.version(), version);
    }

    #[test]
    fn what_one_thread_notes_shares_no_cache_line_with_what_others_write() {
        assert_eq!((align_of::<TenantMeasures>(), align_of::<Traffic>()), (64, 64));
    }
}

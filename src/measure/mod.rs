//! What the server measures of itself. None of it is state: it lives in memory, begins anew with the process, and
//! nothing is decided by it.
//!
//! A decision is noted twice: in its tenant's [`Traffic`] and in that of the thread which made it. Each of them has one
//! writer, so noting takes plain loads and stores, no lock and no clock, and two threads never write to the same cache
//! line. What the process did is the sum of its threads', so it does not shrink when a tenant is erased.
//!
//! | to find | look in |
//! | --- | --- |
//! | what is noted of a decision | [`traffic`] |
//! | counts of the last minute and the last hour | [`ring`] |
//! | how long decisions took | [`latency`] |
//! | what is known of each tenant, for whom asks about thousands | [`tenant`], [`census`] |

pub mod census;
pub mod latency;
pub mod ring;
pub mod tenant;
pub mod traffic;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub use census::CensusDesk;
pub use tenant::{Meter, TenantMeasures};
pub use traffic::Traffic;

use crate::domain::Timestamp;

/// A count that one thread adds to and any thread reads.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds to it. Only one thread may.
    pub fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    /// What it is now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a process measures of itself.
#[derive(Debug)]
pub struct Measures {
    /// When it began.
    pub started_at: Timestamp,
    /// What is known of each tenant.
    pub census: CensusDesk,
    /// Of each thread that decides.
    threads: Mutex<Vec<Arc<Traffic>>>,
}

impl Measures {
    /// The measures of a process that begins now.
    pub fn new(started_at: Timestamp) -> Self {
        Self { started_at, census: CensusDesk::default(), threads: Mutex::default() }
    }

    /// What one more thread that decides notes its decisions in.
    pub fn add_thread(&self) -> Arc<Traffic> {
        let traffic = Arc::<Traffic>::default();
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&traffic));
        traffic
    }

    /// What each thread noted.
    pub fn threads(&self) -> Vec<Arc<Traffic>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

//! What the server measures of itself. None of it is state: it lives in memory, begins anew with the process, and
//! nothing is decided by it.
//!
//! A decision is noted twice: in its tenant's [`Traffic`] and in that of the thread which made it. Each of them has one
//! writer, so noting takes no lock and no clock, and two threads never write to the same cache line.
//! What the process did is the sum of its threads', so it does not shrink when a tenant is erased.
//!
//! | to find | look in |
//! | --- | --- |
//! | what is noted of a decision | [`traffic`] |
//! | counts of the last minute and the last hour | [`ring`] |
//! | how long decisions of the last minutes took | [`latency`] |
//! | how long something took since the start | [`times`] |
//! | what the kernel says of the process | [`process`] |
//! | all of it, read at once | [`figures`] |
//! | which tenants are told apart in metrics | [`labels`] |
//! | what is known of each tenant, for whom asks about thousands | [`tenant`], [`census`] |

pub mod census;
pub mod figures;
pub mod labels;
pub mod latency;
pub mod process;
pub mod ring;
pub mod tenant;
pub mod times;
pub mod traffic;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub use census::CensusDesk;
pub use figures::FiguresDesk;
pub use labels::Labels;
pub use tenant::{Meter, TenantMeasures};
pub use times::Times;
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

/// What a thread notes that tenants' actors live on.
#[derive(Debug, Default)]
pub struct ThreadMeasures {
    /// Its decisions.
    pub traffic: Traffic,
    /// How long they took, since the process began.
    pub decisions: Times,
    /// How long it took to hand the kernel what was decided.
    pub flushes: Times,
    /// Bytes of that.
    pub written: Count,
    /// Answers by the hundreds of their HTTP status, from 1 on.
    pub answers: [Count; 5],
}

/// What a process measures of itself.
#[derive(Debug)]
pub struct Measures {
    /// When it began.
    pub started_at: Timestamp,
    /// What is known of each tenant.
    pub census: CensusDesk,
    /// What was read last.
    pub figures: FiguresDesk,
    /// Which tenants have a label of their own.
    pub labels: Labels,
    /// How long the disk took to take what the kernel had.
    pub syncs: Arc<Times>,
    /// How long snapshots took that were written.
    pub snapshots: Times,
    /// When the newest of them was there, in Unix milliseconds; 0 before the first.
    pub last_snapshot: AtomicI64,
    /// Snapshots that could not be written.
    pub failed_snapshots: AtomicU64,
    /// How long it took to read all tenants at the start, in microseconds; 0 until then.
    pub recovery_micros: AtomicU64,
    /// Events that were replayed since, with or after that.
    pub replayed: AtomicU64,
    /// Actors that ended without being told to.
    pub lost_actors: AtomicU64,
    /// Calls that a full mailbox did not take.
    pub overloaded: AtomicU64,
    /// Calls without a good key.
    pub unauthenticated: AtomicU64,
    threads: Mutex<Vec<Arc<ThreadMeasures>>>,
}

impl Measures {
    /// The measures of a process that begins now, with a label for so many tenants.
    pub fn new(started_at: Timestamp, labels: Option<u32>) -> Self {
        Self {
            started_at,
            census: CensusDesk::default(),
            figures: FiguresDesk::default(),
            labels: Labels::new(labels),
            syncs: Arc::default(),
            snapshots: Times::default(),
            last_snapshot: AtomicI64::new(0),
            failed_snapshots: AtomicU64::new(0),
            recovery_micros: AtomicU64::new(0),
            replayed: AtomicU64::new(0),
            lost_actors: AtomicU64::new(0),
            overloaded: AtomicU64::new(0),
            unauthenticated: AtomicU64::new(0),
            threads: Mutex::default(),
        }
    }

    /// What one more thread notes.
    pub fn add_thread(&self) -> Arc<ThreadMeasures> {
        let thread = Arc::<ThreadMeasures>::default();
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&thread));
        thread
    }

    /// What each thread noted.
    pub fn threads(&self) -> Vec<Arc<ThreadMeasures>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Counts one more.
pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

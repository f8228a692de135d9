//! What the server measures about itself. None of it is state: it lives in memory, starts from zero with the process,
//! and never influences a decision.
//!
//! Each decision is counted twice: in its tenant's [`DecisionStats`] and in those of the thread that made it. Each has
//! one writer, so counting takes no lock and reads no clock, and no two threads write to the same cache line. The
//! process's total is the sum over its threads, so it does not shrink when a tenant is erased.
//!
//! | to find | look in |
//! | --- | --- |
//! | decisions by result and by code | [`decision_stats`] |
//! | counts for the last minute and the last hour | [`recent_counts`] |
//! | how long recent decisions took | [`recent_latency`] |
//! | durations since the process started, as Prometheus buckets | [`histogram`] |
//! | CPU, memory and files, from the kernel | [`process`] |
//! | every value, read at one moment | [`metric_values`] |
//! | which tenants get a label of their own in metrics | [`tenant_labels`] |
//! | one tenant's measures; what each tenant last said about itself | [`tenant_measures`], [`census_cache`] |

pub mod census_cache;
pub mod decision_stats;
pub mod histogram;
pub mod metric_values;
pub mod process;
pub mod recent_counts;
pub mod recent_latency;
pub mod tenant_labels;
pub mod tenant_measures;

use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use census_cache::CensusCache;
pub use decision_stats::DecisionStats;
pub use histogram::Histogram;
pub use metric_values::MetricsCache;
pub use tenant_labels::TenantLabels;
pub use tenant_measures::{TenantMeasures, TenantMeter};

use crate::domain::Timestamp;

/// A counter with one writing thread. Any thread may read it.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds `more`. Only the writing thread may call this.
    pub fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    /// The current value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one worker thread measures. Tenants' actors live on these threads.
#[derive(Debug, Default)]
pub struct ThreadMeasures {
    /// Its decisions, by result and code.
    pub traffic: DecisionStats,
    /// How long decisions took, since the process started.
    pub decisions: Histogram,
    /// How long writes to the log took.
    pub flushes: Histogram,
    /// Bytes of events written to the log.
    pub written: Count,
    /// Events written to the log.
    pub events: Count,
    /// HTTP answers by status class: 1xx first.
    pub answers: [Count; 5],
}

impl ThreadMeasures {
    /// Records a write of events to the log that took `took`. Only the thread itself may call this.
    pub fn flushed(&self, took: Duration, events: u64, bytes: u64) {
        self.flushes.add_time(took);
        self.events.add(events);
        self.written.add(bytes);
    }
}

/// What the process measures about itself.
#[derive(Debug)]
pub struct Measures {
    /// When the process started.
    pub started_at: Timestamp,
    /// What each tenant last said about itself.
    pub census: CensusCache,
    /// The values that were read last.
    pub figures: MetricsCache,
    /// Which tenants have their own label.
    pub labels: TenantLabels,
    /// How long fsync calls took.
    pub syncs: Arc<Histogram>,
    /// How long it took to write each snapshot.
    pub snapshots: Histogram,
    /// When the newest snapshot was finished, in Unix milliseconds; 0 before the first.
    pub last_snapshot: AtomicI64,
    /// Snapshots that failed.
    pub failed_snapshots: AtomicU64,
    /// How long it took to find out which tenants there are, at the start, in microseconds; 0 until it is done.
    pub recovery_micros: AtomicU64,
    /// Tenants in memory, or on their way into it.
    pub resident: AtomicUsize,
    /// How long it took to read each tenant into memory.
    pub loads: Histogram,
    /// Events replayed by tenants that were read into memory.
    pub replayed: AtomicU64,
    /// Actors that died unexpectedly.
    pub lost_actors: AtomicU64,
    /// Calls refused because a mailbox was full.
    pub overloaded: AtomicU64,
    /// Calls without a valid key.
    pub unauthenticated: AtomicU64,
    /// Messages that endpoints of webhooks took.
    pub webhooks_delivered: AtomicU64,
    /// Attempts to send a message that failed.
    pub webhooks_failed: AtomicU64,
    /// Messages that were given up.
    pub webhooks_dead: AtomicU64,
    /// Messages that wait for their endpoint, of those that the server is sending to.
    pub webhooks_waiting: AtomicUsize,
    threads: Mutex<Vec<Arc<ThreadMeasures>>>,
}

impl Measures {
    /// For a process that started at `started_at`, with labels for up to `labels` tenants.
    pub fn new(started_at: Timestamp, labels: Option<u32>) -> Self {
        Self {
            started_at,
            census: CensusCache::default(),
            figures: MetricsCache::default(),
            labels: TenantLabels::new(labels),
            syncs: Arc::default(),
            snapshots: Histogram::default(),
            last_snapshot: AtomicI64::new(0),
            failed_snapshots: AtomicU64::new(0),
            recovery_micros: AtomicU64::new(0),
            resident: AtomicUsize::new(0),
            loads: Histogram::default(),
            replayed: AtomicU64::new(0),
            lost_actors: AtomicU64::new(0),
            overloaded: AtomicU64::new(0),
            unauthenticated: AtomicU64::new(0),
            webhooks_delivered: AtomicU64::new(0),
            webhooks_failed: AtomicU64::new(0),
            webhooks_dead: AtomicU64::new(0),
            webhooks_waiting: AtomicUsize::new(0),
            threads: Mutex::default(),
        }
    }

    /// Adds a thread and returns its measures.
    pub fn add_thread(&self) -> Arc<ThreadMeasures> {
        let thread = Arc::<ThreadMeasures>::default();
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&thread));
        thread
    }

    /// The measures of every thread.
    pub fn threads(&self) -> Vec<Arc<ThreadMeasures>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Adds one.
pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

//! Every measured value, read at one moment.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, MutexGuard};

use super::histogram::HistogramCounts;
use super::process::Process;
use crate::domain::agent::AgentCounts;
use crate::domain::{Code, TenantId, Timestamp};
use crate::journal::LogFigures;

/// How long to reuse the values that were read last: anyone can ask for them, without a key.
const REUSED_FOR: Duration = Duration::from_secs(1);

/// How many tenants there are, the default one included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct TenantCounts {
    /// Active tenants.
    pub active: usize,
    /// Suspended tenants.
    pub suspended: usize,
    /// Tenants that can't answer.
    pub unavailable: usize,
}

/// Tenants in memory. The others are read when somebody calls them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct TenantMemory {
    /// Tenants in memory, or on their way into it.
    pub resident: usize,
    /// All tenants.
    pub known: usize,
    /// How many may be in memory: beyond that, those that were called longest ago leave.
    pub limit: usize,
}

/// Decisions of one tenant with its own label, or of all the others.
#[derive(Clone, Debug, Default)]
pub struct TenantDecisions {
    /// The tenant; `None` for all the others.
    pub tenant: Option<TenantId>,
    /// How many were allowed, denied, and rate limited.
    pub results: [u64; 3],
}

/// Every measured value.
#[derive(Clone, Debug, Default)]
pub struct MetricValues {
    /// When the process started.
    pub started_at: Timestamp,
    /// When the values were read.
    pub at: Timestamp,
    /// Whether the server is ready for calls.
    pub ready: bool,
    /// Tenants whose storage failed and has not worked since.
    pub storage_failures: usize,
    /// How often the system's clock jumped ahead and was followed, and how often it was set back.
    pub clock_jumps: [u64; 2],
    /// Seconds by which the clock is ahead of the time the server uses.
    pub clock_held_back: f64,
    /// Seconds by which the clock is behind the newest event.
    pub clock_behind_events: f64,
    /// Tenants by status.
    pub tenants: TenantCounts,
    /// Tenants in memory.
    pub memory: TenantMemory,
    /// How long it took to read each tenant into memory.
    pub loads: HistogramCounts,
    /// Agents by status.
    pub agents: AgentCounts,
    /// Decisions: allowed, denied, rate limited.
    pub results: [u64; 3],
    /// Denials by code. Codes without denials are left out.
    pub denials: Vec<(Code, u64)>,
    /// How long decisions took.
    pub decisions: HistogramCounts,
    /// Decisions by tenant; `None` if no tenant gets a label.
    pub by_tenant: Option<Vec<TenantDecisions>>,
    /// Calls waiting in mailboxes.
    pub waiting: usize,
    /// Calls waiting in the fullest mailbox.
    pub most_waiting: usize,
    /// Calls refused because a mailbox was full.
    pub overloaded: u64,
    /// Bytes of events written to the log.
    pub log_written: u64,
    /// Events written to the log.
    pub log_events: u64,
    /// The log's files and tails.
    pub log: LogFigures,
    /// How long writes to the log took.
    pub flushes: HistogramCounts,
    /// How long fsync calls took.
    pub syncs: HistogramCounts,
    /// How long snapshots took.
    pub snapshots: HistogramCounts,
    /// Snapshots that failed.
    pub failed_snapshots: u64,
    /// When the newest snapshot was finished.
    pub last_snapshot: Option<Timestamp>,
    /// Age of the oldest event that no snapshot holds yet, over all tenants, in seconds.
    pub unsaved_seconds: f64,
    /// How long it took to find out which tenants there are, at the start, in seconds.
    pub recovery_seconds: f64,
    /// Events replayed from journals.
    pub replayed: u64,
    /// Actors that died unexpectedly.
    pub lost_actors: u64,
    /// Messages to webhooks that were delivered.
    pub webhooks_delivered: u64,
    /// Attempts to send one that failed.
    pub webhooks_failed: u64,
    /// Messages to webhooks that were given up.
    pub webhooks_dead: u64,
    /// Messages to webhooks that wait.
    pub webhooks_waiting: usize,
    /// HTTP answers by status class: 1xx first.
    pub answers: [u64; 5],
    /// Calls without a valid key.
    pub unauthenticated: u64,
    /// CPU, memory and files, from the kernel.
    pub process: Process,
}

/// The values that were read last, behind a lock.
#[derive(Debug, Default)]
pub struct MetricsCache(Mutex<LastValues>);

/// The values that were read last, and when.
#[derive(Debug, Default)]
pub struct LastValues(Option<(Instant, Arc<MetricValues>)>);

impl MetricsCache {
    /// Waits for the lock. The second caller finds what the first one read.
    pub async fn lock(&self) -> MutexGuard<'_, LastValues> {
        self.0.lock().await
    }
}

impl LastValues {
    /// The values, if they are recent enough to reuse.
    pub fn current(&self) -> Option<Arc<MetricValues>> {
        self.0.as_ref().filter(|(read, _)| read.elapsed() < REUSED_FOR).map(|(_, figures)| Arc::clone(figures))
    }

    /// Stores new values.
    pub fn keep(&mut self, figures: MetricValues) -> Arc<MetricValues> {
        let figures = Arc::new(figures);
        self.0 = Some((Instant::now(), Arc::clone(&figures)));
        figures
    }
}

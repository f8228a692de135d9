//! All that is measured, read at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, MutexGuard};

use super::process::Process;
use super::times::TimesRead;
use crate::domain::agent::AgentCounts;
use crate::domain::{Code, TenantId, Timestamp};

/// How long figures are good for: whoever asks more often than that gets the same again, since nobody needs a key to
/// ask.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// How many tenants there are, the default one included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct TenantCounts {
    /// Those whose agents may work.
    pub active: usize,
    /// Those whose agents are stopped.
    pub suspended: usize,
    /// Those that can't answer.
    pub unavailable: usize,
}

/// Decisions of a tenant with a label of its own, or of all others: allowed, denied and rate limited ones.
#[derive(Clone, Debug, Default)]
pub struct TenantDecisions {
    /// Which; `None` is the others.
    pub tenant: Option<TenantId>,
    /// How many.
    pub results: [u64; 3],
}

/// All that is measured.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// When the process began.
    pub started_at: Timestamp,
    /// When they were read.
    pub at: Timestamp,
    /// Whether calls are served.
    pub ready: bool,
    /// Tenants whose storage failed and was not seen to work since.
    pub storage_failures: usize,
    /// How often the system's clock jumped ahead and was believed, and how often it was set back.
    pub clock_jumps: [u64; 2],
    /// Seconds by which it is ahead and held back.
    pub clock_held_back: f64,
    /// Seconds by which it is behind the newest event.
    pub clock_behind_events: f64,
    /// Tenants by status.
    pub tenants: TenantCounts,
    /// Agents by status.
    pub agents: AgentCounts,
    /// Decisions by result: allowed, denied and rate limited ones.
    pub results: [u64; 3],
    /// Denials by code, but for codes that none had.
    pub denials: Vec<(Code, u64)>,
    /// How long decisions took.
    pub decisions: TimesRead,
    /// Decisions by tenant, where tenants are told apart.
    pub by_tenant: Option<Vec<TenantDecisions>>,
    /// Calls that wait in mailboxes.
    pub waiting: usize,
    /// Those in the fullest one.
    pub most_waiting: usize,
    /// Calls that a full mailbox did not take.
    pub overloaded: u64,
    /// Bytes written to journals.
    pub journal_bytes: u64,
    /// How long writes took.
    pub flushes: TimesRead,
    /// How long the disk took.
    pub syncs: TimesRead,
    /// How long snapshots took.
    pub snapshots: TimesRead,
    /// Those that could not be written.
    pub failed_snapshots: u64,
    /// When the newest was there.
    pub last_snapshot: Option<Timestamp>,
    /// The longest time that events of a tenant have waited for a snapshot that holds them, in seconds.
    pub unsaved_seconds: f64,
    /// How long it took to read all tenants at the start, in seconds.
    pub recovery_seconds: f64,
    /// Events that were replayed.
    pub replayed: u64,
    /// Actors that ended without being told to.
    pub lost_actors: u64,
    /// Answers by the hundreds of their status, from 1 on.
    pub answers: [u64; 5],
    /// Calls without a good key.
    pub unauthenticated: u64,
    /// What the kernel says.
    pub process: Process,
}

/// The figures that were read last.
#[derive(Debug, Default)]
pub struct FiguresDesk(Mutex<Last>);

/// With when they were.
#[derive(Debug, Default)]
pub struct Last(Option<(Instant, Arc<Figures>)>);

impl FiguresDesk {
    /// Waits for its turn. Whoever comes second finds what the first one read.
    pub async fn lock(&self) -> MutexGuard<'_, Last> {
        self.0.lock().await
    }
}

impl Last {
    /// The figures, where they are good still.
    pub fn current(&self) -> Option<Arc<Figures>> {
        self.0.as_ref().filter(|(read, _)| read.elapsed() < GOOD_FOR).map(|(_, figures)| Arc::clone(figures))
    }

    /// Keeps them.
    pub fn keep(&mut self, figures: Figures) -> Arc<Figures> {
        let figures = Arc::new(figures);
        self.0 = Some((Instant::now(), Arc::clone(&figures)));
        figures
    }
}

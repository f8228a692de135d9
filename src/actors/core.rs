//! What all actors of a process share.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use actix::Addr;
use actix_rt::{Arbiter, ArbiterHandle};
use tokio::sync::{Notify, Semaphore};

use super::clock::Clock;
use super::desk::AuditDesk;
use super::lanes::{LaneId, Lanes};
use super::registry::Registry;
use super::routes::Routes;
use super::turns::Turns;
use crate::domain::SecretHash;
use crate::domain::limits::{MAX_SEARCHES, MAX_SEARCHES_PER_TENANT};
use crate::journal::{Compressor, DataDir, Syncer};
use crate::measure::{Measures, ThreadMeasures};
use crate::store::Durability;

/// What the process is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Reading its tenants.
    Recovering,
    /// Serving.
    Ready,
    /// Shutting down.
    Draining,
}

/// A thread that tenants' actors live on.
#[derive(Clone)]
pub(super) struct Home {
    pub arbiter: ArbiterHandle,
    /// What leads there from other workers, where it is one.
    pub lane: Option<LaneId>,
    /// What it notes.
    pub notes: Arc<ThreadMeasures>,
}

/// Snapshots written at once: each may take a core and the disk.
const SNAPSHOT_WRITERS: usize = 2;

/// What all actors of a process share.
pub struct Core {
    /// What time it is.
    pub clock: Clock,
    /// How a message finds its tenant.
    pub routes: Routes,
    /// The data directory, locked.
    pub data: DataDir,
    /// The thread that calls fsync.
    pub syncer: Syncer,
    /// The threads that compress.
    pub compressor: Compressor,
    /// When a decision's answer may leave.
    pub durability: Durability,
    /// The operator key's hash.
    pub operator: SecretHash,
    /// Who may write a snapshot now.
    pub snapshot_writers: Semaphore,
    /// Who reads audit trails.
    pub audit: AuditDesk,
    /// Who searches.
    pub searches: Arc<Turns>,
    /// Tenants whose storage failed and was not seen to work since.
    pub storage_failures: AtomicUsize,
    /// When the data directory was tried last, and what kept a file from being written there.
    pub tried: tokio::sync::Mutex<Option<(Instant, Option<String>)>>,
    /// What the process measures of itself.
    pub measures: Measures,
    phase: AtomicU8,
    /// How calls cross between workers.
    pub lanes: Arc<Lanes>,
    homes: Mutex<Vec<Home>>,
    next_home: AtomicUsize,
    home_added: Notify,
    registry: OnceLock<Addr<Registry>>,
}

impl Core {
    /// The shared part of a process that has not loaded its tenants yet.
    pub fn new(
        data: DataDir,
        syncer: Syncer,
        compressor: Compressor,
        durability: Durability,
        operator: SecretHash,
        workers: usize,
        measures: Measures,
    ) -> Self {
        Self {
            clock: Clock::default(),
            routes: Routes::default(),
            data,
            syncer,
            compressor,
            durability,
            operator,
            snapshot_writers: Semaphore::new(SNAPSHOT_WRITERS),
            audit: AuditDesk::default(),
            searches: Turns::new(MAX_SEARCHES, MAX_SEARCHES_PER_TENANT),
            storage_failures: AtomicUsize::new(0),
            tried: tokio::sync::Mutex::default(),
            measures,
            phase: AtomicU8::new(Phase::Recovering as u8),
            lanes: Lanes::new(workers),
            homes: Mutex::default(),
            next_home: AtomicUsize::new(0),
            home_added: Notify::new(),
            registry: OnceLock::new(),
        }
    }

    /// What the process is doing.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            phase if phase == Phase::Recovering as u8 => Phase::Recovering,
            phase if phase == Phase::Ready as u8 => Phase::Ready,
            _ => Phase::Draining,
        }
    }

    /// Says what the process is doing now.
    pub fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// Offers the calling thread, which is one of a server's workers, as a home for tenants' actors.
    pub fn add_worker(&self) -> Option<LaneId> {
        let lane = self.lanes.join();
        self.add_home(Arbiter::current(), lane);
        lane
    }

    /// Offers an arbiter that serves no calls of its own as a home for tenants' actors.
    pub fn add_arbiter(&self, arbiter: ArbiterHandle) {
        self.add_home(arbiter, None);
    }

    fn add_home(&self, arbiter: ArbiterHandle, lane: Option<LaneId>) {
        let notes = self.measures.add_thread();
        self.lock_homes().push(Home { arbiter, lane, notes });
        self.home_added.notify_one();
    }

    fn lock_homes(&self) -> MutexGuard<'_, Vec<Home>> {
        self.homes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until so many homes were offered.
    pub async fn wait_for_homes(&self, count: usize) {
        while self.lock_homes().len() < count {
            self.home_added.notified().await;
        }
    }

    /// The home of the next tenant: each in turn, the caller's own arbiter where none was offered.
    pub(super) fn place(&self) -> Home {
        let mut homes = self.lock_homes();
        // A worker that ended takes its arbiter with it: one that can't run a function is gone.
        homes.retain(|home| home.arbiter.spawn_fn(|| {}));
        let turn = self.next_home.fetch_add(1, Ordering::Relaxed);
        let chosen = turn.checked_rem(homes.len()).and_then(|at| homes.get(at)).cloned();
        chosen.unwrap_or_else(|| {
            // It may be the home of others too, who note apart then: each note has one writer.
            Home { arbiter: Arbiter::current(), lane: None, notes: self.measures.add_thread() }
        })
    }

    /// Names the registry, once.
    pub(super) fn set_registry(&self, registry: Addr<Registry>) {
        // A second registry is never started: the first keeps the name.
        let _ = self.registry.set(registry);
    }

    /// The registry, once it was started.
    pub fn registry(&self) -> Option<&Addr<Registry>> {
        self.registry.get()
    }
}

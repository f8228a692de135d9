//! What all actors of a process share.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use actix::Addr;
use actix_rt::{Arbiter, ArbiterHandle};
use tokio::sync::{Notify, Semaphore};

use super::desk::AuditDesk;
use super::registry::Registry;
use super::routes::Routes;
use crate::domain::{SecretHash, Timestamp};
use crate::journal::{DataDir, Syncer};

/// When a decision's answer may leave. Administrative changes always wait for the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Durability {
    /// Once the kernel has its event, so a killed process loses nothing; the disk has it within a second.
    #[default]
    Interval,
    /// Once the disk has its event.
    Fsync,
}

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

/// Snapshots written at once: each may take a core and the disk.
const SNAPSHOT_WRITERS: usize = 2;

/// What all actors of a process share.
pub struct Core {
    /// How a message finds its tenant.
    pub routes: Routes,
    /// The data directory, locked.
    pub data: DataDir,
    /// The thread that calls fsync.
    pub syncer: Syncer,
    /// When a decision's answer may leave.
    pub durability: Durability,
    /// The operator key's hash.
    pub operator: SecretHash,
    /// Who may write a snapshot now.
    pub snapshot_writers: Semaphore,
    /// Who reads audit trails.
    pub audit: AuditDesk,
    /// Tenants whose storage failed and was not seen to work since.
    pub storage_failures: AtomicUsize,
    phase: AtomicU8,
    arbiters: Mutex<Vec<ArbiterHandle>>,
    next_arbiter: AtomicUsize,
    arbiter_added: Notify,
    registry: OnceLock<Addr<Registry>>,
}

impl Core {
    /// The shared part of a process that has not loaded its tenants yet.
    pub fn new(data: DataDir, syncer: Syncer, durability: Durability, operator: SecretHash) -> Self {
        Self {
            routes: Routes::default(),
            data,
            syncer,
            durability,
            operator,
            snapshot_writers: Semaphore::new(SNAPSHOT_WRITERS),
            audit: AuditDesk::default(),
            storage_failures: AtomicUsize::new(0),
            phase: AtomicU8::new(Phase::Recovering as u8),
            arbiters: Mutex::default(),
            next_arbiter: AtomicUsize::new(0),
            arbiter_added: Notify::new(),
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

    /// Offers the calling thread's arbiter as a home for tenants' actors.
    pub fn add_arbiter(&self, arbiter: ArbiterHandle) {
        self.arbiters.lock().unwrap_or_else(PoisonError::into_inner).push(arbiter);
        self.arbiter_added.notify_one();
    }

    /// Waits until so many arbiters are there.
    pub async fn wait_for_arbiters(&self, count: usize) {
        while self.arbiters.lock().unwrap_or_else(PoisonError::into_inner).len() < count {
            self.arbiter_added.notified().await;
        }
    }

    /// The arbiter for the next tenant: each in turn, the caller's own where none was offered.
    pub(super) fn place(&self) -> ArbiterHandle {
        let mut arbiters = self.arbiters.lock().unwrap_or_else(PoisonError::into_inner);
        // A worker that ended takes its arbiter with it: one that can't run a function is gone.
        arbiters.retain(|arbiter| arbiter.spawn_fn(|| {}));
        let turn = self.next_arbiter.fetch_add(1, Ordering::Relaxed);
        match arbiters.len() {
            0 => Arbiter::current(),
            count => arbiters.get(turn % count).cloned().unwrap_or_else(Arbiter::current),
        }
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

/// The time now, by the system's clock.
pub fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

//! The shared part of a running server: its resources, how a message finds its tenant, and where the actors live.

use std::ops::Deref;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use actix_rt::{Arbiter, ArbiterHandle};
use tokio::sync::Notify;

use super::fair_semaphore::FairSemaphore;
use super::messages::FoldTail;
use super::registry_messages::RegistryHandle;
use super::resources::Resources;
use super::tenant_directory::{Route, TenantDirectory};
use super::worker_channels::{ChannelId, WorkerChannels};
use crate::domain::limits::{MAX_SEARCHES, MAX_SEARCHES_PER_TENANT};
use crate::domain::{SecretHash, TenantId};
use crate::measure::ThreadMeasures;

/// What the process is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Loading its tenants.
    Recovering,
    /// Serving.
    Ready,
    /// Shutting down.
    Draining,
}

/// A thread where tenants' actors live.
#[derive(Clone)]
pub(super) struct Home {
    pub arbiter: ArbiterHandle,
    /// The channel to it from other workers, if it is a worker.
    pub channel: Option<ChannelId>,
    /// Its measures.
    pub notes: Arc<ThreadMeasures>,
}

/// The shared part of a running server.
pub struct Core {
    /// What the tenants' actors share.
    pub resources: Arc<Resources>,
    /// How a message finds its tenant.
    pub directory: TenantDirectory,
    /// The operator key's hash.
    pub operator: SecretHash,
    /// Permits for searches.
    pub searches: Arc<FairSemaphore>,
    phase: AtomicU8,
    /// How calls cross between workers.
    pub channels: Arc<WorkerChannels>,
    homes: Mutex<Vec<Home>>,
    next_home: AtomicUsize,
    home_added: Notify,
    registry: OnceLock<RegistryHandle>,
}

impl Deref for Core {
    type Target = Resources;

    fn deref(&self) -> &Resources {
        &self.resources
    }
}

impl Core {
    /// The shared part of a process that has not loaded its tenants yet.
    pub fn new(resources: Resources, operator: SecretHash, workers: usize) -> Self {
        Self {
            resources: Arc::new(resources),
            directory: TenantDirectory::default(),
            operator,
            searches: FairSemaphore::new(MAX_SEARCHES, MAX_SEARCHES_PER_TENANT),
            phase: AtomicU8::new(Phase::Recovering as u8),
            channels: WorkerChannels::new(workers),
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

    /// Sets what the process is doing.
    pub fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// Offers the calling thread, one of a server's workers, as a home for tenants' actors.
    pub fn add_worker(&self) {
        self.add_home(Arbiter::current(), self.channels.join());
    }

    /// Offers an arbiter that serves no HTTP calls as a home for tenants' actors.
    pub fn add_arbiter(&self, arbiter: ArbiterHandle) {
        self.add_home(arbiter, None);
    }

    fn add_home(&self, arbiter: ArbiterHandle, channel: Option<ChannelId>) {
        let notes = self.measures.add_thread();
        self.lock_homes().push(Home { arbiter, channel, notes });
        self.home_added.notify_one();
    }

    fn lock_homes(&self) -> MutexGuard<'_, Vec<Home>> {
        self.homes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `count` homes were offered.
    pub async fn wait_for_homes(&self, count: usize) {
        while self.lock_homes().len() < count {
            self.home_added.notified().await;
        }
    }

    /// The home of the next tenant: each in turn, or the caller's own arbiter if none was offered.
    pub(super) fn place(&self) -> Home {
        let mut homes = self.lock_homes();
        // A worker that ended takes its arbiter with it: one that can't run a function is gone.
        homes.retain(|home| home.arbiter.spawn_fn(|| {}));
        let turn = self.next_home.fetch_add(1, Ordering::Relaxed);
        let chosen = turn.checked_rem(homes.len()).and_then(|at| homes.get(at)).cloned();
        chosen.unwrap_or_else(|| {
            // Other tenants may live here too, and they note apart: each note has one writer.
            Home { arbiter: Arbiter::current(), channel: None, notes: self.measures.add_thread() }
        })
    }

    /// Asks a tenant to write its tail to its folder. `false` if it has no actor.
    pub fn ask_to_fold(&self, tenant: [u8; 16]) -> bool {
        let ask = |route: &Route| route.actor.as_ref().map(|actor| actor.do_send(FoldTail)).is_ok();
        self.directory.with(TenantId::from_bytes(tenant).tag(), ask).unwrap_or(false)
    }

    /// Sets the registry, once.
    pub(super) fn set_registry(&self, registry: RegistryHandle) {
        // A second registry is never started: the first keeps the name.
        let _ = self.registry.set(registry);
    }

    /// The registry, after it was started.
    pub fn registry(&self) -> Option<&RegistryHandle> {
        self.registry.get()
    }
}

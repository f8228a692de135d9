//! The shared part of a running server: its resources, how a message finds its tenant, and where the actors live.

use std::ops::Deref;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use actix_rt::{Arbiter, ArbiterHandle};

use super::fair_semaphore::FairSemaphore;
use super::homes::Homes;
use super::messages::FoldTail;
use super::registry_messages::{RegistryHandle, Wake};
use super::resources::Resources;
use super::tenant_directory::{Presence, Resident, TenantDirectory};
use super::worker_channels::WorkerChannels;
use crate::domain::limits::{MAX_SEARCHES, MAX_SEARCHES_PER_TENANT};
use crate::domain::{Code, Error, SecretHash, TenantId};
use kavach_store::refusal::shutting_down;

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

/// Why somebody reaches for a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visit {
    /// An operator calls this tenant, or the server itself.
    Call,
    /// Somebody calls whose key or token only the tenant can check. If it is good, the tenant notes the call itself: nobody
    /// without one keeps a tenant in memory.
    Unchecked,
    /// It is one of many that are looked at in turn. That keeps no tenant in memory.
    Scan,
}

/// Why a tenant can't be reached.
#[derive(Clone, Debug)]
pub enum Unreachable {
    /// There is no such tenant.
    Unknown,
    /// It is down, or the server is.
    Down(Error),
}

/// The shared part of a running server.
pub struct Core {
    /// What the tenants' actors share.
    pub resources: Arc<Resources>,
    /// How many tenants may be in memory.
    pub resident_tenants: usize,
    /// How a message finds its tenant.
    pub directory: Arc<TenantDirectory>,
    /// The first operator key's hash.
    pub operator: SecretHash,
    /// Permits for searches.
    pub searches: Arc<FairSemaphore>,
    phase: AtomicU8,
    /// How calls cross between workers.
    pub channels: Arc<WorkerChannels>,
    /// Where the tenants' actors live.
    pub homes: Homes,
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
    pub fn new(resources: Resources, operator: SecretHash, workers: usize, resident_tenants: usize) -> Self {
        Self {
            resident_tenants,
            resources: Arc::new(resources),
            directory: Arc::default(),
            operator,
            searches: FairSemaphore::new(MAX_SEARCHES, MAX_SEARCHES_PER_TENANT),
            phase: AtomicU8::new(Phase::Recovering as u8),
            channels: WorkerChannels::new(workers),
            homes: Homes::default(),
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
        self.homes.add(Arbiter::current(), self.channels.join(), self.measures.add_thread());
    }

    /// Offers an arbiter that serves no HTTP calls as a home for tenants' actors.
    pub fn add_arbiter(&self, arbiter: ArbiterHandle) {
        self.homes.add(arbiter, None, self.measures.add_thread());
    }

    /// Calls `f` with a tenant that is in memory. One that is not is woken: `f` gets its mailbox, in which a message waits
    /// until the tenant is read. `f` must not wait.
    ///
    /// # Errors
    /// Why the tenant can't be reached.
    pub fn reach<R>(&self, id: TenantId, visit: Visit, f: impl FnOnce(&Resident) -> R) -> Result<R, Unreachable> {
        let mut f = Some(f);
        // Somebody may make it leave as soon as it was woken, so we try again.
        while let Some(call) = f.take() {
            let reached = self.directory.with_presence(id, |presence| match presence {
                Presence::Resident(resident) => {
                    if visit == Visit::Call {
                        resident.measures.used(self.residency_clock.load(Ordering::Relaxed));
                    }
                    Ok(Ok(call(resident)))
                }
                Presence::Down(down) => Ok(Err(Unreachable::Down(down.error()))),
                Presence::Idle | Presence::Leaving => Err(call),
            });
            match reached {
                None => break,
                Some(Ok(done)) => return done,
                Some(Err(call)) => {
                    self.wake(id).map_err(Unreachable::Down)?;
                    f = Some(call);
                }
            }
        }
        Err(Unreachable::Unknown)
    }

    /// Has a tenant read into memory, if it is not there.
    fn wake(&self, id: TenantId) -> Result<(), Error> {
        let registry = self.registry().ok_or_else(not_ready)?;
        if self.phase() == Phase::Draining {
            return Err(shutting_down());
        }
        let home = self.homes.next().ok_or_else(not_ready)?;
        if let Some(seat) = self.directory.wake(id, home.channel) {
            registry.wake.do_send(Wake { id, seat, home });
        }
        Ok(())
    }

    /// Asks a tenant to write its tail to its folder. `false` if it can't be asked.
    pub fn ask_to_fold(&self, tenant: [u8; 16]) -> bool {
        self.reach(TenantId::from_bytes(tenant), Visit::Scan, |resident| resident.mailbox.do_send(FoldTail)).is_ok()
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

fn not_ready() -> Error {
    Error::new(Code::NotReady, "the server has not started")
}

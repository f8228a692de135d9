//! The registry: creates, loads, supervises and removes tenants' actors, and writes the tenant directory.
//!
//! | to find | look in |
//! | --- | --- |
//! | the start: what is known of each tenant | `opening` |
//! | how a tenant comes into memory, and comes back after its actor ended | `loading` |
//! | how it leaves memory when too many are there | `leaving` |
//! | new tenants, and erased ones | `creating`, `erasing` |
//! | what is done to all tenants: snapshots, retention, closing | `rounds` |

mod creating;
mod erasing;
mod leaving;
mod loading;
mod opening;
mod rounds;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix::dev::ToEnvelope;
use actix::{Actor, Context, Handler, Message};
use kavach_store::LoadedTenant;
use kavach_store::refusal::{outcome_unknown, storage_unavailable};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::core::{Core, Unreachable, Visit};
use super::homes::Home;
use super::registry_messages::{RegistryHandle, Wake};
use super::tenant::{EndReport, TenantActor};
use super::tenant_directory::{Down, DownMark, Route, Seat, unknown_tenant};
use crate::domain::{Code, Error, TenantId, TenantRef};
use crate::journal::FolderError;
use crate::measure::{TenantMeasures, TenantMeter};
use creating::Creations;
use leaving::{MOST_LEAVING, room_for};
#[cfg(feature = "test-hooks")]
pub(crate) use rounds::remove_old_segments;

/// Tenants loaded, closed or written at once: more would only wait for the disk and the cores.
const AT_ONCE: usize = 8;

/// The registry's actor.
pub struct Registry {
    core: Arc<Core>,
    /// Tenants in memory.
    residents: HashMap<TenantId, InMemory>,
    /// Tenants on their way out of memory. Where somebody called one meanwhile, it is to come back.
    leaving: HashMap<TenantId, Option<Wake>>,
    /// Permits to be in memory: for as many as may be there, and some that leave. A tenant is read only with one.
    room: Arc<Semaphore>,
    /// Permits to leave.
    leaves: Arc<Semaphore>,
    /// How many tenants are on their way into memory.
    loading: usize,
    /// Permits to load a tenant.
    loads: Arc<Semaphore>,
    creations: Creations,
    /// Tenants about to be erased, but still served until that is recorded.
    deleting: HashSet<TenantId>,
}

/// A tenant in memory.
struct InMemory {
    measures: Arc<TenantMeasures>,
    /// One that was just made, or comes back after its actor ended, may be there without.
    _room: Option<OwnedSemaphorePermit>,
}

impl Registry {
    /// Starts the registry on the calling thread's arbiter and makes it known.
    pub fn launch(core: Arc<Core>) {
        let registry = Self {
            core: Arc::clone(&core),
            residents: HashMap::new(),
            leaving: HashMap::new(),
            room: Arc::new(Semaphore::new(room_for(core.resident_tenants))),
            leaves: Arc::new(Semaphore::new(MOST_LEAVING)),
            loading: 0,
            loads: Arc::new(Semaphore::new(AT_ONCE)),
            creations: Creations::default(),
            deleting: HashSet::new(),
        };
        let address = registry.start();
        core.resources.set_supervisor(address.clone().recipient());
        core.set_registry(RegistryHandle {
            create: address.clone().recipient(),
            delete: address.clone().recipient(),
            open: address.clone().recipient(),
            wake: address.clone().recipient(),
            snapshot: address.clone().recipient(),
            close: address.recipient(),
        });
    }

    /// Starts the actor of a loaded tenant, which reads the mailbox that it was given.
    fn start_actor(
        &mut self,
        loaded: LoadedTenant,
        storage_failed: bool,
        seat: Seat,
        home: &Home,
        room: Option<OwnedSemaphorePermit>,
    ) {
        let Seat { resident, receiver, row } = seat;
        let id = loaded.tenant.id();
        let meter = TenantMeter::new(Arc::clone(&resident.measures), Arc::clone(&home.notes));
        let report = EndReport::new(Arc::clone(&self.core.resources), id, resident.generation);
        self.residents.insert(id, InMemory { measures: Arc::clone(&resident.measures), _room: room });
        self.show_residents();
        // An arbiter that has just ended drops the report, which tells the registry as it does of any other ending.
        home.arbiter.spawn_fn(move || {
            Context::with_receiver(receiver).run(TenantActor::new(loaded, storage_failed, row, meter, report));
        });
    }

    /// Tells followers of a tenant that it can be found, and that events after `last_old` may be news.
    fn announce(&self, tenant: TenantId, last_old: u64) {
        self.core.audit.watch.announce(tenant.tag(), last_old, self.core.clock.now());
    }

    /// Shows how many tenants are in memory.
    fn show_residents(&self) {
        let count = self.residents.len() + self.loading + self.leaving.len();
        self.core.measures.resident.store(count, Ordering::Relaxed);
    }

    /// Where the next tenant's actor is to live.
    fn next_home(&self) -> Home {
        self.core.homes.next().unwrap_or_else(|| Home::current(self.core.measures.add_thread()))
    }

    /// Keeps a tenant's id and slug taken while it can't be served.
    fn mark_down(&mut self, route: Route, code: Code, reason: String) -> DownMark {
        self.residents.remove(&route.id);
        self.show_residents();
        self.core.directory.mark_down(route, Down { code, reason })
    }
}

impl Actor for Registry {
    type Context = Context<Self>;
}

/// Has the default tenant record something about another one, and waits until that is on disk.
///
/// # Errors
/// The default tenant can't answer or can't be written, or refuses it.
async fn tell_default<M>(core: &Core, message: M, recorded: oneshot::Receiver<Result<(), Error>>) -> Result<(), Error>
where
    M: Message<Result = ()> + Send + 'static,
    TenantActor: Handler<M>,
    Context<TenantActor>: ToEnvelope<TenantActor, M>,
{
    deliver(core, TenantId::DEFAULT, message).await?;
    recorded.await.unwrap_or_else(|_| Err(outcome_unknown()))
}

/// Gives a tenant's actor a message. One that ended meanwhile drops it.
async fn deliver<M>(core: &Core, tenant: TenantId, message: M) -> Result<(), Error>
where
    M: Message<Result = ()> + Send + 'static,
    TenantActor: Handler<M>,
    Context<TenantActor>: ToEnvelope<TenantActor, M>,
{
    let reached = core.reach(tenant, Visit::Call, |resident| Arc::clone(&resident.mailbox));
    let name = if tenant.is_default() { TenantRef::Default } else { TenantRef::Id(tenant) };
    let mailbox = reached.map_err(|problem| match problem {
        Unreachable::Down(error) => error,
        Unreachable::Unknown => unknown_tenant(&name),
    })?;
    let _ = mailbox.send(message).await;
    Ok(())
}

/// The error for a tenant that was not created, or not erased.
fn not_done(problem: &FolderError) -> Error {
    if problem.may_have_happened { outcome_unknown() } else { storage_unavailable() }
}

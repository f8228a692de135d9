//! How a tenant comes into memory: when somebody calls it, and after its actor ended.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix::{ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture};
use actix_rt::task::spawn_blocking;
use kavach_store::LoadedTenant;
use kavach_store::loader::{self, LoadError};
use kavach_store::refusal::storage_unavailable;
use tracing::error;

use super::Registry;
use crate::actors::core::{Core, Phase};
use crate::actors::messages::{Ending, TenantDown};
use crate::actors::registry_messages::Wake;
use crate::actors::tenant_directory::{DownMark, Resident, Route};
use crate::domain::text::Slug;
use crate::domain::{Code, TenantId};
use crate::journal::JournalOptions;
use crate::measure::count;

/// How often we retry to load a tenant after its storage failed: loading may take a while.
const LOAD_AGAIN_DELAY: Duration = Duration::from_secs(1);

/// Loads a tenant on another thread. A panic there is a problem like any other.
pub(super) async fn load(core: Arc<Core>, id: TenantId) -> Result<LoadedTenant, LoadError> {
    let measured = Arc::clone(&core);
    let read = move || {
        let start = Instant::now();
        let name = id.folder_name();
        let unreachable =
            |problem| LoadError { problem: format!("the folder {name}: {problem}"), may_pass: true, is_foreign: false };
        let folder = core.data.folder(&name).map_err(unreachable)?;
        let tail = core.log.tail(id.bytes())?;
        let loaded = loader::load(&folder, &tail, id, core.clock.now(), JournalOptions::default());
        core.measures.loads.add_time(start.elapsed());
        loaded
    };
    match spawn_blocking(read).await {
        Ok(loaded) => {
            if let Ok(LoadedTenant { tenant, snapshot_seq, .. }) = &loaded {
                measured.measures.replayed.fetch_add(tenant.seq() - snapshot_seq, Ordering::Relaxed);
                measured.clock.recorded(tenant.time());
            }
            loaded
        }
        Err(panic) => Err(format!("reading it panicked: {panic}").into()),
    }
}

impl Handler<Wake> for Registry {
    type Result = ();

    fn handle(&mut self, wake: Wake, ctx: &mut Self::Context) {
        match self.leaving.get_mut(&wake.id) {
            // Its folder is still being written.
            Some(comes_back) => *comes_back = Some(wake),
            None => self.load_woken(wake, ctx),
        }
    }
}

impl Registry {
    /// Loads a tenant that somebody called. The call waits in its mailbox.
    pub(super) fn load_woken(&mut self, Wake { id, seat, home }: Wake, ctx: &mut Context<Self>) {
        // At the end nobody is read any more: the seat's end tells those who wait.
        if self.core.phase() == Phase::Draining {
            return;
        }
        self.core.residency_clock.fetch_add(1, Ordering::Relaxed);
        self.loading += 1;
        self.make_room(ctx);
        let (core, loads, room) = (Arc::clone(&self.core), Arc::clone(&self.loads), Arc::clone(&self.room));
        let work = async move {
            // Where tenants come faster than others leave, they wait.
            let room = room.acquire_owned().await.ok();
            let ends = || Err(LoadError::from("the server ends".to_owned()));
            if core.phase() == Phase::Draining {
                // The end has all permits to load.
                return (room, ends());
            }
            let _permit = loads.acquire().await;
            if core.phase() == Phase::Draining { (room, ends()) } else { (room, load(core, id).await) }
        };
        ctx.spawn(work.into_actor(self).map(move |(room, loaded), actor, ctx| {
            actor.loading -= 1;
            actor.show_residents();
            // It may have been erased meanwhile.
            let generation = seat.resident.generation;
            let Some(route) = actor.core.directory.living(id) else { return };
            let is_own = |resident: &Resident| resident.generation == generation;
            if actor.core.phase() == Phase::Draining
                || !actor.core.directory.resident(id).is_some_and(|own| is_own(&own))
            {
                return;
            }
            match actor.check_loaded(id, loaded) {
                Ok(loaded) => {
                    actor.start_actor(loaded, false, seat, &home, room);
                    // While it was read, it could not leave.
                    actor.make_room(ctx);
                }
                // Calls in the mailbox get the reason with the mailbox's end.
                Err(error) => actor.refuse(route, error, ctx),
            }
        }));
    }

    /// Refuses a tenant with a name that another one has.
    pub(super) fn check_conflict(&self, id: TenantId, slug: Option<&Slug>) -> Result<(), LoadError> {
        match self.core.directory.conflict(id, slug) {
            None => Ok(()),
            Some(conflict) => {
                Err(format!("{conflict}; stop the server and move its folder away, or the other's").into())
            }
        }
    }

    fn check_loaded(&self, id: TenantId, loaded: Result<LoadedTenant, LoadError>) -> Result<LoadedTenant, LoadError> {
        let loaded = loaded?;
        self.check_conflict(id, loaded.tenant.profile().slug.as_ref())?;
        Ok(loaded)
    }

    /// Keeps the names of a tenant that can't be loaded, and says why.
    pub(super) fn refuse(&mut self, route: Route, error: LoadError, ctx: &mut Context<Self>) {
        let LoadError { problem, may_pass, is_foreign } = error;
        let (id, folder) = (route.id, route.id.folder_name());
        let has_conflict = self.core.directory.conflict(id, route.slug.as_ref()).is_some();
        let reason = match (is_foreign, has_conflict, may_pass) {
            (true, ..) => format!(
                "the folder {folder} holds files of another tenant, which is not affected: move the folder out of the \
                 data directory, or restore this tenant's own files into it; the server's log says more"
            ),
            (_, true, _) => format!(
                "another tenant has the slug, or the end of the id, of the tenant in the folder {folder}: move one of \
                 the two out of the data directory; the server's log says which"
            ),
            (.., true) => storage_unavailable().message().to_owned(),
            _ => "the tenant's data can't be read; the server's log says why".to_owned(),
        };
        // Of several ids with one tag, only one tenant's can be routed to.
        if self.core.directory.route(id.tag()).is_some_and(|other| other.id != id) {
            error!(folder, problem, "this folder is not served; no tenant is affected");
            self.core.directory.refuse(folder, reason);
        } else if may_pass {
            error!(tenant = folder, problem, "the tenant's storage fails; it is tried again until it works");
            let down = self.mark_down(route, Code::StorageUnavailable, reason);
            ctx.notify_later(LoadAgain(down), LOAD_AGAIN_DELAY);
        } else {
            error!(tenant = folder, problem, "the tenant can't be loaded and stays down; others are not affected");
            self.mark_down(route, Code::TenantUnavailable, reason);
        }
    }

    /// Loads a tenant again that is down for that reason, and starts its actor.
    fn bring_back(&mut self, down: DownMark, storage_failed: bool, ctx: &mut Context<Self>) {
        let (core, id) = (Arc::clone(&self.core), down.id);
        let work = async move {
            // The actor that ended may have had something to write in the folder.
            let writer = core.folder_writer.clone();
            _ = spawn_blocking(move || writer.wait()).await;
            load(core, id).await
        };
        ctx.spawn(work.into_actor(self).map(move |loaded, actor, ctx| {
            // A tenant erased meanwhile does not come back.
            let Some(route) = actor.core.directory.route(down.id.tag()) else { return };
            if actor.core.phase() == Phase::Draining || !actor.core.directory.is_still_down(&down) {
                return;
            }
            match actor.check_loaded(down.id, loaded) {
                Ok(loaded) => {
                    let home = actor.next_home();
                    let route = Route { id: down.id, slug: loaded.tenant.profile().slug.clone() };
                    let seat = actor.core.directory.admit(route, home.channel, down.measures);
                    let announced = loaded.announced_seq;
                    let room = Arc::clone(&actor.room).try_acquire_owned().ok();
                    actor.start_actor(loaded, storage_failed, seat, &home, room);
                    actor.announce(down.id, announced);
                    actor.make_room(ctx);
                }
                Err(error) => actor.refuse(route, error, ctx),
            }
        }));
    }

    /// Loads a tenant again after its actor ended.
    pub(super) fn rebuild(&mut self, route: Route, storage_failed: bool, ctx: &mut Context<Self>) {
        let reason = "the tenant is being rebuilt; try again in a moment".to_owned();
        let down = self.mark_down(route, Code::TenantUnavailable, reason);
        self.bring_back(down, storage_failed, ctx);
    }
}

/// Retry to load a tenant after its storage failed.
#[derive(Message)]
#[rtype(result = "()")]
struct LoadAgain(DownMark);

impl Handler<LoadAgain> for Registry {
    type Result = ();

    fn handle(&mut self, LoadAgain(down): LoadAgain, ctx: &mut Self::Context) {
        // It keeps its names and its error code until it is back.
        if self.core.phase() != Phase::Draining && self.core.directory.is_still_down(&down) {
            self.bring_back(down, true, ctx);
        }
    }
}

impl Handler<TenantDown> for Registry {
    type Result = ();

    fn handle(&mut self, TenantDown { id, generation, ending }: TenantDown, ctx: &mut Self::Context) {
        if self.core.phase() == Phase::Draining {
            return;
        }
        let Some(resident) = self.core.directory.resident(id).filter(|resident| resident.generation == generation)
        else {
            return;
        };
        drop(resident);
        let Some(route) = self.core.directory.route(id.tag()) else { return };
        count(&self.core.measures.lost_actors);
        error!(tenant = %id.folder_name(), ?ending, "the tenant's actor ended; it is rebuilt from disk");
        self.rebuild(route, ending == Ending::Storage, ctx);
    }
}

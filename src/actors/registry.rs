//! The registry: creates, loads, supervises and removes tenants' actors, and writes the route table.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix::dev::channel::channel;
use actix::{
    Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, ResponseActFuture, ResponseFuture, WrapFuture,
};
use actix_rt::task::spawn_blocking;
use serde_json::json;
use tokio::sync::{Semaphore, oneshot};
use tracing::{error, info, warn};

use super::core::{Core, Phase};
use super::deletion;
use super::mailbox::MAILBOX_CAPACITY;
use super::messages::{Close, Ending, Retire, TakeSnapshot, TenantDown};
use super::registry_messages::{CloseAll, CreateTenant, DeleteTenant, LoadAll, RegistryHandle, SnapshotAll};
use super::tenant::{EndReport, TenantActor};
use super::tenant_directory::{Down, Route, unknown_tenant};
use crate::domain::tenant::Profile;
use crate::domain::tenant::commands::TenantSpec;
use crate::domain::text::{Slug, quote};
use crate::domain::{Code, Error, TenantId, TenantRef, TenantTag};
use crate::journal::{FolderError, JournalOptions, unwritable};
use crate::measure::{TenantMeter, count};
use kavach_store::LoadedTenant;
use kavach_store::loader::{self, ClaimedIdentity, LoadError};
use kavach_store::refusal::{outcome_unknown, shutting_down, storage_unavailable};

/// Tenants loaded, closed or written at once: more would only wait for the disk and the cores.
const AT_ONCE: usize = 8;
/// How often we retry to load a tenant after its storage failed: loading may take a while.
const LOAD_AGAIN_DELAY: Duration = Duration::from_secs(1);

/// The registry's actor.
pub struct Registry {
    core: Arc<Core>,
    /// Slugs of tenants that are being created.
    reserved_slugs: HashSet<Slug>,
    reserved_tags: HashSet<TenantTag>,
    /// Tenants about to be erased, but still served until that is recorded.
    deleting: HashSet<TenantId>,
    next_generation: u64,
}

impl Registry {
    /// Starts the registry on the calling thread's arbiter and makes it known.
    pub fn launch(core: Arc<Core>) {
        let registry = Self {
            core: Arc::clone(&core),
            reserved_slugs: HashSet::new(),
            reserved_tags: HashSet::new(),
            deleting: HashSet::new(),
            next_generation: 0,
        };
        let address = registry.start();
        core.resources.set_supervisor(address.clone().recipient());
        core.set_registry(RegistryHandle {
            create: address.clone().recipient(),
            delete: address.clone().recipient(),
            load: address.clone().recipient(),
            snapshot: address.clone().recipient(),
            close: address.recipient(),
        });
    }

    /// Starts the actor of a loaded tenant, and routes to it.
    fn start_tenant(&mut self, loaded: LoadedTenant, storage_failed: bool) -> Profile {
        self.next_generation += 1;
        let generation = self.next_generation;
        let (profile, announced) = (loaded.tenant.profile().clone(), loaded.announced_seq);
        let (sender, receiver) = channel(MAILBOX_CAPACITY);
        // An arbiter that has just ended drops the report, which tells the registry as it does of any other ending.
        let home = self.core.place();
        let measures = self.core.directory.measures(profile.id);
        let meter = TenantMeter::new(Arc::clone(&measures), home.notes);
        let report = EndReport::new(Arc::clone(&self.core.resources), profile.id, generation);
        home.arbiter.spawn_fn(move || {
            Context::with_receiver(receiver).run(TenantActor::new(loaded, storage_failed, meter, report));
        });
        let (id, slug) = (profile.id, profile.slug.clone());
        let actor = Ok(Arc::new(Addr::new(sender)));
        self.core.directory.insert(Route {
            id,
            slug,
            proven: true,
            generation,
            actor,
            channel: home.channel,
            measures,
        });
        // A follower can find it now. A new tenant's events are all news; a rebuilt one's may be.
        self.core.audit.watch.announce(profile.id.tag(), announced, self.core.clock.now());
        profile
    }

    /// Keeps a tenant's id and slug taken while it has no actor. Returns the entry's generation.
    fn mark_down(&mut self, id: TenantId, slug: Option<Slug>, code: Code, reason: String) -> u64 {
        self.next_generation += 1;
        let generation = self.next_generation;
        let measures = self.core.directory.measures(id);
        let actor = Err(Down { code, reason });
        let proven = self.core.directory.with(id.tag(), |route| route.proven).unwrap_or(false);
        self.core.directory.insert(Route { id, slug, proven, generation, actor, channel: None, measures });
        generation
    }

    fn take_loaded(
        &mut self,
        id: TenantId,
        slug: Option<Slug>,
        loaded: Result<LoadedTenant, LoadError>,
        storage_failed: bool,
        ctx: &mut Context<Self>,
    ) {
        let conflict = |loaded: &LoadedTenant| self.core.directory.conflict(id, loaded.tenant.profile().slug.as_ref());
        let (loaded, conflict) = match loaded.map(|loaded| (conflict(&loaded), loaded)) {
            Ok((None, loaded)) => (Ok(loaded), false),
            Ok((Some(conflict), _)) => {
                let problem = format!("{conflict}; stop the server and move its folder away, or the other's");
                (Err(LoadError::from(problem)), true)
            }
            Err(problem) => (Err(problem), false),
        };
        let folder = id.folder_name();
        let LoadError { problem, may_pass, is_foreign } = match loaded {
            Ok(loaded) => {
                self.start_tenant(loaded, storage_failed);
                return;
            }
            Err(error) => error,
        };
        let reason = match (is_foreign, conflict, may_pass) {
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
        if self.core.directory.with(id.tag(), |route| route.id).is_some_and(|other| other != id) {
            error!(folder, problem, "this folder is not served; no tenant is affected");
            self.core.directory.refuse(folder, reason);
        } else if may_pass {
            error!(tenant = folder, problem, "the tenant's storage fails; it is tried again until it works");
            self.mark_down(id, slug, Code::StorageUnavailable, reason);
            ctx.notify_later(LoadAgain { id, generation: self.next_generation }, LOAD_AGAIN_DELAY);
        } else {
            error!(tenant = folder, problem, "the tenant can't be loaded and stays down; others are not affected");
            self.mark_down(id, slug, Code::TenantUnavailable, reason);
        }
    }
}

/// Retry to load a tenant after its storage failed.
#[derive(Message)]
#[rtype(result = "()")]
struct LoadAgain {
    id: TenantId,
    generation: u64,
}

impl Handler<LoadAgain> for Registry {
    type Result = ();

    fn handle(&mut self, LoadAgain { id, generation }: LoadAgain, ctx: &mut Self::Context) {
        let route = self.core.directory.with(id.tag(), Route::clone).filter(|route| route.generation == generation);
        if let Some(route) = route.filter(|_| self.core.phase() != Phase::Draining) {
            // It keeps its names and its error code until it is back.
            let work = load(Arc::clone(&self.core), id).into_actor(self).map(move |loaded, actor, ctx| {
                let current = actor.core.directory.with(id.tag(), |route| route.generation == generation);
                if current == Some(true) {
                    actor.take_loaded(id, route.slug, loaded, true, ctx);
                }
            });
            ctx.spawn(work);
        }
    }
}

/// Loads a tenant on another thread. A panic there is a problem like any other.
async fn load(core: Arc<Core>, id: TenantId) -> Result<LoadedTenant, LoadError> {
    let measured = Arc::clone(&core);
    let read = move || {
        let name = id.folder_name();
        let unreachable =
            |problem| LoadError { problem: format!("the folder {name}: {problem}"), may_pass: true, is_foreign: false };
        let folder = core.data.folder(&name).map_err(unreachable)?;
        let tail = core.log.tail(id.bytes())?;
        loader::load(&folder, &tail, id, core.clock.now(), JournalOptions::default())
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

impl Actor for Registry {
    type Context = Context<Self>;
}

impl Handler<LoadAll> for Registry {
    type Result = ResponseActFuture<Self, Result<(), String>>;

    fn handle(&mut self, _: LoadAll, _: &mut Self::Context) -> Self::Result {
        let core = Arc::clone(&self.core);
        let start = Instant::now();
        let work = async move {
            let folders = core.data.tenants().map_err(|problem| problem.to_string())?;
            let permits = Arc::new(Semaphore::new(AT_ONCE));
            let mut strays = core.data.folder_names().map_err(|problem| problem.to_string())?;
            let (mut loads, mut has_default) = (Vec::new(), false);
            for claim in folders.iter().filter_map(loader::claimed_identity) {
                has_default |= claim.id.is_default();
                let (core, permits) = (Arc::clone(&core), Arc::clone(&permits));
                loads.push(actix_rt::spawn(async move {
                    let _permit = permits.acquire().await;
                    let loaded = load(core, claim.id).await;
                    (claim, loaded)
                }));
            }
            let mut read = Vec::with_capacity(loads.len() + 1);
            for load in loads {
                read.push(load.await.map_err(|problem| problem.to_string())?);
            }
            strays.retain(|name| loader::named_after(name).is_none());
            refuse_strays(&core, strays);
            settle_erasures(&core, &read).map_err(|problem| unwritable(core.data.path(), &problem))?;
            if !has_default {
                let create = move || {
                    let (options, now) = (JournalOptions::default(), core.clock.now());
                    let spec = TenantSpec::default_tenant();
                    let created = loader::create(&core.data, TenantId::DEFAULT, spec, None, now, options);
                    created.map_err(|problem| unwritable(core.data.path(), &problem.source))
                };
                let loaded = spawn_blocking(create).await.map_err(|problem| problem.to_string())?;
                read.push((ClaimedIdentity { id: TenantId::DEFAULT, slug: None, is_own_label: true }, Ok(loaded?)));
            }
            Ok(read)
        };
        Box::pin(work.into_actor(self).map(move |outcome: Result<Vec<_>, String>, actor, ctx| {
            let mut read = outcome?;
            read.sort_by_cached_key(|(claim, loaded)| precedence(claim, loaded));
            for (ClaimedIdentity { id, slug, .. }, loaded) in read {
                actor.take_loaded(id, slug, loaded, false, ctx);
            }
            let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
            actor.core.measures.recovery_micros.store(micros, Ordering::Relaxed);
            actor.core.clock.check_start();
            actor.core.set_phase(Phase::Ready);
            Ok(())
        }))
    }
}

/// Which claim wins if folders that were copied or restored by hand claim one slug or one tag; the least wins. Tenants
/// that can be served come before those that can't, and folders with their own label before those with another tenant's
/// files. Among equals the newest tenant wins: the server gave it its names after the older one was gone.
fn precedence(claim: &ClaimedIdentity, loaded: &Result<LoadedTenant, LoadError>) -> (u8, bool, Reverse<TenantId>) {
    let standing = match loaded {
        Ok(_) => 0,
        Err(error) if error.is_foreign => 3,
        Err(_) if claim.is_own_label => 1,
        Err(_) => 2,
    };
    (standing, !claim.id.is_default(), Reverse(claim.id))
}

/// Finishes what a killed server had begun to erase, and says of which tenants the log has events and nobody a folder.
fn settle_erasures(core: &Core, read: &[(ClaimedIdentity, Result<LoadedTenant, LoadError>)]) -> io::Result<()> {
    let known: HashSet<_> = read.iter().map(|(claim, _)| claim.id.bytes()).collect();
    let erased = core.log.erased();
    for tenant in &erased {
        match known.contains(tenant) {
            // It was not erased yet, and its caller got no answer.
            true => core.log.not_erased(*tenant)?,
            false => core.log_keeper.erased(*tenant),
        }
    }
    let mut others = core.log.tenants();
    others.retain(|tenant| !known.contains(tenant) && !erased.contains(tenant));
    for tenant in others.into_iter().map(TenantId::from_bytes) {
        warn!(tenant = tenant.folder_name(), "the log has events of a tenant that has no folder; it keeps them");
    }
    Ok(())
}

/// Looks at folders that are not named after a tenant. Those with a tenant's files in them were copied or renamed by
/// hand.
fn refuse_strays(core: &Core, names: Vec<String>) {
    for name in names {
        let folder = core.data.path().join(&name);
        let folder = folder.display();
        // If we can't look into one, it is none of the server's business.
        match core.data.owner(&name).ok().flatten().map(TenantId::from_bytes) {
            Some(owner) => {
                warn!(
                    %folder, owner = owner.folder_name(),
                    "this folder holds a tenant's files, but its name is no tenant's id, so it is not served; move it out \
                     of the data directory, or, if the tenant has no other folder, rename it to its owner's id"
                );
                let reason = format!(
                    "the folder {name} holds a tenant's files, but its name is no tenant's id: move it out of the data \
                     directory; the server's log names their owner"
                );
                core.directory.refuse(name, reason);
            }
            None => info!(%folder, "this folder is no tenant's and is left alone"),
        }
    }
}

impl Handler<CreateTenant> for Registry {
    type Result = ResponseActFuture<Self, Result<Profile, Error>>;

    fn handle(&mut self, CreateTenant(spec, author): CreateTenant, _: &mut Self::Context) -> Self::Result {
        let reserved = self.reserve(&spec);
        let core = Arc::clone(&self.core);
        Box::pin(
            async move {
                let (id, slug) = reserved?;
                let now = core.clock.now();
                let create = move || loader::create(&core.data, id, spec, author, now, JournalOptions::default());
                let created = spawn_blocking(create).await;
                Ok((id, slug, created))
            }
            .into_actor(self)
            .map(|created, actor, _| {
                let (id, slug, created) = created?;
                actor.reserved_tags.remove(&id.tag());
                if let Some(slug) = slug {
                    actor.reserved_slugs.remove(&slug);
                }
                match created {
                    Ok(Ok(loaded)) => Ok(actor.start_tenant(loaded, false)),
                    Ok(Err(problem)) => {
                        error!(%problem, "a tenant's folder could not be written");
                        Err(not_done(&problem))
                    }
                    Err(panic) => {
                        error!(%panic, "a tenant could not be created");
                        Err(Error::new(Code::InternalError, "the tenant could not be created"))
                    }
                }
            }),
        )
    }
}

impl Registry {
    /// Reserves the slug and a free id for a new tenant.
    fn reserve(&mut self, spec: &TenantSpec) -> Result<(TenantId, Option<Slug>), Error> {
        match self.core.phase() {
            Phase::Ready => {}
            Phase::Recovering => return Err(Error::new(Code::NotReady, "the server is still reading its tenants")),
            Phase::Draining => return Err(shutting_down()),
        }
        let slug = spec.slug().cloned();
        if let Some(slug) = &slug
            && (self.core.directory.has_slug(slug) || self.reserved_slugs.contains(slug))
        {
            let message = format!("slug '{slug}' is taken");
            return Err(Error::new(Code::SlugTaken, message).with_details(json!({ "field": "slug" })));
        }
        let id = self.free_id()?;
        self.reserved_tags.insert(id.tag());
        self.reserved_slugs.extend(slug.clone());
        Ok((id, slug))
    }

    /// A new id with a tag that no other tenant has.
    fn free_id(&self) -> Result<TenantId, Error> {
        // Even among a hundred million tenants one try in forty clashes; a hundred in a row do not happen.
        for _ in 0..100 {
            let mut random = [0; 10];
            getrandom::fill(&mut random).map_err(|_| Error::new(Code::InternalError, "no random bytes"))?;
            if let Some(id) = TenantId::generate(self.core.clock.now(), random)
                && !self.core.directory.has_tag(id.tag())
                && !self.reserved_tags.contains(&id.tag())
            {
                return Ok(id);
            }
        }
        Err(Error::new(Code::InternalError, "no free tenant id was found"))
    }
}

impl Handler<DeleteTenant> for Registry {
    type Result = ResponseActFuture<Self, Result<(), Error>>;

    fn handle(&mut self, message: DeleteTenant, _: &mut Self::Context) -> Self::Result {
        let DeleteTenant { tenant, confirm, reason, credential, author } = message;
        let found = self.core.directory.find(&tenant).and_then(|route| {
            check_deletion(&route, &confirm)?;
            // A second deletion gets the error it would get after the first.
            if self.deleting.insert(route.id) { Ok(route) } else { Err(unknown_tenant(&tenant)) }
        });
        let core = Arc::clone(&self.core);
        let noting = async move {
            let route = found?;
            let noted = deletion::note(&core, &route, credential, author, reason).await;
            Ok((route, noted))
        };
        Box::pin(noting.into_actor(self).then(move |noted: Result<_, Error>, actor, _| {
            let noted = noted.and_then(|(route, noted)| {
                actor.deleting.remove(&route.id);
                noted.map(|()| route)
            });
            match noted {
                Ok(route) => actor.erase(route, &tenant),
                Err(error) => Box::pin(std::future::ready(Err(error)).into_actor(actor)),
            }
        }))
    }
}

impl Registry {
    /// Erases a tenant after that was recorded.
    fn erase(&mut self, route: Route, tenant: &TenantRef) -> ResponseActFuture<Self, Result<(), Error>> {
        // The actor may have been rebuilt since.
        let route = self.core.directory.with(route.id.tag(), Route::clone).unwrap_or(route);
        // From here on no call finds it. Its id and slug become free only when the folder is gone.
        let reason = unknown_tenant(tenant).message().to_owned();
        self.mark_down(route.id, route.slug.clone(), Code::TenantNotFound, reason);
        let core = Arc::clone(&self.core);
        let work = async move {
            if let Ok(actor) = &route.actor {
                let (done, ended) = oneshot::channel();
                // An actor that is already gone needs no end.
                let _ = actor.send(Retire { done }).await;
                let _ = ended.await;
            }
            let (name, id) = (route.id.folder_name(), route.id.bytes());
            let erase = move || {
                core.log.note_erased(id)?;
                core.data.erase_tenant(&name).inspect_err(|problem| {
                    if !problem.may_have_happened
                        && let Err(problem) = core.log.not_erased(id)
                    {
                        error!(tenant = name, %problem, "the next start will find that the tenant was not erased");
                    }
                })
            };
            let erased = spawn_blocking(erase).await;
            (route, erased)
        };
        Box::pin(work.into_actor(self).map(|(route, erased), actor, ctx: &mut Context<Self>| {
            match erased {
                Ok(Ok(())) => {
                    info!(tenant = %route.id, "the tenant was erased");
                    actor.core.log_keeper.erased(route.id.bytes());
                    actor.core.directory.remove(route.id);
                    // A follower notices when it looks.
                    actor.core.audit.watch.announce(route.id.tag(), 0, actor.core.clock.now());
                    Ok(())
                }
                failed => {
                    error!(tenant = %route.id, ?failed, "the tenant's folder could not be erased");
                    actor.rebuild(route.id, route.slug, true, ctx);
                    // A panic may have come at any point.
                    Err(if let Ok(Err(problem)) = &failed { not_done(problem) } else { outcome_unknown() })
                }
            }
        }))
    }
}

/// The error for a tenant that was not created, or not erased.
fn not_done(problem: &FolderError) -> Error {
    if problem.may_have_happened { outcome_unknown() } else { storage_unavailable() }
}

fn check_deletion(route: &Route, confirm: &str) -> Result<(), Error> {
    if route.id.is_default() {
        return Err(Error::new(Code::DefaultTenantFixed, "the default tenant can't be deleted"));
    }
    if route.is_being_erased() {
        return Err(unknown_tenant(&TenantRef::Id(route.id)));
    }
    // A tenant without a label has only its id.
    let expected = route.slug.as_ref().map_or_else(|| route.id.to_string(), ToString::to_string);
    if confirm != expected {
        let problem = format!("must be the tenant's slug, '{expected}', not '{}'", quote(confirm));
        return Err(Error::field(Code::ConfirmationRequired, "confirm", problem));
    }
    Ok(())
}

impl Handler<TenantDown> for Registry {
    type Result = ();

    fn handle(&mut self, TenantDown { id, generation, ending }: TenantDown, ctx: &mut Self::Context) {
        if self.core.phase() == Phase::Draining {
            return;
        }
        let Some(route) = self.core.directory.with(id.tag(), Route::clone) else { return };
        if route.generation != generation {
            return;
        }
        count(&self.core.measures.lost_actors);
        error!(tenant = %id.folder_name(), ?ending, "the tenant's actor ended; it is rebuilt from disk");
        self.rebuild(id, route.slug, ending == Ending::Storage, ctx);
    }
}

impl Registry {
    fn rebuild(&mut self, id: TenantId, slug: Option<Slug>, storage_failed: bool, ctx: &mut Context<Self>) {
        let reason = "the tenant is being rebuilt; try again in a moment";
        let generation = self.mark_down(id, slug.clone(), Code::TenantUnavailable, reason.to_owned());
        let work = load(Arc::clone(&self.core), id).into_actor(self).map(move |loaded, actor, ctx| {
            // A tenant erased meanwhile does not come back.
            if actor.core.directory.with(id.tag(), |route| route.generation) == Some(generation) {
                actor.take_loaded(id, slug, loaded, storage_failed, ctx);
            }
        });
        ctx.spawn(work);
    }
}

impl Handler<SnapshotAll> for Registry {
    type Result = ResponseFuture<Result<usize, Error>>;

    fn handle(&mut self, _: SnapshotAll, _: &mut Self::Context) -> Self::Result {
        let actors: Vec<_> = self.core.directory.all().into_iter().filter_map(|route| route.actor.ok()).collect();
        Box::pin(async move {
            let (mut written, mut failed) = (0, None);
            for batch in actors.chunks(AT_ONCE) {
                let mut answers = Vec::new();
                for actor in batch {
                    let (reply, answer) = oneshot::channel();
                    if actor.send(TakeSnapshot { reply }).await.is_ok() {
                        answers.push(answer);
                    }
                }
                for answer in answers {
                    match answer.await.unwrap_or_else(|_| Err(storage_unavailable())) {
                        Ok(()) => written += 1,
                        // One tenant's failure keeps no other from its snapshot.
                        Err(error) => failed = Some(error),
                    }
                }
            }
            failed.map_or(Ok(written), Err)
        })
    }
}

impl Handler<CloseAll> for Registry {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: CloseAll, _: &mut Self::Context) -> Self::Result {
        self.core.set_phase(Phase::Draining);
        self.core.audit.watch.close();
        let actors: Vec<_> = self.core.directory.all().into_iter().filter_map(|route| route.actor.ok()).collect();
        Box::pin(async move {
            for batch in actors.chunks(AT_ONCE) {
                let mut ends = Vec::new();
                for actor in batch {
                    let (done, ended) = oneshot::channel();
                    if actor.send(Close { done }).await.is_ok() {
                        ends.push(ended);
                    }
                }
                for ended in ends {
                    let _ = ended.await;
                }
            }
        })
    }
}

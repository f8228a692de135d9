//! New tenants: those that are asked for while others are being made are made together, with one sync.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix::{ActorFutureExt, AsyncContext, Context, Handler, ResponseFuture, WrapFuture};
use actix_rt::task::spawn_blocking;
use kavach_store::LoadedTenant;
use kavach_store::loader::{self, NewTenant};
use kavach_store::refusal::{outcome_unknown, shutting_down};
use serde_json::json;
use tokio::sync::oneshot;
use tracing::error;

use super::{Registry, not_done};
use crate::actors::core::Phase;
use crate::actors::registry_messages::CreateTenant;
use crate::actors::reply::Reply;
use crate::actors::tenant_directory::Route;
use crate::domain::author::Author;
use crate::domain::tenant::Profile;
use crate::domain::tenant::commands::TenantSpec;
use crate::domain::text::Slug;
use crate::domain::{Code, Error, TenantId, TenantTag};
use crate::journal::{FolderError, JournalOptions};

/// Tenants made with one sync at most.
const MOST_TOGETHER: usize = 256;
/// How many such groups are made at once: while one waits for the disk, the folders of the next are built.
const MOST_GROUPS: usize = 2;

/// Tenants that are being made.
#[derive(Default)]
pub(super) struct Creations {
    slugs: HashSet<Slug>,
    tags: HashSet<TenantTag>,
    /// Those that wait for the ones that are being made now.
    waiting: Vec<Creation>,
    /// How many groups are being made.
    groups: usize,
}

struct Creation {
    id: TenantId,
    spec: TenantSpec,
    author: Option<Author>,
    reply: Reply<Profile>,
}

impl Handler<CreateTenant> for Registry {
    type Result = ResponseFuture<Result<Profile, Error>>;

    fn handle(&mut self, CreateTenant(spec, author): CreateTenant, ctx: &mut Self::Context) -> Self::Result {
        let (reply, made) = oneshot::channel();
        match self.reserve(&spec) {
            Ok(id) => {
                self.creations.waiting.push(Creation { id, spec, author, reply });
                self.create_waiting(ctx);
            }
            Err(error) => _ = reply.send(Err(error)),
        }
        Box::pin(async { made.await.unwrap_or_else(|_| Err(outcome_unknown())) })
    }
}

impl Registry {
    /// Reserves the slug and a free id for a new tenant.
    fn reserve(&mut self, spec: &TenantSpec) -> Result<TenantId, Error> {
        match self.core.phase() {
            Phase::Ready => {}
            Phase::Recovering => return Err(Error::new(Code::NotReady, "the server is still reading its tenants")),
            Phase::Draining => return Err(shutting_down()),
        }
        let slug = spec.slug().cloned();
        if let Some(slug) = &slug
            && (self.core.directory.has_slug(slug) || self.creations.slugs.contains(slug))
        {
            let message = format!("slug '{slug}' is taken");
            return Err(Error::new(Code::SlugTaken, message).with_details(json!({ "field": "slug" })));
        }
        let id = self.free_id()?;
        self.creations.tags.insert(id.tag());
        self.creations.slugs.extend(slug);
        Ok(id)
    }

    /// A new id with a tag that no other tenant has.
    fn free_id(&self) -> Result<TenantId, Error> {
        // Even among a hundred million tenants one try in forty clashes; a hundred in a row do not happen.
        for _ in 0..100 {
            let mut random = [0; 10];
            getrandom::fill(&mut random).map_err(|_| Error::new(Code::InternalError, "no random bytes"))?;
            if let Some(id) = TenantId::generate(self.core.clock.now(), random)
                && !self.core.directory.has_tag(id.tag())
                && !self.creations.tags.contains(&id.tag())
            {
                return Ok(id);
            }
        }
        Err(Error::new(Code::InternalError, "no free tenant id was found"))
    }

    /// Makes the tenants that wait, unless enough others are being made.
    fn create_waiting(&mut self, ctx: &mut Context<Self>) {
        let waiting = &mut self.creations.waiting;
        if self.creations.groups >= MOST_GROUPS || waiting.is_empty() {
            return;
        }
        self.creations.groups += 1;
        let (mut new, mut callers) = (Vec::new(), Vec::new());
        for Creation { id, spec, author, reply } in waiting.drain(..waiting.len().min(MOST_TOGETHER)) {
            callers.push((Route { id, slug: spec.slug().cloned() }, reply));
            new.push(NewTenant { id, spec, author });
        }
        let core = Arc::clone(&self.core);
        let create = move || loader::create_all(&core.data, new, core.clock.now(), JournalOptions::default());
        ctx.spawn(spawn_blocking(create).into_actor(self).map(|created, actor, ctx| {
            let mut created = created.inspect_err(|panic| error!(%panic, "tenants could not be created"));
            let mut created = created.iter_mut().flat_map(|all| all.drain(..));
            for (route, reply) in callers {
                actor.creations.tags.remove(&route.id.tag());
                if let Some(slug) = &route.slug {
                    actor.creations.slugs.remove(slug);
                }
                // A caller that went away needs no answer.
                let _ = reply.send(actor.take_created(route, created.next(), ctx));
            }
            actor.creations.groups -= 1;
            actor.create_waiting(ctx);
        }));
    }

    fn take_created(
        &mut self,
        route: Route,
        created: Option<Result<LoadedTenant, FolderError>>,
        ctx: &mut Context<Self>,
    ) -> Result<Profile, Error> {
        match created {
            Some(Ok(loaded)) => {
                let profile = loaded.tenant.profile().clone();
                let home = self.next_home();
                let seat = self.core.directory.admit(route, home.channel, None);
                let announced = loaded.announced_seq;
                seat.resident.measures.used(self.core.residency_clock.fetch_add(1, Ordering::Relaxed) + 1);
                let room = Arc::clone(&self.room).try_acquire_owned().ok();
                self.start_actor(loaded, false, seat, &home, room);
                self.announce(profile.id, announced);
                self.make_room(ctx);
                Ok(profile)
            }
            Some(Err(problem)) => {
                error!(%problem, "a tenant's folder could not be written");
                Err(not_done(&problem))
            }
            // A panic may have come at any point.
            None => Err(outcome_unknown()),
        }
    }
}

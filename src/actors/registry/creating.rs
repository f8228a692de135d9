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

use super::{Registry, not_done, tell_default};
use crate::actors::core::Phase;
use crate::actors::messages::ClaimKey;
use crate::actors::registry_messages::{CreateTenant, KeyClaim};
use crate::actors::reply::Reply;
use crate::actors::tenant_directory::Route;
use crate::domain::author::{Author, By};
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

impl Creations {
    /// Ends the reservation of a tenant's id and slug.
    fn release(&mut self, route: &Route) {
        self.tags.remove(&route.id.tag());
        if let Some(slug) = &route.slug {
            self.slugs.remove(slug);
        }
    }
}

struct Creation {
    id: TenantId,
    spec: TenantSpec,
    by: By,
    author: Option<Author>,
    reason: Option<Box<str>>,
    reply: Reply<Profile>,
}

impl Handler<CreateTenant> for Registry {
    type Result = ResponseFuture<Result<Profile, Error>>;

    fn handle(&mut self, message: CreateTenant, ctx: &mut Self::Context) -> Self::Result {
        let CreateTenant { spec, by, author, reason, claim } = message;
        let (reply, made) = oneshot::channel();
        match (self.reserve(&spec, claim.is_some()), claim) {
            (Ok(id), None) => {
                self.creations.waiting.push(Creation { id, spec, by, author, reason, reply });
                self.create_waiting(ctx);
            }
            (Ok(id), Some(claim)) => self.claim_first(Creation { id, spec, by, author, reason, reply }, claim, ctx),
            (Err(error), _) => _ = reply.send(Err(error)),
        }
        Box::pin(async { made.await.unwrap_or_else(|_| Err(outcome_unknown())) })
    }
}

impl Registry {
    /// Makes a tenant after the default tenant has recorded the request's key. If the server ends in between, the key is
    /// claimed and the tenant is not there: then the request may claim the key anew.
    fn claim_first(&mut self, creation: Creation, claim: KeyClaim, ctx: &mut Context<Self>) {
        let KeyClaim { credential, key, failed } = claim;
        let Creation { id, spec, author, .. } = &creation;
        let (tenant, slug, author) = (*id, spec.slug().cloned(), author.clone());
        let (reply, claimed) = oneshot::channel();
        let message = ClaimKey { credential, author, key, failed, tenant, slug, reply };
        let core = Arc::clone(&self.core);
        let claiming = async move { tell_default(&core, message, claimed).await };
        ctx.spawn(claiming.into_actor(self).map(move |claimed, actor, ctx| match claimed.and(actor.check_phase()) {
            Ok(()) => {
                actor.creations.waiting.push(creation);
                actor.create_waiting(ctx);
            }
            Err(error) => {
                actor.creations.release(&Route { id: creation.id, slug: creation.spec.slug().cloned() });
                let _ = creation.reply.send(Err(error));
            }
        }));
    }

    /// Reserves the slug and a free id for a new tenant. The request may be a repeat if it has a key.
    fn reserve(&mut self, spec: &TenantSpec, has_key: bool) -> Result<TenantId, Error> {
        self.check_phase()?;
        let slug = spec.slug().cloned();
        if has_key && slug.as_ref().is_some_and(|slug| self.creations.slugs.contains(slug)) {
            let message = "a request for this tenant is under way; send this one again in a moment";
            return Err(Error::new(Code::IdempotencyKeyInUse, message));
        }
        if let Some(slug) = &slug
            && (self.core.directory.has_slug(slug) || self.creations.slugs.contains(slug))
        {
            let message = format!("slug '{slug}' already exists: another tenant has it");
            return Err(Error::new(Code::SlugTaken, message).with_details(json!({ "field": "slug" })));
        }
        let id = self.free_id()?;
        self.creations.tags.insert(id.tag());
        self.creations.slugs.extend(slug);
        Ok(id)
    }

    fn check_phase(&self) -> Result<(), Error> {
        match self.core.phase() {
            Phase::Ready => Ok(()),
            Phase::Recovering => Err(Error::new(Code::NotReady, "the server is still reading its tenants")),
            Phase::Draining => Err(shutting_down()),
        }
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
        for Creation { id, spec, by, author, reason, reply } in waiting.drain(..waiting.len().min(MOST_TOGETHER)) {
            callers.push((Route { id, slug: spec.slug().cloned() }, reply));
            new.push(NewTenant { id, spec, by, author, reason });
        }
        let core = Arc::clone(&self.core);
        let create = move || loader::create_all(&core.data, new, core.clock.now(), JournalOptions::default());
        ctx.spawn(spawn_blocking(create).into_actor(self).map(|created, actor, ctx| {
            let mut created = created.inspect_err(|panic| error!(%panic, "tenants could not be created"));
            let mut created = created.iter_mut().flat_map(|all| all.drain(..));
            for (route, reply) in callers {
                actor.creations.release(&route);
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

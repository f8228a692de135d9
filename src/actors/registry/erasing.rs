//! Tenants that go for good: the erasure is recorded in the default tenant's trail, since their own trail goes with them.

use std::sync::Arc;
use std::time::Duration;

use actix::{ActorFutureExt, Context, Handler, ResponseActFuture, WrapFuture};
use actix_rt::task::spawn_blocking;
use kavach_store::refusal::outcome_unknown;
use tokio::sync::oneshot;
use tracing::{error, info};

use super::{Registry, deliver, not_done, tell_default};
use crate::actors::core::Core;
use crate::actors::messages::{AbandonErasure, BeginErasure, NoteDeletion, Retire};
use crate::actors::registry_messages::DeleteTenant;
use crate::actors::tenant_directory::{Route, unknown_tenant};
use crate::domain::author::Author;
use crate::domain::event::Before;
use crate::domain::text::quote;
use crate::domain::{Code, Credential, Error, SeenVersions, TenantId, TenantRef};

/// How often we look whether a tenant has left memory.
const LEAVING_DELAY: Duration = Duration::from_millis(1);

impl Handler<DeleteTenant> for Registry {
    type Result = ResponseActFuture<Self, Result<(), Error>>;

    fn handle(&mut self, message: DeleteTenant, _: &mut Self::Context) -> Self::Result {
        let DeleteTenant { tenant, confirm, reason, seen, credential, author } = message;
        let found = self.core.directory.find(&tenant).and_then(|route| {
            self.check_deletion(&route, &confirm)?;
            // A second deletion gets the error it would get after the first.
            if self.deleting.insert(route.id) { Ok(route) } else { Err(unknown_tenant(&tenant)) }
        });
        let core = Arc::clone(&self.core);
        let noting = async move {
            let route = found?;
            let noted = note(&core, &route, credential, author, reason, seen).await;
            Ok((route, noted))
        };
        Box::pin(noting.into_actor(self).then(move |noted: Result<_, Error>, actor, _| {
            let (id, noted) = match noted {
                Ok((route, noted)) => (Some(route.id), noted.map(|()| route)),
                Err(error) => (None, Err(error)),
            };
            let erased: ResponseActFuture<Self, _> = match noted {
                Ok(route) => actor.erase(route, tenant),
                Err(error) => Box::pin(std::future::ready(Err(error)).into_actor(actor)),
            };
            erased.map(move |outcome, actor, _| {
                if let Some(id) = id {
                    actor.deleting.remove(&id);
                }
                outcome
            })
        }))
    }
}

impl Registry {
    /// Erases a tenant after that was recorded.
    fn erase(&mut self, route: Route, tenant: TenantRef) -> ResponseActFuture<Self, Result<(), Error>> {
        if self.leaving.contains_key(&route.id) {
            // Its folder is still being written.
            let wait = actix_rt::time::sleep(LEAVING_DELAY).into_actor(self);
            return Box::pin(wait.then(move |(), actor, _| actor.erase(route, tenant)));
        }
        let resident = self.core.directory.resident(route.id);
        // From here on no call finds it. Its id and slug become free only when the folder is gone.
        let reason = unknown_tenant(&tenant).message().to_owned();
        self.mark_down(route.clone(), Code::TenantNotFound, reason);
        let core = Arc::clone(&self.core);
        let work = async move {
            if let Some(resident) = resident {
                let (done, ended) = oneshot::channel();
                // An actor that is already gone needs no end.
                let _ = resident.mailbox.send(Retire { done }).await;
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
                    actor.core.catalog.forget(route.id);
                    actor.core.log_keeper.erased(route.id.bytes());
                    actor.core.directory.remove(route.id);
                    actor.core.measures.labels.forget(route.id);
                    // A follower notices when it looks.
                    actor.announce(route.id, 0);
                    Ok(())
                }
                failed => {
                    error!(tenant = %route.id, ?failed, "the tenant's folder could not be erased");
                    actor.rebuild(route, true, ctx);
                    // A panic may have come at any point.
                    Err(if let Ok(Err(problem)) = &failed { not_done(problem) } else { outcome_unknown() })
                }
            }
        }))
    }

    fn check_deletion(&self, route: &Route, confirm: &str) -> Result<(), Error> {
        if route.id.is_default() {
            return Err(Error::new(Code::DefaultTenantFixed, "the default tenant can't be deleted"));
        }
        if self.core.directory.living(route.id).is_none() {
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
}

/// Records in the default tenant's trail who erases that tenant. When this returns, the record is on disk.
///
/// # Errors
/// `PRECONDITION_FAILED` if the tenant is not as its author has seen it; or the default tenant can't answer, or can't be
/// written.
async fn note(
    core: &Core,
    route: &Route,
    credential: Credential,
    author: Option<Author>,
    reason: Option<Box<str>>,
    seen: Option<SeenVersions>,
) -> Result<(), Error> {
    let (tenant, slug, is_checked) = (route.id, route.slug.clone(), seen.is_some());
    let before = match begin(core, tenant, credential, seen).await {
        Err(error) if is_checked => return Err(error),
        // One that can't answer can be erased too.
        begun => begun.ok(),
    };
    let (reply, noted) = oneshot::channel();
    let noted =
        tell_default(core, NoteDeletion { credential, author, reason, tenant, slug, before, reply }, noted).await;
    if noted.is_err() && is_checked {
        // If it can't be reached, it was loaded anew or will be, and knows nothing of this.
        let _ = deliver(core, tenant, AbandonErasure).await;
    }
    noted
}

/// The tenant's last state, if it is as its author has seen it.
async fn begin(
    core: &Core,
    tenant: TenantId,
    credential: Credential,
    seen: Option<SeenVersions>,
) -> Result<Before, Error> {
    let (reply, begun) = oneshot::channel();
    deliver(core, tenant, BeginErasure { credential, seen, reply }).await?;
    let gone = || Error::new(Code::TenantUnavailable, "the tenant can't answer right now; try again in a moment");
    begun.await.unwrap_or_else(|_| Err(gone()))
}

//! A tenant's end, recorded in the default tenant's trail, since its own trail goes with it.

use tokio::sync::oneshot;

use super::core::Core;
use super::messages::{Inspect, NoteDeletion};
use super::tenant_directory::Route;
use crate::domain::author::Author;
use crate::domain::event::Before;
use crate::domain::{Credential, Error, Tenant, TenantRef, Timestamp};
use kavach_store::refusal::outcome_unknown;

/// Records in the default tenant's trail who erases that tenant. When this returns, the record is on disk.
///
/// # Errors
/// The default tenant can't answer, or can't be written.
pub(super) async fn note(
    core: &Core,
    route: &Route,
    credential: Credential,
    author: Option<Author>,
    reason: Option<Box<str>>,
) -> Result<(), Error> {
    let before = last_state(route, credential).await;
    let default = core.directory.find(&TenantRef::Default)?.actor.map_err(|down| down.error())?;
    let (reply, noted) = oneshot::channel();
    let (tenant, slug) = (route.id, route.slug.clone());
    // An actor that ended meanwhile drops the reply.
    let _ = default.send(NoteDeletion { credential, author, reason, tenant, slug, before, reply }).await;
    noted.await.unwrap_or_else(|_| Err(outcome_unknown()))
}

/// The tenant's current state, if it can answer.
async fn last_state(route: &Route, credential: Credential) -> Option<Before> {
    let actor = route.actor.as_ref().ok()?;
    let look = |tenant: &Tenant, _: Timestamp| Ok(Before::tenant(tenant));
    let (reply, answer) = oneshot::channel();
    let _ = actor.send(Inspect { credential, look, reply }).await;
    answer.await.ok()?.ok()
}

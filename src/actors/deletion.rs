//! A tenant's end in the default tenant's trail, since its own goes with it.

use actix::{Context, Handler, Message};
use tokio::sync::oneshot;

use super::core::Core;
use super::messages::Inspect;
use super::reply::{Held, Reply};
use super::routes::Route;
use super::tenant::TenantActor;
use crate::domain::author::Author;
use crate::domain::event::{Before, Change, ChangeRecord};
use crate::domain::text::Slug;
use crate::domain::{Credential, Error, Event, Tenant, TenantId, TenantRef, Timestamp};
use kavach_store::refusal::outcome_unknown;

/// Note that another tenant is about to be erased.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct NoteDeletion {
    credential: Credential,
    author: Option<Author>,
    reason: Option<Box<str>>,
    tenant: TenantId,
    slug: Option<Slug>,
    before: Option<Before>,
    reply: Reply<()>,
}

/// Notes in the default tenant's trail who erases that tenant. Once this is answered, it is on disk.
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
    let before = what_it_is(route, credential).await;
    let default = core.routes.find(&TenantRef::Default)?.actor.map_err(|down| down.error())?;
    let (reply, noted) = oneshot::channel();
    let (tenant, slug) = (route.id, route.slug.clone());
    // An actor that ended meanwhile drops the reply.
    let _ = default.send(NoteDeletion { credential, author, reason, tenant, slug, before, reply }).await;
    noted.await.unwrap_or_else(|_| Err(outcome_unknown()))
}

/// The tenant as it is, where it can say so.
async fn what_it_is(route: &Route, credential: Credential) -> Option<Before> {
    let actor = route.actor.as_ref().ok()?;
    let look = |tenant: &Tenant, _: Timestamp| Ok(Before::tenant(tenant));
    let (reply, answer) = oneshot::channel();
    let _ = actor.send(Inspect { credential, look, reply }).await;
    answer.await.ok()?.ok()
}

impl Handler<NoteDeletion> for TenantActor {
    type Result = ();

    fn handle(&mut self, message: NoteDeletion, ctx: &mut Context<Self>) {
        let NoteDeletion { credential, author, reason, tenant, slug, before, reply } = message;
        let noted = (|| {
            let reading = self.core.clock.read();
            let by = self.tenant().authenticate(&credential, reading.latest())?.as_author()?;
            self.pipeline.check_writable()?;
            let moment = self.tenant().next_moment(reading.now);
            let change = self.tenant().describe(by, author, Change::TenantDeleted { tenant, slug }, moment.wall);
            let change = ChangeRecord { reason, before: before.map(Box::new), ..change };
            self.record(moment, &Event::Changed(change))
        })();
        match noted {
            Ok(()) => self.reply_changed(Held::of(reply, ()), ctx),
            Err(error) => drop(reply.send(Err(error))),
        }
    }
}

//! How a call reaches a tenant's actor and gets its answer.

use actix::dev::ToEnvelope;
use actix::prelude::SendError;
use actix::{Addr, Handler, Message};
use tokio::sync::oneshot;

use super::kavach::Kavach;
use crate::actors::mailbox::overloaded;
use crate::actors::messages::{Execute, Inspect};
use crate::actors::reply::Reply;
use crate::actors::{Route, TenantActor};
use crate::domain::{Code, Command, Error, Tenant, Timestamp};

impl Kavach {
    /// Has a tenant's actor execute a command, and waits until the change is recorded.
    pub(super) async fn execute<C>(&self, route: &Route, command: C) -> Result<C::Reply, Error>
    where
        C: Command + Send + 'static,
        C::Reply: Send + 'static,
    {
        let (credential, author) = (self.credential, self.author());
        let reason = self.reason.as_deref().map(Into::into);
        ask(route, |reply| Execute { credential, author, command, reason, reply }).await
    }

    /// Reads a tenant's state, on the actor's thread.
    pub(super) async fn inspect<T: Send + 'static>(
        &self,
        route: &Route,
        look: impl FnOnce(&Tenant, Timestamp) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let credential = self.credential;
        ask(route, |reply| Inspect { credential, look, reply }).await
    }
}

/// Sends a message to a tenant's actor. The answer arrives at the returned receiver.
pub(super) fn send<M, T>(
    route: &Route,
    make: impl FnOnce(Reply<T>) -> M,
) -> Result<oneshot::Receiver<Result<T, Error>>, Error>
where
    M: Message<Result = ()> + Send + 'static,
    TenantActor: Handler<M>,
    actix::Context<TenantActor>: ToEnvelope<TenantActor, M>,
{
    let actor: &Addr<TenantActor> = route.actor.as_ref().map_err(|down| down.error())?;
    let (reply, answer) = oneshot::channel();
    match actor.try_send(make(reply)) {
        Ok(()) => Ok(answer),
        Err(problem) => Err(not_sent(&problem)),
    }
}

pub(super) fn not_sent<M>(problem: &SendError<M>) -> Error {
    match problem {
        SendError::Full(_) => overloaded(),
        SendError::Closed(_) => gone(),
    }
}

/// Waits for an answer. An actor that dies first drops the sender, which counts as `TENANT_UNAVAILABLE`.
pub(super) async fn answer<T>(receiver: oneshot::Receiver<Result<T, Error>>) -> Result<T, Error> {
    receiver.await.unwrap_or_else(|_| Err(gone()))
}

pub(super) async fn ask<M, T>(route: &Route, make: impl FnOnce(Reply<T>) -> M) -> Result<T, Error>
where
    M: Message<Result = ()> + Send + 'static,
    TenantActor: Handler<M>,
    actix::Context<TenantActor>: ToEnvelope<TenantActor, M>,
{
    answer(send(route, make)?).await
}

pub(super) fn lost() -> Error {
    Error::new(Code::InternalError, "the change was recorded, but its result could not be read back")
}

fn gone() -> Error {
    Error::new(Code::TenantUnavailable, "the tenant can't answer right now; try again in a moment")
}

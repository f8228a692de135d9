//! How a call reaches a tenant's actor and gets its answer.

use actix::dev::ToEnvelope;
use actix::prelude::SendError;
use actix::{Handler, Message};
use tokio::sync::oneshot;

use super::kavach::Kavach;
use crate::actors::mailbox::overloaded;
use crate::actors::messages::{Execute, Inspect};
use crate::actors::reply::Reply;
use crate::actors::tenant_directory::{Presence, unknown_tenant};
use crate::actors::{Route, TenantActor, Unreachable, Visit};
use crate::domain::idempotency::key::RequestKey;
use crate::domain::{Code, Command, Credential, Error, Right, Tenant, TenantId, TenantRef, Timestamp};

impl Kavach {
    /// Has a tenant's actor execute a command, and waits until the change is recorded.
    pub(super) async fn execute<C>(&self, route: &Route, command: C) -> Result<C::Reply, Error>
    where
        C: Command + Send + 'static,
        C::Reply: Send + 'static,
    {
        self.execute_keyed(route, command, None).await
    }

    /// The same with an idempotency key. A repeat fails with `IDEMPOTENCY_KEY_IN_USE`.
    pub(super) async fn execute_keyed<C>(
        &self,
        route: &Route,
        command: C,
        key: Option<RequestKey>,
    ) -> Result<C::Reply, Error>
    where
        C: Command + Send + 'static,
        C::Reply: Send + 'static,
    {
        self.ask(route, self.execution(command, key)).await
    }

    /// The message that has a tenant's actor execute a command for the caller, once it has a reply channel.
    pub(super) fn execution<C: Command>(
        &self,
        command: C,
        key: Option<RequestKey>,
    ) -> impl FnOnce(Reply<C::Reply>) -> Execute<C> + use<C> {
        let (credential, author) = (self.credential, self.author());
        let reason = self.reason.as_deref().map(Into::into);
        move |reply| Execute { credential, author, command, reason, key, reply }
    }

    /// Reads a tenant's state, on the actor's thread.
    pub(super) async fn inspect<T: Send + 'static>(
        &self,
        route: &Route,
        look: impl FnOnce(&Tenant, Timestamp) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.inspect_with(Right::Read, route, look).await
    }

    /// The same for a caller who needs that right.
    pub(super) async fn inspect_with<T: Send + 'static>(
        &self,
        right: Right,
        route: &Route,
        look: impl FnOnce(&Tenant, Timestamp) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let credential = self.credential;
        self.ask(route, |reply| Inspect { credential, right, look, reply }).await
    }

    /// Sends a message to a tenant's actor, and waits for the answer. A tenant that is not in memory is read first.
    pub(super) async fn ask<M, T>(&self, route: &Route, make: impl FnOnce(Reply<T>) -> M) -> Result<T, Error>
    where
        M: Message<Result = ()> + Send + 'static,
        TenantActor: Handler<M>,
        actix::Context<TenantActor>: ToEnvelope<TenantActor, M>,
    {
        self.ask_one_of(Some(route.id), route, make).await
    }

    /// [`ask`](Self::ask), for somebody who asks only that tenant, or all in turn (`None`).
    pub(super) async fn ask_one_of<M, T>(
        &self,
        only: Option<TenantId>,
        route: &Route,
        make: impl FnOnce(Reply<T>) -> M,
    ) -> Result<T, Error>
    where
        M: Message<Result = ()> + Send + 'static,
        TenantActor: Handler<M>,
        actix::Context<TenantActor>: ToEnvelope<TenantActor, M>,
    {
        let visit = if only.is_some() { self.visit() } else { Visit::Scan };
        let sent = self.send(route.id, visit, make)?;
        self.answer(route.id, sent).await
    }

    /// Why this caller reaches for one tenant.
    pub(super) fn visit(&self) -> Visit {
        match self.credential {
            Credential::Operator(_) => Visit::Call,
            Credential::TenantKey(..) | Credential::AgentToken(..) => Visit::Unchecked,
        }
    }

    /// Sends a message to a tenant's actor. The answer arrives at the returned receiver.
    pub(super) fn send<M, T>(
        &self,
        tenant: TenantId,
        visit: Visit,
        make: impl FnOnce(Reply<T>) -> M,
    ) -> Result<oneshot::Receiver<Result<T, Error>>, Error>
    where
        M: Message<Result = ()> + Send + 'static,
        TenantActor: Handler<M>,
        actix::Context<TenantActor>: ToEnvelope<TenantActor, M>,
    {
        let (reply, answer) = oneshot::channel();
        let sent = self.core.reach(tenant, visit, |resident| resident.mailbox.try_send(make(reply)));
        match sent.map_err(|problem| unreachable(tenant, problem))? {
            Ok(()) => Ok(answer),
            Err(problem) => Err(not_sent(&problem)),
        }
    }

    /// Waits for an answer. An actor that dies first drops the sender: then the reason why the tenant is down counts, or
    /// `TENANT_UNAVAILABLE`.
    pub(super) async fn answer<T>(
        &self,
        tenant: TenantId,
        receiver: oneshot::Receiver<Result<T, Error>>,
    ) -> Result<T, Error> {
        receiver.await.unwrap_or_else(|_| {
            let reason = self.core.directory.with_presence(tenant, |presence| match presence {
                Presence::Down(down) => Some(down.error()),
                Presence::Idle | Presence::Leaving | Presence::Resident(_) => None,
            });
            Err(reason.flatten().unwrap_or_else(gone))
        })
    }
}

/// The error for a tenant that can't be reached.
pub(super) fn unreachable(tenant: TenantId, problem: Unreachable) -> Error {
    match problem {
        Unreachable::Down(error) => error,
        Unreachable::Unknown => unknown_tenant(&TenantRef::Id(tenant)),
    }
}

pub(super) fn not_sent<M>(problem: &SendError<M>) -> Error {
    match problem {
        SendError::Full(_) => overloaded(),
        SendError::Closed(_) => gone(),
    }
}

pub(super) fn lost() -> Error {
    Error::new(Code::InternalError, "the change was recorded, but its result could not be read back")
}

fn gone() -> Error {
    Error::new(Code::TenantUnavailable, "the tenant can't answer right now; try again in a moment")
}

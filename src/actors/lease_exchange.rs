//! The way between lender and tenants of one process: their mailboxes.

use std::sync::{Arc, Weak};

use actix::dev::ToEnvelope;
use actix::prelude::SendError;
use actix::{Context, Handler, Message};

use super::core::{Core, Unreachable, Visit};
use super::leases::Exchange;
use super::mailbox::overloaded;
use super::messages::{AskSlice, FindInstanceSet, ForeseeSlices, RecallSlice};
use super::reply::Reply;
use super::tenant::TenantActor;
use crate::domain::{Code, Error, TenantId};

/// The way through the mailboxes of a server's tenants.
pub struct MailboxExchange(Weak<Core>);

impl MailboxExchange {
    /// The way through those of this server.
    pub fn new(core: &Arc<Core>) -> Self {
        Self(Arc::downgrade(core))
    }

    fn send<M, T>(&self, tenant: TenantId, visit: Visit, message: M, reply: impl FnOnce(M) -> Reply<T>)
    where
        M: Message<Result = ()> + Send + 'static,
        TenantActor: Handler<M>,
        Context<TenantActor>: ToEnvelope<TenantActor, M>,
    {
        let Some(core) = self.0.upgrade() else { return };
        let mut message = Some(message);
        let sent = core.reach(tenant, visit, |resident| {
            message.take().map_or(Ok(()), |message| resident.mailbox.try_send(message))
        });
        let refused = match sent {
            Ok(Ok(())) => None,
            Ok(Err(SendError::Full(message))) => Some((message, overloaded())),
            // Whoever waits hears of it by the end of the channel.
            Ok(Err(SendError::Closed(_))) => None,
            Err(problem) => message.map(|message| {
                let error = match problem {
                    Unreachable::Down(error) => error,
                    Unreachable::Unknown => Error::new(Code::TenantNotFound, "tenant not found: it is gone"),
                };
                (message, error)
            }),
        };
        if let Some((message, error)) = refused {
            let _ = reply(message).send(Err(error));
        }
    }
}

impl Exchange for MailboxExchange {
    fn ask(&self, message: AskSlice) {
        self.send(TenantId::DEFAULT, Visit::Call, message, |message| message.reply);
    }

    fn foresee(&self, message: ForeseeSlices) {
        self.send(TenantId::DEFAULT, Visit::Call, message, |message| message.reply);
    }

    fn recall(&self, message: RecallSlice) {
        self.send(message.recall.tenant, Visit::Scan, message, |message| message.reply);
    }

    fn find(&self, message: FindInstanceSet) {
        self.send(TenantId::DEFAULT, Visit::Call, message, |message| message.reply);
    }
}

//! A tenant that is about to be erased, by somebody who has seen a version of it.

use actix::{Context, Handler};

use super::TenantActor;
use crate::actors::messages::{AbandonErasure, BeginErasure};
use crate::actors::tenant_reply::TenantReply;
use crate::domain::event::Before;
use crate::domain::{Code, Error, Right};

impl Handler<BeginErasure> for TenantActor {
    type Result = ();

    fn handle(&mut self, message: BeginErasure, ctx: &mut Context<Self>) {
        let BeginErasure { credential, seen, reply } = message;
        let caller = self.authenticate(&credential, self.resources.clock.read().latest());
        let is_checked = seen.is_some();
        let begun = caller.and_then(|caller| caller.check(Right::Operate)).and_then(|()| {
            let now = self.tenant().profile().version();
            seen.map_or(Ok(()), |seen| seen.check(Some(now)))
        });
        if let Err(error) = begun {
            return drop(reply.send(Err(error)));
        }
        // From here on nobody else changes what was checked.
        self.is_being_erased |= is_checked;
        let before = Before::tenant(self.tenant());
        self.reply_read(TenantReply::of(reply, before), ctx);
    }
}

impl Handler<AbandonErasure> for TenantActor {
    type Result = ();

    fn handle(&mut self, _: AbandonErasure, _: &mut Context<Self>) {
        self.is_being_erased = false;
    }
}

impl TenantActor {
    /// Refuses a command to a tenant that is about to go.
    pub(super) fn check_stays(&self) -> Result<(), Error> {
        if self.is_being_erased {
            return Err(Error::new(Code::TenantUnavailable, "the tenant is being erased"));
        }
        Ok(())
    }
}

//! Looking at the state, checking a key, and opening the audit trail.

use actix::{Context, Handler};

use super::TenantActor;
use crate::actors::messages::{AuditTrail, Firsts, Inspect, KeyUse, ListKeys, OpenAudit, OpenFirsts, Verify};
use crate::actors::tenant_reply::TenantReply;
use crate::domain::{Error, Right, Tenant, Timestamp};

/// Bytes of the newest events (64 KiB) up to which a reader copies them: a live stream opens the trail many times a second.
const COPIED_BYTES: usize = 64 << 10;

impl<F, T> Handler<Inspect<F, T>> for TenantActor
where
    F: FnOnce(&Tenant, Timestamp) -> Result<T, Error> + Send + 'static,
    T: Send + 'static,
{
    type Result = ();

    fn handle(&mut self, message: Inspect<F, T>, ctx: &mut Context<Self>) {
        let Inspect { credential, right, look, reply } = message;
        let reading = self.resources.clock.read();
        let seen = self
            .authenticate(&credential, reading.latest())
            .and_then(|caller| caller.check(right))
            .and_then(|()| look(self.tenant(), self.tenant().next_moment(reading.now).wall));
        match seen {
            Ok(answer) => self.reply_read(TenantReply::of(reply, answer), ctx),
            Err(error) => drop(reply.send(Err(error))),
        }
    }
}

impl Handler<Verify> for TenantActor {
    type Result = ();

    fn handle(&mut self, Verify { credential, reply }: Verify, _: &mut Context<Self>) {
        let _ = reply.send(self.authenticate(&credential, self.resources.clock.read().latest()));
    }
}

impl Handler<ListKeys> for TenantActor {
    type Result = ();

    fn handle(&mut self, ListKeys { credential, reply }: ListKeys, ctx: &mut Context<Self>) {
        let now = self.resources.clock.read().latest();
        if let Err(error) = self.authenticate(&credential, now).and_then(|caller| caller.check(Right::Read)) {
            return drop(reply.send(Err(error)));
        }
        let keys = self.tenant().keys().iter().map(|key| {
            let since = self.key_uses.since.max(key.created_at);
            KeyUse { last_used_at: self.key_uses.of(key.id), since, key: key.clone() }
        });
        self.reply_read(TenantReply::of(reply, keys.collect()), ctx);
    }
}

impl Handler<OpenAudit> for TenantActor {
    type Result = ();

    fn handle(&mut self, OpenAudit { credential, right, reply }: OpenAudit, ctx: &mut Context<Self>) {
        let reading = self.resources.clock.read();
        let horizon = self.horizon(reading.now);
        let opened = self.authenticate(&credential, reading.latest()).and_then(|caller| {
            caller.check(right)?;
            let caller_until = self.tenant().caller_until(caller);
            Ok(AuditTrail { caller_until, ..self.open_trail(horizon)? })
        });
        match opened {
            Ok(trail) => self.reply_read(TenantReply::of(reply, trail), ctx),
            Err(error) => drop(reply.send(Err(error))),
        }
    }
}

impl Handler<OpenFirsts> for TenantActor {
    type Result = ();

    fn handle(&mut self, OpenFirsts { credential, keys, reply }: OpenFirsts, ctx: &mut Context<Self>) {
        let reading = self.resources.clock.read();
        let opened = self.authenticate(&credential, reading.latest()).and_then(|caller| {
            let at = self.tenant().next_moment(reading.now).at;
            let events = keys.iter().map(|key| self.tenant().first_use(&caller, key, at)).collect();
            // A key lives shorter than any retention.
            let trail = self.open_trail(None)?;
            Ok(Firsts { events, trail })
        });
        match opened {
            Ok(firsts) => self.reply_read(TenantReply::of(reply, firsts), ctx),
            Err(error) => drop(reply.send(Err(error))),
        }
    }
}

impl TenantActor {
    /// The trail up to now. Entries before the horizon are past their retention.
    fn open_trail(&mut self, horizon: Option<Timestamp>) -> Result<AuditTrail, Error> {
        // A reader shares the tail but for its newest events, which it copies.
        if self.pipeline.journal().is_some_and(|journal| journal.unsealed_bytes() > COPIED_BYTES) {
            self.pipeline.seal();
        }
        let journal = self.pipeline.journal().ok_or_else(|| self.pipeline.no_journal())?;
        Ok(AuditTrail { tenant: self.tenant().id(), reader: journal.reader(), horizon, caller_until: None })
    }
}

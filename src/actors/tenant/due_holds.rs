//! Ends holds whose time is over, before anything is decided that depends on it.
//!
//! A call waits until all of them have ended, so it is decided by what is really left. That may be many after a quiet
//! night: they end in steps, and between two the thread's other tenants get their turn. A read records nothing: it sees the
//! tenant as if they had ended.

use std::pin::Pin;
use std::task::{Context as Task, Poll};

use actix::{ActorFuture, AsyncContext, Context, Handler, Message};

use super::TenantActor;
use crate::domain::{Event, Timestamp};

/// Ends recorded in one step, which take a fraction of a millisecond.
const ENDS_AT_ONCE: usize = 128;

impl TenantActor {
    /// Whether holds have to end before a call is decided, and can: while nothing can be recorded the call is refused
    /// anyway, and must not wait for an end that does not come.
    pub(super) fn has_due_hold(&self, now: Timestamp) -> bool {
        let tenant = self.tenant();
        // Mostly there is no hold at all.
        tenant.next_hold_end().is_some()
            && tenant.has_due_hold(tenant.next_moment(now).wall)
            && self.check_writable().is_ok()
    }

    /// Ends the holds that are due, and handles the message then. Nothing else is handled meanwhile.
    pub(super) fn end_holds_before<M>(message: M, ctx: &mut Context<Self>)
    where
        M: Message<Result = ()> + Unpin + 'static,
        Self: Handler<M, Result = ()>,
    {
        ctx.wait(EndHolds { before: Some(message) });
    }

    /// One step. `true` if another is needed.
    fn end_some_holds(&mut self) -> bool {
        let now = self.resources.clock.read().now;
        for _ in 0..ENDS_AT_ONCE {
            let moment = self.tenant().next_moment(now);
            let Some(end) = self.tenant().due_hold(moment.wall) else { return false };
            // If it can't be recorded, neither can what comes after it, and whoever asked for that is told.
            if self.record(moment, &Event::Used(end)).is_err() {
                return false;
            }
        }
        self.unbroken = 0;
        self.turns.write();
        true
    }
}

struct EndHolds<M> {
    before: Option<M>,
}

impl<M> ActorFuture<TenantActor> for EndHolds<M>
where
    M: Message<Result = ()> + Unpin + 'static,
    TenantActor: Handler<M, Result = ()>,
{
    type Output = ();

    fn poll(
        mut self: Pin<&mut Self>,
        actor: &mut TenantActor,
        ctx: &mut Context<TenantActor>,
        task: &mut Task<'_>,
    ) -> Poll<()> {
        if actor.end_some_holds() {
            task.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(message) = self.before.take() {
            actor.handle(message, ctx);
        }
        Poll::Ready(())
    }
}

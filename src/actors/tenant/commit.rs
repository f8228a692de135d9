//! The order of a commit, seen from the actor: events are recorded and replies held; the turn ends with a write.

use actix::fut::wrap_future;
use actix::{AsyncContext, Context, Handler};
use kavach_store::commit_pipeline::ReadReply;
use tracing::error;

use super::TenantActor;
use crate::actors::log_turns::LogFailed;
use crate::actors::messages::Ending;
use crate::actors::tenant_reply::TenantReply;
use crate::domain::event::Change;
use crate::domain::webhook::announcement::Announcement;
use crate::domain::{Error, Event, Moment, Timestamp};

/// Events after which a tenant gives way, so that other tenants on the thread get their turn: these take a fraction of a
/// millisecond, and one write for so large a batch is as good as free.
const MOST_UNBROKEN: usize = 128;
/// Events after which a snapshot is due: replaying them takes well under a second.
const SNAPSHOT_EVENTS: u64 = 200_000;

impl TenantActor {
    /// Records an event: for the log, then in the state.
    pub(super) fn record(&mut self, moment: Moment, event: &Event<'_>) -> Result<(), Error> {
        let last_old = self.tenant().seq();
        let turn = {
            let mut queue = self.turns.queue();
            self.pipeline.record(moment, event, &mut queue)?;
            queue.turn()
        };
        if std::mem::replace(&mut self.last_turn, turn) != turn {
            self.turns.note_recorded(self.tenant().id().tag(), last_old);
            self.turns.schedule();
            self.unbroken = 0;
        }
        self.unbroken += 1;
        match event {
            Event::Changed(record) => self.publish_change(&record.change),
            Event::Used(record) => self.note_used(record),
            Event::Decided(_) | Event::Delivered(_) | Event::Leased(_) => {}
        }
        // A decision that charges no policy and revokes nobody changes only the traffic.
        if !matches!(event, Event::Decided(_)) || !self.tenant().policies().is_empty() {
            self.meter.changed();
        }
        let is_sent_again =
            matches!(event, Event::Changed(record) if matches!(record.change, Change::WebhookRedelivered { .. }));
        if !self.tenant().webhooks().is_empty() && (is_sent_again || Announcement::of(event).is_some()) {
            self.resources.webhooks.bell.ring(self.tenant().id());
        }
        if let Event::Changed(record) = event
            && record.change.is_of_operator_keys()
        {
            // Before anybody is answered: a revoked key is refused from here on. If the event is lost, the actor ends, and
            // the next one publishes what is left.
            self.resources.operators.publish(self.tenant().operator_keys());
        }
        if !self.meter.has_unsaved() {
            self.meter.unsaved(Some(moment.wall));
        }
        Ok(())
    }

    /// Whether an event may be recorded now.
    pub(super) fn check_writable(&self) -> Result<(), Error> {
        self.pipeline.check_writable(&self.turns.queue())
    }

    /// Holds the reply to decisions, the events after `before`, until they are as durable as configured.
    pub(super) fn reply_decided(&mut self, held: TenantReply, before: u64, ctx: &mut Context<Self>) {
        self.pipeline.hold_decided(held, before, &mut self.turns.queue());
        self.end_turn(ctx);
    }

    /// Holds the reply to a change until the change is on disk.
    pub(super) fn reply_changed(&mut self, held: TenantReply, ctx: &mut Context<Self>) {
        self.pipeline.hold_changed(held, &mut self.turns.queue());
        self.end_turn(ctx);
    }

    /// Holds the reply to a read until everything it may show is as durable as its writers were promised.
    pub(super) fn reply_read(&mut self, held: TenantReply, ctx: &mut Context<Self>) {
        let reply = self.pipeline.hold_read(held, &mut self.turns.queue());
        if reply == ReadReply::Held {
            self.end_turn(ctx);
        }
    }

    fn end_turn(&mut self, ctx: &mut Context<Self>) {
        if self.has_to_report() {
            self.report_slices(ctx);
        }
        if self.pipeline.since_snapshot() >= SNAPSHOT_EVENTS && self.snapshots_running == 0 {
            self.snapshot(None, ctx);
        }
        if self.pipeline.has_sealed() {
            self.fold_on(ctx);
        }
        // A mailbox that fills as fast as it empties must not keep replies waiting, nor this thread's other tenants.
        if self.unbroken >= MOST_UNBROKEN {
            self.unbroken = 0;
            self.turns.write();
            ctx.wait(wrap_future(tokio::task::yield_now()));
        } else {
            self.turns.schedule();
        }
    }

    pub(super) fn note_unsaved(&self, now: Timestamp) {
        if !self.meter.has_unsaved() && self.pipeline.since_snapshot() > 0 {
            self.meter.unsaved(Some(now));
        }
    }

    /// Ends an actor that is ahead of the log, or lost its folder: the registry loads the tenant again.
    pub(super) fn abandon(&mut self, problem: &str, ctx: &mut Context<Self>) {
        use actix::ActorContext;
        error!(tenant = %self.tenant().id(), problem, "the tenant is loaded again");
        self.report.ending = Ending::Storage;
        self.turns.write();
        self.pipeline.abandon();
        self.refuse_needs();
        ctx.stop();
    }
}

impl Handler<LogFailed> for TenantActor {
    type Result = ();

    fn handle(&mut self, _: LogFailed, ctx: &mut Context<Self>) {
        self.check_ahead(ctx);
    }
}

impl TenantActor {
    /// Ends the actor if its state has events that the log lost.
    pub(super) fn check_ahead(&mut self, ctx: &mut Context<Self>) {
        let is_ahead = self.pipeline.journal().is_some() && self.pipeline.is_ahead(&self.turns.queue());
        if is_ahead {
            self.abandon("the log failed", ctx);
        }
    }
}

//! The order of a commit, seen from the actor: events are recorded, replies held, and both written and synced in batches.

use std::io;
use std::time::{Duration, Instant};

use actix::fut::wrap_future;
use actix::{AsyncContext, Context, Handler, Message};
use kavach_store::commit_pipeline::ReadReply;
use tracing::{error, warn};

use super::TenantActor;
use crate::actors::messages::Ending;
use crate::actors::tenant_reply::TenantReply;
use crate::domain::{Error, Event, Moment, Timestamp};
use crate::journal::{Journal, SyncPoint};

/// Events after which a flush does not wait for an empty mailbox, so that other tenants on the thread get their turn:
/// these take a fraction of a millisecond, and one write for so large a batch is as good as free.
const MOST_UNFLUSHED: usize = 128;
/// How long a decision may stay off the disk, less the time that a busy disk takes.
const SYNC_DELAY: Duration = Duration::from_millis(500);
/// Events after which a snapshot is due: replaying them takes well under a second.
const SNAPSHOT_EVENTS: u64 = 200_000;

/// The mailbox is empty: hand what was appended to the kernel.
#[derive(Message)]
#[rtype(result = "()")]
struct Flush;

/// The disk has everything up to that point.
#[derive(Message)]
#[rtype(result = "()")]
struct SyncDone(io::Result<SyncPoint>);

impl TenantActor {
    /// Records an event: in the journal's buffer, then in the state.
    pub(super) fn record(&mut self, moment: Moment, event: &Event<'_>) -> Result<(), Error> {
        self.pipeline.record(moment, event)?;
        self.unflushed += 1;
        // A decision that charges no policy and revokes nobody changes only the traffic.
        if !matches!(event, Event::Decided(_)) || !self.tenant().policies().is_empty() {
            self.meter.changed();
        }
        Ok(())
    }

    /// Holds the reply to decisions, the events after `before`, until they are as durable as configured.
    pub(super) fn reply_decided(&mut self, held: TenantReply, before: u64, ctx: &mut Context<Self>) {
        self.pipeline.hold_decided(held, before);
        self.schedule_flush(ctx);
    }

    /// Holds the reply to a change until the change is on disk.
    pub(super) fn reply_changed(&mut self, held: TenantReply, ctx: &mut Context<Self>) {
        self.pipeline.hold_changed(held);
        self.schedule_flush(ctx);
    }

    /// Holds the reply to a read until everything it may show is as durable as its writers were promised.
    pub(super) fn reply_read(&mut self, held: TenantReply, ctx: &mut Context<Self>) {
        if self.pipeline.hold_read(held) == ReadReply::Held {
            self.schedule_flush(ctx);
        }
    }

    fn schedule_flush(&mut self, ctx: &mut Context<Self>) {
        // A mailbox that fills as fast as it empties must not keep replies waiting, nor this thread's other tenants.
        if self.unflushed >= MOST_UNFLUSHED {
            self.flush(ctx);
            ctx.wait(wrap_future(tokio::task::yield_now()));
            return;
        }
        // A message to itself is handled after the rest of the mailbox, so the batch forms by itself.
        if !std::mem::replace(&mut self.flush_scheduled, true) {
            ctx.notify(Flush);
        }
    }

    /// Hands everything appended to the kernel and releases the replies that waited for it. Returns whether the journal
    /// goes on.
    pub(super) fn write(&mut self, ctx: &mut Context<Self>) -> bool {
        if self.pipeline.journal().is_none() {
            return false;
        }
        self.unflushed = 0;
        let (now, start) = (self.resources.clock.now(), Instant::now());
        match self.pipeline.write(now) {
            Ok(written) => {
                let last_old = std::mem::replace(&mut self.announced, written);
                if last_old < written {
                    self.meter.flushed(start.elapsed(), self.pipeline.journal().map_or(0, Journal::written_bytes));
                    self.note_unsaved(now);
                    self.resources.audit.watch.announce(self.tenant().id().tag(), last_old, now);
                }
                true
            }
            Err(problem) => {
                self.abandon(&problem.to_string(), ctx);
                false
            }
        }
    }

    pub(super) fn note_unsaved(&self, now: Timestamp) {
        if !self.meter.has_unsaved() && self.pipeline.since_snapshot() > 0 {
            self.meter.unsaved(Some(now));
        }
    }

    /// Empties the journal's buffer and does what follows from that.
    fn flush(&mut self, ctx: &mut Context<Self>) {
        self.flush_scheduled = false;
        if self.write(ctx) {
            self.sync_when_due(ctx);
            if self.pipeline.since_snapshot() >= SNAPSHOT_EVENTS {
                self.snapshot(None, ctx);
            }
        }
    }

    /// Has the disk take what the kernel has: at once if a reply waits for it, else within a second.
    pub(super) fn sync_when_due(&mut self, ctx: &mut Context<Self>) {
        if self.pipeline.needs_sync() {
            self.start_sync(ctx);
        } else if self.pipeline.is_dirty() && !self.sync_running && !std::mem::replace(&mut self.sync_scheduled, true) {
            ctx.run_later(SYNC_DELAY, |actor, ctx| {
                actor.sync_scheduled = false;
                actor.start_sync(ctx);
            });
        }
    }

    fn start_sync(&mut self, ctx: &mut Context<Self>) {
        if self.sync_running {
            return;
        }
        let Some(job) = self.pipeline.begin_sync() else { return };
        self.sync_running = true;
        let me = ctx.address();
        // If the actor ended meanwhile, nobody needs the outcome.
        self.resources.syncer.submit(job, Box::new(move |outcome| me.do_send(SyncDone(outcome))));
    }

    /// Ends an actor that is ahead of its journal: waiting callers get an error, and the registry loads the tenant from
    /// disk again.
    pub(super) fn abandon(&mut self, problem: &str, ctx: &mut Context<Self>) {
        use actix::ActorContext;
        error!(tenant = %self.tenant().id(), problem, "the journal could not be written");
        self.ending = Ending::Storage;
        self.pipeline.abandon();
        ctx.stop();
    }
}

impl Handler<Flush> for TenantActor {
    type Result = ();

    fn handle(&mut self, _: Flush, ctx: &mut Self::Context) {
        self.flush(ctx);
    }
}

impl Handler<SyncDone> for TenantActor {
    type Result = ();

    fn handle(&mut self, SyncDone(outcome): SyncDone, ctx: &mut Self::Context) {
        self.sync_running = false;
        if self.pipeline.journal().is_none() {
            return;
        }
        let sealable = match self.pipeline.synced(outcome, self.resources.clock.now()) {
            Ok(sealable) => sealable,
            Err(problem) => return self.abandon(&problem.to_string(), ctx),
        };
        for job in sealable {
            let id = self.tenant().id();
            let done = move |outcome| {
                if let Err(problem) = outcome {
                    warn!(tenant = %id, %problem, "a journal segment could not be compressed; it stays as it is");
                }
            };
            self.resources.compressor.submit(job, Box::new(done));
        }
        // Events that came while the disk was busy.
        self.sync_when_due(ctx);
    }
}

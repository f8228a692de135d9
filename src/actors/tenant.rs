//! A tenant's actor: the only owner of its state and its journal.
//!
//! A command is decided against the state by pure code and yields an event; the event is appended to the journal's
//! buffer and applied; the reply is held (see [`kavach_store::commit_pipeline`]). When the mailbox is empty the buffer is flushed with one write, and the
//! replies that wait for no more leave. Those that wait for the disk leave when a sync, run by another thread, says
//! so. So one write, or one fsync, serves all calls that came meanwhile.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix::fut::wrap_future;
use actix::{Actor, AsyncContext, Context, Handler};
use actix_rt::task::spawn_blocking;
use tracing::{error, info, warn};

use super::core::Core;
use super::messages::{Flush, Probe, SnapshotWritten, SyncDone};
use super::registry::TenantDown;
use super::reply::Held;
use crate::domain::{Code, Error, Event, Tenant, Timestamp, moment::Moment};
use crate::journal::Journal;
use crate::measure::{Meter, count};
use kavach_store::CommitPipeline;
use kavach_store::HeldReply as _;
use kavach_store::Loaded;
use kavach_store::commit_pipeline::Answered;
use kavach_store::refusal::storage_unavailable;

/// Messages a tenant's mailbox holds: some tens of milliseconds of single calls, in a few megabytes.
pub const MAILBOX_CAPACITY: usize = 4_096;
/// Events after which a flush does not wait for the mailbox to be empty, and other tenants of the thread have their
/// turn: so many take a fraction of a millisecond, and one write for so many is as good as free.
const MOST_UNFLUSHED: usize = 128;
/// How long a decision may stay out of the disk's reach, less the time a busy disk takes.
const SYNC_DELAY: Duration = Duration::from_millis(500);
/// Events after which a snapshot is due: replaying as many takes well under a second.
const SNAPSHOT_EVENTS: u64 = 200_000;
/// How often a tenant with fewer new events writes one.
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(300);
/// How often a tenant whose storage failed tries it again.
const PROBE_DELAY: Duration = Duration::from_millis(250);

/// How an actor ended, which decides what the registry does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It panicked: what nobody else said before it was dropped.
    Panic,
    /// The journal could not be written: the state is ahead of the disk.
    Storage,
    /// It was told to.
    Clean,
}

/// A tenant's actor.
pub struct TenantActor {
    pub(super) core: Arc<Core>,
    /// Its journal is `None` once the actor ends.
    pub(super) pipeline: CommitPipeline<Held>,
    pub(super) ending: Ending,
    /// The last event that followers of the journal were told of.
    told: u64,
    pub(super) retention_running: bool,
    generation: u64,
    /// Events recorded since the last flush.
    unflushed: usize,
    flush_scheduled: bool,
    sync_running: bool,
    sync_scheduled: bool,
    snapshot_running: bool,
    pub(super) meter: Meter,
}

impl TenantActor {
    pub(super) fn new(core: Arc<Core>, loaded: Loaded, generation: u64, storage_failed: bool, meter: Meter) -> Self {
        let told = loaded.told;
        if storage_failed {
            core.storage_failures.fetch_add(1, Ordering::Relaxed);
        }
        Self {
            told,
            pipeline: CommitPipeline::new(loaded, core.durability, storage_failed),
            core,
            unflushed: 0,
            ending: Ending::Panic,
            retention_running: false,
            generation,
            flush_scheduled: false,
            sync_running: false,
            sync_scheduled: false,
            snapshot_running: false,
            meter,
        }
    }

    pub(super) fn tenant(&self) -> &Tenant {
        self.pipeline.tenant()
    }

    /// Lets an event happen: into the journal's buffer, then into the state.
    pub(super) fn record(&mut self, moment: Moment, event: &Event<'_>) -> Result<(), Error> {
        self.pipeline.record(moment, event)?;
        self.unflushed += 1;
        // A decision that is charged to no policy, and revokes nobody, leaves all but the traffic as it is.
        if !matches!(event, Event::Decided(_)) || !self.tenant().policies().is_empty() {
            self.meter.changed();
        }
        Ok(())
    }

    /// Holds the reply to decisions, the events after `before`, until they are as durable as configured.
    pub(super) fn reply_decided(&mut self, held: Held, before: u64, ctx: &mut Context<Self>) {
        self.pipeline.hold_decided(held, before);
        self.schedule_flush(ctx);
    }

    /// Holds the reply to a change until the change is on disk.
    pub(super) fn reply_changed(&mut self, held: Held, ctx: &mut Context<Self>) {
        self.pipeline.hold_changed(held);
        self.schedule_flush(ctx);
    }

    /// Holds the reply to a read until all it may show is as durable as its writers were promised.
    pub(super) fn reply_read(&mut self, held: Held, ctx: &mut Context<Self>) {
        if self.pipeline.hold_read(held) == Answered::Later {
            self.schedule_flush(ctx);
        }
    }

    fn schedule_flush(&mut self, ctx: &mut Context<Self>) {
        // A mailbox that is filled as fast as it is emptied must not keep replies waiting, nor who else lives here.
        if self.unflushed >= MOST_UNFLUSHED {
            self.flush(ctx);
            ctx.wait(wrap_future(tokio::task::yield_now()));
            return;
        }
        // A message to itself is handled when the mailbox has been emptied: the batch makes itself.
        if !std::mem::replace(&mut self.flush_scheduled, true) {
            ctx.notify(Flush);
        }
    }

    /// Gives the kernel all that was appended and releases who waited for that. Says whether the journal goes on.
    pub(super) fn write(&mut self, ctx: &mut Context<Self>) -> bool {
        if self.pipeline.journal().is_none() {
            return false;
        }
        self.unflushed = 0;
        let (now, start) = (self.core.clock.now(), Instant::now());
        match self.pipeline.write(now) {
            Ok(written) => {
                let last_old = std::mem::replace(&mut self.told, written);
                if last_old < written {
                    self.meter.flushed(start.elapsed(), self.pipeline.journal().map_or(0, Journal::written_bytes));
                    self.note_unsaved(now);
                    self.core.audit.news.tell(self.tenant().id().tag(), last_old, now);
                }
                true
            }
            Err(problem) => {
                self.abandon(&problem.to_string(), ctx);
                false
            }
        }
    }

    fn note_unsaved(&self, now: Timestamp) {
        if !self.meter.has_unsaved() && self.pipeline.since_snapshot() > 0 {
            self.meter.unsaved(Some(now));
        }
    }

    /// Empties the journal's buffer and sees to what follows from that.
    fn flush(&mut self, ctx: &mut Context<Self>) {
        self.flush_scheduled = false;
        if self.write(ctx) {
            self.sync_when_due(ctx);
            if self.pipeline.since_snapshot() >= SNAPSHOT_EVENTS {
                self.snapshot(None, ctx);
            }
        }
    }

    /// Has the disk take what the kernel has: at once where a reply waits for it, else within a second.
    fn sync_when_due(&mut self, ctx: &mut Context<Self>) {
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
        // An actor that ended meanwhile has nobody left to tell.
        self.core.syncer.submit(job, Box::new(move |outcome| me.do_send(SyncDone(outcome))));
    }

    /// Copies the state and has it written by another thread.
    pub(super) fn snapshot(&mut self, done: Option<Held>, ctx: &mut Context<Self>) {
        // A snapshot holds no more than the journal does.
        self.write(ctx);
        let Some(snapshot) = self.pipeline.begin_snapshot() else {
            if let Some(held) = done {
                let current = self.pipeline.since_snapshot() == 0;
                held.release(if current { Ok(()) } else { Err(self.pipeline.no_journal()) });
            }
            return;
        };
        if self.pipeline.storage_failed() || (self.snapshot_running && done.is_none()) {
            return;
        }
        self.snapshot_running = true;
        let (core, me, seq, start) = (Arc::clone(&self.core), ctx.address(), snapshot.seq(), self.core.clock.now());
        actix_rt::spawn(async move {
            let permit = core.snapshot_writers.acquire().await;
            let written = spawn_blocking(move || {
                let start = Instant::now();
                snapshot.write().map(|()| start.elapsed())
            });
            let problem = match written.await {
                Ok(Ok(took)) => {
                    core.measures.snapshots.add_time(took);
                    core.measures.last_snapshot.store(core.clock.now().millis(), Ordering::Relaxed);
                    None
                }
                Ok(Err(problem)) => Some(problem.to_string()),
                Err(panic) => Some(panic.to_string()),
            };
            drop(permit);
            me.do_send(SnapshotWritten { seq, problem, done, begun_at: start });
        });
    }

    /// Ends an actor whose state is ahead of its journal: who waits gets an error, and the registry reads the
    /// tenant from disk again.
    pub(super) fn abandon(&mut self, problem: &str, ctx: &mut Context<Self>) {
        use actix::ActorContext;
        error!(tenant = %self.tenant().id(), problem, "the journal could not be written");
        self.ending = Ending::Storage;
        self.pipeline.abandon();
        ctx.stop();
    }
}

/// The error of a call that a mailbox has no room for.
pub fn overloaded() -> Error {
    Error::new(Code::Overloaded, "more calls wait for this tenant than it can take; try again")
}

impl Actor for TenantActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // Tenants that started together take their turns.
        let offset = Duration::from_secs(u64::from(self.tenant().id().tag().0) % SNAPSHOT_INTERVAL.as_secs());
        ctx.run_later(offset, |actor, ctx| {
            actor.snapshot(None, ctx);
            ctx.run_interval(SNAPSHOT_INTERVAL, |actor, ctx| actor.snapshot(None, ctx));
        });
        self.schedule_retention(ctx);
        self.note_unsaved(self.core.clock.now());
        // What a killed process left with the kernel only.
        self.sync_when_due(ctx);
        if self.pipeline.storage_failed() {
            ctx.notify(Probe);
        }
    }
}

impl Drop for TenantActor {
    fn drop(&mut self) {
        if self.pipeline.storage_failed() {
            self.core.storage_failures.fetch_sub(1, Ordering::Relaxed);
        }
        // The registry reads the tenant from disk again, which takes that nobody else has its journal open.
        self.pipeline.drop_journal();
        if self.ending != Ending::Clean
            && let Some(registry) = self.core.registry()
        {
            let (id, generation, ending) = (self.tenant().id(), self.generation, self.ending);
            registry.do_send(TenantDown { id, generation, ending });
        }
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
        let sealable = match self.pipeline.synced(outcome, self.core.clock.now()) {
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
            self.core.sealer.submit(job, Box::new(done));
        }
        // What came while the disk was busy.
        self.sync_when_due(ctx);
    }
}

impl Handler<SnapshotWritten> for TenantActor {
    type Result = ();

    fn handle(&mut self, message: SnapshotWritten, ctx: &mut Self::Context) {
        let SnapshotWritten { seq, problem, done, begun_at } = message;
        self.snapshot_running = false;
        let outcome = match problem {
            None => {
                self.pipeline.snapshot_written(seq);
                self.meter.unsaved((self.pipeline.since_snapshot() > 0).then_some(begun_at));
                self.remove_old_segments(ctx);
                Ok(())
            }
            Some(problem) => {
                count(&self.core.measures.failed_snapshots);
                warn!(tenant = %self.tenant().id(), problem, "a snapshot could not be written; the journal has it all");
                Err(storage_unavailable())
            }
        };
        if let Some(held) = done {
            held.release(outcome);
        }
    }
}

impl Handler<Probe> for TenantActor {
    type Result = ();

    fn handle(&mut self, _: Probe, ctx: &mut Self::Context) {
        let (core, name, me) = (Arc::clone(&self.core), self.tenant().id().folder_name(), ctx.address());
        actix_rt::spawn(async move {
            let probed = spawn_blocking(move || crate::journal::probe(&core.data.folder(&name)?)).await;
            let works = matches!(probed, Ok(Ok(())));
            me.do_send(super::messages::Probed(works));
        });
    }
}

impl Handler<super::messages::Probed> for TenantActor {
    type Result = ();

    fn handle(&mut self, super::messages::Probed(works): super::messages::Probed, ctx: &mut Self::Context) {
        if works {
            info!(tenant = %self.tenant().id(), "the storage works again");
            self.pipeline.storage_works();
            self.core.storage_failures.fetch_sub(1, Ordering::Relaxed);
            self.sync_when_due(ctx);
        } else {
            ctx.notify_later(Probe, PROBE_DELAY);
        }
    }
}

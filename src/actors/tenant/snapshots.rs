//! Snapshots: the actor's thread copies the state, and another writes it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use actix::{AsyncContext, Context, Handler, Message};
use actix_rt::task::spawn_blocking;
use kavach_store::HeldReply as _;
use kavach_store::commit_pipeline::StateCopy;
use kavach_store::refusal::storage_unavailable;
use tracing::warn;

use super::TenantActor;
use super::fold::FolderNeed;
use crate::actors::messages::TakeSnapshot;
use crate::actors::tenant_reply::TenantReply;
use crate::domain::Timestamp;
use crate::measure::count;

/// A snapshot is on disk, or its writing failed.
#[derive(Message)]
#[rtype(result = "()")]
struct SnapshotWritten {
    seq: u64,
    problem: Option<String>,
    /// When its state was copied.
    begun_at: Timestamp,
}

impl TenantActor {
    /// Copies the state, and has another thread write it once the folder has its events.
    pub(super) fn snapshot(&mut self, done: Option<TenantReply>, ctx: &mut Context<Self>) {
        if done.is_none() && (self.pipeline.storage_failed() || self.snapshots_running > 0) {
            return;
        }
        match self.pipeline.copy_state().filter(|_| !self.pipeline.storage_failed()) {
            Some(copy) => {
                self.snapshots_running += 1;
                self.fold(FolderNeed::Snapshot(copy, self.resources.clock.now(), done), ctx);
            }
            None => {
                let Some(held) = done else { return };
                let current = self.pipeline.since_snapshot() == 0;
                held.release(match (current, self.pipeline.journal()) {
                    (true, _) => Ok(()),
                    (false, Some(_)) => Err(storage_unavailable()),
                    (false, None) => Err(self.pipeline.no_journal()),
                });
            }
        }
    }

    /// Has another thread write a snapshot of a state that the folder has the events of.
    pub(super) fn write_snapshot(
        &mut self,
        copy: StateCopy,
        copied_at: Timestamp,
        done: Option<TenantReply>,
        ctx: &mut Context<Self>,
    ) {
        let Ok(snapshot) = self.pipeline.begin_snapshot(copy) else {
            self.snapshots_running = self.snapshots_running.saturating_sub(1);
            if let Some(held) = done {
                held.release(Err(storage_unavailable()));
            }
            return;
        };
        let (resources, me, seq) = (Arc::clone(&self.resources), ctx.address(), snapshot.seq());
        actix_rt::spawn(async move {
            let permit = resources.snapshot_writers.acquire().await;
            let written = spawn_blocking(move || {
                let start = Instant::now();
                snapshot.write().map(|()| start.elapsed())
            });
            let problem = match written.await {
                Ok(Ok(took)) => {
                    resources.measures.snapshots.add_time(took);
                    resources.measures.last_snapshot.store(resources.clock.now().millis(), Ordering::Relaxed);
                    None
                }
                Ok(Err(problem)) => Some(problem.to_string()),
                Err(panic) => Some(panic.to_string()),
            };
            drop(permit);
            let outcome = if problem.is_none() { Ok(()) } else { Err(storage_unavailable()) };
            // The actor may have left meanwhile. Whoever asked for the snapshot has it all the same.
            me.do_send(SnapshotWritten { seq, problem, begun_at: copied_at });
            if let Some(held) = done {
                held.release(outcome);
            }
        });
    }
}

impl Handler<TakeSnapshot> for TenantActor {
    type Result = ();

    fn handle(&mut self, TakeSnapshot { reply }: TakeSnapshot, ctx: &mut Context<Self>) {
        match self.check_writable() {
            Ok(()) => self.snapshot(Some(TenantReply::of(reply, ())), ctx),
            Err(error) => drop(reply.send(Err(error))),
        }
    }
}

impl Handler<SnapshotWritten> for TenantActor {
    type Result = ();

    fn handle(&mut self, message: SnapshotWritten, ctx: &mut Self::Context) {
        let SnapshotWritten { seq, problem, begun_at } = message;
        self.snapshots_running = self.snapshots_running.saturating_sub(1);
        match problem {
            None => {
                self.pipeline.snapshot_written(seq);
                self.meter.unsaved((self.pipeline.since_snapshot() > 0).then_some(begun_at));
                self.remove_old_segments(None, ctx);
            }
            Some(problem) => {
                count(&self.resources.measures.failed_snapshots);
                warn!(tenant = %self.tenant().id(), problem, "a snapshot could not be written; the journal has it all");
            }
        }
    }
}

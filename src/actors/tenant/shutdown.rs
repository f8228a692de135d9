//! The end of an actor: with everything on disk, or at once if its tenant is being erased.

use std::sync::Arc;
use std::time::Duration;

use actix::{ActorContext, AsyncContext, Context, Handler};
use actix_rt::task::spawn_blocking;
use tokio::sync::oneshot;
use tracing::error;

use super::TenantActor;
use crate::actors::messages::{Close, Ending, Retire};
use crate::actors::tenant_reply::TenantReply;
use crate::domain::time::DAY_MS;
use crate::journal::Journal;
use kavach_store::CatalogRow;
use kavach_store::catalog_writer::RowBytes;
use kavach_store::commit_pipeline::{Closed, PendingSnapshot};

/// How often an actor that is to end looks whether it can.
const BUSY_DELAY: Duration = Duration::from_millis(2);

impl Handler<Close> for TenantActor {
    type Result = ();

    fn handle(&mut self, message: Close, ctx: &mut Context<Self>) {
        if self.waits_for_slices() || !self.recalls.is_empty() {
            // Somebody waits for what another tenant has, and not for long.
            ctx.notify_later(message, BUSY_DELAY);
            return;
        }
        if self.snapshots_running > 0 || self.retention_running || self.is_folding() {
            // Somebody waits for what another thread is doing, or it works in the folder.
            self.resume_folding(ctx);
            ctx.notify_later(message, BUSY_DELAY);
            return;
        }
        if !self.pipeline.storage_failed() && self.pipeline.is_unsynced(&self.turns.queue()) {
            // The folder gets only what the log has on disk.
            self.turns.write();
            self.resources.log_keeper.appended(true);
            ctx.notify_later(message, BUSY_DELAY);
            return;
        }
        let Close { snapshot_from, done } = message;
        // What is past the retention goes only once two snapshots cover it.
        let has_old = self.pipeline.journal().is_some_and(Journal::has_older_segments);
        let keeps_all = self.tenant().profile().settings.audit_retention_days.is_none();
        let snapshot_from = if has_old && !keeps_all { 1 } else { snapshot_from };
        // The log is synced for the replies that still wait, and tells when it is.
        let (settled, settles) = oneshot::channel();
        if !self.pipeline.storage_failed() {
            let held = TenantReply::Other(Box::new(move |outcome| _ = settled.send(outcome.is_ok())));
            self.pipeline.hold_changed(held, &mut self.turns.queue());
        }
        self.turns.write();
        let (id, seq, resources) = (self.tenant().id(), self.tenant().seq(), Arc::clone(&self.resources));
        let now = resources.clock.now();
        let row = CatalogRow::of(self.tenant(), now, self.pipeline.since_snapshot());
        let Some(job) = self.pipeline.begin_close(snapshot_from) else { return };
        let old_row = self.row.take();
        self.report.ending = Ending::Clean;
        ctx.stop();
        actix_rt::spawn(async move {
            let closed = spawn_blocking(move || job.close(now)).await;
            let closed = closed.map_err(|panic| panic.to_string()).and_then(|closed| closed.map_err(|e| e.to_string()));
            let is_settled = settles.await.unwrap_or(false);
            let row = match closed {
                Ok(Closed { snapshot, oldest_ends_ms }) => {
                    let mut row = row.with_oldest_end(oldest_ends_ms);
                    // What is past it by now could not be removed.
                    row.retention_due =
                        row.retention_due.map(|due| if due > now { due } else { now.plus_millis(DAY_MS) });
                    if let Some(snapshot) = snapshot {
                        match write_snapshot(snapshot).await {
                            Ok(()) => row.since_snapshot = 0,
                            Err(problem) => {
                                error!(tenant = %id, problem, "a snapshot could not be written; the journal has it all");
                            }
                        }
                    }
                    is_settled.then(|| RowBytes::from(row.encode()))
                }
                Err(problem) => {
                    error!(tenant = %id, problem, "the tenant's folder could not be closed; the log keeps its events");
                    None
                }
            };
            match &row {
                Some(row) if old_row.as_ref() != Some(row) => {
                    resources.catalog.note(id, RowBytes::clone(row), seq);
                }
                Some(_) => resources.catalog.folded(id, seq),
                None => resources.log.not_folded(id.bytes()),
            }
            let _ = done.send(row);
        });
    }
}

async fn write_snapshot(snapshot: PendingSnapshot) -> Result<(), String> {
    match spawn_blocking(move || snapshot.write()).await {
        Ok(written) => written.map_err(|problem| problem.to_string()),
        Err(panic) => Err(panic.to_string()),
    }
}

impl Handler<Retire> for TenantActor {
    type Result = ();

    fn handle(&mut self, Retire { done }: Retire, ctx: &mut Context<Self>) {
        self.report.ending = Ending::Clean;
        self.turns.write();
        self.pipeline.drop_journal();
        ctx.stop();
        let _ = done.send(());
    }
}

//! Folding: what the log has of the tenant goes into its folder, in large pieces and from memory. Then the log may forget it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix::{AsyncContext, Context, Handler, Message};
use tracing::{error, warn};

use super::TenantActor;
use crate::actors::messages::FoldTail;
use crate::actors::tenant_reply::TenantReply;
use crate::domain::Error;
use crate::journal::{Journal, SyncPoint};
use kavach_store::CatalogRow;
use kavach_store::catalog_writer::RowBytes;

/// A row was not noted: the log failed, or too much waits for it.
#[derive(Message)]
#[rtype(result = "()")]
struct RowLost;

/// The folder has everything up to that point on disk.
#[derive(Message)]
#[rtype(result = "()")]
struct FolderSynced(io::Result<SyncPoint>);

impl TenantActor {
    /// Writes the tail to the folder, after the log has taken what this turn recorded. Says whether the folder has
    /// everything now.
    pub(super) fn fold(&mut self, ctx: &mut Context<Self>) -> bool {
        let needs_write = self.pipeline.needs_write(&self.turns.queue());
        if needs_write {
            self.turns.write();
        }
        if self.pipeline.journal().is_none() {
            return false;
        }
        if self.pipeline.is_ahead(&self.turns.queue()) {
            self.abandon("the log does not have all events", ctx);
            return false;
        }
        // A log on another machine may not have answered yet. The tenant folds when it is asked again.
        if self.pipeline.needs_write(&self.turns.queue()) {
            return false;
        }
        let folded = self.pipeline.fold(self.resources.clock.now(), &self.turns.queue());
        let Err(problem) = folded else { return true };
        if self.pipeline.journal().is_some_and(crate::journal::Journal::is_broken) {
            self.abandon(&problem.to_string(), ctx);
        } else if !self.pipeline.storage_failed() {
            error!(tenant = %self.tenant().id(), %problem, "the tenant's folder can't be written; the log has its events");
            self.pipeline.storage_fails();
            self.resources.storage_failures.fetch_add(1, Ordering::Relaxed);
            self.probe_storage(ctx);
        }
        false
    }

    /// Has the disk take what is in the folder.
    pub(super) fn sync_folder(&mut self, ctx: &mut Context<Self>) {
        if self.fold_running {
            return;
        }
        let Some(job) = self.pipeline.begin_sync() else {
            self.note_folded(ctx);
            return self.give_checkpoints(ctx);
        };
        self.fold_running = true;
        self.unsynced = 0;
        let me = ctx.address();
        // If the actor ended meanwhile, nobody needs the outcome.
        self.resources.syncer.submit(job, Box::new(move |outcome| me.do_send(FolderSynced(outcome))));
    }

    /// Takes the outcome of a sync of the folder. Says whether the actor goes on.
    pub(super) fn folder_synced(&mut self, outcome: io::Result<SyncPoint>, ctx: &mut Context<Self>) -> bool {
        if self.pipeline.journal().is_none() {
            return false;
        }
        let compressible = match self.pipeline.synced(outcome, self.resources.clock.now()) {
            Ok(compressible) => compressible,
            Err(problem) => {
                self.abandon(&problem.to_string(), ctx);
                return false;
            }
        };
        self.note_folded(ctx);
        for job in compressible {
            let id = self.tenant().id();
            let done = move |outcome| {
                if let Err(problem) = outcome {
                    warn!(tenant = %id, %problem, "a journal segment could not be compressed; it stays as it is");
                }
            };
            self.resources.compressor.submit(job, Box::new(done));
        }
        true
    }

    /// Lets the log forget what the folder has on disk, once the tenant's row is in the catalog.
    fn note_folded(&mut self, ctx: &mut Context<Self>) {
        let Some(synced) = self.pipeline.journal().map(Journal::synced_seq) else { return };
        let id = self.tenant().id();
        let is_told = self.row.is_some() && self.tenant().seq() == self.row_seq;
        let row = if is_told { None } else { Some(self.make_row()) };
        // A row tells of the newest events too: it waits until the log has them on disk. And nothing may overtake it: the log
        // would forget what no row tells yet.
        let (resources, me) = (Arc::clone(&self.resources), ctx.address());
        let note = move |outcome: Result<(), Error>| match (outcome, row) {
            (Ok(()), Some(row)) => resources.catalog.note(id, row, synced),
            (Ok(()), None) => resources.catalog.folded(id, synced),
            (Err(_), _) => {
                // First, so that it makes another row when it is asked to fold again.
                me.do_send(RowLost);
                resources.log.not_folded(id.bytes());
            }
        };
        self.pipeline.hold_changed(TenantReply::Other(Box::new(note)), &mut self.turns.queue());
        self.turns.schedule();
    }

    /// A row of everything in the state.
    fn make_row(&mut self) -> RowBytes {
        let mut row = CatalogRow::of(self.tenant(), self.resources.clock.now(), self.pipeline.since_snapshot());
        if self.pipeline.journal().is_some_and(Journal::has_older_segments) {
            // It counts only after a crash. When the oldest ends is not known without a look at the disk.
            row = row.with_oldest_end(Some(0));
        }
        let row = RowBytes::from(row.encode());
        (self.row, self.row_seq) = (Some(RowBytes::clone(&row)), self.tenant().seq());
        row
    }
}

impl Handler<FoldTail> for TenantActor {
    type Result = ();

    fn handle(&mut self, _: FoldTail, ctx: &mut Context<Self>) {
        if self.fold(ctx) {
            self.sync_folder(ctx);
        } else {
            self.resources.log.not_folded(self.tenant().id().bytes());
        }
    }
}

impl Handler<RowLost> for TenantActor {
    type Result = ();

    fn handle(&mut self, _: RowLost, _: &mut Context<Self>) {
        self.row = None;
    }
}

impl Handler<FolderSynced> for TenantActor {
    type Result = ();

    fn handle(&mut self, FolderSynced(outcome): FolderSynced, ctx: &mut Context<Self>) {
        self.fold_running = false;
        if self.folder_synced(outcome, ctx) {
            self.give_checkpoints(ctx);
        }
    }
}

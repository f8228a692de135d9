//! Folding: what the log has of the tenant goes into its folder, in large pieces and from memory. Then the log may forget it.
//!
//! A fold begins with events that the log has on disk, so that a power failure leaves no folder ahead of the log. One thread
//! writes them, another syncs the folder, and meanwhile the actor goes on. Whoever needs something in the folder waits in
//! `needs`.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix::{AsyncContext, Context, Handler, Message};
use tracing::{error, warn};

use super::TenantActor;
use crate::actors::messages::{Checkpointed, FoldTail};
use crate::actors::reply::Reply;
use crate::actors::tenant_reply::TenantReply;
use crate::domain::{Error, Timestamp};
use crate::journal::{Flushed, Journal, SyncPoint};
use kavach_store::CatalogRow;
use kavach_store::HeldReply as _;
use kavach_store::catalog_writer::RowBytes;
use kavach_store::commit_pipeline::StateCopy;
use kavach_store::refusal::storage_unavailable;

/// Bytes written to the folder after which it is synced (4 MiB), so that the log can forget them.
const SYNC_BYTES: usize = 4 << 20;

/// A row was not noted: the log failed, or too much waits for it.
#[derive(Message)]
#[rtype(result = "()")]
struct RowLost;

/// The log may have on disk what waits to be folded.
#[derive(Message)]
#[rtype(result = "()")]
struct LogSynced;

/// A fold was written, or was not.
#[derive(Message)]
#[rtype(result = "()")]
struct Folded(Flushed);

/// The folder has everything up to that point on disk.
#[derive(Message)]
#[rtype(result = "()")]
struct FolderSynced(io::Result<SyncPoint>);

/// What waits until the folder has events.
pub(super) enum FolderNeed {
    /// To have them synced, so that the log can forget them.
    Disk,
    /// To have them on disk, and a link of the hash chain after them.
    Link(Reply<Checkpointed>),
    /// To have them in its file. Then a snapshot of that copy, from that time, is written, for somebody who waits for it,
    /// perhaps; and they are synced.
    Snapshot(StateCopy, Timestamp, Option<TenantReply>),
}

impl TenantActor {
    /// Has the folder take everything up to now, once the log has it on disk, and does then what needs that.
    pub(super) fn fold(&mut self, need: FolderNeed, ctx: &mut Context<Self>) {
        self.needs.push((self.pipeline.seal(), need));
        let me = ctx.address();
        // Whatever became of the sync, the actor looks.
        let synced = TenantReply::Other(Box::new(move |_| me.do_send(LogSynced)));
        self.pipeline.hold_changed(synced, &mut self.turns.queue());
        self.turns.schedule();
    }

    /// Whether a thread works in the folder, or something waits for it.
    pub(super) fn is_folding(&self) -> bool {
        self.fold_running || !self.needs.is_empty()
    }

    /// Folds what can be folded, unless a thread is at work in the folder.
    pub(super) fn fold_on(&mut self, ctx: &mut Context<Self>) {
        if self.fold_running || self.pipeline.storage_failed() {
            return;
        }
        let begun = self.pipeline.begin_fold(&self.turns.queue());
        match begun {
            Ok(Some(job)) => {
                self.fold_running = true;
                self.unsynced += job.bytes();
                let me = ctx.address();
                // If the actor ended meanwhile, nobody needs the outcome.
                self.resources.folder_writer.submit(job, Box::new(move |flushed| me.do_send(Folded(flushed))));
            }
            Ok(None) => {}
            Err(problem) => self.fold_failed(&problem, ctx),
        }
    }

    fn fold_failed(&mut self, problem: &io::Error, ctx: &mut Context<Self>) {
        if self.pipeline.journal().is_some_and(Journal::is_broken) {
            return self.abandon(&problem.to_string(), ctx);
        }
        if !self.pipeline.storage_failed() {
            error!(tenant = %self.tenant().id(), %problem, "the tenant's folder can't be written; the log has its events");
            self.pipeline.storage_fails();
            self.resources.storage_failures.fetch_add(1, Ordering::Relaxed);
            self.probe_storage(ctx);
        }
        self.refuse_needs();
    }

    /// Nothing gets into the folder now.
    pub(super) fn refuse_needs(&mut self) {
        for (_, need) in std::mem::take(&mut self.needs) {
            match need {
                FolderNeed::Disk => self.resources.log.not_folded(self.tenant().id().bytes()),
                FolderNeed::Link(reply) => drop(reply.send(Err(storage_unavailable()))),
                FolderNeed::Snapshot(_, _, done) => {
                    self.snapshots_running = self.snapshots_running.saturating_sub(1);
                    if let Some(held) = done {
                        held.release(Err(storage_unavailable()));
                    }
                }
            }
        }
    }

    /// Looks what can be done for those who wait, unless a thread is at work in the folder.
    pub(super) fn resume_folding(&mut self, ctx: &mut Context<Self>) {
        if !self.fold_running {
            self.serve_needs(ctx);
        }
    }

    /// Does what waits for events that the folder has now, and folds on.
    fn serve_needs(&mut self, ctx: &mut Context<Self>) {
        let Some(own) = self.pipeline.journal() else { return };
        let (written, synced) = (own.written_seq(), own.synced_seq());
        // A full segment is compressed once it is on disk to its end. Perhaps nothing follows it for long.
        let mut needs_sync = self.unsynced >= SYNC_BYTES || own.has_full_segment();
        let is_met = |(upto, need): &mut (u64, FolderNeed)| match need {
            FolderNeed::Snapshot(..) | FolderNeed::Disk => {
                needs_sync |= *upto <= written;
                *upto <= written
            }
            FolderNeed::Link(_) => {
                needs_sync |= synced < *upto && *upto <= written;
                *upto <= synced
            }
        };
        let met: Vec<_> = self.needs.extract_if(.., is_met).collect();
        for (_, need) in met {
            match need {
                FolderNeed::Disk => {}
                FolderNeed::Link(reply) => self.give_checkpoint(reply, ctx),
                FolderNeed::Snapshot(copy, copied_at, done) => self.write_snapshot(copy, copied_at, done, ctx),
            }
        }
        if needs_sync {
            self.sync_folder(ctx);
        }
        self.fold_on(ctx);
    }

    /// Has the disk take what is in the folder.
    pub(super) fn sync_folder(&mut self, ctx: &mut Context<Self>) {
        if self.fold_running {
            return;
        }
        let Some(job) = self.pipeline.begin_sync() else { return self.note_folded(ctx) };
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
        if self.pipeline.storage_failed() {
            return self.resources.log.not_folded(self.tenant().id().bytes());
        }
        self.fold(FolderNeed::Disk, ctx);
    }
}

impl Handler<LogSynced> for TenantActor {
    type Result = ();

    fn handle(&mut self, _: LogSynced, ctx: &mut Context<Self>) {
        self.check_ahead(ctx);
        self.resume_folding(ctx);
    }
}

impl Handler<Folded> for TenantActor {
    type Result = ();

    fn handle(&mut self, Folded(flushed): Folded, ctx: &mut Context<Self>) {
        self.fold_running = false;
        match self.pipeline.folded(flushed, self.resources.clock.now()) {
            Ok(()) => self.serve_needs(ctx),
            Err(problem) => self.fold_failed(&problem, ctx),
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
            self.serve_needs(ctx);
        }
    }
}

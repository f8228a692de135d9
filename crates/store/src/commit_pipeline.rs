//! The commit pipeline of one tenant: its state, its journal, and the replies that wait for either.
//!
//! The whole order of a commit is in this file: append, apply, write, sync, reply. It has no actor, clock or thread. In
//! the server an actor decides when each step happens, in `tests/sim` a seed does.

use std::io;

use kavach_domain::tenant::State;
use kavach_domain::{Error, Event, Moment, Tenant, Timestamp};
use kavach_journal::{CompressionJob, Journal, SnapshotJob, SyncJob, SyncPoint};
use tracing::{error, warn};

use crate::codec;
use crate::durability::Durability;
use crate::loader::LoadedTenant;
use crate::pending_replies::{HeldReply, PendingReplies};
use crate::refusal::{not_recorded, outcome_unknown, shutting_down, storage_unavailable};

/// A tenant's state and journal, and the replies of type `R` that wait for their events.
pub struct CommitPipeline<R> {
    tenant: Tenant,
    /// `None` once the pipeline has ended.
    journal: Option<Journal>,
    waiting: PendingReplies<R>,
    durability: Durability,
    /// The last change that no read may show before the change's own reply has left.
    last_change: u64,
    /// The last event that the newest snapshot covers.
    snapshot_seq: u64,
    /// Whether the storage failed and no probe has succeeded since. Nothing is written meanwhile.
    storage_failed: bool,
    /// Whether a write to the journal failed, so that the pipeline has ended or must end.
    failed: bool,
}

/// What happened to the reply to a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadReply {
    /// It has left.
    Sent,
    /// It waits for earlier events: a write is due.
    Held,
}

impl<R: HeldReply> CommitPipeline<R> {
    /// A pipeline that continues from what was loaded.
    pub fn new(loaded: LoadedTenant, durability: Durability, storage_failed: bool) -> Self {
        let LoadedTenant { tenant, journal, snapshot_seq, announced_seq: _ } = loaded;
        Self {
            // We don't know what callers were promised for the events before a rebuild, so a read waits for all of
            // them.
            last_change: tenant.seq(),
            tenant,
            journal: Some(journal),
            waiting: PendingReplies::default(),
            durability,
            snapshot_seq,
            storage_failed,
            failed: false,
        }
    }

    /// The tenant's state.
    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// The journal; `None` once the pipeline has ended.
    pub fn journal(&self) -> Option<&Journal> {
        self.journal.as_ref()
    }

    /// The journal, to write links of the hash chain and to note what retention removed.
    pub fn journal_mut(&mut self) -> Option<&mut Journal> {
        self.journal.as_mut()
    }

    /// Whether the storage failed and no probe has succeeded since.
    pub fn storage_failed(&self) -> bool {
        self.storage_failed
    }

    /// A probe has succeeded: the storage works again.
    pub fn storage_works(&mut self) {
        self.storage_failed = false;
    }

    /// The number of events that no snapshot covers.
    pub fn since_snapshot(&self) -> u64 {
        self.tenant.seq() - self.snapshot_seq
    }

    /// Whether an event may be recorded now.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE` or `SHUTTING_DOWN`.
    pub fn check_writable(&self) -> Result<(), Error> {
        if self.journal.is_none() {
            return Err(self.no_journal());
        }
        if self.storage_failed { Err(storage_unavailable()) } else { Ok(()) }
    }

    /// The error for a caller that comes after the journal has ended.
    pub fn no_journal(&self) -> Error {
        if self.failed { storage_unavailable() } else { shutting_down() }
    }

    /// Records an event: appends it to the journal's buffer, then applies it to the state.
    ///
    /// # Errors
    /// Those of [`check_writable`](CommitPipeline::check_writable); `INTERNAL_ERROR` if it could not be appended.
    pub fn record(&mut self, moment: Moment, event: &Event<'_>) -> Result<(), Error> {
        self.check_writable()?;
        let journal = self.journal.as_mut().ok_or_else(shutting_down)?;
        let mut encoded = Ok(());
        let appended = journal.append(moment.seq, |buffer| encoded = codec::encode_event(moment, event, buffer));
        if let Err(problem) = appended.map_err(|e| e.to_string()).and(encoded.map_err(|e| e.to_string())) {
            // The domain makes no event that is too large or can't be encoded. The buffer can't be trusted any more.
            error!(tenant = %self.tenant.id(), problem, "an event could not be appended");
            self.failed = true;
            return Err(not_recorded());
        }
        self.tenant.apply(moment, event);
        // A read may not show what a power cut could still undo. For each kind of event we say whether reads wait for
        // it.
        let is_change = match event {
            Event::Changed(_) => true,
            // An agent that a policy revoked must not come back.
            Event::Decided(record) => record.revokes,
            Event::Used(_) => false,
        };
        if is_change {
            self.last_change = moment.seq;
        }
        Ok(())
    }

    /// Holds the reply to decisions until their events, those after `before`, are as durable as configured.
    pub fn hold_decided(&mut self, held: R, before: u64) {
        match self.durability {
            Durability::Interval if self.last_change <= before => self.waiting.until_written(held),
            Durability::Interval | Durability::Fsync => self.waiting.until_synced(self.tenant.seq(), held),
        }
    }

    /// Holds the reply to a change until the change is on disk.
    pub fn hold_changed(&mut self, held: R) {
        self.waiting.until_synced(self.tenant.seq(), held);
    }

    /// Holds the reply to a read until everything it may show is as durable as its writers were promised.
    pub fn hold_read(&mut self, held: R) -> ReadReply {
        let seen = match self.durability {
            Durability::Interval => self.last_change,
            Durability::Fsync => self.tenant.seq(),
        };
        match &self.journal {
            // Show what can't be confirmed now: no caller has been told yet that it happened.
            Some(_) if self.storage_failed => {}
            Some(journal) if journal.synced_seq() < seen => {
                // The read may show more than the change. The sync can end before the rest is written.
                let written = journal.written_seq() == self.tenant.seq();
                self.waiting.until_synced(if written { seen } else { self.tenant.seq() }, held);
                return ReadReply::Held;
            }
            Some(journal) if journal.written_seq() < self.tenant.seq() => {
                self.waiting.until_written(held);
                return ReadReply::Held;
            }
            _ => {}
        }
        held.release(Ok(()));
        ReadReply::Sent
    }

    /// Hands everything appended to the kernel, and releases the replies that waited for it. Returns the last event
    /// written.
    ///
    /// # Errors
    /// The state is now ahead of the journal: [abandon](CommitPipeline::abandon) the pipeline.
    pub fn write(&mut self, now: Timestamp) -> io::Result<u64> {
        let Some(journal) = &mut self.journal else { return Err(io::Error::other("the journal has ended")) };
        if self.failed {
            return Err(not_appended());
        }
        journal.flush()?;
        self.waiting.written();
        let written = journal.written_seq();
        // The place in the order, which never runs backwards as a clock may.
        let at = self.tenant.next_moment(now).at;
        if let Err(problem) = journal.rotate_if_due(at.millis()) {
            warn!(tenant = %self.tenant.id(), %problem, "can't start a new journal segment; writing on to the old one");
        }
        Ok(written)
    }

    /// Whether a reply waits for the disk.
    pub fn needs_sync(&self) -> bool {
        self.waiting.needs_sync()
    }

    /// Whether a sync would make anything durable.
    pub fn is_dirty(&self) -> bool {
        self.journal.as_ref().is_some_and(Journal::is_dirty)
    }

    /// A sync of everything written, if it would be of use.
    pub fn begin_sync(&self) -> Option<SyncJob> {
        let journal = self.journal.as_ref().filter(|_| !self.storage_failed)?;
        (journal.is_dirty() || self.waiting.needs_sync()).then(|| journal.begin_sync())
    }

    /// Takes the outcome of a sync, and releases the replies that waited for it. Returns the segments to compress.
    ///
    /// # Errors
    /// The disk may have lost what was written: [abandon](CommitPipeline::abandon) the pipeline.
    pub fn synced(&mut self, outcome: io::Result<SyncPoint>, now: Timestamp) -> io::Result<Vec<CompressionJob>> {
        let Some(journal) = &mut self.journal else { return Ok(Vec::new()) };
        // A failed append may have left half an event in the buffer. `finish_sync` would write it.
        let finished = if self.failed { Err(not_appended()) } else { outcome }
            .and_then(|point| journal.finish_sync(point, now.millis()));
        // This may have written what was appended. If only the marker failed, the events are written.
        if journal.written_seq() == self.tenant.seq() {
            self.waiting.written();
        }
        self.waiting.synced(journal.synced_seq());
        finished?;
        Ok(journal.take_compression_jobs())
    }

    /// A snapshot of everything written; `None` if the newest one covers it, or the journal has ended.
    pub fn begin_snapshot(&self) -> Option<PendingSnapshot> {
        let journal = self.journal.as_ref().filter(|_| self.since_snapshot() > 0)?;
        Some(PendingSnapshot { job: journal.begin_snapshot(), state: self.tenant.state() })
    }

    /// A snapshot that covers events up to `seq` is on disk.
    pub fn snapshot_written(&mut self, seq: u64) {
        self.snapshot_seq = self.snapshot_seq.max(seq);
    }

    /// Ends a pipeline that is ahead of its journal. Each waiting caller gets what we know about its event.
    pub fn abandon(&mut self) {
        self.failed = true;
        let (written, left_events) =
            self.journal.take().map_or((0, false), |journal| (journal.written_seq(), journal.left_events()));
        let unwritten = if left_events { outcome_unknown() } else { storage_unavailable() };
        std::mem::take(&mut self.waiting).fail(written, &unwritten, &outcome_unknown());
    }

    /// Ends the pipeline cleanly. Write everything appended before. The remaining work may block.
    pub fn begin_close(&mut self) -> Option<(CloseJob, Closing<R>)> {
        let snapshot = self.begin_snapshot();
        let journal = self.journal.take()?;
        let closing = Closing { waiting: std::mem::take(&mut self.waiting) };
        Some((CloseJob { journal, snapshot }, closing))
    }

    /// Ends the pipeline at once, and drops the waiting replies.
    pub fn drop_journal(&mut self) {
        self.journal = None;
    }
}

/// The last work on a journal, to run off the owner's thread.
pub struct CloseJob {
    journal: Journal,
    snapshot: Option<PendingSnapshot>,
}

impl CloseJob {
    /// Syncs the whole journal. Blocking. Returns a snapshot if one is due.
    ///
    /// # Errors
    /// Some of it may not be on disk.
    pub fn close(self, now: Timestamp) -> io::Result<Option<PendingSnapshot>> {
        self.journal.close(now.millis())?;
        Ok(self.snapshot)
    }
}

/// The replies that wait for a journal to close.
pub struct Closing<R> {
    waiting: PendingReplies<R>,
}

impl<R: HeldReply> Closing<R> {
    /// Releases them: everything is on disk, or nobody knows.
    pub fn finish(self, closed: bool) {
        self.waiting.end(&if closed { Ok(()) } else { Err(outcome_unknown()) });
    }
}

/// A snapshot to write off the owner's thread: it has its own copy of the state.
pub struct PendingSnapshot {
    job: SnapshotJob,
    state: State,
}

impl PendingSnapshot {
    /// The last event it covers.
    pub fn seq(&self) -> u64 {
        self.state.seq
    }

    /// Writes the snapshot. Blocking.
    ///
    /// # Errors
    /// The snapshot could not be written. Nothing is lost: the journal has the events.
    pub fn write(self) -> io::Result<()> {
        self.job.run(|file| codec::write_state(&self.state, file))
    }
}

fn not_appended() -> io::Error {
    io::Error::other("an event could not be appended")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::loader;
    use crate::pending_replies::BoxedReply;
    use kavach_domain::author::By;
    use kavach_domain::event::ChangeRecord;
    use kavach_domain::tenant::commands::TenantSpec;
    use kavach_domain::{Code, TenantId};
    use kavach_journal::{DataDir, JournalOptions};

    type Pipeline = CommitPipeline<BoxedReply>;

    #[test]
    fn a_sync_that_ends_after_a_failed_append_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        let (id, spec, now) = (TenantId::DEFAULT, TenantSpec::default_tenant(), Timestamp::from_millis(5));
        let loaded = loader::create(&data, id, spec.clone(), None, now, JournalOptions::default()).unwrap();
        let mut pipeline = CommitPipeline::new(loaded, Durability::Interval, false);
        let event = Event::Changed(ChangeRecord::new(By::Operator, spec.created(id)));
        let (sender, answers) = mpsc::channel();
        let change = |pipeline: &mut Pipeline, moment| {
            let recorded = pipeline.record(moment, &event);
            let sender = sender.clone();
            pipeline.hold_changed(Box::new(move |outcome| sender.send(outcome).unwrap()));
            recorded
        };
        let moment = pipeline.tenant().next_moment(now);
        change(&mut pipeline, moment).unwrap();
        pipeline.write(now).unwrap();
        let sync = pipeline.begin_sync().unwrap();
        let moment = pipeline.tenant().next_moment(now);
        change(&mut pipeline, moment).unwrap();
        let bad = Moment { seq: moment.seq + 7, ..moment };
        assert_eq!(change(&mut pipeline, bad).unwrap_err().code(), Code::InternalError);
        assert!(pipeline.synced(sync.run(), now).is_err());
        pipeline.abandon();
        let outcomes: Vec<_> = answers.try_iter().map(|outcome| outcome.map_err(|error| error.code())).collect();
        assert_eq!(outcomes[1..], [Err(Code::StorageUnavailable), Err(Code::StorageUnavailable)]);
        let folder = data.folder(&id.folder_name()).unwrap();
        let loaded = loader::load(&folder, id, now, JournalOptions::default()).unwrap();
        assert_eq!(loaded.tenant.seq(), moment.seq - 1, "a refused event did not happen");
    }
}

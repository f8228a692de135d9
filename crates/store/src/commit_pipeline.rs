//! A tenant's state and its journal, which go forward together, and the replies that wait for them.
//!
//! The whole order of a commit is here, without an actor, a clock or a thread: the actor says when, and `tests/sim` has
//! a seed say when.

use std::io;

use kavach_domain::tenant::State;
use kavach_domain::{Error, Event, Moment, Tenant, Timestamp};
use kavach_journal::{Journal, SealJob, SnapshotJob, SyncJob, SyncPoint};
use tracing::{error, warn};

use crate::codec;
use crate::durability::Durability;
use crate::loader::Loaded;
use crate::pending_replies::{HeldReply, PendingReplies};
use crate::refusal::{not_recorded, outcome_unknown, shutting_down, storage_unavailable};

/// A tenant's state, its journal, and the replies of type `R` that wait for both.
pub struct CommitPipeline<R> {
    tenant: Tenant,
    /// `None` once it ended.
    journal: Option<Journal>,
    waiting: PendingReplies<R>,
    durability: Durability,
    /// Number of the last administrative change, which a read must not run ahead of.
    last_change: u64,
    /// Number of the last event the newest snapshot holds.
    snapshot_seq: u64,
    /// Whether the storage failed and was not seen to work since: nothing is written meanwhile.
    storage_failed: bool,
    /// Whether it ended because the journal could not be written, or has to.
    failed: bool,
}

/// How an answer is given that needs nothing written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// It left.
    Now,
    /// It waits: a write is due.
    Later,
}

impl<R: HeldReply> CommitPipeline<R> {
    /// What was loaded, going on.
    pub fn new(loaded: Loaded, durability: Durability, storage_failed: bool) -> Self {
        let Loaded { tenant, journal, snapshot_seq, told: _ } = loaded;
        Self {
            // What a rebuilt tenant's changes were promised is not known here: a read waits for all of them.
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

    /// The state.
    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// The journal; `None` once it ended.
    pub fn journal(&self) -> Option<&Journal> {
        self.journal.as_ref()
    }

    /// The journal, for links and what retention removed.
    pub fn journal_mut(&mut self) -> Option<&mut Journal> {
        self.journal.as_mut()
    }

    /// Whether the storage failed and was not seen to work since.
    pub fn storage_failed(&self) -> bool {
        self.storage_failed
    }

    /// The storage was seen to work again.
    pub fn storage_works(&mut self) {
        self.storage_failed = false;
    }

    /// Events that no snapshot holds.
    pub fn since_snapshot(&self) -> u64 {
        self.tenant.seq() - self.snapshot_seq
    }

    /// Whether something may be written now.
    pub fn check_writable(&self) -> Result<(), Error> {
        if self.journal.is_none() {
            return Err(self.no_journal());
        }
        if self.storage_failed { Err(storage_unavailable()) } else { Ok(()) }
    }

    /// Why there is no journal any more.
    pub fn no_journal(&self) -> Error {
        if self.failed { storage_unavailable() } else { shutting_down() }
    }

    /// Lets an event happen: into the journal's buffer, then into the state.
    pub fn record(&mut self, moment: Moment, event: &Event<'_>) -> Result<(), Error> {
        self.check_writable()?;
        let journal = self.journal.as_mut().ok_or_else(shutting_down)?;
        let mut encoded = Ok(());
        let appended = journal.append(moment.seq, |buffer| encoded = codec::encode_event(moment, event, buffer));
        if let Err(problem) = appended.map_err(|e| e.to_string()).and(encoded.map_err(|e| e.to_string())) {
            // No event the domain makes is too large or can't be encoded. The buffer is not to be trusted now.
            error!(tenant = %self.tenant.id(), problem, "an event could not be appended");
            self.failed = true;
            return Err(not_recorded());
        }
        self.tenant.apply(moment, event);
        // An agent that a policy revoked must not come back after a power cut either.
        if matches!(event, Event::Changed(_)) || matches!(event, Event::Decided(record) if record.revokes) {
            self.last_change = moment.seq;
        }
        Ok(())
    }

    /// Holds the reply to decisions, the events after `before`, until they are as durable as configured.
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

    /// Holds the reply to a read until all it may show is as durable as its writers were promised.
    pub fn hold_read(&mut self, held: R) -> Answered {
        let seen = match self.durability {
            Durability::Interval => self.last_change,
            Durability::Fsync => self.tenant.seq(),
        };
        match &self.journal {
            // What can't be confirmed now is shown as it is: nobody was told yet that it happened.
            Some(_) if self.storage_failed => {}
            Some(journal) if journal.synced_seq() < seen => {
                // A sync may be over before what it shows besides is written.
                let written = journal.written_seq() == self.tenant.seq();
                self.waiting.until_synced(if written { seen } else { self.tenant.seq() }, held);
                return Answered::Later;
            }
            Some(journal) if journal.written_seq() < self.tenant.seq() => {
                self.waiting.until_written(held);
                return Answered::Later;
            }
            _ => {}
        }
        held.release(Ok(()));
        Answered::Now
    }

    /// Gives the kernel all that was appended and releases who waited for that. Returns the last event written.
    ///
    /// # Errors
    /// The state is ahead of the journal now: the pipeline has to be [abandoned](CommitPipeline::abandon).
    pub fn write(&mut self, now: Timestamp) -> io::Result<u64> {
        let Some(journal) = &mut self.journal else { return Err(io::Error::other("the journal has ended")) };
        if self.failed {
            return Err(not_appended());
        }
        journal.flush()?;
        self.waiting.written();
        let written = journal.written_seq();
        // The events' order, which never runs backwards, not the clock's time.
        let at = self.tenant.next_moment(now).at;
        if let Err(problem) = journal.rotate_if_due(at.millis()) {
            warn!(tenant = %self.tenant.id(), %problem, "a new journal segment could not be started; the old one goes on");
        }
        Ok(written)
    }

    /// Whether a reply waits for the disk.
    pub fn needs_sync(&self) -> bool {
        self.waiting.needs_sync()
    }

    /// Whether there is anything a sync would make durable.
    pub fn is_dirty(&self) -> bool {
        self.journal.as_ref().is_some_and(Journal::is_dirty)
    }

    /// A sync of all that is written, where there is a use for one.
    pub fn begin_sync(&self) -> Option<SyncJob> {
        let journal = self.journal.as_ref().filter(|_| !self.storage_failed)?;
        (journal.is_dirty() || self.waiting.needs_sync()).then(|| journal.begin_sync())
    }

    /// Takes note of what came of a sync, and releases who waited for it. Returns the segments to compress.
    ///
    /// # Errors
    /// The disk may have lost what was written: the pipeline has to be [abandoned](CommitPipeline::abandon).
    pub fn synced(&mut self, outcome: io::Result<SyncPoint>, now: Timestamp) -> io::Result<Vec<SealJob>> {
        let Some(journal) = &mut self.journal else { return Ok(Vec::new()) };
        // An event that could not be appended may have left half of itself in the buffer, which finishing would write.
        let finished = if self.failed { Err(not_appended()) } else { outcome }
            .and_then(|point| journal.finish_sync(point, now.millis()));
        // It may have written what was appended. Where only the marker could not be written, the events are there all
        // the same.
        if journal.written_seq() == self.tenant.seq() {
            self.waiting.written();
        }
        self.waiting.synced(journal.synced_seq());
        finished?;
        Ok(journal.take_sealed())
    }

    /// A snapshot of all that is written: `None` where the newest one holds it, or there can be none.
    pub fn begin_snapshot(&self) -> Option<PendingSnapshot> {
        let journal = self.journal.as_ref().filter(|_| self.since_snapshot() > 0)?;
        Some(PendingSnapshot { job: journal.begin_snapshot(), state: self.tenant.state() })
    }

    /// A snapshot as of that event is on disk.
    pub fn snapshot_written(&mut self, seq: u64) {
        self.snapshot_seq = self.snapshot_seq.max(seq);
    }

    /// Ends a pipeline whose state is ahead of its journal: who waits is told what is known of their events.
    pub fn abandon(&mut self) {
        self.failed = true;
        let (written, left_events) =
            self.journal.take().map_or((0, false), |journal| (journal.written_seq(), journal.left_events()));
        let unwritten = if left_events { outcome_unknown() } else { storage_unavailable() };
        std::mem::take(&mut self.waiting).fail(written, &unwritten, &outcome_unknown());
    }

    /// Ends it cleanly; all that was appended has to be written before. What is left to do may block.
    pub fn begin_close(&mut self) -> Option<(CloseJob, Closing<R>)> {
        let snapshot = self.begin_snapshot();
        let journal = self.journal.take()?;
        let closing = Closing { waiting: std::mem::take(&mut self.waiting) };
        Some((CloseJob { journal, snapshot }, closing))
    }

    /// Ends it at once, whatever waits.
    pub fn drop_journal(&mut self) {
        self.journal = None;
    }
}

/// The last that is done with a journal.
pub struct CloseJob {
    journal: Journal,
    snapshot: Option<PendingSnapshot>,
}

impl CloseJob {
    /// Has the disk take all of the journal. Blocking. Returns the snapshot that is due then.
    ///
    /// # Errors
    /// The disk may not have taken it.
    pub fn close(self, now: Timestamp) -> io::Result<Option<PendingSnapshot>> {
        self.journal.close(now.millis())?;
        Ok(self.snapshot)
    }
}

/// Who waits for a journal to be closed.
pub struct Closing<R> {
    waiting: PendingReplies<R>,
}

impl<R: HeldReply> Closing<R> {
    /// The disk has all, or nobody knows.
    pub fn finish(self, closed: bool) {
        self.waiting.end(&if closed { Ok(()) } else { Err(outcome_unknown()) });
    }
}

/// A copy of the state, to be written off the owner's thread.
pub struct PendingSnapshot {
    job: SnapshotJob,
    state: State,
}

impl PendingSnapshot {
    /// The last event it holds.
    pub fn seq(&self) -> u64 {
        self.state.seq
    }

    /// Writes it. Blocking.
    ///
    /// # Errors
    /// It could not be written; the journal has it all.
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
    fn a_sync_that_ends_after_an_event_could_not_be_appended_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        let (id, spec, now) = (TenantId::DEFAULT, TenantSpec::default_tenant(), Timestamp::from_millis(5));
        let loaded = loader::create(&data, id, spec.clone(), None, now, JournalOptions::default()).unwrap();
        let mut pipeline = CommitPipeline::new(loaded, Durability::Interval, false);
        let event = Event::Changed(ChangeRecord::new(By::Operator, spec.created(id)));
        let (told, answers) = mpsc::channel();
        let change = |pipeline: &mut Pipeline, moment| {
            let recorded = pipeline.record(moment, &event);
            let told = told.clone();
            pipeline.hold_changed(Box::new(move |outcome| told.send(outcome).unwrap()));
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
        assert_eq!(loaded.tenant.seq(), moment.seq - 1, "what was refused did not happen");
    }
}

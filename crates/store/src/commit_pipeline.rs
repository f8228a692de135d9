//! The commit pipeline of one tenant: its state and its journal.
//!
//! The order of a commit is in this file and in [`commit_queue`](crate::commit_queue): append to the tail, apply, append to
//! the log, sync the log, reply; and later, in the background, the folder. It has no actor, clock or thread. In the server
//! an actor decides when each step happens, in `tests/sim` a seed does.

use std::collections::VecDeque;
use std::io;

use kavach_domain::tenant::State;
use kavach_domain::{Error, Event, Moment, Tenant, Timestamp};
use kavach_journal::{CompressionJob, FlushJob, Flushed, Journal, SnapshotJob, SyncJob, SyncPoint};
use tracing::{error, warn};

use crate::codec;
use crate::commit_queue::CommitQueue;
use crate::commit_turn::{CommitMark, Until};
use crate::durability::Durability;
use crate::loader::LoadedTenant;
use crate::pending_replies::HeldReply;
use crate::refusal::{not_recorded, shutting_down, storage_unavailable, too_many_waiting};

/// Bytes of events (256 KiB) after which they are a piece of the tail by themselves: folding them is worth the while of
/// another thread.
const PIECE_BYTES: usize = 256 << 10;

/// A tenant's state and journal. The replies to its callers wait in the [`CommitQueue`] of its thread.
pub struct CommitPipeline {
    tenant: Tenant,
    /// `None` once the pipeline has ended.
    journal: Option<Journal>,
    durability: Durability,
    /// The last event.
    last_event: CommitMark,
    /// The last change that no read may show before the change's own reply has left.
    last_change: CommitMark,
    /// Its event, or the last one when the tenant was loaded.
    last_change_seq: u64,
    /// The last events of the tail's pieces that the folder lacks, and where the log has them; oldest first.
    sealed: VecDeque<(u64, CommitMark)>,
    /// The last event that the newest snapshot covers.
    snapshot_seq: u64,
    /// Whether the storage failed and no probe has succeeded since. Nothing is recorded meanwhile.
    storage_failed: bool,
    /// Whether it was loaded from a log that had failed: it only shows what there was.
    is_provisional: bool,
    /// Whether an event could not be recorded, so that the pipeline has ended or must end.
    failed: bool,
}

/// What happened to the reply to a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadReply {
    /// It has left.
    Sent,
    /// It waits for earlier events: the queue has to be written.
    Held,
}

impl CommitPipeline {
    /// A pipeline that continues from what was loaded, on the thread of `queue`.
    pub fn new<R: HeldReply>(
        loaded: LoadedTenant,
        durability: Durability,
        storage_failed: bool,
        queue: &mut CommitQueue<R>,
    ) -> Self {
        let LoadedTenant {
            tenant,
            journal,
            snapshot_seq,
            log_position,
            is_provisional,
            log_generation,
            announced_seq: _,
        } = loaded;
        // We don't know what callers were promised for the events before a rebuild, so a read waits for all of them.
        let mark = queue.mark_loaded(tenant.id().bytes(), if is_provisional { 0 } else { log_position });
        Self {
            last_change_seq: tenant.seq(),
            tenant,
            journal: Some(journal),
            durability,
            last_event: mark,
            last_change: mark,
            sealed: VecDeque::new(),
            snapshot_seq,
            storage_failed: storage_failed || is_provisional,
            is_provisional,
            // The log may have lost since what the tail had.
            failed: !is_provisional && queue.has_failed_since(log_generation),
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

    /// The journal, to note what retention removed.
    pub fn journal_mut(&mut self) -> Option<&mut Journal> {
        self.journal.as_mut()
    }

    /// Whether the storage failed and no probe has succeeded since.
    pub fn storage_failed(&self) -> bool {
        self.storage_failed
    }

    /// The tenant's folder can't be written: nothing more is recorded until a probe has succeeded.
    pub fn storage_fails(&mut self) {
        self.storage_failed = true;
    }

    /// Whether it was loaded from a log that had failed. Once that works again, the tenant has to be loaded anew.
    pub fn is_provisional(&self) -> bool {
        self.is_provisional
    }

    /// A probe has succeeded: the storage works again.
    pub fn storage_works(&mut self) {
        self.storage_failed = self.is_provisional;
    }

    /// The number of events that no snapshot covers.
    pub fn since_snapshot(&self) -> u64 {
        self.tenant.seq() - self.snapshot_seq
    }

    /// Whether an event may be recorded now.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `OVERLOADED` or `SHUTTING_DOWN`.
    pub fn check_writable<R: HeldReply>(&self, queue: &CommitQueue<R>) -> Result<(), Error> {
        if self.journal.is_none() {
            return Err(self.no_journal());
        }
        if self.storage_failed || self.is_ahead(queue) {
            return Err(storage_unavailable());
        }
        if queue.is_full() { Err(too_many_waiting()) } else { Ok(()) }
    }

    /// Whether the state has events that the log refused, or perhaps lost: [abandon](CommitPipeline::abandon) the pipeline.
    pub fn is_ahead<R: HeldReply>(&self, queue: &CommitQueue<R>) -> bool {
        self.failed || queue.has_failed(self.last_event)
    }

    /// The error for a caller that comes after the journal has ended.
    pub fn no_journal(&self) -> Error {
        if self.failed { storage_unavailable() } else { shutting_down() }
    }

    /// Records an event: appends it to the journal's tail and to the queue, then applies it to the state.
    ///
    /// # Errors
    /// Those of [`check_writable`](CommitPipeline::check_writable); `INTERNAL_ERROR` if it could not be appended.
    pub fn record<R: HeldReply>(
        &mut self,
        moment: Moment,
        event: &Event<'_>,
        queue: &mut CommitQueue<R>,
    ) -> Result<(), Error> {
        self.check_writable(queue)?;
        if self.journal.as_ref().is_some_and(|journal| journal.unsealed_bytes() >= PIECE_BYTES) {
            self.seal();
        }
        let completed = self.tenant.complete(moment, event);
        let event = completed.as_ref();
        let journal = self.journal.as_mut().ok_or_else(shutting_down)?;
        let mut encoded = Ok(());
        let appended = journal.append(moment.seq, |buffer| encoded = codec::encode_event(moment, event, buffer));
        let length = match appended.map(<[u8]>::len).map_err(|e| e.to_string()) {
            Ok(length) if encoded.is_ok() => length,
            appended => {
                // The domain makes no event that is too large or can't be encoded. The tail can't be trusted any more.
                error!(tenant = %self.tenant.id(), ?appended, ?encoded, "an event could not be appended");
                self.failed = true;
                return Err(not_recorded());
            }
        };
        // Only an event that can be applied goes on: one that can't would end the tenant again at each start.
        self.tenant.apply(moment, event);
        queue.push(&mut self.last_event, moment.seq, journal.newest(length));
        // A read may not show what a power cut could still undo. For each kind of event we say whether reads wait for
        // it.
        let is_change = match event {
            Event::Changed(_) => true,
            // An agent that a policy revoked must not come back.
            Event::Decided(record) => record.revokes,
            Event::Used(_) | Event::Delivered(_) | Event::Leased(_) => false,
        };
        if is_change {
            (self.last_change, self.last_change_seq) = (self.last_event, moment.seq);
        }
        Ok(())
    }

    /// Holds the reply to decisions, those of events after `before`, until they are as durable as configured.
    pub fn hold_decided<R: HeldReply>(&self, held: R, before: u64, queue: &mut CommitQueue<R>) {
        match self.durability {
            Durability::Interval if self.last_change_seq <= before => {
                queue.hold(self.last_event, Until::Recorded, held)
            }
            Durability::Interval | Durability::Fsync => queue.hold(self.last_event, Until::Synced, held),
        }
    }

    /// Holds the reply to a change until the change is on disk.
    pub fn hold_changed<R: HeldReply>(&self, held: R, queue: &mut CommitQueue<R>) {
        if self.is_provisional {
            // Nobody knows whether the log will have what it shows.
            return held.release(Err(storage_unavailable()));
        }
        queue.hold(self.last_event, Until::Synced, held);
    }

    /// Holds the reply to a read until everything it may show is as durable as its writers were promised.
    pub fn hold_read<R: HeldReply>(&self, held: R, queue: &mut CommitQueue<R>) -> ReadReply {
        let seen = match self.durability {
            Durability::Interval => self.last_change,
            Durability::Fsync => self.last_event,
        };
        if self.journal.is_some() && self.is_ahead(queue) {
            // Callers may have been told that it did not happen.
            held.release(Err(storage_unavailable()));
            return ReadReply::Sent;
        }
        // Show what can't be confirmed now: no caller has been told yet that it happened.
        if self.journal.is_some() && !self.storage_failed {
            let is_recorded = queue.is_recorded(self.last_event);
            if !queue.is_synced(seen) {
                // The read may show more than the change. The sync can end before the rest is recorded.
                queue.hold(if is_recorded { seen } else { self.last_event }, Until::Synced, held);
                return ReadReply::Held;
            }
            if !is_recorded {
                queue.hold(self.last_event, Until::Recorded, held);
                return ReadReply::Held;
            }
        }
        held.release(Ok(()));
        ReadReply::Sent
    }

    /// Whether events that were recorded are not on disk in the log yet, and may still get there.
    pub fn is_unsynced<R: HeldReply>(&self, queue: &CommitQueue<R>) -> bool {
        self.journal.is_some() && !self.is_ahead(queue) && !queue.is_synced(self.last_event)
    }

    /// Has the next fold take everything up to now. Returns the last event.
    pub fn seal(&mut self) -> u64 {
        if let Some(journal) = self.journal.as_mut().filter(|journal| journal.unsealed_bytes() > 0) {
            journal.seal_tail();
            self.sealed.push_back((self.tenant.seq(), self.last_event));
        }
        self.tenant.seq()
    }

    /// Whether something was [sealed](CommitPipeline::seal) that the folder lacks.
    pub fn has_sealed(&self) -> bool {
        !self.sealed.is_empty()
    }

    /// The last event of those that can be folded now: they were [sealed](CommitPipeline::seal), and the log has them on
    /// disk. So a folder has nothing that a power failure takes from the log.
    pub fn foldable<R: HeldReply>(&self, queue: &CommitQueue<R>) -> Option<u64> {
        if self.is_provisional || self.is_ahead(queue) {
            return None;
        }
        self.sealed.iter().map_while(|(seq, mark)| queue.is_synced(*mark).then_some(*seq)).last()
    }

    /// Folds: a job that writes to the folder what [can be folded](CommitPipeline::foldable); `None` if there is nothing, or
    /// one is under way.
    ///
    /// # Errors
    /// The journal is broken.
    pub fn begin_fold<R: HeldReply>(&mut self, queue: &CommitQueue<R>) -> io::Result<Option<FlushJob>> {
        let Some(upto) = self.foldable(queue) else { return Ok(None) };
        self.journal.as_mut().map_or(Ok(None), |journal| journal.begin_flush(upto))
    }

    /// Takes the outcome of a fold, and starts a new segment where one is due.
    ///
    /// # Errors
    /// The folder can't be written. Nothing is lost: the tail has the events.
    pub fn folded(&mut self, flushed: Flushed, now: Timestamp) -> io::Result<()> {
        // The place in the order, which never runs backwards as a clock may.
        let at = self.tenant.next_moment(now).at;
        let Some(journal) = &mut self.journal else { return Ok(()) };
        journal.finish_flush(flushed)?;
        let written = journal.written_seq();
        while self.sealed.pop_front_if(|(seq, _)| *seq <= written).is_some() {}
        if let Err(problem) = journal.rotate_if_due(at.millis()) {
            warn!(tenant = %self.tenant.id(), %problem, "can't start a new journal segment; writing on to the old one");
        }
        Ok(())
    }

    /// A sync of the folder, if it would make anything durable there.
    pub fn begin_sync(&self) -> Option<SyncJob> {
        self.journal.as_ref().filter(|journal| journal.is_dirty()).map(Journal::begin_sync)
    }

    /// Takes the outcome of a sync of the folder. Returns the segments to compress. The log may forget events up to
    /// [`synced_seq`](Journal::synced_seq) then.
    ///
    /// # Errors
    /// The disk may have lost what was written to the folder: [abandon](CommitPipeline::abandon) the pipeline.
    pub fn synced(&mut self, outcome: io::Result<SyncPoint>, now: Timestamp) -> io::Result<Vec<CompressionJob>> {
        let Some(journal) = &mut self.journal else { return Ok(Vec::new()) };
        if let Err(problem) = journal.finish_sync(outcome?, now.millis()) {
            if journal.is_broken() {
                return Err(problem);
            }
            warn!(tenant = %self.tenant.id(), %problem, "the folder is on disk, but can't say so yet");
        }
        Ok(journal.take_compression_jobs())
    }

    /// A copy of the state for a snapshot; `None` if the newest one covers it, or the pipeline has ended.
    pub fn copy_state(&self) -> Option<StateCopy> {
        let is_due = self.journal.is_some() && self.since_snapshot() > 0;
        is_due.then(|| StateCopy(Box::new(self.tenant.state())))
    }

    /// A snapshot of that state. The folder has to have its events, since a snapshot must not be ahead of it.
    ///
    /// # Errors
    /// The copy, if the folder does not have them yet, or the pipeline has ended.
    pub fn begin_snapshot(&self, copy: StateCopy) -> Result<PendingSnapshot, StateCopy> {
        match self.journal.as_ref().filter(|journal| journal.written_seq() >= copy.seq()) {
            Some(journal) => Ok(copy.begin(journal)),
            None => Err(copy),
        }
    }

    /// A snapshot that covers events up to `seq` is on disk.
    pub fn snapshot_written(&mut self, seq: u64) {
        self.snapshot_seq = self.snapshot_seq.max(seq);
    }

    /// Ends a pipeline that is ahead of the log, or that lost its folder. Write the queue before: the tenant is loaded again
    /// from what the log has then.
    pub fn abandon(&mut self) {
        self.failed = true;
        self.journal = None;
    }

    /// Ends the pipeline cleanly, once the log has everything on disk and no fold is under way. The remaining work may
    /// block. A snapshot is due from `snapshot_from` events on that none covers.
    pub fn begin_close(&mut self, snapshot_from: u64) -> Option<CloseJob> {
        let snapshot = self.copy_state().filter(|_| self.since_snapshot() >= snapshot_from);
        Some(CloseJob { journal: self.journal.take()?, snapshot })
    }

    /// Ends the pipeline at once.
    pub fn drop_journal(&mut self) {
        self.journal = None;
    }
}

/// The last work on a journal, to run off the owner's thread.
pub struct CloseJob {
    journal: Journal,
    snapshot: Option<StateCopy>,
}

impl CloseJob {
    /// Writes what the folder lacks, and syncs all of it, so that the log may forget it. Blocking.
    ///
    /// # Errors
    /// Some of it may not be on disk.
    pub fn close(self, now: Timestamp) -> io::Result<Closed> {
        let Self { mut journal, snapshot } = self;
        let oldest_ends_ms = journal.oldest_ends_ms().unwrap_or(None);
        journal.flush()?;
        let snapshot = snapshot.map(|copy| copy.begin(&journal));
        journal.close(now.millis())?;
        Ok(Closed { snapshot, oldest_ends_ms })
    }
}

/// A journal that was closed.
pub struct Closed {
    /// A snapshot to write, if one is due.
    pub snapshot: Option<PendingSnapshot>,
    /// Up to when the oldest of several segments reaches, in Unix milliseconds; `None` if there is only one, or it can't be
    /// found out.
    pub oldest_ends_ms: Option<i64>,
}

/// A copy of the state, of which a snapshot can be made once the folder has its events.
pub struct StateCopy(Box<State>);

impl StateCopy {
    /// The last event in it.
    pub fn seq(&self) -> u64 {
        self.0.seq
    }

    fn begin(self, journal: &Journal) -> PendingSnapshot {
        PendingSnapshot { job: journal.begin_snapshot(self.seq()), state: self.0 }
    }
}

/// A snapshot to write off the owner's thread.
pub struct PendingSnapshot {
    job: SnapshotJob,
    state: Box<State>,
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::commit_queue::Written;
    use crate::loader;
    use crate::pending_replies::BoxedReply;
    use kavach_domain::author::By;
    use kavach_domain::event::ChangeRecord;
    use kavach_domain::tenant::commands::TenantSpec;
    use kavach_domain::{Code, TenantId};
    use kavach_journal::{DataDir, JournalOptions, Log, LogOptions};

    /// The default tenant's pipeline, with what it writes to.
    struct Scene {
        _dir: tempfile::TempDir,
        data: DataDir,
        log: Log,
        queue: CommitQueue<BoxedReply>,
        pipeline: CommitPipeline,
    }

    const ID: TenantId = TenantId::DEFAULT;

    fn now() -> Timestamp {
        Timestamp::from_millis(5)
    }

    /// Any event.
    fn event() -> Event<'static> {
        Event::Changed(ChangeRecord::new(By::Operator, TenantSpec::default_tenant().created(ID)))
    }

    impl Scene {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let data = DataDir::open(dir.path()).unwrap();
            let log = data.open_log([1; 16], LogOptions::default()).unwrap();
            let spec = TenantSpec::default_tenant();
            let loaded = loader::create(&data, ID, spec, None, now(), JournalOptions::default()).unwrap();
            let mut queue = CommitQueue::new(&log, || ());
            let pipeline = CommitPipeline::new(loaded, Durability::Interval, false, &mut queue);
            Self { _dir: dir, data, log, queue, pipeline }
        }

        fn load(&self) -> LoadedTenant {
            let folder = self.data.folder(&ID.folder_name()).unwrap();
            loader::load(&folder, &self.log.tail(ID.bytes()).unwrap(), ID, now(), JournalOptions::default()).unwrap()
        }
    }

    #[test]
    fn nothing_that_a_failed_log_shows_is_confirmed() {
        let mut scene = Scene::new();
        let Scene { log, queue, pipeline, .. } = &mut scene;
        pipeline.record(pipeline.tenant().next_moment(now()), &event(), queue).unwrap();
        assert_eq!(queue.write(log), Written::All);
        log.finish_sync(&log.begin_sync().unwrap(), &Err(io::Error::other("the disk is broken")));
        assert!(queue.update(log));
        pipeline.abandon();
        let loaded = scene.load();
        assert_eq!((loaded.tenant.seq(), loaded.is_provisional), (2, true));
        let pipeline = CommitPipeline::new(loaded, Durability::Interval, true, &mut scene.queue);
        let (sender, answers) = mpsc::channel();
        let held: BoxedReply = Box::new(move |outcome| sender.send(outcome).unwrap());
        pipeline.hold_changed(held, &mut scene.queue);
        assert_eq!(answers.recv().unwrap().unwrap_err().code(), Code::StorageUnavailable);
    }

    #[test]
    fn a_pipeline_ends_with_an_event_that_could_not_be_appended() {
        let mut scene = Scene::new();
        let Scene { log, queue, pipeline, .. } = &mut scene;
        let (sender, answers) = mpsc::channel();
        let good = pipeline.tenant().next_moment(now());
        pipeline.record(good, &event(), queue).unwrap();
        let held: BoxedReply = Box::new(move |outcome| sender.send(outcome).unwrap());
        pipeline.hold_changed(held, queue);
        let bad = Moment { seq: good.seq + 7, ..good };
        assert_eq!(pipeline.record(bad, &event(), queue).unwrap_err().code(), Code::InternalError);
        let next = pipeline.tenant().next_moment(now());
        assert_eq!(pipeline.record(next, &event(), queue).unwrap_err().code(), Code::StorageUnavailable);
        assert!(pipeline.is_ahead(queue));
        assert_eq!(queue.write(log), Written::All);
        pipeline.abandon();
        let sync = log.begin_sync().unwrap();
        log.finish_sync(&sync, &sync.run());
        assert!(!queue.update(log));
        answers.recv().unwrap().unwrap();
        let loaded = scene.load();
        assert_eq!(loaded.tenant.seq(), good.seq, "a refused event did not happen");
    }
}

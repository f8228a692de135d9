//! Work on other threads: syncs, snapshots, seals, retention, the end of a tenant that leaves.

use kavach_journal::{Checkpoint, Flushed, SyncPoint, probe};
use kavach_store::commit_pipeline::{Closed, PendingSnapshot};

use super::History;
use super::leaving::Leaving;
use super::member::{Part, folder_synced};
use crate::disk::Stop;
use crate::task::Task;

pub enum Job {
    Fold(Task<Flushed>),
    Sync(Task<std::io::Result<SyncPoint>>),
    Seal(Task<std::io::Result<()>>),
    Snapshot(Task<std::io::Result<()>>, u64),
    Retention(Task<std::io::Result<Option<u64>>>),
    Checkpoint(Task<std::io::Result<SyncPoint>>, Checkpoint),
    Probe(Task<std::io::Result<()>>),
    Close(Task<std::io::Result<Closed>>, Leaving),
    /// It waits for the log.
    Settle(Leaving, Option<Box<PendingSnapshot>>),
    LastSnapshot(Task<std::io::Result<()>>, Leaving),
}

impl Job {
    pub fn advance(&self, operations: usize) -> bool {
        match self {
            Self::Fold(task) => task.advance(operations),
            Self::Sync(task) | Self::Checkpoint(task, _) => task.advance(operations),
            Self::Seal(task) | Self::Snapshot(task, _) | Self::Probe(task) | Self::LastSnapshot(task, _) => {
                task.advance(operations)
            }
            Self::Retention(task) => task.advance(operations),
            Self::Close(task, _) => task.advance(operations),
            Self::Settle(leaving, _) => leaving.is_settled().is_some(),
        }
    }
}

impl History {
    /// Has the folder take what the log has on disk, unless a thread is at work in the folder.
    pub(super) fn start_fold(&mut self, at: usize) {
        let queue = self.queue.as_ref().unwrap();
        let member = &mut self.members[at];
        let Part::Up(pipeline) = &mut member.part else { return };
        if member.folding || pipeline.storage_failed() {
            return;
        }
        match pipeline.begin_fold(queue) {
            Ok(Some(job)) => {
                member.folding = true;
                let bytes = job.bytes();
                member.spawn(Job::Fold(Task::start(move || job.run())));
                self.say(|| format!("{at}: {bytes} bytes are folded"));
            }
            Ok(None) => {}
            Err(_) => self.abandon(at),
        }
    }

    pub(super) fn start_sync(&mut self, at: usize) {
        let member = &mut self.members[at];
        let Part::Up(pipeline) = &mut member.part else { return };
        if member.folding {
            return;
        }
        let Some(job) = pipeline.begin_sync() else { return self.note_folded(at) };
        member.folding = true;
        member.spawn(Job::Sync(Task::start(move || job.run())));
        self.say(|| format!("{at}: a sync starts"));
    }

    /// Copies the state. The snapshot is written once the folder has its events.
    pub(super) fn start_snapshot(&mut self, at: usize) {
        let member = &mut self.members[at];
        let Part::Up(pipeline) = &mut member.part else { return };
        if pipeline.storage_failed() {
            return;
        }
        let Some(copy) = pipeline.copy_state() else { return };
        pipeline.seal();
        let seq = copy.seq();
        member.copies.push(copy);
        self.say(|| format!("{at}: a snapshot of {seq} is wanted"));
        self.write_snapshots(at);
    }

    /// Starts the snapshots that the folder has the events of.
    fn write_snapshots(&mut self, at: usize) {
        let member = &mut self.members[at];
        let Part::Up(pipeline) = &mut member.part else { return };
        let mut begun = Vec::new();
        for copy in std::mem::take(&mut member.copies) {
            match pipeline.begin_snapshot(copy) {
                Ok(snapshot) => begun.push(snapshot),
                Err(copy) => member.copies.push(copy),
            }
        }
        for snapshot in begun {
            let seq = snapshot.seq();
            self.members[at].spawn(Job::Snapshot(Task::start(move || snapshot.write()), seq));
            self.say(|| format!("{at}: a snapshot of {seq} starts"));
        }
    }

    pub(super) fn start_retention(&mut self, at: usize) {
        let cutoff = self.clock - [0, 100, 3_600_000][self.rng.usize(0..3)];
        let member = &mut self.members[at];
        let Part::Up(pipeline) = &mut member.part else { return };
        let Some(journal) = pipeline.journal().filter(|_| !pipeline.storage_failed() && !member.retention_running)
        else {
            return;
        };
        let job = journal.begin_retention(cutoff);
        if job.is_empty() {
            return;
        }
        member.retention_running = true;
        member.model.may_forget(cutoff);
        member.spawn(Job::Retention(Task::start(move || job.run())));
        self.say(|| format!("{at}: what is older than {cutoff} is removed"));
    }

    pub(super) fn checkpoint(&mut self, at: usize) {
        let now = self.now();
        let queue = self.queue.as_ref().unwrap();
        let member = &mut self.members[at];
        let Part::Up(pipeline) = &mut member.part else { return };
        // The server first folds all there is. A link of less is one too.
        if pipeline.check_writable(queue).is_err() || member.folding {
            return;
        }
        let at_ms = pipeline.tenant().next_moment(now).at.millis();
        let Some(journal) = pipeline.journal_mut() else { return };
        match journal.link(at_ms) {
            Ok(link) => {
                let job = journal.begin_sync();
                member.spawn(Job::Checkpoint(Task::start(move || job.run()), link));
                self.say(|| format!("{at}: a checkpoint of {}", link.seq));
            }
            Err(_) if journal.is_broken() => self.abandon(at),
            Err(_) => {}
        }
    }

    /// Lets the other threads run for a while.
    pub(super) fn advance(&mut self, at: usize) {
        let operations = self.rng.usize(1..12);
        let member = &mut self.members[at];
        if let Part::Loading(loading) = &member.part
            && self.rng.bool()
        {
            if loading.task.advance(operations) {
                self.loaded(at);
            }
            return;
        }
        if let Part::Up(pipeline) = &member.part
            && pipeline.storage_failed()
            && !member.jobs.iter().any(|(_, job)| matches!(job, Job::Probe(_)))
        {
            let folder = self.folder(at);
            let member = &mut self.members[at];
            member.spawn(Job::Probe(Task::start(move || probe(&folder))));
            return;
        }
        let member = &mut self.members[at];
        let Some(which) = (!member.jobs.is_empty()).then(|| self.rng.usize(0..member.jobs.len())) else { return };
        if member.jobs[which].1.advance(operations) {
            let (generation, job) = member.jobs.remove(which);
            self.finish(at, generation, job);
        }
    }

    /// A job on another thread is done, and its tenant gets the result.
    pub(super) fn finish(&mut self, at: usize, generation: u32, job: Job) {
        let now = self.now();
        let is_down = self.disk.is_down();
        let log = self.log();
        let member = &mut self.members[at];
        let own = generation == member.generation && !is_down;
        match job {
            Job::Fold(task) => {
                let flushed = task.finish();
                if !own {
                    return;
                }
                member.folding = false;
                let Part::Up(pipeline) = &mut member.part else { return };
                let folded = pipeline.folded(flushed, now).map_err(|problem| problem.to_string());
                let is_broken = pipeline.journal().is_some_and(kavach_journal::Journal::is_broken);
                if folded.is_err() {
                    pipeline.storage_fails();
                    member.copies.clear();
                }
                self.tally.folded += u64::from(folded.is_ok());
                self.say(|| format!("{at}: folded: {folded:?}"));
                if is_broken {
                    return self.abandon(at);
                }
                if folded.is_ok() {
                    self.write_snapshots(at);
                    if self.rng.bool() {
                        self.start_sync(at);
                    }
                }
            }
            Job::Sync(task) => {
                let outcome = task.finish();
                if !own {
                    return;
                }
                member.folding = false;
                let Part::Up(pipeline) = &mut member.part else { return };
                match pipeline.synced(outcome, now) {
                    Ok(sealable) => {
                        for job in sealable {
                            self.tally.sealed += 1;
                            member.spawn(Job::Seal(Task::start(move || job.run())));
                        }
                        let synced = folder_synced(&member.part);
                        self.note_folded(at);
                        self.say(|| format!("{at}: synced up to {synced}"));
                    }
                    Err(problem) => {
                        self.say(|| format!("{at}: a sync failed: {problem}"));
                        self.write();
                        self.abandon(at);
                    }
                }
            }
            Job::Seal(task) => {
                let done = task.finish();
                self.say(|| format!("{at}: sealed: {done:?}"));
            }
            Job::Snapshot(task, seq) => {
                let written = task.finish();
                self.say(|| format!("{at}: a snapshot of {seq}: {written:?}"));
                if written.is_ok() && own {
                    self.tally.snapshots += 1;
                    let Part::Up(pipeline) = &mut self.members[at].part else { return };
                    pipeline.snapshot_written(seq);
                }
            }
            Job::Retention(task) => {
                let removed = task.finish();
                self.say(|| format!("{at}: removed up to: {removed:?}"));
                if !own {
                    return;
                }
                let member = &mut self.members[at];
                member.retention_running = false;
                if let (Part::Up(pipeline), Ok(Some(first_kept))) = (&mut member.part, removed)
                    && let Some(journal) = pipeline.journal_mut()
                {
                    self.tally.removals += 1;
                    journal.finish_retention(first_kept);
                    // A power failure brings back what was removed last.
                    if self.rng.u32(0..3) == 0 {
                        self.stop(Stop::Power, false);
                    }
                }
            }
            Job::Checkpoint(task, link) => {
                // The syncer reports it, whatever happened to the pipeline.
                if task.finish().is_ok() && !is_down {
                    self.tally.checkpoints += 1;
                    member.model.checkpoint(link);
                }
            }
            Job::Probe(task) => {
                if task.finish().is_ok()
                    && own
                    && let Part::Up(pipeline) = &mut member.part
                {
                    // What was read from a log that had failed is read again.
                    if pipeline.is_provisional() && !log.is_broken() {
                        return self.abandon(at);
                    }
                    pipeline.storage_works();
                    self.say(|| format!("{at}: the storage works again"));
                }
            }
            Job::Close(task, leaving) => {
                let closed = task.finish();
                if !is_down {
                    self.folder_closed(at, closed, leaving);
                }
            }
            Job::Settle(leaving, snapshot) => self.settled(at, leaving, snapshot),
            Job::LastSnapshot(task, leaving) => {
                let written = task.finish();
                if !is_down {
                    self.left(at, leaving, written.is_ok());
                }
            }
        }
    }
}

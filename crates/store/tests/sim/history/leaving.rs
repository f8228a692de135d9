//! Tenants leave memory, and come back when somebody calls them. The order of these steps is that of the server's actors.

use std::io;
use std::sync::{Arc, Mutex};

use kavach_store::catalog_writer::RowBytes;
use kavach_store::commit_pipeline::{Closed, PendingSnapshot};
use kavach_store::{BoxedReply, CatalogRow};

use super::History;
use super::catalog::Note;
use super::jobs::Job;
use super::member::{Loading, Part};
use crate::task::Task;

/// What is left to do of a tenant that leaves.
pub struct Leaving {
    row: CatalogRow,
    old_row: Option<RowBytes>,
    seq: u64,
    /// Whether the log has everything on disk; `None` until that is known.
    settled: Arc<Mutex<Option<bool>>>,
    /// Whether the folder has everything on disk.
    is_closed: bool,
}

impl Leaving {
    pub fn is_settled(&self) -> Option<bool> {
        *self.settled.lock().unwrap()
    }
}

impl History {
    /// Somebody calls a tenant: it is loaded if it is not in memory.
    pub(super) fn wake(&mut self, at: usize) {
        if matches!(self.members[at].part, Part::Idle) {
            self.say(|| format!("{at}: it comes back"));
            let losses = self.disk.losses();
            let task = self.load(at);
            self.members[at].part = Part::Loading(Loading { task, losses, returns: true });
        }
    }

    /// A tenant leaves memory.
    pub(super) fn close(&mut self, at: usize) {
        let member = &self.members[at];
        let works_in_folder = |job: &Job| {
            matches!(job, Job::Fold(_) | Job::Sync(_) | Job::Snapshot(..) | Job::Retention(_) | Job::Checkpoint(..))
        };
        if member.jobs.iter().any(|(generation, job)| *generation == member.generation && works_in_folder(job)) {
            // It leaves later.
            return;
        }
        self.write();
        if let Part::Up(pipeline) = &self.members[at].part
            && !pipeline.storage_failed()
            && pipeline.is_unsynced(self.queue.as_ref().unwrap())
        {
            // The folder gets only what the log has on disk.
            return self.start_log_sync();
        }
        let now = self.now();
        let queue = self.queue.as_mut().unwrap();
        let member = &mut self.members[at];
        let Part::Up(pipeline) = &mut member.part else { return };
        let settled = Arc::new(Mutex::new(None));
        if pipeline.storage_failed() {
            *settled.lock().unwrap() = Some(false);
        } else {
            let own = Arc::clone(&settled);
            let note: BoxedReply = Box::new(move |outcome| *own.lock().unwrap() = Some(outcome.is_ok()));
            pipeline.hold_changed(note, queue);
        }
        let seq = pipeline.tenant().seq();
        let row = self.catalog.make(pipeline.tenant(), now, pipeline.since_snapshot());
        let snapshot_from = [1, 20][self.rng.usize(0..2)];
        let Some(job) = pipeline.begin_close(snapshot_from) else { return };
        member.take_lost_row();
        let old_row = member.row.take();
        let leaving = Leaving { row, old_row, seq, settled, is_closed: false };
        member.part = Part::Leaving;
        member.spawn(Job::Close(Task::start(move || job.close(now)), leaving));
        self.say(|| format!("{at}: it closes"));
    }

    /// The folder is closed, or could not be.
    pub(super) fn folder_closed(&mut self, at: usize, closed: io::Result<Closed>, mut leaving: Leaving) {
        self.say(|| format!("{at}: its folder is closed: {:?}", closed.as_ref().map(|_| ())));
        let mut snapshot = None;
        if let Ok(closed) = closed {
            self.tally.closed += 1;
            leaving.is_closed = true;
            snapshot = closed.snapshot.map(Box::new);
            self.members[at].model.all_synced();
        }
        self.members[at].spawn(Job::Settle(leaving, snapshot));
    }

    /// The log has said whether it has everything on disk.
    pub(super) fn settled(&mut self, at: usize, leaving: Leaving, snapshot: Option<Box<PendingSnapshot>>) {
        match snapshot {
            Some(snapshot) => {
                self.members[at].spawn(Job::LastSnapshot(Task::start(move || snapshot.write()), leaving));
            }
            None => self.left(at, leaving, false),
        }
    }

    /// The tenant is not in memory any more.
    pub(super) fn left(&mut self, at: usize, leaving: Leaving, has_snapshot: bool) {
        let is_settled = leaving.is_settled() == Some(true);
        let Leaving { mut row, old_row, seq, is_closed, .. } = leaving;
        if has_snapshot {
            row.since_snapshot = 0;
        }
        let row = (is_closed && is_settled).then(|| RowBytes::from(row.encode()));
        let (log, id) = (self.log(), self.members[at].id);
        match &row {
            Some(row) if old_row.as_ref() != Some(row) => self.catalog.send(Note::Row(id, Arc::clone(row), seq)),
            Some(_) => self.catalog.send(Note::Folded(id, seq)),
            None => log.not_folded(id.bytes()),
        }
        self.tally.leaves += 1;
        self.say(|| format!("{at}: it has left, with a row of event {seq}: {}", row.is_some()));
        self.catalog.directory.left(id, row);
        let member = &mut self.members[at];
        member.generation += 1;
        (member.folding, member.retention_running) = (false, false);
        member.copies.clear();
        member.part = Part::Idle;
    }
}

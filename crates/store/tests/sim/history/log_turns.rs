//! The log that all tenants share: writes at the end of a turn, syncs on another thread, and what follows a failure.

use std::io;
use std::sync::Arc;

use kavach_journal::{Log, LogSync};
use kavach_store::commit_queue::Written;

use super::History;
use super::member::Part;
use crate::Queue;
use crate::task::Task;

/// A sync of the log on another thread.
pub struct RunningSync {
    sync: Arc<LogSync>,
    task: Task<io::Result<()>>,
    /// The failures of the log when it began, and what it had of each tenant.
    generation: usize,
    written: Vec<u64>,
}

impl History {
    pub(super) fn log(&self) -> Arc<Log> {
        Arc::clone(self.log.as_ref().unwrap())
    }

    pub(super) fn queue(&mut self) -> &mut Queue {
        self.queue.as_mut().unwrap()
    }

    /// The turn ends.
    pub(super) fn write(&mut self) {
        let log = self.log();
        let written = self.queue().write(&*log);
        self.say(|| format!("written: {written:?}, up to batch {}", log.position()));
        match written {
            Written::All => self.note_written(),
            Written::Nothing => {}
            Written::Failed => {
                self.tally.failed_turns += 1;
                self.abandon_those_ahead();
            }
        }
    }

    /// The log has everything that was recorded.
    fn note_written(&mut self) {
        for member in &mut self.members {
            // What was loaded may be only in the folder.
            if let Part::Up(pipeline) = &member.part
                && pipeline.tenant().seq() > member.loaded
            {
                member.written = pipeline.tenant().seq();
            }
        }
    }

    /// Tenants that recorded what the log does not have are loaded again.
    fn abandon_those_ahead(&mut self) {
        for at in 0..self.members.len() {
            if let Part::Up(pipeline) = &self.members[at].part
                && pipeline.is_ahead(self.queue.as_ref().unwrap())
            {
                self.abandon(at);
            }
        }
    }

    /// A thread hears of a failure at some time.
    pub(super) fn look_for_failures(&mut self) {
        let log = self.log();
        if self.rng.u32(0..5) == 0 && self.queue().update(&*log) {
            self.say(|| "it is heard that the log failed".to_owned());
            self.abandon_those_ahead();
        }
        if log.is_broken() && self.rng.u32(0..16) == 0 {
            self.keep_log();
        }
    }

    pub(super) fn start_log_sync(&mut self) {
        let Some(sync) = self.log().begin_sync().map(Arc::new) else { return };
        if self.log_syncs.len() > 1 {
            return;
        }
        let own = Arc::clone(&sync);
        self.say(|| format!("a sync of the log up to batch {} starts", sync.position()));
        let generation = self.log().progress(usize::MAX).generation;
        let written = self.members.iter().map(|member| member.written).collect();
        self.log_syncs.push(RunningSync { sync, task: Task::start(move || own.run()), generation, written });
    }

    pub(super) fn advance_log_sync(&mut self) {
        let operations = self.rng.usize(1..5);
        if !self.log_syncs.is_empty() {
            let which = self.rng.usize(0..self.log_syncs.len());
            self.run_log_sync(which, operations);
        }
    }

    /// The log is synced while nothing else happens, and its thread hears of that.
    pub(super) fn sync_log_now(&mut self) {
        self.write();
        self.start_log_sync();
        while !self.log_syncs.is_empty() && !self.disk.is_down() {
            self.run_log_sync(0, usize::MAX / 2);
        }
        if !self.disk.is_down() {
            let log = self.log();
            if self.queue().update(&*log) {
                self.abandon_those_ahead();
            }
        }
    }

    fn run_log_sync(&mut self, which: usize, operations: usize) {
        if self.log_syncs[which].task.advance(operations) {
            let RunningSync { sync, task, generation, written } = self.log_syncs.remove(which);
            let outcome = task.finish();
            if self.disk.is_down() {
                return;
            }
            let log = self.log();
            log.finish_sync(&sync, &outcome);
            self.say(|| format!("the log is synced up to batch {}: {outcome:?}", log.synced()));
            self.tally.log_syncs += u64::from(outcome.is_ok());
            // One that began before a failure says nothing.
            if log.progress(usize::MAX).generation == generation && log.synced() >= sync.position() {
                for (member, seq) in self.members.iter_mut().zip(written) {
                    member.in_log = member.in_log.max(seq);
                }
            }
            if self.rng.bool() && self.queue().update(&*log) {
                self.abandon_those_ahead();
            }
        }
    }

    /// What the log's own threads do: they read a failed log anew, make slots ahead, and ask tenants to fold.
    pub(super) fn keep_log(&mut self) {
        let log = self.log();
        if log.is_broken() {
            let reopened = log.reopen();
            self.say(|| format!("the log is read anew: {reopened:?}"));
            self.tally.reopened += u64::from(reopened.is_ok());
            return;
        }
        if log.is_slot_due() {
            let made = log.prepare();
            self.say(|| format!("a slot is made: {made:?}"));
        }
        for tenant in log.due_to_fold() {
            let asked = self.members.iter().position(|member| member.id.bytes() == tenant).unwrap();
            self.fold(asked);
            log.not_folded(tenant);
        }
    }

    /// The tenant's tail is to go into its folder, once the log has it on disk, and the folder is synced then.
    pub(super) fn fold(&mut self, at: usize) {
        self.wake(at);
        self.write();
        if let Part::Up(pipeline) = &mut self.members[at].part {
            pipeline.seal();
        }
        self.start_log_sync();
        self.start_fold(at);
        self.start_sync(at);
    }
}

//! The machine stops, and the tenants are loaded from its disk.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use kavach_domain::{TenantId, Timestamp};
use kavach_journal::{DataDir, Disk, Log, LogError, Tail};
use kavach_store::commit_queue::Written;
use kavach_store::loader::{self, LoadedTenant};
use kavach_store::{CommitPipeline, CommitQueue};

use super::calls::decide;
use super::catalog::Note;
use super::member::{Loading, Part};
use super::{DATA, History};
use crate::Queue;
use crate::disk::{SimDisk, Stop};
use crate::model::Through;

impl History {
    /// A tenant was loaded again in a running process.
    pub(super) fn loaded(&mut self, at: usize) {
        let member = &mut self.members[at];
        let Part::Loading(Loading { task, losses, returns }) = std::mem::replace(&mut member.part, Part::Down) else {
            return;
        };
        match task.finish() {
            Ok(loaded) => {
                self.tally.rebuilds += u64::from(!returns);
                self.tally.returns += u64::from(returns);
                let lost = member.losses < self.disk.losses();
                if !loaded.is_provisional {
                    // Else what was lost shows only later.
                    member.losses = losses;
                }
                self.take(at, loaded, Through::Errors, lost, returns);
            }
            Err(error) => {
                assert!(error.may_pass || self.disk.is_down(), "{}", error.problem);
                let (task, losses) = (self.load(at), self.disk.losses());
                self.members[at].part = Part::Loading(Loading { task, losses, returns: false });
            }
        }
    }

    /// A loaded tenant goes on. `is_called` says that it comes into memory since somebody called it, as at a start, rather
    /// than after its storage failed.
    pub(super) fn take(&mut self, at: usize, loaded: LoadedTenant, through: Through, lost: bool, is_called: bool) {
        let folder = self.folder(at);
        let (durability, disk) = (self.durability, self.disk.clone());
        self.say(|| {
            format!("{at}: recovered up to {}, {} in its folder", loaded.tenant.seq(), loaded.journal.written_seq())
        });
        let member = &mut self.members[at];
        disk.calmly(|| member.model.recovered(&loaded, &folder, through, lost, false));
        (member.loaded, member.written) = (loaded.tenant.seq(), member.in_log);
        member.row_lost = Arc::default();
        // If the folder has everything on disk, the row tells of everything.
        let is_whole = loaded.log_position == 0 && loaded.journal.tail_bytes() == 0;
        member.row = if is_called { self.catalog.directory.wake(member.id) } else { None };
        member.row_seq = if member.row.is_some() && is_whole { loaded.tenant.seq() } else { 0 };
        let queue = self.queue.as_mut().unwrap();
        member.part = Part::Up(Box::new(CommitPipeline::new(loaded, durability, !is_called, queue)));
        // A killed process may have left bytes in the folder that are not on disk.
        self.start_sync(at);
    }

    /// The machine or the process stops, by itself or now. Then everything is loaded again.
    pub(super) fn stop(&mut self, stop: Stop, by_itself: bool) {
        self.say(|| format!("-- {stop:?}{}", if by_itself { ", where it stopped by itself" } else { "" }));
        // Callers answered before the stop stay answered.
        if !by_itself {
            for member in &mut self.members {
                member.collect_answers(&mut self.tally);
            }
        }
        self.disk.stop();
        self.log_syncs.clear();
        for member in &mut self.members {
            for (_, job) in member.jobs.drain(..) {
                job.advance(usize::MAX / 2);
            }
            member.part = Part::Down;
            // An answer under way says yes, or says nothing.
            let answered: Vec<_> = member.outcomes.lock().unwrap().drain(..).collect();
            for (promise, outcome) in answered {
                if outcome.is_ok() {
                    member.model.answered(promise, outcome);
                }
            }
        }
        self.close_data();
        self.restart(stop, true);
    }

    fn close_data(&mut self) {
        self.stop_catalog();
        (self.data, self.log, self.queue) = (None, None, None);
    }

    pub(super) fn restart(&mut self, mut stop: Stop, count: bool) {
        // A power failure during recovery counts too.
        let mut through = Through::Kill;
        loop {
            match stop {
                Stop::Kill => self.tally.kills += u64::from(count),
                Stop::Power => {
                    self.tally.power_failures += u64::from(count);
                    through = Through::Power;
                }
            }
            self.disk.start(stop);
            if count && self.rng.u32(0..4) == 0 {
                self.disk.stop_in(Some(self.rng.u64(1..60)));
            }
            self.recover(through);
            if !self.disk.is_down() {
                return;
            }
            self.tally.stops_in_recovery += 1;
            self.members.iter_mut().for_each(|member| member.part = Part::Down);
            self.close_data();
            stop = if self.rng.bool() { Stop::Power } else { Stop::Kill };
            self.say(|| format!("-- {stop:?}, in the middle of recovery"));
        }
    }

    /// Opens the data directory and loads all tenants, retrying if the disk refuses.
    pub(super) fn recover(&mut self, through: Through) {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        while self.data.is_none() && !self.disk.is_down() {
            self.data = DataDir::on(Arc::clone(&disk), Path::new(DATA)).ok();
        }
        let mut attempts = 0;
        while let Some(data) = self.data.as_ref().filter(|_| self.log.is_none() && !self.disk.is_down()) {
            let id = self.rng.u128(..).to_le_bytes();
            attempts += 1;
            let opened = match attempts {
                // It takes many operations, and on a disk that refuses every third it would never come to an end.
                20.. => self.disk.calmly(|| data.open_log(id, self.log_options)),
                _ => data.open_log(id, self.log_options),
            };
            match opened {
                Ok(log) => {
                    self.queue = Some(CommitQueue::new(&log, || ()));
                    self.log = Some(Arc::new(log));
                }
                Err(error) => {
                    self.say(|| format!("the log can't be opened: {error}"));
                    assert!(matches!(error, LogError::Io { .. }) || self.disk.is_down(), "{error}");
                    self.disk.fill(None);
                }
            }
        }
        self.open_catalog();
        for at in 0..self.members.len() {
            while matches!(self.members[at].part, Part::Down) && !self.disk.is_down() {
                let losses = self.disk.losses();
                let (id, now, options) = (self.members[at].id, self.now(), self.options);
                let (folder, log) = (self.folder(at), self.log());
                let has_tail = log.has_tail(id.bytes());
                let tail = log.tail(id.bytes()).map_err(loader::LoadError::from);
                match tail.and_then(|tail| loader::load(&folder, &tail, id, now, options)) {
                    Ok(loaded) => {
                        let member = &mut self.members[at];
                        let lost = member.losses < self.disk.losses();
                        member.losses = losses;
                        member.generation += 1;
                        (member.folding, member.retention_running) = (false, false);
                        member.copies.clear();
                        self.check_row(at, &loaded, has_tail);
                        self.take(at, loaded, through, lost, true);
                    }
                    Err(error) => {
                        self.say(|| format!("{at}: {}", error.problem));
                        assert!(error.may_pass || self.disk.is_down(), "{}", error.problem);
                        // A full disk stays full until somebody makes room.
                        self.disk.fill(None);
                    }
                }
            }
        }
    }

    /// A tenant works: it answers, and its events reach the disk.
    pub(super) fn goes_on(&mut self, at: usize) {
        let (now, log) = (self.now(), self.log());
        let queue = self.queue.as_mut().unwrap();
        let member = &mut self.members[at];
        let Part::Up(pipeline) = &mut member.part else { panic!("it is not there") };
        let seq = decide(&mut self.rng, pipeline, queue, &mut member.model, now);
        assert_eq!(queue.write(&*log), Written::All);
        if self.rng.bool() {
            let sync = log.begin_sync().unwrap();
            log.finish_sync(&sync, &sync.run());
            assert_eq!(log.synced(), log.position());
            member.in_log = seq;
        } else {
            let sync = log.begin_sync().unwrap();
            log.finish_sync(&sync, &sync.run());
            assert!(!queue.update(&*log));
            fold_all(pipeline, queue, now);
            let outcome = pipeline.begin_sync().map(|job| job.run()).unwrap();
            for job in pipeline.synced(outcome, now).unwrap() {
                job.run().unwrap();
            }
            assert_eq!(pipeline.journal().unwrap().synced_seq(), seq);
            self.note_folded(at);
            if let Some(sync) = log.begin_sync() {
                log.finish_sync(&sync, &sync.run());
            }
            self.members[at].in_log = seq;
            assert!(!self.queue().update(&*log));
            self.write_catalog_now();
            assert!(
                !log.has_tail(self.members[at].id.bytes()),
                "the log forgets what is in the folder and in the catalog"
            );
        }
        let member = &mut self.members[at];
        member.model.all_synced();
        let Part::Up(pipeline) = &member.part else { panic!("it is not there") };
        member.model.undisturbed(pipeline);
    }

    /// The disk flips a bit of what was synced. A reader then sees the original data, or gets an error. If the power
    /// failed too, only what the disk itself can know counts: the last sync may have no marker yet.
    pub(super) fn rot(&mut self) {
        let closed = self.rng.bool();
        let now = self.now();
        if closed {
            let (log, queue) = (self.log(), self.queue.take().unwrap());
            if let Some(sync) = log.begin_sync() {
                log.finish_sync(&sync, &sync.run());
            }
            let mut queue = queue;
            assert!(!queue.update(&*log));
            for member in &mut self.members {
                let Part::Up(pipeline) = &mut member.part else { continue };
                fold_all(pipeline, &queue, now);
                let (id, seq) = (member.id, pipeline.tenant().seq());
                let row = self.catalog.make(pipeline.tenant(), now, pipeline.since_snapshot());
                pipeline.begin_close(1).unwrap().close(now).unwrap();
                self.catalog.send(Note::Row(id, row.encode().into(), seq));
            }
            self.close_catalog();
            assert!(log.close().unwrap(), "every folder has everything");
        }
        self.disk.stop();
        for member in &mut self.members {
            member.part = Part::Down;
        }
        self.close_data();
        self.disk.start(Stop::Power);
        let open = |disk: &SimDisk| -> Result<(DataDir, Option<Log>), LogError> {
            let data = DataDir::on(Arc::new(disk.clone()), Path::new(DATA)).unwrap();
            let log = if closed { None } else { Some(data.open_log([7; 16], self.log_options)?) };
            Ok((data, log))
        };
        let tail_of = |log: &Option<Log>, id: TenantId| match log {
            Some(log) => log.tail(id.bytes()).unwrap(),
            None => Tail::default(),
        };
        for member in self.members.iter_mut().filter(|_| !closed) {
            let (data, log) = open(&self.disk).unwrap();
            let folder = data.folder(&member.id.folder_name()).unwrap();
            let loaded = loader::load(&folder, &tail_of(&log, member.id), member.id, now, self.options);
            let loaded = loaded.map_err(|error| error.problem).unwrap();
            // What the log recovered is on disk, and the log says so. A folder does not for its last events.
            let in_log = log.is_some_and(|log| log.tenants().contains(&member.id.bytes()));
            member.model.promise_only(if in_log { loaded.tenant.seq() } else { loaded.journal.synced_seq() });
        }
        let Some(place) = self.disk.flip() else { return };
        self.say(|| format!("-- {place} flips"));
        self.tally.flips += 1;
        let (data, log) = match open(&self.disk) {
            Ok(opened) => opened,
            Err(error) => {
                self.tally.flips_refused += 1;
                assert!(!matches!(error, LogError::Io { .. }), "{error}");
                return;
            }
        };
        if closed {
            self.check_closed_catalog(&data, &place);
        }
        for at in 0..self.members.len() {
            let member = &mut self.members[at];
            let folder = data.folder(&member.id.folder_name()).unwrap();
            let (now, options) = (Timestamp::from_millis(self.clock), self.options);
            match loader::load(&folder, &tail_of(&log, member.id), member.id, now, options) {
                Ok(loaded) => {
                    let outcome = catch_unwind(AssertUnwindSafe(|| {
                        member.model.recovered(&loaded, &folder, Through::Power, false, true)
                    }));
                    if let Err(panic) = outcome {
                        eprintln!("after {place}");
                        std::panic::resume_unwind(panic);
                    }
                }
                Err(error) => {
                    self.tally.flips_refused += 1;
                    assert!(!error.may_pass, "{}", error.problem);
                }
            }
        }
    }
}

/// Everything goes into the folder.
fn fold_all(pipeline: &mut CommitPipeline, queue: &Queue, now: Timestamp) {
    let seq = pipeline.seal();
    while let Some(job) = pipeline.begin_fold(queue).unwrap() {
        pipeline.folded(job.run(), now).unwrap();
    }
    assert_eq!(pipeline.journal().unwrap().written_seq(), seq);
}

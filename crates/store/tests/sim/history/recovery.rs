//! The machine stops, and the tenants are loaded from its disk.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use crate::Pipeline;
use kavach_domain::Timestamp;
use kavach_journal::{DataDir, Disk};
use kavach_store::loader::{self, LoadedTenant};

use super::calls::decide;
use super::member::Part;
use super::{DATA, History};
use crate::disk::Stop;
use crate::model::Through;
use crate::task::Task;

impl History {
    /// A tenant was loaded again in a running process.
    pub(super) fn loaded(&mut self, at: usize) {
        let member = &mut self.members[at];
        let Part::Loading(task, losses) = std::mem::replace(&mut member.part, Part::Down) else { return };
        match task.finish() {
            Ok(loaded) => {
                self.tally.rebuilds += 1;
                let lost = member.losses < self.disk.losses();
                member.losses = losses;
                self.take(at, loaded, Through::Errors, lost, true);
            }
            Err(error) => {
                assert!(error.may_pass || self.disk.is_down(), "{}", error.problem);
                let (now, options, losses) = (self.now(), self.options, self.disk.losses());
                let folder = self.folder(at);
                let id = self.members[at].id;
                let task = Task::start(move || loader::load(&folder, id, now, options));
                self.members[at].part = Part::Loading(task, losses);
            }
        }
    }

    pub(super) fn take(&mut self, at: usize, loaded: LoadedTenant, through: Through, lost: bool, storage_failed: bool) {
        let folder = self.folder(at);
        let (durability, disk) = (self.durability, self.disk.clone());
        self.say(|| format!("{at}: recovered up to {}", loaded.journal.written_seq()));
        let member = &mut self.members[at];
        disk.calmly(|| member.model.recovered(&loaded, &folder, through, lost, false));
        member.part = Part::Up(Box::new(Pipeline::new(loaded, durability, storage_failed)));
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
        self.data = None;
        self.restart(stop, true);
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
            self.data = None;
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
        for at in 0..self.members.len() {
            while matches!(self.members[at].part, Part::Down) && !self.disk.is_down() {
                let losses = self.disk.losses();
                let (id, now, options) = (self.members[at].id, self.now(), self.options);
                let folder = self.folder(at);
                match loader::load(&folder, id, now, options) {
                    Ok(loaded) => {
                        let member = &mut self.members[at];
                        let lost = member.losses < self.disk.losses();
                        member.losses = losses;
                        member.generation += 1;
                        (member.sync_running, member.retention_running) = (false, false);
                        self.take(at, loaded, through, lost, false);
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
        let now = self.now();
        let member = &mut self.members[at];
        let Part::Up(pipeline) = &mut member.part else { panic!("it is not there") };
        let seq = decide(&mut self.rng, pipeline, &mut member.model, now);
        pipeline.write(now).unwrap();
        let outcome = pipeline.begin_sync().map(|job| job.run()).unwrap();
        for job in pipeline.synced(outcome, now).unwrap() {
            job.run().unwrap();
        }
        assert_eq!(pipeline.journal().unwrap().synced_seq(), seq);
        member.model.all_synced();
        member.model.undisturbed(pipeline);
    }

    /// The disk flips a bit of what was synced. A reader then sees the original data, or gets an error. If the power
    /// failed too, only what the disk itself can know counts: the last sync may have no marker yet.
    pub(super) fn rot(&mut self) {
        let closed = self.rng.bool();
        let now = self.now();
        for member in &mut self.members {
            if let (true, Part::Up(pipeline)) = (closed, &mut member.part) {
                pipeline.begin_close().unwrap().0.close(now).unwrap();
            }
        }
        self.disk.stop();
        for member in &mut self.members {
            member.part = Part::Down;
        }
        self.data = None;
        self.disk.start(Stop::Power);
        for member in self.members.iter_mut().filter(|_| !closed) {
            let data = DataDir::on(Arc::new(self.disk.clone()), Path::new(DATA)).unwrap();
            let folder = data.folder(&member.id.folder_name()).unwrap();
            let loaded = loader::load(&folder, member.id, now, self.options).map_err(|error| error.problem).unwrap();
            member.model.promise_only(loaded.journal.synced_seq());
        }
        let Some(place) = self.disk.flip() else { return };
        self.say(|| format!("-- {place} flips"));
        self.tally.flips += 1;
        let data = DataDir::on(Arc::new(self.disk.clone()), Path::new(DATA)).unwrap();
        for at in 0..self.members.len() {
            let member = &mut self.members[at];
            let folder = data.folder(&member.id.folder_name()).unwrap();
            let (now, options) = (Timestamp::from_millis(self.clock), self.options);
            match loader::load(&folder, member.id, now, options) {
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

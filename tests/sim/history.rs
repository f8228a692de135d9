//! One history: a seed decides what tenants are asked, when their parts of the machinery run, and what the disk does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex};

use fastrand::Rng;
use kavach::actors::Durability;
use kavach::actors::commit::Held;
use kavach::actors::ledger::{Closing, Ledger, PendingSnapshot};
use kavach::actors::loader::{self, LoadError, Loaded};
use kavach::domain::event::{By, ChangeRecord};
use kavach::domain::tenant::Caller;
use kavach::domain::tenant_commands::{NewTenant, TenantSpec};
use kavach::domain::usage::UsageReport;
use kavach::domain::{AuditId, Code, Event, TenantId, Timestamp};
use kavach::journal::{Checkpoint, DataDir, Disk, Folder, JournalOptions, SyncPoint, probe};

use super::commands;
use super::disk::{Seen, SimDisk, Stop};
use super::model::{Model, Promise, Through};
use super::task::Task;

/// 2023-11-14T22:13:20Z: the end of a day is near.
const START: i64 = 1_700_000_000_000;
const DATA: &str = "/data";

macro_rules! tally {
    ($($field:ident)*) => {
        /// What happened in histories.
        #[derive(Clone, Copy, Debug, Default)]
        pub struct Tally {
            $(pub $field: u64,)*
        }

        impl Tally {
            fn add(&mut self, other: &Self) {
                $(self.$field += other.$field;)*
            }

            /// Each count with its name.
            pub fn counts(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($field), self.$field)),*]
            }
        }
    };
}

tally! {
    histories operations events answers refused unknown kills power_failures stops_in_recovery rebuilds closed
    snapshots sealed removals checkpoints write_errors short_writes sync_errors other_errors full lost_writes
    torn_writes lost_entries flips flips_refused
}

/// Plays the history of a seed. Panics where something does not hold.
pub fn play(seed: u64, verbose: bool, tally: &mut Tally) -> u32 {
    let mut history = History::new(seed, verbose);
    history.run();
    let Seen {
        operations,
        write_errors,
        short_writes,
        sync_errors,
        other_errors,
        full,
        lost_writes,
        torn_writes,
        lost_entries,
    } = history.disk.seen();
    let own = &mut history.tally;
    own.operations = operations;
    own.write_errors = write_errors;
    own.short_writes = short_writes;
    own.sync_errors = sync_errors;
    own.other_errors = other_errors;
    own.full = full;
    own.lost_writes = lost_writes;
    own.torn_writes = torn_writes;
    own.lost_entries = lost_entries;
    tally.add(&history.tally);
    history.disk.digest()
}

/// Makes a tenant and erases it on a disk that refuses much: it is there as a whole, or gone, as the caller was told.
pub fn come_and_go(seed: u64, verbose: bool) {
    let mut history = History::new(seed, verbose);
    history.restart(Stop::Power, false);
    history.disk.fail(8);
    history.create();
    let every = history.rng.u32(3..12);
    history.disk.fail(every);
    history.erase();
}

type Outcomes = Arc<Mutex<Vec<(Promise, Result<(), Code>)>>>;

struct History {
    rng: Rng,
    disk: SimDisk,
    clock: i64,
    durability: Durability,
    options: JournalOptions,
    /// Of so many operations one fails, in histories with errors; else 0.
    error_every: u32,
    data: Option<DataDir>,
    members: Vec<Member>,
    verbose: bool,
    tally: Tally,
}

/// A tenant.
struct Member {
    id: TenantId,
    model: Model,
    outcomes: Outcomes,
    part: Part,
    /// What runs on other threads, that of an earlier ledger too.
    jobs: Vec<(u32, Job)>,
    /// Which ledger this is: what belonged to an earlier one is no news to it.
    generation: u32,
    sync_running: bool,
    retention_running: bool,
    /// Failed syncs when the ledger was loaded.
    losses: u64,
}

enum Part {
    Up(Box<Ledger>),
    /// It is read from disk again, after its storage failed.
    Loading(Task<Result<Loaded, LoadError>>, u64),
    Closed,
    /// Not read yet.
    Down,
}

enum Job {
    Sync(Task<std::io::Result<SyncPoint>>),
    Seal(Task<std::io::Result<()>>),
    Snapshot(Task<std::io::Result<()>>, u64),
    Retention(Task<std::io::Result<Option<u64>>>),
    Checkpoint(Task<std::io::Result<SyncPoint>>, Checkpoint),
    Probe(Task<std::io::Result<()>>),
    Close(Task<std::io::Result<Option<PendingSnapshot>>>, Closing),
    LastSnapshot(Task<std::io::Result<()>>),
}

impl Job {
    fn advance(&self, operations: usize) -> bool {
        match self {
            Self::Sync(task) | Self::Checkpoint(task, _) => task.advance(operations),
            Self::Seal(task) | Self::Snapshot(task, _) | Self::Probe(task) | Self::LastSnapshot(task) => {
                task.advance(operations)
            }
            Self::Retention(task) => task.advance(operations),
            Self::Close(task, _) => task.advance(operations),
        }
    }
}

impl History {
    fn new(seed: u64, verbose: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let disk = SimDisk::new(rng.u64(..), verbose);
        Self {
            clock: START,
            durability: if rng.bool() { Durability::Interval } else { Durability::Fsync },
            // Small ones, so that histories meet rotation, sealing and retention.
            options: JournalOptions { segment_bytes: rng.u64(200..3_000) },
            error_every: if rng.bool() { rng.u32(20..200) } else { 0 },
            data: None,
            members: Vec::new(),
            tally: Tally { histories: 1, ..Tally::default() },
            rng,
            disk,
            verbose,
        }
    }

    fn say(&self, text: impl FnOnce() -> String) {
        if self.verbose {
            eprintln!("  {}", text());
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.clock)
    }

    fn run(&mut self) {
        self.say(|| format!("{:?}, {:?}, an error in {} operations", self.durability, self.options, self.error_every));
        self.restart(Stop::Power, false);
        if self.rng.u32(0..3) > 0 {
            self.disk.fail(self.error_every);
        }
        for _ in 0..if self.rng.u32(0..4) == 0 { 2 } else { 1 } {
            self.create();
        }
        for _ in 0..self.rng.usize(10..250) {
            self.step();
            self.settle();
        }
        // Whatever was going on, the power fails once more, and then a disk that only works has to do.
        let stop = if self.rng.bool() { Stop::Power } else { Stop::Kill };
        self.stop(stop, false);
        self.disk.fail(0);
        self.disk.fill(None);
        self.disk.stop_in(None);
        for at in 0..self.members.len() {
            self.goes_on(at);
        }
        if self.rng.u32(0..3) == 0 {
            self.rot();
        }
    }

    /// A new tenant.
    fn create(&mut self) {
        let id = TenantId::generate(self.now(), [self.members.len() as u8 + 1; 10]).unwrap();
        let slug = format!("tenant-{}", self.members.len());
        let new = NewTenant { name: "Acme".to_owned(), slug, settings: None };
        let spec = TenantSpec::parse(new).unwrap();
        let mut model = Model::default();
        let event = Event::Changed(ChangeRecord { by: By::Operator, change: spec.clone().created(id) });
        let moment = kavach::domain::Tenant::default().next_moment(self.now());
        model.record(moment, &event);
        model.all_synced();
        loop {
            let data = self.data.as_ref().unwrap();
            match loader::create(data, id, spec.clone(), self.now(), self.options) {
                Ok(loaded) => {
                    let ledger = Ledger::new(loaded, self.durability, false);
                    self.members.push(Member {
                        id,
                        model,
                        outcomes: Outcomes::default(),
                        part: Part::Up(Box::new(ledger)),
                        jobs: Vec::new(),
                        generation: 0,
                        sync_running: false,
                        retention_running: false,
                        losses: self.disk.losses(),
                    });
                    return self.say(|| format!("tenant {} is made", id.folder_name()));
                }
                Err(problem) => {
                    self.say(|| format!("a tenant could not be made: {problem:?}"));
                    let was_down = self.disk.is_down();
                    if was_down || self.rng.bool() {
                        let stop = if self.rng.bool() { Stop::Power } else { Stop::Kill };
                        self.stop(stop, false);
                    }
                    // Wholly or not at all.
                    if let Ok(folder) = self.disk.calmly(|| self.data.as_ref().unwrap().folder(&id.folder_name())) {
                        self.say(|| "but it is there".to_owned());
                        assert!(problem.may_have_happened || was_down, "it is there, and was said not to be");
                        let loaded = self
                            .disk
                            .calmly(|| loader::load(&folder, id, self.now(), self.options))
                            .map(|loaded| loaded.tenant.seq());
                        assert_eq!(loaded.map_err(|error| error.problem), Ok(1), "half a tenant");
                        self.disk.calmly(|| self.data.as_ref().unwrap().erase_tenant(&id.folder_name())).unwrap();
                    }
                }
            }
        }
    }

    /// The only tenant goes, with as many attempts as that takes.
    fn erase(&mut self) {
        let id = self.members.pop().unwrap().id;
        let name = id.folder_name();
        loop {
            if self.rng.u32(0..4) == 0 {
                self.disk.stop_in(Some(self.rng.u64(1..8)));
            }
            let erased = self.data.as_ref().unwrap().erase_tenant(&name);
            self.say(|| format!("erased: {erased:?}"));
            let was_down = self.disk.is_down();
            let is_unknown = was_down || erased.as_ref().is_err_and(|problem| problem.may_have_happened);
            if was_down || self.rng.bool() {
                let stop = if self.rng.bool() { Stop::Power } else { Stop::Kill };
                self.stop(stop, false);
            }
            let folder = self.disk.calmly(|| self.data.as_ref().unwrap().folder(&name));
            assert!(is_unknown || folder.is_ok() == erased.is_err(), "{erased:?}, and is it there: {}", folder.is_ok());
            let Ok(folder) = folder else { return };
            assert!(erased.is_err(), "it is there again");
            let loaded = self.disk.calmly(|| loader::load(&folder, id, self.now(), self.options));
            assert_eq!(loaded.map_err(|error| error.problem).unwrap().tenant.seq(), 1, "half a tenant");
        }
    }

    fn step(&mut self) {
        let at = self.rng.usize(0..self.members.len());
        self.clock += self.rng.i64(0..20);
        match self.rng.u32(0..100) {
            0..26 => self.command(at),
            26..38 => self.write(at),
            38..48 => self.start_sync(at),
            48..78 => self.advance(at),
            78..83 => self.start_snapshot(at),
            83..87 => self.start_retention(at),
            87..89 => self.checkpoint(at),
            89..91 => self.read(at),
            91 => self.clock += [1_000, 3_600_000, 50_000_000, -5_000][self.rng.usize(0..4)],
            92 | 93 => {
                let room = self.rng.bool().then(|| self.rng.usize(0..3_000));
                self.say(|| format!("room for {room:?} bytes more"));
                self.disk.fill(room);
            }
            94 => {
                let every = if self.rng.bool() { self.error_every } else { 0 };
                self.disk.fail(every);
            }
            95 => self.close(at),
            96 => {
                let operations = self.rng.u64(1..40);
                self.say(|| format!("the machine will stop after {operations} operations"));
                self.disk.stop_in(Some(operations));
            }
            97 => self.stop(Stop::Kill, false),
            98 => self.stop(Stop::Power, false),
            _ => {}
        }
    }

    /// Sees to what came of a step: who was answered, a tenant that has to be read again, a machine that stopped.
    fn settle(&mut self) {
        if self.disk.is_down() {
            let stop = if self.rng.bool() { Stop::Kill } else { Stop::Power };
            return self.stop(stop, true);
        }
        for member in &mut self.members {
            member.hear(&mut self.tally);
        }
    }

    fn command(&mut self, at: usize) {
        let (now, durability) = (self.now(), self.durability);
        let member = &mut self.members[at];
        let Part::Up(ledger) = &mut member.part else { return };
        if ledger.check_writable().is_err() {
            return;
        }
        let before = ledger.tenant().seq();
        let moment = ledger.tenant().next_moment(now);
        let kind = self.rng.u32(0..10);
        if kind < 4 {
            let Some(change) = commands::change(&mut self.rng, ledger.tenant(), moment) else { return };
            let event = Event::Changed(ChangeRecord { by: By::Operator, change });
            ledger.record(moment, &event).unwrap();
            member.model.record(moment, &event);
            let promise = Promise { first: moment.seq, last: moment.seq, written: moment.seq, synced: moment.seq };
            let held = member.held(promise);
            let Part::Up(ledger) = &mut member.part else { return };
            ledger.hold_changed(held);
        } else {
            if kind < 9 {
                for _ in 0..if kind == 8 { self.rng.usize(2..6) } else { 1 } {
                    decide(&mut self.rng, ledger, &mut member.model, now);
                }
            } else {
                let Some(mut report) = commands::spent(&mut self.rng, ledger.tenant()) else { return };
                // Often the settlement of a decision that was made before.
                let decision = self.rng.u64(1..=before);
                if self.rng.bool()
                    && let Some((time, event)) = member.model.event(decision)
                    && let Event::Decided(record) = &event
                    && let Some(agent) = record.agent
                {
                    let id = AuditId::derive(time, decision, member.id.tag());
                    let settling =
                        UsageReport::new(agent, 0, report.cost).and_then(|new| new.settling(id, time, &event));
                    report = settling.unwrap_or(report);
                }
                let Ok((Some(record), _)) = ledger.tenant().decide_usage(By::Operator, report, moment) else { return };
                let event = Event::Used(record);
                ledger.record(moment, &event).unwrap();
                member.model.record(moment, &event);
            }
            let last = ledger.tenant().seq();
            let changed = durability == Durability::Fsync || member.model.last_change > before;
            let synced = if changed { last } else { 0 };
            let held = member.held(Promise { first: before + 1, last, written: last, synced });
            let Part::Up(ledger) = &mut member.part else { return };
            ledger.hold_decided(held, before);
        }
        self.tally.events += self.members[at].model.len() - before;
        self.say(|| format!("{at}: events up to {}", self.members[at].model.len()));
    }

    fn read(&mut self, at: usize) {
        let durability = self.durability;
        let member = &mut self.members[at];
        let Part::Up(ledger) = &member.part else { return };
        let seen = ledger.tenant().seq();
        let promise = match (ledger.storage_failed(), durability) {
            // What is there is shown, and nothing promised.
            (true, _) => Promise { first: 1, last: 0, written: 0, synced: 0 },
            (false, Durability::Interval) => {
                Promise { first: 1, last: 0, written: seen, synced: member.model.last_change }
            }
            (false, Durability::Fsync) => Promise { first: 1, last: 0, written: seen, synced: seen },
        };
        let held = member.held(promise);
        let Part::Up(ledger) = &mut member.part else { return };
        ledger.hold_read(held);
        self.say(|| format!("{at}: a read of {seen} events"));
    }

    fn write(&mut self, at: usize) {
        let now = self.now();
        let Part::Up(ledger) = &mut self.members[at].part else { return };
        let written = ledger.write(now).map_err(|problem| problem.to_string());
        self.say(|| format!("{at}: written: {written:?}"));
        if written.is_err() {
            self.abandon(at);
        }
    }

    /// The storage failed: who waits is told, and the tenant read again.
    fn abandon(&mut self, at: usize) {
        if self.disk.is_down() {
            return;
        }
        let (now, options, losses) = (self.now(), self.options, self.disk.losses());
        let folder = self.folder(at);
        let member = &mut self.members[at];
        let Part::Up(ledger) = &mut member.part else { return };
        ledger.abandon();
        member.hear(&mut self.tally);
        let id = member.id;
        member.generation += 1;
        (member.sync_running, member.retention_running) = (false, false);
        member.part = Part::Loading(Task::start(move || loader::load(&folder, id, now, options)), losses);
        self.say(|| format!("{at}: it is read again"));
    }

    /// The folder, without asking the disk more than the simulation does.
    fn folder(&self, at: usize) -> Folder {
        let name = self.members[at].id.folder_name();
        self.disk.calmly(|| self.data.as_ref().unwrap().folder(&name)).unwrap()
    }

    fn start_sync(&mut self, at: usize) {
        let member = &mut self.members[at];
        let Part::Up(ledger) = &mut member.part else { return };
        if member.sync_running {
            return;
        }
        let Some(job) = ledger.begin_sync() else { return };
        member.sync_running = true;
        member.spawn(Job::Sync(Task::start(move || job.run())));
        self.say(|| format!("{at}: a sync starts"));
    }

    fn start_snapshot(&mut self, at: usize) {
        self.write(at);
        let member = &mut self.members[at];
        let Part::Up(ledger) = &mut member.part else { return };
        if ledger.storage_failed() {
            return;
        }
        let Some(snapshot) = ledger.begin_snapshot() else { return };
        let seq = snapshot.seq();
        member.spawn(Job::Snapshot(Task::start(move || snapshot.write()), seq));
        self.say(|| format!("{at}: a snapshot of {seq} starts"));
    }

    fn start_retention(&mut self, at: usize) {
        let cutoff = self.clock - [0, 100, 3_600_000][self.rng.usize(0..3)];
        let member = &mut self.members[at];
        let Part::Up(ledger) = &mut member.part else { return };
        let Some(journal) = ledger.journal().filter(|_| !ledger.storage_failed() && !member.retention_running) else {
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

    fn checkpoint(&mut self, at: usize) {
        self.write(at);
        let now = self.now();
        let member = &mut self.members[at];
        let Part::Up(ledger) = &mut member.part else { return };
        if ledger.check_writable().is_err() {
            return;
        }
        let at_ms = ledger.tenant().next_moment(now).at.millis();
        let Some(journal) = ledger.journal_mut() else { return };
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

    fn close(&mut self, at: usize) {
        self.write(at);
        let now = self.now();
        let member = &mut self.members[at];
        let Part::Up(ledger) = &mut member.part else { return };
        let Some((job, closing)) = ledger.begin_close() else { return };
        member.part = Part::Closed;
        member.spawn(Job::Close(Task::start(move || job.close(now)), closing));
        self.say(|| format!("{at}: it closes"));
    }

    /// Lets what runs on other threads go on for a while.
    fn advance(&mut self, at: usize) {
        let operations = self.rng.usize(1..12);
        let member = &mut self.members[at];
        if let Part::Loading(task, _) = &member.part
            && self.rng.bool()
        {
            if task.advance(operations) {
                self.loaded(at);
            }
            return;
        }
        if let Part::Up(ledger) = &member.part
            && ledger.storage_failed()
            && !member.jobs.iter().any(|(_, job)| matches!(job, Job::Probe(_)))
        {
            let folder = self.folder(at);
            let member = &mut self.members[at];
            member.spawn(Job::Probe(Task::start(move || probe(&folder))));
            return;
        }
        let member = &mut self.members[at];
        if matches!(member.part, Part::Closed)
            && member.jobs.iter().all(|(generation, _)| *generation < member.generation)
        {
            // Nothing is left to do but to start again.
            let stop = if self.rng.bool() { Stop::Kill } else { Stop::Power };
            return self.stop(stop, false);
        }
        let Some(which) = (!member.jobs.is_empty()).then(|| self.rng.usize(0..member.jobs.len())) else { return };
        if member.jobs[which].1.advance(operations) {
            let (generation, job) = member.jobs.remove(which);
            self.finish(at, generation, job);
        }
    }

    /// What ran on another thread is over, and its tenant is told.
    fn finish(&mut self, at: usize, generation: u32, job: Job) {
        let now = self.now();
        let is_down = self.disk.is_down();
        let member = &mut self.members[at];
        let own = generation == member.generation && !is_down;
        match job {
            Job::Sync(task) => {
                let outcome = task.finish();
                if !own {
                    return;
                }
                member.sync_running = false;
                let Part::Up(ledger) = &mut member.part else { return };
                match ledger.synced(outcome, now) {
                    Ok(sealable) => {
                        for job in sealable {
                            self.tally.sealed += 1;
                            member.spawn(Job::Seal(Task::start(move || job.run())));
                        }
                        let synced = ledger_synced(&member.part);
                        self.say(|| format!("{at}: synced up to {synced}"));
                    }
                    Err(problem) => {
                        self.say(|| format!("{at}: a sync failed: {problem}"));
                        self.abandon(at);
                    }
                }
            }
            Job::Seal(task) | Job::LastSnapshot(task) => {
                let done = task.finish();
                self.say(|| format!("{at}: sealed or closed: {done:?}"));
            }
            Job::Snapshot(task, seq) => {
                let written = task.finish();
                self.say(|| format!("{at}: a snapshot of {seq}: {written:?}"));
                if written.is_ok() && own {
                    self.tally.snapshots += 1;
                    let Part::Up(ledger) = &mut self.members[at].part else { return };
                    ledger.snapshot_written(seq);
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
                if let (Part::Up(ledger), Ok(Some(first_kept))) = (&mut member.part, removed)
                    && let Some(journal) = ledger.journal_mut()
                {
                    self.tally.removals += 1;
                    journal.finish_retention(first_kept);
                    // What was removed last is what a power failure brings back.
                    if self.rng.u32(0..3) == 0 {
                        self.stop(Stop::Power, false);
                    }
                }
            }
            Job::Checkpoint(task, link) => {
                // It is told by the syncer, whatever became of the ledger.
                if task.finish().is_ok() && !is_down {
                    self.tally.checkpoints += 1;
                    member.model.checkpoint(link);
                }
            }
            Job::Probe(task) => {
                if task.finish().is_ok()
                    && own
                    && let Part::Up(ledger) = &mut member.part
                {
                    ledger.storage_works();
                    self.say(|| format!("{at}: the storage works again"));
                }
            }
            Job::Close(task, closing) => {
                let closed = task.finish();
                if is_down {
                    return;
                }
                closing.finish(closed.is_ok());
                member.hear(&mut self.tally);
                if let Ok(snapshot) = closed {
                    self.tally.closed += 1;
                    member.model.all_synced();
                    if let Some(snapshot) = snapshot {
                        member.spawn(Job::LastSnapshot(Task::start(move || snapshot.write())));
                    }
                }
            }
        }
    }

    /// A tenant was read again while the process went on.
    fn loaded(&mut self, at: usize) {
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

    fn take(&mut self, at: usize, loaded: Loaded, through: Through, lost: bool, storage_failed: bool) {
        let folder = self.folder(at);
        let (durability, disk) = (self.durability, self.disk.clone());
        self.say(|| format!("{at}: recovered up to {}", loaded.journal.written_seq()));
        let member = &mut self.members[at];
        disk.calmly(|| member.model.recovered(&loaded, &folder, through, lost, false));
        member.part = Part::Up(Box::new(Ledger::new(loaded, durability, storage_failed)));
    }

    /// The machine, or the process, stops; by itself, or now. Then all is read again.
    fn stop(&mut self, stop: Stop, by_itself: bool) {
        self.say(|| format!("-- {stop:?}{}", if by_itself { ", where it stopped by itself" } else { "" }));
        // Who was answered before was answered.
        if !by_itself {
            for member in &mut self.members {
                member.hear(&mut self.tally);
            }
        }
        self.disk.stop();
        for member in &mut self.members {
            for (_, job) in member.jobs.drain(..) {
                job.advance(usize::MAX / 2);
            }
            member.part = Part::Down;
            // An answer that was under way says yes, or says nothing.
            let heard: Vec<_> = member.outcomes.lock().unwrap().drain(..).collect();
            for (promise, outcome) in heard {
                if outcome.is_ok() {
                    member.model.answered(promise, outcome);
                }
            }
        }
        self.data = None;
        self.restart(stop, true);
    }

    fn restart(&mut self, mut stop: Stop, count: bool) {
        // A machine that stopped for lack of power in the middle of recovery had its power fail.
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

    /// Opens the data directory and reads all tenants, trying again where the disk refuses.
    fn recover(&mut self, through: Through) {
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

    /// A tenant works: what it is asked it does, and the disk has it.
    fn goes_on(&mut self, at: usize) {
        let now = self.now();
        let member = &mut self.members[at];
        let Part::Up(ledger) = &mut member.part else { panic!("it is not there") };
        let seq = decide(&mut self.rng, ledger, &mut member.model, now);
        ledger.write(now).unwrap();
        let outcome = ledger.begin_sync().map(|job| job.run()).unwrap();
        for job in ledger.synced(outcome, now).unwrap() {
            job.run().unwrap();
        }
        assert_eq!(ledger.journal().unwrap().synced_seq(), seq);
        member.model.all_synced();
        member.model.undisturbed(ledger);
    }

    /// The disk flips a bit of what was synced. Whoever reads it then sees what was there, or is told. Where the power
    /// failed too, what counts is what the disk itself can tell of: the last sync may have no marker yet.
    fn rot(&mut self) {
        let closed = self.rng.bool();
        let now = self.now();
        for member in &mut self.members {
            if let (true, Part::Up(ledger)) = (closed, &mut member.part) {
                ledger.begin_close().unwrap().0.close(now).unwrap();
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

/// Decides a call, in the ledger and in the model. Answers the number of its event.
fn decide(rng: &mut Rng, ledger: &mut Ledger, model: &mut Model, now: Timestamp) -> u64 {
    let moment = ledger.tenant().next_moment(now);
    let request = commands::call(rng, ledger.tenant(), moment);
    let verdict = ledger.tenant().decide(&Caller::Operator, &request, moment, &mut ());
    let event = Event::Decided(verdict.record(&request, 7));
    ledger.record(moment, &event).unwrap();
    model.record(moment, &event);
    moment.seq
}

fn ledger_synced(part: &Part) -> u64 {
    if let Part::Up(ledger) = part { ledger.journal().map_or(0, |journal| journal.synced_seq()) } else { 0 }
}

impl Member {
    /// A reply that tells the model of its outcome.
    fn held(&self, promise: Promise) -> Held {
        let outcomes = Arc::clone(&self.outcomes);
        Held::Other(Box::new(move |outcome| {
            outcomes.lock().unwrap().push((promise, outcome.map_err(|error| error.code())));
        }))
    }

    fn spawn(&mut self, job: Job) {
        self.jobs.push((self.generation, job));
    }

    /// Takes note of what callers were told.
    fn hear(&mut self, tally: &mut Tally) {
        for (promise, outcome) in self.outcomes.lock().unwrap().drain(..) {
            match outcome {
                Ok(()) => tally.answers += 1,
                Err(Code::OutcomeUnknown) => tally.unknown += 1,
                Err(_) => tally.refused += 1,
            }
            self.model.answered(promise, outcome);
        }
    }
}

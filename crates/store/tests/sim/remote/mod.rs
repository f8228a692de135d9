//! Random histories of two threads whose log is on another machine. What callers are told is held against what that log
//! has: nobody is told yes too early, nor no of something that happens later, and a tenant's failure hits no other.

mod call;
mod engine;
mod tally;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fastrand::Rng;
use kavach_domain::tenant::Caller;
use kavach_domain::tenant::commands::{NewTenant, TenantSpec};
use kavach_domain::{Event, Moment, TenantId, Timestamp};
use kavach_journal::{DataDir, Disk, EventLog, JournalOptions};
use kavach_store::commit_queue::Written;
use kavach_store::{CommitPipeline, CommitQueue, Durability, codec, loader};

use crate::disk::{SimDisk, Stop};
use crate::{Queue, commands};
use call::{Callers, Sent};
use engine::Engine;
pub use tally::RemoteTally;

const OPTIONS: JournalOptions = JournalOptions { segment_bytes: 2_000 };

/// Plays the history of a seed. Panics if something does not hold.
pub fn play(seed: u64, verbose: bool, tally: &mut RemoteTally) {
    let mut history = RemoteHistory::new(seed, verbose);
    history.run();
    tally.add(&history.tally);
    tally.add(&history.engine.tally());
    history.members.iter().for_each(|member| tally.add(&member.callers.tally()));
}

struct RemoteHistory {
    rng: Rng,
    clock: i64,
    durability: Durability,
    data: DataDir,
    engine: Arc<Engine>,
    threads: [Thread; 2],
    members: Vec<Member>,
    verbose: bool,
    tally: RemoteTally,
}

struct Thread {
    queue: Queue,
    most_waiting: usize,
    woken: Arc<AtomicU64>,
}

struct Member {
    id: TenantId,
    is_calm: bool,
    thread: usize,
    /// `None` once it is abandoned, and until it is loaded again.
    pipeline: Option<CommitPipeline>,
    /// The last event that it recorded.
    last: Option<Sent>,
    callers: Callers,
}

impl RemoteHistory {
    fn new(seed: u64, verbose: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let disk = SimDisk::new(rng.u64(..), false);
        disk.start(Stop::Power);
        let disk: Arc<dyn Disk> = Arc::new(disk);
        let engine = Arc::new(Engine::new(rng.fork()));
        let threads = std::array::from_fn(|_| {
            let woken = Arc::new(AtomicU64::new(0));
            let counted = Arc::clone(&woken);
            let most_waiting = rng.usize(4..40);
            let queue = CommitQueue::new(&*engine, move || _ = counted.fetch_add(1, Ordering::Relaxed));
            Thread { queue: queue.with_most_waiting(most_waiting), most_waiting, woken }
        });
        let mut history = Self {
            clock: 1_700_000_000_000,
            durability: if rng.bool() { Durability::Interval } else { Durability::Fsync },
            data: DataDir::on(disk, Path::new("/data")).unwrap(),
            engine,
            threads,
            members: Vec::new(),
            verbose,
            tally: RemoteTally::default(),
            rng,
        };
        for number in 0..history.rng.usize(2..5) {
            history.create(number as u8);
        }
        history
    }

    fn say(&self, text: impl FnOnce() -> String) {
        if self.verbose {
            eprintln!("  {}", text());
        }
    }

    /// No two events have one time, so no two are equal.
    fn now(&mut self) -> Timestamp {
        self.clock += self.rng.i64(1..20);
        Timestamp::from_millis(self.clock)
    }

    fn create(&mut self, number: u8) {
        let now = self.now();
        let id = TenantId::generate(now, [number + 1; 10]).unwrap();
        let new = NewTenant { name: "Acme".to_owned(), slug: format!("tenant-{number}"), settings: None };
        let spec = TenantSpec::parse(new).unwrap();
        let loaded = loader::create(&self.data, id, spec, None, now, OPTIONS).unwrap();
        let (is_calm, thread) = (number == 0, self.rng.usize(0..self.threads.len()));
        self.engine.add(id.bytes(), is_calm);
        let queue = &mut self.threads[thread].queue;
        let pipeline = Some(CommitPipeline::new(loaded, self.durability, false, queue));
        let callers = Callers::new(id, is_calm, Arc::clone(&self.engine));
        self.members.push(Member { id, is_calm, thread, pipeline, last: None, callers });
    }

    fn run(&mut self) {
        for _ in 0..self.rng.usize(20..300) {
            self.step();
            self.check();
        }
        self.end();
    }

    fn step(&mut self) {
        let at = self.rng.usize(0..self.members.len());
        let thread = self.rng.usize(0..self.threads.len());
        match self.rng.u32(0..100) {
            0..35 => self.command(at),
            35..42 => self.read(at),
            42..57 => self.write(thread),
            57..75 => self.engine.work(),
            75..85 => self.engine.deliver(false),
            85..91 => _ = self.threads[thread].queue.update(&*self.engine),
            91..93 => self.fold(at),
            93 => self.quiet(),
            94..98 => self.renew(at),
            _ => self.move_away(at),
        }
    }

    fn check(&self) {
        let open: usize = self.members.iter().map(|member| member.callers.open()).sum();
        let waiting: usize = self.threads.iter().map(|thread| thread.queue.waiting()).sum();
        assert_eq!(open, waiting, "a caller was forgotten, or waits twice");
        for thread in &self.threads {
            assert!(thread.queue.waiting() <= thread.most_waiting, "more wait than may");
        }
        for member in &self.members {
            member.callers.check_refused();
            if let Some(pipeline) = member.pipeline.as_ref().filter(|_| member.is_calm) {
                let queue = &self.threads[member.thread].queue;
                assert!(!pipeline.is_ahead(queue), "another tenant's failure hit it");
            }
        }
    }

    fn command(&mut self, at: usize) {
        let now = self.now();
        let (rng, member) = (&mut self.rng, &mut self.members[at]);
        let queue = &mut self.threads[member.thread].queue;
        let Some(pipeline) = &mut member.pipeline else { return };
        if let Err(error) = pipeline.check_writable(queue) {
            assert!(!member.is_calm || queue.is_full(), "{error:?}");
            return;
        }
        let before = pipeline.tenant().seq();
        let moment = pipeline.tenant().next_moment(now);
        let change = if rng.u32(0..4) == 0 { commands::change_record(rng, pipeline.tenant(), moment) } else { None };
        let is_change = change.is_some();
        let mut own = Vec::new();
        if let Some(change) = change {
            let event = Event::Changed(change);
            let event = pipeline.tenant().complete(moment, &event).into_owned();
            pipeline.record(moment, &event, queue).unwrap();
            own.push(sent(moment, &event));
            self.tally.changes += 1;
        } else {
            let many = if rng.u32(0..4) == 0 { rng.usize(2..6) } else { 1 };
            self.tally.batch_calls += u64::from(many > 1);
            for _ in 0..many {
                let moment = pipeline.tenant().next_moment(now);
                let request = commands::call(rng, pipeline.tenant(), moment);
                let verdict = pipeline.tenant().decide(&Caller::Operator, &request, moment, &mut ());
                let event = Event::Decided(verdict.record(&request, 7));
                let event = pipeline.tenant().complete(moment, &event).into_owned();
                pipeline.record(moment, &event, queue).unwrap();
                own.push(sent(moment, &event));
            }
        }
        member.last = own.last().cloned();
        let held = member.callers.reply(member.thread, own, member.last.clone());
        match is_change {
            true => pipeline.hold_changed(held, queue),
            false => pipeline.hold_decided(held, before, queue),
        }
        let seq = pipeline.tenant().seq();
        self.say(|| format!("{at}: events up to {seq}"));
    }

    fn read(&mut self, at: usize) {
        let member = &mut self.members[at];
        let queue = &mut self.threads[member.thread].queue;
        let Some(pipeline) = &mut member.pipeline else { return };
        let held = member.callers.reply(member.thread, Vec::new(), member.last.clone());
        if self.rng.u32(0..4) == 0 {
            // As before a tenant is closed: it waits for everything, and reads nothing.
            pipeline.hold_changed(held, queue);
            self.tally.flushes += 1;
            return self.say(|| format!("{at}: somebody waits for everything"));
        }
        let reply = pipeline.hold_read(held, queue);
        self.tally.reads += 1;
        self.say(|| format!("{at}: a read: {reply:?}"));
    }

    fn write(&mut self, thread: usize) {
        let written = self.threads[thread].queue.write(&*self.engine);
        self.say(|| format!("thread {thread}: {written:?}"));
        if written == Written::Failed && self.rng.bool() {
            (0..self.members.len()).for_each(|at| self.abandon_if_ahead(at));
        }
    }

    fn abandon_if_ahead(&mut self, at: usize) {
        let member = &mut self.members[at];
        let Some(pipeline) = &mut member.pipeline else { return };
        if pipeline.is_ahead(&self.threads[member.thread].queue) {
            self.threads[member.thread].queue.write(&*self.engine);
            pipeline.abandon();
            member.pipeline = None;
            self.say(|| format!("{at}: abandoned"));
        }
    }

    /// A tenant that is ahead is loaded again, perhaps on another thread.
    fn renew(&mut self, at: usize) {
        self.abandon_if_ahead(at);
        if self.members[at].pipeline.is_none() {
            let thread = self.rng.usize(0..self.threads.len());
            self.load(at, thread);
        }
    }

    /// A tenant is loaded again although nothing is wrong with it. What it has on its way may be lost.
    fn move_away(&mut self, at: usize) {
        let member = &mut self.members[at];
        let queue = &mut self.threads[member.thread].queue;
        if member.is_calm || member.pipeline.is_none() {
            return;
        }
        // What a thread has gathered is lost if nobody else can have it.
        let is_written = self.rng.bool();
        if is_written {
            queue.write(&*self.engine);
        } else {
            self.tally.abandoned_unwritten += 1;
        }
        member.pipeline.take().unwrap().abandon();
        self.tally.moved += 1;
        let thread = if is_written { self.rng.usize(0..self.threads.len()) } else { member.thread };
        self.load(at, thread);
    }

    fn load(&mut self, at: usize, thread: usize) {
        let now = self.now();
        let member = &mut self.members[at];
        let folder = self.data.folder(&member.id.folder_name()).unwrap();
        let tail = self.engine.tail(member.id.bytes()).unwrap();
        let loaded = loader::load(&folder, &tail, member.id, now, OPTIONS).map_err(|error| error.problem).unwrap();
        let seq = loaded.tenant.seq();
        assert_eq!(seq, self.engine.last_seq(member.id.bytes()), "it goes on from what the log has");
        if member.last.as_ref().is_some_and(|(last, _)| *last > seq) {
            member.last = None;
        }
        let queue = &mut self.threads[thread].queue;
        // The thread hears of the answers before or after.
        if self.rng.bool() {
            queue.update(&*self.engine);
        }
        member.thread = thread;
        let pipeline = CommitPipeline::new(loaded, self.durability, false, queue);
        assert!(!pipeline.is_ahead(queue), "it has what the log has");
        member.pipeline = Some(pipeline);
        self.tally.loaded += 1;
        self.say(|| format!("{at}: loaded up to {seq} on thread {thread}"));
    }

    /// Nobody calls, until the log has answered for nearly everything.
    fn quiet(&mut self) {
        for _ in 0..20 {
            self.engine.work();
            self.engine.deliver(true);
        }
        for at in 0..self.members.len() {
            let queue = &mut self.threads[self.members[at].thread].queue;
            queue.update(&*self.engine);
            self.fold(at);
        }
    }

    fn fold(&mut self, at: usize) {
        let now = self.now();
        let member = &mut self.members[at];
        let queue = &mut self.threads[member.thread].queue;
        let Some(pipeline) = &mut member.pipeline else { return };
        let seq = pipeline.seal();
        while let Some(job) = pipeline.begin_fold(queue).unwrap() {
            pipeline.folded(job.run(), now).unwrap();
        }
        if pipeline.journal().unwrap().written_seq() < seq {
            assert!(pipeline.is_unsynced(queue) || pipeline.is_ahead(queue), "it could have folded all");
            self.tally.fold_too_early += 1;
        }
        let journal = pipeline.journal().unwrap();
        assert!(
            journal.written_seq() <= self.engine.last_seq(member.id.bytes()),
            "the folder has what the log has not"
        );
        if let Some(job) = pipeline.begin_sync() {
            pipeline.synced(job.run(), now).unwrap();
            let synced = pipeline.journal().unwrap().synced_seq();
            self.engine.folded(member.id.bytes(), synced);
            self.tally.folded += 1;
            self.say(|| format!("{at}: folded up to {synced}"));
        }
    }

    /// Everybody gets an answer, and every tenant works.
    fn end(&mut self) {
        loop {
            (0..self.threads.len()).for_each(|thread| self.write(thread));
            if self.engine.is_idle() {
                break;
            }
            self.engine.work();
            self.engine.deliver(true);
        }
        for at in 0..self.members.len() {
            assert_eq!(self.members[at].callers.open(), 0, "a caller never got an answer");
            self.renew(at);
            self.command(at);
            self.check();
        }
        let woken: u64 = self.threads.iter().map(|thread| thread.woken.load(Ordering::Relaxed)).sum();
        assert_eq!(woken, self.engine.tally().parcels, "a thread is woken once for a parcel");
    }
}

fn sent(moment: Moment, event: &Event<'_>) -> Sent {
    let mut bytes = Vec::new();
    codec::encode_event(moment, event, &mut bytes).unwrap();
    (moment.seq, bytes)
}

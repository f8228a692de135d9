//! One history: a seed decides which calls tenants get, when each part runs, and what the disk does.

mod calls;
mod catalog;
mod jobs;
mod leaving;
mod log_turns;
mod member;
mod recovery;
mod tally;
mod tenants;

use std::sync::Arc;

use fastrand::Rng;
use kavach_domain::Timestamp;
use kavach_journal::{DataDir, Folder, JournalOptions, Log, LogOptions};
use kavach_store::Durability;

use crate::Queue;
use crate::disk::{Seen, SimDisk, Stop};
use catalog::Catalog;
use log_turns::RunningSync;
use member::Member;

pub use tally::Tally;

/// 2023-11-14T22:13:20Z: near the end of a day.
const START: i64 = 1_700_000_000_000;
const DATA: &str = "/data";

/// Plays the history of a seed. Panics if something does not hold.
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
        unwatched_losses,
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
    own.unwatched_losses = unwatched_losses;
    tally.add(&history.tally);
    history.disk.digest()
}

/// Creates a tenant and erases it on a disk that refuses much. The tenant is wholly there or gone, as the caller's
/// answer says.
pub fn come_and_go(seed: u64, verbose: bool) {
    let mut history = History::new(seed, verbose);
    history.restart(Stop::Power, false);
    history.disk.fail(8);
    history.create();
    let every = history.rng.u32(3..12);
    history.disk.fail(every);
    history.erase();
}

struct History {
    rng: Rng,
    disk: SimDisk,
    clock: i64,
    durability: Durability,
    options: JournalOptions,
    /// In histories with errors, one in this many operations fails; else 0.
    error_every: u32,
    data: Option<DataDir>,
    log_options: LogOptions,
    log: Option<Arc<Log>>,
    queue: Option<Queue>,
    log_syncs: Vec<RunningSync>,
    members: Vec<Member>,
    catalog: Catalog,
    verbose: bool,
    tally: Tally,
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
            log_options: LogOptions {
                // Small ones are full soon, so that the log forgets what was folded.
                slot_bytes: if rng.bool() { rng.u64(4_000..8_000) } else { rng.u64(10_000..60_000) },
                segments: rng.usize(1..4),
                tail_bytes: rng.u64(500..10_000),
            },
            log: None,
            queue: None,
            log_syncs: Vec::new(),
            members: Vec::new(),
            catalog: Catalog::default(),
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
        for _ in 0..[1, 1, 1, 1, 2, 3][self.rng.usize(0..6)] {
            self.create();
        }
        for _ in 0..self.rng.usize(10..250) {
            self.step();
            self.settle();
        }
        // In any state, the power fails once more, and then a disk that only works must do.
        let stop = if self.rng.bool() { Stop::Power } else { Stop::Kill };
        self.stop(stop, false);
        self.disk.fail(0);
        self.disk.fill(None);
        self.disk.stop_in(None);
        for at in 0..self.members.len() {
            self.goes_on(at);
        }
        if self.rng.u32(0..3) == 0 {
            return self.rot();
        }
        let stop = if self.rng.bool() { Stop::Power } else { Stop::Kill };
        self.stop(stop, false);
    }

    fn step(&mut self) {
        let at = self.rng.usize(0..self.members.len());
        self.clock += self.rng.i64(0..20);
        match self.rng.u32(0..100) {
            0..26 => self.command(at),
            26..32 => self.write(),
            32..38 => self.start_log_sync(),
            38..46 => self.advance_log_sync(),
            46..49 => self.fold(at),
            49..51 => self.keep_log(),
            51..54 => self.start_catalog_write(),
            54..58 => self.advance_catalog_write(),
            58..78 => self.advance(at),
            78 => self.rest(),
            79..82 => self.start_snapshot(at),
            82..85 => self.start_retention(at),
            85..87 => self.checkpoint(at),
            87..89 => self.read(at),
            89 => self.clock += [1_000, 3_600_000, 50_000_000, -5_000][self.rng.usize(0..4)],
            90 | 91 => {
                let room = self.rng.bool().then(|| self.rng.usize(0..3_000));
                self.say(|| format!("room for {room:?} bytes more"));
                self.disk.fill(room);
            }
            92 => {
                let every = if self.rng.bool() { self.error_every } else { 0 };
                self.disk.fail(every);
            }
            93 | 94 => self.close(at),
            95 => {
                // Nothing is left to wait for.
                self.sync_log_now();
                self.close(at);
            }
            96 => {
                let operations = self.rng.u64(1..40);
                self.say(|| format!("the machine will stop after {operations} operations"));
                self.disk.stop_in(Some(operations));
            }
            97 => {
                let stop = if self.rng.bool() { Stop::Kill } else { Stop::Power };
                self.stop(stop, false);
            }
            _ => self.rest(),
        }
    }

    /// Few call for a while, and what is to be done in the background gets done.
    fn rest(&mut self) {
        self.say(|| "few call".to_owned());
        // The catalog may be faster than the log.
        let is_log_slow = self.rng.bool();
        for _ in 0..self.rng.usize(10..80) {
            let at = self.rng.usize(0..self.members.len());
            match self.rng.u32(0..8) {
                0 if self.log().has_tail(self.members[at].id.bytes()) => self.fold(at),
                1 if !is_log_slow => self.start_log_sync(),
                1 => {
                    self.command(at);
                    self.write();
                }
                2 if !is_log_slow => self.advance_log_sync(),
                3 => self.start_catalog_write(),
                4 => self.advance_catalog_write(),
                _ => self.advance(at),
            }
            self.settle();
        }
        // The next batch tells what the log has forgotten, and is a good moment to stop.
        let at = self.rng.usize(0..self.members.len());
        self.command(at);
        self.write();
        if !is_log_slow {
            self.sync_log_now();
        }
        if self.rng.bool() {
            let stop = if self.rng.u32(0..4) == 0 { Stop::Kill } else { Stop::Power };
            self.stop(stop, false);
        }
    }

    /// Handles the consequences of a step: answered callers, a tenant to load again, a stopped machine.
    fn settle(&mut self) {
        if self.disk.is_down() {
            let stop = if self.rng.bool() { Stop::Kill } else { Stop::Power };
            return self.stop(stop, true);
        }
        self.look_for_failures();
        for member in &mut self.members {
            member.collect_answers(&mut self.tally);
        }
    }

    /// The folder, without more disk operations than the simulation makes.
    fn folder(&self, at: usize) -> Folder {
        let name = self.members[at].id.folder_name();
        self.disk.calmly(|| self.data.as_ref().unwrap().folder(&name)).unwrap()
    }
}

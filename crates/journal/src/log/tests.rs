//! What must hold for the log: over random histories with killed processes, power failures, failed writes and syncs, and
//! flipped bits.

use std::path::Path;
use std::sync::Arc;

use fastrand::Rng;

use super::{Log, LogError, LogOptions};
use crate::event_log::{AppendFailure, LogSection};
use crate::frame;
use crate::memory_disk::{Failure, MemoryDisk};

const OPTIONS: LogOptions = LogOptions { slot_bytes: 2_048, segments: 3, tail_bytes: 3_000 };

/// A tenant as its callers see it.
#[derive(Clone, Debug, Default)]
struct Tenant {
    /// The frame of each event that was appended, from event 1 on.
    frames: Vec<Vec<u8>>,
    /// Events in its folder, on disk.
    folded: u64,
    /// Events in batches up to a position: (position, last event).
    batches: Vec<(u64, u64)>,
    /// Events that must survive a power failure.
    synced: u64,
    /// Events of a batch whose fate is unknown.
    unsure: Vec<Vec<u8>>,
}

fn key(tenant: usize) -> [u8; 16] {
    [tenant as u8 + 1; 16]
}

struct History {
    rng: Rng,
    disk: MemoryDisk,
    log: Option<Log>,
    tenants: Vec<Tenant>,
}

impl History {
    fn new(seed: u64) -> Self {
        let disk = MemoryDisk::new(seed);
        let mut rng = Rng::with_seed(seed);
        let tenants = vec![Tenant::default(); rng.usize(1..6)];
        let mut history = Self { rng, disk, log: None, tenants };
        history.open();
        history
    }

    fn try_open(&self) -> Result<Log, LogError> {
        Log::open(Arc::new(self.disk.clone()), Path::new("data"), [9; 16], OPTIONS)
    }

    fn open(&mut self) {
        self.log = Some(self.try_open().unwrap());
        self.read_tails(false);
    }

    fn generation(&self) -> usize {
        self.log().progress(0).generation
    }

    fn log(&self) -> &Log {
        self.log.as_ref().unwrap()
    }

    fn append(&mut self) {
        let (mut sections, mut frames, mut new) = (Vec::new(), Vec::new(), Vec::new());
        for tenant in 0..self.tenants.len() {
            if self.rng.bool() {
                continue;
            }
            let first_seq = self.tenants[tenant].frames.len() as u64 + 1;
            let events: Vec<Vec<u8>> = (0..self.rng.u64(1..3))
                .map(|n| {
                    let (mut frame, length) = (Vec::new(), self.rng.usize(0..120));
                    let byte = self.rng.u8(..);
                    frame::push_event(&mut frame, first_seq + n, |b| b.resize(b.len() + length, byte)).unwrap();
                    frame
                })
                .collect();
            let bytes = events.iter().map(Vec::len).sum();
            let last_seq = first_seq + events.len() as u64 - 1;
            sections.push(LogSection { tenant: key(tenant), first_seq, last_seq, bytes });
            frames.extend(events.concat());
            new.push((tenant, events));
        }
        let outcome = self.log().append(self.generation(), &sections, &frames);
        for (tenant, events) in new {
            let tenant = &mut self.tenants[tenant];
            match &outcome {
                Ok(position) => {
                    tenant.frames.extend(events);
                    tenant.batches.push((*position, tenant.frames.len() as u64));
                }
                Err(AppendFailure::Unknown(_)) => tenant.unsure = events,
                Err(AppendFailure::Refused(_)) => {}
            }
        }
        if self.log().is_broken() {
            self.reopen();
        }
    }

    fn sync(&mut self) {
        let Some(sync) = self.log().begin_sync() else { return };
        if self.rng.u32(0..3) == 0 {
            self.append();
        }
        let outcome = sync.run();
        self.log().finish_sync(&sync, &outcome);
        self.note_synced();
        if outcome.is_err() {
            assert!(self.log().is_broken());
            self.reopen();
        }
    }

    fn note_synced(&mut self) {
        let synced = self.log().synced();
        for tenant in &mut self.tenants {
            let reached =
                tenant.batches.iter().filter(|(position, _)| *position <= synced).map(|(_, last)| *last).max();
            tenant.synced = tenant.synced.max(reached.unwrap_or(0));
        }
    }

    fn fold(&mut self) {
        let mut chosen = self.log().due_to_fold();
        if self.rng.bool() {
            chosen.push(key(self.rng.usize(0..self.tenants.len())));
        }
        for key in chosen {
            let tenant = &mut self.tenants[usize::from(key[0]) - 1];
            tenant.folded = tenant.frames.len() as u64;
            tenant.synced = tenant.folded;
            self.log.as_ref().unwrap().folded(key, tenant.folded);
        }
    }

    /// The log failed: it is read anew, and so is each tenant.
    fn reopen(&mut self) {
        self.disk.fail(None);
        self.log().reopen().unwrap();
        self.read_tails(false);
    }

    fn crash(&mut self, power: bool) {
        self.log = None;
        self.disk.fail(None);
        if power {
            self.disk.power_failure();
        }
        let log = self.try_open().unwrap();
        self.log = Some(log);
        self.read_tails(power);
        // What was recovered is on disk now, and the next power failure keeps it.
        if self.rng.bool() {
            self.log = None;
            self.disk.power_failure();
            self.open();
        }
    }

    /// The process ends, and the tenants are not looked at.
    fn crash_of_log(&mut self) {
        self.log = None;
        self.log = Some(self.try_open().unwrap());
    }

    /// Compares what the log has with what callers know; what is gone never happened.
    fn read_tails(&mut self, may_lose: bool) {
        let log = self.log.as_ref().unwrap();
        for (n, tenant) in self.tenants.iter_mut().enumerate() {
            let tail = log.tail(key(n)).unwrap();
            let frames = tail.frames_after(tenant.folded, (Path::new("folder"), 0)).unwrap();
            let mut expected: Vec<Vec<u8>> = tenant.frames.clone();
            expected.append(&mut tenant.unsure);
            let mut found = tenant.folded as usize;
            let mut rest = frames.as_slice();
            while !rest.is_empty() {
                let next = expected.get(found).unwrap_or_else(|| panic!("event {} never happened", found + 1));
                rest = rest.strip_prefix(next.as_slice()).expect("the event that was appended");
                found += 1;
            }
            let least = if may_lose { tenant.synced as usize } else { tenant.frames.len() };
            assert!(found >= least, "tenant {n}: {found} events of {least} are left");
            expected.truncate(found);
            tenant.frames = expected;
            tenant.batches.clear();
            tenant.synced = found as u64;
        }
        log.tenants().into_iter().for_each(|tenant| assert!(tenant[0] as usize <= self.tenants.len()));
    }

    fn step(&mut self) {
        match self.rng.u32(0..40) {
            0..20 => self.append(),
            20..28 => self.sync(),
            28..33 => self.fold(),
            33 => self.crash(false),
            34 => self.crash(true),
            35 => {
                self.disk.fail(Some(Failure::Sync));
                self.sync();
                self.disk.fail(None);
            }
            36 => {
                self.disk.fail(Some(Failure::Write));
                self.append();
                self.disk.fail(None);
            }
            37 => {
                if self.log().is_slot_due() {
                    self.log().prepare().unwrap();
                }
            }
            38 => {
                // A sync fails, and the process is killed before it reads the log anew.
                self.disk.fail(Some(Failure::Sync));
                if let Some(sync) = self.log().begin_sync() {
                    let outcome = sync.run();
                    self.log().finish_sync(&sync, &outcome);
                }
                self.disk.fail(None);
                self.crash(false);
            }
            _ => {
                if self.log().close().unwrap() {
                    assert!(self.tenants.iter().all(|tenant| tenant.folded == tenant.frames.len() as u64));
                    assert_eq!(self.disk.names(), Vec::<String>::new());
                    self.open();
                }
            }
        }
        let figures = self.log().figures();
        assert!(figures.tail_bytes <= 40_000, "{figures:?}");
    }
}

fn seeds() -> std::ops::Range<u64> {
    match std::env::var("KAVACH_LOG_SEED").map(|text| text.parse::<u64>()) {
        Ok(Ok(seed)) => seed..seed + 1,
        _ => 0..1_000,
    }
}

#[test]
fn nothing_confirmed_is_lost_by_crashes_and_failures() {
    for seed in seeds() {
        let played = std::panic::catch_unwind(|| {
            let mut history = History::new(seed);
            for _ in 0..120 {
                history.step();
            }
        });
        assert!(played.is_ok(), "play it again with KAVACH_LOG_SEED={seed}");
    }
}

#[test]
fn a_flipped_bit_costs_only_tenants_that_it_hits_and_never_passes_unnoticed() {
    let (mut refused, mut kept) = (0, 0);
    for seed in seeds() {
        let mut history = History::new(seed);
        for _ in 0..40 {
            match history.rng.u32(0..10) {
                0 => history.fold(),
                1..4 => history.sync(),
                _ => history.append(),
            }
        }
        history.sync();
        let certain: Vec<_> = history.tenants.iter().map(|tenant| tenant.synced.max(tenant.folded) as usize).collect();
        // Its head says what was synced.
        history.append();
        history.sync();
        history.log = None;
        if !history.disk.flip() {
            continue;
        }
        let Ok(log) = history.try_open() else {
            refused += 1;
            continue;
        };
        let mut harmed = 0;
        for (n, tenant) in history.tenants.iter().enumerate() {
            match log.tail(key(n)).unwrap().frames_after(tenant.folded, (Path::new("folder"), 0)) {
                Ok(frames) => {
                    let expected = tenant.frames.get(tenant.folded as usize..).unwrap().concat();
                    // What no head says to be synced may look like a torn end.
                    let certain = tenant.frames.get(tenant.folded as usize..certain[n]).unwrap().concat();
                    assert!(expected.starts_with(&frames) && frames.starts_with(&certain), "seed {seed}, tenant {n}");
                }
                Err(_) => harmed += 1,
            }
        }
        if harmed > 0 && harmed < history.tenants.len() {
            kept += 1;
        }
    }
    if seeds().count() > 1 {
        assert!(kept > 20, "damage cost others too: {kept}");
        assert_eq!(refused, 0, "one bit keeps nobody else down");
    }
}

fn one_event(log: &Log, tenant: usize, seq: u64) -> u64 {
    let mut frames = Vec::new();
    frame::push_event(&mut frames, seq, |b| b.extend_from_slice(b"event")).unwrap();
    let section = LogSection { tenant: key(tenant), first_seq: seq, last_seq: seq, bytes: frames.len() };
    log.append(0, &[section], &frames).unwrap()
}

#[test]
fn slots_are_used_again_once_folders_have_their_events() {
    let history = History::new(1);
    let log = history.log();
    for seq in 1..2_000 {
        one_event(log, 0, seq);
        if seq % 20 == 0 {
            log.folded(key(0), seq);
            let sync = log.begin_sync().unwrap();
            log.finish_sync(&sync, &sync.run());
        }
    }
    assert!(log.figures().bytes <= 6 * OPTIONS.slot_bytes, "{:?}", log.figures());
}

#[test]
fn tenants_are_asked_to_fold_once_the_largest_first() {
    let options = LogOptions { segments: 1_000, ..OPTIONS };
    let log = &Log::open(Arc::new(MemoryDisk::new(1)), Path::new("data"), [9; 16], options).unwrap();
    let (mut small, mut large) = (0, 0);
    while log.figures().tail_bytes <= OPTIONS.tail_bytes {
        large += 1;
        one_event(log, 1, large);
        if large % 20 == 0 {
            small += 1;
            one_event(log, 0, small);
        }
    }
    assert_eq!(log.due_to_fold(), [key(1)]);
    assert_eq!(log.due_to_fold(), Vec::<[u8; 16]>::new(), "it was asked");
    log.not_folded(key(1));
    assert_eq!(log.due_to_fold(), [key(1)]);
    log.folded(key(1), large);
    assert_eq!(log.tenants(), [key(0)]);
    assert!(!log.close().unwrap(), "a folder lacks something");
}

#[test]
fn a_log_that_works_again_while_somebody_reads_its_files_is_asked_anew() {
    let disk = MemoryDisk::new(1);
    let log = Arc::new(Log::open(Arc::new(disk.clone()), Path::new("data"), [9; 16], OPTIONS).unwrap());
    one_event(&log, 0, 1);
    disk.fail(Some(Failure::Sync));
    let sync = log.begin_sync().unwrap();
    log.finish_sync(&sync, &sync.run());
    disk.fail(None);
    assert!(log.is_broken());
    let again = Arc::clone(&log);
    disk.meanwhile(move || again.reopen().unwrap());
    let tail = log.tail(key(0)).unwrap();
    assert_eq!((tail.last_seq(), tail.is_provisional()), (1, false));
}

#[test]
fn a_log_that_lacks_a_file_or_is_of_another_directory_is_refused_by_name() {
    let problem = |harm: &dyn Fn(&MemoryDisk)| {
        let mut history = History::new(1);
        for seq in 1..200 {
            one_event(history.log(), 0, seq);
        }
        history.log = None;
        harm(&history.disk);
        history.try_open().unwrap_err().to_string()
    };
    let missing = problem(&|disk| disk.remove("data/log/00000001.log"));
    assert!(missing.contains("00000001.log at byte 0: the file is missing"), "{missing}");
    let unnamed = problem(&|disk| {
        let text = String::from_utf8(disk.content("data/log.manifest")).unwrap();
        let slots = text.lines().find(|line| line.starts_with("slots ")).unwrap();
        disk.put("data/log.manifest", text.replace(slots, "slots 1").as_bytes());
    });
    assert!(unnamed.contains("does not name") && unnamed.contains("00000001.log"), "{unnamed}");
    let no_manifest = problem(&|disk| disk.remove("data/log.manifest"));
    assert!(no_manifest.contains("log.manifest") && no_manifest.contains("missing"), "{no_manifest}");
    let foreign = problem(&|disk| {
        let text = String::from_utf8(disk.content("data/log.manifest")).unwrap();
        disk.put("data/log.manifest", text.replace("id 09", "id 0a").as_bytes());
    });
    assert!(foreign.contains("is of another log"), "{foreign}");
    let newer = problem(&|disk| {
        let text = String::from_utf8(disk.content("data/log.manifest")).unwrap();
        disk.put("data/log.manifest", text.replace("kavach-log 1", "kavach-log 2").as_bytes());
    });
    assert!(newer.contains("format version 2"), "{newer}");
}

#[test]
fn a_clean_stop_that_is_interrupted_is_finished_by_the_next_start() {
    for step in 0..6 {
        let mut history = History::new(1);
        one_event(history.log(), 0, 1);
        history.log().folded(key(0), 1);
        history.disk.stop_after(Some(step));
        let _ = history.log().close();
        history.disk.stop_after(None);
        history.log = None;
        history.disk.power_failure();
        let log = history.try_open().unwrap();
        assert_eq!(log.tail(key(0)).unwrap().frames_after(1, (Path::new("folder"), 0)).unwrap(), b"", "after {step}");
    }
}

#[test]
fn nothing_of_an_erased_tenant_is_left_and_nothing_of_others_is_lost() {
    for seed in 0..60 {
        let mut history = History::new(seed);
        for _ in 0..history.rng.usize(1..80) {
            match history.rng.u32(0..12) {
                0 => history.fold(),
                1..3 => history.sync(),
                3 => history.crash(false),
                _ => history.append(),
            }
        }
        // It is told apart by a text, as people search for one.
        let secret = b"only the erased tenant says this";
        let seq = history.tenants[0].frames.len() as u64 + 1;
        let mut frame = Vec::new();
        frame::push_event(&mut frame, seq, |b| b.extend_from_slice(secret)).unwrap();
        let section = LogSection { tenant: key(0), first_seq: seq, last_seq: seq, bytes: frame.len() };
        history.log().append(history.generation(), &[section], &frame).unwrap();
        let more = history.rng.usize(0..6);
        (0..more).for_each(|_| history.append());
        history.log().note_erased(key(0)).unwrap();
        history.log().folded(key(0), u64::MAX);
        if history.rng.bool() {
            history.crash_of_log();
        }
        history.log().overwrite_erased().unwrap();
        for name in history.disk.names() {
            let content = history.disk.content(&name);
            assert!(!content.windows(secret.len()).any(|text| text == secret), "seed {seed}: {name}");
        }
        // The log goes on, and others have what they had.
        history.tenants[0] = Tenant::default();
        history.log = None;
        let power = history.rng.bool();
        if power {
            history.disk.power_failure();
        }
        let log = history.try_open().unwrap();
        assert_eq!(log.erased(), Vec::<[u8; 16]>::new());
        for (n, tenant) in history.tenants.iter().enumerate().skip(1) {
            let tail = log.tail(key(n)).unwrap();
            let frames = tail.frames_after(tenant.folded, (Path::new("folder"), 0)).unwrap();
            assert_eq!(frames, tenant.frames[tenant.folded as usize..].concat(), "seed {seed}");
        }
    }
}

#[test]
fn damage_of_a_sector_costs_only_tenants_with_events_there() {
    let (mut kept, mut opened) = (0, 0);
    for seed in 0..200 {
        let disk = MemoryDisk::new(seed);
        let options = LogOptions { slot_bytes: 64 << 10, segments: 30, tail_bytes: 1 << 20 };
        let open = || Log::open(Arc::new(disk.clone()), Path::new("data"), [9; 16], options);
        let log = open().unwrap();
        let mut rng = Rng::with_seed(seed);
        let mut last = [0_u64; 40];
        for _ in 0..rng.usize(60..200) {
            let tenant = rng.usize(0..40);
            last[tenant] += 1;
            one_event(&log, tenant, last[tenant]);
        }
        let sync = log.begin_sync().unwrap();
        log.finish_sync(&sync, &sync.run());
        // It says that what came before is on disk.
        let more = 39;
        last[more] += 1;
        one_event(&log, more, last[more]);
        drop(log);
        // Not the last one: nothing says that it is on disk.
        let name = "data/log/00000000.log";
        let mut content = disk.content(name);
        let used = content.iter().rposition(|byte| *byte != 0).unwrap();
        let at = rng.usize(32..used.saturating_sub(4_096 + 600).max(33));
        content[at..at + 4_096].fill(0x55);
        disk.put(name, &content);
        let Ok(log) = open() else { continue };
        opened += 1;
        let tails = last.iter().enumerate().map(|(n, last)| (log.tail(key(n)).unwrap(), *last));
        for (tail, last) in tails {
            match tail.frames_after(0, (Path::new("folder"), 0)) {
                Ok(_) => {
                    assert_eq!(tail.last_seq(), last, "seed {seed}: events are lost, and nobody says so");
                    kept += 1;
                }
                Err(_) => assert!(last > 0),
            }
        }
    }
    assert!(opened > 190 && kept > 2_000, "{opened} logs were opened, {kept} tenants kept all");
}

#[test]
fn a_first_start_that_is_interrupted_is_finished_by_the_next() {
    for power in [false, true] {
        for changes in 0..24 {
            let disk = MemoryDisk::new(changes.into());
            let open = || Log::open(Arc::new(disk.clone()), Path::new("data"), [9; 16], OPTIONS);
            disk.stop_after(Some(changes));
            let first = open();
            disk.stop_after(None);
            drop(first);
            if power {
                disk.power_failure();
            }
            let log = open().unwrap_or_else(|error| panic!("after {changes} changes: {error}"));
            one_event(&log, 0, 1);
        }
    }
}

#[test]
fn a_tenant_that_cannot_fold_keeps_the_log_short_and_its_events() {
    let disk = MemoryDisk::new(1);
    let open = || Log::open(Arc::new(disk.clone()), Path::new("data"), [9; 16], OPTIONS).unwrap();
    let log = open();
    for seq in 1..6 {
        one_event(&log, 1, seq);
    }
    for seq in 1..3_000 {
        one_event(&log, 0, seq);
        if seq % 7 == 0 {
            log.folded(key(0), seq);
            log.carry_forward().unwrap();
            let sync = log.begin_sync().unwrap();
            log.finish_sync(&sync, &sync.run());
        }
        if seq == 1_500 {
            one_event(&log, 1, 6);
        }
    }
    assert!(log.figures().bytes <= 12 * OPTIONS.slot_bytes, "{:?}", log.figures());
    drop(log);
    let tail = open().tail(key(1)).unwrap();
    assert_eq!((tail.whole().unwrap().0, tail.whole().unwrap().1), (1, 6));
}

#[test]
fn a_tail_that_is_read_while_a_sync_fails_is_no_damage() {
    let history = History::new(1);
    let log = history.log();
    one_event(log, 0, 1);
    let sync = log.begin_sync().unwrap();
    log.finish_sync(&sync, &sync.run());
    let on_disk = history.disk.content("data/log/00000000.log");
    one_event(log, 0, 2);
    // The kernel drops the end of the last batch, and nobody knows yet that the sync has failed.
    let mut left = history.disk.content("data/log/00000000.log");
    let end = left.iter().rposition(|byte| *byte != 0).unwrap();
    left[end] = 0;
    history.disk.overwrite("data/log/00000000.log", &left);
    assert!(matches!(log.tail(key(0)), Err(LogError::Io { .. })));
    // What was on disk is damage.
    let mut bad = on_disk;
    let end = bad.iter().rposition(|byte| *byte != 0).unwrap();
    bad[end] = 0;
    history.disk.overwrite("data/log/00000000.log", &bad);
    assert!(log.tail(key(0)).unwrap().is_damaged());
}

#[test]
fn the_tail_of_a_tenant_without_events_is_empty() {
    let history = History::new(3);
    let tail = history.log().tail(key(0)).unwrap();
    assert_eq!((tail.last_seq(), tail.bytes(), tail.position()), (0, 0, 0));
}

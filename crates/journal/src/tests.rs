//! Whole journals on disk, and what the other tests share.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use crate::chain::{Checkpoint, genesis};
use crate::folder::Folder;
use crate::*;

pub(super) const TENANT: [u8; 16] = [7; 16];

pub(super) type Events = Vec<(u64, Vec<u8>)>;

pub(super) fn fresh_in(folder: &Path, options: JournalOptions) -> Journal {
    let link = Checkpoint { seq: 0, hash: genesis(TENANT), time_ms: 0 };
    let folder = Arc::new(Folder::open(folder).unwrap());
    Journal::start(folder, TENANT, options, Vec::new(), link, 0).unwrap()
}

/// An empty journal in a folder of its own.
pub(super) fn fresh(options: JournalOptions) -> (TempDir, Journal) {
    let dir = tempfile::tempdir().unwrap();
    let journal = fresh_in(dir.path(), options);
    (dir, journal)
}

pub(super) fn recovered(dir: &Path, tenant: [u8; 16], snapshot_seq: u64) -> Result<(Journal, Events), RecoveryError> {
    let mut events = Vec::new();
    let options = JournalOptions { segment_bytes: 300 };
    let journal = recover(&Folder::open(dir).unwrap(), tenant, snapshot_seq, 1, options, &mut |seq, payload| {
        events.push((seq, payload.to_vec()));
        Ok(())
    })?;
    Ok((journal, events))
}

/// Event `seq`'s payload of a given size, different for each.
pub(super) fn payload(seq: u64, size: usize) -> Vec<u8> {
    (0..size).map(|i| (seq as usize * 31 + i) as u8).collect()
}

pub(super) fn append(journal: &mut Journal, size: usize) {
    let seq = journal.next_seq();
    journal.append(seq, |buffer| buffer.extend_from_slice(&payload(seq, size))).unwrap();
}

pub(super) fn sync(journal: &mut Journal, now_ms: i64) {
    let point = journal.begin_sync().run().unwrap();
    journal.finish_sync(point, now_ms).unwrap();
}

/// A segment of one event, which takes no more from the day after that on.
pub(super) fn segment(journal: &mut Journal, day: i64) {
    append(journal, 10);
    journal.flush().unwrap();
    journal.rotate_if_due(day + 1).unwrap();
}

pub(super) fn compress(journal: &mut Journal) {
    for job in journal.take_compression_jobs() {
        job.run().unwrap();
    }
}

pub(super) fn read_all(reader: &JournalReader) -> Events {
    let mut events = Vec::new();
    let collect = &mut |seq, payload: &[u8]| {
        events.push((seq, payload.to_vec()));
        ControlFlow::Continue(())
    };
    reader.oldest_first(0, collect).unwrap();
    events
}

pub(super) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Events in [`several_segments`]; the last segment has the last two.
pub(super) const SEVERAL: u64 = 22;

/// Several segments, the first ones compressed, all closed.
pub(super) fn several_segments() -> (TempDir, Events) {
    let (dir, mut journal) = fresh(JournalOptions { segment_bytes: 400 });
    for round in 0..SEVERAL as i64 {
        append(&mut journal, 40);
        journal.flush().unwrap();
        journal.rotate_if_due(round).unwrap();
        if round % 4 == 3 {
            sync(&mut journal, round);
        }
        if round == 12 {
            compress(&mut journal);
        }
    }
    let events = read_all(&journal.reader());
    journal.close(50).unwrap();
    (dir, events)
}

#[test]
fn what_crosses_threads_can() {
    fn sendable<T: Send + 'static>() {}
    sendable::<Journal>();
    sendable::<JournalReader>();
    sendable::<SyncJob>();
    sendable::<CompressionJob>();
    sendable::<SnapshotJob>();
    sendable::<RetentionJob>();
    sendable::<Syncer>();
}

#[test]
fn what_was_flushed_comes_back_and_pending_events_do_not() {
    let (dir, mut journal) = fresh(JournalOptions::default());
    for _ in 0..3 {
        append(&mut journal, 5);
    }
    journal.flush().unwrap();
    append(&mut journal, 5);
    drop(journal);
    let (mut journal, events) = recovered(dir.path(), TENANT, 0).unwrap();
    assert_eq!(events, [1, 2, 3].map(|seq| (seq, payload(seq, 5))));
    assert_eq!(journal.next_seq(), 4);
    append(&mut journal, 5);
    journal.close(9).unwrap();
    let (journal, events) = recovered(dir.path(), TENANT, 2).unwrap();
    assert_eq!(events, [3, 4].map(|seq| (seq, payload(seq, 5))));
    let link = journal.checkpoint();
    assert_eq!((link.seq, link.time_ms), (4, 9));
    assert_eq!(journal.reader().verify().unwrap(), link);
}

#[test]
fn opening_and_closing_without_events_changes_no_byte() {
    let (dir, _) = several_segments();
    let all = |dir: &Path| -> Vec<_> {
        let read = |name: String| (fs::read(dir.join(&name)).unwrap(), name);
        names(dir).into_iter().map(read).collect()
    };
    let before = all(dir.path());
    for now in 0..3 {
        let options = JournalOptions::default();
        let journal = recover(&Folder::open(dir.path()).unwrap(), TENANT, 0, now, options, &mut |_, _| Ok(())).unwrap();
        journal.close(now).unwrap();
    }
    assert_eq!(all(dir.path()), before);
}

#[test]
fn segments_compressed_and_not_are_read_from_both_ends() {
    let (dir, events) = several_segments();
    assert_eq!(events.len() as u64, SEVERAL);
    assert!(names(dir.path())[0].ends_with(".journal.zst"));
    let (mut journal, replayed) = recovered(dir.path(), TENANT, 0).unwrap();
    assert_eq!(replayed, events);
    let before = journal.reader();
    sync(&mut journal, 30);
    assert!(journal.active.first_seq > 1);
    compress(&mut journal);
    assert_eq!(names(dir.path()).iter().filter(|n| n.ends_with(".journal")).count(), 1);
    for reader in [before, journal.reader()] {
        assert_eq!(read_all(&reader), events);
        for limit in 0..=SEVERAL + 1 {
            let mut newest = Vec::new();
            let see = &mut |seq, payload: &[u8]| {
                newest.push((seq, payload.to_vec()));
                ControlFlow::Continue(())
            };
            reader.newest_first(Some(limit), see).unwrap();
            newest.reverse();
            let expected: Events = events.iter().filter(|e| e.0 < limit).cloned().collect();
            assert_eq!(newest, expected);
            let expected = events.iter().find(|e| e.0 == limit).map(|e| e.1.clone());
            assert_eq!(reader.get(limit).unwrap(), expected);
            let mut from = Vec::new();
            let see = &mut |seq, _: &[u8]| {
                from.push(seq);
                match from.len() {
                    3 => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                }
            };
            reader.oldest_first(limit, see).unwrap();
            assert!(from.into_iter().eq((limit.max(1)..=SEVERAL).take(3)));
        }
        reader.verify().unwrap();
    }
}

#[test]
fn a_large_active_segment_is_read_in_blocks() {
    let (_dir, mut journal) = fresh(JournalOptions::default());
    for size in 0..2000 {
        append(&mut journal, size % 300);
        if size % 7 == 0 {
            journal.flush().unwrap();
        }
        if size % 50 == 0 {
            sync(&mut journal, size as i64);
        }
    }
    journal.flush().unwrap();
    let reader = journal.reader();
    append(&mut journal, 10);
    let events = read_all(&reader);
    assert!(events.iter().map(|e| e.0).eq(1..=2000));
    let mut next = 2000;
    reader
        .newest_first(None, &mut |seq, bytes| {
            assert_eq!(seq, next);
            assert_eq!(bytes, payload(seq, (seq as usize - 1) % 300));
            next -= 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(next, 0);
    assert_eq!(reader.get(1234).unwrap(), Some(payload(1234, 1233 % 300)));
    assert_eq!(reader.get(2001).unwrap(), None);
}

#[test]
fn a_reader_reports_bad_bytes() {
    let (dir, mut journal) = fresh(JournalOptions::default());
    append(&mut journal, 50);
    journal.flush().unwrap();
    let path = Folder::open(dir.path()).unwrap().raw(1);
    let mut bytes = fs::read(&path).unwrap();
    bytes[100] ^= 4;
    fs::write(&path, bytes).unwrap();
    let error = journal.reader().get(1).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    assert!(error.to_string().contains("at byte 78"));
}

#[test]
#[ignore = "measures; run with --release --ignored --nocapture"]
fn measure() {
    const EVENTS: u64 = 1_000_000;
    let body = vec![0xAB; 200];
    for batch in [1, 8, 64] {
        let (dir, mut journal) = fresh(JournalOptions::default());
        let mut appending = std::time::Duration::ZERO;
        let start = std::time::Instant::now();
        for first in (1..=EVENTS).step_by(batch) {
            let began = std::time::Instant::now();
            for seq in first..first + batch as u64 {
                journal.append(seq, |b| b.extend_from_slice(&body)).unwrap();
            }
            appending += began.elapsed();
            journal.flush().unwrap();
            journal.rotate_if_due(0).unwrap();
        }
        let took = start.elapsed().as_nanos() as u64;
        let only = appending.as_nanos() as u64;
        println!("batch {batch}: append+flush {} ns/event, append {} ns", took / EVENTS, only / EVENTS);
        drop(journal);
        let mut seen = 0_u64;
        let start = std::time::Instant::now();
        let count = &mut |_, payload: &[u8]| {
            seen += payload.len() as u64 / 200;
            Ok(())
        };
        let journal =
            recover(&Folder::open(dir.path()).unwrap(), TENANT, 0, 0, JournalOptions::default(), count).unwrap();
        let rate = seen as f64 / start.elapsed().as_secs_f64();
        println!("recovery: {:.2} M events/s of 200 bytes", rate / 1e6);
        let start = std::time::Instant::now();
        journal.reader().verify().unwrap();
        println!("verify: {:?}", start.elapsed());
    }
}

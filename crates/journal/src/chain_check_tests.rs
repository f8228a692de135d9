//! Journals that were tampered with, each by somebody who knows the format: checksums always fit.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::chain::{Chain, Checkpoint, genesis};
use crate::folder::Folder;
use crate::frame::{self, Frame, MARKER_FRAME, Marker};
use crate::log::LogTails;
use crate::segment::{HEADER, SegmentHeader};
use crate::tests::{TENANT, append, compress, fresh, payload, recovered, sync};
use crate::writer::JournalOptions;
use crate::{ChainReport, Fault, FaultKind, Passage, verify_chain};

/// Payload bytes of each event here, and bytes of its frame.
const SIZE: usize = 30;
const FRAME: usize = 8 + 8 + SIZE;

/// Four segments of five events, each event with a link of its own but for the 8th and 9th, which share one; the last
/// event has none. The first two segments are compressed if asked for. The links come with it.
fn linked(compressed: bool) -> (TempDir, Vec<Checkpoint>) {
    let (dir, mut journal) = fresh(JournalOptions::default());
    let mut links = vec![journal.checkpoint()];
    for seq in 1..=20 {
        append(&mut journal, SIZE);
        journal.flush().unwrap();
        if seq != 8 && seq != 20 {
            sync(&mut journal, seq);
        }
        links.push(journal.checkpoint());
        if seq % 5 == 0 && seq != 20 {
            // A segment has five frames at least by now.
            let full = journal.active.end;
            journal.options.segment_bytes = full;
            journal.flush().unwrap();
            journal.rotate_if_due(seq).unwrap();
        }
        if compressed && seq == 12 {
            sync(&mut journal, seq);
            compress(&mut journal);
        }
    }
    drop(journal);
    (dir, links)
}

fn look(dir: &Path, kept: Option<Checkpoint>) -> ChainReport {
    verify_chain(&Folder::open(dir).unwrap(), &LogTails::default(), kept, &mut |_, _| None).unwrap()
}

#[track_caller]
fn fault(dir: &Path, kept: Option<Checkpoint>) -> Fault {
    look(dir, kept).fault.expect("nothing was found wrong")
}

fn raw(dir: &Path, first_seq: u64) -> PathBuf {
    Folder::open(dir).unwrap().raw(first_seq)
}

/// The frames of a segment, links among them.
fn frames(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut position, mut all) = (HEADER, Vec::new());
    while position < bytes.len() {
        let (_, length) = frame::parse(&bytes[position..]).unwrap();
        all.push(bytes[position..position + length].to_vec());
        position += length;
    }
    all
}

fn seq_of(frame: &[u8]) -> Option<u64> {
    match frame::parse(frame).unwrap().0 {
        Frame::Event { seq, .. } => Some(seq),
        Frame::Marker(_) => None,
    }
}

fn event_frame(seq: u64, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame::push_event(&mut frame, seq, |buffer| buffer.extend_from_slice(payload)).unwrap();
    frame
}

/// Rewrites the frames of a segment file.
fn edit(path: &Path, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let bytes = fs::read(path).unwrap();
    let mut all = frames(&bytes);
    change(&mut all);
    let mut edited = bytes[..HEADER].to_vec();
    edited.extend(all.concat());
    fs::write(path, edited).unwrap();
}

fn position(frames: &[Vec<u8>], seq: u64) -> usize {
    frames.iter().position(|frame| seq_of(frame) == Some(seq)).unwrap()
}

/// Computes all links of a folder anew, as somebody would who owns the disk.
fn relink(dir: &Path) {
    let mut link = Checkpoint { seq: 0, hash: genesis(TENANT), time_ms: 0 };
    for entry in Folder::open(dir).unwrap().list().unwrap().segments {
        let path = raw(dir, entry.first_seq);
        let bytes = fs::read(&path).unwrap();
        let header = SegmentHeader { previous: link.hash, ..SegmentHeader::decode(&bytes).unwrap() };
        let mut edited = header.encode();
        let mut chain = Chain::resume(link);
        for frame in frames(&bytes) {
            match frame::parse(&frame).unwrap().0 {
                Frame::Event { seq, .. } => {
                    chain.extend(&frame);
                    link.seq = seq;
                    edited.extend(frame);
                }
                Frame::Marker(marker) => {
                    link.hash = chain.next_hash();
                    edited.extend(frame::marker_frame(&Marker { hash: link.hash, ..marker }));
                    chain = Chain::resume(link);
                }
            }
        }
        fs::write(path, edited).unwrap();
    }
}

#[test]
fn an_untouched_journal_passes_with_any_of_its_links() {
    for compressed in [false, true] {
        let (dir, links) = linked(compressed);
        let found = look(dir.path(), None);
        assert_eq!((found.fault, found.passage), (None, Passage::NotAsked));
        assert_eq!((found.tenant, found.segments, found.first_seq, found.last_seq), (TENANT, 4, 1, 20));
        assert_eq!((found.link, found.torn_bytes), (links[19], 0));
        for kept in &links {
            let found = look(dir.path(), Some(*kept));
            assert_eq!((found.fault, found.passage), (None, Passage::Through), "{kept:?}");
        }
    }
}

#[test]
fn a_changed_event_is_named() {
    let (dir, _) = linked(false);
    for seq in 1..=19 {
        let path = raw(dir.path(), (seq - 1) / 5 * 5 + 1);
        let whole = fs::read(&path).unwrap();
        let mut changed = payload(seq, SIZE);
        changed[3] ^= 1;
        let mut offset = 0;
        edit(&path, |frames| {
            let at = position(frames, seq);
            offset = (HEADER + frames[..at].concat().len()) as u64;
            frames[at] = event_frame(seq, &changed);
        });
        let fault = fault(dir.path(), None);
        assert_eq!((fault.kind, &fault.file), (FaultKind::Changed, &path));
        if matches!(seq, 8 | 9) {
            assert_eq!((fault.first, fault.last), (8, 9), "they share a link");
        } else {
            assert_eq!((fault.first, fault.last, fault.offset), (seq, seq, offset));
            assert_eq!(fault.event, Some(changed));
            assert_eq!(fault.before, (seq > 1).then(|| payload(seq - 1, SIZE)));
        }
        fs::write(&path, whole).unwrap();
    }
    assert_eq!(look(dir.path(), None).fault, None);
}

#[test]
fn of_a_run_the_event_that_makes_no_sense_is_named() {
    let (dir, _) = linked(false);
    let changed = vec![0xC1; SIZE];
    edit(&raw(dir.path(), 6), |frames| {
        let at = position(frames, 9);
        frames[at] = event_frame(9, &changed);
    });
    let mut odd = |_: u64, bytes: &[u8]| (bytes == changed).then(|| "it is odd".to_owned());
    let fault =
        verify_chain(&Folder::open(dir.path()).unwrap(), &LogTails::default(), None, &mut odd).unwrap().fault.unwrap();
    assert_eq!((fault.first, fault.last, &*fault.detail), (9, 9, "it is odd"));
}

#[test]
fn a_flipped_byte_is_named() {
    let (dir, _) = linked(false);
    let path = raw(dir.path(), 6);
    let mut bytes = fs::read(&path).unwrap();
    let at = HEADER + FRAME + MARKER_FRAME + 20;
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    let fault = fault(dir.path(), None);
    assert_eq!((fault.kind, fault.first, fault.offset), (FaultKind::Changed, 7, (at - 20) as u64));
    assert_eq!(fault.before, Some(payload(6, SIZE)));
}

#[test]
fn a_removed_event_is_named_whether_or_not_the_rest_is_renumbered() {
    for seq in [1, 3, 5, 6, 12, 18] {
        for renumber in [false, true] {
            let (dir, _) = linked(false);
            let path = raw(dir.path(), (seq - 1) / 5 * 5 + 1);
            edit(&path, |frames| {
                let at = position(frames, seq);
                frames.remove(at);
                for frame in frames.iter_mut().skip(at) {
                    if let (true, Ok((Frame::Event { seq, payload }, _))) = (renumber, frame::parse(frame)) {
                        *frame = event_frame(seq - 1, payload);
                    }
                }
            });
            let fault = fault(dir.path(), None);
            // Its own link follows directly on the one before it, over nothing.
            assert_eq!((fault.kind, fault.last), (FaultKind::Removed, seq));
            assert_eq!(fault.first, seq, "renumbered: {renumber}: {fault:?}");
            assert_eq!(fault.before, (seq > 1).then(|| payload(seq - 1, SIZE)));
        }
    }
    // Without its link too.
    let (dir, _) = linked(false);
    edit(&raw(dir.path(), 6), |frames| {
        let at = position(frames, 7);
        frames.drain(at..at + 2);
    });
    let fault = fault(dir.path(), None);
    assert_eq!((fault.kind, fault.first, fault.last), (FaultKind::Removed, 7, 7));
}

#[test]
fn swapped_events_are_named() {
    let (dir, _) = linked(false);
    edit(&raw(dir.path(), 6), |frames| {
        let (one, other) = (position(frames, 7), position(frames, 10));
        frames.swap(one, other);
    });
    let found = fault(dir.path(), None);
    assert_eq!((found.kind, found.first), (FaultKind::Moved, 7));
    assert_eq!(found.event, Some(payload(7, SIZE)));
    // Under each other's numbers they are in order, and only the links tell.
    let (dir, _) = linked(false);
    edit(&raw(dir.path(), 6), |frames| {
        let (one, other) = (position(frames, 7), position(frames, 10));
        frames[one] = event_frame(7, &payload(10, SIZE));
        frames[other] = event_frame(10, &payload(7, SIZE));
    });
    let found = fault(dir.path(), None);
    assert_eq!((found.kind, found.first, found.last), (FaultKind::Changed, 7, 7));
}

#[test]
fn segments_that_are_cut_or_gone_are_named() {
    for compressed in [false, true] {
        let (dir, _) = linked(compressed);
        let folder = Folder::open(dir.path()).unwrap();
        let second = folder.list().unwrap().segments[1];
        let path = folder.current(second);
        let whole = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let found = fault(dir.path(), None);
        assert_eq!((found.kind, found.first, found.last), (FaultKind::Removed, 6, 10), "compressed: {compressed}");
        assert_eq!(found.before, Some(payload(5, SIZE)));
        for length in [0, 20, whole.len() / 2] {
            fs::write(&path, &whole[..length]).unwrap();
            let found = fault(dir.path(), None);
            assert_eq!(found.file, path);
            assert!((6..=9).contains(&found.first), "compressed: {compressed}, {length}: {found:?}");
        }
    }
    let (dir, _) = linked(false);
    edit(&raw(dir.path(), 6), |frames| frames.truncate(4));
    let found = fault(dir.path(), None);
    assert_eq!((found.kind, found.first, found.last), (FaultKind::Removed, 8, 10), "cut between frames");
}

#[test]
fn a_checkpoint_or_a_snapshot_exposes_a_cut_journal() {
    let (dir, links) = linked(false);
    fs::remove_file(raw(dir.path(), 16)).unwrap();
    edit(&raw(dir.path(), 11), |frames| frames.truncate(6));
    assert_eq!(look(dir.path(), None).fault, None, "nothing shows it");
    for kept in [&links[14], &links[19]] {
        let found = fault(dir.path(), Some(*kept));
        assert_eq!((found.kind, found.first, found.last), (FaultKind::Removed, 14, kept.seq));
        assert_eq!(found.before, Some(payload(13, SIZE)));
    }
    assert_eq!(look(dir.path(), Some(links[13])).fault, None);
    fs::write(Folder::open(dir.path()).unwrap().snapshot(17), b"").unwrap();
    let found = fault(dir.path(), None);
    assert_eq!((found.kind, found.first, found.last), (FaultKind::Removed, 14, 17));
}

#[test]
fn a_checkpoint_exposes_a_recomputed_chain() {
    let (dir, links) = linked(false);
    edit(&raw(dir.path(), 6), |frames| {
        let at = position(frames, 7);
        frames[at] = event_frame(7, b"another event with another len");
    });
    relink(dir.path());
    assert_eq!(look(dir.path(), None).fault, None, "nothing shows it");
    for (seq, kept) in links.iter().enumerate() {
        let found = look(dir.path(), Some(*kept));
        match found.fault {
            None => assert!(kept.seq < 7, "event {seq}"),
            Some(fault) => {
                assert!(kept.seq >= 7, "event {seq}");
                assert_eq!((fault.kind, fault.last), (FaultKind::Rewritten, kept.seq));
            }
        }
    }
    // Only the segments after the edit, so that the header of the next one does not fit.
    let (dir, _) = linked(false);
    let third = fs::read(raw(dir.path(), 11)).unwrap();
    edit(&raw(dir.path(), 6), |frames| {
        let at = position(frames, 10);
        frames[at] = event_frame(10, b"another");
    });
    relink(dir.path());
    fs::write(raw(dir.path(), 11), third).unwrap();
    let found = fault(dir.path(), None);
    assert_eq!((found.kind, found.last, found.file), (FaultKind::Rewritten, 10, raw(dir.path(), 11)));
}

#[test]
fn what_a_crash_leaves_is_no_fault() {
    let (dir, links) = linked(false);
    let path = raw(dir.path(), 16);
    let mut bytes = fs::read(&path).unwrap();
    bytes.truncate(bytes.len() - 10);
    fs::write(&path, &bytes).unwrap();
    let found = look(dir.path(), Some(links[19]));
    assert_eq!((found.fault, found.last_seq, found.torn_bytes), (None, 19, FRAME as u64 - 10));
    // A new segment whose header is not whole, or was made before the link it continues.
    for header in
        [vec![0; 40], SegmentHeader { tenant: TENANT, first_seq: 20, created_ms: 0, previous: [9; 32] }.encode()]
    {
        let length = header.len() as u64;
        fs::write(&path, &bytes[..bytes.len() + 10 - FRAME]).unwrap();
        fs::write(raw(dir.path(), 20), header).unwrap();
        let found = look(dir.path(), None);
        assert_eq!((found.fault, found.last_seq, found.torn_bytes), (None, 19, length));
    }
}

#[test]
fn a_tail_that_recovery_cuts_accuses_nobody_and_one_that_it_refuses_does() {
    // The last sync of each is in the first segment, in the second one, or in the third.
    for synced in [3, 8, 13] {
        let (dir, mut journal) = fresh(JournalOptions::default());
        for seq in 1..=13 {
            append(&mut journal, SIZE);
            journal.flush().unwrap();
            if seq == synced {
                sync(&mut journal, seq as i64);
            }
            if seq % 5 == 0 {
                journal.options.segment_bytes = journal.active.end;
                journal.flush().unwrap();
                journal.rotate_if_due(seq as i64).unwrap();
                journal.options = JournalOptions::default();
            }
        }
        let link = journal.checkpoint();
        drop(journal);
        let segments = Folder::open(dir.path()).unwrap().list().unwrap().segments;
        assert_eq!(segments.iter().map(|entry| entry.first_seq).collect::<Vec<_>>(), [1, 6, 11]);
        let (mut cut, mut refused) = (0, 0);
        for entry in &segments[..] {
            let path = raw(dir.path(), entry.first_seq);
            let whole = fs::read(&path).unwrap();
            // Anywhere, and between frames.
            let mut lengths: Vec<_> = (0..whole.len()).step_by(29).chain([HEADER]).collect();
            for frame in frames(&whole) {
                lengths.push(lengths.last().unwrap() + frame.len());
            }
            lengths.pop();
            for length in lengths {
                for zeros in [0, whole.len() - length] {
                    fs::write(&path, [&whole[..length], &vec![0; zeros]].concat()).unwrap();
                    let found =
                        verify_chain(&Folder::open(dir.path()).unwrap(), &LogTails::default(), None, &mut |_, _| None);
                    let copy = tempfile::tempdir().unwrap();
                    for file in segments.iter().map(|entry| raw(dir.path(), entry.first_seq)) {
                        fs::copy(&file, copy.path().join(file.file_name().unwrap())).unwrap();
                    }
                    let place = format!("synced {synced}, segment {}, {length} and {zeros} zeros", entry.first_seq);
                    match (found, recovered(copy.path(), TENANT, 0)) {
                        (Ok(found), Ok((_, events))) => {
                            assert_eq!(found.fault, None, "{place}");
                            // A link that was kept elsewhere says what was on disk once.
                            let fault = look(dir.path(), Some(link)).fault;
                            assert_eq!(fault.is_some(), found.last_seq < link.seq, "{place}: {fault:?}");
                            assert!(found.last_seq >= events.len() as u64, "{place}");
                            cut += 1;
                        }
                        (Ok(ChainReport { fault: Some(_), .. }) | Err(_), Err(_)) => refused += 1,
                        // Only a link is gone, which the next header stands for.
                        (Ok(ChainReport { last_seq: 13, .. }), Err(_)) => {}
                        (found, recovered) => panic!("{place}: {found:?}, {:?}", recovered.err()),
                    }
                }
            }
            fs::write(&path, whole).unwrap();
        }
        assert!(cut > 0 && refused > 0, "{cut} {refused}");
    }
}

#[test]
fn a_checkpoint_may_have_other_links_of_its_event_behind_it_that_retention_removed() {
    let (dir, mut journal) = fresh(JournalOptions { segment_bytes: 100 });
    append(&mut journal, 10);
    journal.flush().unwrap();
    let kept = journal.link(1).unwrap();
    sync(&mut journal, 2);
    assert!(journal.rotate_if_due(3).unwrap());
    append(&mut journal, 10);
    journal.close(4).unwrap();
    assert_eq!(look(dir.path(), Some(kept)).passage, Passage::Through);
    fs::remove_file(Folder::open(dir.path()).unwrap().raw(1)).unwrap();
    let found = look(dir.path(), Some(kept));
    assert_eq!((found.fault, found.first_seq, found.passage), (None, 2, Passage::Through));
    let other = Checkpoint { hash: [1; 32], ..kept };
    assert!(look(dir.path(), Some(other)).fault.is_some());
}

#[test]
fn what_retention_left_is_followed_from_its_first_link_on() {
    let (dir, links) = linked(true);
    let folder = Folder::open(dir.path()).unwrap();
    fs::remove_file(folder.compressed(1)).unwrap();
    let found = look(dir.path(), Some(links[10]));
    assert_eq!((found.fault, found.first_seq, found.passage), (None, 6, Passage::Through));
    assert_eq!(look(dir.path(), Some(links[5])).passage, Passage::Through, "the link the header continues");
    assert_eq!(look(dir.path(), Some(links[4])).passage, Passage::TooOld);
    let found = fault(dir.path(), Some(Checkpoint { hash: [1; 32], ..links[5] }));
    assert_eq!((found.kind, found.last), (FaultKind::Rewritten, 5));
}

#[test]
fn a_folder_without_a_journal_can_not_be_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    assert!(verify_chain(&Folder::open(dir.path()).unwrap(), &LogTails::default(), None, &mut |_, _| None).is_err());
    fs::write(raw(dir.path(), 1), b"").unwrap();
    assert!(verify_chain(&Folder::open(dir.path()).unwrap(), &LogTails::default(), None, &mut |_, _| None).is_err());
}

//! When the active segment's file is open, and what becomes of it while it is closed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::disk::DiskFile;
use crate::segment::{HEADER, SegmentFile};
use crate::tests::*;
use crate::*;

/// Files below a folder that this process has open.
fn open_files(dir: &Path) -> usize {
    let open = fs::read_dir("/proc/self/fd").unwrap();
    open.filter(|entry| fs::read_link(entry.as_ref().unwrap().path()).is_ok_and(|path| path.starts_with(dir))).count()
}

fn flushed(journal: &mut Journal) {
    append(journal, 10);
    journal.flush().unwrap();
}

/// A journal with one event, all on disk, and the file closed.
fn synced() -> (tempfile::TempDir, Journal) {
    let (dir, mut journal) = fresh(JournalOptions { segment_bytes: 300 });
    flushed(&mut journal);
    sync(&mut journal, 1);
    (dir, journal)
}

#[test]
fn a_file_is_open_from_the_first_write_until_a_sync_covers_all_of_it() {
    let (dir, mut journal) = synced();
    let expect = |journal: &mut Journal, files: usize, step: &str, change: &mut dyn FnMut(&mut Journal)| {
        change(journal);
        assert_eq!(open_files(dir.path()), files, "{step}");
        assert_eq!(journal.is_dirty(), files > 0, "{step}");
    };
    let j = &mut journal;
    let (mut early, mut reader) = (None, None);
    expect(j, 0, "synced", &mut |_| {});
    expect(j, 0, "append", &mut |j| append(j, 10));
    expect(j, 0, "read", &mut |j| assert_eq!(read_all(&j.reader()).len(), 2));
    expect(j, 1, "flush", &mut |j| j.flush().unwrap());
    expect(j, 1, "begin", &mut |j| early = Some(j.begin_sync()));
    expect(j, 1, "more", &mut |j| flushed(j));
    expect(j, 1, "the sync covers less", &mut |j| j.finish_sync(early.take().unwrap().run().unwrap(), 2).unwrap());
    expect(j, 0, "sync", &mut |j| sync(j, 3));
    expect(j, 0, "a reader", &mut |j| reader = Some(j.reader()));
    expect(j, 0, "a snapshot", &mut |j| {
        j.begin_snapshot(j.written_seq()).run(|file| file.write_all(b"state")).unwrap()
    });
    expect(j, 1, "a link that may not be on disk", &mut |j| assert_eq!(j.link(3).unwrap().seq, 3));
    expect(j, 0, "sync", &mut |j| sync(j, 3));
    expect(j, 0, "a link that is", &mut |j| assert_eq!(j.link(4).unwrap().seq, 3));
    expect(j, 2, "rotate", &mut |j| {
        append(j, 300);
        assert!(j.rotate_if_due(4).unwrap());
    });
    expect(j, 0, "sync", &mut |j| sync(j, 5));
    expect(j, 0, "compress", &mut compress);
    expect(j, 0, "read", &mut |j| assert_eq!(read_all(&j.reader()).len(), 4));
    drop(early);
    journal.close(6).unwrap();
    assert_eq!(open_files(dir.path()), 0);
}

#[test]
fn a_loaded_tenant_has_a_file_open_only_if_an_event_may_not_be_on_disk() {
    // The active segment has events, or only its header.
    for size in [10, 300] {
        let (dir, mut journal) = synced();
        append(&mut journal, size);
        journal.rotate_if_due(2).unwrap();
        journal.close(2).unwrap();
        let (mut journal, events) = recovered(dir.path(), TENANT, 0).unwrap();
        sync(&mut journal, 3);
        compress(&mut journal);
        drop(journal);
        let (mut journal, _) = recovered(dir.path(), TENANT, 0).unwrap();
        assert!(!journal.is_dirty());
        assert_eq!(read_all(&journal.reader()), events);
        assert_eq!(open_files(dir.path()), 0);
        flushed(&mut journal);
        drop(journal);
        let (mut journal, _) = recovered(dir.path(), TENANT, 0).unwrap();
        assert_eq!((open_files(dir.path()), journal.is_dirty()), (1, true));
        sync(&mut journal, 4);
        assert_eq!((open_files(dir.path()), journal.synced_seq()), (0, 3));
    }
}

#[test]
fn a_failed_write_leaves_no_file_open() {
    let (dir, mut journal) = synced();
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    journal.active.file = Some(Arc::new(SegmentFile::new(1, Box::new(full), journal.active.failure.clone())));
    append(&mut journal, 10);
    assert_eq!(journal.flush().unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert!(journal.active.file.is_none() && !journal.is_broken());
    journal.close(2).unwrap();
    assert_eq!(recovered(dir.path(), TENANT, 0).unwrap().1.len(), 2);
}

/// A file whose syncs fail on request.
#[derive(Debug)]
struct FailingSync(File, Arc<AtomicBool>);

impl DiskFile for FailingSync {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        DiskFile::read_at(&self.0, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        DiskFile::write_at(&self.0, bytes, offset)
    }

    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.0.set_size(size)
    }

    fn reserve(&self, size: u64) -> io::Result<()> {
        self.0.reserve(size)
    }

    fn sync(&self) -> io::Result<()> {
        if self.1.swap(false, Ordering::Relaxed) { Err(io::Error::other("a write was lost")) } else { Ok(()) }
    }
}

#[test]
fn a_failed_sync_is_remembered_whether_or_not_the_file_was_closed_meanwhile() {
    for closed in [false, true] {
        let (dir, mut journal) = fresh(JournalOptions::default());
        let fails = Arc::new(AtomicBool::new(false));
        let file = OpenOptions::new().read(true).write(true).open(journal.folder.raw(1)).unwrap();
        let file = FailingSync(file, Arc::clone(&fails));
        journal.active.file = Some(Arc::new(SegmentFile::new(1, Box::new(file), journal.active.failure.clone())));
        flushed(&mut journal);
        let (first, second) = (journal.begin_sync(), journal.begin_sync());
        if closed {
            journal.finish_sync(first.run().unwrap(), 1).unwrap();
            assert!(journal.active.file.is_none());
        }
        fails.store(true, Ordering::Relaxed);
        assert!(second.run().is_err());
        assert!(second.run().is_err(), "the kernel reports it once");
        flushed(&mut journal);
        let error = journal.begin_sync().run().unwrap_err();
        assert!(error.to_string().contains("earlier sync"), "{error}");
        assert!(journal.begin_sync().confirm().is_err());
        drop(journal);
        assert_eq!(recovered(dir.path(), TENANT, 0).unwrap().1.len(), 2);
    }
}

#[test]
fn a_marker_or_header_that_was_lost_while_the_file_was_closed_is_written_again() {
    type Loss = fn(&File, u64, u64);
    let cut: Loss = |file, from, _| file.set_len(from + 3).unwrap();
    let zeros: Loss =
        |file, from, end| DiskFile::write_at(file, &vec![0; (end - from) as usize], from).map(drop).unwrap();
    for (loss, size) in [(cut, 10), (zeros, 10), (cut, 300), (zeros, 300)] {
        let (dir, mut journal) = synced();
        append(&mut journal, size);
        if journal.rotate_if_due(2).unwrap() {
            journal.close(2).unwrap();
            // Nothing tells recovery that the new segment's header is on disk.
            let mut journal = recovered(dir.path(), TENANT, 0).unwrap().0;
            sync(&mut journal, 2);
            compress(&mut journal);
        } else {
            journal.flush().unwrap();
            sync(&mut journal, 2);
        }
        let mut journal = recovered(dir.path(), TENANT, 0).unwrap().0;
        assert!(!journal.is_dirty());
        let (end, from) = (journal.active.end, journal.active.end - journal.active.since_event.len() as u64);
        assert!(from == 0 || end - from > HEADER as u64 / 2);
        let file = OpenOptions::new().write(true).open(journal.folder.raw(journal.active.first_seq)).unwrap();
        loss(&file, from, end);
        flushed(&mut journal);
        sync(&mut journal, 3);
        drop(journal);
        let (journal, events) = recovered(dir.path(), TENANT, 0).unwrap();
        assert_eq!((events.len(), journal.synced_seq()), (3, 3));
        assert_eq!(journal.reader().verify().unwrap(), journal.checkpoint());
    }
}

#[test]
fn a_file_that_is_gone_or_cut_short_breaks_the_journal() {
    type Change = (&'static str, fn(&Path));
    let changes: [Change; 3] = [
        ("No such file", |path| fs::remove_file(path).unwrap()),
        ("at byte 90: the file ends here, where 104 bytes were on disk", |path| {
            OpenOptions::new().write(true).open(path).unwrap().set_len(90).unwrap();
        }),
        ("at byte 0: ", |path| {
            fs::remove_file(path).unwrap();
            fs::write(path, b"").unwrap();
        }),
    ];
    for (problem, change) in changes {
        let (_dir, mut journal) = synced();
        let path = journal.folder.raw(1);
        change(&path);
        let before = fs::read(&path).ok();
        append(&mut journal, 10);
        let error = journal.flush().unwrap_err().to_string();
        assert!(error.contains(problem) && error.contains(path.to_str().unwrap()), "{error}");
        assert!(journal.is_broken());
        assert_eq!(fs::read(&path).ok(), before);
        assert_eq!(journal.tail_bytes(), 26);
        assert!(journal.flush().is_err());
        let error = journal.reader().get(1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
}

#[test]
fn a_view_outlives_rotation_and_compression_of_what_was_active() {
    // Several blocks of 64 KiB.
    let (dir, mut journal) = fresh(JournalOptions { segment_bytes: 1 << 20 });
    for _ in 0..1000 {
        append(&mut journal, 200);
    }
    journal.flush().unwrap();
    sync(&mut journal, 1);
    append(&mut journal, 200);
    let (reader, link) = (journal.reader(), journal.checkpoint());
    let events = read_all(&reader);
    assert_eq!(events.len(), 1001);
    let mut cursor = reader.cursor(1);
    let mut seen = Vec::new();
    let mut step = |cursor: &mut JournalCursor| {
        for _ in 0..200 {
            seen.extend(cursor.step().unwrap().map(|(seq, payload)| (seq, payload.to_vec())));
        }
    };
    let check = || {
        assert_eq!(read_all(&reader), events);
        assert_eq!(reader.get(700).unwrap(), Some(payload(700, 200)));
        let mut newest = 1002;
        let mut backward = |seq, _: &[u8]| {
            newest -= 1;
            assert_eq!(seq, newest);
            std::ops::ControlFlow::Continue(())
        };
        reader.newest_first(None, &mut backward).unwrap();
        assert_eq!(newest, 1);
        assert_eq!(reader.verify().unwrap(), link);
        assert!(reader.is_older_before(1, 1).unwrap());
    };
    step(&mut cursor);
    assert!(journal.rotate_if_due(100_000_000).unwrap());
    check();
    step(&mut cursor);
    sync(&mut journal, 100_000_001);
    check();
    step(&mut cursor);
    compress(&mut journal);
    assert!(!journal.folder.raw(1).exists());
    check();
    step(&mut cursor);
    cursor.rest();
    step(&mut cursor);
    step(&mut cursor);
    assert_eq!(seen, events);
    // Retention removes it at last.
    fs::remove_file(journal.folder.compressed(1)).unwrap();
    assert_eq!(read_all(&reader), events[1000..], "the tail is in memory");
    // An erased tenant is an error.
    fs::remove_dir_all(dir.path()).unwrap();
    assert_eq!(reader.get(1).unwrap_err().kind(), io::ErrorKind::NotFound);
}

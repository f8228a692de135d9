//! Removes the oldest segments of the log.

use std::io;
use std::sync::Arc;

use crate::disk::OpenMode;
use crate::folder::Folder;
use crate::segment::{MAX_COMPRESSIBLE, read_header};
use crate::writer::Journal;

/// The removal of old segments, to be run off the owner's thread.
#[derive(Debug)]
pub struct RetentionJob {
    folder: Arc<Folder>,
    /// Each older segment and the one after it, oldest first.
    candidates: Vec<(u64, u64)>,
    cutoff_ms: i64,
}

impl Journal {
    /// A job that removes whole segments whose events are all from before `cutoff_ms` (Unix milliseconds).
    /// Only compressed segments go, and those too large for it, followed by one that is on disk, and covered by both kept snapshots, so that
    /// what is left can be recovered even from the older snapshot.
    pub fn begin_retention(&self, cutoff_ms: i64) -> RetentionJob {
        let next = self.older.iter().skip(1).copied();
        let next = next.chain([self.active.first_seq]);
        let synced = self.synced_seq();
        RetentionJob {
            folder: Arc::clone(&self.folder),
            candidates: std::iter::zip(self.older.iter().copied(), next)
                .take_while(|&(_, next)| next <= synced)
                .collect(),
            cutoff_ms,
        }
    }

    /// Whether there are several segments.
    pub fn has_older_segments(&self) -> bool {
        !self.older.is_empty()
    }

    /// Up to when the oldest of several segments reaches, in Unix milliseconds; `None` if there is only one. Blocking.
    ///
    /// # Errors
    /// The next one's header can't be read.
    pub fn oldest_ends_ms(&self) -> io::Result<Option<i64>> {
        match (self.older.first(), self.older.get(1)) {
            (Some(_), Some(next)) => Ok(read_header(&self.folder, *next)?.map(|header| header.created_ms)),
            (Some(_), None) => Ok(Some(self.active.created_ms)),
            (None, _) => Ok(None),
        }
    }

    /// Notes what a [`RetentionJob`] removed: every segment before the one that starts with event `first_kept`.
    pub fn finish_retention(&mut self, first_kept: u64) {
        Arc::make_mut(&mut self.older).retain(|&first| first >= first_kept);
    }
}

impl RetentionJob {
    /// Whether there is nothing to remove.
    pub fn is_empty(&self) -> bool {
        self.candidates.is_empty()
    }

    /// Removes what may go, and returns the first sequence number still there, `None` if nothing went.
    /// Blocking. A segment counts as old once the one after it was begun before the cutoff.
    pub fn run(&self) -> io::Result<Option<u64>> {
        let mut first_kept = None;
        let listing = self.folder.list()?;
        let [oldest, _, ..] = listing.snapshots.as_slice() else {
            return Ok(None);
        };
        for &(first, next) in &self.candidates {
            let Some(segment) = listing.segments.iter().find(|segment| segment.first_seq == first) else {
                // An earlier run removed it, and ended before it could report that.
                first_kept = Some(next);
                continue;
            };
            let path = self.folder.current(*segment);
            let is_settled = if segment.raw {
                !segment.compressed && self.folder.disk.open(&path, OpenMode::Read)?.size()? > MAX_COMPRESSIBLE
            } else {
                segment.compressed
            };
            if !is_settled || next - 1 > *oldest {
                break;
            }
            match read_header(&self.folder, next)? {
                Some(header) if header.created_ms <= self.cutoff_ms => {}
                _ => break,
            }
            self.folder.remove_if_there(&path)?;
            // One by one: a power failure must not bring back an older segment without the newer ones.
            self.folder.sync()?;
            first_kept = Some(next);
        }
        Ok(first_kept)
    }
}

#[cfg(test)]
mod tests {
    use crate::segment::MAX_COMPRESSIBLE;
    use crate::tests::{TENANT, append, compress, fresh, recovered, sync};
    use crate::writer::JournalOptions;
    use std::io::Write;
    use std::ops::ControlFlow;

    #[test]
    fn only_old_covered_and_compressed_segments_go() {
        let (dir, mut journal) = fresh(JournalOptions { segment_bytes: 1 });
        for day in 0..6 {
            append(&mut journal, 10);
            journal.flush().unwrap();
            sync(&mut journal, day);
            journal.rotate_if_due(day + 1).unwrap();
            if day == 3 {
                journal.begin_snapshot(journal.written_seq()).run(|file| file.write_all(b"four")).unwrap();
            }
        }
        assert_eq!(journal.begin_retention(100).run().unwrap(), None);
        journal.begin_snapshot(journal.written_seq()).run(|file| file.write_all(b"six")).unwrap();
        assert_eq!(journal.begin_retention(100).run().unwrap(), None, "uncompressed");
        sync(&mut journal, 9);
        compress(&mut journal);
        assert_eq!(journal.begin_retention(0).run().unwrap(), None, "too young");
        let reader = journal.reader();
        assert_eq!(journal.begin_retention(3).run().unwrap(), Some(4));
        journal.finish_retention(4);
        assert_eq!(journal.begin_retention(100).run().unwrap(), Some(5));
        journal.finish_retention(5);
        assert_eq!(journal.begin_retention(100).run().unwrap(), None, "not covered");
        for reader in [reader, journal.reader()] {
            let mut seen = Vec::new();
            let mut see = |seq, _: &[u8]| {
                seen.push(seq);
                ControlFlow::Continue(())
            };
            reader.newest_first(None, &mut see).unwrap();
            reader.oldest_first(0, &mut see).unwrap();
            assert_eq!(seen, [6, 5, 5, 6]);
            assert_eq!(reader.get(2).unwrap(), None);
            assert!(reader.verify().is_ok());
        }
        assert_eq!(journal.begin_retention(3).run().unwrap(), None, "nothing is left to do");
        journal.close(9).unwrap();
        assert_eq!(recovered(dir.path(), TENANT, 4).unwrap().1.len(), 2);
        assert!(recovered(dir.path(), TENANT, 3).is_err());
    }

    #[test]
    fn one_that_is_too_large_to_be_compressed_keeps_nothing_from_going() {
        let (_dir, mut journal) = fresh(JournalOptions { segment_bytes: 1 });
        for day in 0..3 {
            append(&mut journal, 10);
            journal.flush().unwrap();
            sync(&mut journal, day);
            journal.rotate_if_due(day + 1).unwrap();
            journal.begin_snapshot(journal.written_seq()).run(|file| file.write_all(b"state")).unwrap();
        }
        let large = journal.folder.raw(1);
        std::fs::OpenOptions::new().write(true).open(&large).unwrap().set_len(MAX_COMPRESSIBLE + 1).unwrap();
        sync(&mut journal, 9);
        compress(&mut journal);
        assert!(large.exists());
        assert_eq!(journal.begin_retention(100).run().unwrap(), Some(3));
        assert!(!large.exists());
    }

    #[test]
    fn a_run_goes_on_where_one_before_it_broke_off() {
        let (_dir, mut journal) = fresh(JournalOptions { segment_bytes: 1 });
        for day in 0..4 {
            append(&mut journal, 10);
            journal.flush().unwrap();
            sync(&mut journal, day);
            journal.rotate_if_due(day + 1).unwrap();
        }
        sync(&mut journal, 9);
        compress(&mut journal);
        for state in [b"one", b"two"] {
            append(&mut journal, 10);
            journal.flush().unwrap();
            sync(&mut journal, 9);
            journal.begin_snapshot(journal.written_seq()).run(|file| file.write_all(state)).unwrap();
        }
        std::fs::remove_file(journal.folder.compressed(1)).unwrap();
        assert_eq!(journal.begin_retention(3).run().unwrap(), Some(4));
        journal.finish_retention(4);
        // All that is old is gone, and nobody said so.
        std::fs::remove_file(journal.folder.compressed(4)).unwrap();
        assert_eq!(journal.begin_retention(3).run().unwrap(), Some(5));
    }
}

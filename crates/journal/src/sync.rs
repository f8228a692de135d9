//! Making written events durable, apart from writing them.
//!
//! The owner takes a [`SyncJob`], lets another thread run it, and reports its [`SyncPoint`] back, upon which a
//! marker tells the file what is known to be on disk.

use std::io;
use std::sync::Arc;

use crate::folder::Folder;
use crate::segment::SegmentFile;
use crate::writer::Journal;

/// How far a sync reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncPoint {
    /// The last event covered.
    pub seq: u64,
    /// The first sequence number of the segment that was active, which names its file.
    pub segment: u64,
    /// Bytes covered of that file. All older segments are covered whole.
    pub offset: u64,
}

/// What the journal knows of the disk.
#[derive(Debug, Default)]
pub(super) struct SyncState {
    /// The last event on disk.
    seq: u64,
    /// Bytes of the active segment on disk; 0 while not even its header is known to be.
    offset: u64,
    /// What the last marker said of `seq`.
    told: u64,
    /// Where the last marker ends that was written to the active segment since it was opened; 0 where none was.
    marked: u64,
    /// Rotated segments with bytes that may not be on disk, oldest first.
    rotated: Vec<Arc<SegmentFile>>,
    /// Rotated segments wholly on disk that nobody was asked to seal.
    sealable: Vec<u64>,
    /// The newest segment whose entry in the folder is on disk.
    entered: u64,
}

impl SyncState {
    /// As recovery finds it: `told` is what the last marker said.
    pub fn recovered(seq: u64, told: u64, offset: u64, entered: u64, rotated: Vec<Arc<SegmentFile>>) -> Self {
        Self { seq, offset, told, marked: 0, rotated, sealable: Vec::new(), entered }
    }

    pub fn seq(&self) -> u64 {
        self.seq
    }

    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// A marker was written that says so, and ends there.
    pub fn told(&mut self, synced_seq: u64, end: u64) {
        self.told = synced_seq;
        self.marked = end;
    }

    /// Whether the last marker may not be on disk itself.
    fn has_unsynced_marker(&self) -> bool {
        self.marked > self.offset
    }

    /// The active segment was rotated; its closing marker, at least, is not on disk.
    pub fn rotated(&mut self, file: Arc<SegmentFile>) {
        self.rotated.push(file);
        (self.offset, self.marked) = (0, 0);
    }

    pub fn has_rotated(&self) -> bool {
        !self.rotated.is_empty()
    }

    pub fn take_sealable(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.sealable)
    }

    fn reached(&mut self, point: SyncPoint, active: u64) {
        self.seq = self.seq.max(point.seq);
        self.entered = self.entered.max(point.segment);
        if point.segment == active {
            self.offset = self.offset.max(point.offset);
        }
        let Self { rotated, sealable, .. } = self;
        rotated.retain(|file| {
            let waits = file.first_seq >= point.segment;
            if !waits {
                sealable.push(file.first_seq);
            }
            waits
        });
    }
}

/// A sync to be run off the owner's thread.
#[derive(Debug)]
pub struct SyncJob {
    /// Oldest first, the active segment last.
    files: Vec<Arc<SegmentFile>>,
    pub(super) folder: Arc<Folder>,
    folder_too: bool,
    pub(super) point: SyncPoint,
}

impl SyncJob {
    /// Files that will be synced.
    pub fn files(&self) -> usize {
        self.files.len()
    }

    /// Where the sync reaches once it succeeded.
    pub fn point(&self) -> SyncPoint {
        self.point
    }

    /// Waits until everything up to the point is on disk. Blocking. A newer segment is never on disk for
    /// certain before the older ones are.
    pub fn run(&self) -> io::Result<SyncPoint> {
        for file in &self.files {
            file.sync()?;
        }
        if self.folder_too {
            self.folder.sync()?;
        }
        Ok(self.point)
    }

    /// [`run`](SyncJob::run) for a job whose file system was synced as a whole: what is left is to make sure
    /// that no sync of its files failed before.
    pub(super) fn confirm(&self) -> io::Result<SyncPoint> {
        for file in &self.files {
            file.check()?;
        }
        Ok(self.point)
    }
}

impl Journal {
    /// A job that makes durable all that is written now. Several may be under way.
    pub fn begin_sync(&self) -> SyncJob {
        let active = self.active.first_seq();
        let mut files = self.sync.rotated.clone();
        files.push(Arc::clone(&self.active.file));
        SyncJob {
            files,
            folder: Arc::clone(&self.folder),
            folder_too: self.sync.entered < active,
            point: SyncPoint { seq: self.written, segment: active, offset: self.active.end },
        }
    }

    /// Takes note of a sync that succeeded, and writes a marker (no sync) that says so, if it brought
    /// anything new. Pending events are flushed first, since the marker comes after them. The sync counts
    /// even where the marker cannot be written.
    pub fn finish_sync(&mut self, point: SyncPoint, now_ms: i64) -> io::Result<()> {
        let active = self.active.first_seq();
        self.sync.reached(point, active);
        self.check()?;
        if self.sync.seq > self.sync.told {
            self.flush()?;
            self.write_marker(now_ms)?;
        }
        Ok(())
    }

    /// Writes and syncs everything, ending with a marker that is on disk too. Blocking: not for the owner's
    /// worker thread. A journal with nothing new is not touched.
    pub fn close(mut self, now_ms: i64) -> io::Result<()> {
        self.settle(now_ms)
    }

    /// [`close`](Journal::close) that leaves it open.
    pub(super) fn settle(&mut self, now_ms: i64) -> io::Result<()> {
        self.flush()?;
        let unlinked = |journal: &Self| journal.chain.link().seq < journal.written;
        if self.is_dirty() || self.sync.seq > self.sync.told || unlinked(self) {
            let point = self.begin_sync().run()?;
            self.finish_sync(point, now_ms)?;
            if unlinked(self) {
                self.write_marker(now_ms)?;
            }
        }
        if self.sync.has_unsynced_marker() {
            self.active.file.sync()?;
            self.sync.marked = 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::fresh;
    use crate::writer::JournalOptions;

    #[test]
    fn a_rotated_segment_is_sealed_only_after_a_sync_that_covers_its_closing_marker() {
        let (_dir, mut journal) = fresh(JournalOptions { segment_bytes: 1 });
        journal.append(1, |_| {}).unwrap();
        journal.flush().unwrap();
        let early = journal.begin_sync();
        assert!(journal.rotate_if_due(0).unwrap());
        journal.finish_sync(early.run().unwrap(), 0).unwrap();
        assert_eq!(journal.synced_seq(), 1);
        assert!(journal.take_sealed().is_empty());
        assert!(journal.is_dirty());
        let job = journal.begin_sync();
        assert_eq!(job.files(), 2);
        journal.finish_sync(job.run().unwrap(), 0).unwrap();
        assert!(!journal.is_dirty());
        assert_eq!(journal.take_sealed().len(), 1);
        assert!(journal.take_sealed().is_empty());
    }

    #[test]
    fn syncs_may_come_back_in_any_order() {
        let (_dir, mut journal) = fresh(JournalOptions::default());
        journal.append(1, |_| {}).unwrap();
        journal.flush().unwrap();
        let first = journal.begin_sync().run().unwrap();
        journal.append(2, |_| {}).unwrap();
        journal.flush().unwrap();
        let second = journal.begin_sync().run().unwrap();
        journal.finish_sync(second, 0).unwrap();
        let end = journal.active.end;
        journal.finish_sync(first, 0).unwrap();
        assert_eq!((journal.synced_seq(), journal.active.end), (2, end));
    }
}

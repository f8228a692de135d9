//! How written events become durable, apart from writing them.
//!
//! The owner takes a [`SyncJob`], lets another thread run it, and reports the [`SyncPoint`] back. A marker then records
//! in the file what is known to be on disk.

use std::io;
use std::sync::Arc;

use crate::sync_job::{SyncJob, SyncPoint};
use crate::writer::Journal;

impl Journal {
    /// A job that makes everything written so far durable. Several may run at once.
    pub fn begin_sync(&self) -> SyncJob {
        let active = self.active.first_seq;
        let mut files = self.sync.rotated_files().to_vec();
        // All of a closed file is on disk, but for what is written again.
        let offset = self.active.file.as_ref().map_or(self.sync.offset(), |_| self.active.end);
        files.extend(self.active.file.clone());
        SyncJob {
            files,
            folder: Arc::clone(&self.folder),
            folder_too: self.sync.needs_folder_sync(active),
            point: SyncPoint { seq: self.written, segment: active, offset },
        }
    }

    /// Takes note of a sync that succeeded. If it brought anything new, writes a marker that records it. The marker itself
    /// is not synced. Closes the file if nothing else was written since.
    ///
    /// # Errors
    /// The marker could not be written. The sync counts all the same.
    pub fn finish_sync(&mut self, point: SyncPoint, now_ms: i64) -> io::Result<()> {
        let noted = self.note_sync(point, now_ms);
        self.close_file_if_synced();
        noted
    }

    fn note_sync(&mut self, point: SyncPoint, now_ms: i64) -> io::Result<()> {
        self.sync.reached(point, self.active.first_seq);
        self.check()?;
        // While another thread writes to the file, the marker waits for the next sync.
        if self.sync.needs_marker() && !self.is_flushing {
            self.write_marker(now_ms)?;
        }
        Ok(())
    }

    /// Writes and syncs everything, up to a last marker that is on disk too. Leaves a journal alone that has nothing
    /// new. Blocking, so not for the owner's thread.
    ///
    /// # Errors
    /// What the disk reports; some of it may be on disk then.
    pub fn close(mut self, now_ms: i64) -> io::Result<()> {
        self.settle(now_ms)
    }

    /// [`close`](Journal::close), but the journal stays open.
    pub(super) fn settle(&mut self, now_ms: i64) -> io::Result<()> {
        self.flush()?;
        let unlinked = |journal: &Self| journal.chain.link().seq < journal.written;
        if self.is_dirty() || self.sync.needs_marker() || unlinked(self) {
            let point = self.begin_sync().run()?;
            self.note_sync(point, now_ms)?;
            if unlinked(self) {
                self.write_marker(now_ms)?;
            }
        }
        if self.sync.has_unsynced_marker() {
            self.open_file()?.sync()?;
            self.sync.marker_synced();
        }
        self.close_file_if_synced();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::fresh;
    use crate::writer::JournalOptions;

    #[test]
    fn a_rotated_segment_is_compressed_only_after_a_sync_that_covers_its_closing_marker() {
        let (_dir, mut journal) = fresh(JournalOptions { segment_bytes: 1 });
        journal.append(1, |_| {}).unwrap();
        journal.flush().unwrap();
        let early = journal.begin_sync();
        assert!(journal.rotate_if_due(0).unwrap());
        journal.finish_sync(early.run().unwrap(), 0).unwrap();
        assert_eq!(journal.synced_seq(), 1);
        assert!(journal.take_compression_jobs().is_empty());
        assert!(journal.is_dirty() && journal.has_full_segment());
        let job = journal.begin_sync();
        assert_eq!(job.files(), 2);
        journal.finish_sync(job.run().unwrap(), 0).unwrap();
        assert!(!journal.is_dirty() && !journal.has_full_segment());
        assert_eq!(journal.take_compression_jobs().len(), 1);
        assert!(journal.take_compression_jobs().is_empty());
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

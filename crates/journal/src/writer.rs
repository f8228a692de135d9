//! The writing end of one tenant's journal.
//!
//! It lives on an async worker thread. Appending touches only memory. What makes an event durable is the log, which the
//! owner fills; the journal's own file gets events later, in large pieces, and until then they are the tenant's tail.
//! Work that waits for the disk or compresses is handed out as a job for another thread.

use std::io;
use std::sync::Arc;

use crate::active::Active;
use crate::chain::{Chain, Checkpoint};
use crate::folder::Folder;
use crate::frame::{self, AppendError, Marker};
use crate::segment::{SegmentFile, SegmentHeader};
use crate::sync_state::SyncState;
use crate::tail::Tail;

/// When segments rotate.
#[derive(Clone, Copy, Debug)]
pub struct JournalOptions {
    /// The size in bytes at which a new segment starts. 16 MiB by default: small enough to read one into memory, large
    /// enough that a busy tenant has few files.
    pub segment_bytes: u64,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self { segment_bytes: 16 << 20 }
    }
}

const DAY_MS: i64 = 86_400_000;

/// The durable log of one tenant, ready to take the next event.
///
/// The owner appends, applies, has the log take the event, and answers its callers. Now and then it has another thread
/// [flush](Journal::begin_flush) the tail to the file, starts a sync if the journal [`is_dirty`](Journal::is_dirty), and asks for rotation. Where a file is left in a
/// state that only recovery can mend, the journal refuses to go on ([`is_broken`](Journal::is_broken)): the owner drops
/// it and its state, and recovers both from folder and log.
#[derive(Debug)]
pub struct Journal {
    pub(super) folder: Arc<Folder>,
    pub(super) tenant: [u8; 16],
    pub(super) options: JournalOptions,
    /// First sequence numbers of all segments before the active one, oldest first.
    pub(super) older: Arc<Vec<u64>>,
    pub(super) active: Active,
    /// The events that are not in the file yet.
    pub(super) tail: Tail,
    /// Whether another thread writes to the file.
    pub(super) is_flushing: bool,
    /// The last event in the file.
    pub(super) written: u64,
    pub(super) chain: Chain,
    pub(super) sync: SyncState,
    pub(super) broken: bool,
}

impl Journal {
    /// Starts a journal, or goes on with one, in a new segment right after `link`. Nothing is synced.
    pub(super) fn start(
        folder: Arc<Folder>,
        tenant: [u8; 16],
        options: JournalOptions,
        older: Vec<u64>,
        link: Checkpoint,
        now_ms: i64,
    ) -> io::Result<Self> {
        let header = SegmentHeader { tenant, first_seq: link.seq + 1, created_ms: now_ms, previous: link.hash };
        let file = SegmentFile::create(&folder, &header).map_err(|error| error.source)?;
        Ok(Self {
            folder,
            tenant,
            options,
            older: Arc::new(older),
            active: Active::created(file, &header),
            tail: Tail::after(link.seq),
            is_flushing: false,
            written: link.seq,
            chain: Chain::resume(link),
            sync: SyncState::default(),
            broken: false,
        })
    }

    /// Takes event `seq`, which must be [`next_seq`](Journal::next_seq), into the tail, and returns its frame. `encode`
    /// appends the payload to the buffer it is given, and may do nothing else to it. Touches no file.
    ///
    /// # Errors
    /// The journal is unchanged.
    #[inline]
    pub fn append(&mut self, seq: u64, encode: impl FnOnce(&mut Vec<u8>)) -> Result<&[u8], AppendError> {
        let expected = self.next_seq();
        if seq != expected {
            return Err(AppendError::OutOfOrder { expected, found: seq });
        }
        self.tail.push(encode)
    }

    /// The last bytes of the tail, none of them from before it was last [sealed](Journal::seal_tail).
    pub fn newest(&self, bytes: usize) -> &[u8] {
        let newest = self.tail.newest();
        newest.get(newest.len() - bytes.min(newest.len())..).unwrap_or_default()
    }

    /// Bytes of the events that came since the tail was last [sealed](Journal::seal_tail).
    pub fn unsealed_bytes(&self) -> usize {
        self.tail.newest().len()
    }

    /// Takes events that the log has and the file lacks: the frames of those up to `last_seq`.
    pub(super) fn extend(&mut self, frames: &[u8], last_seq: u64) {
        self.tail.extend(frames, last_seq);
    }

    /// Starts a new segment where the active one is full or of an earlier UTC day than `now_ms` (Unix
    /// milliseconds); says whether it did. A segment without events is never rotated. `now_ms` may not be before the time of any event, since retention takes it for the time
    /// up to which the old segment reaches. Where the new file cannot be made, the error is returned, nothing has changed, and the
    /// active segment stays usable.
    pub fn rotate_if_due(&mut self, now_ms: i64) -> io::Result<bool> {
        self.check()?;
        self.check_not_flushing()?;
        if self.written < self.active.first_seq {
            return Ok(false);
        }
        let full = self.active.end >= self.options.segment_bytes;
        let new_day = now_ms.div_euclid(DAY_MS) > self.active.created_ms.div_euclid(DAY_MS);
        if !full && !new_day {
            return Ok(false);
        }
        let header = SegmentHeader {
            tenant: self.tenant,
            first_seq: self.written + 1,
            created_ms: now_ms,
            previous: self.chain.next_hash(),
        };
        // Create the new file first, since that is what fails on a full disk. A crash before the closing marker leaves
        // a header that does not continue the chain; recovery removes it as a torn tail.
        let file = SegmentFile::create(&self.folder, &header).map_err(|error| {
            self.broken |= error.left_behind;
            error.source
        })?;
        if let Err(error) = self.write_marker(now_ms) {
            let removed = self.folder.remove_if_there(&self.folder.raw(header.first_seq));
            self.broken |= removed.is_err();
            return Err(error);
        }
        let old = std::mem::replace(&mut self.active, Active::created(file, &header));
        Arc::make_mut(&mut self.older).push(old.first_seq);
        // It is open, since the marker was written to it.
        self.sync.rotated(old.file);
        Ok(true)
    }

    /// Writes the next link of the chain, and what is known to be on disk. On an error nothing has changed,
    /// or the journal is broken.
    pub(super) fn write_marker(&mut self, now_ms: i64) -> io::Result<()> {
        let marker = Marker {
            synced_seq: self.sync.seq(),
            synced_offset: self.sync.offset(),
            time_ms: now_ms,
            hash: self.chain.next_hash(),
        };
        let frame = frame::marker_frame(&marker);
        if let Err(error) = self.write_at_end(&frame) {
            // Half a marker may be in the file. If it can't be cut off now, only recovery can do that.
            if let Some(file) = &self.active.file {
                self.broken |= file.file().set_size(self.active.end).is_err();
            }
            self.close_file_if_synced();
            return Err(error);
        }
        self.active.since_event.extend_from_slice(&frame);
        self.sync.marker_written(marker.synced_seq, self.active.end);
        self.chain = Chain::resume(Checkpoint { seq: self.written, hash: marker.hash, time_ms: now_ms });
        Ok(())
    }

    fn write_at_end(&mut self, bytes: &[u8]) -> io::Result<()> {
        let end = self.active.end;
        self.open_file()?.file().write_all_at(bytes, end).map_err(|(_, error)| error)?;
        self.active.end += bytes.len() as u64;
        Ok(())
    }

    /// The active segment's file, which is opened if it is closed. If it is not what was written, the journal is broken.
    pub(super) fn open_file(&mut self) -> io::Result<&SegmentFile> {
        let file = self.active.opener().open(&self.folder).map_err(|error| self.not_opened(error))?;
        Ok(self.active.file.insert(file))
    }

    /// Takes note that the file could not be opened.
    pub(super) fn not_opened(&mut self, error: io::Error) -> io::Error {
        self.broken |= matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData);
        error
    }

    /// Closes the active segment's file if it has nothing left that a sync has to cover.
    pub(super) fn close_file_if_synced(&mut self) {
        if self.active.may_be_closed(self.sync.offset()) {
            self.active.file = None;
        }
    }

    pub(super) fn check(&self) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("this journal failed to write earlier and has to be recovered from disk"));
        }
        Ok(())
    }

    /// The sequence number of the next event.
    pub fn next_seq(&self) -> u64 {
        self.tail.last_seq() + 1
    }

    /// Bytes of the events that are not in the file yet.
    pub fn tail_bytes(&self) -> usize {
        self.tail.bytes()
    }

    /// The last event in the file; 0 before the first.
    pub fn written_seq(&self) -> u64 {
        self.written
    }

    /// The last event known to be on disk; 0 before the first.
    pub fn synced_seq(&self) -> u64 {
        self.sync.seq()
    }

    /// Whether a sync would make anything durable, or close a file.
    pub fn is_dirty(&self) -> bool {
        self.written > self.sync.seq() || self.active.file.is_some() || !self.sync.rotated_files().is_empty()
    }

    /// Whether only recovery can mend what a failed write left.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Writes a link that covers all written events, where there is none yet, and returns it. It is on disk once
    /// a sync that begins after this is done. On an error nothing has changed, or the journal is broken.
    pub fn link(&mut self, now_ms: i64) -> io::Result<Checkpoint> {
        self.check()?;
        self.check_not_flushing()?;
        if self.chain.link().seq < self.written {
            self.write_marker(now_ms)?;
        } else if self.sync.offset() < self.active.end {
            // The link was written, but may not be on disk. Opening the file writes it again, for that sync.
            self.open_file()?;
        }
        Ok(self.chain.link())
    }

    /// The newest link of the hash chain.
    pub fn checkpoint(&self) -> Checkpoint {
        self.chain.link()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synced_file::SyncFailure;
    use crate::tests::{TENANT, fresh};
    use std::fs::OpenOptions;

    fn full_disk(first_seq: u64) -> Arc<SegmentFile> {
        let file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        Arc::new(SegmentFile::new(first_seq, Box::new(file), SyncFailure::default()))
    }

    #[test]
    fn a_failed_flush_loses_nothing_and_is_repeated() {
        let (dir, mut journal) = fresh(JournalOptions::default());
        journal.append(1, |b| b.extend_from_slice(b"one")).unwrap();
        journal.flush().unwrap();
        let before = journal.checkpoint();
        journal.append(2, |b| b.extend_from_slice(b"two")).unwrap();
        let file = journal.active.file.replace(full_disk(1));
        let error = journal.flush().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(!journal.is_broken());
        assert_eq!((journal.written_seq(), journal.checkpoint()), (1, before));
        journal.append(3, |_| {}).unwrap();
        journal.active.file = file;
        journal.flush().unwrap();
        drop(journal);
        let (_, events) = crate::tests::recovered(dir.path(), TENANT, 0).unwrap();
        assert_eq!(events, [(1, b"one".to_vec()), (2, b"two".to_vec()), (3, Vec::new())]);
    }

    #[test]
    fn a_rotation_that_fails_changes_nothing() {
        let (dir, mut journal) = fresh(JournalOptions { segment_bytes: 100 });
        journal.append(1, |b| b.resize(b.len() + 99, 7)).unwrap();
        journal.flush().unwrap();
        let (end, link) = (journal.active.end, journal.checkpoint());
        let blocker = journal.folder.raw(2);
        std::fs::create_dir(&blocker).unwrap();
        assert!(journal.rotate_if_due(5).is_err());
        assert!(!journal.is_broken());
        assert_eq!((journal.active.end, journal.checkpoint()), (end, link));
        std::fs::remove_dir(&blocker).unwrap();
        assert!(journal.rotate_if_due(5).unwrap());
        assert!(!journal.rotate_if_due(i64::MAX).unwrap(), "it is empty");
        journal.append(2, |_| {}).unwrap();
        journal.close(6).unwrap();
        let (journal, events) = crate::tests::recovered(dir.path(), TENANT, 0).unwrap();
        assert_eq!(events.len(), 2);
        assert_eq!(journal.synced_seq(), 2);
        assert_eq!(journal.reader().verify().unwrap(), journal.checkpoint());
    }

    #[test]
    fn a_marker_that_cannot_be_written_takes_the_new_segment_back() {
        let (_dir, mut journal) = fresh(JournalOptions { segment_bytes: 100 });
        journal.append(1, |b| b.resize(b.len() + 99, 7)).unwrap();
        journal.flush().unwrap();
        journal.active.file = Some(full_disk(1));
        assert!(journal.rotate_if_due(5).is_err());
        assert!(!journal.folder.raw(2).exists());
        assert_eq!(journal.active.first_seq, 1);
    }

    #[test]
    fn sequence_numbers_have_no_gaps() {
        let (_dir, mut journal) = fresh(JournalOptions::default());
        assert!(journal.append(2, |_| {}).is_err());
        journal.append(1, |_| {}).unwrap();
        assert!(journal.append(1, |_| {}).is_err());
        assert_eq!((journal.next_seq(), journal.written_seq()), (2, 0));
        journal.flush().unwrap();
        assert_eq!((journal.next_seq(), journal.written_seq()), (2, 1));
    }

    #[test]
    fn a_new_day_rotates() {
        let (_dir, mut journal) = fresh(JournalOptions::default());
        journal.append(1, |_| {}).unwrap();
        journal.flush().unwrap();
        assert!(!journal.rotate_if_due(DAY_MS - 1).unwrap());
        assert!(journal.rotate_if_due(DAY_MS).unwrap());
        journal.append(2, |_| {}).unwrap();
        journal.flush().unwrap();
        assert!(!journal.rotate_if_due(0).unwrap(), "time went back");
    }
}

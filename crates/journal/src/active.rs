//! The segment that takes new frames. Its file is open only while it may have bytes that are not on disk.
//!
//! With tens of thousands of tenants in memory, an open file for each would be too many. So the file is opened for the
//! first write, stays open until a sync covers what was written, and is closed then. Readers open files by themselves.
//!
//! The kernel reports a lost write once for each open file. So what a handle wrote is synced by the same handle, and
//! nothing is closed before that. A failed sync is remembered for the segment, not for the handle ([`SyncFailure`]).
//!
//! The last marker is an exception: it follows a sync, so the file is closed while the marker may not be on disk. The
//! kernel may lose it then, and nobody would hear of it. That alone does no harm. A marker says only what was on disk
//! before it, so without it recovery knows less and cuts it off like any torn tail. But an event that came after lost
//! bytes would be behind a bad spot, and cut off with it, though a sync had covered it. So whoever opens the file first
//! writes again what stands behind its last event ([`Active::since_event`]). Then the sync that covers the next event
//! covers that too.

use std::io;
use std::sync::Arc;

use crate::error::invalid;
use crate::folder::Folder;
use crate::index::Index;
use crate::segment::{HEADER, SegmentFile, SegmentHeader};
use crate::synced_file::SyncFailure;

/// The segment that takes new frames.
#[derive(Debug)]
pub(super) struct Active {
    pub first_seq: u64,
    pub created_ms: i64,
    /// Bytes written.
    pub end: u64,
    pub index: Index,
    /// What was written after the last event and may be lost: markers. Where recovery found no event, the header too.
    pub since_event: Vec<u8>,
    pub failure: SyncFailure,
    /// The file, while it is open.
    pub file: Option<Arc<SegmentFile>>,
}

impl Active {
    /// A new segment, which has just its header.
    pub fn created(file: SegmentFile, header: &SegmentHeader) -> Self {
        Self {
            first_seq: header.first_seq,
            created_ms: header.created_ms,
            end: HEADER as u64,
            index: Index::default(),
            since_event: Vec::new(),
            failure: file.failure(),
            file: Some(Arc::new(file)),
        }
    }

    /// Opens the file if it is closed, on any thread.
    pub fn opener(&self) -> FileOpener {
        FileOpener {
            file: self.file.clone(),
            first_seq: self.first_seq,
            events_end: self.events_end(),
            since_event: if self.file.is_some() { Vec::new() } else { self.since_event.clone() },
            failure: self.failure.clone(),
        }
    }

    /// The bytes that have to be on disk before the file may be closed.
    fn events_end(&self) -> u64 {
        self.end - self.since_event.len() as u64
    }

    /// Whether everything but what would be written again is among the first `synced` bytes.
    pub fn may_be_closed(&self, synced: u64) -> bool {
        synced >= self.events_end()
    }
}

/// Opens the active segment's file if it is closed.
#[derive(Debug)]
pub(super) struct FileOpener {
    file: Option<Arc<SegmentFile>>,
    first_seq: u64,
    events_end: u64,
    since_event: Vec<u8>,
    failure: SyncFailure,
}

impl FileOpener {
    /// The file. Blocking.
    ///
    /// # Errors
    /// `NotFound` and `InvalidData`: the file is not what was written. Each error names it.
    pub fn open(&self, folder: &Folder) -> io::Result<Arc<SegmentFile>> {
        if let Some(file) = &self.file {
            return Ok(Arc::clone(file));
        }
        let path = folder.raw(self.first_seq);
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let file = SegmentFile::open(folder, self.first_seq, self.failure.clone()).map_err(named)?;
        let (size, needed) = (file.file().size().map_err(named)?, self.events_end);
        if size < needed {
            return Err(invalid(&path, size, &format!("the file ends here, where {needed} bytes were on disk")));
        }
        file.file().write_all_at(&self.since_event, needed).map_err(|(_, error)| named(error))?;
        Ok(Arc::new(file))
    }
}

//! A sync that another thread runs, and how far it reaches.

use std::io;
use std::sync::Arc;

use crate::folder::Folder;
use crate::segment::SegmentFile;

/// How far a sync reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncPoint {
    /// The last event covered.
    pub seq: u64,
    /// The first event of the segment that was active, which names its file.
    pub segment: u64,
    /// Bytes covered of that file. Older segments are covered whole.
    pub offset: u64,
}

/// A sync, to be run off the owner's thread.
#[derive(Debug)]
pub struct SyncJob {
    /// Oldest first, the active segment last.
    pub(super) files: Vec<Arc<SegmentFile>>,
    pub(super) folder: Arc<Folder>,
    /// Whether the folder's entries have to be synced too.
    pub(super) folder_too: bool,
    pub(super) point: SyncPoint,
}

impl SyncJob {
    /// The number of files to sync.
    pub fn files(&self) -> usize {
        self.files.len()
    }

    /// How far the sync reaches if it succeeds.
    pub fn point(&self) -> SyncPoint {
        self.point
    }

    /// Waits until everything up to the point is on disk. Blocking. Files are synced oldest first, so a segment is
    /// never known to be on disk before the older ones are.
    ///
    /// # Errors
    /// What the disk reports, now or at an earlier sync of one of these files.
    pub fn run(&self) -> io::Result<SyncPoint> {
        for file in &self.files {
            file.sync()?;
        }
        if self.folder_too {
            self.folder.sync()?;
        }
        Ok(self.point)
    }

    /// [`run`](SyncJob::run) after the whole file system was synced: all that is left is to check that no earlier sync
    /// of these files failed.
    pub(super) fn confirm(&self) -> io::Result<SyncPoint> {
        for file in &self.files {
            file.check()?;
        }
        Ok(self.point)
    }
}

//! What the journal knows to be on disk, and how much of that the file records.

use std::sync::Arc;

use crate::segment::SegmentFile;
use crate::sync_job::SyncPoint;

/// What one journal knows of the disk.
#[derive(Debug, Default)]
pub(super) struct SyncState {
    /// The last event on disk.
    seq: u64,
    /// Bytes of the active segment on disk; 0 until its header is known to be there.
    offset: u64,
    /// The `seq` that the last marker records.
    recorded_seq: u64,
    /// Where the last marker in the active segment ends; 0 if none was written since the segment was opened.
    marker_end: u64,
    /// Rotated segments with bytes that may not be on disk, oldest first.
    rotated: Vec<Arc<SegmentFile>>,
    /// Rotated segments that are wholly on disk, and for which no compression job was handed out yet.
    compressible: Vec<u64>,
    /// The newest segment whose entry in the folder is on disk.
    entered: u64,
}

impl SyncState {
    /// The state after recovery.
    pub fn recovered(seq: u64, recorded_seq: u64, offset: u64, entered: u64, rotated: Vec<Arc<SegmentFile>>) -> Self {
        Self { seq, offset, recorded_seq, marker_end: 0, rotated, compressible: Vec::new(), entered }
    }

    pub fn seq(&self) -> u64 {
        self.seq
    }

    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether more is on disk than the last marker records.
    pub fn needs_marker(&self) -> bool {
        self.seq > self.recorded_seq
    }

    /// A marker that records `synced_seq` was written; it ends at byte `end` of the active segment.
    pub fn marker_written(&mut self, synced_seq: u64, end: u64) {
        self.recorded_seq = synced_seq;
        self.marker_end = end;
    }

    /// Whether the last marker may not be on disk itself.
    pub fn has_unsynced_marker(&self) -> bool {
        self.marker_end > self.offset
    }

    /// The last marker is on disk.
    pub fn marker_synced(&mut self) {
        self.marker_end = 0;
    }

    /// Whether the folder has to be synced before the entry of this segment is on disk.
    pub fn needs_folder_sync(&self, segment: u64) -> bool {
        self.entered < segment
    }

    /// The active segment was rotated. At least its closing marker is not on disk.
    pub fn rotated(&mut self, file: Option<Arc<SegmentFile>>) {
        self.rotated.extend(file);
        (self.offset, self.marker_end) = (0, 0);
    }

    /// Rotated segments with bytes that may not be on disk, oldest first.
    pub fn rotated_files(&self) -> &[Arc<SegmentFile>] {
        &self.rotated
    }

    pub fn take_compressible(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.compressible)
    }

    /// A sync reached that point; `active` is the first event of the segment that is active now.
    pub fn reached(&mut self, point: SyncPoint, active: u64) {
        self.seq = self.seq.max(point.seq);
        self.entered = self.entered.max(point.segment);
        if point.segment == active {
            self.offset = self.offset.max(point.offset);
        }
        let Self { rotated, compressible, .. } = self;
        rotated.retain(|file| {
            let waits = file.first_seq >= point.segment;
            if !waits {
                compressible.push(file.first_seq);
            }
            waits
        });
    }
}

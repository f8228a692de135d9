//! What recovery found when it read a journal: how far its frames are intact, and what lies behind them.

use crate::chain::Chain;
use crate::index::Index;
use crate::segment::SegmentHeader;

/// What reading a journal found.
pub(super) struct Scan {
    pub last_seq: u64,
    /// The last event on disk for certain.
    pub synced_seq: u64,
    /// The last event that a marker records as on disk.
    pub recorded_seq: u64,
    /// Segments, up to the last intact one, that may not be on disk; oldest first.
    pub unsynced: Vec<UnsyncedSegment>,
    pub intact: IntactEnd,
    /// What is wrong behind the intact frames, if anything is there.
    pub torn: Option<BadSpot>,
}

/// The segment in which the intact frames end.
pub(super) struct IntactEnd {
    /// Its place in the list of segments.
    pub at: usize,
    pub header: SegmentHeader,
    /// The byte behind its last intact frame.
    pub end: u64,
    /// The byte behind its last intact event; 0 where there is none.
    pub events_end: u64,
    pub chain: Chain,
    pub index: Index,
    /// Bytes of it on disk for certain.
    pub synced_offset: u64,
}

/// A segment that was read, but may not be on disk as a whole.
pub(super) struct UnsyncedSegment {
    pub first_seq: u64,
    pub bytes: Vec<u8>,
    /// How many of them are on disk for certain.
    pub synced_offset: u64,
}

/// The first bytes that make no sense.
pub(super) struct BadSpot {
    /// The segment's place in the list of segments.
    pub at: usize,
    pub offset: u64,
    pub detail: String,
}

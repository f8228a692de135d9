//! A sparse index of the active segment, just fine enough to read it in blocks from either end.

/// Bytes between two entries (64 KiB). A page of a log takes one block, and a full segment has 256 entries of 16 bytes.
const SPACING: u64 = 64 << 10;

/// An event and where its frame starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IndexEntry {
    pub offset: u64,
    pub seq: u64,
}

/// The sparse index of one segment.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    places: Vec<IndexEntry>,
    due: u64,
}

impl Index {
    /// Notes the next event. Most are not kept.
    #[inline]
    pub fn note(&mut self, offset: u64, seq: u64) {
        if offset >= self.due {
            self.places.push(IndexEntry { offset, seq });
            self.due = offset + SPACING;
        }
    }

    /// An empty index of what comes next.
    pub fn continued(&self) -> Self {
        Self { places: Vec::new(), due: self.due }
    }

    /// Adds what a [`continued`](Index::continued) one has noted.
    pub fn append(&mut self, next: Self) {
        self.places.extend(next.places);
        self.due = next.due;
    }

    /// The entries before a file offset.
    pub fn before(&self, end: u64) -> Vec<IndexEntry> {
        let upto = self.places.partition_point(|place| place.offset < end);
        self.places.iter().take(upto).copied().collect()
    }
}

//! Whether a crash explains bad bytes in a segment, or whether they are damage.

use crate::folder::SegmentEntry;
use crate::frame;

/// A place in a segment where the bytes are bad.
#[derive(Clone, Copy)]
pub(super) struct SuspectPlace {
    pub offset: u64,
    /// The event that has to come next there.
    pub next_seq: u64,
    /// The last event known to be on disk from what comes before the place, or from a snapshot.
    pub synced_seq: u64,
}

/// Whether the bytes at that place had certainly reached the disk, so that no crash explains what is wrong with them.
/// `segments` starts with the segment of the place, `bytes` is its content, and `load` reads a later one.
pub(super) fn was_on_disk<E>(
    segments: &[SegmentEntry],
    bytes: &[u8],
    place: SuspectPlace,
    load: &mut dyn FnMut(SegmentEntry) -> Result<Vec<u8>, E>,
) -> Result<bool, E> {
    let mut synced_seq = place.synced_seq;
    let mut certain = false;
    for (at, &entry) in segments.iter().enumerate() {
        // A segment is compressed only once it and all older ones are on disk.
        certain |= entry.compressed;
        let marker = match at {
            0 => frame::last_marker(bytes),
            _ if entry.raw => frame::last_marker(&load(entry)?),
            _ => None,
        };
        if let Some(marker) = marker {
            synced_seq = synced_seq.max(marker.synced_seq);
            let needed = if at == 0 { place.offset } else { 0 };
            certain |= marker.synced_offset > needed;
        }
    }
    Ok(certain || place.next_seq <= synced_seq)
}

//! Batches, the units in which the log is written. The module's page describes their bytes.

use super::manifest::LogId;
use crate::frame::{self, Frame};

/// No client can place it inside an event: 0xFF and 0xFE never occur in UTF-8, and it is longer than a number.
pub(super) const MAGIC: [u8; 16] = *b"\xFF\xFEKAVA\xFE\xFF\xFF\xFELBAT\xFE\xFF";

const HEAD: usize = 96;
const SECTION: usize = 36;
const LAST: usize = 24;

/// Most sections of one batch. A length that was flipped must not make recovery believe in a table of gigabytes.
pub(super) const MAX_SECTIONS: usize = 1 << 16;

/// One tenant's events in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Section {
    pub tenant: [u8; 16],
    pub first_seq: u64,
    pub last_seq: u64,
    /// Bytes of its frames.
    pub length: u32,
}

/// The last event of a tenant in the batches before. It names the tenants of batches that can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LastEvent {
    pub tenant: [u8; 16],
    pub seq: u64,
}

/// The first batch that recovery needs. Folders have all events of the batches before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Floor {
    pub position: u64,
    /// The batch at that position is of this segment or a later one.
    pub segment: u64,
}

/// What a batch says beside its frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BatchHead {
    pub segment: u64,
    pub position: u64,
    pub floor: Floor,
    /// The last batch that was on disk for certain when this one was written.
    pub synced: u64,
    pub sections: Vec<Section>,
    /// The first of the batches that `previous` is about; the last is the one before.
    pub previous_from: u64,
    pub previous: Vec<LastEvent>,
}

/// The bytes of a batch with these frames, which are those of the sections in order.
pub(super) fn encode(head: &BatchHead, id: LogId, frames: &[u8], bytes: &mut Vec<u8>) {
    bytes.clear();
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&id);
    for number in
        [head.segment, head.position, head.floor.position, head.floor.segment, head.synced, head.previous_from]
    {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    for count in [head.sections.len(), head.previous.len(), frames.len()] {
        bytes.extend_from_slice(&(count as u32).to_le_bytes());
    }
    let crc_at = bytes.len();
    bytes.extend_from_slice(&[0; 4]);
    for section in &head.sections {
        bytes.extend_from_slice(&section.tenant);
        bytes.extend_from_slice(&section.first_seq.to_le_bytes());
        bytes.extend_from_slice(&section.last_seq.to_le_bytes());
        bytes.extend_from_slice(&section.length.to_le_bytes());
    }
    for last in &head.previous {
        bytes.extend_from_slice(&last.tenant);
        bytes.extend_from_slice(&last.seq.to_le_bytes());
    }
    let crc = checksum(bytes);
    if let Some(field) = bytes.get_mut(crc_at..crc_at + 4) {
        field.copy_from_slice(&crc.to_le_bytes());
    }
    bytes.extend_from_slice(frames);
}

/// Bytes that a batch with these numbers of entries has.
pub(super) fn size(sections: usize, previous: usize, frames: usize) -> u64 {
    (HEAD + sections * SECTION + previous * LAST + frames) as u64
}

/// Over everything before the frames, without the checksum's own bytes.
fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(bytes.get(..HEAD - 4).unwrap_or_default());
    crc.update(bytes.get(HEAD..).unwrap_or_default());
    crc.finalize()
}

/// A batch with a good head, at the start of some bytes.
#[derive(Debug)]
pub(super) struct FoundBatch {
    pub head: BatchHead,
    /// Its length with its frames. These may be cut short.
    pub length: usize,
}

/// Reads the head of a batch of this log at the start of `bytes`.
pub(super) fn parse(bytes: &[u8], id: LogId) -> Option<FoundBatch> {
    let rest = bytes.strip_prefix(&MAGIC)?.strip_prefix(&id)?;
    let (numbers, rest) = rest.split_first_chunk::<48>()?;
    let number = |at: usize| numbers.get(at * 8..at * 8 + 8)?.try_into().ok().map(u64::from_le_bytes);
    let (counts, rest) = rest.split_first_chunk::<12>()?;
    let count = |at: usize| counts.get(at * 4..at * 4 + 4)?.try_into().ok().map(|n| u32::from_le_bytes(n) as usize);
    let (crc, _) = rest.split_first_chunk::<4>()?;
    let (sections, previous, frames) = (count(0)?, count(1)?, count(2)?);
    if sections > MAX_SECTIONS || previous > MAX_SECTIONS {
        return None;
    }
    let tables = HEAD + sections * SECTION + previous * LAST;
    if checksum(bytes.get(..tables)?) != u32::from_le_bytes(*crc) {
        return None;
    }
    let (section_bytes, last_bytes) = bytes.get(HEAD..tables)?.split_at(sections * SECTION);
    let head = BatchHead {
        segment: number(0)?,
        position: number(1)?,
        floor: Floor { position: number(2)?, segment: number(3)? },
        synced: number(4)?,
        previous_from: number(5)?,
        sections: section_bytes.chunks_exact(SECTION).filter_map(section).collect(),
        previous: last_bytes.chunks_exact(LAST).filter_map(last_event).collect(),
    };
    Some(FoundBatch { head, length: tables + frames })
}

fn section(bytes: &[u8]) -> Option<Section> {
    let (tenant, rest) = bytes.split_first_chunk::<16>()?;
    let (first, rest) = rest.split_first_chunk::<8>()?;
    let (last, rest) = rest.split_first_chunk::<8>()?;
    Some(Section {
        tenant: *tenant,
        first_seq: u64::from_le_bytes(*first),
        last_seq: u64::from_le_bytes(*last),
        length: u32::from_le_bytes(rest.try_into().ok()?),
    })
}

fn last_event(bytes: &[u8]) -> Option<LastEvent> {
    let (tenant, rest) = bytes.split_first_chunk::<16>()?;
    Some(LastEvent { tenant: *tenant, seq: u64::from_le_bytes(rest.try_into().ok()?) })
}

/// Whether the frames are those that the section names. The error says where and what is wrong.
pub(super) fn check_frames(section: &Section, frames: &[u8]) -> Result<(), (usize, &'static str)> {
    let (mut at, mut next) = (0, section.first_seq);
    while let Some(rest) = frames.get(at..).filter(|rest| !rest.is_empty()) {
        match frame::parse(rest) {
            Ok((Frame::Event { seq, .. }, length)) if seq == next => {
                at += length;
                next += 1;
            }
            Ok(_) => return Err((at, "an event is not the one that has to come next")),
            Err(detail) => return Err((at, detail)),
        }
    }
    if frames.len() != section.length as usize || next != section.last_seq + 1 {
        return Err((at, "the events end too early"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_of_a_head_is_noticed() {
        let head = BatchHead {
            segment: 3,
            position: 9,
            floor: Floor { position: 4, segment: 2 },
            synced: 8,
            previous_from: 6,
            sections: vec![Section { tenant: [5; 16], first_seq: 1, last_seq: 2, length: 6 }],
            previous: vec![LastEvent { tenant: [6; 16], seq: 77 }],
        };
        let mut bytes = Vec::new();
        encode(&head, [1; 16], b"frames", &mut bytes);
        assert_eq!(bytes.len() as u64, size(1, 1, 6));
        let found = parse(&bytes, [1; 16]).unwrap();
        assert_eq!((&found.head, found.length), (&head, bytes.len()));
        assert!(parse(&bytes, [2; 16]).is_none(), "of another log");
        for bit in 0..(bytes.len() - 6) * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(parse(&bad, [1; 16]).is_none(), "bit {bit}");
        }
        for cut in 0..bytes.len() - 6 {
            assert!(parse(&bytes[..cut], [1; 16]).is_none());
        }
    }
}

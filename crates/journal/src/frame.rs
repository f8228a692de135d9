//! Frames, the envelopes of everything behind a segment's header. The crate's page describes their bytes.

use std::io;

use memchr::memmem;
use thiserror::Error;

/// Most payload bytes of one frame (4 MiB). No event is larger than a few times the largest request body (1 MiB), and a
/// flipped bit in a length must not make recovery believe in a frame of gigabytes.
pub const MAX_FRAME: usize = 4 << 20;

/// Why an event was not appended. The journal is unchanged.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AppendError {
    /// The encoded event is larger than a frame may be.
    #[error("an event of {bytes} bytes is over the limit of {MAX_FRAME} bytes")]
    TooLarge {
        /// The size of its payload, with the sequence number.
        bytes: usize,
    },
    /// The event does not have the next sequence number.
    #[error("event {found} does not follow: event {expected} is next")]
    OutOfOrder {
        /// The next sequence number.
        expected: u64,
        /// The number it had.
        found: u64,
    },
}

impl From<AppendError> for io::Error {
    fn from(error: AppendError) -> Self {
        io::Error::new(io::ErrorKind::InvalidInput, error)
    }
}

/// Bytes of `len` and `crc`.
pub(super) const FRAME_HEAD: usize = 8;

/// Bytes of the sequence number that starts an event's payload.
const SEQ_BYTES: usize = 8;

/// By this magic recovery finds a marker behind bad bytes. 0xFF and 0xFE never occur in UTF-8, and 16 bytes are more than
/// a MessagePack number holds, so no client can place the magic inside an event. The eighth byte makes the first half,
/// as a little-endian u64, larger than any sequence number.
pub(super) const MARKER_MAGIC: [u8; 16] = *b"\xFF\xFEKAVA\xFE\xFF\xFF\xFECHMK\xFE\xFF";

const MARKER_PAYLOAD: usize = 16 + 8 + 8 + 8 + 32;

/// Bytes of a whole marker frame.
pub(super) const MARKER_FRAME: usize = FRAME_HEAD + MARKER_PAYLOAD;

/// The content of a marker frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marker {
    pub synced_seq: u64,
    pub synced_offset: u64,
    pub time_ms: i64,
    pub hash: [u8; 32],
}

/// A whole frame with a good checksum.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    Event { seq: u64, payload: &'a [u8] },
    Marker(Marker),
}

fn checksum(len: [u8; 4], payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&len);
    crc.update(payload);
    crc.finalize()
}

/// Fills in length and checksum, for which the frame has eight free bytes at its start.
fn finish(frame: &mut [u8]) {
    if let Some((len, rest)) = frame.split_first_chunk_mut::<4>()
        && let Some((crc, payload)) = rest.split_first_chunk_mut::<4>()
    {
        *len = (payload.len() as u32).to_le_bytes();
        *crc = checksum(*len, payload).to_le_bytes();
    }
}

/// Appends an event frame. On an error the buffer is unchanged.
#[inline]
pub(super) fn push_event(buffer: &mut Vec<u8>, seq: u64, encode: impl FnOnce(&mut Vec<u8>)) -> Result<(), AppendError> {
    let start = buffer.len();
    let mut head = [0; FRAME_HEAD + SEQ_BYTES];
    if let Some(field) = head.last_chunk_mut::<SEQ_BYTES>() {
        *field = seq.to_le_bytes();
    }
    buffer.extend_from_slice(&head);
    encode(buffer);
    let payload = buffer.len().saturating_sub(start + FRAME_HEAD);
    if payload > MAX_FRAME {
        buffer.truncate(start);
        return Err(AppendError::TooLarge { bytes: payload });
    }
    if let Some(frame) = buffer.get_mut(start..) {
        finish(frame);
    }
    Ok(())
}

/// The bytes of a marker frame.
pub(super) fn marker_frame(marker: &Marker) -> Vec<u8> {
    let mut frame = Vec::with_capacity(MARKER_FRAME);
    frame.extend_from_slice(&[0; FRAME_HEAD]);
    frame.extend_from_slice(&MARKER_MAGIC);
    frame.extend_from_slice(&marker.synced_seq.to_le_bytes());
    frame.extend_from_slice(&marker.synced_offset.to_le_bytes());
    frame.extend_from_slice(&marker.time_ms.to_le_bytes());
    frame.extend_from_slice(&marker.hash);
    finish(&mut frame);
    frame
}

/// Reads the frame at the start of `bytes`, and returns it with its whole length in bytes. The error is a phrase that
/// says what is wrong.
#[inline]
pub(super) fn parse(bytes: &[u8]) -> Result<(Frame<'_>, usize), &'static str> {
    let cut_short = "a frame is cut short";
    let (len, rest) = bytes.split_first_chunk::<4>().ok_or(cut_short)?;
    let (crc, rest) = rest.split_first_chunk::<4>().ok_or(cut_short)?;
    let length = u32::from_le_bytes(*len) as usize;
    if !(SEQ_BYTES..=MAX_FRAME).contains(&length) {
        return Err("a frame has an impossible length");
    }
    let payload = rest.get(..length).ok_or(cut_short)?;
    if checksum(*len, payload) != u32::from_le_bytes(*crc) {
        return Err("a frame does not match its checksum");
    }
    let (first, body) = payload.split_first_chunk::<SEQ_BYTES>().ok_or(cut_short)?;
    let seq = u64::from_le_bytes(*first);
    let frame = if seq <= i64::MAX as u64 {
        Frame::Event { seq, payload: body }
    } else {
        Frame::Marker(parse_marker(payload).ok_or("a frame is neither an event nor a marker")?)
    };
    Ok((frame, FRAME_HEAD + length))
}

/// Calls `each` with the place and the sequence number of each event in good frames.
pub(super) fn each_event(frames: &[u8], mut each: impl FnMut(usize, u64)) {
    let mut at = 0;
    while let Some((head, _)) = frames.get(at..).and_then(|rest| rest.split_first_chunk::<{ FRAME_HEAD + SEQ_BYTES }>())
        && let (Some(length), Some(seq)) = (head.first_chunk::<4>(), head.last_chunk::<SEQ_BYTES>())
    {
        each(at, u64::from_le_bytes(*seq));
        at += FRAME_HEAD + u32::from_le_bytes(*length) as usize;
    }
}

fn parse_marker(payload: &[u8]) -> Option<Marker> {
    let rest = payload.strip_prefix(&MARKER_MAGIC)?;
    let (synced_seq, rest) = rest.split_first_chunk::<8>()?;
    let (synced_offset, rest) = rest.split_first_chunk::<8>()?;
    let (time_ms, rest) = rest.split_first_chunk::<8>()?;
    Some(Marker {
        synced_seq: u64::from_le_bytes(*synced_seq),
        synced_offset: u64::from_le_bytes(*synced_offset),
        time_ms: i64::from_le_bytes(*time_ms),
        hash: rest.try_into().ok()?,
    })
}

/// The last whole marker in a segment. It is found by its magic alone, so damaged frames around it do not matter.
pub(super) fn last_marker(segment: &[u8]) -> Option<Marker> {
    last_marker_at(segment).map(|(_, marker)| marker)
}

/// [`last_marker`] and where its frame starts.
pub(super) fn last_marker_at(segment: &[u8]) -> Option<(usize, Marker)> {
    let finder = memmem::FinderRev::new(&MARKER_MAGIC);
    let mut upto = segment.len();
    loop {
        let magic = finder.rfind(segment.get(..upto)?)?;
        if let Some(start) = magic.checked_sub(FRAME_HEAD)
            && let Some(bytes) = segment.get(start..start + MARKER_FRAME)
            && let Ok((Frame::Marker(marker), _)) = parse(bytes)
            && marker.synced_offset <= start as u64
        {
            return Some((start, marker));
        }
        upto = magic;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_survives_the_envelope() {
        let mut buffer = b"before".to_vec();
        push_event(&mut buffer, 7, |b| b.extend_from_slice(b"hello")).unwrap();
        assert_eq!(buffer.len(), 6 + 8 + 8 + 5);
        let (frame, len) = parse(&buffer[6..]).unwrap();
        assert_eq!(len, 21);
        assert_eq!(frame, Frame::Event { seq: 7, payload: b"hello" });
    }

    #[test]
    fn a_frame_over_the_limit_leaves_the_buffer_as_it_was() {
        let mut buffer = b"kept".to_vec();
        let fits = MAX_FRAME - SEQ_BYTES;
        assert!(push_event(&mut buffer, 1, |b| b.resize(b.len() + fits + 1, 0)).is_err());
        assert_eq!(buffer, b"kept");
        push_event(&mut buffer, 1, |b| b.resize(b.len() + fits, 0)).unwrap();
        assert!(parse(&buffer[4..]).is_ok());
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let mut frame = Vec::new();
        push_event(&mut frame, 3, |b| b.extend_from_slice(b"payload")).unwrap();
        for cut in 0..frame.len() {
            assert!(parse(&frame[..cut]).is_err());
        }
        for bit in 0..frame.len() * 8 {
            let mut bad = frame.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(parse(&bad).is_err(), "bit {bit}");
        }
        assert!(parse(&[0; 64]).is_err());
    }

    #[test]
    fn the_last_whole_marker_is_found_behind_bad_bytes() {
        let marker = |synced_seq| Marker { synced_seq, synced_offset: 0, time_ms: -5, hash: [9; 32] };
        let mut bytes = marker_frame(&marker(1));
        bytes.extend_from_slice(&[0xAA; 100]);
        bytes.extend_from_slice(&marker_frame(&marker(2)));
        assert_eq!(last_marker(&bytes), Some(marker(2)));
        *bytes.last_mut().unwrap() ^= 1;
        assert_eq!(last_marker(&bytes), Some(marker(1)));
        bytes.extend_from_slice(&MARKER_MAGIC);
        assert_eq!(last_marker(&bytes), Some(marker(1)));
        assert_eq!(last_marker(&bytes[1..]), None);
        assert_eq!(last_marker(&MARKER_MAGIC), None);
    }
}

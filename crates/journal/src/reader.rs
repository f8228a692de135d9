//! Reads a journal from another thread while it grows.

use std::io;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use crate::error::invalid;
use crate::folder::Folder;
use crate::frame::{self, Frame};
use crate::index::IndexEntry;
use crate::segment::{HEADER, SegmentHeader, read_part, read_segment};
use crate::tail::TailPiece;
use crate::writer::Journal;

/// A view of every event that there was when it was taken, in the folder or in the tail. Cheap to clone, and to take where
/// the tail is empty.
///
/// Every method blocks, checks each frame's checksum, and holds one segment in memory at a time. Files are opened for each
/// piece that is read, and are closed again. An `InvalidData` error names the file and the byte of the damage. Segments
/// that were compressed meanwhile are read all the same, those that retention removed are skipped.
#[derive(Clone, Debug)]
pub struct JournalReader {
    pub(super) folder: Arc<Folder>,
    pub(super) tenant: [u8; 16],
    pub(super) older: Arc<Vec<u64>>,
    /// The first event of the segment that was active. It may be rotated, compressed or removed since.
    pub(super) active: u64,
    /// Bytes of it that count.
    pub(super) end: u64,
    /// Where blocks of it start.
    places: Arc<Vec<IndexEntry>>,
    /// Events that are in no file yet.
    tail: Arc<[TailPiece]>,
    last: u64,
}

/// The unit of reading: an older segment, a block of the active one, or a piece of the tail.
pub(super) struct JournalPiece {
    pub first_seq: u64,
    /// One past the last event.
    end_seq: u64,
    bytes: PieceBytes,
}

enum PieceBytes {
    Segment,
    Block(Range<u64>),
    Tail(Arc<Vec<u8>>),
}

/// A piece in memory, and where its events are.
pub(super) struct LoadedPiece {
    bytes: Vec<u8>,
    pub events: EventPlaces,
}

/// Each event's sequence number, and where its payload lies.
pub(super) type EventPlaces = Vec<(u64, Range<usize>)>;

impl LoadedPiece {
    pub fn payload(&self, place: &Range<usize>) -> &[u8] {
        self.bytes.get(place.clone()).unwrap_or_default()
    }
}

impl Journal {
    /// A view of all events until now. Copies what came since the tail was last [sealed](Journal::seal_tail).
    pub fn reader(&self) -> JournalReader {
        JournalReader {
            folder: Arc::clone(&self.folder),
            tenant: self.tenant,
            older: Arc::clone(&self.older),
            active: self.active.first_seq,
            end: self.active.end,
            places: Arc::new(self.active.index.before(self.active.end)),
            tail: self.tail.view().into(),
            last: self.tail.last_seq(),
        }
    }
}

impl JournalReader {
    /// The last event in this view; 0 where there is none.
    pub fn last_seq(&self) -> u64 {
        self.last
    }

    /// Calls `f` with each event before `before_seq`, or with all, the newest first, until it breaks.
    pub fn newest_first(
        &self,
        before_seq: Option<u64>,
        f: &mut dyn FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> io::Result<()> {
        let mut before = before_seq;
        while let Some(next) = self.newest_piece(before, f)? {
            before = Some(next);
        }
        Ok(())
    }

    /// One step of [`newest_first`](JournalReader::newest_first), which reads one segment or less. Returns the
    /// `before_seq` of the next step; `None` where there is none, or `f` broke.
    pub fn newest_piece(
        &self,
        before_seq: Option<u64>,
        f: &mut dyn FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> io::Result<Option<u64>> {
        let before = before_seq.unwrap_or(u64::MAX);
        let at = before.checked_sub(1).map(|seq| self.piece_of(seq));
        let Some(piece) = at.and_then(|at| self.piece(at)).filter(|piece| piece.first_seq < before) else {
            return Ok(None);
        };
        let Some(loaded) = self.load(&piece)? else { return Ok(None) };
        for (seq, place) in loaded.events.iter().rev() {
            if *seq < before && f(*seq, loaded.payload(place)).is_break() {
                return Ok(None);
            }
        }
        Ok(Some(piece.first_seq))
    }

    /// Calls `f` with each event from `from_seq` on, the oldest first, until it breaks.
    pub fn oldest_first(&self, from_seq: u64, f: &mut dyn FnMut(u64, &[u8]) -> ControlFlow<()>) -> io::Result<()> {
        let mut cursor = self.cursor(from_seq);
        while let Some((seq, payload)) = cursor.step()? {
            if f(seq, payload).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The payload of one event; `None` if it was not there yet, or was removed by retention.
    pub fn get(&self, seq: u64) -> io::Result<Option<Vec<u8>>> {
        let mut found = None;
        if seq <= self.last {
            self.oldest_first(seq, &mut |at, payload| {
                if at == seq {
                    found = Some(payload.to_vec());
                }
                ControlFlow::Break(())
            })?;
        }
        Ok(found)
    }

    pub(super) fn pieces(&self) -> usize {
        self.older.len() + self.places.len() + self.tail.len()
    }

    /// The piece that holds an event, or the first one where all are later.
    pub(super) fn piece_of(&self, seq: u64) -> usize {
        let older = self.older.partition_point(|&first| first <= seq);
        let blocks = self.places.partition_point(|place| place.seq <= seq);
        let tail = self.tail.partition_point(|piece| piece.first_seq <= seq);
        (older + blocks + tail).saturating_sub(1)
    }

    pub(super) fn piece(&self, at: usize) -> Option<JournalPiece> {
        let blocks = self.older.len();
        let tail = blocks + self.places.len();
        let starts = |at: usize| match at {
            at if at < blocks => self.older.get(at).copied(),
            at if at < tail => self.places.get(at - blocks).map(|place| place.seq),
            at => self.tail.get(at - tail).map(|piece| piece.first_seq),
        };
        let bytes = match at {
            at if at < blocks => PieceBytes::Segment,
            at if at < tail => {
                let end = self.places.get(at + 1 - blocks).map_or(self.end, |next| next.offset);
                PieceBytes::Block(self.places.get(at - blocks)?.offset..end)
            }
            at => PieceBytes::Tail(Arc::clone(&self.tail.get(at - tail)?.frames)),
        };
        Some(JournalPiece { first_seq: starts(at)?, end_seq: starts(at + 1).unwrap_or(self.last + 1), bytes })
    }

    /// Reads and checks a piece; `None` where retention removed it, or there is none.
    pub(super) fn load_piece(&self, at: usize) -> io::Result<Option<LoadedPiece>> {
        self.piece(at).map_or(Ok(None), |piece| self.load(&piece))
    }

    fn load(&self, piece: &JournalPiece) -> io::Result<Option<LoadedPiece>> {
        let (path, bytes, start, offset) = match &piece.bytes {
            PieceBytes::Segment => {
                let path = self.folder.compressed(piece.first_seq);
                let Some(bytes) = self.read_older(piece.first_seq)? else { return Ok(None) };
                match SegmentHeader::decode(&bytes) {
                    Ok(header) if header.tenant == self.tenant && header.first_seq == piece.first_seq => {}
                    _ => return Err(invalid(&path, 0, "the segment's header is not right")),
                }
                (path, bytes, HEADER, 0)
            }
            PieceBytes::Block(range) => {
                let Some(bytes) = self.read_active(range)? else { return Ok(None) };
                (self.folder.raw(self.active), bytes, 0, range.start)
            }
            PieceBytes::Tail(frames) => (self.folder.path.clone(), frames.to_vec(), 0, 0),
        };
        let events =
            events(&bytes, start, piece).map_err(|(at, detail)| invalid(&path, offset + at as u64, &detail))?;
        Ok(Some(LoadedPiece { bytes, events }))
    }

    /// The whole bytes of an older segment; `None` where retention removed it.
    pub(super) fn read_older(&self, first_seq: u64) -> io::Result<Option<Vec<u8>>> {
        self.unless_removed(first_seq, read_segment(&self.folder, first_seq))
    }

    /// Some bytes of the segment that was active; `None` where retention removed it.
    pub(super) fn read_active(&self, part: &Range<u64>) -> io::Result<Option<Vec<u8>>> {
        match read_part(&self.folder, self.active, part) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                let detail = format!("the file ends before byte {}", part.end);
                Err(invalid(&self.folder.raw(self.active), part.start, &detail))
            }
            read => self.unless_removed(self.active, read),
        }
    }

    /// Takes a missing segment for removed only if all that are left are later: retention removes the oldest first. In an
    /// erased tenant's folder nothing is left.
    fn unless_removed<T>(&self, first_seq: u64, read: io::Result<T>) -> io::Result<Option<T>> {
        let missing = match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => error,
            read => return read.map(Some),
        };
        match self.folder.list()?.segments.first() {
            Some(oldest) if oldest.first_seq > first_seq => Ok(None),
            _ => Err(invalid(&self.folder.raw(first_seq), 0, &format!("the segment is missing: {missing}"))),
        }
    }
}

/// The events in a piece's bytes from `start` on: all of them and no others, or the place of the first fault.
fn events(bytes: &[u8], start: usize, piece: &JournalPiece) -> Result<EventPlaces, (usize, String)> {
    let mut events = Vec::new();
    let mut position = start;
    let mut expect = piece.first_seq;
    while let Some(rest) = bytes.get(position..).filter(|rest| !rest.is_empty()) {
        let (frame, length) = frame::parse(rest).map_err(|detail| (position, detail.to_owned()))?;
        let end = position + length;
        if let Frame::Event { seq, payload } = frame {
            if seq != expect {
                return Err((position, format!("event {seq} stands where event {expect} is next")));
            }
            events.push((seq, end - payload.len()..end));
            expect += 1;
        }
        position = end;
    }
    if expect != piece.end_seq {
        return Err((position, format!("event {expect} is missing")));
    }
    Ok(events)
}

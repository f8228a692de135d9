//! A tenant's tail: the events that its file lacks, in memory.
//!
//! It is made of pieces, so that a thread can write the older ones to the file, and readers can have them, without a copy
//! and while new events come.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::frame::{self, AppendError};

/// Events without a gap that no event is added to any more.
#[derive(Clone, Debug)]
pub(super) struct TailPiece {
    pub frames: Arc<Vec<u8>>,
    pub first_seq: u64,
    pub last_seq: u64,
}

/// The events that the file lacks, oldest first.
#[derive(Debug, Default)]
pub(super) struct Tail {
    pieces: VecDeque<TailPiece>,
    /// The frames of the events after those.
    newest: Vec<u8>,
    /// Bytes of all frames.
    bytes: usize,
    /// The last event in a piece, or in the file.
    sealed: u64,
    /// The last event of all.
    last: u64,
}

impl Tail {
    /// Nothing, after that event.
    pub fn after(seq: u64) -> Self {
        Self { sealed: seq, last: seq, ..Self::default() }
    }

    /// The last event in it, or in the file.
    pub fn last_seq(&self) -> u64 {
        self.last
    }

    /// Bytes of all frames.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The frames of the newest events, which are in no piece yet.
    pub fn newest(&self) -> &[u8] {
        &self.newest
    }

    /// Adds the next event, and returns its frame. `encode` appends the payload.
    ///
    /// # Errors
    /// Nothing has changed.
    #[inline]
    pub fn push(&mut self, encode: impl FnOnce(&mut Vec<u8>)) -> Result<&[u8], AppendError> {
        let start = self.newest.len();
        frame::push_event(&mut self.newest, self.last + 1, encode)?;
        self.last += 1;
        self.bytes += self.newest.len() - start;
        Ok(self.newest.get(start..).unwrap_or_default())
    }

    /// Adds the frames of the next events, up to `last_seq`.
    pub fn extend(&mut self, frames: &[u8], last_seq: u64) {
        self.newest.extend_from_slice(frames);
        self.bytes += frames.len();
        self.last = last_seq;
    }

    /// Makes the newest events a piece.
    pub fn seal(&mut self) {
        if !self.newest.is_empty() {
            // The next piece is about as long.
            let next = Vec::with_capacity(if self.newest.capacity() > KEPT_CAPACITY { self.newest.len() } else { 0 });
            let frames = Arc::new(std::mem::replace(&mut self.newest, next));
            self.pieces.push_back(TailPiece { frames, first_seq: self.sealed + 1, last_seq: self.last });
            self.sealed = self.last;
        }
    }

    /// The oldest pieces with events up to `seq` only, until they are so many bytes.
    pub fn up_to(&self, seq: u64, bytes: u64) -> Vec<TailPiece> {
        let mut taken = 0;
        let fits = |piece: &&TailPiece| {
            let fits = piece.last_seq <= seq && (taken == 0 || taken < bytes);
            taken += piece.frames.len() as u64;
            fits
        };
        self.pieces.iter().take_while(fits).cloned().collect()
    }

    /// The file has the pieces with events up to `seq`.
    pub fn written(&mut self, seq: u64) {
        while let Some(piece) = self.pieces.pop_front_if(|piece| piece.last_seq <= seq) {
            self.bytes -= piece.frames.len();
        }
    }

    /// All of it for a reader, with a copy of the newest events.
    pub fn view(&self) -> Vec<TailPiece> {
        let newest = (!self.newest.is_empty()).then(|| TailPiece {
            frames: Arc::new(self.newest.clone()),
            first_seq: self.sealed + 1,
            last_seq: self.last,
        });
        self.pieces.iter().cloned().chain(newest).collect()
    }
}

/// Capacity (64 KiB) of a piece above which the next one gets room for as much at once: a tenant with so many events will
/// have more.
const KEPT_CAPACITY: usize = 64 << 10;

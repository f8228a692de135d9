//! The events of one tenant that the log has, perhaps beyond what the tenant's folder has.

use std::path::{Path, PathBuf};

use super::batch::{self, Section};
use crate::error::RecoveryError;
use crate::frame::{self, Frame};

/// The position of a tail that was read from a log that had failed.
pub(super) const PROVISIONAL: u64 = u64::MAX;

/// What the log has of one tenant. Its folder may have some of it, or all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// Oldest first, without overlaps.
    runs: Vec<Run>,
    /// Events that the log had for certain, and that can't be read any more.
    lost: Vec<LostEvents>,
    position: u64,
}

/// Events without a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Run {
    first_seq: u64,
    last_seq: u64,
    frames: Vec<u8>,
    place: Place,
}

/// A byte of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub file: PathBuf,
    pub offset: u64,
}

/// Events up to `last_seq` that are damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LostEvents {
    pub last_seq: u64,
    pub place: Place,
    pub detail: String,
}

impl Tail {
    /// Adds the next events. Those that it has already are left out.
    pub(super) fn push(&mut self, section: &Section, frames: &[u8], place: Place) {
        let Section { first_seq, last_seq, .. } = *section;
        match self.runs.last_mut() {
            Some(run) if first_seq <= run.last_seq + 1 => {
                run.frames.extend_from_slice(after(frames, run.last_seq));
                run.last_seq = run.last_seq.max(last_seq);
            }
            _ => self.runs.push(Run { first_seq, last_seq, frames: frames.to_vec(), place }),
        }
    }

    pub(super) fn push_lost(&mut self, lost: LostEvents) {
        self.lost.push(lost);
    }

    /// The last batch of the log when it was asked; 0 for an empty tail that is of no log.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Whether the log had failed when it was asked, so that nobody knows whether it will have these events.
    pub fn is_provisional(&self) -> bool {
        self.position == PROVISIONAL
    }

    pub(super) fn at(self, position: u64) -> Self {
        Self { position, ..self }
    }

    /// The last event; 0 if there is none.
    pub fn last_seq(&self) -> u64 {
        self.runs.last().map_or(0, |run| run.last_seq)
    }

    /// Bytes of all frames.
    pub fn bytes(&self) -> usize {
        self.runs.iter().map(|run| run.frames.len()).sum()
    }

    /// The frames of the events after `seq`, up to the last. The tenant's folder ends with that event, at this byte of this
    /// file.
    ///
    /// # Errors
    /// `Damaged`, if some of those events can't be read, or if one is missing.
    pub(crate) fn frames_after(&self, seq: u64, folder_end: (&Path, u64)) -> Result<Vec<u8>, RecoveryError> {
        if let Some(lost) = self.lost.iter().find(|lost| lost.last_seq > seq) {
            let LostEvents { last_seq, place, detail } = lost;
            let detail =
                format!("{detail}; the tenant's folder ends with event {seq}, and event {last_seq} was recorded");
            return Err(damaged(place, detail));
        }
        let (mut reached, mut frames) = (seq, Vec::new());
        for run in self.runs.iter().filter(|run| run.last_seq > seq) {
            if run.first_seq > reached + 1 {
                let (file, offset) = folder_end;
                let detail = format!("it ends with event {reached}, and the log goes on with event {}", run.first_seq);
                return Err(RecoveryError::Damaged { file: file.to_path_buf(), offset, detail });
            }
            frames.extend_from_slice(after(&run.frames, reached));
            reached = run.last_seq;
        }
        Ok(frames)
    }

    /// The file and the byte from which on the event is found.
    pub(crate) fn place_of(&self, seq: u64) -> (PathBuf, u64) {
        let run = self.runs.iter().find(|run| run.last_seq >= seq);
        run.map_or_else(|| (PathBuf::new(), 0), |run| (run.place.file.clone(), run.place.offset))
    }

    /// The error for an event that the caller could not decode.
    pub(crate) fn undecodable(&self, seq: u64, detail: String) -> RecoveryError {
        let (file, offset) = self.place_of(seq);
        RecoveryError::Undecodable { file, offset, seq, detail }
    }
}

fn damaged(place: &Place, detail: String) -> RecoveryError {
    RecoveryError::Damaged { file: place.file.clone(), offset: place.offset, detail }
}

/// The frames of events after `seq`.
fn after(frames: &[u8], seq: u64) -> &[u8] {
    let mut rest = frames;
    while let Ok((Frame::Event { seq: found, .. }, length)) = frame::parse(rest)
        && found <= seq
    {
        rest = rest.get(length..).unwrap_or_default();
    }
    rest
}

/// Whether a section's frames are good; where not, what was lost.
pub(super) fn check(section: &Section, frames: &[u8], file: &Path, offset: u64) -> Result<(), LostEvents> {
    batch::check_frames(section, frames).map_err(|(at, detail)| LostEvents {
        last_seq: section.last_seq,
        place: Place { file: file.to_path_buf(), offset: offset + at as u64 },
        detail: detail.to_owned(),
    })
}

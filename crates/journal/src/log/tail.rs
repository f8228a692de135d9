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
    /// By their first events; some may overlap.
    runs: Vec<EventRun>,
    /// Events that the log had for certain, and that can't be read any more.
    lost: Vec<LostEvents>,
    /// The last batch with events of the tenant.
    newest: u64,
    position: u64,
    generation: usize,
}

/// Events without a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
struct EventRun {
    first_seq: u64,
    last_seq: u64,
    frames: Vec<u8>,
    place: LogPlace,
}

/// A byte of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LogPlace {
    pub file: PathBuf,
    pub offset: u64,
}

/// Events up to `last_seq` that are damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LostEvents {
    pub last_seq: u64,
    pub place: LogPlace,
    pub detail: String,
}

impl Tail {
    /// What a log that is no file here has of a tenant: events without a gap, on disk there. `source` names it in errors.
    pub fn of_events(source: &Path, first_seq: u64, last_seq: u64, frames: &[u8]) -> Self {
        let section = Section { tenant: [0; 16], first_seq, last_seq, length: frames.len() as u32 };
        let mut tail = Self::default();
        tail.add(&section, frames, source, 0, 0);
        tail
    }

    /// Adds events. They may come again: what the log carries forward is older than what it has already.
    fn push(&mut self, section: &Section, frames: &[u8], place: LogPlace, position: u64) {
        self.newest = self.newest.max(position);
        let Section { first_seq, last_seq, .. } = *section;
        match self.runs.last_mut() {
            Some(run) if first_seq == run.last_seq + 1 => {
                run.frames.extend_from_slice(frames);
                run.last_seq = last_seq;
            }
            _ => {
                let at = self.runs.partition_point(|run| run.first_seq <= first_seq);
                self.runs.insert(at, EventRun { first_seq, last_seq, frames: frames.to_vec(), place });
            }
        }
    }

    /// Adds the events of a section, or notes that they are damaged. They stand at this byte of this file.
    pub(super) fn add(&mut self, section: &Section, frames: &[u8], file: &Path, offset: u64, position: u64) {
        match check(section, frames, file, offset) {
            Ok(()) => self.push(section, frames, LogPlace { file: file.to_path_buf(), offset }, position),
            Err(lost) => self.push_lost(lost),
        }
    }

    pub(super) fn push_lost(&mut self, lost: LostEvents) {
        self.lost.push(lost);
    }

    /// The last batch of the log when it was asked; 0 if all of the tail is on disk.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Whether the log had failed when it was asked, so that nobody knows whether it will have these events.
    pub fn is_provisional(&self) -> bool {
        self.position == PROVISIONAL
    }

    /// The failures of the log until it was asked.
    pub fn generation(&self) -> usize {
        self.generation
    }

    pub(super) fn at(self, position: u64, generation: usize) -> Self {
        Self { position, generation, ..self }
    }

    /// The last batch with events of the tenant.
    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    /// The last event; 0 if there is none.
    pub fn last_seq(&self) -> u64 {
        self.runs.iter().map(|run| run.last_seq).max().unwrap_or(0)
    }

    /// Bytes of all frames.
    pub fn bytes(&self) -> usize {
        self.runs.iter().map(|run| run.frames.len()).sum()
    }

    /// Whether any of its events may be what `is_one` looks for, told its number and its bytes. `true` also if some can't be
    /// read.
    pub fn may_have(&self, mut is_one: impl FnMut(u64, &[u8]) -> bool) -> bool {
        self.runs.iter().any(|run| {
            let mut rest = run.frames.as_slice();
            while let Ok((Frame::Event { seq, payload }, length)) = frame::parse(rest) {
                if is_one(seq, payload) {
                    return true;
                }
                rest = rest.get(length..).unwrap_or_default();
            }
            !rest.is_empty()
        }) || !self.lost.is_empty()
    }

    /// The frames of the events after `seq`, up to the last. The tenant's folder ends with that event, at this byte of this
    /// file.
    ///
    /// # Errors
    /// `Damaged`, if some of those events can't be read, or if one is missing.
    pub(crate) fn frames_after(&self, seq: u64, folder_end: (&Path, u64)) -> Result<Vec<u8>, RecoveryError> {
        let (mut reached, mut frames) = (seq, Vec::new());
        for run in &self.runs {
            if run.last_seq <= reached {
                continue;
            }
            if run.first_seq > reached + 1 {
                self.check_lost(reached)?;
                let (file, offset) = folder_end;
                let detail = format!("it ends with event {reached}, and the log goes on with event {}", run.first_seq);
                return Err(RecoveryError::Damaged { file: file.to_path_buf(), offset, detail });
            }
            frames.extend_from_slice(after(&run.frames, reached));
            reached = run.last_seq;
        }
        self.check_lost(reached)?;
        Ok(frames)
    }

    /// Fails if an event after `seq`, which can't be found, was in a damaged part of the log.
    fn check_lost(&self, seq: u64) -> Result<(), RecoveryError> {
        match self.lost.iter().find(|lost| lost.last_seq > seq) {
            Some(LostEvents { last_seq, place, detail }) => {
                let detail = format!("{detail}; event {last_seq} was recorded, and all that is left ends with {seq}");
                Err(damaged(place, detail))
            }
            None => Ok(()),
        }
    }

    /// Whether something of the tenant is damaged.
    pub(super) fn is_damaged(&self) -> bool {
        !self.lost.is_empty()
    }

    /// All frames, if they have no gap, with the first and the last event.
    pub(super) fn whole(&self) -> Option<(u64, u64, Vec<u8>)> {
        let first = self.runs.first()?.first_seq;
        let frames = self.frames_after(first - 1, (Path::new(""), 0)).ok()?;
        Some((first, self.last_seq(), frames))
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

fn damaged(place: &LogPlace, detail: String) -> RecoveryError {
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
        place: LogPlace { file: file.to_path_buf(), offset: offset + at as u64 },
        detail: detail.to_owned(),
    })
}

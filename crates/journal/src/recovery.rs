//! Loads a journal from its folder.
//!
//! Recovery reads frames in order until the end or the first bad spot: bytes that are not a whole frame with the next
//! sequence number. Only then does it matter what was certainly on disk. That follows from the newest marker that can
//! be found, even behind bad bytes, from the snapshot, and from any later compressed segment. A bad spot within that is
//! damage, and recovery changes nothing. A bad spot behind it is a torn tail. No caller was promised that it would
//! survive a power failure, so recovery cuts it off after the last whole frame.

use std::sync::Arc;

use crate::chain::{Chain, Checkpoint};
use crate::crash::{SuspectPlace, was_on_disk};
use crate::error::RecoveryError;
use crate::folder::{Folder, Listing, SegmentEntry};
use crate::frame::{self, Frame};
use crate::index::Index;
use crate::log::Tail;
use crate::repair;
use crate::scan::{BadSpot, IntactEnd, Scan, UnsyncedSegment};
use crate::segment::{HEADER, HeaderError, SegmentHeader, VERSION, read_compressed, read_header, read_segment};
use crate::writer::{Journal, JournalOptions};

/// Takes each event in order: its sequence number and its payload. An error says why the payload does not decode.
pub type OnEvent<'a> = dyn FnMut(u64, &[u8]) -> Result<(), String> + 'a;

/// A journal that was read to its end. Nothing on disk was changed yet.
pub struct ScannedJournal {
    folder: Arc<Folder>,
    tenant: [u8; 16],
    listing: Listing,
    scan: Scan,
    /// The frames of events that only the log has, and the last of them.
    tail: Vec<u8>,
    tail_seq: u64,
    /// Whether the folder has events that the log lost. Nobody knows whether they are on disk.
    is_ahead: bool,
}

/// Reads the events after `snapshot_seq` (0 without a snapshot) and passes each to `on_event`. Blocking.
///
/// # Errors
/// `Damaged`, `Foreign`, `Undecodable` and `TooNew`, perhaps after `on_event` took the events before the bad spot; `Io`.
pub fn scan(
    folder: &Folder,
    tenant: [u8; 16],
    snapshot_seq: u64,
    on_event: &mut OnEvent<'_>,
) -> Result<ScannedJournal, RecoveryError> {
    let listing = folder.list().map_err(RecoveryError::io(&folder.path))?;
    let mut replay = Replay {
        folder,
        listing: &listing,
        tenant,
        snapshot_seq,
        on_event,
        expect: 0,
        link: Checkpoint { seq: 0, hash: [0; 32], time_ms: 0 },
        recorded_seq: 0,
        unsynced: Vec::new(),
    };
    let start = replay.first_to_read()?;
    let (intact, torn) = replay.run(start)?;
    let scan = Scan {
        last_seq: replay.expect.saturating_sub(1),
        synced_seq: replay.recorded_seq.max(snapshot_seq),
        recorded_seq: replay.recorded_seq,
        unsynced: replay.unsynced,
        intact,
        torn,
    };
    let tail_seq = scan.last_seq;
    let folder = Arc::new(folder.clone());
    Ok(ScannedJournal { folder, tenant, listing, scan, tail: Vec::new(), tail_seq, is_ahead: false })
}

impl ScannedJournal {
    /// Continues with the events of the log that the folder lacks, and passes each to `on_event`.
    ///
    /// # Errors
    /// `Damaged`, also if folder and log do not fit together; `Undecodable`.
    pub fn add_tail(&mut self, tail: &Tail, on_event: &mut OnEvent<'_>) -> Result<(), RecoveryError> {
        let last_seq = self.scan.last_seq;
        self.is_ahead = tail.last_seq() < last_seq;
        let last_file = self.listing.segments.get(self.scan.intact.at).map(|entry| self.folder.current(*entry));
        let file = last_file.unwrap_or_else(|| self.folder.path.clone());
        self.tail = tail.frames_after(last_seq, (&file, self.scan.intact.end))?;
        let mut rest = self.tail.as_slice();
        while let Ok((Frame::Event { seq, payload }, length)) = frame::parse(rest) {
            on_event(seq, payload).map_err(|detail| tail.undecodable(seq, detail))?;
            self.tail_seq = seq;
            rest = rest.get(length..).unwrap_or_default();
        }
        Ok(())
    }

    /// Makes the journal ready for the next event, and cuts a torn tail with a warning in the log. `now_ms` is Unix
    /// milliseconds. Blocking. A caller that may reject the events has to do so before this: what is cut is gone.
    ///
    /// Drop any earlier [`Journal`] of the folder first. Its jobs may still be running.
    ///
    /// # Errors
    /// `Io`.
    pub fn reopen(self, options: JournalOptions, now_ms: i64) -> Result<Journal, RecoveryError> {
        let Self { folder, tenant, listing, scan, tail, tail_seq, is_ahead } = self;
        let path = folder.path.clone();
        let mut journal = repair::reopen(folder, tenant, options, now_ms, &listing, scan)?;
        if is_ahead && journal.is_dirty() {
            // The next events go into the log, which can't give back the ones before them.
            let synced = journal.begin_sync().run().and_then(|point| journal.finish_sync(point, now_ms));
            synced.map_err(RecoveryError::io(path))?;
        }
        journal.extend(&tail, tail_seq);
        Ok(journal)
    }
}

/// [`scan`] and then [`ScannedJournal::reopen`].
#[cfg(test)]
pub fn recover(
    folder: &Folder,
    tenant: [u8; 16],
    snapshot_seq: u64,
    now_ms: i64,
    options: JournalOptions,
    on_event: &mut OnEvent<'_>,
) -> Result<Journal, RecoveryError> {
    scan(folder, tenant, snapshot_seq, on_event)?.reopen(options, now_ms)
}

enum HeaderProblem {
    Bad(String),
    Fatal(RecoveryError),
}

struct Replay<'a, 'e> {
    folder: &'a Folder,
    listing: &'a Listing,
    tenant: [u8; 16],
    snapshot_seq: u64,
    on_event: &'a mut OnEvent<'e>,
    /// The next sequence number.
    expect: u64,
    link: Checkpoint,
    /// The last event that a marker read so far records as on disk.
    recorded_seq: u64,
    /// Segments that a power failure may still take, oldest first.
    unsynced: Vec<UnsyncedSegment>,
}

impl Replay<'_, '_> {
    /// The first segment to read. Segments that the snapshot covers are skipped, except one with a header to start from.
    fn first_to_read(&self) -> Result<usize, RecoveryError> {
        let segments = &self.listing.segments;
        // If a segment ends with the snapshot's event, its closing marker may have come after the snapshot.
        let covered = segments.partition_point(|s| s.first_seq <= self.snapshot_seq.max(1));
        let Some(mut start) = covered.checked_sub(1).or_else(|| self.starts_after_snapshot()) else {
            return Err(RecoveryError::Damaged {
                file: self.folder.path.clone(),
                offset: 0,
                detail: format!("the journal segment with event {} is missing", self.snapshot_seq.saturating_add(1)),
            });
        };
        while start > 0 && !self.has_header(start)? {
            start -= 1;
        }
        Ok(start)
    }

    /// Retention may have removed every event that the snapshot covers.
    fn starts_after_snapshot(&self) -> Option<usize> {
        let first = self.listing.segments.first()?;
        (first.first_seq == self.snapshot_seq.saturating_add(1)).then_some(0)
    }

    fn has_header(&self, at: usize) -> Result<bool, RecoveryError> {
        // A file that does not decompress is judged later, when it is read.
        match self.listing.segments.get(at) {
            Some(entry) if entry.raw => read_header(self.folder, entry.first_seq)
                .map(|header| header.is_some())
                .map_err(RecoveryError::io(self.folder.raw(entry.first_seq))),
            _ => Ok(true),
        }
    }

    fn run(&mut self, start: usize) -> Result<(IntactEnd, Option<BadSpot>), RecoveryError> {
        let mut reached: Option<IntactEnd> = None;
        for (at, &entry) in self.listing.segments.iter().enumerate().skip(start) {
            let bytes = self.load(entry)?;
            let (now, bad) = match self.header(entry, &bytes, reached.is_none()) {
                Ok(header) => self.frames(at, entry, header, &bytes)?,
                Err(HeaderProblem::Fatal(error)) => return Err(error),
                Err(HeaderProblem::Bad(detail)) => {
                    let bad = BadSpot { at, offset: 0, detail };
                    self.judge(&bad, &bytes)?;
                    // Without a segment before it, there is nothing to continue.
                    let Some(before) = reached else {
                        return Err(self.damaged(&bad));
                    };
                    return Ok((before, Some(bad)));
                }
            };
            if let Some(bad) = &bad {
                self.judge(bad, &bytes)?;
            }
            let synced_offset = now.synced_offset;
            if synced_offset > 0 {
                // Older segments are synced first, so they are on disk if any byte of this one is.
                self.unsynced.clear();
            }
            if entry.raw {
                self.unsynced.push(UnsyncedSegment { first_seq: entry.first_seq, bytes, synced_offset });
            }
            if bad.is_some() {
                return Ok((now, bad));
            }
            reached = Some(now);
        }
        match reached {
            Some(reached) if self.expect > self.snapshot_seq => Ok((reached, None)),
            reached => Err(self.damaged(&BadSpot {
                at: self.listing.segments.len().saturating_sub(1),
                offset: reached.map_or(0, |reached| reached.end),
                detail: format!(
                    "the journal ends with event {}, before the snapshot of event {}",
                    self.expect.saturating_sub(1),
                    self.snapshot_seq
                ),
            })),
        }
    }

    fn load(&self, entry: SegmentEntry) -> Result<Vec<u8>, RecoveryError> {
        let path = self.folder.current(entry);
        let read = match entry.raw {
            true => read_segment(self.folder, entry.first_seq),
            false => read_compressed(&*self.folder.disk, &path),
        };
        match read {
            Ok(bytes) => Ok(bytes),
            // Errors of the system have a number, errors of the decompressor have none.
            Err(error) if error.raw_os_error().is_some() => Err(RecoveryError::io(path)(error)),
            Err(error) => Err(RecoveryError::Damaged {
                file: path,
                offset: 0,
                detail: format!("the compressed segment can't be decompressed: {error}"),
            }),
        }
    }

    fn header(&mut self, entry: SegmentEntry, bytes: &[u8], first: bool) -> Result<SegmentHeader, HeaderProblem> {
        let header = match SegmentHeader::decode(bytes) {
            Ok(header) => header,
            Err(HeaderError::Torn) => return Err(HeaderProblem::Bad("the header is torn".into())),
            Err(HeaderError::TooNew(version)) => {
                return Err(HeaderProblem::Fatal(RecoveryError::TooNew {
                    file: self.folder.current(entry),
                    version,
                    supported: VERSION,
                }));
            }
        };
        if header.tenant != self.tenant {
            let file = self.folder.current(entry);
            return Err(HeaderProblem::Fatal(RecoveryError::Foreign { file, owner: header.tenant }));
        }
        let named = entry.first_seq;
        if header.first_seq != named {
            return Err(HeaderProblem::Bad(format!(
                "the header says the segment starts with event {}, its name {named}",
                header.first_seq
            )));
        }
        if first {
            self.expect = named;
            self.link = Checkpoint { seq: named.saturating_sub(1), hash: header.previous, time_ms: header.created_ms };
        } else if named != self.expect {
            return Err(HeaderProblem::Bad(format!(
                "the segment starts with event {named} where event {} is next",
                self.expect
            )));
        } else if header.previous != self.link.hash {
            return Err(HeaderProblem::Bad("the segment does not continue the hash chain of the one before".into()));
        }
        Ok(header)
    }

    fn frames(
        &mut self,
        at: usize,
        entry: SegmentEntry,
        header: SegmentHeader,
        bytes: &[u8],
    ) -> Result<(IntactEnd, Option<BadSpot>), RecoveryError> {
        let mut index = Index::default();
        let mut synced_offset = 0;
        let mut position = HEADER;
        let mut unlinked = HEADER;
        let mut events_end = 0;
        let bad = loop {
            let rest = bytes.get(position..).unwrap_or_default();
            if rest.is_empty() {
                break None;
            }
            let (frame, length) = match frame::parse(rest) {
                Ok(parsed) => parsed,
                Err(detail) => break Some(detail.to_owned()),
            };
            match frame {
                Frame::Event { seq, payload } => {
                    if seq != self.expect {
                        break Some(format!("event {seq} stands where event {} is next", self.expect));
                    }
                    if seq > self.snapshot_seq {
                        (self.on_event)(seq, payload).map_err(|detail| RecoveryError::Undecodable {
                            file: self.folder.current(entry),
                            offset: position as u64,
                            seq,
                            detail,
                        })?;
                    }
                    index.note(position as u64, seq);
                    events_end = (position + length) as u64;
                    self.expect += 1;
                }
                Frame::Marker(marker) => {
                    if marker.synced_seq >= self.expect || marker.synced_offset > position as u64 {
                        break Some("a marker records events that are not there".into());
                    }
                    self.recorded_seq = self.recorded_seq.max(marker.synced_seq);
                    synced_offset = marker.synced_offset;
                    self.link = Checkpoint { seq: self.expect - 1, hash: marker.hash, time_ms: marker.time_ms };
                    unlinked = position + length;
                }
            }
            position += length;
        };
        let mut chain = Chain::resume(self.link);
        chain.extend(bytes.get(unlinked..position).unwrap_or_default());
        let reached = IntactEnd { at, header, end: position as u64, events_end, chain, index, synced_offset };
        let bad = bad.map(|detail| BadSpot { at, offset: position as u64, detail });
        Ok((reached, bad))
    }

    /// Fails if the bad spot lies within what was on disk for certain. `bytes` is the content of its segment.
    fn judge(&self, bad: &BadSpot, bytes: &[u8]) -> Result<(), RecoveryError> {
        let segments = self.listing.segments.get(bad.at..).unwrap_or_default();
        let place = SuspectPlace {
            offset: bad.offset,
            next_seq: self.expect,
            synced_seq: self.recorded_seq.max(self.snapshot_seq),
        };
        match was_on_disk(segments, bytes, place, &mut |entry| self.load(entry))? {
            true => Err(self.damaged(bad)),
            false => Ok(()),
        }
    }

    fn damaged(&self, bad: &BadSpot) -> RecoveryError {
        let file = match self.listing.segments.get(bad.at) {
            Some(&entry) => self.folder.current(entry),
            None => self.folder.path.clone(),
        };
        RecoveryError::Damaged { file, offset: bad.offset, detail: bad.detail.clone() }
    }
}

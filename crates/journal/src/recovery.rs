//! Bringing a journal back from its folder.
//!
//! Frames are read in order until the end, or until the first bad spot: bytes that are no whole frame with the
//! next sequence number. Only then it matters what was certainly on disk: the newest marker that can be found,
//! bad bytes before it or not, the snapshot, and any later sealed segment say so. A bad spot within that is
//! damage, and nothing is touched. Behind it lies a torn tail, which nobody was promised to survive a power
//! failure; it is cut off at the last whole frame.

use std::sync::Arc;

use crate::chain::{Chain, Checkpoint};
use crate::error::RecoveryError;
use crate::folder::{Entry, Folder, Listing};
use crate::frame::{self, Frame};
use crate::index::Index;
use crate::repair;
use crate::segment::{HEADER, Header, HeaderError, VERSION, read_header, read_sealed, read_segment};
use crate::writer::{Journal, JournalOptions};

/// What is called with each event's sequence number and payload, in order. The error says in words why the
/// payload does not decode.
pub type Each<'a> = dyn FnMut(u64, &[u8]) -> Result<(), String> + 'a;

/// A journal that was read to its end. Nothing on disk was changed yet.
pub struct ReadThrough {
    folder: Arc<Folder>,
    tenant: [u8; 16],
    listing: Listing,
    found: repair::Found,
}

/// Reads the events after `snapshot_seq` (0 without a snapshot). Blocking.
///
/// # Errors
/// `Damaged`, `Foreign`, `Undecodable` and `TooNew`, upon which `each` may have been called for events before the bad spot; `Io`.
pub fn read(
    folder: &Folder,
    tenant: [u8; 16],
    snapshot_seq: u64,
    each: &mut Each<'_>,
) -> Result<ReadThrough, RecoveryError> {
    let listing = folder.list().map_err(RecoveryError::io(&folder.path))?;
    let mut replay = Replay {
        folder,
        listing: &listing,
        tenant,
        snapshot_seq,
        each,
        expect: 0,
        link: Checkpoint { seq: 0, hash: [0; 32], time_ms: 0 },
        told: 0,
        unsure: Vec::new(),
    };
    let start = replay.first_to_read()?;
    let (reached, torn) = replay.run(start)?;
    let found = repair::Found {
        last_seq: replay.expect.saturating_sub(1),
        synced_seq: replay.told.max(snapshot_seq),
        told: replay.told,
        unsure: replay.unsure,
        reached,
        torn,
    };
    Ok(ReadThrough { folder: Arc::new(folder.clone()), tenant, listing, found })
}

impl ReadThrough {
    /// Makes the journal ready for the next event: a torn tail is cut, with a warning in the log. `now_ms` is Unix
    /// milliseconds. Blocking. Whoever finds fault with the events has to say so before: what is cut is gone.
    ///
    /// Any earlier [`Journal`] of the folder has to be dropped before; its jobs may still run.
    ///
    /// # Errors
    /// `Io`.
    pub fn reopen(self, options: JournalOptions, now_ms: i64) -> Result<Journal, RecoveryError> {
        let Self { folder, tenant, listing, found } = self;
        repair::reopen(folder, tenant, options, now_ms, &listing, found)
    }
}

/// [`read`] and then [`ReadThrough::reopen`].
#[cfg(test)]
pub fn recover(
    folder: &Folder,
    tenant: [u8; 16],
    snapshot_seq: u64,
    now_ms: i64,
    options: JournalOptions,
    each: &mut Each<'_>,
) -> Result<Journal, RecoveryError> {
    read(folder, tenant, snapshot_seq, each)?.reopen(options, now_ms)
}

/// The segment up to which all is whole.
pub(super) struct Reached {
    /// Which of the listed segments.
    pub at: usize,
    pub header: Header,
    /// Where its last whole frame ends.
    pub end: u64,
    pub chain: Chain,
    pub index: Index,
    /// Bytes of it on disk for certain.
    pub synced_offset: u64,
}

/// A segment that may not be on disk as a whole, though it was read.
pub(super) struct Unsure {
    pub first_seq: u64,
    pub bytes: Vec<u8>,
    /// How many of them are on disk for certain.
    pub synced_offset: u64,
}

/// Where the first bytes are that make no sense.
pub(super) struct Bad {
    /// Which of the listed segments.
    pub at: usize,
    pub offset: u64,
    pub detail: String,
}

/// A bad place in a segment.
#[derive(Clone, Copy)]
pub(super) struct Spot {
    pub offset: u64,
    /// The event that has to come next there.
    pub next_seq: u64,
    /// The last event that what comes before it, or a snapshot, says is on disk.
    pub synced_seq: u64,
}

/// Whether it is certain that what was at a bad spot had reached the disk, so that no crash can have left it so.
/// `segments` are that segment, whose bytes are given, and those after it.
pub(super) fn was_on_disk<E>(
    segments: &[Entry],
    bytes: &[u8],
    spot: Spot,
    load: &mut dyn FnMut(Entry) -> Result<Vec<u8>, E>,
) -> Result<bool, E> {
    let mut synced_seq = spot.synced_seq;
    let mut certain = false;
    for (at, &entry) in segments.iter().enumerate() {
        // A segment is sealed only once it, and all before it, are on disk.
        certain |= entry.sealed;
        let marker = match at {
            0 => frame::last_marker(bytes),
            _ if entry.raw => frame::last_marker(&load(entry)?),
            _ => None,
        };
        if let Some(marker) = marker {
            synced_seq = synced_seq.max(marker.synced_seq);
            let needed = if at == 0 { spot.offset } else { 0 };
            certain |= marker.synced_offset > needed;
        }
    }
    Ok(certain || spot.next_seq <= synced_seq)
}

enum Fault {
    Bad(String),
    Fatal(RecoveryError),
}

struct Replay<'a, 'e> {
    folder: &'a Folder,
    listing: &'a Listing,
    tenant: [u8; 16],
    snapshot_seq: u64,
    each: &'a mut Each<'e>,
    /// The sequence number that has to come next.
    expect: u64,
    link: Checkpoint,
    /// The most a marker read so far says is on disk.
    told: u64,
    /// The segments that may not be there after a power failure, oldest first.
    unsure: Vec<Unsure>,
}

impl Replay<'_, '_> {
    /// Segments the snapshot covers wholly are skipped, but one that has a header is needed to go on from.
    fn first_to_read(&self) -> Result<usize, RecoveryError> {
        let segments = &self.listing.segments;
        // Where a segment ends with the snapshot's event, its closing marker may have come after the snapshot.
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

    /// Retention may have removed all that the snapshot holds.
    fn starts_after_snapshot(&self) -> Option<usize> {
        let first = self.listing.segments.first()?;
        (first.first_seq == self.snapshot_seq.saturating_add(1)).then_some(0)
    }

    fn has_header(&self, at: usize) -> Result<bool, RecoveryError> {
        // A sealed file that does not decompress is met again, and judged, when it is read.
        match self.listing.segments.get(at) {
            Some(entry) if entry.raw => read_header(self.folder, entry.first_seq)
                .map(|header| header.is_some())
                .map_err(RecoveryError::io(self.folder.raw(entry.first_seq))),
            _ => Ok(true),
        }
    }

    fn run(&mut self, start: usize) -> Result<(Reached, Option<Bad>), RecoveryError> {
        let mut reached: Option<Reached> = None;
        for (at, &entry) in self.listing.segments.iter().enumerate().skip(start) {
            let bytes = self.load(entry)?;
            let (now, bad) = match self.header(entry, &bytes, reached.is_none()) {
                Ok(header) => self.frames(at, entry, header, &bytes)?,
                Err(Fault::Fatal(error)) => return Err(error),
                Err(Fault::Bad(detail)) => {
                    let bad = Bad { at, offset: 0, detail };
                    self.judge(&bad, &bytes)?;
                    // Without a segment before it, there is nothing to go on from.
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
                // No byte of a segment is known to be on disk before all of those ahead of it are.
                self.unsure.clear();
            }
            if entry.raw {
                self.unsure.push(Unsure { first_seq: entry.first_seq, bytes, synced_offset });
            }
            if bad.is_some() {
                return Ok((now, bad));
            }
            reached = Some(now);
        }
        match reached {
            Some(reached) if self.expect > self.snapshot_seq => Ok((reached, None)),
            reached => Err(self.damaged(&Bad {
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

    fn load(&self, entry: Entry) -> Result<Vec<u8>, RecoveryError> {
        let path = self.folder.current(entry);
        let read = match entry.raw {
            true => read_segment(self.folder, entry.first_seq),
            false => read_sealed(&*self.folder.disk, &path),
        };
        match read {
            Ok(bytes) => Ok(bytes),
            // The system's own errors have a number; the decompressor's have none.
            Err(error) if error.raw_os_error().is_some() => Err(RecoveryError::io(path)(error)),
            Err(error) => Err(RecoveryError::Damaged {
                file: path,
                offset: 0,
                detail: format!("the sealed segment does not decompress: {error}"),
            }),
        }
    }

    fn header(&mut self, entry: Entry, bytes: &[u8], first: bool) -> Result<Header, Fault> {
        let header = match Header::decode(bytes) {
            Ok(header) => header,
            Err(HeaderError::Torn) => return Err(Fault::Bad("the header is torn".into())),
            Err(HeaderError::TooNew(version)) => {
                return Err(Fault::Fatal(RecoveryError::TooNew {
                    file: self.folder.current(entry),
                    version,
                    supported: VERSION,
                }));
            }
        };
        if header.tenant != self.tenant {
            let file = self.folder.current(entry);
            return Err(Fault::Fatal(RecoveryError::Foreign { file, owner: header.tenant }));
        }
        let named = entry.first_seq;
        if header.first_seq != named {
            return Err(Fault::Bad(format!(
                "the header says the segment starts with event {}, its name {named}",
                header.first_seq
            )));
        }
        if first {
            self.expect = named;
            self.link = Checkpoint { seq: named.saturating_sub(1), hash: header.previous, time_ms: header.created_ms };
        } else if named != self.expect {
            return Err(Fault::Bad(format!(
                "the segment starts with event {named} where event {} is next",
                self.expect
            )));
        } else if header.previous != self.link.hash {
            return Err(Fault::Bad("the segment does not continue the hash chain of the one before".into()));
        }
        Ok(header)
    }

    fn frames(
        &mut self,
        at: usize,
        entry: Entry,
        header: Header,
        bytes: &[u8],
    ) -> Result<(Reached, Option<Bad>), RecoveryError> {
        let mut index = Index::default();
        let mut synced_offset = 0;
        let mut position = HEADER;
        let mut unlinked = HEADER;
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
                        (self.each)(seq, payload).map_err(|detail| RecoveryError::Undecodable {
                            file: self.folder.current(entry),
                            offset: position as u64,
                            seq,
                            detail,
                        })?;
                    }
                    index.note(position as u64, seq);
                    self.expect += 1;
                }
                Frame::Marker(marker) => {
                    if marker.synced_seq >= self.expect || marker.synced_offset > position as u64 {
                        break Some("a marker tells of events that are not there".into());
                    }
                    self.told = self.told.max(marker.synced_seq);
                    synced_offset = marker.synced_offset;
                    self.link = Checkpoint { seq: self.expect - 1, hash: marker.hash, time_ms: marker.time_ms };
                    unlinked = position + length;
                }
            }
            position += length;
        };
        let mut chain = Chain::resume(self.link);
        chain.extend(bytes.get(unlinked..position).unwrap_or_default());
        let reached = Reached { at, header, end: position as u64, chain, index, synced_offset };
        let bad = bad.map(|detail| Bad { at, offset: position as u64, detail });
        Ok((reached, bad))
    }

    /// An error if the bad spot is at or before what was on disk for certain. `bytes` are those of its segment.
    fn judge(&self, bad: &Bad, bytes: &[u8]) -> Result<(), RecoveryError> {
        let segments = self.listing.segments.get(bad.at..).unwrap_or_default();
        let spot = Spot { offset: bad.offset, next_seq: self.expect, synced_seq: self.told.max(self.snapshot_seq) };
        match was_on_disk(segments, bytes, spot, &mut |entry| self.load(entry))? {
            true => Err(self.damaged(bad)),
            false => Ok(()),
        }
    }

    fn damaged(&self, bad: &Bad) -> RecoveryError {
        let file = match self.listing.segments.get(bad.at) {
            Some(&entry) => self.folder.current(entry),
            None => self.folder.path.clone(),
        };
        RecoveryError::Damaged { file, offset: bad.offset, detail: bad.detail.clone() }
    }
}

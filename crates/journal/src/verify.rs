//! Checks a tenant's hash chain from end to end, and against a link that was kept elsewhere.

use std::cell::Cell;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::chain::Checkpoint;
use crate::chain_check::{ChainCheck, EventCheck, Fault, FaultKind, Passage, Segment};
use crate::crash::{SuspectPlace, was_on_disk};
use crate::disk::{FileStream, OpenMode};
use crate::error::{RecoveryError, invalid};
use crate::folder::{Folder, SegmentEntry};
use crate::frame::{self, Frame};
use crate::log::{LogTails, Tail};
use crate::reader::JournalReader;
use crate::segment::{HEADER, SegmentHeader, decompress};

/// The result of checking the hash chain in a tenant's folder.
#[derive(Clone, Debug)]
pub struct ChainReport {
    /// The tenant's uuid, from the oldest readable header.
    pub tenant: [u8; 16],
    /// Segments in the folder.
    pub segments: usize,
    /// The first event in the journal; later than 1 if retention removed older ones.
    pub first_seq: u64,
    /// The last event checked.
    pub last_seq: u64,
    /// Links that match their events.
    pub links: u64,
    /// The newest matching link. No link covers events after it yet.
    pub link: Checkpoint,
    /// Whether the chain passes through the kept link.
    pub passage: Passage,
    /// Bytes at the end that a crash left: no whole event, or behind one that is missing.
    pub torn_bytes: u64,
    /// How many of the last events only the log has.
    pub in_log: u64,
    /// The first fault, if there is one.
    pub fault: Option<Fault>,
}

/// Follows the hash chain through all segments in a tenant's folder, up to the first thing that is wrong, and compares
/// it with a link that was kept. Then come the events that only the log has. Nothing is changed, and no lock is taken:
/// nobody may write to the folder meanwhile. The oldest segment's header is taken at its word. Blocking, reads everything.
///
/// # Errors
/// The folder can't be read, or holds no journal.
pub fn verify_chain(
    folder: &Folder,
    log: &LogTails,
    kept: Option<Checkpoint>,
    odd: &mut EventCheck<'_>,
) -> io::Result<ChainReport> {
    let listing = folder.list()?;
    let none = || io::Error::new(io::ErrorKind::NotFound, format!("{} holds no journal", folder.path.display()));
    let oldest = listing.segments.first().ok_or_else(none)?;
    // Snapshots and checkpoints come only after the journal is on disk up to their event.
    let snapshot_seq = listing.snapshots.last().copied().unwrap_or(0);
    let certain_seq = kept.map_or(0, |kept| kept.seq).max(snapshot_seq);
    let mut tenant = None;
    for &entry in &listing.segments {
        let (bytes, _) = read_what_is_there(folder, entry)?;
        tenant = SegmentHeader::decode(&bytes).ok().map(|header| header.tenant);
        if tenant.is_some() {
            break;
        }
    }
    let unreadable = || invalid(&folder.current(*oldest), 0, "no segment in the folder has a header that can be read");
    let tenant = tenant.ok_or_else(unreadable)?;
    let mut check = ChainCheck::new(tenant, kept, odd);
    let mut end = (PathBuf::new(), 0);
    let mut fault = None;
    let unread = Cell::new(None);
    for (at, &entry) in listing.segments.iter().enumerate() {
        let file = folder.current(entry);
        let (bytes, cut) = read_what_is_there(folder, entry)?;
        // Recovery would cut this as a torn tail, so it is no sign of tampering.
        let was_on_disk = |spot: SuspectPlace| {
            let spot = SuspectPlace { synced_seq: spot.synced_seq.max(certain_seq), ..spot };
            let rest = listing.segments.get(at..).unwrap_or_default();
            let judged = was_on_disk(rest, &bytes, spot, &mut |entry| Ok(read_what_is_there(folder, entry)?.0));
            judged.unwrap_or_else(|problem: io::Error| {
                unread.set(Some(problem));
                true
            })
        };
        let first_seq = entry.first_seq;
        let followed =
            check.segment(&Segment { file: &file, first_seq, bytes: &bytes, cut, was_on_disk: &was_on_disk });
        if let Some(problem) = unread.take() {
            return Err(problem);
        }
        end = (file, bytes.len() as u64);
        if let Err(found) = followed {
            fault = Some(*found);
            break;
        }
    }
    if fault.is_none() {
        fault = check.finish(&end.0, end.1, snapshot_seq).err().map(|found| *found);
    }
    let mut report = ChainReport {
        tenant,
        segments: listing.segments.len(),
        first_seq: check.first_seq,
        last_seq: check.expect.saturating_sub(1),
        links: check.links,
        link: check.link().unwrap_or(Checkpoint { seq: 0, hash: [0; 32], time_ms: 0 }),
        passage: check.passage(),
        torn_bytes: check.torn_bytes,
        in_log: 0,
        fault,
    };
    if report.fault.is_none() {
        report.fault = follow_tail(&mut report, (&end.0, end.1), log.of(tenant), odd).err().map(|fault| *fault);
    }
    Ok(report)
}

/// Follows the events that only the log has.
fn follow_tail(
    report: &mut ChainReport,
    folder_end: (&Path, u64),
    tail: &Tail,
    odd: &mut EventCheck<'_>,
) -> Result<(), Box<Fault>> {
    let fault = |file, offset, first: u64, last: u64, detail| {
        let kind = FaultKind::Changed;
        Box::new(Fault { kind, file, offset, first, last: last.max(first), event: None, before: None, detail })
    };
    let frames = tail.frames_after(report.last_seq, folder_end).map_err(|problem| match problem {
        RecoveryError::Damaged { file, offset, detail } => {
            fault(file, offset, report.last_seq + 1, tail.last_seq(), detail)
        }
        other => fault(PathBuf::new(), 0, report.last_seq + 1, tail.last_seq(), other.to_string()),
    })?;
    let mut rest = frames.as_slice();
    while let Ok((Frame::Event { seq, payload }, length)) = frame::parse(rest) {
        if let Some(detail) = odd(seq, payload) {
            let (file, offset) = tail.place_of(seq);
            return Err(Box::new(Fault { event: Some(payload.to_vec()), ..*fault(file, offset, seq, seq, detail) }));
        }
        report.last_seq = seq;
        report.in_log += 1;
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(())
}

/// A segment's uncompressed bytes, and the reason if they are not all of them.
fn read_what_is_there(folder: &Folder, entry: SegmentEntry) -> io::Result<(Vec<u8>, Option<String>)> {
    let mut file = FileStream::new(folder.disk.open(&folder.current(entry), OpenMode::Read)?);
    let mut bytes = Vec::new();
    let read = match entry.raw {
        true => file.read_to_end(&mut bytes).map(|_| ()),
        false => decompress(file, &mut bytes),
    };
    match read {
        Ok(()) => Ok((bytes, None)),
        // Errors of the system have a number, errors of the decompressor have none.
        Err(error) if error.raw_os_error().is_some() => Err(error),
        Err(error) => Ok((bytes, Some(format!("the compressed segment can't be decompressed: {error}")))),
    }
}

impl JournalReader {
    /// Computes every link of this view anew and returns the newest; an edited journal is an `InvalidData` error that
    /// names the place. Blocking, reads everything.
    pub fn verify(&self) -> io::Result<Checkpoint> {
        let mut nothing_odd = |_: u64, _: &[u8]| None;
        let mut check = ChainCheck::new(self.tenant, None, &mut nothing_odd);
        let found = |fault: Box<Fault>| invalid(&fault.file, fault.offset, &fault.detail);
        for &first_seq in self.older.iter() {
            let Some(bytes) = self.read_older(first_seq)? else { continue };
            let file = self.folder.raw(first_seq);
            let segment = Segment { file: &file, first_seq, bytes: &bytes, cut: None, was_on_disk: &|_| true };
            check.segment(&segment).map_err(found)?;
        }
        let first_seq = self.active;
        let file = self.folder.raw(first_seq);
        if let Some(bytes) = self.read_active(&(0..self.end))? {
            let segment = Segment { file: &file, first_seq, bytes: &bytes, cut: None, was_on_disk: &|_| true };
            check.segment(&segment).map_err(found)?;
        }
        check.link().ok_or_else(|| invalid(&file, HEADER as u64, "there is no journal segment"))
    }
}

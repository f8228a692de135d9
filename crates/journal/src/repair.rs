//! The second half of recovery: cuts a torn tail off, and opens the rest for writing.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::active::Active;
use crate::disk::OpenMode;
use crate::error::RecoveryError;
use crate::folder::{Folder, Listing, SegmentEntry};
use crate::scan::{BadSpot, IntactEnd, Scan, UnsyncedSegment};
use crate::segment::SegmentFile;
use crate::sync_state::SyncState;
use crate::synced_file::SyncFailure;
use crate::tail::Tail;
use crate::writer::{Journal, JournalOptions};

/// Cuts the folder where the intact frames end, and opens the journal there.
pub(super) fn reopen(
    folder: Arc<Folder>,
    tenant: [u8; 16],
    options: JournalOptions,
    now_ms: i64,
    listing: &Listing,
    scan: Scan,
) -> Result<Journal, RecoveryError> {
    let dir = folder.path.clone();
    let outcome = try_reopen(folder, tenant, options, now_ms, listing, scan);
    outcome.map_err(RecoveryError::io(dir))
}

fn try_reopen(
    folder: Arc<Folder>,
    tenant: [u8; 16],
    options: JournalOptions,
    now_ms: i64,
    listing: &Listing,
    scan: Scan,
) -> io::Result<Journal> {
    for leftover in &listing.leftovers {
        folder.remove_if_there(leftover)?;
    }
    let last = scan.intact.at;
    if let Some(bad) = &scan.torn {
        cut(&folder, listing, &scan.intact, bad)?;
    }
    let kept = listing.segments.get(..=last).unwrap_or_default();
    let Some((active, older)) = kept.split_last() else {
        return Err(io::Error::other("no segment was read"));
    };
    let rotated = open_rotated(&folder, older, &scan)?;
    let older = older.iter().map(|entry| entry.first_seq);
    let chain = scan.intact.chain;
    if !active.raw {
        // The segment after a compressed one was lost, and a compressed one takes no more frames.
        if chain.link().seq != scan.last_seq {
            return Err(io::Error::other("a compressed segment lacks its closing marker"));
        }
        let older = older.chain([active.first_seq]).collect();
        // A segment never starts before the events ahead of it, even if the clock was set back.
        let begun_ms = now_ms.max(chain.link().time_ms);
        let mut journal = Journal::start(folder, tenant, options, older, chain.link(), begun_ms)?;
        journal.folder.sync()?;
        let entered = journal.active.first_seq;
        journal.sync = SyncState::recovered(scan.last_seq, scan.last_seq, 0, entered, rotated);
        return Ok(journal);
    }
    if active.compressed {
        // The server crashed while compressing it, and then the next segment was lost. The copy will soon be outdated.
        folder.remove_if_there(&folder.compressed(active.first_seq))?;
        folder.sync()?;
    }
    let IntactEnd { end, events_end, synced_offset, .. } = scan.intact;
    let read = scan.unsynced.iter().find(|read| read.first_seq == active.first_seq).map(|read| read.bytes.as_slice());
    let since_event = read.and_then(|bytes| bytes.get(events_end as usize..end as usize)).unwrap_or_default();
    let mut active = Active {
        first_seq: active.first_seq,
        created_ms: scan.intact.header.created_ms,
        end,
        index: scan.intact.index,
        since_event: since_event.to_vec(),
        failure: SyncFailure::default(),
        file: None,
    };
    if scan.torn.is_some() || !active.may_be_closed(synced_offset) {
        let file = SegmentFile::open(&folder, active.first_seq, active.failure.clone())?;
        if scan.torn.is_some() {
            file.file().set_size(end)?;
            file.file().sync()?;
        }
        rewrite(&file, &scan.unsynced, end)?;
        active.file = Some(Arc::new(file));
    }
    Ok(Journal {
        folder,
        tenant,
        options,
        older: Arc::new(older.collect()),
        active,
        tail: Tail::after(scan.last_seq),
        is_flushing: false,
        written: scan.last_seq,
        chain,
        sync: SyncState::recovered(scan.synced_seq, scan.recorded_seq, synced_offset, 0, rotated),
        broken: false,
    })
}

/// Logs what is cut, and removes the segments behind the cut, newest first, so that a crash in between leaves no gap. The
/// file itself is cut when it is opened.
fn cut(folder: &Folder, listing: &Listing, reached: &IntactEnd, bad: &BadSpot) -> io::Result<()> {
    let behind = listing.segments.get(reached.at + 1..).unwrap_or_default();
    let mut bytes = 0;
    if let Some(&last) = listing.segments.get(reached.at) {
        let path = folder.current(last);
        if last.raw {
            bytes = size(folder, &path)?.saturating_sub(reached.end);
        }
        for entry in behind {
            bytes += size(folder, &folder.raw(entry.first_seq))?;
        }
        tracing::warn!(
            file = %path.display(),
            offset = reached.end,
            bytes,
            detail = bad.detail,
            "cutting off a torn tail that was never reported as synced"
        );
    }
    for entry in behind.iter().rev() {
        folder.remove_if_there(&folder.raw(entry.first_seq))?;
    }
    folder.sync()
}

fn size(folder: &Folder, path: &Path) -> io::Result<u64> {
    folder.disk.open(path, OpenMode::Read)?.size()
}

/// Opens the raw segments before the active one. Their last bytes may not be on disk, so the next sync covers them; then
/// they are compressed.
fn open_rotated(folder: &Folder, older: &[SegmentEntry], scan: &Scan) -> io::Result<Vec<Arc<SegmentFile>>> {
    let mut rotated = Vec::new();
    for entry in older {
        if entry.raw {
            let file = match SegmentFile::open(folder, entry.first_seq, SyncFailure::default()) {
                // A job of before has compressed it since it was listed.
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound
                        && folder.disk.exists(&folder.compressed(entry.first_seq)) =>
                {
                    continue;
                }
                opened => opened?,
            };
            rewrite(&file, &scan.unsynced, u64::MAX)?;
            rotated.push(Arc::new(file));
        }
    }
    Ok(rotated)
}

/// Writes the content of a segment up to `end` over itself, except the bytes that are certainly on disk. After a failed
/// sync, the kernel considers bytes clean that it lost, and may drop them at any time, yet the next sync would vouch for
/// them. Writing makes the bytes and the size dirty again. It happens in place, so it needs no space.
fn rewrite(file: &SegmentFile, unsynced: &[UnsyncedSegment], end: u64) -> io::Result<()> {
    let Some(read) = unsynced.iter().find(|read| read.first_seq == file.first_seq) else { return Ok(()) };
    let end = end.min(read.bytes.len() as u64);
    file.file().set_size(end)?;
    let bytes = read.bytes.get(read.synced_offset as usize..end as usize).unwrap_or_default();
    file.file().write_all_at(bytes, read.synced_offset).map_err(|(_, error)| error)
}

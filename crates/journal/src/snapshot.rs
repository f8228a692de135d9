//! Snapshots: the state as of one event, so that recovery need not read the events before it. The crate's page describes
//! their bytes; later versions keep the header.
//!
//! A snapshot is written only after the journal is on disk up to its event, so it also proves how far the journal has to
//! reach.

use std::io::{self, BufRead, BufReader, BufWriter, Read, Take, Write};
use std::path::Path;

use crate::disk::{DiskFile, FileStream, OpenMode};
use crate::error::RecoveryError;
use crate::files::replace;
use crate::folder::Folder;
use crate::segment::VERSION;
use crate::sync_job::SyncJob;
use crate::writer::Journal;

const MAGIC: [u8; 8] = *b"KAVACHS\n";
const HEADER: usize = 46;

/// Snapshots to keep: the newest, and one to fall back to.
const KEPT: usize = 2;

/// Bytes read or written at a time (64 KiB). A state may take a gigabyte, so its bytes are never all in memory beside it.
const BLOCK: usize = 1 << 16;

/// A snapshot whose checksum holds. Reading from it gives the caller's bytes.
#[derive(Debug)]
pub struct Snapshot {
    /// The last event its state includes.
    pub seq: u64,
    payload: Take<BufReader<FileStream>>,
}

impl Read for Snapshot {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.payload.read(buffer)
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.payload.read_exact(buffer)
    }
}

/// What [`load_snapshot`] found.
#[derive(Debug, Default)]
pub struct LoadedSnapshot {
    /// The newest good snapshot; `None` means to replay the whole journal.
    pub snapshot: Option<Snapshot>,
    /// A sentence for each newer, damaged snapshot that was skipped. The log has them too.
    pub warnings: Vec<String>,
}

/// Loads the newest good snapshot of a tenant's folder. Blocking, changes nothing.
///
/// One of another tenant is `Foreign`, one of a later format `TooNew`: neither may be passed over silently.
pub fn load_snapshot(folder: &Folder, tenant: [u8; 16]) -> Result<LoadedSnapshot, RecoveryError> {
    let listing = folder.list().map_err(RecoveryError::io(&folder.path))?;
    let mut loaded = LoadedSnapshot::default();
    for seq in listing.snapshots.into_iter().rev() {
        let path = folder.snapshot(seq);
        let opened = match Opened::at(folder, &path) {
            // An earlier job is still removing snapshots that are no longer kept.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            result => result.map_err(RecoveryError::io(&path))?,
        };
        let detail = match opened {
            Some(opened) if !opened.fits => "it does not match its checksum",
            Some(Opened { head, .. }) if head.version > VERSION => {
                return Err(RecoveryError::TooNew { file: path, version: head.version, supported: VERSION });
            }
            Some(Opened { head, .. }) if head.tenant != tenant => {
                return Err(RecoveryError::Foreign { file: path, owner: head.tenant });
            }
            Some(Opened { head, file, .. }) if head.version == VERSION && head.seq == seq => {
                loaded.snapshot = Some(Snapshot { seq, payload: file.take(head.len) });
                return Ok(loaded);
            }
            Some(_) => "its header does not match its name",
            None => "its header is torn",
        };
        let warning = format!("the snapshot {} is damaged ({detail}) and was passed over", path.display());
        tracing::warn!("{warning}");
        loaded.warnings.push(warning);
    }
    Ok(loaded)
}

/// The tenant that a snapshot's header names; `None` where the header is torn.
pub(super) fn read_tenant(folder: &Folder, seq: u64) -> io::Result<Option<[u8; 16]>> {
    let mut header = Vec::with_capacity(HEADER);
    let file = folder.disk.open(&folder.snapshot(seq), OpenMode::Read)?;
    FileStream::new(file).take(HEADER as u64).read_to_end(&mut header)?;
    Ok(SnapshotHeader::read(&header).map(|head| head.tenant))
}

struct SnapshotHeader {
    version: u16,
    tenant: [u8; 16],
    seq: u64,
    len: u64,
    crc: u32,
    /// Of the header's own bytes; continued over the payload.
    hasher: crc32fast::Hasher,
}

impl SnapshotHeader {
    fn encode(tenant: [u8; 16], seq: u64, len: u64, payload: &crc32fast::Hasher) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&tenant);
        bytes.extend_from_slice(&seq.to_le_bytes());
        bytes.extend_from_slice(&len.to_le_bytes());
        let mut crc = crc32fast::Hasher::new();
        crc.update(&bytes);
        crc.combine(payload);
        bytes.extend_from_slice(&crc.finalize().to_le_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (covered, crc) = bytes.get(..HEADER)?.split_last_chunk::<4>()?;
        let (version, rest) = covered.strip_prefix(&MAGIC)?.split_first_chunk::<2>()?;
        let (tenant, rest) = rest.split_first_chunk::<16>()?;
        let (seq, len) = rest.split_first_chunk::<8>()?;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(covered);
        Some(Self {
            version: u16::from_le_bytes(*version),
            tenant: *tenant,
            seq: u64::from_le_bytes(*seq),
            len: u64::from_le_bytes(len.try_into().ok()?),
            crc: u32::from_le_bytes(*crc),
            hasher,
        })
    }
}

/// A snapshot file whose payload is read next.
struct Opened {
    head: SnapshotHeader,
    /// Whether the file is as long as the header says, and its checksum holds.
    fits: bool,
    file: BufReader<FileStream>,
}

impl Opened {
    /// Opens a file and reads it once to check it; `None` where its header is torn.
    fn at(folder: &Folder, path: &Path) -> io::Result<Option<Self>> {
        let file = folder.disk.open(path, OpenMode::Read)?;
        let size = file.size()?;
        // The small snapshot of a small tenant is read once and stays in the buffer.
        let mut file =
            BufReader::with_capacity(BLOCK.min(usize::try_from(size).unwrap_or(BLOCK)), FileStream::new(file));
        let mut header = Vec::with_capacity(HEADER);
        file.by_ref().take(HEADER as u64).read_to_end(&mut header)?;
        let Some(head) = SnapshotHeader::read(&header) else { return Ok(None) };
        let whole = size.checked_sub(HEADER as u64) == Some(head.len);
        let fits = whole && head.crc == checksum(head.hasher.clone(), &mut file, head.len)?;
        if fits && let Ok(back) = i64::try_from(head.len) {
            file.seek_relative(-back)?;
        }
        Ok(Some(Self { head, fits, file }))
    }
}
/// The checksum of what `hasher` took and the next `len` bytes, or as many as there are.
fn checksum(mut hasher: crc32fast::Hasher, file: &mut impl BufRead, len: u64) -> io::Result<u32> {
    let mut left = len;
    while left > 0 {
        let block = file.fill_buf()?;
        let length = block.len();
        if length == 0 {
            break;
        }
        hasher.update(block);
        file.consume(length);
        left = left.saturating_sub(length as u64);
    }
    Ok(hasher.finalize())
}

/// Where a snapshot's bytes go.
#[derive(Debug)]
pub struct SnapshotFile<'f>(BufWriter<HashingWriter<'f>>);

/// Writes to a file, and counts and checksums the bytes.
#[derive(Debug)]
struct HashingWriter<'f> {
    file: &'f dyn DiskFile,
    len: u64,
    hasher: crc32fast::Hasher,
}

impl Write for HashingWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write_at(bytes, HEADER as u64 + self.len)?;
        self.hasher.update(bytes.get(..written).unwrap_or_default());
        self.len += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for SnapshotFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Writing one snapshot, off the owner's thread.
#[derive(Debug)]
pub struct SnapshotJob {
    sync: SyncJob,
    tenant: [u8; 16],
    /// The last event the state includes.
    seq: u64,
}

impl Journal {
    /// A job that writes the state as of event `seq`, which has to be in the file.
    pub fn begin_snapshot(&self, seq: u64) -> SnapshotJob {
        SnapshotJob { sync: self.begin_sync(), tenant: self.tenant, seq: seq.min(self.written) }
    }
}

impl SnapshotJob {
    /// The last event the state includes.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Makes the journal durable up to the snapshot's event, writes the snapshot as one step, and removes
    /// those that are no longer kept. Blocking. A snapshot of event 0 says nothing and is not written.
    pub fn run(&self, write: impl FnOnce(&mut SnapshotFile<'_>) -> io::Result<()>) -> io::Result<()> {
        let seq = self.seq();
        if seq == 0 {
            return Ok(());
        }
        self.sync.run()?;
        let folder = &self.sync.folder;
        replace(&*folder.disk, &folder.snapshot(seq), |file| {
            let counted = HashingWriter { file, len: 0, hasher: crc32fast::Hasher::new() };
            let mut payload = SnapshotFile(BufWriter::with_capacity(BLOCK, counted));
            write(&mut payload)?;
            let HashingWriter { len, hasher, .. } = payload.0.into_inner().map_err(io::IntoInnerError::into_error)?;
            // The header describes the payload, so it is written last.
            file.write_all_at(&SnapshotHeader::encode(self.tenant, seq, len, &hasher), 0).map_err(|(_, error)| error)
        })?;
        prune(folder, seq)
    }
}

/// Keeps the newest good ones; a damaged one must not push out the one to fall back to.
fn prune(folder: &Folder, written: u64) -> io::Result<()> {
    let mut good = 0;
    for seq in folder.list()?.snapshots.into_iter().rev() {
        let path = folder.snapshot(seq);
        if good >= KEPT {
            folder.remove_if_there(&path)?;
        } else if seq == written || Opened::at(folder, &path)?.is_some_and(|opened| opened.fits) {
            good += 1;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{TENANT, append, fresh, recovered};
    use crate::writer::JournalOptions;

    fn load(dir: &Path, tenant: [u8; 16]) -> Result<LoadedSnapshot, RecoveryError> {
        load_snapshot(&Folder::open(dir).unwrap(), tenant)
    }
    use std::fs;

    fn read(snapshot: &mut Snapshot) -> Vec<u8> {
        let mut payload = Vec::new();
        snapshot.read_to_end(&mut payload).unwrap();
        payload
    }

    fn flip(path: &Path, at: usize) {
        let mut bytes = fs::read(path).unwrap();
        bytes[at] ^= 1;
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn the_last_two_are_kept_and_a_damaged_one_falls_back() {
        let (dir, mut journal) = fresh(JournalOptions::default());
        assert!(load(dir.path(), TENANT).unwrap().snapshot.is_none());
        for seq in 1..=3 {
            append(&mut journal, 1);
            journal.flush().unwrap();
            let job = journal.begin_snapshot(journal.written_seq());
            assert_eq!(job.seq(), seq);
            job.run(|file| write!(file, "state {seq}")).unwrap();
        }
        let folder = Folder::open(dir.path()).unwrap();
        assert_eq!(folder.list().unwrap().snapshots, [2, 3]);
        let seq = |dir| load(dir, TENANT).unwrap().snapshot.map(|s| s.seq);
        assert_eq!(seq(dir.path()), Some(3));
        let size = fs::metadata(folder.snapshot(3)).unwrap().len() as usize;
        for at in 0..size {
            flip(&folder.snapshot(3), at);
            let loaded = load(dir.path(), TENANT).unwrap();
            let mut fallback = loaded.snapshot.unwrap();
            assert_eq!((fallback.seq, read(&mut fallback)), (2, b"state 2".to_vec()));
            assert_eq!(loaded.warnings.len(), 1);
            flip(&folder.snapshot(3), at);
        }
        // The damaged one is not counted, so the good older one outlives the next.
        flip(&folder.snapshot(3), size - 1);
        append(&mut journal, 1);
        journal.flush().unwrap();
        journal.begin_snapshot(journal.written_seq()).run(|file| file.write_all(b"state 4")).unwrap();
        assert_eq!(folder.list().unwrap().snapshots, [2, 3, 4]);
        assert_eq!(seq(dir.path()), Some(4));
        flip(&folder.snapshot(4), 50);
        assert_eq!(seq(dir.path()), Some(2));
        flip(&folder.snapshot(2), 50);
        assert_eq!(seq(dir.path()), None);
        assert!(matches!(
            load(dir.path(), [0; 16]),
            Ok(LoadedSnapshot { snapshot: None, warnings }) if warnings.len() == 3
        ));
    }

    #[test]
    fn one_larger_than_the_buffer_is_read_back_and_every_length_but_its_own_is_noticed() {
        let (dir, mut journal) = fresh(JournalOptions::default());
        append(&mut journal, 1);
        journal.flush().unwrap();
        let payload: Vec<u8> = (0..3 * BLOCK + 7).map(|n| (n % 251) as u8).collect();
        journal
            .begin_snapshot(journal.written_seq())
            .run(|file| payload.chunks(1_000).try_for_each(|part| file.write_all(part)))
            .unwrap();
        let path = Folder::open(dir.path()).unwrap().snapshot(1);
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes[HEADER..], payload);
        assert_eq!(read(&mut load(dir.path(), TENANT).unwrap().snapshot.unwrap()), payload);
        for other in
            [&bytes[..bytes.len() - 1], &[&bytes[..], b"x"].concat(), &bytes[..HEADER], &bytes[..HEADER - 1], b""]
        {
            fs::write(&path, other).unwrap();
            assert!(load(dir.path(), TENANT).unwrap().snapshot.is_none());
        }
    }

    #[test]
    fn a_snapshot_that_fails_to_be_written_leaves_nothing() {
        let (dir, mut journal) = fresh(JournalOptions::default());
        append(&mut journal, 1);
        journal.flush().unwrap();
        let full = |_: &mut SnapshotFile<'_>| Err(io::ErrorKind::StorageFull.into());
        assert_eq!(
            journal.begin_snapshot(journal.written_seq()).run(full).unwrap_err().kind(),
            io::ErrorKind::StorageFull
        );
        let listing = Folder::open(dir.path()).unwrap().list().unwrap();
        assert!(listing.snapshots.is_empty() && listing.leftovers.is_empty());
    }

    #[test]
    fn another_tenants_snapshot_is_refused() {
        let (dir, mut journal) = fresh(JournalOptions::default());
        append(&mut journal, 1);
        journal.flush().unwrap();
        journal.begin_snapshot(journal.written_seq()).run(|file| file.write_all(b"state")).unwrap();
        assert!(matches!(load(dir.path(), [0; 16]), Err(RecoveryError::Foreign { .. })));
    }

    #[test]
    fn a_snapshot_proves_what_is_on_disk_even_without_a_marker() {
        let (dir, mut journal) = fresh(JournalOptions::default());
        for _ in 0..3 {
            append(&mut journal, 10);
        }
        journal.flush().unwrap();
        journal.begin_snapshot(journal.written_seq()).run(|file| file.write_all(b"state")).unwrap();
        append(&mut journal, 10);
        journal.flush().unwrap();
        drop(journal);
        let (journal, events) = recovered(dir.path(), TENANT, 3).unwrap();
        assert_eq!(events.len(), 1);
        assert_eq!((journal.synced_seq(), journal.is_dirty()), (3, true));
        drop(journal);
        let path = Folder::open(dir.path()).unwrap().raw(1);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(recovered(dir.path(), TENANT, 3).unwrap().1.is_empty());
        fs::write(&path, &whole[..whole.len() - 27]).unwrap();
        assert!(matches!(recovered(dir.path(), TENANT, 3), Err(RecoveryError::Damaged { .. })));
    }
}

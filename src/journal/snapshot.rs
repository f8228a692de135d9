//! Snapshots: the state as of one event, so that recovery need not read all before it. Their bytes are described
//! on the page of the parent module, and every later version keeps the header.
//!
//! A snapshot is written only after the journal up to its event is on disk, so that it also proves how far the
//! journal has to reach.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::Path;

use super::error::RecoveryError;
use super::files::{remove_if_there, write_atomic_parts};
use super::folder::Folder;
use super::segment::VERSION;
use super::sync::SyncJob;
use super::writer::Journal;

const MAGIC: [u8; 8] = *b"KAVACHS\n";
const HEADER: usize = 46;

/// Snapshots kept: the newest, and one to fall back to.
const KEPT: usize = 2;

/// A snapshot whose checksum holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The last event its state includes.
    pub seq: u64,
    /// The caller's bytes.
    pub payload: Vec<u8>,
}

/// What [`load_snapshot`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadedSnapshot {
    /// The newest good one; `None` means to replay the whole journal.
    pub snapshot: Option<Snapshot>,
    /// A sentence for each newer one that is damaged and was passed over; also in the log.
    pub warnings: Vec<String>,
}

/// Loads the newest good snapshot of a tenant's folder. Blocking, changes nothing.
///
/// One of another tenant is `Damaged`, one of a later format `TooNew`: neither may be passed over silently.
pub fn load_snapshot(dir: &Path, tenant: [u8; 16]) -> Result<LoadedSnapshot, RecoveryError> {
    let folder = Folder::open(dir).map_err(RecoveryError::io(dir))?;
    let listing = folder.list().map_err(RecoveryError::io(dir))?;
    let mut loaded = LoadedSnapshot::default();
    for seq in listing.snapshots.into_iter().rev() {
        let path = folder.snapshot(seq);
        let mut bytes = match fs::read(&path) {
            // A job of before is still removing what is no longer kept.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            result => result.map_err(RecoveryError::io(&path))?,
        };
        let detail = match Head::read(&bytes) {
            Some(head) if !head.fits(&bytes) => "it does not match its checksum",
            Some(head) if head.version > VERSION => {
                return Err(RecoveryError::TooNew { file: path, version: head.version, supported: VERSION });
            }
            Some(head) if head.tenant != tenant => {
                return Err(RecoveryError::Damaged {
                    file: path,
                    offset: 0,
                    detail: "the snapshot belongs to another tenant".into(),
                });
            }
            Some(head) if head.version == VERSION && head.seq == seq => {
                bytes.drain(..HEADER);
                loaded.snapshot = Some(Snapshot { seq, payload: bytes });
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

struct Head {
    version: u16,
    tenant: [u8; 16],
    seq: u64,
    len: u64,
    crc: u32,
    /// Of the header's own bytes; continued over the payload.
    hasher: crc32fast::Hasher,
}

impl Head {
    fn encode(tenant: [u8; 16], seq: u64, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&tenant);
        bytes.extend_from_slice(&seq.to_le_bytes());
        bytes.extend_from_slice(&(payload.len() as u64).to_le_bytes());
        let mut crc = crc32fast::Hasher::new();
        crc.update(&bytes);
        crc.update(payload);
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

    fn fits(&self, snapshot: &[u8]) -> bool {
        let payload = snapshot.get(HEADER..).unwrap_or_default();
        let mut hasher = self.hasher.clone();
        hasher.update(payload);
        payload.len() as u64 == self.len && hasher.finalize() == self.crc
    }
}

/// Whether a snapshot file is whole, without holding it in memory.
fn is_good(path: &Path) -> io::Result<bool> {
    let mut file = BufReader::with_capacity(1 << 16, File::open(path)?);
    let mut header = Vec::with_capacity(HEADER);
    file.by_ref().take(HEADER as u64).read_to_end(&mut header)?;
    let Some(head) = Head::read(&header) else {
        return Ok(false);
    };
    let mut hasher = head.hasher;
    let mut left = head.len;
    let mut block = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut block)?;
        let bytes = block.get(..read).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(left == 0 && hasher.finalize() == head.crc);
        }
        hasher.update(bytes);
        let Some(rest) = left.checked_sub(read as u64) else {
            return Ok(false);
        };
        left = rest;
    }
}

/// Writing one snapshot, off the owner's thread.
#[derive(Debug)]
pub struct SnapshotJob {
    sync: SyncJob,
    tenant: [u8; 16],
}

impl Journal {
    /// A job that writes the state as of [`written_seq`](Journal::written_seq), which is the state the caller
    /// has to take before anything else is appended.
    pub fn begin_snapshot(&self) -> SnapshotJob {
        SnapshotJob { sync: self.begin_sync(), tenant: self.tenant }
    }
}

impl SnapshotJob {
    /// The last event the state includes.
    pub fn seq(&self) -> u64 {
        self.sync.point.seq
    }

    /// Makes the journal durable up to the snapshot's event, writes the snapshot as one step, and removes
    /// those that are no longer kept. Blocking. A snapshot of event 0 says nothing and is not written.
    pub fn run(&self, payload: &[u8]) -> io::Result<()> {
        let seq = self.seq();
        if seq == 0 {
            return Ok(());
        }
        self.sync.run()?;
        let folder = &self.sync.folder;
        let header = Head::encode(self.tenant, seq, payload);
        write_atomic_parts(&folder.snapshot(seq), &[&header, payload])?;
        prune(folder, seq)
    }
}

/// Keeps the newest good ones; a damaged one must not push out the one to fall back to.
fn prune(folder: &Folder, written: u64) -> io::Result<()> {
    let mut good = 0;
    for seq in folder.list()?.snapshots.into_iter().rev() {
        let path = folder.snapshot(seq);
        if good >= KEPT {
            remove_if_there(&path)?;
        } else if seq == written || is_good(&path)? {
            good += 1;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{TENANT, append, fresh, recovered};
    use super::super::writer::JournalOptions;
    use super::*;

    fn flip(path: &Path, at: usize) {
        let mut bytes = fs::read(path).unwrap();
        bytes[at] ^= 1;
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn the_last_two_are_kept_and_a_damaged_one_falls_back() {
        let (dir, mut journal) = fresh(JournalOptions::default());
        assert_eq!(load_snapshot(dir.path(), TENANT).unwrap().snapshot, None);
        for seq in 1..=3 {
            append(&mut journal, 1);
            journal.flush().unwrap();
            let job = journal.begin_snapshot();
            assert_eq!(job.seq(), seq);
            job.run(format!("state {seq}").as_bytes()).unwrap();
        }
        let folder = Folder::open(dir.path()).unwrap();
        assert_eq!(folder.list().unwrap().snapshots, [2, 3]);
        let seq = |dir| load_snapshot(dir, TENANT).unwrap().snapshot.map(|s| s.seq);
        assert_eq!(seq(dir.path()), Some(3));
        let size = fs::metadata(folder.snapshot(3)).unwrap().len() as usize;
        for at in 0..size {
            flip(&folder.snapshot(3), at);
            assert!(!is_good(&folder.snapshot(3)).unwrap());
            let loaded = load_snapshot(dir.path(), TENANT).unwrap();
            let fallback = loaded.snapshot.unwrap();
            assert_eq!((fallback.seq, &fallback.payload[..]), (2, &b"state 2"[..]));
            assert_eq!(loaded.warnings.len(), 1);
            flip(&folder.snapshot(3), at);
        }
        // The damaged one is not counted, so the good older one outlives the next.
        flip(&folder.snapshot(3), size - 1);
        append(&mut journal, 1);
        journal.flush().unwrap();
        journal.begin_snapshot().run(b"state 4").unwrap();
        assert_eq!(folder.list().unwrap().snapshots, [2, 3, 4]);
        assert_eq!(seq(dir.path()), Some(4));
        flip(&folder.snapshot(4), 50);
        assert_eq!(seq(dir.path()), Some(2));
        flip(&folder.snapshot(2), 50);
        assert_eq!(seq(dir.path()), None);
        assert!(matches!(
            load_snapshot(dir.path(), [0; 16]),
            Ok(LoadedSnapshot { snapshot: None, warnings }) if warnings.len() == 3
        ));
    }

    #[test]
    fn another_tenants_snapshot_is_refused() {
        let (dir, mut journal) = fresh(JournalOptions::default());
        append(&mut journal, 1);
        journal.flush().unwrap();
        journal.begin_snapshot().run(b"state").unwrap();
        assert!(matches!(load_snapshot(dir.path(), [0; 16]), Err(RecoveryError::Damaged { .. })));
    }

    #[test]
    fn a_snapshot_proves_what_is_on_disk_even_without_a_marker() {
        let (dir, mut journal) = fresh(JournalOptions::default());
        for _ in 0..3 {
            append(&mut journal, 10);
        }
        journal.flush().unwrap();
        journal.begin_snapshot().run(b"state").unwrap();
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

//! The folder of one tenant: the names in it and what they mean.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, SystemDisk};
use crate::files::{TEMPORARY, remove_if_there};

const RAW: &str = ".journal";
const COMPRESSED: &str = ".journal.zst";
const SNAPSHOT: &str = ".snapshot";

/// A tenant's folder. It holds no open handle: with thousands of tenants, open files are dear.
#[derive(Clone, Debug)]
pub struct Folder {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) path: PathBuf,
    /// The file system it is on.
    pub(super) file_system: u64,
}

/// One segment's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentEntry {
    pub first_seq: u64,
    /// An uncompressed file is there. It wins over a compressed one.
    pub raw: bool,
    pub compressed: bool,
}

/// What a tenant's folder holds.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Oldest first.
    pub segments: Vec<SegmentEntry>,
    /// Oldest first.
    pub snapshots: Vec<u64>,
    /// Unfinished files.
    pub leftovers: Vec<PathBuf>,
}

impl Folder {
    /// The existing folder at a path of the operating system.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::on(SystemDisk::shared(), path)
    }

    /// The existing folder at a path on any disk.
    pub fn on(disk: Arc<dyn Disk>, path: &Path) -> io::Result<Self> {
        let file_system = disk.file_system(path)?;
        Ok(Self { disk, path: path.to_path_buf(), file_system })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes its entries durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.disk.sync_folder(&self.path)
    }

    /// Removes a file of it that may be gone already.
    pub(super) fn remove_if_there(&self, path: &Path) -> io::Result<()> {
        remove_if_there(&*self.disk, path)
    }

    pub(super) fn raw(&self, first_seq: u64) -> PathBuf {
        self.path.join(format!("{first_seq:020}{RAW}"))
    }

    pub(super) fn compressed(&self, first_seq: u64) -> PathBuf {
        self.path.join(format!("{first_seq:020}{COMPRESSED}"))
    }

    pub(super) fn snapshot(&self, seq: u64) -> PathBuf {
        self.path.join(format!("{seq:020}{SNAPSHOT}"))
    }

    /// The file that holds a segment's bytes now.
    pub(super) fn current(&self, entry: SegmentEntry) -> PathBuf {
        if entry.raw { self.raw(entry.first_seq) } else { self.compressed(entry.first_seq) }
    }

    /// Reads the names in the folder. Files of other names are not ours and stay unmentioned.
    pub(super) fn list(&self) -> io::Result<Listing> {
        let mut segments: BTreeMap<u64, SegmentEntry> = BTreeMap::new();
        let mut listing = Listing::default();
        for entry in self.disk.list(&self.path)? {
            let name = entry.name.as_str();
            if name.ends_with(TEMPORARY) {
                listing.leftovers.push(self.path.join(name));
            } else if let Some(seq) = numbered(name, SNAPSHOT) {
                listing.snapshots.push(seq);
            } else {
                let (raw, compressed) = (numbered(name, RAW), numbered(name, COMPRESSED));
                if let Some(first_seq) = raw.or(compressed) {
                    let segment =
                        segments.entry(first_seq).or_insert(SegmentEntry { first_seq, raw: false, compressed: false });
                    segment.raw |= raw.is_some();
                    segment.compressed |= compressed.is_some();
                }
            }
        }
        listing.segments = segments.into_values().collect();
        listing.snapshots.sort_unstable();
        Ok(listing)
    }
}

/// The number in a name like `00000000000000000042.journal`.
fn numbered(name: &str, ending: &str) -> Option<u64> {
    let digits = name.strip_suffix(ending)?;
    if digits.len() != 20 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // Larger numbers are no event's, and zero is before the first.
    digits.parse().ok().filter(|seq| (1..=i64::MAX as u64).contains(seq))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn names_of_files_are_recognized() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        for path in [
            folder.raw(9),
            folder.raw(10),
            folder.compressed(9),
            folder.compressed(1),
            folder.snapshot(8),
            folder.snapshot(5),
            dir.path().join("tenant.json"),
            dir.path().join("7.journal"),
            dir.path().join("00000000000000000001.journal.zst.tmp"),
        ] {
            fs::write(path, b"").unwrap();
        }
        let listing = folder.list().unwrap();
        let entry = |first_seq, raw, compressed| SegmentEntry { first_seq, raw, compressed };
        assert_eq!(listing.segments, [entry(1, false, true), entry(9, true, true), entry(10, true, false)]);
        assert_eq!(listing.snapshots, [5, 8]);
        assert_eq!(listing.leftovers.len(), 1);
    }
}

//! Slots: the log's files, of one size, used again and again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::LogError;
use super::manifest::{self, LogId, VERSION};
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::synced_file::{SyncFailure, SyncedFile};

/// The folder of the log in the data directory.
pub(crate) const LOG_FOLDER: &str = "log";

/// Bytes of the header.
pub(super) const HEADER: u64 = 32;

const MAGIC: [u8; 8] = *b"KAVACHL\n";

/// Zeros written at once when a slot is filled.
const ZEROS: usize = 256 << 10;

/// An open slot.
#[derive(Debug)]
pub(super) struct LogSlot {
    pub number: u32,
    pub path: PathBuf,
    file: SyncedFile,
}

pub(super) fn path(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("{number:08}.log"))
}

/// Whether a file of that name is a slot.
pub(super) fn is_slot(name: &str) -> bool {
    name.strip_suffix(".log").is_some_and(|number| number.len() == 8 && number.bytes().all(|b| b.is_ascii_digit()))
}

fn header(id: LogId) -> [u8; HEADER as usize] {
    let mut bytes = [0; HEADER as usize];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..28].copy_from_slice(&id);
    let crc = crc32fast::hash(&bytes[..28]);
    bytes[28..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

impl LogSlot {
    fn new(path: PathBuf, number: u32, file: Box<dyn DiskFile>) -> Self {
        Self { number, path, file: SyncedFile::new(file, SyncFailure::default()) }
    }

    /// Makes a slot's file, all on disk. Blocking.
    pub fn create(disk: &dyn Disk, folder: &Path, number: u32, id: LogId, bytes: u64) -> io::Result<Self> {
        let path = path(folder, number);
        // The manifest may name the slot already, if that was written half-way. So the name always has a whole file.
        let unfinished = crate::files::temporary(&path);
        let made: io::Result<_> = (|| {
            let file = disk.open(&unfinished, OpenMode::Create)?;
            file.write_all_at(&header(id), 0).map_err(|(_, error)| error)?;
            file.reserve(bytes)?;
            file.sync()?;
            disk.rename(&unfinished, &path)?;
            disk.sync_folder(folder)?;
            Ok(file)
        })();
        let file = made.inspect_err(|_| {
            // A leftover is removed at the next start; the first error is the one to report.
            let _ = disk.remove(&unfinished);
        })?;
        Ok(Self::new(path, number, file))
    }

    /// Opens a slot that the manifest names.
    pub fn open(
        disk: &dyn Disk,
        folder: &Path,
        number: u32,
        id: LogId,
        manifest: &Path,
        access: OpenMode,
    ) -> Result<Self, LogError> {
        let path = path(folder, number);
        let file = match disk.open(&path, access) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(LogError::damaged(&path, 0, "the file is missing"));
            }
            opened => opened.map_err(LogError::io(&path))?,
        };
        let mut bytes = [0; HEADER as usize];
        match file.read_exact_at(&mut bytes, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(LogError::damaged(&path, 0, "the file is cut short"));
            }
            read => read.map_err(LogError::io(&path))?,
        }
        let expected = header(id);
        let (magic, rest) = bytes.split_at(8);
        if crc32fast::hash(&bytes[..28]).to_le_bytes() != bytes[28..] || magic != MAGIC {
            // Each batch names its log too, so nothing is lost with it.
            tracing::warn!(file = %path.display(), "the header of a file of the log is damaged");
            if access == OpenMode::Write {
                file.write_all_at(&expected, 0).map_err(|(_, error)| error).map_err(LogError::io(&path))?;
            }
            return Ok(Self::new(path, number, file));
        }
        let version = rest.first_chunk().map_or(0, |version| u32::from_le_bytes(*version));
        if version != VERSION {
            return Err(LogError::Version { file: path, version, supported: VERSION });
        }
        if bytes != expected {
            return Err(LogError::Foreign { file: path, manifest: manifest.to_path_buf() });
        }
        Ok(Self::new(path, number, file))
    }

    /// The whole content. Blocking.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.file.file().size()?).unwrap_or(usize::MAX)];
        self.file.file().read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    pub fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.file().write_all_at(bytes, offset).map_err(|(_, error)| error)
    }

    /// Writes zeros over a part. Blocking.
    pub fn zero(&self, from: u64, upto: u64) -> io::Result<()> {
        let zeros = vec![0; ZEROS];
        let mut at = from;
        while at < upto {
            let length = (upto - at).min(ZEROS as u64);
            self.write(zeros.get(..length as usize).unwrap_or_default(), at)?;
            at += length;
        }
        Ok(())
    }

    /// Waits until every written byte is on disk. Blocking.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

/// A slot that several threads may use.
pub(super) type SharedSlot = Arc<LogSlot>;

/// Opens the slots that the manifest of a data directory names.
pub(super) fn open_all(
    disk: &dyn Disk,
    data_dir: &Path,
    id: LogId,
    slots: u32,
    access: OpenMode,
) -> Result<Vec<SharedSlot>, LogError> {
    let (folder, manifest) = (data_dir.join(LOG_FOLDER), manifest::path(data_dir));
    (0..slots).map(|number| LogSlot::open(disk, &folder, number, id, &manifest, access).map(Arc::new)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SystemDisk;

    #[test]
    fn a_slot_of_another_log_or_version_and_a_damaged_one_are_distinguished() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, manifest) = (SystemDisk, Path::new("log.manifest"));
        let open = |id| LogSlot::open(&disk, dir.path(), 3, id, manifest, OpenMode::Write);
        assert!(matches!(open([1; 16]), Err(LogError::Damaged { .. })));
        let slot = LogSlot::create(&disk, dir.path(), 3, [1; 16], 4096).unwrap();
        slot.zero(HEADER, 4096).unwrap();
        assert_eq!(slot.read().unwrap().len(), 4096);
        assert!(open([1; 16]).is_ok());
        assert!(matches!(open([2; 16]), Err(LogError::Foreign { .. })));
        let mut other = header([1; 16]);
        other[8] = 9;
        let crc = crc32fast::hash(&other[..28]);
        other[28..].copy_from_slice(&crc.to_le_bytes());
        slot.write(&other, 0).unwrap();
        assert!(matches!(open([1; 16]), Err(LogError::Version { version: 9, .. })));
        slot.write(b"x", 0).unwrap();
        assert!(open([2; 16]).is_ok(), "the batches in it name their log too");
        assert!(open([2; 16]).is_ok() && matches!(open([1; 16]), Err(LogError::Foreign { .. })), "it was mended");
        std::fs::write(path(dir.path(), 3), b"short").unwrap();
        assert!(matches!(open([1; 16]), Err(LogError::Damaged { .. })));
    }
}

//! Small files and folders, written so that a crash leaves the old or the new content, never a mix.

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::disk::{Disk, DiskFile, FileStream, OpenMode};

/// Most bytes that [`read_small`] reads (1 MiB). Labels and keys are far smaller; a wrong file must not fill the memory.
const SMALL_FILE: u64 = 1 << 20;

/// The ending of an unfinished file. After a crash such files are leftovers.
pub(super) const TEMPORARY: &str = ".tmp";

/// The folder that a path lies in.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// A new path for the unfinished content of `path`. No two calls return the same one: when a tenant was rebuilt, an old
/// job may still run beside a new one, and neither may rename what the other has half written.
pub(super) fn temporary(path: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut name = OsString::from(path);
    name.push(format!(".{}{TEMPORARY}", NEXT.fetch_add(1, Ordering::Relaxed)));
    PathBuf::from(name)
}

/// Replaces the file at `path` in one step: writes the content beside it, syncs it, renames it over the file, and syncs the
/// folder. Blocking. On an error the old content stays.
pub(super) fn write_atomic(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(disk, path, |file| file.write_all_at(bytes, 0).map_err(|(_, error)| error))
}

/// [`write_atomic`] for content that `write` produces piece by piece, so that it need not fit in memory.
pub(super) fn replace(
    disk: &dyn Disk,
    path: &Path,
    write: impl FnOnce(&dyn DiskFile) -> io::Result<()>,
) -> io::Result<()> {
    let temporary = temporary(path);
    let written = (|| {
        let file = disk.open(&temporary, OpenMode::Create)?;
        write(&*file)?;
        file.sync()?;
        disk.rename(&temporary, path)
    })();
    if written.is_err() {
        // A leftover is removed at the next start; the first error is the one to report.
        let _ = disk.remove(&temporary);
    }
    written?;
    disk.sync_folder(parent(path))
}

/// The content of a small file; `None` if there is no such file. A file over 1 MiB is an `InvalidData` error.
pub fn read_small(disk: &dyn Disk, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    FileStream::new(file).take(SMALL_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > SMALL_FILE {
        return Err(super::error::invalid(path, SMALL_FILE, "the file is too large"));
    }
    Ok(Some(bytes))
}

/// Removes a file; it is no error if it is gone already.
pub(super) fn remove_if_there(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::disk::SystemDisk;

    #[test]
    fn a_small_file_is_replaced_whole_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("operator.json");
        assert_eq!(read_small(&SystemDisk, &path).unwrap(), None);
        write_atomic(&SystemDisk, &path, b"one").unwrap();
        write_atomic(&SystemDisk, &path, b"two").unwrap();
        assert_eq!(read_small(&SystemDisk, &path).unwrap().as_deref(), Some(&b"two"[..]));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        fs::write(&path, vec![0; SMALL_FILE as usize + 1]).unwrap();
        assert_eq!(read_small(&SystemDisk, &path).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}

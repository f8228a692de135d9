//! Tries whether a folder can be written, before the journal takes an event again.

use std::io;

use crate::disk::OpenMode;
use crate::files::temporary;
use crate::folder::Folder;

/// Bytes to write: enough that a disk with room for just one more small event does not pass.
const PROBE_BYTES: usize = 256 * 1024;

/// Writes, syncs and removes a file in the folder. Blocking.
///
/// # Errors
/// The system's error, which a write to the journal would meet too.
pub fn probe(folder: &Folder) -> io::Result<()> {
    let path = temporary(&folder.path.join("probe"));
    let tried = folder.disk.open(&path, OpenMode::Create).and_then(|file| {
        file.write_all_at(&vec![0x55; PROBE_BYTES], 0).map_err(|(_, error)| error)?;
        file.sync()
    });
    let removed = folder.disk.remove(&path);
    tried.and(removed)
}

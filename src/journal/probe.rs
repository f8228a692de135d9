//! Whether a folder can be written, asked before the journal is trusted with an event again.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use super::files::temporary;

/// Bytes tried: enough that a disk with room for one more small event only does not pass for one that works.
const PROBE_BYTES: usize = 256 * 1024;

/// Writes, syncs and removes a file in the folder. Blocking.
///
/// # Errors
/// What would keep the journal from being written there too.
pub fn probe(folder: &Path) -> io::Result<()> {
    let path = temporary(&folder.join("probe"));
    let tried = File::create_new(&path).and_then(|mut file| {
        file.write_all(&vec![0x55; PROBE_BYTES])?;
        file.sync_all()
    });
    let removed = fs::remove_file(&path);
    tried.and(removed)
}

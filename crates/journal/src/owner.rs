//! The tenant that a folder's files are of, whatever the folder is named.

use std::io;

use crate::folder::Folder;
use crate::segment::read_header;
use crate::snapshot::read_tenant;

impl Folder {
    /// The uuid of the tenant that the first readable header in it names; `None` where it holds no such file.
    /// Blocking.
    ///
    /// # Errors
    /// The folder can't be listed.
    pub fn owner(&self) -> io::Result<Option<[u8; 16]>> {
        let listing = self.list()?;
        // A file that can't be read says nothing; another may.
        let by_segment = |first_seq| read_header(self, first_seq).ok().flatten().map(|header| header.tenant);
        let by_snapshot = |seq| read_tenant(self, seq).ok().flatten();
        let segments = listing.segments.iter().find_map(|entry| by_segment(entry.first_seq));
        Ok(segments.or_else(|| listing.snapshots.iter().copied().find_map(by_snapshot)))
    }
}

//! Which tenant a folder's files belong to, whatever the folder's name.

use std::io;

use crate::folder::Folder;
use crate::segment::read_header;
use crate::snapshot::read_tenant;

impl Folder {
    /// The tenant uuid in the first readable header; `None` if there is none.
    /// Blocking.
    ///
    /// # Errors
    /// The folder can't be listed.
    pub fn owner(&self) -> io::Result<Option<[u8; 16]>> {
        let listing = self.list()?;
        // Skip a file that can't be read: another one may name the tenant.
        let by_segment = |first_seq| read_header(self, first_seq).ok().flatten().map(|header| header.tenant);
        let by_snapshot = |seq| read_tenant(self, seq).ok().flatten();
        let segments = listing.segments.iter().find_map(|entry| by_segment(entry.first_seq));
        Ok(segments.or_else(|| listing.snapshots.iter().copied().find_map(by_snapshot)))
    }
}

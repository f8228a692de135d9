//! Compresses segments that take no more frames.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile, OpenMode};
use crate::files::temporary;
use crate::folder::Folder;
use crate::segment::MAX_COMPRESSIBLE;
use crate::writer::Journal;

/// zstd's own default: about a sixth of the size at some hundred MB/s, off the workers' threads.
const LEVEL: i32 = 3;

/// The compression of one segment, to be run off the owner's thread. A job that failed may run again.
#[derive(Clone, Debug)]
pub struct CompressionJob {
    folder: Arc<Folder>,
    first_seq: u64,
}

impl CompressionJob {
    /// Replaces the raw file by its compressed form. Blocking. A crash at any point leaves at least one of the two whole, and
    /// another run completes the job.
    pub fn run(&self) -> io::Result<()> {
        self.run_with(&mut Packer::default())
    }

    pub(super) fn run_with(&self, packer: &mut Packer) -> io::Result<()> {
        match self.replace(packer) {
            // The tenant was erased in the meantime.
            Err(_) if !self.folder.disk.exists(&self.folder.path) => Ok(()),
            replaced => replaced,
        }
    }

    fn replace(&self, packer: &mut Packer) -> io::Result<()> {
        let raw = self.folder.raw(self.first_seq);
        let compressed = self.folder.compressed(self.first_seq);
        let unfinished = temporary(&compressed);
        let disk = &*self.folder.disk;
        let source = match disk.open(&raw, OpenMode::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && disk.exists(&compressed) => return Ok(()),
            opened => opened?,
        };
        // A segment grows this large only while no new one can be started. It stays uncompressed.
        if source.size()? > MAX_COMPRESSIBLE {
            return Ok(());
        }
        if let Err(error) = packer.pack(&*source, disk, &unfinished) {
            // A leftover is removed at the next start; the first error is the one to report.
            let _ = disk.remove(&unfinished);
            return Err(error);
        }
        disk.rename(&unfinished, &compressed)?;
        self.folder.sync()?;
        self.folder.remove_if_there(&raw)
    }
}

/// Compresses one segment after another in the same memory. Fresh pages for each would take a tenth of the time.
#[derive(Default)]
pub(super) struct Packer {
    compressor: zstd::bulk::Compressor<'static>,
    raw: Vec<u8>,
    packed: Vec<u8>,
}

impl Packer {
    /// Writes a compressed copy of a segment in one piece. A stream would take a third longer for the same bytes, and
    /// segments are read in one piece anyway.
    fn pack(&mut self, source: &dyn DiskFile, disk: &dyn Disk, target: &Path) -> io::Result<()> {
        let Self { compressor, raw, packed } = self;
        compressor.set_compression_level(LEVEL)?;
        compressor.include_checksum(true)?;
        raw.resize(source.size()? as usize, 0);
        source.read_exact_at(raw, 0)?;
        packed.clear();
        packed.reserve(zstd::zstd_safe::compress_bound(raw.len()));
        compressor.compress_to_buffer(raw.as_slice(), packed)?;
        let target = disk.open(target, OpenMode::Create)?;
        target.write_all_at(packed, 0).map_err(|(_, error)| error)?;
        target.sync()
    }
}

impl Journal {
    /// Whether a segment is rotated and waits for a sync, so that it can be compressed.
    pub fn has_full_segment(&self) -> bool {
        !self.sync.rotated_files().is_empty()
    }

    /// Jobs for the segments that are rotated and wholly on disk. Each is handed out once; a job that was lost comes again
    /// after the next recovery.
    pub fn take_compression_jobs(&mut self) -> Vec<CompressionJob> {
        let folder = &self.folder;
        let compressible = self.sync.take_compressible();
        let job = |first_seq| CompressionJob { folder: Arc::clone(folder), first_seq };
        compressible.into_iter().map(job).collect()
    }
}

//! Segment files: a header, then frames. The crate's page describes their bytes.
//!
//! Later versions keep the size of this header, and the places of magic, version and checksum, so that an old server can
//! tell a newer file from a torn one.

use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

use crate::disk::{Disk, DiskFile, FileStream, OpenMode};
use crate::folder::Folder;
use crate::synced_file::{SyncFailure, SyncedFile};

/// Bytes of a segment's header; its first frame starts here.
pub(super) const HEADER: usize = 78;

/// The version this code writes, and the newest it reads.
pub(super) const VERSION: u16 = 1;

/// Most bytes that are compressed, and that a compressed segment is believed to hold (256 MiB): many times what a segment is
/// rotated at. A few kilobytes of zstd can claim to be gigabytes.
pub(super) const MAX_COMPRESSIBLE: u64 = 256 << 20;

const MAGIC: [u8; 8] = *b"KAVACHJ\n";

/// The content of a segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub tenant: [u8; 16],
    pub first_seq: u64,
    pub created_ms: i64,
    pub previous: [u8; 32],
}

/// Why bytes are no header this code reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderError {
    /// The header is cut short or changed.
    Torn,
    /// The header is whole, but of a later version.
    TooNew(u16),
}

impl SegmentHeader {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.tenant);
        bytes.extend_from_slice(&self.first_seq.to_le_bytes());
        bytes.extend_from_slice(&self.created_ms.to_le_bytes());
        bytes.extend_from_slice(&self.previous);
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    /// Reads the header at the start of a segment's bytes.
    pub fn decode(segment: &[u8]) -> Result<Self, HeaderError> {
        Self::read(segment).ok_or(HeaderError::Torn)?
    }

    fn read(segment: &[u8]) -> Option<Result<Self, HeaderError>> {
        let (covered, crc) = segment.get(..HEADER)?.split_last_chunk::<4>()?;
        let rest = covered.strip_prefix(&MAGIC)?;
        if crc32fast::hash(covered) != u32::from_le_bytes(*crc) {
            return None;
        }
        let (version, rest) = rest.split_first_chunk::<2>()?;
        match u16::from_le_bytes(*version) {
            VERSION => {}
            0 => return None,
            newer => return Some(Err(HeaderError::TooNew(newer))),
        }
        let (tenant, rest) = rest.split_first_chunk::<16>()?;
        let (first_seq, rest) = rest.split_first_chunk::<8>()?;
        let (created_ms, rest) = rest.split_first_chunk::<8>()?;
        Some(Ok(Self {
            tenant: *tenant,
            first_seq: u64::from_le_bytes(*first_seq),
            created_ms: i64::from_le_bytes(*created_ms),
            previous: rest.try_into().ok()?,
        }))
    }
}

/// An open, not yet compressed segment, shared by the writer and syncs.
#[derive(Debug)]
pub(super) struct SegmentFile {
    pub first_seq: u64,
    file: SyncedFile,
}

impl SegmentFile {
    pub fn new(first_seq: u64, file: Box<dyn DiskFile>, failure: SyncFailure) -> Self {
        Self { first_seq, file: SyncedFile::new(file, failure) }
    }

    /// Creates a segment file that holds just its header. On an error no file remains, unless
    /// [`CreateError::left_behind`] says so.
    pub fn create(folder: &Folder, header: &SegmentHeader) -> Result<Self, CreateError> {
        let path = folder.raw(header.first_seq);
        let opened = folder.disk.open(&path, OpenMode::Create);
        let file = opened.map_err(|source| CreateError { source, left_behind: false })?;
        if let Err((_, source)) = file.write_all_at(&header.encode(), 0) {
            let left_behind = folder.remove_if_there(&path).is_err();
            return Err(CreateError { source, left_behind });
        }
        Ok(Self::new(header.first_seq, file, SyncFailure::default()))
    }

    /// Opens an existing segment for reading and writing. `failure` is that of its earlier handles.
    pub fn open(folder: &Folder, first_seq: u64, failure: SyncFailure) -> io::Result<Self> {
        Ok(Self::new(first_seq, folder.disk.open(&folder.raw(first_seq), OpenMode::Write)?, failure))
    }

    pub fn file(&self) -> &dyn DiskFile {
        self.file.file()
    }

    /// Waits until every written byte is on disk. Blocking.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    /// Fails if a sync has ever failed.
    pub fn check(&self) -> io::Result<()> {
        self.file.check()
    }

    /// Whether a sync has ever failed, for the next handle.
    pub fn failure(&self) -> SyncFailure {
        self.file.failure()
    }
}

/// Why a segment file could not be made.
#[derive(Debug)]
pub(super) struct CreateError {
    pub source: io::Error,
    /// A file without a whole header could not be removed.
    pub left_behind: bool,
}

/// The whole uncompressed bytes of a segment: of the raw file, else of the compressed one, since a raw file is
/// removed only once the compressed one is durable.
pub(super) fn read_segment(folder: &Folder, first_seq: u64) -> io::Result<Vec<u8>> {
    match folder.disk.read(&folder.raw(first_seq)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            read_compressed(&*folder.disk, &folder.compressed(first_seq))
        }
        result => result,
    }
}

/// Some uncompressed bytes of a segment, of the raw or the compressed file.
pub(super) fn read_part(folder: &Folder, first_seq: u64, part: &Range<u64>) -> io::Result<Vec<u8>> {
    let length = part.end.saturating_sub(part.start);
    let mut bytes = vec![0; length as usize];
    match folder.disk.open(&folder.raw(first_seq), OpenMode::Read) {
        Ok(file) => file.read_exact_at(&mut bytes, part.start)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let compressed = folder.disk.open(&folder.compressed(first_seq), OpenMode::Read)?;
            let mut stream = zstd::stream::read::Decoder::new(FileStream::new(compressed))?;
            io::copy(&mut stream.by_ref().take(part.start), &mut io::sink())?;
            stream.read_exact(&mut bytes)?;
        }
        Err(error) => return Err(error),
    }
    Ok(bytes)
}

/// The uncompressed bytes of a compressed segment.
pub(super) fn read_compressed(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    decompress(FileStream::new(disk.open(path, OpenMode::Read)?), &mut bytes)?;
    Ok(bytes)
}

/// Appends the uncompressed bytes of a compressed segment's file, or those before what is wrong with it.
pub(super) fn decompress(file: impl Read, bytes: &mut Vec<u8>) -> io::Result<()> {
    zstd::stream::read::Decoder::new(file)?.take(MAX_COMPRESSIBLE + 1).read_to_end(bytes)?;
    if bytes.len() as u64 > MAX_COMPRESSIBLE {
        let problem = format!("it holds more than the {MAX_COMPRESSIBLE} bytes that a compressed segment may have");
        return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
    }
    Ok(())
}

/// The header alone, of the raw or the compressed file; `None` where it is torn or of a later version.
pub(super) fn read_header(folder: &Folder, first_seq: u64) -> io::Result<Option<SegmentHeader>> {
    let mut bytes = Vec::with_capacity(HEADER);
    match folder.disk.open(&folder.raw(first_seq), OpenMode::Read) {
        Ok(file) => FileStream::new(file).take(HEADER as u64).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let compressed = folder.disk.open(&folder.compressed(first_seq), OpenMode::Read)?;
            zstd::stream::read::Decoder::new(FileStream::new(compressed))?
                .take(HEADER as u64)
                .read_to_end(&mut bytes)?
        }
        Err(error) => return Err(error),
    };
    Ok(SegmentHeader::decode(&bytes).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_and_every_change_is_noticed() {
        let header = SegmentHeader { tenant: [3; 16], first_seq: 42, created_ms: -1, previous: [7; 32] };
        let bytes = header.encode();
        assert_eq!(bytes.len(), HEADER);
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&bad), Err(HeaderError::Torn));
        }
        for cut in 0..bytes.len() {
            assert_eq!(SegmentHeader::decode(&bytes[..cut]), Err(HeaderError::Torn));
        }
    }

    #[test]
    fn a_later_version_is_distinguished_from_a_torn_header() {
        let mut bytes = SegmentHeader { tenant: [3; 16], first_seq: 1, created_ms: 0, previous: [0; 32] }.encode();
        bytes[8] = 9;
        let crc = crc32fast::hash(&bytes[..HEADER - 4]);
        bytes[HEADER - 4..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&bytes), Err(HeaderError::TooNew(9)));
    }
}

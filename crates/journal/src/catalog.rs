//! The catalog: what its owner wants to know of every tenant without opening a folder.
//!
//! One file, `<data dir>/catalog`, of batches that are appended. A batch has rows, one for each tenant that changed; the
//! newest row of a tenant counts, and an empty one says that the tenant is gone. What a row means is the business of the
//! caller. Nothing is true because it is in here: the folders and the log say the same, only slower. So a catalog that is
//! missing or damaged is made anew.
//!
//! | bytes of the file's header | field |
//! | --- | --- |
//! | 0..8 | magic `KAVACHC\n` |
//! | 8..10 | format version, u16, 1 |
//!
//! | bytes of a batch | field |
//! | --- | --- |
//! | 0..8 | magic `FF 'KVCAT' FE FF` |
//! | 8..16 | where the batch begins in the file, u64 |
//! | 16..20 | bytes of all its rows, u32 |
//! | 20..24 | CRC-32 of bytes 8..20 and of the rows |
//! | 24.. | rows: tenant uuid, length as u32, the caller's bytes |
//!
//! Each batch is on disk before the next is written. So a bad one is torn if it is the last, and damage if another
//! follows. A batch without rows says that the writer has ended. After a clean stop a catalog without one is cut off.

use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memchr::memmem;

use crate::disk::{Disk, DiskFile, FileStream, OpenMode};
use crate::error::invalid;
use crate::files::replace;

/// The catalog's name in the data directory.
pub(super) const CATALOG: &str = "catalog";

const MAGIC: &[u8; 8] = b"KAVACHC\n";
const VERSION: u16 = 1;
const HEADER: usize = 10;
const BATCH_MAGIC: &[u8; 8] = b"\xFFKVCAT\xFE\xFF";
const BATCH_HEAD: usize = 24;
const ROW_HEAD: usize = 20;
/// Bytes of rows in a batch (1 MiB), so that reading one takes little memory. One row may be larger.
const BATCH_BYTES: usize = 1 << 20;
/// Most bytes of a batch: a flipped bit in its length must not make us believe in gigabytes.
const MAX_BATCH: u32 = 64 << 20;

/// How a catalog ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CatalogEnd {
    /// Its writer has closed it.
    Closed,
    /// Its writer was killed, or what it wrote last was cut off.
    Open,
    /// It is missing, or damaged before its end.
    Damaged,
}

/// The open file. One thread writes it.
#[derive(Debug)]
pub struct CatalogFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// `None` if the file has to be written anew.
    file: Option<Box<dyn DiskFile>>,
    end: u64,
}

/// Takes a row: the tenant's uuid and the caller's bytes, none if the tenant is gone.
pub type OnRow<'a> = dyn FnMut([u8; 16], &[u8]) + 'a;

impl CatalogFile {
    /// Opens the catalog of a data directory and passes each row to `on_row`, the oldest first. Says how it ends: if it is
    /// damaged, the rows are not all, and the file has to be [replaced](CatalogFile::replace). Blocking.
    ///
    /// # Errors
    /// The system's error; `InvalidData` for a file of another version.
    pub(crate) fn open(disk: Arc<dyn Disk>, data_dir: &Path, on_row: &mut OnRow<'_>) -> io::Result<(Self, CatalogEnd)> {
        let path = data_dir.join(CATALOG);
        let mut catalog = Self { disk, path, file: None, end: 0 };
        if !catalog.disk.exists(&catalog.path) {
            return Ok((catalog, CatalogEnd::Damaged));
        }
        let file = catalog.disk.open(&catalog.path, OpenMode::Write)?;
        let mut stream = BufReader::with_capacity(BATCH_BYTES, FileStream::new(file));
        let mut header = [0; HEADER];
        let has_header = read_full(&mut stream, &mut header)?;
        if !has_header || !check_header(&catalog.path, &header)? {
            return Ok((catalog, CatalogEnd::Damaged));
        }
        catalog.end = HEADER as u64;
        let (mut rows, mut is_closed) = (Vec::new(), false);
        while read_batch(&mut stream, catalog.end, &mut rows)? {
            each_row(&rows, on_row);
            catalog.end += (BATCH_HEAD + rows.len()) as u64;
            is_closed = rows.is_empty();
        }
        let file = catalog.disk.open(&catalog.path, OpenMode::Write)?;
        if has_later_batch(&*file, catalog.end)? {
            return Ok((catalog, CatalogEnd::Damaged));
        }
        let is_torn = file.size()? > catalog.end;
        if is_torn {
            file.set_size(catalog.end)?;
        }
        // What was read may not be on disk: a killed process may not have come to that.
        file.sync()?;
        if is_closed {
            // The next batch takes its place: an end in the middle would hide that something behind it is cut off.
            catalog.end -= BATCH_HEAD as u64;
        }
        catalog.file = Some(file);
        Ok((catalog, if is_closed && !is_torn { CatalogEnd::Closed } else { CatalogEnd::Open }))
    }

    /// Looks whether the catalog of a data directory is one that this server reads, or missing or damaged. Blocking.
    ///
    /// # Errors
    /// As for [`open`](CatalogFile::open).
    pub(crate) fn check_version(disk: &dyn Disk, data_dir: &Path) -> io::Result<()> {
        let path = data_dir.join(CATALOG);
        if !disk.exists(&path) {
            return Ok(());
        }
        let mut header = [0; HEADER];
        let mut stream = FileStream::new(disk.open(&path, OpenMode::Read)?);
        if read_full(&mut stream, &mut header)? { check_header(&path, &header).map(|_| ()) } else { Ok(()) }
    }

    /// Appends rows, and returns once they are on disk. Blocking.
    ///
    /// # Errors
    /// Nobody knows what the file has now: [replace](CatalogFile::replace) it.
    pub fn append<'a>(&mut self, rows: impl IntoIterator<Item = ([u8; 16], &'a [u8])>) -> io::Result<()> {
        let file = self.file.take().ok_or_else(|| io::Error::other("the catalog has to be written anew"))?;
        let mut end = self.end;
        write_batches(&*file, &mut end, rows, Sync::EachBatch)?;
        file.sync()?;
        self.end = end;
        self.file = Some(file);
        Ok(())
    }

    /// Notes that there will be no more rows, so that a start notices when some of them are cut off. Blocking.
    ///
    /// # Errors
    /// The next start makes the file anew.
    pub fn close(mut self) -> io::Result<()> {
        let file = self.file.take().ok_or_else(|| io::Error::other("the catalog has to be written anew"))?;
        let mut end = vec![0; BATCH_HEAD];
        seal(&mut end, self.end);
        file.write_all_at(&end, self.end).map_err(|(_, error)| error)?;
        file.sync()
    }

    /// Whether a catalog may say what is true. One that was not closed is as a crash left it, or was cut off since: then the
    /// log is there too. After a clean stop it is not.
    pub fn holds(end: CatalogEnd, log_was_found: bool) -> bool {
        match end {
            CatalogEnd::Closed => true,
            CatalogEnd::Open => log_was_found,
            CatalogEnd::Damaged => false,
        }
    }

    /// Replaces the file in one step by one with these rows. Blocking.
    ///
    /// # Errors
    /// The old file stays.
    pub fn replace<'a>(&mut self, rows: impl IntoIterator<Item = ([u8; 16], &'a [u8])>) -> io::Result<()> {
        let mut end = HEADER as u64;
        self.file = None;
        replace(&*self.disk, &self.path, |file| {
            let mut header = MAGIC.to_vec();
            header.extend_from_slice(&VERSION.to_le_bytes());
            file.write_all_at(&header, 0).map_err(|(_, error)| error)?;
            write_batches(file, &mut end, rows, Sync::Later)
        })?;
        self.end = end;
        self.file = Some(self.disk.open(&self.path, OpenMode::Write)?);
        Ok(())
    }

    /// Whether the file has to be [replaced](CatalogFile::replace) before anything can be appended.
    pub fn needs_replacing(&self) -> bool {
        self.file.is_none()
    }

    /// Bytes of the file, those of outdated rows too.
    pub fn bytes(&self) -> u64 {
        self.end
    }
}

/// Whether the file is a catalog.
///
/// # Errors
/// `InvalidData` for one of another version.
fn check_header(path: &Path, header: &[u8; HEADER]) -> io::Result<bool> {
    if !header.starts_with(MAGIC) {
        return Ok(false);
    }
    let version = u16::from_le_bytes([header[8], header[9]]);
    if version == VERSION {
        return Ok(true);
    }
    let detail = format!(
        "it has format version {version}, and this server reads {VERSION}; remove the file, and the server makes it anew \
         from the tenants' folders"
    );
    Err(invalid(path, 8, &detail))
}

/// When batches are synced.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sync {
    /// Each before the next is written.
    EachBatch,
    /// All together, before the file gets its name.
    Later,
}

fn write_batches<'a>(
    file: &dyn DiskFile,
    end: &mut u64,
    rows: impl IntoIterator<Item = ([u8; 16], &'a [u8])>,
    sync: Sync,
) -> io::Result<()> {
    let mut batch = vec![0; BATCH_HEAD];
    let write = |batch: &mut Vec<u8>, end: &mut u64| {
        seal(batch, *end);
        file.write_all_at(batch, *end).map_err(|(_, error)| error)?;
        *end += batch.len() as u64;
        batch.truncate(BATCH_HEAD);
        Ok::<_, io::Error>(())
    };
    for (tenant, row) in rows {
        batch.extend_from_slice(&tenant);
        batch.extend_from_slice(&(row.len() as u32).to_le_bytes());
        batch.extend_from_slice(row);
        if batch.len() >= BATCH_BYTES {
            write(&mut batch, end)?;
            if sync == Sync::EachBatch {
                file.sync()?;
            }
        }
    }
    if batch.len() > BATCH_HEAD { write(&mut batch, end) } else { Ok(()) }
}

/// Fills in a batch's head.
fn seal(batch: &mut [u8], at: u64) {
    let Some((head, rows)) = batch.split_first_chunk_mut::<BATCH_HEAD>() else { return };
    head[..8].copy_from_slice(BATCH_MAGIC);
    head[8..16].copy_from_slice(&at.to_le_bytes());
    head[16..20].copy_from_slice(&(rows.len() as u32).to_le_bytes());
    let crc = checksum(&head[8..20], rows);
    head[20..24].copy_from_slice(&crc.to_le_bytes());
}

fn checksum(head: &[u8], rows: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(head);
    crc.update(rows);
    crc.finalize()
}

/// Reads the batch that begins at `at`. `false` if there is no whole one.
fn read_batch(stream: &mut impl Read, at: u64, rows: &mut Vec<u8>) -> io::Result<bool> {
    let mut head = [0; BATCH_HEAD];
    rows.clear();
    if !read_full(stream, &mut head)? {
        return Ok(false);
    }
    let Some(length) = length_of(&head, at) else { return Ok(false) };
    stream.take(u64::from(length)).read_to_end(rows)?;
    Ok(rows.len() == length as usize && is_sealed(&head, rows))
}

/// The bytes of a batch's rows, if it can begin at that place.
fn length_of(head: &[u8; BATCH_HEAD], at: u64) -> Option<u32> {
    let length = u32::from_le_bytes(*head[16..].first_chunk()?);
    (head.starts_with(BATCH_MAGIC) && head[8..16] == at.to_le_bytes() && length <= MAX_BATCH).then_some(length)
}

fn is_sealed(head: &[u8; BATCH_HEAD], rows: &[u8]) -> bool {
    checksum(&head[8..20], rows).to_le_bytes() == head[20..24]
}

/// Whether a whole batch begins anywhere behind that place.
fn has_later_batch(file: &dyn DiskFile, after: u64) -> io::Result<bool> {
    let mut rest = vec![0; usize::try_from(file.size()?.saturating_sub(after)).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut rest, after)?;
    let is_batch = |at: usize| {
        let (head, rows) = rest.get(at..)?.split_first_chunk::<BATCH_HEAD>()?;
        let length = length_of(head, after + at as u64)?;
        Some(is_sealed(head, rows.get(..length as usize)?))
    };
    Ok(memmem::find_iter(&rest, BATCH_MAGIC).any(|at| is_batch(at) == Some(true)))
}

fn each_row(rows: &[u8], on_row: &mut OnRow<'_>) {
    let mut rest = rows;
    while let Some((head, more)) = rest.split_first_chunk::<ROW_HEAD>()
        && let (Some(tenant), Some(length)) = (head.first_chunk(), head.last_chunk())
        && let Some((row, more)) = more.split_at_checked(u32::from_le_bytes(*length) as usize)
    {
        on_row(*tenant, row);
        rest = more;
    }
}

/// Fills the buffer. `false` if the file ends before.
fn read_full(stream: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match stream.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::*;
    use crate::disk::SystemDisk;

    type Rows = BTreeMap<[u8; 16], Vec<u8>>;

    fn open(folder: &Path) -> (CatalogFile, bool, Rows) {
        let mut rows = Rows::new();
        let mut note = |tenant, row: &[u8]| match row {
            [] => _ = rows.remove(&tenant),
            row => _ = rows.insert(tenant, row.to_vec()),
        };
        let (catalog, end) = CatalogFile::open(SystemDisk::shared(), folder, &mut note).unwrap();
        (catalog, end != CatalogEnd::Damaged, rows)
    }

    fn row(of: u8, text: &'static str) -> ([u8; 16], &'static [u8]) {
        ([of; 16], text.as_bytes())
    }

    fn rows(of: &[(u8, &str)]) -> Rows {
        of.iter().map(|(of, text)| ([*of; 16], text.as_bytes().to_vec())).collect()
    }

    #[test]
    fn the_newest_row_of_a_tenant_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (mut catalog, is_whole, _) = open(dir.path());
        assert!(!is_whole && catalog.needs_replacing());
        assert!(catalog.append([row(1, "early")]).is_err());
        catalog.replace([row(1, "one"), row(2, "two")]).unwrap();
        catalog.append([row(1, "uno"), row(3, "three")]).unwrap();
        catalog.append([row(2, "")]).unwrap();
        let (mut catalog, is_whole, read) = open(dir.path());
        assert!(is_whole);
        assert_eq!(read, rows(&[(1, "uno"), (3, "three")]));
        let bytes = catalog.bytes();
        catalog.replace(read.iter().map(|(id, row)| (*id, &**row))).unwrap();
        assert!(catalog.bytes() < bytes);
        catalog.append([row(4, "four")]).unwrap();
        assert_eq!(open(dir.path()).2, rows(&[(1, "uno"), (3, "three"), (4, "four")]));
    }

    #[test]
    fn what_is_cut_off_anywhere_leaves_the_batches_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(CATALOG);
        let (mut catalog, ..) = open(dir.path());
        catalog.replace([row(1, "one")]).unwrap();
        let first = catalog.bytes();
        catalog.append([row(1, "uno"), row(2, "two")]).unwrap();
        let whole = fs::read(&path).unwrap();
        for length in HEADER..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let (mut catalog, is_whole, read) = open(dir.path());
            assert!(is_whole, "{length}");
            let before = if (length as u64) < first { vec![] } else { vec![(1, "one")] };
            assert_eq!(read, rows(&before), "{length}");
            catalog.append([row(3, "three")]).unwrap();
            let after: Vec<_> = before.into_iter().chain([(3, "three")]).collect();
            assert_eq!(open(dir.path()).2, rows(&after), "{length}");
        }
    }

    #[test]
    fn damage_before_the_last_batch_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(CATALOG);
        let (mut catalog, ..) = open(dir.path());
        catalog.replace([row(1, "one")]).unwrap();
        let first = catalog.bytes() as usize;
        catalog.append([row(2, "two")]).unwrap();
        let whole = fs::read(&path).unwrap();
        for at in (0..whole.len()).filter(|at| !(8..10).contains(at)) {
            let mut bad = whole.clone();
            bad[at] ^= 0x40;
            fs::write(&path, &bad).unwrap();
            let (_, is_whole, read) = open(dir.path());
            assert_eq!(is_whole, at >= first, "{at}");
            if is_whole {
                assert_eq!(read, rows(&[(1, "one")]), "the last batch may be torn");
            }
        }
        let mut newer = whole;
        newer[8] = 2;
        fs::write(&path, &newer).unwrap();
        let error = CatalogFile::open(SystemDisk::shared(), dir.path(), &mut |_, _| {}).unwrap_err().to_string();
        assert!(error.contains("format version 2") && error.contains("remove the file"), "{error}");
    }

    #[test]
    fn a_catalog_that_was_closed_is_known_to_be_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(CATALOG);
        let end = || CatalogFile::open(SystemDisk::shared(), dir.path(), &mut |_, _| {}).unwrap().1;
        let (mut catalog, ..) = open(dir.path());
        assert!(!CatalogFile::holds(end(), true), "there is none");
        catalog.replace([row(1, "one")]).unwrap();
        catalog.append([row(1, "uno"), row(2, "two")]).unwrap();
        catalog.close().unwrap();
        for round in 0..2 {
            let whole = fs::read(&path).unwrap();
            for length in 0..whole.len() {
                fs::write(&path, &whole[..length]).unwrap();
                assert!(!CatalogFile::holds(end(), false), "cut at {length}");
            }
            fs::write(&path, [&whole[..], b"more"].concat()).unwrap();
            assert_eq!(end(), CatalogEnd::Open);
            fs::write(&path, &whole).unwrap();
            let (mut catalog, _, read) = open(dir.path());
            assert_eq!((end(), read.len()), (CatalogEnd::Closed, 2 + round));
            // It goes on, and is closed again.
            catalog.append([row(3, "three")]).unwrap();
            assert_eq!(end(), CatalogEnd::Open);
            assert!(CatalogFile::holds(end(), true) && !CatalogFile::holds(end(), false));
            catalog.close().unwrap();
        }
    }

    #[test]
    fn many_rows_take_several_batches() {
        let dir = tempfile::tempdir().unwrap();
        let (mut catalog, ..) = open(dir.path());
        let large = vec![7; BATCH_BYTES / 3];
        let many = || (0..10).map(|of| ([of; 16], &*large));
        catalog.replace(many()).unwrap();
        assert_eq!(open(dir.path()).2.len(), 10);
    }
}

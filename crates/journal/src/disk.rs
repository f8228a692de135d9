//! The disk as the journal uses it: a few operations, each with its POSIX meaning.
//!
//! Every other file of this crate touches the disk through this trait. So the simulation can run them on a disk that
//! crashes, tears writes, refuses and forgets.

use std::fmt::Debug;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

/// Files and folders by path. A file or folder that was created, renamed or removed is certain to be so on disk only once
/// its folder is synced.
pub trait Disk: Debug + Send + Sync {
    /// Opens a file.
    fn open(&self, path: &Path, access: OpenMode) -> io::Result<Box<dyn DiskFile>>;
    /// A file's whole content.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Gives a file or folder another name, in place of whatever file has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Creates a folder that only its owner can enter. If it exists, that is an `AlreadyExists` error.
    fn make_folder(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder with everything in it.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
    /// Waits until the entries of a folder are on disk.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// The entries of a folder, in no order. Names that are not UTF-8 are left out.
    fn list(&self, folder: &Path) -> io::Result<Vec<Listed>>;
    /// Whether anything has that name, even a dangling link.
    fn exists(&self, path: &Path) -> bool;
    /// The number of the file system a folder is on, since one `syncfs` covers only one.
    fn file_system(&self, folder: &Path) -> io::Result<u64>;
}

/// An open file. Written bytes are certain to be on disk only once the file is synced.
pub trait DiskFile: Debug + Send + Sync {
    /// Reads some bytes at an offset; none only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes some of the bytes at an offset, and returns how many.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// The file's size in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Cuts the file, or extends it with zeros, to a size.
    fn set_size(&self, size: u64) -> io::Result<()>;
    /// Extends the file with zeros to a size, and takes the space for it from the disk now.
    fn reserve(&self, size: u64) -> io::Result<()>;
    /// Waits until content and size are on disk. After an error, earlier writes may be lost even if a later sync succeeds.
    fn sync(&self) -> io::Result<()>;
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Reading a file that is there.
    Read,
    /// Reading and writing a file that is there.
    Write,
    /// Reading and writing a new, empty file; one that is there is an `AlreadyExists` error.
    Create,
}

/// An entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name in the folder.
    pub name: String,
    /// What it is.
    pub kind: FileKind,
}

/// What an entry of a folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A file.
    File,
    /// A folder.
    Folder,
    /// A link, or anything else.
    Other,
}

impl dyn DiskFile + '_ {
    /// Fills the whole buffer from a place.
    pub(super) fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_at(buffer, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => {
                    buffer = buffer.get_mut(length..).unwrap_or_default();
                    offset += length as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes all bytes at a place. The error comes with how many were written before it.
    pub(super) fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<(), (usize, io::Error)> {
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            match self.write_at(rest, offset + written as u64) {
                Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
                Ok(length) => written += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err((written, error)),
            }
        }
        Ok(())
    }
}

/// Reads a file from its start on.
#[derive(Debug)]
pub(super) struct FileStream {
    file: Box<dyn DiskFile>,
    position: u64,
}

impl FileStream {
    pub fn new(file: Box<dyn DiskFile>) -> Self {
        Self { file, position: 0 }
    }
}

impl Read for FileStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read_at(buffer, self.position)?;
        self.position += length as u64;
        Ok(length)
    }
}

impl Seek for FileStream {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.file.size()?.checked_add_signed(by),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

/// The operating system's file systems.
#[derive(Clone, Copy, Debug)]
pub struct SystemDisk;

impl SystemDisk {
    /// A shared handle.
    pub fn shared() -> Arc<dyn Disk> {
        Arc::new(Self)
    }
}

impl Disk for SystemDisk {
    fn open(&self, path: &Path, access: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(access != OpenMode::Read).create_new(access == OpenMode::Create);
        Ok(Box::new(options.open(path)?))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Listed>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let found = entry.file_type()?;
            let kind = match (found.is_file(), found.is_dir()) {
                (true, _) => FileKind::File,
                (_, true) => FileKind::Folder,
                _ => FileKind::Other,
            };
            entries.push(Listed { name, kind });
        }
        Ok(entries)
    }

    fn exists(&self, path: &Path) -> bool {
        fs::symlink_metadata(path).is_ok()
    }

    fn file_system(&self, folder: &Path) -> io::Result<u64> {
        Ok(fs::metadata(folder)?.dev())
    }
}

impl DiskFile for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, offset)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.set_len(size)
    }

    fn reserve(&self, size: u64) -> io::Result<()> {
        match rustix::fs::fallocate(self, rustix::fs::FallocateFlags::empty(), 0, size) {
            // Some file systems can't. Then a write may find the disk full.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => self.set_len(size),
            reserved => Ok(reserved?),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

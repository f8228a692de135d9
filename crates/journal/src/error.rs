//! Why a tenant can't be recovered, in words that an operator can act on.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a tenant could not be recovered from its folder. Unless it is `Io`, nothing on disk was changed.
#[derive(Debug, Error)]
pub enum RecoveryError {
    /// Bytes that had certainly reached the disk are bad or gone.
    #[error(
        "{} is damaged at byte {offset}: {detail}; stop the server, then restore this tenant's folder from a \
         backup, or move the folder out of the data directory to go on without the tenant",
        file.display()
    )]
    Damaged {
        /// The file, or the folder where a whole file is missing.
        file: PathBuf,
        /// The byte in the (uncompressed) file.
        offset: u64,
        /// What is wrong there.
        detail: String,
    },
    /// A file belongs to another tenant: the folder is a copy under a new name, or a restore into the wrong folder.
    #[error(
        "{} is of another tenant, {:032x}, than its folder is named after, so the folder is not served; stop the server, \
         then move the folder out of the data directory, or restore this tenant's own files into it",
        file.display(), u128::from_be_bytes(*owner)
    )]
    Foreign {
        /// The file, or the folder if only the events say so.
        file: PathBuf,
        /// The uuid of the tenant it belongs to.
        owner: [u8; 16],
    },
    /// An undamaged event that the caller could not decode.
    #[error(
        "event {seq} in {} at byte {offset} cannot be decoded: {detail}; run the version of the server that \
         wrote it, or restore this tenant's folder from a backup",
        file.display()
    )]
    Undecodable {
        /// The segment file.
        file: PathBuf,
        /// Where its frame starts in the (uncompressed) file.
        offset: u64,
        /// Its sequence number.
        seq: u64,
        /// The caller's reason.
        detail: String,
    },
    /// The file was written by a later version of the server.
    #[error(
        "{} has format version {version}, and this server reads up to {supported}: run a newer server",
        file.display()
    )]
    TooNew {
        /// The file.
        file: PathBuf,
        /// Its version.
        version: u16,
        /// The newest version this server reads.
        supported: u16,
    },
    /// The operating system refused to read or write.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl RecoveryError {
    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

/// An `InvalidData` error that names the file and the byte.
pub(super) fn invalid(file: &std::path::Path, offset: u64, detail: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{} at byte {offset}: {detail}", file.display()))
}

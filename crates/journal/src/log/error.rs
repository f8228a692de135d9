//! Why the log can't be opened, in words that an operator can act on.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why the log could not be opened. Nothing on disk was changed.
#[derive(Debug, Error)]
pub enum LogError {
    /// A part of the log that had certainly reached the disk is bad or gone, and nothing says which tenants it was about.
    #[error(
        "the log is damaged: {} at byte {offset}: {detail}; restore the log from a backup of the whole data directory",
        file.display()
    )]
    Damaged {
        /// The file, or the folder where a whole file is missing.
        file: PathBuf,
        /// The byte in the file.
        offset: u64,
        /// What is wrong there.
        detail: String,
    },
    /// The log, or a file of it, is of another data directory.
    #[error(
        "{} is of another log than {} names; put back the files that belong to this data directory",
        file.display(), manifest.display()
    )]
    Foreign {
        /// The file.
        file: PathBuf,
        /// The manifest of the data directory.
        manifest: PathBuf,
    },
    /// Another version of the server wrote the log.
    #[error(
        "{} has format version {version}, and this server reads version {supported}: run the version of the server \
         that wrote it, and stop that one cleanly",
        file.display()
    )]
    Version {
        /// The file.
        file: PathBuf,
        /// Its version.
        version: u32,
        /// The version that this server reads.
        supported: u32,
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

impl LogError {
    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    pub(super) fn damaged(file: &Path, offset: u64, detail: impl Into<String>) -> Self {
        Self::Damaged { file: file.to_path_buf(), offset, detail: detail.into() }
    }
}

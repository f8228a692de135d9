//! An open file that remembers a failed sync.

use std::io;
use std::sync::{Mutex, PoisonError};

use crate::disk::DiskFile;

/// An open file that several threads write and sync.
#[derive(Debug)]
pub(super) struct SyncedFile {
    file: Box<dyn DiskFile>,
    /// Whether a sync has ever failed. The kernel reports a lost write only once per open file, so the failure is remembered
    /// for everyone who shares the file.
    failed: Mutex<bool>,
}

impl SyncedFile {
    pub fn new(file: Box<dyn DiskFile>) -> Self {
        Self { file, failed: Mutex::new(false) }
    }

    pub fn file(&self) -> &dyn DiskFile {
        &*self.file
    }

    /// Waits until every written byte is on disk. Blocking.
    pub fn sync(&self) -> io::Result<()> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if *failed {
            return Err(sync_failed_before());
        }
        let result = self.file.sync();
        *failed = result.is_err();
        result
    }

    /// Fails if a sync has ever failed.
    pub fn check(&self) -> io::Result<()> {
        match *self.failed.lock().unwrap_or_else(PoisonError::into_inner) {
            true => Err(sync_failed_before()),
            false => Ok(()),
        }
    }
}

fn sync_failed_before() -> io::Error {
    io::Error::other("an earlier sync of this file failed, and nobody knows what it lost")
}

//! An open file that remembers a failed sync.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::disk::DiskFile;

/// Whether a sync of a file has ever failed. The kernel reports a lost write only once per open file, so the failure is
/// remembered for everyone who shares the file, and also for those who open it later.
#[derive(Clone, Debug, Default)]
pub(super) struct SyncFailure(Arc<Mutex<bool>>);

/// An open file that several threads write and sync.
#[derive(Debug)]
pub(super) struct SyncedFile {
    file: Box<dyn DiskFile>,
    failure: SyncFailure,
}

impl SyncedFile {
    pub fn new(file: Box<dyn DiskFile>, failure: SyncFailure) -> Self {
        Self { file, failure }
    }

    pub fn file(&self) -> &dyn DiskFile {
        &*self.file
    }

    /// Waits until every written byte is on disk. Blocking.
    pub fn sync(&self) -> io::Result<()> {
        let mut failed = self.failure.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *failed {
            return Err(sync_failed_before());
        }
        let result = self.file.sync();
        *failed = result.is_err();
        result
    }

    pub fn failure(&self) -> SyncFailure {
        self.failure.clone()
    }

    /// Fails if a sync has ever failed.
    pub fn check(&self) -> io::Result<()> {
        match *self.failure.0.lock().unwrap_or_else(PoisonError::into_inner) {
            true => Err(sync_failed_before()),
            false => Ok(()),
        }
    }
}

fn sync_failed_before() -> io::Error {
    io::Error::other("an earlier sync of this file failed, and nobody knows what it lost")
}

//! Reads a log that no server uses.

use std::collections::HashMap;
use std::path::Path;

use super::error::LogError;
use super::manifest::Manifest;
use super::recovery::{self, KnownProgress};
use super::slot::{self, LOG_FOLDER};
use super::tail::Tail;
use super::writer::{check_all_named, check_no_slots};
use crate::disk::{Disk, OpenMode};

/// What a log has of each tenant.
#[derive(Clone, Debug, Default)]
pub struct LogTails {
    tails: HashMap<[u8; 16], Tail>,
    none: Tail,
}

impl LogTails {
    /// Reads the log of a data directory, and changes nothing. After a clean stop there is none. Blocking.
    ///
    /// # Errors
    /// The log is damaged, of another version or another directory, or can't be read.
    pub fn read(disk: &dyn Disk, data_dir: &Path) -> Result<Self, LogError> {
        let folder = data_dir.join(LOG_FOLDER);
        let Some(Manifest { id, slots, is_closed, .. }) = Manifest::read(disk, data_dir)? else {
            return check_no_slots(disk, data_dir, &folder).map(|()| Self::default());
        };
        if is_closed {
            return Ok(Self::default());
        }
        check_all_named(disk, data_dir, id, slots)?;
        let slots = slot::open_all(disk, data_dir, id, slots, OpenMode::Read)?;
        let tails = recovery::read(&slots, id, KnownProgress::default())?.tails;
        Ok(Self { tails, ..Self::default() })
    }

    /// What it has of a tenant; an empty tail if that is nothing.
    pub fn of(&self, tenant: [u8; 16]) -> &Tail {
        self.tails.get(&tenant).unwrap_or(&self.none)
    }
}

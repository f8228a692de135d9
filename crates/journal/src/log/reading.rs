//! Reads a log that no server uses.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::error::LogError;
use super::manifest::{self, Manifest};
use super::recovery::{self, KnownProgress};
use super::slot::LogSlot;
use super::tail::Tail;
use super::writer::{LOG_FOLDER, check_no_slots};
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
        let manifest = manifest::path(data_dir);
        let open = |number| LogSlot::open(disk, &folder, number, id, &manifest, OpenMode::Read).map(Arc::new);
        let slots: Vec<_> = (0..slots).map(open).collect::<Result<_, _>>()?;
        let tails = recovery::read(&slots, id, KnownProgress::default())?.tails;
        Ok(Self { tails, ..Self::default() })
    }

    /// What it has of a tenant; an empty tail if that is nothing.
    pub fn of(&self, tenant: [u8; 16]) -> &Tail {
        self.tails.get(&tenant).unwrap_or(&self.none)
    }
}

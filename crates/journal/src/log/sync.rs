//! Making batches durable: one sync covers everything that was written when it began.

use std::io;

use super::slot::SharedSlot;

/// A sync of the log, to be run on a thread that may wait.
#[derive(Debug)]
pub struct LogSync {
    /// Oldest first.
    pub(super) slots: Vec<SharedSlot>,
    pub(super) position: u64,
    pub(super) generation: usize,
}

impl LogSync {
    /// The last batch that it covers.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Waits until everything up to the position is on disk. Blocking.
    ///
    /// # Errors
    /// What the disk reports, now or at an earlier sync of one of these files.
    pub fn run(&self) -> io::Result<()> {
        self.slots.iter().try_for_each(|slot| slot.sync())
    }
}

//! How many messages may wait for a tenant's actor, and the answer to a call beyond that.

use crate::domain::{Code, Error};

/// Messages a tenant's mailbox holds: some tens of milliseconds of single calls, in a few megabytes.
pub const MAILBOX_CAPACITY: usize = 4_096;

/// The error of a call that finds the mailbox full.
pub fn overloaded() -> Error {
    Error::new(Code::Overloaded, "too many calls wait for this tenant; try again in a moment")
}

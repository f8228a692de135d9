//! How many messages wait for a tenant's actor, and what a call past that gets.

use crate::domain::{Code, Error};

/// Messages a tenant's mailbox holds: some tens of milliseconds of single calls, in a few megabytes.
pub const MAILBOX_CAPACITY: usize = 4_096;

/// The error of a call that a mailbox has no room for.
pub fn overloaded() -> Error {
    Error::new(Code::Overloaded, "more calls wait for this tenant than it can take; try again")
}

//! Why the store refuses or can't vouch for a write, in the words a caller gets.

use kavach_domain::{Code, Error};

/// The error while the journal can't be written.
pub fn storage_unavailable() -> Error {
    Error::new(Code::StorageUnavailable, "the journal can't be written; nothing was changed, try again later")
}

/// The error where an event may be in the file, and the disk did not confirm it.
pub fn outcome_unknown() -> Error {
    let message = "the disk did not confirm the change: it may have happened or not; look before you try again";
    Error::new(Code::OutcomeUnknown, message)
}

/// The error while the process ends.
pub fn shutting_down() -> Error {
    Error::new(Code::ShuttingDown, "the server is shutting down")
}

/// The error where an event could not be appended, which is a defect.
pub fn not_recorded() -> Error {
    Error::new(Code::InternalError, "the event could not be recorded")
}

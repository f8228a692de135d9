//! The errors a caller gets when the store refuses a write or can't confirm it.

use kavach_domain::{Code, Error};

/// The error while the journal can't be written.
pub fn storage_unavailable() -> Error {
    Error::new(Code::StorageUnavailable, "the journal can't be written; nothing was changed, try again later")
}

/// The error for an event that may be in the file, but is not confirmed by the disk.
pub fn outcome_unknown() -> Error {
    let message = "the disk did not confirm the change: it may have happened or not; look before you try again";
    Error::new(Code::OutcomeUnknown, message)
}

/// The error while too many replies wait for the disk.
pub fn too_many_waiting() -> Error {
    Error::new(Code::Overloaded, "too many calls wait for the disk; try again later")
}

/// The error while the process is shutting down.
pub fn shutting_down() -> Error {
    Error::new(Code::ShuttingDown, "the server is shutting down")
}

/// The error for an event that could not be appended. That is a defect.
pub fn not_recorded() -> Error {
    Error::new(Code::InternalError, "the event could not be recorded")
}

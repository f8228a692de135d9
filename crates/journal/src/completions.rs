//! The answers of a log that does not know at once what became of a batch.
//!
//! Each thread that appends has one of these. The log's own threads put answers in, as many as they have at once, and
//! wake the thread once for all of them. So no thread waits for a log, and none is woken for each event.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use thiserror::Error;

/// What became of one tenant's events in a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SectionOutcome {
    /// They are in the log, and as durable as it makes anything.
    Recorded,
    /// They are not in the log, and never will be.
    NotRecorded(NotRecorded),
    /// They may be in the log, or come into it until somebody asks for the tenant's [tail](crate::EventLog::tail). The
    /// reason is for people.
    Unknown(String),
}

/// Why events are certainly not recorded.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NotRecorded {
    /// Another owner of the tenant has appended to its log.
    #[error("another owner has taken the tenant over")]
    Fenced,
    /// They would follow a gap.
    #[error("an earlier event of the tenant is not recorded, or perhaps not")]
    AfterLoss,
    /// The log does not take them.
    #[error("the log takes nothing: {0}")]
    Refused(String),
}

/// The answer for one section of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SectionAnswer {
    /// The batch.
    pub position: u64,
    /// The index of the section in it.
    pub section: usize,
    /// What became of it.
    pub outcome: SectionOutcome,
}

/// Answers on their way to the thread that appended.
pub struct Completions {
    answers: Mutex<Vec<SectionAnswer>>,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Completions {
    /// Nothing yet. `wake` is called after something was put in, on the thread that did it.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self { answers: Mutex::default(), wake: Box::new(wake) }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<SectionAnswer>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts answers in, and wakes the thread once.
    pub fn deliver(&self, parcel: impl IntoIterator<Item = SectionAnswer>) {
        self.lock().extend(parcel);
        (self.wake)();
    }

    /// Takes everything that was put in.
    pub fn take(&self) -> Vec<SectionAnswer> {
        std::mem::take(&mut *self.lock())
    }
}

impl fmt::Debug for Completions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completions").field("answers", &self.answers).finish_non_exhaustive()
    }
}

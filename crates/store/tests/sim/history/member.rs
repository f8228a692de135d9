//! A tenant of a history, and the state of its pipeline.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use kavach_domain::{Code, TenantId};
use kavach_store::catalog_writer::RowBytes;
use kavach_store::commit_pipeline::StateCopy;
use kavach_store::loader::{LoadError, LoadedTenant};
use kavach_store::{BoxedReply, CommitPipeline};

use super::Tally;
use super::jobs::Job;
use crate::model::{Model, Promise};
use crate::task::Task;

pub type Outcomes = Arc<Mutex<Vec<(Promise, Result<(), Code>)>>>;

/// A tenant.
pub struct Member {
    pub id: TenantId,
    pub model: Model,
    pub outcomes: Outcomes,
    pub part: Part,
    /// Jobs on other threads, including those of an earlier pipeline.
    pub jobs: Vec<(u32, Job)>,
    /// Which pipeline this is. Results of an earlier one don't concern it.
    pub generation: u32,
    /// Whether a thread writes to the folder or syncs it.
    pub folding: bool,
    /// States of which a snapshot is wanted.
    pub copies: Vec<StateCopy>,
    pub retention_running: bool,
    /// Failed syncs when the pipeline was loaded.
    pub losses: u64,
    /// The row that is in the catalog, or on its way there.
    pub row: Option<RowBytes>,
    /// The last event that the row knows of.
    pub row_seq: u64,
    /// Whether a row was not noted.
    pub row_lost: Arc<AtomicBool>,
    /// The last event when it was loaded.
    pub loaded: u64,
    /// The last event that the log had taken when a turn ended.
    pub written: u64,
    /// The last event that the log had on disk, as far as we know.
    pub in_log: u64,
    /// Whether a row of it was in the catalog for certain, in any process.
    pub has_row: bool,
}

pub enum Part {
    Up(Box<CommitPipeline>),
    /// It is being loaded again, after its storage failed or since somebody called it.
    Loading(Loading),
    /// It leaves memory. A job does the rest.
    Leaving,
    /// It has left, and is loaded again when somebody calls it.
    Idle,
    /// Not loaded yet.
    Down,
}

/// A tenant that is being loaded in a running process.
pub struct Loading {
    pub task: Task<Result<LoadedTenant, LoadError>>,
    /// Failed syncs before it began.
    pub losses: u64,
    /// Whether it had left memory, rather than failed.
    pub returns: bool,
}

pub fn folder_synced(part: &Part) -> u64 {
    if let Part::Up(pipeline) = part { pipeline.journal().map_or(0, |journal| journal.synced_seq()) } else { 0 }
}

impl Member {
    /// A reply that reports its outcome to the model.
    pub fn held(&self, promise: Promise) -> BoxedReply {
        let outcomes = Arc::clone(&self.outcomes);
        Box::new(move |outcome| {
            outcomes.lock().unwrap().push((promise, outcome.map_err(|error| error.code())));
        })
    }

    /// Hears that a row was not noted: there has to be another.
    pub fn take_lost_row(&mut self) {
        if self.row_lost.swap(false, Ordering::Relaxed) {
            self.row = None;
        }
    }

    pub fn spawn(&mut self, job: Job) {
        self.jobs.push((self.generation, job));
    }

    /// Passes on the answers that callers got.
    pub fn collect_answers(&mut self, tally: &mut Tally) {
        for (promise, outcome) in self.outcomes.lock().unwrap().drain(..) {
            match outcome {
                Ok(()) => tally.answers += 1,
                Err(Code::OutcomeUnknown) => tally.unknown += 1,
                Err(_) => tally.refused += 1,
            }
            self.model.answered(promise, outcome);
        }
    }
}

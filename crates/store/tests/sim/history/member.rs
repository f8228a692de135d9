//! A tenant of a history, and the state of its pipeline.

use std::sync::{Arc, Mutex};

use kavach_domain::{Code, TenantId};
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
    pub sync_running: bool,
    pub retention_running: bool,
    /// Failed syncs when the pipeline was loaded.
    pub losses: u64,
}

pub enum Part {
    Up(Box<CommitPipeline>),
    /// It is being loaded again, after its storage failed.
    Loading(Task<Result<LoadedTenant, LoadError>>, u64),
    Closed,
    /// Not loaded yet.
    Down,
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

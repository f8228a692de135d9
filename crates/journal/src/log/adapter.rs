//! The log on a disk, as the port that others know.

use std::sync::Arc;

use super::error::LogError;
use super::tail::Tail;
use super::writer::Log;
use crate::completions::Completions;
use crate::event_log::{AcceptedBatch, AppendFailure, EventLog, LogProgress, LogSection};

impl EventLog for Log {
    /// A batch is recorded once it was written. So there is nothing to answer later.
    fn append(
        &self,
        generation: usize,
        sections: &[LogSection],
        frames: &[u8],
        _: &Arc<Completions>,
    ) -> Result<AcceptedBatch, AppendFailure> {
        let position = self.append(generation, sections, frames)?;
        Ok(AcceptedBatch { position, is_recorded: true })
    }

    fn progress(&self, generation: usize) -> LogProgress {
        self.progress(generation)
    }

    fn batch_bytes(&self) -> usize {
        self.batch_bytes()
    }

    fn tail(&self, tenant: [u8; 16]) -> Result<Tail, LogError> {
        self.tail(tenant)
    }

    fn folded(&self, tenant: [u8; 16], seq: u64) {
        self.folded(tenant, seq);
    }

    fn due_to_fold(&self) -> Vec<[u8; 16]> {
        self.due_to_fold()
    }

    fn not_folded(&self, tenant: [u8; 16]) {
        self.not_folded(tenant);
    }
}

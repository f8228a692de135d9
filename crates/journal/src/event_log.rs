//! The log as a port: what the commit order, loading and folding ask of any log.
//!
//! [`Log`](crate::Log) is the adapter for a disk. A log on another machine differs in three ways, and the port is made for
//! both: it answers later, it answers for each tenant, and other machines append to it too. So nothing here takes the
//! caller's memory or files for the truth. What a log has of a tenant is what [`tail`](EventLog::tail) says.
//!
//! | | a disk | another machine |
//! | --- | --- | --- |
//! | a batch is recorded | when `append` returns | when its sections are answered |
//! | what is recorded is on disk | once a sync covers it | at once |
//! | a failure concerns | everything since the last sync | one tenant |
//! | it is over | once the log was read anew: its generation grows | once the tenant's tail was asked for |

use std::fmt;
use std::io;
use std::sync::Arc;

use thiserror::Error;

use crate::completions::Completions;
use crate::log::{LogError, Tail};

/// One tenant's events in a batch to append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSection {
    /// The tenant's uuid.
    pub tenant: [u8; 16],
    /// The first event.
    pub first_seq: u64,
    /// The last event.
    pub last_seq: u64,
    /// Bytes of its frames.
    pub bytes: usize,
}

/// A batch that a log has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptedBatch {
    /// Its number in the log, greater than that of every batch before it.
    pub position: u64,
    /// Whether all of it is recorded: it survives a killed process. Else each section gets an answer later.
    pub is_recorded: bool,
}

/// How far a log has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogProgress {
    /// Counts the failures of the whole log until now.
    pub generation: usize,
    /// What is recorded of the batches up to this one is on disk for certain. `u64::MAX` for a log that records nothing
    /// before it is on disk.
    pub synced: u64,
    /// Where the caller has not heard of a failure of the whole log: the last batch that was on disk for certain then.
    /// Nobody knows what the log lost of the later ones.
    pub failed: Option<u64>,
}

/// Why a batch was not taken.
#[derive(Debug, Error)]
pub enum AppendFailure {
    /// None of it is recorded, now or later.
    #[error("the log takes nothing: {0}")]
    Refused(io::Error),
    /// It may be found after a crash, or not. The log takes nothing more until it was [reopened](crate::Log::reopen).
    #[error("the log could not be written: {0}")]
    Unknown(io::Error),
}

/// A log that makes the events of all tenants durable. Any thread may use it.
pub trait EventLog: fmt::Debug + Send + Sync {
    /// Takes a batch: the events of one thread's turn. A tenant may have several sections in it, the earlier events first.
    /// `generation` is that of the last [`progress`](EventLog::progress) that the caller has taken note of. So nobody who
    /// does not know of a failure of the whole log can append an event after one that is lost.
    ///
    /// If the batch is not recorded when this returns, each of its sections gets one answer in `completions`, within
    /// seconds and in any order. It may come before this returns. Of each tenant the answers come in the order of its
    /// events. After one that is not [`Recorded`](crate::SectionOutcome::Recorded), whatever the log has taken of the
    /// tenant and not answered is not recorded either, until somebody asks for the tenant's tail.
    ///
    /// # Errors
    /// See [`AppendFailure`]. It is about the whole batch, and then no section is answered.
    fn append(
        &self,
        generation: usize,
        sections: &[LogSection],
        frames: &[u8],
        completions: &Arc<Completions>,
    ) -> Result<AcceptedBatch, AppendFailure>;

    /// How far the log has come, for a caller that has taken note of its state in `generation`.
    fn progress(&self, generation: usize) -> LogProgress;

    /// Bytes of frames above which a batch should take no more.
    fn batch_bytes(&self) -> usize;

    /// What the log has of a tenant, perhaps beyond what the tenant's folder has. Blocking. Who asks goes on from there:
    /// nothing that was appended for the tenant before and is not in the tail comes into the log any more, and what was
    /// not answered yet is answered before this returns.
    ///
    /// # Errors
    /// The log can't be read, or not now.
    fn tail(&self, tenant: [u8; 16]) -> Result<Tail, LogError>;

    /// The tenant's folder has everything up to `seq` on disk, so that the log may forget it.
    fn folded(&self, tenant: [u8; 16], seq: u64);

    /// Tenants that should fold now. Each is named once until it has.
    fn due_to_fold(&self) -> Vec<[u8; 16]>;

    /// A tenant could not fold: it is to be asked again.
    fn not_folded(&self, tenant: [u8; 16]);
}

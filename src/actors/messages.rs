//! The messages that a tenant's actor takes. They are data: what it does with each stands in `tenant/`, and the one call
//! that crosses workers most, [`Authorize`](super::worker_channels::Authorize), beside the channels that carry it.

use std::time::Instant;

use actix::Message;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::oneshot;

use super::reply::Reply;
use crate::domain::author::Author;
use crate::domain::budget::usage::{UsageAnswer, UsageReport};
use crate::domain::decision::explain::Step;
use crate::domain::event::Before;
use crate::domain::tenant::{Caller, Command};
use crate::domain::text::Slug;
use crate::domain::{Credential, Decision, Request, TenantId, Timestamp};
use crate::journal::{Checkpoint, JournalReader};
use crate::measure::tenant_measures::Waiting;

/// Decide calls in order, each on its own. An answer is missing where `known_only` says so.
#[derive(Message)]
#[rtype(result = "()")]
pub struct AuthorizeMany {
    /// Who asks.
    pub credential: Credential,
    /// What is asked.
    pub requests: Vec<Request>,
    /// When the requests arrived.
    pub received: Instant,
    /// See [`Authorize::known_only`](super::worker_channels::Authorize::known_only).
    pub known_only: bool,
    /// The first decision that says this is the last one made: those after it are not decided.
    pub until: Option<bool>,
    /// Where the answers go.
    pub reply: Reply<Vec<Option<Decision>>>,
    /// As long as they wait to be decided.
    pub waiting: Waiting,
}

/// Decide a call, record nothing, and say what was looked at.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Explain {
    /// Who asks.
    pub credential: Credential,
    /// What is asked.
    pub request: Request,
    /// See [`Authorize::known_only`](super::worker_channels::Authorize::known_only).
    pub known_only: bool,
    /// Where the answer goes.
    pub reply: Reply<Explanation>,
}

/// A decision that was not recorded, with its steps.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// What the answer would be.
    #[serde(flatten)]
    pub decision: Decision,
    /// What was looked at, in order, and not more of it than an answer shows.
    pub steps: Vec<Step>,
    /// How many more steps there were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub more_steps: Option<usize>,
}

/// Carry out an administrative command.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Execute<C: Command> {
    /// Who asks.
    pub credential: Credential,
    /// What else is known of who asks.
    pub author: Option<Author>,
    /// What for.
    pub command: C,
    /// Why, where the caller said so.
    pub reason: Option<Box<str>>,
    /// Where the answer goes.
    pub reply: Reply<C::Reply>,
}

/// Record what an agent used.
#[derive(Message)]
#[rtype(result = "()")]
pub struct RecordUsage {
    /// Who asks.
    pub credential: Credential,
    /// What was used.
    pub report: UsageReport,
    /// Where the answer goes.
    pub reply: Reply<UsageAnswer>,
}

/// Look at the state.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Inspect<F, T> {
    /// Who asks.
    pub credential: Credential,
    /// What to look at, at what time.
    pub look: F,
    /// Where the answer goes.
    pub reply: Reply<T>,
}

/// Find out whether a key or token is good, and nothing else.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Verify {
    /// The key or token.
    pub credential: Credential,
    /// Where the answer goes.
    pub reply: Reply<Caller>,
}

/// Open the audit trail for reading on another thread.
#[derive(Message)]
#[rtype(result = "()")]
pub struct OpenAudit {
    /// Who asks.
    pub credential: Credential,
    /// Where the answer goes.
    pub reply: Reply<AuditTrail>,
}

/// A tenant's audit trail up to a moment.
pub struct AuditTrail {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its events.
    pub reader: JournalReader,
    /// Entries before that time are past the tenant's retention.
    pub horizon: Option<Timestamp>,
}

/// Write a snapshot now.
#[derive(Message)]
#[rtype(result = "()")]
pub struct TakeSnapshot {
    /// Where the answer goes, once the snapshot is on disk.
    pub reply: Reply<()>,
}

/// Write all there is to disk, and end.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Close {
    /// Told when all is done.
    pub done: oneshot::Sender<()>,
}

/// End at once: the tenant is being erased.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Retire {
    /// Told when no call can be answered any more.
    pub done: oneshot::Sender<()>,
}

/// Write a link that covers all events up to now, and tell it once it is on disk: one that a power failure can take
/// back would accuse an honest journal later.
#[derive(Message)]
#[rtype(result = "()")]
pub struct TakeCheckpoint {
    /// Who asks.
    pub credential: Credential,
    /// Where the answer goes.
    pub reply: Reply<(TenantId, Checkpoint)>,
}

/// Note that another tenant is about to be erased.
#[derive(Message)]
#[rtype(result = "()")]
pub struct NoteDeletion {
    /// The operator who erases it.
    pub credential: Credential,
    /// What else is known of that operator.
    pub author: Option<Author>,
    /// Why, where the operator said so.
    pub reason: Option<Box<str>>,
    /// The tenant that is erased.
    pub tenant: TenantId,
    /// Its slug.
    pub slug: Option<Slug>,
    /// What it was.
    pub before: Option<Before>,
    /// Where the answer goes, once the note is on disk.
    pub reply: Reply<()>,
}

/// How an actor ended, which decides what the registry does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It panicked: what nobody else said before it was dropped.
    Panic,
    /// The journal could not be written: the state is ahead of the disk.
    Storage,
    /// It was told to.
    Clean,
}

/// A tenant's actor ended without being told to.
#[derive(Message)]
#[rtype(result = "()")]
pub struct TenantDown {
    /// The tenant.
    pub id: TenantId,
    /// Which of the actors that the tenant has had.
    pub generation: u64,
    /// How it ended.
    pub ending: Ending,
}

#[cfg(feature = "test-hooks")]
/// Panic, as a defect would: what tests use to see that nobody else notices.
#[derive(Message)]
#[rtype(result = "()")]
pub struct InjectPanic;

#[cfg(feature = "test-hooks")]
/// Do nothing until the other end says so or is gone: what tests use to see a mailbox fill.
#[derive(Message)]
#[rtype(result = "()")]
pub struct InjectStall(
    /// The other end.
    pub std::sync::mpsc::Receiver<()>,
);

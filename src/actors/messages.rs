//! The messages to a tenant's actor. They are data: their handlers are in `tenant/`.
//! [`Authorize`](super::worker_channels::Authorize), the call that crosses workers most, is beside the channels that
//! carry it.

use std::time::Instant;

use actix::Message;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::oneshot;

use super::reply::Reply;
use crate::domain::author::Author;
use crate::domain::budget::hold::HoldTime;
use crate::domain::budget::hold_commands::HoldView;
use crate::domain::budget::usage::{UsageAnswer, UsageReport};
use crate::domain::decision::explain::Step;
use crate::domain::event::Before;
use crate::domain::idempotency::key::RequestKey;
use crate::domain::instance::lease::{Ask, Lease, Recall};
use crate::domain::instance::prospect::Foreseen;
use crate::domain::tenant::key::ApiKey;
use crate::domain::tenant::{Caller, Command};
use crate::domain::text::Slug;
use crate::domain::webhook::outbox::DeliveryRecord;
use crate::domain::{
    AuditId, Credential, Decision, Error, KeyRole, PolicyId, Request, Right, SeenVersions, TenantId, Timestamp,
};
use crate::journal::{Checkpoint, JournalReader};
use crate::measure::tenant_measures::Waiting;
use kavach_store::catalog_writer::RowBytes;

/// Decide calls in order, each on its own. With `known_only`, an answer may be missing.
#[derive(Message)]
#[rtype(result = "()")]
pub struct AuthorizeMany {
    /// The caller's credential.
    pub credential: Credential,
    /// The calls.
    pub requests: Vec<Request>,
    /// When the requests arrived.
    pub received: Instant,
    /// See [`Authorize::known_only`](super::worker_channels::Authorize::known_only).
    pub known_only: bool,
    /// Stop after the first decision with this outcome.
    pub until: Option<bool>,
    /// The reply channel.
    pub reply: Reply<Vec<Option<Decision>>>,
    /// Counts the calls while they wait.
    pub waiting: Waiting,
}

/// Decide a call, record nothing, and return the steps.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Explain {
    /// The caller's credential.
    pub credential: Credential,
    /// The call.
    pub request: Request,
    /// See [`Authorize::known_only`](super::worker_channels::Authorize::known_only).
    pub known_only: bool,
    /// The reply channel.
    pub reply: Reply<Explanation>,
}

/// A decision that was not recorded, with its steps.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The decision.
    #[serde(flatten)]
    pub decision: Decision,
    /// The steps in order, at most as many as an answer shows.
    pub steps: Vec<Step>,
    /// How many more steps there were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub more_steps: Option<usize>,
}

/// Carry out an administrative command.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Execute<C: Command> {
    /// The caller's credential.
    pub credential: Credential,
    /// What else we know about the caller.
    pub author: Option<Author>,
    /// The command.
    pub command: C,
    /// The caller's reason, if given.
    pub reason: Option<Box<str>>,
    /// The request's idempotency key. A repeat changes nothing, and the answer is `IDEMPOTENCY_KEY_IN_USE`.
    pub key: Option<RequestKey>,
    /// The reply channel.
    pub reply: Reply<C::Reply>,
}

/// Record what an agent used.
#[derive(Message)]
#[rtype(result = "()")]
pub struct RecordUsage {
    /// The caller's credential.
    pub credential: Credential,
    /// The usage.
    pub report: UsageReport,
    /// See [`Execute::key`].
    pub key: Option<RequestKey>,
    /// The reply channel.
    pub reply: Reply<UsageAnswer>,
}

/// Record that a message to a webhook was delivered or given up.
#[derive(Message)]
#[rtype(result = "()")]
pub struct RecordDelivery {
    /// What became of it.
    pub record: DeliveryRecord,
    /// The reply channel.
    pub reply: Reply<()>,
}

/// Carry out an administrative command about an instance policy, once tenants gave back what they have of it.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ExecuteRecalled<C: Command> {
    /// The policy.
    pub policy: PolicyId,
    /// Whether what was charged before counts no more. Then everybody has to answer.
    pub anew: bool,
    /// The command.
    pub execute: Execute<C>,
}

/// Grant a slice of an instance policy. Only the default tenant is asked.
#[derive(Message)]
#[rtype(result = "()")]
pub struct AskSlice {
    /// What for, and what became of earlier slices.
    pub ask: Ask,
    /// The reply channel.
    pub reply: Reply<Lease>,
}

/// Say what would become of questions for slices, and lend nothing. Only the default tenant is asked.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ForeseeSlices {
    /// The questions, each with what other tenants just told of their slices.
    pub asks: Vec<(Ask, Vec<Ask>)>,
    /// The reply channel, for an answer to each.
    pub reply: Reply<Vec<Foreseen>>,
}

/// Give back what is left of a slice.
#[derive(Message)]
#[rtype(result = "()")]
pub struct RecallSlice {
    /// Of which.
    pub recall: Recall,
    /// The reply channel, for what became of it: a question for nothing.
    pub reply: Reply<Ask>,
}

/// Make known which instance policies there are. Only the default tenant is asked, and its start does so already.
#[derive(Message)]
#[rtype(result = "()")]
pub struct FindInstanceSet {
    /// The reply channel, used once they are known.
    pub reply: Reply<()>,
}

/// Give a hold back.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ReleaseHold {
    /// The caller's credential.
    pub credential: Credential,
    /// The decision whose cost is held.
    pub id: AuditId,
    /// See [`Execute::key`].
    pub key: Option<RequestKey>,
    /// The reply channel.
    pub reply: Reply<UsageAnswer>,
}

/// Move the end of a hold.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ExtendHold {
    /// The caller's credential.
    pub credential: Credential,
    /// The decision whose cost is held.
    pub id: AuditId,
    /// How long it lasts from now on.
    pub time: HoldTime,
    /// See [`Execute::key`].
    pub key: Option<RequestKey>,
    /// The reply channel.
    pub reply: Reply<HoldView>,
}

/// Read the state.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Inspect<F, T> {
    /// The caller's credential.
    pub credential: Credential,
    /// The right that the caller needs.
    pub right: Right,
    /// Reads what the caller wants from the tenant, at the given time.
    pub look: F,
    /// The reply channel.
    pub reply: Reply<T>,
}

/// List the tenant's keys, with when each was last used.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ListKeys {
    /// The caller's credential.
    pub credential: Credential,
    /// The reply channel.
    pub reply: Reply<Vec<KeyUse>>,
}

/// A key, and when it was last used.
#[derive(Clone, Debug)]
pub struct KeyUse<R = KeyRole> {
    /// The key, as it is stored.
    pub key: ApiKey<R>,
    /// When it was last used; `None` if it was not since then.
    pub last_used_at: Option<Timestamp>,
    /// Since when uses are noted: this is in memory only.
    pub since: Timestamp,
}

/// Find out whether a key or token is valid, and nothing else.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Verify {
    /// The key or token.
    pub credential: Credential,
    /// The reply channel.
    pub reply: Reply<Caller>,
}

/// Open the audit trail for reading on another thread.
#[derive(Message)]
#[rtype(result = "()")]
pub struct OpenAudit {
    /// The caller's credential.
    pub credential: Credential,
    /// The right that the caller needs.
    pub right: Right,
    /// The reply channel.
    pub reply: Reply<AuditTrail>,
}

/// Find the events of requests that came before with the same idempotency keys, and open the trail to read them.
#[derive(Message)]
#[rtype(result = "()")]
pub struct OpenFirsts {
    /// The caller's credential.
    pub credential: Credential,
    /// The keys of the requests.
    pub keys: Vec<RequestKey>,
    /// The reply channel, used once these events are as durable as their own callers were promised.
    pub reply: Reply<Firsts>,
}

/// Where the answers to repeats are.
pub struct Firsts {
    /// For each key the entry of its first request, if there was one; or that it came with another request.
    pub events: Vec<Result<Option<AuditId>, Error>>,
    /// The trail that has them.
    pub trail: AuditTrail,
}

/// A tenant's audit trail up to a moment.
pub struct AuditTrail {
    /// The tenant it belongs to.
    pub tenant: TenantId,
    /// The tenant's events.
    pub reader: JournalReader,
    /// Entries before that time are past the tenant's retention.
    pub horizon: Option<Timestamp>,
    /// When the caller's key ends by itself, if it is one of the tenant's.
    pub caller_until: Option<Timestamp>,
}

/// Write a snapshot now.
#[derive(Message)]
#[rtype(result = "()")]
pub struct TakeSnapshot {
    /// The reply channel, used once the snapshot is on disk.
    pub reply: Reply<()>,
}

/// Write the tail to the folder, so that the log may forget it.
#[derive(Message)]
#[rtype(result = "()")]
pub struct FoldTail;

/// Write everything to disk, and end.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Close {
    /// From so many events on that no snapshot covers, one is written.
    pub snapshot_from: u64,
    /// Fires when everything is on disk, with the tenant's row; `None` if the folder lacks something.
    pub done: oneshot::Sender<Option<RowBytes>>,
}

/// Remove segments that are past the tenant's audit retention.
#[derive(Message)]
#[rtype(result = "()")]
pub struct RemoveOldSegments {
    /// Fires when they are gone.
    pub done: oneshot::Sender<()>,
}

/// End at once: the tenant is being erased.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Retire {
    /// Fires when no call can be answered any more.
    pub done: oneshot::Sender<()>,
}

/// Write a link that covers all events up to now, and return it once it is on disk: if a power failure could undo a
/// link that somebody keeps, it would later accuse an honest journal.
#[derive(Message)]
#[rtype(result = "()")]
pub struct TakeCheckpoint {
    /// The caller's credential.
    pub credential: Credential,
    /// The reply channel.
    pub reply: Reply<Checkpointed>,
}

/// A tenant, and the newest link of its hash chain.
pub type Checkpointed = (TenantId, Checkpoint);

/// Record that another tenant is about to be created, so that this one remembers the request's idempotency key.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ClaimKey {
    /// The operator who creates it.
    pub credential: Credential,
    /// What else we know about that operator.
    pub author: Option<Author>,
    /// The request's idempotency key. If it is known, the answer is `IDEMPOTENCY_KEY_IN_USE`, unless it is from `failed`.
    pub key: RequestKey,
    /// The entry of an earlier claim by the same request, of which no tenant came.
    pub failed: Option<AuditId>,
    /// The tenant to create.
    pub tenant: TenantId,
    /// Its slug.
    pub slug: Option<Slug>,
    /// The reply channel, used once the record is on disk.
    pub reply: Reply<()>,
}

/// Check that a tenant is to be erased as it is. If `seen` says how, nothing else changes it from then on.
#[derive(Message)]
#[rtype(result = "()")]
pub struct BeginErasure {
    /// The operator who erases it.
    pub credential: Credential,
    /// What the operator has seen of it.
    pub seen: Option<SeenVersions>,
    /// The reply channel, for its last state.
    pub reply: Reply<Before>,
}

/// Let a tenant be changed again that is not erased after all.
#[derive(Message)]
#[rtype(result = "()")]
pub struct AbandonErasure;

/// Record that another tenant is about to be erased.
#[derive(Message)]
#[rtype(result = "()")]
pub struct NoteDeletion {
    /// The operator who erases it.
    pub credential: Credential,
    /// What else we know about that operator.
    pub author: Option<Author>,
    /// The operator's reason, if given.
    pub reason: Option<Box<str>>,
    /// The tenant to erase.
    pub tenant: TenantId,
    /// Its slug.
    pub slug: Option<Slug>,
    /// The tenant's last state.
    pub before: Option<Before>,
    /// The reply channel, used once the record is on disk.
    pub reply: Reply<()>,
}

/// How an actor ended, which decides what the registry does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It panicked. This is the default, for an actor dropped without a word.
    Panic,
    /// The journal could not be written: the state is ahead of the disk.
    Storage,
    /// It was asked to end.
    Clean,
}

/// A tenant's actor ended although nobody asked it to.
#[derive(Message)]
#[rtype(result = "()")]
pub struct TenantDown {
    /// The tenant.
    pub id: TenantId,
    /// The actor's number among those that the tenant has had.
    pub generation: u64,
    /// How it ended.
    pub ending: Ending,
}

#[cfg(feature = "test-hooks")]
/// Panic, as a defect would: tests check that nobody else notices.
#[derive(Message)]
#[rtype(result = "()")]
pub struct InjectPanic;

#[cfg(feature = "test-hooks")]
/// Block until the other end sends or is dropped, so that tests can fill a mailbox.
#[derive(Message)]
#[rtype(result = "()")]
pub struct InjectStall(
    /// The other end.
    pub std::sync::mpsc::Receiver<()>,
);

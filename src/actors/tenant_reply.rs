//! A tenant's replies, held until their events are durable.

use super::reply::Reply;
use super::worker_channels::ReplyTo;
use kavach_domain::{Decision, Error};
use kavach_store::HeldReply;

/// A reply that is ready except that its events are not durable yet.
pub enum TenantReply {
    /// The answer to one authorize call: by far the most frequent, so it costs no allocation.
    Decision(ReplyTo, Decision),
    /// Anything else: called with `Ok` once the events are durable, or with the reason why they are not.
    Other(Box<dyn FnOnce(Result<(), Error>) + Send>),
}

impl TenantReply {
    /// A reply with its answer.
    pub fn of<T: Send + 'static>(reply: Reply<T>, answer: T) -> Self {
        // A caller that went away needs no answer.
        Self::Other(Box::new(move |outcome| drop(reply.send(outcome.map(|()| answer)))))
    }
}

impl HeldReply for TenantReply {
    fn release(self, outcome: Result<(), Error>) {
        match self {
            Self::Decision(reply, decision) => reply.send(outcome.map(|()| decision)),
            Self::Other(done) => done(outcome),
        }
    }
}

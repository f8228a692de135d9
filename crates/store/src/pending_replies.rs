//! Replies that wait for their events. A write or a sync of the log releases them; no thread blocks for one.

use kavach_domain::Error;

/// A reply that is ready, and waits only for its events to be durable.
pub trait HeldReply {
    /// Sends the reply: its answer if the events are durable, else the error that says why not.
    fn release(self, outcome: Result<(), Error>);
}

/// A reply as a function that is called once with the outcome.
pub type BoxedReply = Box<dyn FnOnce(Result<(), Error>) + Send>;

impl HeldReply for BoxedReply {
    fn release(self, outcome: Result<(), Error>) {
        self(outcome);
    }
}

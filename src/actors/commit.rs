//! Replies that wait for their events: released by a flush or a sync, never by blocking.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use super::lanes::ReplyTo;
use crate::domain::{Decision, Error};

/// What a caller waits on.
pub type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// A reply that is ready but for its events' durability.
pub enum Held {
    /// The answer to one authorize call: by far the most frequent, so it costs no allocation.
    Decision(ReplyTo, Decision),
    /// Anything else: called with `Ok` once the events are durable, or with why they are not.
    Other(Box<dyn FnOnce(Result<(), Error>) + Send>),
}

impl Held {
    /// A reply with its answer.
    pub fn of<T: Send + 'static>(reply: Reply<T>, answer: T) -> Self {
        // A caller that went away in the meantime needs no answer.
        Self::Other(Box::new(move |outcome| drop(reply.send(outcome.map(|()| answer)))))
    }

    /// Lets the reply go.
    pub fn release(self, outcome: Result<(), Error>) {
        match self {
            Self::Decision(reply, decision) => reply.send(outcome.map(|()| decision)),
            Self::Other(done) => done(outcome),
        }
    }
}

/// The replies one tenant holds back.
#[derive(Default)]
pub struct Waiting {
    for_write: Vec<Held>,
    /// With the sequence number that must be on disk, ascending.
    for_sync: VecDeque<(u64, Held)>,
}

impl Waiting {
    /// Holds a reply until the next flush.
    pub fn until_written(&mut self, held: Held) {
        self.for_write.push(held);
    }

    /// Holds a reply until that event is on disk.
    pub fn until_synced(&mut self, seq: u64, held: Held) {
        self.for_sync.push_back((seq, held));
    }

    /// Whether a reply waits for the disk.
    pub fn needs_sync(&self) -> bool {
        !self.for_sync.is_empty()
    }

    /// All that was appended is in the kernel's hands.
    pub fn written(&mut self) {
        for held in self.for_write.drain(..) {
            held.release(Ok(()));
        }
    }

    /// All up to that event is on disk.
    pub fn synced(&mut self, seq: u64) {
        while let Some((_, held)) = self.for_sync.pop_front_if(|(wanted, _)| *wanted <= seq) {
            held.release(Ok(()));
        }
    }

    /// The journal ends here: who waits for events after the last written one gets that error, and who waits for the
    /// disk to have those before the other.
    pub fn fail(mut self, written: u64, unwritten: &Error, unsynced: &Error) {
        for held in self.for_write.drain(..) {
            held.release(Err(unwritten.clone()));
        }
        for (seq, held) in self.for_sync.drain(..) {
            held.release(Err(if seq <= written { unsynced } else { unwritten }.clone()));
        }
    }

    /// Releases all that waits, with the same outcome.
    pub fn end(mut self, outcome: &Result<(), Error>) {
        for held in self.for_write.drain(..).chain(self.for_sync.drain(..).map(|(_, held)| held)) {
            held.release(outcome.clone());
        }
    }
}

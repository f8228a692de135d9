//! Replies that wait for their events. A write or a sync releases them; no thread blocks for one.

use std::collections::VecDeque;

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

/// The waiting replies of one tenant.
pub struct PendingReplies<R> {
    for_write: Vec<R>,
    /// Each with the event that must be on disk first, ascending.
    for_sync: VecDeque<(u64, R)>,
}

impl<R> Default for PendingReplies<R> {
    fn default() -> Self {
        Self { for_write: Vec::new(), for_sync: VecDeque::new() }
    }
}

impl<R: HeldReply> PendingReplies<R> {
    /// Holds a reply until the next write.
    pub fn until_written(&mut self, held: R) {
        self.for_write.push(held);
    }

    /// Holds a reply until event `seq` is on disk.
    pub fn until_synced(&mut self, seq: u64, held: R) {
        self.for_sync.push_back((seq, held));
    }

    /// Whether a reply waits for the disk.
    pub fn needs_sync(&self) -> bool {
        !self.for_sync.is_empty()
    }

    /// Everything appended was handed to the kernel.
    pub fn written(&mut self) {
        for held in self.for_write.drain(..) {
            held.release(Ok(()));
        }
    }

    /// Everything up to event `seq` is on disk.
    pub fn synced(&mut self, seq: u64) {
        while let Some((_, held)) = self.for_sync.pop_front_if(|(wanted, _)| *wanted <= seq) {
            held.release(Ok(()));
        }
    }

    /// The journal ends here. Replies to unwritten events, those after `written`, fail with `unwritten`. Replies to
    /// written ones, which wait for the disk, fail with `unsynced`.
    pub fn fail(mut self, written: u64, unwritten: &Error, unsynced: &Error) {
        for held in self.for_write.drain(..) {
            held.release(Err(unwritten.clone()));
        }
        for (seq, held) in self.for_sync.drain(..) {
            held.release(Err(if seq <= written { unsynced } else { unwritten }.clone()));
        }
    }

    /// Releases every reply with one outcome.
    pub fn end(mut self, outcome: &Result<(), Error>) {
        for held in self.for_write.drain(..).chain(self.for_sync.drain(..).map(|(_, held)| held)) {
            held.release(outcome.clone());
        }
    }
}

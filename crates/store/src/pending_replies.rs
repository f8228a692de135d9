//! Replies that wait for their events: released by a flush or a sync, never by blocking.

use std::collections::VecDeque;

use kavach_domain::Error;

/// A reply that is ready but for its events' durability.
pub trait HeldReply {
    /// Lets the reply go: with its answer once its events are durable, or with why they are not.
    fn release(self, outcome: Result<(), Error>);
}

/// A reply as a function that is called once with the outcome.
pub type BoxedReply = Box<dyn FnOnce(Result<(), Error>) + Send>;

impl HeldReply for BoxedReply {
    fn release(self, outcome: Result<(), Error>) {
        self(outcome);
    }
}

/// The replies one tenant holds back.
pub struct PendingReplies<R> {
    for_write: Vec<R>,
    /// With the sequence number that must be on disk, ascending.
    for_sync: VecDeque<(u64, R)>,
}

impl<R> Default for PendingReplies<R> {
    fn default() -> Self {
        Self { for_write: Vec::new(), for_sync: VecDeque::new() }
    }
}

impl<R: HeldReply> PendingReplies<R> {
    /// Holds a reply until the next flush.
    pub fn until_written(&mut self, held: R) {
        self.for_write.push(held);
    }

    /// Holds a reply until that event is on disk.
    pub fn until_synced(&mut self, seq: u64, held: R) {
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

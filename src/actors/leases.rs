//! What the tenants' actors share about instance policies: which there are, how often something came back, and the way
//! between lender and tenants. How much anybody uses is not here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::messages::{AskSlice, FindInstanceSet, ForeseeSlices, RecallSlice};
use crate::domain::instance::published::InstanceSet;

/// The way between the default tenant, which lends, and the others. What can't be sent is answered with the reason, or
/// dropped with its reply channel.
pub trait Exchange: Send + Sync {
    /// Asks the lender for a slice.
    fn ask(&self, message: AskSlice);
    /// Asks the lender what it would say.
    fn foresee(&self, message: ForeseeSlices);
    /// Asks a tenant for what it has.
    fn recall(&self, message: RecallSlice);
    /// Has the lender read into memory, which publishes what it knows.
    fn find(&self, message: FindInstanceSet);
}

/// What the tenants' actors share about instance policies.
#[derive(Default)]
pub struct Leases {
    /// Counts what was published. Before the first time nobody knows whether there are instance policies.
    version: AtomicU64,
    published: Mutex<Published>,
    /// Counts how often something may have become free.
    returned: AtomicU64,
    exchange: OnceLock<Box<dyn Exchange>>,
}

#[derive(Default)]
struct Published {
    /// The last event of the default tenant that it knows of.
    seq: u64,
    set: Option<Arc<InstanceSet>>,
}

impl Leases {
    /// How often something was published. It is cheap to ask.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The instance policies, if they are known, with the number of that publication.
    pub fn look(&self) -> (u64, Option<Arc<InstanceSet>>) {
        let published = self.lock();
        (self.version(), published.set.clone())
    }

    /// The default tenant was read: these are its instance policies.
    pub fn publish_loaded(&self, seq: u64, set: InstanceSet) {
        self.put(&mut self.lock(), seq, set);
    }

    /// Its instance policies are these since that event, unless a later one was published already.
    pub fn publish(&self, seq: u64, set: InstanceSet) {
        let mut published = self.lock();
        if seq >= published.seq {
            self.put(&mut published, seq, set);
        }
    }

    fn put(&self, published: &mut Published, seq: u64, set: InstanceSet) {
        *published = Published { seq, set: Some(Arc::new(set)) };
        self.version.fetch_add(1, Ordering::Release);
        self.note_return();
    }

    fn lock(&self) -> MutexGuard<'_, Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often something may have become free.
    pub fn returned(&self) -> u64 {
        self.returned.load(Ordering::Acquire)
    }

    /// Something may have become free.
    pub fn note_return(&self) {
        self.returned.fetch_add(1, Ordering::Release);
    }

    /// Sets the way between lender and tenants, once.
    pub fn connect(&self, exchange: Box<dyn Exchange>) {
        // A second one is never made: the first stays.
        let _ = self.exchange.set(exchange);
    }

    /// The way between lender and tenants.
    pub fn exchange(&self) -> Option<&dyn Exchange> {
        self.exchange.get().map(Box::as_ref)
    }
}

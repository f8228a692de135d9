//! The threads where tenants' actors live.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix_rt::{Arbiter, ArbiterHandle};
use tokio::sync::Notify;

use super::worker_channels::ChannelId;
use crate::measure::ThreadMeasures;

/// A thread where tenants' actors live.
#[derive(Clone)]
pub struct Home {
    /// The thread.
    pub(super) arbiter: ArbiterHandle,
    /// The channel to it from other workers, if it is a worker.
    pub(super) channel: Option<ChannelId>,
    /// Its measures.
    pub(super) notes: Arc<ThreadMeasures>,
}

impl Home {
    /// The calling arbiter's thread. Tenants of other homes may live there too, and they note apart: each note has one
    /// writer.
    pub(super) fn current(notes: Arc<ThreadMeasures>) -> Self {
        Self { arbiter: Arbiter::current(), channel: None, notes }
    }
}

/// All homes.
#[derive(Default)]
pub struct Homes {
    all: Mutex<Vec<Home>>,
    next: AtomicUsize,
    added: Notify,
}

impl Homes {
    fn lock(&self) -> MutexGuard<'_, Vec<Home>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Offers an arbiter as a home.
    pub(super) fn add(&self, arbiter: ArbiterHandle, channel: Option<ChannelId>, notes: Arc<ThreadMeasures>) {
        self.lock().push(Home { arbiter, channel, notes });
        self.added.notify_one();
    }

    /// Waits until `count` homes were offered.
    pub async fn wait_for(&self, count: usize) {
        while self.lock().len() < count {
            self.added.notified().await;
        }
    }

    /// The home of the next tenant: each in turn. `None` if there is none.
    pub(super) fn next(&self) -> Option<Home> {
        let mut homes = self.lock();
        loop {
            let turn = self.next.fetch_add(1, Ordering::Relaxed);
            let at = turn.checked_rem(homes.len())?;
            let home = homes.get(at)?;
            // A worker that ended takes its arbiter with it: one that can't run a function is gone.
            if home.arbiter.spawn_fn(|| {}) {
                return Some(home.clone());
            }
            homes.remove(at);
        }
    }
}

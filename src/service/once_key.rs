//! The idempotency key that a caller's request came with, and whether the request was answered before.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::domain::idempotency::key::RequestKey;

/// The key of a caller's request. Clones of the caller share it.
pub(super) struct OnceKey {
    key: RequestKey,
    is_repeat: AtomicBool,
}

impl OnceKey {
    pub(super) fn new(key: RequestKey) -> Self {
        Self { key, is_repeat: AtomicBool::new(false) }
    }

    pub(super) fn key(&self) -> &RequestKey {
        &self.key
    }

    /// Whether the answer had been given before.
    pub(super) fn is_repeat(&self) -> bool {
        self.is_repeat.load(Ordering::Relaxed)
    }

    /// The answer had been given before.
    pub(super) fn note_repeat(&self) {
        self.is_repeat.store(true, Ordering::Relaxed);
    }
}

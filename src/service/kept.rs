//! What is kept for a client that takes its time, and let go where it takes too long.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;

/// A value that is dropped, with all it holds, unless it is taken in time.
pub(super) struct Kept<T> {
    value: Arc<Mutex<Option<T>>>,
    timer: JoinHandle<()>,
}

impl<T: Send + 'static> Kept<T> {
    /// Keeps it for so long.
    pub fn new(value: T, patience: Duration) -> Self {
        let value = Arc::new(Mutex::new(Some(value)));
        let late = Arc::clone(&value);
        let timer = tokio::spawn(async move {
            tokio::time::sleep(patience).await;
            let gone = late.lock().unwrap_or_else(PoisonError::into_inner).take();
            drop(gone);
        });
        Self { value, timer }
    }
}

impl<T> Kept<T> {
    /// The value; `None` where it was let go.
    pub fn take(mut self) -> Option<T> {
        self.empty()
    }

    fn empty(&mut self) -> Option<T> {
        self.timer.abort();
        self.value.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<T> Drop for Kept<T> {
    fn drop(&mut self) {
        // At once, not when the timer's task has ended.
        drop(self.empty());
    }
}

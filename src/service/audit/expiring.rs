//! A value that is held for a slow client, and dropped if the client takes too long.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;

/// A value that is dropped, with everything it holds, unless it is taken in time.
pub(super) struct Expiring<T> {
    value: Arc<Mutex<Option<T>>>,
    timer: JoinHandle<()>,
}

impl<T: Send + 'static> Expiring<T> {
    /// Holds `value` for at most `patience`.
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

impl<T> Expiring<T> {
    /// The value; `None` if it has expired.
    pub fn take(mut self) -> Option<T> {
        self.empty()
    }

    fn empty(&mut self) -> Option<T> {
        self.timer.abort();
        self.value.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<T> Drop for Expiring<T> {
    fn drop(&mut self) {
        // Now, not when the timer's task gets around to it.
        drop(self.empty());
    }
}

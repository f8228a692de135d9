//! The last attempt of each message that is tried again. Only this process knows it, while it tries: what becomes of a
//! message in the end is in the journal, and an event for each attempt would weigh on the log.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::{MessageId, Timestamp, WebhookId};

/// An attempt that failed, and is not the last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedAttempt {
    /// The message.
    pub message: MessageId,
    /// When it failed.
    pub at: Timestamp,
    /// How often this process has sent the message.
    pub attempts: u32,
    /// The HTTP status of the answer; `None` if none came.
    pub status: Option<u16>,
    /// Why it failed, in words.
    pub problem: Box<str>,
}

/// Those of all webhooks. Each has one at most, since its messages are sent one after another.
#[derive(Default)]
pub struct FailedAttempts(Mutex<HashMap<WebhookId, FailedAttempt>>);

impl FailedAttempts {
    fn lock(&self) -> MutexGuard<'_, HashMap<WebhookId, FailedAttempt>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the last attempt of a webhook's first message.
    pub fn note(&self, webhook: WebhookId, attempt: FailedAttempt) {
        self.lock().insert(webhook, attempt);
    }

    /// Forgets it: the message is not tried again.
    pub fn forget(&self, webhook: WebhookId) {
        self.lock().remove(&webhook);
    }

    /// The last attempt of a webhook's first message, if it failed and the message is tried again.
    pub fn of(&self, webhook: WebhookId) -> Option<FailedAttempt> {
        self.lock().get(&webhook).cloned()
    }
}

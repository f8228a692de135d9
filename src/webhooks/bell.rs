//! How the courier hears that something is to be sent. Whoever rings neither waits nor allocates more than a table's entry.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::domain::{TenantId, WebhookId};

/// What happened since the courier last looked: the tenants with messages to send. With each its webhooks that somebody
/// just repaired or tries out: they need not wait any longer.
pub type News = HashMap<TenantId, HashSet<WebhookId>>;

/// The bell.
#[derive(Default)]
pub struct Bell {
    unheard: Mutex<(News, bool)>,
    bell: Notify,
}

impl Bell {
    fn unheard(&self) -> MutexGuard<'_, (News, bool)> {
        self.unheard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that a tenant has messages to send.
    pub fn ring(&self, tenant: TenantId) {
        self.unheard().0.entry(tenant).or_default();
        self.bell.notify_one();
    }

    /// Says that a webhook need not wait for its next attempt.
    pub fn nudge(&self, tenant: TenantId, webhook: WebhookId) {
        self.unheard().0.entry(tenant).or_default().insert(webhook);
        self.bell.notify_one();
    }

    /// Ends the news for good.
    pub fn close(&self) {
        self.unheard().1 = true;
        self.bell.notify_one();
    }

    /// Waits for news and takes it; `None` at their end.
    pub async fn next(&self) -> Option<News> {
        loop {
            {
                let mut unheard = self.unheard();
                if unheard.1 {
                    return None;
                }
                if !unheard.0.is_empty() {
                    return Some(std::mem::take(&mut unheard.0));
                }
            }
            self.bell.notified().await;
        }
    }
}

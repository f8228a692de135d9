//! How the courier hears that something is to be sent. Whoever rings neither waits nor allocates more than a table's entry.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::domain::{TenantId, WebhookId};

/// What happened since the courier last looked.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Tenants with messages to send.
    pub tenants: HashSet<TenantId>,
    /// Webhooks that somebody just repaired or tries out: they need not wait any longer.
    pub nudged: HashSet<WebhookId>,
}

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
        self.unheard().0.tenants.insert(tenant);
        self.bell.notify_one();
    }

    /// Says that a webhook need not wait for its next attempt.
    pub fn nudge(&self, tenant: TenantId, webhook: WebhookId) {
        let mut unheard = self.unheard();
        unheard.0.tenants.insert(tenant);
        unheard.0.nudged.insert(webhook);
        drop(unheard);
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
                if unheard.0 != News::default() {
                    return Some(std::mem::take(&mut unheard.0));
                }
            }
            self.bell.notified().await;
        }
    }
}

//! Who follows which tenants' journals, and how followers learn that there is more to read.
//!
//! When a turn's events are in the log, the thread only announces that there is news. A follower then reads the journal,
//! on a thread that serves no calls. While nobody follows, this costs one load of a counter for each tenant. The table belongs to the
//! process, not to the actors, so a follower survives the rebuild of an actor, and one that follows all tenants also
//! follows those created later.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::Notify;

use crate::domain::{TenantTag, Timestamp};

/// The followers of a process.
#[derive(Default)]
pub struct JournalWatch {
    /// How many followers there are: with none, an actor looks at nothing else.
    count: AtomicUsize,
    subscriptions: RwLock<Vec<Arc<Subscription>>>,
}

/// The news that a follower has not yet seen.
struct Subscription {
    /// The only tenant it follows; `None` is all of them.
    only: Option<TenantTag>,
    unread: Mutex<Unread>,
    bell: Notify,
}

#[derive(Default)]
struct Unread {
    /// Tenants with news, and for each its last old event.
    tenants: BTreeMap<TenantTag, u64>,
    /// When the first of them was announced.
    since: Timestamp,
    closed: bool,
}

impl Subscription {
    fn unread(&self) -> MutexGuard<'_, Unread> {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Receives news until it is dropped.
pub struct Follower {
    news: Arc<JournalWatch>,
    subscription: Arc<Subscription>,
}

impl JournalWatch {
    /// Follows one tenant, or all. Everything written from now on is news.
    pub fn follow(self: &Arc<Self>, only: Option<TenantTag>) -> Follower {
        let subscription = Arc::new(Subscription { only, unread: Mutex::default(), bell: Notify::new() });
        let mut subscriptions = self.subscriptions.write().unwrap_or_else(PoisonError::into_inner);
        subscriptions.push(Arc::clone(&subscription));
        self.count.store(subscriptions.len(), Ordering::Release);
        drop(subscriptions);
        Follower { news: Arc::clone(self), subscription }
    }

    /// Announces that the tenant's journal has events after `last_old`.
    pub fn announce(&self, tenant: TenantTag, last_old: u64, now: Timestamp) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        for subscription in self.subscriptions.read().unwrap_or_else(PoisonError::into_inner).iter() {
            if subscription.only.is_none_or(|only| only == tenant) {
                let mut unread = subscription.unread();
                if unread.tenants.is_empty() {
                    unread.since = now;
                }
                unread.tenants.entry(tenant).or_insert(last_old);
                drop(unread);
                subscription.bell.notify_one();
            }
        }
    }

    /// Ends the news for good.
    pub fn close(&self) {
        for subscription in self.subscriptions.read().unwrap_or_else(PoisonError::into_inner).iter() {
            subscription.unread().closed = true;
            subscription.bell.notify_one();
        }
    }
}

impl Follower {
    /// Waits for news and takes it: the tenants, each with its last old event, and when the first was announced. `None`
    /// at the end of all news. Dropping the future loses nothing.
    pub async fn next_news(&self) -> Option<(BTreeMap<TenantTag, u64>, Timestamp)> {
        loop {
            {
                let mut unread = self.subscription.unread();
                if unread.closed {
                    return None;
                }
                if !unread.tenants.is_empty() {
                    return Some((std::mem::take(&mut unread.tenants), unread.since));
                }
            }
            self.subscription.bell.notified().await;
        }
    }

    /// Whether the news has ended.
    pub fn is_closed(&self) -> bool {
        self.subscription.unread().closed
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut subscriptions = self.news.subscriptions.write().unwrap_or_else(PoisonError::into_inner);
        subscriptions.retain(|subscription| !Arc::ptr_eq(subscription, &self.subscription));
        self.news.count.store(subscriptions.len(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_follower_gets_each_of_its_tenants_once_with_the_oldest_news() {
        let news = Arc::new(JournalWatch::default());
        news.announce(TenantTag(1), 3, Timestamp::default());
        let (one, all) = (news.follow(Some(TenantTag(1))), news.follow(None));
        news.announce(TenantTag(1), 4, Timestamp::default());
        news.announce(TenantTag(2), 0, Timestamp::default());
        news.announce(TenantTag(1), 9, Timestamp::default());
        let tenants = async |follower: &Follower| follower.next_news().await.unwrap().0;
        assert_eq!(tenants(&one).await, BTreeMap::from([(TenantTag(1), 4)]));
        assert_eq!(tenants(&all).await, BTreeMap::from([(TenantTag(1), 4), (TenantTag(2), 0)]));
        news.announce(TenantTag(1), 12, Timestamp::default());
        assert_eq!(tenants(&one).await, BTreeMap::from([(TenantTag(1), 12)]));
        let waiting = tokio::spawn(async move { one.next_news().await });
        drop(all);
        assert_eq!(news.count.load(Ordering::Acquire), 1);
        news.close();
        assert_eq!(waiting.await.unwrap(), None);
        assert_eq!(news.count.load(Ordering::Acquire), 0);
    }
}

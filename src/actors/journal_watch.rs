//! Who follows which tenants' journals, and how they learn that there is more to read.
//!
//! A tenant's actor says after a flush that there is news and no more; a follower reads the journal behind it, on a
//! thread that serves no calls. While nobody follows, this costs an actor one load of a counter a flush. The table
//! belongs to the process, not to the actors, so a follower outlives the rebuilding of an actor, and one that follows
//! all tenants also hears of those created later.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::Notify;

use crate::domain::{TenantTag, Timestamp};

/// The followers of a process.
#[derive(Default)]
pub struct JournalWatch {
    /// How many there are: what an actor looks at when there are none.
    count: AtomicUsize,
    inboxes: RwLock<Vec<Arc<Inbox>>>,
}

/// What one follower has not looked at yet.
struct Inbox {
    /// The only tenant it follows; `None` is all of them.
    only: Option<TenantTag>,
    heard: Mutex<Heard>,
    bell: Notify,
}

#[derive(Default)]
struct Heard {
    /// Tenants with news, and the last event that is not news.
    tenants: BTreeMap<TenantTag, u64>,
    /// When the first of them was told of.
    since: Timestamp,
    closed: bool,
}

impl Inbox {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hears of news until it is dropped.
pub struct Follower {
    news: Arc<JournalWatch>,
    inbox: Arc<Inbox>,
}

impl JournalWatch {
    /// Starts to follow one tenant, or all. What is written from now on is news.
    pub fn follow(self: &Arc<Self>, only: Option<TenantTag>) -> Follower {
        let inbox = Arc::new(Inbox { only, heard: Mutex::default(), bell: Notify::new() });
        let mut inboxes = self.inboxes.write().unwrap_or_else(PoisonError::into_inner);
        inboxes.push(Arc::clone(&inbox));
        self.count.store(inboxes.len(), Ordering::Release);
        drop(inboxes);
        Follower { news: Arc::clone(self), inbox }
    }

    /// Says that the tenant's journal holds more events than those up to `last_old`.
    pub fn tell(&self, tenant: TenantTag, last_old: u64, now: Timestamp) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        for inbox in self.inboxes.read().unwrap_or_else(PoisonError::into_inner).iter() {
            if inbox.only.is_none_or(|only| only == tenant) {
                let mut heard = inbox.heard();
                if heard.tenants.is_empty() {
                    heard.since = now;
                }
                heard.tenants.entry(tenant).or_insert(last_old);
                drop(heard);
                inbox.bell.notify_one();
            }
        }
    }

    /// Says that there will be no more news.
    pub fn close(&self) {
        for inbox in self.inboxes.read().unwrap_or_else(PoisonError::into_inner).iter() {
            inbox.heard().closed = true;
            inbox.bell.notify_one();
        }
    }
}

impl Follower {
    /// Waits until there is news, and takes it: tenants with more events than the one named, and when the first of
    /// them was told of. `None`: there will be no more. What it was about to take is not lost when the wait is given
    /// up.
    pub async fn heard(&self) -> Option<(BTreeMap<TenantTag, u64>, Timestamp)> {
        loop {
            {
                let mut heard = self.inbox.heard();
                if heard.closed {
                    return None;
                }
                if !heard.tenants.is_empty() {
                    return Some((std::mem::take(&mut heard.tenants), heard.since));
                }
            }
            self.inbox.bell.notified().await;
        }
    }

    /// Whether there will be no more news.
    pub fn is_closed(&self) -> bool {
        self.inbox.heard().closed
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut inboxes = self.news.inboxes.write().unwrap_or_else(PoisonError::into_inner);
        inboxes.retain(|inbox| !Arc::ptr_eq(inbox, &self.inbox));
        self.news.count.store(inboxes.len(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_follower_hears_of_its_tenants_once_from_the_oldest_news_on() {
        let news = Arc::new(JournalWatch::default());
        news.tell(TenantTag(1), 3, Timestamp::default());
        let (one, all) = (news.follow(Some(TenantTag(1))), news.follow(None));
        news.tell(TenantTag(1), 4, Timestamp::default());
        news.tell(TenantTag(2), 0, Timestamp::default());
        news.tell(TenantTag(1), 9, Timestamp::default());
        let tenants = async |follower: &Follower| follower.heard().await.unwrap().0;
        assert_eq!(tenants(&one).await, BTreeMap::from([(TenantTag(1), 4)]));
        assert_eq!(tenants(&all).await, BTreeMap::from([(TenantTag(1), 4), (TenantTag(2), 0)]));
        news.tell(TenantTag(1), 12, Timestamp::default());
        assert_eq!(tenants(&one).await, BTreeMap::from([(TenantTag(1), 12)]));
        let waiting = tokio::spawn(async move { one.heard().await });
        drop(all);
        assert_eq!(news.count.load(Ordering::Acquire), 1);
        news.close();
        assert_eq!(waiting.await.unwrap(), None);
        assert_eq!(news.count.load(Ordering::Acquire), 0);
    }
}

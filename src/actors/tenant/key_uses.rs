//! When the tenant's keys were last used. It is in memory only: an event for each call of a key would cost more than the
//! call. So it begins anew with the actor.

use std::cell::RefCell;

use crate::domain::limits::MAX_TENANT_KEYS;
use crate::domain::{KeyId, Timestamp};

/// When the tenant's keys were last used.
pub(super) struct KeyUses {
    /// Since when uses are noted.
    pub(super) since: Timestamp,
    /// The keys that were used, the last new one at the end.
    last: RefCell<Vec<(KeyId, Timestamp)>>,
}

impl KeyUses {
    pub(super) fn new(since: Timestamp) -> Self {
        Self { since, last: RefCell::default() }
    }

    /// Notes that a key is used. Those that do not exist any more make room.
    pub(super) fn note(&self, key: KeyId, now: Timestamp, exists: impl Fn(KeyId) -> bool) {
        let mut last = self.last.borrow_mut();
        match last.iter_mut().find(|(known, _)| *known == key) {
            Some((_, at)) => *at = now,
            None => {
                if last.len() >= MAX_TENANT_KEYS {
                    last.retain(|(known, _)| exists(*known));
                }
                last.push((key, now));
            }
        }
    }

    /// When a key was last used.
    pub(super) fn of(&self, key: KeyId) -> Option<Timestamp> {
        self.last.borrow().iter().find(|(known, _)| *known == key).map(|(_, at)| *at)
    }
}

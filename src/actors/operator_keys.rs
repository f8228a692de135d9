//! The operators' keys that were made over the API, as every thread sees them.
//!
//! They belong to the default tenant's state. Its actor publishes them when it starts, and in the step in which one is
//! made, changed or revoked. A thread keeps the table that it saw last, and one number tells whether that still holds: so a check
//! takes no lock, and all threads refuse a revoked key from their next check on.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use tokio::sync::watch;

use crate::domain::tenant::key::ApiKey;
use crate::domain::{KeyId, Moment, OperatorRole, SecretHash, Timestamp};

/// Uses of a key that are closer together are one.
const USE_MS: i64 = 1_000;

/// The number of the next table. No two of a process have the same, whichever server they belong to.
static NEXT: AtomicU64 = AtomicU64::new(1);

thread_local! {
    /// The table that this thread saw last.
    static SEEN: RefCell<Arc<KeyTable>> = RefCell::default();
}

/// The operators' keys besides the first.
#[derive(Debug, Default)]
pub struct OperatorKeys {
    /// The number of the newest table; 0 before the first.
    newest: AtomicU64,
    /// Whether it has any key.
    has_some: AtomicBool,
    /// The time of the last check, in Unix milliseconds.
    checked_at: AtomicI64,
    tables: watch::Sender<Arc<KeyTable>>,
}

/// Those keys at one time.
#[derive(Debug, Default)]
pub struct KeyTable {
    number: u64,
    keys: HashMap<SecretHash, Arc<KnownKey>>,
}

#[derive(Debug)]
struct KnownKey {
    key: ApiKey<OperatorRole>,
    /// In Unix milliseconds; 0 if it was not used.
    last_use: AtomicI64,
}

impl KnownKey {
    fn used(&self, now: Timestamp) {
        // Most calls find it noted, so they write to no cache line that others read.
        if now.millis() - self.last_use.load(Ordering::Relaxed) >= USE_MS {
            self.last_use.store(now.millis(), Ordering::Relaxed);
        }
    }
}

impl OperatorKeys {
    /// Makes these the keys that are good, on all threads.
    pub fn publish(&self, keys: &[ApiKey<OperatorRole>]) {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        self.tables.send_modify(|table| {
            let known = |key: &ApiKey<OperatorRole>| match table.keys.get(&key.hash) {
                Some(old) if old.key == *key => Arc::clone(old),
                old => {
                    let last_use = old.map_or(0, |old| old.last_use.load(Ordering::Relaxed));
                    Arc::new(KnownKey { key: key.clone(), last_use: AtomicI64::new(last_use) })
                }
            };
            let keys = keys.iter().map(|key| (key.hash, known(key))).collect();
            *table = Arc::new(KeyTable { number, keys });
        });
        self.has_some.store(!keys.is_empty(), Ordering::Release);
        self.newest.store(number, Ordering::Release);
    }

    /// Whether it is known which keys there are: the default tenant has said so, or its row has none.
    pub fn are_known(&self) -> bool {
        self.newest.load(Ordering::Acquire) > 0
    }

    /// Whether there are any. Mostly there are none, and then nobody has to look.
    pub fn are_there(&self) -> bool {
        self.has_some.load(Ordering::Acquire)
    }

    /// Which key that is, if it is good at that time. A clock that is set back by seconds wakes no key that has ended.
    pub fn find(&self, hash: &SecretHash, now: Timestamp) -> Option<(KeyId, OperatorRole)> {
        let last = Timestamp::from_millis(self.checked_at.load(Ordering::Relaxed));
        let now = Moment::after(0, last, now).wall;
        if now != last {
            self.checked_at.store(now.millis(), Ordering::Relaxed);
        }
        self.look(|table| {
            let known = table.keys.get(hash).filter(|known| known.key.is_live(now))?;
            known.used(now);
            Some((known.key.id, known.key.role))
        })
    }

    /// A key with that hash as it is stored, good or ended.
    pub fn stored(&self, hash: &SecretHash) -> Option<ApiKey<OperatorRole>> {
        self.look(|table| table.keys.get(hash).map(|known| known.key.clone()))
    }

    /// When a key was last used, to the second; `None` if it was not since the server started.
    pub fn last_use(&self, hash: &SecretHash) -> Option<Timestamp> {
        let millis = self.look(|table| Some(table.keys.get(hash)?.last_use.load(Ordering::Relaxed)))?;
        (millis > 0).then(|| Timestamp::from_millis(millis))
    }

    /// Hears of every change of the keys.
    pub fn follow(&self) -> watch::Receiver<Arc<KeyTable>> {
        self.tables.subscribe()
    }

    fn look<T>(&self, f: impl FnOnce(&KeyTable) -> T) -> T {
        SEEN.with_borrow_mut(|seen| {
            if seen.number != self.newest.load(Ordering::Acquire) {
                *seen = Arc::clone(&self.tables.borrow());
            }
            f(seen)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Secret, TenantId};

    fn key(n: u8, expires_at: Option<Timestamp>) -> ApiKey<OperatorRole> {
        let secret = Secret::operator_key([n; 32]);
        ApiKey {
            id: KeyId::derive(at(0), u64::from(n), TenantId::DEFAULT.tag()),
            name: "ada".into(),
            hash: secret.hash(),
            prefix: secret.operator_prefix(),
            created_at: at(0),
            role: OperatorRole::Auditor,
            expires_at,
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + seconds * 1_000)
    }

    #[test]
    fn every_thread_sees_a_revocation_with_its_next_look() {
        let keys = Arc::new(OperatorKeys::default());
        let (one, two) = (key(1, None), key(2, None));
        assert!(!keys.are_known());
        assert_eq!(keys.find(&one.hash, at(1)), None);
        keys.publish(&[one.clone(), two.clone()]);
        assert_eq!(keys.find(&one.hash, at(1)), Some((one.id, one.role)));
        let other = Arc::clone(&keys);
        let (ask, asked) = std::sync::mpsc::channel();
        let (answer, answered) = std::sync::mpsc::channel();
        let hash = one.hash;
        let thread = std::thread::spawn(move || {
            for () in asked {
                answer.send(other.find(&hash, at(2)).is_some()).unwrap();
            }
        });
        ask.send(()).unwrap();
        assert!(answered.recv().unwrap());
        keys.publish(std::slice::from_ref(&two));
        ask.send(()).unwrap();
        assert!(!answered.recv().unwrap());
        drop(ask);
        thread.join().unwrap();
        // Another server in the process has keys of its own.
        let others = OperatorKeys::default();
        others.publish(std::slice::from_ref(&one));
        assert_eq!((keys.find(&one.hash, at(3)), keys.find(&two.hash, at(3))), (None, Some((two.id, two.role))));
        assert_eq!((others.find(&one.hash, at(3)).is_some(), others.find(&two.hash, at(3))), (true, None));
    }

    #[test]
    fn a_key_ends_and_its_last_use_outlives_what_happens_to_others() {
        let keys = OperatorKeys::default();
        let (one, two) = (key(1, Some(at(60))), key(2, None));
        keys.publish(std::slice::from_ref(&one));
        assert_eq!(keys.last_use(&one.hash), None);
        assert!(keys.find(&one.hash, at(59)).is_some() && keys.find(&one.hash, at(60)).is_none());
        keys.publish(&[one.clone(), two]);
        assert_eq!(keys.last_use(&one.hash), Some(at(59)));
        // Nor does another end make it forgotten.
        let one = ApiKey { expires_at: Some(at(90)), ..one };
        keys.publish(std::slice::from_ref(&one));
        assert_eq!(keys.last_use(&one.hash), Some(at(59)));
        assert!(keys.find(&one.hash, at(60)).is_some() && keys.find(&one.hash, at(90)).is_none());
        assert_eq!(keys.stored(&one.hash), Some(one));
    }
}

//! Permits that go around among parties, not among their requests.
//!
//! A plain queue favours the party with the most requests. Here each party competes with a few requests at a time, and
//! its others wait behind those. So however many one party has, another waits for only a few of them.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use crate::domain::TenantId;

/// The party that a read is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Party {
    /// Whether it is an operator. Tenants' own reads don't hold operators up.
    pub operator: bool,
    /// The tenant that is read; `None` is all of them.
    pub tenant: Option<TenantId>,
}

/// Permits, a few per party at a time.
pub struct FairSemaphore {
    each: usize,
    shared: Arc<Semaphore>,
    /// The parties that hold a permit or wait for one.
    parties: Mutex<HashMap<Party, Arc<Semaphore>>>,
}

/// A permit, given back when dropped.
pub struct Turn {
    _shared: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
    _seat: Seat,
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Turn(..)")
    }
}

/// A party's entry in the table, which stays while it is in use.
struct Seat {
    turns: Arc<FairSemaphore>,
    party: Party,
    own: Arc<Semaphore>,
}

impl FairSemaphore {
    /// `all` permits in all, `each` per party.
    pub fn new(all: usize, each: usize) -> Arc<Self> {
        Arc::new(Self { each, shared: Arc::new(Semaphore::new(all)), parties: Mutex::default() })
    }

    /// Waits for a permit.
    ///
    /// # Errors
    /// None: permits exist as long as the process does.
    pub async fn take(self: &Arc<Self>, party: Party) -> Result<Turn, AcquireError> {
        let seat = self.seat(party);
        let own = Arc::clone(&seat.own).acquire_owned().await?;
        let shared = Arc::clone(&self.shared).acquire_owned().await?;
        Ok(Turn { _shared: shared, _own: own, _seat: seat })
    }

    fn seat(self: &Arc<Self>, party: Party) -> Seat {
        let mut parties = self.parties.lock().unwrap_or_else(PoisonError::into_inner);
        let own = parties.entry(party).or_insert_with(|| Arc::new(Semaphore::new(self.each)));
        Seat { turns: Arc::clone(self), party, own: Arc::clone(own) }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut parties = self.turns.parties.lock().unwrap_or_else(PoisonError::into_inner);
        // The table's reference and ours: nobody else of the party is left.
        if Arc::strong_count(&self.own) <= 2 {
            parties.remove(&self.party);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn party(of: u8) -> Party {
        Party { operator: false, tenant: TenantId::generate(Timestamp::default(), [of; 10]) }
    }

    #[tokio::test]
    async fn whoever_asks_once_waits_for_few_of_those_who_ask_often() {
        let turns = FairSemaphore::new(1, 1);
        let steps = Arc::new(AtomicUsize::new(0));
        let busy = turns.take(party(1)).await.unwrap();
        let many: Vec<_> = (0..50)
            .map(|_| {
                let (turns, steps) = (Arc::clone(&turns), Arc::clone(&steps));
                tokio::spawn(async move {
                    // Long scans: each comes back for more.
                    for _ in 0..3 {
                        let turn = turns.take(party(1)).await.unwrap();
                        steps.fetch_add(1, Ordering::Relaxed);
                        tokio::task::yield_now().await;
                        drop(turn);
                    }
                })
            })
            .collect();
        tokio::task::yield_now().await;
        let (others, counted) = (Arc::clone(&turns), Arc::clone(&steps));
        let other = tokio::spawn(async move {
            let _turn = others.take(party(2)).await.unwrap();
            counted.load(Ordering::Relaxed)
        });
        tokio::task::yield_now().await;
        drop(busy);
        assert!(other.await.unwrap() <= 2, "of 150 steps");
        for one in many {
            one.await.unwrap();
        }
        assert_eq!(steps.load(Ordering::Relaxed), 150);
        assert!(turns.parties.lock().unwrap().is_empty(), "nothing is left behind");
    }

    #[tokio::test]
    async fn whoever_gives_up_waiting_leaves_nothing_behind() {
        let turns = FairSemaphore::new(1, 1);
        let held = turns.take(party(1)).await.unwrap();
        for of in [1, 2] {
            let gave_up = tokio::time::timeout(std::time::Duration::ZERO, turns.take(party(of))).await;
            assert!(gave_up.is_err());
        }
        assert_eq!(turns.parties.lock().unwrap().len(), 1);
        drop(held);
        assert!(turns.parties.lock().unwrap().is_empty());
        drop(turns.take(party(2)).await.unwrap());
    }
}

//! What the journal keeps of a usage report, and the settlements that a tenant remembers.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::author::By;
use crate::budget::cost::Cost;
use crate::id::AgentId;
use crate::limits::MAX_SETTLED;
use crate::time::Timestamp;

/// What was used, as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UsageRecord {
    /// Who reported it.
    pub by: By,
    /// The agent that used it.
    pub agent: AgentId,
    /// The agent's owner, at the time of the decision where there is one.
    pub owner: Arc<str>,
    /// Calls to add.
    pub calls: u64,
    /// The real cost.
    pub cost: Cost,
    /// The decision whose estimate the cost replaces.
    pub settles: Option<SettledDecision>,
}

/// A decision that can be settled: an allowed one, as the journal has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettledDecision {
    /// Number of its event.
    pub seq: u64,
    /// Its time.
    pub at: Timestamp,
    /// What the clock said then, where that is another one: it was charged to the day of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall: Option<Timestamp>,
    /// The cost it was charged with.
    pub estimate: Cost,
}

/// A settlement, remembered so that a repeat gets the same answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    /// Number of the decision's event.
    pub decision: u64,
    /// The real cost.
    pub cost: Cost,
    /// Number of the settlement's own event.
    pub seq: u64,
    /// Time of that event.
    pub at: Timestamp,
}

/// The settlements a tenant remembers, by their decisions' numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Settlements {
    /// Ascending.
    known: VecDeque<Settlement>,
    /// Decisions up to this number can't be settled any more.
    closed_to: u64,
}

impl Settlements {
    /// The settlement of that decision.
    pub fn get(&self, decision: u64) -> Option<&Settlement> {
        self.known.binary_search_by_key(&decision, |known| known.decision).ok().and_then(|at| self.known.get(at))
    }

    /// All that are known, by their decisions' numbers.
    pub fn known(&self) -> impl ExactSizeIterator<Item = &Settlement> {
        self.known.iter()
    }

    /// All settlements of decisions past this number are known; up to it no decision can be settled any more, and what
    /// was settled is forgotten.
    pub fn closed_to(&self) -> u64 {
        self.closed_to
    }

    /// Whether a decision without a known settlement is too old to get one. One older than all that are known would be
    /// forgotten at once where there is no more room, and its repeat would find nothing.
    pub(crate) fn is_closed(&self, decision: u64) -> bool {
        let is_full = self.known.len() >= MAX_SETTLED;
        decision <= self.closed_to || is_full && self.known.front().is_some_and(|oldest| decision < oldest.decision)
    }

    /// Remembers a settlement, and forgets the one of the oldest decision where there are too many.
    pub fn insert(&mut self, settlement: Settlement) {
        if let Err(at) = self.known.binary_search_by_key(&settlement.decision, |known| known.decision) {
            self.known.insert(at, settlement);
        }
        if self.known.len() > MAX_SETTLED
            && let Some(oldest) = self.known.pop_front()
        {
            self.closed_to = oldest.decision;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settlements_of_the_oldest_decisions_are_forgotten_first() {
        let at = Timestamp::from_millis(1_700_000_000_000);
        let settlement = |decision| Settlement { decision, cost: Cost::from_millionths(1), seq: decision + 1, at };
        let mut settlements = Settlements::default();
        let most = MAX_SETTLED as u64;
        // Every second decision is settled, the newest ones first.
        for decision in (1..=most).rev() {
            settlements.insert(settlement(2 * decision));
        }
        assert_eq!((settlements.known.len(), settlements.closed_to), (MAX_SETTLED, 0));
        // A second settlement of the same decision is not taken.
        settlements.insert(Settlement { cost: Cost::from_millionths(2), ..settlement(2) });
        assert_eq!(settlements.get(2), Some(&settlement(2)));
        assert_eq!(settlements.get(3), None);
        // One more: the oldest decision's is gone, and no decision up to it can be settled again.
        settlements.insert(settlement(2 * most + 2));
        assert_eq!((settlements.known.len(), settlements.closed_to), (MAX_SETTLED, 2));
        assert_eq!((settlements.get(2), settlements.get(4)), (None, Some(&settlement(4))));
        // Also where the one that comes is itself the oldest.
        settlements.insert(settlement(3));
        assert_eq!((settlements.get(3), settlements.closed_to), (None, 3));
    }

    #[test]
    fn a_full_memory_takes_no_decision_older_than_all_it_knows() {
        let mut settlements = Settlements::default();
        let settle = |settlements: &mut Settlements, decision| {
            assert!(!settlements.is_closed(decision), "{decision}");
            let at = Timestamp::default();
            settlements.insert(Settlement { decision, cost: Cost::default(), seq: 1_000_000, at });
            assert!(settlements.get(decision).is_some(), "{decision}");
        };
        for decision in 0..MAX_SETTLED as u64 - 1 {
            settle(&mut settlements, 100 + decision);
        }
        settle(&mut settlements, 50);
        assert!(settlements.is_closed(49));
        // A later one makes the oldest go.
        settle(&mut settlements, 500_000);
        assert!(settlements.get(50).is_none() && settlements.is_closed(50) && settlements.is_closed(99));
    }
}

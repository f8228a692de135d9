//! A usage report in the journal, and the settlements that a tenant remembers.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::author::By;
use crate::budget::cost::Cost;
use crate::budget::crossed::Crossed;
use crate::budget::opening::Opened;
use crate::id::AgentId;
use crate::idempotency::key::UsedKey;
use crate::limits::MAX_SETTLED;
use crate::moment::Moment;
use crate::time::Timestamp;

/// A usage report in the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UsageRecord {
    /// Who reported it.
    pub by: By,
    /// The agent that used it.
    pub agent: AgentId,
    /// The agent's owner; of a settlement, at the time of the decision.
    pub owner: Arc<str>,
    /// Calls to add.
    pub calls: u64,
    /// The real cost.
    pub cost: Cost,
    /// The decision, if the cost replaces its estimate. A hold that is given back costs nothing.
    pub settles: Option<SettledDecision>,
    /// The request's idempotency key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<UsedKey>,
    /// What happened to a hold, unless it was settled. Records without it are as older versions wrote them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<HoldChange>,
    /// The scoped policies that it is charged to, by the numbers of the events that created them: of a settlement those
    /// that the decision was charged to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scoped: Vec<u64>,
    /// The instance policies whose slices it charges, by the numbers of the events in the default tenant that created them:
    /// of a settlement those that the decision charged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instance: Vec<u64>,
    /// The windows that it opens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub opens: Vec<Opened>,
    /// The thresholds that it reaches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crossed: Vec<Crossed>,
}

impl UsageRecord {
    /// A report of nothing, to be filled in.
    pub fn new(by: By, agent: AgentId, owner: Arc<str>) -> Self {
        Self {
            by,
            agent,
            owner,
            calls: 0,
            cost: Cost::default(),
            settles: None,
            key: None,
            hold: None,
            scoped: Vec::new(),
            instance: Vec::new(),
            opens: Vec::new(),
            crossed: Vec::new(),
        }
    }
}

/// What happens to a hold other than a settlement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HoldChange {
    /// It is given back.
    Released,
    /// It is given back, because its time is over.
    Expired,
    /// It ends at another time. That settles nothing, so the decision is named here.
    Extended {
        /// The decision.
        decision: SettledDecision,
        /// The new end.
        until: Timestamp,
    },
}

/// A decision that can be settled: allowed, and read from the journal or from its hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettledDecision {
    /// Number of the decision's event.
    pub seq: u64,
    /// Time of that event.
    pub at: Timestamp,
    /// What the clock said then, if that differs: the charge went to that day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall: Option<Timestamp>,
    /// The cost that was charged.
    pub estimate: Cost,
}

impl SettledDecision {
    /// When it was charged.
    pub fn moment(&self) -> Moment {
        Moment { at: self.at, wall: self.wall.unwrap_or(self.at), seq: self.seq }
    }
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

/// The settlements that a tenant remembers, by decision number.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Settlements {
    /// In ascending order.
    known: VecDeque<Settlement>,
    /// Decisions up to this number can no longer be settled.
    closed_to: u64,
}

impl Settlements {
    /// The settlement of that decision.
    pub fn get(&self, decision: u64) -> Option<&Settlement> {
        self.known.binary_search_by_key(&decision, |known| known.decision).ok().and_then(|at| self.known.get(at))
    }

    /// All remembered settlements, by decision number.
    pub fn known(&self) -> impl ExactSizeIterator<Item = &Settlement> {
        self.known.iter()
    }

    /// All settlements of decisions past this number are known. Up to it, settlements are forgotten and no decision can
    /// be settled.
    pub fn closed_to(&self) -> u64 {
        self.closed_to
    }

    /// Whether a decision without a known settlement is too old to get one. When the memory is full, the settlement of
    /// a decision older than all in it would be forgotten at once, and a repeat would not find it.
    pub(crate) fn is_closed(&self, decision: u64) -> bool {
        let is_full = self.known.len() >= MAX_SETTLED;
        decision <= self.closed_to || is_full && self.known.front().is_some_and(|oldest| decision < oldest.decision)
    }

    /// Remembers a settlement. If there are too many, forgets that of the oldest decision.
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
        // A second settlement of one decision is ignored.
        settlements.insert(Settlement { cost: Cost::from_millionths(2), ..settlement(2) });
        assert_eq!(settlements.get(2), Some(&settlement(2)));
        assert_eq!(settlements.get(3), None);
        // With one more, the oldest decision's settlement is gone, and no decision up to it can be settled again.
        settlements.insert(settlement(2 * most + 2));
        assert_eq!((settlements.known.len(), settlements.closed_to), (MAX_SETTLED, 2));
        assert_eq!((settlements.get(2), settlements.get(4)), (None, Some(&settlement(4))));
        // So too if the new one is itself the oldest.
        settlements.insert(settlement(3));
        assert_eq!((settlements.get(3), settlements.closed_to), (None, 3));
    }

    #[test]
    fn a_full_memory_refuses_older_decisions() {
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
        // A later decision pushes out the oldest.
        settle(&mut settlements, 500_000);
        assert!(settlements.get(50).is_none() && settlements.is_closed(50) && settlements.is_closed(99));
    }
}

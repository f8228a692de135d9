//! Usage reports: what a call really cost, once it is known.
//!
//! A report may name the decision it settles. Which decision that was is read from the journal, which remembers all
//! of them; the state keeps only what was settled.

use std::collections::VecDeque;

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::agent::commands::no_such_agent;
use crate::budget::cost::Cost;
use crate::error::{Code, Error};
use crate::event::{By, Event, Record};
use crate::id::{AgentId, AuditId};
use crate::limits::{MAX_REPORTED_CALLS, MAX_SETTLED};
use crate::tenant::{Moment, Tenant};
use crate::time::Timestamp;
use std::sync::Arc;

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
    fn is_closed(&self, decision: u64) -> bool {
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

/// A usage report, checked but for the state.
#[derive(Clone, Debug, PartialEq)]
pub struct UsageReport {
    /// The agent that used it.
    pub agent: AgentId,
    /// Calls to add.
    pub calls: u64,
    /// The real cost.
    pub cost: Cost,
    /// The decision to settle, with its owner then.
    pub settles: Option<(SettledDecision, Arc<str>)>,
}

/// The answer to a usage report.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct UsageAnswer {
    /// The audit entry of the report itself.
    pub audit_id: AuditId,
    /// The decision it settled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#ref: Option<AuditId>,
    /// The agent.
    pub agent_id: AgentId,
    /// The cost that counts now.
    pub tokens_cost: Cost,
    /// Calls that were added.
    pub calls: u64,
}

impl UsageReport {
    /// Checks a report about no decision.
    ///
    /// # Errors
    /// `INVALID_FIELD` for too many calls.
    pub fn new(agent: AgentId, calls: u64, cost: Cost) -> Result<Self, Error> {
        if calls > MAX_REPORTED_CALLS {
            return Err(Error::field(Code::InvalidField, "calls", format!("must be at most {MAX_REPORTED_CALLS}")));
        }
        Ok(Self { agent, calls, cost, settles: None })
    }

    /// The same report, as the settlement of the decision with that id, whose event is this.
    ///
    /// # Errors
    /// `INVALID_FIELD` where calls are reported too, or the decision is another agent's; `NOT_SETTLEABLE` for a
    /// denied one; `UNKNOWN_AUDIT_ENTRY` where the id names no decision.
    pub fn settling(mut self, id: AuditId, moment: Moment, event: &Event<'_>) -> Result<Self, Error> {
        let Event::Decided(record) = event else {
            return Err(Error::field(Code::UnknownAuditEntry, "auditId", format!("{id} is no decision's")));
        };
        let Record { agent, owner, code, cost, .. } = record;
        if *agent != Some(self.agent) {
            let problem = "names a decision about another agent than agentId";
            return Err(Error::field(Code::InvalidField, "auditId", problem));
        }
        let (None, Some(owner)) = (code, owner) else {
            return Err(Error::field(Code::NotSettleable, "auditId", "names a denied decision, which cost nothing"));
        };
        if self.calls != 0 {
            let problem = "must be left out with auditId: the call was counted when it was allowed";
            return Err(Error::field(Code::InvalidField, "calls", problem));
        }
        let decision = SettledDecision {
            seq: id.seq(),
            at: moment.at,
            wall: moment.other_wall(),
            estimate: cost.unwrap_or_default(),
        };
        self.settles = Some((decision, Arc::clone(owner)));
        Ok(self)
    }
}

impl Tenant {
    /// Checks a usage report. Answers the record to keep, where it is not the repeat of a settlement, and the answer.
    ///
    /// # Errors
    /// `UNKNOWN_AGENT`, `ALREADY_SETTLED`, `NOT_SETTLEABLE`.
    pub fn decide_usage(
        &self,
        by: By,
        report: UsageReport,
        moment: Moment,
    ) -> Result<(Option<UsageRecord>, UsageAnswer), Error> {
        let UsageReport { agent, calls, cost, settles } = report;
        let tag = self.id().tag();
        let known = self.agent(agent).ok_or_else(|| no_such_agent(&agent.to_string()))?;
        let mut answer = UsageAnswer {
            audit_id: AuditId::derive(moment.at, moment.seq, tag),
            r#ref: settles.as_ref().map(|(decision, _)| AuditId::derive(decision.at, decision.seq, tag)),
            agent_id: agent,
            tokens_cost: cost,
            calls,
        };
        let Some((decision, owner)) = settles else {
            let owner = Arc::clone(&known.profile.spec.owner);
            return Ok((Some(UsageRecord { by, agent, owner, calls, cost, settles: None }), answer));
        };
        match self.settlements().get(decision.seq) {
            Some(settled) if settled.cost == cost => {
                answer.audit_id = AuditId::derive(settled.at, settled.seq, tag);
                Ok((None, answer))
            }
            Some(settled) => {
                let problem = format!("names a decision that was settled at {}, not {cost}", settled.cost);
                Err(Error::field(Code::AlreadySettled, "auditId", problem))
            }
            None if self.settlements().is_closed(decision.seq) => {
                let problem = "names a decision too old to be settled; report its cost without auditId";
                Err(Error::field(Code::NotSettleable, "auditId", problem))
            }
            None => Ok((Some(UsageRecord { by, agent, owner, calls, cost, settles: Some(decision) }), answer)),
        }
    }

    /// Lets a usage report happen.
    pub(crate) fn apply_usage(&mut self, moment: Moment, record: &UsageRecord) {
        let UsageRecord { by: _, agent, owner, calls, cost, settles } = record;
        let places = self.policies_about_owner(*agent, owner);
        for place in places {
            let Some(policy) = self.policy_mut(place) else { continue };
            match settles {
                None => policy.charge(moment, *calls, *cost),
                // A policy made after the decision was not charged with it.
                Some(decision) if policy.profile.id.seq() > decision.seq => {}
                // More is charged to the windows that are open now, which are the decision's own while those are.
                Some(decision) if *cost >= decision.estimate => {
                    policy.charge(moment, 0, cost.minus(decision.estimate));
                }
                Some(SettledDecision { seq, at, wall, estimate }) => {
                    let charged = Moment { at: *at, wall: wall.unwrap_or(*at), seq: *seq };
                    policy.give_back(moment, charged, estimate.minus(*cost));
                }
            }
        }
        if let Some(decision) = settles {
            let settlement = Settlement { decision: decision.seq, cost: *cost, seq: moment.seq, at: moment.at };
            self.settlements_mut().insert(settlement);
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

//! Usage reports: what a call really cost, once the caller knows.
//!
//! A report may name the decision it settles. That decision is read from the journal, which has all of them; the state
//! keeps only the settlements.

use std::sync::Arc;

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::Serialize;

use crate::agent::commands::no_such_agent;
use crate::author::By;
use crate::budget::cost::Cost;
use crate::budget::hold::Hold;
use crate::budget::scope::Call;
use crate::budget::settlement::{HoldChange, SettledDecision, Settlement, UsageRecord};
use crate::error::{Code, Error};
use crate::event::{Event, Record};
use crate::id::{AgentId, AuditId, TenantTag};
use crate::limits::MAX_REPORTED_CALLS;
use crate::moment::Moment;
use crate::tenant::Tenant;

/// A usage report, not yet checked against the state.
#[derive(Clone, Debug, PartialEq)]
pub struct UsageReport {
    /// The agent that used it.
    pub agent: AgentId,
    /// Calls to add.
    pub calls: u64,
    /// The real cost.
    pub cost: Cost,
    /// The decision to settle, with the agent's owner at that time.
    pub settles: Option<(SettledDecision, Arc<str>)>,
    /// Whether that decision's estimate was held.
    pub is_hold: bool,
    /// The scoped policies that the decision to settle was charged to.
    pub scoped: Vec<u64>,
    /// The instance policies that it charges, by their numbers: of a settlement those that the decision charged.
    pub instance: Vec<u64>,
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
    /// Calls added.
    pub calls: u64,
}

impl UsageAnswer {
    /// The answer that the report got when it was recorded.
    pub fn of_record(moment: Moment, tag: TenantTag, record: &UsageRecord) -> Self {
        let settles = record.settles.as_ref();
        Self {
            audit_id: AuditId::derive(moment.at, moment.seq, tag),
            r#ref: settles.map(|decision| AuditId::derive(decision.at, decision.seq, tag)),
            agent_id: record.agent,
            tokens_cost: record.cost,
            calls: record.calls,
        }
    }
}

impl UsageReport {
    /// Checks a report that names no decision.
    ///
    /// # Errors
    /// `INVALID_FIELD` for too many calls.
    pub fn new(agent: AgentId, calls: u64, cost: Cost) -> Result<Self, Error> {
        if calls > MAX_REPORTED_CALLS {
            return Err(Error::field(Code::InvalidField, "calls", format!("must be at most {MAX_REPORTED_CALLS}")));
        }
        Ok(Self { agent, calls, cost, settles: None, is_hold: false, scoped: Vec::new(), instance: Vec::new() })
    }

    /// Makes the report a settlement of the decision with that id, recorded by that event.
    ///
    /// # Errors
    /// `INVALID_FIELD` if calls are reported too, or the decision is another agent's; `NOT_SETTLEABLE` for a denied
    /// one; `AUDIT_ENTRY_NOT_FOUND` if the id names no decision.
    pub fn settling(mut self, id: AuditId, moment: Moment, event: &Event<'_>) -> Result<Self, Error> {
        let Event::Decided(record) = event else {
            return Err(Error::field(Code::AuditEntryNotFound, "auditId", format!("{id} is not the id of a decision")));
        };
        let Record { agent, owner, code, cost, extras, .. } = record;
        self.check_agent(*agent)?;
        let (None, Some(owner)) = (code, owner) else {
            return Err(Error::field(Code::NotSettleable, "auditId", "names a denied decision, which cost nothing"));
        };
        self.check_no_calls()?;
        let decision = SettledDecision {
            seq: id.seq(),
            at: moment.at,
            wall: moment.other_wall(),
            estimate: cost.unwrap_or_default(),
        };
        self.scoped = extras.as_ref().map(|extras| extras.scoped.clone()).unwrap_or_default();
        self.instance = extras.as_ref().map(|extras| extras.instance.clone()).unwrap_or_default();
        self.settles = Some((decision, Arc::clone(owner)));
        self.is_hold = extras.as_ref().is_some_and(|extras| extras.held_until.is_some());
        Ok(self)
    }

    /// Makes the report a settlement of an open hold. Its decision is not looked up: it may be past the retention.
    ///
    /// # Errors
    /// `INVALID_FIELD` as for [`Self::settling`].
    pub fn settling_hold(mut self, hold: &Hold) -> Result<Self, Error> {
        self.check_agent(Some(hold.agent))?;
        self.check_no_calls()?;
        self.scoped = hold.scoped.to_vec();
        self.instance = hold.instance.to_vec();
        self.settles = Some((hold.decision.clone(), Arc::clone(&hold.owner)));
        self.is_hold = true;
        Ok(self)
    }

    fn check_agent(&self, decided: Option<AgentId>) -> Result<(), Error> {
        if decided == Some(self.agent) {
            return Ok(());
        }
        let problem = "names a decision about an agent other than agentId";
        Err(Error::field(Code::InvalidField, "auditId", problem))
    }

    fn check_no_calls(&self) -> Result<(), Error> {
        if self.calls == 0 {
            return Ok(());
        }
        let problem = "must be left out with auditId: the call was counted when it was allowed";
        Err(Error::field(Code::InvalidField, "calls", problem))
    }
}

impl Tenant {
    /// Checks a usage report. Returns the answer, and the record to keep unless the report repeats a settlement.
    ///
    /// # Errors
    /// `AGENT_NOT_FOUND`, `ALREADY_SETTLED`, `NOT_SETTLEABLE`, `HOLD_ENDED`.
    pub fn decide_usage(
        &self,
        by: By,
        report: UsageReport,
        moment: Moment,
    ) -> Result<(Option<UsageRecord>, UsageAnswer), Error> {
        let UsageReport { agent, calls, cost, settles, is_hold, scoped, instance } = report;
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
            // It is about no call, so only policies that need none are charged.
            let scoped = self.scoped_policies(known, Call::default());
            let record = UsageRecord { calls, cost, scoped, instance, ..UsageRecord::new(by, agent, owner) };
            return Ok((Some(record), answer));
        };
        if is_hold {
            return self.decide_hold_settlement(by, cost, moment, answer);
        }
        match self.settlements().get(decision.seq) {
            Some(settled) if settled.cost == cost => {
                answer.audit_id = AuditId::derive(settled.at, settled.seq, tag);
                Ok((None, answer))
            }
            Some(settled) => Err(settled_otherwise(settled.cost, cost)),
            None if self.settlements().is_closed(decision.seq) => {
                let problem = "names a decision too old to be settled; report its cost without auditId";
                Err(Error::field(Code::NotSettleable, "auditId", problem))
            }
            None => {
                let settles = Some(decision);
                let record =
                    UsageRecord { calls, cost, settles, scoped, instance, ..UsageRecord::new(by, agent, owner) };
                Ok((Some(record), answer))
            }
        }
    }

    /// Applies a usage report.
    pub(crate) fn apply_usage(&mut self, moment: Moment, record: &UsageRecord) {
        let UsageRecord { calls, cost, settles, hold, .. } = record;
        if let Some(HoldChange::Extended { decision, until }) = hold {
            return self.prolong_hold(decision.seq, *until);
        }
        let is_over = settles.as_ref().is_some_and(|decision| self.end_hold(moment, decision.seq, record));
        if is_over || hold.is_none() {
            self.settle_slices(moment, record);
        }
        if is_over || hold.is_some() {
            return;
        }
        for place in self.policies_of_usage(record) {
            let Some(policy) = self.policy_mut(place) else { continue };
            match settles {
                None => policy.charge(moment, *calls, *cost, false),
                // The decision was not charged to a policy made later.
                Some(decision) if policy.profile.id.seq() > decision.seq => {}
                // An excess is charged to the windows that are open now. If the decision's own are still open, they are
                // the same.
                Some(decision) if *cost >= decision.estimate => {
                    policy.charge(moment, 0, cost.minus(decision.estimate), false);
                }
                Some(decision) => policy.give_back(moment, decision.moment(), decision.estimate.minus(*cost)),
            }
        }
        if let Some(decision) = settles {
            let settlement = Settlement { decision: decision.seq, cost: *cost, seq: moment.seq, at: moment.at };
            self.settlements_mut().insert(settlement);
        }
    }
}

/// The error for a decision that was settled at another cost.
pub(crate) fn settled_otherwise(settled: Cost, cost: Cost) -> Error {
    let problem = format!("names a decision that was settled at {settled}, not {cost}");
    Error::field(Code::AlreadySettled, "auditId", problem)
}

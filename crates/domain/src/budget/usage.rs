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
use crate::budget::scope::Call;
use crate::budget::settlement::{SettledDecision, Settlement, UsageRecord};
use crate::error::{Code, Error};
use crate::event::{Event, Record};
use crate::id::{AgentId, AuditId};
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
    /// The scoped policies that the decision to settle was charged to.
    pub scoped: Vec<u64>,
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

impl UsageReport {
    /// Checks a report that names no decision.
    ///
    /// # Errors
    /// `INVALID_FIELD` for too many calls.
    pub fn new(agent: AgentId, calls: u64, cost: Cost) -> Result<Self, Error> {
        if calls > MAX_REPORTED_CALLS {
            return Err(Error::field(Code::InvalidField, "calls", format!("must be at most {MAX_REPORTED_CALLS}")));
        }
        Ok(Self { agent, calls, cost, settles: None, scoped: Vec::new() })
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
        if *agent != Some(self.agent) {
            let problem = "names a decision about an agent other than agentId";
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
        self.scoped = extras.as_ref().map(|extras| extras.scoped.clone()).unwrap_or_default();
        self.settles = Some((decision, Arc::clone(owner)));
        Ok(self)
    }
}

impl Tenant {
    /// Checks a usage report. Returns the answer, and the record to keep unless the report repeats a settlement.
    ///
    /// # Errors
    /// `AGENT_NOT_FOUND`, `ALREADY_SETTLED`, `NOT_SETTLEABLE`.
    pub fn decide_usage(
        &self,
        by: By,
        report: UsageReport,
        moment: Moment,
    ) -> Result<(Option<UsageRecord>, UsageAnswer), Error> {
        let UsageReport { agent, calls, cost, settles, scoped } = report;
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
            let record = UsageRecord {
                by,
                agent,
                owner,
                calls,
                cost,
                settles: None,
                scoped,
                opens: Vec::new(),
                crossed: Vec::new(),
            };
            return Ok((Some(record), answer));
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
            None => {
                let settles = Some(decision);
                let record = UsageRecord {
                    by,
                    agent,
                    owner,
                    calls,
                    cost,
                    settles,
                    scoped,
                    opens: Vec::new(),
                    crossed: Vec::new(),
                };
                Ok((Some(record), answer))
            }
        }
    }

    /// Applies a usage report.
    pub(crate) fn apply_usage(&mut self, moment: Moment, record: &UsageRecord) {
        let UsageRecord { calls, cost, settles, .. } = record;
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

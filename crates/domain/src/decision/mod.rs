//! May this agent do this action on this resource now? The order of the checks, and the sentence for each denial.

pub mod arguments;
pub mod explain;
pub mod json_parts;
pub mod kept_answer;
pub mod request;
pub mod search;
#[cfg(test)]
mod search_tests;

use std::borrow::Cow;
use std::sync::Arc;

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::Serialize;

use crate::agent::{Agent, AgentStatus};
use crate::budget::check::{BudgetNotes, Exceeded};
use crate::budget::cost::Cost;
use crate::budget::policy::PolicyAction;
use crate::budget::scope::Call;
use crate::decision::explain::{Step, Trace};
use crate::decision::kept_answer::KeptAnswer;
use crate::decision::request::{Asked, Request};
use crate::error::{Code, Error};
use crate::event::{Extras, Grant, Record};
use crate::id::{AgentId, AuditId, PolicyId};
use crate::idempotency::key::UsedKey;
use crate::instance::slice_check::{Drained, Leases};
use crate::limits::MAX_HOLDS;
use crate::moment::Moment;
use crate::tenant::{Caller, Tenant};
use crate::time::Timestamp;

/// The answer to an authorize request.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// Whether the agent may.
    pub allowed: bool,
    /// The audit entry that records it; an explanation has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit_id: Option<AuditId>,
    /// The code of a denial.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// The reason of a denial, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Seconds until the call may be allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// The policy that denied it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_id: Option<PolicyId>,
    /// Exceeded policies that only warn.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Exceeded>,
    /// How many warnings are not shown.
    #[serde(skip_serializing_if = "is_zero")]
    pub more_warnings: usize,
    /// What was charged, if the call named a cost finer than a millionth: it is rounded up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_cost: Option<Cost>,
    /// The hold on the cost, if the call asked for one. An explanation holds nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<Held>,
    /// The agent that the request named, known or not.
    #[serde(skip)]
    pub agent_id: Option<AgentId>,
    /// Whether a rate caused the denial, which passes by itself.
    #[serde(skip)]
    pub rate_limited: bool,
    /// Whether it is the answer that the call got when it came first, with the same idempotency key.
    #[serde(skip)]
    pub is_repeat: bool,
}

/// The hold on the cost of an allowed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub struct Held {
    /// When it ends by itself, and the cost is left again.
    pub until: Timestamp,
}

// Serde passes a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// What was decided, before it is recorded.
#[derive(Clone, Debug)]
pub struct Verdict {
    agent: Option<AgentId>,
    owner: Option<Arc<str>>,
    outcome: Result<Grant, Denial>,
    /// What the policies say besides.
    notes: Option<Box<BudgetNotes>>,
    rounded: Option<Cost>,
    /// When the hold on the call's cost ends.
    held_until: Option<Timestamp>,
}

/// Why a call is denied.
#[derive(Clone, Debug)]
pub(crate) struct Denial {
    pub(crate) code: Code,
    pub(crate) reason: Cow<'static, str>,
    pub(crate) retry_after: Option<u64>,
    /// The policy that denies, and its action.
    pub(crate) policy: Option<(PolicyId, PolicyAction)>,
}

impl Denial {
    pub(crate) fn new(code: Code, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { code, reason: reason.into(), retry_after: None, policy: None }
    }
}

impl Denial {
    fn is_of_a_rate(&self) -> bool {
        self.code == Code::RateLimited || self.policy.is_some_and(|(_, action)| action == PolicyAction::Throttle)
    }
}

impl From<Exceeded> for Denial {
    fn from(exceeded: Exceeded) -> Self {
        let Exceeded { policy_id, action, retry_after, message, .. } = exceeded;
        let policy = Some((policy_id, action));
        Self { code: Code::BudgetExceeded, reason: message.into(), retry_after, policy }
    }
}

impl From<Drained> for Denial {
    fn from(drained: Drained) -> Self {
        let Drained { policy, action, retry_after } = drained;
        let reason = drained.message().into();
        Self { code: Code::BudgetExceeded, reason, retry_after, policy: Some((policy, action)) }
    }
}

impl Verdict {
    /// Whether the tenant has this agent.
    pub fn knows_agent(&self) -> bool {
        self.owner.is_some()
    }

    /// Whether the agent may.
    pub fn allows(&self) -> bool {
        self.outcome.is_ok()
    }

    /// The event that records the verdict. `micros` is the time since the request arrived.
    pub fn record<'r>(&'r self, request: &'r Request, micros: u32) -> Record<'r> {
        let denial = self.outcome.as_ref().err();
        let policy = denial.and_then(|denial| denial.policy);
        Record {
            agent: self.agent,
            owner: self.owner.clone(),
            action: request.action(),
            resource: request.resource(),
            arguments: request.recorded_arguments(),
            granted_by: self.outcome.as_ref().ok().cloned(),
            code: denial.map(|denial| denial.code),
            reason: denial.map(|denial| Cow::Borrowed(&*denial.reason)),
            rate_limited: denial.is_some_and(Denial::is_of_a_rate),
            revokes: policy.is_some_and(|(_, action)| action == PolicyAction::Revoke),
            policy: policy.map(|(id, _)| id),
            cost: request.cost,
            ip: request.ip,
            user_agent: request.user_agent(),
            micros,
            trace: request.trace,
            extras: self.extras(),
        }
    }

    /// Adds the call's idempotency key to the record, with what a repeat has to be told beyond it.
    pub fn remember(&self, key: UsedKey, record: &mut Record<'_>) {
        let notes = self.notes.as_deref();
        let answer = KeptAnswer {
            retry_after: self.outcome.as_ref().err().and_then(|denial| denial.retry_after),
            warnings: notes.map_or_else(Vec::new, |notes| notes.warnings.iter().map(Into::into).collect()),
            more_warnings: notes.map_or(0, |notes| notes.more_warnings as u64),
            rounded: self.outcome.is_ok() && self.rounded.is_some(),
        };
        let extras = record.extras.get_or_insert_default();
        extras.key = Some(key);
        extras.answer = (answer != KeptAnswer::default()).then(|| Box::new(answer));
    }

    /// What only some calls have.
    fn extras(&self) -> Option<Box<Extras>> {
        let may_have_some = self.allows() && (self.held_until.is_some() || self.notes.is_some());
        if may_have_some { self.noted_extras() } else { None }
    }

    /// Apart from the others, whose way it would lengthen.
    #[cold]
    fn noted_extras(&self) -> Option<Box<Extras>> {
        let mut extras = Extras { held_until: self.held_until, ..Extras::default() };
        if let Some(BudgetNotes { scoped, crossed, instance, .. }) = self.notes.as_deref() {
            (extras.scoped, extras.crossed, extras.instance) = (scoped.clone(), crossed.clone(), instance.clone());
        }
        (extras != Extras::default()).then(|| Box::new(extras))
    }

    /// The answer to the caller.
    pub fn answer(self, audit_id: Option<AuditId>) -> Decision {
        let Self { agent: agent_id, owner: _, outcome, notes, rounded, held_until } = self;
        let mut decision = Decision { audit_id, agent_id, ..Decision::default() };
        if let Some(notes) = notes {
            (decision.warnings, decision.more_warnings) = (notes.warnings, notes.more_warnings);
        }
        match outcome {
            Ok(_) => {
                decision.allowed = true;
                decision.tokens_cost = rounded;
                decision.hold = held_until.filter(|_| audit_id.is_some()).map(|until| Held { until });
            }
            Err(denial) => {
                decision.rate_limited = denial.is_of_a_rate();
                let Denial { code, reason, retry_after, policy } = denial;
                decision.code = Some(code);
                decision.reason = Some(reason.into_owned());
                decision.retry_after = retry_after;
                decision.policy_id = policy.map(|(id, _)| id);
            }
        }
        decision
    }
}

impl Decision {
    /// What a batch answers to a call that could not be decided: denied, and not recorded.
    pub fn refused(error: &Error) -> Self {
        Self { code: Some(error.code()), reason: Some(error.message().to_owned()), ..Self::default() }
    }

    /// The answer that a call with an idempotency key got, from its record.
    pub fn of_record(audit_id: AuditId, record: &Record<'_>) -> Self {
        let none = KeptAnswer::default();
        let answer = record.extras.as_ref().and_then(|extras| extras.answer.as_deref()).unwrap_or(&none);
        Self {
            allowed: record.allowed(),
            audit_id: Some(audit_id),
            code: record.code,
            reason: record.reason.as_ref().map(ToString::to_string),
            retry_after: answer.retry_after,
            policy_id: record.policy,
            warnings: answer.warnings.iter().map(Into::into).collect(),
            more_warnings: usize::try_from(answer.more_warnings).unwrap_or(usize::MAX),
            tokens_cost: record.cost.filter(|_| answer.rounded),
            hold: record.extras.as_ref().and_then(|extras| extras.held_until).map(|until| Held { until }),
            agent_id: record.agent,
            rate_limited: record.rate_limited,
            is_repeat: true,
        }
    }
}

impl Tenant {
    /// Decides a call. Changes nothing: counts change when the verdict's record is applied.
    pub fn decide(&self, caller: &Caller, request: &Request, moment: Moment, trace: &mut impl Trace) -> Verdict {
        self.decide_within(caller, request, moment, None, trace)
    }

    /// The agent that a call is about, and its id if the request names it.
    pub(crate) fn agent_of(&self, caller: &Caller, request: &Request) -> (Option<&Agent>, Option<AgentId>) {
        match (caller, request.agent) {
            (Caller::Agent(slot), _) => (self.agent_in(*slot), None),
            (_, Asked::Agent(id)) => (self.agent(id), Some(id)),
            (_, Asked::Caller | Asked::Nobody) => (None, None),
        }
    }

    /// Decides a call by the slices of instance policies too, where there are any.
    pub fn decide_within(
        &self,
        caller: &Caller,
        request: &Request,
        moment: Moment,
        leases: Option<&Leases<'_>>,
        trace: &mut impl Trace,
    ) -> Verdict {
        let (agent, asked) = self.agent_of(caller, request);
        let mut notes = None;
        let outcome = self.check(agent, request, moment.wall, trace).and_then(|(agent, grant)| {
            if self.policies().is_empty() {
                return Ok(grant);
            }
            let call = Call::new(request.action(), request.resource());
            let budgets = self.check_budgets(agent, call, request.cost.unwrap_or_default(), moment.wall, trace);
            notes = budgets.notes;
            budgets.denied_by.map_or(Ok(grant), |exceeded| Err(Denial::from(*exceeded)))
        });
        let outcome = match (leases, agent) {
            (Some(leases), Some(agent)) => outcome.and_then(|grant| {
                let check = self.check_slices(agent, request, moment.wall, leases, trace);
                if !check.charged.is_empty() {
                    notes.get_or_insert_default().instance = check.charged;
                }
                check.denied_by.map_or(Ok(grant), |drained| Err(Denial::from(drained)))
            }),
            _ => outcome,
        };
        let (outcome, held_until) = match request.hold() {
            None => (outcome, None),
            Some(time) => {
                let outcome = outcome.and_then(|grant| self.check_hold_room(moment.wall, trace).map(|()| grant));
                let until = outcome.is_ok().then(|| time.end_from(moment.wall));
                (outcome, until)
            }
        };
        Verdict {
            agent: agent.map(|agent| agent.profile.id).or(asked),
            owner: agent.map(|agent| Arc::clone(&agent.profile.spec.owner)),
            outcome,
            notes,
            rounded: request.cost.filter(|_| request.is_cost_rounded),
            held_until,
        }
    }

    /// Whether one more hold may be opened.
    fn check_hold_room(&self, at: Timestamp, trace: &mut impl Trace) -> Result<(), Denial> {
        let Some(seconds) = self.seconds_to_hold_room(at) else {
            pass(trace, "hold", "There is room for one more hold");
            return Ok(());
        };
        let reason = format!("Limit of open holds exceeded: {MAX_HOLDS} are open");
        Err(stop(trace, "hold", Denial { retry_after: Some(seconds), ..Denial::new(Code::HoldLimitExceeded, reason) }))
    }

    /// All checks except the budgets.
    fn check<'a>(
        &self,
        agent: Option<&'a Agent>,
        request: &Request,
        at: Timestamp,
        trace: &mut impl Trace,
    ) -> Result<(&'a Agent, Grant), Denial> {
        if request.tenants.iter().any(|named| !self.is_named(named)) {
            let denial = Denial::new(Code::TenantMismatch, "The request names a tenant that is not the agent's");
            return Err(stop(trace, "tenant", denial));
        }
        if self.is_suspended() {
            return Err(stop(trace, "tenant", Denial::new(Code::TenantSuspended, "The agent's tenant is suspended")));
        }
        pass(trace, "tenant", "The tenant is active");
        let Some(agent) = agent else {
            let reason = match request.nobody() {
                Some(id) => Cow::Owned(format!("Agent '{id}' not found in this tenant: that is no agent's id")),
                None => Cow::Borrowed("Agent not found in this tenant"),
            };
            return Err(stop(trace, "agent", Denial::new(Code::AgentNotFound, reason)));
        };
        match agent.profile.status(at) {
            AgentStatus::Revoked => {
                return Err(stop(trace, "agent", Denial::new(Code::AgentRevoked, "The agent was revoked")));
            }
            AgentStatus::Suspended => {
                return Err(stop(trace, "agent", Denial::new(Code::AgentSuspended, "The agent is suspended")));
            }
            AgentStatus::Expired => {
                return Err(stop(trace, "agent", Denial::new(Code::AgentExpired, "The agent has expired")));
            }
            AgentStatus::Active => pass(trace, "agent", "The agent is active"),
        }
        if let Some(problem) = request.problem() {
            let reason = format!("No permission can cover this call: {problem}");
            return Err(stop(trace, "permission", Denial::new(Code::PermissionDenied, reason)));
        }
        self.check_permissions(agent, request, at, trace).map(|grant| (agent, grant))
    }
}

fn pass(trace: &mut impl Trace, check: &'static str, detail: &str) {
    trace.step(|| Step { check, passed: true, detail: detail.to_owned(), ..Step::default() });
}

pub(crate) fn stop(trace: &mut impl Trace, check: &'static str, denial: Denial) -> Denial {
    trace.step(|| Step { check, passed: false, detail: denial.reason.to_string(), ..Step::default() });
    denial
}

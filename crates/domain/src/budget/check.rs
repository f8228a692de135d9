//! The budget check: it looks at all of an agent's policies, then charges all of them or none.

use std::borrow::Cow;

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::Serialize;

use crate::agent::Agent;
use crate::budget::cost::Cost;
use crate::budget::crossed::Crossed;
use crate::budget::meter::{Amount, Meter, longest_exceeded};
use crate::budget::policy::{Policy, PolicyAction};
use crate::budget::policy_at::PolicyAt;
use crate::budget::scope::Call;
use crate::decision::explain::{Step, Trace};
use crate::decision::kept_answer::KeptWarning;
use crate::error::Code;
use crate::id::PolicyId;
use crate::limits::MAX_WARNINGS;
use crate::tenant::Tenant;
use crate::time::Timestamp;

/// A limit that a call exceeds: a warning beside an allowed call, or the reason of a denial.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Exceeded {
    /// The policy.
    pub policy_id: PolicyId,
    /// The policy's action.
    pub action: PolicyAction,
    /// The limit's name, such as `maxCallsPerDay`.
    pub limit: Cow<'static, str>,
    /// How much is used.
    pub used: Amount,
    /// How much the call asks for.
    pub requested: Amount,
    /// The limit.
    pub max: Amount,
    /// Seconds until the call may fit: the count starts anew, or a temporary limit ends. Absent if neither ever happens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// The excess in words.
    pub message: String,
}

impl Exceeded {
    fn new(policy: &Policy, meter: &Meter, now: Timestamp) -> Self {
        let Meter { name, used, requested, max, fits_at, .. } = *meter;
        let id = policy.profile.id;
        let message = format!("Budget {name} of policy {id} exceeded: {used} of {max} used, {requested} requested");
        let action = policy.profile.action;
        let retry_after = fits_at.map(|fits| now.seconds_until(fits));
        Self { policy_id: id, action, limit: name.into(), used, requested, max, retry_after, message }
    }

    /// The code, if the policy denies the call.
    pub fn code(&self) -> Option<Code> {
        (self.action != PolicyAction::Warn).then_some(Code::BudgetExceeded)
    }
}

impl From<&Exceeded> for KeptWarning {
    fn from(exceeded: &Exceeded) -> Self {
        let Exceeded { policy_id, action, limit, used, requested, max, retry_after, message } = exceeded;
        let amount = |amount: &Amount| match amount {
            Amount::Calls(calls) => *calls,
            Amount::Cost(cost) => cost.millionths(),
        };
        Self {
            policy: *policy_id,
            action: *action,
            limit: limit.as_ref().into(),
            cost: matches!(max, Amount::Cost(_)),
            used: amount(used),
            requested: amount(requested),
            max: amount(max),
            retry_after: *retry_after,
            message: message.as_str().into(),
        }
    }
}

impl From<&KeptWarning> for Exceeded {
    fn from(kept: &KeptWarning) -> Self {
        let KeptWarning { policy, action, limit, cost, used, requested, max, retry_after, message } = kept;
        let amount = |amount: &u64| match cost {
            true => Amount::Cost(Cost::from_millionths(*amount)),
            false => Amount::Calls(*amount),
        };
        Self {
            policy_id: *policy,
            action: *action,
            limit: limit.to_string().into(),
            used: amount(used),
            requested: amount(requested),
            max: amount(max),
            retry_after: *retry_after,
            message: message.to_string(),
        }
    }
}

/// The verdict of the policies on a call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BudgetCheck {
    /// The most severe of the exceeded policies that deny the call; of equals the oldest.
    pub denied_by: Option<Box<Exceeded>>,
    /// What else they say. About most calls they say nothing.
    pub notes: Option<Box<BudgetNotes>>,
}

/// What policies say about a call besides whether they deny it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BudgetNotes {
    /// Exceeded policies that only warn, oldest first, at most as many as an answer shows.
    pub warnings: Vec<Exceeded>,
    /// How many warnings are not shown.
    pub more_warnings: usize,
    /// The scoped policies among those that were checked, by the numbers of the events that created them.
    pub scoped: Vec<u64>,
    /// The thresholds that the call reaches, if it is allowed.
    pub crossed: Vec<Crossed>,
    /// The instance policies that the call is charged to, by their numbers.
    pub instance: Vec<u64>,
}

impl BudgetCheck {
    fn notes(&mut self) -> &mut BudgetNotes {
        self.notes.get_or_insert_default()
    }

    /// Adds what one policy says.
    fn add(&mut self, standing: &PolicyAt<'_>, cost: Cost, trace: &mut impl Trace) {
        let policy = standing.policy;
        let meters = standing.meters(1, cost).inspect(|meter| trace.step(|| step(policy, meter)));
        let worst = longest_exceeded(meters).filter(|_| !policy.profile.disabled);
        // We make a sentence only if it is shown: thousands of policies may be exceeded.
        let action = policy.profile.action;
        match worst {
            Some(meter) if action == PolicyAction::Warn => {
                let notes = self.notes();
                if notes.warnings.len() < MAX_WARNINGS {
                    notes.warnings.push(Exceeded::new(policy, &meter, standing.now));
                } else {
                    notes.more_warnings += 1;
                }
            }
            Some(meter) => {
                if self.denied_by.as_ref().is_none_or(|denied| action > denied.action) {
                    self.denied_by = Some(Box::new(Exceeded::new(policy, &meter, standing.now)));
                }
                return;
            }
            None => {}
        }
        let crossed = standing.crossings(1, cost);
        if !crossed.is_empty() {
            self.notes().crossed.extend(crossed);
        }
    }
}

impl Tenant {
    /// Checks the call against all policies that it would charge.
    pub fn check_budgets<T: Trace>(
        &self,
        agent: &Agent,
        call: Call<'_>,
        cost: Cost,
        now: Timestamp,
        trace: &mut T,
    ) -> BudgetCheck {
        let mut check = BudgetCheck::default();
        if T::KEPT {
            self.explain_scopes(agent, call, trace);
        }
        let policies = self.policies_at(now);
        for place in self.policies_charging(agent, call) {
            let Some(policy) = policies.get(place as usize) else { continue };
            if policy.profile.terms.scope.is_some() {
                check.notes().scoped.push(policy.profile.id.seq());
            }
            policy.at(now, |standing| {
                // Meters are for whoever asks why, and for what they stop.
                if T::KEPT || !standing.is_far_from_limits(1, cost) {
                    check.add(standing, cost, trace);
                }
            });
        }
        check
    }

    /// Names the scoped policies that bind the agent and do not charge this call.
    fn explain_scopes(&self, agent: &Agent, call: Call<'_>, trace: &mut impl Trace) {
        let scoped = self.policies().iter().filter(|policy| policy.profile.terms.scope.is_some());
        for policy in scoped.filter(|policy| policy.binds(agent) && !policy.charges(agent, call)) {
            trace.step(|| Step {
                check: "note",
                passed: true,
                policy: Some(policy.profile.id),
                detail: "the policy is about other actions or resources".to_owned(),
                ..Step::default()
            });
        }
    }
}

fn step(policy: &Policy, meter: &Meter) -> Step {
    let Meter { name, used, requested, max, exceeded, .. } = meter;
    let disabled = if policy.profile.disabled { "; the policy is disabled" } else { "" };
    Step {
        check: "policy",
        passed: policy.profile.disabled || !exceeded,
        policy: Some(policy.profile.id),
        detail: format!("{name}: {used} of {max} used, {requested} requested{disabled}"),
        ..Step::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Request;
    use crate::budget::policy_commands::{CreatePolicy, NewPolicy};
    use crate::delegation::example_tests::{World, permissions};

    #[test]
    fn warnings_beyond_the_limit_are_counted() {
        let mut world = World::new(None);
        let agent = world.agent(permissions(r#"[{"resource":"*","actions":["*"]}]"#));
        let request = Request::new("read", "docs:1").unwrap();
        for count in 1..=MAX_WARNINGS + 4 {
            let new: NewPolicy = serde_json::from_str(r#"{"limits":{"maxCallsPerDay":0},"action":"warn"}"#).unwrap();
            world.run(CreatePolicy::parse(new).unwrap()).unwrap();
            let decision = world.peek(agent, &request);
            assert!(decision.allowed);
            assert_eq!(decision.warnings.len(), count.min(MAX_WARNINGS));
            assert_eq!(decision.more_warnings, count.saturating_sub(MAX_WARNINGS));
            let json = serde_json::to_value(&decision).unwrap();
            assert_eq!(json.get("moreWarnings").is_some(), count > MAX_WARNINGS, "{json}");
        }
    }
}

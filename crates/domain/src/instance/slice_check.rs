//! Whether a call's slices suffice. A tenant decides by what it has; what it lacks, it asks for before.

use crate::agent::Agent;
use crate::budget::cost::Cost;
use crate::budget::policy::PolicyAction;
use crate::budget::scope::Call;
use crate::decision::explain::{Step, Trace};
use crate::decision::request::Request;
use crate::id::PolicyId;
use crate::instance::amounts::Amounts;
use crate::instance::published::{InstancePolicy, InstanceSet};
use crate::tenant::{Caller, Tenant};
use crate::time::Timestamp;

/// What a decision goes by beside the tenant's state.
#[derive(Clone, Copy, Debug)]
pub struct Leases<'a> {
    /// The instance policies.
    pub set: &'a InstanceSet,
    /// Where the lender said that there is nothing left, and nothing has come back since.
    pub exhausted: &'a [Exhausted],
    /// Whether to take it that the lender has what is missing, unless it said otherwise.
    pub assume: bool,
}

/// That the lender has not so much left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted {
    /// The policy.
    pub policy: u64,
    /// What was asked for.
    pub least: Amounts,
    /// When there may be so much again at the latest; `None` is never.
    pub fits_at: Option<Timestamp>,
    /// When to ask again, if nothing happens before; `None` is never.
    pub until: Option<Timestamp>,
}

/// What a call lacks of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// The policy.
    pub policy: PolicyId,
    /// What the call needs.
    pub least: Amounts,
}

/// What the slices say to a call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SliceCheck {
    /// The most severe of the policies of which too little is left; of equals the oldest. It does not say how much others
    /// use.
    pub denied_by: Option<Drained>,
    /// The policies that the call is charged to, by their numbers.
    pub charged: Vec<u64>,
}

/// A policy of which too little is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// The policy.
    pub policy: PolicyId,
    /// Its action.
    pub action: PolicyAction,
    /// Seconds until there may be more; `None` if that is unknown or never.
    pub retry_after: Option<u64>,
}

impl Drained {
    /// The sentence for the caller.
    pub fn message(&self) -> String {
        format!("Budget of instance policy {} exceeded", self.policy)
    }
}

impl Leases<'_> {
    /// What the lender said of so much, if that still holds.
    fn exhausted(&self, policy: u64, least: Amounts, now: Timestamp) -> Option<&Exhausted> {
        self.exhausted.iter().find(|known| {
            known.policy == policy && least.covers(known.least) && known.until.is_none_or(|until| now < until)
        })
    }
}

impl Tenant {
    /// What it lacks, if its slices don't suffice for this call: of the oldest policy of which something is missing. `None`
    /// also if the lender has nothing left, which decides the call.
    pub fn lacking(&self, caller: &Caller, request: &Request, now: Timestamp, leases: &Leases<'_>) -> Option<Need> {
        let agent = self.agent_of(caller, request).0?;
        let mut lacks = None;
        for policy in leases.set.charging(agent, Call::new(request.action(), request.resource())) {
            let Some(need) = self.missing(policy, request.cost.unwrap_or_default(), now) else { continue };
            if leases.exhausted(policy.number(), need.least, now).is_some() {
                return None;
            }
            lacks = lacks.or(Some(need));
        }
        lacks
    }

    /// What a call with that cost needs of a policy whose slice does not suffice.
    pub(super) fn missing(&self, policy: &InstancePolicy, cost: Cost, now: Timestamp) -> Option<Need> {
        let least = policy.limited(now).need(cost);
        let usable = self.slice(policy.number()).map(|slice| slice.usable(now)).unwrap_or_default();
        (!usable.covers(least)).then(|| Need { policy: policy.id(), least })
    }

    /// Whether the slices suffice for this call, and which they are.
    pub(crate) fn check_slices(
        &self,
        agent: &Agent,
        request: &Request,
        now: Timestamp,
        leases: &Leases<'_>,
        trace: &mut impl Trace,
    ) -> SliceCheck {
        let mut check = SliceCheck::default();
        for policy in leases.set.charging(agent, Call::new(request.action(), request.resource())) {
            check.charged.push(policy.number());
            let missing = self.missing(policy, request.cost.unwrap_or_default(), now);
            let exhausted = missing.and_then(|need| leases.exhausted(policy.number(), need.least, now));
            let passed = missing.is_none() || leases.assume && exhausted.is_none();
            trace.step(|| step(policy, passed, missing.is_some()));
            if passed {
                continue;
            }
            let action = policy.action();
            if check.denied_by.is_none_or(|denied| action > denied.action) {
                let fits_at = exhausted.and_then(|known| known.fits_at);
                let retry_after = fits_at.map(|fits| now.seconds_until(fits));
                check.denied_by = Some(Drained { policy: policy.id(), action, retry_after });
            }
        }
        check
    }
}

fn step(policy: &InstancePolicy, passed: bool, lacks: bool) -> Step {
    let detail = match (passed, lacks) {
        (true, false) => "the tenant has a slice of this instance policy with room for the call",
        (true, true) => "the tenant asks for a slice of this instance policy when the call is made",
        (false, _) => "nothing is left of this instance policy",
    };
    Step { check: "policy", passed, policy: Some(policy.id()), detail: detail.to_owned(), ..Step::default() }
}

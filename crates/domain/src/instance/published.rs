//! The instance policies as all tenants see them: which calls each is about, and what it limits. Nothing in them tells
//! how much is used.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::agent::Agent;
use crate::budget::calendar::Span;
use crate::budget::cost::Cost;
use crate::budget::policy::{PolicyAction, PolicyProfile};
use crate::budget::policy_limits::{Limits, Temporary};
use crate::budget::scope::{Call, Scope};
use crate::budget::scope_index::ScopeIndex;
use crate::id::PolicyId;
use crate::instance::amounts::Amounts;
use crate::tenant::Tenant;
use crate::time::Timestamp;

/// Places of policies in a set.
type Places = SmallVec<[u32; 8]>;

/// All instance policies. Those that are switched on limit calls.
#[derive(Debug, Default)]
pub struct InstanceSet {
    policies: Vec<InstancePolicy>,
    /// Those without a scope.
    everyone: Vec<u32>,
    scoped: ScopeIndex,
    /// Numbers of those that are switched off, in order. Slices of them are kept: they count on once it is on again.
    disabled: Vec<u64>,
}

/// An instance policy as all tenants see it.
#[derive(Clone, Debug)]
pub struct InstancePolicy {
    profile: Arc<PolicyProfile>,
}

/// What of a policy is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limited {
    /// Calls are.
    pub calls: bool,
    /// Cost is.
    pub cost: bool,
}

impl Limited {
    /// What these limits limit.
    pub fn by(limits: &Limits) -> Self {
        let calls = Span::ALL.into_iter().any(|span| limits.calls(span).is_some());
        let cost = Span::ALL.into_iter().any(|span| limits.cost(span).is_some());
        Self { calls, cost }
    }

    /// What one call with this cost needs. A limit that is used up stops even a call without cost, so each needs a
    /// little.
    pub fn need(self, cost: Cost) -> Amounts {
        let least = cost.max(Cost::from_millionths(1));
        Amounts { calls: u64::from(self.calls), cost: if self.cost { least } else { Cost::default() } }
    }
}

impl InstancePolicy {
    /// Its id.
    pub fn id(&self) -> PolicyId {
        self.profile.id
    }

    /// Number of the event in the default tenant that created it.
    pub fn number(&self) -> u64 {
        self.profile.id.seq()
    }

    /// What happens to a call for which nothing is left.
    pub fn action(&self) -> PolicyAction {
        self.profile.action
    }

    /// The calls it is about, if not all.
    pub fn scope(&self) -> Option<&Scope> {
        self.profile.terms.scope.as_deref()
    }

    /// When it was created.
    pub fn created_at(&self) -> Timestamp {
        self.profile.created_at
    }

    /// What it limits at `now`.
    pub fn limited(&self, now: Timestamp) -> Limited {
        Limited::by(&Temporary::at(self.profile.terms.temporary.as_deref(), &self.profile.limits, now))
    }

    fn charges(&self, agent: &Agent, call: Call<'_>) -> bool {
        self.scope().is_none_or(|scope| scope.matches(&agent.profile.spec.labels, call))
    }

    fn binds(&self, agent: &Agent) -> bool {
        self.scope().is_none_or(|scope| agent.profile.spec.labels.has_all(&scope.labels))
    }
}

impl InstanceSet {
    /// Of all of them, oldest first.
    fn of<'a>(profiles: impl Iterator<Item = &'a Arc<PolicyProfile>>) -> Self {
        let (disabled, enabled): (Vec<_>, Vec<_>) = profiles.partition(|profile| profile.disabled);
        let mut set = Self { disabled: disabled.iter().map(|profile| profile.id.seq()).collect(), ..Self::default() };
        for (place, profile) in (0..).zip(enabled) {
            match &profile.terms.scope {
                Some(scope) => set.scoped.insert(place, None, None, scope),
                None => set.everyone.push(place),
            }
            set.policies.push(InstancePolicy { profile: Arc::clone(profile) });
        }
        set
    }

    /// Whether there is none that is switched on.
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }

    /// All that are switched on, oldest first.
    pub fn policies(&self) -> &[InstancePolicy] {
        &self.policies
    }

    /// Whether there is a policy of that number, switched on or off.
    pub fn has(&self, number: u64) -> bool {
        self.policies.binary_search_by_key(&number, InstancePolicy::number).is_ok()
            || self.disabled.binary_search(&number).is_ok()
    }

    /// Those that charge this call of the agent, oldest first.
    pub fn charging(&self, agent: &Agent, call: Call<'_>) -> impl Iterator<Item = &InstancePolicy> {
        let mut places = Places::from_slice(&self.everyone);
        if !self.scoped.is_empty() {
            let spec = &agent.profile.spec;
            self.scoped.find((agent.profile.id, &spec.owner, &spec.labels), call, &mut places);
            places.sort_unstable();
            places.dedup();
        }
        places.into_iter().filter_map(|place| self.policies.get(place as usize)).filter(move |policy| {
            // A hash only says where to look.
            policy.scope().is_none() || policy.charges(agent, call)
        })
    }

    /// Numbers of those that a report of this agent charges which is about no call.
    pub fn charged_by_report(&self, agent: &Agent) -> Vec<u64> {
        self.charging(agent, Call::default()).map(InstancePolicy::number).collect()
    }

    /// Those that charge some calls of the agent, oldest first.
    pub fn binding(&self, agent: &Agent) -> impl Iterator<Item = &InstancePolicy> {
        self.policies.iter().filter(move |policy| policy.binds(agent))
    }
}

impl Tenant {
    /// Its instance policies. Only the default tenant has any.
    pub fn instance_set(&self) -> InstanceSet {
        InstanceSet::of(self.policies().iter().map(|policy| &policy.profile).filter(|profile| profile.terms.instance))
    }
}

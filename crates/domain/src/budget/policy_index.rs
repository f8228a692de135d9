//! Finds the policies that apply to an agent without looking at the others.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::FixedState;
use smallvec::SmallVec;

use crate::budget::policy::Policy;
use crate::budget::scope_index::ScopeIndex;
use crate::id::AgentId;

/// Places of policies by agent and owner. All of it is derived from the policies.
///
/// A lookup reads only its own entries. The policies are elsewhere in memory, and with many tenants not in any cache.
#[derive(Debug, Default)]
pub struct PolicyIndex {
    everyone: Vec<u32>,
    by_agent: HashMap<AgentId, Places, FixedState>,
    by_owner: HashMap<Arc<str>, Places, FixedState>,
    /// Policies that name an agent and the owner it must have.
    by_both: HashMap<AgentId, Vec<(u32, Arc<str>)>, FixedState>,
    /// Policies with a scope, which are in none of the others.
    scoped: ScopeIndex,
    /// Policies whose windows follow a time zone.
    zoned: Vec<u32>,
}

/// Most agents and owners have at most one policy of their own.
type Places = SmallVec<[u32; 2]>;

impl PolicyIndex {
    /// The index over these policies.
    pub fn build(policies: &[Policy]) -> Self {
        let mut index = Self::default();
        for (place, policy) in (0..).zip(policies) {
            index.insert(place, policy);
        }
        index
    }

    /// Adds the policy at that place.
    pub fn insert(&mut self, place: u32, policy: &Policy) {
        let profile = &policy.profile;
        if profile.terms.calendar.is_zoned() {
            self.zoned.push(place);
        }
        // Its calls are those of all tenants, which charge slices.
        if profile.terms.instance {
            return;
        }
        if let Some(scope) = &profile.terms.scope {
            return self.scoped.insert(place, profile.agent, profile.owner.as_deref(), scope);
        }
        match (profile.agent, &profile.owner) {
            (Some(agent), Some(owner)) => self.by_both.entry(agent).or_default().push((place, Arc::clone(owner))),
            (Some(agent), None) => self.by_agent.entry(agent).or_default().push(place),
            (None, Some(owner)) => self.by_owner.entry(Arc::clone(owner)).or_default().push(place),
            (None, None) => self.everyone.push(place),
        }
    }

    /// The policies with a scope.
    pub fn scoped(&self) -> &ScopeIndex {
        &self.scoped
    }

    /// Places of the policies whose windows follow a time zone, ascending.
    pub fn zoned(&self) -> &[u32] {
        &self.zoned
    }

    /// Places of the policies without a scope that apply to this owner's agent, ascending.
    pub fn about(&self, agent: AgentId, owner: &str) -> SmallVec<[u32; 8]> {
        let mut places = SmallVec::from_slice(&self.everyone);
        // Mostly one of each: a slice would take longer to append than what is in it.
        if !self.by_agent.is_empty() {
            self.by_agent.get(&agent).into_iter().flatten().for_each(|place| places.push(*place));
        }
        if !self.by_owner.is_empty() {
            self.by_owner.get(owner).into_iter().flatten().for_each(|place| places.push(*place));
        }
        if !self.by_both.is_empty() {
            let named = self.by_both.get(&agent).into_iter().flatten();
            places.extend(named.filter(|(_, own)| **own == *owner).map(|(place, _)| *place));
        }
        if !places.is_sorted() {
            places.sort_unstable();
        }
        places
    }
}

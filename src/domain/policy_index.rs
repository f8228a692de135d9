//! Which policies are about an agent, found without looking at the others.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::FixedState;
use smallvec::SmallVec;

use super::id::AgentId;
use super::policy::Policy;

/// Places of policies by what they are about. It is derived from the policies and holds no fact of its own.
#[derive(Debug, Default)]
pub struct PolicyIndex {
    everyone: Vec<u32>,
    by_agent: HashMap<AgentId, Vec<u32>, FixedState>,
    /// Those that name an owner and no agent.
    by_owner: HashMap<Arc<str>, Vec<u32>, FixedState>,
}

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
        match (policy.profile.agent, &policy.profile.owner) {
            (Some(agent), _) => self.by_agent.entry(agent).or_default().push(place),
            (None, Some(owner)) => self.by_owner.entry(Arc::clone(owner)).or_default().push(place),
            (None, None) => self.everyone.push(place),
        }
    }

    /// Places, ascending, of those of the policies that are about the agent of that owner.
    pub fn about(&self, agent: AgentId, owner: &str, policies: &[Policy]) -> SmallVec<[u32; 8]> {
        let mut places = SmallVec::from_slice(&self.everyone);
        if let Some(named) = self.by_agent.get(&agent) {
            // One that names both an agent and an owner is listed by its agent alone.
            let is_about =
                |place: &u32| policies.get(*place as usize).is_some_and(|policy| policy.is_about(agent, owner));
            places.extend(named.iter().copied().filter(is_about));
        }
        if let Some(owned) = self.by_owner.get(owner) {
            places.extend_from_slice(owned);
        }
        if !places.is_sorted() {
            places.sort_unstable();
        }
        places
    }
}

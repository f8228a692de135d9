//! Which policies a call charges, and which an event charged.
//!
//! A policy without a scope charges all calls of its agents, and which those are is found again whenever it is needed. A
//! scoped policy is matched once, when a call is decided. The event lists it, so that neither replay nor settlement
//! matches again, and no later change of labels or scope moves money.

use smallvec::SmallVec;

use crate::agent::Agent;
use crate::budget::scope::Call;
use crate::budget::settlement::UsageRecord;
use crate::event::Record;
use crate::tenant::Tenant;

/// Places of policies among the tenant's.
pub(crate) type Places = SmallVec<[u32; 8]>;

impl Tenant {
    /// Places of the policies that this call of the agent charges, oldest first.
    pub(crate) fn policies_charging(&self, agent: &Agent, call: Call<'_>) -> Places {
        let mut places = self.policies_about_owner(agent.profile.id, &agent.profile.spec.owner);
        let scoped = self.scoped_candidates(agent, call);
        if !scoped.is_empty() {
            let charges = |place: &u32| self.policy_at(*place).is_some_and(|policy| policy.charges(agent, call));
            places.extend(scoped.into_iter().filter(charges));
            places.sort_unstable();
        }
        places
    }

    /// The scoped policies that this call of the agent charges, by the numbers of the events that created them.
    pub(crate) fn scoped_policies(&self, agent: &Agent, call: Call<'_>) -> Vec<u64> {
        let candidates = self.scoped_candidates(agent, call);
        let policies = candidates.into_iter().filter_map(|place| self.policy_at(place));
        policies.filter(|policy| policy.charges(agent, call)).map(|policy| policy.profile.id.seq()).collect()
    }

    /// Places of the scoped policies to look at for this call of the agent, oldest first. Most match.
    pub(crate) fn scoped_candidates(&self, agent: &Agent, call: Call<'_>) -> Places {
        let (index, mut places) = (self.scope_index(), SmallVec::new());
        if !index.is_empty() {
            let spec = &agent.profile.spec;
            index.find((agent.profile.id, &spec.owner, &spec.labels), call, &mut places);
            places.sort_unstable();
            places.dedup();
        }
        places
    }

    /// Places of the policies that a decision charged, or would have.
    pub(crate) fn policies_of_decision(&self, record: &Record<'_>) -> Places {
        let (Some(agent), Some(owner)) = (record.agent, &record.owner) else { return SmallVec::new() };
        let scoped = record.extras.as_ref().map_or(&[][..], |extras| &extras.scoped);
        self.with_scoped(self.policies_about_owner(agent, owner), scoped)
    }

    /// Places of the policies that a usage report charges.
    pub(crate) fn policies_of_usage(&self, record: &UsageRecord) -> Places {
        self.with_scoped(self.policies_about_owner(record.agent, &record.owner), &record.scoped)
    }

    fn with_scoped(&self, mut places: Places, scoped: &[u64]) -> Places {
        places.extend(scoped.iter().filter_map(|number| self.place_of_policy(*number)));
        places
    }
}

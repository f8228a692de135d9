//! How many agents a policy is about.

use crate::agent::{Agent, AgentStatus};
use crate::budget::policy_commands::unknown_policy;
use crate::error::Error;
use crate::id::PolicyId;
use crate::tenant::Tenant;
use crate::time::Timestamp;

/// Of some of a tenant's agents, how many a policy is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Covered {
    /// How many of them.
    pub agents: usize,
    /// The place of the next agent to look at; `None` at the end.
    pub next: Option<usize>,
}

impl Tenant {
    /// How many of `most` agents, from the place `from` on, are active and bound by a policy. A tenant may have so many
    /// agents that nobody should wait until all were looked at.
    ///
    /// # Errors
    /// `POLICY_NOT_FOUND`.
    pub fn covered_by(&self, policy: PolicyId, from: usize, most: usize, now: Timestamp) -> Result<Covered, Error> {
        let known = self.policies().iter().find(|known| known.profile.id == policy);
        let policy = known.ok_or_else(|| unknown_policy(&policy.to_string()))?;
        let is_covered = |agent: &Agent| agent.profile.status(now) == AgentStatus::Active && policy.binds(agent);
        if let Some(only) = policy.profile.agent {
            let agents = usize::from(self.agent(only).is_some_and(is_covered));
            return Ok(Covered { agents, next: None });
        }
        let agents = self.agents().iter().skip(from).take(most).filter(|agent| is_covered(agent)).count();
        let end = from.saturating_add(most);
        Ok(Covered { agents, next: (end < self.agents().len()).then_some(end) })
    }
}

#[cfg(test)]
mod tests {
    use crate::budget::policy_commands::{CreatePolicy, NewPolicy};
    use crate::delegation::example_tests::{World, permissions};

    #[test]
    fn parts_add_up_to_the_whole() {
        let mut world = World::new(None);
        let new: NewPolicy = serde_json::from_str(r#"{"limits":{"maxCallsPerDay":1}}"#).unwrap();
        let policy = world.run(CreatePolicy::parse(new).unwrap()).unwrap().unwrap().policy.profile.id;
        for agents in 0..7 {
            for most in 1..9 {
                let (mut from, mut found) = (Some(0), 0);
                while let Some(place) = from {
                    let covered = world.tenant.covered_by(policy, place, most, world.now).unwrap();
                    (from, found) = (covered.next, found + covered.agents);
                }
                assert_eq!(found, agents);
            }
            world.agent(permissions(r#"[{"resource":"*","actions":["*"]}]"#));
        }
    }
}

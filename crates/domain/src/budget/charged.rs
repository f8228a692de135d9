//! Which policies a call charges, and which an event charged.
//!
//! A policy without a scope charges all calls of its agents, and which those are is found again whenever it is needed. A
//! scoped policy is matched once, when a call is decided. The event lists it, so that neither replay nor settlement
//! matches again, and no later change of labels or scope moves money.

use smallvec::SmallVec;

use crate::agent::Agent;
use crate::budget::hold::Hold;
use crate::budget::scope::Call;
use crate::budget::settlement::{HoldChange, UsageRecord};
use crate::event::Record;
use crate::tenant::Tenant;

/// Places of policies among the tenant's.
pub(crate) type Places = SmallVec<[u32; 8]>;

impl Tenant {
    /// Places of the policies that this call of the agent charges, oldest first.
    pub(crate) fn policies_charging(&self, agent: &Agent, call: Call<'_>) -> Places {
        let mut places = self.policies_about_owner(agent.profile.id, &agent.profile.spec.owner);
        if !self.scope_index().is_empty() {
            places.extend(self.scoped_charging(agent, call));
            places.sort_unstable();
        }
        places
    }

    /// Places of the scoped policies among them.
    fn scoped_charging(&self, agent: &Agent, call: Call<'_>) -> Places {
        let mut places = self.scoped_candidates(agent, call);
        places.retain(|place| self.policy_at(*place).is_some_and(|policy| policy.charges(agent, call)));
        places
    }

    /// The scoped policies that this call of the agent charges, by the numbers of the events that created them.
    pub(crate) fn scoped_policies(&self, agent: &Agent, call: Call<'_>) -> Vec<u64> {
        let policies = self.scoped_charging(agent, call).into_iter().filter_map(|place| self.policy_at(place));
        policies.map(|policy| policy.profile.id.seq()).collect()
    }

    /// Places of the scoped policies to look at for this call of the agent, oldest first. Most match.
    pub(crate) fn scoped_candidates(&self, agent: &Agent, call: Call<'_>) -> Places {
        let (spec, mut places) = (&agent.profile.spec, SmallVec::new());
        self.scope_index().find((agent.profile.id, &spec.owner, &spec.labels), call, &mut places);
        places.sort_unstable();
        places.dedup();
        places
    }

    /// Places of the policies that a decision charged, or would have.
    pub(crate) fn policies_of_decision(&self, record: &Record<'_>) -> Places {
        let (Some(agent), Some(owner)) = (record.agent, &record.owner) else { return SmallVec::new() };
        let scoped = record.extras.as_ref().map_or(&[][..], |extras| &extras.scoped);
        self.with_scoped(self.policies_about_owner(agent, owner), scoped)
    }

    /// Places of the policies that a usage report charges: a settlement none that was made after its decision. What
    /// prolongs a hold charges none.
    pub(crate) fn policies_of_usage(&self, record: &UsageRecord) -> Places {
        if let Some(HoldChange::Extended { .. }) = record.hold {
            return SmallVec::new();
        }
        let mut places = self.with_scoped(self.policies_about_owner(record.agent, &record.owner), &record.scoped);
        if let Some(decision) = &record.settles {
            let was_there = |place| self.policy_at(place).is_some_and(|policy| policy.profile.id.seq() <= decision.seq);
            places.retain(|place| was_there(*place));
        }
        places
    }

    /// Places of the policies that hold its cost, and of some made later.
    pub(crate) fn policies_of_hold(&self, hold: &Hold) -> Places {
        self.with_scoped(self.policies_about_owner(hold.agent, &hold.owner), &hold.scoped)
    }

    fn with_scoped(&self, mut places: Places, scoped: &[u64]) -> Places {
        places.extend(scoped.iter().filter_map(|number| self.place_of_policy(*number)));
        places
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::Request;
    use crate::agent::commands::AgentPatch;
    use crate::budget::policy_commands::{CreatePolicy, NewPolicy};
    use crate::delegation::example_tests::{World, permissions};
    use crate::id::AgentId;

    const ANYTHING: &str = r#"[{"resource":"*","actions":["*"]}]"#;

    fn policy(world: &mut World, json: &str) {
        let new: NewPolicy = serde_json::from_str(json).unwrap();
        world.run(CreatePolicy::parse(new).unwrap()).unwrap();
    }

    fn labels(world: &mut World, agent: AgentId, json: &str) {
        let patch: AgentPatch = serde_json::from_str(&format!(r#"{{"labels":{json}}}"#)).unwrap();
        world.patch(agent, patch).unwrap();
    }

    #[test]
    fn a_call_looks_only_at_the_policies_that_match() {
        let mut world = World::new(None);
        let agent = world.agent(permissions(ANYTHING));
        labels(&mut world, agent, r#"{"team":"t7","env":"p"}"#);
        for at in 0..300 {
            // All share a label, and differ in another, in the resource, or in the action.
            policy(
                &mut world,
                &format!(r#"{{"limits":{{"maxCallsPerDay":9}},"labels":{{"env":"p","team":"t{at}"}}}}"#),
            );
            policy(&mut world, &format!(r#"{{"limits":{{"maxCallsPerDay":9}},"resource":"docs:{at}:*"}}"#));
            policy(
                &mut world,
                &format!(r#"{{"limits":{{"maxCallsPerDay":9}},"labels":{{"env":"p"}},"actions":["a{at}"]}}"#),
            );
        }
        let known = world.tenant.agent(agent).unwrap();
        let candidates = world.tenant.scoped_candidates(known, Call::new("a3", "docs:5:x"));
        // The first policy may be found by the label that all share.
        assert!(candidates.len() <= 4, "{candidates:?}");
        let charging = world.tenant.policies_charging(known, Call::new("a3", "docs:5:x"));
        assert_eq!(charging.to_vec(), [11, 16, 21]);
    }

    #[test]
    fn later_labels_move_no_money() {
        let mut world = World::new(None);
        let agent = world.agent(permissions(ANYTHING));
        policy(&mut world, r#"{"limits":{"maxCallsPerDay":1},"labels":{"team":"a"}}"#);
        let request = Request::new("read", "docs:1").unwrap();
        assert!(world.peek(agent, &request).allowed);
        let charged = |world: &World| {
            world.tenant.scoped_policies(world.tenant.agent(agent).unwrap(), Call::new("read", "docs:1")).len()
        };
        assert_eq!(charged(&world), 0);
        labels(&mut world, agent, r#"{"team":"a"}"#);
        assert_eq!(charged(&world), 1);
        labels(&mut world, agent, "null");
        assert_eq!(charged(&world), 0);
    }

    fn scope() -> impl Strategy<Value = String> {
        let part = |name: &'static str, values: Vec<&'static str>| {
            prop::option::of(select(values)).prop_map(move |value| value.map(|value| format!(r#""{name}":{value}"#)))
        };
        let labels = vec![r#"{"a":"1"}"#, r#"{"a":"2"}"#, r#"{"a":"1","b":"1"}"#, r#"{"b":"1"}"#];
        let resources = vec![r#""docs:*""#, r#""docs:1""#, r#""*""#, r#""docs:*:x""#, r#""*:1""#];
        let actions = vec![r#"["read"]"#, r#"["read","write"]"#, r#"["*"]"#, r#"["*","read"]"#, r#"["write"]"#];
        (
            part("labels", labels),
            part("resource", resources),
            part("actions", actions),
            part("userId", vec![r#""user-1""#, r#""user-2""#]),
            any::<bool>(),
        )
            .prop_map(|(labels, resource, actions, owner, agent)| {
                let agent = agent.then(|| r#""agentId":"AGENT""#.to_owned());
                let parts: Vec<_> = [labels, resource, actions, owner, agent].into_iter().flatten().collect();
                parts.join(",")
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn the_index_finds_what_a_scan_finds(
            scopes in prop::collection::vec(scope(), 0..20),
            own in select(vec!["null", r#"{"a":"1"}"#, r#"{"a":"1","b":"1","c":"x"}"#, r#"{"a":"2"}"#]),
            action in prop::option::of(select(vec!["read", "write", "drop"])),
            resource in prop::option::of(select(vec!["docs:1", "docs:2:x", "mail", "docs::x", "mail:1"])),
        ) {
            let mut world = World::new(None);
            let agent = world.agent(permissions(ANYTHING));
            for scope in scopes {
                let scope = scope.replace("AGENT", &agent.to_string());
                let comma = if scope.is_empty() { "" } else { "," };
                policy(&mut world, &format!(r#"{{"limits":{{"maxCallsPerDay":9}}{comma}{scope}}}"#));
            }
            labels(&mut world, agent, own);
            let (agent, call) = (world.tenant.agent(agent).unwrap(), Call { action, resource });
            let places = (0u32..).zip(world.tenant.policies());
            let scanned: Vec<u32> =
                places.filter(|(_, policy)| policy.charges(agent, call)).map(|(place, _)| place).collect();
            prop_assert_eq!(world.tenant.policies_charging(agent, call).to_vec(), scanned);
        }
    }
}

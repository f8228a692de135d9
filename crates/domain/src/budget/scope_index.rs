//! Finds the scoped policies that match a call without looking at the others.
//!
//! It is the tuple space search of [`permission`](crate::permission), with more dimensions: policies are grouped by what
//! they name (an agent, an owner, labels, actions, and the shape of the resource), and within a group they are found by
//! one hash of all of it. Of a policy's labels it takes one, that which the fewest policies before it were found by. A
//! call looks into each group once for each label of its agent. So the cost follows the number of groups, a handful.

use std::collections::HashMap;
use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use smallvec::SmallVec;

use crate::agent::labels::Labels;
use crate::budget::scope::{Call, Scope};
use crate::id::AgentId;
use crate::permission::pattern::{Segments, Shape};
use crate::permission::{ANY_ACTION, append, hash_text, join};

/// Places of scoped policies. All of it is derived from the policies.
#[derive(Debug, Default)]
pub struct ScopeIndex {
    groups: Vec<(Named, HashMap<u64, Places, FixedState>)>,
    /// How many policies are found by a label, by its hash.
    found_by: HashMap<u64, u32, FixedState>,
}

type Places = SmallVec<[u32; 2]>;

/// What the policies of a group name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Named {
    agent: bool,
    owner: bool,
    label: bool,
    action: bool,
    resource: Option<Shape>,
}

impl ScopeIndex {
    /// Whether there are no scoped policies.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Adds the policy at that place, which names these.
    pub fn insert(&mut self, place: u32, agent: Option<AgentId>, owner: Option<&str>, scope: &Scope) {
        let rarest = scope.labels.iter().map(hash_label).min_by_key(|hash| self.found_by.get(hash).copied());
        if let Some(hash) = rarest {
            *self.found_by.entry(hash).or_default() += 1;
        }
        let named = Named {
            agent: agent.is_some(),
            owner: owner.is_some(),
            label: rarest.is_some(),
            action: !scope.actions.is_empty(),
            resource: scope.resource.as_ref().map(|pattern| pattern.shape()),
        };
        let literals = scope.resource.iter().flat_map(|pattern| pattern.literals()).map(hash_text);
        let key = join(agent.map(hash_agent).into_iter().chain(owner.map(hash_text)).chain(literals).chain(rarest));
        let group = match self.groups.iter_mut().position(|(own, _)| *own == named) {
            Some(at) => self.groups.get_mut(at),
            None => {
                self.groups.push((named, HashMap::default()));
                self.groups.last_mut()
            }
        };
        let Some((_, places)) = group else { return };
        if scope.actions.is_empty() {
            places.entry(key).or_default().push(place);
        }
        for action in &scope.actions {
            places.entry(append(key, hash_text(action))).or_default().push(place);
        }
    }

    /// Appends the places of policies that may match the call of an agent with that owner and these labels, each perhaps
    /// more than once. A hash only says where to look: the caller checks them.
    pub fn find(
        &self,
        (agent, owner, labels): (AgentId, &str, &Labels),
        call: Call<'_>,
        places: &mut SmallVec<[u32; 8]>,
    ) {
        let segments = call.resource.map(Segments::of);
        let segments = segments.as_ref().map(|segments| segments.as_slice());
        let hashes: SmallVec<[u64; 8]> = segments.into_iter().flatten().map(|segment| hash_text(segment)).collect();
        let labels: SmallVec<[u64; 8]> = labels.iter().map(hash_label).collect();
        let (agent, owner) = (hash_agent(agent), hash_text(owner));
        for (named, known) in &self.groups {
            if named.action && call.action.is_none() {
                continue;
            }
            let length = match (named.resource, segments) {
                (None, _) => 0,
                (Some(shape), Some(segments)) if shape.fits(segments.len()) => usize::from(shape.length),
                (Some(_), _) => continue,
            };
            let bits = named.resource.map_or(0, |shape| shape.literals);
            let literals = hashes.iter().take(length).enumerate().filter(|(at, _)| bits >> at & 1 == 1);
            let first = [(named.agent, agent), (named.owner, owner)].into_iter().filter(|(is_named, _)| *is_named);
            let key = join(first.map(|(_, hash)| hash).chain(literals.map(|(_, hash)| *hash)));
            let mut look = |key: u64| {
                let keys = match call.action.filter(|_| named.action) {
                    None => [Some(key), None],
                    Some(action) => [Some(append(key, hash_text(action))), Some(append(key, hash_text(ANY_ACTION)))],
                };
                keys.into_iter().flatten().filter_map(|key| known.get(&key)).for_each(|found| {
                    places.extend_from_slice(found);
                });
            };
            if named.label {
                labels.iter().for_each(|label| look(append(key, *label)));
            } else {
                look(key);
            }
        }
    }
}

fn hash_agent(agent: AgentId) -> u64 {
    FixedState::default().hash_one(agent)
}

fn hash_label((key, value): (&str, &str)) -> u64 {
    append(hash_text(key), hash_text(value))
}

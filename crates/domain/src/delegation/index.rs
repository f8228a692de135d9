//! Finds a tenant's delegations by id and by agent, and the open ones among them. All of it is derived from the state.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};

use foldhash::fast::FixedState;

use crate::delegation::{Delegation, DelegationSpec, position};
use crate::id::{AgentId, DelegationId};
use crate::time::Timestamp;

/// Links that a list of open ones may hold before its first sweep.
const SWEEP_LEAST: usize = 16;

/// Lookups of a tenant's links.
#[derive(Debug, Default)]
pub struct LinkIndex {
    by_id: HashMap<DelegationId, u32, FixedState>,
    arriving: HashMap<AgentId, Links, FixedState>,
    leaving: HashMap<AgentId, Links, FixedState>,
    pub(super) open: OpenLinks,
}

/// The links to one agent, or from it.
#[derive(Debug, Default)]
pub struct Links {
    all: Vec<u32>,
    open: OpenLinks,
}

/// The links that are not over, and some that are over but not yet swept out. So a decision looks at about as many
/// links as are open, not at all there ever were.
#[derive(Debug, Default)]
pub(super) struct OpenLinks {
    pub(super) places: Vec<u32>,
    sweep_at: usize,
    /// The latest time at which a link was left out. If the clock is set back before it, a missing link may be live.
    pub(super) swept: Timestamp,
}

pub(super) fn link_at(delegations: &[Delegation], place: u32) -> Option<&Delegation> {
    delegations.get(position(delegations, place)?)
}

impl OpenLinks {
    /// Adds a link newer than all of `known`, which include the ones listed here.
    fn add(&mut self, link: &Delegation, known: impl Iterator<Item = u32>, delegations: &[Delegation], at: Timestamp) {
        let is_open = |place: &u32| link_at(delegations, *place).is_some_and(|link| !link.is_over(at));
        if at < self.swept {
            self.places = known.filter(is_open).collect();
            (self.sweep_at, self.swept) = (self.places.len() * 2, at);
        } else if self.places.len() >= self.sweep_at.max(SWEEP_LEAST) {
            self.places.retain(is_open);
            // Twice as many as are left, so that sweeping costs a constant time for each link.
            (self.sweep_at, self.swept) = (self.places.len() * 2, at);
        }
        if !link.is_over(at) {
            self.places.push(link.place);
        } else if !link.revoked {
            self.swept = self.swept.max(at);
        }
    }
}

impl Links {
    /// All known links, oldest first.
    pub fn all(&self) -> &[u32] {
        &self.all
    }

    /// At least those that are not over at that time, oldest first.
    pub fn open(&self, at: Timestamp) -> &[u32] {
        if at < self.open.swept { &self.all } else { &self.open.places }
    }
}

impl LinkIndex {
    /// Builds the lookups for these links.
    pub fn build(delegations: &[Delegation], at: Timestamp) -> Self {
        let mut index = Self::default();
        for link in delegations {
            index.add(link, delegations, at);
        }
        index
    }

    /// Adds a link of `delegations` that is newer than all it has.
    pub fn add(&mut self, link: &Delegation, delegations: &[Delegation], at: Timestamp) {
        let (place, spec) = (link.place, &link.profile.spec);
        self.by_id.insert(link.profile.id, place);
        let (arriving, leaving) =
            (self.arriving.entry(spec.to).or_default(), self.leaving.entry(spec.from).or_default());
        for Links { all, open } in [&mut *arriving, &mut *leaving] {
            open.add(link, all.iter().copied(), delegations, at);
            all.push(place);
        }
        let before = delegations.iter().map(|link| link.place).take_while(|known| *known < place);
        self.open.add(link, before, delegations, at);
    }

    /// Forgets links that are over. They come in the order of their places.
    pub fn forget(&mut self, links: &[Delegation]) {
        let is_kept = |place: &u32| links.binary_search_by_key(place, |link| link.place).is_err();
        for link in links {
            self.by_id.remove(&link.profile.id);
        }
        // Searches for open links skip those that are missing.
        let ends =
            |end: fn(&DelegationSpec) -> AgentId| links.iter().map(move |link| end(&link.profile.spec)).collect();
        let (to, from): (HashSet<AgentId, FixedState>, HashSet<_, _>) = (ends(|spec| spec.to), ends(|spec| spec.from));
        for (lists, agents) in [(&mut self.arriving, to), (&mut self.leaving, from)] {
            for agent in agents {
                if let Entry::Occupied(mut list) = lists.entry(agent) {
                    list.get_mut().all.retain(is_kept);
                    if list.get().all.is_empty() {
                        list.remove();
                    }
                }
            }
        }
    }

    /// Notes that the link was revoked.
    pub fn close(&mut self, link: &Delegation) {
        // Only decisions are hot: the other lists are swept as they grow.
        if let Some(links) = self.arriving.get_mut(&link.profile.spec.to)
            && let Ok(at) = links.open.places.binary_search(&link.place)
        {
            links.open.places.remove(at);
        }
    }

    /// The place of the link with that id.
    pub fn place(&self, id: DelegationId) -> Option<u32> {
        self.by_id.get(&id).copied()
    }

    /// The links to that agent; `None` if there never was one.
    pub fn arriving(&self, agent: AgentId) -> Option<&Links> {
        self.arriving.get(&agent)
    }

    /// The links from that agent.
    pub fn leaving(&self, agent: AgentId) -> Option<&Links> {
        self.leaving.get(&agent)
    }

    /// These links, and all that stand on them, directly or not, and are not over. They fall together.
    ///
    /// A link stands on smaller places only. Going upwards, we know whether a link falls when we reach it, and look at
    /// an agent's outgoing links once, no matter how many of its incoming ones fall.
    pub fn falling_with<'d>(
        &self,
        first: Vec<u32>,
        at: Timestamp,
        link_at: impl Fn(u32) -> Option<&'d Delegation>,
    ) -> Vec<u32> {
        let mut fallen: HashSet<u32, FixedState> = first.iter().copied().collect();
        let mut waiting: BTreeSet<u32> = first.into_iter().collect();
        let mut agents: HashSet<AgentId, FixedState> = HashSet::default();
        let mut falling = Vec::new();
        while let Some(place) = waiting.pop_first() {
            let Some(link) = link_at(place) else { continue };
            let DelegationSpec { to, stands_on, .. } = &link.profile.spec;
            if !fallen.contains(&place) {
                if link.is_over(at) || !stands_on.iter().any(|below| fallen.contains(below)) {
                    continue;
                }
                fallen.insert(place);
            }
            falling.push(place);
            if agents.insert(*to) {
                let leaving = self.leaving(*to).map(|links| links.open(at)).unwrap_or_default();
                waiting.extend(leaving.iter().filter(|above| **above > place));
            }
        }
        falling
    }
}

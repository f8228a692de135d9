//! The graph of a tenant's delegations: which links are live, whether one more would close a circle, and how much a
//! decision has to walk.

use std::collections::{HashMap, HashSet};

use foldhash::fast::FixedState;

use crate::agent::AgentStatus;
use crate::delegation::index::{Links, link_at};
use crate::delegation::{Delegation, DelegationStatus};
use crate::id::{AgentId, DelegationId};
use crate::limits::MAX_CYCLE_SEARCH;
use crate::tenant::Tenant;
use crate::time::Timestamp;

/// The status of links at one moment, remembered, so that a graph with many paths is walked once.
#[derive(Default)]
pub struct Standing(HashMap<u32, DelegationStatus, FixedState>);

impl Standing {
    /// The status of the link at that place.
    pub fn of(&mut self, tenant: &Tenant, place: u32, at: Timestamp) -> DelegationStatus {
        let Some(link) = tenant.delegation_at(place) else { return DelegationStatus::Revoked };
        if link.is_over(at) {
            return if link.revoked { DelegationStatus::Revoked } else { DelegationStatus::Expired };
        }
        let spec = &link.profile.spec;
        let own = match tenant.agent(spec.from).map(|agent| agent.status(at)) {
            Some(AgentStatus::Active) => DelegationStatus::Active,
            Some(AgentStatus::Suspended) => DelegationStatus::Suspended,
            Some(AgentStatus::Expired) => DelegationStatus::Expired,
            Some(AgentStatus::Revoked) | None => DelegationStatus::Revoked,
        };
        if own != DelegationStatus::Active || spec.stands_on.is_empty() {
            return own;
        }
        if let Some(known) = self.0.get(&place) {
            return *known;
        }
        // Each link stands on smaller places only, so this ends; no chain is longer than `MAX_DELEGATION_DEPTH`.
        let mut below = spec.stands_on.iter().map(|below| self.of(tenant, *below, at));
        let status = below.find(|status| *status != DelegationStatus::Active).unwrap_or(own);
        self.0.insert(place, status);
        status
    }

    /// The status to show. A link to a revoked agent is revoked with it, unless it was over then. If the clock is set back
    /// before its end, only this tells it from a live one; no decision asks, since a revoked agent makes no calls.
    pub fn shown(&mut self, tenant: &Tenant, link: &Delegation, at: Timestamp) -> DelegationStatus {
        let to = tenant.agent(link.profile.spec.to);
        match self.of(tenant, link.place, at) {
            DelegationStatus::Active if to.is_none_or(|to| to.profile.revoked) => DelegationStatus::Revoked,
            status => status,
        }
    }
}

/// The search for a circle reached its limit of links.
#[derive(Debug)]
pub struct TooTangled;

impl Tenant {
    /// The link with that id.
    pub fn delegation(&self, id: DelegationId) -> Option<(u32, &Delegation)> {
        let place = self.links().place(id)?;
        self.delegation_at(place).map(|link| (place, link))
    }

    /// The link at that place.
    pub fn delegation_at(&self, place: u32) -> Option<&Delegation> {
        link_at(self.delegations(), place)
    }

    /// The links among these that are not over.
    pub(crate) fn open_links<'a>(
        &'a self,
        links: Option<&'a Links>,
        at: Timestamp,
    ) -> impl Iterator<Item = (u32, &'a Delegation)> + 'a {
        let places = links.map(|links| links.open(at)).unwrap_or_default();
        let found = places.iter().filter_map(|place| self.delegation_at(*place).map(|link| (*place, link)));
        found.filter(move |(_, link)| !link.is_over(at))
    }

    /// How many links of the tenant are not over.
    pub(crate) fn open_links_count(&self, at: Timestamp) -> usize {
        let open = &self.links().open;
        if at < open.swept {
            return self.delegations().iter().filter(|link| !link.is_over(at)).count();
        }
        let places = open.places.iter();
        places.filter(|place| self.delegation_at(**place).is_some_and(|link| !link.is_over(at))).count()
    }

    /// An upper bound of [`Tenant::open_links_count`], without counting.
    pub(crate) fn open_links_at_most(&self, at: Timestamp) -> usize {
        let open = &self.links().open;
        if at < open.swept { self.delegations().len() } else { open.places.len() }
    }

    /// Whether permissions of `to` may reach `from` through links that are not over, whatever the agents' status: a
    /// link from `from` to `to` would then close a circle.
    pub(crate) fn would_close_circle(&self, from: AgentId, to: AgentId, at: Timestamp) -> Result<bool, TooTangled> {
        let mut seen: HashSet<AgentId, FixedState> = HashSet::default();
        let mut agents = vec![from];
        let mut looked_at = 0;
        while let Some(agent) = agents.pop() {
            for (_, link) in self.open_links(self.links().arriving(agent), at) {
                let grantor = link.profile.spec.from;
                if grantor == to {
                    return Ok(true);
                }
                looked_at += 1;
                if looked_at > MAX_CYCLE_SEARCH {
                    return Err(TooTangled);
                }
                if seen.insert(grantor) {
                    agents.push(grantor);
                }
            }
        }
        Ok(false)
    }

    /// How much a decision that starts with these links may have to look at: their permissions and the links they stand
    /// on, and so on, each link once.
    pub(crate) fn weight_of(&self, links: Vec<u32>) -> usize {
        let mut seen: HashSet<u32, FixedState> = links.iter().copied().collect();
        let mut waiting = links;
        let mut weight = 0;
        while let Some(link) = waiting.pop().and_then(|place| self.delegation_at(place)) {
            let spec = &link.profile.spec;
            weight += spec.weight();
            waiting.extend(spec.stands_on.iter().filter(|below| seen.insert(**below)));
        }
        weight
    }
}

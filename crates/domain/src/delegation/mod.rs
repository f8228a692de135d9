//! A delegation: a link through which one agent lends another permissions that it holds itself.
//!
//! A link never grants more than its grantor holds. It grants a call only if it is live, one of its permissions grants
//! the call, and the grantor could make the call now, by a permission of its own or by a link this one stands on. The
//! algorithm is in [`search`].

pub mod commands;
#[cfg(test)]
pub(crate) mod example_tests;
pub mod graph;
pub mod index;
#[cfg(test)]
mod limit_tests;
#[cfg(test)]
mod model_tests;
pub mod search;

use std::sync::Arc;

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{AgentId, DelegationId};
use crate::permission::PermissionSet;
use crate::permission::rate_window::RateWindow;
use crate::time::Timestamp;

/// Whether a link is live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum DelegationStatus {
    /// It is live.
    Active,
    /// It, an agent at its ends, or a link it stands on was revoked before it expired. That is final.
    Revoked,
    /// A grantor on the way is suspended: it rests until that one is activated.
    Suspended,
    /// Its `expiresAt` or that of a link it stands on has passed, or a grantor on the way has expired.
    Expired,
}

/// A checked delegation, with the facts found when it was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DelegationSpec {
    /// The grantor.
    pub from: AgentId,
    /// The agent that may use the grantor's permissions.
    pub to: AgentId,
    /// The lent permissions.
    pub permissions: PermissionSet,
    /// When it expires.
    pub expires_at: Option<Timestamp>,
    /// Links that a chain through this one may have, as its maker set it.
    pub max_depth: u32,
    /// The smallest `max_depth` on the way here.
    pub effective_max_depth: u32,
    /// Links of the longest chain that ends with this one.
    pub depth: u32,
    /// Places of the links to the grantor that were live, ascending. Each is smaller than this link's own place.
    pub stands_on: Vec<u32>,
}

impl DelegationSpec {
    /// How much a decision may have to look at for it: its permissions, and the links it stands on.
    pub fn weight(&self) -> usize {
        self.permissions.as_slice().len() + self.stands_on.len()
    }
}

/// A link without what calls and revocations change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DelegationProfile {
    /// The link's id.
    pub id: DelegationId,
    /// What it lends.
    pub spec: DelegationSpec,
    /// The earliest `expiresAt` of it and of all it stands on: from then on it is over.
    pub ends_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A link. A copy is cheap: copies share the profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delegation {
    /// The part that never changes.
    pub profile: Arc<DelegationProfile>,
    /// How many links the tenant had made before it. Grants and other links refer to it by this. Older snapshots lack
    /// it, and hold every link there ever was.
    #[serde(default)]
    pub place: u32,
    /// Whether it was revoked, or fell with an agent at its ends or with a link it stands on.
    pub revoked: bool,
    /// One window for each permission with `maxCallsPerHour`, in their order.
    pub windows: Vec<RateWindow>,
}

impl Delegation {
    /// A new link.
    pub fn new(place: u32, profile: DelegationProfile) -> Self {
        let windows = vec![RateWindow::default(); profile.spec.permissions.rated().len()];
        Self { profile: Arc::new(profile), place, revoked: false, windows }
    }

    /// Whether it can never be live again, whatever its grantors do.
    pub fn is_over(&self, at: Timestamp) -> bool {
        self.revoked || self.profile.ends_at.is_some_and(|ends| ends <= at)
    }

    /// The window of the permission at that position, if it has one.
    pub fn window(&self, permission: u32) -> Option<&RateWindow> {
        let at = self.profile.spec.permissions.rated().binary_search(&permission).ok()?;
        self.windows.get(at)
    }

    /// That window, for counting a call.
    pub fn window_mut(&mut self, permission: u32) -> Option<&mut RateWindow> {
        let at = self.profile.spec.permissions.rated().binary_search(&permission).ok()?;
        self.windows.get_mut(at)
    }
}

/// Position of the link with that place in a list ordered by place.
pub fn position(links: &[Delegation], place: u32) -> Option<usize> {
    let straight = place as usize;
    if links.get(straight).is_some_and(|link| link.place == place) {
        return Some(straight);
    }
    links.binary_search_by_key(&place, |link| link.place).ok()
}

/// Removes the oldest links that are over, until the rest of them weigh at most `max_weight`. No link live stands on
/// one that is over, so none misses a removed one.
pub fn forget_ended(links: &mut Vec<Delegation>, at: Timestamp, max_weight: usize) -> Vec<Delegation> {
    let mut weight = 0;
    let weighs_too_much = |link: &&Delegation| {
        weight += 1 + link.profile.spec.weight();
        weight > max_weight
    };
    let mut newest_first = links.iter().rev().filter(|link| link.is_over(at));
    let Some(last) = newest_first.find(weighs_too_much).map(|link| link.place) else { return Vec::new() };
    links.extract_if(.., |link| link.place <= last && link.is_over(at)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::TenantId;

    fn link(place: u32, ends_at: Option<i64>) -> Delegation {
        let created_at = Timestamp::from_millis(0);
        let agent = |number| AgentId::derive(created_at, number, TenantId::default().tag());
        let spec = DelegationSpec {
            from: agent(1),
            to: agent(2),
            permissions: PermissionSet::default(),
            expires_at: None,
            max_depth: 1,
            effective_max_depth: 1,
            depth: 1,
            stands_on: Vec::new(),
        };
        let id = DelegationId::derive(created_at, u64::from(place), TenantId::default().tag());
        Delegation::new(place, DelegationProfile { id, spec, ends_at: ends_at.map(Timestamp::from_millis), created_at })
    }

    #[test]
    fn the_oldest_ended_links_are_forgotten_and_the_others_are_found() {
        let ends = [Some(5), None, Some(10), Some(11), Some(1), Some(2), Some(3)];
        let mut links: Vec<_> = (0..).zip(ends).map(|(place, ends)| link(place, ends)).collect();
        let at = Timestamp::from_millis(10);
        let places = |links: &[Delegation]| links.iter().map(|link| link.place).collect::<Vec<_>>();
        // Each of them weighs one.
        assert!(forget_ended(&mut links, at, 5).is_empty());
        assert_eq!(places(&forget_ended(&mut links, at, 2)), [0, 2, 4]);
        assert_eq!(places(&links), [1, 3, 5, 6]);
        for place in 0..9 {
            let found = position(&links, place).map(|at| links[at].place);
            assert_eq!(found, [1, 3, 5, 6].contains(&place).then_some(place));
        }
        assert!(forget_ended(&mut links, at, 2).is_empty());
    }
}

//! A delegation: a link by which one agent lends another permissions that it holds itself.
//!
//! A link never holds more than its grantor. It grants a call only while it is live, one of its permissions grants
//! the call, and the grantor would be granted it now by a permission of its own or by a link this one stands on.
//! How that is found out is in [`super::effective`].

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::id::{AgentId, DelegationId};
use super::permission::PermissionSet;
use super::rate::RateWindow;
use super::time::Timestamp;

/// Whether a link counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DelegationStatus {
    /// It does.
    Active,
    /// It, an agent at its ends, or a link it stands on was revoked before it was over by itself. That is final.
    Revoked,
    /// Its `expiresAt` or that of a link it stands on has passed, or a grantor on the way has expired.
    Expired,
}

/// A checked delegation, with what was found out when it was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DelegationSpec {
    /// The grantor.
    pub from: AgentId,
    /// The agent that may use the grantor's permissions.
    pub to: AgentId,
    /// What of them.
    pub permissions: PermissionSet,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// Links a chain through this one may have, as its maker said.
    pub max_depth: u32,
    /// The same, by whoever said least on the way.
    pub effective_max_depth: u32,
    /// Links of the longest chain that ends with this one.
    pub depth: u32,
    /// Places of the links that were live into the grantor, ascending. Each is smaller than this link's own place.
    pub stands_on: Vec<u32>,
}

/// A link but for what calls and revocations change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DelegationProfile {
    /// Its id.
    pub id: DelegationId,
    /// What it says.
    pub spec: DelegationSpec,
    /// The first `expiresAt` of it and of all it stands on: from then on it never counts again.
    pub ends_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A link. A copy is cheap: copies share the profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delegation {
    /// All that never changes.
    pub profile: Arc<DelegationProfile>,
    /// Whether it was revoked, or fell with an agent at its ends or with a link it stands on.
    pub revoked: bool,
    /// One window for each permission with `maxCallsPerHour`, in their order.
    pub windows: Vec<RateWindow>,
}

impl Delegation {
    /// A new link.
    pub fn new(profile: DelegationProfile) -> Self {
        let windows = vec![RateWindow::default(); profile.spec.permissions.rated().len()];
        Self { profile: Arc::new(profile), revoked: false, windows }
    }

    /// Whether it will never count again, whatever its grantors do.
    pub fn is_over(&self, at: Timestamp) -> bool {
        self.revoked || self.profile.ends_at.is_some_and(|ends| ends <= at)
    }

    /// The window of the permission at that position, where it has one.
    pub fn window(&self, permission: u32) -> Option<&RateWindow> {
        let at = self.profile.spec.permissions.rated().binary_search(&permission).ok()?;
        self.windows.get(at)
    }

    /// The same, to count in.
    pub fn window_mut(&mut self, permission: u32) -> Option<&mut RateWindow> {
        let at = self.profile.spec.permissions.rated().binary_search(&permission).ok()?;
        self.windows.get_mut(at)
    }
}

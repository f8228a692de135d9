//! An agent: its owner, its permissions, and whether it may work.

pub mod commands;
pub mod introspection;
pub mod labels;

use std::fmt;
use std::sync::Arc;

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::agent::labels::Labels;
use crate::id::AgentId;
use crate::permission::PermissionSet;
use crate::permission::rate_window::RateWindow;
use crate::secret::SecretHash;
use crate::time::Timestamp;
use crate::version::Version;

/// The type of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum AgentType {
    /// Acts on its own.
    Autonomous,
    /// Acts for a person or another agent.
    Delegated,
    /// A service's own account.
    Service,
}

impl fmt::Display for AgentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Autonomous => "autonomous",
            Self::Delegated => "delegated",
            Self::Service => "service",
        })
    }
}

/// Whether an agent may work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum AgentStatus {
    /// It may.
    Active,
    /// It was revoked, which is final.
    Revoked,
    /// It was suspended, until somebody activates it.
    Suspended,
    /// Its `expiresAt` has passed. A later `expiresAt` revives it.
    Expired,
}

/// Numbers of agents by status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub struct AgentCounts {
    /// Agents that are neither revoked nor expired. Suspended ones count too: they keep their place.
    pub active: usize,
    /// Revoked agents, expired or not.
    pub revoked: usize,
    /// Expired agents that are not revoked.
    pub expired: usize,
}

/// What a client says about an agent, checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentSpec {
    /// The user the agent belongs to, in the client's own words.
    pub owner: Arc<str>,
    /// A name for people to read.
    pub name: Box<str>,
    /// Its type.
    pub kind: AgentType,
    /// Its permissions. Agents with equal permissions share them.
    pub permissions: Arc<PermissionSet>,
    /// When it expires.
    pub expires_at: Option<Timestamp>,
    /// The client's own facts: a JSON object as compact text.
    pub metadata: Option<Box<str>>,
    /// Its labels.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

/// An agent without what every call changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentProfile {
    /// The agent's id.
    pub id: AgentId,
    /// What the client says about it.
    pub spec: AgentSpec,
    /// Hash of its current token.
    pub token: SecretHash,
    /// Older tokens that are still valid.
    pub graced: Vec<GracedToken>,
    /// Whether it was revoked.
    pub revoked: bool,
    /// Whether it was suspended and not activated since.
    #[serde(default, skip_serializing_if = "is_false")]
    pub suspended: bool,
    /// When it was created.
    pub created_at: Timestamp,
    /// When somebody last changed it.
    pub updated_at: Timestamp,
}

/// A token that a rotation replaced and left valid for a while.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GracedToken {
    /// The token's hash.
    pub token: SecretHash,
    /// The first moment at which it is no longer valid.
    pub until: Timestamp,
}

/// An agent. A copy is cheap: copies share the profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agent {
    /// The part that rarely changes.
    pub profile: Arc<AgentProfile>,
    /// When its last call was decided.
    pub last_active_at: Option<Timestamp>,
    /// One window for each permission with `maxCallsPerHour`, in their order.
    pub windows: Vec<RateWindow>,
}

// Serde passes a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl AgentProfile {
    /// Whether the agent may work at that time.
    pub fn status(&self, at: Timestamp) -> AgentStatus {
        if self.revoked {
            AgentStatus::Revoked
        } else if self.suspended {
            AgentStatus::Suspended
        } else if self.is_expired(at) {
            AgentStatus::Expired
        } else {
            AgentStatus::Active
        }
    }

    /// Whether its `expiresAt` has passed.
    pub fn is_expired(&self, at: Timestamp) -> bool {
        self.spec.expires_at.is_some_and(|expires| expires <= at)
    }

    /// Its version.
    pub fn version(&self) -> Version {
        Version::of(self)
    }

    /// Whether the token is valid for this agent at that time.
    pub fn accepts(&self, token: &SecretHash, at: Timestamp) -> bool {
        self.token.matches(token) || self.graced.iter().any(|old| old.token.matches(token) && at < old.until)
    }
}

impl Agent {
    /// A new agent.
    pub fn new(id: AgentId, spec: AgentSpec, token: SecretHash, at: Timestamp) -> Self {
        let windows = vec![RateWindow::default(); spec.permissions.rated().len()];
        let profile = AgentProfile {
            id,
            spec,
            token,
            graced: Vec::new(),
            revoked: false,
            suspended: false,
            created_at: at,
            updated_at: at,
        };
        Self { profile: Arc::new(profile), last_active_at: None, windows }
    }

    /// Whether the agent may work at that time.
    pub fn status(&self, at: Timestamp) -> AgentStatus {
        self.profile.status(at)
    }

    /// Takes a new spec. A permission that has not changed keeps its window.
    pub fn replace_spec(&mut self, spec: AgentSpec, at: Timestamp) {
        let mut old: Vec<_> = self
            .profile
            .spec
            .permissions
            .rated_permissions()
            .zip(std::mem::take(&mut self.windows))
            .map(Some)
            .collect();
        self.windows = spec
            .permissions
            .rated_permissions()
            .map(|permission| {
                let same = old.iter_mut().find(|kept| kept.as_ref().is_some_and(|(before, _)| *before == permission));
                same.and_then(Option::take).map(|(_, window)| window).unwrap_or_default()
            })
            .collect();
        drop(old);
        let profile = Arc::make_mut(&mut self.profile);
        profile.spec = spec;
        profile.updated_at = at;
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

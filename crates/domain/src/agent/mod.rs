//! An agent: whom it belongs to, what it may do, and whether it is live.

pub mod commands;
pub mod lookup;

use std::fmt;
use std::sync::Arc;

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::AgentId;
use crate::permission::PermissionSet;
use crate::permission::rate_window::RateWindow;
use crate::secret::SecretHash;
use crate::time::Timestamp;

/// How an agent works.
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

/// Whether an agent may be authorized at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum AgentStatus {
    /// It may.
    Active,
    /// It was revoked, which is final.
    Revoked,
    /// Its `expiresAt` has passed; moving that to the future revives it.
    Expired,
}

/// How many agents there are, by their status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub struct AgentCounts {
    /// Those that may work.
    pub active: usize,
    /// Those that were revoked, expired or not.
    pub revoked: usize,
    /// Others whose time has passed.
    pub expired: usize,
}

/// What a client says of an agent, checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentSpec {
    /// The user the agent belongs to, in the client's own words.
    pub owner: Arc<str>,
    /// A name for people.
    pub name: Box<str>,
    /// How it works.
    pub kind: AgentType,
    /// What it may do. Agents that may do the same share it.
    pub permissions: Arc<PermissionSet>,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// The client's own facts: a JSON object as compact text.
    pub metadata: Option<Box<str>>,
}

/// An agent but for what every call changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentProfile {
    /// Its id.
    pub id: AgentId,
    /// What the client says of it.
    pub spec: AgentSpec,
    /// Its token.
    pub token: SecretHash,
    /// Older tokens, each valid before that time.
    pub graced: Vec<GracedToken>,
    /// Whether it was revoked.
    pub revoked: bool,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was changed last, by whoever manages it.
    pub updated_at: Timestamp,
}

/// A token that a rotation replaced and left valid for a while.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GracedToken {
    /// Its hash.
    pub token: SecretHash,
    /// The first moment at which it is no longer valid.
    pub until: Timestamp,
}

/// An agent. A copy is cheap: copies share the profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agent {
    /// All that changes rarely.
    pub profile: Arc<AgentProfile>,
    /// When a call of it was decided last.
    pub last_active_at: Option<Timestamp>,
    /// One window for each permission with `maxCallsPerHour`, in their order.
    pub windows: Vec<RateWindow>,
}

impl AgentProfile {
    /// Whether the agent is live at that time.
    pub fn status(&self, at: Timestamp) -> AgentStatus {
        if self.revoked {
            AgentStatus::Revoked
        } else if self.spec.expires_at.is_some_and(|expires| expires <= at) {
            AgentStatus::Expired
        } else {
            AgentStatus::Active
        }
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
        let profile =
            AgentProfile { id, spec, token, graced: Vec::new(), revoked: false, created_at: at, updated_at: at };
        Self { profile: Arc::new(profile), last_active_at: None, windows }
    }

    /// Whether the agent is live at that time.
    pub fn status(&self, at: Timestamp) -> AgentStatus {
        self.profile.status(at)
    }

    /// Takes a new spec. A permission that was there before, unchanged, keeps its window.
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

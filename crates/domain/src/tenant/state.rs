//! The durable part of a tenant: what its snapshots hold.

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::agent::Agent;
use crate::budget::hold::Holds;
use crate::budget::policy::Policy;
use crate::budget::settlement::Settlements;
use crate::delegation::Delegation;
use crate::id::TenantId;
use crate::idempotency::memory::KeyMemory;
use crate::instance::lent::LentOut;
use crate::instance::slice::Slice;
use crate::permission::interning::read_agents;
use crate::tenant::key::ApiKey;
use crate::tenant::role::OperatorRole;
use crate::tenant::settings::TenantSettings;
use crate::text::Slug;
use crate::time::Timestamp;
use crate::version::Version;
use crate::webhook::Webhook;

/// Whether a tenant's agents may work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum TenantStatus {
    /// They may.
    #[default]
    Active,
    /// They may not; everything can still be read and repaired.
    Suspended,
}

/// A tenant's id, name, settings and status.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// The tenant's id; `null` for the default tenant.
    pub id: TenantId,
    /// The tenant's name.
    pub name: Box<str>,
    /// The tenant's slug; the default tenant has none.
    pub slug: Option<Slug>,
    /// The tenant's settings.
    pub settings: TenantSettings,
    /// Whether its agents may work.
    pub status: TenantStatus,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its name, settings or status last changed.
    pub updated_at: Timestamp,
}

impl Profile {
    /// Its version.
    pub fn version(&self) -> Version {
        Version::of(self)
    }
}

/// The durable part of a tenant: what a snapshot holds. A copy is cheap, since agents share their profiles.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Number of the last event in it; 0 before the first.
    pub seq: u64,
    /// Time of the last event in it.
    pub at: Timestamp,
    /// What the clock said then, if that differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall: Option<Timestamp>,
    /// The tenant's name, settings and status.
    pub profile: Profile,
    /// Its live API keys, oldest first.
    pub keys: Vec<ApiKey>,
    /// All its agents, oldest first. An agent's place never changes.
    #[serde(deserialize_with = "read_agents")]
    pub agents: Vec<Agent>,
    /// Its budget policies, oldest first.
    pub policies: Vec<Policy>,
    /// The settlements that it remembers.
    pub settlements: Settlements,
    /// Its open holds, and how the last of the others ended.
    #[serde(default, skip_serializing_if = "Holds::is_empty")]
    pub holds: Holds,
    /// All its delegations that are not over and the newest of the others, oldest first. A link's place never changes.
    #[serde(default)]
    pub delegations: Vec<Delegation>,
    /// The idempotency keys that it remembers.
    #[serde(default, skip_serializing_if = "KeyMemory::is_empty")]
    pub used_keys: KeyMemory,
    /// Its webhooks, oldest first, with their messages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub webhooks: Vec<Webhook>,
    /// Its slices of instance policies, by policy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slices: Vec<Slice>,
    /// What it has lent of its instance policies. Only the default tenant has any.
    #[serde(default, skip_serializing_if = "LentOut::is_empty")]
    pub lent: LentOut,
    /// The keys of operators that were made over the API, oldest first. Only the default tenant has some.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operator_keys: Vec<ApiKey<OperatorRole>>,
}

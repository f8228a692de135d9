//! The durable part of a tenant: what its snapshots hold.

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::agent::Agent;
use crate::budget::policy::Policy;
use crate::budget::settlement::Settlements;
use crate::delegation::Delegation;
use crate::id::TenantId;
use crate::permission::interning::read_agents;
use crate::tenant::key::ApiKey;
use crate::tenant::settings::Settings;
use crate::text::Slug;
use crate::time::Timestamp;

/// Whether a tenant's agents may work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum TenantStatus {
    /// They may.
    #[default]
    Active,
    /// They are stopped; everything can still be read and repaired.
    Suspended,
}

/// What a tenant says of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// Its id; `null` for the default tenant.
    pub id: TenantId,
    /// Its name.
    pub name: Box<str>,
    /// Its slug; the default tenant has none.
    pub slug: Option<Slug>,
    /// Its settings.
    pub settings: Settings,
    /// Whether its agents may work.
    pub status: TenantStatus,
    /// When it began.
    pub created_at: Timestamp,
    /// When its name, settings or status changed last.
    pub updated_at: Timestamp,
}

/// The durable part of a tenant: what a snapshot holds. A copy is cheap, since agents share their profiles.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Number of the last event in it; 0 before the first.
    pub seq: u64,
    /// Time of the last event in it.
    pub at: Timestamp,
    /// What the clock said then, where that was another time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall: Option<Timestamp>,
    /// The tenant itself.
    pub profile: Profile,
    /// Its live API keys, oldest first.
    pub keys: Vec<ApiKey>,
    /// All its agents, oldest first. An agent's place never changes.
    #[serde(deserialize_with = "read_agents")]
    pub agents: Vec<Agent>,
    /// Its budget policies, oldest first.
    pub policies: Vec<Policy>,
    /// What was settled.
    pub settlements: Settlements,
    /// Its delegations that are not over and the newest of those that are, oldest first. A link's place never changes.
    #[serde(default)]
    pub delegations: Vec<Delegation>,
}

//! A tenant's API key, as the tenant stores it.

use serde::{Deserialize, Serialize};

use crate::id::KeyId;
use crate::secret::SecretHash;
use crate::time::Timestamp;

/// A tenant's API key, as the tenant stores it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiKey {
    /// The key's id.
    pub id: KeyId,
    /// The key's name.
    pub name: Box<str>,
    /// The key's hash.
    pub hash: SecretHash,
    /// The first characters of the key.
    pub prefix: Box<str>,
    /// When it was created.
    pub created_at: Timestamp,
}

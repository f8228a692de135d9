//! A tenant's API key, as the tenant stores it.

use serde::{Deserialize, Serialize};

use crate::id::KeyId;
use crate::secret::SecretHash;
use crate::time::Timestamp;

/// A tenant key as the tenant keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiKey {
    /// Its id.
    pub id: KeyId,
    /// Its name.
    pub name: Box<str>,
    /// Its hash.
    pub hash: SecretHash,
    /// The start of its text.
    pub prefix: Box<str>,
    /// When it was made.
    pub created_at: Timestamp,
}

//! An API key, as the journal and the state hold it.

use serde::{Deserialize, Serialize};

use crate::id::KeyId;
use crate::secret::SecretHash;
use crate::tenant::role::KeyRole;
use crate::time::Timestamp;

/// A key of a tenant, or with [`OperatorRole`](crate::tenant::OperatorRole) one of an operator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    rename_all = "camelCase",
    bound(serialize = "R: Serialize + Default + PartialEq", deserialize = "R: Deserialize<'de> + Default")
)]
pub struct ApiKey<R = KeyRole> {
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
    /// What it may do. Older versions knew only admins.
    #[serde(default, skip_serializing_if = "is_default")]
    pub role: R,
    /// When it ends; `None` if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

impl<R> ApiKey<R> {
    /// Whether it has not ended at that time.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }
}

/// The one of these keys with that id.
pub(crate) fn find_key<R>(keys: &[ApiKey<R>], id: KeyId) -> Option<&ApiKey<R>> {
    keys.iter().find(|known| known.id == id)
}

/// Gives one of these keys that name and that end.
pub(crate) fn change_key<R>(keys: &mut [ApiKey<R>], id: KeyId, name: &str, expires_at: Option<Timestamp>) {
    if let Some(key) = keys.iter_mut().find(|known| known.id == id) {
        key.name = name.into();
        key.expires_at = expires_at;
    }
}

/// Whether a role is the one that all keys of older versions have, which takes no byte.
pub(crate) fn is_default<R: Default + PartialEq>(role: &R) -> bool {
    *role == R::default()
}

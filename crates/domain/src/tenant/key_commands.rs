//! The commands that create and revoke a tenant's API keys.

use crate::author::By;
use crate::error::{Code, Error};
use crate::event::Change;
use crate::id::KeyId;
use crate::limits::MAX_TENANT_KEYS;
use crate::moment::Moment;
use crate::secret::{Secret, SecretHash};
use crate::tenant::key::ApiKey;
use crate::tenant::{Command, Creates, Tenant};
use crate::text::parse_name;
use crate::time::Timestamp;

/// Creates a tenant key. The reply is the stored form.
pub struct CreateKey {
    name: Box<str>,
    hash: SecretHash,
    prefix: Box<str>,
}

impl CreateKey {
    /// A key with that name.
    ///
    /// # Errors
    /// `INVALID_FIELD` for a bad name.
    pub fn new(name: &str, secret: &Secret) -> Result<Self, Error> {
        Ok(Self { name: parse_name("name", name)?, hash: secret.hash(), prefix: secret.prefix() })
    }
}

impl Command for CreateKey {
    type Subject = KeyId;
    type Reply = Option<ApiKey>;

    fn decide(self, tenant: &Tenant, _: By, moment: Moment) -> Result<(Option<Change>, KeyId), Error> {
        if tenant.keys().len() >= MAX_TENANT_KEYS {
            let message = format!("the tenant has {MAX_TENANT_KEYS} API keys, the maximum; revoke one first");
            return Err(Error::new(Code::KeyLimitExceeded, message));
        }
        let key = KeyId::derive(moment.at, moment.seq, tenant.id().tag());
        Ok((Some(Change::KeyCreated { key, name: self.name, hash: self.hash, prefix: self.prefix }), key))
    }

    fn reply(tenant: &Tenant, key: KeyId, _: Timestamp) -> Option<ApiKey> {
        tenant.keys().iter().find(|known| known.id == key).cloned()
    }
}

impl Creates for CreateKey {
    fn made(tenant: &Tenant, change: &Change, now: Timestamp) -> Option<Self::Reply> {
        let Change::KeyCreated { key, .. } = change else { return None };
        Some(Self::reply(tenant, *key, now))
    }
}

/// Revokes a tenant key at once.
pub struct RevokeKey(
    /// The key.
    pub KeyId,
);

impl Command for RevokeKey {
    type Subject = ();
    type Reply = ();

    fn decide(self, tenant: &Tenant, _: By, _: Moment) -> Result<(Option<Change>, ()), Error> {
        if !tenant.keys().iter().any(|key| key.id == self.0) {
            return Err(Error::new(Code::KeyNotFound, format!("API key {} not found", self.0)));
        }
        Ok((Some(Change::KeyRevoked { key: self.0 }), ()))
    }

    fn reply(_: &Tenant, (): (), _: Timestamp) {}
}

//! The keys of operators besides the first. They are in the default tenant's journal, and every worker checks them
//! without asking it: see [`crate::actors::operator_keys`].

use tracing::error;

use super::kavach::{Kavach, make_secret};
use super::tenant_calls::lost;
use super::tenants::KeyWithSecret;
use crate::actors::Route;
use crate::actors::messages::KeyUse;
use crate::domain::tenant::key::ApiKey;
use crate::domain::tenant::key_commands::{CreateOperatorKey, RevokeOperatorKey, unknown_key};
use crate::domain::tenant::key_update::{KeyPatch, UpdateOperatorKey};
use crate::domain::{Error, KeyId, OperatorRole, Right, Secret, Tenant, TenantId, TenantRef, Timestamp};

/// Calls about operators' keys.
pub struct OperatorKeys<'a>(pub(super) &'a Kavach);

impl Kavach {
    /// Operators' keys.
    pub fn operator_keys(&self) -> OperatorKeys<'_> {
        OperatorKeys(self)
    }

    /// Makes the operators' keys known to all threads, unless the start found that there are none. Until then a key that
    /// is not the first is neither good nor bad.
    pub(crate) async fn load_operator_keys(&self) {
        if self.core.operators.are_known() {
            return;
        }
        // The default tenant publishes them when it is there.
        let route = Route { id: TenantId::DEFAULT, slug: None };
        if let Err(problem) = self.inspect(&route, |_, _| Ok(())).await {
            error!(%problem, "the default tenant can't be read, so of operators' keys only the first is good");
        }
    }
}

impl OperatorKeys<'_> {
    /// Creates an operator's key.
    ///
    /// # Errors
    /// `INVALID_FIELD`, `KEY_LIMIT_EXCEEDED`, `FORBIDDEN` for anyone but an operator with the role `admin`.
    pub async fn create(
        &self,
        name: &str,
        role: OperatorRole,
        expires_at: Option<Timestamp>,
    ) -> Result<KeyWithSecret<OperatorRole>, Error> {
        self.0.check_operator(Right::Operate)?;
        let secret = make_secret(Secret::operator_key)?;
        let command = CreateOperatorKey::new(name, role, expires_at, &secret)?;
        let key = self.0.execute_once(&self.home()?, command).await?.ok_or_else(lost)?;
        Ok(KeyWithSecret { key, secret: if self.0.repeated() { Secret::withheld() } else { secret } })
    }

    /// The operators' keys that were not revoked, oldest first, without their secrets. The first is not among them.
    ///
    /// # Errors
    /// `FORBIDDEN` for anyone but an operator.
    pub async fn list(&self) -> Result<Vec<KeyUse<OperatorRole>>, Error> {
        self.0.check_operator(Right::Oversee)?;
        let keys = self.0.inspect(&self.home()?, |tenant: &Tenant, _| Ok(tenant.operator_keys().to_vec())).await?;
        Ok(keys.into_iter().map(|key| self.with_use(key)).collect())
    }

    /// Changes a key's name and end.
    ///
    /// # Errors
    /// `KEY_NOT_FOUND`, `INVALID_FIELD`, `FORBIDDEN` for anyone but an operator with the role `admin`.
    pub async fn update(&self, key: &str, patch: KeyPatch) -> Result<KeyUse<OperatorRole>, Error> {
        self.0.check_operator(Right::Operate)?;
        let id = KeyId::parse(key).ok_or_else(|| unknown_key(key))?;
        let command = UpdateOperatorKey::parse(id, patch)?;
        let key = self.0.execute(&self.home()?, command).await?.ok_or_else(lost)?;
        Ok(self.with_use(key))
    }

    /// The key with when it was last used.
    fn with_use(&self, key: ApiKey<OperatorRole>) -> KeyUse<OperatorRole> {
        let last_used_at = self.0.core.operators.last_use(&key.hash);
        KeyUse { last_used_at, since: self.0.core.measures.started_at.max(key.created_at), key }
    }

    /// Revokes an operator's key at once. The first key has no id, and can't be revoked.
    ///
    /// # Errors
    /// `KEY_NOT_FOUND`, `FORBIDDEN` for anyone but an operator with the role `admin`.
    pub async fn revoke(&self, key: &str) -> Result<(), Error> {
        self.0.check_operator(Right::Operate)?;
        let id = KeyId::parse(key).ok_or_else(|| unknown_key(key))?;
        self.0.execute(&self.home()?, RevokeOperatorKey(id)).await
    }

    fn home(&self) -> Result<Route, Error> {
        self.0.tenant_in_path(&TenantRef::Default)
    }
}

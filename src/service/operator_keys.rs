//! The keys of operators besides the first. They are in the default tenant's journal, and every worker checks them
//! without asking it: see [`crate::actors::operator_keys`].

use tracing::error;

use super::kavach::{Kavach, make_secret};
use super::tenant_calls::lost;
use super::tenants::KeyWithSecret;
use crate::actors::Route;
use crate::actors::messages::KeyUse;
use crate::domain::tenant::key_commands::{CreateOperatorKey, RevokeOperatorKey, unknown_key};
use crate::domain::{Error, KeyId, OperatorRole, Right, Secret, Tenant, TenantId, TenantRef, Timestamp};

/// Calls about operators' keys.
pub struct OperatorKeys<'a>(pub(super) &'a Kavach);

impl Kavach {
    /// Operators' keys.
    pub fn operator_keys(&self) -> OperatorKeys<'_> {
        OperatorKeys(self)
    }

    /// Makes the operators' keys known to all threads, if there are any. Until then a key that is not the first is neither
    /// good nor bad.
    pub(crate) async fn load_operator_keys(&self) {
        let row = self.core.directory.known(TenantId::DEFAULT).and_then(|known| known.row());
        if row.is_some_and(|row| row.operator_keys == 0) {
            return self.core.operators.publish(&[]);
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
        let started_at = self.0.core.measures.started_at;
        let used = keys.into_iter().map(|key| KeyUse {
            last_used_at: self.0.core.operators.last_use(&key.hash),
            since: started_at.max(key.created_at),
            key,
        });
        Ok(used.collect())
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

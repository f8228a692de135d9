//! Tenants and their keys.

use tracing::info;

use super::kavach::{Kavach, make_secret};
use super::lists::{InRow, Page, PageRequest};
use super::tenant_calls::lost;
use crate::actors::messages::{KeyUse, ListKeys, OpenAudit};
use crate::actors::registry_messages::{CreateTenant, DeleteTenant, KeyClaim, SnapshotAll};
use crate::domain::tenant::commands::{NewTenant, SetStatus, TenantPatch, TenantSpec, UpdateTenant};
use crate::domain::tenant::key::ApiKey;
use crate::domain::tenant::key_commands::{CreateKey, RevokeKey, unknown_key};
use crate::domain::tenant::key_update::{KeyPatch, UpdateKey};
use crate::domain::tenant::{Profile, TenantStatus, first_profile};
use crate::domain::text::Slug;
use crate::domain::{
    Change, Code, Error, Event, KeyId, KeyRole, Moment, Right, Secret, Tenant, TenantId, TenantRef, Timestamp,
};
use crate::store::CatalogRow;

/// Number of the event that creates a tenant.
const FIRST_EVENT: u64 = 1;

/// Calls about tenants.
pub struct Tenants<'a>(pub(super) &'a Kavach);

/// A key with its secret, which is never shown again.
#[derive(Clone, Debug)]
pub struct KeyWithSecret<R = KeyRole> {
    /// The key, as it is stored.
    pub key: ApiKey<R>,
    /// The secret.
    pub secret: Secret,
}

impl Kavach {
    /// Tenants and their keys.
    pub fn tenants(&self) -> Tenants<'_> {
        Tenants(self)
    }
}

impl Tenants<'_> {
    /// Creates a tenant.
    ///
    /// # Errors
    /// `INVALID_FIELD`, `SLUG_TAKEN`, `FORBIDDEN` for anyone but an operator; with a key also `IDEMPOTENCY_KEY_REUSED`, and
    /// `IDEMPOTENCY_KEY_IN_USE` while the tenant is being made.
    pub async fn create(&self, new: NewTenant) -> Result<Profile, Error> {
        self.0.check_operator(Right::Operate)?;
        self.0.check_phase()?;
        let spec = TenantSpec::parse(new)?;
        let (claim, first) = self.claim().await?;
        if let Some(first) = first {
            return Ok(first);
        }
        let registry = self.0.core.registry().ok_or_else(not_started)?;
        let (by, author) = (self.0.operator(), self.0.author());
        let reason = self.0.reason.as_deref().map(Into::into);
        let message = CreateTenant { spec, by, author, reason, claim };
        let made = registry.create.send(message).await.unwrap_or_else(|_| Err(not_started()));
        let profile = match made {
            // It may have been made since we looked.
            Err(error) if matches!(error.code(), Code::SlugTaken | Code::IdempotencyKeyInUse) => {
                return self.claim().await?.1.ok_or(error);
            }
            made => made?,
        };
        info!(tenant = %profile.id, slug = profile.slug.as_ref().map(Slug::as_str), "created a tenant");
        Ok(profile)
    }

    /// How to claim the request's key, if it has one, or the answer if the request is a repeat. The default tenant
    /// remembers the key, since a new tenant's name is part of the request.
    async fn claim(&self) -> Result<(Option<KeyClaim>, Option<Profile>), Error> {
        let Some(key) = self.0.request_key() else { return Ok((None, None)) };
        let default = self.0.tenant_in_path(&TenantRef::Default)?;
        let requested = |entry, _: Moment, event: &Event<'_>| match event {
            Event::Changed(record) => match record.change {
                Change::TenantRequested { tenant, .. } => Some((entry, tenant)),
                _ => None,
            },
            Event::Decided(_) | Event::Used(_) | Event::Delivered(_) | Event::Leased(_) => None,
        };
        let first = self.0.first_event(&default, requested).await?;
        if let Some((_, tenant)) = first
            && let Some(profile) = self.as_made(tenant).await?
        {
            self.0.note_repeat();
            return Ok((None, Some(profile)));
        }
        // A claim without its tenant: the server ended before it made that, or the tenant was erased, or it is being made.
        let failed = first.map(|(entry, _)| entry);
        Ok((Some(KeyClaim { credential: self.0.credential, key, failed }), None))
    }

    /// The tenant as it was when it was made; `None` if it is not there.
    async fn as_made(&self, id: TenantId) -> Result<Option<Profile>, Error> {
        let Some(route) = self.0.core.directory.living(id) else { return Ok(None) };
        let credential = self.0.credential;
        let trail = self.0.ask(&route, |reply| OpenAudit { credential, right: Right::Read, reply }).await?;
        let look = move || {
            trail.look_at(FIRST_EVENT, |moment, event| match event {
                Event::Changed(record) => first_profile(moment, record),
                Event::Decided(_) | Event::Used(_) | Event::Delivered(_) | Event::Leased(_) => None,
            })
        };
        self.0.read_trail(Some(id), look).await?.flatten().ok_or_else(lost).map(Some)
    }

    /// Tenants of any status, oldest first. A tenant key sees its own.
    ///
    /// # Errors
    /// `INVALID_TOKEN`, `INVALID_QUERY` for a malformed cursor.
    pub async fn list(&self, page: PageRequest) -> Result<Page<Profile>, Error> {
        let after = page.after(TenantId::parse)?;
        let mut selection = self.0.tenants_in_filter(None)?;
        selection.tenants.retain(|id| !id.is_default() && after.is_none_or(|after| *id > after));
        // They are in list order, so only the tenants of this page are asked.
        selection.tenants.truncate(page.most());
        let in_row = |row: &CatalogRow| InRow::Items(vec![row.profile.clone()]);
        let look = |tenant: &Tenant, _| vec![tenant.profile().clone()];
        let tenants = self.0.gather_list(selection, page.most(), |profile| profile.id, in_row, look).await?;
        Ok(Page::cut(tenants, page.limit, |profile| profile.id.to_string()))
    }

    /// A tenant by id or slug.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`.
    pub async fn get(&self, tenant: impl Into<TenantRef>) -> Result<Profile, Error> {
        let route = self.0.tenant_in_path(&tenant.into())?;
        self.0.inspect(&route, |tenant, _| Ok(tenant.profile().clone())).await
    }

    /// The tenant of the caller's own key or token.
    ///
    /// # Errors
    /// `INVALID_TOKEN`, also for an operator, who belongs to no tenant.
    pub async fn own(&self) -> Result<Profile, Error> {
        self.0.inspect_with(Right::Ask, &self.0.own_tenant()?, |tenant, _| Ok(tenant.profile().clone())).await
    }

    /// Changes a tenant's name and settings. Omitted fields keep their values.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, `INVALID_FIELD`, `PRECONDITION_FAILED`.
    pub async fn update(&self, tenant: impl Into<TenantRef>, patch: TenantPatch) -> Result<Profile, Error> {
        self.execute(tenant, self.0.if_unchanged(UpdateTenant(patch))).await
    }

    /// Suspends a tenant: every call of its agents is denied.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, `DEFAULT_TENANT_FIXED`, `PRECONDITION_FAILED`.
    pub async fn suspend(&self, tenant: impl Into<TenantRef>) -> Result<Profile, Error> {
        self.execute(tenant, self.0.if_unchanged(SetStatus(TenantStatus::Suspended))).await
    }

    /// Activates a suspended tenant.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, `PRECONDITION_FAILED`.
    pub async fn activate(&self, tenant: impl Into<TenantRef>) -> Result<Profile, Error> {
        self.execute(tenant, self.0.if_unchanged(SetStatus(TenantStatus::Active))).await
    }

    /// Erases a tenant with its agents and its audit trail. `confirm` must be its slug. The default tenant's audit trail
    /// records who did it first; if that fails, nothing is erased.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, `CONFIRMATION_REQUIRED`, `DEFAULT_TENANT_FIXED`, `PRECONDITION_FAILED`, or that the default tenant
    /// can't answer.
    pub async fn delete(&self, tenant: impl Into<TenantRef>, confirm: &str) -> Result<(), Error> {
        self.0.check_operator(Right::Operate)?;
        self.0.check_phase()?;
        let registry = self.0.core.registry().ok_or_else(not_started)?;
        let (credential, author) = (self.0.credential, self.0.author());
        let (confirm, reason) = (confirm.to_owned(), self.0.reason.as_deref().map(Into::into));
        let seen = self.0.seen();
        let message = DeleteTenant { tenant: tenant.into(), confirm, reason, seen, credential, author };
        registry.delete.send(message).await.unwrap_or_else(|_| Err(not_started()))
    }

    /// Creates an API key for a tenant, with that role and that end.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, `INVALID_FIELD`, `KEY_LIMIT_EXCEEDED`.
    pub async fn create_key(
        &self,
        tenant: impl Into<TenantRef>,
        name: &str,
        role: KeyRole,
        expires_at: Option<Timestamp>,
    ) -> Result<KeyWithSecret, Error> {
        self.0.check_operator(Right::Operate)?;
        let route = self.0.tenant_in_path(&tenant.into())?;
        let secret = make_secret(|random| Secret::tenant_key(route.id, random))?;
        let command = CreateKey::new(name, &secret)?.with_role(role).until(expires_at);
        let key = self.0.execute_once(&route, command).await?.ok_or_else(lost)?;
        Ok(KeyWithSecret { key, secret: if self.0.repeated() { Secret::withheld() } else { secret } })
    }

    /// A tenant's API keys that were not revoked, without their secrets.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`.
    pub async fn keys(&self, tenant: impl Into<TenantRef>) -> Result<Vec<KeyUse>, Error> {
        let route = self.0.tenant_in_path(&tenant.into())?;
        let credential = self.0.credential;
        self.0.ask(&route, |reply| ListKeys { credential, reply }).await
    }

    /// Changes an API key's name and end.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, `KEY_NOT_FOUND`, `INVALID_FIELD`.
    pub async fn update_key(&self, tenant: impl Into<TenantRef>, key: &str, patch: KeyPatch) -> Result<KeyUse, Error> {
        let id = KeyId::parse(key).ok_or_else(|| unknown_key(key));
        self.0.check_operator(Right::Operate)?;
        let route = self.0.tenant_in_path(&tenant.into())?;
        let id = id?;
        self.0.execute(&route, UpdateKey::parse(id, patch)?).await?;
        // The list has when it was used.
        let credential = self.0.credential;
        let keys = self.0.ask(&route, |reply| ListKeys { credential, reply }).await?;
        keys.into_iter().find(|known| known.key.id == id).ok_or_else(|| unknown_key(key))
    }

    /// Revokes an API key at once.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, `KEY_NOT_FOUND`.
    pub async fn revoke_key(&self, tenant: impl Into<TenantRef>, key: &str) -> Result<(), Error> {
        let id = KeyId::parse(key).ok_or_else(|| unknown_key(key));
        self.0.check_operator(Right::Operate)?;
        let route = self.0.tenant_in_path(&tenant.into())?;
        self.0.execute(&route, RevokeKey(id?)).await
    }

    /// Writes a snapshot of every tenant now. Returns how many there are.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub async fn snapshot(&self) -> Result<usize, Error> {
        self.0.check_operator(Right::Operate)?;
        self.0.check_phase()?;
        let registry = self.0.core.registry().ok_or_else(not_started)?;
        registry.snapshot.send(SnapshotAll).await.unwrap_or_else(|_| Err(not_started()))
    }

    async fn execute<C>(&self, tenant: impl Into<TenantRef>, command: C) -> Result<Profile, Error>
    where
        C: crate::domain::Command<Reply = Profile> + Send + 'static,
    {
        self.0.check_operator(Right::Operate)?;
        let route = self.0.tenant_in_path(&tenant.into())?;
        self.0.execute(&route, command).await
    }
}

fn not_started() -> Error {
    Error::new(Code::NotReady, "the server has not started")
}

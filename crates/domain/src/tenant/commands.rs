//! Commands about the tenant itself.

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::Deserialize;

use crate::author::By;
use crate::error::{Code, Error};
use crate::event::Change;
use crate::id::TenantId;
use crate::moment::Moment;
use crate::tenant::if_unchanged::Versioned;
use crate::tenant::settings::{TenantSettings, TenantSettingsPatch};
use crate::tenant::{Command, Profile, Tenant, TenantStatus};
use crate::text::{Slug, parse_name};
use crate::time::Timestamp;
use crate::version::Version;

/// A tenant to create, as a request spells it.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NewTenant {
    /// The tenant's name.
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Name"))]
    pub name: String,
    /// Its short name in paths, fixed for good: words of lowercase letters and digits, joined by single hyphens.
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::SlugText"))]
    pub slug: String,
    /// Its settings.
    #[serde(default)]
    pub settings: Option<TenantSettingsPatch>,
}

/// A new tenant, checked.
#[derive(Clone, Debug)]
pub struct TenantSpec {
    name: Box<str>,
    slug: Option<Slug>,
    settings: TenantSettings,
}

impl TenantSpec {
    /// Reads a new tenant.
    ///
    /// # Errors
    /// `INVALID_FIELD`, naming the field.
    pub fn parse(new: NewTenant) -> Result<Self, Error> {
        let NewTenant { name, slug, settings } = new;
        Ok(Self {
            name: parse_name("name", &name)?,
            slug: Some(Slug::parse("slug", &slug)?),
            settings: settings.unwrap_or_default().merge(&TenantSettings::default())?,
        })
    }

    /// The default tenant, which exists from the first start.
    pub fn default_tenant() -> Self {
        Self { name: "Default".into(), slug: None, settings: TenantSettings::default() }
    }

    /// The new tenant's slug; the default tenant has none.
    pub fn slug(&self) -> Option<&Slug> {
        self.slug.as_ref()
    }

    /// The new tenant's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The tenant's first change.
    pub fn created(self, id: TenantId) -> Change {
        Change::TenantCreated { id, name: self.name, slug: self.slug, settings: self.settings }
    }
}

/// A change of a tenant: an omitted field keeps its value. The slug is fixed, since paths name tenants by it.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TenantPatch {
    /// A new name.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::Name>"))]
    pub name: Option<String>,
    /// Settings to merge.
    #[serde(default)]
    pub settings: Option<TenantSettingsPatch>,
}

/// Changes the tenant's name and settings.
pub struct UpdateTenant(
    /// The new values.
    pub TenantPatch,
);

impl Command for UpdateTenant {
    type Subject = ();
    type Reply = Profile;

    fn decide(self, tenant: &Tenant, _: By, _: Moment) -> Result<(Option<Change>, ()), Error> {
        let TenantPatch { name, settings } = self.0;
        let old = tenant.profile();
        let name = name.map_or_else(|| Ok(old.name.clone()), |name| parse_name("name", &name))?;
        let settings = settings.unwrap_or_default().merge(&old.settings)?;
        let changed = name != old.name || settings != old.settings;
        Ok((changed.then_some(Change::TenantUpdated { name, settings }), ()))
    }

    fn reply(tenant: &Tenant, (): (), _: Timestamp) -> Profile {
        tenant.profile().clone()
    }
}

impl Versioned for UpdateTenant {
    fn version(&self, tenant: &Tenant) -> Option<Version> {
        Some(tenant.profile().version())
    }
}

/// Suspends or activates the tenant.
pub struct SetStatus(
    /// The new status.
    pub TenantStatus,
);

impl Command for SetStatus {
    type Subject = ();
    type Reply = Profile;

    fn decide(self, tenant: &Tenant, _: By, _: Moment) -> Result<(Option<Change>, ()), Error> {
        if tenant.id().is_default() && self.0 == TenantStatus::Suspended {
            return Err(Error::new(Code::DefaultTenantFixed, "the default tenant can't be suspended"));
        }
        if tenant.profile().status == self.0 {
            return Ok((None, ()));
        }
        let change = match self.0 {
            TenantStatus::Active => Change::TenantActivated,
            TenantStatus::Suspended => Change::TenantSuspended,
        };
        Ok((Some(change), ()))
    }

    fn reply(tenant: &Tenant, (): (), _: Timestamp) -> Profile {
        tenant.profile().clone()
    }
}

impl Versioned for SetStatus {
    fn version(&self, tenant: &Tenant) -> Option<Version> {
        Some(tenant.profile().version())
    }
}

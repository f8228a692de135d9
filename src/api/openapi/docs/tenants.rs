//! Tenants and their keys.

use crate::api::openapi::{Docs, Tag};
use crate::api::responses::{KeyJson, TenantJson};
use crate::domain::Code::{
    ConfirmationRequired, DefaultTenantFixed, InvalidField, KeyLimitExceeded, KeyNotFound, SlugTaken, TenantNotFound,
};

fn docs(id: &'static str, summary: &'static str) -> Docs {
    Docs::new(Tag::Tenants, id, summary)
}

/// `POST /v1/tenants`
pub fn create() -> Docs {
    docs("createTenant", "Create a tenant")
        .about("The slug names the tenant in paths and can't be changed.")
        .created::<TenantJson>("The new tenant.")
        .fails(&[InvalidField, SlugTaken])
        .writes()
        .once()
}

/// `GET /v1/tenants`
pub fn list() -> Docs {
    docs("listTenants", "List tenants")
        .about("All but the default tenant, whatever their status, oldest first. A tenant key sees only its own.")
        .list::<TenantJson>("The tenants.")
}

/// `GET /v1/tenants/{tenant}`
pub fn get() -> Docs {
    docs("getTenant", "Get a tenant")
        .about("A tenant key sees only its own; the others do not exist for it.")
        .answers::<TenantJson>(200, "The tenant.")
        .tagged()
        .fails(&[TenantNotFound])
}

/// `PATCH /v1/tenants/{tenant}`
pub fn update() -> Docs {
    docs("updateTenant", "Change a tenant's name and settings")
        .about("What is left out stays. `null` clears a setting.")
        .answers::<TenantJson>(200, "The tenant as it is now.")
        .tagged()
        .fails(&[InvalidField, TenantNotFound])
        .writes()
}

/// `DELETE /v1/tenants/{tenant}`
pub fn delete() -> Docs {
    docs("deleteTenant", "Erase a tenant")
        .about("Erases the tenant with its agents, keys, budgets and its whole audit trail, for good. Who did it is noted in the default tenant's audit trail first, as `tenant.delete`.")
        .nothing("It is gone.")
        .fails(&[InvalidField, ConfirmationRequired, TenantNotFound, DefaultTenantFixed])
        .writes()
}

/// `POST /v1/tenants/{tenant}/suspend`
pub fn suspend() -> Docs {
    docs("suspendTenant", "Stop all agents of a tenant")
        .about("Every call is denied with `TENANT_SUSPENDED`. Its keys can still read and change things.")
        .answers::<TenantJson>(200, "The tenant as it is now.")
        .tagged()
        .fails(&[InvalidField, TenantNotFound, DefaultTenantFixed])
        .writes()
}

/// `POST /v1/tenants/{tenant}/activate`
pub fn activate() -> Docs {
    docs("activateTenant", "Let a tenant's agents work again")
        .about("Ends a suspension. A tenant that is active stays so.")
        .answers::<TenantJson>(200, "The tenant as it is now.")
        .tagged()
        .fails(&[TenantNotFound])
        .writes()
}

/// `POST /v1/tenants/{tenant}/keys`
pub fn create_key() -> Docs {
    docs("createTenantKey", "Create a tenant key")
        .about(
            "The key's text is in this answer only. It is good for its own tenant, as far as its role goes: an `admin` manages it, a `viewer` and an `approver` read it, a `caller` asks for decisions and reports usage.",
        )
        .answers::<KeyJson>(201, "The key, with its text.")
        .fails(&[InvalidField, TenantNotFound, KeyLimitExceeded])
        .writes()
        .once()
}

/// `GET /v1/tenants/{tenant}/keys`
pub fn keys() -> Docs {
    docs("listTenantKeys", "List a tenant's keys")
        .about("Those that were not revoked, also after their end, each with the prefix that it is known by.")
        .answers::<Vec<KeyJson>>(200, "The keys, without their text.")
        .fails(&[TenantNotFound])
}

/// `PATCH /v1/tenants/{tenant}/keys/{id}`
pub fn update_key() -> Docs {
    docs("updateTenantKey", "Change a tenant key")
        .about("A new name, or another end; `null` takes the end away. The key's text and its role stay. A key that has ended is good again with an end in the future.")
        .answers::<KeyJson>(200, "The key as it is now, without its text.")
        .fails(&[InvalidField, TenantNotFound, KeyNotFound])
        .writes()
}

/// `DELETE /v1/tenants/{tenant}/keys/{id}`
pub fn revoke_key() -> Docs {
    docs("revokeTenantKey", "Revoke a tenant key")
        .about("It is final, and counts from the next call on. Streams under way end.")
        .nothing("It is good for nothing from now on.")
        .fails(&[InvalidField, TenantNotFound, KeyNotFound])
        .writes()
}

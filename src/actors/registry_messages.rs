//! The messages to the registry, and the handle that sends them.

use actix::{Message, Recipient};

use super::homes::Home;
use super::tenant_directory::Seat;
use crate::domain::author::{Author, By};
use crate::domain::idempotency::key::RequestKey;
use crate::domain::tenant::Profile;
use crate::domain::tenant::commands::TenantSpec;
use crate::domain::{AuditId, Credential, Error, SeenVersions, TenantId, TenantRef};

/// Sends messages to the registry, for modules that must not depend on its type.
pub struct RegistryHandle {
    /// Creates a tenant.
    pub create: Recipient<CreateTenant>,
    /// Erases a tenant.
    pub delete: Recipient<DeleteTenant>,
    /// Finds out at the start which tenants there are.
    pub open: Recipient<OpenAll>,
    /// Reads a tenant into memory.
    pub wake: Recipient<Wake>,
    /// Writes a snapshot of every tenant.
    pub snapshot: Recipient<SnapshotAll>,
    /// Closes every tenant at the end.
    pub close: Recipient<CloseAll>,
}

/// Find out which tenants are in the data directory, and create the default one if it is missing.
#[derive(Message)]
#[rtype(result = "Result<(), String>")]
pub struct OpenAll;

/// Read a tenant into memory. Its calls wait in the mailbox meanwhile.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Wake {
    /// The tenant.
    pub id: TenantId,
    /// Its mailbox.
    pub seat: Seat,
    /// Where its actor will live.
    pub home: Home,
}

/// Create a tenant.
#[derive(Message)]
#[rtype(result = "Result<Profile, Error>")]
pub struct CreateTenant {
    /// The new tenant.
    pub spec: TenantSpec,
    /// The operator.
    pub by: By,
    /// What else we know about the operator.
    pub author: Option<Author>,
    /// The operator's reason, if given.
    pub reason: Option<Box<str>>,
    /// How to claim the request's idempotency key, if it has one.
    pub claim: Option<KeyClaim>,
}

/// An idempotency key that the default tenant is to remember before a tenant is created.
pub struct KeyClaim {
    /// The operator.
    pub credential: Credential,
    /// The key.
    pub key: RequestKey,
    /// The entry of an earlier claim by the same request, of which no tenant came.
    pub failed: Option<AuditId>,
}

/// Erase a tenant, its agents and its audit log.
#[derive(Message)]
#[rtype(result = "Result<(), Error>")]
pub struct DeleteTenant {
    /// The tenant.
    pub tenant: TenantRef,
    /// The tenant's slug, typed again.
    pub confirm: String,
    /// The caller's reason, if given.
    pub reason: Option<Box<str>>,
    /// What the operator has seen of it.
    pub seen: Option<SeenVersions>,
    /// The operator who erases it.
    pub credential: Credential,
    /// What else we know about that operator.
    pub author: Option<Author>,
}

/// Write a snapshot of every tenant now. Returns how many were written, or an error after trying all.
#[derive(Message)]
#[rtype(result = "Result<usize, Error>")]
pub struct SnapshotAll;

/// Close every tenant: everything on disk, with a snapshot each. New calls are refused from now on.
#[derive(Message)]
#[rtype(result = "()")]
pub struct CloseAll;

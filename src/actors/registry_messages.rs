//! The messages that the registry takes, and the handle that others send them by.

use actix::{Message, Recipient};

use crate::domain::author::Author;
use crate::domain::tenant::Profile;
use crate::domain::tenant::commands::TenantSpec;
use crate::domain::{Credential, Error, TenantRef};

/// Sends the registry its messages, for those who must not know the registry's own type.
pub struct RegistryHandle {
    /// Creates a tenant.
    pub create: Recipient<CreateTenant>,
    /// Erases a tenant.
    pub delete: Recipient<DeleteTenant>,
    /// Loads every tenant at the start.
    pub load: Recipient<LoadAll>,
    /// Writes a snapshot of every tenant.
    pub snapshot: Recipient<SnapshotAll>,
    /// Closes every tenant at the end.
    pub close: Recipient<CloseAll>,
}

/// Load every tenant of the data directory, and make the default one where it is not there.
#[derive(Message)]
#[rtype(result = "Result<(), String>")]
pub struct LoadAll;

/// Create a tenant.
#[derive(Message)]
#[rtype(result = "Result<Profile, Error>")]
pub struct CreateTenant(
    /// What it is.
    pub TenantSpec,
    /// What is known of who creates it.
    pub Option<Author>,
);

/// Erase a tenant, its agents and its audit log.
#[derive(Message)]
#[rtype(result = "Result<(), Error>")]
pub struct DeleteTenant {
    /// Which.
    pub tenant: TenantRef,
    /// Its slug, typed again.
    pub confirm: String,
    /// Why, where the caller said so.
    pub reason: Option<Box<str>>,
    /// The operator who erases it.
    pub credential: Credential,
    /// What else is known of who erases it.
    pub author: Option<Author>,
}

/// Write a snapshot of every tenant now. Answers how many were written, or an error once all were tried.
#[derive(Message)]
#[rtype(result = "Result<usize, Error>")]
pub struct SnapshotAll;

/// Close every tenant: all on disk, a snapshot each. New calls are refused from now on.
#[derive(Message)]
#[rtype(result = "()")]
pub struct CloseAll;

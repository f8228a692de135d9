//! `/v1/keys`: the keys of operators.

use actix_web::HttpResponse;
use actix_web::web::Path;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::auth::{Auditor, Operator};
use super::error::HandlerResult;
use super::idempotency::{Once, note_repeat};
use super::input::{Body, Query, Reason};
use super::responses;
use crate::actors::messages::KeyUse;
use crate::domain::tenant::key::ApiKey;
use crate::domain::tenant::key_update::KeyPatch;
use crate::domain::{KeyId, OperatorRole, Secret, Timestamp, schema};

/// The body of a request for a new operator key.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewOperatorKey {
    /// A name for people to read. The audit trail shows it with every change that the key makes.
    #[schemars(with = "schema::Name")]
    pub name: String,
    /// What it may do.
    pub role: OperatorRole,
    /// When it ends; without it, never.
    #[schemars(with = "Option<schema::Time>")]
    pub expires_at: Option<String>,
}

/// An operator's key. Only the answer to its creation has `key`.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "OperatorKey")]
pub struct OperatorKeyJson {
    /// The key's id, which is not a secret.
    id: KeyId,
    /// A name for people to read.
    name: Box<str>,
    /// The key itself, shown only this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// The start of the key, to recognize it by.
    prefix: Box<str>,
    /// What it may do.
    role: OperatorRole,
    /// When it ends.
    expires_at: Option<Timestamp>,
    /// When it was last used; `null` if it was not since `trackedSince`.
    last_used_at: Option<Timestamp>,
    /// Since when uses are noted: they are kept in memory, so a restart forgets those before it.
    tracked_since: Timestamp,
    /// When it was created.
    created_at: Timestamp,
}

impl OperatorKeyJson {
    fn listed(known: KeyUse<OperatorRole>) -> Self {
        let KeyUse { key, last_used_at, since } = known;
        let ApiKey { id, name, hash: _, prefix, created_at, role, expires_at } = key;
        Self { id, name, key: None, prefix, role, expires_at, last_used_at, tracked_since: since, created_at }
    }

    fn made(key: ApiKey<OperatorRole>, secret: &Secret) -> Self {
        let since = key.created_at;
        Self { key: Some(secret.reveal().to_owned()), ..Self::listed(KeyUse { key, last_used_at: None, since }) }
    }
}

/// `POST /v1/keys`
pub async fn create(Operator(kavach): Operator, new: Once<NewOperatorKey>) -> HandlerResult {
    let (kavach, NewOperatorKey { name, role, expires_at }) = new.of(kavach);
    let expires_at = expires_at.map(|text| Timestamp::parse("expiresAt", &text)).transpose()?;
    let made = kavach.operator_keys().create(&name, role, expires_at).await?;
    responses::json(note_repeat(&kavach, HttpResponse::Created()), &OperatorKeyJson::made(made.key, &made.secret))
}

/// `GET /v1/keys`
pub async fn list(Auditor(kavach): Auditor, (): ()) -> HandlerResult {
    let keys = kavach.operator_keys().list().await?;
    responses::json(HttpResponse::Ok(), &keys.into_iter().map(OperatorKeyJson::listed).collect::<Vec<_>>())
}

/// `PATCH /v1/keys/{id}`
pub async fn update(Operator(kavach): Operator, (key, Body(patch)): (Path<String>, Body<KeyPatch>)) -> HandlerResult {
    let changed = kavach.operator_keys().update(&key, patch).await?;
    responses::json(HttpResponse::Ok(), &OperatorKeyJson::listed(changed))
}

/// `DELETE /v1/keys/{id}`
pub async fn revoke(Operator(kavach): Operator, (key, Query(why)): (Path<String>, Query<Reason>)) -> HandlerResult {
    why.of(kavach)?.operator_keys().revoke(&key).await?;
    Ok(HttpResponse::NoContent().finish())
}

//! `/v1/tenants`, their keys, and `/v1/snapshot`.

use actix_web::{HttpRequest, HttpResponse, web::Path};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::auth::{Operator, Viewer};
use super::error::HandlerResult;
use super::idempotency::{Once, note_repeat};
use super::if_match::{IfMatch, versioned};
use super::input::{Body, Query, Reason, page};
use super::responses::{self, KeyJson, TenantJson};
use crate::domain::limits::MAX_PAGE;
use crate::domain::tenant::commands::{NewTenant, TenantPatch};
use crate::domain::tenant::key_update::KeyPatch;
use crate::domain::{KeyRole, TenantId, TenantRef, Timestamp, schema};

/// The paging fields of a query.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Paging {
    /// Items of a page. Without it, the whole list.
    #[schemars(range(min = 1, max = MAX_PAGE))]
    limit: Option<usize>,
    /// Where the previous page ended, from its `Link`.
    #[schemars(with = "Option<TenantId>")]
    cursor: Option<String>,
}

/// `?confirm={slug}&reason=...`
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Confirmation {
    /// The tenant's slug.
    #[schemars(with = "schema::SlugText", required)]
    confirm: Option<String>,
    /// Why, for the audit trail.
    #[schemars(with = "Option<schema::Name>")]
    reason: Option<String>,
}

/// The body of a request for a new key.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewKey {
    /// A name for people to read.
    #[schemars(with = "schema::Name")]
    pub name: String,
    /// What it may do.
    #[serde(default)]
    pub role: KeyRole,
    /// When it ends; without it, never.
    #[schemars(with = "Option<schema::Time>")]
    pub expires_at: Option<String>,
}

/// The answer to a snapshot.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Snapshot")]
pub struct SnapshotJson {
    /// How many tenants were written.
    tenants: usize,
}

/// `POST /v1/tenants`
pub async fn create(Operator(kavach): Operator, new: Once<NewTenant>) -> HandlerResult {
    let (kavach, new) = new.of(kavach);
    let tenant = kavach.tenants().create(new).await?;
    let location = format!("/v1/tenants/{}", tenant.id);
    let mut response = note_repeat(&kavach, HttpResponse::Created());
    response.insert_header(("Location", location));
    responses::json(response, &TenantJson::from(tenant))
}

/// `GET /v1/tenants`
pub async fn list(Viewer(kavach): Viewer, (request, Query(paging)): (HttpRequest, Query<Paging>)) -> HandlerResult {
    let tenants = kavach.tenants().list(page(paging.limit, paging.cursor)?).await?;
    responses::list(&request, tenants, TenantJson::from).await
}

/// `GET /v1/tenants/{tenant}`
pub async fn get(Viewer(kavach): Viewer, tenant: Path<String>) -> HandlerResult {
    let tenant = kavach.tenants().get(TenantRef::parse(&tenant)).await?;
    responses::json(versioned(tenant.version()), &TenantJson::from(tenant))
}

/// `PATCH /v1/tenants/{tenant}`
pub async fn update(
    Operator(kavach): Operator,
    (tenant, seen, Body(patch)): (Path<String>, IfMatch, Body<TenantPatch>),
) -> HandlerResult {
    let tenant = seen.of(kavach).tenants().update(TenantRef::parse(&tenant), patch).await?;
    responses::json(versioned(tenant.version()), &TenantJson::from(tenant))
}

/// `DELETE /v1/tenants/{tenant}?confirm={slug}`
pub async fn delete(
    Operator(kavach): Operator,
    (tenant, seen, Query(confirmation)): (Path<String>, IfMatch, Query<Confirmation>),
) -> HandlerResult {
    let Confirmation { confirm, reason } = confirmation;
    let (tenant, confirm) = (TenantRef::parse(&tenant), confirm.unwrap_or_default());
    seen.of(Reason { reason }.of(kavach)?).tenants().delete(tenant, &confirm).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// `POST /v1/tenants/{tenant}/suspend`
pub async fn suspend(
    Operator(kavach): Operator,
    (tenant, seen, Query(why)): (Path<String>, IfMatch, Query<Reason>),
) -> HandlerResult {
    let tenant = seen.of(why.of(kavach)?).tenants().suspend(TenantRef::parse(&tenant)).await?;
    responses::json(versioned(tenant.version()), &TenantJson::from(tenant))
}

/// `POST /v1/tenants/{tenant}/activate`
pub async fn activate(Operator(kavach): Operator, (tenant, seen): (Path<String>, IfMatch)) -> HandlerResult {
    let tenant = seen.of(kavach).tenants().activate(TenantRef::parse(&tenant)).await?;
    responses::json(versioned(tenant.version()), &TenantJson::from(tenant))
}

/// `POST /v1/tenants/{tenant}/keys`
pub async fn create_key(Operator(kavach): Operator, (tenant, new): (Path<String>, Once<NewKey>)) -> HandlerResult {
    let (kavach, NewKey { name, role, expires_at }) = new.of(kavach);
    let expires_at = expires_at.map(|text| Timestamp::parse("expiresAt", &text)).transpose()?;
    let made = kavach.tenants().create_key(TenantRef::parse(&tenant), &name, role, expires_at).await?;
    responses::json(note_repeat(&kavach, HttpResponse::Created()), &KeyJson::made(made.key, &made.secret))
}

/// `GET /v1/tenants/{tenant}/keys`
pub async fn keys(Viewer(kavach): Viewer, tenant: Path<String>) -> HandlerResult {
    let keys = kavach.tenants().keys(TenantRef::parse(&tenant)).await?;
    responses::json(HttpResponse::Ok(), &keys.into_iter().map(KeyJson::listed).collect::<Vec<_>>())
}

/// `PATCH /v1/tenants/{tenant}/keys/{id}`
pub async fn update_key(
    Operator(kavach): Operator,
    (path, Body(patch)): (Path<(String, String)>, Body<KeyPatch>),
) -> HandlerResult {
    let (tenant, key) = path.into_inner();
    let changed = kavach.tenants().update_key(TenantRef::parse(&tenant), &key, patch).await?;
    responses::json(HttpResponse::Ok(), &KeyJson::listed(changed))
}

/// `DELETE /v1/tenants/{tenant}/keys/{id}`
pub async fn revoke_key(
    Operator(kavach): Operator,
    (path, Query(why)): (Path<(String, String)>, Query<Reason>),
) -> HandlerResult {
    let (tenant, key) = path.into_inner();
    why.of(kavach)?.tenants().revoke_key(TenantRef::parse(&tenant), &key).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// `POST /v1/snapshot`
pub async fn snapshot(Operator(kavach): Operator, (): ()) -> HandlerResult {
    let tenants = kavach.tenants().snapshot().await?;
    responses::json(HttpResponse::Ok(), &SnapshotJson { tenants })
}

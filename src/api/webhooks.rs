//! `/v1/webhooks`.

use actix_web::{HttpRequest, HttpResponse, web::Path};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::auth::{Admin, Viewer};
use super::error::HandlerResult;
use super::idempotency::{Once, OnceWithoutBody, note_repeat};
use super::if_match::{IfMatch, versioned};
use super::input::{Body, Query, Reason, page};
use super::responses;
use crate::domain::limits::MAX_PAGE;
use crate::domain::webhook::commands::{DeliveryStatus, LastOutcome, NewWebhook, WebhookPatch, WebhookView};
use crate::domain::webhook::{WebhookFormat, WebhookStatus};
use crate::domain::{MessageId, TenantId, TenantRef, Timestamp, WebhookId, schema};
use crate::service::{DeliveryFilter, WebhookWithSecret};

/// The query of a list of webhooks.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WebhookQuery {
    /// Webhooks of that tenant: id, slug or `default`.
    #[schemars(with = "Option<schema::TenantName>")]
    tenant_id: Option<String>,
    /// Items of a page. Without it, the whole list.
    #[schemars(range(min = 1, max = MAX_PAGE))]
    limit: Option<usize>,
    /// Where the previous page ended, from its `Link`.
    #[schemars(with = "Option<WebhookId>")]
    cursor: Option<String>,
}

/// The query of a list of deliveries.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeliveryQuery {
    /// Deliveries that stand there.
    status: Option<DeliveryStatus>,
    /// Items of a page; 100 without it.
    #[schemars(range(min = 1, max = MAX_PAGE))]
    limit: Option<usize>,
    /// Where the previous page ended, from its `Link`.
    #[schemars(with = "Option<MessageId>")]
    cursor: Option<String>,
}

/// A webhook. `secret` is empty except in the answers to creation and rotation.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Webhook")]
pub struct WebhookJson {
    /// The webhook's id.
    id: WebhookId,
    /// The tenant that it is told about; `null` is the default one.
    tenant_id: TenantId,
    /// Where messages are sent. A tenant key sees only the host of one that an operator set.
    url: String,
    /// Which messages it is told.
    events: Vec<String>,
    /// How they are written.
    format: WebhookFormat,
    /// For people to read.
    description: Option<String>,
    /// Whether it is told anything.
    status: WebhookStatus,
    /// Messages that wait to be sent.
    pending: usize,
    /// Messages that were given up and are still listed.
    dead: usize,
    /// What became of the last attempt; `null` before the first. `failed` is known until the server stops.
    last_outcome: Option<LastOutcome>,
    /// When that was.
    last_outcome_at: Option<Timestamp>,
    /// Why it failed, in words.
    last_problem: Option<String>,
    /// When it was created.
    created_at: Timestamp,
    /// When it was last changed.
    updated_at: Timestamp,
    /// The secret that messages are signed with, `whsec_` and base64, shown only this once.
    secret: String,
}

impl From<WebhookView> for WebhookJson {
    fn from(view: WebhookView) -> Self {
        let WebhookView { tenant, profile, waiting, dead, last } = view;
        Self {
            id: profile.id,
            tenant_id: tenant,
            url: profile.spec.url.clone().into(),
            events: profile.spec.events.iter().map(|name| name.clone().into()).collect(),
            format: profile.spec.format,
            description: profile.spec.description.clone().map(Into::into),
            status: if profile.spec.disabled { WebhookStatus::Disabled } else { WebhookStatus::Active },
            pending: waiting,
            dead,
            last_outcome: last.as_ref().map(|last| last.outcome),
            last_outcome_at: last.as_ref().map(|last| last.at),
            last_problem: last.and_then(|last| last.problem).map(Into::into),
            created_at: profile.created_at,
            updated_at: profile.updated_at,
            secret: String::new(),
        }
    }
}

impl From<WebhookWithSecret> for WebhookJson {
    fn from(made: WebhookWithSecret) -> Self {
        Self { secret: made.secret.map(|secret| secret.reveal()).unwrap_or_default(), ..made.view.into() }
    }
}

/// `POST /v1/webhooks`
pub async fn create(Admin(kavach): Admin, new: Once<NewWebhook>) -> HandlerResult {
    let (kavach, new) = new.of(kavach);
    let made = kavach.webhooks().create(new).await?;
    let mut response = note_repeat(&kavach, HttpResponse::Created());
    response.insert_header(("Location", format!("/v1/webhooks/{}", made.view.profile.id)));
    responses::json(response, &WebhookJson::from(made))
}

/// `GET /v1/webhooks`
pub async fn list(
    Viewer(kavach): Viewer,
    (request, Query(query)): (HttpRequest, Query<WebhookQuery>),
) -> HandlerResult {
    let WebhookQuery { tenant_id, limit, cursor } = query;
    let tenant = tenant_id.as_deref().map(TenantRef::parse);
    let webhooks = kavach.webhooks().list(tenant, page(limit, cursor)?).await?;
    responses::list(&request, webhooks, WebhookJson::from).await
}

/// `GET /v1/webhooks/{id}`
pub async fn get(Viewer(kavach): Viewer, id: Path<String>) -> HandlerResult {
    let view = kavach.webhooks().get(&id).await?;
    responses::json(versioned(view.profile.version()), &WebhookJson::from(view))
}

/// `PATCH /v1/webhooks/{id}`
pub async fn update(
    Admin(kavach): Admin,
    (id, seen, Body(patch)): (Path<String>, IfMatch, Body<WebhookPatch>),
) -> HandlerResult {
    let view = seen.of(kavach).webhooks().update(&id, patch).await?;
    responses::json(versioned(view.profile.version()), &WebhookJson::from(view))
}

/// `DELETE /v1/webhooks/{id}`
pub async fn delete(
    Admin(kavach): Admin,
    (id, seen, Query(why)): (Path<String>, IfMatch, Query<Reason>),
) -> HandlerResult {
    seen.of(why.of(kavach)?).webhooks().delete(&id).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// `POST /v1/webhooks/{id}/rotate`
pub async fn rotate(Admin(kavach): Admin, (id, once): (Path<String>, OnceWithoutBody)) -> HandlerResult {
    let kavach = once.of(kavach);
    let rotated = kavach.webhooks().rotate(&id).await?;
    responses::json(note_repeat(&kavach, HttpResponse::Ok()), &WebhookJson::from(rotated))
}

/// `POST /v1/webhooks/{id}/test`
pub async fn test(Admin(kavach): Admin, (id, once): (Path<String>, OnceWithoutBody)) -> HandlerResult {
    let kavach = once.of(kavach);
    let sent = kavach.webhooks().test(&id).await?;
    responses::json(note_repeat(&kavach, HttpResponse::Accepted()), &sent)
}

/// `GET /v1/webhooks/{id}/deliveries`
pub async fn deliveries(
    Viewer(kavach): Viewer,
    (id, request, Query(query)): (Path<String>, HttpRequest, Query<DeliveryQuery>),
) -> HandlerResult {
    let DeliveryQuery { status, limit, cursor } = query;
    let page = page(limit, cursor)?;
    let filter = DeliveryFilter { status, limit: page.limit, cursor: page.cursor };
    responses::list(&request, kavach.webhooks().deliveries(&id, filter).await?, |delivery| delivery).await
}

/// `POST /v1/webhooks/{id}/deliveries/{delivery}/redeliver`
pub async fn redeliver(Admin(kavach): Admin, (path, once): (Path<(String, String)>, OnceWithoutBody)) -> HandlerResult {
    let (kavach, (id, delivery)) = (once.of(kavach), path.into_inner());
    let sent = kavach.webhooks().redeliver(&id, &delivery).await?;
    responses::json(note_repeat(&kavach, HttpResponse::Accepted()), &sent)
}

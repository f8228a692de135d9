//! `/v1/agents`.

use actix_web::{HttpRequest, HttpResponse, web::Path};
use schemars::JsonSchema;
use serde::Deserialize;

use super::auth::{Admin, Viewer};
use super::error::HandlerResult;
use super::idempotency::{Once, OptionalOnce, note_repeat};
use super::if_match::{IfMatch, versioned};
use super::input::{Body, Query, Reason, owner, page};
use super::responses::{self, AgentJson, AgentPolicyJson};
use crate::domain::agent::commands::{AgentPatch, NewAgent};
use crate::domain::agent::labels::parse_filter;
use crate::domain::limits::{MAX_GRACE_SECONDS, MAX_PAGE};
use crate::domain::{AgentId, AgentStatus, AgentType, TenantRef, schema};
use crate::service::AgentFilter;

/// The query of a list of agents.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentQuery {
    /// Agents of that tenant: id, slug or `default`.
    #[schemars(with = "Option<schema::TenantName>")]
    tenant_id: Option<String>,
    /// Agents of that owner.
    #[schemars(with = "Option<schema::FilterText>")]
    owner_id: Option<String>,
    /// Another name of `ownerId`.
    #[schemars(with = "Option<schema::FilterText>")]
    user_id: Option<String>,
    /// Agents with that status.
    status: Option<AgentStatus>,
    /// Agents of that type.
    r#type: Option<AgentType>,
    /// Agents that have this label, as `key:value`.
    #[schemars(regex(pattern = "^[A-Za-z0-9._/-]{1,63}:"))]
    label: Option<String>,
    /// Items of a page. Without it, the whole list.
    #[schemars(range(min = 1, max = MAX_PAGE))]
    limit: Option<usize>,
    /// Where the previous page ended, from its `Link`.
    #[schemars(with = "Option<AgentId>")]
    cursor: Option<String>,
}

/// The body of a rotation. An empty body gives no grace period.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rotation {
    /// Seconds for which the old token stays valid.
    #[serde(default)]
    #[schemars(range(max = MAX_GRACE_SECONDS))]
    pub grace_seconds: u64,
}

/// `POST /v1/agents`
pub async fn create(Admin(kavach): Admin, new: Once<NewAgent>) -> HandlerResult {
    let (kavach, new) = new.of(kavach);
    let (view, token) = kavach.agents().create(new).await?;
    let mut response = note_repeat(&kavach, HttpResponse::Created());
    response.insert_header(("Location", format!("/v1/agents/{}", view.agent.profile.id)));
    responses::json(response, &AgentJson::new(&view, Some(&token)).with_warnings(&view))
}

/// `GET /v1/agents`
pub async fn list(Viewer(kavach): Viewer, (request, Query(query)): (HttpRequest, Query<AgentQuery>)) -> HandlerResult {
    let AgentQuery { tenant_id, owner_id, user_id, status, r#type, label, limit, cursor } = query;
    let tenant = tenant_id.as_deref().map(TenantRef::parse);
    let label = label.as_deref().map(parse_filter).transpose()?;
    let filter = AgentFilter { tenant, owner: owner(user_id, owner_id)?, status, kind: r#type, label };
    let agents = kavach.agents().list(filter, page(limit, cursor)?).await?;
    responses::list(&request, agents, |view| AgentJson::new(&view, None)).await
}

/// `GET /v1/agents/{id}`
pub async fn get(Viewer(kavach): Viewer, id: Path<String>) -> HandlerResult {
    let view = kavach.agents().get(&id).await?;
    responses::json(versioned(view.agent.profile.version()), &AgentJson::new(&view, None))
}

/// `GET /v1/agents/{id}/policies`
pub async fn policies(Viewer(kavach): Viewer, id: Path<String>) -> HandlerResult {
    let policies = kavach.policies().of_agent(&id).await?;
    responses::json(HttpResponse::Ok(), &AgentPolicyJson::list(policies))
}

/// `PATCH /v1/agents/{id}`
pub async fn update(
    Admin(kavach): Admin,
    (id, seen, Body(patch)): (Path<String>, IfMatch, Body<AgentPatch>),
) -> HandlerResult {
    let view = seen.of(kavach).agents().update(&id, patch).await?;
    let response = versioned(view.agent.profile.version());
    responses::json(response, &AgentJson::new(&view, None).with_warnings(&view))
}

/// `DELETE /v1/agents/{id}`
pub async fn revoke(
    Admin(kavach): Admin,
    (id, seen, Query(why)): (Path<String>, IfMatch, Query<Reason>),
) -> HandlerResult {
    seen.of(why.of(kavach)?).agents().revoke(&id).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// `POST /v1/agents/{id}/suspend`
pub async fn suspend(
    Admin(kavach): Admin,
    (id, seen, Query(why)): (Path<String>, IfMatch, Query<Reason>),
) -> HandlerResult {
    let view = seen.of(why.of(kavach)?).agents().set_suspended(&id, true).await?;
    responses::json(versioned(view.agent.profile.version()), &AgentJson::new(&view, None))
}

/// `POST /v1/agents/{id}/activate`
pub async fn activate(
    Admin(kavach): Admin,
    (id, seen, Query(why)): (Path<String>, IfMatch, Query<Reason>),
) -> HandlerResult {
    let view = seen.of(why.of(kavach)?).agents().set_suspended(&id, false).await?;
    responses::json(versioned(view.agent.profile.version()), &AgentJson::new(&view, None))
}

/// `POST /v1/agents/{id}/rotate`
pub async fn rotate(Admin(kavach): Admin, (id, rotation): (Path<String>, OptionalOnce<Rotation>)) -> HandlerResult {
    let (kavach, rotation) = rotation.of(kavach);
    let (view, token) = kavach.agents().rotate(&id, rotation.grace_seconds).await?;
    responses::json(note_repeat(&kavach, HttpResponse::Ok()), &AgentJson::new(&view, Some(&token)))
}

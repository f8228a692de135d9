//! `/v1/agents`.

use actix_web::{HttpRequest, HttpResponse, web::Path};
use serde::Deserialize;

use super::auth::Admin;
use super::input::{Body, Query, Raw, page, parse, trimmed};
use super::routes::Answer;
use super::views::{self, AgentJson};
use crate::domain::agent_commands::{AgentPatch, NewAgent};
use crate::domain::limits::MAX_BODY_BYTES;
use crate::domain::{AgentStatus, AgentType, TenantRef};
use crate::service::AgentFilter;

/// The query of a list of agents.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListQuery {
    tenant_id: Option<String>,
    user_id: Option<String>,
    status: Option<AgentStatus>,
    r#type: Option<AgentType>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// The body of a rotation; an empty body is one without grace.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Rotation {
    #[serde(default)]
    pub(super) grace_seconds: u64,
}

/// `POST /v1/agents`
pub async fn create(Admin(kavach): Admin, Body(new): Body<NewAgent>) -> Answer {
    let (view, token) = kavach.agents().create(new).await?;
    let mut response = HttpResponse::Created();
    response.insert_header(("Location", format!("/v1/agents/{}", view.agent.profile.id)));
    views::json(response, &AgentJson::new(&view, Some(&token)))
}

/// `GET /v1/agents`
pub async fn list(Admin(kavach): Admin, (request, Query(query)): (HttpRequest, Query<ListQuery>)) -> Answer {
    let ListQuery { tenant_id, user_id, status, r#type, limit, cursor } = query;
    let tenant = tenant_id.as_deref().map(TenantRef::parse);
    let filter = AgentFilter { tenant, owner: user_id.map(trimmed), status, kind: r#type };
    let agents = kavach.agents().list(filter, page(limit, cursor)?).await?;
    views::list(&request, agents, |view| AgentJson::new(&view, None)).await
}

/// `GET /v1/agents/{id}`
pub async fn get(Admin(kavach): Admin, id: Path<String>) -> Answer {
    views::json(HttpResponse::Ok(), &AgentJson::new(&kavach.agents().get(&id).await?, None))
}

/// `PATCH /v1/agents/{id}`
pub async fn update(Admin(kavach): Admin, (id, Body(patch)): (Path<String>, Body<AgentPatch>)) -> Answer {
    views::json(HttpResponse::Ok(), &AgentJson::new(&kavach.agents().update(&id, patch).await?, None))
}

/// `DELETE /v1/agents/{id}`
pub async fn revoke(Admin(kavach): Admin, id: Path<String>) -> Answer {
    kavach.agents().revoke(&id).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// `POST /v1/agents/{id}/rotate`
pub async fn rotate(Admin(kavach): Admin, (id, Raw(body)): (Path<String>, Raw<MAX_BODY_BYTES>)) -> Answer {
    let rotation: Rotation = if body.is_empty() { Rotation::default() } else { parse(&body)? };
    let (view, token) = kavach.agents().rotate(&id, rotation.grace_seconds).await?;
    views::json(HttpResponse::Ok(), &AgentJson::new(&view, Some(&token)))
}

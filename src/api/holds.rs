//! `/v1/holds`.

use actix_web::{HttpRequest, HttpResponse, web::Path};
use schemars::JsonSchema;
use serde::Deserialize;

use super::auth::{Reporter, Viewer};
use super::error::{HandlerResult, Problem};
use super::idempotency::{Once, OnceWithoutBody, note_repeat};
use super::input::{Query, page};
use super::responses::{self, HoldJson};
use crate::domain::limits::{MAX_HOLD_SECONDS, MAX_PAGE};
use crate::domain::text::quote;
use crate::domain::{AgentId, AuditId, Code, Error, TenantRef, schema};
use crate::service::HoldFilter;

/// The query of a list of holds.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HoldQuery {
    /// Holds of that tenant: id, slug or `default`.
    #[schemars(with = "Option<schema::TenantName>")]
    tenant_id: Option<String>,
    /// Holds on calls of that agent.
    #[schemars(with = "Option<AgentId>")]
    agent_id: Option<String>,
    /// Items of a page. Without it, the whole list.
    #[schemars(range(min = 1, max = MAX_PAGE))]
    limit: Option<usize>,
    /// Where the previous page ended, from its `Link`.
    #[schemars(with = "Option<AuditId>")]
    cursor: Option<String>,
}

/// The body of an extension.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HoldExtension {
    /// Seconds from now until the hold ends by itself.
    #[schemars(range(min = 1, max = MAX_HOLD_SECONDS))]
    pub ttl_seconds: u64,
}

/// `GET /v1/holds`
pub async fn list(Viewer(kavach): Viewer, (request, Query(query)): (HttpRequest, Query<HoldQuery>)) -> HandlerResult {
    let HoldQuery { tenant_id, agent_id, limit, cursor } = query;
    let agent = match agent_id {
        Some(text) => Some(AgentId::parse(&text).ok_or_else(|| {
            let problem = format!("must be an agent's id, not '{}'", quote(&text));
            Problem(Error::field(Code::InvalidQuery, "agentId", problem))
        })?),
        None => None,
    };
    let filter = HoldFilter { tenant: tenant_id.as_deref().map(TenantRef::parse), agent };
    responses::list(&request, kavach.holds().list(filter, page(limit, cursor)?).await?, HoldJson::from).await
}

/// `GET /v1/holds/{auditId}`
pub async fn get(Viewer(kavach): Viewer, id: Path<String>) -> HandlerResult {
    responses::json(HttpResponse::Ok(), &HoldJson::from(kavach.holds().get(&id).await?))
}

/// `POST /v1/holds/{auditId}/release`
pub async fn release(Reporter(kavach): Reporter, (id, once): (Path<String>, OnceWithoutBody)) -> HandlerResult {
    let kavach = once.of(kavach);
    let answer = kavach.holds().release(&id).await?;
    responses::json(note_repeat(&kavach, HttpResponse::Ok()), &answer)
}

/// `POST /v1/holds/{auditId}/extend`
pub async fn extend(Reporter(kavach): Reporter, (id, body): (Path<String>, Once<HoldExtension>)) -> HandlerResult {
    let (kavach, body) = body.of(kavach);
    let hold = kavach.holds().extend(&id, body.ttl_seconds).await?;
    responses::json(note_repeat(&kavach, HttpResponse::Ok()), &HoldJson::from(hold))
}

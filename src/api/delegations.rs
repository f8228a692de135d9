//! `/v1/delegations`. An id in a path is an agent's or a delegation's: its prefix says which.

use actix_web::{HttpRequest, HttpResponse, web::Path};
use schemars::JsonSchema;
use serde::Deserialize;

use super::auth::{Admin, Viewer};
use super::error::{HandlerResult, Problem};
use super::idempotency::{Once, note_repeat};
use super::input::{Query, Reason, page};
use super::responses::{self, DelegationJson, EffectivePermissionJson};
use crate::domain::delegation::commands::{DelegationFilter, NewDelegation};
use crate::domain::limits::MAX_PAGE;
use crate::domain::text::quote;
use crate::domain::{AgentId, Code, DelegationId, DelegationStatus, Error, TenantRef, schema};

/// The query of a list of delegations.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DelegationQuery {
    /// Delegations from that agent.
    #[schemars(with = "Option<AgentId>")]
    from_agent: Option<String>,
    /// Delegations to that agent.
    #[schemars(with = "Option<AgentId>")]
    to_agent: Option<String>,
    /// Delegations of that tenant: id, slug or `default`.
    #[schemars(with = "Option<schema::TenantName>")]
    tenant_id: Option<String>,
    /// Delegations with that status.
    status: Option<DelegationStatus>,
    /// Items of a page. Without it, the whole list.
    #[schemars(range(min = 1, max = MAX_PAGE))]
    limit: Option<usize>,
    /// Where the previous page ended, from its `Link`.
    #[schemars(with = "Option<DelegationId>")]
    cursor: Option<String>,
}

/// The query of the list of an agent's delegations.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    /// Items of a page, if the id is an agent's. Without it, the whole list.
    #[schemars(range(min = 1, max = MAX_PAGE))]
    limit: Option<usize>,
    /// Where the previous page ended, from its `Link`.
    #[schemars(with = "Option<DelegationId>")]
    cursor: Option<String>,
}

fn agent(field: &str, text: Option<&str>) -> Result<Option<AgentId>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let problem = || Error::field(Code::InvalidQuery, field, format!("must be an agent's id, not '{}'", quote(text)));
    Ok(Some(AgentId::parse(text).ok_or_else(problem)?))
}

/// `POST /v1/delegations`
pub async fn create(Admin(kavach): Admin, new: Once<NewDelegation>) -> HandlerResult {
    let (kavach, new) = new.of(kavach);
    let view = kavach.delegations().create(new).await?;
    let mut response = note_repeat(&kavach, HttpResponse::Created());
    response.insert_header(("Location", format!("/v1/delegations/{}", view.delegation.profile.id)));
    responses::json(response, &DelegationJson::with_warnings(view))
}

/// `GET /v1/delegations`
pub async fn list(
    Viewer(kavach): Viewer,
    (request, Query(query)): (HttpRequest, Query<DelegationQuery>),
) -> HandlerResult {
    let DelegationQuery { from_agent, to_agent, tenant_id, status, limit, cursor } = query;
    let tenant = tenant_id.as_deref().map(TenantRef::parse);
    let filter = DelegationFilter {
        from: agent("fromAgent", from_agent.as_deref())?,
        to: agent("toAgent", to_agent.as_deref())?,
        status,
    };
    let links = kavach.delegations().list(tenant.as_ref(), filter, page(limit, cursor)?).await?;
    responses::list(&request, links, DelegationJson::from).await
}

/// `GET /v1/delegations/{id}`: a delegation, or all from an agent.
pub async fn get(
    Viewer(kavach): Viewer,
    (id, request, Query(query)): (Path<String>, HttpRequest, Query<PageQuery>),
) -> HandlerResult {
    let PageQuery { limit, cursor } = query;
    let page = page(limit, cursor)?;
    // One delegation has no pages, but what is no cursor is refused there too.
    page.after(DelegationId::parse)?;
    if id.starts_with(AgentId::PREFIX) {
        let links = kavach.delegations().of_agent(&id, page).await?;
        return responses::list(&request, links, DelegationJson::from).await;
    }
    responses::json(HttpResponse::Ok(), &DelegationJson::from(kavach.delegations().get(&id).await?))
}

/// `GET /v1/delegations/{id}/permissions`: what an agent can make use of.
pub async fn permissions(Viewer(kavach): Viewer, id: Path<String>) -> HandlerResult {
    let effective = kavach.delegations().permissions(&id).await?;
    let effective: Vec<_> = effective.into_iter().map(EffectivePermissionJson::from).collect();
    responses::json(HttpResponse::Ok(), &effective)
}

/// `DELETE /v1/delegations/{id}`
pub async fn revoke(Admin(kavach): Admin, (id, Query(why)): (Path<String>, Query<Reason>)) -> HandlerResult {
    why.of(kavach)?.delegations().revoke(&id).await?;
    Ok(HttpResponse::NoContent().finish())
}

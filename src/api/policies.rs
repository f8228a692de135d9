//! `/v1/policies` and `/v1/budget/check`.

use actix_web::{HttpRequest, HttpResponse, web::Path};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::auth::Admin;
use super::error::Problem;
use super::input::{Body, Query, Raw, page, parse, trimmed};
use super::routes::Answer;
use super::views::{self, PolicyJson};
use crate::domain::budget::Exceeded;
use crate::domain::cost::Cost;
use crate::domain::limits::MAX_BODY_BYTES;
use crate::domain::policy::{Period, PolicyStatus};
use crate::domain::policy_commands::{NewPolicy, PolicyPatch};
use crate::domain::text::quote;
use crate::domain::{AgentId, Code, Error, PolicyId, TenantRef};
use crate::service::PolicyFilter;

/// The query of a list of policies.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListQuery {
    tenant_id: Option<String>,
    agent_id: Option<String>,
    user_id: Option<String>,
    status: Option<PolicyStatus>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// The body of a reset; an empty body resets all.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reset {
    #[serde(default)]
    pub(super) period: Period,
}

/// The body of a budget check.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CheckBody {
    pub(super) agent_id: String,
    #[serde(default)]
    pub(super) tokens_cost: Option<Box<RawValue>>,
}

/// The answer to a budget check.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CheckJson {
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<Code>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_id: Option<PolicyId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    warnings: Vec<Exceeded>,
    #[serde(skip_serializing_if = "Option::is_none")]
    more_warnings: Option<usize>,
    policies: Vec<PolicyJson>,
}

/// `POST /v1/policies`
pub async fn create(Admin(kavach): Admin, Body(new): Body<NewPolicy>) -> Answer {
    let view = kavach.policies().create(new).await?;
    let mut response = HttpResponse::Created();
    response.insert_header(("Location", format!("/v1/policies/{}", view.policy.profile.id)));
    views::json(response, &PolicyJson::from(view))
}

/// `GET /v1/policies`
pub async fn list(Admin(kavach): Admin, (request, Query(query)): (HttpRequest, Query<ListQuery>)) -> Answer {
    let ListQuery { tenant_id, agent_id, user_id, status, limit, cursor } = query;
    let agent = match agent_id {
        Some(text) => Some(AgentId::parse(&text).ok_or_else(|| {
            let problem = format!("must be an agent's id, not '{}'", quote(&text));
            Problem(Error::field(Code::InvalidQuery, "agentId", problem))
        })?),
        None => None,
    };
    let tenant = tenant_id.as_deref().map(TenantRef::parse);
    let filter = PolicyFilter { tenant, agent, owner: user_id.map(trimmed), status };
    views::list(&request, kavach.policies().list(filter, page(limit, cursor)?).await?, PolicyJson::from).await
}

/// `GET /v1/policies/{id}`
pub async fn get(Admin(kavach): Admin, id: Path<String>) -> Answer {
    views::json(HttpResponse::Ok(), &PolicyJson::from(kavach.policies().get(&id).await?))
}

/// `PATCH /v1/policies/{id}`
pub async fn update(Admin(kavach): Admin, (id, Body(patch)): (Path<String>, Body<PolicyPatch>)) -> Answer {
    views::json(HttpResponse::Ok(), &PolicyJson::from(kavach.policies().update(&id, patch).await?))
}

/// `DELETE /v1/policies/{id}`
pub async fn delete(Admin(kavach): Admin, id: Path<String>) -> Answer {
    kavach.policies().delete(&id).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// `POST /v1/policies/{id}/reset`
pub async fn reset(Admin(kavach): Admin, (id, Raw(body)): (Path<String>, Raw<MAX_BODY_BYTES>)) -> Answer {
    let reset: Reset = if body.is_empty() { Reset::default() } else { parse(&body)? };
    views::json(HttpResponse::Ok(), &PolicyJson::from(kavach.policies().reset(&id, reset.period).await?))
}

/// `POST /v1/budget/check`
pub async fn check(Admin(kavach): Admin, Body(body): Body<CheckBody>) -> Answer {
    let cost = read_cost(body.tokens_cost.as_deref())?;
    let (check, policies) = kavach.policies().check(&body.agent_id, cost).await?;
    let denied = check.denied_by.map(|denied| *denied);
    let answer = CheckJson {
        allowed: denied.is_none(),
        code: denied.as_ref().map(|_| Code::BudgetExceeded),
        policy_id: denied.as_ref().map(|denied| denied.policy_id),
        retry_after: denied.as_ref().map(|denied| denied.retry_after),
        reason: denied.map(|denied| denied.message),
        warnings: check.warnings,
        more_warnings: Some(check.more_warnings).filter(|more| *more > 0),
        policies: policies.into_iter().map(PolicyJson::from).collect(),
    };
    views::json(HttpResponse::Ok(), &answer)
}

/// Reads an optional `tokensCost`.
pub(super) fn read_cost(json: Option<&RawValue>) -> Result<Cost, Error> {
    json.map_or(Ok(Cost::default()), |number| Cost::parse("tokensCost", number.get()))
}

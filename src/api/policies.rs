//! `/v1/policies` and `/v1/budget/check`.

use actix_web::{HttpRequest, HttpResponse, web::Path};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::auth::{Admin, AnyKey, Viewer};
use super::error::{HandlerResult, Problem};
use super::idempotency::{Once, note_repeat};
use super::if_match::{IfMatch, versioned};
use super::input::{Body, Query, Reason, owner, page};
use super::responses::{self, PolicyJson};
use crate::domain::budget::check::Exceeded;
use crate::domain::budget::cost::Cost;
use crate::domain::budget::counts::Period;
use crate::domain::budget::policy::{PolicyScope, PolicyStatus};
use crate::domain::budget::policy_commands::{NewPolicy, PolicyPatch};
use crate::domain::instance::prospect::Prospect;
use crate::domain::limits::MAX_PAGE;
use crate::domain::text::quote;
use crate::domain::{AgentId, Code, Error, PolicyId, TenantRef, schema};
use crate::service::{CheckedBudgets, CheckedCall, InstanceCheck, PolicyFilter};

/// The query of a list of policies.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyQuery {
    /// Policies of that tenant: id, slug or `default`.
    #[schemars(with = "Option<schema::TenantName>")]
    tenant_id: Option<String>,
    /// Policies that name that agent.
    #[schemars(with = "Option<AgentId>")]
    agent_id: Option<String>,
    /// Policies that name that owner.
    #[schemars(with = "Option<schema::FilterText>")]
    user_id: Option<String>,
    /// Another name of `userId`.
    #[schemars(with = "Option<schema::FilterText>")]
    owner_id: Option<String>,
    /// Policies with that status.
    status: Option<PolicyStatus>,
    /// Policies about one tenant's calls, or about those of the whole instance. Only operators see the latter.
    scope: Option<PolicyScope>,
    /// Items of a page. Without it, the whole list.
    #[schemars(range(min = 1, max = MAX_PAGE))]
    limit: Option<usize>,
    /// Where the previous page ended, from its `Link`.
    #[schemars(with = "Option<PolicyId>")]
    cursor: Option<String>,
}

/// The body of a reset. It has to say what to reset: there is no default.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reset {
    /// Which counts to reset.
    pub period: Period,
}

/// The body of a reset of all policies of a tenant.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResetAll {
    /// The tenant: id, slug, or `null` for the default one. With a tenant key, that key's.
    #[serde(default)]
    #[schemars(with = "Option<schema::TenantName>")]
    pub tenant_id: Option<String>,
    /// Which counts to reset.
    pub period: Period,
}

/// The answer to a reset of all policies of a tenant.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "PoliciesReset")]
pub struct ResetAllJson {
    /// How many policies were reset: those that the caller may change.
    policies: usize,
}

/// The body of a budget check.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CheckBody {
    /// The agent that would be charged.
    #[schemars(with = "AgentId")]
    pub agent_id: String,
    /// What its call would cost.
    #[serde(default)]
    #[schemars(with = "Option<Cost>")]
    pub tokens_cost: Option<Box<RawValue>>,
    /// Its action. Without it, policies that name actions are left out.
    #[serde(default)]
    #[schemars(with = "Option<schema::Action>")]
    pub action: Option<String>,
    /// Its resource. Without it, policies that name a resource are left out.
    #[serde(default)]
    #[schemars(with = "Option<schema::Resource>")]
    pub resource: Option<String>,
}

/// The answer to a budget check.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "BudgetCheck")]
pub struct CheckJson {
    /// Whether no policy would stop the call.
    allowed: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<Code>,
    /// A sentence for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The policy that would stop it.
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_id: Option<PolicyId>,
    /// Seconds until the call may fit; absent if it never will.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    /// Policies that are exceeded and only warn.
    warnings: Vec<Exceeded>,
    /// How many more there are than shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    more_warnings: Option<usize>,
    /// All policies of its tenant that would be charged, with their usage.
    policies: Vec<PolicyJson>,
    /// What policies of the whole instance say that would be charged. Absent if there are none, or if a policy of its tenant
    /// stops the call.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    instance_policies: Vec<InstanceCheckJson>,
}

/// What a policy of the whole instance says to a call.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "InstanceCheck")]
struct InstanceCheckJson {
    /// The policy's id.
    policy_id: PolicyId,
    /// Whether there is enough for the call.
    outcome: InstanceOutcome,
    /// Seconds until there may be; absent if there is now, or never will be.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    /// What the tenant has left in its slice. Only operators see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    slice_left: Option<AmountsJson>,
    /// What can still be lent. Only operators see it, and only if the slice does not suffice.
    #[serde(skip_serializing_if = "Option::is_none")]
    lendable: Option<AmountsJson>,
}

/// Whether there is enough of a policy of the whole instance.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "InstanceOutcome")]
enum InstanceOutcome {
    /// There is.
    Fits,
    /// There is if tenants that did not tell in time have not spent what they hold.
    Depends,
    /// There is not, whatever they hold.
    Exhausted,
}

/// Calls and cost.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "InstanceAmounts")]
struct AmountsJson {
    /// Calls; `null` if the policy does not limit them.
    calls: Option<u64>,
    /// Cost; `null` if the policy does not limit it.
    tokens_cost: Option<Cost>,
}

impl From<(Option<u64>, Option<Cost>)> for AmountsJson {
    fn from((calls, tokens_cost): (Option<u64>, Option<Cost>)) -> Self {
        Self { calls, tokens_cost }
    }
}

impl From<InstanceCheck> for InstanceCheckJson {
    fn from(check: InstanceCheck) -> Self {
        let InstanceCheck { policy, prospect, drained, amounts } = check;
        Self {
            policy_id: policy,
            outcome: match prospect {
                Prospect::Fits => InstanceOutcome::Fits,
                Prospect::Depends => InstanceOutcome::Depends,
                Prospect::Exhausted { .. } => InstanceOutcome::Exhausted,
            },
            retry_after: drained.and_then(|drained| drained.retry_after),
            slice_left: amounts.map(|amounts| amounts.slice.into()),
            lendable: amounts.and_then(|amounts| amounts.lendable).map(Into::into),
        }
    }
}

/// `POST /v1/policies`
pub async fn create(Admin(kavach): Admin, new: Once<NewPolicy>) -> HandlerResult {
    let (kavach, new) = new.of(kavach);
    let view = kavach.policies().create(new).await?;
    let agents = kavach.policies().agents_covered(&view).await;
    let mut response = note_repeat(&kavach, HttpResponse::Created());
    response.insert_header(("Location", format!("/v1/policies/{}", view.policy.profile.id)));
    responses::json(response, &PolicyJson::from(view).about(agents))
}

/// `GET /v1/policies`
pub async fn list(Viewer(kavach): Viewer, (request, Query(query)): (HttpRequest, Query<PolicyQuery>)) -> HandlerResult {
    let PolicyQuery { tenant_id, agent_id, user_id, owner_id, status, scope, limit, cursor } = query;
    let agent = match agent_id {
        Some(text) => Some(AgentId::parse(&text).ok_or_else(|| {
            let problem = format!("must be an agent's id, not '{}'", quote(&text));
            Problem(Error::field(Code::InvalidQuery, "agentId", problem))
        })?),
        None => None,
    };
    let tenant = tenant_id.as_deref().map(TenantRef::parse);
    let filter = PolicyFilter { tenant, agent, owner: owner(user_id, owner_id)?, status, scope };
    responses::list(&request, kavach.policies().list(filter, page(limit, cursor)?).await?, PolicyJson::from).await
}

/// `GET /v1/policies/{id}`
pub async fn get(Viewer(kavach): Viewer, id: Path<String>) -> HandlerResult {
    let view = kavach.policies().get(&id).await?;
    let agents = kavach.policies().agents_covered(&view).await;
    responses::json(versioned(view.policy.profile.version()), &PolicyJson::from(view).about(agents))
}

/// `PATCH /v1/policies/{id}`
pub async fn update(
    Admin(kavach): Admin,
    (id, seen, Body(patch)): (Path<String>, IfMatch, Body<PolicyPatch>),
) -> HandlerResult {
    let kavach = seen.of(kavach);
    let view = kavach.policies().update(&id, patch).await?;
    let agents = kavach.policies().agents_covered(&view).await;
    responses::json(versioned(view.policy.profile.version()), &PolicyJson::from(view).about(agents))
}

/// `DELETE /v1/policies/{id}`
pub async fn delete(
    Admin(kavach): Admin,
    (id, seen, Query(why)): (Path<String>, IfMatch, Query<Reason>),
) -> HandlerResult {
    seen.of(why.of(kavach)?).policies().delete(&id).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// `POST /v1/policies/{id}/reset`
pub async fn reset(Admin(kavach): Admin, (id, reset): (Path<String>, Once<Reset>)) -> HandlerResult {
    let (kavach, reset) = reset.of(kavach);
    let policy = kavach.policies().reset(&id, reset.period).await?;
    responses::json(note_repeat(&kavach, HttpResponse::Ok()), &PolicyJson::from(policy))
}

/// `POST /v1/policies/reset`
pub async fn reset_all(Admin(kavach): Admin, reset: Once<ResetAll>) -> HandlerResult {
    let (kavach, reset) = reset.of(kavach);
    let tenant = reset.tenant_id.as_deref().map(TenantRef::parse);
    let policies = kavach.policies().reset_all(tenant.as_ref(), reset.period).await?;
    responses::json(note_repeat(&kavach, HttpResponse::Ok()), &ResetAllJson { policies })
}

/// `POST /v1/budget/check`
pub async fn check(AnyKey(kavach): AnyKey, Body(body): Body<CheckBody>) -> HandlerResult {
    let cost = read_cost(body.tokens_cost.as_deref())?;
    let call = CheckedCall { action: body.action, resource: body.resource };
    let checked = kavach.policies().check(&body.agent_id, call, cost).await?;
    let drained = checked.drained();
    let CheckedBudgets { own, policies, instance } = checked;
    let denied = match (own.denied_by, drained) {
        (Some(denied), _) => Some((denied.policy_id, denied.retry_after, denied.message)),
        (None, drained) => drained.map(|drained| (drained.policy, drained.retry_after, drained.message())),
    };
    let (policy_id, retry_after, reason) = match denied {
        Some((policy, retry_after, reason)) => (Some(policy), retry_after, Some(reason)),
        None => (None, None, None),
    };
    let notes = own.notes.map(|notes| *notes).unwrap_or_default();
    let answer = CheckJson {
        allowed: policy_id.is_none(),
        code: policy_id.map(|_| Code::BudgetExceeded),
        policy_id,
        retry_after,
        reason,
        warnings: notes.warnings,
        more_warnings: Some(notes.more_warnings).filter(|more| *more > 0),
        policies: policies.into_iter().map(PolicyJson::from).collect(),
        instance_policies: instance.into_iter().map(InstanceCheckJson::from).collect(),
    };
    responses::json(HttpResponse::Ok(), &answer)
}

/// Reads an optional `tokensCost`.
pub fn read_cost(json: Option<&RawValue>) -> Result<Cost, Error> {
    json.map_or(Ok(Cost::default()), |number| Cost::parse("tokensCost", number.get()))
}

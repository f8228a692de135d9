//! One decision.

use std::time::Instant;

use actix_web::http::header::HeaderMap;
use actix_web::{HttpRequest, HttpResponse};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check_content_type;
use super::entities::{Action, Asking, AuthzenContext, Entity, ResourceEntity};
use crate::api::auth::{CallerGuard, Decider};
use crate::api::authorize::body_of;
use crate::api::authorize_body::CallHead;
use crate::api::error::{HandlerResult, Problem};
use crate::api::input::{UnreadBody, parse};
use crate::api::responses;
use crate::domain::budget::check::Exceeded;
use crate::domain::budget::cost::Cost;
use crate::domain::limits::MAX_AUTHORIZE_BODY_BYTES;
use crate::domain::{AuditId, Code, Decision, Error, PolicyId, Request};

/// The body of an evaluation. Fields it does not know are ignored, here and in all that it holds.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "AuthzenEvaluationRequest")]
pub struct EvaluationBody<'a> {
    /// The subject that makes the call.
    #[serde(borrow)]
    subject: Entity<'a>,
    /// The action.
    #[serde(borrow)]
    action: Action<'a>,
    /// The resource.
    #[serde(borrow)]
    #[schemars(with = "ResourceEntity")]
    resource: Entity<'a>,
    /// The context of the call.
    #[serde(borrow)]
    context: Option<AuthzenContext<'a>>,
}

impl EvaluationBody<'_> {
    /// Checks what was sent.
    pub fn check(&self, head: &CallHead<'_>) -> Result<Request, Error> {
        asking(&self.subject, &self.action, &self.resource, self.context.as_ref()).request(head)
    }
}

/// What these ask.
pub fn asking<'a>(
    subject: &'a Entity<'a>,
    action: &'a Action<'a>,
    resource: &'a Entity<'a>,
    context: Option<&'a AuthzenContext<'a>>,
) -> Asking<'a> {
    Asking {
        agent: Some(subject.agent()),
        action: &action.name,
        arguments: action.properties,
        resource: resource.resource(),
        context,
    }
}

/// A decision as the specification shapes it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AuthzenDecision")]
pub struct Evaluated {
    /// Whether the agent may.
    pub decision: bool,
    /// Where it is recorded, and why not.
    context: Why,
}

#[derive(Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "AuthzenDecisionContext")]
struct Why {
    /// The audit entry that records it.
    #[serde(skip_serializing_if = "Option::is_none")]
    audit_id: Option<AuditId>,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<Code>,
    /// A sentence for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The reason in the form of the specification's examples, for administrators.
    #[serde(rename = "reason_admin", skip_serializing_if = "Option::is_none")]
    reason_admin: Option<ByStatus<String>>,
    /// What a user may know: nothing about the permissions.
    #[serde(rename = "reason_user", skip_serializing_if = "Option::is_none")]
    reason_user: Option<ByStatus<&'static str>>,
    /// Seconds after which the call can be allowed again.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    /// The policy that denied it.
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_id: Option<PolicyId>,
    /// Exceeded policies that only warn.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Exceeded>,
    /// How many more there are than shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    more_warnings: Option<usize>,
    /// What was charged, if the cost in the context was finer than a millionth and rounded up.
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens_cost: Option<Cost>,
    /// Why it could not be decided at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<EvaluationFailure>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct ByStatus<T> {
    /// Why it is forbidden.
    #[serde(rename = "403")]
    forbidden: T,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AuthzenFailure")]
struct EvaluationFailure {
    /// The status that it would have by itself.
    status: u16,
    /// What is wrong with it.
    message: String,
}

impl From<Decision> for Evaluated {
    fn from(decision: Decision) -> Self {
        let Decision {
            allowed,
            audit_id,
            code,
            reason,
            retry_after,
            policy_id,
            warnings,
            more_warnings,
            tokens_cost,
            ..
        } = decision;
        let context = Why {
            audit_id,
            code,
            reason_admin: reason.clone().map(|forbidden| ByStatus { forbidden }),
            reason,
            reason_user: code.map(|code| ByStatus { forbidden: code.meaning() }),
            retry_after,
            policy_id,
            warnings,
            more_warnings: (more_warnings > 0).then_some(more_warnings),
            tokens_cost,
            error: None,
        };
        Self { decision: allowed, context }
    }
}

impl Evaluated {
    /// An evaluation of many that can't be decided, so it is denied.
    pub fn failed(error: &Error) -> Self {
        let failure =
            EvaluationFailure { status: crate::api::status::status(error.code()), message: error.message().to_owned() };
        Self { decision: false, context: Why { code: Some(error.code()), error: Some(failure), ..Why::default() } }
    }
}

/// Reads a body, which has to be JSON. Only a caller with a valid key learns why it can't be read.
async fn read(decider: &Decider, headers: &HeaderMap, body: &[u8]) -> Result<Request, Problem> {
    let head = CallHead::of(decider, headers);
    let read = check_content_type(headers)
        .and_then(|()| parse::<EvaluationBody<'_>>(body))
        .and_then(|body| body.check(&head).map_err(Problem));
    if read.is_err() {
        decider.check().await?;
    }
    read
}

type EvaluationInput = (HttpRequest, UnreadBody<EvaluationBody<'static>, MAX_AUTHORIZE_BODY_BYTES>);

/// `POST /access/v1/evaluation`
pub async fn single(decider: Decider, (http, body): EvaluationInput) -> HandlerResult {
    let body = body_of(&decider, &http, body).await?;
    let received = Instant::now();
    let request = read(&decider, http.headers(), &body).await?;
    let decision = decider.kavach.authorize_since(request, received).await?;
    responses::json(HttpResponse::Ok(), &Evaluated::from(decision))
}

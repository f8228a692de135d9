//! One decision.

use std::time::Instant;

use actix_web::http::header::HeaderMap;
use actix_web::{HttpRequest, HttpResponse};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check_content_type;
use super::entities::{Action, Asking, Context, Entity, ResourceEntity};
use crate::api::auth::Decider;
use crate::api::authorize::{Connection, body_of};
use crate::api::error::Problem;
use crate::api::input::{Unread, parse};
use crate::api::routes::Answer;
use crate::api::views;
use crate::domain::budget::check::Exceeded;
use crate::domain::budget::cost::Cost;
use crate::domain::limits::MAX_AUTHORIZE_BODY_BYTES;
use crate::domain::{AuditId, Code, Decision, Error, PolicyId, Request};

/// The body of an evaluation. Fields it does not know are ignored, here and in all that it holds.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "AuthzenEvaluationRequest")]
pub struct EvaluationBody<'a> {
    /// Whose call it is.
    #[serde(borrow)]
    subject: Entity<'a>,
    /// What is done.
    #[serde(borrow)]
    action: Action<'a>,
    /// On what.
    #[serde(borrow)]
    #[schemars(with = "ResourceEntity")]
    resource: Entity<'a>,
    /// What is known of the call besides.
    #[serde(borrow)]
    context: Option<Context<'a>>,
}

impl EvaluationBody<'_> {
    /// Checks what was sent.
    pub fn check(&self, connection: &Connection<'_>) -> Result<Request, Error> {
        asking(&self.subject, &self.action, &self.resource, self.context.as_ref()).request(connection)
    }
}

/// What these ask.
pub fn asking<'a>(
    subject: &'a Entity<'a>,
    action: &'a Action<'a>,
    resource: &'a Entity<'a>,
    context: Option<&'a Context<'a>>,
) -> Asking<'a> {
    Asking {
        agent: subject.agent(),
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
    /// The same for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The reason as the specification's examples give it, for those who run the system.
    #[serde(rename = "reason_admin", skip_serializing_if = "Option::is_none")]
    reason_admin: Option<ByStatus<String>>,
    /// What a user may know of it: nothing of how the permissions are.
    #[serde(rename = "reason_user", skip_serializing_if = "Option::is_none")]
    reason_user: Option<ByStatus<&'static str>>,
    /// Seconds after which the same call can be allowed again.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    /// The policy that denied it.
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_id: Option<PolicyId>,
    /// Policies that are exceeded and only warn.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Exceeded>,
    /// How many more of them there are than are shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    more_warnings: Option<usize>,
    /// What was charged, where the context named a finer cost: it is rounded up to a millionth.
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens_cost: Option<Cost>,
    /// Why it could not be decided at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Failure>,
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
struct Failure {
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
        let failure = Failure { status: crate::api::status::status(error.code()), message: error.message().to_owned() };
        Self { decision: false, context: Why { code: Some(error.code()), error: Some(failure), ..Why::default() } }
    }
}

/// Reads a body, which only JSON is. One that can't be read is told to nobody whose key is not good.
async fn read(decider: &Decider, headers: &HeaderMap, body: &[u8]) -> Result<Request, Problem> {
    let connection = Connection::of(decider, headers);
    let read = check_content_type(headers)
        .and_then(|()| parse::<EvaluationBody<'_>>(body))
        .and_then(|body| body.check(&connection).map_err(Problem));
    if read.is_err() {
        decider.kavach.authenticate().await?;
    }
    read
}

type Input = (HttpRequest, Unread<EvaluationBody<'static>, MAX_AUTHORIZE_BODY_BYTES>);

/// `POST /access/v1/evaluation`
pub async fn single(decider: Decider, (http, body): Input) -> Answer {
    let body = body_of(&decider, &http, body).await?;
    let received = Instant::now();
    let request = read(&decider, http.headers(), &body).await?;
    let decision = decider.kavach.authorize_since(request, received).await?;
    views::json(HttpResponse::Ok(), &Evaluated::from(decision))
}

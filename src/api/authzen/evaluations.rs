//! Many decisions in one call, with defaults for what they have in common.

use std::time::Instant;

use actix_web::{HttpRequest, HttpResponse};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::check_content_type;
use super::entities::{Action, AuthzenContext, Entity, ResourceEntity};
use super::evaluation::{Evaluated, asking};
use crate::api::auth::{CallerGuard, Decider};
use crate::api::authorize_body::CallHead;
use crate::api::error::{HandlerResult, Problem};
use crate::api::input::{UnreadBody, parse, parse_part};
use crate::api::responses;
use crate::domain::limits::{MAX_BATCH, MAX_BODY_BYTES};
use crate::domain::{Code, Decision, Error, Request};

/// When evaluations stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "AuthzenEvaluationsSemantic")]
pub enum Semantic {
    /// After the last.
    #[default]
    ExecuteAll,
    /// After the first that is denied, or can't be decided.
    DenyOnFirstDeny,
    /// After the first that is permitted.
    PermitOnFirstPermit,
}

impl Semantic {
    /// The answer after which no more is decided.
    fn until(self) -> Option<bool> {
        match self {
            Self::ExecuteAll => None,
            Self::DenyOnFirstDeny => Some(false),
            Self::PermitOnFirstPermit => Some(true),
        }
    }
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(rename = "AuthzenEvaluationsOptions")]
struct EvaluationsOptions {
    /// When they stop.
    evaluations_semantic: Option<Semantic>,
}

/// What one evaluation says itself.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(rename = "AuthzenEvaluationParts")]
struct EvaluationParts<'a> {
    /// Who makes the call.
    #[serde(borrow)]
    subject: Option<Entity<'a>>,
    /// What is done.
    #[serde(borrow)]
    action: Option<Action<'a>>,
    /// On what.
    #[serde(borrow)]
    #[schemars(with = "Option<ResourceEntity>")]
    resource: Option<Entity<'a>>,
    /// What is known of the call besides.
    #[serde(borrow)]
    context: Option<AuthzenContext<'a>>,
}

/// The body of many evaluations, with what they have in common.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "AuthzenEvaluationsRequest")]
pub struct EvaluationsBody<'a> {
    /// The subject of those that name none.
    #[serde(borrow)]
    subject: Option<Entity<'a>>,
    /// The action of those that name none.
    #[serde(borrow)]
    action: Option<Action<'a>>,
    /// The resource of those that name none.
    #[serde(borrow)]
    resource: Option<Entity<'a>>,
    /// The context of those that have none.
    #[serde(borrow)]
    context: Option<AuthzenContext<'a>>,
    /// Each with what it does not take from the members above. Without any, those are the evaluation.
    #[serde(borrow)]
    #[schemars(with = "Option<Vec<EvaluationParts<'static>>>", length(max = MAX_BATCH))]
    evaluations: Option<Vec<&'a RawValue>>,
    /// How they are decided.
    options: Option<EvaluationsOptions>,
}

/// The parts of an evaluation, each from itself or, whole, from the defaults.
struct CompleteEvaluation<'a> {
    subject: Option<&'a Entity<'a>>,
    action: Option<&'a Action<'a>>,
    resource: Option<&'a Entity<'a>>,
    context: Option<&'a AuthzenContext<'a>>,
}

impl EvaluationParts<'_> {
    fn or<'a>(&'a self, defaults: &'a EvaluationParts<'_>) -> CompleteEvaluation<'a> {
        CompleteEvaluation {
            subject: self.subject.as_ref().or(defaults.subject.as_ref()),
            action: self.action.as_ref().or(defaults.action.as_ref()),
            resource: self.resource.as_ref().or(defaults.resource.as_ref()),
            context: self.context.as_ref().or(defaults.context.as_ref()),
        }
    }
}

impl CompleteEvaluation<'_> {
    /// Bytes of text that it takes to read and check it.
    fn weight(&self) -> usize {
        let entity = |entity: &Entity<'_>| entity.r#type.len() + entity.id.len();
        let action = |action: &Action<'_>| action.name.len() + action.properties.map_or(0, str::len);
        self.subject.map_or(0, entity)
            + self.action.map_or(0, action)
            + self.resource.map_or(0, entity)
            + self.context.map_or(0, AuthzenContext::weight)
    }

    fn check(&self, head: &CallHead<'_>) -> Result<Request, Error> {
        let missing = |field| Error::field(Code::InvalidBody, field, "is missing, both here and in the defaults");
        let subject = self.subject.ok_or_else(|| missing("subject"))?;
        let action = self.action.ok_or_else(|| missing("action"))?;
        let resource = self.resource.ok_or_else(|| missing("resource"))?;
        asking(subject, action, resource, self.context).request(head)
    }
}

/// The content of a call.
pub enum Evaluations {
    /// A body without evaluations is a single one.
    One(Request),
    /// Each evaluation, or its error.
    Many(Vec<Result<Request, Error>>, Semantic),
}

impl Evaluations {
    /// Reads a body.
    ///
    /// # Errors
    /// Errors about the body as a whole. A bad evaluation affects no other.
    pub fn read(head: &CallHead<'_>, body: &[u8]) -> Result<Self, Problem> {
        let EvaluationsBody { subject, action, resource, context, evaluations, options } = parse(body)?;
        let defaults = EvaluationParts { subject, action, resource, context };
        let items = evaluations.unwrap_or_default();
        if items.is_empty() {
            return Ok(Self::One(EvaluationParts::default().or(&defaults).check(head)?));
        }
        if items.len() > MAX_BATCH {
            let problem = format!("must contain at most {MAX_BATCH} evaluations, not {}", items.len());
            return Err(Problem(Error::field(Code::InvalidField, "evaluations", problem)));
        }
        let mut requests = Vec::with_capacity(items.len());
        let mut bytes = 0;
        for (item, at) in items.into_iter().zip(0..) {
            let place = format!("evaluations[{at}]");
            let parts = parse_part::<EvaluationParts<'_>>(&place, item);
            // A default is said once, and checked and recorded with each.
            bytes += parts.as_ref().map_or(0, |parts| parts.or(&defaults).weight());
            if bytes > MAX_BODY_BYTES {
                let message = "the evaluations, with the defaults filled in, must have at most";
                return Err(Problem::new(Code::PayloadTooLarge, format!("{message} {MAX_BODY_BYTES} bytes")));
            }
            let check =
                |parts: EvaluationParts<'_>| parts.or(&defaults).check(head).map_err(|error| error.within(&place));
            requests.push(parts.and_then(check));
        }
        Ok(Self::Many(requests, options.and_then(|options| options.evaluations_semantic).unwrap_or_default()))
    }
}

/// The decisions, or the only one of a call without evaluations.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "AuthzenDecisions")]
pub enum EvaluationsAnswer {
    /// In the order of the evaluations, up to the one that ended them.
    Many {
        /// The decisions.
        evaluations: Vec<Evaluated>,
    },
    /// A decision.
    One(Evaluated),
}

/// Decides what can be decided, as far as the semantic goes.
async fn decide(
    decider: &Decider,
    mut items: Vec<Result<Request, Error>>,
    semantic: Semantic,
    received: Instant,
) -> Result<Vec<Evaluated>, Problem> {
    let until = semantic.until();
    if until == Some(false)
        && let Some(failed) = items.iter().position(Result::is_err)
    {
        items.truncate(failed + 1);
    }
    let mut requests = Vec::with_capacity(items.len());
    let items: Vec<Result<(), Error>> =
        items.into_iter().map(|item| item.map(|request| requests.push(request))).collect();
    let decisions = match until {
        _ if requests.is_empty() => Vec::new(),
        None => decider.kavach.authorize_batch(requests, received).await?,
        Some(until) => decider.kavach.authorize_until(requests, until, received).await?,
    };
    Ok(in_order(items, decisions, until))
}

/// What is answered: each evaluation's decision or why there is none, up to the one that ends them.
fn in_order(items: Vec<Result<(), Error>>, decisions: Vec<Decision>, until: Option<bool>) -> Vec<Evaluated> {
    let mut decisions = decisions.into_iter();
    let mut answers = Vec::with_capacity(items.len());
    for item in items {
        let answer = match item {
            Ok(()) => match decisions.next() {
                Some(decision) => Evaluated::from(decision),
                None => break,
            },
            Err(error) => Evaluated::failed(&error),
        };
        let is_last = Some(answer.decision) == until;
        answers.push(answer);
        if is_last {
            break;
        }
    }
    answers
}

type EvaluationsInput = (HttpRequest, UnreadBody<EvaluationsBody<'static>, MAX_BODY_BYTES>);

/// `POST /access/v1/evaluations`
pub async fn many(decider: Decider, (http, body): EvaluationsInput) -> HandlerResult {
    // Nobody without a valid key makes the server read a megabyte.
    decider.check().await?;
    let body = body.bytes(&http).await?;
    let received = Instant::now();
    check_content_type(http.headers())?;
    let answer = match Evaluations::read(&CallHead::of(&decider, http.headers()), &body)? {
        Evaluations::One(request) => {
            EvaluationsAnswer::One(decider.kavach.authorize_since(request, received).await?.into())
        }
        Evaluations::Many(items, semantic) => {
            EvaluationsAnswer::Many { evaluations: decide(&decider, items, semantic, received).await? }
        }
    };
    responses::json(HttpResponse::Ok(), &answer)
}

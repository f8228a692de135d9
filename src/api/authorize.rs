//! `/v1/authorize` in all its forms.

use std::time::Instant;

use actix_web::http::header::HeaderMap;
use actix_web::web::{Bytes, Path};
use actix_web::{HttpRequest, HttpResponse};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::auth::{CallerGuard, Decider, Viewer};
use super::authorize_body::{AuthorizeBody, BatchBody, CallHead};
use super::error::{HandlerResult, Problem};
use super::idempotency::{REPLAYED, idempotency_key, refuse_key_of_all};
use super::input::{UnreadBody, declared_length, parse, parse_part};
use super::{fast_authorize_json, responses};
use crate::domain::limits::{MAX_AUTHORIZE_BODY_BYTES, MAX_BATCH, MAX_BODY_BYTES, MAX_UNCHECKED_BODY_BYTES};
use crate::domain::{Code, Decision, Error, Request, TenantRef, schema};

/// The answers of a batch.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "BatchDecisions")]
pub struct BatchAnswer {
    /// In the order of the requests.
    results: Vec<BatchResult>,
}

/// The answer to one request of a batch.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
enum BatchResult {
    /// It was decided.
    Decided(Decision),
    /// It is malformed, or its idempotency key came with another request, and it is not decided. The others are.
    Failed(BatchFailure),
}

/// A request of a batch that is malformed, or whose idempotency key came with another one. It is neither decided nor recorded.
#[derive(Serialize, JsonSchema)]
struct BatchFailure {
    /// Always false.
    #[schemars(extend("const" = false))]
    allowed: bool,
    /// What is wrong with it.
    error: FailureJson,
}

/// What is wrong with a request of a batch.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct FailureJson {
    /// The code that the request would get by itself.
    code: Code,
    /// A sentence for people.
    message: String,
    /// Facts for programs, such as the `field` that is wrong, with the request's place.
    #[schemars(with = "Option<schema::AnyObject>")]
    details: Value,
}

impl BatchResult {
    fn of(decision: Decision) -> Self {
        match decision.code {
            // A mistake of the client, as a malformed request is one.
            Some(code @ Code::IdempotencyKeyReused) => {
                Self::failed(&Error::new(code, decision.reason.unwrap_or_default()))
            }
            _ => Self::Decided(decision),
        }
    }

    fn failed(error: &Error) -> Self {
        let (code, message, details) = (error.code(), error.message().to_owned(), error.details().clone());
        Self::Failed(BatchFailure { allowed: false, error: FailureJson { code, message, details } })
    }
}

type AuthorizeInput = (HttpRequest, UnreadBody<AuthorizeBody<'static>, MAX_AUTHORIZE_BODY_BYTES>);

/// Checks the key before reading a body that is large or does not announce its length.
///
/// # Errors
/// As for [`crate::service::Kavach::authenticate`].
pub(super) async fn check_key_before(decider: &Decider, declared: Option<usize>) -> Result<(), Problem> {
    if declared.is_none_or(|bytes| bytes > MAX_UNCHECKED_BODY_BYTES) {
        Box::pin(decider.check()).await?;
    }
    Ok(())
}

/// The bytes of an authorize body.
pub(super) async fn body_of<T, const LIMIT: usize>(
    decider: &Decider,
    http: &HttpRequest,
    body: UnreadBody<T, LIMIT>,
) -> Result<Bytes, Problem> {
    check_key_before(decider, declared_length(http.headers())).await?;
    body.bytes(http).await
}

fn as_text(body: &[u8]) -> Option<&str> {
    std::str::from_utf8(body).ok()
}

/// Reads one authorize body. Only a caller with a valid key learns why it can't be read.
async fn read(decider: &Decider, headers: &HeaderMap, body: &[u8], agent: Option<&str>) -> Result<Request, Problem> {
    let read = read_unchecked(decider, headers, body, agent);
    if read.is_err() {
        decider.check().await?;
    }
    read
}

/// [`read`], for a caller whose key was checked.
fn read_unchecked(
    decider: &Decider,
    headers: &HeaderMap,
    body: &[u8],
    agent: Option<&str>,
) -> Result<Request, Problem> {
    let head = CallHead::of(decider, headers);
    as_text(body)
        .and_then(fast_authorize_json::single)
        .map_or_else(|| parse(body), Ok)
        .and_then(|parsed| parsed.check(&head, agent).map_err(Problem))
        .and_then(|request| with_key_of_head(decider, headers, request).map_err(Problem))
}

/// The request with the idempotency key in its head, if there is one.
fn with_key_of_head(decider: &Decider, headers: &HeaderMap, request: Request) -> Result<Request, Error> {
    let Some(key) = idempotency_key(headers)? else { return Ok(request) };
    let in_body = request.key.clone();
    let keyed = request.with_key(key, decider.is_agent);
    if in_body.is_some() && in_body != keyed.key {
        return Err(Error::field(Code::InvalidField, "idempotencyKey", "differs from the Idempotency-Key of the head"));
    }
    Ok(keyed)
}

async fn decide(decider: &Decider, request: Request, received: Instant) -> HandlerResult {
    let decision = decider.kavach.authorize_since(request, received).await?;
    let mut response = HttpResponse::Ok();
    if decision.is_repeat {
        response.insert_header(REPLAYED);
    }
    responses::json(response, &decision)
}

/// `POST /v1/authorize`
pub async fn single(decider: Decider, (http, body): AuthorizeInput) -> HandlerResult {
    let body = body_of(&decider, &http, body).await?;
    decide_body(&decider, http.headers(), body).await
}

/// Decides what a body asks.
///
/// # Errors
/// Those of the route.
pub(super) async fn decide_body(decider: &Decider, headers: &HeaderMap, body: Bytes) -> HandlerResult {
    let received = Instant::now();
    let request = read(decider, headers, &body, None).await?;
    // The connection can reuse the buffer that holds the body.
    drop(body);
    decide(decider, request, received).await
}

/// `POST /v1/agents/{id}/authorize`
pub async fn by_agent(decider: Decider, (id, (http, body)): (Path<String>, AuthorizeInput)) -> HandlerResult {
    let body = body_of(&decider, &http, body).await?;
    let received = Instant::now();
    let request = read(&decider, http.headers(), &body, Some(&id)).await?;
    decide(&decider, request, received).await
}

/// `POST /v1/tenants/{tenant}/authorize`
pub async fn by_tenant(decider: Decider, (tenant, (http, body)): (Path<String>, AuthorizeInput)) -> HandlerResult {
    let body = body_of(&decider, &http, body).await?;
    let received = Instant::now();
    let mut request = read(&decider, http.headers(), &body, None).await?;
    match decider.kavach.claim_in_path(&TenantRef::parse(&tenant)) {
        Ok(claim) => request = request.in_tenant(claim),
        Err(error) => {
            decider.check().await?;
            return Err(error.into());
        }
    }
    decide(&decider, request, received).await
}

type BatchInput = (HttpRequest, UnreadBody<BatchBody<'static>, MAX_BODY_BYTES>);

/// `POST /v1/authorize/batch`
pub async fn batch(decider: Decider, (http, body): BatchInput) -> HandlerResult {
    // Nobody without a valid key makes the server read a megabyte.
    decider.check().await?;
    refuse_key_of_all(http.headers())?;
    let body = body.bytes(&http).await?;
    let received = Instant::now();
    let mut requests = Vec::new();
    let read = read_batch(&CallHead::of(&decider, http.headers()), &body)?;
    let items: Vec<Result<(), Error>> =
        read.into_iter().map(|item| item.map(|request| requests.push(request))).collect();
    let decisions =
        if requests.is_empty() { Vec::new() } else { decider.kavach.authorize_batch(requests, received).await? };
    let mut decisions = decisions.into_iter();
    let lost = || Error::new(Code::InternalError, "the request was not decided");
    let results = items.into_iter().map(|item| {
        let decision = item.and_then(|()| decisions.next().ok_or_else(lost));
        decision.map_or_else(|error| BatchResult::failed(&error), BatchResult::of)
    });
    responses::json(HttpResponse::Ok(), &BatchAnswer { results: results.collect() })
}

/// Reads a batch: each item is a request or the reason why it is none.
///
/// # Errors
/// What is wrong with the batch as a whole.
pub fn read_batch(head: &CallHead<'_>, body: &[u8]) -> Result<Vec<Result<Request, Error>>, Problem> {
    let place = |at: usize| format!("requests[{at}]");
    let check = |at, body: AuthorizeBody<'_>| body.check(head, None).map_err(|error| error.within(&place(at)));
    if let Some(bodies) = as_text(body).and_then(fast_authorize_json::batch) {
        check_count(bodies.len())?;
        return Ok(bodies.into_iter().enumerate().map(|(at, body)| check(at, body)).collect());
    }
    let BatchBody { requests } = parse(body)?;
    check_count(requests.len())?;
    let read = |(at, item)| parse_part(&place(at), item).and_then(|body| check(at, body));
    Ok(requests.into_iter().enumerate().map(read).collect())
}

fn check_count(requests: usize) -> Result<(), Problem> {
    if (1..=MAX_BATCH).contains(&requests) {
        return Ok(());
    }
    let problem = format!("must contain 1 to {MAX_BATCH} requests, not {requests}");
    Err(Problem(Error::field(Code::InvalidField, "requests", problem)))
}

/// `POST /v1/authorize/explain`
pub async fn explain(Viewer(kavach): Viewer, (http, body): AuthorizeInput) -> HandlerResult {
    let body = body.bytes(&http).await?;
    let decider = Decider { kavach, is_agent: false, peer: None };
    let request = read_unchecked(&decider, http.headers(), &body, None)?;
    responses::json(HttpResponse::Ok(), &decider.kavach.explain(request).await?)
}

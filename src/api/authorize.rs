//! `/v1/authorize` in all its forms.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Instant;

use actix_web::http::header::{HeaderMap, HeaderName, USER_AGENT};
use actix_web::web::{Bytes, Path};
use actix_web::{HttpRequest, HttpResponse};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::auth::{Admin, Decider};
use super::error::Problem;
use super::input::{Unread, declared_length, parse, parse_part};
use super::routes::Answer;
use super::{plain, views};
use crate::domain::budget::cost::Cost;
use crate::domain::decision::arguments::Arguments;
use crate::domain::decision::request::Asked;
use crate::domain::limits::{MAX_AUTHORIZE_BODY_BYTES, MAX_BATCH, MAX_BODY_BYTES, MAX_UNCHECKED_BODY_BYTES};
use crate::domain::text::quote;
use crate::domain::{Code, Decision, Error, Request, TenantRef, TraceId, schema};

/// An authorize body. Fields it does not know are ignored.
#[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "AuthorizeRequest")]
pub struct AuthorizeBody<'a> {
    /// Whose call it is. Not needed with an agent token, nor where the path names the agent.
    #[serde(borrow)]
    #[schemars(with = "Option<String>")]
    pub agent_id: Option<Cow<'a, str>>,
    /// The tenant that the agent has to belong to: id, slug or `default`.
    #[serde(borrow)]
    #[schemars(with = "Option<String>")]
    pub tenant_id: Option<Cow<'a, str>>,
    /// What is done.
    #[serde(borrow)]
    #[schemars(with = "schema::Action")]
    pub action: Cow<'a, str>,
    /// On what: segments joined by `:`.
    #[serde(borrow)]
    #[schemars(with = "schema::Resource")]
    pub resource: Cow<'a, str>,
    /// The call's arguments, for `allowedArgPatterns` and the audit trail, which holds the hash and the size of those of
    /// more than 32 KiB.
    #[serde(borrow, default, deserialize_with = "arguments")]
    #[schemars(with = "schema::AnyJson")]
    pub arguments: Option<Arguments<'a>>,
    /// An estimate of what the call costs, charged to budgets at once. `POST /v1/usage` settles it.
    #[serde(borrow, default, deserialize_with = "json_text")]
    #[schemars(with = "Option<Cost>")]
    pub tokens_cost: Option<&'a str>,
    /// What the asking service knows of the call. With an agent token the connection's own address counts.
    #[serde(borrow)]
    pub context: Option<Context<'a>>,
}

/// What the asking service knows of the call.
#[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "CallContext")]
pub struct Context<'a> {
    /// Where the call comes from.
    #[serde(borrow)]
    #[schemars(with = "Option<schema::Address>")]
    pub ip: Option<Cow<'a, str>>,
    /// What it says of itself, for the audit trail.
    #[serde(borrow)]
    #[schemars(with = "Option<String>")]
    pub user_agent: Option<Cow<'a, str>>,
}

/// A batch's body.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "BatchRequest")]
pub struct BatchBody<'a> {
    /// What is asked, each on its own.
    #[serde(borrow)]
    #[schemars(with = "Vec<AuthorizeBody<'static>>", length(min = 1, max = MAX_BATCH))]
    pub requests: Vec<&'a RawValue>,
}

fn arguments<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Arguments<'a>>, D::Error> {
    json_text(deserializer).map(|text| text.map(Arguments::Any))
}

/// Reads a JSON value as its own text.
pub fn json_text<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a str>, D::Error> {
    Option::<&RawValue>::deserialize(deserializer).map(|value| value.map(RawValue::get))
}

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
    /// It can't be decided for its form. The others are.
    Failed(BatchFailure),
}

/// A request of a batch that can't be decided for its form. It is recorded nowhere.
#[derive(Serialize, JsonSchema)]
struct BatchFailure {
    /// Never.
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
    /// The same for people.
    message: String,
    /// Facts for programs, such as the `field` that is wrong, with the request's place.
    #[schemars(with = "Option<schema::AnyObject>")]
    details: Value,
}

impl BatchResult {
    fn failed(error: &Error) -> Self {
        let (code, message, details) = (error.code(), error.message().to_owned(), error.details().clone());
        Self::Failed(BatchFailure { allowed: false, error: FailureJson { code, message, details } })
    }
}

/// What a request takes from its connection rather than its body.
pub struct Connection<'a> {
    /// An agent's own address; what an asking service names is in the body.
    pub agent_ip: Option<Option<IpAddr>>,
    /// The caller's `User-Agent`.
    pub user_agent: Option<&'a str>,
    /// The trace that the call is part of.
    pub trace: Option<TraceId>,
}

impl<'a> Connection<'a> {
    /// What a call's head says.
    pub fn of(decider: &Decider, headers: &'a HeaderMap) -> Self {
        Self { agent_ip: decider.is_agent.then_some(decider.peer), ..Self::asking(headers) }
    }

    /// That of a service that asks about agents.
    pub fn asking(headers: &'a HeaderMap) -> Self {
        let user_agent = headers.get(USER_AGENT).and_then(|text| text.to_str().ok());
        Self { agent_ip: None, user_agent, trace: trace_id(headers) }
    }
}

/// The header that says which trace a call is part of (W3C Trace Context).
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The trace that a request is part of. Of two headers neither is to be believed.
fn trace_id(headers: &HeaderMap) -> Option<TraceId> {
    let first = headers.get(TRACEPARENT)?;
    let is_only = headers.get_all(TRACEPARENT).nth(1).is_none();
    is_only.then(|| TraceId::of_traceparent(first.to_str().ok()?)).flatten()
}

impl AuthorizeBody<'_> {
    /// Checks the body. `agent` is the one that the path names.
    pub fn check(self, connection: &Connection<'_>, agent: Option<&str>) -> Result<Request, Error> {
        let Self { agent_id, tenant_id, action, resource, arguments, tokens_cost, context } = self;
        let (ip, user_agent) = context.map_or((None, None), |context| (context.ip, context.user_agent));
        let user_agent = user_agent.as_deref().filter(|_| connection.agent_ip.is_none()).or(connection.user_agent);
        let mut request = Request::of(&action, &resource, arguments, user_agent)?;
        request.agent = match (agent, agent_id.as_deref()) {
            (Some(path), Some(body)) if path != body => {
                return Err(Error::field(Code::InvalidField, "agentId", "names another agent than the path"));
            }
            (Some(id), _) | (None, Some(id)) => Asked::parse(id),
            (None, None) if connection.agent_ip.is_some() => Asked::Caller,
            (None, None) => {
                let problem = "is needed: only an agent token says by itself which agent asks";
                return Err(Error::field(Code::InvalidField, "agentId", problem));
            }
        };
        request.tenants.extend(tenant_id.as_deref().map(TenantRef::parse));
        if let Some(number) = tokens_cost {
            let (cost, is_rounded) = Cost::parse_rounding("tokensCost", number)?;
            (request.cost, request.is_cost_rounded) = (Some(cost), is_rounded);
        }
        request.ip = match (connection.agent_ip, ip) {
            (Some(own), _) => own,
            (None, Some(text)) => Some(parse_ip(&text)?),
            (None, None) => None,
        };
        request.trace = connection.trace;
        Ok(request)
    }
}

fn parse_ip(text: &str) -> Result<IpAddr, Error> {
    text.parse::<IpAddr>().map(|ip| ip.to_canonical()).map_err(|_| {
        Error::field(Code::InvalidField, "context.ip", format!("must be an IP address, not '{}'", quote(text)))
    })
}

type AuthorizeInput = (HttpRequest, Unread<AuthorizeBody<'static>, MAX_AUTHORIZE_BODY_BYTES>);

/// Lets only whoever has a good key send a body that is large, or that does not say how large it is.
///
/// # Errors
/// As for [`crate::service::Kavach::authenticate`].
pub(super) async fn check_key_before(decider: &Decider, declared: Option<usize>) -> Result<(), Problem> {
    if declared.is_none_or(|bytes| bytes > MAX_UNCHECKED_BODY_BYTES) {
        Box::pin(decider.kavach.authenticate()).await?;
    }
    Ok(())
}

/// The bytes of an authorize body.
pub(super) async fn body_of<T, const LIMIT: usize>(
    decider: &Decider,
    http: &HttpRequest,
    body: Unread<T, LIMIT>,
) -> Result<Bytes, Problem> {
    check_key_before(decider, declared_length(http.headers())).await?;
    body.bytes(http).await
}

fn as_text(body: &[u8]) -> Option<&str> {
    std::str::from_utf8(body).ok()
}

/// Reads one authorize body. One that can't be read is told to nobody whose key is not good.
async fn read(decider: &Decider, headers: &HeaderMap, body: &[u8], agent: Option<&str>) -> Result<Request, Problem> {
    let connection = Connection::of(decider, headers);
    let read = as_text(body)
        .and_then(plain::single)
        .map_or_else(|| parse(body), Ok)
        .and_then(|parsed| parsed.check(&connection, agent).map_err(Problem));
    if read.is_err() {
        decider.kavach.authenticate().await?;
    }
    read
}

async fn decide(decider: &Decider, request: Request, received: Instant) -> Answer {
    views::json(HttpResponse::Ok(), &decider.kavach.authorize_since(request, received).await?)
}

/// `POST /v1/authorize`
pub async fn single(decider: Decider, (http, body): AuthorizeInput) -> Answer {
    let body = body_of(&decider, &http, body).await?;
    answer(&decider, http.headers(), body).await
}

/// The same by the parts of a request.
pub async fn answer(decider: &Decider, headers: &HeaderMap, body: Bytes) -> Answer {
    let received = Instant::now();
    let request = read(decider, headers, &body, None).await?;
    // The connection can reuse the buffer that the body lies in.
    drop(body);
    decide(decider, request, received).await
}

/// `POST /v1/agents/{id}/authorize`
pub async fn by_agent(decider: Decider, (id, (http, body)): (Path<String>, AuthorizeInput)) -> Answer {
    let body = body_of(&decider, &http, body).await?;
    let received = Instant::now();
    let request = read(&decider, http.headers(), &body, Some(&id)).await?;
    decide(&decider, request, received).await
}

/// `POST /v1/tenants/{tenant}/authorize`
pub async fn by_tenant(decider: Decider, (tenant, (http, body)): (Path<String>, AuthorizeInput)) -> Answer {
    let body = body_of(&decider, &http, body).await?;
    let received = Instant::now();
    let mut request = read(&decider, http.headers(), &body, None).await?;
    match decider.kavach.claim_in_path(&TenantRef::parse(&tenant)) {
        Ok(claim) => request.tenants.insert(0, claim),
        Err(error) => {
            decider.kavach.authenticate().await?;
            return Err(error.into());
        }
    }
    decide(&decider, request, received).await
}

type BatchInput = (HttpRequest, Unread<BatchBody<'static>, MAX_BODY_BYTES>);

/// `POST /v1/authorize/batch`
pub async fn batch(decider: Decider, (http, body): BatchInput) -> Answer {
    // A megabyte is read for nobody whose key is not good.
    decider.kavach.authenticate().await?;
    let body = body.bytes(&http).await?;
    let received = Instant::now();
    let mut requests = Vec::new();
    let read = read_batch(&Connection::of(&decider, http.headers()), &body)?;
    let items: Vec<Result<(), Error>> =
        read.into_iter().map(|item| item.map(|request| requests.push(request))).collect();
    let decisions =
        if requests.is_empty() { Vec::new() } else { decider.kavach.authorize_batch(requests, received).await? };
    let mut decisions = decisions.into_iter();
    let lost = || Error::new(Code::InternalError, "the request was not decided");
    let results = items.into_iter().map(|item| {
        let decision = item.and_then(|()| decisions.next().ok_or_else(lost));
        decision.map_or_else(|error| BatchResult::failed(&error), BatchResult::Decided)
    });
    views::json(HttpResponse::Ok(), &BatchAnswer { results: results.collect() })
}

/// Reads a batch: each request, or why it is none.
///
/// # Errors
/// What concerns all of it.
pub fn read_batch(connection: &Connection<'_>, body: &[u8]) -> Result<Vec<Result<Request, Error>>, Problem> {
    let place = |at: usize| format!("requests[{at}]");
    let check = |at, body: AuthorizeBody<'_>| body.check(connection, None).map_err(|error| error.within(&place(at)));
    if let Some(bodies) = as_text(body).and_then(plain::batch) {
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
    let problem = format!("must hold 1 to {MAX_BATCH} requests, not {requests}");
    Err(Problem(Error::field(Code::InvalidField, "requests", problem)))
}

/// `POST /v1/authorize/explain`
pub async fn explain(Admin(kavach): Admin, (http, body): AuthorizeInput) -> Answer {
    let body = body.bytes(&http).await?;
    let decider = Decider { kavach, is_agent: false, peer: None };
    let request = read(&decider, http.headers(), &body, None).await?;
    views::json(HttpResponse::Ok(), &decider.kavach.explain(request).await?)
}

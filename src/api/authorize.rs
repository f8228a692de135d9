//! `/v1/authorize` in all its forms.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Instant;

use actix_web::http::header::{HeaderMap, HeaderName, USER_AGENT};
use actix_web::web::{Bytes, Path};
use actix_web::{HttpRequest, HttpResponse};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::auth::{Admin, Decider};
use super::error::Problem;
use super::input::{Unread, declared_length, parse};
use super::routes::Answer;
use super::{plain, views};
use crate::domain::arguments::Arguments;
use crate::domain::cost::Cost;
use crate::domain::limits::{MAX_AUTHORIZE_BODY_BYTES, MAX_BATCH, MAX_BODY_BYTES, MAX_UNCHECKED_BODY_BYTES};
use crate::domain::request::Asked;
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
#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[schemars(rename = "BatchRequest")]
pub struct BatchBody<'a> {
    /// What is asked, each on its own.
    #[serde(borrow)]
    #[schemars(length(min = 1, max = MAX_BATCH))]
    pub requests: Vec<AuthorizeBody<'a>>,
}

fn arguments<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Arguments<'a>>, D::Error> {
    json_text(deserializer).map(|text| text.map(Arguments::Any))
}

pub(super) fn json_text<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a str>, D::Error> {
    Option::<&RawValue>::deserialize(deserializer).map(|value| value.map(RawValue::get))
}

/// The answers of a batch.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "BatchDecisions")]
pub struct BatchAnswer {
    /// In the order of the requests.
    results: Vec<Decision>,
}

/// What a request takes from its connection rather than its body.
pub(super) struct Connection<'a> {
    /// An agent's own address; what an asking service names is in the body.
    pub agent_ip: Option<Option<IpAddr>>,
    pub user_agent: Option<&'a str>,
    pub trace: Option<TraceId>,
}

impl<'a> Connection<'a> {
    pub(super) fn of(decider: &Decider, headers: &'a HeaderMap) -> Self {
        Self { agent_ip: decider.is_agent.then_some(decider.peer), ..Self::asking(headers) }
    }

    /// That of a service that asks about agents.
    pub(super) fn asking(headers: &'a HeaderMap) -> Self {
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
    pub(super) fn check(self, connection: &Connection<'_>, agent: Option<&str>) -> Result<Request, Error> {
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
    let requests = read_batch(&Connection::of(&decider, http.headers()), &body)?;
    let results = decider.kavach.authorize_batch(requests, received).await?;
    views::json(HttpResponse::Ok(), &BatchAnswer { results })
}

pub(super) fn read_batch(connection: &Connection<'_>, body: &[u8]) -> Result<Vec<Request>, Problem> {
    let plain = as_text(body).and_then(plain::batch);
    let requests = plain.map_or_else(|| parse::<BatchBody<'_>>(body).map(|body| body.requests), Ok)?;
    if requests.is_empty() || requests.len() > MAX_BATCH {
        let problem = format!("must hold 1 to {MAX_BATCH} requests, not {}", requests.len());
        return Err(Problem(Error::field(Code::InvalidField, "requests", problem)));
    }
    let check = |(at, body): (usize, AuthorizeBody<'_>)| {
        body.check(connection, None).map_err(|error| Problem(error.within(&format!("requests[{at}]"))))
    };
    requests.into_iter().enumerate().map(check).collect()
}

/// `POST /v1/authorize/explain`
pub async fn explain(Admin(kavach): Admin, (http, body): AuthorizeInput) -> Answer {
    let body = body.bytes(&http).await?;
    let decider = Decider { kavach, is_agent: false, peer: None };
    let request = read(&decider, http.headers(), &body, None).await?;
    views::json(HttpResponse::Ok(), &decider.kavach.explain(request).await?)
}

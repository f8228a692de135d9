//! The body of an authorize call, and the request that it makes together with the head of its call.

use std::borrow::Cow;
use std::net::IpAddr;

use actix_web::http::header::{HeaderMap, USER_AGENT};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::auth::Decider;
use super::traceparent::trace_id;
use crate::domain::budget::cost::Cost;
use crate::domain::decision::arguments::Arguments;
use crate::domain::decision::request::Asked;
use crate::domain::idempotency::key::IdempotencyKey;
use crate::domain::limits::{MAX_BATCH, MAX_HOLD_SECONDS};
use crate::domain::text::quote;
use crate::domain::{Code, Error, Request, TenantRef, TraceId, schema};

/// An authorize body. Fields it does not know are ignored.
#[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "AuthorizeRequest")]
pub struct AuthorizeBody<'a> {
    /// The agent that makes the call. Not needed with an agent token, or if the path names the agent.
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
    /// A name that the client gives this call. Sent again within 24 hours with the same key, the same call gets the first
    /// decision again, and charges and records nothing. A single call may have it in the header `Idempotency-Key`
    /// instead.
    #[serde(borrow)]
    #[schemars(with = "Option<schema::IdempotencyKeyText>")]
    pub idempotency_key: Option<Cow<'a, str>>,
    /// Holds the estimate instead of charging it for good: it is left again after that time unless `POST /v1/usage`
    /// settles it before.
    #[serde(default)]
    pub hold: Option<HoldBody>,
    /// What the asking service knows of the call. With an agent token the connection's own address counts.
    #[serde(borrow)]
    pub context: Option<CallContext<'a>>,
}

/// A hold to make, if the call is allowed.
#[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct HoldBody {
    /// Seconds until it ends by itself.
    #[schemars(range(min = 1, max = MAX_HOLD_SECONDS))]
    pub ttl_seconds: u64,
}

/// What the asking service knows of the call.
#[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "CallContext")]
pub struct CallContext<'a> {
    /// Where the call comes from.
    #[serde(borrow)]
    #[schemars(with = "Option<schema::Address>")]
    pub ip: Option<Cow<'a, str>>,
    /// The `User-Agent` of who makes the call, for the audit trail. That of the asking service is not recorded.
    #[serde(borrow)]
    #[schemars(with = "Option<String>")]
    pub user_agent: Option<Cow<'a, str>>,
}

/// A batch's body.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "BatchRequest")]
pub struct BatchBody<'a> {
    /// The requests. Each is decided by itself.
    #[serde(borrow)]
    #[schemars(with = "Vec<AuthorizeBody<'static>>", length(min = 1, max = MAX_BATCH))]
    pub requests: Vec<&'a RawValue>,
}

fn arguments<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Arguments<'a>>, D::Error> {
    json_text(deserializer).map(|text| text.map(Arguments::Any))
}

/// Reads a JSON value as the text it was written in.
pub fn json_text<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a str>, D::Error> {
    Option::<&RawValue>::deserialize(deserializer).map(|value| value.map(RawValue::get))
}

/// What a request takes from the head of its call and its connection rather than its body.
pub struct CallHead<'a> {
    /// An agent's own address; what an asking service names is in the body.
    pub agent_ip: Option<Option<IpAddr>>,
    /// An agent's own `User-Agent`. That of an asking service says nothing about the call.
    pub user_agent: Option<&'a str>,
    /// The trace that the call is part of.
    pub trace: Option<TraceId>,
}

impl<'a> CallHead<'a> {
    /// Reads the head of a call.
    pub fn of(decider: &Decider, headers: &'a HeaderMap) -> Self {
        let asking = Self::asking(headers);
        if !decider.is_agent {
            return asking;
        }
        let user_agent = headers.get(USER_AGENT).and_then(|text| text.to_str().ok());
        Self { agent_ip: Some(decider.peer), user_agent, ..asking }
    }

    /// Reads the head of a call by a service that asks about agents.
    pub fn asking(headers: &'a HeaderMap) -> Self {
        Self { agent_ip: None, user_agent: None, trace: trace_id(headers) }
    }
}

impl AuthorizeBody<'_> {
    /// Checks the body. `agent` is the one that the path names.
    pub fn check(self, head: &CallHead<'_>, agent: Option<&str>) -> Result<Request, Error> {
        let Self { agent_id, tenant_id, action, resource, arguments, tokens_cost, hold, idempotency_key, context } =
            self;
        let (ip, user_agent) = context.map_or((None, None), |context| (context.ip, context.user_agent));
        let user_agent = user_agent.as_deref().filter(|_| head.agent_ip.is_none()).or(head.user_agent);
        let mut request = Request::of(&action, &resource, arguments, user_agent)?;
        request.agent = match (agent, agent_id.as_deref()) {
            (Some(path), Some(body)) if path != body => {
                return Err(Error::field(Code::InvalidField, "agentId", "differs from the agent in the path"));
            }
            (Some(id), _) | (None, Some(id)) => request.asking_about(id),
            (None, None) if head.agent_ip.is_some() => Asked::Caller,
            (None, None) => {
                let problem = "is required unless the caller has an agent token";
                return Err(Error::field(Code::InvalidField, "agentId", problem));
            }
        };
        request.tenants.extend(tenant_id.as_deref().map(TenantRef::parse));
        if let Some(number) = tokens_cost {
            let (cost, is_rounded) = Cost::parse_rounding("tokensCost", number)?;
            (request.cost, request.is_cost_rounded) = (Some(cost), is_rounded);
        }
        if let Some(HoldBody { ttl_seconds }) = hold {
            request = request.holding(ttl_seconds)?;
        }
        request.ip = match (head.agent_ip, ip) {
            (Some(own), _) => own,
            (None, Some(text)) => Some(parse_ip(&text)?),
            (None, None) => None,
        };
        request.trace = head.trace;
        match idempotency_key {
            Some(text) => {
                Ok(request.with_key(IdempotencyKey::parse("idempotencyKey", &text)?, head.agent_ip.is_some()))
            }
            None => Ok(request),
        }
    }
}

fn parse_ip(text: &str) -> Result<IpAddr, Error> {
    text.parse::<IpAddr>().map(|ip| ip.to_canonical()).map_err(|_| {
        Error::field(Code::InvalidField, "context.ip", format!("must be an IP address, not '{}'", quote(text)))
    })
}

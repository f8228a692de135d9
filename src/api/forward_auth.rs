//! `/v1/forward-auth`: what a gateway asks before it lets a request through (`docs/gateways.md`).
//!
//! Gateways look at the status alone, so the status is the answer: 200, 401, 403 or 429; nginx gets 403 instead of 429.
//! Headers repeat the reason, because nginx keeps nothing else of a refusal.

use std::time::Instant;

use actix_http::Response;
use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::json;

use super::auth::AgentCaller;
use super::authorize_body::CallHead;
use super::error::{HandlerResult, PROBLEM_JSON, Problem, problem_body};
use super::input::AnyQuery;
use crate::domain::{Code, Decision, Error, Request, TenantId};
use crate::gateway::{Gateway, GatewayKind, Mapped, Original};

/// The route's path. It answers below it too.
pub const PATH: &str = "/v1/forward-auth";

const AGENT_ID: HeaderName = HeaderName::from_static("kavach-agent-id");
const TENANT_ID: HeaderName = HeaderName::from_static("kavach-tenant-id");
const AUDIT_ID: HeaderName = HeaderName::from_static("kavach-audit-id");
const WARNINGS: HeaderName = HeaderName::from_static("kavach-warnings");
const CODE: HeaderName = HeaderName::from_static("kavach-code");
const REASON: HeaderName = HeaderName::from_static("kavach-reason");

/// Bytes of a reason in a header: nginx reads all headers of an answer into one page of memory.
const MAX_REASON_BYTES: usize = 512;

/// Any method, `/v1/forward-auth` and below.
pub async fn check(agent: AgentCaller, (http, AnyQuery): (HttpRequest, AnyQuery)) -> HandlerResult {
    let received = Instant::now();
    let AgentCaller { decider, tenant, gateway } = agent;
    let request = match read(&gateway, &http, &CallHead::of(&decider, http.headers())) {
        Ok(request) => request,
        Err(problem) => {
            // Only a caller with a valid token learns what is wrong with the request.
            decider.kavach.authenticate().await?;
            return Err(Problem::new(Code::UnmappedRequest, problem));
        }
    };
    let decision = decider.kavach.authorize_since(request, received).await?;
    Ok(if decision.allowed { allowed(&decision, tenant) } else { denied(decision, tenant)? })
}

/// Reads the original request from what the gateway sent, and maps it.
fn read(gateway: &Gateway, http: &HttpRequest, head: &CallHead<'_>) -> Result<Request, String> {
    let headers = http.headers();
    let find = |name: &str| headers.get_all(name).map(HeaderValue::as_bytes).collect();
    let needed = |name: &str| only(headers, name)?.ok_or_else(|| format!("the gateway must send the header '{name}'"));
    let original = match gateway.kind {
        GatewayKind::Nginx => Original {
            method: needed("X-Original-Method")?,
            target: needed("X-Original-URI")?,
            host: needed("X-Original-Host")?,
            headers: &find,
        },
        GatewayKind::Traefik => Original {
            method: needed("X-Forwarded-Method")?,
            target: needed("X-Forwarded-Uri")?,
            host: needed("X-Forwarded-Host")?,
            headers: &find,
        },
        GatewayKind::Envoy => {
            let target = http.uri().path_and_query().and_then(|target| target.as_str().strip_prefix(PATH));
            Original {
                method: http.method().as_str(),
                target: target.ok_or("the path must begin with the route's")?,
                host: needed(HOST.as_str())?,
                headers: &find,
            }
        }
    };
    let Mapped { action, resource } = gateway.map(&original)?;
    let request = Request::of(&action, &resource, None, head.user_agent);
    let mut request = request.map_err(|error| format!("the request's {}", error.message()))?;
    request.ip = head.agent_ip.flatten();
    request.trace = head.trace;
    Ok(request)
}

/// The only header of that name.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, String> {
    let mut values = headers.get_all(name);
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().ok().filter(|_| values.next().is_none());
    text.map(Some).ok_or_else(|| format!("the header '{name}' must be there once, of visible ASCII characters"))
}

fn allowed(decision: &Decision, tenant: TenantId) -> HttpResponse {
    let mut response = HttpResponse::Ok().finish();
    identify(response.headers_mut(), decision, tenant);
    response
}

fn denied(decision: Decision, tenant: TenantId) -> Result<HttpResponse, Problem> {
    let status = if decision.rate_limited { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::FORBIDDEN };
    let code = decision.code.unwrap_or(Code::InternalError);
    let details = json!({
        "auditId": decision.audit_id, "policyId": decision.policy_id, "retryAfter": decision.retry_after,
    });
    let mut response = HttpResponse::build(status);
    response.insert_header((CONTENT_TYPE, PROBLEM_JSON));
    if let Some(seconds) = decision.retry_after.filter(|_| decision.rate_limited) {
        response.insert_header((RETRY_AFTER, seconds));
    }
    let reason = decision.reason.clone().unwrap_or_default();
    let error = Error::new(code, reason).with_details(details);
    let mut response = response.body(problem_body(&error, status)?);
    identify(response.headers_mut(), &decision, tenant);
    add_reason(response.headers_mut(), &error);
    Ok(response)
}

/// Adds headers with who asked and where it is recorded. All of them are always there: if one were missing, Envoy would
/// pass on what the client itself sent under that name.
fn identify(headers: &mut HeaderMap, decision: &Decision, tenant: TenantId) {
    let mut put = |name, text: String| {
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(name, value);
        }
    };
    put(AGENT_ID, decision.agent_id.map(|id| id.to_string()).unwrap_or_default());
    put(TENANT_ID, tenant.folder_name());
    put(AUDIT_ID, decision.audit_id.map(|id| id.to_string()).unwrap_or_default());
    put(WARNINGS, (decision.warnings.len() + decision.more_warnings).to_string());
}

/// Adds headers with the reason of a refusal.
fn add_reason(headers: &mut HeaderMap, error: &Error) {
    headers.insert(CODE, HeaderValue::from_static(error.code().as_str()));
    let shown = |char: char| if char == ' ' || char.is_ascii_graphic() { char } else { '?' };
    let reason: String = error.message().chars().map(shown).take(MAX_REASON_BYTES).collect();
    if let Ok(value) = HeaderValue::try_from(reason) {
        headers.insert(REASON, value);
    }
}

/// Whether a request is this route's.
pub(super) fn answers(path: &str) -> bool {
    path.strip_prefix(PATH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Repeats an error in headers.
pub(super) fn explain(answer: &mut HttpResponse) {
    if let Some(Problem(error)) = answer.error().and_then(|error| error.as_error::<Problem>()).cloned() {
        add_reason(answer.headers_mut(), &error);
    }
}

/// Gives a response a status that the gateway understands: nginx would take 429 for a server error.
pub(super) fn understood(kind: GatewayKind, mut answer: Response<BoxBody>) -> Response<BoxBody> {
    if kind == GatewayKind::Nginx && answer.status() == StatusCode::TOO_MANY_REQUESTS {
        *answer.status_mut() = StatusCode::FORBIDDEN;
    }
    answer
}

//! Error responses: an example of each, and how a route's errors are grouped by status.

use std::collections::BTreeMap;

use actix_web::ResponseError;
use serde_json::{Map, Value, json};

use super::example::reference;
use crate::api::error::problem_body;
use crate::api::status::status as status_of;
use crate::api::{Problem, RouteAccess};
use crate::domain::{Code, Error};

/// The member of a response object that lists its codes for programs; the description lists them for people.
pub const CODES: &str = "x-codes";

/// Codes that a guard can fail with.
pub fn of_guard(access: RouteAccess) -> Vec<Code> {
    let mut codes = vec![Code::InternalError];
    if access != RouteAccess::Public {
        codes.extend([
            Code::Unauthenticated,
            Code::InvalidToken,
            Code::AuthRateLimited,
            // Only the tenant knows whether a key is valid.
            Code::NotReady,
            Code::ShuttingDown,
            Code::Overloaded,
            Code::TenantUnavailable,
            // If its storage fails, a tenant can't be read either, and a read waits until what it shows is on disk.
            Code::StorageUnavailable,
            Code::OutcomeUnknown,
        ]);
    }
    if access != RouteAccess::Public {
        codes.push(Code::Forbidden);
    }
    codes
}

/// OpenAPI's response objects for those codes, by status. `refusals` are codes of decisions that are answered with a
/// status of their own.
pub fn responses(codes: &[Code], refusals: &[(u16, Code)]) -> Map<String, Value> {
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for code in Code::ALL {
        if codes.contains(code) {
            by_status.entry(status_of(*code)).or_default().push(*code);
        }
    }
    for (status, code) in refusals {
        by_status.entry(*status).or_default().push(*code);
    }
    by_status.into_iter().map(|(status, codes)| (status.to_string(), response(status, &codes))).collect()
}

/// OpenAPI's response object for codes of one status.
pub fn response(status: u16, codes: &[Code]) -> Value {
    let lines: Vec<_> = codes.iter().map(|code| format!("- `{code}`: {}", code.meaning())).collect();
    // The example of a decision's code is a decision.
    let shown = codes.iter().filter(|code| status_of(**code) == status);
    let examples: Map<_, _> = shown.map(|code| (code.to_string(), reference(code.as_str()))).collect();
    // A plain reference: client generators give up on a narrowed one and drop the error.
    let schema = json!({ "$ref": "#/components/schemas/Problem" });
    let mut response = json!({
        "description": lines.join("\n"),
        (CODES): codes,
        "content": { "application/problem+json": { "schema": schema, "examples": examples } },
    });
    let headers: &[&str] = match status {
        401 => &["WWW-Authenticate"],
        405 => &["Allow"],
        429 | 503 => &["Retry-After"],
        _ => &[],
    };
    if !headers.is_empty() {
        response["headers"] = header_references(headers);
    }
    response
}

/// References to headers of the document.
pub fn header_references(names: &[&str]) -> Value {
    let reference = |name: &&str| ((*name).to_owned(), json!({ "$ref": format!("#/components/headers/{name}") }));
    names.iter().map(reference).collect::<Map<_, _>>().into()
}

/// An example response body of each code.
pub fn examples() -> Map<String, Value> {
    Code::ALL
        .iter()
        .map(|code| {
            let value = body(&Problem(example(*code)));
            (code.to_string(), json!({ "summary": code.meaning(), "value": value }))
        })
        .collect()
}

/// The body alone: a whole response would also log a defect that did not happen.
fn body(problem: &Problem) -> Value {
    let bytes = problem_body(&problem.0, problem.status_code()).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// An error with this code and a typical sentence.
fn example(code: Code) -> Error {
    let field = |field: &str, problem: &str| Error::field(code, field, problem);
    let error = |message: &str| Error::new(code, message);
    match code {
        Code::TenantMismatch => field("tenantId", "is not the key's tenant"),
        Code::InvalidBody => field(
            "settings.maxAgents",
            "can't be read: invalid type: string \"5\", expected a whole number from 0 to 4294967295",
        ),
        Code::InvalidField => field("name", "must not be empty"),
        Code::InvalidQuery => field("limit", "must be from 1 to 1000"),
        Code::InvalidPattern => {
            field("permissions[0].resource", "has a '*' inside the segment 'foo*': a '*' must be a whole segment")
        }
        Code::ConfirmationRequired => error("deleting a tenant takes ?confirm= with its slug, 'acme'"),
        Code::Unauthenticated => error("the request needs 'Authorization: Bearer <key>'"),
        Code::InvalidToken => error("the key or token is not valid"),
        Code::Forbidden => error("this requires an operator key"),
        Code::RouteNotFound => error("route '/v2/tenants' not found"),
        Code::TenantNotFound => error("tenant 'globex' not found"),
        Code::AgentNotFound => error("agent 'agt_019ac1d40000700080000009a0b1c2d3' not found"),
        Code::KeyNotFound => error("API key 'key_019ac1d40000700080000009a0b1c2d3' not found"),
        Code::PolicyNotFound => error("policy 'pol_019ac1d40000700080000009a0b1c2d3' not found"),
        Code::DelegationNotFound => error("delegation 'dlg_019ac1d40000700080000009a0b1c2d3' not found"),
        Code::AuditEntryNotFound => error("audit entry 'aud_019ac1d40000700080000009a0b1c2d3' not found"),
        Code::MethodNotAllowed => error("this route takes POST, GET"),
        Code::RequestTimeout => error("the body did not arrive within 30 seconds of its head"),
        Code::SlugTaken => field("slug", "'acme' already exists: another tenant has it"),
        Code::PayloadTooLarge => error("the body must have at most 1048576 bytes"),
        Code::AuthRateLimited => {
            error("too many calls from this address had no valid key or token; a call with a valid one is not refused")
                .with_details(json!({ "retryAfter": 1 }))
        }
        Code::AgentTypeNotAllowed => error("type 'delegated' is not one the tenant allows: autonomous, service")
            .with_details(json!({ "allowedAgentTypes": ["autonomous", "service"] })),
        Code::NotReady => error("the server is still loading its tenants"),
        Code::TenantUnavailable => error("the tenant can't answer right now; try again in a moment"),
        // The meaning is a sentence already.
        other => error(other.meaning()),
    }
}

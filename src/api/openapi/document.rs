//! The document itself, and how it is served.

use std::sync::OnceLock;

use actix_rt::task::spawn_blocking;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, Value, json};

use super::example::shown;
use super::examples::denied;
use super::inputs::Reads;
use super::problems::{self, header_references};
use super::route_docs::{AnswerDocs, Tag};
use super::schemas::Schemas;
use crate::api::auth::{Public, RouteAccess};
use crate::api::endpoint::Endpoint;
use crate::api::error::{HandlerResult, Problem, ProblemBody};
use crate::api::etag::{etag, is_known};
use crate::domain::Code;

/// Response headers, with their meaning.
pub const HEADERS: [(&str, &str); 15] = [
    ("Allow", "Methods that the route takes (RFC 9110)."),
    ("Content-Disposition", "A name for the file."),
    (
        "ETag",
        "The version, for `If-None-Match` or, of what can be changed, for `If-Match` (RFC 9110). Counts make no other one.",
    ),
    (
        "Idempotent-Replayed",
        "`true` if the request came before with the same idempotency key: this is the first answer.",
    ),
    ("Kavach-Agent-Id", "The agent that asked."),
    ("Kavach-Audit-Id", "The audit entry that records the decision."),
    ("Kavach-Code", "The problem's code."),
    ("Kavach-Reason", "The problem's sentence, cut, with `?` for what no header can hold."),
    ("Kavach-Tenant-Id", "The agent's tenant; `default` is the default one."),
    ("Kavach-Unavailable-Tenants", "Tenants that could not be asked, whose part is missing from the answer."),
    ("Kavach-Warnings", "How many budgets are exceeded that only warn."),
    ("Link", "The next page, `<...>; rel=\"next\"` (RFC 8288); absent on the last one."),
    ("Location", "Where it is from now on."),
    ("Retry-After", "Seconds after which the call is worth another try."),
    ("WWW-Authenticate", "How to authenticate (RFC 6750)."),
];

/// The document of these routes as a JSON value, and the names of schemas that differ between requests and answers.
pub fn document(endpoints: &[Endpoint]) -> (Value, Vec<String>) {
    let mut schemas = Schemas::default();
    let mut paths: Map<String, Value> = Map::new();
    for endpoint in endpoints {
        let operation = operation(endpoint, &mut schemas);
        let methods = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        methods[endpoint.method.as_str().to_ascii_lowercase()] = operation;
    }
    link(&mut paths);
    schemas.answer::<ProblemBody<'_>>();
    let (named, clashes) = schemas.named();
    let tags = Tag::ALL.map(|tag| json!({ "name": tag.described().0, "description": tag.described().1 }));
    let headers: Map<_, _> = HEADERS
        .iter()
        .map(|(name, description)| {
            let kind = if *name == "Retry-After" { "integer" } else { "string" };
            ((*name).to_owned(), json!({ "description": description, "schema": { "type": kind } }))
        })
        .collect();
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Kavach",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": env!("CARGO_PKG_DESCRIPTION"),
            "description": INTRODUCTION,
            "license": { "name": env!("CARGO_PKG_LICENSE"), "identifier": env!("CARGO_PKG_LICENSE") },
        },
        "servers": [{ "url": "/", "description": "This server" }],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": named,
            "examples": examples(),
            "headers": headers,
            "responses": {
                "RouteNotFound": problems::response(404, &[Code::RouteNotFound]),
                "MethodNotAllowed": problems::response(405, &[Code::MethodNotAllowed]),
            },
            "securitySchemes": {
                "operatorKey": bearer("kvo_...", "An operator's key: everything; with the role `auditor`, to read it."),
                "tenantKey": bearer("kvt_...", "A tenant's key: its own tenant, as far as its role goes."),
                "agentToken": bearer("kv_...", "An agent's token: its own decisions."),
            },
        },
    });
    (document, clashes)
}

const INTRODUCTION: &str = "\
May this agent do this action on this resource now? Services ask before every tool call of an agent; the answer is \
exact, recorded and fast.\n\n\
Every call but health takes `Authorization: Bearer ...` with an operator key, a tenant key or an agent's token. A \
decision is always a 200, whether it says yes or no. Errors are RFC 9457 problems; programs go by `code`: its meaning \
never changes. Bodies are JSON whatever their content type says. Those that manage refuse fields they don't know, and every route parameters that it does not take or that are empty. Lists \
are plain arrays, paged by `limit` and `cursor`: the `Link` header has the next page.\n\n\
A route that is not here answers 404 `ROUTE_NOT_FOUND`, and a method that a route does not take 405 `METHOD_NOT_ALLOWED`.";

fn bearer(format: &str, description: &str) -> Value {
    json!({ "type": "http", "scheme": "bearer", "bearerFormat": format, "description": description })
}

/// An example of each code: a decision for the codes that only decisions have, else an error.
fn examples() -> Map<String, Value> {
    let mut examples = problems::examples();
    for code in Code::ALL.iter().filter(|code| crate::api::status::status(**code) == 200) {
        examples.insert(code.to_string(), json!({ "summary": code.meaning(), "value": denied(*code) }));
    }
    examples
}

/// Links a created thing to its routes: those below its own with its id as their only variable.
fn link(paths: &mut Map<String, Value>) {
    let id = |operation: &Value| operation["operationId"].as_str().unwrap_or_default().to_owned();
    let named = |path: &str, operations: &Value| {
        let operations = operations.as_object().into_iter().flatten();
        operations.map(|(_, operation)| (path.to_owned(), id(operation))).collect::<Vec<_>>()
    };
    let all: Vec<_> = paths.iter().flat_map(|(path, operations)| named(path, operations)).collect();
    for (path, operations) in paths.iter_mut() {
        let Some(created) = operations.pointer_mut("/post/responses/201") else { continue };
        if created["headers"]["Location"].is_null() {
            continue;
        }
        for (other, operation) in &all {
            let rest = other.strip_prefix(path.as_str()).and_then(|rest| rest.strip_prefix("/{"));
            let Some((name, rest)) = rest.and_then(|rest| rest.split_once('}')) else { continue };
            if !rest.contains('{') {
                let parameters = json!({ name: "$response.body#/id" });
                created["links"][operation] = json!({ "operationId": operation, "parameters": parameters });
            }
        }
    }
}

/// OpenAPI's operation object of a route.
fn operation(endpoint: &Endpoint, schemas: &mut Schemas) -> Value {
    let docs = (endpoint.docs)();
    let mut reads = Reads::new(endpoint.path, schemas);
    (endpoint.input)(&mut reads);
    let Reads { mut parameters, body, mut codes, .. } = reads;
    parameters.retain(|parameter| !docs.without.iter().any(|name| parameter["name"] == *name));
    for header in &docs.headers {
        let schema = (header.schema)(schemas);
        parameters.push(json!({
            "name": header.name, "in": "header", "required": false, "description": header.description, "schema": schema,
        }));
    }
    codes.extend(problems::of_guard(endpoint.access));
    codes.extend(&docs.codes);
    let mut responses = problems::responses(&codes, &docs.refusals);
    for (_, response) in responses.iter_mut().filter(|_| !docs.refusals.is_empty()) {
        let Some(headers) = header_references(&["Kavach-Code", "Kavach-Reason"]).as_object().cloned() else { continue };
        match response["headers"].as_object_mut() {
            Some(known) => known.extend(headers),
            None => response["headers"] = headers.into(),
        }
    }
    for answered in &docs.answers {
        let response = response(answered, schemas);
        match responses.get_mut(&answered.status.to_string()) {
            // Not every 503 is a problem.
            Some(problem) => problem["content"]["application/json"] = response["content"]["application/json"].clone(),
            None => _ = responses.insert(answered.status.to_string(), response),
        }
    }
    let mut operation = json!({
        "operationId": docs.id,
        "tags": [docs.tag.described().0],
        "summary": docs.summary,
        "security": security(endpoint.access),
        "responses": responses,
    });
    let about = [Some(docs.description.to_owned()), roles(endpoint.access)];
    let about: Vec<String> = about.into_iter().flatten().filter(|text| !text.is_empty()).collect();
    if !about.is_empty() {
        operation["description"] = about.join("\n\n").into();
    }
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if let Some(body) = body {
        operation["requestBody"] = body;
    }
    operation
}

fn response(answered: &AnswerDocs, schemas: &mut Schemas) -> Value {
    let mut response = json!({ "description": answered.description });
    if !answered.headers.is_empty() {
        response["headers"] = header_references(&answered.headers);
    }
    for content in &answered.content {
        let schema = (content.schema)(schemas);
        response["content"][content.media] = json!({ "schema": schema, "examples": shown((content.examples)()) });
    }
    response
}

fn security(access: RouteAccess) -> Value {
    match access {
        RouteAccess::Public => json!([]),
        RouteAccess::Agent => json!([{ "agentToken": [] }]),
        RouteAccess::Right(right) => {
            let of_tenants = !right.key_roles().is_empty();
            let names = [("operatorKey", true), ("tenantKey", of_tenants), ("agentToken", right.is_agents())];
            names.iter().filter(|(_, is_one)| *is_one).map(|(name, _)| json!({ *name: [] })).collect()
        }
    }
}

/// Which roles of keys a route takes, in a sentence.
fn roles(access: RouteAccess) -> Option<String> {
    let RouteAccess::Right(right) = access else { return None };
    let names = |names: Vec<&str>| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let operators = names(right.operator_roles().iter().map(|role| role.as_str()).collect());
    let tenants = names(right.key_roles().iter().map(|role| role.as_str()).collect());
    Some(match tenants.as_str() {
        "" => format!("Roles: of operators {operators}."),
        _ => format!("Roles: of operators {operators}; of tenant keys {tenants}."),
    })
}

/// `GET /openapi.json`. It takes the table of routes as an argument: the table lists this handler.
pub async fn get(_: Public, request: HttpRequest, endpoints: fn() -> Vec<Endpoint>) -> HandlerResult {
    /// The document and its tag, made for the first call that asks.
    static SERVED: OnceLock<(String, String)> = OnceLock::new();
    let make = move || {
        let text = document(&endpoints()).0.to_string();
        let etag = etag(&text);
        (text, etag)
    };
    // Making it takes so long that other calls of this worker would notice.
    let made = spawn_blocking(move || SERVED.get_or_init(make)).await;
    let (text, etag) = made.map_err(|_| Problem::new(Code::InternalError, "the document could not be made"))?;
    let is_known = is_known(&request, etag);
    let mut response = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response.insert_header((ETAG, etag.as_str())).insert_header((CACHE_CONTROL, "no-cache"));
    Ok(if is_known {
        response.finish()
    } else {
        response.insert_header((CONTENT_TYPE, "application/json")).body(text.as_str())
    })
}

//! How a handler's input describes itself: its parameters, its body, and how reading them can fail.

use actix_web::web::Path;
use actix_web::{FromRequest, HttpRequest};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::example::{Example, shown};
use super::schemas::{Schemas, not_null};
use crate::api::idempotency::{Once, OnceWithoutBody, OptionalOnce};
use crate::api::if_match::{IF_MATCH_NAME, IfMatch};
use crate::api::input::{AnyQuery, Body, JsonOrForm, OptionalBody, Query, UnreadBody};
use crate::domain::schema::TenantName;
use crate::domain::{AgentId, AuditId, Code, KeyId, MessageId, PolicyId, WebhookId};

/// The input of a handler. Every input has to describe itself for the document.
pub trait HandlerInput: FromRequest {
    /// Whether it reads a query string. A route without one refuses any.
    const TAKES_QUERY: bool = false;

    /// Adds what it reads.
    fn describe(reads: &mut Reads<'_>);
}

/// What a route reads.
pub struct Reads<'a> {
    /// Its path.
    pub path: &'static str,
    /// Where schemas are collected.
    pub schemas: &'a mut Schemas,
    /// OpenAPI's parameter objects.
    pub parameters: Vec<Value>,
    /// OpenAPI's request body object.
    pub body: Option<Value>,
    /// How reading can fail.
    pub codes: Vec<Code>,
}

/// `*`, or a list of tags.
const IF_MATCH_PATTERN: &str = r#"^(\*|[ \t,]*((W/)?"[!#-~]*"[ \t]*(,[ \t,]*(W/)?"[!#-~]*"[ \t]*)*(,[ \t,]*)?)?)$"#;

/// Codes for a body that can't be read.
const OF_BODIES: [Code; 4] = [Code::InvalidBody, Code::RequestTimeout, Code::PayloadTooLarge, Code::Overloaded];

impl<'a> Reads<'a> {
    /// What every route with that path reads.
    pub fn new(path: &'static str, schemas: &'a mut Schemas) -> Self {
        let mut reads = Self { path, schemas, parameters: Vec::new(), body: None, codes: Vec::new() };
        reads.path();
        reads
    }

    fn body<T: Example>(&mut self, required: bool) {
        let schema = self.schemas.request::<T>();
        let content = json!({ "application/json": { "schema": schema, "examples": shown(T::examples()) } });
        self.body = Some(json!({ "required": required, "content": content }));
        self.codes.extend(OF_BODIES);
    }

    fn path(&mut self) {
        let names = self.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        for name in names {
            let (schema, description) = path_parameter(self.schemas, self.path, name);
            self.parameters.push(json!({
                "name": name, "in": "path", "required": true, "description": description, "schema": schema,
            }));
        }
    }

    fn query<T: JsonSchema>(&mut self) {
        let schema = self.schemas.query::<T>();
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        let Some(properties) = schema["properties"].as_object() else { return };
        for (name, schema) in properties {
            let mut schema = schema.clone();
            // In a query there is no null.
            not_null(&mut schema);
            let description = schema.as_object_mut().and_then(|members| members.remove("description"));
            self.parameters.push(json!({
                "name": name,
                "in": "query",
                "required": required.contains(&name.as_str().into()),
                "description": description,
                "schema": schema,
            }));
        }
        self.codes.push(Code::InvalidQuery);
    }
}

/// What a `{name}` in a path is.
fn path_parameter(schemas: &mut Schemas, path: &str, name: &str) -> (Value, &'static str) {
    let begins = |start: &str| path.starts_with(start);
    match name {
        "tenant" => (schemas.request::<TenantName>(), "The tenant: its id, its slug, or `default`."),
        "id" if begins("/v1/tenants/") || begins("/v1/keys/") => (schemas.request::<KeyId>(), "The key's id."),
        "id" if begins("/v1/agents/") || path == "/v1/delegations/{id}/permissions" => {
            (schemas.request::<AgentId>(), "The agent's id.")
        }
        "id" if begins("/v1/delegations/") => {
            let schema = json!({ "type": "string", "pattern": "^(dlg|agt)_[0-9a-f]{32}$" });
            (schema, "The delegation's id; to `GET`, an agent's asks for those that leave it.")
        }
        "id" if begins("/v1/policies/") => (schemas.request::<PolicyId>(), "The policy's id."),
        "id" if begins("/v1/holds/") => (schemas.request::<AuditId>(), "The audit entry of the decision that made it."),
        "id" if begins("/v1/webhooks/") => (schemas.request::<WebhookId>(), "The webhook's id."),
        "delivery" => (schemas.request::<MessageId>(), "The message's id, which its `webhook-id` header holds."),
        "id" if begins("/v1/audit/") => (schemas.request::<AuditId>(), "The entry's id."),
        "file" => (json!({ "type": "string" }), "The file's name."),
        _ => (json!({ "type": "string" }), ""),
    }
}

impl HandlerInput for () {
    fn describe(_: &mut Reads<'_>) {}
}

/// A handler's [`super::Docs`] say which headers it reads.
impl HandlerInput for HttpRequest {
    fn describe(_: &mut Reads<'_>) {}
}

/// What a path's names mean is in `path_parameter`.
impl HandlerInput for Path<String> {
    fn describe(_: &mut Reads<'_>) {}
}

impl HandlerInput for Path<(String, String)> {
    fn describe(_: &mut Reads<'_>) {}
}

impl HandlerInput for IfMatch {
    fn describe(reads: &mut Reads<'_>) {
        let description = "The `ETag` of what is to be changed, as its author has seen it. If it was changed since, the answer \
                           is 412, and nothing is changed. `*` is any.";
        reads.parameters.push(json!({
            "name": IF_MATCH_NAME,
            "in": "header",
            "required": false,
            "description": description,
            "schema": { "type": "string", "pattern": IF_MATCH_PATTERN },
        }));
        reads.codes.extend([Code::InvalidField, Code::PreconditionFailed]);
    }
}

impl HandlerInput for AnyQuery {
    const TAKES_QUERY: bool = true;

    fn describe(_: &mut Reads<'_>) {}
}

impl<T: DeserializeOwned + JsonSchema> HandlerInput for Query<T> {
    const TAKES_QUERY: bool = true;

    fn describe(reads: &mut Reads<'_>) {
        reads.query::<T>();
    }
}

impl<T: DeserializeOwned + Example> HandlerInput for Body<T> {
    fn describe(reads: &mut Reads<'_>) {
        reads.body::<T>(true);
    }
}

impl<T: DeserializeOwned + Example> HandlerInput for JsonOrForm<T> {
    fn describe(reads: &mut Reads<'_>) {
        // Two media types are too many for openapi-python-client: what it makes of them can't be imported. So the route's
        // text alone says that a form does too.
        reads.body::<T>(true);
    }
}

/// A handler's [`super::Docs::once`] describe the header.
impl<T: DeserializeOwned + Example + 'static> HandlerInput for Once<T> {
    fn describe(reads: &mut Reads<'_>) {
        reads.body::<T>(true);
    }
}

impl<T: DeserializeOwned + Default + Example + 'static> HandlerInput for OptionalOnce<T> {
    fn describe(reads: &mut Reads<'_>) {
        reads.body::<T>(false);
    }
}

impl HandlerInput for OnceWithoutBody {
    fn describe(_: &mut Reads<'_>) {}
}

impl<T: DeserializeOwned + Default + Example> HandlerInput for OptionalBody<T> {
    fn describe(reads: &mut Reads<'_>) {
        reads.body::<T>(false);
    }
}

impl<T: Example + 'static, const LIMIT: usize> HandlerInput for UnreadBody<T, LIMIT> {
    fn describe(reads: &mut Reads<'_>) {
        reads.body::<T>(true);
    }
}

impl<A: HandlerInput + 'static, B: HandlerInput + 'static> HandlerInput for (A, B) {
    const TAKES_QUERY: bool = A::TAKES_QUERY || B::TAKES_QUERY;

    fn describe(reads: &mut Reads<'_>) {
        A::describe(reads);
        B::describe(reads);
    }
}

impl<A: HandlerInput + 'static, B: HandlerInput + 'static, C: HandlerInput + 'static> HandlerInput for (A, B, C) {
    const TAKES_QUERY: bool = A::TAKES_QUERY || B::TAKES_QUERY || C::TAKES_QUERY;

    fn describe(reads: &mut Reads<'_>) {
        A::describe(reads);
        B::describe(reads);
        C::describe(reads);
    }
}

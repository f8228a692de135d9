//! `/livez` and `/readyz`: no key needed, and nothing told of what a tenant holds.

use actix_web::HttpResponse;
use serde_json::{Value, json};

use super::auth::Public;
use super::routes::Answer;
use super::views;
use crate::actors::Phase;

/// `GET /livez`: the process answers.
pub async fn live(_: Public, (): ()) -> Answer {
    views::json(HttpResponse::Ok(), &json!({ "status": "alive" }))
}

/// `GET /readyz`: whether to send calls here. One tenant that can't be read does not keep the others waiting.
pub async fn ready(Public(kavach): Public, (): ()) -> Answer {
    let (response, status) = match kavach.phase() {
        Phase::Recovering => (HttpResponse::ServiceUnavailable(), "recovering"),
        Phase::Ready => (HttpResponse::Ok(), "ready"),
        Phase::Draining => (HttpResponse::ServiceUnavailable(), "draining"),
    };
    let unavailable: Vec<Value> = kavach
        .unavailable_tenants()
        .into_iter()
        .map(|(id, error)| json!({ "tenant": id.folder_name(), "code": error.code(), "reason": error.message() }))
        .collect();
    let storage = if kavach.storage_works() { "ok" } else { "unavailable" };
    views::json(response, &json!({ "status": status, "storage": storage, "unavailableTenants": unavailable }))
}

//! `/livez` and `/readyz`: they need no key and show nothing of what a tenant holds.

use actix_web::HttpResponse;
use schemars::JsonSchema;
use serde::Serialize;

use super::auth::Public;
use super::error::HandlerResult;
use super::responses;
use crate::actors::Phase;
use crate::actors::clock::ClockState;
use crate::domain::Code;

/// The answer of a process that is alive.
#[derive(Serialize, JsonSchema)]
pub struct Liveness {
    /// `alive`.
    status: &'static str,
}

/// Whether to send calls here.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Readiness {
    /// `ready` with a 200; `recovering`, `unwritable` or `draining` with a 503.
    #[schemars(extend("enum" = ["ready", "recovering", "unwritable", "draining"]))]
    status: &'static str,
    /// Why nothing can be recorded, if the status is `unwritable`.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Whether journals can be written.
    #[schemars(extend("enum" = ["ok", "unavailable"]))]
    storage: &'static str,
    /// Whether the server trusts the system clock. `held_back`: it jumped far ahead and has not been steady for long
    /// enough, so a call has to be right by both times. `behind`: events were recorded while the clock was ahead.
    clock: ClockState,
    /// Tenants that can't be served; the others can.
    unavailable_tenants: Vec<UnavailableTenant>,
    /// Folders of the data directory that hold a tenant's files under a name that belongs to no tenant, such as copies
    /// made by hand. The server leaves them alone, and the tenants are not affected.
    refused_folders: Vec<RefusedFolder>,
}

/// A folder that is not served.
#[derive(Serialize, JsonSchema)]
pub struct RefusedFolder {
    /// Its name in the data directory.
    folder: String,
    /// Why, and what to do.
    reason: String,
}

/// A tenant that can't be served.
#[derive(Serialize, JsonSchema)]
pub struct UnavailableTenant {
    /// Its id, or `default`.
    tenant: String,
    /// The code its callers get.
    code: Code,
    /// A sentence for people.
    reason: String,
}

/// `GET /livez`: the process answers.
pub async fn live(_: Public, (): ()) -> HandlerResult {
    responses::json(HttpResponse::Ok(), &Liveness { status: "alive" })
}

/// `GET /readyz`: whether to send calls here. A single tenant that can't be read or written does not make the
/// server unready.
pub async fn ready(Public(kavach): Public, (): ()) -> HandlerResult {
    let reason = kavach.why_unwritable().await;
    let (response, status) = match kavach.phase() {
        Phase::Recovering => (HttpResponse::ServiceUnavailable(), "recovering"),
        Phase::Ready if reason.is_some() => (HttpResponse::ServiceUnavailable(), "unwritable"),
        Phase::Ready => (HttpResponse::Ok(), "ready"),
        Phase::Draining => (HttpResponse::ServiceUnavailable(), "draining"),
    };
    let unavailable_tenants = kavach
        .unavailable_tenants()
        .into_iter()
        .map(|(id, error)| UnavailableTenant {
            tenant: id.folder_name(),
            code: error.code(),
            reason: error.message().to_owned(),
        })
        .collect();
    let refused = kavach.refused_folders().into_iter();
    let refused_folders = refused.map(|(folder, reason)| RefusedFolder { folder, reason }).collect();
    let storage = if kavach.storage_works() { "ok" } else { "unavailable" };
    let clock = kavach.clock();
    responses::json(response, &Readiness { status, reason, storage, clock, unavailable_tenants, refused_folders })
}

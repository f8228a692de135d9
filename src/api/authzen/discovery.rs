//! Discovery: the metadata that tells a client where the other routes are.

use actix_web::http::header::{CACHE_CONTROL, HOST, HeaderMap};
use actix_web::{HttpRequest, HttpResponse};
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::auth::{Public, shared};
use crate::api::error::{HandlerResult, Problem};
use crate::api::responses;
use crate::domain::{Code, Error};

/// Path of the metadata.
pub const PATH: &str = "/.well-known/authzen-configuration";

/// What a client needs to know of the server.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AuthzenMetadata")]
pub struct Metadata {
    /// The URL that it is known by.
    policy_decision_point: String,
    /// Where one decision is asked for.
    access_evaluation_endpoint: String,
    /// Where many are.
    access_evaluations_endpoint: String,
    /// Where subjects are searched for.
    search_subject_endpoint: String,
    /// Where resources are.
    search_resource_endpoint: String,
    /// Where actions are.
    search_action_endpoint: String,
}

impl Metadata {
    /// The metadata of a server at this URL.
    fn of(base: String) -> Self {
        let endpoint = |path| format!("{base}/access/v1/{path}");
        Self {
            access_evaluation_endpoint: endpoint("evaluation"),
            access_evaluations_endpoint: endpoint("evaluations"),
            search_subject_endpoint: endpoint("search/subject"),
            search_resource_endpoint: endpoint("search/resource"),
            search_action_endpoint: endpoint("search/action"),
            policy_decision_point: base,
        }
    }
}

/// The server's URL as the request knows it. `forwarded`: the request came through a trusted proxy.
fn asked_at(headers: &HeaderMap, is_tls: bool, forwarded: bool) -> Option<String> {
    let said = |name: &str| headers.get(name).filter(|_| forwarded).and_then(|value| value.to_str().ok());
    // The last proxy is the trusted one.
    let last = |text: &str| text.rsplit(',').next().map(|text| text.trim().to_owned());
    let scheme = match said("x-forwarded-proto").and_then(last) {
        Some(scheme) => Some(scheme).filter(|scheme| scheme == "https" || scheme == "http")?,
        None => if is_tls { "https" } else { "http" }.to_owned(),
    };
    let host = match said("x-forwarded-host").and_then(last) {
        Some(host) => host,
        None => headers.get(HOST)?.to_str().ok()?.to_owned(),
    };
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    (!host.is_empty() && host.bytes().all(is_host)).then(|| format!("{scheme}://{host}"))
}

/// `GET /.well-known/authzen-configuration`
pub async fn metadata(_: Public, http: HttpRequest) -> HandlerResult {
    let shared = shared(&http)?;
    if let Some(base) = shared.public_url() {
        let mut answer = HttpResponse::Ok();
        answer.insert_header((CACHE_CONTROL, "public, max-age=3600"));
        return responses::json(answer, &Metadata::of(base.to_owned()));
    }
    let base = asked_at(http.headers(), shared.is_tls(), shared.is_forwarded(http.peer_addr()));
    let base = base.ok_or_else(|| {
        let problem = "must be the name that clients use for this server; --public-url sets it";
        Problem(Error::field(Code::InvalidField, "Host", problem))
    })?;
    // Another client may use another name.
    let mut answer = HttpResponse::Ok();
    answer.insert_header((CACHE_CONTROL, "no-store"));
    responses::json(answer, &Metadata::of(base))
}

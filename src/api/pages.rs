//! The files of the dashboard and of the documentation, as browsers get them.

use std::sync::LazyLock;

use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::{HttpRequest, HttpResponse};

use super::auth::Public;
use super::error::{HandlerResult, Problem};
use super::etag::{etag, is_known};
use crate::dashboard::{self, ASSETS, Asset};
use crate::domain::Code;
use crate::domain::text::quote;

/// Every file with its tag.
static TAGGED: LazyLock<Vec<(&'static Asset, String)>> =
    LazyLock::new(|| ASSETS.iter().map(|asset| (asset, etag(asset.content))).collect());

/// `GET /`, `/docs` and `/assets/{file}`.
pub async fn file(_: Public, request: HttpRequest) -> HandlerResult {
    let path = request.path();
    let Some((asset, etag)) = TAGGED.iter().find(|(asset, _)| asset.path == path) else {
        return Err(Problem::new(Code::RouteNotFound, format!("file '{}' not found", quote(path))));
    };
    let is_known = is_known(&request, etag);
    let mut response = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response
        .insert_header((ETAG, etag.as_str()))
        // A browser may keep the file but has to ask each time, so that everyone sees a new version at once.
        .insert_header((CACHE_CONTROL, "no-cache"))
        .insert_header((CONTENT_SECURITY_POLICY, dashboard::CONTENT_SECURITY_POLICY))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((REFERRER_POLICY, "no-referrer"))
        .insert_header(("Cross-Origin-Opener-Policy", "same-origin"));
    Ok(if is_known {
        response.finish()
    } else {
        response.insert_header((CONTENT_TYPE, asset.content_type)).body(asset.content)
    })
}

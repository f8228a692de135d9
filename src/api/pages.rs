//! The dashboard's files.

use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::{HttpRequest, HttpResponse};

use super::auth::Public;
use super::error::Problem;
use super::routes::Answer;
use crate::dashboard;
use crate::domain::Code;
use crate::domain::text::quote;

/// Whether the client has the version of that tag (RFC 9110, 13.1.2).
pub(super) fn is_known(request: &HttpRequest, etag: &str) -> bool {
    let known = request.headers().get_all(IF_NONE_MATCH).filter_map(|value| value.to_str().ok());
    let mut tags = known.flat_map(|value| value.split(',')).map(|tag| tag.trim().trim_start_matches("W/"));
    tags.any(|tag| tag == etag || tag == "*")
}

/// `GET /`, and every other path that a file is served at.
pub async fn file(_: Public, request: HttpRequest) -> Answer {
    let path = request.path();
    let Some(file) = dashboard::file(path) else {
        return Err(Problem::new(Code::RouteNotFound, format!("there is no file '{}'", quote(path))));
    };
    let is_known = is_known(&request, &file.etag);
    let mut response = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response
        .insert_header((ETAG, file.etag.as_str()))
        // It may be kept, but is asked for each time, so that a new version is seen at once.
        .insert_header((CACHE_CONTROL, "no-cache"))
        .insert_header((CONTENT_SECURITY_POLICY, dashboard::CONTENT_SECURITY_POLICY))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((REFERRER_POLICY, "no-referrer"))
        .insert_header(("Cross-Origin-Opener-Policy", "same-origin"));
    Ok(if is_known {
        response.finish()
    } else {
        response.insert_header((CONTENT_TYPE, file.content_type)).body(file.content)
    })
}

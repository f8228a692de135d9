//! AuthZEN: the Authorization API 1.0 of the OpenID Foundation, in front of the same decisions as `/v1/authorize`.
//! `docs/authzen.md` says which of its terms stand for which of ours.
//!
//! | to find | look in |
//! | --- | --- |
//! | subjects, resources, actions and contexts, and the request they make | `entities` |
//! | one decision | [`evaluation`] |
//! | many, and when they stop | [`evaluations`] |
//! | which agents, resources or actions would be allowed | [`search`] |
//! | how clients find these routes | [`discovery`] |

use actix_web::http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use super::error::Problem;
use crate::domain::Code;
use crate::domain::limits::MAX_REQUEST_ID_BYTES;
use crate::domain::text::quote;

pub mod discovery;
pub mod entities;
pub mod evaluation;
pub mod evaluations;
pub mod search;

/// The header with a request's id, repeated in the response.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Whether a path belongs to these routes.
pub(super) fn is_path(path: &str) -> bool {
    path.starts_with("/access/") || path == discovery::PATH
}

/// The id that the response has to repeat.
pub(super) fn request_id(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(REQUEST_ID).filter(|id| id.len() <= MAX_REQUEST_ID_BYTES).cloned()
}

/// Refuses a body that does not say it is JSON, as the specification asks.
fn check_content_type(headers: &HeaderMap) -> Result<(), Problem> {
    let text = headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let media_type = text.as_deref().and_then(|text| text.split(';').next()).map(str::trim);
    match media_type {
        Some(media_type) if media_type.eq_ignore_ascii_case("application/json") => Ok(()),
        Some(other) => {
            let message = format!("the Content-Type must be application/json, not '{}'", quote(other));
            Err(Problem::new(Code::InvalidBody, message))
        }
        None => Err(Problem::new(Code::InvalidBody, "the request needs 'Content-Type: application/json'")),
    }
}

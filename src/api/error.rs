//! From an error to its answer: RFC 9457 problem details.

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use tracing::error;

use crate::api::status::status;
use crate::domain::limits::MAX_BODY_BYTES;
use crate::domain::text::quote_cause;
use crate::domain::{Code, Error, schema};

/// Seconds after which to retry a call that got 503.
const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// An error on its way to the client.
#[derive(Clone, Debug)]
pub struct Problem(pub Error);

/// What a handler returns.
pub type HandlerResult = Result<HttpResponse, Problem>;

/// The body of an error response (RFC 9457).
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub struct ProblemBody<'a> {
    /// The code as a URI.
    r#type: String,
    /// What the code means.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What is wrong, for people. The wording may change.
    detail: &'a str,
    /// What is wrong, for programs. A code never changes.
    code: Code,
    /// A copy of `detail`.
    message: &'a str,
    /// Facts for programs, such as the `field` that is wrong; `null` where there are none. If several are, `problems` has
    /// the `field` and the `message` of each, and `field` is the first of them.
    #[schemars(with = "Option<schema::AnyObject>")]
    details: &'a Value,
}

impl Problem {
    /// A problem with this code and sentence.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self(Error::new(code, message))
    }
}

/// The content type of an error's body.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// The body of a response with this error and status.
///
/// # Errors
/// `INTERNAL_ERROR` if the body can't be written as JSON, which no error causes.
pub fn problem_body(error: &Error, status: StatusCode) -> Result<Vec<u8>, Problem> {
    let code = error.code();
    let body = ProblemBody {
        r#type: format!("urn:kavach:problem:{}", code.as_str().to_ascii_lowercase().replace('_', "-")),
        title: code.meaning(),
        status: status.as_u16(),
        detail: error.message(),
        code,
        message: error.message(),
        details: error.details(),
    };
    serde_json::to_vec(&body).map_err(|_| Problem::new(Code::InternalError, "the answer could not be written"))
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

/// For routes without input: reading nothing can't fail.
impl From<std::convert::Infallible> for Problem {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

/// Errors of the framework's own extractors.
impl From<actix_web::Error> for Problem {
    fn from(problem: actix_web::Error) -> Self {
        if let Some(ours) = problem.as_error::<Problem>() {
            return ours.clone();
        }
        let code = match problem.as_response_error().status_code() {
            StatusCode::PAYLOAD_TOO_LARGE => return Self::too_large(MAX_BODY_BYTES),
            StatusCode::NOT_FOUND => Code::RouteNotFound,
            _ => Code::InvalidBody,
        };
        Self::new(code, format!("the request can't be read: {}", quote_cause(&problem.to_string())))
    }
}

impl Problem {
    /// A body over its limit.
    pub fn too_large(limit: usize) -> Self {
        Self::new(Code::PayloadTooLarge, format!("the body must have at most {limit} bytes"))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(status(self.0.code())).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let (status, code) = (self.status_code(), self.0.code());
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            error!(%code, message = self.0.message(), "a request failed by a defect of the server");
        }
        let mut response = HttpResponse::build(status);
        response.insert_header((CONTENT_TYPE, PROBLEM_JSON));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.insert_header((RETRY_AFTER, RETRY_SECONDS));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.insert_header((WWW_AUTHENTICATE, "Bearer"));
        }
        response.body(problem_body(&self.0, status).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `docs/errors.md`, as the table of codes makes it.
    fn page() -> String {
        let mut page = String::from(
            "# Codes\n\nMade from the table in `crates/domain/src/error.rs`; `KAVACH_BLESS=1 cargo test --lib codes` writes it anew.\n\n\
             An error is answered as `application/problem+json` (RFC 9457) with the code in `code`. In a decision, which is\n\
             always a 200, the code says why the call was denied.\n\n| code | status | meaning |\n| --- | --- | --- |\n",
        );
        for code in Code::ALL {
            page += &format!("| `{code}` | {} | {} |\n", status(*code), code.meaning());
        }
        page
    }

    #[test]
    fn the_page_of_codes_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/errors.md");
        if std::env::var_os("KAVACH_BLESS").is_some() {
            std::fs::write(path, page()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), page(), "write it anew with KAVACH_BLESS=1");
    }
}

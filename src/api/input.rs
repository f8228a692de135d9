//! Bodies and query strings, read so that an error names the field.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use actix_http::header::{CONTENT_LENGTH, HeaderMap};
use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::web::{Bytes, BytesMut};
use actix_web::{FromRequest, HttpRequest};
use futures_core::Stream;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::Problem;
use super::objects::Objects;
use crate::domain::limits::MAX_PAGE;
use crate::domain::text::{quote, quote_cause};
use crate::domain::{Code, Error};
use crate::service::PageRequest;

/// A JSON body of that type, whatever its content type says.
pub struct Body<T>(
    /// What it holds.
    pub T,
);

/// The bytes of a body of at most `LIMIT` bytes.
pub struct Raw<const LIMIT: usize>(
    /// The bytes.
    pub Bytes,
);

/// A query string of that type.
pub struct Query<T>(
    /// What it holds.
    pub T,
);

impl<const LIMIT: usize> FromRequest for Raw<LIMIT> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (declared, payload) = (declared_length(request.headers()), payload.take());
        Box::pin(Self::read(declared, payload))
    }
}

/// The length that the head of a request says its body has.
pub fn declared_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok())
}

impl<const LIMIT: usize> Raw<LIMIT> {
    /// Reads a body that was not read yet. It is copied only where it comes in several pieces.
    ///
    /// # Errors
    /// `PAYLOAD_TOO_LARGE`, or `INVALID_BODY` where it breaks off.
    pub async fn read(declared: Option<usize>, mut payload: Payload) -> Result<Self, Problem> {
        // A body that says it is too large need not be read.
        if declared.is_some_and(|length| length > LIMIT) {
            return Err(Problem::too_large(LIMIT));
        }
        let (mut first, mut all) = (Bytes::new(), BytesMut::new());
        while let Some(piece) = poll_fn(|context| next_piece(&mut payload, context)).await {
            let piece = piece
                .map_err(|problem| Problem::new(Code::InvalidBody, format!("the body can't be read: {problem}")))?;
            if first.len() + all.len() + piece.len() > LIMIT {
                return Err(Problem::too_large(LIMIT));
            }
            if first.is_empty() && all.is_empty() {
                first = piece;
            } else {
                all.extend_from_slice(&std::mem::take(&mut first));
                all.extend_from_slice(&piece);
            }
        }
        Ok(Self(if all.is_empty() { first } else { all.freeze() }))
    }
}

/// The next piece of a body, as a stream has it.
fn next_piece(payload: &mut Payload, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, PayloadError>>> {
    // Of HTTP/1 it is the connection's own task that reads the body from the socket, and polls the handler each time
    // after that. To have the body wake that very task would only make it run once more for nothing.
    let mut unwoken = Context::from_waker(Waker::noop());
    let context = if let Payload::H1 { .. } = payload { &mut unwoken } else { context };
    Pin::new(payload).poll_next(context)
}

impl<T: DeserializeOwned> FromRequest for Body<T> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let bytes = Raw::<{ crate::domain::limits::MAX_BODY_BYTES }>::from_request(request, payload);
        Box::pin(async move { parse(&bytes.await?.0).map(Self) })
    }
}

impl<T: DeserializeOwned> FromRequest for Query<T> {
    type Error = Problem;
    type Future = std::future::Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        std::future::ready(parse_query(request.query_string()).map(Self))
    }
}

/// Reads a query string. The error says which parameter can't be read.
///
/// # Errors
/// `INVALID_QUERY`.
pub fn parse_query<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    let pairs = form_urlencoded::parse(text.as_bytes());
    serde_path_to_error::deserialize(serde_urlencoded::Deserializer::new(pairs)).map_err(|problem| {
        // A parameter that nobody knows is named as the client spelled it.
        let (field, cause) = (quote(&problem.path().to_string()), quote_cause(&problem.inner().to_string()));
        Problem(match field.as_str() {
            "." | "?" => Error::new(Code::InvalidQuery, format!("the query string can't be read: {cause}")),
            field => Error::field(Code::InvalidQuery, field, format!("can't be read: {cause}")),
        })
    })
}

/// Reads JSON (RFC 8259). The error says where in the value, and at which line and column.
///
/// # Errors
/// `INVALID_BODY`.
pub fn parse<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, Problem> {
    let mut parser = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(Objects(&mut parser)).map_err(|problem| {
        // A field that nobody knows is named as the client spelled it.
        let path = quote(&problem.path().to_string());
        match path.as_str() {
            "." | "?" => invalid(None, problem.inner()),
            _ => invalid(Some(&path), problem.inner()),
        }
    })?;
    parser.end().map_err(|problem| invalid(None, &problem))?;
    Ok(value)
}

fn invalid(field: Option<&str>, problem: &serde_json::Error) -> Problem {
    let problem = quote_cause(&problem.to_string());
    Problem(match field {
        Some(field) => Error::field(Code::InvalidBody, field, format!("can't be read: {problem}")),
        None => Error::new(Code::InvalidBody, format!("the body can't be read: {problem}")),
    })
}

/// An owner's name that a filter asks for. It is kept without space around it, so it is looked for without.
pub fn trimmed(name: String) -> String {
    name.trim().to_owned()
}

/// Checks the paging fields of a query.
///
/// # Errors
/// `INVALID_QUERY`.
pub fn page(limit: Option<usize>, cursor: Option<String>) -> Result<PageRequest, Problem> {
    if limit.is_some_and(|limit| !(1..=MAX_PAGE).contains(&limit)) {
        return Err(Problem(Error::field(Code::InvalidQuery, "limit", format!("must be from 1 to {MAX_PAGE}"))));
    }
    Ok(PageRequest { limit, cursor })
}

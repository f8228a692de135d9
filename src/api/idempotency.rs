//! The `Idempotency-Key` header (draft-ietf-httpapi-idempotency-key-header), and bodies of requests that may carry it.
//!
//! A route takes the header if its handler reads its body as [`Once`], [`OptionalOnce`] or [`OnceWithoutBody`] and ends its
//! answer with [`note_repeat`]; its [`Docs::once`](super::openapi::Docs::once) say so. Decisions read it in `authorize`.

use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::{FromRequest, HttpRequest, HttpResponseBuilder};
use serde::de::DeserializeOwned;

use super::error::Problem;
use super::input::{Raw, parse};
use crate::domain::idempotency::key::{IdempotencyKey, RequestKey};
use crate::domain::limits::MAX_BODY_BYTES;
use crate::domain::{Code, Error};
use crate::service::Kavach;

/// The header's name, as errors spell it.
pub const IDEMPOTENCY_KEY: &str = "Idempotency-Key";
/// The same, for look-ups.
const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// The header of an answer that was given before.
pub const REPLAYED: (HeaderName, HeaderValue) =
    (HeaderName::from_static("idempotent-replayed"), HeaderValue::from_static("true"));

/// The key of a request, if it has one.
///
/// # Errors
/// `INVALID_FIELD` for a text that is no key, or for two headers: a proxy and this server might disagree on which counts.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Error> {
    let Some(value) = headers.get(HEADER) else { return Ok(None) };
    if headers.get_all(HEADER).nth(1).is_some() {
        return Err(Error::field(Code::InvalidField, IDEMPOTENCY_KEY, "must be in the request only once"));
    }
    // What is not UTF-8 is no key either.
    let text = std::str::from_utf8(value.as_bytes()).unwrap_or_default();
    IdempotencyKey::parse(IDEMPOTENCY_KEY, text).map(Some)
}

/// Refuses the header where it could mean several requests.
///
/// # Errors
/// `INVALID_FIELD`.
pub fn refuse_key_of_all(headers: &HeaderMap) -> Result<(), Error> {
    if !headers.contains_key(HEADER) {
        return Ok(());
    }
    let problem = "belongs to a single request; in a batch each request has its own 'idempotencyKey' in the body";
    Err(Error::field(Code::InvalidField, IDEMPOTENCY_KEY, problem))
}

/// A JSON body of that type, of a request that is carried out once, however often it arrives with the same key.
pub struct Once<T> {
    key: Option<RequestKey>,
    body: T,
}

impl<T> Once<T> {
    /// The caller with the request's key, and what the body holds.
    pub fn of(self, caller: Kavach) -> (Kavach, T) {
        (caller.once(self.key), self.body)
    }
}

impl<T: DeserializeOwned + 'static> FromRequest for Once<T> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        Box::pin(read_once(request, payload, |bytes| parse(bytes)))
    }
}

/// The same of a body that may be empty.
pub struct OptionalOnce<T>(Once<T>);

impl<T> OptionalOnce<T> {
    /// See [`Once::of`].
    pub fn of(self, caller: Kavach) -> (Kavach, T) {
        self.0.of(caller)
    }
}

impl<T: DeserializeOwned + Default + 'static> FromRequest for OptionalOnce<T> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let once = read_once(request, payload, |bytes| if bytes.is_empty() { Ok(T::default()) } else { parse(bytes) });
        Box::pin(async { once.await.map(Self) })
    }
}

/// The same of a request whose body is not read.
pub struct OnceWithoutBody(Option<RequestKey>);

impl OnceWithoutBody {
    /// The caller with the request's key.
    pub fn of(self, caller: Kavach) -> Kavach {
        caller.once(self.0)
    }
}

impl FromRequest for OnceWithoutBody {
    type Error = Problem;
    type Future = std::future::Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        std::future::ready(request_key(request, &[]).map(Self).map_err(Problem))
    }
}

/// The key of a request, and what `read` makes of its body.
fn read_once<T>(
    request: &HttpRequest,
    payload: &mut Payload,
    read: fn(&[u8]) -> Result<T, Problem>,
) -> impl Future<Output = Result<Once<T>, Problem>> + use<T> {
    let bytes = Raw::<MAX_BODY_BYTES>::from_request(request, payload);
    let request = request.clone();
    async move {
        let Raw(bytes) = bytes.await?;
        let body = read(&bytes)?;
        Ok(Once { key: request_key(&request, &bytes)?, body })
    }
}

/// The key of a request with that body.
fn request_key(request: &HttpRequest, body: &[u8]) -> Result<Option<RequestKey>, Error> {
    let Some(key) = idempotency_key(request.headers())? else { return Ok(None) };
    let (method, path) = (request.method().as_str().as_bytes(), request.path().as_bytes());
    Ok(Some(RequestKey::new(key, &[method, path, &without_space(body)])))
}

/// A JSON text without the space between its parts. A request is the same if nothing else differs.
fn without_space(json: &[u8]) -> Vec<u8> {
    let (mut in_string, mut is_escaped) = (false, false);
    let is_kept = |byte: &u8| {
        let is_quote = *byte == b'"' && !is_escaped;
        is_escaped = in_string && *byte == b'\\' && !is_escaped;
        in_string ^= is_quote;
        in_string || !matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
    };
    json.iter().copied().filter(is_kept).collect()
}

/// Marks the answer if the caller got it before.
pub fn note_repeat(caller: &Kavach, mut response: HttpResponseBuilder) -> HttpResponseBuilder {
    if caller.repeated() {
        response.insert_header(REPLAYED);
    }
    response
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn space_between_the_parts_of_a_body_does_not_matter() {
        let short = |json: &str| String::from_utf8(without_space(json.as_bytes())).unwrap();
        assert_eq!(short("{ \"a b\" :\t[1, 2],\r\n \"c\": \"d \\\" e\" }"), r#"{"a b":[1,2],"c":"d \" e"}"#);
        assert_eq!(short(r#"{"a": "\\" , "b": " \\\" "}"#), r#"{"a":"\\","b":" \\\" "}"#);
    }

    #[test]
    fn one_header_with_a_key_counts() {
        let read = |values: &[&[u8]]| {
            let mut request = TestRequest::default();
            for value in values {
                request = request.append_header((IDEMPOTENCY_KEY, HeaderValue::from_bytes(value).unwrap()));
            }
            idempotency_key(request.to_http_request().headers()).map(|key| key.map(|key| key.as_str().to_owned()))
        };
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[b"k-1"]), Ok(Some("k-1".to_owned())));
        for bad in [&[&b""[..]][..], &[b"a b"], &[b"\xff"], &["é".as_bytes()], &[b"a", b"a"], &[&[b'a'; 256]]] {
            assert_eq!(read(bad).unwrap_err().code(), Code::InvalidField, "{bad:?}");
        }
    }
}

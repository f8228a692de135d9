//! Bodies and query strings, read so that an error names the field.

use std::convert::Infallible;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use actix_http::header::{CONTENT_LENGTH, HeaderMap};
use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::web::{Bytes, BytesMut};
use actix_web::{FromRequest, HttpMessage, HttpRequest};
use futures_core::Stream;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::select;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::auth::shared;
use super::body_problems::body_problems;
use super::error::Problem;
use super::slow_client_memory::SlowClientMemory;
use super::strict_json::StrictJson;
use super::unreadable::unreadable;
use crate::domain::budget::calendar::Calendar;
use crate::domain::limits::{MAX_BODY_SECONDS, MAX_PAGE};
use crate::domain::text::{owner_sought, quote, quote_cause};
use crate::domain::{AgentId, Code, Error, Timestamp, schema};
use crate::net::ConnectionTimer;
use crate::service::{ExportFormat, Kavach, PageRequest};

/// A JSON body of that type, whatever its content type says.
pub struct Body<T>(
    /// What it holds.
    pub T,
);

/// A JSON body of that type; an empty body is `T`'s default.
pub struct OptionalBody<T>(
    /// What it holds.
    pub T,
);

/// A body of that type and at most `LIMIT` bytes that its handler reads when it is ready to.
pub struct UnreadBody<T, const LIMIT: usize> {
    payload: Payload,
    holds: PhantomData<fn() -> T>,
}

/// A body of that type: JSON, or a form if its content type says so (RFC 7662 has its requests that way).
pub struct JsonOrForm<T>(
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

/// A query string that belongs to another request: the handler reads it unparsed.
pub struct AnyQuery;

/// The query of a route that ends something.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// Why, for the audit trail.
    #[schemars(with = "Option<schema::Name>")]
    pub reason: Option<String>,
}

impl Reason {
    /// Adds the reason, if there is one, to what the caller does.
    ///
    /// # Errors
    /// `INVALID_FIELD`.
    pub fn of(self, caller: Kavach) -> Result<Kavach, Problem> {
        Ok(match self.reason {
            Some(reason) => caller.because(&reason)?,
            None => caller,
        })
    }
}

impl<const LIMIT: usize> FromRequest for Raw<LIMIT> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move { Self::read(Incoming::of(&request)?, payload).await })
    }
}

/// A body that is still to be read.
pub struct Incoming<'a> {
    /// The length that the head says it has.
    pub declared: Option<usize>,
    /// The memory of all bodies that are on their way in.
    pub bodies: &'a Arc<SlowClientMemory>,
    /// The pace of its connection.
    pub pace: Option<&'a Rc<ConnectionTimer>>,
}

impl<'a> Incoming<'a> {
    /// The body of that request.
    ///
    /// # Errors
    /// `INTERNAL_ERROR` if the server is not set up.
    pub fn of(request: &'a HttpRequest) -> Result<Self, Problem> {
        let bodies = &shared(request)?.bodies;
        Ok(Self { declared: declared_length(request.headers()), bodies, pace: request.conn_data() })
    }
}

/// The length that the head of a request says its body has.
pub fn declared_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok())
}

impl<const LIMIT: usize> Raw<LIMIT> {
    /// Reads the body. It is copied only if it arrives in several pieces.
    ///
    /// # Errors
    /// `PAYLOAD_TOO_LARGE`; `INVALID_BODY` if it breaks off; `REQUEST_TIMEOUT` if it takes too long; `OVERLOADED` if too
    /// many are on their way and this one is the slowest.
    pub async fn read(from: Incoming<'_>, mut payload: Payload) -> Result<Self, Problem> {
        // A body that announces a length over the limit need not be read.
        if from.declared.is_some_and(|length| length > LIMIT) {
            return Err(Problem::too_large(LIMIT));
        }
        let mut pieces = PartialBody::<LIMIT>::default();
        // Most bodies arrive together with their head.
        while let Poll::Ready(piece) = poll_fn(|context| Poll::Ready(next_piece(&mut payload, context))).await {
            match piece {
                Some(piece) => pieces.add(piece)?,
                None => return Ok(pieces.whole()),
            }
        }
        Box::pin(Self::read_rest(from, payload, pieces)).await
    }

    /// Reads what is still on its way.
    async fn read_rest(
        from: Incoming<'_>,
        mut payload: Payload,
        mut pieces: PartialBody<LIMIT>,
    ) -> Result<Self, Problem> {
        let _reading = from.pace.map(ConnectionTimer::start_reading_body);
        let (let_go, mut gone) = oneshot::channel();
        let mut place = from.bodies.take(pieces.memory(), move || _ = let_go.send(()));
        let mut deadline = pin!(sleep(Duration::from_secs(MAX_BODY_SECONDS)));
        loop {
            let piece = select! {
                biased;
                piece = poll_fn(|context| next_piece(&mut payload, context)) => piece,
                _ = &mut gone => {
                    let message = "too many request bodies are arriving at once, and this one was the slowest; try again in a moment";
                    return Err(Problem::new(Code::Overloaded, message));
                }
                () = &mut deadline => {
                    let message = format!("the body did not arrive within {MAX_BODY_SECONDS} seconds of its head");
                    return Err(Problem::new(Code::RequestTimeout, message));
                }
            };
            match piece {
                Some(piece) => pieces.add(piece)?,
                None => return Ok(pieces.whole()),
            }
            place.moved(pieces.memory());
        }
    }
}

/// The part of a body that has arrived.
#[derive(Default)]
struct PartialBody<const LIMIT: usize> {
    first: Bytes,
    /// All of it, from the second piece on.
    all: BytesMut,
}

impl<const LIMIT: usize> PartialBody<LIMIT> {
    fn len(&self) -> usize {
        self.first.len() + self.all.len()
    }

    fn memory(&self) -> usize {
        self.first.len() + self.all.capacity()
    }

    fn add(&mut self, piece: Result<Bytes, PayloadError>) -> Result<(), Problem> {
        let piece =
            piece.map_err(|problem| Problem::new(Code::InvalidBody, format!("the body can't be read: {problem}")))?;
        if self.len() + piece.len() > LIMIT {
            return Err(Problem::too_large(LIMIT));
        }
        if self.len() == 0 {
            self.first = piece;
        } else {
            self.all.extend_from_slice(&std::mem::take(&mut self.first));
            self.all.extend_from_slice(&piece);
        }
        Ok(())
    }

    fn whole(self) -> Raw<LIMIT> {
        Raw(if self.all.is_empty() { self.first } else { self.all.freeze() })
    }
}

/// The next piece of a body, as a stream has it.
fn next_piece(payload: &mut Payload, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, PayloadError>>> {
    // In HTTP/1 the connection's own task reads the body from the socket and polls the handler after each read. If the
    // body woke that task too, the task would only run once more for nothing.
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

/// The media type of a form.
const FORM: &str = "application/x-www-form-urlencoded";

impl<T: DeserializeOwned> FromRequest for JsonOrForm<T> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let bytes = Raw::<{ crate::domain::limits::MAX_BODY_BYTES }>::from_request(request, payload);
        let is_form = request.content_type().eq_ignore_ascii_case(FORM);
        Box::pin(async move {
            let Raw(bytes) = bytes.await?;
            if is_form { parse_form(&bytes).map(Self) } else { parse(&bytes).map(Self) }
        })
    }
}

impl<T: DeserializeOwned + Default> FromRequest for OptionalBody<T> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let bytes = Raw::<{ crate::domain::limits::MAX_BODY_BYTES }>::from_request(request, payload);
        Box::pin(async move {
            let Raw(bytes) = bytes.await?;
            if bytes.is_empty() { Ok(Self(T::default())) } else { parse(&bytes).map(Self) }
        })
    }
}

impl<T: 'static, const LIMIT: usize> FromRequest for UnreadBody<T, LIMIT> {
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self, Infallible>>;

    fn from_request(_: &HttpRequest, payload: &mut Payload) -> Self::Future {
        std::future::ready(Ok(Self { payload: payload.take(), holds: PhantomData }))
    }
}

impl<T, const LIMIT: usize> UnreadBody<T, LIMIT> {
    /// The bytes of the body.
    ///
    /// # Errors
    /// See [`Raw::read`].
    pub async fn bytes(self, request: &HttpRequest) -> Result<Bytes, Problem> {
        Raw::<LIMIT>::read(Incoming::of(request)?, self.payload).await.map(|Raw(bytes)| bytes)
    }
}

impl<T: DeserializeOwned> FromRequest for Query<T> {
    type Error = Problem;
    type Future = std::future::Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        std::future::ready(parse_query(request.query_string()).map(Self))
    }
}

impl FromRequest for AnyQuery {
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self, Infallible>>;

    fn from_request(_: &HttpRequest, _: &mut Payload) -> Self::Future {
        std::future::ready(Ok(Self))
    }
}

/// Reads a query string. The error names the parameter that can't be read. An empty parameter is refused: it could mean
/// everything or nothing, and we would have to guess.
///
/// # Errors
/// `INVALID_QUERY`.
pub fn parse_query<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    let pairs = form_urlencoded::parse(text.as_bytes());
    let read = serde_path_to_error::deserialize(serde_urlencoded::Deserializer::new(pairs)).map_err(|problem| {
        // A parameter that nobody knows is named as the client spelled it.
        let (field, cause) = (quote(&problem.path().to_string()), quote_cause(&problem.inner().to_string()));
        Problem(match field.as_str() {
            "." | "?" => Error::new(Code::InvalidQuery, format!("the query string can't be read: {cause}")),
            field => Error::field(Code::InvalidQuery, field, format!("can't be read: {cause}")),
        })
    })?;
    match pairs.into_iter().find(|(_, value)| value.trim().is_empty()) {
        Some((name, _)) => {
            let problem = "must not be empty; leave it out if it is not needed";
            Err(Problem(Error::field(Code::InvalidQuery, &quote(&name), problem)))
        }
        None => Ok(read),
    }
}

/// Reads a form. The error names the field that can't be read.
///
/// # Errors
/// `INVALID_BODY`.
fn parse_form<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let pairs = form_urlencoded::parse(bytes);
    serde_path_to_error::deserialize(serde_urlencoded::Deserializer::new(pairs)).map_err(|problem| {
        let (field, cause) = (quote(&problem.path().to_string()), quote_cause(&problem.inner().to_string()));
        Problem(match field.as_str() {
            "." | "?" => Error::new(Code::InvalidBody, format!("the body can't be read: {cause}")),
            field => Error::field(Code::InvalidBody, field, format!("can't be read: {cause}")),
        })
    })
}

/// Refuses any query string, for routes that take none: ignoring it would silently not do what it asks for.
///
/// # Errors
/// `INVALID_QUERY`.
pub fn refuse_query(text: &str) -> Result<(), Problem> {
    match form_urlencoded::parse(text.as_bytes()).next() {
        Some((name, _)) => {
            let problem = "is unknown: this route takes no parameters";
            Err(Problem(Error::field(Code::InvalidQuery, &quote(&name), problem)))
        }
        None => Ok(()),
    }
}

/// Reads JSON (RFC 8259). The error names all places where something is wrong; of what is no JSON, line and column.
///
/// # Errors
/// `INVALID_BODY`.
pub fn parse<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, Problem> {
    let mut parser = serde_json::Deserializer::from_slice(bytes);
    let value = T::deserialize(StrictJson(&mut parser)).map_err(|_| Problem(body_problems::<T>(bytes, None)))?;
    parser.end().map_err(|problem| Problem(unreadable(None, &problem)))?;
    Ok(value)
}

/// Reads a part of a body that was kept as text. The error names the place of the part and the field in it.
///
/// # Errors
/// `INVALID_BODY`.
pub fn parse_part<'de, T: Deserialize<'de>>(place: &str, part: &'de RawValue) -> Result<T, Error> {
    let mut parser = serde_json::Deserializer::from_str(part.get());
    T::deserialize(StrictJson(&mut parser)).map_err(|_| body_problems::<T>(part.get().as_bytes(), Some(place)))
}

/// The owner that a filter asks for under either of its two names. Owners are stored trimmed and composed, so the filter
/// is too.
///
/// # Errors
/// `INVALID_QUERY` where the two ask for different owners.
pub fn owner(user_id: Option<String>, owner_id: Option<String>) -> Result<Option<String>, Problem> {
    let sought = |name: String| owner_sought(&name).into_owned();
    match (user_id.map(sought), owner_id.map(sought)) {
        (Some(user), Some(owner)) if user != owner => {
            let problem = "differs from userId, and both filter by owner";
            Err(Problem(Error::field(Code::InvalidQuery, "ownerId", problem)))
        }
        (user, owner) => Ok(user.or(owner)),
    }
}

/// The agent that a filter asks for.
///
/// # Errors
/// `INVALID_QUERY` if it is not an agent's id.
pub fn agent(agent_id: Option<String>) -> Result<Option<AgentId>, Problem> {
    let bad = |text: &str| {
        Error::field(Code::InvalidQuery, "agentId", format!("must be an agent's id, not '{}'", quote(text)))
    };
    agent_id.map(|text| AgentId::parse(&text).ok_or_else(|| Problem(bad(&text)))).transpose()
}

/// The time that a filter asks for: from when on, and before when. A date alone is the start of that day in that zone,
/// an IANA name that was checked; `None` is UTC.
///
/// # Errors
/// `INVALID_FIELD` for what is not a time, `INVALID_QUERY` where one is after the other.
pub fn period(
    since: Option<String>,
    until: Option<String>,
    zone: Option<Box<str>>,
) -> Result<(Option<Timestamp>, Option<Timestamp>), Problem> {
    let calendar = Calendar { zone, ..Calendar::default() };
    let read = |field: &str, text: String| {
        let is_date = text.len() == "2026-03-01".len();
        let day = if is_date && calendar.is_zoned() { calendar.start_of(&text) } else { None };
        day.map_or_else(|| Timestamp::parse_or_day(field, &text), Ok)
    };
    let since = since.map(|text| read("since", text)).transpose()?;
    let until = until.map(|text| read("until", text)).transpose()?;
    if since.zip(until).is_some_and(|(since, until)| since > until) {
        return Err(Problem(Error::field(Code::InvalidQuery, "since", "must not be after until")));
    }
    Ok((since, until))
}

/// The format that a query asks for, one of `known`; JSON by default.
///
/// # Errors
/// `INVALID_QUERY`.
pub fn export_format(
    format: Option<&str>,
    spreadsheet: Option<bool>,
    known: &[&'static str],
) -> Result<ExportFormat, Problem> {
    let refuse = |field, problem: String| Err(Problem(Error::field(Code::InvalidQuery, field, problem)));
    match format.filter(|format| !known.contains(format)) {
        Some(other) => {
            let (last, others) = known.split_last().unwrap_or((&"json", &[]));
            return refuse("format", format!("must be {} or {last}, not '{}'", others.join(", "), quote(other)));
        }
        None if spreadsheet == Some(true) && format != Some("csv") => {
            return refuse("spreadsheet", "works only with format=csv".to_owned());
        }
        None => {}
    }
    Ok(match format {
        Some("csv") if spreadsheet == Some(true) => ExportFormat::Spreadsheet,
        Some("csv") => ExportFormat::Csv,
        Some("ndjson") => ExportFormat::Ndjson,
        _ => ExportFormat::Json,
    })
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

#[cfg(test)]
mod tests {
    use std::num::NonZero;

    use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
    use tokio::time::Instant;

    use super::*;

    /// A body whose pieces come when they are sent.
    struct Pieced(UnboundedReceiver<Bytes>);

    impl Stream for Pieced {
        type Item = Result<Bytes, PayloadError>;

        fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            self.0.poll_recv(context).map(|piece| piece.map(Ok))
        }
    }

    fn body() -> (UnboundedSender<Bytes>, Payload) {
        let (pieces, receiver) = unbounded_channel();
        (pieces, Payload::Stream { payload: Box::pin(Pieced(receiver)) })
    }

    async fn read(bodies: &Arc<SlowClientMemory>, payload: Payload) -> Result<Bytes, Code> {
        let from = Incoming { declared: None, bodies, pace: None };
        let read = Raw::<1_000>::read(from, payload).await;
        read.map(|Raw(bytes)| bytes).map_err(|Problem(error)| error.code())
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_takes_too_long_is_given_up() {
        let bodies = SlowClientMemory::new(usize::MAX);
        let send_each_second = |pieces: UnboundedSender<Bytes>, times: NonZero<u64>| async move {
            for _ in 0..times.get() {
                sleep(Duration::from_secs(1)).await;
                let _ = pieces.send(Bytes::from_static(b"x"));
            }
        };
        let (pieces, payload) = body();
        let start = Instant::now();
        let in_time = NonZero::new(MAX_BODY_SECONDS - 1).unwrap();
        let (whole, ()) = tokio::join!(read(&bodies, payload), send_each_second(pieces, in_time));
        assert_eq!(whole.unwrap().len() as u64, in_time.get());
        assert_eq!(start.elapsed().as_secs(), in_time.get());
        let (pieces, payload) = body();
        let start = Instant::now();
        let late = NonZero::new(2 * MAX_BODY_SECONDS).unwrap();
        let _sender = tokio::spawn(send_each_second(pieces, late));
        assert_eq!(read(&bodies, payload).await, Err(Code::RequestTimeout));
        assert_eq!(start.elapsed().as_secs(), MAX_BODY_SECONDS);
        assert_eq!(bodies.bytes(), 0);
    }

    #[tokio::test]
    async fn the_slowest_of_too_many_bodies_goes() {
        let bodies = SlowClientMemory::new(100);
        let (slow_pieces, payload) = body();
        slow_pieces.send(Bytes::from_static(&[b'x'; 60])).unwrap();
        let mut slow = Box::pin(read(&bodies, payload));
        assert!(poll_fn(|context| Poll::Ready(slow.as_mut().poll(context).is_pending())).await);
        assert_eq!(bodies.bytes(), 60);
        let (pieces, payload) = body();
        pieces.send(Bytes::from_static(&[b'y'; 60])).unwrap();
        let mut quick = Box::pin(read(&bodies, payload));
        assert!(poll_fn(|context| Poll::Ready(quick.as_mut().poll(context).is_pending())).await);
        assert_eq!(slow.await, Err(Code::Overloaded));
        drop(pieces);
        assert_eq!(quick.await.unwrap().len(), 60);
        assert_eq!(bodies.bytes(), 0);
        let (pieces, payload) = body();
        pieces.send(Bytes::from_static(&[b'z'; 600])).unwrap();
        pieces.send(Bytes::from_static(&[b'z'; 401])).unwrap();
        assert_eq!(read(&bodies, payload).await, Err(Code::PayloadTooLarge));
    }
}

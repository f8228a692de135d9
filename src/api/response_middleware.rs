//! What every request and its response pass, around the router.
//!
//! The most frequent call, `POST /v1/authorize`, is answered by [`fast_authorize`] in front of the router; all others go
//! to the router. Every response is then counted, throttled if it is one 401 too many for its address, and set up so
//! that a slow client can't hold memory for long.

use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_http::{ConnectionType, Request, Response};
use actix_service::{Service, ServiceFactory};
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{AppConfig, ServiceResponse};
use actix_web::http::header::{CACHE_CONTROL, HeaderValue};
use actix_web::http::{StatusCode, Version};
use actix_web::{Error, HttpResponse, ResponseError, web};

use super::auth::Shared;
use super::streaming::{HeldBody, OpenEndedBody};
use super::{authzen, fast_authorize, forward_auth};
use crate::measure::{ThreadMeasures, count};
use crate::net::ConnectionTimer;
use crate::net::connection_timeouts::CallGuard;

/// A response of at most this many bytes is copied to its connection at once and not counted as held.
const SMALL_BYTES: u64 = 64 * 1024;

/// Makes the service of each worker.
pub(super) struct ResponseMiddlewareFactory<F> {
    pub shared: web::Data<Shared>,
    /// Makes the router.
    pub router: F,
}

/// The service of one worker.
pub(super) struct ResponseMiddleware<S> {
    shared: web::Data<Shared>,
    router: S,
    notes: Arc<ThreadMeasures>,
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<BoxBody>, Error>>>>;

impl<F> ServiceFactory<Request> for ResponseMiddlewareFactory<F>
where
    F: ServiceFactory<Request, Config = AppConfig, Response = ServiceResponse, Error = Error, InitError = ()>,
    F::Future: 'static,
    F::Service: 'static,
{
    type Response = Response<BoxBody>;
    type Error = Error;
    type Config = AppConfig;
    type Service = ResponseMiddleware<F::Service>;
    type InitError = ();
    type Future = Pin<Box<dyn Future<Output = Result<Self::Service, ()>>>>;

    fn new_service(&self, config: AppConfig) -> Self::Future {
        let (shared, router) = (self.shared.clone(), self.router.new_service(config));
        let notes = shared.kavach.measures().add_thread();
        Box::pin(async move { Ok(ResponseMiddleware { shared, router: router.await?, notes }) })
    }
}

impl<S> Service<Request> for ResponseMiddleware<S>
where
    S: Service<Request, Response = ServiceResponse, Error = Error>,
    S::Future: 'static,
{
    type Response = Response<BoxBody>;
    type Error = Error;
    type Future = Answering;

    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.router.poll_ready(context)
    }

    fn call(&self, mut request: Request) -> Answering {
        let version = request.head().version;
        // The connection is not idle while a call is under way.
        let call = request.conn_data::<Rc<ConnectionTimer>>().map(ConnectionTimer::start_call);
        let (shared, notes) = (self.shared.clone(), Arc::clone(&self.notes));
        if fast_authorize::takes(&request) {
            Box::pin(async move {
                let answer = fast_authorize::answer(&shared, &mut request).await;
                let answer = answer.unwrap_or_else(|problem| problem.error_response());
                let answer = limited(&shared, answer, || shared.origin(&request.head().headers, request.peer_addr()));
                Ok(sent(&shared, &notes, answer.into(), version, call))
            })
        } else {
            let request_id =
                authzen::is_path(request.path()).then(|| authzen::request_id(&request.head().headers)).flatten();
            let routed = self.router.call(request);
            Box::pin(async move {
                let (request, answer) = routed.await?.into_parts();
                let origin = || shared.origin(request.headers(), request.peer_addr());
                let mut answer = limited(&shared, answer, origin);
                if is_private(request.path()) {
                    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
                }
                let of_gateway = forward_auth::answers(request.path());
                if of_gateway {
                    forward_auth::explain(&mut answer);
                }
                let mut answer = sent(&shared, &notes, answer.into(), version, call);
                if let Some(id) = request_id {
                    answer.headers_mut().insert(authzen::REQUEST_ID, id);
                }
                Ok(if of_gateway { forward_auth::understood(shared.gateway.kind, answer) } else { answer })
            })
        }
    }
}

/// Whether responses there are for their caller alone: some show a key or a token. The fast path does without: no cache
/// keeps the response to a POST that does not ask for it (RFC 9111, 3).
fn is_private(path: &str) -> bool {
    path.starts_with("/v1/") || path.starts_with("/access/")
}

/// The response, or a 429 if it is a 401 and the address got too many of these.
fn limited(shared: &Shared, answer: HttpResponse, origin: impl FnOnce() -> Option<IpAddr>) -> HttpResponse {
    if answer.status() != StatusCode::UNAUTHORIZED {
        return answer;
    }
    count(&shared.kavach.measures().unauthenticated);
    shared.auth_throttle.answer(answer, origin())
}

/// Counts a response, and wraps a large or open-ended body.
fn sent(
    shared: &Shared,
    notes: &ThreadMeasures,
    mut answer: Response<BoxBody>,
    version: Version,
    call: Option<CallGuard>,
) -> Response<BoxBody> {
    if let Some(answers) = notes.answers.get(usize::from(answer.status().as_u16() / 100).wrapping_sub(1)) {
        answers.add(1);
    }
    match answer.body().size() {
        BodySize::None => answer,
        BodySize::Sized(bytes) if bytes <= SMALL_BYTES => answer,
        BodySize::Sized(_) => answer.map_body(|_, body| match body.try_into_bytes() {
            Ok(bytes) => HeldBody::new(bytes, &shared.answers, call).boxed(),
            Err(body) => body,
        }),
        BodySize::Stream => {
            if version < Version::HTTP_11 {
                // HTTP/1.0 has no chunks: closing the connection ends the body.
                answer.head_mut().no_chunking(true);
                answer.head_mut().set_connection_type(ConnectionType::Close);
            }
            answer.map_body(|_, body| OpenEndedBody::new(body, call).boxed())
        }
    }
}

//! The most frequent call is answered in front of the router.
//!
//! `POST /v1/authorize` comes before every tool call of every agent. The router, its extractors and the boxes between
//! them cost it about as much as the decision itself, so it is picked out before them. What answers it is the same code
//! that the router would call.

use std::pin::Pin;
use std::task::{Context, Poll};

use actix_http::{Request, Response};
use actix_service::{Service, ServiceFactory};
use actix_web::body::BoxBody;
use actix_web::dev::{AppConfig, ServiceResponse};
use actix_web::http::Method;
use actix_web::{Error, ResponseError, web};

use super::auth::{Decider, Shared};
use super::input::{Raw, declared_length};
use super::routes::Answer;
use crate::domain::limits::MAX_AUTHORIZE_BODY_BYTES;

/// Path of the route that is answered here.
const AUTHORIZE: &str = "/v1/authorize";

/// Makes the service of each worker.
pub(super) struct FrontFactory<F> {
    pub shared: web::Data<Shared>,
    /// Makes the router.
    pub router: F,
}

/// The service of one worker.
pub(super) struct Front<S> {
    shared: web::Data<Shared>,
    router: S,
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<BoxBody>, Error>>>>;

impl<F> ServiceFactory<Request> for FrontFactory<F>
where
    F: ServiceFactory<Request, Config = AppConfig, Response = ServiceResponse, Error = Error, InitError = ()>,
    F::Future: 'static,
    F::Service: 'static,
{
    type Response = Response<BoxBody>;
    type Error = Error;
    type Config = AppConfig;
    type Service = Front<F::Service>;
    type InitError = ();
    type Future = Pin<Box<dyn Future<Output = Result<Self::Service, ()>>>>;

    fn new_service(&self, config: AppConfig) -> Self::Future {
        let (shared, router) = (self.shared.clone(), self.router.new_service(config));
        Box::pin(async move { Ok(Front { shared, router: router.await? }) })
    }
}

impl<S> Service<Request> for Front<S>
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

    fn call(&self, request: Request) -> Answering {
        if request.path() == AUTHORIZE && request.method() == Method::POST {
            let shared = self.shared.clone();
            Box::pin(async move { Ok(authorize(&shared, request).await.unwrap_or_else(|p| p.error_response()).into()) })
        } else {
            let routed = self.router.call(request);
            Box::pin(async move { Ok(routed.await?.into()) })
        }
    }
}

async fn authorize(shared: &Shared, mut request: Request) -> Answer {
    let payload = request.take_payload();
    let headers = &request.head().headers;
    let decider = Decider::of(shared, headers, request.peer_addr())?;
    let Raw(body) = Raw::<MAX_AUTHORIZE_BODY_BYTES>::read(declared_length(headers), payload).await?;
    super::authorize::answer(&decider, headers, body).await
}

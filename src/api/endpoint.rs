//! A route: its method and path, the guard it stands behind, its handler, and what the OpenAPI document says of it.

use actix_web::http::Method;
use actix_web::{HttpRequest, Route, web};

use super::auth::{CallerGuard, RouteAccess};
use super::error::{HandlerResult, Problem};
use super::input::refuse_query;
use super::openapi::Docs;
use super::openapi::inputs::{HandlerInput, Reads};
use crate::domain::Code;

/// One route.
pub struct Endpoint {
    /// Its method.
    pub method: Method,
    /// Its path, with `{name}` for each variable segment.
    pub path: &'static str,
    /// Who may call it.
    pub access: RouteAccess,
    /// Whether it takes every method, and every path below its own.
    pub catch_all: bool,
    /// Its documentation.
    pub docs: fn() -> Docs,
    /// Describes what it reads.
    pub input: fn(&mut Reads<'_>),
    pub(super) route: Route,
}

/// Makes a route of a handler that takes a guard and one input. The guard runs before the input is read, so that nobody
/// without a key learns what a body should look like. There is no other way to make a route, and none without
/// documentation. (`fast_authorize` answers one of them before the router, behind the same guard.)
pub(super) fn endpoint<G, I, F, R>(method: Method, path: &'static str, handler: F, docs: fn() -> Docs) -> Endpoint
where
    G: CallerGuard,
    I: HandlerInput + 'static,
    I::Error: Into<Problem>,
    F: Fn(G, I) -> R + Clone + 'static,
    R: Future<Output = HandlerResult> + 'static,
{
    let route = web::route().to(move |request: HttpRequest, payload: web::Payload| {
        let handler = handler.clone();
        async move {
            let mut payload = payload.into_inner();
            let guard = G::from_request(&request, &mut payload).await?;
            if refuses_query::<G, I>()
                && let Err(problem) = refuse_query(request.query_string())
            {
                // Only a caller with a valid key learns what is wrong with the query.
                guard.check().await?;
                return Err(problem);
            }
            let input = I::from_request(&request, &mut payload).await.map_err(Into::into)?;
            handler(guard, input).await
        }
    });
    let input = |reads: &mut Reads<'_>| {
        I::describe(reads);
        if refuses_query::<G, I>() {
            reads.codes.push(Code::InvalidQuery);
        }
    };
    Endpoint { method, path, access: G::ACCESS, docs, input, catch_all: false, route }
}

/// Whether a route with this guard and input refuses a query string. Public routes take any, such as the version of a
/// file.
const fn refuses_query<G: CallerGuard, I: HandlerInput>() -> bool {
    !I::TAKES_QUERY && !matches!(G::ACCESS, RouteAccess::Public)
}

impl Endpoint {
    /// Makes it take every method, and every path below its own.
    #[must_use]
    pub(super) fn catch_all(self) -> Self {
        Self { catch_all: true, ..self }
    }

    /// The methods that it answers. Public GET routes answer HEAD too, which monitors send (RFC 9110, 9.3.2).
    pub fn methods(&self) -> Vec<Method> {
        let has_head = self.method == Method::GET && self.access == RouteAccess::Public;
        std::iter::once(self.method.clone()).chain(has_head.then_some(Method::HEAD)).collect()
    }
}

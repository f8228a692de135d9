//! Every route, in one table, with the guard it stands behind.

use actix_http::{Request, Response};
use actix_service::{IntoServiceFactory, Service, ServiceFactory};
use actix_web::body::BoxBody;
use actix_web::dev::AppConfig;
use actix_web::http::Method;
use actix_web::http::header::ALLOW;
use actix_web::{App, FromRequest, HttpRequest, HttpResponse, ResponseError, Route, web};

use super::auth::{Access, Guard, Shared};
use super::error::Problem;
use super::front::FrontFactory;
use super::{agents, audit, authorize, delegations, health, pages, policies, stats, tenants, usage, whoami};
use crate::domain::Code;

/// One route.
pub struct Endpoint {
    /// Its method.
    pub method: Method,
    /// Its path, with `{name}` for what varies.
    pub path: &'static str,
    /// Who may call it.
    pub access: Access,
    route: Route,
}

/// What a handler answers.
pub type Answer = Result<HttpResponse, Problem>;

/// A route whose handler takes a guard and one input. The guard is settled before the input is read, so that nobody
/// learns what a body should look like without a key. There is no other way to make a route; `front` answers one of them
/// itself, behind the same guard.
fn endpoint<G, I, F, R>(method: Method, path: &'static str, handler: F) -> Endpoint
where
    G: Guard,
    I: FromRequest + 'static,
    I::Error: Into<Problem>,
    F: Fn(G, I) -> R + Clone + 'static,
    R: Future<Output = Answer> + 'static,
{
    let route = web::method(method.clone()).to(move |request: HttpRequest, payload: web::Payload| {
        let handler = handler.clone();
        async move {
            let mut payload = payload.into_inner();
            let guard = G::from_request(&request, &mut payload).await?;
            let input = I::from_request(&request, &mut payload).await.map_err(Into::into)?;
            handler(guard, input).await
        }
    });
    Endpoint { method, path, access: G::ACCESS, route }
}

/// All routes.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        // The router tries one after the other, and a `{name}` costs a regular expression: what is called most is first.
        endpoint(Method::POST, "/v1/authorize", authorize::single),
        endpoint(Method::POST, "/v1/authorize/batch", authorize::batch),
        endpoint(Method::POST, "/v1/agents/{id}/authorize", authorize::by_agent),
        endpoint(Method::POST, "/v1/tenants/{tenant}/authorize", authorize::by_tenant),
        endpoint(Method::GET, "/livez", health::live),
        endpoint(Method::GET, "/readyz", health::ready),
        endpoint(Method::POST, "/v1/tenants", tenants::create),
        endpoint(Method::GET, "/v1/tenants", tenants::list),
        endpoint(Method::GET, "/v1/tenants/{tenant}", tenants::get),
        endpoint(Method::PATCH, "/v1/tenants/{tenant}", tenants::update),
        endpoint(Method::DELETE, "/v1/tenants/{tenant}", tenants::delete),
        endpoint(Method::POST, "/v1/tenants/{tenant}/suspend", tenants::suspend),
        endpoint(Method::POST, "/v1/tenants/{tenant}/activate", tenants::activate),
        endpoint(Method::POST, "/v1/tenants/{tenant}/keys", tenants::create_key),
        endpoint(Method::GET, "/v1/tenants/{tenant}/keys", tenants::keys),
        endpoint(Method::DELETE, "/v1/tenants/{tenant}/keys/{id}", tenants::revoke_key),
        endpoint(Method::POST, "/v1/agents", agents::create),
        endpoint(Method::GET, "/v1/agents", agents::list),
        endpoint(Method::GET, "/v1/agents/{id}", agents::get),
        endpoint(Method::PATCH, "/v1/agents/{id}", agents::update),
        endpoint(Method::DELETE, "/v1/agents/{id}", agents::revoke),
        endpoint(Method::POST, "/v1/agents/{id}/rotate", agents::rotate),
        endpoint(Method::POST, "/v1/authorize/explain", authorize::explain),
        endpoint(Method::POST, "/v1/delegations", delegations::create),
        endpoint(Method::GET, "/v1/delegations", delegations::list),
        endpoint(Method::GET, "/v1/delegations/{id}", delegations::get),
        endpoint(Method::DELETE, "/v1/delegations/{id}", delegations::revoke),
        endpoint(Method::GET, "/v1/delegations/{id}/permissions", delegations::permissions),
        endpoint(Method::POST, "/v1/policies", policies::create),
        endpoint(Method::GET, "/v1/policies", policies::list),
        endpoint(Method::GET, "/v1/policies/{id}", policies::get),
        endpoint(Method::PATCH, "/v1/policies/{id}", policies::update),
        endpoint(Method::DELETE, "/v1/policies/{id}", policies::delete),
        endpoint(Method::POST, "/v1/policies/{id}/reset", policies::reset),
        endpoint(Method::POST, "/v1/budget/check", policies::check),
        endpoint(Method::POST, "/v1/usage", usage::report),
        endpoint(Method::GET, "/v1/audit", audit::query),
        // Before `{id}`, which would take these for one.
        endpoint(Method::GET, "/v1/audit/export", audit::export),
        endpoint(Method::GET, "/v1/audit/stream", audit::stream),
        endpoint(Method::GET, "/v1/audit/checkpoint", audit::checkpoint),
        endpoint(Method::GET, "/v1/audit/{id}", audit::get),
        endpoint(Method::POST, "/v1/snapshot", tenants::snapshot),
        endpoint(Method::GET, "/v1/stats", stats::get),
        endpoint(Method::GET, "/v1/whoami", whoami::get),
        endpoint(Method::GET, "/", pages::file),
        endpoint(Method::GET, "/assets/{file}", pages::file),
    ]
}

/// What makes the HTTP service of a worker.
pub fn service(
    shared: Shared,
) -> impl ServiceFactory<
    Request,
    Config = AppConfig,
    Response = Response<BoxBody>,
    Error = actix_web::Error,
    InitError = (),
    Service = impl Service<Request, Response = Response<BoxBody>, Error = actix_web::Error, Future: 'static> + 'static,
> + 'static {
    let shared = web::Data::new(shared);
    let app = App::new().app_data(shared.clone()).configure(configure);
    FrontFactory { shared, router: app.into_factory() }
}

/// Sets up a worker's routes.
fn configure(config: &mut web::ServiceConfig) {
    let mut paths: Vec<(&'static str, Vec<Endpoint>)> = Vec::new();
    for endpoint in endpoints() {
        match paths.iter_mut().find(|(path, _)| *path == endpoint.path) {
            Some((_, methods)) => methods.push(endpoint),
            None => paths.push((endpoint.path, vec![endpoint])),
        }
    }
    for (path, methods) in paths {
        let allowed = methods.iter().map(|endpoint| endpoint.method.as_str()).collect::<Vec<_>>().join(", ");
        let mut resource = web::resource(path);
        for endpoint in methods {
            resource = resource.route(endpoint.route);
        }
        config.service(resource.default_service(web::to(move || {
            let message = format!("this route takes {allowed}");
            let mut response = Problem::new(Code::MethodNotAllowed, message).error_response();
            if let Ok(value) = allowed.parse() {
                response.headers_mut().insert(ALLOW, value);
            }
            std::future::ready(response)
        })));
    }
    config.default_service(web::to(async |request: HttpRequest| {
        let path = crate::domain::text::quote(request.path());
        Problem::new(Code::RouteNotFound, format!("there is no route '{path}'")).error_response()
    }));
}

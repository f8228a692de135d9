//! Every route, in one table, with the guard it stands behind.

use actix_http::{Request, Response};
use actix_service::{IntoServiceFactory, Service, ServiceFactory};
use actix_web::body::BoxBody;
use actix_web::dev::AppConfig;
use actix_web::http::Method;
use actix_web::http::header::ALLOW;
use actix_web::{App, HttpRequest, HttpResponse, ResponseError, Route, guard, web};

use super::auth::{Access, Guard, Shared};
use super::error::Problem;
use super::front::FrontFactory;
use super::input::refuse_query;
use super::openapi::inputs::{Input, Reads};
use super::openapi::{Docs, docs, document};
use super::{
    agents, audit, authorize, authzen, delegations, forward_auth, health, metrics, pages, policies, stats, tenants,
    usage, whoami,
};
use crate::domain::Code;

/// One route.
pub struct Endpoint {
    /// Its method.
    pub method: Method,
    /// Its path, with `{name}` for what varies.
    pub path: &'static str,
    /// Who may call it.
    pub access: Access,
    /// Whether it takes any other method too, and any path below its own.
    pub catch_all: bool,
    /// What is told of it.
    pub docs: fn() -> Docs,
    /// Tells what it reads.
    pub input: fn(&mut Reads<'_>),
    route: Route,
}

/// What a handler answers.
pub type Answer = Result<HttpResponse, Problem>;

/// A route whose handler takes a guard and one input. The guard is settled before the input is read, so that nobody
/// learns what a body should look like without a key. There is no other way to make a route, and none is made without
/// its documentation; `front` answers one of them itself, behind the same guard.
fn endpoint<G, I, F, R>(method: Method, path: &'static str, handler: F, docs: fn() -> Docs) -> Endpoint
where
    G: Guard,
    I: Input + 'static,
    I::Error: Into<Problem>,
    F: Fn(G, I) -> R + Clone + 'static,
    R: Future<Output = Answer> + 'static,
{
    let route = web::route().to(move |request: HttpRequest, payload: web::Payload| {
        let handler = handler.clone();
        async move {
            let mut payload = payload.into_inner();
            let guard = G::from_request(&request, &mut payload).await?;
            if refuses_query::<G, I>()
                && let Err(problem) = refuse_query(request.query_string())
            {
                // What is wrong with it is told to nobody whose key is not good.
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

/// Whether a route of that guard and input takes no query string. Who needs no key may add what it likes, such as the
/// version of a file.
const fn refuses_query<G: Guard, I: Input>() -> bool {
    !I::TAKES_QUERY && !matches!(G::ACCESS, Access::Public)
}

impl Endpoint {
    /// The same with any method, and any path below its own.
    fn catch_all(self) -> Self {
        Self { catch_all: true, ..self }
    }

    /// The methods that it answers: HEAD too where anyone may get it, as whoever watches a server asks (RFC 9110, 9.3.2).
    pub fn methods(&self) -> Vec<Method> {
        let has_head = self.method == Method::GET && self.access == Access::Public;
        std::iter::once(self.method.clone()).chain(has_head.then_some(Method::HEAD)).collect()
    }
}

/// All routes.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        // The router tries one after the other, and a `{name}` costs a regular expression: what is called most is first.
        endpoint(Method::POST, "/v1/authorize", authorize::single, docs::decisions::single),
        endpoint(Method::POST, "/v1/authorize/batch", authorize::batch, docs::decisions::batch),
        endpoint(Method::POST, "/v1/agents/{id}/authorize", authorize::by_agent, docs::decisions::by_agent),
        endpoint(Method::POST, "/v1/tenants/{tenant}/authorize", authorize::by_tenant, docs::decisions::by_tenant),
        endpoint(Method::POST, "/access/v1/evaluation", authzen::evaluation::single, docs::authzen::evaluation),
        endpoint(Method::POST, "/access/v1/evaluations", authzen::evaluations::many, docs::authzen::evaluations),
        endpoint(Method::GET, "/livez", health::live, docs::server::live),
        endpoint(Method::GET, "/readyz", health::ready, docs::server::ready),
        endpoint(Method::POST, "/v1/tenants", tenants::create, docs::tenants::create),
        endpoint(Method::GET, "/v1/tenants", tenants::list, docs::tenants::list),
        endpoint(Method::GET, "/v1/tenants/{tenant}", tenants::get, docs::tenants::get),
        endpoint(Method::PATCH, "/v1/tenants/{tenant}", tenants::update, docs::tenants::update),
        endpoint(Method::DELETE, "/v1/tenants/{tenant}", tenants::delete, docs::tenants::delete),
        endpoint(Method::POST, "/v1/tenants/{tenant}/suspend", tenants::suspend, docs::tenants::suspend),
        endpoint(Method::POST, "/v1/tenants/{tenant}/activate", tenants::activate, docs::tenants::activate),
        endpoint(Method::POST, "/v1/tenants/{tenant}/keys", tenants::create_key, docs::tenants::create_key),
        endpoint(Method::GET, "/v1/tenants/{tenant}/keys", tenants::keys, docs::tenants::keys),
        endpoint(Method::DELETE, "/v1/tenants/{tenant}/keys/{id}", tenants::revoke_key, docs::tenants::revoke_key),
        endpoint(Method::POST, "/v1/agents", agents::create, docs::agents::create),
        endpoint(Method::GET, "/v1/agents", agents::list, docs::agents::list),
        endpoint(Method::GET, "/v1/agents/{id}", agents::get, docs::agents::get),
        endpoint(Method::PATCH, "/v1/agents/{id}", agents::update, docs::agents::update),
        endpoint(Method::DELETE, "/v1/agents/{id}", agents::revoke, docs::agents::revoke),
        endpoint(Method::POST, "/v1/agents/{id}/rotate", agents::rotate, docs::agents::rotate),
        endpoint(Method::POST, "/v1/authorize/explain", authorize::explain, docs::decisions::explain),
        endpoint(Method::POST, "/v1/delegations", delegations::create, docs::delegations::create),
        endpoint(Method::GET, "/v1/delegations", delegations::list, docs::delegations::list),
        endpoint(Method::GET, "/v1/delegations/{id}", delegations::get, docs::delegations::get),
        endpoint(Method::DELETE, "/v1/delegations/{id}", delegations::revoke, docs::delegations::revoke),
        endpoint(
            Method::GET,
            "/v1/delegations/{id}/permissions",
            delegations::permissions,
            docs::delegations::permissions,
        ),
        endpoint(Method::POST, "/v1/policies", policies::create, docs::budgets::create),
        endpoint(Method::GET, "/v1/policies", policies::list, docs::budgets::list),
        endpoint(Method::GET, "/v1/policies/{id}", policies::get, docs::budgets::get),
        endpoint(Method::PATCH, "/v1/policies/{id}", policies::update, docs::budgets::update),
        endpoint(Method::DELETE, "/v1/policies/{id}", policies::delete, docs::budgets::delete),
        endpoint(Method::POST, "/v1/policies/{id}/reset", policies::reset, docs::budgets::reset),
        endpoint(Method::POST, "/v1/budget/check", policies::check, docs::budgets::check),
        endpoint(Method::POST, "/v1/usage", usage::report, docs::budgets::report),
        endpoint(Method::GET, "/v1/audit", audit::query, docs::audit::query),
        // Before `{id}`, which would take these for one.
        endpoint(Method::GET, "/v1/audit/export", audit::export, docs::audit::export),
        endpoint(Method::GET, "/v1/audit/stream", audit::stream, docs::audit::stream),
        endpoint(Method::GET, "/v1/audit/checkpoint", audit::checkpoint, docs::audit::checkpoint),
        endpoint(Method::GET, "/v1/audit/{id}", audit::get, docs::audit::get),
        endpoint(Method::POST, "/v1/snapshot", tenants::snapshot, docs::server::snapshot),
        endpoint(Method::GET, forward_auth::PATH, forward_auth::check, docs::decisions::forward_auth).catch_all(),
        endpoint(Method::GET, "/openapi.json", document::get, docs::server::openapi),
        endpoint(Method::GET, "/v1/whoami", whoami::get, docs::server::whoami),
        endpoint(Method::GET, "/", pages::file, docs::server::dashboard),
        endpoint(Method::GET, "/docs", pages::file, docs::server::docs_page),
        endpoint(Method::GET, "/assets/{file}", pages::file, docs::server::asset),
        endpoint(Method::GET, "/v1/stats", stats::get, docs::server::stats),
        endpoint(Method::POST, "/access/v1/search/subject", authzen::search::subject, docs::authzen::search_subject),
        endpoint(Method::POST, "/access/v1/search/resource", authzen::search::resource, docs::authzen::search_resource),
        endpoint(Method::POST, "/access/v1/search/action", authzen::search::action, docs::authzen::search_action),
        endpoint(Method::GET, authzen::discovery::PATH, authzen::discovery::metadata, docs::authzen::metadata),
        endpoint(Method::GET, "/metrics", metrics::get, docs::server::metrics),
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
        let all = methods.iter().flat_map(Endpoint::methods);
        let allowed = all.map(|method| method.to_string()).collect::<Vec<_>>().join(", ");
        let catch_all = methods.iter().any(|endpoint| endpoint.catch_all);
        let below = catch_all.then(|| format!("{path}/{{path:.*}}"));
        let mut resource = web::resource(std::iter::once(path.to_owned()).chain(below).collect::<Vec<_>>());
        for endpoint in methods {
            let taken = endpoint.methods();
            let is_taken = guard::fn_guard(move |request| catch_all || taken.contains(&request.head().method));
            resource = resource.route(endpoint.route.guard(is_taken));
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

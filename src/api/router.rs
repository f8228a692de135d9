//! The HTTP service of a worker: the table of routes, in a router, behind the middleware.

use actix_http::{Request, Response};
use actix_service::{IntoServiceFactory, Service, ServiceFactory};
use actix_web::body::BoxBody;
use actix_web::dev::AppConfig;
use actix_web::http::header::ALLOW;
use actix_web::{App, HttpRequest, ResponseError, guard, web};

use super::auth::Shared;
use super::endpoint::Endpoint;
use super::error::Problem;
use super::response_middleware::ResponseMiddlewareFactory;
use super::routes::endpoints;
use crate::domain::Code;

/// The factory of a worker's HTTP service.
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
    ResponseMiddlewareFactory { shared, router: app.into_factory() }
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
        Problem::new(Code::RouteNotFound, format!("route '{path}' not found")).error_response()
    }));
}

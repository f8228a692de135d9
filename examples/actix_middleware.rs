//! A middleware for actix-web: each request needs an agent's token, and Kavach, in the same process, says whether that
//! agent may.
//!
//! It starts a server, sends it three requests, and ends:
//!
//! ```sh
//! cargo run --example actix_middleware
//! ```
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::{ErrorForbidden, ErrorServiceUnavailable, ErrorUnauthorized};
use actix_web::http::header::AUTHORIZATION;
use actix_web::middleware::{Next, from_fn};
use actix_web::{HttpServer, web};
use kavach::domain::{Code, Credential, Request};
use kavach::{App, Kavach, ServerSettings};

/// Lets a request through if its agent may do what it asks for. Whatever goes wrong, the answer is no.
async fn authorize(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header.and_then(|value| value.strip_prefix("Bearer "));
    let token = token.ok_or_else(|| ErrorUnauthorized("an agent's token is needed"))?;

    // The route's pattern, not the path: `GET /reports/{name}` is `get` on `http:reports:{name}` with the name in place.
    let action = request.method().as_str().to_lowercase();
    let name = request.match_info().get("name").ok_or_else(|| ErrorForbidden("no resource stands for this path"))?;
    let question = Request::new(&action, &format!("http:reports:{name}")).map_err(ErrorForbidden)?;

    let kavach = request.app_data::<web::Data<Kavach>>().ok_or_else(|| ErrorServiceUnavailable("no authorizer"))?;
    match kavach.acting_for(Credential::parse(token)).authorize(question).await {
        Ok(decision) if decision.allowed => next.call(request).await,
        Ok(decision) => Err(ErrorForbidden(decision.reason.unwrap_or_default())),
        Err(problem) if problem.code() == Code::InvalidToken => Err(ErrorUnauthorized(problem)),
        Err(problem) => Err(ErrorServiceUnavailable(problem)),
    }
}

async fn report(name: web::Path<String>) -> String {
    format!("the report {name}")
}

/// Runs the example.
pub fn main() -> Result<(), Box<dyn Error>> {
    actix_rt::System::new().block_on(run())
}

async fn run() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let mut settings = ServerSettings::new(folder.path());
    settings.workers = Some(1);
    let app = App::open(&settings).await?;
    let kavach = app.kavach();
    let agent = r#"{
        "tenantId": null, "ownerId": "user-1", "name": "reader", "type": "service",
        "permissions": [{ "resource": "http:reports:q1", "actions": ["get"] }]
    }"#;
    let (_, token) = kavach.agents().create(serde_json::from_str(agent)?).await?;

    let data = web::Data::new(kavach);
    let make = move || {
        let reports = web::resource("/reports/{name}").route(web::get().to(report)).wrap(from_fn(authorize));
        actix_web::App::new().app_data(data.clone()).service(reports)
    };
    let server = HttpServer::new(make).workers(1).bind(("127.0.0.1", 0))?;
    let base = server.addrs().first().map(|address| format!("http://{address}")).ok_or("no address")?;
    let running = server.run();
    let handle = running.handle();
    actix_rt::spawn(running);

    let token = token.reveal().to_owned();
    let answers = web::block(move || {
        [("/reports/q1", &*token), ("/reports/q2", &*token), ("/reports/q1", "kv_forged")]
            .map(|(path, token)| (path, status(&format!("{base}{path}"), token)))
    });
    for (path, status) in answers.await? {
        println!("GET {path}: {}", status.map_err(|problem| problem.to_string())?);
    }
    handle.stop(true).await;
    app.close().await;
    Ok(())
}

/// The status of a request with that token.
fn status(url: &str, token: &str) -> Result<u16, ureq::Error> {
    let request = ureq::get(url).config().http_status_as_error(false).build();
    Ok(request.header("Authorization", format!("Bearer {token}")).call()?.status().as_u16())
}

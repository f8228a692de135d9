//! A middleware for axum: each request needs an agent's token, and a running Kavach says over HTTP whether that agent may.
//!
//! ```sh
//! cd examples/axum
//! KAVACH_URL=http://127.0.0.1:7600 cargo run
//! curl -H "Authorization: Bearer kv_..." http://127.0.0.1:3000/reports/q1
//! ```

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};

/// Where Kavach is, and the connections to it.
struct Kavach {
    authorize: String,
    client: ureq::Agent,
}

impl Kavach {
    fn new(base: &str) -> Self {
        let config =
            ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(5)));
        Self { authorize: format!("{base}/v1/authorize"), client: config.build().into() }
    }

    /// Whether the agent may. `Err` is what the client gets instead; whatever goes wrong, it is not let through.
    fn ask(&self, credential: &str, action: &str, resource: &str) -> Result<(), (StatusCode, String)> {
        let away = |problem: &dyn Error| (StatusCode::SERVICE_UNAVAILABLE, format!("no answer from Kavach: {problem}"));
        let question = json!({ "action": action, "resource": resource }).to_string();
        let asked = self.client.post(&self.authorize).header("Authorization", credential).send(question);
        let mut response = asked.map_err(|problem| away(&problem))?;
        let text = response.body_mut().read_to_string().map_err(|problem| away(&problem))?;
        let answer: Value = serde_json::from_str(&text).map_err(|problem| away(&problem))?;
        let sentence = |member: &str| answer[member].as_str().unwrap_or_default().to_owned();
        match (response.status().as_u16(), &answer["allowed"]) {
            (200, Value::Bool(true)) => Ok(()),
            (200, _) => Err((StatusCode::FORBIDDEN, sentence("reason"))),
            (401, _) => Err((StatusCode::UNAUTHORIZED, sentence("detail"))),
            _ => Err((StatusCode::SERVICE_UNAVAILABLE, sentence("detail"))),
        }
    }
}

/// Lets a request through if its agent may do what it asks for.
async fn authorize(
    State(kavach): State<Arc<Kavach>>,
    Path(name): Path<String>,
    request: Request,
    next: Next,
) -> Response {
    let Some(credential) = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()) else {
        return (StatusCode::UNAUTHORIZED, "an agent's token is needed").into_response();
    };
    let (credential, action) = (credential.to_owned(), request.method().as_str().to_lowercase());
    // ureq waits for its answer, so it waits on a thread that may.
    let asked = tokio::task::spawn_blocking(move || kavach.ask(&credential, &action, &format!("http:reports:{name}")));
    match asked.await {
        Ok(Ok(())) => next.run(request).await,
        Ok(Err(refusal)) => refusal.into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn report(Path(name): Path<String>) -> String {
    format!("the report {name}\n")
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let base = std::env::var("KAVACH_URL").unwrap_or_else(|_| "http://127.0.0.1:7600".to_owned());
    let kavach = Arc::new(Kavach::new(&base));
    let routes = Router::new().route("/reports/{name}", get(report)).route_layer(from_fn_with_state(kavach, authorize));
    axum::serve(tokio::net::TcpListener::bind("127.0.0.1:3000").await?, routes).await?;
    Ok(())
}

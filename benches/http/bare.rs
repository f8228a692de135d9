//! The yardstick: an actix-web handler that reads the body and answers fixed bytes. It has the server's framework,
//! allocator, build and number of workers, and does nothing else.

use std::io::{self, Write as _};

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{App, HttpResponse, HttpServer, web};
use kavach::ServerSettings;
use kavach::domain::limits::MAX_BODY_BYTES;

/// The answer to an allowed call, byte for byte except for its id.
const ANSWER: &str = r#"{"allowed":true,"auditId":"aud_019d0000000070008000000100000001"}"#;

fn json(body: impl Into<web::Bytes>) -> HttpResponse {
    HttpResponse::Ok().insert_header((CONTENT_TYPE, "application/json")).body(body.into())
}

/// Serves until the process ends. Prints where on standard output. A batch gets the answer of one of that size.
pub fn serve(batch: usize) -> io::Result<()> {
    let results = web::Bytes::from(format!(r#"{{"results":[{}]}}"#, vec![ANSWER; batch].join(",")));
    actix_web::rt::System::new().block_on(async move {
        let server = HttpServer::new(move || {
            let results = results.clone();
            App::new()
                .app_data(web::PayloadConfig::new(MAX_BODY_BYTES))
                .route("/v1/authorize", web::post().to(async |_: web::Bytes| json(ANSWER)))
                .route(
                    "/v1/authorize/batch",
                    web::post().to(move |_: web::Bytes| std::future::ready(json(results.clone()))),
                )
        })
        .workers(ServerSettings::new("").worker_count())
        .bind(("127.0.0.1", 0))?;
        for address in server.addrs() {
            writeln!(io::stdout(), "http://{address}")?;
        }
        server.run().await
    })
}

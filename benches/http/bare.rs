//! The yardstick: an actix-web handler that reads the body and answers fixed bytes, set up as the server is.

use std::io::{self, Write as _};

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{App, HttpResponse, HttpServer, web};

/// What an allowed call is answered, byte for byte but for its id.
const ANSWER: &str = r#"{"allowed":true,"auditId":"aud_019d0000000070008000000100000001"}"#;

/// A body of at most so many bytes, which is what the server takes in a batch.
const MAX_BODY_BYTES: usize = 1 << 20;

async fn handler(_body: web::Bytes) -> HttpResponse {
    HttpResponse::Ok().insert_header((CONTENT_TYPE, "application/json")).body(ANSWER)
}

/// A batch's answer has a result for each request; the fixed one is as long as that of the given number.
fn batch_answer(requests: usize) -> web::Bytes {
    format!(r#"{{"results":[{}]}}"#, vec![ANSWER; requests].join(",")).into()
}

/// Serves until the process is killed. The address is the first line on standard output.
pub fn serve(workers: usize, batch: usize) -> io::Result<()> {
    actix_web::rt::System::new().block_on(async move {
        let server = HttpServer::new(move || {
            let answer = batch_answer(batch);
            App::new()
                .app_data(web::PayloadConfig::new(MAX_BODY_BYTES))
                .route("/v1/authorize", web::post().to(handler))
                .route(
                    "/v1/authorize/batch",
                    web::post().to(move |_body: web::Bytes| {
                        let answer = answer.clone();
                        async move { HttpResponse::Ok().insert_header((CONTENT_TYPE, "application/json")).body(answer) }
                    }),
                )
        })
        .workers(workers)
        .bind(("127.0.0.1", 0))?;
        for address in server.addrs() {
            writeln!(io::stdout(), "{address}")?;
        }
        server.run().await
    })
}

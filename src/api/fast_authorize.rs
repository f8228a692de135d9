//! The fast path of the most frequent call.
//!
//! `POST /v1/authorize` comes before every tool call of every agent. The router, its extractors and the boxes between
//! them cost about as much as the decision itself, so this call is answered before them: by the same guard and the same
//! code as its route in the table.

use actix_http::Request;
use actix_web::http::Method;

use super::auth::{CallerGuard, Decider, Shared};
use super::authorize;
use super::error::HandlerResult;
use super::input::{Incoming, Raw, declared_length, refuse_query};
use crate::domain::limits::MAX_AUTHORIZE_BODY_BYTES;

/// The only path that is answered here.
const PATH: &str = "/v1/authorize";

/// Whether a request is answered here.
pub(super) fn takes(request: &Request) -> bool {
    request.path() == PATH && request.method() == Method::POST
}

/// Answers a request that [`takes`] accepted: reads the credential, reads the body, has it decided.
///
/// # Errors
/// Those of the route.
pub(super) async fn answer(shared: &Shared, request: &mut Request) -> HandlerResult {
    let payload = request.take_payload();
    let headers = &request.head().headers;
    let decider = Decider::of(shared, headers, request.peer_addr())?;
    if let Some(query) = request.head().uri.query()
        && let Err(problem) = refuse_query(query)
    {
        decider.check().await?;
        return Err(problem);
    }
    let declared = declared_length(headers);
    authorize::check_key_before(&decider, declared).await?;
    let incoming = Incoming { declared, bodies: &shared.bodies, pace: request.conn_data() };
    let Raw(body) = Raw::<MAX_AUTHORIZE_BODY_BYTES>::read(incoming, payload).await?;
    authorize::decide_body(&decider, headers, body).await
}

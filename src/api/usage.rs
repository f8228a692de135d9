//! `/v1/usage`.

use actix_web::HttpResponse;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::auth::Reporter;
use super::error::HandlerResult;
use super::idempotency::{Once, note_repeat};
use super::policies::read_cost;
use super::responses;
use crate::domain::budget::cost::Cost;
use crate::domain::limits::MAX_REPORTED_CALLS;
use crate::domain::{AgentId, AuditId};

/// A usage report.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UsageBody {
    /// The agent that used it.
    #[schemars(with = "AgentId")]
    pub agent_id: String,
    /// What it cost.
    #[serde(default)]
    #[schemars(with = "Option<Cost>")]
    pub tokens_cost: Option<Box<RawValue>>,
    /// Calls to add: none with `auditId`, because that call was counted already.
    #[serde(default)]
    #[schemars(range(max = MAX_REPORTED_CALLS))]
    pub calls: u64,
    /// The decision: its estimate is replaced by the cost.
    #[serde(default)]
    #[schemars(with = "Option<AuditId>")]
    pub audit_id: Option<String>,
}

/// `POST /v1/usage`
pub async fn report(Reporter(kavach): Reporter, body: Once<UsageBody>) -> HandlerResult {
    let (kavach, body) = body.of(kavach);
    let cost = read_cost(body.tokens_cost.as_deref())?;
    let answer = kavach.report_usage(&body.agent_id, cost, body.calls, body.audit_id.as_deref()).await?;
    responses::json(note_repeat(&kavach, HttpResponse::Ok()), &answer)
}

//! `/v1/usage`.

use actix_web::HttpResponse;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::auth::Admin;
use super::input::Body;
use super::policies::read_cost;
use super::routes::Answer;
use super::views;

/// A usage report.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UsageBody {
    pub(super) agent_id: String,
    #[serde(default)]
    pub(super) tokens_cost: Option<Box<RawValue>>,
    #[serde(default)]
    pub(super) calls: u64,
    #[serde(default)]
    pub(super) audit_id: Option<String>,
}

/// `POST /v1/usage`
pub async fn report(Admin(kavach): Admin, Body(body): Body<UsageBody>) -> Answer {
    let cost = read_cost(body.tokens_cost.as_deref())?;
    let answer = kavach.report_usage(&body.agent_id, cost, body.calls, body.audit_id.as_deref()).await?;
    views::json(HttpResponse::Ok(), &answer)
}

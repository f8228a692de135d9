//! `/v1/stats`: figures for a dashboard.

use actix_web::HttpResponse;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::auth::Viewer;
use super::error::HandlerResult;
use super::input::Query;
use super::responses;
use crate::domain::agent::AgentCounts;
use crate::domain::budget::meter::Amount;
use crate::domain::budget::policy::{PolicyAction, PolicyStatus};
use crate::domain::tenant::census::NearLimit;
use crate::domain::text::DEFAULT_TENANT_NAME;
use crate::domain::{AgentId, Code, PolicyId, TenantId, TenantRef, Timestamp, schema};
use crate::measure::metric_values::{TenantCounts, TenantMemory};
use crate::measure::recent_counts::CountSeries;
use crate::measure::recent_latency::LatencyHistogram;
use crate::service::{SlowTenant, Stats, TenantIdentity};

/// Which tenant's figures.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StatsQuery {
    /// The tenant: id, slug or `default`. If absent: all tenants, or, with a tenant key, its own.
    #[schemars(with = "Option<schema::TenantName>")]
    tenant_id: Option<String>,
}

/// The figures.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Stats")]
pub struct StatsJson {
    /// When they were taken.
    at: Timestamp,
    /// When the process began to count. `seconds` and `minutes` say 0 for the time before; the audit trail has it.
    started_at: Timestamp,
    /// Tenants by status, if an operator asks for all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenants: Option<TenantCounts>,
    /// How many tenants are in memory; absent for one tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<TenantMemory>,
    /// The agents of these tenants, by status.
    agents: AgentCounts,
    /// Decisions since the start.
    decisions: DecisionsJson,
    /// Denials since the start by code.
    denials: Vec<DenialJson>,
    /// Decisions of the last sixty whole seconds.
    seconds: SeriesJson,
    /// Decisions of the last sixty minutes. The last minute is still running.
    minutes: SeriesJson,
    /// Time inside the server over the last five minutes.
    latency: LatencyJson,
    /// The slowest tenants of the last five minutes, slowest first.
    slowest_tenants: Vec<SlowTenantJson>,
    /// Policies that are near or past a limit or denied a call today, fullest first, each with its fullest limit.
    budgets: Vec<BudgetJson>,
}

/// Decisions by result.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "DecisionCounts")]
struct DecisionsJson {
    /// Allowed.
    allowed: u64,
    /// Denied.
    denied: u64,
    /// Denied because a rate is used up.
    rate_limited: u64,
}

/// Denials of one kind.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "DenialCount")]
struct DenialJson {
    /// Why.
    code: Code,
    /// How often.
    count: u64,
}

/// Decisions in steps of `step` seconds, oldest first.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "DecisionSeries")]
struct SeriesJson {
    /// Where the first step begins.
    from: Timestamp,
    /// Seconds of a step.
    step: i64,
    /// Allowed, by step.
    allowed: Vec<u64>,
    /// Denied, by step.
    denied: Vec<u64>,
    /// Denied because a rate is used up, by step.
    rate_limited: Vec<u64>,
}

/// Milliseconds from a request's arrival to its decision.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Latency")]
struct LatencyJson {
    /// Decisions that were measured.
    count: u64,
    /// Half were at least this fast.
    p50_ms: f64,
    /// 90 % were at least this fast.
    p90_ms: f64,
    /// 99 % were at least this fast.
    p99_ms: f64,
    /// The slowest.
    max_ms: f64,
}

/// A tenant, with how slowly it is answered.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "SlowTenant")]
struct SlowTenantJson {
    /// The tenant's id; `null` is the default tenant.
    tenant_id: TenantId,
    /// The tenant's slug.
    slug: String,
    /// The tenant's name, if it could answer.
    name: Option<Box<str>>,
    /// Decisions that were measured.
    decisions: u64,
    /// 99 % were at least this fast, in milliseconds.
    p99_ms: f64,
}

/// The fullest limit of a policy that is near it or past it, or denied a call today.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "NearLimit")]
struct BudgetJson {
    /// The tenant; `null` is the default one.
    tenant_id: TenantId,
    /// The tenant's slug.
    slug: String,
    /// The policy.
    policy_id: PolicyId,
    /// The only agent it applies to, if it names one.
    agent_id: Option<AgentId>,
    /// The only owner whose agents it applies to, if it names one.
    user_id: Option<String>,
    /// What happens when it is exceeded.
    action: PolicyAction,
    /// The policy's status.
    status: PolicyStatus,
    /// The limit's name, such as `maxCallsPerDay`.
    limit: &'static str,
    /// How much is used.
    used: Amount,
    /// The limit.
    max: Amount,
    /// The used share of the limit; 1 is all of it.
    share: f64,
    /// When the count starts anew; `null` is never.
    resets_at: Option<Timestamp>,
    /// When the policy last denied a call; `null` if it did not since it was last changed or reset.
    last_denied_at: Option<Timestamp>,
}

impl From<Stats> for StatsJson {
    fn from(stats: Stats) -> Self {
        let Stats { at, started_at, tenants, memory, agents, traffic, slowest, near_limits } = stats;
        let [allowed, denied, rate_limited] = traffic.results;
        Self {
            at,
            started_at,
            tenants,
            memory,
            agents,
            decisions: DecisionsJson { allowed, denied, rate_limited },
            denials: traffic.denials().into_iter().map(|(code, count)| DenialJson { code, count }).collect(),
            seconds: SeriesJson::new(traffic.seconds_from(), 1, &traffic.seconds),
            minutes: SeriesJson::new(traffic.minutes_from(), 60, &traffic.minutes),
            latency: LatencyJson::from(&traffic.latency),
            slowest_tenants: slowest.into_iter().map(SlowTenantJson::from).collect(),
            budgets: near_limits.into_iter().map(|(tenant, near)| BudgetJson::new(tenant, near)).collect(),
        }
    }
}

impl SeriesJson {
    fn new(from: Timestamp, step: i64, series: &CountSeries) -> Self {
        let [allowed, denied, rate_limited] = series.counts.map(|counts| counts.to_vec());
        Self { from, step, allowed, denied, rate_limited }
    }
}

impl From<&LatencyHistogram> for LatencyJson {
    fn from(histogram: &LatencyHistogram) -> Self {
        let quantile = |share| millis(histogram.quantile(share));
        Self {
            count: histogram.count(),
            p50_ms: quantile(0.5),
            p90_ms: quantile(0.9),
            p99_ms: quantile(0.99),
            max_ms: millis(f64::from(histogram.max)),
        }
    }
}

/// Milliseconds to the whole microsecond, which is all that was measured.
fn millis(micros: f64) -> f64 {
    micros.round() / 1_000.0
}

fn slug_of(tenant: &TenantIdentity) -> String {
    match &tenant.slug {
        Some(slug) => slug.to_string(),
        None if tenant.id.is_default() => DEFAULT_TENANT_NAME.to_owned(),
        // Its label was lost; its id names it as well.
        None => tenant.id.to_string(),
    }
}

impl From<SlowTenant> for SlowTenantJson {
    fn from(slow: SlowTenant) -> Self {
        let SlowTenant { tenant, decisions, p99 } = slow;
        Self { tenant_id: tenant.id, slug: slug_of(&tenant), name: tenant.name, decisions, p99_ms: millis(p99) }
    }
}

impl BudgetJson {
    fn new(tenant: TenantIdentity, near: NearLimit) -> Self {
        let NearLimit { policy, agent, owner, action, status, limit, used, max, share, resets_at, last_denied_at } =
            near;
        Self {
            tenant_id: tenant.id,
            slug: slug_of(&tenant),
            policy_id: policy,
            agent_id: agent,
            user_id: owner.as_deref().map(ToOwned::to_owned),
            action,
            status,
            limit,
            used,
            max,
            share,
            resets_at,
            last_denied_at,
        }
    }
}

/// `GET /v1/stats`
pub async fn get(Viewer(kavach): Viewer, Query(query): Query<StatsQuery>) -> HandlerResult {
    let tenant = query.tenant_id.as_deref().map(TenantRef::parse);
    responses::json(HttpResponse::Ok(), &StatsJson::from(kavach.stats(tenant.as_ref()).await?))
}

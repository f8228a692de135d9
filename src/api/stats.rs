//! `/v1/stats`: figures for a dashboard.

use actix_web::HttpResponse;
use serde::{Deserialize, Serialize};

use super::auth::Admin;
use super::input::Query;
use super::routes::Answer;
use super::views;
use crate::domain::census::{AgentCounts, NearLimit};
use crate::domain::policy::{Amount, PolicyAction, PolicyStatus};
use crate::domain::text::DEFAULT_TENANT_NAME;
use crate::domain::{AgentId, Code, PolicyId, TenantId, TenantRef, Timestamp};
use crate::measure::latency::Summary;
use crate::measure::ring::Series;
use crate::service::{Named, SlowTenant, Stats, TenantCounts};

/// Which tenant's figures.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StatsQuery {
    tenant_id: Option<String>,
}

/// The figures.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatsJson {
    at: Timestamp,
    started_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenants: Option<TenantCounts>,
    agents: AgentCounts,
    decisions: DecisionsJson,
    denials: Vec<DenialJson>,
    seconds: SeriesJson,
    minutes: SeriesJson,
    latency: LatencyJson,
    slowest_tenants: Vec<SlowTenantJson>,
    budgets: Vec<BudgetJson>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DecisionsJson {
    allowed: u64,
    denied: u64,
    rate_limited: u64,
}

#[derive(Serialize)]
struct DenialJson {
    code: Code,
    count: u64,
}

/// Decisions in steps of so many seconds, oldest first.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SeriesJson {
    from: Timestamp,
    step: i64,
    allowed: Vec<u64>,
    denied: Vec<u64>,
    rate_limited: Vec<u64>,
}

/// Milliseconds from a request's arrival to its decision.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LatencyJson {
    count: u64,
    p50_ms: f64,
    p90_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SlowTenantJson {
    tenant_id: TenantId,
    slug: String,
    name: Option<Box<str>>,
    decisions: u64,
    p99_ms: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BudgetJson {
    tenant_id: TenantId,
    slug: String,
    policy_id: PolicyId,
    agent_id: Option<AgentId>,
    user_id: Option<String>,
    action: PolicyAction,
    status: PolicyStatus,
    limit: &'static str,
    used: Amount,
    max: Amount,
    share: f64,
    resets_at: Timestamp,
}

impl From<Stats> for StatsJson {
    fn from(stats: Stats) -> Self {
        let Stats { at, started_at, tenants, agents, traffic, slowest, near_limits } = stats;
        let [allowed, denied, rate_limited] = traffic.results;
        Self {
            at,
            started_at,
            tenants,
            agents,
            decisions: DecisionsJson { allowed, denied, rate_limited },
            denials: traffic.denials().into_iter().map(|(code, count)| DenialJson { code, count }).collect(),
            seconds: SeriesJson::new(traffic.from(1), 1, &traffic.seconds),
            minutes: SeriesJson::new(traffic.from(60), 60, &traffic.minutes),
            latency: LatencyJson::from(&traffic.latency),
            slowest_tenants: slowest.into_iter().map(SlowTenantJson::from).collect(),
            budgets: near_limits.into_iter().map(|(tenant, near)| BudgetJson::new(tenant, near)).collect(),
        }
    }
}

impl SeriesJson {
    fn new(from: Timestamp, step: i64, series: &Series) -> Self {
        let [allowed, denied, rate_limited] = series.counts.map(|counts| counts.to_vec());
        Self { from, step, allowed, denied, rate_limited }
    }
}

impl From<&Summary> for LatencyJson {
    fn from(summary: &Summary) -> Self {
        let quantile = |share| millis(summary.quantile(share));
        Self {
            count: summary.count(),
            p50_ms: quantile(0.5),
            p90_ms: quantile(0.9),
            p99_ms: quantile(0.99),
            max_ms: millis(f64::from(summary.max)),
        }
    }
}

/// Milliseconds to the whole microsecond, which is all that was measured.
fn millis(micros: f64) -> f64 {
    micros.round() / 1_000.0
}

fn slug_of(tenant: &Named) -> String {
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
    fn new(tenant: Named, near: NearLimit) -> Self {
        let NearLimit { policy, agent, owner, action, status, limit, used, max, share, resets_at } = near;
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
        }
    }
}

/// `GET /v1/stats`
pub async fn get(Admin(kavach): Admin, Query(query): Query<StatsQuery>) -> Answer {
    let tenant = query.tenant_id.as_deref().map(TenantRef::parse);
    views::json(HttpResponse::Ok(), &StatsJson::from(kavach.stats(tenant.as_ref()).await?))
}

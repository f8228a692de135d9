//! Statistics for now and for the last hour: of one tenant, or of all.

use std::sync::Arc;

use super::kavach::Kavach;
use super::tenant_counts::{CountedTenant, off_thread, tenant_memory};
use crate::domain::agent::AgentCounts;
use crate::domain::tenant::census::{Census, MAX_NEAR_LIMITS, NearLimit, sort_fullest_first};
use crate::domain::text::Slug;
use crate::domain::{Credential, Error, Tenant, TenantId, TenantRef, Timestamp};
use crate::measure::decision_stats::DecisionTotals;
use crate::measure::metric_values::{TenantCounts, TenantMemory};

/// The most tenants in the list of the slowest.
const MAX_SLOWEST: usize = 10;

/// Statistics of one tenant, or of all.
#[derive(Clone, Debug)]
pub struct Stats {
    /// When they were taken.
    pub at: Timestamp,
    /// When the process started. Counters start from zero with it, and those of one tenant when it was last read into
    /// memory.
    pub started_at: Timestamp,
    /// How many tenants there are; `None` in the statistics of one tenant.
    pub tenants: Option<TenantCounts>,
    /// How many tenants are in memory; `None` in the statistics of one tenant.
    pub memory: Option<TenantMemory>,
    /// Agents by status, without those of tenants that can't answer.
    pub agents: AgentCounts,
    /// Decisions: totals, the last minute, the last hour.
    pub traffic: DecisionTotals,
    /// The tenants with the slowest decisions of the last five minutes, slowest first.
    pub slowest: Vec<SlowTenant>,
    /// The policies that are near a limit or denied a call today, fullest first.
    pub near_limits: Vec<(TenantIdentity, NearLimit)>,
}

/// A tenant's id, slug and name.
#[derive(Clone, Debug)]
pub struct TenantIdentity {
    /// The tenant's id.
    pub id: TenantId,
    /// The slug. The default tenant has none, and neither has a tenant whose label file was lost.
    pub slug: Option<Slug>,
    /// The name, if the tenant has answered at least once.
    pub name: Option<Box<str>>,
}

/// A tenant and how long its decisions took.
#[derive(Clone, Debug)]
pub struct SlowTenant {
    /// The tenant.
    pub tenant: TenantIdentity,
    /// How many decisions it made in the last five minutes.
    pub decisions: u64,
    /// The 99th percentile of their duration, in microseconds.
    pub p99: f64,
}

impl Kavach {
    /// Statistics of the named tenant. Without a name, an operator gets those of all tenants, and a tenant key those of its
    /// own.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, `TENANT_MISMATCH` if a tenant key names another tenant, or that the one tenant asked for can't
    /// answer.
    pub async fn stats(&self, tenant: Option<&TenantRef>) -> Result<Stats, Error> {
        let route = match (&self.credential, tenant) {
            (Credential::Operator(_), None) => return self.stats_of_all().await,
            (_, tenant) => self.tenant_in_body(tenant)?,
        };
        let look = |tenant: &Tenant, now| Ok(Census::take(tenant, now, MAX_NEAR_LIMITS));
        let census = self.inspect(&route, look).await?;
        let measures = self.core.directory.resident(route.id).map(|resident| Arc::clone(&resident.measures));
        let mut traffic = DecisionTotals::new(self.core.clock.now());
        if let Some(own) = measures.as_ref().and_then(|measures| measures.traffic()) {
            traffic.add(own);
        }
        let agents = census.agents;
        let counted = [CountedTenant { measures, census: Some(Arc::new(census)), ..CountedTenant::of(route) }];
        Ok(Stats::of(&counted, agents, traffic, self.core.measures.started_at))
    }

    async fn stats_of_all(&self) -> Result<Stats, Error> {
        self.check_operator_key()?;
        self.check_phase()?;
        let counted = self.count_all().await?;
        let core = Arc::clone(&self.core);
        off_thread(move || {
            let mut traffic = DecisionTotals::new(core.clock.now());
            core.measures.threads().iter().for_each(|thread| traffic.add(&thread.traffic));
            let stats = Stats::of(&counted.each, counted.agents, traffic, core.measures.started_at);
            Stats { tenants: Some(counted.tenants), memory: Some(tenant_memory(&core)), ..stats }
        })
        .await
    }
}

impl Stats {
    fn of(counted: &[CountedTenant], agents: AgentCounts, traffic: DecisionTotals, started_at: Timestamp) -> Self {
        let mut near_limits = Vec::new();
        for one in counted.iter().filter(|one| one.answered) {
            let Some(census) = &one.census else { continue };
            near_limits.extend(census.near_limits.iter().map(|near| (one.named(), near.clone())));
        }
        sort_fullest_first(&mut near_limits, |(_, near)| near);
        near_limits.truncate(MAX_NEAR_LIMITS);
        let slowest = slowest(counted, traffic.now);
        Self { at: traffic.now, started_at, tenants: None, memory: None, agents, traffic, slowest, near_limits }
    }
}

/// The tenants with the slowest decisions.
fn slowest(counted: &[CountedTenant], now: Timestamp) -> Vec<SlowTenant> {
    let busy = counted.iter().filter_map(|one| {
        let latency = one.measures.as_ref()?.traffic()?.latency(now);
        (latency.count() > 0).then(|| (one, latency.quantile(0.99), latency))
    });
    let mut busy: Vec<_> = busy.collect();
    busy.sort_by(|(_, one, _), (_, other, _)| other.total_cmp(one));
    busy.truncate(MAX_SLOWEST);
    busy.into_iter()
        .map(|(one, p99, latency)| SlowTenant { tenant: one.named(), decisions: latency.count(), p99 })
        .collect()
}

impl CountedTenant {
    fn named(&self) -> TenantIdentity {
        let name = self.census.as_ref().map(|census| census.name.clone());
        TenantIdentity { id: self.route.id, slug: self.route.slug.clone(), name }
    }
}

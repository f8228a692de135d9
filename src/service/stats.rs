//! Statistics for now and for the last hour: of one tenant, or of all.

use std::sync::Arc;

use actix_rt::task::spawn_blocking;
use tokio::sync::oneshot;

use super::kavach::Kavach;
use super::lists::Selection;
use super::tenant_calls::{answer, lost, send};
use crate::actors::Route;
use crate::actors::messages::Inspect;
use crate::domain::agent::AgentCounts;
use crate::domain::tenant::TenantStatus;
use crate::domain::tenant::census::{Census, NearLimit, sort_fullest_first};
use crate::domain::text::Slug;
use crate::domain::{Code, Credential, Error, Tenant, TenantId, TenantRef, Timestamp};
use crate::measure::decision_stats::DecisionTotals;
use crate::measure::metric_values::TenantCounts;

/// The most tenants in the list of the slowest.
const MAX_SLOWEST: usize = 10;
/// The most policies in the list of those near a limit or denying calls.
const MAX_NEAR_LIMITS: usize = 20;
/// Tenants asked at once. Between two batches, workers get to do other things.
const ASKED_AT_ONCE: usize = 64;

/// Statistics of one tenant, or of all.
#[derive(Clone, Debug)]
pub struct Stats {
    /// When they were taken.
    pub at: Timestamp,
    /// When the process started. Counters start from zero with it.
    pub started_at: Timestamp,
    /// How many tenants there are; `None` in the statistics of one tenant.
    pub tenants: Option<TenantCounts>,
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

/// A tenant and its newest census.
pub(super) struct TenantCensus {
    pub route: Route,
    /// The newest known, even if the tenant did not answer this time.
    census: Option<Arc<Census>>,
    answered: bool,
}

impl Kavach {
    /// Statistics of the named tenant. Without a name, an operator gets those of all tenants, and a tenant key those of its
    /// own.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, `TENANT_MISMATCH` if a tenant key names another tenant, or that the one tenant asked for can't
    /// answer.
    pub async fn stats(&self, tenant: Option<&TenantRef>) -> Result<Stats, Error> {
        let Selection { routes, .. } = match (&self.credential, tenant) {
            (Credential::Operator(_), None) => return self.stats_of_all().await,
            _ => self.tenants_in_filter(tenant)?,
        };
        let Some(route) = routes.into_iter().next() else { return Err(lost()) };
        let census = answer(self.ask_census(&route)?).await?;
        let mut traffic = DecisionTotals::new(self.core.clock.now());
        if let Some(own) = route.measures.traffic() {
            traffic.add(own);
        }
        let counted = [TenantCensus { route, census: Some(Arc::new(census)), answered: true }];
        Ok(Stats::of(&counted, traffic, self.core.measures.started_at))
    }

    fn ask_census(&self, route: &Route) -> Result<oneshot::Receiver<Result<Census, Error>>, Error> {
        let credential = self.credential;
        let look = |tenant: &Tenant, now| Ok(Census::take(tenant, now, MAX_NEAR_LIMITS));
        send(route, |reply| Inspect { credential, look, reply })
    }

    async fn stats_of_all(&self) -> Result<Stats, Error> {
        self.check_operator_key()?;
        self.check_phase()?;
        let counted = self.count_all().await?;
        let core = Arc::clone(&self.core);
        off_thread(move || {
            let mut traffic = DecisionTotals::new(core.clock.now());
            core.measures.threads().iter().for_each(|thread| traffic.add(&thread.traffic));
            let stats = Stats::of(&counted, traffic, core.measures.started_at);
            Stats { tenants: Some(tenant_counts(&counted)), ..stats }
        })
        .await
    }

    /// A census of every tenant. It asks only tenants that have changed since they were last asked, or whose census has
    /// expired: an idle tenant has nothing new to say.
    pub(super) async fn count_all(&self) -> Result<Vec<TenantCensus>, Error> {
        let core = Arc::clone(&self.core);
        // One caller at a time: the second one finds what the first one asked for.
        let mut known = self.core.measures.census.lock().await;
        let routes = off_thread(move || core.directory.all_that(|route| !route.is_being_erased())).await?;
        let (mut counted, mut stale) = (Vec::with_capacity(routes.len()), Vec::new());
        let time = self.core.clock.now();
        for (at, route) in routes.into_iter().enumerate() {
            // Read the version before asking: a change that comes later makes the answer stale.
            let version = route.measures.version();
            let census = known.current(route.id, version, time);
            if census.is_none() && route.actor.is_ok() {
                stale.push((at, version));
            }
            counted.push(TenantCensus { answered: route.actor.is_ok(), census: census.cloned(), route });
        }
        for batch in stale.chunks(ASKED_AT_ONCE) {
            let routes = batch.iter().filter_map(|(at, version)| Some((*at, *version, &counted.get(*at)?.route)));
            let asked: Vec<_> = routes.map(|(at, version, route)| (at, version, self.ask_census(route))).collect();
            for (at, version, sent) in asked {
                let answered = match sent {
                    Ok(receiver) => answer(receiver).await,
                    Err(error) => Err(error),
                };
                let Some(counted) = counted.get_mut(at) else { continue };
                match answered {
                    Ok(census) => counted.census = Some(known.keep(counted.route.id, version, census)),
                    // An overloaded tenant is up and serving, so its last census is still about right.
                    Err(error) => counted.answered = error.code() == Code::Overloaded,
                }
            }
        }
        for counted in counted.iter_mut().filter(|counted| counted.census.is_none()) {
            counted.census = known.last(counted.route.id).cloned();
        }
        known.forget_all_but(counted.len(), |id| counted.binary_search_by_key(&id, |one| one.route.id).is_ok());
        Ok(counted)
    }
}

/// Runs work that takes a while with thousands of tenants, off the worker threads.
pub(super) async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    spawn_blocking(work).await.map_err(|_| Error::new(Code::InternalError, "the statistics could not be added up"))
}

impl Stats {
    fn of(counted: &[TenantCensus], traffic: DecisionTotals, started_at: Timestamp) -> Self {
        let mut near_limits = Vec::new();
        for one in counted.iter().filter(|one| one.answered) {
            let Some(census) = &one.census else { continue };
            near_limits.extend(census.near_limits.iter().map(|near| (one.named(), near.clone())));
        }
        sort_fullest_first(&mut near_limits, |(_, near)| near);
        near_limits.truncate(MAX_NEAR_LIMITS);
        let (agents, slowest) = (agent_counts(counted), slowest(counted, traffic.now));
        Self { at: traffic.now, started_at, tenants: None, agents, traffic, slowest, near_limits }
    }
}

/// The tenants with the slowest decisions.
fn slowest(counted: &[TenantCensus], now: Timestamp) -> Vec<SlowTenant> {
    let busy = counted.iter().filter_map(|one| {
        let latency = one.route.measures.traffic()?.latency(now);
        (latency.count() > 0).then(|| (one, latency.quantile(0.99), latency))
    });
    let mut busy: Vec<_> = busy.collect();
    busy.sort_by(|(_, one, _), (_, other, _)| other.total_cmp(one));
    busy.truncate(MAX_SLOWEST);
    busy.into_iter()
        .map(|(one, p99, latency)| SlowTenant { tenant: one.named(), decisions: latency.count(), p99 })
        .collect()
}

impl TenantCensus {
    fn named(&self) -> TenantIdentity {
        let name = self.census.as_ref().map(|census| census.name.clone());
        TenantIdentity { id: self.route.id, slug: self.route.slug.clone(), name }
    }
}

/// Counts tenants by status.
pub(super) fn tenant_counts(all: &[TenantCensus]) -> TenantCounts {
    let mut counts = TenantCounts::default();
    for one in all {
        match (&one.census, one.answered) {
            (Some(census), true) if census.status == TenantStatus::Active => counts.active += 1,
            (Some(_), true) => counts.suspended += 1,
            _ => counts.unavailable += 1,
        }
    }
    counts
}

/// Adds up agents by status, without tenants that did not answer.
pub(super) fn agent_counts(all: &[TenantCensus]) -> AgentCounts {
    let answered = all.iter().filter(|one| one.answered).filter_map(|one| one.census.as_ref());
    answered.fold(AgentCounts::default(), |sum, census| AgentCounts {
        active: sum.active + census.agents.active,
        revoked: sum.revoked + census.agents.revoked,
        expired: sum.expired + census.agents.expired,
    })
}

//! Figures of now and of the last hour: for a tenant by itself, or for all of them.

use std::sync::Arc;

use actix_rt::task::spawn_blocking;
use tokio::sync::oneshot;

use super::lists::Selection;
use super::{Kavach, answer, send};
use crate::actors::Route;
use crate::actors::messages::Inspect;
use crate::domain::agent::AgentCounts;
use crate::domain::tenant::TenantStatus;
use crate::domain::tenant::census::{Census, NearLimit, sort_fullest_first};
use crate::domain::text::Slug;
use crate::domain::{Code, Credential, Error, Tenant, TenantId, TenantRef, Timestamp};
use crate::measure::figures::TenantCounts;
use crate::measure::traffic::Report;

/// Tenants among the slowest, at most.
const MAX_SLOWEST: usize = 10;
/// Policies among those near a limit, at most.
const MAX_NEAR_LIMITS: usize = 20;
/// Tenants that are asked at once: a worker does other things between so many.
const ASKED_AT_ONCE: usize = 64;

/// Figures of a tenant, or of all of them.
#[derive(Clone, Debug)]
pub struct Stats {
    /// When they were taken.
    pub at: Timestamp,
    /// When the process began, and with it what is counted.
    pub started_at: Timestamp,
    /// How many tenants there are; `None` in the figures of one.
    pub tenants: Option<TenantCounts>,
    /// Agents, but for those of tenants that can't answer.
    pub agents: AgentCounts,
    /// Decisions.
    pub traffic: Report,
    /// The tenants whose decisions of the last five minutes took longest, slowest first.
    pub slowest: Vec<SlowTenant>,
    /// The policies that are nearest to a limit, the fullest first.
    pub near_limits: Vec<(Named, NearLimit)>,
}

/// Which tenant.
#[derive(Clone, Debug)]
pub struct Named {
    /// Its id.
    pub id: TenantId,
    /// Its slug; the default tenant has none, nor has one whose label was lost.
    pub slug: Option<Slug>,
    /// Its name, where it could say it once.
    pub name: Option<Box<str>>,
}

/// A tenant, and how long its decisions took.
#[derive(Clone, Debug)]
pub struct SlowTenant {
    /// Which.
    pub tenant: Named,
    /// Decisions of the last five minutes.
    pub decisions: u64,
    /// The time in microseconds that 99 of 100 of them did not pass.
    pub p99: f64,
}

/// A tenant, and what it said of itself.
pub(super) struct Counted {
    pub route: Route,
    /// The newest that is known, though it may not have answered now.
    census: Option<Arc<Census>>,
    answered: bool,
}

impl Kavach {
    /// Figures of the named tenant. Without a name those of all tenants for an operator, and for a tenant key those of
    /// its own.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, `TENANT_MISMATCH` where a tenant key names another tenant, or that the one tenant asked for
    /// can't answer.
    pub async fn stats(&self, tenant: Option<&TenantRef>) -> Result<Stats, Error> {
        let Selection { routes, .. } = match (&self.credential, tenant) {
            (Credential::Operator(_), None) => return self.stats_of_all().await,
            _ => self.tenants_in_filter(tenant)?,
        };
        let Some(route) = routes.into_iter().next() else { return Err(super::lost()) };
        let census = answer(self.ask_census(&route)?).await?;
        let mut traffic = Report::new(self.core.clock.now());
        if let Some(own) = route.measures.traffic() {
            traffic.add(own);
        }
        let counted = [Counted { route, census: Some(Arc::new(census)), answered: true }];
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
            let mut traffic = Report::new(core.clock.now());
            core.measures.threads().iter().for_each(|thread| traffic.add(&thread.traffic));
            let stats = Stats::of(&counted, traffic, core.measures.started_at);
            Stats { tenants: Some(tenant_counts(&counted)), ..stats }
        })
        .await
    }

    /// What each tenant says of itself. Only those are asked that something happened to since they were asked last, or
    /// that time itself has changed; of an idle one there is nothing to find out.
    pub(super) async fn count_all(&self) -> Result<Vec<Counted>, Error> {
        let core = Arc::clone(&self.core);
        // One at a time: whoever comes second finds what the first one asked for.
        let mut known = self.core.measures.census.lock().await;
        let routes = off_thread(move || core.routes.all_that(|route| !route.is_being_erased())).await?;
        let (mut counted, mut stale) = (Vec::with_capacity(routes.len()), Vec::new());
        let time = self.core.clock.now();
        for (at, route) in routes.into_iter().enumerate() {
            // Read before it is asked: what changes afterwards makes the answer an old one.
            let version = route.measures.version();
            let census = known.current(route.id, version, time);
            if census.is_none() && route.actor.is_ok() {
                stale.push((at, version));
            }
            counted.push(Counted { answered: route.actor.is_ok(), census: census.cloned(), route });
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
                    // A tenant with more calls than it can take serves them: what it said last is still about right.
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

/// Runs what takes a while where there are thousands of tenants.
pub(super) async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    spawn_blocking(work).await.map_err(|_| Error::new(Code::InternalError, "the figures could not be added up"))
}

impl Stats {
    fn of(counted: &[Counted], traffic: Report, started_at: Timestamp) -> Self {
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

/// The tenants whose decisions took longest.
fn slowest(counted: &[Counted], now: Timestamp) -> Vec<SlowTenant> {
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

impl Counted {
    fn named(&self) -> Named {
        let name = self.census.as_ref().map(|census| census.name.clone());
        Named { id: self.route.id, slug: self.route.slug.clone(), name }
    }
}

/// How many there are of them.
pub(super) fn tenant_counts(all: &[Counted]) -> TenantCounts {
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

/// How many agents they have, but for those that did not answer.
pub(super) fn agent_counts(all: &[Counted]) -> AgentCounts {
    let answered = all.iter().filter(|one| one.answered).filter_map(|one| one.census.as_ref());
    answered.fold(AgentCounts::default(), |sum, census| AgentCounts {
        active: sum.active + census.agents.active,
        revoked: sum.revoked + census.agents.revoked,
        expired: sum.expired + census.agents.expired,
    })
}

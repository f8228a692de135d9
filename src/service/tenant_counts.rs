//! What holds of all tenants together, without reading those that are not in memory.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix_rt::task::spawn_blocking;
use tokio::sync::oneshot;

use super::kavach::Kavach;
use super::lists::ASKED_AT_ONCE;
use crate::actors::messages::Inspect;
use crate::actors::tenant_directory::{KnownTenant, Presence};
use crate::actors::{Core, Route, Visit};
use crate::domain::agent::AgentCounts;
use crate::domain::tenant::TenantStatus;
use crate::domain::tenant::census::{Census, MAX_NEAR_LIMITS};
use crate::domain::{Code, Error, Right, Tenant, TenantId, Timestamp};
use crate::measure::TenantMeasures;
use crate::measure::census_cache::CachedCensuses;
use crate::measure::metric_values::{TenantCounts, TenantMemory};
use crate::store::CatalogRow;

/// Tenants that are not in memory and that one question reads at most. The next question goes on.
const MOST_READ: usize = ASKED_AT_ONCE;

/// A tenant in memory or one that can't be served, with its newest census; or an idle one whose row does not say enough.
pub(super) struct CountedTenant {
    pub route: Route,
    /// What is measured about it, if it is in memory.
    pub measures: Option<Arc<TenantMeasures>>,
    /// The newest known, even if the tenant did not answer this time.
    pub census: Option<Arc<Census>>,
    /// Its newest row, where no census is known.
    pub last_row: Option<CatalogRow>,
    /// Whether census or row hold.
    pub answered: bool,
}

/// All tenants, counted.
#[derive(Default)]
pub(super) struct CountedTenants {
    /// Those that were looked at one by one.
    pub each: Vec<CountedTenant>,
    /// All tenants, by status.
    pub tenants: TenantCounts,
    /// The agents of those that answered, by status.
    pub agents: AgentCounts,
}

/// What is known before any tenant is asked.
#[derive(Default)]
struct KnownTenants {
    counted: CountedTenants,
    /// Tenants whose row says everything but which budgets are near their limits.
    near_limit: Vec<(Route, CatalogRow)>,
    /// Tenants whose row says nothing, or what held earlier.
    stale: Vec<(Route, Option<CatalogRow>)>,
}

impl Kavach {
    /// Counts all tenants. It asks only those in memory that have changed since they were last asked, and a few others: what
    /// holds of one that is not in memory is in its row.
    pub(super) async fn count_all(&self) -> Result<CountedTenants, Error> {
        let core = Arc::clone(&self.core);
        // One caller at a time: the second one finds what the first one asked for.
        let mut known = self.core.measures.census.lock().await;
        let now = self.core.clock.now();
        let found = off_thread(move || {
            let mut found = KnownTenants::default();
            core.directory.each(|tenant| found.note(tenant, now));
            found
        })
        .await?;
        let KnownTenants { mut counted, near_limit, stale } = found;
        let mut asked = Vec::new();
        for (at, one) in counted.each.iter_mut().enumerate() {
            let Some(measures) = &one.measures else { continue };
            // Read the version before asking: a change that comes later makes the answer stale.
            let version = measures.version();
            one.census = known.current(one.route.id, version, now).cloned();
            if one.census.is_none() {
                asked.push((at, version));
            }
        }
        let mut room = MOST_READ;
        let idle = near_limit.into_iter().map(|(route, row)| (route, Some(row))).chain(stale);
        for (route, row) in idle {
            let census = row.as_ref().and_then(|row| known.of_idle(route.id, row.last_event_at, now)).cloned();
            match (census, row) {
                (None, row) if room > 0 => {
                    room -= 1;
                    asked.push((counted.each.len(), 0));
                    counted.each.push(CountedTenant { last_row: row, ..CountedTenant::of(route) });
                }
                (None, Some(row)) => counted.add_row(&row),
                (census, _) => counted.each.push(CountedTenant { census, ..CountedTenant::of(route) }),
            }
        }
        self.ask_all(&mut counted, &mut known, asked).await;
        for one in counted.each.iter_mut().filter(|one| one.census.is_none()) {
            one.census = known.last(one.route.id).cloned();
        }
        known.forget_all_but(counted.each.iter().map(|one| one.route.id));
        counted.add_up();
        Ok(counted)
    }

    /// Asks tenants for their census: their places in the list, and the version that each had before.
    async fn ask_all(&self, counted: &mut CountedTenants, known: &mut CachedCensuses, asked: Vec<(usize, u64)>) {
        for batch in asked.chunks(ASKED_AT_ONCE) {
            let routes = batch.iter().filter_map(|(at, version)| Some((*at, *version, &counted.each.get(*at)?.route)));
            let sent: Vec<_> = routes.map(|(at, version, route)| (at, version, self.ask_census(route.id))).collect();
            for (at, version, sent) in sent {
                let Some(one) = counted.each.get_mut(at) else { continue };
                let answered = match sent {
                    Ok(receiver) => self.answer(one.route.id, receiver).await,
                    Err(error) => Err(error),
                };
                match answered {
                    Ok(census) => one.census = Some(known.keep(one.route.id, version, census)),
                    // An overloaded tenant is up and serving, so its last census is still about right.
                    Err(error) => one.answered = error.code() == Code::Overloaded,
                }
            }
        }
    }

    fn ask_census(&self, tenant: TenantId) -> Result<oneshot::Receiver<Result<Census, Error>>, Error> {
        let credential = self.credential;
        let look = |tenant: &Tenant, now| Ok(Census::take(tenant, now, MAX_NEAR_LIMITS));
        self.send(tenant, Visit::Scan, |reply| Inspect { credential, right: Right::Read, look, reply })
    }
}

/// Runs work that takes a while with thousands of tenants, off the worker threads.
pub(super) async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    spawn_blocking(work).await.map_err(|_| Error::new(Code::InternalError, "the statistics could not be added up"))
}

/// How many tenants are in memory, and may be.
pub(super) fn tenant_memory(core: &Core) -> TenantMemory {
    TenantMemory {
        resident: core.measures.resident.load(Ordering::Relaxed),
        known: core.directory.count(),
        limit: core.resident_tenants,
    }
}

impl KnownTenants {
    fn note(&mut self, tenant: KnownTenant, now: Timestamp) {
        if tenant.is_being_erased() {
            return;
        }
        match &tenant.presence {
            Presence::Resident(resident) => {
                let (measures, last_row) = (Some(Arc::clone(&resident.measures)), tenant.last_row());
                self.counted.each.push(CountedTenant { measures, last_row, ..CountedTenant::of(tenant.route) });
            }
            Presence::Down(_) => {
                self.counted.each.push(CountedTenant { answered: false, ..CountedTenant::of(tenant.route) });
            }
            Presence::Idle | Presence::Leaving => match tenant.row() {
                Some(row) if row.agents_hold_until.is_some_and(|until| until <= now) => {
                    self.stale.push((tenant.route, Some(row)));
                }
                Some(row) if row.is_near_limit => self.near_limit.push((tenant.route, row)),
                Some(row) => self.counted.add_row(&row),
                None => self.stale.push((tenant.route, None)),
            },
        }
    }
}

impl CountedTenant {
    /// A tenant of which nothing is known yet.
    pub fn of(route: Route) -> Self {
        Self { route, measures: None, census: None, last_row: None, answered: true }
    }
}

impl CountedTenants {
    fn add_row(&mut self, row: &CatalogRow) {
        self.add(row.profile.status, row.agents);
    }

    fn add(&mut self, status: TenantStatus, agents: AgentCounts) {
        match status {
            TenantStatus::Active => self.tenants.active += 1,
            TenantStatus::Suspended => self.tenants.suspended += 1,
        }
        self.agents.active += agents.active;
        self.agents.revoked += agents.revoked;
        self.agents.expired += agents.expired;
    }

    /// Adds those that were looked at one by one to the others.
    fn add_up(&mut self) {
        for one in std::mem::take(&mut self.each) {
            match (&one.census, &one.last_row) {
                (Some(census), _) if one.answered => self.add(census.status, census.agents),
                (None, Some(row)) if one.answered => self.add_row(row),
                _ => self.tenants.unavailable += 1,
            }
            self.each.push(one);
        }
    }
}

//! The newest census of each tenant, so that a question about all tenants does not have to ask each of them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard};

use crate::domain::tenant::census::Census;
use crate::domain::{TenantId, Timestamp};

/// The newest censuses, behind a lock: whoever holds it is the only one asking tenants.
#[derive(Debug, Default)]
pub struct CensusCache(Mutex<CachedCensuses>);

/// The newest census of each tenant, with the tenant's version when it was asked.
#[derive(Debug, Default)]
pub struct CachedCensuses {
    by_tenant: HashMap<TenantId, (u64, Arc<Census>)>,
}

impl CensusCache {
    /// Waits for the lock.
    pub async fn lock(&self) -> MutexGuard<'_, CachedCensuses> {
        self.0.lock().await
    }
}

impl CachedCensuses {
    /// A tenant's census, if it was taken at this [version](super::TenantMeasures::version) and has not expired.
    pub fn current(&self, tenant: TenantId, version: u64, now: Timestamp) -> Option<&Arc<Census>> {
        let (known, census) = self.by_tenant.get(&tenant)?;
        // A census from the future was taken before the clock was set back.
        (*known == version && (census.taken_at..census.valid_until).contains(&now)).then_some(census)
    }

    /// A tenant's newest census, which may be stale.
    pub fn last(&self, tenant: TenantId) -> Option<&Arc<Census>> {
        self.by_tenant.get(&tenant).map(|(_, census)| census)
    }

    /// Stores a census that was requested at this version.
    pub fn keep(&mut self, tenant: TenantId, version: u64, census: Census) -> Arc<Census> {
        let census = Arc::new(census);
        self.by_tenant.insert(tenant, (version, Arc::clone(&census)));
        census
    }

    /// The newest census of a tenant that is not in memory, if its last event is still that one and it has not expired.
    pub fn of_idle(&self, tenant: TenantId, last_event_at: Timestamp, now: Timestamp) -> Option<&Arc<Census>> {
        let census = self.last(tenant)?;
        let holds = census.last_event_at == last_event_at && (census.taken_at..census.valid_until).contains(&now);
        holds.then_some(census)
    }

    /// Forgets all tenants but these.
    pub fn forget_all_but(&mut self, tenants: impl Iterator<Item = TenantId>) {
        let kept: HashSet<_> = tenants.collect();
        if self.by_tenant.len() > kept.len() {
            self.by_tenant.retain(|tenant, _| kept.contains(tenant));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Tenant;

    #[test]
    fn a_census_holds_for_its_version_and_its_time() {
        let at = |text| Timestamp::parse("at", text).unwrap();
        let (tenant, taken_at) = (Tenant::default(), at("2026-11-24T10:00:00Z"));
        let mut known = CachedCensuses::default();
        known.keep(tenant.id(), 7, Census::take(&tenant, taken_at, 1));
        let holds = |version, now| known.current(tenant.id(), version, at(now)).is_some();
        assert!(holds(7, "2026-11-24T10:00:00Z") && holds(7, "2026-11-24T23:59:59.999Z"));
        assert!(!holds(8, "2026-11-24T10:00:00Z"), "something changed");
        assert!(!holds(7, "2026-11-25T00:00:00Z"), "a day ended");
        assert!(!holds(7, "2026-11-24T09:59:59.999Z"), "the clock was set back");
        let idle = |event, now| known.of_idle(tenant.id(), event, at(now)).is_some();
        assert!(idle(tenant.time(), "2026-11-24T10:00:00Z"));
        assert!(!idle(tenant.time().plus_millis(1), "2026-11-24T10:00:00Z"), "something changed");
        assert!(!idle(tenant.time(), "2026-11-25T00:00:00Z"), "a day ended");
    }

    #[test]
    fn tenants_that_are_gone_are_forgotten() {
        let tenant = Tenant::default();
        let mut known = CachedCensuses::default();
        known.keep(tenant.id(), 1, Census::take(&tenant, Timestamp::default(), 1));
        known.forget_all_but([tenant.id()].into_iter());
        assert!(known.last(tenant.id()).is_some());
        known.forget_all_but([].into_iter());
        assert!(known.last(tenant.id()).is_none());
    }
}

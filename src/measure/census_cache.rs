//! The newest census of each tenant, so that a question about all tenants does not have to ask each of them.

use std::collections::HashMap;
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

    /// Forgets tenants that are gone. `count` is how many there are now.
    pub fn forget_all_but(&mut self, count: usize, is_there: impl Fn(TenantId) -> bool) {
        if self.by_tenant.len() > count {
            self.by_tenant.retain(|tenant, _| is_there(*tenant));
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
    }

    #[test]
    fn tenants_that_are_gone_are_forgotten() {
        let tenant = Tenant::default();
        let mut known = CachedCensuses::default();
        known.keep(tenant.id(), 1, Census::take(&tenant, Timestamp::default(), 1));
        known.forget_all_but(1, |_| false);
        assert!(known.last(tenant.id()).is_some(), "there are no more of them than tenants");
        known.forget_all_but(0, |id| id == tenant.id());
        assert!(known.last(tenant.id()).is_some());
        known.forget_all_but(0, |_| false);
        assert!(known.last(tenant.id()).is_none());
    }
}

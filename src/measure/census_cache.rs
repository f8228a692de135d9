//! What was found out about each tenant, so that whoever asks about all of them does not ask them all each time.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard};

use crate::domain::tenant::census::Census;
use crate::domain::{TenantId, Timestamp};

/// What was found out last. Whoever holds it is the only one who asks.
#[derive(Debug, Default)]
pub struct CensusCache(Mutex<CachedCensuses>);

/// Of each tenant the newest census.
#[derive(Debug, Default)]
pub struct CachedCensuses {
    by_tenant: HashMap<TenantId, (u64, Arc<Census>)>,
}

impl CensusCache {
    /// Waits for its turn.
    pub async fn lock(&self) -> MutexGuard<'_, CachedCensuses> {
        self.0.lock().await
    }
}

impl CachedCensuses {
    /// The census of a tenant whose [version](super::TenantMeasures::version) is that, where it still holds.
    pub fn current(&self, tenant: TenantId, version: u64, now: Timestamp) -> Option<&Arc<Census>> {
        let (known, census) = self.by_tenant.get(&tenant)?;
        // One of a time that is yet to come was taken before the clock was set back.
        (*known == version && (census.taken_at..census.valid_until).contains(&now)).then_some(census)
    }

    /// The newest census of a tenant, though things may have changed since.
    pub fn last(&self, tenant: TenantId) -> Option<&Arc<Census>> {
        self.by_tenant.get(&tenant).map(|(_, census)| census)
    }

    /// Keeps a census that was asked for when the version was that.
    pub fn keep(&mut self, tenant: TenantId, version: u64, census: Census) -> Arc<Census> {
        let census = Arc::new(census);
        self.by_tenant.insert(tenant, (version, Arc::clone(&census)));
        census
    }

    /// Forgets tenants that are gone, where there are `count` of them now.
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

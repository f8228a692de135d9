//! What was found out about each tenant, so that whoever asks about all of them does not ask them all each time.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard};

use crate::domain::census::Census;
use crate::domain::{TenantId, Timestamp};

/// What was found out last. Whoever holds it is the only one who asks.
#[derive(Debug, Default)]
pub struct CensusDesk(Mutex<Known>);

/// Of each tenant the newest census.
#[derive(Debug, Default)]
pub struct Known {
    by_tenant: HashMap<TenantId, (u64, Arc<Census>)>,
}

impl CensusDesk {
    /// Waits for its turn.
    pub async fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().await
    }
}

impl Known {
    /// The census of a tenant whose [version](super::TenantMeasures::version) is that, where it still holds.
    pub fn current(&self, tenant: TenantId, version: u64, now: Timestamp) -> Option<&Arc<Census>> {
        let (known, census) = self.by_tenant.get(&tenant)?;
        (*known == version && now < census.valid_until).then_some(census)
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

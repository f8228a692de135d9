//! What all readers of audit trails share: how many may read at once, and who follows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::news::News;
use super::turns::Turns;
use crate::domain::limits::{
    MAX_AUDIT_PAGES, MAX_AUDIT_PAGES_PER_TENANT, MAX_AUDIT_READERS, MAX_EXPORTS, MAX_EXPORTS_PER_TENANT, MAX_STREAMS,
    MAX_STREAMS_PER_TENANT,
};
use crate::domain::{Code, Error, TenantId};

/// What all readers of audit trails share.
pub struct AuditDesk {
    /// Who may read a journal now. A reader holds its permit for a few milliseconds' work and then queues again, so
    /// that a long scan lets short ones through; each party has one at most, so that many scans do too.
    pub readers: Arc<Turns>,
    /// Who may make a page of entries now: it is in memory until it is answered.
    pub pages: Arc<Turns>,
    /// Who follows which tenants.
    pub news: Arc<News>,
    /// Exports under way.
    pub exports: Arc<Slots>,
    /// Streams under way.
    pub streams: Arc<Slots>,
}

impl Default for AuditDesk {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let slots = |what, most, per_tenant| Arc::new(Slots { what, most, per_tenant, taken: Mutex::default() });
        Self {
            readers: Turns::new((cores / 2).clamp(1, MAX_AUDIT_READERS), 1),
            pages: Turns::new(MAX_AUDIT_PAGES, MAX_AUDIT_PAGES_PER_TENANT),
            news: Arc::default(),
            exports: slots("exports", MAX_EXPORTS, MAX_EXPORTS_PER_TENANT),
            streams: slots("streams", MAX_STREAMS, MAX_STREAMS_PER_TENANT),
        }
    }
}

/// A number of places, some of which a tenant can take.
pub struct Slots {
    what: &'static str,
    most: usize,
    per_tenant: usize,
    taken: Mutex<HashMap<Option<TenantId>, usize>>,
}

/// A taken place, given back when dropped.
pub struct Slot {
    slots: Arc<Slots>,
    tenant: Option<TenantId>,
}

impl Slots {
    /// Takes a place for a tenant, or for all tenants at once.
    ///
    /// # Errors
    /// `TOO_MANY_STREAMS`.
    pub fn take(self: &Arc<Self>, tenant: Option<TenantId>) -> Result<Slot, Error> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let refuse = |most, whose| {
            let message = format!("{} audit {} are open at once at most for {whose}; end one first", most, self.what);
            Err(Error::new(Code::TooManyStreams, message))
        };
        if taken.get(&tenant).is_some_and(|count| *count >= self.per_tenant) {
            return refuse(self.per_tenant, "a tenant");
        }
        if taken.values().sum::<usize>() >= self.most {
            return refuse(self.most, "the server");
        }
        *taken.entry(tenant).or_default() += 1;
        Ok(Slot { slots: Arc::clone(self), tenant })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    #[test]
    fn places_are_limited_for_a_tenant_and_for_all() {
        let slots = Arc::new(Slots { what: "streams", most: 3, per_tenant: 2, taken: Mutex::default() });
        let other = TenantId::generate(Timestamp::default(), [5; 10]);
        let first = slots.take(None).unwrap();
        let second = slots.take(None).unwrap();
        assert_eq!(slots.take(None).err().unwrap().code(), Code::TooManyStreams);
        let third = slots.take(other).unwrap();
        assert_eq!(slots.take(other).err().unwrap().code(), Code::TooManyStreams, "the server is full");
        drop(first);
        let fourth = slots.take(other).unwrap();
        drop((second, third, fourth));
        assert!(slots.taken.lock().unwrap().is_empty());
    }
}

//! What all readers of audit trails share: how many may read at once, and who follows which trail.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::fair_semaphore::{FairSemaphore, Party};
use super::journal_watch::JournalWatch;
use super::reader_threads::ReaderThreads;
use crate::domain::limits::{
    MAX_AUDIT_PAGES, MAX_AUDIT_PAGES_PER_TENANT, MAX_AUDIT_READERS, MAX_EXPORTS, MAX_EXPORTS_PER_TENANT,
    MAX_SPEND_REPORTS, MAX_SPEND_REPORTS_PER_TENANT, MAX_STREAMS, MAX_STREAMS_PER_TENANT, RESERVED_EXPORTS,
    RESERVED_STREAMS,
};
use crate::domain::{Code, Error};

/// What all readers of audit trails share.
pub struct AuditLimits {
    /// Permits to read a journal. A reader holds one for a few milliseconds' work and then queues again, so that a long
    /// scan lets short ones through. Each party has at most one, so that many scans do too.
    pub readers: Arc<FairSemaphore>,
    /// The threads of those who hold one.
    pub threads: ReaderThreads,
    /// Permits to make a page of entries, which stays in memory until it is answered.
    pub pages: Arc<FairSemaphore>,
    /// Permits to make a spend report, which holds its groups while it reads.
    pub reports: Arc<FairSemaphore>,
    /// Who follows which tenants.
    pub watch: Arc<JournalWatch>,
    /// Exports under way.
    pub exports: Arc<Slots>,
    /// Streams under way.
    pub streams: Arc<Slots>,
}

impl AuditLimits {
    /// Nobody reads yet.
    ///
    /// # Errors
    /// The system has no room for threads that read.
    pub fn new() -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let slots = |what, most, reserved, each| {
            let taken = Mutex::default();
            Arc::new(Slots { what, most, reserved, each, taken })
        };
        let readers = (cores / 2).clamp(1, MAX_AUDIT_READERS);
        Ok(Self {
            readers: FairSemaphore::new(readers, 1),
            threads: ReaderThreads::new(readers)?,
            pages: FairSemaphore::new(MAX_AUDIT_PAGES, MAX_AUDIT_PAGES_PER_TENANT),
            reports: FairSemaphore::new(MAX_SPEND_REPORTS, MAX_SPEND_REPORTS_PER_TENANT),
            watch: Arc::default(),
            exports: slots("exports", MAX_EXPORTS, RESERVED_EXPORTS, MAX_EXPORTS_PER_TENANT),
            streams: slots("streams", MAX_STREAMS, RESERVED_STREAMS, MAX_STREAMS_PER_TENANT),
        })
    }
}

/// A number of places. Tenants can't take all of them.
pub struct Slots {
    what: &'static str,
    most: usize,
    /// Places that only operators can take.
    reserved: usize,
    each: usize,
    taken: Mutex<HashMap<Party, usize>>,
}

/// A taken place, given back when dropped.
pub struct Slot {
    slots: Arc<Slots>,
    party: Party,
}

impl Slots {
    /// Takes a place.
    ///
    /// # Errors
    /// `TOO_MANY_STREAMS`.
    pub fn take(self: &Arc<Self>, party: Party) -> Result<Slot, Error> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let refuse = |most, scope| {
            let message = format!("{scope} may have at most {most} audit {} open; close one first", self.what);
            Err(Error::new(Code::TooManyStreams, message))
        };
        if taken.get(&party).is_some_and(|count| *count >= self.each) {
            return refuse(self.each, "a tenant");
        }
        let of_tenants: usize = taken.iter().filter(|(party, _)| !party.operator).map(|(_, count)| count).sum();
        if !party.operator && of_tenants >= self.most - self.reserved {
            return refuse(self.most - self.reserved, "all tenants together");
        }
        if taken.values().sum::<usize>() >= self.most {
            return refuse(self.most, "the server");
        }
        *taken.entry(party).or_default() += 1;
        Ok(Slot { slots: Arc::clone(self), party })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.party) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.party);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{TenantId, Timestamp};

    #[test]
    fn places_are_limited_for_a_tenant_for_tenants_and_for_all() {
        let slots = Arc::new(Slots { what: "streams", most: 4, reserved: 1, each: 2, taken: Mutex::default() });
        let tenant = |of: u8| Party { operator: false, tenant: TenantId::generate(Timestamp::default(), [of; 10]) };
        let operator = Party { operator: true, tenant: None };
        let refused = |party| slots.take(party).err().is_some_and(|error| error.code() == Code::TooManyStreams);
        let first = slots.take(tenant(1)).unwrap();
        let second = slots.take(tenant(1)).unwrap();
        assert!(refused(tenant(1)), "a tenant has its own");
        let third = slots.take(tenant(2)).unwrap();
        assert!(refused(tenant(2)) && refused(tenant(3)), "the last is an operator's");
        let fourth = slots.take(operator).unwrap();
        assert!(refused(operator), "the server is full");
        drop(first);
        let fifth = slots.take(operator).unwrap();
        assert!(refused(tenant(3)), "an operator may have more than what is kept for one");
        drop((second, third, fourth, fifth));
        assert!(slots.taken.lock().unwrap().is_empty());
    }
}

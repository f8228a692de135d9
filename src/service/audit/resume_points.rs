//! After which entries a client can resume a stream that broke off.
//!
//! In a stream of one tenant, after any entry: what follows is known. A stream of all tenants reads them one after the
//! other, so it may send one tenant's entry before older ones of the next. It therefore gives its client an entry's id
//! only if a stream that starts [`OVERLAP_MS`] before that entry misses nothing. Until then the client keeps the id it
//! has, if any.

use crate::domain::{AuditId, Timestamp};

/// How far before the client's last entry a stream of several tenants resumes.
const OVERLAP_MS: i64 = 5_000;
/// How late an entry may be announced: it is written with its batch.
const LATE_MS: i64 = 2_000;

/// Decides which entries a client can resume after.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResumePoints {
    /// Everything still to come is of this time or later; `None` if entries come in order anyway.
    floor: Option<Timestamp>,
    /// The newest entry that the client can resume after.
    last: Option<AuditId>,
}

impl ResumePoints {
    /// For one tenant, in order.
    pub fn in_order() -> Self {
        Self { floor: None, last: None }
    }

    /// For several tenants, if everything to come is of time `floor` or later.
    pub fn from(floor: Timestamp, last: Option<AuditId>) -> Self {
        Self { floor: Some(floor), last }
    }

    /// When every other tenant has to start, so that nothing after entry `last` is missed.
    pub fn overlap(last: AuditId) -> Timestamp {
        last.time().plus_millis(-OVERLAP_MS)
    }

    /// Everything announced before `heard` has been sent, so whatever is to come was written about then or later.
    pub fn shown_before(&mut self, heard: Timestamp) {
        self.floor = self.floor.max(Some(heard.plus_millis(-LATE_MS)));
    }

    /// Whether the client can resume after this entry, which is sent next.
    pub fn allows(&mut self, id: AuditId) -> bool {
        let Some(floor) = self.floor else { return true };
        // An earlier entry than it has would only repeat more.
        let allowed = Self::overlap(id) <= floor && self.last.is_none_or(|last| last < id);
        if allowed {
            self.last = Some(id);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::TenantTag;

    fn id(millis: i64, tag: u32) -> AuditId {
        AuditId::derive(Timestamp::from_millis(millis), 7, TenantTag(tag))
    }

    #[test]
    fn no_stream_resumes_after_an_entry_while_older_ones_are_still_to_come() {
        let mut resume = ResumePoints::from(Timestamp::from_millis(100_000), None);
        assert!(!resume.allows(id(100_000 + OVERLAP_MS + 1, 1)));
        assert!(resume.allows(id(100_000 + OVERLAP_MS, 1)));
        assert!(!resume.allows(id(100_000, 2)), "the client would go back");
        resume.shown_before(Timestamp::from_millis(200_000));
        assert!(resume.allows(id(200_000, 2)));
        assert!(!resume.allows(id(200_000 - LATE_MS + OVERLAP_MS + 1, 1)));
        resume.shown_before(Timestamp::from_millis(150_000));
        assert!(resume.allows(id(200_001, 1)), "what was shown stays shown");
    }

    #[test]
    fn a_stream_of_one_tenant_resumes_after_any_entry() {
        let mut resume = ResumePoints::in_order();
        assert!([9, 3, 4].into_iter().all(|millis| resume.allows(id(millis, 1))));
    }
}

//! From which entries a client can go on with a stream that broke off.
//!
//! Of one tenant it is any entry, since what comes after it is known. Tenants are read one after the other, though, so
//! that an entry of one may be shown while older ones of the next have not been. A stream of all tenants therefore
//! gives its client an id only where a stream that begins [`OVERLAP_MS`] before that entry leaves nothing out; until
//! then the client keeps the id it has, or none.

use crate::domain::{AuditId, Timestamp};

/// How far before the last entry a stream of several tenants goes on.
const OVERLAP_MS: i64 = 5_000;
/// How long after its time an entry may be heard of: it is written with its batch.
const LATE_MS: i64 = 2_000;

/// Which entries a stream can go on from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resume {
    /// All that is still to come is of that time or later; `None` where it comes in order anyway.
    floor: Option<Timestamp>,
    /// The newest entry the client was told to go on from.
    last: Option<AuditId>,
}

impl Resume {
    /// Of one tenant, in its order.
    pub fn in_order() -> Self {
        Self { floor: None, last: None }
    }

    /// Of several tenants, where all that is to come is of that time or later.
    pub fn from(floor: Timestamp, last: Option<AuditId>) -> Self {
        Self { floor: Some(floor), last }
    }

    /// The time at which every other tenant begins, to leave nothing out after that entry.
    pub fn overlap(last: AuditId) -> Timestamp {
        last.time().plus_millis(-OVERLAP_MS)
    }

    /// All that was heard of before `heard` has been shown: what is to come was not written before.
    pub fn shown_before(&mut self, heard: Timestamp) {
        self.floor = self.floor.max(Some(heard.plus_millis(-LATE_MS)));
    }

    /// Whether the client can go on from this entry, which is shown next.
    pub fn allows(&mut self, id: AuditId) -> bool {
        let Some(floor) = self.floor else { return true };
        // An earlier one than it has would only show more again.
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
    fn an_entry_with_older_ones_still_to_come_is_none_to_go_on_from() {
        let mut resume = Resume::from(Timestamp::from_millis(100_000), None);
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
    fn one_tenants_entries_are_all_to_go_on_from() {
        let mut resume = Resume::in_order();
        assert!([9, 3, 4].into_iter().all(|millis| resume.allows(id(millis, 1))));
    }
}

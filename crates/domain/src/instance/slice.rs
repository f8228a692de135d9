//! A tenant's slice of an instance policy.

use serde::{Deserialize, Serialize};

use crate::instance::amounts::Amounts;
use crate::time::Timestamp;

/// What a tenant has of an instance policy: totals since it first asked, and when the present slice ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Slice {
    /// The policy, by the number of the event in the default tenant that created it.
    pub policy: u64,
    /// What the lender granted, as far as the tenant knows.
    pub granted: Amounts,
    /// What was given back to the lender.
    pub returned: Amounts,
    /// What was spent from earlier slices.
    #[serde(default, skip_serializing_if = "Amounts::is_zero")]
    pub before: Amounts,
    /// What was spent from the present one. It may be more than there was: what was used counts even past a limit.
    pub spent: Amounts,
    /// What was used while there was no slice, by reports and settlements.
    #[serde(default, skip_serializing_if = "Amounts::is_zero")]
    pub late: Amounts,
    /// The first moment at which nothing can be spent from the present slice any more.
    pub until: Timestamp,
    /// Number of the event that began it. Only what it was charged after that can go back into it.
    pub since: u64,
}

impl Slice {
    /// A slice of that policy that was never granted anything.
    pub fn none(policy: u64) -> Self {
        Self { policy, ..Self::default() }
    }

    /// What is left of it, whether it has ended or not.
    pub fn left(&self) -> Amounts {
        self.granted.minus(self.returned.plus(self.before).plus(self.spent))
    }

    /// What can be spent from it at `now`.
    pub fn usable(&self, now: Timestamp) -> Amounts {
        if self.is_open(now) { self.left() } else { Amounts::default() }
    }

    /// Whether it has not ended.
    pub fn is_open(&self, now: Timestamp) -> bool {
        now < self.until
    }

    /// Charges it. What is charged while there is no slice is told apart: it belongs to no slice's windows.
    pub(crate) fn charge(&mut self, now: Timestamp, amounts: Amounts) {
        let charged = if self.is_open(now) { &mut self.spent } else { &mut self.late };
        *charged = charged.plus(amounts);
    }

    /// Gives back a part of what the event `charged` charged to it, unless that slice has ended.
    pub(crate) fn give_back(&mut self, now: Timestamp, charged: u64, amounts: Amounts) {
        if self.is_open(now) && charged > self.since {
            self.spent = self.spent.minus(amounts);
        }
    }
}

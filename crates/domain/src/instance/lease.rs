//! What lender and tenant tell each other, and what each records. All of it is plain data: nothing in it relies on both
//! being in one process.

use serde::{Deserialize, Serialize};

use crate::budget::crossed::Crossed;
use crate::budget::opening::Opened;
use crate::id::{PolicyId, TenantId};
use crate::instance::amounts::Amounts;
use crate::instance::lent::Lent;
use crate::time::Timestamp;

/// What a tenant tells of its slice: totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Number of the tenant's last event. Of two reports the one with the larger number is the newer.
    pub order: u64,
    /// What it knows to be granted.
    pub granted: Amounts,
    /// What it returned.
    pub returned: Amounts,
    /// What it spent from slices before the present one.
    pub before: Amounts,
    /// What it spent from the present one.
    pub spent: Amounts,
    /// What it used without one.
    pub late: Amounts,
    /// When the present slice ends, which tells it from those before.
    pub until: Timestamp,
}

/// A tenant asks for a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The tenant.
    pub tenant: TenantId,
    /// The policy.
    pub policy: PolicyId,
    /// What became of earlier slices.
    pub totals: Totals,
    /// The least that is of use: what one call needs. Nothing, if the tenant only tells its totals.
    pub least: Amounts,
    /// What would be of use at once.
    pub wanted: Amounts,
}

/// The lender's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// All that was ever granted.
    pub granted: Amounts,
    /// When the present slice ends.
    pub until: Timestamp,
    /// What of it the tenant has, as far as the lender knows: all of what it had before is accounted for.
    pub outstanding: Amounts,
    /// What became of the question.
    pub outcome: Outcome,
}

/// What became of a question for a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The tenant has what it asked for, at the lender's time.
    Granted,
    /// The present slice has ended, and the tenant did not return all of it: it does, and asks again.
    MustReturn,
    /// There is not so much, and nobody who could be asked has any left.
    Exhausted {
        /// When there may be again at the latest, by a new window or other limits; `None` is never.
        fits_at: Option<Timestamp>,
        /// How often something had come back by then. Once it is more, it is worth asking again.
        version: u64,
        /// Whether everybody who had something was asked and answered. If not, it is worth asking again soon.
        all_asked: bool,
    },
    /// There is no such policy, or it is switched off.
    NoPolicy,
}

/// The lender wants back what is left of a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recall {
    /// The tenant.
    pub tenant: TenantId,
    /// The policy.
    pub policy: PolicyId,
    /// All that was ever granted.
    pub granted: Amounts,
    /// When the present slice ends.
    pub until: Timestamp,
    /// Whether what was charged to the slice before counts no more, since the policy is reset. Then none of it goes back into
    /// the slice.
    pub anew: bool,
}

/// What lender and tenant record. It is no entry of the audit trail: the calls that spend are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LeaseRecord {
    /// The lender granted something, or heard what became of it.
    Lent {
        /// The policy, by the number of the event that created it.
        policy: u64,
        /// All that there is to know of the tenant, from now on.
        lent: Lent,
        /// The windows that it opens.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        opens: Vec<Opened>,
        /// The thresholds that are reached by what was spent.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        crossed: Vec<Crossed>,
    },
    /// A tenant took a grant, or returned something.
    Held {
        /// The policy, by the number of the event in the default tenant that created it.
        policy: u64,
        /// All that it knows to be granted.
        granted: Amounts,
        /// All that it returned.
        returned: Amounts,
        /// When the present slice ends.
        until: Timestamp,
        /// Whether nothing goes back into the slice of what was charged to it before.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        anew: bool,
    },
    /// A tenant forgot the slices of policies that are gone.
    Dropped {
        /// The policies.
        policies: Vec<u64>,
    },
}

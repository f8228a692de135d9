//! What a slice holds: calls and cost.

use serde::{Deserialize, Serialize};

use crate::budget::cost::Cost;

/// Calls and cost. Sums saturate, and differences are at least zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amounts {
    /// Calls.
    pub calls: u64,
    /// Cost.
    pub cost: Cost,
}

impl Amounts {
    /// So many calls, and that cost.
    pub fn new(calls: u64, cost: Cost) -> Self {
        Self { calls, cost }
    }

    /// Whether it is nothing.
    // Serde passes a reference.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    /// The sum of each.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { calls: self.calls.saturating_add(other.calls), cost: self.cost.plus(other.cost) }
    }

    /// The difference of each, at least zero.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self { calls: self.calls.saturating_sub(other.calls), cost: self.cost.minus(other.cost) }
    }

    /// So often as much.
    #[must_use]
    pub fn times(self, count: u64) -> Self {
        let cost = Cost::from_millionths(self.cost.millionths().saturating_mul(count));
        Self { calls: self.calls.saturating_mul(count), cost }
    }

    /// The larger of each.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self { calls: self.calls.max(other.calls), cost: self.cost.max(other.cost) }
    }

    /// The smaller of each.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self { calls: self.calls.min(other.calls), cost: self.cost.min(other.cost) }
    }

    /// Whether there is as much of each as `other` has.
    pub fn covers(self, other: Self) -> bool {
        self.calls >= other.calls && self.cost >= other.cost
    }
}

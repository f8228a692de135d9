//! That a charge reached a threshold of a limit, as the journal keeps it.

use serde::{Deserialize, Serialize};

use crate::budget::calendar::Span;
use crate::budget::window::Counted;
use crate::id::PolicyId;

/// That a charge reached a part of a limit for the first time in its window, as the journal keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Crossed {
    /// The policy.
    pub policy: PolicyId,
    /// What the limit spans.
    pub period: Span,
    /// What it counts.
    pub of: Counted,
    /// The percent of the limit.
    pub percent: u16,
    /// How much is used with the charge: calls, or millionths of the cost.
    pub used: u64,
    /// The limit, likewise.
    pub max: u64,
}

//! What a caller was told beyond what its call's record says. It is recorded with calls that have an idempotency key, so
//! that a repeat is told the same.

use serde::{Deserialize, Serialize};

use crate::budget::policy::PolicyAction;
use crate::id::PolicyId;

/// The part of an answer that the record lacks. What is not there takes no byte.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeptAnswer {
    /// Seconds until the call may be allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// Exceeded policies that only warn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<KeptWarning>,
    /// How many warnings were not shown.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_warnings: u64,
    /// Whether the cost was finer than a millionth, so that the answer names the rounded one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rounded: bool,
}

/// A warning about an exceeded policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeptWarning {
    /// The policy.
    pub policy: PolicyId,
    /// The policy's action.
    pub action: PolicyAction,
    /// The limit's name.
    pub limit: Box<str>,
    /// Whether the three amounts are costs in millionths, not calls.
    pub cost: bool,
    /// How much was used.
    pub used: u64,
    /// How much the call asked for.
    pub requested: u64,
    /// The limit.
    pub max: u64,
    /// Seconds until there is room for the call, if that ever comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// The excess in words.
    pub message: Box<str>,
}

// Serde passes a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

//! The steps of a decision, for callers who ask why.

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::Serialize;

use crate::id::{AgentId, DelegationId, PolicyId};
use crate::limits::MAX_EXPLAINED_STEPS;

/// One thing a decision looked at.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// What was checked: `tenant`, `agent`, `permission`, `delegation`, `policy`, `hold`, a constraint's name, or `note`
    /// for something that was skipped though one might expect it.
    pub check: &'static str,
    /// Whether the check passed.
    pub passed: bool,
    /// Position of its permission, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permission: Option<u32>,
    /// The agent that holds the permission, if that is a delegating one rather than the caller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    /// Its delegation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delegation: Option<DelegationId>,
    /// Its policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyId>,
    /// What the check found, for people to read.
    pub detail: String,
}

/// Watches a decision. The hot path's watcher is `()`, which costs nothing.
pub trait Trace {
    /// Whether steps are kept, so that it is worth checking more than the decision needs.
    const KEPT: bool;

    /// Takes a step. `make` is called only if it is kept.
    fn step(&mut self, make: impl FnOnce() -> Step);
}

impl Trace for () {
    const KEPT: bool = false;

    fn step(&mut self, _: impl FnOnce() -> Step) {}
}

/// The steps that an explanation shows: the first ones.
#[derive(Clone, Debug, Default)]
pub struct Steps {
    /// The shown steps, in order.
    pub shown: Vec<Step>,
    /// How many more there were.
    pub more: usize,
}

impl Trace for Steps {
    const KEPT: bool = true;

    fn step(&mut self, make: impl FnOnce() -> Step) {
        if self.shown.len() < MAX_EXPLAINED_STEPS {
            self.shown.push(make());
        } else {
            self.more += 1;
        }
    }
}

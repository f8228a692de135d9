//! The steps of a decision, for whoever asks why.

use schemars::JsonSchema;
use serde::Serialize;

use super::id::{AgentId, DelegationId, PolicyId};
use super::limits::MAX_EXPLAINED_STEPS;

/// One thing a decision looked at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// What was looked at: `tenant`, `agent`, `permission`, `delegation`, `policy`, a constraint's name, or `note` of what was not
    /// looked at but may have been expected to be.
    pub check: &'static str,
    /// Whether it held.
    pub passed: bool,
    /// Position of the permission it belongs to, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permission: Option<u32>,
    /// The agent whose permission it is, where that is not the calling one but one that delegated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    /// The delegation it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delegation: Option<DelegationId>,
    /// The policy it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyId>,
    /// What was seen, for people.
    pub detail: String,
}

/// Who watches a decision. The hot path's watcher is `()`, which costs nothing.
pub trait Trace {
    /// Whether steps are kept, so that looking at more than the decision needs is worth it.
    const KEPT: bool;

    /// Takes a step. `make` is called only where it is kept.
    fn step(&mut self, make: impl FnOnce() -> Step);
}

impl Trace for () {
    const KEPT: bool = false;

    fn step(&mut self, _: impl FnOnce() -> Step) {}
}

/// The steps of a decision that are shown: the first of them.
#[derive(Clone, Debug, Default)]
pub struct Steps {
    /// In order.
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

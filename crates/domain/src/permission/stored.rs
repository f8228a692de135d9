//! Permissions as the journal and snapshots hold them: maps with named fields, in this order.
//!
//! The layout is fixed. No field is removed, renamed or moved. Add new fields at the end, and skip them when they are
//! `None`: `#[serde(skip_serializing_if = "Option::is_none")]`. So old content is still written byte for byte. An older
//! version refuses a field that it does not know, rather than ignore a restriction.

use serde::{Deserialize, Serialize};

/// A stored permission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredPermission {
    /// A resource pattern.
    pub resource: String,
    /// Actions; `*` is any.
    pub actions: Vec<String>,
    /// What must hold besides.
    #[serde(default)]
    pub constraints: Option<StoredConstraints>,
}

/// Stored constraints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StoredConstraints {
    /// Granted calls in a sliding hour.
    pub max_calls_per_hour: Option<u32>,
    /// Patterns for arguments.
    pub allowed_arg_patterns: Option<Vec<String>>,
    /// A time of day.
    pub time_window: Option<StoredTimeWindow>,
    /// Addresses or networks.
    pub ip_allowlist: Option<Vec<String>>,
    /// Whether a person has to approve.
    pub require_approval: Option<bool>,
    /// Rules for arguments, sorted by their names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Vec<StoredArgument>>,
    /// What may be there besides those arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_arguments: Option<StoredOtherArguments>,
}

/// A stored rule for one argument.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StoredArgument {
    /// The argument's name.
    pub name: String,
    /// Patterns for its value.
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    pub matching: Option<Vec<String>>,
    /// Its possible values, each as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub one_of: Option<Vec<String>>,
    /// Its largest value, as a JSON number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<String>,
    /// Its smallest value, as a JSON number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<String>,
    /// Whether it may be missing, or has to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub absent: Option<bool>,
}

/// What may be among the arguments besides those that are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StoredOtherArguments {
    /// Anything.
    Allow,
    /// Nothing.
    Deny,
    /// What holds no text.
    Strings,
}

/// A stored time of day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredTimeWindow {
    /// First minute, `HH:MM`.
    pub start: String,
    /// First minute after it.
    pub end: String,
}

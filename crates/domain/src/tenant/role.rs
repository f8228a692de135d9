//! The roles of keys: what the people and services that hold them are there for.

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

// What each may do stands in `right.rs`.
/// The role of a tenant's key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum KeyRole {
    /// It may do all that a tenant's key may.
    #[default]
    Admin,
    /// It reads what the tenant has, and is for the people who decide on approvals.
    Approver,
    /// It reads what the tenant has, and changes nothing.
    Viewer,
    /// It asks for decisions and reports usage, and does nothing else.
    Caller,
}

/// The role of an operator's key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum OperatorRole {
    /// It may do everything.
    #[default]
    Admin,
    /// It reads everything, and changes nothing.
    Auditor,
}

impl KeyRole {
    /// Its name, as JSON spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Approver => "approver",
            Self::Viewer => "viewer",
            Self::Caller => "caller",
        }
    }
}

impl OperatorRole {
    /// Its name, as JSON spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Auditor => "auditor",
        }
    }
}

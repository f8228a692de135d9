//! Who made a change, as the journal records it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::id::KeyId;

/// Who makes a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum By {
    /// An operator with the first key, or the process that embeds the library.
    Operator,
    /// An operator with a key that was made over the API.
    OperatorKey(KeyId),
    /// A tenant key.
    Key(KeyId),
    /// Nobody: its time had come.
    Time,
}

impl By {
    /// Whether this author may change what `set_by` set last: a tenant's keys may not touch what an operator did.
    pub fn may_change(self, set_by: By) -> bool {
        self.is_operator() || matches!((self, set_by), (By::Key(_), By::Key(_)))
    }

    /// Whether it is an operator, with whatever key.
    pub fn is_operator(self) -> bool {
        matches!(self, Self::Operator | Self::OperatorKey(_))
    }
}

/// What we know about the author of a change beyond the key's id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Author {
    /// The key's name at that time; the first operator key has none.
    #[serde(default)]
    pub key_name: Option<Box<str>>,
    /// The caller's address, if known.
    #[serde(default)]
    pub ip: Option<IpAddr>,
    /// The caller's `User-Agent`.
    #[serde(default)]
    pub user_agent: Option<Box<str>>,
}

//! The caller, after its credential was accepted.

use crate::id::KeyId;
use crate::secret::OperatorCredential;
use crate::tenant::role::{KeyRole, OperatorRole};

/// Who makes a call, after the credential was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// An operator with the first key, or the process that embeds the library.
    Operator,
    /// An operator with a key that was made over the API.
    OperatorKey(KeyId, OperatorRole),
    /// A key of this tenant.
    Key(KeyId, KeyRole),
    /// The agent at that place, by its token.
    Agent(u32),
}

impl From<OperatorCredential> for Caller {
    /// An operator whose key was checked.
    fn from(operator: OperatorCredential) -> Self {
        operator.key.map_or(Self::Operator, |(key, role)| Self::OperatorKey(key, role))
    }
}

impl Caller {
    /// Whether it is an operator, with whatever key.
    pub fn is_operator(self) -> bool {
        matches!(self, Self::Operator | Self::OperatorKey(..))
    }
}

//! The caller, after its credential was accepted.

use crate::author::By;
use crate::error::{Code, Error};
use crate::id::KeyId;

/// Who makes a call, after the credential was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// An operator, or the process that embeds the library.
    Operator,
    /// A key of this tenant.
    Key(KeyId),
    /// The agent at that place, by its token.
    Agent(u32),
}

impl Caller {
    /// The author to record for a change. Agents change nothing.
    ///
    /// # Errors
    /// `FORBIDDEN` for an agent.
    pub fn as_author(self) -> Result<By, Error> {
        match self {
            Self::Operator => Ok(By::Operator),
            Self::Key(key) => Ok(By::Key(key)),
            Self::Agent(_) => Err(Error::new(Code::Forbidden, "an agent token may only ask for its own decisions")),
        }
    }
}

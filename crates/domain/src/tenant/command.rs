//! What every administrative command has in common.

use crate::author::By;
use crate::error::Error;
use crate::event::Change;
use crate::moment::Moment;
use crate::tenant::Tenant;
use crate::time::Timestamp;

/// An administrative command: decided against the state, answered from the state after its change.
pub trait Command: Sized {
    /// What the reply is about.
    type Subject;
    /// The answer.
    type Reply;

    /// Checks the command. Without a change, everything is already as the command wants it.
    ///
    /// # Errors
    /// The rule that refuses the command.
    fn decide(self, tenant: &Tenant, by: By, moment: Moment) -> Result<(Option<Change>, Self::Subject), Error>;

    /// The answer, once the change is applied.
    fn reply(tenant: &Tenant, subject: Self::Subject, now: Timestamp) -> Self::Reply;
}

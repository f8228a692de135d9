//! What every administrative command has in common.

use crate::author::By;
use crate::error::Error;
use crate::event::{Change, ChangeRecord, Event};
use crate::id::TenantId;
use crate::moment::Moment;
use crate::tenant::{Profile, State, Tenant};
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

/// A command that makes something, so that its answer follows from its change alone.
pub trait Creates: Command {
    /// The answer about what this change made, from a tenant that has nothing else; `None` if the change is none of this
    /// command's.
    fn made(tenant: &Tenant, change: &Change, now: Timestamp) -> Option<Self::Reply>;
}

/// A command that may come with an idempotency key, since its answer follows from its event alone.
pub trait Repeatable: Command {
    /// The answer that the command with this change got, from a tenant to which nothing else happened; `None` if the
    /// change is none of this command's.
    fn first_answer(alone: &Tenant, record: &ChangeRecord, now: Timestamp) -> Option<Self::Reply>;
}

impl<C: Creates> Repeatable for C {
    fn first_answer(alone: &Tenant, record: &ChangeRecord, now: Timestamp) -> Option<Self::Reply> {
        Self::made(alone, &record.change, now)
    }
}

/// The answer that a command got when its change was recorded, at that moment.
pub fn first_answer<C: Repeatable>(tenant: TenantId, moment: Moment, record: &ChangeRecord) -> Option<C::Reply> {
    C::first_answer(&alone(tenant, moment, record), record, moment.wall)
}

/// The tenant's profile after its first change; `None` for any other change.
pub fn first_profile(moment: Moment, record: &ChangeRecord) -> Option<Profile> {
    let Change::TenantCreated { id, .. } = record.change else { return None };
    Some(alone(id, moment, record).profile().clone())
}

/// A tenant to which nothing happened but this change.
fn alone(tenant: TenantId, moment: Moment, record: &ChangeRecord) -> Tenant {
    let profile = Profile { id: tenant, ..Profile::default() };
    let mut alone = Tenant::restore(State { profile, ..State::default() });
    alone.apply(moment, &Event::Changed(record.clone()));
    alone
}

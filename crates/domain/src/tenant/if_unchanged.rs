//! Commands about something that may have changed since their author looked at it.

use crate::author::By;
use crate::error::{Code, Error};
use crate::event::Change;
use crate::moment::Moment;
use crate::tenant::{Command, Tenant};
use crate::time::Timestamp;
use crate::version::{SeenVersions, Version};

/// A command about one thing that has versions.
pub trait Versioned: Command {
    /// The version of what it is about. `None` if that is not there.
    fn version(&self, tenant: &Tenant) -> Option<Version>;
}

/// A command that is carried out only if what it is about is still as its author saw it. That is checked where the
/// command is decided, so of two with the same version only one is.
pub struct IfUnchanged<C> {
    /// The command.
    pub command: C,
    /// What its author saw. `None` is whatever is there.
    pub seen: Option<SeenVersions>,
}

impl<C: Versioned> Command for IfUnchanged<C> {
    type Subject = C::Subject;
    type Reply = C::Reply;

    fn decide(self, tenant: &Tenant, by: By, moment: Moment) -> Result<(Option<Change>, C::Subject), Error> {
        let Self { command, seen } = self;
        let checked = seen.map_or(Ok(()), |seen| seen.check(command.version(tenant)));
        // Other refusals come first (RFC 9110, 13.2.1): of what the author may not see, nothing must be found out.
        let decided = command.decide(tenant, by, moment)?;
        checked.map(|()| decided)
    }

    fn reply(tenant: &Tenant, subject: C::Subject, now: Timestamp) -> C::Reply {
        C::reply(tenant, subject, now)
    }
}

impl SeenVersions {
    /// Checks that the thing still has one of them.
    ///
    /// # Errors
    /// `PRECONDITION_FAILED`.
    pub fn check(&self, now: Option<Version>) -> Result<(), Error> {
        if now.is_some_and(|now| self.0.contains(&now)) {
            return Ok(());
        }
        let message =
            "it was changed since you read it, so If-Match names no current version: read it again, and then decide";
        Err(Error::new(Code::PreconditionFailed, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::commands::{AgentPatch, RevokeAgent, SetSuspended, UpdateAgent};
    use crate::delegation::example_tests::{World, permissions};
    use crate::tenant::commands::{TenantPatch, UpdateTenant};

    fn renamed(name: &str) -> AgentPatch {
        AgentPatch { name: Some(name.to_owned()), ..AgentPatch::default() }
    }

    #[test]
    fn of_two_commands_with_one_version_only_the_first_is_carried_out() {
        // The world's clock stands still, so all of this happens in one millisecond.
        let mut world = World::new(None);
        let id = world.agent(permissions(r#"[{"resource":"*","actions":["*"]}]"#));
        let version = |world: &World| world.tenant.agent(id).unwrap().profile.version();
        let first = version(&world);
        let seen = |version| Some(SeenVersions(vec![Version::of(&"other"), version]));
        let update = |name: &str, seen| IfUnchanged { command: UpdateAgent::parse(id, renamed(name)).unwrap(), seen };
        // Calls count, and make no other version.
        assert!(world.may(id, "read", "a"));
        assert_eq!(version(&world), first);
        world.run(update("one", seen(first))).unwrap();
        let second = version(&world);
        assert_ne!(second, first);
        let state = world.tenant.state();
        for refused in [
            world.run(update("two", seen(first))).err(),
            world.run(update("two", Some(SeenVersions::default()))).err(),
            // Also if nothing would change.
            world.run(update("one", seen(first))).err(),
            world.run(IfUnchanged { command: RevokeAgent(id), seen: seen(first) }).err(),
        ] {
            assert_eq!(refused.unwrap().code(), Code::PreconditionFailed);
        }
        assert_eq!(world.tenant.state(), state);
        world.run(SetSuspended { id, suspended: true }).unwrap();
        assert_ne!(version(&world), second);
        world.run(SetSuspended { id, suspended: false }).unwrap();
        world.run(update("two", None)).unwrap();
        let last = version(&world);
        world.run(IfUnchanged { command: RevokeAgent(id), seen: seen(last) }).unwrap();
        // What refuses the command without a version refuses it with one.
        assert_eq!(world.run(update("three", seen(first))).err().unwrap().code(), Code::AgentIsRevoked);
        // A restart makes no other version.
        let last = version(&world);
        world.restart();
        assert_eq!(version(&world), last);
    }

    #[test]
    fn a_tenant_has_versions_too() {
        let mut world = World::new(None);
        let rename = |name: &str| UpdateTenant(TenantPatch { name: Some(name.to_owned()), settings: None });
        let first = world.tenant.profile().version();
        let seen = Some(SeenVersions(vec![first]));
        world.run(IfUnchanged { command: rename("one"), seen: seen.clone() }).unwrap();
        let refused = world.run(IfUnchanged { command: rename("two"), seen });
        assert_eq!(refused.unwrap_err().code(), Code::PreconditionFailed);
        assert_eq!(&*world.tenant.profile().name, "one");
    }
}

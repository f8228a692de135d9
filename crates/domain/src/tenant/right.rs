//! Who may do what: the rights that calls need, and the roles that have them.

use crate::author::By;
use crate::error::{Code, Error};
use crate::tenant::caller::Caller;
use crate::tenant::role::{KeyRole, OperatorRole};

/// What a call needs of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Change what belongs to the server: tenants, their settings, keys.
    Operate,
    /// Read what only operators may.
    Oversee,
    /// Change what a tenant has: agents, policies, delegations, webhooks.
    Manage,
    /// Read what a tenant has.
    Read,
    /// Ask for decisions.
    Decide,
    /// Report usage, and release or prolong holds.
    Report,
    /// Ask what an agent's token is.
    Introspect,
    /// Ask what any key may: what the key itself is, and whether a budget has room.
    Ask,
}

impl Right {
    /// Every right.
    pub const ALL: [Self; 8] = [
        Self::Operate,
        Self::Oversee,
        Self::Manage,
        Self::Read,
        Self::Decide,
        Self::Report,
        Self::Introspect,
        Self::Ask,
    ];

    /// The roles of operators' keys that have it.
    pub const fn operator_roles(self) -> &'static [OperatorRole] {
        match self {
            Self::Operate | Self::Manage | Self::Decide | Self::Report => &[OperatorRole::Admin],
            Self::Oversee | Self::Read | Self::Introspect | Self::Ask => &[OperatorRole::Admin, OperatorRole::Auditor],
        }
    }

    /// The roles of tenants' keys that have it, for their own tenant.
    pub const fn key_roles(self) -> &'static [KeyRole] {
        match self {
            Self::Operate | Self::Oversee => &[],
            Self::Manage => &[KeyRole::Admin],
            Self::Read => &[KeyRole::Admin, KeyRole::Approver, KeyRole::Viewer],
            Self::Decide | Self::Report | Self::Introspect => &[KeyRole::Admin, KeyRole::Caller],
            Self::Ask => &[KeyRole::Admin, KeyRole::Approver, KeyRole::Viewer, KeyRole::Caller],
        }
    }

    /// Whether agents have it, for themselves.
    pub const fn is_agents(self) -> bool {
        matches!(self, Self::Decide)
    }
}

impl Caller {
    /// Whether the caller has that right.
    ///
    /// # Errors
    /// `FORBIDDEN`; the sentence names the roles that have it.
    pub fn check(self, right: Right) -> Result<(), Error> {
        let is_allowed = match self {
            Self::Operator => true,
            Self::OperatorKey(_, role) => right.operator_roles().contains(&role),
            Self::Key(_, role) => right.key_roles().contains(&role),
            Self::Agent(_) => right.is_agents(),
        };
        if is_allowed { Ok(()) } else { Err(self.lacks(right)) }
    }

    /// The author to record for a change. Agents change nothing.
    ///
    /// # Errors
    /// `FORBIDDEN` for an agent.
    pub fn as_author(self) -> Result<By, Error> {
        match self {
            Self::Operator => Ok(By::Operator),
            Self::OperatorKey(key, _) => Ok(By::OperatorKey(key)),
            Self::Key(key, _) => Ok(By::Key(key)),
            Self::Agent(_) => Err(agent_may_not()),
        }
    }

    #[cold]
    fn lacks(self, right: Right) -> Error {
        let message = match self {
            Self::Agent(_) => return agent_may_not(),
            Self::OperatorKey(_, role) => {
                let roles = either(right.operator_roles().iter().map(|role| role.as_str()));
                format!(
                    "this requires an operator key with the role {roles}; the role of this key is {}",
                    role.as_str()
                )
            }
            Self::Operator | Self::Key(..) if right.key_roles().is_empty() => {
                "this requires an operator key".to_owned()
            }
            Self::Key(_, role) => {
                let roles = either(right.key_roles().iter().map(|role| role.as_str()));
                format!("this requires a tenant key with the role {roles}; the role of this key is {}", role.as_str())
            }
            Self::Operator => "this requires another key".to_owned(),
        };
        Error::new(Code::Forbidden, message)
    }
}

/// The error for an agent token on a call that only keys may make.
pub fn agent_may_not() -> Error {
    Error::new(Code::Forbidden, "an agent token may only ask for its own decisions")
}

/// `a, b or c`
fn either<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = names.collect();
    let last = names.pop().unwrap_or_default();
    if names.is_empty() { last.to_owned() } else { format!("{} or {last}", names.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{KeyId, TenantId};
    use crate::time::Timestamp;

    #[test]
    fn a_refusal_names_the_roles_that_have_the_right() {
        let key = KeyId::derive(Timestamp::from_millis(1_700_000_000_000), 1, TenantId::DEFAULT.tag());
        let refusal = |caller: Caller, right| caller.check(right).unwrap_err().message().to_owned();
        assert_eq!(
            refusal(Caller::Key(key, KeyRole::Viewer), Right::Decide),
            "this requires a tenant key with the role admin or caller; the role of this key is viewer"
        );
        assert_eq!(
            refusal(Caller::Key(key, KeyRole::Caller), Right::Read),
            "this requires a tenant key with the role admin, approver or viewer; the role of this key is caller"
        );
        assert_eq!(refusal(Caller::Key(key, KeyRole::Admin), Right::Operate), "this requires an operator key");
        assert_eq!(
            refusal(Caller::OperatorKey(key, OperatorRole::Auditor), Right::Manage),
            "this requires an operator key with the role admin; the role of this key is auditor"
        );
        assert_eq!(refusal(Caller::Agent(0), Right::Read), "an agent token may only ask for its own decisions");
    }

    #[test]
    fn an_admin_has_every_right_and_the_others_change_nothing() {
        let key = KeyId::derive(Timestamp::from_millis(1_700_000_000_000), 1, TenantId::DEFAULT.tag());
        let may = |caller: Caller, right| caller.check(right).is_ok();
        for right in Right::ALL {
            assert!(may(Caller::Operator, right) && may(Caller::OperatorKey(key, OperatorRole::Admin), right));
            let is_operators = matches!(right, Right::Operate | Right::Oversee);
            assert_eq!(may(Caller::Key(key, KeyRole::Admin), right), !is_operators);
            let is_reading = matches!(right, Right::Oversee | Right::Read | Right::Introspect | Right::Ask);
            assert_eq!(may(Caller::OperatorKey(key, OperatorRole::Auditor), right), is_reading);
            for role in [KeyRole::Approver, KeyRole::Viewer] {
                assert_eq!(may(Caller::Key(key, role), right), matches!(right, Right::Read | Right::Ask));
            }
            let is_call = matches!(right, Right::Decide | Right::Report | Right::Introspect | Right::Ask);
            assert_eq!(may(Caller::Key(key, KeyRole::Caller), right), is_call);
            assert_eq!(may(Caller::Agent(0), right), right == Right::Decide);
        }
    }
}

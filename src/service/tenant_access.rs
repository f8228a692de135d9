//! Which tenants a caller may reach. Every call finds its tenant here, so a tenant key or an agent token can reach no
//! other tenant's actor.

use super::kavach::Kavach;
use crate::actors::messages::Verify;
use crate::actors::tenant_directory::unknown_tenant;
use crate::actors::{Phase, Route};
use crate::domain::tenant::Caller;
use crate::domain::tenant::right::agent_may_not;
use crate::domain::{
    Code, Credential, Error, KeyId, OperatorCredential, OperatorRole, Right, SecretHash, TenantId, TenantRef, TenantTag,
};
use crate::store::refusal::shutting_down;

impl Kavach {
    /// Identifies the caller: an operator, a live tenant key, or a live agent's token.
    ///
    /// # Errors
    /// `INVALID_TOKEN`, or the tenant can't answer.
    pub async fn authenticate(&self) -> Result<Caller, Error> {
        match self.credential {
            Credential::Operator(operator) => self.check_operator_key().map(|()| operator.into()),
            credential @ (Credential::TenantKey(..) | Credential::AgentToken(..)) => {
                self.ask(&self.own_tenant()?, |reply| Verify { credential, reply }).await
            }
        }
    }

    /// Identifies the caller, who needs that right.
    ///
    /// # Errors
    /// `FORBIDDEN`, whose sentence names the roles that have the right; those of [`Self::authenticate`].
    pub async fn require(&self, right: Right) -> Result<Caller, Error> {
        let caller = self.authenticate().await?;
        caller.check(right).map(|()| caller)
    }

    /// What an operator presents, with the key that it is of those that were made over the API.
    pub(super) fn identified(&self, operator: OperatorCredential) -> OperatorCredential {
        if !self.core.operators.are_there() || self.core.operator.matches(&operator.hash) {
            return OperatorCredential::of(operator.hash);
        }
        let now = self.core.clock.read().latest();
        OperatorCredential { key: self.core.operators.find(&operator.hash, now), ..operator }
    }

    pub(super) fn check_operator_key(&self) -> Result<(), Error> {
        let Credential::Operator(OperatorCredential { hash, key }) = &self.credential else {
            return Err(invalid_token());
        };
        if key.is_none() && self.core.operator.matches(hash) { Ok(()) } else { self.check_made_key(hash, *key) }
    }

    /// Checks a key that is not the first operator's. Such a key may be revoked at any time.
    fn check_made_key(&self, hash: &SecretHash, key: Option<(KeyId, OperatorRole)>) -> Result<(), Error> {
        let found = self.core.operators.find(hash, self.core.clock.read().latest());
        match (found, key) {
            (Some(found), Some(key)) if found == key => Ok(()),
            // It was read before the keys were.
            (Some(_), None) => Err(keys_unknown()),
            _ if !self.core.operators.are_known() => Err(keys_unknown()),
            _ => Err(invalid_token()),
        }
    }

    /// Lets only operators with that right through.
    pub(super) fn check_operator(&self, right: Right) -> Result<(), Error> {
        match self.credential {
            Credential::Operator(_) => self.check_operator_key().and_then(|()| self.check_operator_role(right)),
            Credential::TenantKey(..) => Err(Error::new(Code::Forbidden, "this requires an operator key")),
            Credential::AgentToken(..) => Err(agent_may_not()),
        }
    }

    /// Checks that an operator has that right. Whether the key is good is another question.
    pub(super) fn check_operator_role(&self, right: Right) -> Result<(), Error> {
        match self.credential {
            Credential::Operator(OperatorCredential { key: Some((id, role)), .. }) => {
                Caller::OperatorKey(id, role).check(right)
            }
            _ => Ok(()),
        }
    }

    /// The tenant that the tenant key or agent token belongs to.
    pub(super) fn own_tenant(&self) -> Result<Route, Error> {
        self.core.directory.living(self.own_tenant_id()?).ok_or_else(invalid_token)
    }

    /// The id of the tenant that the tenant key or agent token belongs to, which may not exist.
    pub(super) fn own_tenant_id(&self) -> Result<TenantId, Error> {
        let (Credential::TenantKey(id, _) | Credential::AgentToken(id, _)) = self.credential else {
            return Err(invalid_token());
        };
        self.check_phase().map(|()| id)
    }

    pub(super) fn check_phase(&self) -> Result<(), Error> {
        match self.core.phase() {
            Phase::Ready => Ok(()),
            Phase::Recovering => Err(Error::new(Code::NotReady, "the server is still loading its tenants")),
            Phase::Draining => Err(shutting_down()),
        }
    }

    /// The tenant that a path names. To a tenant key, every other tenant is unknown.
    pub(super) fn tenant_in_path(&self, name: &TenantRef) -> Result<Route, Error> {
        match self.credential {
            Credential::Operator(_) => {
                self.check_operator_key()?;
                self.check_phase()?;
                self.core.directory.find(name)
            }
            Credential::TenantKey(..) | Credential::AgentToken(..) => {
                self.own_tenant().and_then(|own| if own.is_named(name) { Ok(own) } else { Err(unknown_tenant(name)) })
            }
        }
    }

    /// The tenant that a body names; without a name, the caller's own, which for an operator is the default tenant.
    /// To a tenant key, every other tenant is a mismatch.
    pub(super) fn tenant_in_body(&self, name: Option<&TenantRef>) -> Result<Route, Error> {
        match self.credential {
            Credential::Operator(_) => self.tenant_in_path(name.unwrap_or(&TenantRef::Default)),
            Credential::TenantKey(..) | Credential::AgentToken(..) => {
                let own = self.own_tenant()?;
                match name {
                    Some(name) if !own.is_named(name) => {
                        Err(Error::field(Code::TenantMismatch, "tenantId", "is not the key's tenant"))
                    }
                    _ => Ok(own),
                }
            }
        }
    }

    /// The tenant to ask about an id with this tag. `unknown` makes the error if there is none.
    pub(super) fn tenant_of_id(&self, tag: TenantTag, unknown: impl FnOnce() -> Error) -> Result<Route, Error> {
        match self.credential {
            Credential::Operator(_) => {
                self.check_operator_key()?;
                self.check_phase()?;
                self.core.directory.route(tag).ok_or_else(unknown)
            }
            // The tag is ignored, so another tenant's id and an id of no tenant take the same path.
            Credential::TenantKey(..) => self.own_tenant(),
            Credential::AgentToken(..) => Err(agent_may_not()),
        }
    }
}

pub(super) fn invalid_token() -> Error {
    Error::new(Code::InvalidToken, "the key or token is not valid")
}

fn keys_unknown() -> Error {
    Error::new(Code::NotReady, "the server has not read its operators' keys yet")
}

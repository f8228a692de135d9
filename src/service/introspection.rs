//! What an agent's token is (RFC 7662). Nothing is recorded or charged.

use super::kavach::Kavach;
use crate::domain::agent::introspection::TokenFacts;
use crate::domain::tenant::right::agent_may_not;
use crate::domain::{Credential, Error, Right};

impl Kavach {
    /// What a token is. `None` for one that is no agent's, was replaced, or, to a tenant key, is of another tenant.
    ///
    /// # Errors
    /// `FORBIDDEN` for a key without that right, or that the tenant can't answer.
    pub async fn introspect(&self, token: &str) -> Result<Option<TokenFacts>, Error> {
        let asked = Credential::parse(token);
        let route = match (self.credential, asked) {
            (Credential::Operator(_), Credential::AgentToken(tenant, _)) => {
                self.check_operator(Right::Introspect)?;
                self.check_phase()?;
                self.core.directory.living(tenant)
            }
            (Credential::Operator(_), _) => self.check_operator(Right::Introspect).map(|()| None)?,
            // Whatever the token is, the key's own tenant looks it up by its hash: all that it does not know cost the same.
            (Credential::TenantKey(..), _) => Some(self.own_tenant()?),
            (Credential::AgentToken(..), _) => return Err(agent_may_not()),
        };
        let Some(route) = route else { return Ok(None) };
        let look = move |tenant: &crate::domain::Tenant, now| Ok(TokenFacts::find(tenant, &asked, now));
        self.inspect_with(Right::Introspect, &route, look).await
    }
}

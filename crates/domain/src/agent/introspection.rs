//! What a token is, for those who ask without deciding anything.

use crate::agent::AgentStatus;
use crate::id::{AgentId, TenantId};
use crate::secret::Credential;
use crate::tenant::{Caller, Tenant, TenantStatus};
use crate::time::Timestamp;

/// What is known of a token that its tenant accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenFacts {
    /// The agent whose it is.
    pub agent: AgentId,
    /// The tenant; `null` is the default one.
    pub tenant: TenantId,
    /// The agent's owner.
    pub owner: Box<str>,
    /// Whether the agent may work.
    pub status: AgentStatus,
    /// Whether the tenant's agents may work.
    pub tenant_status: TenantStatus,
    /// When the token ends: with its agent or with its grace, whichever is first.
    pub expires_at: Option<Timestamp>,
}

impl TokenFacts {
    /// What the tenant knows of a token; `None` if it does not accept it.
    pub fn find(tenant: &Tenant, token: &Credential, now: Timestamp) -> Option<Self> {
        let Credential::AgentToken(_, hash) = token else { return None };
        let Ok(Caller::Agent(slot)) = tenant.authenticate(token, now) else { return None };
        let profile = &tenant.agent_in(slot)?.profile;
        let is_newest = profile.token.matches(hash);
        let grace = profile.graced.iter().filter(|old| !is_newest && old.token.matches(hash)).map(|old| old.until);
        Some(Self {
            agent: profile.id,
            tenant: tenant.id(),
            owner: (*profile.spec.owner).into(),
            status: profile.status(now),
            tenant_status: tenant.profile().status,
            expires_at: grace.chain(profile.spec.expires_at).min(),
        })
    }

    /// Whether calls with the token may be allowed.
    pub fn is_active(&self) -> bool {
        self.status == AgentStatus::Active && self.tenant_status == TenantStatus::Active
    }
}

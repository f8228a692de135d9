//! Agents.

use super::kavach::{Kavach, make_secret};
use super::lists::{InRow, Page, PageRequest};
use super::tenant_calls::lost;
use crate::actors::Route;
use crate::domain::agent::commands::{
    AgentPatch, AgentView, CreateAgent, NewAgent, RevokeAgent, RotateToken, SetSuspended, UpdateAgent, unknown_agent,
};
use crate::domain::{AgentId, AgentStatus, AgentType, Error, Secret, Tenant, TenantRef, Timestamp};
use crate::store::CatalogRow;

/// Calls about agents.
pub struct Agents<'a>(pub(super) &'a Kavach);

/// Which agents to list. `None` does not filter.
#[derive(Clone, Debug, Default)]
pub struct AgentFilter {
    /// Agents of this tenant.
    pub tenant: Option<TenantRef>,
    /// Agents that belong to this user.
    pub owner: Option<String>,
    /// Agents that have this status now.
    pub status: Option<AgentStatus>,
    /// Agents of this type.
    pub kind: Option<AgentType>,
    /// Agents that have this label: its key and its value.
    pub label: Option<(Box<str>, Box<str>)>,
}

impl Kavach {
    /// Agents.
    pub fn agents(&self) -> Agents<'_> {
        Agents(self)
    }
}

impl Agents<'_> {
    /// Creates an agent. Returns it with its token, which is never shown again.
    ///
    /// # Errors
    /// `INVALID_FIELD`, `INVALID_PATTERN`, `AGENT_LIMIT_EXCEEDED`, `AGENT_TYPE_NOT_ALLOWED`, `TENANT_NOT_FOUND`, or
    /// `TENANT_MISMATCH` for a tenant key that names another tenant.
    pub async fn create(&self, new: NewAgent) -> Result<(AgentView, Secret), Error> {
        let named = new.tenant_id.as_deref().map(TenantRef::parse);
        let route = self.0.tenant_in_body(named.as_ref())?;
        let token = make_secret(|random| Secret::agent_token(route.id, random))?;
        let view = self.0.execute_once(&route, CreateAgent::parse(new, token.hash())?).await?;
        Ok((view.ok_or_else(lost)?, if self.0.repeated() { Secret::withheld() } else { token }))
    }

    /// Agents, oldest first.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, `INVALID_QUERY` for a malformed cursor.
    pub async fn list(&self, filter: AgentFilter, page: PageRequest) -> Result<Page<AgentView>, Error> {
        let (after, most) = (page.after(AgentId::parse)?, page.most());
        let selection = self.0.tenants_in_filter(filter.tenant.as_ref())?;
        let look = move |tenant: &Tenant, now| filter.select(tenant, now, after, most);
        let has_none = |row: &CatalogRow| row.agents.active + row.agents.revoked + row.agents.expired == 0;
        let in_row = |row: &CatalogRow| InRow::empty_if(has_none(row));
        let key = |view: &AgentView| view.agent.profile.id;
        let agents = self.0.gather_list(selection, most, key, in_row, look).await?;
        Ok(Page::cut(agents, page.limit, |view| view.agent.profile.id.to_string()))
    }

    /// One agent by its id.
    ///
    /// # Errors
    /// `AGENT_NOT_FOUND`.
    pub async fn get(&self, agent: &str) -> Result<AgentView, Error> {
        let (id, route) = self.find(agent)?;
        self.0.inspect(&route, move |tenant, now| AgentView::find(tenant, id, now)).await
    }

    /// Changes an agent. Omitted fields keep their values.
    ///
    /// # Errors
    /// `AGENT_NOT_FOUND`, `AGENT_IS_REVOKED`, `INVALID_FIELD`, `INVALID_PATTERN`, `AGENT_LIMIT_EXCEEDED`,
    /// `AGENT_TYPE_NOT_ALLOWED`, `PRECONDITION_FAILED`.
    pub async fn update(&self, agent: &str, patch: AgentPatch) -> Result<AgentView, Error> {
        let (id, route) = self.find(agent)?;
        self.0.execute(&route, self.0.if_unchanged(UpdateAgent::parse(id, patch)?)).await?.ok_or_else(lost)
    }

    /// Revokes an agent for good.
    ///
    /// # Errors
    /// `AGENT_NOT_FOUND`, `PRECONDITION_FAILED`.
    pub async fn revoke(&self, agent: &str) -> Result<(), Error> {
        let (id, route) = self.find(agent)?;
        self.0.execute(&route, self.0.if_unchanged(RevokeAgent(id))).await
    }

    /// Suspends an agent until it is activated, or activates it. It keeps its tokens, delegations and counts.
    ///
    /// # Errors
    /// `AGENT_NOT_FOUND`, `AGENT_IS_REVOKED`, `PRECONDITION_FAILED`.
    pub async fn set_suspended(&self, agent: &str, suspended: bool) -> Result<AgentView, Error> {
        let (id, route) = self.find(agent)?;
        self.0.execute(&route, self.0.if_unchanged(SetSuspended { id, suspended })).await?.ok_or_else(lost)
    }

    /// Replaces an agent's token. The old one stays valid for `grace_seconds`.
    ///
    /// # Errors
    /// `AGENT_NOT_FOUND`, `AGENT_IS_REVOKED`, `INVALID_FIELD`, `ROTATION_LIMIT_EXCEEDED`.
    pub async fn rotate(&self, agent: &str, grace_seconds: u64) -> Result<(AgentView, Secret), Error> {
        let (id, route) = self.find(agent)?;
        let token = make_secret(|random| Secret::agent_token(route.id, random))?;
        let view = self.0.execute_once(&route, RotateToken::new(id, token.hash(), grace_seconds)?).await?;
        Ok((view.ok_or_else(lost)?, if self.0.repeated() { Secret::withheld() } else { token }))
    }

    fn find(&self, agent: &str) -> Result<(AgentId, Route), Error> {
        let unknown = || unknown_agent(agent);
        let id = AgentId::parse(agent).ok_or_else(unknown)?;
        Ok((id, self.0.tenant_of_id(id.tag(), unknown)?))
    }
}

impl AgentFilter {
    fn select(&self, tenant: &Tenant, now: Timestamp, after: Option<AgentId>, most: usize) -> Vec<AgentView> {
        let Self { tenant: _, owner, status, kind, label } = self;
        let wanted = tenant.agents().iter().filter(|agent| {
            let profile = &agent.profile;
            after.is_none_or(|after| profile.id > after)
                && owner.as_ref().is_none_or(|owner| **owner == *profile.spec.owner)
                && status.is_none_or(|status| agent.status(now) == status)
                && kind.is_none_or(|kind| profile.spec.kind == kind)
                && label.as_ref().is_none_or(|(key, value)| profile.spec.labels.has(key, value))
        });
        wanted.take(most).map(|agent| AgentView::of(tenant, agent, now)).collect()
    }
}

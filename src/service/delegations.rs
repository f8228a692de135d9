//! Delegations.

use super::lists::Selection;
use super::{Kavach, Page, PageRequest};
use crate::actors::Route;
use crate::domain::agent::commands::unknown_agent;
use crate::domain::delegation::commands::{
    CreateDelegation, DelegationFilter, DelegationView, NewDelegation, RevokeDelegation, effective_permissions,
    unknown_agent_in, unknown_delegation,
};
use crate::domain::delegation::search::EffectivePermission;
use crate::domain::{AgentId, Code, DelegationId, Error, Tenant, TenantRef};

/// Calls about delegations.
pub struct Delegations<'a>(pub(super) &'a Kavach);

impl Delegations<'_> {
    /// Lets an agent delegate to another of its tenant.
    ///
    /// # Errors
    /// `INVALID_FIELD`, `INVALID_PATTERN`, `AGENT_NOT_FOUND`, `TENANT_MISMATCH` where the request names another tenant
    /// than the agents', or the rule that refuses it: `DELEGATION_...`.
    pub async fn create(&self, new: NewDelegation) -> Result<DelegationView, Error> {
        let named = new.tenant_id.as_deref().map(TenantRef::parse);
        let from = new.from_agent.clone();
        let command = CreateDelegation::parse(new)?;
        let id = command.grantor();
        let route = self.0.tenant_of_id(id.tag(), || unknown_agent_in("fromAgent", &from))?;
        if named.is_some_and(|name| !route.is_named(&name)) {
            return Err(Error::field(Code::TenantMismatch, "tenantId", "names another tenant than the agents'"));
        }
        self.0.execute(&route, command).await?.ok_or_else(super::lost)
    }

    /// Delegations in the order in which they were made, whatever their status, but for those that were over long ago.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, `INVALID_QUERY` for a cursor that is none.
    pub async fn list(
        &self,
        tenant: Option<&TenantRef>,
        filter: DelegationFilter,
        page: PageRequest,
    ) -> Result<Page<DelegationView>, Error> {
        let mut selection = self.0.tenants_in_filter(tenant)?;
        // An agent's links are in the agent's tenant.
        let agents = [filter.from, filter.to];
        selection.routes.retain(|route| agents.iter().flatten().all(|agent| agent.tag() == route.id.tag()));
        self.page_of(selection, filter, page).await
    }

    /// Delegations that leave an agent.
    ///
    /// # Errors
    /// `AGENT_NOT_FOUND`, `INVALID_QUERY` for a cursor that is none.
    pub async fn of_agent(&self, agent: &str, page: PageRequest) -> Result<Page<DelegationView>, Error> {
        let (id, route) = self.find_agent(agent)?;
        let missing = unknown_agent(agent);
        self.0.inspect(&route, move |tenant, _| tenant.agent(id).map(|_| ()).ok_or(missing)).await?;
        let filter = DelegationFilter { from: Some(id), to: None };
        self.page_of(Selection::one(route), filter, page).await
    }

    /// A delegation.
    ///
    /// # Errors
    /// `DELEGATION_NOT_FOUND`.
    pub async fn get(&self, delegation: &str) -> Result<DelegationView, Error> {
        let (id, route) = self.find(delegation)?;
        self.0.inspect(&route, move |tenant, now| DelegationView::find(tenant, id, now)).await
    }

    /// What an agent can make use of now, its own permissions first, and where each comes from.
    ///
    /// # Errors
    /// `AGENT_NOT_FOUND`.
    pub async fn permissions(&self, agent: &str) -> Result<Vec<EffectivePermission>, Error> {
        let (id, route) = self.find_agent(agent)?;
        self.0.inspect(&route, move |tenant, now| effective_permissions(tenant, id, now)).await
    }

    /// Revokes a delegation for good, and all that stand on it.
    ///
    /// # Errors
    /// `DELEGATION_NOT_FOUND`.
    pub async fn revoke(&self, delegation: &str) -> Result<(), Error> {
        let (id, route) = self.find(delegation)?;
        self.0.execute(&route, RevokeDelegation(id)).await
    }

    async fn page_of(
        &self,
        selection: Selection,
        filter: DelegationFilter,
        page: PageRequest,
    ) -> Result<Page<DelegationView>, Error> {
        let (after, most) = (page.after(DelegationId::parse)?, page.most());
        let look = move |tenant: &Tenant, now| DelegationView::list(tenant, filter, now, after, most);
        let mut links = self.0.gather_lists(selection, look).await?;
        links.items.sort_by_key(|view: &DelegationView| view.delegation.profile.id);
        Ok(Page::cut(links, page.limit, |view| view.delegation.profile.id.to_string()))
    }

    fn find(&self, delegation: &str) -> Result<(DelegationId, Route), Error> {
        let unknown = || unknown_delegation(delegation);
        let id = DelegationId::parse(delegation).ok_or_else(unknown)?;
        Ok((id, self.0.tenant_of_id(id.tag(), unknown)?))
    }

    fn find_agent(&self, agent: &str) -> Result<(AgentId, Route), Error> {
        let unknown = || unknown_agent(agent);
        let id = AgentId::parse(agent).ok_or_else(unknown)?;
        Ok((id, self.0.tenant_of_id(id.tag(), unknown)?))
    }
}

//! Delegations.

use super::kavach::Kavach;
use super::lists::{InRow, Page, PageRequest, Selection};
use super::tenant_calls::lost;
use crate::actors::Route;
use crate::domain::agent::commands::unknown_agent;
use crate::domain::delegation::commands::{
    CreateDelegation, DelegationFilter, DelegationView, NewDelegation, RevokeDelegation, effective_permissions,
    unknown_agent_in, unknown_delegation,
};
use crate::domain::delegation::search::EffectivePermission;
use crate::domain::{AgentId, Code, DelegationId, Error, Tenant, TenantRef};
use crate::store::CatalogRow;

/// Calls about delegations.
pub struct Delegations<'a>(pub(super) &'a Kavach);

impl Kavach {
    /// Delegations.
    pub fn delegations(&self) -> Delegations<'_> {
        Delegations(self)
    }
}

impl Delegations<'_> {
    /// Delegates permissions of one agent to another of the same tenant.
    ///
    /// # Errors
    /// `INVALID_FIELD`, `INVALID_PATTERN`, `AGENT_NOT_FOUND`, `TENANT_MISMATCH` if the request names another tenant
    /// than the agents', or the rule that forbids it: `DELEGATION_...`.
    pub async fn create(&self, new: NewDelegation) -> Result<DelegationView, Error> {
        let named = new.tenant_id.as_deref().map(TenantRef::parse);
        let from = new.from_agent.clone();
        let command = CreateDelegation::parse(new)?;
        let id = command.grantor();
        let route = self.0.tenant_of_id(id.tag(), || unknown_agent_in("fromAgent", &from))?;
        if named.is_some_and(|name| !route.is_named(&name)) {
            return Err(Error::field(Code::TenantMismatch, "tenantId", "is not the agents' tenant"));
        }
        self.0.execute_once(&route, command).await?.ok_or_else(lost)
    }

    /// Delegations of any status, oldest first. Those that ended long ago are left out.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, `INVALID_QUERY` for a malformed cursor.
    pub async fn list(
        &self,
        tenant: Option<&TenantRef>,
        filter: DelegationFilter,
        page: PageRequest,
    ) -> Result<Page<DelegationView>, Error> {
        let mut selection = self.0.tenants_in_filter(tenant)?;
        // An agent's delegations are in the agent's own tenant.
        let agents = [filter.from, filter.to];
        selection.tenants.retain(|id| agents.iter().flatten().all(|agent| agent.tag() == id.tag()));
        self.page_of(selection, filter, page).await
    }

    /// Delegations from an agent to others.
    ///
    /// # Errors
    /// `AGENT_NOT_FOUND`, `INVALID_QUERY` for a malformed cursor.
    pub async fn of_agent(&self, agent: &str, page: PageRequest) -> Result<Page<DelegationView>, Error> {
        let (id, route) = self.find_agent(agent)?;
        let missing = unknown_agent(agent);
        self.0.inspect(&route, move |tenant, _| tenant.agent(id).map(|_| ()).ok_or(missing)).await?;
        let filter = DelegationFilter { from: Some(id), ..DelegationFilter::default() };
        self.page_of(Selection::one(route.id), filter, page).await
    }

    /// One delegation by its id.
    ///
    /// # Errors
    /// `DELEGATION_NOT_FOUND`.
    pub async fn get(&self, delegation: &str) -> Result<DelegationView, Error> {
        let (id, route) = self.find(delegation)?;
        self.0.inspect(&route, move |tenant, now| DelegationView::find(tenant, id, now)).await
    }

    /// The permissions an agent can use now, and where each comes from. Its own come first.
    ///
    /// # Errors
    /// `AGENT_NOT_FOUND`.
    pub async fn permissions(&self, agent: &str) -> Result<Vec<EffectivePermission>, Error> {
        let (id, route) = self.find_agent(agent)?;
        self.0.inspect(&route, move |tenant, now| effective_permissions(tenant, id, now)).await
    }

    /// Revokes a delegation and every one that depends on it, for good.
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
        let in_row = |row: &CatalogRow| InRow::empty_if(row.delegations == 0);
        let key = |view: &DelegationView| view.delegation.profile.id;
        let links = self.0.gather_list(selection, most, key, in_row, look).await?;
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

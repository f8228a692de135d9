//! Budget policies.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::budget_check::{CheckedBudgets, CheckedCall};
use super::kavach::Kavach;
use super::lists::{InRow, Page, PageRequest};
use super::tenant_calls::lost;
use crate::actors::Route;
use crate::actors::messages::{ExecuteRecalled, FindInstanceSet};
use crate::domain::agent::commands::{no_such_agent, unknown_agent};
use crate::domain::budget::cost::Cost;
use crate::domain::budget::counts::Period;
use crate::domain::budget::policy::{Policy, PolicyScope, PolicyStatus};
use crate::domain::budget::policy_commands::{
    CreatePolicy, DeletePolicy, NewPolicy, PolicyPatch, PolicyView, ResetPolicies, ResetPolicy, UpdatePolicy,
    policies_of_agent, unknown_policy,
};
use crate::domain::idempotency::key::RequestKey;
use crate::domain::instance::published::{InstancePolicy, InstanceSet};
use crate::domain::permission::check_action;
use crate::domain::permission::pattern::check_resource;
use crate::domain::{AgentId, Code, Command, Credential, Error, PolicyId, Right, Tenant, TenantRef, Timestamp};
use crate::store::CatalogRow;

/// Agents of a tenant that are counted at once: that takes a fraction of a millisecond.
const COUNTED_AT_ONCE: usize = 10_000;

/// Calls about policies.
pub struct Policies<'a>(pub(super) &'a Kavach);

/// Which policies to list. `None` does not filter.
#[derive(Clone, Debug, Default)]
pub struct PolicyFilter {
    /// Policies of this tenant.
    pub tenant: Option<TenantRef>,
    /// Policies that name this agent.
    pub agent: Option<AgentId>,
    /// Policies that name this owner.
    pub owner: Option<String>,
    /// Policies that have this status now.
    pub status: Option<PolicyStatus>,
    /// Policies about one tenant's calls, or about those of all.
    pub scope: Option<PolicyScope>,
}

/// The policies that bind an agent.
#[derive(Clone, Debug)]
pub struct AgentPolicies {
    /// Those of its tenant, oldest first.
    pub own: Vec<PolicyView>,
    /// Those of the whole instance, oldest first. They don't tell how much is used.
    pub instance: Vec<InstancePolicy>,
}

impl Kavach {
    /// Budget policies.
    pub fn policies(&self) -> Policies<'_> {
        Policies(self)
    }
}

impl Policies<'_> {
    /// Creates a policy.
    ///
    /// # Errors
    /// `INVALID_FIELD`, `AGENT_NOT_FOUND`, `TENANT_NOT_FOUND`, `TENANT_MISMATCH`, `POLICY_LIMIT_EXCEEDED`, `FORBIDDEN` for a
    /// tenant key that asks for one of the whole instance.
    pub async fn create(&self, new: NewPolicy) -> Result<PolicyView, Error> {
        if new.scope == PolicyScope::Instance {
            self.0.check_operator(Right::Manage)?;
            let route = self.0.tenant_in_path(&TenantRef::Default)?;
            return self.0.execute_once(&route, CreatePolicy::parse(new)?).await?.ok_or_else(lost);
        }
        let named = new.tenant_id.as_deref().map(TenantRef::parse);
        let agent = new.agent_id.as_deref().and_then(AgentId::parse);
        let route = match (&named, agent) {
            // With an agent and no tenant, the policy belongs to the agent's tenant.
            (None, Some(id)) => self.0.tenant_of_id(id.tag(), || no_such_agent(&id.to_string()))?,
            _ => self.0.tenant_in_body(named.as_ref())?,
        };
        self.0.execute_once(&route, CreatePolicy::parse(new)?).await?.ok_or_else(lost)
    }

    /// Policies, oldest first.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, `INVALID_QUERY` for a malformed cursor.
    pub async fn list(&self, filter: PolicyFilter, page: PageRequest) -> Result<Page<PolicyView>, Error> {
        let (after, most) = (page.after(PolicyId::parse)?, page.most());
        let selection = self.0.tenants_in_filter(filter.tenant.as_ref())?;
        let is_operator = self.is_operator();
        let look = move |tenant: &Tenant, now| filter.select(tenant, now, after, most, is_operator);
        let in_row = |row: &CatalogRow| InRow::empty_if(row.policies == 0);
        let key = |view: &PolicyView| view.policy.profile.id;
        let policies = self.0.gather_list(selection, most, key, in_row, look).await?;
        Ok(Page::cut(policies, page.limit, |view| view.policy.profile.id.to_string()))
    }

    /// One policy by its id.
    ///
    /// # Errors
    /// `POLICY_NOT_FOUND`.
    pub async fn get(&self, policy: &str) -> Result<PolicyView, Error> {
        let (id, route) = self.find(policy)?;
        let is_operator = self.is_operator();
        let look = move |tenant: &Tenant, now| {
            PolicyView::find(tenant, id, now).and_then(|view| match is_operator || !is_instance(&view.policy) {
                true => Ok(view),
                false => Err(unknown_policy(&id.to_string())),
            })
        };
        self.0.inspect(&route, look).await
    }

    /// How many active agents a policy is about; `None` for one of the whole instance, or if they can't be counted now.
    pub async fn agents_covered(&self, view: &PolicyView) -> Option<usize> {
        let (id, route) = (view.policy.profile.id, Route { id: view.tenant, slug: None });
        if is_instance(&view.policy) {
            return None;
        }
        let (mut agents, mut from) = (0usize, 0);
        loop {
            let look = move |tenant: &Tenant, now| tenant.covered_by(id, from, COUNTED_AT_ONCE, now);
            let covered = self.0.inspect(&route, look).await.ok()?;
            agents = agents.saturating_add(covered.agents);
            match covered.next {
                Some(next) => from = next,
                None => return Some(agents),
            }
        }
    }

    fn is_operator(&self) -> bool {
        matches!(self.0.credential, Credential::Operator(_))
    }

    /// Carries out a command about a policy. If it is one of the whole instance, tenants give back what they have of it
    /// before; with `anew` all of them have to.
    async fn execute_recalled<C>(
        &self,
        route: &Route,
        policy: PolicyId,
        anew: bool,
        command: C,
        key: Option<RequestKey>,
    ) -> Result<C::Reply, Error>
    where
        C: Command + Send + 'static,
        C::Reply: Send + 'static,
    {
        let seen = self.0.seen();
        let look = move |tenant: &Tenant, _| {
            let known = tenant.policies().iter().find(|known| known.profile.id == policy && is_instance(known));
            // A command that will be refused recalls nothing.
            Ok(known.is_some_and(|known| seen.is_none_or(|seen| seen.check(Some(known.profile.version())).is_ok())))
        };
        let is_recalled = self.is_operator() && route.id.is_default() && self.0.inspect(route, look).await?;
        if !is_recalled {
            return self.0.execute_keyed(route, command, key).await;
        }
        let execution = self.0.execution(command, key);
        self.0.ask(route, |reply| ExecuteRecalled { policy, anew, execute: execution(reply) }).await
    }

    /// Changes a policy. Omitted fields keep their values.
    ///
    /// # Errors
    /// `POLICY_NOT_FOUND`, `INVALID_FIELD`, `PRECONDITION_FAILED`, `FORBIDDEN` for a tenant key if an operator set the policy.
    pub async fn update(&self, policy: &str, patch: PolicyPatch) -> Result<PolicyView, Error> {
        let (id, route) = self.find(policy)?;
        let update = self.0.if_unchanged(UpdatePolicy { id, patch });
        self.execute_recalled(&route, id, false, update, None).await?.ok_or_else(lost)
    }

    /// Deletes a policy.
    ///
    /// # Errors
    /// `POLICY_NOT_FOUND`, `PRECONDITION_FAILED`, `FORBIDDEN` for a tenant key if an operator set the policy.
    pub async fn delete(&self, policy: &str) -> Result<(), Error> {
        let (id, route) = self.find(policy)?;
        self.0.execute(&route, self.0.if_unchanged(DeletePolicy(id))).await
    }

    /// Resets a policy's usage of the current period to zero.
    ///
    /// # Errors
    /// `POLICY_NOT_FOUND`, `FORBIDDEN` for a tenant key if an operator set the policy; `INSTANCE_BUDGET_UNAVAILABLE` if a
    /// tenant with a slice of a policy of the whole instance does not answer.
    pub async fn reset(&self, policy: &str, period: Period) -> Result<PolicyView, Error> {
        let (id, route) = self.find(policy)?;
        let made = self.execute_recalled(&route, id, true, ResetPolicy { id, period }, self.0.request_key()).await;
        self.0.or_first_made::<ResetPolicy>(&route, made).await?.ok_or_else(lost)
    }

    /// Resets the usage of all policies of a tenant to zero, in one event: of those that the caller may change. Returns
    /// how many those are. Without a name, the tenant is the key's own or the default one.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, `TENANT_MISMATCH`.
    pub async fn reset_all(&self, tenant: Option<&TenantRef>, period: Period) -> Result<usize, Error> {
        let route = self.0.tenant_in_body(tenant)?;
        self.0.execute_once(&route, ResetPolicies(period)).await
    }

    /// The policies that bind an agent now, oldest first. Some may charge only some of its calls.
    ///
    /// # Errors
    /// `AGENT_NOT_FOUND`.
    pub async fn of_agent(&self, agent: &str) -> Result<AgentPolicies, Error> {
        let unknown = || unknown_agent(agent);
        let id = AgentId::parse(agent).ok_or_else(unknown)?;
        let route = self.0.tenant_of_id(id.tag(), unknown)?;
        // First, so that who may not see the agent finds nothing out, not even whether there are instance policies.
        let own = self.0.inspect(&route, move |tenant, now| policies_of_agent(tenant, id, now)).await?;
        let set = self.instance_set().await?;
        let look = move |tenant: &Tenant, _| {
            Ok(tenant.agent(id).map(|agent| set.binding(agent).cloned().collect()).unwrap_or_default())
        };
        Ok(AgentPolicies { own, instance: self.0.inspect(&route, look).await? })
    }

    /// The policies of the whole instance.
    async fn instance_set(&self) -> Result<Arc<InstanceSet>, Error> {
        let leases = &self.0.core.leases;
        if let (_, Some(set)) = leases.look() {
            return Ok(set);
        }
        let (reply, found) = oneshot::channel();
        if let Some(exchange) = leases.exchange() {
            exchange.find(FindInstanceSet { reply });
        }
        let unavailable =
            || Error::new(Code::InstanceBudgetUnavailable, "the instance policies can't be read right now");
        found.await.unwrap_or_else(|_| Err(unavailable()))?;
        leases.look().1.ok_or_else(unavailable)
    }

    /// Whether the policies that charge such a call of an agent would let it through now, and those policies. Nothing is
    /// charged or lent. What tenants tell meanwhile of their slices may be remembered, as what they report by themselves is.
    ///
    /// # Errors
    /// `AGENT_NOT_FOUND`, `INVALID_FIELD` for an action or a resource that no call may have,
    /// `INSTANCE_BUDGET_UNAVAILABLE`.
    pub async fn check(&self, agent: &str, call: CheckedCall, cost: Cost) -> Result<CheckedBudgets, Error> {
        call.action.as_ref().map_or(Ok(()), |action| check_action("action", action))?;
        call.resource.as_ref().map_or(Ok(()), |resource| check_resource("resource", resource))?;
        let unknown = || no_such_agent(agent);
        let id = AgentId::parse(agent).ok_or_else(unknown)?;
        let route = self.0.tenant_of_id(id.tag(), unknown)?;
        let missing = unknown();
        let checked = call.clone();
        let look = move |tenant: &Tenant, now| {
            let agent = tenant.agent(id).ok_or(missing)?;
            let policies = tenant.policies_at(now);
            let charged = policies.iter().filter(|policy| policy.charges(agent, checked.as_call()));
            let views = charged.map(|policy| PolicyView::of(tenant, policy, now)).collect();
            Ok((tenant.check_budgets(agent, checked.as_call(), cost, now, &mut ()), views))
        };
        // First, so that who may not see the agent finds nothing out, not even whether there are instance policies.
        let (own, policies) = self.0.inspect_with(Right::Ask, &route, look).await?;
        let instance = match own.denied_by {
            // A call that its tenant's policies deny asks no others.
            Some(_) => Vec::new(),
            None => self.0.check_instance(self.instance_set().await?, &route, id, call, cost).await?,
        };
        Ok(CheckedBudgets { own, policies, instance })
    }

    fn find(&self, policy: &str) -> Result<(PolicyId, Route), Error> {
        let unknown = || unknown_policy(policy);
        let id = PolicyId::parse(policy).ok_or_else(unknown)?;
        Ok((id, self.0.tenant_of_id(id.tag(), unknown)?))
    }
}

impl PolicyFilter {
    fn select(
        &self,
        tenant: &Tenant,
        now: Timestamp,
        after: Option<PolicyId>,
        most: usize,
        is_operator: bool,
    ) -> Vec<PolicyView> {
        let Self { tenant: _, agent, owner, status, scope } = self;
        let policies = tenant.policies_at(now);
        let wanted = policies.iter().filter(|policy| {
            let profile = &policy.profile;
            after.is_none_or(|after| profile.id > after)
                && agent.is_none_or(|agent| profile.agent == Some(agent))
                && owner.as_ref().is_none_or(|owner| profile.owner.as_deref() == Some(owner))
                && scope.is_none_or(|scope| (scope == PolicyScope::Instance) == is_instance(policy))
                && (is_operator || !is_instance(policy))
        });
        let views = wanted.map(|policy| PolicyView::of(tenant, policy, now));
        views.filter(|view| status.is_none_or(|status| view.status == status)).take(most).collect()
    }
}

fn is_instance(policy: &Policy) -> bool {
    policy.profile.terms.instance
}

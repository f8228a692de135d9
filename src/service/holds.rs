//! Holds: estimates that are charged until somebody says what the call really cost.

use super::kavach::Kavach;
use super::lists::{InRow, Page, PageRequest};
use crate::actors::Route;
use crate::actors::messages::{ExtendHold, ReleaseHold};
use crate::domain::budget::hold::HoldTime;
use crate::domain::budget::hold_commands::{HoldView, unknown_hold};
use crate::domain::budget::usage::UsageAnswer;
use crate::domain::{AgentId, AuditId, Error, Tenant, TenantRef};
use crate::store::CatalogRow;

/// Calls about holds.
pub struct Holds<'a>(pub(super) &'a Kavach);

/// Which holds to list. `None` does not filter.
#[derive(Clone, Debug, Default)]
pub struct HoldFilter {
    /// Holds of this tenant.
    pub tenant: Option<TenantRef>,
    /// Holds on calls of this agent.
    pub agent: Option<AgentId>,
}

impl Kavach {
    /// Holds. One is made by a decision: see [`Request::holding`](crate::domain::Request::holding).
    pub fn holds(&self) -> Holds<'_> {
        Holds(self)
    }
}

impl Holds<'_> {
    /// Open holds, oldest first.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, `INVALID_QUERY` for a malformed cursor.
    pub async fn list(&self, filter: HoldFilter, page: PageRequest) -> Result<Page<HoldView>, Error> {
        let (after, most) = (page.after(AuditId::parse)?, page.most());
        let HoldFilter { tenant, agent } = filter;
        let selection = self.0.tenants_in_filter(tenant.as_ref())?;
        let look = move |tenant: &Tenant, now| HoldView::list(tenant, agent, after, most, now);
        let in_row = |row: &CatalogRow| InRow::empty_if(row.holds == 0);
        let holds = self.0.gather_list(selection, most, |view: &HoldView| view.id, in_row, look).await?;
        Ok(Page::cut(holds, page.limit, |view| view.id.to_string()))
    }

    /// The open hold of a decision.
    ///
    /// # Errors
    /// `HOLD_NOT_FOUND`.
    pub async fn get(&self, decision: &str) -> Result<HoldView, Error> {
        let (id, route) = self.find(decision)?;
        self.0.inspect(&route, move |tenant, now| HoldView::find(tenant, id, now)).await
    }

    /// Gives a hold back: nothing was spent. Repeating it gives the same answer again.
    ///
    /// # Errors
    /// `HOLD_NOT_FOUND`, `HOLD_ENDED` if it was settled or ended by itself.
    pub async fn release(&self, decision: &str) -> Result<UsageAnswer, Error> {
        let (id, route) = self.find(decision)?;
        let (credential, key) = (self.0.credential, self.0.request_key());
        let released = self.0.ask(&route, |reply| ReleaseHold { credential, id, key, reply }).await;
        let tag = route.id.tag();
        self.0.or_first_use(&route, released, move |at, record| Some(UsageAnswer::of_record(at, tag, record))).await
    }

    /// Makes a hold end that many seconds from now.
    ///
    /// # Errors
    /// `INVALID_FIELD`, `HOLD_NOT_FOUND`, `HOLD_ENDED`.
    pub async fn extend(&self, decision: &str, seconds: u64) -> Result<HoldView, Error> {
        let time = HoldTime::parse("ttlSeconds", seconds)?;
        let (id, route) = self.find(decision)?;
        let (credential, key) = (self.0.credential, self.0.request_key());
        let extended = self.0.ask(&route, |reply| ExtendHold { credential, id, time, key, reply }).await;
        let tenant = route.id;
        self.0.or_first_use(&route, extended, move |_, record| HoldView::of_extension(tenant, record)).await
    }

    fn find(&self, decision: &str) -> Result<(AuditId, Route), Error> {
        let unknown = || unknown_hold(decision);
        let id = AuditId::parse(decision).ok_or_else(unknown)?;
        Ok((id, self.0.tenant_of_id(id.tag(), unknown)?))
    }
}

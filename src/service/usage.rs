//! Usage reports: what calls actually cost.

use super::kavach::Kavach;
use crate::actors::Route;
use crate::actors::messages::{OpenAudit, RecordUsage};
use crate::domain::agent::commands::no_such_agent;
use crate::domain::budget::cost::Cost;
use crate::domain::budget::hold_commands::HoldView;
use crate::domain::budget::settlement::UsageRecord;
use crate::domain::budget::usage::{UsageAnswer, UsageReport};
use crate::domain::text::quote;
use crate::domain::{AgentId, AuditId, Code, Error, Moment, Right, Tenant};

impl Kavach {
    /// Records what an agent used, even past a limit: the money is spent already. With the audit id of an allowed
    /// decision, the cost replaces that decision's estimate, once. Repeating the report gives the same answer again.
    ///
    /// # Errors
    /// `AGENT_NOT_FOUND`, `AUDIT_ENTRY_NOT_FOUND`, `INVALID_FIELD`, `ALREADY_SETTLED`, `NOT_SETTLEABLE`, `HOLD_ENDED`.
    pub async fn report_usage(
        &self,
        agent: &str,
        cost: Cost,
        calls: u64,
        settles: Option<&str>,
    ) -> Result<UsageAnswer, Error> {
        let unknown = || no_such_agent(agent);
        let id = AgentId::parse(agent).ok_or_else(unknown)?;
        let route = self.tenant_of_id(id.tag(), unknown)?;
        let mut report = UsageReport::new(id, calls, cost)?;
        let tag = route.id.tag();
        let read = move |moment: Moment, record: &UsageRecord| Some(UsageAnswer::of_record(moment, tag, record));
        if let Some(decision) = settles {
            // What a repeat settled need not be there any more.
            if let Some(first) = self.first_use(&route, read).await? {
                return Ok(first);
            }
            // An unknown agent is reported first, whatever the decision is.
            let (missing, held) = (unknown(), AuditId::parse(decision));
            let look = move |tenant: &Tenant, _| {
                tenant.agent(id).ok_or(missing)?;
                Ok(held.and_then(|decision| HoldView::settleable(tenant, decision)))
            };
            report = match self.inspect_with(Right::Report, &route, look).await? {
                Some(hold) => report.settling_hold(&hold)?,
                None => self.settling(&route, report, decision).await?,
            };
        }
        let (credential, key) = (self.credential, self.request_key());
        let recorded = self.ask(&route, |reply| RecordUsage { credential, report, key, reply }).await;
        self.or_first_use(&route, recorded, read).await
    }

    /// Reads the decision that a report settles from the journal, on a thread that serves no calls.
    async fn settling(&self, route: &Route, report: UsageReport, decision: &str) -> Result<UsageReport, Error> {
        let unknown = || {
            let problem = format!("is not a decision: audit entry '{}' not found", quote(decision));
            Error::field(Code::AuditEntryNotFound, "auditId", problem)
        };
        let id = AuditId::parse(decision).filter(|id| id.tag() == route.id.tag()).ok_or_else(unknown)?;
        let credential = self.credential;
        let trail = self.ask(route, |reply| OpenAudit { credential, right: Right::Report, reply }).await?;
        let look = move || trail.look_up(id, |moment, event| report.settling(id, moment, event));
        self.read_trail(Some(route.id), look).await?.ok_or_else(unknown)?
    }
}

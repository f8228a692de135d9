//! What instance policies say to a budget check. The tenant says what its slices hold, the lender what it would answer, and
//! other tenants what they hold where that decides. Nobody lends, returns or charges anything.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::kavach::Kavach;
use crate::actors::messages::{ForeseeSlices, Inspect};
use crate::actors::{Route, Visit};
use crate::domain::budget::check::BudgetCheck;
use crate::domain::budget::cost::Cost;
use crate::domain::budget::policy_commands::PolicyView;
use crate::domain::budget::scope::Call;
use crate::domain::instance::lease::Ask;
use crate::domain::instance::prospect::{Foreseen, Outlook, Prospect};
use crate::domain::instance::published::InstanceSet;
use crate::domain::instance::slice_check::Drained;
use crate::domain::{AgentId, Code, Credential, Error, PolicyId, Right, Tenant, TenantId, Timestamp};

/// How long a check waits for tenants to tell what they hold, as a recall does.
const TELL_TIMEOUT: Duration = Duration::from_secs(1);

/// The call of a budget check, as far as it is known. A policy that names actions or resources is checked only if they
/// are.
#[derive(Clone, Debug, Default)]
pub struct CheckedCall {
    /// The action.
    pub action: Option<String>,
    /// The resource.
    pub resource: Option<String>,
}

impl CheckedCall {
    pub(super) fn as_call(&self) -> Call<'_> {
        Call { action: self.action.as_deref(), resource: self.resource.as_deref() }
    }
}

/// What all policies say to a call that is not made.
#[derive(Clone, Debug)]
pub struct CheckedBudgets {
    /// What those of its tenant say.
    pub own: BudgetCheck,
    /// Those of its tenant that it would be charged to, oldest first.
    pub policies: Vec<PolicyView>,
    /// What those of the instance say that it would be charged to, oldest first. They are asked if the others let it
    /// through.
    pub instance: Vec<InstanceCheck>,
}

impl CheckedBudgets {
    /// The policy of the instance that stops the call: the most severe; of equals the oldest.
    pub fn drained(&self) -> Option<Drained> {
        let drained = self.instance.iter().filter_map(|check| check.drained);
        drained.reduce(|worst, next| if next.action > worst.action { next } else { worst })
    }
}

/// What an instance policy says to a call that is not made.
#[derive(Clone, Copy, Debug)]
pub struct InstanceCheck {
    /// The policy.
    pub policy: PolicyId,
    /// Whether the call would get what it needs.
    pub prospect: Prospect,
    /// How it is denied, if it is.
    pub drained: Option<Drained>,
    /// What there is. Only operators see it: it tells what other tenants used.
    pub amounts: Option<InstanceAmounts>,
}

/// What there is of an instance policy: `None` is not limited.
#[derive(Clone, Copy, Debug)]
pub struct InstanceAmounts {
    /// What the tenant has left in its slice.
    pub slice: (Option<u64>, Option<Cost>),
    /// What can still be lent; `None` if the slice suffices, so that nobody was asked.
    pub lendable: Option<(Option<u64>, Option<Cost>)>,
}

impl InstanceCheck {
    fn of(outlook: &Outlook, foreseen: Option<&Foreseen>, now: Timestamp, shows_amounts: bool) -> Self {
        let Outlook { policy, limited, usable, ask: _ } = outlook;
        let prospect = foreseen.map_or(Prospect::Fits, |foreseen| foreseen.prospect);
        let drained = match prospect {
            Prospect::Exhausted { fits_at } => Some(Drained {
                policy: policy.id(),
                action: policy.action(),
                retry_after: fits_at.map(|fits| now.seconds_until(fits)),
            }),
            Prospect::Fits | Prospect::Depends => None,
        };
        let amounts = shows_amounts.then(|| InstanceAmounts {
            slice: (limited.calls.then_some(usable.calls), limited.cost.then_some(usable.cost)),
            lendable: foreseen.and_then(|foreseen| foreseen.room).map(|room| (room.calls(), room.cost())),
        });
        Self { policy: policy.id(), prospect, drained, amounts }
    }
}

impl Kavach {
    /// What these instance policies say to such a call of an agent.
    pub(super) async fn check_instance(
        &self,
        set: Arc<InstanceSet>,
        route: &Route,
        agent: AgentId,
        call: CheckedCall,
        cost: Cost,
    ) -> Result<Vec<InstanceCheck>, Error> {
        if set.is_empty() {
            return Ok(Vec::new());
        }
        let look = move |tenant: &Tenant, now| {
            let agent = tenant.agent(agent);
            let outlooks = agent.map(|agent| tenant.outlooks(agent, call.as_call(), cost, now, &set));
            Ok((now, outlooks.unwrap_or_default()))
        };
        let (now, outlooks) = self.inspect_with(Right::Ask, route, look).await?;
        let asks: Vec<_> = outlooks.iter().filter_map(|outlook| outlook.ask).collect();
        // The lender may ask many tenants, and anybody may check again and again.
        let _turn = self.search_turn(route).await?;
        let mut foreseen = self.foresee(asks).await?.into_iter();
        let shows_amounts = matches!(self.credential, Credential::Operator(_));
        let checks = outlooks.iter().map(|outlook| {
            let foreseen = outlook.ask.and_then(|_| foreseen.next());
            InstanceCheck::of(outlook, foreseen.as_ref(), now, shows_amounts)
        });
        Ok(checks.collect())
    }

    /// What the lender would say to these questions. If it depends on what others hold, they are asked what that is.
    async fn foresee(&self, asks: Vec<Ask>) -> Result<Vec<Foreseen>, Error> {
        if asks.is_empty() {
            return Ok(Vec::new());
        }
        let first = self.ask_lender(asks.iter().map(|ask| (*ask, Vec::new())).collect()).await?;
        if first.iter().all(|foreseen| foreseen.holders.is_empty()) {
            return Ok(first);
        }
        let mut again = Vec::with_capacity(asks.len());
        for (ask, foreseen) in asks.into_iter().zip(first) {
            again.push((ask, self.holdings(ask.policy, foreseen.holders).await));
        }
        self.ask_lender(again).await
    }

    /// What these tenants have of a policy, of those that tell in time. Their answers are for the lender alone.
    async fn holdings(&self, policy: PolicyId, tenants: Vec<TenantId>) -> Vec<Ask> {
        let server = Self::new(Arc::clone(&self.core));
        let credential = server.credential;
        let asked: Vec<_> = tenants
            .into_iter()
            .filter_map(|tenant| {
                let look = move |tenant: &Tenant, _| Ok(tenant.report_of(policy));
                let right = Right::Read;
                server.send(tenant, Visit::Scan, |reply| Inspect { credential, right, look, reply }).ok()
            })
            .collect();
        let (deadline, mut told) = (Instant::now() + TELL_TIMEOUT, Vec::with_capacity(asked.len()));
        for answer in asked {
            if let Ok(Ok(Ok(report))) = timeout_at(deadline, answer).await {
                told.push(report);
            }
        }
        told
    }

    async fn ask_lender(&self, asks: Vec<(Ask, Vec<Ask>)>) -> Result<Vec<Foreseen>, Error> {
        let (reply, answer) = oneshot::channel();
        if let Some(exchange) = self.core.leases.exchange() {
            exchange.foresee(ForeseeSlices { asks, reply });
        }
        let sentence = "the instance-wide budget can't be asked at the moment; try again";
        let unavailable = || Error::new(Code::InstanceBudgetUnavailable, sentence);
        // Whatever keeps the lender from an answer is nothing that the caller could mend.
        answer.await.map_err(|_| unavailable())?.map_err(|_| unavailable())
    }
}

//! What would become of a call's question for a slice. Nothing is lent or recalled for it, so it charges nothing.
//!
//! What a tenant holds may be spent, and only it knows. So if enough is left only together with what others hold, they are
//! asked what they have. They keep it.

use std::collections::BTreeSet;

use crate::agent::Agent;
use crate::budget::cost::Cost;
use crate::budget::scope::Call;
use crate::id::TenantId;
use crate::instance::amounts::Amounts;
use crate::instance::lease::{Ask, Outcome};
use crate::instance::lending::{Next, Room};
use crate::instance::published::{InstancePolicy, InstanceSet, Limited};
use crate::moment::Moment;
use crate::tenant::Tenant;
use crate::time::Timestamp;

/// What a tenant has of an instance policy that a call would be charged to.
#[derive(Clone, Debug)]
pub struct Outlook {
    /// The policy.
    pub policy: InstancePolicy,
    /// What of it is limited.
    pub limited: Limited,
    /// What can be spent from the slice.
    pub usable: Amounts,
    /// What it would ask the lender for, if that does not suffice.
    pub ask: Option<Ask>,
}

/// Whether a call would get what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prospect {
    /// It would.
    Fits,
    /// Only if others, who did not tell, have not spent what they hold.
    Depends,
    /// It would not, whatever others hold.
    Exhausted {
        /// When there may be so much again at the latest; `None` is never.
        fits_at: Option<Timestamp>,
    },
}

/// What the lender says to a question that is not asked.
#[derive(Clone, Debug)]
pub struct Foreseen {
    /// Whether the call would get what it needs.
    pub prospect: Prospect,
    /// Who may hold what decides it, if it depends: those that may have most, as many as are asked at once.
    pub holders: Vec<TenantId>,
    /// What can be lent; `None` if the policy is gone.
    pub room: Option<Room>,
}

impl Tenant {
    /// What it has of the instance policies that such a call of the agent would be charged to, oldest first.
    pub fn outlooks(
        &self,
        agent: &Agent,
        call: Call<'_>,
        cost: Cost,
        now: Timestamp,
        set: &InstanceSet,
    ) -> Vec<Outlook> {
        let outlook = |policy: &InstancePolicy| {
            let usable = self.slice(policy.number()).map(|slice| slice.usable(now)).unwrap_or_default();
            let ask = self.missing(policy, cost, now).map(|need| {
                let mut ask = self.ask_for(need, need.least);
                // It returns what is left of a slice that has ended before it asks.
                let ended = self.slice(policy.number()).filter(|slice| !slice.is_open(now));
                let left = ended.map(|slice| slice.left()).unwrap_or_default();
                ask.totals.returned = ask.totals.returned.plus(left);
                ask
            });
            Outlook { policy: policy.clone(), limited: policy.limited(now), usable, ask }
        };
        set.charging(agent, call).map(outlook).collect()
    }

    /// What the lender would say to a question. `told` are the tenants that told just before what they hold.
    pub fn foresee(&self, ask: &Ask, told: &BTreeSet<TenantId>, moment: Moment) -> Foreseen {
        let room = self.room(ask, moment);
        let answer = |prospect, holders| Foreseen { prospect, holders, room };
        let untold = self.lent_out().of_policy(ask.policy.seq()).map(|lent| lent.tenant);
        let untold: BTreeSet<_> = untold.filter(|tenant| !told.contains(tenant)).collect();
        let mut ask = *ask;
        // Who is told to return what is left of an ended slice does, and asks again.
        for _ in 0..2 {
            let lease = match self.lend(&ask, moment, &untold, 0).next {
                Next::Answer(lease) => lease,
                // Those that told have it, and would give it back.
                Next::Recall(_) => return answer(Prospect::Fits, Vec::new()),
            };
            match lease.outcome {
                Outcome::Granted | Outcome::NoPolicy => return answer(Prospect::Fits, Vec::new()),
                Outcome::MustReturn => {
                    let totals = &mut ask.totals;
                    totals.granted = lease.granted;
                    totals.returned = totals.returned.plus(lease.outstanding);
                }
                Outcome::Exhausted { fits_at, .. } => {
                    return match self.lend(&ask, moment, &BTreeSet::new(), 0).next {
                        Next::Recall(recalls) => {
                            answer(Prospect::Depends, recalls.into_iter().map(|recall| recall.tenant).collect())
                        }
                        Next::Answer(_) => answer(Prospect::Exhausted { fits_at }, Vec::new()),
                    };
                }
            }
        }
        answer(Prospect::Depends, Vec::new())
    }
}

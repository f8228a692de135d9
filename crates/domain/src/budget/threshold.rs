//! Thresholds: at which parts of a limit somebody is told, once for each window.
//!
//! Whether a charge reaches one is found out before the event is recorded, and is part of the event. The window remembers
//! the highest that was told. So each is told once, also across a crash, and replay gives the same. A window that was reset
//! tells them anew. After a change of the policy, those are told anew that the usage does not reach any more.

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::Serialize;

use crate::budget::calendar::Span;
use crate::budget::cost::Cost;
use crate::budget::crossed::Crossed;
use crate::budget::meter::Amount;
use crate::budget::policy::Policy;
use crate::budget::policy_at::PolicyAt;
use crate::budget::policy_limits::{calls_limit, cost_limit};
use crate::budget::settlement::UsageRecord;
use crate::budget::window::Counted;
use crate::error::{Code, Error};
use crate::event::Event;
use crate::id::PolicyId;
use crate::instance::lease::LeaseRecord;
use crate::limits::{MAX_THRESHOLD, MAX_THRESHOLDS};
use crate::moment::Moment;
use crate::tenant::Tenant;
use crate::time::Timestamp;

/// The percents of a policy that names none.
pub const DEFAULT_THRESHOLDS: [u16; 2] = [80, 100];

/// [`Crossed`] as a message shows it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct CrossedView {
    /// The policy.
    pub policy_id: PolicyId,
    /// The limit's name, such as `maxCallsPerDay`.
    pub limit: &'static str,
    /// The percent of the limit that is reached.
    pub percent: u16,
    /// How much is used.
    pub used: Amount,
    /// The limit.
    pub max: Amount,
}

impl From<&Crossed> for CrossedView {
    fn from(crossed: &Crossed) -> Self {
        let Crossed { policy, period, of, percent, used, max } = *crossed;
        let (limit, amount): (_, fn(u64) -> Amount) = match of {
            Counted::Calls => (calls_limit(period), Amount::Calls),
            Counted::Cost => (cost_limit(period), |millionths| Amount::Cost(Cost::from_millionths(millionths))),
        };
        Self { policy_id: policy, limit, percent, used: amount(used), max: amount(max) }
    }
}

/// Reads a policy's thresholds: percents, kept in ascending order, each once. An empty list tells nobody.
///
/// # Errors
/// `INVALID_FIELD`, naming `thresholds`.
pub(crate) fn parse_thresholds(percents: Vec<u64>) -> Result<Vec<u16>, Error> {
    let refuse = |problem: String| Error::field(Code::InvalidField, "thresholds", problem);
    if percents.len() > MAX_THRESHOLDS {
        return Err(refuse(format!("must have at most {MAX_THRESHOLDS} percents")));
    }
    let read = |percent: u64| {
        let fits = u16::try_from(percent).ok().filter(|percent| (1..=MAX_THRESHOLD).contains(percent));
        fits.ok_or_else(|| refuse(format!("must be percents from 1 to {MAX_THRESHOLD}, not {percent}")))
    };
    let mut kept = percents.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
    kept.sort_unstable();
    kept.dedup();
    Ok(kept)
}

/// Whether so much is that part of the limit. Nothing used is no part, even of nothing.
fn reaches(used: u64, percent: u16, max: u64) -> bool {
    used > 0 && u128::from(used) * 100 >= u128::from(percent) * u128::from(max)
}

impl Policy {
    /// Its thresholds, in ascending order.
    pub fn thresholds(&self) -> &[u16] {
        self.profile.terms.thresholds.as_deref().unwrap_or(&DEFAULT_THRESHOLDS)
    }

    /// Remembers that this threshold was told in its open window.
    fn tell(&mut self, crossed: &Crossed) {
        for (_, count) in self.usage.counts_mut().filter(|(span, _)| *span == crossed.period) {
            let told = count.open.told_mut(crossed.of);
            *told = crossed.percent.max(*told);
        }
    }

    /// Forgets what was told and is not reached any more, after the policy changed.
    pub(crate) fn tell_anew(&mut self, now: Timestamp) {
        let (limits, thresholds) = (self.limits(now).into_owned(), self.thresholds().to_vec());
        for (span, count) in self.usage.counts_mut() {
            let window = &mut count.open;
            let limits = [
                (Counted::Calls, window.calls, limits.calls(span)),
                (Counted::Cost, window.cost.millionths(), limits.cost(span).map(Cost::millionths)),
            ];
            for (of, used, max) in limits {
                let is_reached = |percent: &&u16| max.is_some_and(|max| reaches(used, **percent, max));
                let highest = thresholds.iter().rev().find(is_reached).copied().unwrap_or(0);
                let told = window.told_mut(of);
                *told = highest.min(*told);
            }
        }
    }
}

impl PolicyAt<'_> {
    /// The thresholds that this charge would reach and that the windows have not told.
    pub(crate) fn crossings(&self, calls: u64, cost: Cost) -> Vec<Crossed> {
        let Self { policy, limits, used, .. } = self;
        let mut found = Vec::new();
        if policy.profile.disabled {
            return found;
        }
        let thresholds = policy.thresholds();
        for span in Span::ALL {
            let Some(window) = used.count(span).map(|count| &count.open) else { continue };
            let mut look = |of, used, max, told| {
                for percent in thresholds.iter().copied().filter(|percent| *percent > told) {
                    if !reaches(used, percent, max) {
                        break;
                    }
                    found.push(Crossed { policy: policy.profile.id, period: span, of, percent, used, max });
                }
            };
            if let Some(max) = limits.calls(span) {
                look(Counted::Calls, window.calls.saturating_add(calls), max, window.told_calls);
            }
            if let Some(max) = limits.cost(span) {
                look(Counted::Cost, window.cost.plus(cost).millionths(), max.millionths(), window.told_cost);
            }
        }
        found
    }
}

impl Event<'_> {
    /// The thresholds that it reaches.
    pub fn crossed(&self) -> &[Crossed] {
        match self {
            Self::Decided(record) => record.extras.as_ref().map_or(&[], |extras| &extras.crossed),
            Self::Used(record) => &record.crossed,
            Self::Leased(LeaseRecord::Lent { crossed, .. }) => crossed,
            Self::Changed(_) | Self::Delivered(_) | Self::Leased(_) => &[],
        }
    }
}

impl Tenant {
    /// The thresholds that a usage report reaches.
    pub(crate) fn crossed_by_usage(&self, moment: Moment, record: &UsageRecord) -> Vec<Crossed> {
        let mut found = Vec::new();
        let UsageRecord { calls, cost, settles, hold, .. } = record;
        // What ends or prolongs a hold charges nothing.
        if hold.is_some() {
            return found;
        }
        for place in self.policies_of_usage(record) {
            let Some(policy) = self.policies().get(place as usize) else { continue };
            // As `apply_usage` charges it.
            let (calls, cost) = match settles {
                None => (*calls, *cost),
                Some(decision) if policy.profile.id.seq() <= decision.seq && *cost >= decision.estimate => {
                    (0, cost.minus(decision.estimate))
                }
                Some(_) => continue,
            };
            found.extend(policy.at(moment.wall, |standing| standing.crossings(calls, cost)));
        }
        found
    }

    /// Remembers what an event told.
    pub(crate) fn apply_crossed(&mut self, event: &Event<'_>) {
        for crossed in event.crossed() {
            if let Some(policy) = self.place_of_policy(crossed.policy.seq()).and_then(|place| self.policy_mut(place)) {
                policy.tell(crossed);
            }
        }
    }
}

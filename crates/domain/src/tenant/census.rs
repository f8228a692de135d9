//! A tenant in a few numbers: how many agents it has, and which of its budgets are almost used up.

use std::sync::Arc;

use crate::agent::AgentCounts;
use crate::budget::calendar::Span;
use crate::budget::cost::Cost;
use crate::budget::meter::{Amount, Meter};
use crate::budget::policy::{Policy, PolicyAction, PolicyStatus};
use crate::id::{AgentId, PolicyId};
use crate::tenant::{Tenant, TenantStatus};
use crate::time::Timestamp;

/// A policy is near its limit from this share on.
const NEAR: f64 = 0.8;

/// The most policies in a list of those near a limit or denying calls.
pub const MAX_NEAR_LIMITS: usize = 20;

/// A policy that is near its limit or past it, or denied a call today, with the fullest of its limits.
#[derive(Clone, Debug, PartialEq)]
pub struct NearLimit {
    /// The policy's id.
    pub policy: PolicyId,
    /// The only agent it applies to, if it names one.
    pub agent: Option<AgentId>,
    /// The only owner whose agents it applies to, if it names one.
    pub owner: Option<Arc<str>>,
    /// What happens when the limit is exceeded.
    pub action: PolicyAction,
    /// The policy's status.
    pub status: PolicyStatus,
    /// The limit's name, such as `maxCallsPerDay`.
    pub limit: &'static str,
    /// How much is used.
    pub used: Amount,
    /// The limit.
    pub max: Amount,
    /// The used share of the limit: 1 is all of it.
    pub share: f64,
    /// When the count starts anew; `None` is never.
    pub resets_at: Option<Timestamp>,
    /// When it last denied a call; `None` if it did not since it was last changed or reset.
    pub last_denied_at: Option<Timestamp>,
}

/// A tenant in a few numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Census {
    /// The tenant's name.
    pub name: Box<str>,
    /// Whether its agents may work.
    pub status: TenantStatus,
    /// Numbers of its agents.
    pub agents: AgentCounts,
    /// Its policies that are near a limit or denied a call today, the fullest first.
    pub near_limits: Vec<NearLimit>,
    /// The time of the tenant's last event.
    pub last_event_at: Timestamp,
    /// When these numbers were taken.
    pub taken_at: Timestamp,
    /// Until when they are right if no event comes: then an agent expires, a hold ends, or a policy's window does.
    pub valid_until: Timestamp,
}

impl Census {
    /// The tenant's numbers at `now`, with at most `most` policies.
    pub fn take(tenant: &Tenant, now: Timestamp, most: usize) -> Self {
        let policies = tenant.policies_at(now);
        let mut near_limits: Vec<_> = policies.iter().filter_map(|policy| policy.near_limit(now)).collect();
        sort_fullest_first(&mut near_limits, |near| near);
        near_limits.truncate(most);
        // By then the count of a policy may start anew, or its limits change.
        let next_day = now.next_day();
        let next_turn = policies.iter().filter_map(|policy| policy.next_turn(now)).min();
        let next_end = tenant.next_hold_end().filter(|end| *end > now);
        Self {
            name: tenant.profile().name.clone(),
            status: tenant.profile().status,
            agents: tenant.agent_counts(now),
            near_limits,
            last_event_at: tenant.time(),
            taken_at: now,
            valid_until: [tenant.next_expiry(now), next_end, next_turn]
                .into_iter()
                .flatten()
                .fold(next_day, Timestamp::min),
        }
    }
}

/// Sorts the fullest first, and equals by age.
pub fn sort_fullest_first<T>(list: &mut [T], near: impl Fn(&T) -> &NearLimit) {
    list.sort_by(|a, b| near(b).share.total_cmp(&near(a).share).then(near(a).policy.cmp(&near(b).policy)));
}

impl Policy {
    /// When its next window begins or its temporary limits end, whichever comes first.
    fn next_turn(&self, now: Timestamp) -> Option<Timestamp> {
        let spans = Span::ALL.into_iter().filter(|span| self.usage.count(*span).is_some());
        let windows = spans.filter_map(|span| self.bounds(span, now).ends_at());
        let until = self.profile.terms.temporary.as_ref().map(|temporary| temporary.until);
        windows.chain(until.filter(|until| *until > now)).min()
    }

    /// The policy's fullest limit, if that is near or used up, or if the policy denied a call today: a call may ask for
    /// more than is left of any limit. A disabled policy stops nothing, so it is near none.
    pub fn near_limit(&self, now: Timestamp) -> Option<NearLimit> {
        // How much all tenants use is for operators only.
        if self.profile.disabled || self.profile.terms.instance {
            return None;
        }
        let (share, meter) = self.at(now, |standing| {
            let meters = standing.meters(0, Cost::default()).map(|meter| (meter.share(), meter));
            meters.max_by(|(one, _), (other, _)| one.total_cmp(other))
        })?;
        (share >= NEAR || self.denied_today(now)).then(|| {
            let Meter { name, used, max, resets_at, .. } = meter;
            let profile = &self.profile;
            NearLimit {
                policy: profile.id,
                agent: profile.agent,
                owner: profile.owner.clone(),
                action: profile.action,
                status: self.status(now),
                limit: name,
                used,
                max,
                share,
                resets_at,
                last_denied_at: self.last_denied_at,
            }
        })
    }
}

impl Meter {
    /// The used share of the limit: 1 is all of it, more is past it.
    fn share(&self) -> f64 {
        let (used, max) = match (self.used, self.max) {
            (Amount::Calls(used), Amount::Calls(max)) => (used, max),
            (Amount::Cost(used), Amount::Cost(max)) => (used.millionths(), max.millionths()),
            // A limit and its usage have one unit.
            (Amount::Calls(_), Amount::Cost(_)) | (Amount::Cost(_), Amount::Calls(_)) => return 0.0,
        };
        if max == 0 { 1.0 } else { used as f64 / max as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Moment;
    use crate::budget::policy::{PolicyProfile, PolicyTerms};
    use crate::budget::policy_limits::Limits;

    fn policy(limits: Limits, disabled: bool, calls: u64, cost: &str) -> Policy {
        let (made, now) = (Timestamp::default(), at("2026-02-27T10:00:00Z"));
        let profile = PolicyProfile { disabled, ..PolicyProfile::blocking(limits, PolicyTerms::default(), made) };
        let mut policy = Policy::new(profile, |_| None);
        policy.charge(Moment::new(now, 1), calls, Cost::parse("cost", cost).unwrap(), false);
        policy
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::parse("at", text).unwrap()
    }

    #[test]
    fn a_policy_near_a_limit_shows_its_fullest_limit() {
        let limits = Limits {
            max_calls_per_day: Some(10),
            max_tokens_cost_per_month: Some(Cost::parse("cost", "2").unwrap()),
            ..Limits::default()
        };
        let now = at("2026-02-27T11:00:00Z");
        let near = |calls, cost| policy(limits.clone(), false, calls, cost).near_limit(now);
        assert_eq!(near(7, "1.5"), None);
        let day = near(8, "1.5").unwrap();
        assert_eq!((day.limit, day.share, day.status), ("maxCallsPerDay", 0.8, PolicyStatus::Active));
        assert_eq!(day.resets_at, Some(at("2026-02-28T00:00:00Z")));
        let month = near(8, "2.5").unwrap();
        assert_eq!((month.limit, month.share, month.status), ("maxTokensCostPerMonth", 1.25, PolicyStatus::Triggered));
        assert_eq!((month.used.to_string(), month.resets_at), ("2.5".to_owned(), Some(at("2026-03-01T00:00:00Z"))));
        let tomorrow = at("2026-02-28T00:00:00Z");
        let mut denying = policy(limits.clone(), false, 7, "1.5");
        denying.last_denied_at = Some(now);
        assert_eq!(denying.near_limit(now).map(|near| near.limit), Some("maxTokensCostPerMonth"));
        assert_eq!(denying.near_limit(tomorrow), None, "it denied nothing that day");
        assert_eq!(policy(limits.clone(), false, 10, "0").near_limit(tomorrow), None);
        assert_eq!(policy(limits, true, 10, "0").near_limit(now), None, "it stops nothing");
        let nothing = Limits { max_calls_per_day: Some(0), ..Limits::default() };
        assert_eq!(policy(nothing, false, 0, "0").near_limit(now).unwrap().share, 1.0);
    }

    #[test]
    fn the_fullest_comes_first() {
        let tenant = Tenant::restore(crate::tenant::State {
            policies: [90, 100, 85, 10]
                .map(|calls| policy(Limits { max_calls_per_day: Some(100), ..Limits::default() }, false, calls, "0"))
                .to_vec(),
            ..Default::default()
        });
        let now = at("2026-02-27T11:00:00Z");
        let census = Census::take(&tenant, now, 2);
        assert_eq!(census.near_limits.iter().map(|near| near.share).collect::<Vec<_>>(), [1.0, 0.9]);
        assert_eq!(census.valid_until, at("2026-02-28T00:00:00Z"));
        assert_eq!(Moment::new(now, 1), tenant.next_moment(now));
    }
}

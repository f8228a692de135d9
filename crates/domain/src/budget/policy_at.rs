//! A policy as it stands at a time: the limits that hold then, and how much of each is used.

use crate::budget::calendar::Span;
use crate::budget::cost::Cost;
use crate::budget::counts::Usage;
use crate::budget::meter::{Amount, Meter, Reach};
use crate::budget::policy::Policy;
use crate::budget::policy_limits::{Limits, calls_limit, cost_limit};
use crate::budget::window::Window;
use crate::time::Timestamp;

/// A policy as it stands at a time.
pub(crate) struct PolicyAt<'a> {
    /// The policy.
    pub(crate) policy: &'a Policy,
    /// That time.
    pub(crate) now: Timestamp,
    /// The limits that hold.
    pub(crate) limits: &'a Limits,
    /// How much is used, in the windows of that time.
    pub(crate) used: &'a Usage,
}

impl Policy {
    /// Looks at the policy as it stands at `now`. Mostly no window is over and no limit temporary, and nothing is copied.
    pub(crate) fn at<R>(&self, now: Timestamp, look: impl FnOnce(&PolicyAt<'_>) -> R) -> R {
        let (limits, used) = (self.limits(now), self.used(now));
        look(&PolicyAt { policy: self, now, limits: &limits, used: &used })
    }
}

impl PolicyAt<'_> {
    /// Whether these calls and this cost stay below all limits and thresholds, so that there is nothing to stop or tell.
    /// Above its first threshold a policy is never far from it, even once that was told.
    pub(crate) fn is_far_from_limits(&self, calls: u64, cost: Cost) -> bool {
        let Self { policy, limits, used, .. } = self;
        let percent = u128::from(policy.thresholds().first().copied().unwrap_or(100).min(100));
        let is_below =
            |used: u64, asked: u64, max: u64| u128::from(used.saturating_add(asked)) * 100 < u128::from(max) * percent;
        let is_far = |span: Span, window: &Window| {
            let (used, asked) = (window.cost.millionths(), cost.millionths());
            limits.calls(span).is_none_or(|max| is_below(window.calls, calls, max))
                && limits.cost(span).is_none_or(|max| is_below(used, asked, max.millionths()))
        };
        is_far(Span::Day, &used.day.open)
            && is_far(Span::Month, &used.month.open)
            && (used.more.is_none()
                || [Span::Hour, Span::Week, Span::Total]
                    .into_iter()
                    .all(|span| used.count(span).is_none_or(|count| is_far(span, &count.open))))
    }

    /// Its limits, checked against these calls and this cost.
    pub(crate) fn meters(&self, calls: u64, cost: Cost) -> impl Iterator<Item = Meter> {
        let profile = &self.policy.profile;
        METERS.into_iter().filter_map(move |(span, of_calls)| {
            let window = &self.used.count(span)?.open;
            let reach = |own: &Limits| {
                let (used, asked, max) = if of_calls {
                    (window.calls, calls, own.calls(span)?)
                } else {
                    (window.cost.millionths(), cost.millionths(), own.cost(span)?.millionths())
                };
                Some((Reach::of(used, asked, max), max))
            };
            let (Reach { used_up, passed }, max) = reach(self.limits)?;
            let amount = |number, cost| if of_calls { Amount::Calls(number) } else { Amount::Cost(cost) };
            let resets_at = window.bounds().ends_at();
            // A temporary limit may be in the way only until it ends.
            let temporary = profile.terms.temporary.as_ref().filter(|temporary| self.now < temporary.until);
            let lifted = temporary.filter(|_| reach(&profile.limits).is_none_or(|(reach, _)| reach.fits()));
            let fits_at = match lifted.map(|temporary| temporary.until) {
                Some(until) => Some(resets_at.map_or(until, |resets| resets.min(until))),
                None => resets_at,
            };
            Some(Meter {
                name: if of_calls { calls_limit(span) } else { cost_limit(span) },
                span,
                used: amount(window.calls, window.cost),
                requested: amount(calls, cost),
                max: amount(max, Cost::from_millionths(max)),
                used_up,
                exceeded: used_up || passed,
                resets_at,
                fits_at,
            })
        })
    }
}

/// The limits in the order in which they are checked, and whether each is of calls rather than of cost.
const METERS: [(Span, bool); 10] = [
    (Span::Day, true),
    (Span::Month, true),
    (Span::Day, false),
    (Span::Month, false),
    (Span::Hour, true),
    (Span::Week, true),
    (Span::Total, true),
    (Span::Hour, false),
    (Span::Week, false),
    (Span::Total, false),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::budget::policy::{PolicyProfile, PolicyTerms};
    use crate::moment::Moment;

    fn limits() -> impl Strategy<Value = Limits> {
        let limit = || prop::option::of(0u64..9);
        let cost = || limit().prop_map(|max| max.map(Cost::from_millionths));
        ((limit(), limit(), cost(), cost()), (limit(), limit(), limit()), (cost(), cost(), cost())).prop_map(
            |(plain, calls, costs)| Limits {
                max_calls_per_day: plain.0,
                max_calls_per_month: plain.1,
                max_tokens_cost_per_day: plain.2,
                max_tokens_cost_per_month: plain.3,
                max_calls_per_hour: calls.0,
                max_calls_per_week: calls.1,
                max_calls_total: calls.2,
                max_tokens_cost_per_hour: costs.0,
                max_tokens_cost_per_week: costs.1,
                max_tokens_cost_total: costs.2,
            },
        )
    }

    /// Usage and limits near the largest number too.
    fn amount() -> impl Strategy<Value = u64> {
        prop_oneof![4 => 0u64..3, 1 => Just(u64::MAX), 1 => Just(u64::MAX / 2)]
    }

    proptest! {
        #[test]
        fn far_from_its_limits_nothing_is_exceeded_and_no_threshold_reached(
            limits in limits(),
            thresholds in prop::option::of(prop::collection::btree_set(prop_oneof![Just(1u16), Just(50), Just(99), Just(100), Just(1_000)], 0..3)),
            charges in prop::collection::vec((0i64..70, amount(), amount()), 0..4),
            (day, calls, cost) in (0i64..70, amount(), amount()),
        ) {
            let at = |day: i64| Timestamp::from_millis(1_772_357_400_000 + day * 86_400_000);
            let thresholds = thresholds.map(|percents| percents.into_iter().collect::<Vec<_>>());
            let terms = PolicyTerms { thresholds: thresholds.clone(), ..PolicyTerms::default() };
            let mut policy = Policy::new(PolicyProfile::blocking(limits, terms, at(0)), |_| None);
            for (seq, (day, calls, cost)) in (2..).zip(charges) {
                policy.charge(Moment::new(at(day), seq), calls, Cost::from_millionths(cost), false);
            }
            let cost = Cost::from_millionths(cost);
            let (is_far, exceeded, crossed, shares) = policy.at(at(day), |standing| {
                let crossed = standing.crossings(calls, cost);
                let meters: Vec<_> = standing.meters(calls, cost).collect();
                let of = |amount| match amount {
                    Amount::Calls(calls) => u128::from(calls),
                    Amount::Cost(cost) => u128::from(cost.millionths()),
                };
                let share = |meter: &Meter| (of(meter.used) + of(meter.requested), of(meter.max));
                let shares = meters.iter().map(share).collect::<Vec<_>>();
                (standing.is_far_from_limits(calls, cost), meters.iter().any(|meter| meter.exceeded), crossed, shares)
            });
            if is_far {
                prop_assert!(!exceeded && crossed.is_empty(), "{crossed:?}");
            }
            // The quick answer is worth something: it is given wherever all of them are below the first threshold.
            let first = thresholds.as_deref().unwrap_or(&[80, 100]).first().copied().unwrap_or(100).min(100);
            let below = shares.iter().all(|(used, max)| used * 100 < max * u128::from(first));
            prop_assert_eq!(is_far, below);
        }
    }
}

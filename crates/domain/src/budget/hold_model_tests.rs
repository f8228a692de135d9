//! Random charges, holds and resets of one policy, compared with a list of all that was charged.

use proptest::prelude::*;
use proptest::sample::select;

use crate::budget::calendar::{Calendar, MonthStart, Span, parse_zone};
use crate::budget::cost::Cost;
use crate::budget::counts::Period;
use crate::budget::policy::{Policy, PolicyProfile, PolicyTerms};
use crate::budget::policy_limits::Limits;
use crate::moment::Moment;
use crate::time::Timestamp;

#[derive(Clone, Debug)]
enum HoldStep {
    /// So many milliseconds pass.
    Wait(i64),
    Charge {
        cost: u64,
        held: bool,
    },
    /// Ends an open hold with that cost.
    End {
        hold: usize,
        actual: u64,
    },
    Reset(Period),
}

fn step() -> impl Strategy<Value = HoldStep> {
    let periods = vec![Period::Hour, Period::Day, Period::Week, Period::Month, Period::Total, Period::All];
    let waits = vec![1i64, 60_000, 1_800_000, 3_600_000, 86_400_000, 7 * 86_400_000, 31 * 86_400_000];
    prop_oneof![
        4 => select(waits).prop_map(HoldStep::Wait),
        6 => (0u64..20, any::<bool>()).prop_map(|(cost, held)| HoldStep::Charge { cost, held }),
        4 => (0usize..8, 0u64..25).prop_map(|(hold, actual)| HoldStep::End { hold, actual }),
        1 => select(periods).prop_map(HoldStep::Reset),
    ]
}

/// What was charged at a time: at first as an estimate that may be held.
#[derive(Clone, Copy, Debug)]
struct Charged {
    moment: Moment,
    calls: u64,
    cost: u64,
    held: bool,
}

fn has(period: Period, span: Span) -> bool {
    format!("{period:?}") == format!("{span:?}") || period == Period::All
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn all_that_was_charged_is_spent_or_held(
        zone in select(vec!["UTC", "Asia/Kolkata", "Australia/Lord_Howe", "America/Sao_Paulo", "Europe/Berlin"]),
        month in select(vec![1u64, 28]),
        start in select(vec!["2018-11-03T20:00:00Z", "2024-02-28T22:00:00Z", "2026-10-03T12:00:00Z", "2026-10-24T20:00:00Z"]),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut now = Timestamp::parse("start", start).unwrap();
        let month_starts_on = MonthStart::parse(month).unwrap();
        let calendar = Calendar { zone: parse_zone(zone).unwrap(), month_starts_on, ..Calendar::default() };
        let limits = Limits {
            max_calls_per_hour: Some(1),
            max_calls_per_week: Some(1),
            max_tokens_cost_total: Some(Cost::from_millionths(30)),
            ..Limits::default()
        };
        let terms = PolicyTerms { calendar: calendar.clone(), ..PolicyTerms::default() };
        let profile = PolicyProfile::blocking(limits, terms, now);
        let mut policy = Policy::new(profile, |span| Some(calendar.bounds(span, now)));
        let mut charged: Vec<Charged> = Vec::new();
        let mut resets: Vec<(u64, Period)> = Vec::new();
        for (step, seq) in steps.into_iter().zip(2u64..) {
            let cost = Cost::from_millionths;
            let moment = Moment::new(now, seq);
            // As an event does that touches the policy.
            for span in Span::ALL {
                if calendar.is_zoned() && policy.is_over(span, now) {
                    policy.open(span, calendar.bounds(span, now), moment);
                }
            }
            match step {
                HoldStep::Wait(by) => now = now.plus_millis(by),
                HoldStep::Charge { cost: amount, held } => {
                    policy.charge(moment, 1, cost(amount), held);
                    charged.push(Charged { moment, calls: 1, cost: amount, held });
                }
                HoldStep::End { hold, actual } => {
                    let open: Vec<usize> = (0..charged.len()).filter(|at| charged[*at].held).collect();
                    let Some(at) = open.get(hold % open.len().max(1)).copied() else { continue };
                    let Charged { moment: then, cost: estimate, .. } = charged[at];
                    policy.end_hold(moment, then, cost(estimate), cost(actual));
                    charged[at] = Charged { cost: estimate.min(actual), held: false, ..charged[at] };
                    let more = actual.saturating_sub(estimate);
                    charged.push(Charged { moment, calls: 0, cost: more, held: false });
                }
                HoldStep::Reset(period) => {
                    policy.reset(moment, period);
                    resets.push((seq, period));
                }
            }
            for view in policy.windows(now) {
                let bounds = calendar.bounds(view.period, now);
                let reset = resets.iter().rev().find(|(_, period)| has(*period, view.period)).map_or(0, |(seq, _)| *seq);
                let within = charged.iter().filter(|one| bounds.contains(one.moment.wall) && one.moment.seq > reset);
                let sum = |held: bool| within.clone().filter(|one| one.held == held).map(|one| one.cost).sum::<u64>();
                let calls: u64 = within.clone().map(|one| one.calls).sum();
                let found = (view.calls, view.tokens_cost_spent.millionths(), view.tokens_cost_held.millionths());
                prop_assert_eq!(found, (calls, sum(false), sum(true)), "{:?} at {}", view, now);
                if let Some(left) = view.tokens_cost_left {
                    prop_assert_eq!(left.millionths(), 30 - i128::from(sum(false)) - i128::from(sum(true)));
                }
            }
        }
    }
}

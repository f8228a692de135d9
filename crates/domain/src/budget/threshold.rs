//! Thresholds: at which parts of a limit somebody is told, once for each window.
//!
//! Whether a charge reaches one is found out before the event is recorded, and is part of the event. The window remembers
//! the highest that was told. So each is told once, also across a crash, and replay gives the same. A window that was reset
//! tells them anew. After a change of the policy, those are told anew that the usage does not reach any more.

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::budget::calendar::Span;
use crate::budget::cost::Cost;
use crate::budget::meter::Amount;
use crate::budget::policy::Policy;
use crate::budget::policy_limits::{calls_limit, cost_limit};
use crate::budget::settlement::UsageRecord;
use crate::budget::window::Window;
use crate::error::{Code, Error};
use crate::event::Event;
use crate::id::PolicyId;
use crate::limits::{MAX_THRESHOLD, MAX_THRESHOLDS};
use crate::moment::Moment;
use crate::tenant::Tenant;
use crate::time::Timestamp;

/// The percents of a policy that names none.
pub const DEFAULT_THRESHOLDS: [u16; 2] = [80, 100];

/// What of a window a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Counted {
    /// Calls.
    Calls,
    /// Cost.
    Cost,
}

/// That a charge reached a part of a limit for the first time in its window, as the journal keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Crossed {
    /// The policy.
    pub policy: PolicyId,
    /// What the limit spans.
    pub period: Span,
    /// What it counts.
    pub of: Counted,
    /// The percent of the limit.
    pub percent: u16,
    /// How much is used with the charge: calls, or millionths of the cost.
    pub used: u64,
    /// The limit, likewise.
    pub max: u64,
}

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

    /// Adds the thresholds that this charge would reach and that the windows of `now` have not told.
    pub(crate) fn crossings(&self, now: Timestamp, calls: u64, cost: Cost, found: &mut Vec<Crossed>) {
        let thresholds = self.thresholds();
        if self.profile.disabled || thresholds.is_empty() {
            return;
        }
        let (limits, usage) = (self.limits(now), self.used(now));
        for span in Span::ALL {
            let Some(Window { calls: old_calls, cost: old_cost, told_calls, told_cost, .. }) =
                usage.count(span).map(|count| count.open)
            else {
                continue;
            };
            let (calls, cost) = (old_calls.saturating_add(calls), old_cost.plus(cost).millionths());
            let of_calls = limits.calls(span).map(|max| (Counted::Calls, calls, max, told_calls));
            let of_cost = limits.cost(span).map(|max| (Counted::Cost, cost, max.millionths(), told_cost));
            for (of, used, max, told) in of_calls.into_iter().chain(of_cost) {
                let new = thresholds.iter().copied().skip_while(|percent| *percent <= told);
                let reached = new.take_while(|percent| reaches(used, *percent, max));
                let policy = self.profile.id;
                found.extend(reached.map(|percent| Crossed { policy, period: span, of, percent, used, max }));
            }
        }
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

impl Event<'_> {
    /// The thresholds that it reaches.
    pub fn crossed(&self) -> &[Crossed] {
        match self {
            Self::Decided(record) => record.extras.as_ref().map_or(&[], |extras| &extras.crossed),
            Self::Used(record) => &record.crossed,
            Self::Changed(_) | Self::Delivered(_) => &[],
        }
    }
}

impl Tenant {
    /// The thresholds that a usage report reaches.
    pub(crate) fn crossed_by_usage(&self, moment: Moment, record: &UsageRecord) -> Vec<Crossed> {
        let mut found = Vec::new();
        let UsageRecord { calls, cost, settles, .. } = record;
        for place in self.policies_of_usage(record) {
            let Some(policy) = self.policies().get(place as usize) else { continue };
            // As `apply_usage` charges it.
            match settles {
                None => policy.crossings(moment.wall, *calls, *cost, &mut found),
                Some(decision) if policy.profile.id.seq() <= decision.seq && *cost >= decision.estimate => {
                    policy.crossings(moment.wall, 0, cost.minus(decision.estimate), &mut found);
                }
                Some(_) => {}
            }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::author::By;
    use crate::budget::counts::Period;
    use crate::budget::policy_commands::{CreatePolicy, NewPolicy, PolicyPatch, ResetPolicy, UpdatePolicy};
    use crate::event::ChangeRecord;
    use crate::tenant::Command;

    /// A tenant with one policy, charged by usage reports as they are recorded.
    struct World {
        tenant: Tenant,
        policy: PolicyId,
        now: Timestamp,
    }

    impl World {
        fn new(policy: &str) -> Self {
            let now = Timestamp::parse("now", "2026-03-01T10:00:00Z").unwrap();
            let tenant = Tenant::default();
            let mut world = Self { policy: PolicyId::derive(now, 1, tenant.id().tag()), tenant, now };
            let new: NewPolicy = serde_json::from_str(policy).unwrap();
            world.policy = world.run(CreatePolicy::parse(new).unwrap());
            world
        }

        fn run<C: Command>(&mut self, command: C) -> C::Subject {
            let moment = self.tenant.next_moment(self.now);
            let (change, subject) = command.decide(&self.tenant, By::Operator, moment).unwrap();
            if let Some(change) = change {
                self.happen(moment, &Event::Changed(ChangeRecord::new(By::Operator, change)));
            }
            subject
        }

        fn happen(&mut self, moment: Moment, event: &Event<'static>) -> Vec<(&'static str, u16)> {
            let event = self.tenant.complete(moment, event).into_owned();
            self.tenant.apply(moment, &event);
            event.crossed().iter().map(CrossedView::from).map(|crossed| (crossed.limit, crossed.percent)).collect()
        }

        /// Charges calls; returns what is told.
        fn charge(&mut self, calls: u64) -> Vec<(&'static str, u16)> {
            let record = UsageRecord {
                by: By::Operator,
                agent: crate::AgentId::derive(self.now, 9, self.tenant.id().tag()),
                owner: "u".into(),
                calls,
                cost: Cost::from_millionths(calls * 1_000_000),
                settles: None,
                scoped: Vec::new(),
                opens: Vec::new(),
                crossed: Vec::new(),
            };
            self.happen(self.tenant.next_moment(self.now), &Event::Used(record))
        }

        fn patch(&mut self, json: &str) {
            let (id, patch) = (self.policy, serde_json::from_str::<PolicyPatch>(json).unwrap());
            self.run(UpdatePolicy { id, patch });
        }
    }

    const DAY: &str = "maxCallsPerDay";

    #[test]
    fn each_is_told_once_in_its_window() {
        let mut world = World::new(r#"{"limits":{"maxCallsPerDay":10,"maxTokensCostPerMonth":20},"action":"warn"}"#);
        assert_eq!(world.charge(7), []);
        assert_eq!(world.charge(1), [(DAY, 80)]);
        assert_eq!(world.charge(1), []);
        assert_eq!(world.charge(1), [(DAY, 100)]);
        assert_eq!(world.charge(6), [("maxTokensCostPerMonth", 80)]);
        // Another day tells the day's anew, and the month's not.
        world.now = world.now.plus_millis(86_400_000);
        assert_eq!(world.charge(8), [(DAY, 80), ("maxTokensCostPerMonth", 100)]);
        // Several at once are all told.
        world.now = world.now.plus_millis(86_400_000);
        assert_eq!(world.charge(30), [(DAY, 80), (DAY, 100)]);
    }

    #[test]
    fn a_reset_and_a_higher_limit_tell_anew() {
        let mut world = World::new(r#"{"limits":{"maxCallsPerDay":10},"thresholds":[150,50,50]}"#);
        assert_eq!(world.charge(5), [(DAY, 50)]);
        world.run(ResetPolicy { id: world.policy, period: Period::Day });
        assert_eq!(world.charge(15), [(DAY, 50), (DAY, 150)]);
        // 15 of 20: what is still reached is not told again, the other once it is.
        world.patch(r#"{"limits":{"maxCallsPerDay":20}}"#);
        assert_eq!(world.charge(1), []);
        assert_eq!(world.charge(14), [(DAY, 150)]);
        world.patch(r#"{"limits":{"maxCallsPerDay":1000}}"#);
        assert_eq!(world.charge(470), [(DAY, 50)]);
        // Others in place of them.
        world.patch(r#"{"thresholds":[10,60]}"#);
        assert_eq!(world.charge(99), []);
        assert_eq!(world.charge(1), [(DAY, 60)]);
        world.patch(r#"{"thresholds":[]}"#);
        assert_eq!(world.charge(9_000), []);
        world.patch(r#"{"thresholds":null}"#);
        assert_eq!(world.charge(1), [(DAY, 80), (DAY, 100)]);
        world.patch(r#"{"status":"disabled"}"#);
        world.run(ResetPolicy { id: world.policy, period: Period::All });
        assert_eq!(world.charge(9_000), []);
    }

    #[test]
    fn a_limit_of_nothing_is_reached_by_anything() {
        let mut world = World::new(r#"{"limits":{"maxCallsPerDay":0},"action":"warn"}"#);
        assert_eq!(world.charge(0), []);
        assert_eq!(world.charge(1), [(DAY, 80), (DAY, 100)]);
    }

    #[test]
    fn bad_thresholds_name_their_field() {
        for bad in [vec![0], vec![1_001], vec![80, u64::MAX], vec![50; MAX_THRESHOLDS + 1]] {
            let error = parse_thresholds(bad).unwrap_err();
            assert_eq!((error.code(), &error.details()["field"]), (Code::InvalidField, &"thresholds".into()));
        }
        assert_eq!(parse_thresholds(vec![1_000, 1, 80, 80]).unwrap(), [1, 80, 1_000]);
    }

    proptest! {
        /// Against a plain count: a threshold is told with the charge that reaches it, and never again that day.
        #[test]
        fn what_is_told_is_what_is_reached(
            max in 1u64..50,
            thresholds in prop::collection::btree_set(1u16..300, 1..5),
            steps in prop::collection::vec((0u64..12, 0i64..3), 1..60),
        ) {
            let list: Vec<_> = thresholds.iter().copied().collect();
            let mut world = World::new(&format!(r#"{{"limits":{{"maxCallsPerDay":{max}}},"thresholds":{list:?}}}"#));
            let (mut day, mut used, mut told) = (world.now.day(), 0, 0);
            for (calls, hours) in steps {
                world.now = world.now.plus_millis(hours * 5 * 3_600_000);
                if world.now.day() != day {
                    (day, used, told) = (world.now.day(), 0, 0);
                }
                used += calls;
                let wanted: Vec<_> = thresholds
                    .iter()
                    .filter(|percent| **percent > told && used > 0 && used * 100 >= u64::from(**percent) * max)
                    .map(|percent| (DAY, *percent))
                    .collect();
                told = wanted.last().map_or(told, |(_, percent)| *percent);
                prop_assert_eq!(world.charge(calls), wanted);
            }
            let bytes = rmp_serde::to_vec_named(&world.tenant.state()).unwrap();
            prop_assert_eq!(rmp_serde::from_slice::<crate::tenant::State>(&bytes).unwrap(), world.tenant.state());
        }
    }
}

//! Thresholds, through the events that reach them.

use proptest::prelude::*;

use crate::author::By;
use crate::budget::cost::Cost;
use crate::budget::counts::Period;
use crate::budget::policy_commands::{CreatePolicy, NewPolicy, PolicyPatch, ResetPolicy, UpdatePolicy};
use crate::budget::settlement::UsageRecord;
use crate::budget::threshold::{CrossedView, parse_thresholds};
use crate::error::Code;
use crate::event::ChangeRecord;
use crate::event::Event;
use crate::id::PolicyId;
use crate::limits::MAX_THRESHOLDS;
use crate::moment::Moment;
use crate::tenant::Command;
use crate::tenant::Tenant;
use crate::time::Timestamp;

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
            hold: None,
            instance: Vec::new(),
            scoped: Vec::new(),
            opens: Vec::new(),
            crossed: Vec::new(),
            key: None,
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

//! The lender by example.

use crate::budget::calendar::Span;
use crate::instance::protocol_tests::{Instance, Side};

fn policy(rest: &str) -> String {
    format!(r#"{{"scope":"instance",{rest}}}"#)
}

/// How many of so many calls pass, by tenants in turn.
fn passed(world: &mut Instance, tenants: usize, calls: usize) -> usize {
    (0..calls).filter(|turn| world.call_through(turn * 7 % tenants, 0)).count()
}

#[test]
fn exactly_as_many_calls_are_allowed_as_the_limit_says() {
    for (limit, tenants) in [(0, 50), (1, 50), (7, 50), (100, 50), (1_000, 50), (400, 150)] {
        let limits = format!(r#""limits":{{"maxCallsPerDay":{limit}}}"#);
        let mut world = Instance::new(&policy(&limits), tenants, limit as u64);
        assert_eq!(passed(&mut world, tenants, limit + 200), limit);
    }
}

#[test]
fn a_busy_tenant_asks_rarely() {
    let mut world = Instance::new(&policy(r#""limits":{"maxCallsPerDay":10000}"#), 2, 10_000);
    let before = world.lender.tenant.seq();
    assert_eq!((0..10_000).filter(|_| world.call_through(0, 0)).count(), 10_000);
    let asked = world.lender.tenant.seq() - before;
    assert!(asked < 200, "{asked} grants");
}

#[test]
fn what_is_left_of_a_slice_comes_back_when_it_ends() {
    let mut world = Instance::new(&policy(r#""limits":{"maxCallsPerMonth":160}"#), 2, 160);
    assert_eq!(passed(&mut world, 1, 1), 1);
    let held = |world: &Instance, span| {
        let policy = &world.lender.tenant.policies()[0];
        world.lender.tenant.calls_lent(policy, span, world.now)
    };
    assert_eq!((held(&world, Span::Day), held(&world, Span::Month)), (10, 10));
    world.now = world.now.plus_millis(86_400_000);
    // It is not in the new day, and may still be in the month.
    assert_eq!((held(&world, Span::Day), held(&world, Span::Month)), (0, 10));
    let others = (0..200).filter(|_| world.call_through(1, 0)).count();
    assert_eq!(others, 159);
}

#[test]
fn limits_for_a_while_end_slices_too() {
    let until = "2026-03-01T11:00:00Z";
    let limits = format!(
        r#""limits":{{"maxCallsPerDay":5}},"temporary":{{"limits":{{"maxCallsPerDay":1000}},"until":"{until}"}}"#
    );
    let mut world = Instance::new(&policy(&limits), 3, 1_000);
    assert_eq!(passed(&mut world, 3, 4), 4);
    world.now = world.now.plus_millis(60 * 60_000);
    assert_eq!(passed(&mut world, 3, 9), 1);
}

#[test]
fn windows_of_a_zone_are_in_the_events() {
    let limits = r#""limits":{"maxCallsPerDay":5,"maxCallsPerHour":3},"timeZone":"Asia/Kolkata""#;
    let mut world = Instance::new(&policy(limits), 2, 5);
    // It is 15:50 there.
    assert_eq!(passed(&mut world, 2, 9), 3);
    world.now = world.now.plus_millis(10 * 60_000);
    assert_eq!(passed(&mut world, 2, 9), 2);
    world.now = world.now.plus_millis(8 * 60 * 60_000);
    assert_eq!(passed(&mut world, 2, 9), 3, "it is another day there");
    world.lender.check_replay();
    world.tenants.iter().for_each(Side::check_replay);
}

//! The lender by example.

use crate::instance::protocol_tests::Instance;

#[test]
fn exactly_as_many_calls_are_allowed_as_the_limit_says() {
    for limit in [0u64, 1, 7, 100, 1_000] {
        let policy = format!(r#"{{"scope":"instance","limits":{{"maxCallsPerDay":{limit}}}}}"#);
        let mut world = Instance::new(&policy, 50, limit);
        let allowed =
            (0..limit + 100).filter(|turn| world.call_through(usize::try_from(turn * 7 % 50).unwrap(), 0)).count();
        assert_eq!(u64::try_from(allowed).unwrap(), limit);
    }
}

#[test]
fn a_busy_tenant_asks_rarely() {
    let mut world = Instance::new(r#"{"scope":"instance","limits":{"maxCallsPerDay":10000}}"#, 2, 10_000);
    let before = world.lender.tenant.seq();
    assert_eq!((0..10_000).filter(|_| world.call_through(0, 0)).count(), 10_000);
    let asked = world.lender.tenant.seq() - before;
    assert!(asked < 200, "{asked} grants");
}

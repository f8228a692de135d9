//! What is foreseen is what a call gets, and foreseeing takes nothing from anybody.

use std::collections::BTreeSet;

use proptest::prelude::*;

use crate::instance::prospect::Prospect;
use crate::instance::protocol_tests::{Instance, Side};

const TENANTS: usize = 4;

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_is_foreseen_is_what_a_call_gets(
        steps in prop::collection::vec((0..TENANTS, 0..12u64, 0..40i64, any::<bool>()), 1..80),
    ) {
        let limits = r#"{"scope":"instance","limits":{"maxTokensCostPerDay":0.00016,"maxCallsPerHour":24}}"#;
        let mut world = Instance::new(limits, TENANTS, 24);
        for (tenant, cost, minutes, asks) in steps {
            world.now = world.now.plus_millis(minutes * 60_000 / 4);
            if !asks {
                world.call_through(tenant, cost);
                continue;
            }
            let before: Vec<_> = world.tenants.iter().map(|side| side.tenant.seq()).collect();
            let foreseen = world.foreseen(tenant, cost, true);
            prop_assert_eq!(before, world.tenants.iter().map(|side| side.tenant.seq()).collect::<Vec<_>>());
            let passes = world.call_through(tenant, cost);
            match foreseen {
                Prospect::Fits => prop_assert!(passes),
                Prospect::Exhausted { .. } => prop_assert!(!passes),
                Prospect::Depends => prop_assert!(false, "everybody told"),
            }
        }
        world.lender.check_replay();
        world.tenants.iter().for_each(Side::check_replay);
    }
}

#[test]
fn what_others_hold_decides_only_if_they_tell() {
    let mut world = Instance::new(r#"{"scope":"instance","limits":{"maxCallsPerDay":16}}"#, 3, 16);
    // The first holds what the second would need.
    let held = (0..16).take_while(|_| world.call_through(0, 0)).count();
    assert_eq!(held, 16);
    assert_eq!(world.foreseen(1, 0, false), Prospect::Depends);
    let Prospect::Exhausted { fits_at } = world.foreseen(1, 0, true) else { panic!("all is spent") };
    assert!(fits_at.is_some_and(|fits_at| fits_at > world.now));
    // The lender remembers what it was told.
    assert!(matches!(world.foreseen(2, 0, false), Prospect::Exhausted { .. }));
}

#[test]
fn nothing_is_lent_by_asking() {
    let mut world = Instance::new(r#"{"scope":"instance","limits":{"maxCallsPerDay":1}}"#, 3, 1);
    let before = world.lender.tenant.seq();
    let all: BTreeSet<_> = (0..30).map(|turn| world.foreseen(turn % 3, 0, true) == Prospect::Fits).collect();
    assert_eq!((all, world.lender.tenant.seq()), (BTreeSet::from([true]), before));
    assert!(world.call_through(2, 0) && !world.call_through(0, 0));
}

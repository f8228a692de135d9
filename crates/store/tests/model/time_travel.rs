//! Budgets at the borders of days, months and years, with the time as an argument.

use kavach_domain::Code;
use kavach_domain::budget::counts::Period;
use kavach_domain::budget::policy::PolicyStatus;

use super::ledger::{Ledger, at};

/// A ledger at that time with one agent of `ann`.
fn start(text: &str) -> (Ledger, kavach_domain::AgentId) {
    let mut ledger = Ledger::start(at(text));
    let agent = ledger.agent("ann");
    (ledger, agent)
}

#[test]
fn every_border_gives_a_new_day_and_only_a_months_end_a_new_month() {
    for (last, first, new_month) in [
        // An ordinary midnight, and one in a leap year's February that ends no month.
        ("2026-05-14T23:59:59.999Z", "2026-05-15T00:00:00Z", false),
        ("2024-02-28T23:59:59.999Z", "2024-02-29T00:00:00Z", false),
        // Months of 28, 29, 30 and 31 days; centuries with a leap day and without; a year's end.
        ("2023-02-28T23:59:59.999Z", "2023-03-01T00:00:00Z", true),
        ("2024-02-29T23:59:59.999Z", "2024-03-01T00:00:00Z", true),
        ("2000-02-29T23:59:59.999Z", "2000-03-01T00:00:00Z", true),
        ("2100-02-28T23:59:59.999Z", "2100-03-01T00:00:00Z", true),
        ("2026-04-30T23:59:59.999Z", "2026-05-01T00:00:00Z", true),
        ("2026-07-31T23:59:59.999Z", "2026-08-01T00:00:00Z", true),
        ("2026-12-31T23:59:59.999Z", "2027-01-01T00:00:00Z", true),
    ] {
        let (mut ledger, agent) = start(last);
        let day = ledger.policy(r#"{"limits":{"maxCallsPerDay":1}}"#);
        let month = ledger.policy(r#"{"limits":{"maxTokensCostPerMonth":0.5},"action":"throttle"}"#);
        assert!(ledger.call(agent, Some("0.5")).allowed, "{last}");
        let denied = ledger.call(agent, None);
        assert_eq!((denied.policy_id, denied.retry_after), (Some(day), Some(1)), "{last}");
        assert_eq!(ledger.view(month).status, PolicyStatus::Triggered, "{last}");
        ledger.compare();
        // Midnight itself triggers nothing.
        ledger.go_to(first);
        assert_eq!(ledger.view(day).status, PolicyStatus::Active, "{first}");
        let status = if new_month { PolicyStatus::Active } else { PolicyStatus::Triggered };
        assert_eq!(ledger.view(month).status, status, "{first}");
        ledger.compare();
        let decision = ledger.call(agent, None);
        assert_eq!(decision.allowed, new_month, "{first}");
        assert_eq!(decision.policy_id, (!new_month).then_some(month), "{first}");
        ledger.compare();
        ledger.compare_replayed();
    }
}

#[test]
fn this_month_next_year_is_another_month() {
    let (mut ledger, agent) = start("2024-02-29T10:00:00Z");
    let policy = ledger.policy(r#"{"limits":{"maxCallsPerMonth":1}}"#);
    assert!(ledger.call(agent, None).allowed);
    assert!(!ledger.call(agent, None).allowed);
    // Years without a call, and then the month and day of an earlier one.
    for time in ["2025-02-28T10:00:00Z", "2028-02-29T10:00:00Z", "2032-02-29T10:00:00Z"] {
        ledger.go_to(time);
        assert_eq!(ledger.counts(policy), ["0", "0", "0", "0"], "{time}");
        assert!(ledger.call(agent, None).allowed, "{time}");
        assert!(!ledger.call(agent, None).allowed, "{time}");
        ledger.compare();
    }
}

#[test]
fn the_day_of_the_month_is_another_day_in_another_month() {
    let (mut ledger, agent) = start("2026-01-31T10:00:00Z");
    let policy = ledger.policy(r#"{"limits":{"maxCallsPerDay":1}}"#);
    for time in ["2026-01-31T10:00:00Z", "2026-03-31T10:00:00Z", "2027-03-31T10:00:00Z"] {
        ledger.go_to(time);
        assert!(ledger.call(agent, None).allowed, "{time}");
        assert!(!ledger.call(agent, None).allowed, "{time}");
        assert_eq!(ledger.counts(policy), ["1", "1", "0", "0"], "{time}");
    }
}

#[test]
fn seconds_to_reset_are_exact_at_the_border() {
    let (mut ledger, agent) = start("2024-02-28T00:00:00Z");
    let day = ledger.policy(r#"{"limits":{"maxCallsPerDay":0}}"#);
    let retry = |ledger: &mut Ledger, time: &str| {
        ledger.go_to(time);
        let denied = ledger.call(agent, None);
        assert_eq!(denied.code, Some(Code::BudgetExceeded));
        (denied.policy_id.unwrap(), denied.retry_after.unwrap())
    };
    assert_eq!(retry(&mut ledger, "2024-02-28T00:00:00Z"), (day, 86_400));
    assert_eq!(retry(&mut ledger, "2024-02-28T00:00:00.001Z"), (day, 86_400), "a part of a second counts whole");
    assert_eq!(retry(&mut ledger, "2024-02-28T00:00:01Z"), (day, 86_399));
    assert_eq!(retry(&mut ledger, "2024-02-28T23:59:58.999Z"), (day, 2));
    assert_eq!(retry(&mut ledger, "2024-02-28T23:59:59Z"), (day, 1));
    ledger.delete(day).unwrap();
    let month = ledger.policy(r#"{"limits":{"maxTokensCostPerMonth":0},"action":"throttle"}"#);
    assert_eq!(retry(&mut ledger, "2024-02-28T23:59:59Z"), (month, 86_401), "the leap day is still to come");
    assert_eq!(retry(&mut ledger, "2024-02-29T23:59:59.999Z"), (month, 1));
    assert_eq!(retry(&mut ledger, "2024-03-01T00:00:00Z"), (month, 31 * 86_400));
    assert_eq!(retry(&mut ledger, "2024-12-31T23:59:59.001Z"), (month, 1));
    assert_eq!(retry(&mut ledger, "2025-02-01T00:00:00Z"), (month, 28 * 86_400));
    // After the announced seconds the call goes through: a limit of one, tried at each edge of a second.
    ledger.delete(month).unwrap();
    for edge in ["2025-03-31T23:59:57.001Z", "2025-04-02T12:00:00Z", "2025-04-03T12:00:00.999Z"] {
        let one = ledger.policy(r#"{"limits":{"maxCallsPerDay":1}}"#);
        ledger.go_to(edge);
        assert!(ledger.call(agent, None).allowed);
        let wait = ledger.call(agent, None).retry_after.unwrap() as i64;
        ledger.clock = at(edge).plus_millis((wait - 1) * 1_000);
        assert!(!ledger.call(agent, None).allowed, "{edge}: not a second earlier");
        ledger.clock = at(edge).plus_millis(wait * 1_000);
        assert!(ledger.call(agent, None).allowed, "{edge}");
        ledger.delete(one).unwrap();
    }
    ledger.compare();
}

#[test]
fn of_several_limits_the_longest_decides_the_retry() {
    let (mut ledger, agent) = start("2026-06-10T12:00:00Z");
    let policy = ledger.policy(r#"{"limits":{"maxCallsPerDay":0,"maxTokensCostPerDay":0,"maxCallsPerMonth":0}}"#);
    let denied = ledger.call(agent, Some("1"));
    assert_eq!((denied.policy_id, denied.retry_after), (Some(policy), Some(20 * 86_400 + 43_200)));
    assert!(denied.reason.as_ref().unwrap().starts_with("Budget maxCallsPerMonth of policy pol_"), "{denied:?}");
    ledger.compare();
}

const RIGHT: &str = "2026-03-30T03:00:00Z";
const WRONG: &str = "2090-01-15T12:00:00Z";

/// Time goes forward in the trail whatever the clock does, and replay agrees.
fn check_order(ledger: &Ledger) {
    let times: Vec<_> = ledger.trail.iter().map(|entry| entry.at).collect();
    assert!(times.is_sorted(), "{times:?}");
    ledger.compare();
    ledger.compare_replayed();
}

#[test]
fn a_clock_that_flaps_over_midnight_grants_no_day_twice() {
    let (mut ledger, agent) = start("2026-03-31T23:59:00Z");
    let day = ledger.policy(r#"{"limits":{"maxCallsPerDay":2}}"#);
    let month = ledger.policy(r#"{"limits":{"maxCallsPerMonth":3}}"#);
    let (before, after) = ("2026-03-31T23:59:30Z", "2026-04-01T00:00:30Z");
    let mut granted = [0; 2];
    for _ in 0..5 {
        for (place, time) in [(0, before), (1, after)] {
            ledger.go_to(time);
            assert_eq!(ledger.now(), at(time));
            for _ in 0..3 {
                granted[place] += u64::from(ledger.call(agent, None).allowed);
            }
            ledger.compare();
        }
    }
    assert_eq!(granted, [2, 2]);
    assert_eq!((&*ledger.counts(day)[0], &*ledger.counts(month)[1]), ("2", "2"));
    check_order(&ledger);
    ledger.restore();
    ledger.go_to(before);
    assert_eq!(ledger.counts(day)[0], "4", "what was used ahead counts too");
    // The next day is a new one.
    ledger.go_to("2026-04-02T00:00:00Z");
    assert!(ledger.call(agent, None).allowed);
    assert!(!ledger.call(agent, None).allowed, "the month's limit");
    check_order(&ledger);
}

#[test]
fn small_steps_back_are_waited_out() {
    let (mut ledger, agent) = start("2026-04-01T00:00:05Z");
    let day = ledger.policy(r#"{"limits":{"maxCallsPerDay":1}}"#);
    assert!(ledger.call(agent, None).allowed);
    ledger.go_to("2026-03-31T23:59:56Z");
    assert_eq!(ledger.now(), at("2026-04-01T00:00:05Z"));
    assert!(!ledger.call(agent, None).allowed);
    assert_eq!(ledger.counts(day)[0], "1");
    check_order(&ledger);
}

#[test]
fn a_clock_once_years_ahead_leaves_todays_count_alone() {
    let (mut ledger, agent) = start(RIGHT);
    let day = ledger.policy(r#"{"limits":{"maxCallsPerDay":4}}"#);
    assert!(ledger.call(agent, None).allowed);
    ledger.go_to(WRONG);
    assert!(ledger.call(agent, None).allowed);
    assert_eq!(ledger.counts(day)[..2], ["1", "1"], "a day of its own");
    ledger.go_to(RIGHT);
    assert_eq!(ledger.counts(day)[..2], ["2", "2"], "it was made by now");
    for restart in [false, true] {
        if restart {
            ledger.restore();
        }
        assert_eq!(ledger.now(), at(RIGHT));
        assert!(ledger.call(agent, None).allowed);
    }
    let denied = ledger.call(agent, None);
    assert_eq!((denied.code, denied.retry_after), (Some(Code::BudgetExceeded), Some(21 * 3_600)));
    check_order(&ledger);
    // However often it flaps, this day is not granted again, and the other one only once.
    let mut ahead = 1;
    for _ in 0..10 {
        ledger.go_to(WRONG);
        ahead += u32::from(ledger.call(agent, None).allowed);
        ledger.go_to(RIGHT);
        assert!(!ledger.call(agent, None).allowed);
    }
    assert_eq!(ahead, 4);
    for time in ["2026-03-31T00:00:00Z", "2026-04-01T12:00:00Z"] {
        ledger.go_to(time);
        for call in 0..4 {
            assert!(ledger.call(agent, None).allowed, "{time}, call {call}");
        }
        assert!(!ledger.call(agent, None).allowed, "{time}");
        check_order(&ledger);
    }
}

#[test]
fn first_use_under_a_wrong_clock_counts_in_the_right_clocks_day() {
    let (mut ledger, agent) = start(RIGHT);
    ledger.policy(r#"{"limits":{"maxCallsPerDay":1}}"#);
    // Nothing was used of that day yet. The clock is right only days later.
    ledger.go_to(WRONG);
    assert!(ledger.call(agent, None).allowed);
    ledger.go_to("2026-04-02T08:00:00Z");
    assert!(!ledger.call(agent, None).allowed, "it may have been made today");
    ledger.go_to("2026-04-03T00:00:00Z");
    assert!(ledger.call(agent, None).allowed);
    check_order(&ledger);
}

#[test]
fn a_tenant_that_an_older_version_left_years_ahead_follows_the_clock_again() {
    let (mut ledger, agent) = start(WRONG);
    let day = ledger.policy(r#"{"limits":{"maxCallsPerDay":1,"maxTokensCostPerMonth":5}}"#);
    assert!(ledger.call(agent, Some("5")).allowed);
    assert!(!ledger.call(agent, None).allowed);
    // The snapshot knows no other day.
    ledger.restore();
    ledger.go_to(RIGHT);
    assert_eq!((ledger.now(), ledger.tenant.time()), (at(RIGHT), at(WRONG)));
    assert_eq!(ledger.counts(day), ["0", "0", "0", "0"]);
    assert!(ledger.call(agent, Some("1")).allowed);
    assert!(!ledger.call(agent, None).allowed);
    for time in ["2026-03-31T00:00:00Z", "2026-04-01T00:00:00Z"] {
        ledger.go_to(time);
        assert!(ledger.call(agent, Some("1")).allowed, "{time}");
        assert!(!ledger.call(agent, None).allowed, "{time}");
    }
    assert_eq!(ledger.counts(day), ["1", "1", "1", "1"]);
    let times: Vec<_> = ledger.trail.iter().map(|entry| entry.at).collect();
    assert!(times.is_sorted());
}

#[test]
fn a_settlement_gives_back_to_the_day_that_the_clock_showed() {
    let limits = r#"{"limits":{"maxTokensCostPerDay":1000}}"#;
    let (mut ledger, agent) = start(WRONG);
    ledger.go_to(RIGHT);
    let policy = ledger.policy(limits);
    let id = ledger.call(agent, Some("10")).audit_id.unwrap();
    ledger.settle(agent, id, "3").unwrap();
    assert_eq!(ledger.counts(policy)[2..], ["3", "3"]);
    let id = ledger.call(agent, Some("10")).audit_id.unwrap();
    ledger.go_to(WRONG);
    ledger.settle(agent, id, "3").unwrap();
    assert_eq!(ledger.counts(policy)[2..], ["0", "0"], "it was not charged there");
    check_order(&ledger);
}

#[test]
fn a_settlement_goes_to_the_windows_that_are_open() {
    let limits = r#"{"limits":{"maxTokensCostPerDay":1000}}"#;
    // The decision at the first time, its settlement at the second; cost of the day and the month after each.
    for (decided, settled, lower, higher) in [
        ("2026-05-14T10:00:00Z", "2026-05-14T23:59:59.999Z", ["3", "3"], ["15", "15"]),
        ("2026-05-14T23:59:59.999Z", "2026-05-15T00:00:00Z", ["0", "3"], ["5", "15"]),
        ("2026-05-31T23:59:59.999Z", "2026-06-01T00:00:00Z", ["0", "0"], ["5", "5"]),
        ("2024-02-29T23:00:00Z", "2024-03-01T01:00:00Z", ["0", "0"], ["5", "5"]),
        ("2026-12-31T23:59:59Z", "2027-01-01T00:00:00Z", ["0", "0"], ["5", "5"]),
        // An equal day of another month, and an equal month of another year, are different windows.
        ("2026-05-14T10:00:00Z", "2026-06-14T10:00:00Z", ["0", "0"], ["5", "5"]),
        ("2026-05-14T10:00:00Z", "2027-05-14T10:00:00Z", ["0", "0"], ["5", "5"]),
    ] {
        for (cost, expected) in [("3", lower), ("15", higher)] {
            let (mut ledger, agent) = start(decided);
            let policy = ledger.policy(limits);
            let id = ledger.call(agent, Some("10")).audit_id.unwrap();
            assert_eq!(ledger.counts(policy), ["1", "1", "10", "10"]);
            ledger.go_to(settled);
            let first = ledger.settle(agent, id, cost).unwrap();
            assert_eq!(ledger.counts(policy)[2..], expected, "{decided} {settled} {cost}");
            // A repeat changes nothing, whenever it comes.
            for time in [settled, "2030-01-01T00:00:00Z"] {
                ledger.go_to(time);
                let (count, before) = (ledger.trail.len(), ledger.counts(policy));
                assert_eq!(ledger.settle(agent, id, cost).unwrap(), first);
                assert_eq!(ledger.settle(agent, id, "10"), Err(Code::AlreadySettled));
                assert_eq!((ledger.trail.len(), ledger.counts(policy)), (count, before));
            }
            ledger.compare();
            ledger.compare_replayed();
        }
    }
}

#[test]
fn a_refund_on_another_day_takes_nothing_from_that_days_cost() {
    let (mut ledger, agent) = start("2026-05-31T23:00:00Z");
    let policy = ledger.policy(r#"{"limits":{"maxTokensCostPerDay":20,"maxTokensCostPerMonth":20}}"#);
    let id = ledger.call(agent, Some("10")).audit_id.unwrap();
    ledger.go_to("2026-06-01T01:00:00Z");
    assert!(ledger.call(agent, Some("8")).allowed);
    ledger.settle(agent, id, "0").unwrap();
    assert_eq!(ledger.counts(policy), ["1", "1", "8", "8"]);
    // The excess counts as spent now, although the call was in May. It may pass the limit, for the money is spent.
    let id = ledger.call(agent, Some("2")).audit_id.unwrap();
    ledger.settle(agent, id, "13.000001").unwrap();
    assert_eq!(ledger.counts(policy), ["2", "2", "21.000001", "21.000001"]);
    assert_eq!(ledger.view(policy).status, PolicyStatus::Triggered);
    assert!(!ledger.call(agent, None).allowed);
    ledger.compare();
}

#[test]
fn a_reset_closes_the_windows_it_empties() {
    for (period, lower) in [(Period::Day, ["2", "6"]), (Period::Month, ["6", "2"]), (Period::All, ["2", "2"])] {
        let (mut ledger, agent) = start("2026-05-14T10:00:00Z");
        let policy = ledger.policy(r#"{"limits":{"maxTokensCostPerDay":100}}"#);
        let (down, up) = (ledger.call(agent, Some("10")), ledger.call(agent, Some("1")));
        ledger.reset(policy, period).unwrap();
        assert!(ledger.call(agent, Some("2")).allowed);
        // The reset cleared the estimate, so nothing is given back; only the excess is charged now.
        ledger.settle(agent, down.audit_id.unwrap(), "3").unwrap();
        assert_eq!(ledger.counts(policy)[2..], lower, "{period:?}");
        ledger.settle(agent, up.audit_id.unwrap(), "1.5").unwrap();
        let more = lower.map(|text| format!("{text}.5"));
        assert_eq!(ledger.counts(policy)[2..], more, "{period:?}");
        ledger.restore();
        ledger.compare();
        ledger.compare_replayed();
    }
}

#[test]
fn nothing_goes_below_zero_and_nothing_wraps() {
    let (mut ledger, agent) = start("2026-05-14T10:00:00Z");
    let most = "1000000000000";
    let policy = ledger.policy(r#"{"limits":{"maxTokensCostPerDay":1000000000000},"action":"warn"}"#);
    for _ in 0..25 {
        ledger.call(agent, Some(most));
    }
    let usage = ledger.view(policy).policy.usage;
    assert_eq!(usage.day.open.cost.millionths(), u64::MAX, "it stays at the most there is");
    assert_eq!(ledger.view(policy).status, PolicyStatus::Triggered);
    // Calls of 2^64 in all.
    let other = ledger.policy(r#"{"limits":{"maxCallsPerMonth":18446744073709551615}}"#);
    assert_eq!(ledger.view(other).status, PolicyStatus::Active);
    assert!(ledger.used(agent, 1_000_000_001, "0").is_err());
    ledger.used(agent, 1_000_000_000, "0").unwrap();
    assert_eq!(ledger.counts(other)[0], "1000000000");
    ledger.compare();
}

#[test]
fn a_disabled_policy_keeps_counting_and_stops_nothing() {
    let (mut ledger, agent) = start("2026-05-14T10:00:00Z");
    let policy = ledger.policy(r#"{"limits":{"maxCallsPerDay":1}}"#);
    assert!(ledger.call(agent, None).allowed);
    assert!(!ledger.call(agent, None).allowed);
    ledger.patch(policy, r#"{"status":"disabled"}"#).unwrap();
    assert_eq!(ledger.view(policy).status, PolicyStatus::Disabled);
    assert!(ledger.call(agent, None).allowed);
    assert!(ledger.call(agent, None).warnings.is_empty());
    assert_eq!(ledger.counts(policy), ["3", "3", "0", "0"]);
    ledger.patch(policy, r#"{"status":"active"}"#).unwrap();
    assert_eq!(ledger.view(policy).status, PolicyStatus::Triggered);
    assert!(!ledger.call(agent, None).allowed);
    ledger.go_to("2026-05-15T00:00:00Z");
    assert!(ledger.call(agent, None).allowed);
    ledger.compare();
}

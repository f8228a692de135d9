//! Random histories of budgets, compared after every step with [`super::recount`].

use kavach_domain::budget::calendar::Span;
use kavach_domain::budget::counts::Period;
use kavach_domain::{AgentId, AuditId, Code, PolicyId, TenantTag, Timestamp};
use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::select;

use super::ledger::{Ledger, at};
use super::recount::{self, HoldState, TrailEntry};

const OWNERS: [&str; 3] = ["ann", "bob", "cid"];

/// The JSON of limits, in the order of [`recount::LIMITS`].
type Max = [Option<&'static str>; 10];

#[derive(Clone, Debug)]
enum BudgetStep {
    Clock(Jump),
    Agent(usize),
    Owner(usize, usize),
    Labels(usize, &'static str),
    Revoke(usize),
    Create {
        agent: Option<usize>,
        owner: Option<usize>,
        limits: Max,
        terms: Terms,
        scope: [Option<&'static str>; 3],
        action: &'static str,
    },
    Patch {
        policy: usize,
        limits: Max,
        terms: Terms,
        action: Option<&'static str>,
        status: Option<&'static str>,
    },
    Delete(usize),
    Reset(usize, Period),
    ResetAll(Period),
    Call {
        agent: usize,
        allowed: bool,
        resource: &'static str,
        cost: Option<&'static str>,
        /// Seconds to hold the cost for.
        hold: Option<u64>,
        times: usize,
    },
    Release {
        decision: usize,
        times: usize,
    },
    Extend {
        decision: usize,
        seconds: u64,
    },
    Used {
        agent: usize,
        calls: u64,
        cost: &'static str,
    },
    Settle {
        decision: usize,
        other_agent: bool,
        cost: &'static str,
        times: usize,
    },
    Restore,
}

/// A policy's calendar and what holds for a while.
#[derive(Clone, Debug)]
struct Terms {
    zone: Option<&'static str>,
    week: Option<&'static str>,
    month: Option<u8>,
    /// Limits and for how many milliseconds; `Some(None)` ends them.
    temporary: Option<Option<(Max, i64)>>,
}

#[derive(Clone, Copy, Debug)]
enum Jump {
    By(i64),
    /// To that many milliseconds from the next midnight, of a day or of a month.
    Midnight(i64),
    Month(i64),
}

fn histories() -> impl Strategy<Value = (&'static str, Vec<BudgetStep>)> {
    let starts = [
        "2024-02-28T22:00:00Z",
        "2023-02-28T23:59:59.990Z",
        "2026-12-31T23:00:00Z",
        "2026-04-30T12:00:00Z",
        "2100-02-28T23:59:00Z",
        // Clocks are set: in Sao Paulo and Cairo at midnight, on Lord Howe by half an hour, in Berlin.
        "2018-11-03T20:00:00Z",
        "2024-04-25T12:00:00Z",
        "2026-10-03T10:00:00Z",
        "2026-10-24T20:00:00Z",
    ];
    (select(starts.to_vec()), vec(step(), 1..120))
}

fn step() -> impl Strategy<Value = BudgetStep> {
    let index = 0..64_usize;
    let owner = 0..OWNERS.len();
    let times = prop_oneof![4 => Just(1_usize), 1 => 2..5_usize];
    let actions = vec!["warn", "throttle", "block", "block", "revoke"];
    let periods = vec![Period::Hour, Period::Day, Period::Week, Period::Month, Period::Total, Period::All];
    let labels = vec!["null", r#"{"team":"a"}"#, r#"{"team":"b","env":"p"}"#];
    prop_oneof![
        14 => clock().prop_map(BudgetStep::Clock),
        2 => owner.clone().prop_map(BudgetStep::Agent),
        3 => (index.clone(), owner.clone()).prop_map(|(agent, owner)| BudgetStep::Owner(agent, owner)),
        4 => (index.clone(), select(labels)).prop_map(|(agent, labels)| BudgetStep::Labels(agent, labels)),
        1 => index.clone().prop_map(BudgetStep::Revoke),
        9 => (weighted(0.3, index.clone()), weighted(0.3, owner), limits(), terms(), scope(), select(actions.clone()))
            .prop_map(|(agent, owner, limits, terms, scope, action)| {
                BudgetStep::Create { agent, owner, limits, terms, scope, action }
            }),
        6 => (
            index.clone(),
            patch(),
            terms(),
            weighted(0.3, select(actions)),
            weighted(0.5, select(vec!["active", "disabled"])),
        )
            .prop_map(|(policy, limits, terms, action, status)| {
                BudgetStep::Patch { policy, limits, terms, action, status }
            }),
        2 => index.clone().prop_map(BudgetStep::Delete),
        4 => (index.clone(), select(periods.clone())).prop_map(|(policy, period)| BudgetStep::Reset(policy, period)),
        1 => select(periods).prop_map(BudgetStep::ResetAll),
        40 => (
            index.clone(),
            prop::bool::weighted(0.9),
            select(vec!["docs:1", "docs:2", "docs:a:b"]),
            weighted(0.7, cost()),
            weighted(0.4, seconds()),
            times.clone(),
        )
            .prop_map(|(agent, allowed, resource, cost, hold, times)| {
                BudgetStep::Call { agent, allowed, resource, cost, hold, times }
            }),
        7 => (index.clone(), times.clone()).prop_map(|(decision, times)| BudgetStep::Release { decision, times }),
        5 => (index.clone(), seconds()).prop_map(|(decision, seconds)| BudgetStep::Extend { decision, seconds }),
        6 => (index.clone(), 0..3_u64, cost()).prop_map(|(agent, calls, cost)| BudgetStep::Used { agent, calls, cost }),
        20 => (index, prop::bool::weighted(0.1), cost(), times)
            .prop_map(|(decision, other_agent, cost, times)| BudgetStep::Settle { decision, other_agent, cost, times }),
        1 => Just(BudgetStep::Restore),
    ]
}

fn clock() -> impl Strategy<Value = Jump> {
    let by = [1, 999, 60_000, 3_600_000, 86_400_000, 31 * 86_400_000, 366 * 86_400_000];
    let back = [-1, -60_000, -86_400_000, -31 * 86_400_000];
    let years = 64 * 366 * 86_400_000;
    prop_oneof![
        5 => select(by.to_vec()).prop_map(Jump::By),
        2 => select(back.to_vec()).prop_map(Jump::By),
        2 => select(vec![years, -years]).prop_map(Jump::By),
        2 => (-1..2_i64).prop_map(Jump::Midnight),
        2 => (-1..2_i64).prop_map(Jump::Month),
    ]
}

fn cost() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        30 => select(vec!["0", "0.000001", "0.3", "0.5", "0.7", "0.999999", "1", "2.5"]),
        1 => Just("999999999999.999999"),
    ]
}

fn terms() -> impl Strategy<Value = Terms> {
    let zones = vec![
        "UTC",
        "Asia/Kolkata",
        "Australia/Lord_Howe",
        "America/Sao_Paulo",
        "Africa/Cairo",
        "Europe/Berlin",
        "America/New_York",
    ];
    let week = weighted(0.2, select(vec!["monday", "wednesday", "sunday"]));
    let until = select(vec![1_i64, 60_000, 3_600_000, 86_400_000, 40 * 86_400_000]);
    let temporary = weighted(0.2, weighted(0.8, (patch(), until)));
    (weighted(0.4, select(zones)), week, weighted(0.2, select(vec![1, 15, 28])), temporary)
        .prop_map(|(zone, week, month, temporary)| Terms { zone, week, month, temporary })
}

/// Labels, resource and actions.
fn scope() -> impl Strategy<Value = [Option<&'static str>; 3]> {
    let labels = weighted(0.3, select(vec![r#"{"team":"a"}"#, r#"{"team":"b","env":"p"}"#, r#"{"env":"p"}"#]));
    let resource = weighted(0.2, select(vec![r#""docs:*""#, r#""docs:2""#, r#""docs:*:b""#, r#""*""#]));
    let actions = weighted(0.2, select(vec![r#"["read"]"#, r#"["write","drop"]"#]));
    (labels, resource, actions).prop_map(|(labels, resource, actions)| [labels, resource, actions])
}

/// Many end with one step of the clock, and some a moment later.
fn seconds() -> impl Strategy<Value = u64> {
    select(vec![1, 60, 3_600, 3_601, 86_400])
}

fn limits() -> impl Strategy<Value = Max> {
    patch().prop_map(|mut limits| {
        if limits.iter().all(|limit| limit.is_none_or(|limit| limit == "null")) {
            limits[0] = Some("2");
        }
        limits
    })
}

fn patch() -> impl Strategy<Value = Max> {
    let calls = |share| weighted(share, select(vec!["0", "1", "2", "3", "5", "8", "null"]));
    let amounts = vec!["0", "0.000001", "0.5", "1", "1.000001", "2", "3.3", "10", "123456789012.123457", "null"];
    let cost = move |share| weighted(share, select(amounts.clone()));
    let plain = (calls(0.4), calls(0.4), cost(0.4), cost(0.4));
    let more = (calls(0.15), calls(0.15), calls(0.15), cost(0.15), cost(0.15), cost(0.15));
    (plain, more).prop_map(|((a, b, c, d), (e, f, g, h, i, j))| [a, b, c, d, e, f, g, h, i, j])
}

/// Members of a policy's JSON, each with a comma before it.
fn terms_json(terms: &Terms, now: Timestamp) -> String {
    let mut json = String::new();
    json += &terms.zone.map_or(String::new(), |zone| format!(",\"timeZone\":\"{zone}\""));
    json += &terms.week.map_or(String::new(), |day| format!(",\"weekStartsOn\":\"{day}\""));
    json += &terms.month.map_or(String::new(), |day| format!(",\"monthStartsOn\":{day}"));
    json += &match terms.temporary {
        Some(Some((limits, length))) if limits.iter().any(Option::is_some) => {
            let until = now.plus_millis(length);
            format!(",\"temporary\":{{\"limits\":{},\"until\":\"{until}\"}}", limits_json(limits))
        }
        Some(None) => ",\"temporary\":null".to_owned(),
        _ => String::new(),
    };
    json
}

fn limits_json(limits: [Option<&str>; 10]) -> String {
    let names = recount::LIMITS.map(|(name, _, _)| name);
    let given = names.iter().zip(limits).filter_map(|(name, limit)| Some(format!("\"{name}\":{}", limit?)));
    format!("{{{}}}", given.collect::<Vec<_>>().join(","))
}

fn config() -> ProptestConfig {
    let cases = std::env::var("KAVACH_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(100);
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 4_000, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]
    #[test]
    fn budgets_equal_the_sums_of_the_trail((start, history) in histories()) {
        let mut ledger = Ledger::start(at(start));
        ledger.agent(OWNERS[0]);
        ledger.agent(OWNERS[1]);
        for step in &history {
            play(&mut ledger, step);
            ledger.compare();
        }
        ledger.compare_replayed();
    }
}

fn play(ledger: &mut Ledger, step: &BudgetStep) {
    let agent_of = |ledger: &Ledger, index: usize| ledger.agents[index % ledger.agents.len()];
    match step {
        BudgetStep::Clock(jump) => {
            // From the tenant's own time, so that it hits borders exactly even after a step back.
            let now = ledger.now();
            ledger.clock = match jump {
                Jump::By(by) => ledger.clock.plus_millis(*by),
                Jump::Midnight(off) => now.plus_millis(Span::Day.utc(now).end - now.millis() + off),
                Jump::Month(off) => now.plus_millis(Span::Month.utc(now).end - now.millis() + off),
            };
        }
        BudgetStep::Agent(owner) => drop(ledger.agent(OWNERS[*owner])),
        BudgetStep::Owner(agent, owner) => {
            let agent = agent_of(ledger, *agent);
            let revoked = recount::is_revoked(&ledger.trail, &agent.to_string());
            let found = ledger.give_to(agent, OWNERS[*owner]);
            assert_eq!(found, if revoked { Err(Code::AgentIsRevoked) } else { Ok(()) });
        }
        BudgetStep::Labels(agent, labels) => {
            let agent = agent_of(ledger, *agent);
            let revoked = recount::is_revoked(&ledger.trail, &agent.to_string());
            let found = ledger.change_agent(agent, &format!("{{\"labels\":{labels}}}"));
            assert_eq!(found, if revoked { Err(Code::AgentIsRevoked) } else { Ok(()) });
        }
        BudgetStep::Revoke(agent) => {
            // Most revocations are left to the policies.
            if ledger.agents.len() > 2 {
                ledger.revoke(agent_of(ledger, *agent));
            }
        }
        BudgetStep::Create { agent, owner, limits, terms, scope, action } => {
            let agent = agent.map_or("null".to_owned(), |agent| format!("\"{}\"", agent_of(ledger, agent)));
            let owner = owner.map_or("null".to_owned(), |owner| format!("\"{}\"", OWNERS[owner]));
            let limits = limits_json(*limits);
            let mut json =
                format!("{{\"agentId\":{agent},\"userId\":{owner},\"limits\":{limits},\"action\":\"{action}\"");
            json += &terms_json(terms, ledger.now());
            for (name, value) in ["labels", "resource", "actions"].iter().zip(scope) {
                json += &value.map_or(String::new(), |value| format!(",\"{name}\":{value}"));
            }
            ledger.policy(&(json + "}"));
        }
        BudgetStep::Patch { policy, limits, terms, action, status } => {
            let (id, known) = policy_of(ledger, *policy);
            let mut json = format!("{{\"limits\":{}", limits_json(*limits));
            json += &terms_json(terms, ledger.now());
            for (name, value) in [("action", action), ("status", status)] {
                json += &value.map_or(String::new(), |value| format!(",\"{name}\":\"{value}\""));
            }
            match ledger.patch(id, &(json + "}")) {
                Ok(()) => assert!(known),
                // It would have cleared the last limit.
                Err(Code::InvalidField) => assert!(known && limits.contains(&Some("null"))),
                Err(code) => assert_eq!((code, known), (Code::PolicyNotFound, false)),
            }
        }
        BudgetStep::Delete(policy) => {
            let (id, known) = policy_of(ledger, *policy);
            assert_eq!(ledger.delete(id), if known { Ok(()) } else { Err(Code::PolicyNotFound) });
        }
        BudgetStep::Reset(policy, period) => {
            let (id, known) = policy_of(ledger, *policy);
            assert_eq!(ledger.reset(id, *period), if known { Ok(()) } else { Err(Code::PolicyNotFound) });
        }
        BudgetStep::ResetAll(period) => ledger.reset_all(*period),
        BudgetStep::Call { agent, allowed, resource, cost, hold, times } => {
            for _ in 0..*times {
                call(ledger, agent_of(ledger, *agent), *allowed, resource, *cost, hold.filter(|_| cost.is_some()));
            }
        }
        BudgetStep::Release { decision, times } => {
            for _ in 0..*times {
                release(ledger, *decision);
            }
        }
        BudgetStep::Extend { decision, seconds } => extend(ledger, *decision, *seconds),
        BudgetStep::Used { agent, calls, cost } => {
            let agent = agent_of(ledger, *agent);
            let answer = ledger.used(agent, *calls, cost).unwrap();
            assert_eq!((answer.agent_id, answer.calls, answer.r#ref), (agent, *calls, None));
        }
        BudgetStep::Settle { decision, other_agent, cost, times } => {
            for _ in 0..*times {
                settle(ledger, *decision, *other_agent, cost);
            }
        }
        BudgetStep::Restore => ledger.restore(),
    }
}

/// A policy that was ever created, or one that never was.
fn policy_of(ledger: &Ledger, index: usize) -> (PolicyId, bool) {
    let unknown = || PolicyId::derive(Timestamp::from_millis(1), 9_999_999, TenantTag(0));
    let id = ledger.policies.get(index % (ledger.policies.len() + 1)).copied().unwrap_or_else(unknown);
    let has_entry = |action: &str| ledger.trail.iter().any(|e| e.action == action && e.resource == id.to_string());
    (id, has_entry("policy.create") && !has_entry("policy.delete"))
}

fn call(ledger: &mut Ledger, agent: AgentId, allowed: bool, resource: &str, cost: Option<&str>, hold: Option<u64>) {
    let (now, id) = (ledger.now().millis(), agent.to_string());
    let owner = recount::owner(&ledger.trail, &id).unwrap();
    let asked = cost.map_or(0, recount::millionths);
    let action = if allowed { "read" } else { "drop" };
    let pending = TrailEntry::pending(&id, &owner, action, resource, asked);
    let said = recount::verdict(&ledger.trail, &recount::policies(&ledger.trail, now), &pending, now);
    let revoked = recount::is_revoked(&ledger.trail, &id);
    let due = recount::open_holds(&ledger.trail).iter().filter(|(_, until)| *until <= now).count();
    let before = ledger.trail.len() + due;
    let decision = ledger.call_of(action, resource, agent, cost, hold);
    let ends = decision.hold.map(|hold| hold.until.millis());
    assert_eq!(ends, hold.filter(|_| decision.allowed).map(|seconds| now + seconds as i64 * 1_000));
    assert_eq!(ledger.trail.len(), before + 1);
    let (denial, warnings) = match said.split_first() {
        Some((first, rest)) if first.action != "warn" => (Some(first), rest),
        _ => (None, &said[..]),
    };
    let code = match denial {
        _ if revoked => Some(Code::AgentRevoked),
        _ if !allowed => Some(Code::PermissionDenied),
        Some(_) => Some(Code::BudgetExceeded),
        None => None,
    };
    assert_eq!((decision.code, decision.allowed), (code, code.is_none()));
    let denial = denial.filter(|_| code == Some(Code::BudgetExceeded));
    assert_eq!(decision.policy_id.map(|id| id.to_string()), denial.map(|said| said.policy.clone()));
    assert_eq!(decision.retry_after.map(|seconds| seconds as i64), denial.and_then(|said| said.retry_after));
    let expected = if revoked || !allowed { &[] } else { warnings };
    let found: Vec<_> = decision.warnings.iter().map(|warning| warning.policy_id.to_string()).collect();
    assert_eq!(found, expected.iter().map(|said| said.policy.clone()).collect::<Vec<_>>());
    let result = match denial {
        Some(said) if said.action == "throttle" => "rate_limited",
        _ if code.is_some() => "denied",
        _ => "allowed",
    };
    assert_eq!(ledger.trail[before].result, result);
    let revoked = revoked || denial.is_some_and(|said| said.action == "revoke");
    assert_eq!(ledger.tenant.agent(agent).unwrap().profile.revoked, revoked);
}

/// A decision: the newest ones more often than not, since their windows are open.
fn decision_of(ledger: &Ledger, index: usize) -> Option<usize> {
    let is_decision = |place: &usize| ledger.trail[*place].kind == "decision";
    let decisions: Vec<_> = (0..ledger.trail.len()).filter(is_decision).collect();
    decisions.iter().rev().nth(index % decisions.len().clamp(1, 12)).copied()
}

fn release(ledger: &mut Ledger, decision: usize) {
    let Some(place) = decision_of(ledger, decision) else { return };
    let id = ledger.trail[place].id.clone();
    let expected = match recount::hold_state(&ledger.trail, place, ledger.now().millis()) {
        None => Err(Code::HoldNotFound),
        Some(HoldState::Open) => Ok(None),
        Some(HoldState::Released(entry)) => Ok(Some(entry)),
        Some(HoldState::Settled(..) | HoldState::Expired) => Err(Code::HoldEnded),
    };
    ledger.end_due_holds();
    let before = ledger.trail.len();
    let found = ledger.release(AuditId::parse(&id).unwrap());
    let entries = usize::from(expected == Ok(None));
    assert_eq!(ledger.trail.len(), before + entries);
    let expected = expected.map(|entry| entry.unwrap_or_else(|| ledger.trail[before].id.clone()));
    assert_eq!(found.as_ref().map(|answer| answer.audit_id.to_string()).map_err(|code| *code), expected);
    if let Ok(answer) = found {
        assert_eq!(answer.r#ref.map(|decision| decision.to_string()), Some(id));
    }
}

fn extend(ledger: &mut Ledger, decision: usize, seconds: u64) {
    let Some(place) = decision_of(ledger, decision) else { return };
    let (id, now) = (ledger.trail[place].id.clone(), ledger.now().millis());
    let expected = match recount::hold_state(&ledger.trail, place, now) {
        None => Err(Code::HoldNotFound),
        Some(HoldState::Open) => Ok(now + seconds as i64 * 1_000),
        Some(_) => Err(Code::HoldEnded),
    };
    let found = ledger.extend(AuditId::parse(&id).unwrap(), seconds);
    assert_eq!(found.map(|view| view.hold.ends_at.millis()), expected);
}

fn settle(ledger: &mut Ledger, decision: usize, other_agent: bool, cost: &str) {
    let Some(place) = decision_of(ledger, decision) else { return };
    let entry = &ledger.trail[place];
    let (id, own) = (entry.id.clone(), AgentId::parse(entry.agent_id.as_ref().unwrap()).unwrap());
    let agent = ledger.agents.iter().copied().find(|agent| other_agent && *agent != own).unwrap_or(own);
    let state = recount::hold_state(&ledger.trail, place, ledger.now().millis());
    let first = ledger.trail.iter().find(|entry| entry.r#ref.as_ref() == Some(&id));
    let settled = match &state {
        None => first.map(|first| (first.cost, first.id.clone())),
        Some(HoldState::Settled(cost, id)) => Some((*cost, id.clone())),
        Some(_) => None,
    };
    let expected = match (settled, &*entry.result) {
        _ if agent != own => Err(Code::InvalidField),
        (_, "denied" | "rate_limited") => Err(Code::NotSettleable),
        (Some((settled, _)), _) if settled != recount::millionths(cost) => Err(Code::AlreadySettled),
        (Some((_, entry)), _) => Ok((entry, 0)),
        _ if matches!(state, Some(HoldState::Released(_) | HoldState::Expired)) => Err(Code::HoldEnded),
        (None, _) => Ok((String::new(), 1)),
    };
    ledger.end_due_holds();
    let before = ledger.trail.len();
    let found = ledger.settle(agent, AuditId::parse(&id).unwrap(), cost);
    match expected {
        Err(code) => assert_eq!((found.unwrap_err(), ledger.trail.len()), (code, before)),
        Ok((first, events)) => {
            let found = found.unwrap();
            assert_eq!(
                (found.r#ref.map(|id| id.to_string()), found.tokens_cost.to_string()),
                (Some(id), cost.to_owned())
            );
            assert_eq!(ledger.trail.len(), before + events);
            let entry = if events == 1 { &ledger.trail[before].id } else { &first };
            assert_eq!(found.audit_id.to_string(), *entry);
        }
    }
}

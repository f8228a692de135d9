//! Holds at their limits, and under a clock that is set back. Random histories are in the store's model tests.

use crate::agent::commands::AgentPatch;
use crate::author::By;
use crate::budget::calendar::Span;
use crate::budget::cost::Cost;
use crate::budget::counts::Period;
use crate::budget::hold::{HoldEnd, HoldTime};
use crate::budget::hold_commands::HoldView;
use crate::budget::policy_commands::{CreatePolicy, NewPolicy, PolicyView, ResetPolicy};
use crate::budget::usage::UsageReport;
use crate::budget::window_view::WindowView;
use crate::delegation::example_tests::{World, permissions};
use crate::limits::{MAX_ENDED_HOLDS, MAX_HOLD_SECONDS, MAX_HOLDS};
use crate::tenant::Caller;
use crate::{AgentId, AuditId, Code, Decision, Event, Request, Timestamp};

fn request(agent: AgentId, seconds: u64) -> Request {
    let mut request = Request::new("read", "docs:1").unwrap().for_agent(agent);
    request.cost = Some(Cost::from_millionths(7));
    request.holding(seconds).unwrap()
}

/// A call that holds its cost, as the actor decides it.
fn hold(world: &mut World, agent: AgentId, seconds: u64) -> Decision {
    let moment = world.tenant.next_moment(world.now);
    let request = request(agent, seconds);
    let verdict = world.tenant.decide(&Caller::Operator, &request, moment, &mut ());
    world.happen(moment, &Event::Decided(verdict.record(&request, 1)));
    verdict.answer(Some(AuditId::derive(moment.at, moment.seq, world.tenant.id().tag())))
}

fn end_due(world: &mut World) -> usize {
    let mut ended = 0;
    loop {
        let moment = world.tenant.next_moment(world.now);
        let Some(end) = world.tenant.due_hold(moment.wall) else { return ended };
        assert_eq!(end.by, By::Time);
        world.happen(moment, &Event::Used(end));
        ended += 1;
    }
}

fn world() -> (World, AgentId) {
    let mut world = World::new(None);
    let agent = world.agent(permissions(r#"[{"resource":"*","actions":["*"]}]"#));
    (world, agent)
}

#[test]
fn seconds_and_costs_are_checked() {
    for seconds in [0, u64::from(MAX_HOLD_SECONDS) + 1, u64::MAX] {
        let error = HoldTime::parse("ttlSeconds", seconds).unwrap_err();
        assert!(error.message().starts_with("ttlSeconds must be from 1 to 86400"), "{error}");
    }
    let mut request = Request::new("read", "docs:1").unwrap();
    assert!(request.clone().holding(1).unwrap_err().message().starts_with("hold needs tokensCost"));
    request.cost = Some(Cost::default());
    assert!(request.clone().holding(1).is_ok() && request.holding(u64::from(MAX_HOLD_SECONDS)).is_ok());
}

#[test]
fn open_holds_and_remembered_ends_are_limited() {
    let (mut world, agent) = world();
    let first = hold(&mut world, agent, 60).audit_id.unwrap();
    for _ in 1..MAX_HOLDS {
        assert!(hold(&mut world, agent, 90).allowed);
    }
    let denied = hold(&mut world, agent, 90);
    assert_eq!((denied.code, denied.retry_after), (Some(Code::HoldLimitExceeded), Some(60)));
    assert!(denied.reason.unwrap().contains(" exceeded") && denied.hold.is_none());
    // A call without a hold is none of its business.
    assert!(world.peek(agent, &Request::new("read", "docs:1").unwrap()).allowed);
    // A due hold makes room, before its end is recorded and after.
    world.now = world.now.plus_millis(60_000);
    assert!(world.peek(agent, &request(agent, 1)).allowed);
    assert_eq!(end_due(&mut world), 1);
    let second = hold(&mut world, agent, 1).audit_id.unwrap();
    world.now = world.now.plus_millis(30_000);
    assert_eq!(end_due(&mut world), MAX_HOLDS);
    let holds = world.tenant.holds();
    assert!(holds.open().is_empty() && world.tenant.next_hold_end().is_none());
    assert_eq!(holds.ended().len(), MAX_ENDED_HOLDS);
    // The first ends are forgotten, and their holds can never be settled.
    assert_eq!(holds.ended_one(first.seq()), None);
    assert!(holds.forgotten_to() >= first.seq());
    assert_eq!(holds.ended_one(second.seq()), None, "it ended among the first");
    let moment = world.tenant.next_moment(world.now);
    let release = world.tenant.decide_release(By::Operator, first, moment);
    assert_eq!(release.unwrap_err().code(), Code::HoldNotFound);
    let newest = *holds.ended().iter().next_back().unwrap();
    assert_eq!(newest.end, HoldEnd::Expired);
    let newest = AuditId::derive(newest.decided_at, newest.decision, world.tenant.id().tag());
    let release = world.tenant.decide_release(By::Operator, newest, moment);
    assert_eq!(release.unwrap_err().code(), Code::HoldEnded);
}

#[test]
fn a_hold_whose_end_is_forgotten_is_never_settled() {
    let (mut world, agent) = world();
    let moment = world.tenant.next_moment(world.now);
    let id = hold(&mut world, agent, 60).audit_id.unwrap();
    let mut report = UsageReport::new(agent, 0, Cost::default()).unwrap();
    let open = HoldView::settleable(&world.tenant, id).unwrap();
    assert_eq!(HoldView::settleable(&world.tenant, AuditId::derive(moment.at, id.seq(), Default::default())), None);
    report = report.settling_hold(&open).unwrap();
    world.now = world.now.plus_millis(60_000);
    // Before and after its end is recorded, and once nobody remembers it.
    for wanted in [Code::HoldEnded, Code::HoldEnded, Code::NotSettleable] {
        let moment = world.tenant.next_moment(world.now);
        let refused = world.tenant.decide_usage(By::Operator, report.clone(), moment).unwrap_err();
        assert_eq!(refused.code(), wanted);
        if end_due(&mut world) == 0 {
            for _ in 0..MAX_ENDED_HOLDS {
                hold(&mut world, agent, 1);
            }
            world.now = world.now.plus_millis(1_000);
            end_due(&mut world);
        }
    }
}

#[test]
fn a_clock_that_is_set_back_lets_no_hold_last_longer_than_a_new_one() {
    let (mut world, agent) = world();
    let right = world.now;
    world.now = right.plus_millis(365 * 86_400_000);
    let ids = [60, u64::from(MAX_HOLD_SECONDS)].map(|seconds| hold(&mut world, agent, seconds).audit_id.unwrap());
    let ends = |world: &World| ids.map(|id| HoldView::find(&world.tenant, id, right).map(|view| view.hold.ends_at));
    world.now = right;
    let ended_meanwhile = hold(&mut world, agent, 5);
    assert!(ended_meanwhile.allowed);
    let latest = right.plus_millis(i64::from(MAX_HOLD_SECONDS) * 1_000);
    assert_eq!(ends(&world).map(Result::unwrap), [latest; 2]);
    assert_eq!(world.tenant.next_hold_end(), Some(right.plus_millis(5_000)));
    world.now = latest;
    assert_eq!(end_due(&mut world), 3);
    // What has ended stays so.
    world.now = right;
    hold(&mut world, agent, 5);
    for id in ids {
        let moment = world.tenant.next_moment(world.now);
        let time = HoldTime::parse("ttlSeconds", 9).unwrap();
        let refused = world.tenant.decide_extension(By::Operator, id, time, moment).unwrap_err();
        assert_eq!(refused.code(), Code::HoldEnded);
    }
    assert_eq!(HoldView::list(&world.tenant, None, None, 9, right).len(), 1);
    assert_eq!(HoldView::list(&world.tenant, None, None, 9, Timestamp::from_millis(i64::MAX)).len(), 0);
}

#[test]
fn a_read_ends_a_due_hold_in_the_windows_of_now_as_its_event_does() {
    let (mut world, agent) = world();
    let json = r#"{"limits":{"maxTokensCostPerDay":1,"maxTokensCostPerWeek":1},"timeZone":"Asia/Kolkata"}"#;
    let new: NewPolicy = serde_json::from_str(json).unwrap();
    let id = world.run(CreatePolicy::parse(new).unwrap()).unwrap().unwrap().policy.profile.id;
    let read = |world: &World| {
        let view = PolicyView::find(&world.tenant, id, world.now).unwrap();
        let of = |window: &WindowView| (window.period, window.tokens_cost_spent, window.tokens_cost_held);
        view.windows.iter().map(of).collect::<Vec<_>>()
    };
    let right = world.now;
    let nothing = read(&world);
    assert!(hold(&mut world, agent, 60).allowed);
    // The clock runs ahead, and a change that ends no hold goes on to the windows of another month.
    world.now = right.plus_millis(40 * 86_400_000);
    world.run(ResetPolicy { id, period: Period::Hour }).unwrap();
    // It is set back to a moment after the hold's end.
    world.now = right.plus_millis(60_000);
    assert_eq!(read(&world), nothing);
    assert_eq!(end_due(&mut world), 1);
    assert_eq!(read(&world), nothing);
}

#[test]
fn a_hold_ends_in_the_scoped_policies_that_it_charged_whatever_they_match_by_then() {
    let (mut world, agent) = world();
    let label = |labels: &str| serde_json::from_str::<AgentPatch>(&format!(r#"{{"labels":{labels}}}"#)).unwrap();
    world.patch(agent, label(r#"{"team":"data"}"#)).unwrap();
    let policy = |world: &mut World, fields: &str| {
        let limits = r#""limits":{"maxTokensCostPerDay":1,"maxTokensCostTotal":1}"#;
        let new: NewPolicy = serde_json::from_str(&format!("{{{limits},{fields}}}")).unwrap();
        world.run(CreatePolicy::parse(new).unwrap()).unwrap().unwrap().policy.profile.id
    };
    let by_label = policy(&mut world, r#""labels":{"team":"data"},"timeZone":"Asia/Kolkata""#);
    let by_call = policy(&mut world, r#""resource":"docs:*","actions":["read"]"#);
    let unscoped = policy(&mut world, r#""timeZone":"America/Sao_Paulo""#);
    let other = policy(&mut world, r#""labels":{"team":"web"}"#);
    // Spent and held of all time.
    let total = |world: &World, id| {
        let view = PolicyView::find(&world.tenant, id, world.now).unwrap();
        let window = view.windows.into_iter().find(|window| window.period == Span::Total).unwrap();
        (window.tokens_cost_spent.millionths(), window.tokens_cost_held.millionths())
    };
    let all = [by_label, by_call, unscoped];
    let ids = [(); 3].map(|()| hold(&mut world, agent, 80_000).audit_id.unwrap());
    let report = UsageReport::new(agent, 0, Cost::from_millionths(9)).unwrap();
    let report = report.settling_hold(&HoldView::settleable(&world.tenant, ids[0]).unwrap()).unwrap();
    assert_eq!(all.map(|id| total(&world, id)), [(0, 21); 3]);
    world.patch(agent, label(r#"{"team":"web"}"#)).unwrap();
    // The day has ended in Kolkata by then, and the event says when the new one begins.
    world.now = world.now.plus_millis(70_000_000);
    let moment = world.tenant.next_moment(world.now);
    let (settled, _) = world.tenant.decide_usage(By::Operator, report, moment).unwrap();
    let settled = Event::Used(settled.unwrap());
    assert_eq!(world.tenant.complete(moment, &settled).opens().len(), 2);
    world.happen(moment, &settled);
    assert_eq!(all.map(|id| total(&world, id)), [(9, 14); 3]);
    let moment = world.tenant.next_moment(world.now);
    let (released, _) = world.tenant.decide_release(By::Operator, ids[1], moment).unwrap();
    world.happen(moment, &Event::Used(released.unwrap()));
    assert_eq!(all.map(|id| total(&world, id)), [(9, 7); 3]);
    world.now = world.now.plus_millis(20_000_000);
    assert_eq!(all.map(|id| total(&world, id)), [(9, 0); 3]);
    end_due(&mut world);
    assert_eq!(all.map(|id| total(&world, id)), [(9, 0); 3]);
    assert_eq!(total(&world, other), (0, 0));
}

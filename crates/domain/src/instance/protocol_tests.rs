//! The protocol between lender and tenants, over a network that loses, repeats and reorders, while either side crashes
//! between any two steps.

use std::collections::BTreeSet;

use proptest::prelude::*;

use crate::agent::commands::{CreateAgent, NewAgent};
use crate::author::By;
use crate::budget::cost::Cost;
use crate::budget::counts::Period;
use crate::budget::policy_commands::{CreatePolicy, DeletePolicy, NewPolicy, PolicyPatch, ResetPolicy, UpdatePolicy};
use crate::budget::scope::Call;
use crate::budget::usage::UsageReport;
use crate::delegation::example_tests::permissions;
use crate::event::ChangeRecord;
use crate::instance::amounts::Amounts;
use crate::instance::lease::{Ask, Lease, LeaseRecord, Outcome, Recall};
use crate::instance::lending::Next;
use crate::instance::prospect::Prospect;
use crate::instance::published::InstanceSet;
use crate::instance::slice_check::Leases;
use crate::tenant::commands::TenantSpec;
use crate::tenant::{Caller, Command, State};
use crate::*;

const TENANTS: usize = 3;

/// A tenant, with all that it recorded.
pub(super) struct Side {
    pub tenant: Tenant,
    log: Vec<(Moment, Event<'static>)>,
}

impl Side {
    fn new(id: TenantId, now: Timestamp) -> Self {
        let mut side = Self { tenant: Tenant::default(), log: Vec::new() };
        side.change(now, TenantSpec::default_tenant().created(id));
        side
    }

    fn change(&mut self, now: Timestamp, change: Change) {
        self.record(now, Event::Changed(ChangeRecord::new(By::Operator, change)));
    }

    fn record(&mut self, now: Timestamp, event: Event<'static>) {
        let moment = self.tenant.next_moment(now);
        let event = self.tenant.complete(moment, &event).into_owned();
        self.tenant.apply(moment, &event);
        self.log.push((moment, event));
    }

    fn lease(&mut self, now: Timestamp, record: Option<LeaseRecord>) {
        if let Some(record) = record {
            self.record(now, Event::Leased(record));
        }
    }

    fn act(&mut self, now: Timestamp, decide: impl FnOnce(&Tenant) -> Option<LeaseRecord>) {
        let record = decide(&self.tenant);
        self.lease(now, record);
    }

    pub fn run<C: Command>(&mut self, now: Timestamp, command: C) -> C::Subject {
        let moment = self.tenant.next_moment(now);
        let (change, subject) = command.decide(&self.tenant, By::Operator, moment).unwrap();
        if let Some(change) = change {
            self.change(now, change);
        }
        subject
    }

    /// What a crash leaves that loses everything after the first `kept` events.
    fn crash(&mut self, kept: usize) {
        self.log.truncate(kept);
        self.tenant = Tenant::default();
        for (moment, event) in &self.log {
            self.tenant.apply(*moment, event);
        }
    }

    /// Replay gives the same, and so does a snapshot.
    pub fn check_replay(&self) {
        let mut again = Tenant::default();
        self.log.iter().for_each(|(moment, event)| again.apply(*moment, event));
        assert_eq!(again.state(), self.tenant.state());
        let bytes = rmp_serde::to_vec_named(&self.tenant.state()).unwrap();
        let read: State = rmp_serde::from_slice(&bytes).unwrap();
        assert_eq!(read, self.tenant.state());
    }
}

#[derive(Clone, Copy, Debug)]
enum Message {
    Ask(Ask),
    Answer(usize, PolicyId, Lease),
    Recall(Recall),
    Report(Ask),
}

/// What becomes of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    /// It is recorded, and its messages leave.
    Done,
    /// It is recorded, and its messages are lost.
    Mute,
    /// A crash comes before it is on disk.
    Lost,
}

/// A call that was allowed and not settled.
struct Open {
    tenant: usize,
    decision: (Moment, Event<'static>),
    place: usize,
}

/// A lender with one policy, some tenants, and what really happened.
pub(super) struct Instance {
    pub now: Timestamp,
    pub lender: Side,
    pub tenants: Vec<Side>,
    agents: Vec<AgentId>,
    pub policy: PolicyId,
    set: InstanceSet,
    network: Vec<Message>,
    /// All calls that were allowed: when, and at what cost.
    spent: Vec<(Timestamp, Cost)>,
    open: Vec<Open>,
    /// Calls before that one were cleared by a reset.
    reset_at: usize,
    /// The largest limit since the last reset.
    max_calls: u64,
    limit: u64,
}

impl Instance {
    pub fn new(policy: &str, tenants: usize, limit: u64) -> Self {
        let now = Timestamp::parse("now", "2026-03-01T10:20:00Z").unwrap();
        let mut lender = Side::new(TenantId::DEFAULT, now);
        let new: NewPolicy = serde_json::from_str(policy).unwrap();
        let policy = lender.run(now, CreatePolicy::parse(new).unwrap());
        let (mut sides, mut agents) = (Vec::new(), Vec::new());
        for number in 0..tenants {
            let id = TenantId::generate(now, [u8::try_from(number).unwrap() + 1; 10]).unwrap();
            let mut side = Side::new(id, now);
            let new = NewAgent {
                tenant_id: None,
                owner_id: "user-1".into(),
                name: "agent".into(),
                kind: AgentType::Service,
                permissions: permissions(r#"[{"resource":"*","actions":["*"]}]"#),
                expires_at: None,
                metadata: None,
                labels: None,
            };
            let token = Secret::agent_token(id, [7; 32]);
            side.run(now, CreateAgent::parse(new, token.hash()).unwrap());
            agents.push(side.tenant.agents()[0].profile.id);
            sides.push(side);
        }
        let set = lender.tenant.instance_set();
        let (network, spent, open) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            now,
            lender,
            tenants: sides,
            agents,
            policy,
            set,
            network,
            spent,
            open,
            reset_at: 0,
            max_calls: limit,
            limit,
        }
    }

    fn send(&mut self, fate: Fate, messages: impl IntoIterator<Item = Message>) {
        if fate == Fate::Done {
            self.network.extend(messages);
        }
    }

    fn request(&self, tenant: usize, cost: u64) -> Request {
        let cost = (cost > 0).then(|| Cost::from_millionths(cost));
        let mut request = Request::new("read", "docs:1").unwrap().for_agent(self.agents[tenant]);
        request.cost = cost;
        request
    }

    /// A call. `None` if its slice does not suffice, or the answer is lost.
    fn call(&mut self, tenant: usize, cost: u64, fate: Fate) -> Option<bool> {
        let request = self.request(tenant, cost);
        let side = &mut self.tenants[tenant];
        let (kept, moment) = (side.log.len(), side.tenant.next_moment(self.now));
        let leases = Leases { set: &self.set, exhausted: &[], assume: false };
        if let Some(need) = side.tenant.lacking(&Caller::Operator, &request, moment.wall, &leases) {
            side.lease(self.now, side.tenant.return_ended(need.policy, moment.wall));
            let ask = side.tenant.ask_for(need, Amounts::default());
            if fate == Fate::Lost {
                side.crash(kept);
            }
            self.send(fate, [Message::Ask(ask)]);
            return None;
        }
        let verdict = side.tenant.decide_within(&Caller::Operator, &request, moment, Some(&leases), &mut ());
        let allowed = verdict.allows();
        let record = verdict.record(&request, 0);
        let event = Event::Decided(Record {
            action: "read",
            resource: "docs:1",
            arguments: None,
            reason: None,
            user_agent: None,
            ..record
        });
        let (cost, event) = (request.cost.unwrap_or_default(), owned(&event));
        side.record(self.now, event.clone());
        if fate == Fate::Lost {
            side.crash(kept);
            return None;
        }
        if allowed {
            self.open.push(Open { tenant, decision: (moment, event), place: self.spent.len() });
            self.spent.push((self.now, cost));
        }
        Some(allowed)
    }

    /// Settles a call at a lower cost.
    fn settle(&mut self, at: usize, less: u64) {
        if self.open.is_empty() {
            return;
        }
        let Open { tenant, decision: (moment, event), place } = self.open.remove(at % self.open.len());
        let estimate = self.spent[place].1;
        let actual = estimate.minus(Cost::from_millionths(less));
        let side = &mut self.tenants[tenant];
        let report = UsageReport::new(self.agents[tenant], 0, actual).unwrap();
        let id = AuditId::derive(moment.at, moment.seq, side.tenant.id().tag());
        let report = report.settling(id, moment, &event).unwrap();
        let decided = side.tenant.decide_usage(By::Operator, report, side.tenant.next_moment(self.now));
        side.record(self.now, Event::Used(decided.unwrap().0.unwrap()));
        self.spent[place].1 = actual;
    }

    fn deliver(&mut self, message: Message, fate: Fate) {
        match message {
            Message::Ask(ask) => {
                let kept = self.lender.log.len();
                let moment = self.lender.tenant.next_moment(self.now);
                // Recalls are on their way, or were: it decides by what it has, and they come when they come.
                let lending = self.lender.tenant.lend(&ask, moment, &BTreeSet::new(), 0);
                lending.records.into_iter().for_each(|record| self.lender.lease(self.now, Some(record)));
                if fate == Fate::Lost {
                    self.lender.crash(kept);
                }
                match lending.next {
                    Next::Answer(lease) => {
                        let to = self.place_of(ask.tenant);
                        self.send(fate, [Message::Answer(to, ask.policy, lease)]);
                    }
                    Next::Recall(recalls) => self.send(fate, recalls.into_iter().map(Message::Recall)),
                }
            }
            Message::Answer(tenant, policy, lease) => {
                let side = &mut self.tenants[tenant];
                let kept = side.log.len();
                side.lease(self.now, side.tenant.take(policy, &lease));
                if fate == Fate::Lost {
                    side.crash(kept);
                }
            }
            Message::Recall(recall) => {
                let tenant = self.place_of(recall.tenant);
                let side = &mut self.tenants[tenant];
                let kept = side.log.len();
                side.lease(self.now, side.tenant.give_up(&recall));
                let report = side.tenant.report_of(recall.policy);
                if fate == Fate::Lost {
                    side.crash(kept);
                }
                self.send(fate, [Message::Report(report)]);
            }
            Message::Report(report) => {
                let kept = self.lender.log.len();
                self.lender.lease(self.now, self.lender.tenant.hear(&report));
                if fate == Fate::Lost {
                    self.lender.crash(kept);
                }
            }
        }
    }

    fn place_of(&self, tenant: TenantId) -> usize {
        self.tenants.iter().position(|side| side.tenant.id() == tenant).unwrap()
    }

    /// A call for which everything works: whatever its tenant lacks it gets, if anybody has it.
    pub fn call_through(&mut self, tenant: usize, cost: u64) -> bool {
        for _ in 0..5 {
            if let Some(allowed) = self.call(tenant, cost, Fate::Mute) {
                return allowed;
            }
            let request = self.request(tenant, cost);
            let side = &mut self.tenants[tenant];
            let now = side.tenant.next_moment(self.now).wall;
            let leases = Leases { set: &self.set, exhausted: &[], assume: false };
            let need = side.tenant.lacking(&Caller::Operator, &request, now, &leases).unwrap();
            let lease = self.ask_through(need.policy, side_ask(&self.tenants[tenant], need));
            if let Outcome::Exhausted { .. } = lease.outcome {
                self.tenants[tenant].act(self.now, |tenant| tenant.take(need.policy, &lease));
                return false;
            }
            self.tenants[tenant].act(self.now, |tenant| tenant.take(need.policy, &lease));
        }
        panic!("the tenant gets no slice, and is not told why");
    }

    /// What is foreseen for a call, once the others told what they hold, if they do.
    pub fn foreseen(&mut self, tenant: usize, cost: u64, all_tell: bool) -> Prospect {
        let side = &self.tenants[tenant].tenant;
        let (agent, now) = (side.agent(self.agents[tenant]).unwrap(), side.next_moment(self.now).wall);
        let call = Call::new("read", "docs:1");
        let outlooks = side.outlooks(agent, call, Cost::from_millionths(cost), now, &self.set);
        let Some(ask) = outlooks[0].ask else { return Prospect::Fits };
        let mut told = BTreeSet::new();
        loop {
            let foreseen = self.lender.tenant.foresee(&ask, &told, self.lender.tenant.next_moment(self.now));
            if foreseen.holders.is_empty() || !all_tell || !told.is_empty() {
                return foreseen.prospect;
            }
            for holder in foreseen.holders {
                let report = self.tenants[self.place_of(holder)].tenant.report_of(self.policy);
                self.lender.lease(self.now, self.lender.tenant.hear(&report));
                told.insert(holder);
            }
        }
    }

    fn ask_through(&mut self, policy: PolicyId, ask: Ask) -> Lease {
        let mut asked = BTreeSet::new();
        loop {
            let moment = self.lender.tenant.next_moment(self.now);
            let lending = self.lender.tenant.lend(&ask, moment, &asked, 0);
            lending.records.into_iter().for_each(|record| self.lender.lease(self.now, Some(record)));
            let recalls = match lending.next {
                Next::Answer(lease) => return lease,
                Next::Recall(recalls) => recalls,
            };
            assert!(!recalls.is_empty());
            for recall in recalls {
                assert!(asked.insert(recall.tenant), "nobody is asked twice");
                let tenant = self.place_of(recall.tenant);
                self.tenants[tenant].act(self.now, |tenant| tenant.give_up(&recall));
                let report = self.tenants[tenant].tenant.report_of(policy);
                self.lender.lease(self.now, self.lender.tenant.hear(&report));
            }
        }
    }

    /// Recalls everything, as comes before a change.
    fn recall_all(&mut self, anew: bool) {
        for recall in self.lender.tenant.recalls_of_all(self.policy, self.now, anew) {
            let tenant = self.place_of(recall.tenant);
            self.tenants[tenant].act(self.now, |tenant| tenant.give_up(&recall));
            let report = self.tenants[tenant].tenant.report_of(self.policy);
            self.lender.lease(self.now, self.lender.tenant.hear(&report));
        }
    }

    fn reset(&mut self) {
        self.recall_all(true);
        let command = ResetPolicy { id: self.policy, period: Period::All };
        self.lender.run(self.now, command);
        self.reset_at = self.spent.len();
        self.max_calls = self.limit;
    }

    fn patch(&mut self, limits: &str) {
        let patch: PolicyPatch = serde_json::from_str(limits).unwrap();
        self.lender.run(self.now, UpdatePolicy { id: self.policy, patch });
        self.set = self.lender.tenant.instance_set();
    }

    /// What the tenant forgets of slices.
    fn dropped(&self, tenant: usize) -> Option<LeaseRecord> {
        self.tenants[tenant].tenant.drop_slices(&self.set)
    }

    /// Calls and cost since that time and the last reset.
    fn spent_since(&self, start: i64) -> (u64, Cost) {
        let since = self.spent[self.reset_at..].iter().filter(|(at, _)| at.millis() >= start);
        since.fold((0, Cost::default()), |(calls, sum), (_, cost)| (calls + 1, sum.plus(*cost)))
    }
}

fn side_ask(side: &Side, need: super::slice_check::Need) -> Ask {
    side.tenant.ask_for(need, Amounts::default())
}

/// The event with nothing borrowed.
fn owned(event: &Event<'_>) -> Event<'static> {
    let Event::Decided(record) = event else { panic!("not a decision") };
    Event::Decided(Record {
        agent: record.agent,
        owner: record.owner.clone(),
        action: "read",
        resource: "docs:1",
        arguments: None,
        granted_by: record.granted_by.clone(),
        code: record.code,
        reason: None,
        rate_limited: record.rate_limited,
        revokes: record.revokes,
        policy: record.policy,
        cost: record.cost,
        ip: None,
        user_agent: None,
        micros: 0,
        trace: None,
        extras: record.extras.clone(),
    })
}

#[derive(Clone, Debug)]
enum Step {
    Call(usize, u64, Fate),
    Deliver(usize, bool, Fate),
    Drop(usize),
    Later(i64),
    Settle(usize, u64),
    Restart(usize),
    Reset,
    Limit(u64),
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![8 => Just(Fate::Done), 1 => Just(Fate::Mute), 1 => Just(Fate::Lost)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..TENANTS, 0u64..4, fate()).prop_map(|(tenant, cost, fate)| Step::Call(tenant, cost, fate)),
        14 => (0usize..64, prop::bool::weighted(0.2), fate())
            .prop_map(|(at, again, fate)| Step::Deliver(at, again, fate)),
        2 => (0usize..64).prop_map(Step::Drop),
        2 => (1i64..40).prop_map(Step::Later),
        2 => (0usize..64, 0u64..4).prop_map(|(at, less)| Step::Settle(at, less)),
        1 => (0..=TENANTS).prop_map(Step::Restart),
        1 => Just(Step::Reset),
        1 => (0u64..30).prop_map(Step::Limit),
    ]
}

/// What is allowed never passes a limit in any window, and is all of it once everybody asks.
fn check(policy: &str, limits: [Option<u64>; 3], steps: Vec<Step>) {
    let [hour_calls, day_calls, hour_cost] = limits;
    let mut world = Instance::new(policy, TENANTS, hour_calls.unwrap_or(u64::MAX));
    let within = |world: &Instance| {
        let hour = crate::budget::calendar::Span::Hour.utc(world.now).start;
        let day = crate::budget::calendar::Span::Day.utc(world.now).start;
        let (calls, cost) = world.spent_since(hour);
        assert!(calls <= world.max_calls, "{calls} calls of {}", world.max_calls);
        assert!(hour_cost.is_none_or(|max| cost.millionths() <= max), "cost {cost} of {hour_cost:?}");
        let (of_day, _) = world.spent_since(day);
        assert!(day_calls.is_none_or(|max| of_day <= max), "{of_day} calls of {day_calls:?} in the day");
        (calls, cost, of_day)
    };
    for step in steps {
        match step {
            Step::Call(tenant, cost, fate) => _ = world.call(tenant, cost, fate),
            Step::Deliver(at, again, fate) if !world.network.is_empty() => {
                let at = at % world.network.len();
                let message = if again { world.network[at] } else { world.network.remove(at) };
                world.deliver(message, fate);
            }
            Step::Drop(at) if !world.network.is_empty() => {
                let at = at % world.network.len();
                world.network.remove(at);
            }
            Step::Deliver(..) | Step::Drop(_) => {}
            Step::Later(minutes) => world.now = world.now.plus_millis(minutes * 60_000),
            Step::Settle(at, less) => world.settle(at, less),
            Step::Restart(at) => {
                let side = if at < TENANTS { &mut world.tenants[at] } else { &mut world.lender };
                side.crash(side.log.len());
            }
            Step::Reset => world.reset(),
            Step::Limit(max) if hour_calls.is_some() => {
                world.recall_all(false);
                world.patch(&format!(r#"{{"limits":{{"maxCallsPerHour":{max}}}}}"#));
                (world.limit, world.max_calls) = (max, world.max_calls.max(max));
            }
            Step::Limit(_) => {}
        }
        within(&world);
    }
    // Everybody asks, and nothing is lost any more.
    let mut stopped = 0;
    for turn in 0.. {
        stopped = if world.call_through(turn % TENANTS, 1) { 0 } else { stopped + 1 };
        if stopped == TENANTS {
            break;
        }
    }
    let (calls, cost, of_day) = within(&world);
    let is_used_up = hour_calls.is_some() && calls >= world.limit
        || day_calls.is_some_and(|max| of_day >= max)
        || hour_cost.is_some_and(|max| cost.millionths() >= max);
    assert!(is_used_up, "{calls} calls of {}, cost {cost}, {of_day} in the day", world.limit);
    let shown = world.lender.tenant.with_lent(&world.lender.tenant.policies()[0], world.now);
    for window in shown.windows(world.now) {
        if let (Some(max), Some(left)) = (window.max_calls, window.calls_left) {
            assert_eq!(i128::from(max), i128::from(left) + i128::from(window.calls));
        }
    }
    world.lender.check_replay();
    world.tenants.iter().for_each(Side::check_replay);
}

#[test]
fn a_slice_outlives_its_policy_being_switched_off_but_not_its_deletion() {
    let mut world = Instance::new(r#"{"scope":"instance","limits":{"maxCallsPerDay":3}}"#, 1, 3);
    assert_eq!([0; 4].map(|tenant| world.call_through(tenant, 0)), [true, true, true, false]);
    world.patch(r#"{"status":"disabled"}"#);
    assert_eq!((world.dropped(0), world.call_through(0, 0)), (None, true));
    world.patch(r#"{"status":"active"}"#);
    assert_eq!((world.dropped(0), world.call_through(0, 0)), (None, false));
    world.lender.run(world.now, DeletePolicy(world.policy));
    world.set = world.lender.tenant.instance_set();
    assert_eq!(world.dropped(0), Some(LeaseRecord::Dropped { policies: vec![world.policy.seq()] }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 300 } else { 3_000 }))]

    #[test]
    fn calls_of_all_tenants_never_pass_the_limits_and_reach_them(steps in prop::collection::vec(step(), 0..200)) {
        check(
            r#"{"scope":"instance","limits":{"maxCallsPerHour":12,"maxCallsPerDay":40}}"#,
            [Some(12), Some(40), None],
            steps,
        );
    }

    #[test]
    fn cost_of_all_tenants_never_passes_the_limit_and_reaches_it(steps in prop::collection::vec(step(), 0..200)) {
        check(
            r#"{"scope":"instance","limits":{"maxTokensCostPerHour":0.00003}}"#,
            [None, None, Some(30)],
            steps,
        );
    }
}

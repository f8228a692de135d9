//! Random histories against a map of what was answered to whom: a repeat is answered alike and changes nothing, whatever
//! came between; anything else is carried out.

use std::collections::HashMap;

use proptest::prelude::*;

use crate::agent::commands::{AgentPatch, CreateAgent, NewAgent, RevokeAgent, RotateToken, UpdateAgent};
use crate::author::By;
use crate::budget::cost::Cost;
use crate::budget::counts::Period;
use crate::budget::hold::HoldTime;
use crate::budget::hold_commands::HoldView;
use crate::budget::policy::PolicyAction;
use crate::budget::policy_commands::{CreatePolicy, NewPolicy, PolicyPatch, ResetPolicies, ResetPolicy, UpdatePolicy};
use crate::budget::settlement::UsageRecord;
use crate::budget::usage::{UsageAnswer, UsageReport};
use crate::delegation::commands::{CreateDelegation, NewDelegation};
use crate::event::{ChangeRecord, Extras};
use crate::idempotency::kept_reply::KeptReply;
use crate::idempotency::key::{IdempotencyKey, KeyOwner, RequestKey, UsedKey};
use crate::idempotency::memory::{KeyIndex, RememberedKey};
use crate::limits::{KEY_LIFETIME_MS, MAX_REMEMBERED_KEYS};
use crate::tenant::key_commands::CreateKey;
use crate::tenant::role::KeyRole;
use crate::tenant::{Caller, Command, Repeatable, State, first_answer};
use crate::*;

/// A request that may carry a key.
#[derive(Clone, Debug, PartialEq)]
enum Ask {
    Call { agent: usize, cost: u64, finer: bool },
    Usage { agent: usize, calls: u64, cost: u64 },
    Agent { name: u8 },
    Key { name: u8 },
    Policy { calls: u64, warns: bool, throttles: bool },
    Delegation { to: usize },
    Hold { agent: usize, cost: u64, seconds: u64 },
    Release { hold: usize },
    Extend { hold: usize, seconds: u64 },
    Rotate { agent: usize, grace: u64 },
    ResetPolicy { policy: usize, period: Period },
    ResetPolicies { period: Period },
}

impl Ask {
    /// Whether the actor ends the holds that are due before it handles it.
    fn ends_holds(&self) -> bool {
        matches!(
            self,
            Self::Call { .. } | Self::Usage { .. } | Self::Hold { .. } | Self::Release { .. } | Self::Extend { .. }
        )
    }
}

/// Something that comes between.
#[derive(Clone, Debug)]
enum Step {
    /// A request, by one of a few callers, perhaps with one of a few keys.
    Ask(Ask, u8, Option<u8>),
    Reset(usize),
    Change(usize, u64),
    RevokeAgent,
    Wait(i64),
    ClockBack(i64),
    Snapshot,
    Replay,
}

/// An event as bytes: what serde keeps of it, as in production.
enum Stored {
    Decided(Vec<u8>, Option<Vec<u8>>),
    Changed(Vec<u8>),
    Used(Vec<u8>),
}

impl Stored {
    fn of(event: &Event<'_>) -> Self {
        match event {
            Event::Decided(record) => {
                let extras = record.extras.as_ref().map(|extras| rmp_serde::to_vec_named(extras).unwrap());
                Self::Decided(rmp_serde::to_vec(record).unwrap(), extras)
            }
            Event::Changed(record) => Self::Changed(rmp_serde::to_vec_named(record).unwrap()),
            Event::Used(record) => Self::Used(rmp_serde::to_vec_named(record).unwrap()),
            Event::Delivered(_) => panic!("there is no webhook"),
            Event::Leased(_) => panic!("there is no instance policy"),
        }
    }

    fn read(&self) -> Event<'_> {
        match self {
            Self::Decided(record, extras) => {
                let record: Record<'_> = rmp_serde::from_slice(record).unwrap();
                let extras = extras.as_ref().map(|extras| Box::new(rmp_serde::from_slice::<Extras>(extras).unwrap()));
                Event::Decided(Record { extras, ..record })
            }
            Self::Changed(record) => Event::Changed(rmp_serde::from_slice(record).unwrap()),
            Self::Used(record) => Event::Used(rmp_serde::from_slice(record).unwrap()),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Answer {
    Decision(Box<Decision>),
    Usage(UsageAnswer),
    Held(HoldView),
    Made(String),
    Refused(Code),
}

/// Who asks: an operator, a tenant key, or one of two agents.
type Who = u8;

struct World {
    tenant: Tenant,
    now: Timestamp,
    /// From the event after `start` on.
    journal: Vec<(Moment, Stored)>,
    start: State,
    agents: Vec<AgentId>,
    policies: Vec<PolicyId>,
    /// The decisions that held something.
    holds: Vec<AuditId>,
    key: KeyId,
    /// What the model remembers: who asked what with which key, the event's time and number, and the answer.
    asked: HashMap<(Who, u8), (Ask, Moment, Answer)>,
}

impl World {
    fn new(is_full: bool) -> Self {
        let now = Timestamp::parse("now", "2026-03-01T10:00:00Z").unwrap();
        let id = TenantId::generate(now, [7; 10]).unwrap();
        let change = Change::TenantCreated { id, name: "T".into(), slug: None, settings: TenantSettings::default() };
        let mut world = Self {
            tenant: Tenant::default(),
            now,
            journal: Vec::new(),
            start: State::default(),
            agents: Vec::new(),
            policies: Vec::new(),
            holds: Vec::new(),
            key: KeyId::derive(now, 1, id.tag()),
            asked: HashMap::new(),
        };
        world.happen(&Event::Changed(ChangeRecord::new(By::Operator, change)));
        for name in 0..2 {
            world.carry_out(&Ask::Agent { name }, 0, None);
        }
        world.carry_out(&Ask::Key { name: 0 }, 0, None);
        world.key = world.tenant.keys()[0].id;
        if is_full {
            // Nearly full of other keys, which are as old as the tenant.
            let mut state = world.tenant.state();
            let mut index = KeyIndex::build(&state.used_keys);
            let others = MAX_REMEMBERED_KEYS - 3;
            for number in 0..others {
                let text = IdempotencyKey::parse("key", &format!("other-{number}")).unwrap();
                let key = RequestKey::new(text, &[]).used_by(KeyOwner::Operators);
                index.remember(&mut state.used_keys, RememberedKey { key, seq: number as u64 + 1, at: now });
            }
            state.seq = others as u64 + 9;
            world.tenant = Tenant::restore(state.clone());
            world.start = state;
            world.journal.clear();
        }
        world
    }

    fn happen(&mut self, event: &Event<'_>) {
        let moment = self.tenant.next_moment(self.now);
        self.tenant.apply(moment, event);
        self.journal.push((moment, Stored::of(event)));
    }

    fn caller(&self, who: Who) -> Caller {
        match who {
            0 => Caller::Operator,
            1 => Caller::Key(self.key, KeyRole::Admin),
            who => Caller::Agent(u32::from(who - 2)),
        }
    }

    fn by(&self, who: Who) -> By {
        if who == 1 { By::Key(self.key) } else { By::Operator }
    }

    fn request(&self, ask: &Ask) -> Request {
        let (agent, cost, finer, seconds) = match ask {
            Ask::Call { agent, cost, finer } => (agent, cost, *finer, None),
            Ask::Hold { agent, cost, seconds } => (agent, cost, false, Some(*seconds)),
            ask => panic!("{ask:?} is no call"),
        };
        let mut request = Request::new("read", "docs:1").unwrap().for_agent(self.agents[*agent]);
        (request.cost, request.is_cost_rounded) = (Some(Cost::from_millionths(*cost)), finer);
        match seconds {
            Some(seconds) => request.holding(seconds).unwrap(),
            None => request,
        }
    }

    /// The decision with that hold, or one that never was.
    fn held(&self, hold: usize) -> AuditId {
        let unknown = AuditId::derive(Timestamp::from_millis(1), 9_999_999, self.tenant.id().tag());
        self.holds.get(hold).copied().unwrap_or(unknown)
    }

    fn end_due_holds(&mut self) {
        loop {
            let moment = self.tenant.next_moment(self.now);
            let Some(end) = self.tenant.due_hold(moment.wall) else { return };
            self.happen(&Event::Used(end));
        }
    }

    fn command<C: Command>(&mut self, command: C, who: u8, key: Option<UsedKey>) -> Result<C::Reply, Error> {
        let moment = self.tenant.next_moment(self.now);
        let (change, subject) = command.decide(&self.tenant, self.by(who), moment)?;
        if let Some(change) = change {
            let mut record = ChangeRecord { key, ..ChangeRecord::new(self.by(who), change) };
            record.kept = key.and_then(|_| KeptReply::of(&self.tenant, moment, &record));
            self.happen(&Event::Changed(record));
        }
        Ok(C::reply(&self.tenant, subject, moment.wall))
    }

    fn execute<C: Repeatable>(&mut self, command: C, who: u8, key: Option<UsedKey>) -> Answer
    where
        C::Reply: std::fmt::Debug,
    {
        match self.command(command, who, key) {
            Ok(reply) => Answer::Made(format!("{reply:?}")),
            Err(error) => Answer::Refused(error.code()),
        }
    }

    fn agent(name: u8) -> CreateAgent {
        let json = r#"{"ownerId":"u","name":"a","type":"service","permissions":[{"resource":"*","actions":["*"]}]}"#;
        let new: NewAgent = serde_json::from_str(json).unwrap();
        CreateAgent::parse(NewAgent { name: format!("a{name}"), ..new }, SecretHash::of(&name.to_string())).unwrap()
    }

    /// Carries a request out, as the server does once the key was found to be new.
    fn carry_out(&mut self, ask: &Ask, who: u8, key: Option<UsedKey>) -> Answer {
        let seq = self.tenant.seq() + 1;
        let answer = match ask {
            Ask::Call { .. } | Ask::Hold { .. } => {
                let (moment, request) = (self.tenant.next_moment(self.now), self.request(ask));
                let verdict = self.tenant.decide(&self.caller(who), &request, moment, &mut ());
                let mut record = verdict.record(&request, 5);
                if let Some(key) = key {
                    verdict.remember(key, &mut record);
                }
                self.happen(&Event::Decided(record));
                let id = AuditId::derive(moment.at, moment.seq, self.tenant.id().tag());
                let decision = verdict.answer(Some(id));
                self.holds.extend(decision.hold.as_ref().map(|_| id));
                return Answer::Decision(Box::new(decision));
            }
            Ask::Usage { agent, calls, cost } => {
                let moment = self.tenant.next_moment(self.now);
                let report = UsageReport::new(self.agents[*agent], *calls, Cost::from_millionths(*cost)).unwrap();
                let (record, answer) = self.tenant.decide_usage(self.by(who), report, moment).unwrap();
                self.happen(&Event::Used(UsageRecord { key, ..record.unwrap() }));
                return Answer::Usage(answer);
            }
            Ask::Release { hold } => {
                let moment = self.tenant.next_moment(self.now);
                return match self.tenant.decide_release(self.by(who), self.held(*hold), moment) {
                    Err(error) => Answer::Refused(error.code()),
                    Ok((record, answer)) => {
                        if let Some(record) = record {
                            self.happen(&Event::Used(UsageRecord { key, ..record }));
                        }
                        Answer::Usage(answer)
                    }
                };
            }
            Ask::Extend { hold, seconds } => {
                let (moment, time) = (self.tenant.next_moment(self.now), HoldTime::parse("t", *seconds).unwrap());
                return match self.tenant.decide_extension(self.by(who), self.held(*hold), time, moment) {
                    Err(error) => Answer::Refused(error.code()),
                    Ok((record, view)) => {
                        self.happen(&Event::Used(UsageRecord { key, ..record }));
                        Answer::Held(view)
                    }
                };
            }
            Ask::Rotate { agent, grace } => {
                let token = SecretHash::of(&format!("token-{seq}"));
                self.execute(RotateToken::new(self.agents[*agent], token, *grace).unwrap(), who, key)
            }
            Ask::ResetPolicy { policy, period } => {
                let unknown = PolicyId::derive(self.now, 9_999_999, self.tenant.id().tag());
                let id = self.policies.get(*policy).copied().unwrap_or(unknown);
                self.execute(ResetPolicy { id, period: *period }, who, key)
            }
            Ask::ResetPolicies { period } => self.execute(ResetPolicies(*period), who, key),
            Ask::Agent { name } => self.execute(Self::agent(*name), who, key),
            Ask::Key { name } => {
                let secret = Secret::tenant_key(self.tenant.id(), [*name; 32]);
                self.execute(CreateKey::new(&format!("k{name}"), &secret).unwrap(), who, key)
            }
            Ask::Policy { calls, warns, throttles } => {
                let mut new: NewPolicy = serde_json::from_str(&format!(
                    r#"{{"limits":{{"maxCallsPerDay":{calls},"maxTokensCostPerMonth":0.00002}},"action":"block"}}"#
                ))
                .unwrap();
                new.action = match (warns, throttles) {
                    (true, _) => PolicyAction::Warn,
                    (_, true) => PolicyAction::Throttle,
                    _ => PolicyAction::Block,
                };
                self.execute(CreatePolicy::parse(new).unwrap(), who, key)
            }
            Ask::Delegation { to } => {
                let json = format!(
                    r#"{{"fromAgent":"{}","toAgent":"{}","permissions":[{{"resource":"docs:*","actions":["read"]}}],"expiresAt":"2030-01-01T00:00:00Z"}}"#,
                    self.agents[0], self.agents[*to]
                );
                let new: NewDelegation = serde_json::from_str(&json).unwrap();
                self.execute(CreateDelegation::parse(new).unwrap(), who, key)
            }
        };
        let tag = self.tenant.id().tag();
        if let Some(agent) = self.tenant.agents().last().map(|agent| agent.profile.id)
            && agent.seq() == seq
            && self.agents.len() < 2
        {
            self.agents.push(agent);
        }
        let policy = self.tenant.policies().last().map(|policy| policy.profile.id);
        self.policies.extend(policy.filter(|policy| policy.seq() == seq && policy.tag() == tag));
        answer
    }

    /// The answer to a repeat, from the event behind its first use.
    fn answer_again(&self, ask: &Ask, first: AuditId) -> Answer {
        let (moment, stored) = self.journal.iter().find(|(moment, _)| moment.seq == first.seq()).unwrap();
        assert_eq!(AuditId::derive(moment.at, moment.seq, self.tenant.id().tag()), first);
        let tenant = self.tenant.id();
        let made = |text: Option<String>| Answer::Made(text.unwrap());
        match (ask, &stored.read()) {
            (Ask::Call { .. } | Ask::Hold { .. }, Event::Decided(record)) => {
                let decision = Decision::of_record(first, record);
                assert!(decision.is_repeat);
                Answer::Decision(Box::new(Decision { is_repeat: false, ..decision }))
            }
            (Ask::Extend { .. }, Event::Used(record)) => Answer::Held(HoldView::of_extension(tenant, record).unwrap()),
            (Ask::Rotate { .. }, Event::Changed(record)) => {
                made(first_answer::<RotateToken>(tenant, *moment, record).map(|reply| format!("{reply:?}")))
            }
            (Ask::ResetPolicy { .. }, Event::Changed(record)) => {
                assert_eq!(first_answer::<ResetPolicies>(tenant, *moment, record), None, "another command's");
                made(first_answer::<ResetPolicy>(tenant, *moment, record).map(|reply| format!("{reply:?}")))
            }
            (Ask::ResetPolicies { .. }, Event::Changed(record)) => {
                made(first_answer::<ResetPolicies>(tenant, *moment, record).map(|reply| format!("{reply:?}")))
            }
            (Ask::Usage { .. } | Ask::Release { .. }, Event::Used(record)) => {
                Answer::Usage(UsageAnswer::of_record(*moment, tenant.tag(), record))
            }
            (Ask::Agent { .. }, Event::Changed(record)) => {
                assert_eq!(first_answer::<CreateKey>(tenant, *moment, record), None, "another command's");
                made(first_answer::<CreateAgent>(tenant, *moment, record).map(|reply| format!("{reply:?}")))
            }
            (Ask::Key { .. }, Event::Changed(record)) => {
                made(first_answer::<CreateKey>(tenant, *moment, record).map(|reply| format!("{reply:?}")))
            }
            (Ask::Policy { .. }, Event::Changed(record)) => {
                made(first_answer::<CreatePolicy>(tenant, *moment, record).map(|reply| format!("{reply:?}")))
            }
            (Ask::Delegation { .. }, Event::Changed(record)) => {
                let text = first_answer::<CreateDelegation>(tenant, *moment, record).map(|reply| format!("{reply:?}"));
                made(text)
            }
            (ask, event) => panic!("{ask:?} made {event:?}"),
        }
    }

    fn ask(&mut self, ask: &Ask, who: Who, key: Option<u8>) {
        if ask.ends_holds() {
            self.end_due_holds();
        }
        let Some(number) = key else {
            self.carry_out(ask, who, None);
            return;
        };
        let text = IdempotencyKey::parse("key", &format!("key-{number}")).unwrap();
        let key = match ask {
            Ask::Call { .. } | Ask::Hold { .. } => *self.request(ask).with_key(text, false).key.unwrap(),
            ask => RequestKey::new(text, &[format!("{ask:?}").as_bytes()]),
        };
        let (before, at) = (self.tenant.seq(), self.tenant.next_moment(self.now).at);
        let known = self.asked.get(&(who, number)).cloned();
        let known = known.filter(|(_, first, _)| first.at.millis() + KEY_LIFETIME_MS > at.millis());
        let caller = self.caller(who);
        let state = self.tenant.state();
        match known {
            Some((first, moment, answer)) if first == *ask => {
                assert_eq!(self.tenant.check_new(&caller, &key, at).unwrap_err().code(), Code::IdempotencyKeyInUse);
                let found = self.tenant.first_use(&caller, &key, at).unwrap().unwrap();
                assert_eq!(found.seq(), moment.seq);
                let again = self.answer_again(ask, found);
                // A copy of a delegation does not know its place among others, which no answer shows.
                let place_free = |answer: &Answer| match answer {
                    Answer::Made(text) => Answer::Made(without_place(text)),
                    other => other.clone(),
                };
                assert_eq!(place_free(&again), place_free(&answer));
                assert_eq!(self.tenant.seq(), before);
            }
            Some(_) => {
                assert_eq!(self.tenant.check_new(&caller, &key, at).unwrap_err().code(), Code::IdempotencyKeyReused);
                assert_eq!(self.tenant.first_use(&caller, &key, at).unwrap_err().code(), Code::IdempotencyKeyReused);
            }
            None => {
                assert_eq!(self.tenant.first_use(&caller, &key, at).unwrap(), None);
                let used = self.tenant.check_new(&caller, &key, at).unwrap();
                let answer = self.carry_out(ask, who, Some(used));
                match answer {
                    // What changed nothing is not remembered.
                    Answer::Refused(_) => assert_eq!(self.tenant.seq(), before),
                    // It was released before, or there is no policy to reset.
                    Answer::Usage(_) | Answer::Made(_) if self.tenant.seq() == before => {}
                    answer => {
                        assert_eq!(self.tenant.seq(), before + 1);
                        let moment = self.journal.last().unwrap().0;
                        self.asked.insert((who, number), (ask.clone(), moment, answer));
                    }
                }
                return;
            }
        }
        assert_eq!(self.tenant.state(), state, "a repeat changes nothing");
    }

    fn step(&mut self, step: &Step) {
        match step {
            // Agents ask for decisions about themselves only.
            Step::Ask(Ask::Call { cost, finer, .. }, who @ 2.., key) => {
                let agent = usize::from(who - 2);
                self.ask(&Ask::Call { agent, cost: *cost, finer: *finer }, *who, *key);
            }
            Step::Ask(Ask::Hold { cost, seconds, .. }, who @ 2.., key) => {
                let agent = usize::from(who - 2);
                self.ask(&Ask::Hold { agent, cost: *cost, seconds: *seconds }, *who, *key);
            }
            Step::Ask(ask, who, key) => self.ask(ask, if *who < 2 { *who } else { 0 }, *key),
            Step::Reset(at) => {
                if let Some(id) = self.policies.get(*at).copied() {
                    self.command(ResetPolicy { id, period: Period::All }, 0, None).unwrap();
                }
            }
            Step::Change(at, calls) => {
                if let Some(id) = self.policies.get(*at).copied() {
                    let patch = format!(r#"{{"limits":{{"maxCallsPerDay":{calls}}}}}"#);
                    let patch: PolicyPatch = serde_json::from_str(&patch).unwrap();
                    self.command(UpdatePolicy { id, patch }, 0, None).unwrap();
                }
            }
            Step::RevokeAgent => {
                self.command(RevokeAgent(self.agents[1]), 0, None).unwrap();
                let patch: AgentPatch = serde_json::from_str(r#"{"name":"renamed"}"#).unwrap();
                self.command(UpdateAgent::parse(self.agents[0], patch).unwrap(), 0, None).unwrap();
            }
            Step::Wait(minutes) => self.now = self.now.plus_millis(minutes * 60_000),
            Step::ClockBack(minutes) => self.now = self.now.plus_millis(-minutes * 60_000),
            Step::Snapshot => {
                let bytes = rmp_serde::to_vec_named(&self.tenant.state()).unwrap();
                self.tenant = Tenant::restore(rmp_serde::from_slice(&bytes).unwrap());
                self.tenant.validate().unwrap();
            }
            Step::Replay => {
                let mut replayed = Tenant::restore(self.start.clone());
                for (moment, stored) in &self.journal {
                    replayed.apply(*moment, &stored.read());
                }
                assert_eq!(replayed.state(), self.tenant.state());
                self.tenant = replayed;
            }
        }
    }
}

/// Debug text of an answer without the place of a delegation and the end that others set.
fn without_place(text: &str) -> String {
    match text.find(", place: ") {
        Some(at) => {
            let rest = &text[at + 2..];
            format!("{}{}", &text[..at], &rest[rest.find(',').unwrap_or(0)..])
        }
        None => text.to_owned(),
    }
}

fn asks() -> impl Strategy<Value = Ask> {
    prop_oneof![
        4 => (0..2usize, 0..6u64, any::<bool>()).prop_map(|(agent, cost, finer)| Ask::Call { agent, cost, finer }),
        2 => (0..2usize, 0..3u64, 0..3u64).prop_map(|(agent, calls, cost)| Ask::Usage { agent, calls, cost }),
        1 => (5..7u8).prop_map(|name| Ask::Agent { name }),
        1 => (0..2u8).prop_map(|name| Ask::Key { name }),
        1 => (0..5u64, any::<bool>(), any::<bool>())
            .prop_map(|(calls, warns, throttles)| Ask::Policy { calls, warns, throttles }),
        1 => (0..2usize).prop_map(|to| Ask::Delegation { to }),
        3 => (0..2usize, 0..6u64, seconds()).prop_map(|(agent, cost, seconds)| Ask::Hold { agent, cost, seconds }),
        2 => (0..3usize).prop_map(|hold| Ask::Release { hold }),
        1 => (0..3usize, seconds()).prop_map(|(hold, seconds)| Ask::Extend { hold, seconds }),
        1 => (0..2usize, prop_oneof![Just(0), Just(600u64)]).prop_map(|(agent, grace)| Ask::Rotate { agent, grace }),
        2 => (0..3usize, periods()).prop_map(|(policy, period)| Ask::ResetPolicy { policy, period }),
        1 => periods().prop_map(|period| Ask::ResetPolicies { period }),
    ]
}

fn seconds() -> impl Strategy<Value = u64> {
    prop_oneof![Just(1), Just(1_800u64), Just(86_400u64)]
}

fn periods() -> impl Strategy<Value = Period> {
    prop_oneof![Just(Period::Day), Just(Period::Month), Just(Period::All)]
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (asks(), 0..4u8, prop::option::weighted(0.8, 0..3u8)).prop_map(|(ask, who, key)| Step::Ask(ask, who, key)),
        1 => (0..3usize).prop_map(Step::Reset),
        1 => (0..3usize, 0..5u64).prop_map(|(at, calls)| Step::Change(at, calls)),
        1 => Just(Step::RevokeAgent),
        2 => prop_oneof![0..90i64, 1_300..1_500i64].prop_map(Step::Wait),
        1 => prop_oneof![0..10i64, 0..3_000i64].prop_map(Step::ClockBack),
        1 => Just(Step::Snapshot),
        1 => Just(Step::Replay),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 256 } else { 8_192 }))]

    #[test]
    fn a_repeat_gets_the_first_answer_and_changes_nothing(steps in prop::collection::vec(steps(), 1..60)) {
        let mut world = World::new(false);
        for step in &steps {
            world.step(step);
        }
        world.step(&Step::Replay);
    }
}

#[test]
fn in_a_full_memory_the_oldest_key_is_the_first_to_be_used_anew() {
    let mut world = World::new(true);
    let call = |cost| Ask::Call { agent: 0, cost, finer: false };
    // The memory has room for three, and then the others, all older, leave for these.
    for number in 0..50 {
        world.ask(&call(1), 0, Some(number));
    }
    for number in 0..50 {
        world.ask(&call(1), 0, Some(number));
        world.ask(&call(2), 0, Some(number));
    }
    assert_eq!(world.tenant.state().used_keys.len(), MAX_REMEMBERED_KEYS);
    world.step(&Step::Snapshot);
    world.step(&Step::Replay);
    let other = |number| {
        let text = IdempotencyKey::parse("key", &format!("other-{number}")).unwrap();
        world.tenant.first_use(&Caller::Operator, &RequestKey::new(text, &[]), world.now).unwrap()
    };
    assert_eq!((0..50).map(other).filter(Option::is_some).count(), 3, "50 came, and there was room for three");
}

#[test]
fn what_a_request_does_makes_it_the_same_and_nothing_else() {
    let key = || IdempotencyKey::parse("key", "k").unwrap();
    let of = |request: Request| request.with_key(key(), false).key.unwrap();
    let base = || Request::new("read", "docs:1").unwrap().with_arguments(r#"{"a": 1}"#).unwrap();
    let but = |change: &dyn Fn(&mut Request)| {
        let mut request = base();
        change(&mut request);
        request
    };
    let ip = "10.0.0.1".parse().ok();
    let same = [
        base().with_user_agent(Some("curl")),
        but(&|request| request.trace = TraceId::from_bytes([7; 16])),
        Request::new("read", "docs:1").unwrap().with_arguments(r#"{"a":1}"#).unwrap(),
    ];
    for request in same {
        assert_eq!(of(request), of(base()));
    }
    let agent = |seq| AgentId::derive(Timestamp::from_millis(1), seq, TenantTag(1));
    let others = [
        Request::new("write", "docs:1").unwrap().with_arguments(r#"{"a":1}"#).unwrap(),
        Request::new("read", "docs:2").unwrap().with_arguments(r#"{"a":1}"#).unwrap(),
        Request::new("read", "docs:1").unwrap(),
        base().with_arguments(r#"{"a":2}"#).unwrap(),
        base().for_agent(agent(1)),
        base().for_agent(agent(2)),
        but(&|request| request.cost = Some(Cost::default())),
        but(&|request| request.cost = Some(Cost::from_millionths(1))),
        but(&|request| request.ip = ip),
        but(&|request| request.tenants = vec![TenantRef::Default]),
        but(&|request| request.tenants = vec![TenantRef::parse("acme")]),
        base().with_arguments(&format!("[{}1]", "1,".repeat(40_000))).unwrap(),
        base().with_arguments(&format!("[{}2]", "1,".repeat(40_000))).unwrap(),
    ];
    let all: Vec<_> = others.into_iter().chain([base()]).map(of).collect();
    for (at, one) in all.iter().enumerate() {
        for (other_at, other) in all.iter().enumerate() {
            assert_eq!(one == other, at == other_at, "{at} and {other_at}");
        }
    }
    // The address of the connection may change.
    assert_eq!(but(&|request| request.ip = ip).with_key(key(), true).key, Some(of(base())));
    // The tenant in the path is set later.
    let in_path = |name: &str| base().with_key(key(), false).in_tenant(TenantRef::parse(name));
    assert_eq!(in_path("acme").key, in_path("acme").key);
    assert_ne!(in_path("acme").key, in_path("globex").key);
    assert_ne!(in_path("acme").key, Some(of(base())));
}

#[test]
fn a_request_of_whose_event_nothing_came_may_be_carried_out_anew_once() {
    let mut world = World::new(false);
    let key = |request: &[u8]| RequestKey::new(IdempotencyKey::parse("key", "k").unwrap(), &[request]);
    let check = |world: &World, request: &[u8], failed| {
        let used = world.tenant.check_anew(&Caller::Operator, &key(request), failed, world.now);
        used.map_err(|error| error.code())
    };
    let first = |world: &World| world.tenant.first_use(&Caller::Operator, &key(b"a"), world.now).unwrap();
    let claim = |world: &mut World, failed| {
        let used = Some(check(world, b"a", failed).unwrap());
        let change = Change::TenantRequested { tenant: world.tenant.id(), slug: None };
        world.happen(&Event::Changed(ChangeRecord { key: used, ..ChangeRecord::new(By::Operator, change) }));
        first(world)
    };
    // Nothing is known of it, whatever the caller believes.
    let unknown = Some(AuditId::derive(world.now, 9, world.tenant.id().tag()));
    assert!(check(&world, b"a", unknown).is_ok());
    let failed = claim(&mut world, None);
    for other in [None, unknown] {
        assert_eq!(check(&world, b"a", other), Err(Code::IdempotencyKeyInUse));
    }
    assert_eq!(check(&world, b"b", failed), Err(Code::IdempotencyKeyReused));
    let second = claim(&mut world, failed);
    assert_ne!(failed, second);
    // Whoever saw the first only is late.
    assert_eq!(check(&world, b"a", failed), Err(Code::IdempotencyKeyInUse));
    assert!(check(&world, b"a", second).is_ok());
    for step in [Step::Snapshot, Step::Replay] {
        world.step(&step);
        assert_eq!(first(&world), second);
    }
}

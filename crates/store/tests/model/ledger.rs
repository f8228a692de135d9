//! A tenant driven as its actor drives it, at any time, with everything that ever happened to it.

use kavach_domain::agent::commands::{AgentPatch, CreateAgent, NewAgent, RevokeAgent, UpdateAgent};
use kavach_domain::author::By;
use kavach_domain::budget::calendar::Span;
use kavach_domain::budget::cost::Cost;
use kavach_domain::budget::counts::Period;
use kavach_domain::budget::hold::HoldTime;
use kavach_domain::budget::hold_commands::HoldView;
use kavach_domain::budget::policy_commands::{
    CreatePolicy, DeletePolicy, NewPolicy, PolicyPatch, PolicyView, ResetPolicies, ResetPolicy, UpdatePolicy,
};
use kavach_domain::budget::scope::Call;
use kavach_domain::budget::usage::{UsageAnswer, UsageReport};
use kavach_domain::decision::explain::Steps;
use kavach_domain::event::ChangeRecord;
use kavach_domain::tenant::Caller;
use kavach_domain::tenant::commands::TenantSpec;
use kavach_domain::{
    AgentId, AuditEntry, AuditId, Code, Command, Decision, Error, Event, Moment, PolicyId, Request, Secret, Tenant,
    TenantId, Timestamp,
};
use kavach_store::codec;
use serde_json::{Value, json};

use super::recount::{self, TrailEntry};

pub struct Ledger {
    pub tenant: Tenant,
    /// What the system's clock says.
    pub clock: Timestamp,
    /// Every event as the journal keeps it.
    pub events: Vec<Vec<u8>>,
    /// Every event as an entry of the audit trail.
    pub trail: Vec<TrailEntry>,
    pub agents: Vec<AgentId>,
    pub policies: Vec<PolicyId>,
    tokens: u8,
}

pub fn at(text: &str) -> Timestamp {
    Timestamp::parse("at", text).unwrap()
}

pub fn cost(text: &str) -> Cost {
    Cost::parse("cost", text).unwrap()
}

impl Ledger {
    pub fn start(clock: Timestamp) -> Self {
        let mut ledger = Self {
            tenant: Tenant::default(),
            clock,
            events: Vec::new(),
            trail: Vec::new(),
            agents: Vec::new(),
            policies: Vec::new(),
            tokens: 0,
        };
        let change = TenantSpec::default_tenant().created(TenantId::DEFAULT);
        ledger.record(ledger.tenant.next_moment(clock), &Event::Changed(ChangeRecord::new(By::Operator, change)));
        ledger
    }

    /// The time by which the tenant decides now.
    pub fn now(&self) -> Timestamp {
        self.tenant.next_moment(self.clock).wall
    }

    pub fn go_to(&mut self, text: &str) {
        self.clock = at(text);
    }

    fn record(&mut self, moment: Moment, event: &Event<'_>) {
        let event = &self.tenant.complete(moment, event).into_owned();
        let mut bytes = Vec::new();
        codec::encode_event(moment, event, &mut bytes).unwrap();
        assert_eq!(codec::decode_event(moment.seq, &bytes).unwrap(), (moment, event.clone()));
        self.events.push(bytes);
        let shown = serde_json::to_string(&AuditEntry::of(TenantId::DEFAULT, moment, event)).unwrap();
        self.trail.push(TrailEntry::read(&shown));
        self.tenant.apply(moment, event);
    }

    fn execute<C: Command>(&mut self, command: Result<C, Error>) -> Result<C::Reply, Code> {
        let moment = self.tenant.next_moment(self.clock);
        let decided = command.and_then(|command| command.decide(&self.tenant, By::Operator, moment));
        let (change, subject) = decided.map_err(|error| error.code())?;
        if let Some(change) = change {
            self.record(moment, &Event::Changed(ChangeRecord::new(By::Operator, change)));
        }
        Ok(C::reply(&self.tenant, subject, moment.wall))
    }

    /// An agent that may `read` everything below `docs`.
    pub fn agent(&mut self, owner: &str) -> AgentId {
        self.tokens += 1;
        let token = Secret::agent_token(TenantId::DEFAULT, [self.tokens; 32]);
        let new = json!({
            "ownerId": owner, "name": "bot", "type": "service",
            "permissions": [{ "resource": "docs:*", "actions": ["read"] }],
        });
        let new: NewAgent = serde_json::from_str(&new.to_string()).unwrap();
        let view = self.execute(CreateAgent::parse(new, token.hash())).unwrap().unwrap();
        self.agents.push(view.agent.profile.id);
        view.agent.profile.id
    }

    pub fn give_to(&mut self, agent: AgentId, owner: &str) -> Result<(), Code> {
        self.change_agent(agent, &json!({ "ownerId": owner }).to_string())
    }

    pub fn change_agent(&mut self, agent: AgentId, json: &str) -> Result<(), Code> {
        let patch: AgentPatch = serde_json::from_str(json).unwrap();
        self.execute(UpdateAgent::parse(agent, patch)).map(|_| ())
    }

    pub fn revoke(&mut self, agent: AgentId) {
        self.execute(Ok(RevokeAgent(agent))).unwrap();
    }

    /// A policy from a client's JSON, which keeps the digits of its numbers.
    pub fn policy(&mut self, json: &str) -> PolicyId {
        let new: NewPolicy = serde_json::from_str(json).unwrap();
        let id = self.execute(CreatePolicy::parse(new)).unwrap().unwrap().policy.profile.id;
        self.policies.push(id);
        id
    }

    pub fn patch(&mut self, id: PolicyId, json: &str) -> Result<(), Code> {
        let patch: PolicyPatch = serde_json::from_str(json).unwrap();
        self.execute(Ok(UpdatePolicy { id, patch })).map(|_| ())
    }

    pub fn delete(&mut self, id: PolicyId) -> Result<(), Code> {
        self.execute(Ok(DeletePolicy(id)))
    }

    pub fn reset(&mut self, id: PolicyId, period: Period) -> Result<(), Code> {
        self.execute(Ok(ResetPolicy { id, period })).map(|_| ())
    }

    pub fn reset_all(&mut self, period: Period) {
        self.execute(Ok(ResetPolicies(period))).unwrap();
    }

    pub fn call(&mut self, agent: AgentId, cost: Option<&str>) -> Decision {
        self.call_of("read", "docs:1", agent, cost, None)
    }

    /// A call that may hold its cost, for so many seconds.
    pub fn call_of(
        &mut self,
        action: &str,
        resource: &str,
        agent: AgentId,
        cost: Option<&str>,
        hold: Option<u64>,
    ) -> Decision {
        let mut request = Request::new(action, resource).unwrap().for_agent(agent);
        request.cost = cost.map(self::cost);
        if let Some(seconds) = hold {
            request = request.holding(seconds).unwrap();
        }
        // An explanation sees due holds as ended, though nothing says so yet.
        let moment = self.tenant.next_moment(self.clock);
        let mut steps = Steps::default();
        let explained = self.tenant.decide(&Caller::Operator, &request, moment, &mut steps).answer(None);
        self.end_due_holds();
        let moment = self.tenant.next_moment(self.clock);
        let verdict = self.tenant.decide(&Caller::Operator, &request, moment, &mut ());
        self.record(moment, &Event::Decided(verdict.record(&request, 1)));
        let decision = verdict.answer(Some(AuditId::derive(moment.at, moment.seq, self.tenant.id().tag())));
        assert_eq!(explained, Decision { audit_id: None, hold: None, ..decision.clone() });
        assert_eq!(decision.hold.is_some(), hold.is_some() && decision.allowed);
        decision
    }

    /// Ends the holds that are due, as the actor does before it decides anything.
    pub fn end_due_holds(&mut self) {
        loop {
            let moment = self.tenant.next_moment(self.clock);
            let Some(end) = self.tenant.due_hold(moment.wall) else { return };
            self.record(moment, &Event::Used(end));
        }
    }

    pub fn release(&mut self, decision: AuditId) -> Result<UsageAnswer, Code> {
        self.end_due_holds();
        let moment = self.tenant.next_moment(self.clock);
        let (record, answer) =
            self.tenant.decide_release(By::Operator, decision, moment).map_err(|error| error.code())?;
        if let Some(record) = record {
            self.record(moment, &Event::Used(record));
        }
        Ok(answer)
    }

    pub fn extend(&mut self, decision: AuditId, seconds: u64) -> Result<HoldView, Code> {
        self.end_due_holds();
        let moment = self.tenant.next_moment(self.clock);
        let time = HoldTime::parse("ttlSeconds", seconds).unwrap();
        let decided = self.tenant.decide_extension(By::Operator, decision, time, moment);
        let (record, view) = decided.map_err(|error| error.code())?;
        self.record(moment, &Event::Used(record));
        assert_eq!(HoldView::find(&self.tenant, decision, moment.wall).unwrap(), view);
        Ok(view)
    }

    pub fn used(&mut self, agent: AgentId, calls: u64, cost: &str) -> Result<UsageAnswer, Code> {
        self.report(UsageReport::new(agent, calls, self::cost(cost)))
    }

    pub fn settle(&mut self, agent: AgentId, decision: AuditId, cost: &str) -> Result<UsageAnswer, Code> {
        let bytes = self.events[decision.seq() as usize - 1].clone();
        let (moment, event) = codec::decode_event(decision.seq(), &bytes).unwrap();
        let report = UsageReport::new(agent, 0, self::cost(cost)).unwrap();
        let by_entry = report.clone().settling(decision, moment, &event);
        // A hold tells what its entry tells.
        if let Some(hold) = HoldView::settleable(&self.tenant, decision) {
            assert_eq!(report.settling_hold(&hold), by_entry);
        }
        self.report(by_entry)
    }

    fn report(&mut self, report: Result<UsageReport, Error>) -> Result<UsageAnswer, Code> {
        self.end_due_holds();
        let moment = self.tenant.next_moment(self.clock);
        let decided = report.and_then(|report| self.tenant.decide_usage(By::Operator, report, moment));
        let (record, answer) = decided.map_err(|error| error.code())?;
        if let Some(record) = record {
            self.record(moment, &Event::Used(record));
        }
        Ok(answer)
    }

    pub fn view(&self, id: PolicyId) -> PolicyView {
        PolicyView::find(&self.tenant, id, self.now()).unwrap()
    }

    /// `[callsToday, callsThisMonth, costToday, costThisMonth]`
    pub fn counts(&self, id: PolicyId) -> [String; 4] {
        let usage = self.view(id).policy.usage;
        let (day, month) = (usage.day.open, usage.month.open);
        [day.calls.to_string(), month.calls.to_string(), day.cost.to_string(), month.cost.to_string()]
    }

    /// Restarts from a snapshot.
    pub fn restore(&mut self) {
        let bytes = codec::encode_state(&self.tenant.state()).unwrap();
        self.tenant = Tenant::restore(codec::decode_state(&bytes).unwrap());
    }

    /// Checks all counters, statuses and verdicts against what follows from the trail alone.
    #[track_caller]
    pub fn compare(&self) {
        let now = self.now();
        let counted = recount::policies(&self.trail, now.millis());
        let policies = self.tenant.policies_at(now);
        let found: Vec<_> = policies.iter().map(|p| shown(&PolicyView::of(&self.tenant, p, now))).collect();
        let expected: Vec<_> = counted.iter().map(recount::Counted::shown).collect();
        assert_eq!(found, expected, "at {now}");
        let holds = HoldView::list(&self.tenant, None, None, usize::MAX, now);
        let found: Vec<_> = holds
            .iter()
            .map(|HoldView { id, hold, .. }| (id.to_string(), hold.agent.to_string(), hold.ends_at.millis()))
            .collect();
        let open = recount::open_holds(&self.trail).into_iter().filter(|(_, until)| *until > now.millis());
        let entry = |place: usize| &self.trail[place];
        let expected: Vec<_> =
            open.map(|(at, until)| (entry(at).id.clone(), entry(at).agent_id.clone().unwrap(), until)).collect();
        assert_eq!(found, expected, "at {now}");
        for window in policies.iter().flat_map(|policy| policy.windows(now)) {
            if let (Some(max), Some(left)) = (window.max_tokens_cost, window.tokens_cost_left) {
                let (spent, held) = (window.tokens_cost_spent.millionths(), window.tokens_cost_held.millionths());
                let sum = left.millionths() + i128::from(spent) + i128::from(held);
                assert_eq!(i128::from(max.millionths()), sum, "{window:?}");
            }
        }
        for agent in self.tenant.agents() {
            let (id, owner) = (agent.profile.id.to_string(), &*agent.profile.spec.owner);
            assert_eq!(Some(owner), recount::owner(&self.trail, &id).as_deref());
            for (asked, resource) in [("0", "docs:1"), ("0.5", "docs:2")] {
                let call = Call::new("read", resource);
                let check = self.tenant.check_budgets(agent, call, cost(asked), now, &mut ());
                let warnings = check.notes.iter().flat_map(|notes| &notes.warnings);
                let found = check.denied_by.iter().map(|by| &**by).chain(warnings);
                let found: Vec<_> = found.map(|e| json!([e.policy_id, e.limit, e.action, e.retry_after])).collect();
                let pending = TrailEntry::pending(&id, owner, "read", resource, recount::millionths(asked));
                let expected = recount::verdict(&self.trail, &counted, &pending, now.millis());
                assert_eq!(found, expected.iter().map(recount::Said::shown).collect::<Vec<_>>(), "{id} at {now}");
            }
        }
    }

    /// Rebuilds the tenant from its events alone, and from a snapshot and the events after it, and compares.
    pub fn compare_replayed(&self) {
        let mut tenant = Tenant::default();
        let middle = self.events.len() / 2;
        for (place, bytes) in self.events.iter().enumerate() {
            if place == middle {
                let state = codec::encode_state(&tenant.state()).unwrap();
                tenant = Tenant::restore(codec::decode_state(&state).unwrap());
            }
            let (moment, event) = codec::decode_event(tenant.seq() + 1, bytes).unwrap();
            tenant.apply(moment, &event);
        }
        assert_eq!(tenant.state(), self.tenant.state());
        let (found, expected) = (codec::encode_state(&tenant.state()), codec::encode_state(&self.tenant.state()));
        assert_eq!(found.unwrap(), expected.unwrap());
    }
}

fn shown(view: &PolicyView) -> Value {
    let (profile, usage, limits) = (&view.policy.profile, &view.policy.usage, &view.limits);
    let window = |span| usage.count(span).map(|count| count.open);
    let calls = |span| window(span).map(|window| window.calls.to_string());
    let cost = |span| window(span).map(|window| window.cost.millionths().to_string());
    let held = |span| window(span).map(|window| window.held.millionths().to_string());
    let max_calls = |span| limits.calls(span).map(|max| max.to_string());
    let max_cost = |span| limits.cost(span).map(|max| max.millionths().to_string());
    let (plain, more) = ([Span::Day, Span::Month], [Span::Hour, Span::Week, Span::Total]);
    let in_order = |parts: [&[Option<String>]; 4]| parts.concat();
    json!({
        "id": profile.id,
        "limits": in_order([&plain.map(max_calls), &plain.map(max_cost), &more.map(max_calls), &more.map(max_cost)]),
        "action": profile.action,
        "status": view.status,
        "used": in_order([&plain.map(calls), &plain.map(cost), &more.map(calls), &more.map(cost)]),
        "held": in_order([&plain.map(held), &more.map(held), &[], &[]]),
        "lastDenied": view.policy.last_denied_at.map(Timestamp::millis),
    })
}

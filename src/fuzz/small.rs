//! A small tenant that has one of everything, for targets to act on.

use std::sync::LazyLock;

use crate::domain::agent_commands::{CreateAgent, NewAgent, RevokeAgent, RotateToken};
use crate::domain::delegation_commands::{CreateDelegation, NewDelegation};
use crate::domain::event::{By, ChangeRecord};
use crate::domain::explain::Steps;
use crate::domain::key::CreateKey;
use crate::domain::policy_commands::{CreatePolicy, NewPolicy};
use crate::domain::tenant::{Caller, Command, State};
use crate::domain::tenant_commands::{NewTenant, TenantSpec};
use crate::domain::{AgentId, AuditEntry, Decision, Event, Request, Secret, Tenant, TenantId, Timestamp};
use crate::journal::codec;

/// Milliseconds at which the tenant begins; it is a Friday's noon.
const BEGIN: i64 = 1_767_960_000_000;
/// Milliseconds from one event to the next: a few of them leave an hour's window, some days a month.
const STEP: i64 = 7 * 60 * 1_000;

/// The tenant, and all its events as the journal would hold them.
pub struct Small {
    /// Its state.
    pub tenant: Tenant,
    /// Its events, encoded; the first is number 1.
    pub journal: Vec<Vec<u8>>,
    /// The time of the next event.
    pub now: Timestamp,
}

/// The small tenant's id.
pub fn tenant_id() -> TenantId {
    TenantId::generate(Timestamp::from_millis(BEGIN), [7; 10]).unwrap()
}

impl Small {
    /// The small tenant, as it was made once: a target is run many times a second.
    pub fn new() -> Self {
        static MADE: LazyLock<(State, Vec<Vec<u8>>, Timestamp)> = LazyLock::new(|| {
            let small = Small::make();
            (small.tenant.state(), small.journal, small.now)
        });
        let (state, journal, now) = MADE.clone();
        Self { tenant: Tenant::restore(state), journal, now }
    }

    /// The tenant with its agents: one with many constraints, one that borrows, one of another owner, one that has
    /// expired and one that was revoked; with a key, and budgets that warn, throttle, block and revoke.
    fn make() -> Self {
        let mut small = Self { tenant: Tenant::default(), journal: Vec::new(), now: Timestamp::from_millis(BEGIN) };
        let new: NewTenant = json(r#"{"name":"Acme","slug":"acme","settings":{"maxAgents":50}}"#);
        let change = TenantSpec::parse(new).unwrap().created(tenant_id());
        small.happen(&Event::Changed(ChangeRecord { by: By::Operator, change }));
        let agents = [
            r#"{"ownerId":"user-1","name":"data","type":"autonomous","permissions":[
                {"resource":"reports:*","actions":["read","export"]},
                {"resource":"mcp:*:read","actions":["*"],"constraints":{"maxCallsPerHour":3}},
                {"resource":"mcp:filesystem:*","actions":["read"],"constraints":{"allowedArgPatterns":["/srv/**","^[a-z]+$"],
                 "timeWindow":{"start":"08:00","end":"20:00"},"ipAllowlist":["10.0.0.0/8","::1"]}},
                {"resource":"pay:*","actions":["*"],"constraints":{"requireApproval":true}}],"metadata":{"a":[1]}}"#,
            r#"{"ownerId":"user-1","name":"borrower","type":"delegated","permissions":[{"resource":"a","actions":["b"]}]}"#,
            r#"{"ownerId":"user-2","name":"service","type":"service","permissions":[{"resource":"*","actions":["*"]}]}"#,
            r#"{"ownerId":"user-2","name":"short","type":"service","expiresAt":"2026-01-09T13:00:00Z"}"#,
            r#"{"ownerId":"user-3","name":"gone","type":"autonomous"}"#,
        ];
        for (agent, n) in agents.iter().zip(1..) {
            let token = Secret::agent_token(tenant_id(), [n; 32]).hash();
            small.carry_out(CreateAgent::parse(json::<NewAgent>(agent), token).unwrap());
        }
        small.carry_out(CreateKey::new("ci", &Secret::tenant_key(tenant_id(), [9; 32])).unwrap());
        let (data, borrower, service, gone) = (small.agent(0), small.agent(1), small.agent(2), small.agent(4));
        for policy in [
            r#"{"limits":{"maxCallsPerDay":4},"action":"warn"}"#.to_owned(),
            format!(r#"{{"agentId":"{data}","limits":{{"maxTokensCostPerDay":10.5}},"action":"throttle"}}"#),
            r#"{"userId":"user-1","limits":{"maxCallsPerMonth":9,"maxTokensCostPerMonth":20}}"#.to_owned(),
            format!(r#"{{"agentId":"{service}","limits":{{"maxTokensCostPerDay":1}},"action":"revoke"}}"#),
        ] {
            small.carry_out(CreatePolicy::parse(json::<NewPolicy>(&policy)).unwrap());
        }
        for (from, to, resource) in [(data, borrower, "reports:2026:*"), (service, data, "mcp:*:write")] {
            let text = format!(
                r#"{{"fromAgent":"{from}","toAgent":"{to}","permissions":[
                    {{"resource":"{resource}","actions":["read"],"constraints":{{"maxCallsPerHour":5}}}}]}}"#
            );
            small.carry_out(CreateDelegation::parse(json::<NewDelegation>(&text)).unwrap());
        }
        let token = Secret::agent_token(tenant_id(), [8; 32]).hash();
        small.carry_out(RotateToken::new(data, token, 3_600).unwrap());
        small.carry_out(RevokeAgent(gone));
        for (action, resource) in [("read", "reports:q1"), ("read", "mcp:github:read"), ("drop", "db")] {
            let request = Request::new(action, resource).unwrap().for_agent(data);
            small.authorize(&Caller::Operator, &request);
        }
        small
    }

    /// The id of the agent in that place.
    pub fn agent(&self, place: usize) -> AgentId {
        self.tenant.agents()[place].profile.id
    }

    /// Carries out a command that must be good.
    fn carry_out<C: Command>(&mut self, command: C) {
        let moment = self.tenant.next_moment(self.now);
        let (change, _) = command.decide(&self.tenant, By::Operator, moment).unwrap();
        self.happen(&Event::Changed(ChangeRecord { by: By::Operator, change: change.unwrap() }));
    }

    /// Lets an event happen now, as the server would: by way of its bytes.
    pub fn happen(&mut self, event: &Event<'_>) {
        let moment = self.tenant.next_moment(self.now);
        let mut bytes = Vec::new();
        codec::encode_event(moment, event, &mut bytes).unwrap();
        let (read, decoded) = codec::decode_event(moment.seq, &bytes).unwrap();
        assert_eq!((read, &decoded), (moment, event), "an event is read as it was written");
        self.tenant.apply(moment, &decoded);
        // What the audit trail shows of it can be written as JSON.
        let entry = AuditEntry::of(self.tenant.id(), moment, &decoded);
        readable(&serde_json::to_string(&entry).unwrap());
        self.journal.push(bytes);
        self.now = self.now.plus_millis(STEP);
    }

    /// Decides a call twice, once with its steps, and records it.
    pub fn authorize(&mut self, caller: &Caller, request: &Request) -> Decision {
        let moment = self.tenant.next_moment(self.now);
        let mut steps = Steps::default();
        let explained = self.tenant.decide(caller, request, moment, &mut steps).answer(None);
        let verdict = self.tenant.decide(caller, request, moment, &mut ());
        self.happen(&Event::Decided(verdict.record(request, 17)));
        let decision = verdict.answer(None);
        assert_eq!(decision, explained, "whoever asks why is told what is decided");
        assert_eq!(decision.allowed, decision.code.is_none());
        assert_eq!(decision.allowed, decision.reason.is_none());
        assert!(decision.allowed || steps.shown.iter().any(|step| !step.passed) || steps.more > 0);
        readable(&serde_json::to_string(&decision).unwrap());
        readable(&serde_json::to_string(&steps.shown).unwrap());
        decision
    }

    /// What must hold of any state: replay and a snapshot give it back bit for bit, and it is sound.
    pub fn check(&self) {
        self.tenant.check_soundness().unwrap();
        let mut replayed = Tenant::default();
        for (bytes, seq) in self.journal.iter().zip(1..) {
            let (moment, event) = codec::decode_event(seq, bytes).unwrap();
            replayed.apply(moment, &event);
        }
        assert_eq!(replayed.state(), self.tenant.state(), "replay gives the state");
        round_trip(&self.tenant);
    }
}

/// The state survives a snapshot.
pub fn round_trip(tenant: &Tenant) {
    let bytes = codec::encode_state(&tenant.state()).unwrap();
    let restored = Tenant::restore(codec::decode_state(&bytes).unwrap());
    assert_eq!(restored.state(), tenant.state(), "a snapshot gives the state");
    assert_eq!(restored.active_agents(tenant.state().at), tenant.active_agents(tenant.state().at));
}

/// The text is JSON.
pub fn readable(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|problem| panic!("{text} is no JSON: {problem}"))
}

fn json<'t, T: serde::Deserialize<'t>>(text: &'t str) -> T {
    serde_json::from_str(text).unwrap()
}

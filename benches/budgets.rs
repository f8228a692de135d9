//! What a decision costs by the number of policies about its agent: decided, written as a record, and applied.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a bench ends by a panic that says what was wrong"
)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use kavach::domain::agent_commands::{CreateAgent, NewAgent};
use kavach::domain::cost::Cost;
use kavach::domain::event::{By, ChangeRecord};
use kavach::domain::policy_commands::{CreatePolicy, NewPolicy};
use kavach::domain::tenant::Caller;
use kavach::domain::tenant_commands::TenantSpec;
use kavach::domain::{AgentId, Command, Event, Request, Secret, Tenant, TenantId, Timestamp};
use kavach::journal::codec;
use serde_json::json;

/// 2026-03-15T12:00:00Z
const NOW_MILLIS: i64 = 1_773_576_000_000;

fn now() -> Timestamp {
    Timestamp::from_millis(NOW_MILLIS)
}

struct Bench {
    tenant: Tenant,
    agent: AgentId,
    buffer: Vec<u8>,
}

fn execute<C: Command>(tenant: &mut Tenant, command: C) -> C::Subject {
    let moment = tenant.next_moment(now());
    let (change, subject) = command.decide(tenant, By::Operator, moment).unwrap();
    tenant.apply(moment, &Event::Changed(ChangeRecord { by: By::Operator, change: change.unwrap() }));
    subject
}

fn create_agent(tenant: &mut Tenant, owner: &str, n: u8) -> AgentId {
    let permissions = json!([{ "resource": "mcp:*", "actions": ["read", "execute"] }]);
    let new = json!({ "ownerId": owner, "name": "bot", "type": "service", "permissions": permissions });
    let new: NewAgent = serde_json::from_str(&new.to_string()).unwrap();
    let token = Secret::agent_token(TenantId::DEFAULT, [n; 32]);
    execute(tenant, CreateAgent::parse(new, token.hash()).unwrap())
}

impl Bench {
    /// So many policies about the agent that calls, in turn by its tenant, its owner and itself, each with all four
    /// limits and far from any; and so many about somebody else.
    fn new(matching: usize, others: usize) -> Self {
        let mut tenant = Tenant::default();
        let change = TenantSpec::default_tenant().created(TenantId::DEFAULT);
        tenant.apply(tenant.next_moment(now()), &Event::Changed(ChangeRecord { by: By::Operator, change }));
        let agent = create_agent(&mut tenant, "ann", 1);
        let other = create_agent(&mut tenant, "bob", 2);
        let about = |n: usize, agent: AgentId, owner: &str, of_tenant: bool| match n % 3 {
            0 if of_tenant => json!({}),
            1 => json!({ "userId": owner }),
            _ => json!({ "agentId": agent }),
        };
        let all = (0..matching)
            .map(|n| about(n, agent, "ann", true))
            .chain((0..others).map(|n| about(n, other, "bob", false)));
        for mut new in all.collect::<Vec<_>>() {
            let most = 1_000_000_000_000_u64;
            new["limits"] = json!({
                "maxCallsPerDay": most, "maxCallsPerMonth": most,
                "maxTokensCostPerDay": most, "maxTokensCostPerMonth": most,
            });
            let new: NewPolicy = serde_json::from_str(&new.to_string()).unwrap();
            execute(&mut tenant, CreatePolicy::parse(new).unwrap());
        }
        assert_eq!(tenant.policies().len(), matching + others);
        Self { tenant, agent, buffer: Vec::with_capacity(4_096) }
    }

    fn call(&mut self, request: &Request) {
        let moment = self.tenant.next_moment(now());
        let verdict = self.tenant.decide(&Caller::Operator, black_box(request), moment, &mut ());
        let event = Event::Decided(verdict.record(request, 1));
        self.buffer.clear();
        codec::encode_event(moment.at, &event, &mut self.buffer).unwrap();
        self.tenant.apply(moment, &event);
        black_box(verdict.answer(None));
    }

    fn request(&self) -> Request {
        let mut request = Request::new("read", "mcp:github:list_issues").unwrap().for_agent(self.agent);
        request.cost = Some(Cost::from_millionths(1));
        request
    }
}

fn budgets(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("budgets");
    for (matching, others) in [(0, 0), (1, 0), (10, 0), (100, 0), (0, 9_000), (10, 9_000)] {
        let mut bench = Bench::new(matching, others);
        let request = bench.request();
        bench.call(&request);
        let charged = bench.tenant.policies().iter().filter(|policy| policy.usage.calls_today == 1).count();
        assert_eq!(charged, matching, "those about the agent, and no others");
        let name = if others == 0 { "matching" } else { "matching, beside 9000 others" };
        group.bench_function(BenchmarkId::new(name, matching), |bencher| bencher.iter(|| bench.call(&request)));
    }
    group.finish();
}

criterion_group!(benches, budgets);
criterion_main!(benches);

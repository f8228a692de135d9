//! The bytes of events and of a state, format version 1: every old line stays readable and is still written byte for
//! byte. One line per value in `tests/golden/events-v1`: its name and its bytes in hex.
//!
//! A new variant of [`Change`], a new [`Code`] of a decision or a new constraint fails here until it has a line; any other
//! new field does not compile. A released line never changes.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use crate::brief::decode_brief;
use crate::codec::{EventKind, decode_event, decode_state, encode_event, encode_state, is_change, is_usage};
use kavach_domain::agent::labels::Labels;
use kavach_domain::agent::{Agent, AgentSpec};
use kavach_domain::author::Author;
use kavach_domain::author::By;
use kavach_domain::budget::calendar::{Calendar, MonthStart, Span, Weekday, parse_zone};
use kavach_domain::budget::cost::Cost;
use kavach_domain::budget::counts::{Cleared, Period};
use kavach_domain::budget::crossed::Crossed;
use kavach_domain::budget::opening::Opened;
use kavach_domain::budget::policy::{Policy, PolicyAction, PolicyProfile, PolicyTerms};
use kavach_domain::budget::policy_limits::{Limits, Temporary};
use kavach_domain::budget::scope::Scope;
use kavach_domain::budget::settlement::{HoldChange, SettledDecision, UsageRecord};
use kavach_domain::budget::window::Counted;
use kavach_domain::decision::kept_answer::{KeptAnswer, KeptWarning};
use kavach_domain::delegation::DelegationSpec;
use kavach_domain::event::{Before, BriefEvent, BriefRecord, ChangeRecord, Extras, Grant, LinkUse};
use kavach_domain::idempotency::kept_reply::{KeptReply, KeptWebhook};
use kavach_domain::idempotency::key::{IdempotencyKey, KeyOwner, RequestKey, UsedKey};
use kavach_domain::instance::amounts::Amounts;
use kavach_domain::instance::lease::LeaseRecord;
use kavach_domain::instance::lent::Lent;
use kavach_domain::permission::constraint::time_window::TimeWindowSpec;
use kavach_domain::permission::constraint::{Constraints, ConstraintsSpec};
use kavach_domain::permission::pattern::Pattern;
use kavach_domain::permission::{PermissionSet, PermissionSpec};
use kavach_domain::text::Slug;
use kavach_domain::webhook::message_type::MessageType;
use kavach_domain::webhook::outbox::{Delivery, DeliveryRecord, Outcome, WaitingMessage};
use kavach_domain::webhook::{WebhookFormat, WebhookProfile, WebhookSpec};
use kavach_domain::{
    AgentId, AgentType, Change, Code, DelegationId, Event, KeyId, KeyRole, MessageId, Moment, OperatorRole, PolicyId,
    Record, SecretHash, Tenant, TenantId, TenantSettings, Timestamp, TraceId, WebhookId,
};

const FIRST: i64 = 1_700_000_000_000;

fn at(seq: u64) -> Timestamp {
    Timestamp::from_millis(FIRST + seq as i64 * 1_000)
}

fn tenant_id() -> TenantId {
    TenantId::from_bytes(*b"0123456789abcdef")
}

fn agent_id(seq: u64) -> AgentId {
    AgentId::derive(at(seq), seq, tenant_id().tag())
}

fn key_id(seq: u64) -> KeyId {
    KeyId::derive(at(seq), seq, tenant_id().tag())
}

fn policy_id(seq: u64) -> PolicyId {
    PolicyId::derive(at(seq), seq, tenant_id().tag())
}

fn link_id(seq: u64) -> DelegationId {
    DelegationId::derive(at(seq), seq, tenant_id().tag())
}

fn used_key() -> UsedKey {
    let key = IdempotencyKey::parse("key", "8e03978e-40d5-43dd-bc93-6894a57f9324").unwrap();
    RequestKey::new(key, &[b"a request"]).used_by(KeyOwner::Agent(agent_id(9)))
}

fn webhook_id(seq: u64) -> WebhookId {
    WebhookId::derive(at(seq), seq, tenant_id().tag())
}

fn webhook_spec() -> WebhookSpec {
    WebhookSpec {
        url: "https://example.com/hook".into(),
        events: vec!["agent.*".into(), "policy.updated".into()],
        format: WebhookFormat::Standard,
        description: Some("to the pager".into()),
        disabled: false,
    }
}

/// Requests with a key, and what the event of each keeps for repeats.
fn kept() -> Vec<(&'static str, ChangeRecord)> {
    let once = |change, kept| {
        let record = ChangeRecord::new(By::Key(key_id(6)), change);
        ChangeRecord { key: Some(used_key()), kept: Some(kept), ..record }
    };
    let token = |text| SecretHash::of(text);
    let agent = Agent::new(agent_id(11), least_spec(AgentType::Service), token("e"), at(11));
    let policy = PolicyProfile {
        id: policy_id(21),
        agent: None,
        owner: Some("user-1".into()),
        limits: Limits { max_calls_per_day: Some(5), ..Limits::default() },
        action: PolicyAction::Block,
        disabled: false,
        by: By::Key(key_id(6)),
        created_at: at(21),
        updated_at: at(22),
        terms: PolicyTerms::default(),
    };
    let webhook = webhook_id(40);
    let rotated = KeptWebhook {
        profile: WebhookProfile {
            id: webhook,
            spec: webhook_spec(),
            rotation: 1,
            rotated_at: Some(at(50)),
            by: By::Operator,
            created_at: at(40),
            updated_at: at(50),
        },
        waiting: 2,
        dead: 1,
        last: Some((
            Outcome::Dead,
            Delivery {
                seq: 41,
                at: at(41),
                kind: MessageType::AgentCreated,
                finished_at: at(49),
                attempts: 9,
                status: Some(500),
                problem: Some("it answered 500".into()),
            },
        )),
    };
    let untold = KeptWebhook { last: None, waiting: 0, dead: 0, ..rotated.clone() };
    let message =
        |kind, since| KeptReply::Message(Box::new(WaitingMessage { seq: 41, at: at(41), kind, since: at(since) }));
    vec![
        (
            "tokenRotated.once",
            once(
                Change::TokenRotated { agent: agent_id(11), token: token("e"), grace_until: None },
                KeptReply::Agent(Box::new(agent)),
            ),
        ),
        (
            "policyReset.once",
            once(
                Change::PolicyReset { policy: policy_id(21), period: Period::All },
                KeptReply::Policy(Box::new(Policy::new(policy, |_| None))),
            ),
        ),
        ("policiesReset.once", once(Change::PoliciesReset { period: Period::Day }, KeptReply::Policies(7))),
        ("webhookRotated.once", once(Change::WebhookRotated { webhook }, KeptReply::Webhook(Box::new(rotated)))),
        ("webhookRotated.once.untold", once(Change::WebhookRotated { webhook }, KeptReply::Webhook(Box::new(untold)))),
        ("webhookTested.once", once(Change::WebhookTested { webhook }, message(MessageType::WebhookTest, 41))),
        (
            "webhookRedelivered.once",
            once(
                Change::WebhookRedelivered { webhook, message: MessageId::derive(at(41), 41, tenant_id().tag()) },
                message(MessageType::AgentCreated, 60),
            ),
        ),
        (
            "tenantRequested",
            ChangeRecord {
                key: Some(used_key()),
                ..ChangeRecord::new(
                    By::Operator,
                    Change::TenantRequested { tenant: tenant_id(), slug: Slug::parse("slug", "acme").ok() },
                )
            },
        ),
    ]
}

/// What became of messages to webhooks.
fn deliveries() -> Vec<(&'static str, DeliveryRecord)> {
    let delivered = DeliveryRecord {
        webhook: webhook_id(40),
        seq: 41,
        at: at(41),
        kind: MessageType::AgentCreated,
        outcome: Outcome::Delivered,
        attempts: 2,
        status: Some(204),
        problem: None,
    };
    let problem = Some("it did not answer within 15 seconds".into());
    let (outcome, kind) = (Outcome::Dead, MessageType::WebhookTest);
    let dead = DeliveryRecord { outcome, kind, attempts: 9, status: None, problem, ..delivered.clone() };
    vec![("delivered", delivered), ("delivered.dead", dead)]
}

/// What lender and tenants record about slices of instance policies.
fn leases() -> Vec<(&'static str, LeaseRecord)> {
    let amounts = |calls, millionths| Amounts::new(calls, Cost::from_millionths(millionths));
    let lent = Lent {
        tenant: tenant_id(),
        granted: amounts(64, 1_500_000),
        until: at(90),
        order: 17,
        returned: amounts(3, 0),
        before: Amounts::default(),
        earlier: Timestamp::default(),
        spent: amounts(40, 700_000),
        late: Amounts::default(),
    };
    let opened = Opened { policy: 7, period: Span::Month, start: at(0).millis(), end: at(30 * 86_400).millis() };
    let told = Lent { before: amounts(20, 1), earlier: at(60), late: amounts(1, 9), ..lent };
    let first = lent;
    let lent = |lent, opens, crossed| LeaseRecord::Lent { policy: 7, lent, opens, crossed };
    let held = |anew| {
        let (granted, returned, until) = (amounts(64, 1_500_000), amounts(3, 0), at(90));
        LeaseRecord::Held { policy: 7, granted, returned, until, anew }
    };
    vec![
        ("leased.lent", lent(first, Vec::new(), Vec::new())),
        ("leased.lent.told", lent(told, vec![opened], crossed())),
        ("leased.held", held(false)),
        ("leased.held.anew", held(true)),
        ("leased.dropped", LeaseRecord::Dropped { policies: vec![7, 9] }),
    ]
}

fn settings() -> TenantSettings {
    TenantSettings {
        max_agents: Some(200),
        max_delegation_depth: Some(3),
        audit_retention_days: Some(365),
        allowed_agent_types: Some(vec![AgentType::Autonomous, AgentType::Delegated, AgentType::Service]),
    }
}

fn full_spec() -> AgentSpec {
    let constraints = ConstraintsSpec {
        max_calls_per_hour: Some(3),
        allowed_arg_patterns: Some(vec!["/srv/data/**".to_owned(), "^repo-[0-9]+$".to_owned()]),
        time_window: Some(TimeWindowSpec { start: "22:00".to_owned(), end: "06:30".to_owned() }),
        ip_allowlist: Some(vec!["10.0.0.0/8".to_owned(), "2001:db8::1".to_owned()]),
        require_approval: Some(false),
        ..ConstraintsSpec::default()
    };
    let rated = ConstraintsSpec { max_calls_per_hour: Some(300), ..ConstraintsSpec::default() };
    let permission = |resource: &str, actions: &[&str], constraints| PermissionSpec {
        resource: resource.to_owned(),
        actions: actions.iter().map(|action| (*action).to_owned()).collect(),
        constraints,
    };
    AgentSpec {
        owner: "user-1".into(),
        name: "acme-data-bot".into(),
        kind: AgentType::Autonomous,
        permissions: PermissionSet::parse(vec![
            permission("reports:*", &["read", "export"], None),
            permission("mcp:*:list_issues", &["*"], Some(constraints)),
            permission("mcp:github:*", &["read"], Some(rated)),
        ])
        .unwrap()
        .into(),
        expires_at: Some(at(1_000_000)),
        metadata: Some(r#"{"team":"data"}"#.into()),
        labels: Labels::default(),
    }
}

/// Rules for arguments of every kind.
fn spec_with_arguments() -> AgentSpec {
    let permissions = r#"[{"resource":"mcp:*","actions":["*"],"constraints":{"arguments":{
        "path":{"match":["/srv/data/**","^tmp-[0-9]+$"]},"edits[].a\\.b":{},"force":{"absent":true},
        "amount":{"max":100.50,"min":0.01,"absent":true},"sort":{"oneOf":["name",1e2,null,true]}},"otherArguments":"strings"}},
        {"resource":"a","actions":["*"],"constraints":{"otherArguments":"deny"}},
        {"resource":"b","actions":["*"],"constraints":{"arguments":{"a":{"min":-5}},"otherArguments":"allow"}}]"#;
    let permissions = PermissionSet::parse(serde_json::from_str(permissions).unwrap()).unwrap().into();
    AgentSpec { permissions, ..least_spec(AgentType::Service) }
}

fn least_spec(kind: AgentType) -> AgentSpec {
    let permissions = PermissionSet::default().into();
    let labels = Labels::default();
    AgentSpec { owner: "u".into(), name: "n".into(), kind, permissions, expires_at: None, metadata: None, labels }
}

/// Every change, with all optional fields and with none, including its author's and its old values. The text after the
/// dot tells them apart.
fn changes() -> Vec<(&'static str, ChangeRecord)> {
    let operator = |change| ChangeRecord::new(By::Operator, change);
    let key = |change| ChangeRecord::new(By::Key(key_id(6)), change);
    let because =
        |change| ChangeRecord { reason: Some("left the company".into()), ..ChangeRecord::new(By::Operator, change) };
    let token = |text| SecretHash::of(text);
    let slug = Some(Slug::parse("slug", "acme").unwrap());
    let created = Change::TenantCreated { id: tenant_id(), name: "Acme".into(), slug, settings: settings() };
    let default = Change::TenantCreated {
        id: TenantId::DEFAULT,
        name: "Default".into(),
        slug: None,
        settings: TenantSettings {
            max_agents: None,
            max_delegation_depth: None,
            audit_retention_days: None,
            allowed_agent_types: None,
        },
    };
    let key_created = |seq, role, expires_at| {
        let (name, hash, prefix) = ("ci".into(), token("key"), "kvt_MDEy".into());
        Change::KeyCreated { key: key_id(seq), name, hash, prefix, role, expires_at }
    };
    let operator_key_created = |seq, role, expires_at| {
        let (name, hash, prefix) = ("ada".into(), token("operator"), "kvo_MDEyMz".into());
        Change::OperatorKeyCreated { key: key_id(seq), name, hash, prefix, role, expires_at }
    };
    let agent_created = |seq, spec, text| Change::AgentCreated {
        agent: agent_id(seq),
        spec: Box::new(spec),
        token: SecretHash::of(text),
    };
    let cost = |units: u64| Some(Cost::from_millionths(units * 1_000_000 + 1));
    let limits = Limits {
        max_calls_per_day: Some(100),
        max_calls_per_month: Some(100_000),
        max_tokens_cost_per_day: cost(50),
        max_tokens_cost_per_month: cost(5_000),
        ..Limits::default()
    };
    let one_limit = Limits { max_calls_per_day: Some(0), ..Limits::default() };
    let policy_created = |seq, agent, owner: Option<&str>, limits, action| Change::PolicyCreated {
        policy: policy_id(seq),
        agent,
        owner: owner.map(Into::into),
        limits,
        action,
        terms: None,
    };
    let link_created = |seq, expires_at, stands_on| Change::DelegationCreated {
        delegation: link_id(seq),
        spec: Box::new(DelegationSpec {
            from: agent_id(9),
            to: agent_id(11),
            permissions: full_spec().permissions.as_ref().clone(),
            expires_at,
            max_depth: 3,
            effective_max_depth: 2,
            depth: 1,
            stands_on,
        }),
    };
    let mut changed = full_spec();
    changed.name = "renamed".into();
    let until = Some(at(3_600));
    let known = |by, change, before| {
        let author = Author {
            key_name: (by != By::Operator).then(|| "ci".into()),
            ip: Some("10.1.2.3".parse().unwrap()),
            user_agent: Some("curl/8.9".into()),
        };
        ChangeRecord { author: Some(Box::new(author)), before: Some(Box::new(before)), ..ChangeRecord::new(by, change) }
    };
    let by_key = By::Key(key_id(6));
    let tenant_before =
        |slug, suspended| Before::Tenant { name: "Globex".into(), slug, settings: settings(), suspended };
    let other = || Slug::parse("slug", "globex").ok();
    let used = Cleared {
        at: Some(at(40)),
        calls_today: 7,
        calls_this_month: 70,
        tokens_cost_today: Cost::from_millionths(1_500_000),
        tokens_cost_this_month: Cost::from_millionths(15_000_000),
        day_reset: 3,
        month_reset: 2,
        hour: None,
        week: None,
        total: None,
    };
    let link = DelegationSpec {
        from: agent_id(9),
        to: agent_id(11),
        permissions: full_spec().permissions.as_ref().clone(),
        expires_at: None,
        max_depth: 3,
        effective_max_depth: 2,
        depth: 1,
        stands_on: Vec::new(),
    };
    let policy_before = Before::Policy {
        agent: Some(agent_id(9)),
        owner: Some("user-1".into()),
        limits: limits.clone(),
        action: PolicyAction::Block,
        disabled: false,
        terms: None,
    };
    let opens = vec![
        Opened { policy: 23, period: Span::Day, start: at(0).millis(), end: at(86_400).millis() },
        Opened { policy: 23, period: Span::Week, start: at(0).millis(), end: at(7 * 86_400).millis() },
    ];
    let wide_limits = Limits {
        max_calls_per_hour: Some(1),
        max_calls_per_week: Some(2),
        max_calls_total: Some(3),
        max_tokens_cost_per_hour: cost(4),
        max_tokens_cost_per_week: cost(5),
        max_tokens_cost_total: cost(6),
        ..Limits::default()
    };
    let labels = |json: &str| Labels::parse("labels", serde_json::from_str(json).unwrap()).unwrap();
    let terms = PolicyTerms {
        calendar: Calendar {
            zone: parse_zone("Asia/Kolkata").unwrap(),
            week_starts_on: Weekday::Sunday,
            month_starts_on: MonthStart::parse(28).unwrap(),
        },
        temporary: Some(Box::new(Temporary {
            calls: vec![(Span::Day, Some(7)), (Span::Total, None)],
            costs: vec![(Span::Week, cost(8)), (Span::Month, None)],
            until: at(3_600),
        })),
        scope: Some(Box::new(Scope {
            labels: labels(r#"{"env":"prod","team":"data"}"#),
            resource: Some(Pattern::parse("resource", "mcp:*:list").unwrap()),
            actions: vec!["read".into(), "list".into()],
        })),
        thresholds: None,
        instance: false,
    };
    let wide_before = Before::Policy {
        agent: None,
        owner: None,
        limits: wide_limits.clone(),
        action: PolicyAction::Warn,
        disabled: true,
        terms: Some(Box::new(terms.clone())),
    };
    let wide_cleared = Cleared {
        hour: Some((1, Cost::from_millionths(2))),
        week: Some((3, Cost::from_millionths(4))),
        total: Some((5, Cost::from_millionths(6))),
        ..used.clone()
    };
    let instance = PolicyTerms { instance: true, ..PolicyTerms::default() };
    let labelled = AgentSpec { labels: labels(r#"{"team":"data","a/b":""}"#), ..least_spec(AgentType::Service) };
    let details = vec![
        (
            "policyCreated.terms",
            ChangeRecord {
                opens: opens.clone(),
                ..operator(Change::PolicyCreated {
                    policy: policy_id(23),
                    agent: None,
                    owner: None,
                    limits: wide_limits.clone(),
                    action: PolicyAction::Block,
                    terms: Some(Box::new(terms.clone())),
                })
            },
        ),
        (
            "policyCreated.instance",
            operator(Change::PolicyCreated {
                policy: policy_id(7),
                agent: None,
                owner: None,
                limits: wide_limits.clone(),
                action: PolicyAction::Throttle,
                terms: Some(Box::new(instance)),
            }),
        ),
        (
            "policyUpdated.terms",
            ChangeRecord {
                opens: opens.clone(),
                ..known(
                    By::Operator,
                    Change::PolicyUpdated {
                        policy: policy_id(23),
                        limits: wide_limits,
                        action: PolicyAction::Block,
                        disabled: false,
                        terms: Some(Box::new(terms)),
                    },
                    wide_before,
                )
            },
        ),
        (
            "policyReset.total",
            ChangeRecord {
                opens,
                ..known(
                    By::Operator,
                    Change::PolicyReset { policy: policy_id(23), period: Period::Total },
                    Before::Used(Box::new(wide_cleared)),
                )
            },
        ),
        (
            "policyCreated.thresholds",
            operator(Change::PolicyCreated {
                policy: policy_id(24),
                agent: None,
                owner: None,
                limits: Limits { max_calls_total: Some(9), ..Limits::default() },
                action: PolicyAction::Warn,
                terms: Some(Box::new(PolicyTerms { thresholds: Some(vec![1, 50, 1_000]), ..PolicyTerms::default() })),
            }),
        ),
        (
            "policyUpdated.thresholds",
            operator(Change::PolicyUpdated {
                policy: policy_id(24),
                limits: Limits { max_calls_total: Some(9), ..Limits::default() },
                action: PolicyAction::Warn,
                disabled: false,
                terms: Some(Box::new(PolicyTerms { thresholds: Some(Vec::new()), ..PolicyTerms::default() })),
            }),
        ),
        ("policyReset.hour", operator(Change::PolicyReset { policy: policy_id(23), period: Period::Hour })),
        ("policiesReset", operator(Change::PoliciesReset { period: Period::Week })),
        ("agentCreated.labels", operator(agent_created(12, labelled, "f"))),
        ("agentSuspended", key(Change::AgentSuspended { agent: agent_id(9) })),
        ("agentActivated", because(Change::AgentActivated { agent: agent_id(9) })),
        ("agentCreated.arguments", operator(agent_created(12, spec_with_arguments(), "f"))),
        ("tenantDeleted.least", operator(Change::TenantDeleted { tenant: tenant_id(), slug: None })),
        (
            "tenantDeleted",
            known(
                By::Operator,
                Change::TenantDeleted { tenant: tenant_id(), slug: other() },
                tenant_before(other(), false),
            ),
        ),
        ("tenantActivated.known", known(By::Operator, Change::TenantActivated, tenant_before(None, true))),
        (
            "keyRevoked.known",
            known(
                By::Operator,
                Change::KeyRevoked { key: key_id(7) },
                Before::Key { name: "ci".into(), prefix: "kvt_MDEy".into(), role: KeyRole::Admin, expires_at: None },
            ),
        ),
        (
            "agentRevoked.known",
            known(by_key, Change::AgentRevoked { agent: agent_id(9) }, Before::Agent(Box::new(full_spec()))),
        ),
        ("policyDeleted.known", known(by_key, Change::PolicyDeleted { policy: policy_id(20) }, policy_before)),
        (
            "policyReset.known",
            known(
                by_key,
                Change::PolicyReset { policy: policy_id(20), period: Period::Day },
                Before::Used(Box::new(used)),
            ),
        ),
        (
            "delegationRevoked.known",
            known(
                by_key,
                Change::DelegationRevoked { delegation: link_id(31), from: agent_id(9), to: agent_id(11) },
                Before::Delegation(Box::new(link)),
            ),
        ),
        (
            "tokenRotated.known",
            ChangeRecord {
                author: Some(Box::default()),
                ..key(Change::TokenRotated { agent: agent_id(9), token: token("d"), grace_until: None })
            },
        ),
    ];
    let mut all = vec![
        ("tenantCreated.default", operator(default)),
        ("tenantCreated", operator(created)),
        ("tenantUpdated", operator(Change::TenantUpdated { name: "Acme Inc.".into(), settings: settings() })),
        ("tenantSuspended", operator(Change::TenantSuspended)),
        ("tenantActivated", operator(Change::TenantActivated)),
        ("keyCreated", operator(key_created(6, KeyRole::Admin, None))),
        ("keyCreated.second", operator(key_created(7, KeyRole::Admin, None))),
        ("keyRevoked", operator(Change::KeyRevoked { key: key_id(7) })),
        ("agentCreated", key(agent_created(9, full_spec(), "a"))),
        ("agentCreated.delegated", key(agent_created(10, least_spec(AgentType::Delegated), "b"))),
        ("agentCreated.service", key(agent_created(11, least_spec(AgentType::Service), "c"))),
        ("agentUpdated", key(Change::AgentUpdated { agent: agent_id(9), spec: Box::new(changed) })),
        ("agentRevoked", key(Change::AgentRevoked { agent: agent_id(10) })),
        ("tokenRotated.grace", key(Change::TokenRotated { agent: agent_id(9), token: token("d"), grace_until: until })),
        ("tokenRotated", key(Change::TokenRotated { agent: agent_id(11), token: token("e"), grace_until: None })),
        (
            "policyCreated",
            key(policy_created(20, Some(agent_id(9)), Some("user-1"), limits.clone(), PolicyAction::Revoke)),
        ),
        ("policyCreated.least", operator(policy_created(21, None, None, one_limit, PolicyAction::Warn))),
        (
            "policyUpdated",
            key(Change::PolicyUpdated {
                policy: policy_id(20),
                limits: limits.clone(),
                action: PolicyAction::Throttle,
                disabled: true,
                terms: None,
            }),
        ),
        ("policyReset.day", key(Change::PolicyReset { policy: policy_id(20), period: Period::Day })),
        ("policyReset.month", key(Change::PolicyReset { policy: policy_id(20), period: Period::Month })),
        ("policyReset.all", key(Change::PolicyReset { policy: policy_id(20), period: Period::All })),
        ("policyCreated.block", key(policy_created(22, None, None, limits, PolicyAction::Block))),
        ("policyDeleted", operator(Change::PolicyDeleted { policy: policy_id(21) })),
        ("delegationCreated", key(link_created(30, Some(at(2_000_000)), Vec::new()))),
        ("delegationCreated.on", key(link_created(31, None, vec![0]))),
        (
            "delegationRevoked",
            key(Change::DelegationRevoked { delegation: link_id(31), from: agent_id(9), to: agent_id(11) }),
        ),
        ("agentRevoked.reason", because(Change::AgentRevoked { agent: agent_id(10) })),
        ("tenantSuspended.reason", because(Change::TenantSuspended)),
        (
            "agentCreated.once",
            ChangeRecord { key: Some(used_key()), ..key(agent_created(12, least_spec(AgentType::Service), "f")) },
        ),
    ];
    let mut slack = webhook_spec();
    (slack.format, slack.description, slack.disabled) = (WebhookFormat::Slack, None, true);
    let webhook = webhook_id(40);
    let updated = Change::WebhookUpdated { webhook, spec: Box::new(slack) };
    let spec_before = Before::Webhook(Box::new(webhook_spec()));
    let message = MessageId::derive(at(41), 41, tenant_id().tag());
    all.extend([
        ("webhookCreated", key(Change::WebhookCreated { webhook, spec: Box::new(webhook_spec()) })),
        ("webhookUpdated", key(updated.clone())),
        ("webhookUpdated.known", known(by_key, updated, spec_before)),
        ("webhookDeleted", operator(Change::WebhookDeleted { webhook })),
        ("webhookRotated", operator(Change::WebhookRotated { webhook })),
        ("webhookTested", key(Change::WebhookTested { webhook })),
        ("webhookRedelivered", key(Change::WebhookRedelivered { webhook, message })),
    ]);
    all.extend([
        ("keyCreated.approver", operator(key_created(50, KeyRole::Approver, None))),
        ("keyCreated.viewer", operator(key_created(51, KeyRole::Viewer, Some(at(500))))),
        (
            "keyCreated.caller",
            ChangeRecord::new(By::OperatorKey(key_id(60)), key_created(52, KeyRole::Caller, Some(at(500)))),
        ),
        (
            "keyRevoked.known.role",
            known(
                By::OperatorKey(key_id(60)),
                Change::KeyRevoked { key: key_id(51) },
                Before::Key {
                    name: "ci".into(),
                    prefix: "kvt_MDEy".into(),
                    role: KeyRole::Viewer,
                    expires_at: Some(at(500)),
                },
            ),
        ),
        ("operatorKeyCreated", operator(operator_key_created(60, OperatorRole::Admin, None))),
        ("operatorKeyCreated.auditor", operator(operator_key_created(61, OperatorRole::Auditor, Some(at(500))))),
        (
            "keyUpdated",
            known(
                By::OperatorKey(key_id(60)),
                Change::KeyUpdated { key: key_id(50), name: "ci 2".into(), expires_at: Some(at(500)) },
                Before::Key { name: "ci".into(), prefix: "kvt_MDEy".into(), role: KeyRole::Approver, expires_at: None },
            ),
        ),
        (
            "operatorKeyUpdated",
            operator(Change::OperatorKeyUpdated { key: key_id(61), name: "Ada".into(), expires_at: None }),
        ),
        ("operatorKeyRevoked", operator(Change::OperatorKeyRevoked { key: key_id(60) })),
        (
            "operatorKeyRevoked.known",
            known(
                By::OperatorKey(key_id(60)),
                Change::OperatorKeyRevoked { key: key_id(61) },
                Before::OperatorKey {
                    name: "ada".into(),
                    prefix: "kvo_MDEyMz".into(),
                    role: OperatorRole::Auditor,
                    expires_at: Some(at(500)),
                },
            ),
        ),
    ]);
    all.extend(details);
    all.extend(kept());
    all
}

/// Thresholds that a charge reaches.
fn crossed() -> Vec<Crossed> {
    let calls =
        Crossed { policy: policy_id(20), period: Span::Day, of: Counted::Calls, percent: 80, used: 80, max: 100 };
    vec![calls, Crossed { period: Span::Total, of: Counted::Cost, percent: 1_000, used: 1 << 40, ..calls }]
}

/// Calls allowed and denied, with all optional fields and with none.
fn records() -> Vec<(String, Record<'static>)> {
    let allowed = Record {
        agent: Some(agent_id(9)),
        owner: Some("user-1".into()),
        action: "read",
        resource: "mcp:github:list_issues",
        arguments: Some(r#"{"owner":"acme","repo":"service-1"}"#),
        granted_by: Some(Grant { links: vec![LinkUse { link: 1, permission: 0 }], permission: 2 }),
        code: None,
        reason: None,
        rate_limited: false,
        revokes: false,
        policy: None,
        cost: Some(Cost::from_millionths(1_500_000)),
        ip: Some("10.1.2.3".parse().unwrap()),
        user_agent: Some("kavach-demo/1.0"),
        micros: 12,
        trace: None,
        extras: None,
    };
    let least = Record {
        agent: None,
        owner: None,
        action: "a",
        resource: "r",
        arguments: None,
        granted_by: None,
        code: Some(Code::AgentNotFound),
        reason: None,
        rate_limited: false,
        revokes: false,
        policy: None,
        cost: None,
        ip: None,
        user_agent: None,
        micros: 0,
        trace: None,
        extras: None,
    };
    let own = Record { granted_by: Some(Grant { links: Vec::new(), permission: 2 }), ..allowed.clone() };
    let revoked = Record {
        granted_by: None,
        code: Some(Code::BudgetExceeded),
        rate_limited: true,
        revokes: true,
        policy: Some(policy_id(12)),
        ..allowed.clone()
    };
    let v6 = Record { ip: Some("2001:db8::1".parse().unwrap()), micros: u32::MAX, ..allowed.clone() };
    let trace = TraceId::from_bytes(*b"a trace's 16 bts");
    let traced = Record { trace, ..allowed.clone() };
    let denied = Record { trace, ..least.clone() };
    let held = Extras { held_until: Some(at(3)), ..Extras::default() };
    let held = Record { extras: Some(Box::new(held)), ..allowed.clone() };
    let held_traced = Record { trace, ..held.clone() };
    let once = |answer: Option<KeptAnswer>, record: &Record<'static>| {
        let extras = Extras { key: Some(used_key()), answer: answer.map(Box::new), ..Extras::default() };
        Record { extras: Some(Box::new(extras)), ..record.clone() }
    };
    let warning = |cost| KeptWarning {
        policy: policy_id(12),
        action: PolicyAction::Warn,
        limit: "maxCallsPerDay".into(),
        cost,
        used: 10,
        requested: 1,
        max: 10,
        retry_after: Some(3_600),
        message: "a warning".into(),
    };
    let warned = KeptAnswer {
        warnings: vec![warning(false), warning(true)],
        more_warnings: 3,
        rounded: true,
        ..KeptAnswer::default()
    };
    let later = KeptAnswer { retry_after: Some(60), ..KeptAnswer::default() };
    let opened = Opened { policy: 23, period: Span::Hour, start: at(0).millis(), end: at(3_600).millis() };
    let scoped = Extras { scoped: vec![23, 70_000], opens: vec![opened], ..Extras::default() };
    let scoped = Record { extras: Some(Box::new(scoped)), ..allowed.clone() };
    let crossing = Extras { crossed: crossed(), ..Extras::default() };
    let crossing = Record { extras: Some(Box::new(crossing)), ..allowed.clone() };
    let sliced = Extras { instance: vec![7, 9], ..Extras::default() };
    let sliced = Record { extras: Some(Box::new(sliced)), ..allowed.clone() };
    let mut all = vec![
        ("allowed".to_owned(), allowed.clone()),
        ("allowed.traced".to_owned(), traced),
        ("denied.traced".to_owned(), denied),
        ("allowed.held".to_owned(), held),
        ("allowed.held.traced".to_owned(), held_traced),
        ("allowed.scoped".to_owned(), scoped),
        ("allowed.crossed".to_owned(), crossing),
        ("allowed.instance".to_owned(), sliced),
        ("allowed.ipv6".to_owned(), v6),
        ("allowed.own".to_owned(), own.clone()),
        ("denied.least".to_owned(), least),
        ("allowed.once".to_owned(), once(None, &own)),
        ("allowed.once.warned".to_owned(), once(Some(warned), &own)),
        ("denied.once".to_owned(), once(Some(later), &revoked)),
        ("denied.policy".to_owned(), revoked),
    ];
    let codes = Code::ALL.iter().filter(|code| code.denies());
    all.extend(codes.map(|code| {
        let reason = Some(Cow::Borrowed("a reason"));
        let denied = Record { granted_by: None, code: Some(*code), reason, ..allowed.clone() };
        (format!("denied.{code}"), denied)
    }));
    all
}

/// Usage reports, some of which settle a decision.
fn reports() -> Vec<(&'static str, UsageRecord)> {
    let report = UsageRecord {
        by: By::Key(key_id(6)),
        agent: agent_id(9),
        owner: "user-1".into(),
        calls: 5,
        cost: Cost::from_millionths(1_250_000),
        settles: None,
        hold: None,
        scoped: Vec::new(),
        instance: Vec::new(),
        opens: Vec::new(),
        key: None,
        crossed: Vec::new(),
    };
    let estimate = Cost::from_millionths(1_500_000);
    let decision = SettledDecision { seq: 20, at: at(20), wall: None, estimate };
    let opened = Opened { policy: 23, period: Span::Month, start: at(0).millis(), end: at(30 * 86_400).millis() };
    let settles = UsageRecord { calls: 0, settles: Some(decision.clone()), ..report.clone() };
    let ends = |by, change| UsageRecord { by, cost: Cost::default(), hold: Some(change), ..settles.clone() };
    let extended = HoldChange::Extended { decision, until: at(90) };
    vec![
        ("used", report.clone()),
        ("used.scoped", UsageRecord { scoped: vec![23], opens: vec![opened], ..report.clone() }),
        ("used.instance", UsageRecord { instance: vec![7, 9], ..report.clone() }),
        ("used.crossed", UsageRecord { crossed: crossed(), ..report.clone() }),
        ("used.settles", settles.clone()),
        ("used.released", ends(By::Operator, HoldChange::Released)),
        ("used.expired", ends(By::Time, HoldChange::Expired)),
        ("used.extended", UsageRecord { settles: None, ..ends(By::Operator, extended) }),
        ("used.once", UsageRecord { key: Some(used_key()), ..report }),
    ]
}

/// All of the above.
fn events() -> Vec<(String, Event<'static>)> {
    let changes = changes().into_iter().map(|(name, change)| (name.to_owned(), Event::Changed(change)));
    let records = records().into_iter().map(|(name, record)| (name, Event::Decided(record)));
    let reports = reports().into_iter().map(|(name, record)| (name.to_owned(), Event::Used(record)));
    let deliveries = deliveries().into_iter().map(|(name, record)| (name.to_owned(), Event::Delivered(record)));
    let leases = leases().into_iter().map(|(name, record)| (name.to_owned(), Event::Leased(record)));
    changes.chain(records).chain(reports).chain(deliveries).chain(leases).collect()
}

/// The events behind the golden state. Events of later versions are not added, since this state never changes.
const IN_STATE: &[&str] = &[
    "tenantCreated",
    "tenantUpdated",
    "tenantSuspended",
    "keyCreated",
    "keyCreated.second",
    "keyRevoked",
    "agentCreated",
    "agentCreated.delegated",
    "agentCreated.service",
    "agentUpdated",
    "agentRevoked",
    "tokenRotated.grace",
    "tokenRotated",
    "policyCreated",
    "policyCreated.least",
    "policyReset.day",
    "delegationCreated",
    "delegationCreated.on",
    "delegationRevoked",
    "allowed.own",
    "allowed",
    "allowed.ipv6",
    "denied.RATE_LIMITED",
    "used",
    "used.settles",
];

fn golden(file: &str) -> BTreeMap<String, Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/events-v1").join(file);
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    text.lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, hex)| (name.to_owned(), hex.as_bytes().chunks(2).map(byte).collect()))
        .collect()
}

/// Rewrites the lines of an unreleased version if `KAVACH_BLESS` is set.
fn bless(file: &str, lines: &str) {
    if std::env::var_os("KAVACH_BLESS").is_some() {
        std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/events-v1").join(file), lines).unwrap();
    }
}

fn line(name: &str, bytes: &[u8]) -> String {
    format!("{name} {}\n", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn encoded(event: &Event<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_event(Moment::new(at(0), 1), event, &mut bytes).unwrap();
    bytes
}

#[test]
fn events_of_version_1_are_read_and_written_byte_for_byte() {
    bless("events.txt", &events().iter().map(|(name, event)| line(name, &encoded(event))).collect::<String>());
    let golden = golden("events.txt");
    let mut missing = String::new();
    for (name, event) in events() {
        let written = encoded(&event);
        let Some(bytes) = golden.get(&name) else {
            missing += &line(&name, &written);
            continue;
        };
        assert_eq!(decode_event(1, bytes).unwrap(), (Moment::new(at(0), 1), event), "{name} reads as something else");
        assert_eq!(line(&name, &written), line(&name, bytes), "{name} is written differently");
    }
    assert!(missing.is_empty(), "lines to add to events.txt:\n{missing}");
    assert_eq!(golden.len(), events().len(), "a line that nothing here reads");
}

#[test]
fn a_brief_reading_agrees_with_the_whole_one() {
    for (name, event) in events() {
        for wall in [at(1), at(0)] {
            let mut bytes = Vec::new();
            encode_event(Moment { at: at(1), wall, seq: 1 }, &event, &mut bytes).unwrap();
            let brief = match &event {
                Event::Decided(record) => BriefEvent::Decided(BriefRecord {
                    agent: record.agent,
                    owner: record.owner.as_deref(),
                    action: record.action,
                    resource: record.resource,
                    allowed: record.allowed(),
                    cost: record.cost,
                    held: record.extras.as_ref().is_some_and(|extras| extras.held_until.is_some()),
                }),
                Event::Used(record) => BriefEvent::Used(record.clone()),
                Event::Changed(_) | Event::Delivered(_) | Event::Leased(_) => BriefEvent::Changed,
            };
            assert_eq!(decode_brief(&bytes).unwrap(), (at(1), brief), "{name}");
            assert_eq!(is_usage(&bytes), matches!(event, Event::Used(_)), "{name}");
            assert_eq!(is_change(&bytes), matches!(event, Event::Changed(_)), "{name}");
            for length in 0..bytes.len() {
                let cut = &bytes[..length];
                assert_eq!(decode_brief(cut).is_err(), decode_event(1, cut).is_err(), "{name}, cut to {length}");
            }
        }
    }
}

#[test]
fn a_trace_takes_18_bytes_and_its_absence_none() {
    let length = |name: &str| {
        let (_, event) = events().into_iter().find(|(known, _)| known == name).unwrap();
        encoded(&event).len()
    };
    assert_eq!(length("allowed.traced"), length("allowed") + 18);
    assert_eq!(length("denied.traced"), length("denied.least") + 18);
    let mut nil = encoded(&events().into_iter().find(|(name, _)| name == "denied.traced").unwrap().1);
    let at = nil.len() - 16;
    nil[at..].fill(0);
    assert!(decode_event(1, &nil).is_err(), "a trace id is not all zero");
}

#[test]
fn a_differing_clock_time_takes_9_bytes_and_its_absence_none() {
    let wall = at(0).plus_millis(-365 * 86_400_000);
    let moment = Moment { at: at(0), wall, seq: 1 };
    let time = |time: Timestamp| [&[0xcf][..], &time.millis().to_be_bytes()].concat();
    for (name, ordinary) in golden("events.txt") {
        let (_, event) = decode_event(1, &ordinary).unwrap();
        let mut other = ordinary.clone();
        let roomy = [EventKind::DecidedWithExtras, EventKind::Delivered, EventKind::Leased];
        if roomy.iter().any(|kind| kind.number() == ordinary[1]) {
            // It has a place for the clock's time.
            assert_eq!(other.pop(), Some(0xc0), "{name}: nil");
        } else {
            // One more element in the array, and another kind.
            (other[0], other[1]) = (ordinary[0] + 1, ordinary[1] + 4);
        }
        let expected = [&other[..], &time(wall)].concat();
        let mut written = Vec::new();
        encode_event(moment, &event, &mut written).unwrap();
        assert_eq!(line(&name, &written), line(&name, &expected));
        assert_eq!(decode_event(1, &expected).unwrap(), (moment, event), "{name}");
        for late in [at(0), at(1)] {
            let late = [&other[..], &time(late)].concat();
            assert!(decode_event(1, &late).is_err(), "{name}: a clock that is not behind");
        }
    }
}

#[test]
fn every_change_has_a_golden_line() {
    // A new kind of event does not compile here: it needs lines too.
    let kind = |event: &Event<'_>| match event {
        Event::Decided(_) => 0,
        Event::Changed(_) => 1,
        Event::Used(_) => 2,
        Event::Delivered(_) => 3,
        Event::Leased(_) => 4,
    };
    assert_eq!(events().iter().map(|(_, event)| kind(event)).collect::<BTreeSet<_>>().len(), 5);
    // What serde accepts as a change, from its error: "expected one of `tenantCreated`, ...".
    let refused = serde_json::from_str::<Change>(r#""?""#).unwrap_err().to_string();
    let known: BTreeSet<&str> = refused.split('`').skip(3).step_by(2).collect();
    let golden_names = changes().into_iter().map(|(name, record)| {
        let json = serde_json::to_value(&record.change).unwrap();
        let tag = json.as_str().map(str::to_owned).or_else(|| json.as_object()?.keys().next().cloned()).unwrap();
        assert_eq!(name.split('.').next(), Some(tag.as_str()));
        tag
    });
    let golden_names: BTreeSet<String> = golden_names.collect();
    let golden_names: BTreeSet<_> = golden_names.iter().map(String::as_str).collect();
    assert_eq!(golden_names, known, "`changes` needs one of each `Change`");
}

#[test]
fn every_constraint_has_a_golden_line() {
    let specs = changes().into_iter().filter_map(|(_, record)| match record.change {
        Change::AgentCreated { spec, .. } => Some(spec),
        _ => None,
    });
    let permissions = specs.flat_map(|spec| spec.permissions.specs());
    let named: BTreeSet<String> = permissions
        .filter_map(|permission| serde_json::to_value(permission.constraints?).ok())
        .flat_map(|json| json.as_object().unwrap().keys().cloned().collect::<Vec<_>>())
        .collect();
    let known: BTreeSet<String> = Constraints::NAMES.iter().map(|&name| name.to_owned()).collect();
    assert_eq!(named, known, "`changes` needs an agentCreated with each constraint");
}

#[test]
fn a_state_of_version_1_is_read_and_written_byte_for_byte() {
    let mut tenant = Tenant::default();
    for (name, seq) in IN_STATE.iter().zip(1..) {
        let (_, event) = events().into_iter().find(|(known, _)| known == name).unwrap();
        tenant.apply(Moment::new(at(seq), seq), &event);
    }
    let state = tenant.state();
    assert_eq!((state.agents.len(), state.keys.len()), (3, 1));
    assert!(state.agents.iter().any(|agent| agent.windows.iter().any(|window| window.used(state.at) > 0)));
    let golden = golden("state.txt");
    // The states as written before delegations had places, and before the windows of budgets had bounds.
    let old = ["state", "state.places", "state.denied"];
    for name in &old[..2] {
        assert_eq!(Tenant::restore(decode_state(&golden[*name]).unwrap()).state(), state);
    }
    let written = encode_state(&state).unwrap();
    // The last call was denied by a policy.
    let (_, denied) = records().into_iter().find(|(name, _)| name == "denied.policy").unwrap();
    let denied = Record { policy: Some(policy_id(20)), ..denied };
    tenant.apply(Moment::new(at(99), 99), &Event::Decided(denied));
    let state_denied = tenant.state();
    assert!(state_denied.policies.iter().any(|policy| policy.last_denied_at == Some(at(99))));
    let written_denied = encode_state(&state_denied).unwrap();
    assert_eq!(decode_state(&golden["state.denied"]).unwrap(), state_denied);
    for (name, seq) in ["policyCreated.terms", "agentCreated.labels", "allowed.scoped"].iter().zip(100..) {
        let (_, event) = events().into_iter().find(|(known, _)| known == name).unwrap();
        tenant.apply(Moment::new(at(seq), seq), &event);
    }
    let state_terms = tenant.state();
    assert!(state_terms.policies.iter().any(|policy| policy.usage.more.is_some() && policy.usage.day.open.calls == 1));
    let written_terms = encode_state(&state_terms).unwrap();
    // Two calls have holds, of which one has ended.
    for (name, seq) in [("allowed.held", 110), ("allowed.held.traced", 111)] {
        let (_, held) = records().into_iter().find(|(known, _)| known == name).unwrap();
        tenant.apply(Moment::new(at(seq), seq), &Event::Decided(held));
    }
    let (_, released) = reports().into_iter().find(|(name, _)| *name == "used.released").unwrap();
    let settles = released.settles.map(|decision| SettledDecision { seq: 110, at: at(110), ..decision });
    tenant.apply(Moment::new(at(112), 112), &Event::Used(UsageRecord { settles, ..released }));
    let state_held = tenant.state();
    assert_eq!((state_held.holds.open().len(), state_held.holds.ended().len()), (1, 1));
    let written_held = encode_state(&state_held).unwrap();
    // It remembers a key.
    let (_, once) = records().into_iter().find(|(name, _)| name == "allowed.once").unwrap();
    tenant.apply(Moment::new(at(120), 120), &Event::Decided(once));
    let state_keyed = tenant.state();
    assert_eq!(state_keyed.used_keys.len(), 1);
    let written_keyed = encode_state(&state_keyed).unwrap();
    let new = [
        ("state.windows", &written),
        ("state.windows.denied", &written_denied),
        ("state.windows.terms", &written_terms),
        ("state.windows.held", &written_held),
        ("state.windows.keyed", &written_keyed),
    ];
    let lines = old.iter().map(|name| (*name, &golden[*name])).chain(new).map(|(name, bytes)| line(name, bytes));
    bless("state.txt", &lines.collect::<String>());
    for (name, state, written) in [
        ("state.windows", state, written),
        ("state.windows.denied", state_denied, written_denied),
        ("state.windows.terms", state_terms, written_terms),
        ("state.windows.held", state_held, written_held),
        ("state.windows.keyed", state_keyed, written_keyed),
    ] {
        let Some(bytes) = golden.get(name) else {
            panic!("a line to add to state.txt:\n{}", line(name, &written));
        };
        assert_eq!(decode_state(bytes).unwrap(), state);
        assert_eq!(line(name, &written), line(name, bytes));
        assert_eq!(Tenant::restore(decode_state(bytes).unwrap()).state(), state);
    }
}

#[test]
fn a_state_with_webhooks_is_read_and_written_byte_for_byte() {
    let mut tenant = Tenant::default();
    let steps = [
        "tenantCreated",
        "webhookCreated",
        "agentCreated",
        "agentCreated.delegated",
        "webhookRotated",
        "policyCreated.least",
        "policyReset.all",
        "webhookTested",
        "agentRevoked",
        "webhookUpdated",
        "keyCreated",
    ];
    for (name, seq) in steps.into_iter().zip(1..) {
        let (_, event) = events().into_iter().find(|(known, _)| *known == name).unwrap();
        tenant.apply(Moment::new(at(seq), seq), &event);
    }
    for (seq, outcome, finished) in [(3, Outcome::Delivered, 20), (4, Outcome::Dead, 21)] {
        let record = DeliveryRecord { seq, at: at(seq), outcome, ..deliveries()[1].1.clone() };
        tenant.apply(Moment::new(at(finished), finished), &Event::Delivered(record));
    }
    // Windows that have told a threshold.
    for (name, seq) in [("policyCreated", 22), ("used.crossed", 23)] {
        let (_, event) = events().into_iter().find(|(known, _)| *known == name).unwrap();
        tenant.apply(Moment::new(at(seq), seq), &event);
    }
    let state = tenant.state();
    let outbox = &state.webhooks[0].outbox;
    // The agent that was revoked, and the test.
    assert_eq!((outbox.waiting(), outbox.dead(), outbox.messages().count()), (2, 1, 4));
    let written = encode_state(&state).unwrap();
    bless("state-webhooks.txt", &line("state", &written));
    let golden = golden("state-webhooks.txt");
    assert_eq!(line("state", &written), line("state", golden.get("state").map_or(&[][..], |bytes| bytes)));
    assert_eq!(Tenant::restore(decode_state(&golden["state"]).unwrap()).state(), state);
}

#[test]
fn a_state_with_slices_is_read_and_written_byte_for_byte() {
    let mut tenant = Tenant::default();
    let steps = [
        "tenantCreated",
        "agentCreated",
        "agentCreated.delegated",
        "policyCreated.instance",
        "leased.lent.told",
        "leased.held",
        "allowed.instance",
        "used.instance",
        "leased.lent",
    ];
    for (name, seq) in steps.into_iter().zip(1..) {
        let (_, event) = events().into_iter().find(|(known, _)| *known == name).unwrap();
        tenant.apply(Moment::new(at(seq), seq), &event);
    }
    // A lender that is its own tenant, for once.
    let state = tenant.state();
    assert_eq!((state.slices.len(), state.lent.is_empty()), (2, false));
    let written = encode_state(&state).unwrap();
    bless("state-instance.txt", &line("state", &written));
    let golden = golden("state-instance.txt");
    assert_eq!(line("state", &written), line("state", golden.get("state").map_or(&[][..], |bytes| bytes)));
    assert_eq!(Tenant::restore(decode_state(&golden["state"]).unwrap()).state(), state);
}

#[test]
fn a_state_with_roles_of_keys_is_read_and_written_byte_for_byte() {
    let mut tenant = Tenant::default();
    let steps = [
        "tenantCreated.default",
        "keyCreated",
        "keyCreated.approver",
        "keyCreated.viewer",
        "keyCreated.caller",
        "operatorKeyCreated",
        "operatorKeyCreated.auditor",
        "keyUpdated",
        "operatorKeyUpdated",
    ];
    for (name, seq) in steps.into_iter().zip(1..) {
        let (_, event) = events().into_iter().find(|(known, _)| *known == name).unwrap();
        tenant.apply(Moment::new(at(seq), seq), &event);
    }
    let state = tenant.state();
    assert_eq!((state.keys.len(), state.operator_keys.len()), (4, 2));
    let written = encode_state(&state).unwrap();
    bless("state-keys.txt", &line("state", &written));
    let golden = golden("state-keys.txt");
    assert_eq!(line("state", &written), line("state", golden.get("state").map_or(&[][..], |bytes| bytes)));
    assert_eq!(Tenant::restore(decode_state(&golden["state"]).unwrap()).state(), state);
}

#[test]
fn agents_with_equal_permissions_share_them() {
    let mut tenant = Tenant::default();
    for seq in 1..=3 {
        let (agent, spec, token) = (agent_id(seq), Box::new(full_spec()), SecretHash::of(&seq.to_string()));
        let change = Change::AgentCreated { agent, spec, token };
        tenant.apply(Moment::new(at(seq), seq), &Event::Changed(ChangeRecord::new(By::Operator, change)));
    }
    let read = decode_state(&encode_state(&tenant.state()).unwrap()).unwrap();
    for state in [tenant.state(), read] {
        let mut held = state.agents.iter().map(|agent| &agent.profile.spec.permissions);
        let first = held.next().unwrap();
        assert!(held.all(|other| Arc::ptr_eq(first, other)));
    }
}

#[test]
fn bytes_that_are_not_an_event_are_refused() {
    for bytes in [&b""[..], b"\x93", b"\x93\x07\x00\xc0", b"\x93\x01\x00", b"\x93\x02\x00\x80", b"{}"] {
        assert!(decode_event(1, bytes).is_err(), "{bytes:?}");
    }
}

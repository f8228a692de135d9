//! Random histories. Everything is drawn from small sets, so that calls meet permissions, and times meet limits.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::option::{of, weighted};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::naive::{AgentKind, Constraints, Permission, SettingsPatch, Window};

/// What happens next. Numbers that name something are taken modulo what exists, plus one: an unknown thing.
#[derive(Clone, Debug)]
pub enum HistoryStep {
    /// The clock steps by that many milliseconds, possibly back.
    Clock(i64),
    Create(Draft),
    Update(usize, DraftPatch),
    Revoke(usize),
    SuspendAgent(usize, bool),
    Rotate {
        agent: usize,
        grace: u64,
        times: usize,
    },
    Tenant(Option<&'static str>, SettingsPatch),
    Suspend(bool),
    CreateKey,
    RevokeKey(usize),
    CreateHook(Vec<&'static str>),
    UpdateHook {
        hook: usize,
        events: Option<Vec<&'static str>>,
        disabled: Option<bool>,
        description: Option<Option<&'static str>>,
    },
    DeleteHook(usize),
    RotateHook(usize),
    TestHook(usize),
    /// A message of the webhook, by its place.
    Redeliver(usize, usize),
    /// The first message that waits for a webhook was taken, or given up.
    Deliver(usize, bool),
    Call {
        who: Who,
        ask: Ask,
        times: usize,
    },
    /// What the journal does on its own.
    JournalJob(JournalJob),
    /// Restart from a snapshot.
    Restore,
    /// Restart from the folder, as after a `kill -9`.
    Reopen,
}

#[derive(Clone, Copy, Debug)]
pub enum JournalJob {
    Flush,
    Sync,
    Snapshot,
}

/// A new agent; its expiry counts from the moment of its creation.
#[derive(Clone, Debug)]
pub struct Draft {
    pub kind: AgentKind,
    pub permissions: Vec<Permission>,
    pub expires_in: Option<i64>,
    pub metadata: Option<Value>,
}

#[derive(Clone, Debug)]
pub struct DraftPatch {
    pub name: Option<&'static str>,
    pub kind: Option<AgentKind>,
    pub permissions: Option<Replacement>,
    pub expires_in: Option<Option<i64>>,
    pub metadata: Option<Option<Value>>,
}

/// New permissions: some of the old ones, in any order and possibly repeated, then others.
#[derive(Clone, Debug)]
pub struct Replacement {
    pub kept: Vec<usize>,
    pub added: Vec<Permission>,
}

#[derive(Clone, Copy, Debug)]
pub enum Who {
    Operator,
    /// By the key with that number, even a revoked one.
    Key(usize),
    /// By the token with that number among all ever issued.
    Token(usize),
}

#[derive(Clone, Debug)]
pub struct Ask {
    pub agent: usize,
    /// The agent's permission that the call should match.
    pub aim: Option<usize>,
    pub resource: String,
    pub action: &'static str,
    /// Names for the tenant: its own, and others.
    pub own_names: Vec<usize>,
    pub other_name: Option<&'static str>,
    pub arguments: Option<Value>,
    pub ip: Option<&'static str>,
    /// Each byte of the trace's id; 0 is none.
    pub trace: u8,
    /// One of a few idempotency keys.
    pub once: Option<u8>,
}

/// The default tenant or another, and its history.
pub fn histories() -> impl Strategy<Value = (bool, Vec<HistoryStep>)> {
    (prop::bool::weighted(0.2), vec(step(), 1..150))
}

fn step() -> impl Strategy<Value = HistoryStep> {
    let index = 0..64_usize;
    let times = prop_oneof![6 => Just(1_usize), 1 => 2..12_usize];
    let disk = select(vec![JournalJob::Flush, JournalJob::Flush, JournalJob::Sync, JournalJob::Snapshot]);
    prop_oneof![
        20 => clock().prop_map(HistoryStep::Clock),
        8 => draft().prop_map(HistoryStep::Create),
        8 => (index.clone(), draft_patch()).prop_map(|(agent, patch)| HistoryStep::Update(agent, patch)),
        2 => index.clone().prop_map(HistoryStep::Revoke),
        4 => (index.clone(), prop::bool::weighted(0.4))
            .prop_map(|(agent, suspended)| HistoryStep::SuspendAgent(agent, suspended)),
        6 => (index.clone(), grace(), times.clone())
            .prop_map(|(agent, grace, times)| HistoryStep::Rotate { agent, grace, times }),
        6 => (weighted(0.2, select(vec!["Acme", " Acme 2 ", "  "])), settings_patch())
            .prop_map(|(name, patch)| HistoryStep::Tenant(name, patch)),
        3 => prop::bool::weighted(0.4).prop_map(HistoryStep::Suspend),
        2 => Just(HistoryStep::CreateKey),
        1 => index.clone().prop_map(HistoryStep::RevokeKey),
        2 => hook_events().prop_map(HistoryStep::CreateHook),
        3 => (
            index.clone(),
            weighted(0.4, hook_events()),
            weighted(0.4, prop::bool::weighted(0.4)),
            weighted(0.3, of(Just("the pager"))),
        )
            .prop_map(|(hook, events, disabled, description)| {
                HistoryStep::UpdateHook { hook, events, disabled, description }
            }),
        1 => index.clone().prop_map(HistoryStep::DeleteHook),
        1 => index.clone().prop_map(HistoryStep::RotateHook),
        3 => index.clone().prop_map(HistoryStep::TestHook),
        3 => (index.clone(), index.clone()).prop_map(|(hook, message)| HistoryStep::Redeliver(hook, message)),
        8 => (index.clone(), prop::bool::weighted(0.7)).prop_map(|(hook, taken)| HistoryStep::Deliver(hook, taken)),
        50 => (who(), ask(), times).prop_map(|(who, ask, times)| HistoryStep::Call { who, ask, times }),
        6 => disk.prop_map(HistoryStep::JournalJob),
        1 => Just(HistoryStep::Restore),
        1 => Just(HistoryStep::Reopen),
    ]
}

fn hook_events() -> impl Strategy<Value = Vec<&'static str>> {
    let lists = [
        vec!["*"],
        vec!["agent.*"],
        vec!["webhook.*", "key.created"],
        vec!["agent.revoked", "tenant.suspended", "webhook.updated"],
        vec!["agent.rotated", "webhook.test"],
        vec!["policy.*"],
    ];
    select(lists.to_vec())
}

/// Milliseconds that hit graces, expiries and buckets exactly, or miss them by one.
fn clock() -> impl Strategy<Value = i64> {
    let steps = [1, 1_000, 60_000, 300_000, 3_300_000, 3_600_000, 21_600_000];
    (select(steps.to_vec()), -1..=1_i64, prop_oneof![5 => Just(1), 1 => Just(-1)])
        .prop_map(|(step, off, direction)| (step + off) * direction)
}

fn grace() -> impl Strategy<Value = u64> {
    select(vec![0, 0, 1, 60, 300, 3_600, 30 * 24 * 60 * 60, 30 * 24 * 60 * 60 + 1])
}

fn draft() -> impl Strategy<Value = Draft> {
    (kind(), vec(permission(), 0..5), weighted(0.3, clock()), weighted(0.2, metadata()))
        .prop_map(|(kind, permissions, expires_in, metadata)| Draft { kind, permissions, expires_in, metadata })
}

fn draft_patch() -> impl Strategy<Value = DraftPatch> {
    let replacement =
        (vec(0..6_usize, 0..4), vec(permission(), 0..3)).prop_map(|(kept, added)| Replacement { kept, added });
    (
        weighted(0.2, select(vec!["bot", "other bot"])),
        weighted(0.2, kind()),
        weighted(0.5, replacement),
        weighted(0.5, of(clock())),
        weighted(0.2, of(metadata())),
    )
        .prop_map(|(name, kind, permissions, expires_in, metadata)| DraftPatch {
            name,
            kind,
            permissions,
            expires_in,
            metadata,
        })
}

fn kind() -> impl Strategy<Value = AgentKind> {
    select(vec![AgentKind::Autonomous, AgentKind::Delegated, AgentKind::Service])
}

fn metadata() -> impl Strategy<Value = Value> {
    select(vec![json!({}), json!({ "team": "a b" }), json!({ "n": [1, null, { "x": "é\n" }] })])
}

fn permission() -> impl Strategy<Value = Permission> {
    // One in fifty is malformed.
    let segment =
        prop_oneof![50 => select(vec!["mcp", "github", "git", "issues", "*", "*"]), 1 => select(vec!["", "g*"])];
    let resource = vec(segment, 1..5).prop_map(|segments| segments.join(":"));
    let action = prop_oneof![50 => select(vec!["read", "read", "write", "export", "*"]), 1 => Just("re*")];
    let actions = prop_oneof![50 => vec(action, 1..3), 1 => Just(Vec::new())];
    let rate = (1..5_u32).prop_map(|max| Constraints { max_calls_per_hour: Some(max), ..Constraints::default() });
    let limits = prop_oneof![1 => rate, 2 => limits()];
    (resource, actions, weighted(0.6, limits)).prop_map(|(resource, actions, constraints)| Permission {
        resource,
        actions: actions.into_iter().map(str::to_owned).collect(),
        constraints,
    })
}

fn limits() -> impl Strategy<Value = Constraints> {
    let patterns = [
        "/srv/data/*",
        "/srv/data/**",
        "^repo-[0-9]+$",
        "^/srv",
        "^/srv/.*|a",
        "main",
        "*",
        "**",
        "**/*.csv",
        "*-*",
        "/srv/????/?.csv",
    ];
    let pattern = prop_oneof![50 => select(patterns.to_vec()), 1 => Just("^(")];
    let nets = ["10.0.0.0/8", "10.1.2.0/24", "192.0.2.7", "2001:db8::/32", "::ffff:10.0.0.0/104", "0.0.0.0/0", "::/0"];
    let net = prop_oneof![50 => select(nets.to_vec()), 1 => select(vec!["10.0.0.0/33", "here"])];
    (
        weighted(0.5, 0..6_u32),
        weighted(0.3, vec(pattern, 0..4)),
        weighted(0.3, window()),
        weighted(0.3, vec(net, 1..4)),
        weighted(0.2, prop::bool::weighted(0.3)),
        weighted(0.2, rules()),
        select(vec!["allow", "allow", "strings", "deny"]),
        prop::bool::weighted(0.1),
    )
        .prop_map(
            |(max_calls_per_hour, patterns, time_window, nets, require_approval, arguments, others, alone)| {
                Constraints {
                    max_calls_per_hour,
                    allowed_arg_patterns: patterns.map(|all| all.into_iter().map(str::to_owned).collect()),
                    time_window,
                    ip_allowlist: nets.map(|all| all.into_iter().map(str::to_owned).collect()),
                    require_approval,
                    other_arguments: (arguments.is_some() || alone).then_some(others),
                    arguments,
                }
            },
        )
}

/// Rules for arguments that calls have.
fn rules() -> impl Strategy<Value = BTreeMap<String, Value>> {
    let rule = select(vec![
        json!({}),
        json!({ "match": ["/srv/data/**", "main"] }),
        json!({ "match": ["**"], "absent": true }),
        json!({ "oneOf": ["main", 5, null, "repo-17"] }),
        json!({ "oneOf": ["main"], "absent": true }),
        json!({ "max": 5, "min": 5 }),
        json!({ "max": 4, "absent": true }),
        json!({ "absent": true }),
    ]);
    // Two names of one argument would be refused.
    let names = ["path", "path[]", "repo", "repo./srv/data/key.deep[]", "branch", "main[]"];
    vec((select(names.to_vec()), rule), 1..4).prop_map(|rules| {
        let mut all: BTreeMap<&str, (&str, Value)> = BTreeMap::new();
        all.extend(rules.into_iter().map(|(name, rule)| (&name[..4], (name, rule))));
        all.into_values().map(|(name, rule)| (name.to_owned(), rule)).collect()
    })
}

fn window() -> impl Strategy<Value = Window> {
    let clock = || select(vec!["00:00", "06:00", "09:30", "12:00", "22:13", "22:14", "23:59"]);
    (clock(), clock()).prop_map(|(start, end)| Window { start: start.to_owned(), end: end.to_owned() })
}

fn settings_patch() -> impl Strategy<Value = SettingsPatch> {
    let types = vec![
        vec![],
        vec![AgentKind::Service],
        vec![AgentKind::Autonomous, AgentKind::Service],
        vec![AgentKind::Delegated, AgentKind::Autonomous],
    ];
    (
        weighted(0.7, of(0..5_u32)),
        weighted(0.2, of(prop_oneof![20 => 1..4_u32, 1 => Just(0)])),
        weighted(0.2, of(prop_oneof![20 => 1..400_u32, 1 => Just(0)])),
        weighted(0.3, weighted(0.4, select(types))),
    )
        .prop_map(|(max_agents, max_delegation_depth, audit_retention_days, allowed_agent_types)| SettingsPatch {
            max_agents,
            max_delegation_depth,
            audit_retention_days,
            allowed_agent_types,
        })
}

fn who() -> impl Strategy<Value = Who> {
    let index = 0..64_usize;
    prop_oneof![
        1 => Just(Who::Operator),
        1 => index.clone().prop_map(Who::Key),
        2 => index.prop_map(Who::Token),
    ]
}

fn ask() -> impl Strategy<Value = Ask> {
    let segment = prop_oneof![60 => select(vec!["mcp", "github", "git", "issues"]), 1 => select(vec!["*", ""])];
    let resource = vec(segment, 1..5).prop_map(|segments| segments.join(":"));
    let other = select(vec!["other", "default", "tnt_01890a5d0000700080000000000000ff", "No Name"]);
    let ips = ["10.1.2.3", "::ffff:10.1.2.3", "10.9.9.9", "192.0.2.7", "2001:db8::1", "2001:db9::1"];
    (
        0..64_usize,
        weighted(0.8, 0..6_usize),
        resource,
        select(vec!["read", "write", "export", "delete", "*"]),
        vec(0..2_usize, 0..2),
        weighted(0.03, other),
        weighted(0.8, arguments()),
        weighted(0.8, select(ips.to_vec())),
        (select(vec![0, 0, 1, 0xfe]), weighted(0.2, 0..4_u8)),
    )
        .prop_map(|(agent, aim, resource, action, own_names, other_name, arguments, ip, (trace, once))| Ask {
            agent,
            aim,
            resource,
            action,
            own_names,
            other_name,
            arguments,
            ip,
            trace,
            once,
        })
}

fn arguments() -> impl Strategy<Value = Value> {
    let texts = [
        "/srv/data/a.csv",
        "/srv/data/x/y.csv",
        "repo-17",
        "repo-17x",
        "main",
        "",
        "a/b",
        "/etc/passwd",
        "/srv/data/../a.csv",
    ];
    let leaf =
        prop_oneof![4 => select(texts.to_vec()).prop_map(Value::from), 1 => Just(json!(5)), 1 => Just(json!(null))];
    let nested = prop_oneof![
        4 => leaf.clone(),
        1 => vec(leaf.clone(), 0..3).prop_map(Value::from),
        1 => leaf.prop_map(|leaf| json!({ "/srv/data/key": { "deep": [leaf] } })),
    ];
    prop::collection::btree_map(select(vec!["path", "repo", "branch", "main"]), nested, 0..3)
        .prop_map(|entries| entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

//! One history twice: on a server that keeps every tenant in memory, and on one that keeps a single one. Every answer is
//! the same, apart from ids and times.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::{come_to_rest, keeping, keeping_in_process};
use crate::budgets::{costing, settle_into_the_day};
use crate::client::{Answer, Client};
use crate::events::Stream;
use crate::harness::{OPERATOR_KEY, Server};
use crate::retention::now;
use crate::world::{Agent, Tenant, audit_id, call, constrained, next_page, permits};

/// Writes answers down so that those of two servers can be compared.
#[derive(Default)]
struct Notes {
    names: HashMap<String, usize>,
    lines: Vec<String>,
}

/// What of an answer may differ: how long something took, and when; and the beginning of a random key.
const TIMED: [&str; 10] = [
    "prefix",
    "latency",
    "seconds",
    "minutes",
    "slowestTenants",
    "memory",
    "startedAt",
    "retryAfter",
    "durationMs",
    "micros",
];

impl Notes {
    fn note(&mut self, what: &str, answer: &Answer) {
        let body = if answer.body.is_empty() { Value::Null } else { self.plain(&answer.json()) };
        let has_more = answer.header("link").is_some();
        self.lines.push(format!("{what}: {} {body} more: {has_more}", answer.status));
    }

    /// The value with a number for each id, and without times.
    fn plain(&mut self, value: &Value) -> Value {
        match value {
            Value::String(text) => self.plain_text(text).into(),
            Value::Array(items) => items.iter().map(|item| self.plain(item)).collect(),
            Value::Object(members) => {
                let kept = members.iter().filter(|(name, _)| !TIMED.contains(&name.as_str()));
                Value::Object(kept.map(|(name, value)| (name.clone(), self.plain(value))).collect::<Map<_, _>>())
            }
            other => other.clone(),
        }
    }

    fn plain_text(&mut self, text: &str) -> String {
        if text.len() == 24 && text.ends_with('Z') && text.starts_with("20") {
            return "a time".to_owned();
        }
        let words = text.split_inclusive(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let plain = words.map(|word| {
            let id = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let prefix = id.split('_').next().unwrap_or_default();
            if id.len() < 20 || !["tnt", "agt", "pol", "aud", "key", "del", "dlg", "kvt", "kva"].contains(&prefix) {
                return word.to_owned();
            }
            let next = self.names.len();
            let number = *self.names.entry(id.to_owned()).or_insert(next);
            word.replace(id, &format!("{prefix} {number}"))
        });
        plain.collect()
    }
}

/// A tenant of the history.
struct Site {
    tenant: Tenant,
    reader: Agent,
    rated: Agent,
    gone: Agent,
    old_token: String,
    policy: String,
    costs: String,
    decisions: Vec<String>,
}

const SITES: usize = 5;

/// Events of one millisecond in two tenants are in the order of the tenants' ids, which are random.
fn next_millisecond() {
    let now = now();
    while now == self::now() {}
}

fn make_site(operator: &Client, n: usize) -> Site {
    next_millisecond();
    let tenant = operator.tenant(&format!("t{n}"));
    let reader = operator.reader(&tenant);
    let rated = operator.agent(tenant.id.as_str(), constrained("docs:*", json!({ "maxCallsPerHour": 3 })));
    let gone = operator.reader(&tenant);
    let limits = json!({ "maxCallsPerDay": 5 });
    let policy =
        operator.policy(tenant.id.as_str(), json!({ "agentId": reader.id, "limits": limits, "action": "throttle" }));
    let costs = operator.policy(tenant.id.as_str(), json!({ "limits": { "maxTokensCostPerMonth": 20 } }));
    operator.delegation(&reader.id, &gone.id, permits("docs:*", &["read"]));
    Site { tenant, old_token: reader.token.clone(), reader, rated, gone, policy, costs, decisions: Vec::new() }
}

/// One step of one tenant's history. In between, all other tenants have theirs.
fn step(operator: &Client, site: &mut Site, step: usize, notes: &mut Notes) {
    next_millisecond();
    let own = operator.acting_for(&site.tenant.key);
    let (tenant, what) = (site.tenant.slug.clone(), format!("{} step {step}", site.tenant.slug));
    let answer = match step {
        0 | 3 | 9 | 13 => operator.acting_for(&site.rated.token).authorize(call(&site.rated.id)),
        1 | 4 | 10 | 11 | 12 | 14 | 15 => {
            let answer = own.authorize(costing(&site.reader.id, "2"));
            site.decisions.push(audit_id(&answer.expect(200)));
            answer
        }
        2 => operator.delete(&format!("/v1/agents/{}", site.gone.id)),
        5 => {
            let made = operator.post(&format!("/v1/agents/{}/rotate", site.reader.id), json!({ "graceSeconds": 0 }));
            site.reader.token = made.expect(200)["token"].as_str().unwrap().to_owned();
            operator.acting_for(&site.old_token).authorize(call(&site.reader.id))
        }
        6 => operator.acting_for(&site.gone.token).authorize(call(&site.gone.id)),
        7 => operator.post(&format!("/v1/tenants/{tenant}/suspend"), json!({})),
        8 => {
            let denied = operator.acting_for(&site.reader.token).authorize(call(&site.reader.id));
            notes.note(&what, &denied);
            operator.post(&format!("/v1/tenants/{tenant}/activate"), json!({}))
        }
        16 => own.settle(&site.reader.id, &site.decisions[0], json!(0.25)),
        17 => own.settle(&site.reader.id, &site.decisions[0], json!(0.25)),
        18 => own.settle(&site.reader.id, &site.decisions[0], json!(7)),
        19 => own.settle(&site.reader.id, &site.decisions[1], json!(3.5)),
        20 => operator.patch(&format!("/v1/tenants/{tenant}"), json!({ "name": format!("The {tenant}") })),
        21 => own.post("/v1/authorize/explain", call(&site.rated.id)),
        22 => own.get(&format!("/v1/policies/{}", site.policy)),
        23 => own.get(&format!("/v1/policies/{}", site.costs)),
        24 => operator.get(&format!("/v1/audit/{}", site.decisions[1])),
        _ => operator.get(&format!("/v1/agents/{}", site.reader.id)),
    };
    notes.note(&what, &answer);
}

/// A list, page by page.
fn pages(operator: &Client, path: &str, notes: &mut Notes) {
    let what = path.split("since=").next().unwrap();
    let mut next = Some(path.to_owned());
    while let Some(page) = next {
        let answer = operator.get(&page);
        next = next_page(&answer);
        notes.note(what, &answer);
    }
}

fn history(server: &Server) -> Vec<String> {
    let operator = server.operator();
    let mut notes = Notes::default();
    let mut sites: Vec<_> = (0..SITES).map(|n| make_site(&operator, n)).collect();
    operator.post("/v1/tenants/t3/suspend", json!({})).expect(200);
    operator.post("/v1/tenants/t3/activate", json!({})).expect(200);
    for number in 0..26 {
        sites.iter_mut().for_each(|site| step(&operator, site, number, &mut notes));
    }
    operator.post("/v1/tenants/t1/suspend", json!({})).expect(200);
    // What is wanted from the middle on, by time.
    let middle = operator.get(&format!("/v1/audit/{}", sites[2].decisions[3])).expect(200)["timestamp"].clone();
    let since = format!("since={}", middle.as_str().unwrap());
    for path in [
        "/v1/tenants",
        "/v1/tenants?limit=2",
        "/v1/agents",
        "/v1/agents?limit=2",
        "/v1/agents?status=revoked",
        "/v1/agents?userId=user-1&limit=4",
        "/v1/policies",
        "/v1/policies?limit=3",
        "/v1/delegations",
        "/v1/delegations?limit=1",
        "/v1/audit",
        "/v1/audit?limit=7",
        "/v1/audit?kind=admin&limit=9",
        "/v1/audit?result=denied&limit=4",
        &format!("/v1/audit?{since}"),
        &format!("/v1/audit?kind=all&limit=11&{since}"),
        "/v1/audit/export?kind=all",
        &format!("/v1/audit/export?{since}"),
        "/v1/stats",
    ] {
        pages(&operator, path, &mut notes);
    }
    let mut stream = Stream::open(server.base(), OPERATOR_KEY, &format!("kind=all&{since}"), None).unwrap();
    let wanted = operator.trail(&format!("kind=all&{since}")).len();
    // Tenants come in no certain order.
    let mut streamed: Vec<_> =
        stream.take(wanted).iter().map(|entry| entry["id"].as_str().unwrap().to_owned()).collect();
    streamed.sort();
    streamed.dedup();
    notes.lines.push(format!("{} entries are streamed", streamed.len()));
    drop(stream);
    for _ in 0..2 {
        notes.note("snapshot", &operator.post("/v1/snapshot", json!({})));
    }
    notes.lines
}

#[test]
fn every_answer_is_the_same_with_one_tenant_in_memory() {
    settle_into_the_day();
    let [all, one] = ["1000", "1"].map(|most| std::thread::spawn(move || history(&Server::start_with(keeping(most)))));
    let (all, one) = (all.join().unwrap(), one.join().unwrap());
    for (all, one) in all.iter().zip(&one) {
        assert_eq!(one, all);
    }
    assert_eq!(all.len(), one.len());
}

#[test]
fn agents_that_expire_and_budgets_that_end_while_their_tenants_are_idle_are_counted() {
    const MINUTE: i64 = 60_000;
    let homes = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let seen = [(&homes[0], 1), (&homes[1], 1_000)].map(|(home, most)| {
        let server = keeping_in_process(home.path(), most);
        let operator = server.with_key(OPERATOR_KEY);
        let now = now();
        let mut notes = Notes::default();
        for n in 0..4 {
            let tenant = operator.tenant(&format!("t{n}"));
            let until = kavach::domain::Timestamp::from_millis(now + 30 * MINUTE).to_string();
            let fields = json!({ "expiresAt": until, "permissions": permits("docs:*", &["read"]) });
            let soon = operator.agent_with(tenant.id.as_str(), fields);
            let ever = operator.reader(&tenant);
            next_millisecond();
            operator.delete(&format!("/v1/agents/{}", operator.reader(&tenant).id)).expect(204);
            let limits = json!({ "maxCallsPerMonth": 4 });
            operator.policy(tenant.id.as_str(), json!({ "limits": limits, "action": "warn" }));
            operator.granted(call(&soon.id));
            for _ in 0..=n {
                operator.granted(call(&ever.id));
            }
        }
        come_to_rest(&operator, u64::from(most));
        for step in [0, 20 * MINUTE, 20 * MINUTE, 20 * MINUTE] {
            server.kavach.inject_clock_step(step);
            for _ in 0..2 {
                notes.note("stats", &operator.get("/v1/stats"));
                notes.note("expired", &operator.get("/v1/agents?status=expired"));
                notes.note("active", &operator.get("/v1/agents?status=active&limit=3"));
            }
            notes.lines.push(operator.get("/v1/stats").expect(200)["agents"].to_string());
        }
        server.end();
        notes.lines
    });
    assert_eq!(seen[0], seen[1]);
    let counts: Vec<_> = seen[0].iter().filter(|line| line.starts_with("{\"active\"")).collect();
    let counted = |active, expired| json!({ "active": active, "revoked": 4, "expired": expired }).to_string();
    assert_eq!(counts, [&counted(8, 0), &counted(8, 0), &counted(4, 4), &counted(4, 4)]);
}

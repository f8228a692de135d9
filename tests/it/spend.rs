//! Spend reports: their sums are those of the exported entries, in every grouping, to the last millionth.

use std::collections::{BTreeMap, HashMap};

use fastrand::Rng;
use kavach::domain::Timestamp;
use kavach::domain::budget::cost::Cost;
use kavach::domain::limits::{MAX_BATCH, MAX_SPEND_GROUPS};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::client::Client;
use crate::harness::{OPERATOR_KEY, Server};
use crate::holds::holding;
use crate::panics::{settings, start};
use crate::world::{Agent, Tenant, call};

/// What reports group by, and the column of its values.
const GROUPS: [(&str, &str); 9] = [
    ("tenant", "tenantId"),
    ("agent", "agentId"),
    ("owner", "userId"),
    ("resource", "resource"),
    ("action", "action"),
    ("day", "day"),
    ("month", "month"),
    ("label:team", "label:team"),
    ("label:a/b", "label:a/b"),
];
const SUMS: [&str; 6] = ["calls", "denied", "estimated", "settled", "held", "cost"];

/// An entry as a bill reads it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    id: String,
    kind: String,
    result: String,
    tenant_id: Option<String>,
    agent_id: Option<String>,
    user_id: Option<String>,
    action: String,
    resource: String,
    timestamp: String,
    #[serde(borrow)]
    tokens_cost: Option<&'a RawValue>,
    #[serde(borrow)]
    settled_cost: Option<&'a RawValue>,
    r#ref: Option<String>,
    parameters: Option<Value>,
}

fn millionths(cost: Option<&RawValue>) -> Option<u64> {
    cost.map(|cost| Cost::parse("cost", cost.get()).unwrap().millionths())
}

impl Entry<'_> {
    /// What it adds to the sums, as docs/billing.md has it; costs in millionths.
    fn adds(&self) -> Option<[u64; 6]> {
        let (estimate, settled) = (millionths(self.tokens_cost), millionths(self.settled_cost));
        match (self.kind.as_str(), self.result.as_str()) {
            ("decision", "allowed") => {
                let estimate = estimate.unwrap_or(0);
                Some([1, 0, estimate, settled.unwrap_or(0), 0, settled.unwrap_or(estimate)])
            }
            ("decision", _) => Some([0, 1, 0, 0, 0, 0]),
            ("usage", _) if self.r#ref.is_none() => {
                let calls = self.parameters.as_ref().unwrap()["calls"].as_u64().unwrap();
                Some([calls, 0, 0, estimate.unwrap(), 0, estimate.unwrap()])
            }
            _ => None,
        }
    }

    fn value(&self, group: &str, known: &Known) -> Option<String> {
        let is_decision = self.kind == "decision";
        let time = Timestamp::parse("timestamp", &self.timestamp).unwrap().plus_millis(known.ahead);
        match group {
            label if label.starts_with("label:") => {
                known.labels.get(&self.id)?[&label[6..]].as_str().map(str::to_owned)
            }
            "tenant" => self.tenant_id.clone(),
            "agent" => self.agent_id.clone(),
            "owner" => self.user_id.clone(),
            "resource" => is_decision.then(|| self.resource.clone()),
            "action" => is_decision.then(|| self.action.clone()),
            "day" => Some(time.to_string()[..10].to_owned()),
            _ => Some(time.to_string()[..7].to_owned()),
        }
    }
}

/// What the entries of a query do not say themselves.
#[derive(Clone, Debug, Default)]
struct Known {
    /// The labels of an entry's agent at that time, by the entry's id.
    labels: HashMap<String, Value>,
    /// Milliseconds by which the report's clock is ahead of UTC.
    ahead: i64,
}

impl Known {
    /// From all entries there are, oldest first, tenant by tenant.
    fn read(lines: &str) -> Self {
        let (mut labels, mut now) = (HashMap::new(), HashMap::new());
        for line in lines.lines() {
            let entry: Value = serde_json::from_str(line).unwrap();
            let Some(agent) = entry["agentId"].as_str() else { continue };
            if entry["action"] == "agent.create" || entry["action"] == "agent.update" {
                now.insert(agent.to_owned(), entry["parameters"]["labels"].clone());
            } else if let Some(known) = now.get(agent) {
                labels.insert(entry["id"].as_str().unwrap().to_owned(), known.clone());
            }
        }
        Self { labels, ahead: 0 }
    }
}

type Groups = BTreeMap<Vec<Option<String>>, [u64; 6]>;

/// The groups of exported entries, summed up one by one.
fn expected(lines: &str, groups: &[&str], known: &Known) -> Groups {
    let mut sums = Groups::new();
    for line in lines.lines() {
        let entry: Entry<'_> = serde_json::from_str(line).unwrap();
        let Some(adds) = entry.adds() else { continue };
        let sum = sums.entry(groups.iter().map(|group| entry.value(group, known)).collect()).or_default();
        for (sum, add) in sum.iter_mut().zip(adds) {
            *sum += add;
        }
    }
    sums
}

#[derive(Deserialize)]
struct Report<'a> {
    #[serde(borrow)]
    rows: Vec<BTreeMap<String, &'a RawValue>>,
    #[serde(borrow)]
    total: BTreeMap<String, &'a RawValue>,
}

fn sums_of(row: &BTreeMap<String, &RawValue>) -> [u64; 6] {
    SUMS.map(|name| {
        let text = row[name].get();
        if matches!(name, "calls" | "denied") { text.parse().unwrap() } else { millionths(Some(row[name])).unwrap() }
    })
}

fn column(group: &str) -> &'static str {
    GROUPS.iter().find(|(name, _)| *name == group).unwrap().1
}

/// The groups of a report, in its order, after checking its total and that the CSV says the same.
fn reported(client: &Client, query: &str, groups: &[&str]) -> Vec<(Vec<Option<String>>, [u64; 6])> {
    let by = if groups.is_empty() { String::new() } else { format!("&groupBy={}", groups.join(",")) };
    let path = format!("/v1/spend?{query}{by}");
    let text = client.get(&path).text();
    let report: Report<'_> = serde_json::from_str(&text).unwrap_or_else(|problem| panic!("{problem}: {text}"));
    let value =
        |row: &BTreeMap<String, &RawValue>, group: &&str| serde_json::from_str(row[column(group)].get()).unwrap();
    let rows: Vec<(Vec<Option<String>>, _)> =
        report.rows.iter().map(|row| (groups.iter().map(|group| value(row, group)).collect(), sums_of(row))).collect();
    assert!(report.rows.iter().all(|row| row.len() == groups.len() + SUMS.len()), "{text}");
    let mut total = [0; 6];
    for (_, sums) in &rows {
        total = std::array::from_fn(|at| total[at] + sums[at]);
    }
    assert_eq!(sums_of(&report.total), total, "{path}");

    let answer = client.get(&format!("{path}&format=csv"));
    let mut csv = csv::Reader::from_reader(answer.body.as_slice());
    let header: Vec<_> = csv.headers().unwrap().iter().map(str::to_owned).collect();
    let columns: Vec<_> = groups.iter().map(|group| column(group)).chain(SUMS).collect();
    assert_eq!(header, columns);
    let cells: Vec<Vec<String>> = csv.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect();
    let of_json = report.rows.iter().map(|row| {
        let cell = |name: &&str| match serde_json::from_str(row[*name].get()).unwrap() {
            Value::String(text) => text,
            Value::Null => String::new(),
            _ => row[*name].get().to_owned(),
        };
        columns.iter().map(cell).collect::<Vec<_>>()
    });
    assert_eq!(cells, of_json.collect::<Vec<_>>(), "{path}");
    rows
}

/// Compares a report with the entries of the same query.
fn compare(client: &Client, known: &Known, query: &str, groups: &[&str]) {
    let entries = client.get(&format!("/v1/audit/export?kind=all&format=ndjson&{query}")).text();
    let expected: Vec<_> = expected(&entries, groups, known).into_iter().collect();
    let zone = if known.ahead == 0 { "" } else { "&timeZone=Asia/Kolkata" };
    assert_eq!(reported(client, &format!("{query}{zone}"), groups), expected, "{query} by {groups:?}");
}

/// Tenants with agents of several owners, and the default tenant.
struct World {
    tenants: Vec<Tenant>,
    agents: Vec<Agent>,
    /// Decisions that may be settled.
    open: Vec<(String, String)>,
    random: Rng,
}

impl World {
    fn new(operator: &Client, seed: u64) -> Self {
        let tenants: Vec<_> = ["acme", "globex"].map(|slug| operator.tenant(slug)).into();
        let ids: Vec<Value> = tenants.iter().map(|tenant| tenant.id.as_str().into()).chain([Value::Null]).collect();
        let permissions = json!([
            { "resource": "docs:*", "actions": ["read", "write"] },
            { "resource": "mail:*", "actions": ["send"], "constraints": { "maxCallsPerHour": 3 } },
        ]);
        let fields = |owner: &str| json!({ "ownerId": owner, "permissions": permissions });
        let agents = ids.iter().flat_map(|id| ["ana", "ana", "=ben", "chen"].map(|owner| (id.clone(), owner)));
        let agents = agents.map(|(id, owner)| operator.agent_with(id, fields(owner))).collect();
        Self { tenants, agents, open: Vec::new(), random: Rng::with_seed(seed) }
    }

    fn cost(&mut self) -> Value {
        let millionths = [0, 1, 999_999, 1_000_000].get(self.random.usize(..8)).copied();
        let millionths = millionths.unwrap_or_else(|| self.random.u64(..3_000_000));
        // A string, since a float could not hold every millionth.
        Cost::from_millionths(millionths).to_string().into()
    }

    fn agent(&mut self) -> String {
        self.agents[self.random.usize(..self.agents.len())].id.clone()
    }

    /// Calls of all kinds, some settlements, and a report without a decision.
    fn act(&mut self, operator: &Client) {
        let calls: Vec<_> = (0..20)
            .map(|_| {
                let nobody = self.random.u8(..12) == 0;
                let agent = if nobody { format!("agt_{:032x}", self.random.u64(..3)) } else { self.agent() };
                let resource = ["docs:1", "docs:2", "mail:ana", "web:1"][self.random.usize(..4)];
                let action = ["read", "write", "send", "drop"][self.random.usize(..4)];
                let mut call = json!({ "agentId": agent, "action": action, "resource": resource });
                if self.random.bool() {
                    call["tokensCost"] = self.cost();
                }
                call
            })
            .collect();
        let answer = operator.post("/v1/authorize/batch", json!({ "requests": calls })).expect(200);
        for (call, decision) in calls.iter().zip(answer["results"].as_array().unwrap()) {
            if decision["allowed"] == true {
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                self.open.push((text(&call["agentId"]), text(&decision["auditId"])));
            }
        }
        for _ in 0..3 {
            if self.open.is_empty() || self.random.bool() {
                continue;
            }
            let (agent, decision) = self.open.swap_remove(self.random.usize(..self.open.len()));
            let body = json!({ "agentId": agent, "auditId": decision, "tokensCost": self.cost() });
            operator.post("/v1/usage", body).expect(200);
        }
        let body = json!({ "agentId": self.agent(), "tokensCost": self.cost(), "calls": self.random.u8(..5) });
        operator.post("/v1/usage", body).expect(200);
        if self.random.u8(..3) == 0 {
            let labels = [json!({}), json!({ "team": "web" }), json!({ "team": "", "a/b": "ü" })];
            let labels = &labels[self.random.usize(..3)];
            // The other change leaves the labels.
            let change = if self.random.bool() { json!({ "labels": labels }) } else { json!({ "name": "other" }) };
            operator.patch(&format!("/v1/agents/{}", self.agent()), change).expect(200);
        }
    }
}

#[test]
fn every_grouping_adds_up_to_the_entries_over_days() {
    const STEPS: usize = 40;
    /// Short of what the server takes for a wrong clock.
    const STEP_MS: i64 = 59 * 60_000;
    let seed = std::env::var("KAVACH_CRASH_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    eprintln!("KAVACH_CRASH_SEED={seed}");
    let home = tempfile::tempdir().unwrap();
    let server = start(settings(home.path()));
    let operator = server.with_key(OPERATOR_KEY);
    let mut world = World::new(&operator, seed);
    let mut times = Vec::new();
    for step in 0..STEPS {
        world.act(&operator);
        let newest = operator.get("/v1/audit?tenantId=acme&kind=all&limit=1").items().remove(0);
        times.push(newest["timestamp"].as_str().unwrap().to_owned());
        if step + 1 < STEPS {
            server.kavach.inject_clock_step(STEP_MS);
        }
    }
    let known = Known::read(&operator.get("/v1/audit/export?kind=all&format=ndjson").text());
    let indian = Known { ahead: 5 * 3_600_000 + 1_800_000, ..known.clone() };
    let check = |operator: &Client, acme: &Client| {
        let none: [&str; 0] = [];
        for query in ["", "tenantId=acme", "tenantId=default"] {
            compare(operator, &known, query, &none);
        }
        for (group, _) in GROUPS {
            compare(operator, &known, "", &[group]);
            compare(acme, &known, "", &[group]);
        }
        for groups in [&["day"] as &[_], &["owner", "month"], &["day", "label:team"]] {
            compare(operator, &indian, "", groups);
            compare(acme, &indian, &format!("since={}", times[STEPS / 2]), groups);
        }
        for groups in [
            &["month", "tenant"] as &[_],
            &["owner", "day"],
            &["tenant", "agent", "owner"],
            &["label:team", "tenant", "label:a/b", "day"],
            &["day", "resource", "action", "agent"],
            &["action", "month", "tenant", "owner"],
        ] {
            compare(operator, &known, "", groups);
            compare(operator, &known, "tenantId=globex&userId=ana", groups);
            let (early, late) = (&times[STEPS / 4], &times[3 * STEPS / 4]);
            compare(operator, &known, &format!("since={early}&until={late}"), groups);
            compare(acme, &known, &format!("since={early}"), groups);
            compare(operator, &known, &format!("until={early}&agentId={}", world.agents[0].id), groups);
            compare(operator, &known, &format!("since={early}&until={early}"), groups);
        }
    };
    check(&operator, &server.with_key(&world.tenants[0].key));
    let days = reported(&operator, "", &["day"]);
    assert!(days.len() >= 2, "{days:?}");
    let (first, rest) = (&days[0].0[0].clone().unwrap(), &days[1].0[0].clone().unwrap());
    // A date is the start of a day, so days and periods meet.
    assert_eq!(reported(&operator, &format!("until={rest}"), &["day"]), days[..1]);
    assert_eq!(reported(&operator, &format!("since={rest}"), &["day"]), days[1..]);
    assert!(first < rest);
    // So they do in a zone.
    let local = reported(&operator, "timeZone=Asia/Kolkata", &["day"]);
    let second = local[1].0[0].clone().unwrap();
    assert_eq!(reported(&operator, &format!("timeZone=Asia/Kolkata&until={second}"), &["day"]), local[..1]);
    assert_eq!(reported(&operator, &format!("timeZone=Asia/Kolkata&since={second}"), &["day"]), local[1..]);
    server.end();
    // What is read from disk says the same.
    let server = start(settings(home.path()));
    check(&server.with_key(OPERATOR_KEY), &server.with_key(&world.tenants[0].key));
    server.end();
}

#[test]
fn a_tenant_key_sees_its_own_spend_and_no_other() {
    let server = Server::start();
    let operator = server.operator();
    let mut world = World::new(&operator, 7);
    (0..5).for_each(|_| world.act(&operator));
    let [acme, globex] = [0, 1].map(|at| server.with_key(&world.tenants[at].key));
    for (client, tenant) in [(&acme, &world.tenants[0]), (&globex, &world.tenants[1])] {
        let own = reported(&operator, &format!("tenantId={}", tenant.slug), &["tenant", "agent"]);
        assert!(own.iter().all(|(values, _)| values[0].as_ref() == Some(&tenant.id)), "{own:?}");
        assert_eq!(reported(client, "", &["tenant", "agent"]), own);
        assert_eq!(reported(client, &format!("tenantId={}", tenant.id), &["tenant", "agent"]), own);
    }
    // Another tenant's agent is one that never asked here.
    let foreign = &world.agents[4].id;
    assert!(reported(&operator, &format!("agentId={foreign}"), &["owner"])[0].1[0] > 0);
    assert_eq!(reported(&acme, &format!("agentId={foreign}"), &["owner"]), []);
    acme.get("/v1/spend?tenantId=globex").problem(403, "TENANT_MISMATCH");
    acme.get("/v1/spend?tenantId=default").problem(403, "TENANT_MISMATCH");
    server.with_key(&world.agents[0].token).get("/v1/spend").problem(403, "FORBIDDEN");
    let disposition = |client: &Client, query: &str| {
        let answer = client.get(&format!("/v1/spend?format=csv{query}"));
        answer.header("content-disposition").map(str::to_owned).unwrap()
    };
    assert_eq!(disposition(&acme, ""), "attachment; filename=\"kavach-spend-acme.csv\"");
    assert_eq!(disposition(&operator, ""), "attachment; filename=\"kavach-spend-all.csv\"");
    let guarded = operator.get("/v1/spend?groupBy=owner&format=csv&spreadsheet=true").text();
    assert!(guarded.contains("\r\n'=ben,") && !guarded.contains("\r\n=ben,"), "{guarded}");
    // A tenant that is gone takes its spend along.
    let all = |groups| reported(&operator, "", groups);
    let others = all(&["tenant"]).into_iter().filter(|(values, _)| values[0].as_ref() != Some(&world.tenants[1].id));
    let others: Vec<_> = others.collect();
    operator.delete("/v1/tenants/globex?confirm=globex").expect(204);
    assert_eq!(all(&["tenant"]), others);
    operator.get("/v1/spend?tenantId=globex").problem(404, "TENANT_NOT_FOUND");
}

#[test]
fn a_report_that_groups_by_too_much_is_refused_and_a_narrower_one_is_not() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    for batch in 0..=MAX_SPEND_GROUPS / MAX_BATCH {
        // One batch more than there may be groups.
        let ask = |n: usize| json!({ "agentId": agent.id, "action": "read", "resource": format!("docs:{batch}:{n}") });
        let requests: Vec<_> = (0..MAX_BATCH).map(ask).collect();
        operator.post("/v1/authorize/batch", json!({ "requests": requests })).expect(200);
    }
    for format in ["json", "csv"] {
        let message =
            operator.get(&format!("/v1/spend?groupBy=resource&format={format}")).problem(422, "TOO_MANY_GROUPS");
        assert!(message.contains("more than 10000 groups") && message.contains("narrow it"), "{message}");
    }
    let rows = reported(&operator, "", &["action"]);
    assert_eq!(rows[0].1[0], 11_000);
    let page = operator.get("/v1/audit?limit=1&offset=9999").items().remove(0);
    let since = page["timestamp"].as_str().unwrap();
    compare(&operator, &Known::default(), &format!("since={since}&agentId={}", agent.id), &["action"]);
}

#[test]
fn reports_are_whole_while_calls_settlements_and_reports_go_on() {
    let server = Server::start();
    let operator = server.operator();
    let agent = operator.reader(&operator.tenant("acme"));
    let stop = std::sync::atomic::AtomicBool::new(false);
    let most = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let operator = server.operator();
            let mut made = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                // Each call is made for 1 and settled at 3 before the next.
                let id = operator
                    .granted(json!({ "tokensCost": 1, "agentId": agent.id, "action": "read", "resource": "docs:1" }));
                operator.post("/v1/usage", json!({ "agentId": agent.id, "auditId": id, "tokensCost": 3 })).expect(200);
                made += 1;
            }
            made
        });
        let mut last = 0;
        for _ in 0..100 {
            let rows = reported_once(&operator);
            let [calls, _, estimated, settled, _, cost] = rows;
            assert_eq!(estimated, calls * 1_000_000);
            // At most one call waits for its settlement.
            let open = calls - settled / 3_000_000;
            assert!(open <= 1 && cost == settled + open * 1_000_000, "{rows:?}");
            assert!(calls >= last);
            last = calls;
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        load.join().unwrap()
    });
    assert_eq!(reported_once(&operator), [most, 0, most * 1_000_000, most * 3_000_000, 0, most * 3_000_000]);
    // The caller's own call is in the report that it asks for next.
    operator.granted(call(&agent.id));
    assert_eq!(reported_once(&operator)[0], most + 1);
}

/// The sums of all tenants.
fn reported_once(operator: &Client) -> [u64; 6] {
    let text = operator.get("/v1/spend").text();
    let report: Report<'_> = serde_json::from_str(&text).unwrap();
    sums_of(&report.total)
}

#[test]
fn a_hold_whose_time_is_over_is_not_held_although_nobody_called_since() {
    let home = tempfile::tempdir().unwrap();
    let server = start(settings(home.path()));
    let operator = server.with_key(OPERATOR_KEY);
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let hold = |cost: &str, seconds| {
        let decision = operator.authorize(holding(&agent.id, cost, seconds)).expect(200);
        decision["auditId"].as_str().unwrap().to_owned()
    };
    let (over, open) = (hold("2", 300), hold("5", 3_000));
    let spent = || {
        let total = operator.get("/v1/spend?tenantId=acme").expect(200)["total"].clone();
        SUMS.map(|sum| total[sum].clone())
    };
    let entry = |id: &str| operator.get(&format!("/v1/audit/{id}")).expect(200)["settledCost"].clone();
    let exported = || {
        let mut costs = Vec::new();
        operator.lines("/v1/audit/export?tenantId=acme&format=ndjson", |line| {
            costs.push(serde_json::from_str::<Value>(line).unwrap()["settledCost"].clone());
        });
        costs
    };
    assert_eq!(spent(), [2, 0, 7, 0, 7, 7].map(|sum| json!(sum)));
    server.kavach.inject_clock_step(6 * 60_000);
    // Nobody bills what the budgets say is left, whether or not its end is recorded yet.
    let is_over = |entries: usize| {
        assert_eq!(operator.trail("tenantId=acme&kind=usage").len(), entries);
        assert_eq!(spent(), [2, 0, 7, 0, 5, 5].map(|sum| json!(sum)));
        assert_eq!((entry(&over), entry(&open)), (json!(0), Value::Null));
        assert_eq!(exported(), [json!(0), Value::Null]);
        let listed = operator.trail("tenantId=acme");
        assert_eq!([&listed[0]["settledCost"], &listed[1]["settledCost"]], [&Value::Null, &json!(0)]);
    };
    is_over(0);
    // The next change of a hold records the end first.
    operator.post(&format!("/v1/holds/{open}/extend"), json!({ "ttlSeconds": 3_000 })).expect(200);
    is_over(2);
    server.end();
}

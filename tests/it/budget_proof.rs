//! Proof that budgets are exact: 32 threads at once, stacked limits, and `kill -9` in the middle.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};

use serde_json::{Value, json};

use crate::budgets::{costing, settle_into_the_day};
use crate::client::Client;
use crate::harness::{Options, Server, eventually};
use crate::world::{Agent, Tenant, call, permits};

const THREADS: usize = 32;
const REPETITIONS: usize = 50;

/// Agents of a tenant: two of `ann`, one of `bob` and one of `cid`, under three stacked limits.
struct Office {
    tenant: Tenant,
    ann: [Agent; 2],
    bob: Agent,
    cid: Agent,
    /// Limits the tenant's calls per day.
    calls: String,
    /// Limits `ann`'s cost per month.
    cost: String,
    /// Limits the monthly calls of `bob`'s agent.
    agent: String,
    /// Warns about the tenant's calls per day, at a much lower limit.
    warns: String,
}

const TENANT_CALLS: u64 = 60;
/// Fifteen calls of 0.7 are 10.5 exactly, but not in floats.
const ANN_COST: &str = "0.7";
const ANN_CALLS: u64 = 15;
const ANN_LIMIT: f64 = 10.5;
const BOB_CALLS: u64 = 20;
const WARNED_FROM: u64 = 10;

impl Office {
    fn new(operator: &Client, slug: &str) -> Self {
        let tenant = operator.tenant(slug);
        let agent = |owner: &str| {
            operator.agent_with(slug, json!({ "ownerId": owner, "permissions": permits("docs:*", &["read"]) }))
        };
        let (ann, bob, cid) = ([agent("ann"), agent("ann")], agent("bob"), agent("cid"));
        let warns = json!({ "limits": { "maxCallsPerDay": WARNED_FROM }, "action": "warn" });
        let warns = operator.policy(slug, warns);
        let calls = operator.policy(slug, json!({ "limits": { "maxCallsPerDay": TENANT_CALLS } }));
        let cost = json!({ "limits": { "maxTokensCostPerMonth": ANN_LIMIT }, "userId": "ann", "action": "throttle" });
        let cost = operator.policy(slug, cost);
        let one = operator.policy(slug, json!({ "limits": { "maxCallsPerMonth": BOB_CALLS }, "agentId": bob.id }));
        Self { tenant, ann, bob, cid, calls, cost, agent: one, warns }
    }
}

/// An authorize call, its owner, and its answer.
struct Asked {
    owner: &'static str,
    decision: Value,
}

#[test]
fn each_limit_is_met_exactly_by_32_threads_at_once() {
    settle_into_the_day();
    let server = Server::start();
    let operator = server.operator();
    for repetition in 0..REPETITIONS {
        let office = Office::new(&operator, &format!("t{repetition}"));
        let answers = storm(&operator, &office);
        check(&operator, &office, &answers);
    }
}

/// Far more calls than the limits allow, by the operator's key, the tenant's, and the agents' own tokens.
fn storm(operator: &Client, office: &Office) -> Vec<Asked> {
    let (answers, half) = (Mutex::new(Vec::new()), Barrier::new(THREADS));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (answers, half) = (&answers, &half);
            scope.spawn(move || {
                let ask = |owner: &'static str, agent: &Agent, mut body: Value| {
                    let client = match thread % 3 {
                        0 => operator.clone(),
                        1 => operator.acting_for(&office.tenant.key),
                        _ => operator.acting_for(&agent.token),
                    };
                    if thread % 3 == 2 {
                        body.as_object_mut().unwrap().remove("agentId");
                    }
                    let decision = client.authorize(body).expect(200);
                    answers.lock().unwrap().push(Asked { owner, decision });
                };
                // Half of cid's calls come in between. Together with the others' limits they stay below the tenant's.
                if thread % 2 == 0 {
                    ask("cid", &office.cid, call(&office.cid.id));
                }
                let ann = &office.ann[thread / 2 % 2];
                ask("ann", ann, costing(&ann.id, ANN_COST));
                ask("bob", &office.bob, costing(&office.bob.id, "0.000001"));
                half.wait();
                // Now only the tenant's limit has room.
                ask("cid", &office.cid, call(&office.cid.id));
            });
        }
    });
    answers.into_inner().unwrap()
}

fn check(operator: &Client, office: &Office, answers: &[Asked]) {
    assert_eq!(answers.len(), THREADS / 2 + THREADS * 3);
    let allowed = |owner: &str| {
        let mine = answers.iter().filter(|asked| asked.owner == owner);
        mine.filter(|asked| asked.decision["allowed"] == true).count() as u64
    };
    let cid_calls = TENANT_CALLS - ANN_CALLS - BOB_CALLS;
    assert_eq!([allowed("ann"), allowed("bob"), allowed("cid")], [ANN_CALLS, BOB_CALLS, cid_calls]);
    // Counters, to the last millionth, and the warnings: every call from the eleventh on.
    let bobs_cost = BOB_CALLS as f64 / 1e6;
    let expected = json!([ANN_CALLS, ANN_CALLS, ANN_LIMIT, ANN_LIMIT]);
    assert_eq!(operator.used(&office.cost), expected);
    assert_eq!(operator.used(&office.agent), json!([BOB_CALLS, BOB_CALLS, bobs_cost, bobs_cost]));
    for policy in [&office.calls, &office.warns] {
        let sum = ANN_LIMIT + bobs_cost;
        assert_eq!(operator.used(policy), json!([TENANT_CALLS, TENANT_CALLS, sum, sum]));
    }
    for policy in [&office.calls, &office.cost, &office.agent, &office.warns] {
        assert_eq!(operator.policy_of(policy)["status"], "triggered");
    }
    let warned = answers.iter().filter(|asked| asked.decision["allowed"] == true).filter(|asked| {
        let warnings = asked.decision.get("warnings").and_then(Value::as_array);
        warnings.is_some_and(|warnings| warnings.len() == 1 && warnings[0]["policyId"] == json!(office.warns))
    });
    assert_eq!(warned.count() as u64, TENANT_CALLS - WARNED_FROM);
    for Asked { owner, decision } in answers.iter().filter(|asked| asked.decision["allowed"] == false) {
        assert_eq!(decision["code"], "BUDGET_EXCEEDED", "{decision}");
        let by = &decision["policyId"];
        let own = match *owner {
            "ann" => &office.cost,
            "bob" => &office.agent,
            _ => &office.calls,
        };
        assert!(by == &json!(own) || by == &json!(office.calls), "{owner}: {decision}");
    }
    // The trail has every answer once.
    let trail = operator.trail(&format!("tenantId={}", office.tenant.slug));
    assert_eq!(trail.len(), answers.len());
    let recorded: HashMap<_, _> = trail.iter().map(|entry| (&entry["id"], &entry["result"])).collect();
    assert_eq!(recorded.len(), answers.len(), "each once");
    for Asked { owner, decision } in answers {
        let result = match (decision["allowed"] == true, decision["policyId"] == json!(office.cost)) {
            (true, _) => "allowed",
            (false, true) => "rate_limited",
            (false, false) => "denied",
        };
        assert_eq!(recorded[&decision["auditId"]], result, "{owner}: {decision}");
    }
}

/// What the clients know for certain.
#[derive(Default)]
struct Known {
    allowed: Mutex<Vec<String>>,
    settled: Mutex<Vec<(String, f64)>>,
    answers: AtomicUsize,
}

#[test]
fn counters_agree_with_the_trail_after_kill_9() {
    killed_in_the_middle("interval", 6);
}

#[test]
fn counters_agree_with_the_trail_after_kill_9_with_fsync() {
    killed_in_the_middle("fsync", 2);
}

fn killed_in_the_middle(durability: &'static str, rounds: usize) {
    settle_into_the_day();
    let mut server = Server::start_with(Options::args(&["--durability", durability]));
    let operator = server.operator();
    operator.tenant("acme");
    let agent = |owner: &str| {
        operator.agent_with("acme", json!({ "ownerId": owner, "permissions": permits("docs:*", &["read"]) }))
    };
    let (ann, bob, cid) = (agent("ann"), agent("bob"), agent("cid"));
    let most = 150 * rounds as u64;
    let all = operator.policy("acme", json!({ "limits": { "maxCallsPerMonth": most } }));
    let warns = operator.policy("acme", json!({ "limits": { "maxCallsPerDay": 1 }, "action": "warn" }));
    let of_ann = operator.policy("acme", json!({ "limits": { "maxTokensCostPerMonth": 1_000_000 }, "userId": "ann" }));
    let of_bob = operator.policy("acme", json!({ "limits": { "maxTokensCostPerDay": 10.5 }, "agentId": bob.id }));
    let known = Known::default();
    for _ in 0..rounds {
        let operator = server.operator();
        let stop_at = known.answers.load(Ordering::Relaxed) + 100;
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (known, operator, ann, bob, cid) = (&known, &operator, &ann, &bob, &cid);
                scope.spawn(move || {
                    // Until the connection breaks.
                    let calls = [costing(&ann.id, "0.3"), costing(&bob.id, "0.7"), call(&cid.id)];
                    for n in thread.. {
                        if once(operator, known, &calls[n % 3], &ann.id, n % 3 == 0 && n % 2 == 0).is_err() {
                            break;
                        }
                    }
                });
            }
            // Some thousands would pass meanwhile, so the kill hits an arbitrary call.
            eventually("enough answers came", || (known.answers.load(Ordering::Relaxed) >= stop_at).then_some(()));
            server.kill();
        });
        server.start_again();
        audited(
            &server.operator(),
            &known,
            &[(&all, None), (&warns, None), (&of_ann, Some(&ann)), (&of_bob, Some(&bob))],
        );
    }
    // The rest of each limit is granted and no more: a lost answer was counted once, or not at all.
    let operator = server.operator();
    for body in [costing(&bob.id, "0.7"), call(&cid.id)] {
        while operator.authorize(body.clone()).expect(200)["allowed"] == true {}
    }
    assert_eq!(operator.used(&all)[1], most);
    let trail = operator.trail("tenantId=acme&result=allowed");
    assert_eq!(trail.len() as u64, most, "the limit is met exactly");
    let bobs = trail.iter().filter(|entry| entry["agentId"] == json!(bob.id)).count();
    assert!(bobs == 15 || most as usize == trail.len() && bobs < 15, "{bobs}");
    assert_eq!(operator.used(&of_bob)[0], bobs);
}

/// One call, and after some allowed ones a settlement: an error is a broken connection.
fn once(operator: &Client, known: &Known, body: &Value, ann: &str, settles: bool) -> Result<(), String> {
    let text = body.to_string();
    let answer = operator.try_send("POST", "/v1/authorize", &[], Some(text.as_bytes()))?;
    if answer.status == 503 {
        return Err(answer.text());
    }
    let decision = answer.expect(200);
    known.answers.fetch_add(1, Ordering::Relaxed);
    if decision["allowed"] == true {
        let id = decision["auditId"].as_str().unwrap().to_owned();
        known.allowed.lock().unwrap().push(id.clone());
        if settles {
            let cost = if id.ends_with(['0', '2', '4', '6', '8', 'a', 'c', 'e']) { 0.1 } else { 0.5 };
            let report = json!({ "agentId": ann, "auditId": id, "tokensCost": cost }).to_string();
            let answer = operator.try_send("POST", "/v1/usage", &[], Some(report.as_bytes()))?;
            if answer.status == 503 {
                return Err(answer.text());
            }
            answer.expect(200);
            known.settled.lock().unwrap().push((id, cost));
        }
    }
    Ok(())
}

pub fn millionths(cost: &Value) -> i64 {
    (cost.as_f64().unwrap_or(0.0) * 1e6).round() as i64
}

/// Checks counters against the sum over the trail, and the trail against what the clients know.
fn audited(operator: &Client, known: &Known, policies: &[(&String, Option<&Agent>)]) {
    let decisions = operator.trail("tenantId=acme&result=allowed");
    let reports = operator.trail("tenantId=acme&kind=usage");
    let mut costs: HashMap<&str, i64> = HashMap::new();
    for entry in &decisions {
        let id = entry["id"].as_str().unwrap();
        assert!(costs.insert(id, millionths(&entry["tokensCost"])).is_none(), "{id} is there twice");
    }
    let mut settled = HashSet::new();
    for report in &reports {
        let id = report["ref"].as_str().unwrap();
        assert!(settled.insert(id), "{id} is settled twice");
        *costs.get_mut(id).unwrap() = millionths(&report["tokensCost"]);
    }
    for id in known.allowed.lock().unwrap().iter() {
        assert!(costs.contains_key(&**id), "{id} was allowed and is not in the trail");
    }
    for (id, cost) in known.settled.lock().unwrap().iter() {
        assert!(settled.contains(&**id) && costs[&**id] == millionths(&json!(cost)), "{id} was settled at {cost}");
    }
    for (policy, agent) in policies {
        let mine = |entry: &&Value| agent.is_none_or(|agent| entry["agentId"] == json!(agent.id));
        let mine: Vec<_> = decisions.iter().filter(mine).collect();
        let cost: i64 = mine.iter().map(|entry| costs[entry["id"].as_str().unwrap()]).sum();
        let used = operator.used(policy);
        assert_eq!((&used[0], &used[1]), (&json!(mine.len()), &json!(mine.len())), "{policy}");
        assert_eq!((millionths(&used[2]), millionths(&used[3])), (cost, cost), "{policy}");
    }
}

#[test]
fn of_many_concurrent_settlements_of_one_decision_one_counts() {
    settle_into_the_day();
    let server = Server::start();
    let operator = server.operator();
    let agent = operator.reader(&operator.tenant("acme"));
    let policy = operator.policy("acme", json!({ "limits": { "maxTokensCostPerMonth": 1000 } }));
    let mut sum = 0;
    for round in 1..=20 {
        let id = operator.granted(costing(&agent.id, "5"));
        let start = Barrier::new(THREADS);
        let settled = Mutex::new(HashMap::new());
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (operator, agent, id, start, settled) = (&operator, &agent, &id, &start, &settled);
                scope.spawn(move || {
                    start.wait();
                    // Four of them report each cost.
                    let cost = thread / 4;
                    let answer = operator.settle(&agent.id, id, json!(cost));
                    match answer.status {
                        200 => drop(settled.lock().unwrap().insert(answer.text(), cost)),
                        _ => drop(answer.problem(409, "ALREADY_SETTLED")),
                    }
                });
            }
        });
        let settled = settled.into_inner().unwrap();
        assert_eq!(
            settled.len(),
            1,
            "all four of the same cost got the same answer, and no other got one: {settled:?}"
        );
        sum += settled.into_values().next().unwrap();
        assert_eq!(operator.used(&policy), json!([round, round, sum, sum]));
        assert_eq!(operator.trail("kind=usage").len(), round);
    }
}

//! Proof that holds are exact: 64 connections race calls, settlements, releases, extensions, changes and resets of
//! policies, with `kill -9` in the middle. Then every counter equals a recount of the exported trail.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::budget_proof::millionths;
use crate::budgets::{costing, settle_into_the_day};
use crate::client::Client;
use crate::harness::{Options, Server, eventually};
use crate::holds::holding;
use crate::world::{Agent, permits};

const THREADS: usize = 64;
/// Seconds of the holds that end by themselves while the test runs.
const SHORT: u64 = 1;

/// What the clients know for certain.
#[derive(Default)]
struct Known {
    /// Decisions whose costs were held, with their agents.
    held: Mutex<Vec<(String, String)>>,
    /// How holds ended: by which entry.
    ended: Mutex<Vec<(String, String)>>,
    answers: AtomicUsize,
}

#[test]
fn counters_equal_a_recount_of_the_trail_with_interval() {
    raced("interval", 4);
}

#[test]
fn counters_equal_a_recount_of_the_trail_with_fsync() {
    raced("fsync", 2);
}

fn raced(durability: &'static str, rounds: usize) {
    settle_into_the_day();
    let mut server = Server::start_with(Options::args(&["--durability", durability]));
    let operator = server.operator();
    operator.tenant("acme");
    let agent = |owner: &str| {
        operator.agent_with("acme", json!({ "ownerId": owner, "permissions": permits("docs:*", &["read"]) }))
    };
    let agents = [agent("ann"), agent("bob"), agent("ann")];
    let policies = [
        json!({ "limits": { "maxTokensCostPerDay": 40, "maxTokensCostPerMonth": 1_000_000 } }),
        json!({ "limits": { "maxTokensCostPerMonth": 30 }, "userId": "ann" }),
        json!({ "limits": { "maxCallsPerDay": 1_000_000, "maxTokensCostPerDay": 25 }, "agentId": agents[1].id }),
    ]
    .map(|policy| operator.policy("acme", policy));
    let known = Known::default();
    for _ in 0..rounds {
        let operator = server.operator();
        let (stop_at, stopped) = (known.answers.load(Ordering::Relaxed) + 600, AtomicBool::new(false));
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (known, operator, agents, policies) = (&known, &operator, &agents, &policies);
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(thread as u64);
                    // Until the connection breaks.
                    while one(&mut random, operator, known, agents, policies).is_ok() {}
                });
            }
            let (operator, policies, stopped) = (&operator, &policies, &stopped);
            scope.spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    for policy in policies {
                        let Ok(answer) = operator.try_send("GET", &format!("/v1/policies/{policy}"), &[], None) else {
                            return;
                        };
                        if answer.status == 200 {
                            adds_up(&answer.expect(200));
                        }
                    }
                }
            });
            eventually("enough answers came", || (known.answers.load(Ordering::Relaxed) >= stop_at).then_some(()));
            server.kill();
            stopped.store(true, Ordering::Relaxed);
        });
        server.start_again();
        audited(&server.operator(), &known, &agents[0], &policies);
    }
}

/// One random call: an error is a broken connection.
fn one(
    random: &mut fastrand::Rng,
    operator: &Client,
    known: &Known,
    agents: &[Agent; 3],
    policies: &[String; 3],
) -> Result<(), String> {
    let send = |method: &str, path: &str, body: Value| {
        let answer = operator.try_send(method, path, &[], Some(body.to_string().as_bytes()))?;
        known.answers.fetch_add(1, Ordering::Relaxed);
        if answer.status == 503 { Err(answer.text()) } else { Ok(answer) }
    };
    let agent = &agents[random.usize(0..3)];
    // The newest holds are open more often than not, and others reach for them too.
    let chosen = |random: &mut fastrand::Rng| {
        let held = known.held.lock().unwrap();
        let back = random.usize(0..held.len().clamp(1, 20));
        held.iter().rev().nth(back).cloned()
    };
    let cost = ["0.3", "0.7", "1", "2.000001"][random.usize(0..4)];
    match random.u32(0..20) {
        0..8 => {
            let seconds = if random.bool() { SHORT } else { 3_600 };
            let decision = send("POST", "/v1/authorize", holding(&agent.id, cost, seconds))?.expect(200);
            if decision["allowed"] == true {
                let id = decision["auditId"].as_str().unwrap().to_owned();
                known.held.lock().unwrap().push((id, agent.id.clone()));
            }
        }
        8 => drop(send("POST", "/v1/authorize", costing(&agent.id, cost))?.expect(200)),
        9..13 => {
            let Some((id, agent)) = chosen(random) else { return Ok(()) };
            let cost: Value = serde_json::from_str(["0", "0.25", "1.5"][random.usize(0..3)]).unwrap();
            let answer =
                send("POST", "/v1/usage", json!({ "agentId": agent, "auditId": id, "tokensCost": cost.clone() }))?;
            note_end(known, &id, &answer, &["HOLD_ENDED", "ALREADY_SETTLED"]);
        }
        13..16 => {
            let Some((id, _)) = chosen(random) else { return Ok(()) };
            let answer = send("POST", &format!("/v1/holds/{id}/release"), json!({}))?;
            note_end(known, &id, &answer, &["HOLD_ENDED"]);
        }
        16..18 => {
            let Some((id, _)) = chosen(random) else { return Ok(()) };
            let seconds = if random.bool() { SHORT } else { 3_600 };
            let answer = send("POST", &format!("/v1/holds/{id}/extend"), json!({ "ttlSeconds": seconds }))?;
            assert!(answer.status == 200 || answer.code().as_deref() == Some("HOLD_ENDED"), "{}", answer.text());
        }
        18 => {
            let policy = &policies[random.usize(0..3)];
            let body = json!({ "limits": { "maxTokensCostPerDay": random.u32(5..50) } });
            send("PATCH", &format!("/v1/policies/{policy}"), body)?.expect(200);
        }
        _ => {
            let policy = &policies[random.usize(0..3)];
            let period = ["day", "month", "all"][random.usize(0..3)];
            send("POST", &format!("/v1/policies/{policy}/reset"), json!({ "period": period }))?.expect(200);
        }
    }
    Ok(())
}

fn note_end(known: &Known, id: &str, answer: &crate::client::Answer, refusals: &[&str]) {
    match answer.status {
        200 => {
            let entry = answer.expect(200)["auditId"].as_str().unwrap().to_owned();
            known.ended.lock().unwrap().push((id.to_owned(), entry));
        }
        _ => assert!(answer.code().is_some_and(|code| refusals.contains(&&*code)), "{}", answer.text()),
    }
}

/// For each window `max = left + spent + held`.
fn adds_up(policy: &Value) {
    for window in policy["windows"].as_array().unwrap() {
        if !window["maxTokensCost"].is_null() {
            let sum = ["tokensCostLeft", "tokensCostSpent", "tokensCostHeld"].map(|part| millionths(&window[part]));
            assert_eq!(millionths(&window["maxTokensCost"]), sum.iter().sum::<i64>(), "{window}");
        }
    }
}

/// One window of a policy, recounted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Count {
    calls: i64,
    spent: i64,
    held: i64,
    /// The place of the entry that set it to zero.
    since: usize,
}

struct Recounted {
    agent: Value,
    owner: Value,
    born: usize,
    /// Of the day and of the month.
    counts: [Count; 2],
}

struct Held {
    place: usize,
    estimate: i64,
    end: Option<String>,
}

/// Checks counters and open holds against a recount of the trail, and the trail against what the clients know.
fn audited(operator: &Client, known: &Known, agent: &Agent, policies: &[String; 3]) {
    // The short ones are over, and a call records that.
    eventually("the short holds have ended", || {
        let holds = operator.get("/v1/holds?tenantId=acme").items();
        let length = |hold: &Value| {
            let millis = |member: &str| {
                kavach::domain::Timestamp::parse(member, hold[member].as_str().unwrap()).unwrap().millis()
            };
            millis("until") - millis("createdAt")
        };
        holds.iter().all(|hold| length(hold) > 60_000).then_some(())
    });
    operator.authorize(costing(&agent.id, "0")).expect(200);
    let (mut policies_of, mut held, mut ends): (BTreeMap<String, Recounted>, _, HashMap<String, usize>) =
        (BTreeMap::new(), HashMap::<String, Held>::new(), HashMap::new());
    let mut place = 0;
    operator.lines("/v1/audit/export?tenantId=acme&kind=all&format=ndjson", |line| {
        place += 1;
        let entry: Value = serde_json::from_str(line).unwrap();
        let (id, cost) = (entry["id"].as_str().unwrap().to_owned(), millionths(&entry["tokensCost"]));
        let matching = |policy: &Recounted, entry: &Value| {
            [(&policy.agent, "agentId"), (&policy.owner, "userId")]
                .iter()
                .all(|(own, member)| own.is_null() || **own == entry[*member])
        };
        match (entry["kind"].as_str().unwrap(), entry["action"].as_str().unwrap()) {
            ("admin", "policy.create") => {
                let (agent, owner) = (entry["agentId"].clone(), entry["userId"].clone());
                let new = Recounted { agent, owner, born: place, counts: Default::default() };
                policies_of.insert(entry["resource"].as_str().unwrap().to_owned(), new);
            }
            ("admin", "policy.reset") => {
                let policy = policies_of.get_mut(entry["resource"].as_str().unwrap()).unwrap();
                let period = &entry["parameters"]["period"];
                for (count, other) in policy.counts.iter_mut().zip(["month", "day"]) {
                    if period != other {
                        *count = Count { since: place, ..Count::default() };
                    }
                }
            }
            ("decision", _) if entry["result"] == "allowed" => {
                let is_held = entry["heldUntil"].is_string();
                for policy in policies_of.values_mut().filter(|policy| matching(policy, &entry)) {
                    for count in &mut policy.counts {
                        count.calls += 1;
                        *(if is_held { &mut count.held } else { &mut count.spent }) += cost;
                    }
                }
                if is_held {
                    held.insert(id, Held { place, estimate: cost, end: None });
                }
            }
            ("usage", _) if entry["parameters"]["hold"] != "extended" => {
                let hold = held.get_mut(entry["ref"].as_str().unwrap()).unwrap();
                assert_eq!(hold.end, None, "a hold ended twice: {entry}");
                for policy in policies_of.values_mut().filter(|policy| matching(policy, &entry)) {
                    assert!(policy.born < hold.place);
                    for count in &mut policy.counts {
                        // What is more than the estimate is charged now.
                        count.spent += (cost - hold.estimate).max(0);
                        if count.since < hold.place {
                            count.held -= hold.estimate;
                            count.spent += cost.min(hold.estimate);
                        }
                    }
                }
                ends.insert(id.clone(), place);
                hold.end = Some(id);
            }
            _ => {}
        }
    });
    for (policy, counted) in policies.iter().map(|id| (operator.policy_of(id), &policies_of[id])) {
        adds_up(&policy);
        for (span, count) in ["day", "month"].iter().zip(counted.counts) {
            let shown = policy["windows"].as_array().unwrap().iter().find(|window| window["period"] == *span).unwrap();
            let found = ["tokensCostSpent", "tokensCostHeld"].map(|member| millionths(&shown[member]));
            let calls = shown["calls"].as_i64().unwrap();
            assert_eq!((calls, found), (count.calls, [count.spent, count.held]), "{span}: {policy}");
        }
    }
    let mut open: Vec<_> = held.iter().filter(|(_, hold)| hold.end.is_none()).map(|(id, _)| id.clone()).collect();
    open.sort();
    let listed: Vec<_> = operator.get("/v1/holds?tenantId=acme").items().iter().map(crate::world::audit_id).collect();
    assert_eq!(listed, open);
    for (id, _) in known.held.lock().unwrap().iter() {
        assert!(held.contains_key(id), "{id} was held and is not in the trail");
    }
    for (id, entry) in known.ended.lock().unwrap().iter() {
        assert_eq!(held[id].end.as_ref(), Some(entry), "{id} was said to have ended by {entry}");
        assert!(ends.contains_key(entry));
    }
}

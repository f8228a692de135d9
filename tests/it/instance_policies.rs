//! Policies of the whole instance: one limit over all tenants, exact across `kill -9`, and nothing of one tenant shown to
//! another.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::budgets::{costing, settle_into_the_day};
use crate::client::Client;
use crate::decisions::unknown_like;
use crate::harness::{Options, Server, eventually};
use crate::world::{Agent, Tenant, call};

const THREADS: usize = 64;
const TENANTS: usize = 50;
const REASON: &str = "exceeded";

impl Client {
    /// A policy of the whole instance.
    #[track_caller]
    fn instance_policy(&self, fields: Value) -> String {
        let mut body = json!({ "scope": "instance" });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        self.post("/v1/policies", body).expect(201)["id"].as_str().unwrap().to_owned()
    }
}

/// So many tenants, each with an agent that reads.
fn tenants(operator: &Client, count: usize) -> Vec<(Tenant, Agent)> {
    let slugs = (0..count).map(|number| format!("t{number}"));
    slugs
        .map(|slug| operator.tenant(&slug))
        .map(|tenant| (operator.reader(&tenant), tenant))
        .map(|(a, t)| (t, a))
        .collect()
}

/// Allowed decisions in the trails of all tenants.
fn allowed(operator: &Client) -> usize {
    let mut count = 0;
    operator.lines("/v1/audit/export?format=ndjson&kind=decision&result=allowed", |line| {
        count += usize::from(!line.is_empty());
    });
    count
}

/// The window of a policy's day.
fn day(operator: &Client, policy: &str) -> Value {
    let policy = operator.policy_of(policy);
    let windows = policy["windows"].as_array().unwrap();
    windows.iter().find(|window| window["period"] == "day").unwrap().clone()
}

#[test]
fn exactly_as_many_calls_pass_over_50_tenants_at_64_connections_with_kill_9() {
    for (durability, limit) in [("interval", 3_000usize), ("fsync", 1_000)] {
        settle_into_the_day();
        let mut server = Server::start_with(Options::args(&["--durability", durability]));
        let operator = server.operator();
        let tenants = tenants(&operator, TENANTS);
        let policy = operator.instance_policy(json!({ "limits": { "maxCallsPerDay": limit } }));
        for round in 1.. {
            let operator = server.operator();
            let (answers, denied) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let is_over = AtomicBool::new(false);
            std::thread::scope(|scope| {
                for thread in 0..THREADS {
                    let (operator, tenants, answers, denied, is_over) =
                        (&operator, &tenants, &answers, &denied, &is_over);
                    scope.spawn(move || {
                        let mut random = fastrand::Rng::with_seed(thread as u64);
                        while !is_over.load(Ordering::Relaxed) {
                            let agent = &tenants[random.usize(0..tenants.len())].1.id;
                            let body = call(agent).to_string();
                            let Ok(answer) = operator.try_send("POST", "/v1/authorize", &[], Some(body.as_bytes()))
                            else {
                                return;
                            };
                            if answer.status == 200 && answer.json()["allowed"] == false {
                                assert_eq!(answer.json()["code"], "BUDGET_EXCEEDED", "{}", answer.text());
                                denied.fetch_add(1, Ordering::Relaxed);
                            }
                            answers.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
                // Two rounds end with a crash in the middle, the last one once everybody was denied.
                let enough = || match round {
                    1 | 2 => answers.load(Ordering::Relaxed) >= limit / 3,
                    _ => denied.load(Ordering::Relaxed) >= 2 * THREADS,
                };
                eventually("enough answers came", || enough().then_some(()));
                if round < 3 {
                    server.kill();
                }
                is_over.store(true, Ordering::Relaxed);
            });
            if round == 3 {
                break;
            }
            server.start_again();
            assert!(allowed(&server.operator()) <= limit);
        }
        let operator = server.operator();
        // What one tenant has left goes to whoever asks.
        for (_, agent) in &tenants {
            while operator.authorize(call(&agent.id)).expect(200)["allowed"] == true {}
        }
        assert_eq!(allowed(&operator), limit, "{durability}");
        let day = day(&operator, &policy);
        assert_eq!((&day["callsLeft"], &day["maxCalls"], &day["calls"]), (&json!(0), &json!(limit), &json!(limit)));
        assert_eq!(day["callsHeld"], 0, "{day}");
        server.crash_and_start();
        let operator = server.operator();
        for (_, agent) in tenants.iter().take(3) {
            operator.denied(call(&agent.id), "BUDGET_EXCEEDED");
        }
        server.stop();
    }
}

#[test]
fn a_limit_holds_over_tenants_and_says_nothing_of_others() {
    settle_into_the_day();
    let server = Server::start();
    let operator = server.operator();
    let tenants = tenants(&operator, 3);
    let policy = operator.instance_policy(json!({ "limits": { "maxCallsPerDay": 4 }, "action": "throttle" }));
    for turn in 0..4 {
        operator.granted(call(&tenants[turn % 2].1.id));
    }
    let denied = operator.authorize(call(&tenants[2].1.id)).expect(200);
    assert_eq!((&denied["allowed"], &denied["policyId"]), (&json!(false), &json!(policy)), "{denied}");
    let reason = denied["reason"].as_str().unwrap();
    let sentence = reason.replace(&policy, "");
    assert!(sentence.contains(REASON) && !sentence.contains(|shown: char| shown.is_ascii_digit()), "{reason}");
    assert!(denied["retryAfter"].as_u64().unwrap() <= 86_400, "{denied}");
    let entry = &operator.trail("tenantId=t2&kind=decision")[0];
    assert_eq!((&entry["result"], &entry["policyId"]), (&json!("rate_limited"), &json!(policy)));
    // A tenant sees that it binds, and nothing else.
    let key = server.with_key(&tenants[2].0.key);
    let path = format!("/v1/policies/{policy}");
    let unknown = unknown_like(&policy);
    for (method, path, body) in [
        ("GET", path.clone(), Value::Null),
        ("PATCH", path.clone(), json!({ "limits": { "maxCallsPerDay": 9 } })),
        ("POST", format!("{path}/reset"), json!({ "period": "all" })),
        ("DELETE", path.clone(), Value::Null),
    ] {
        let body = (!body.is_null()).then(|| body.to_string());
        let send = |path: &str| key.send(method, path, body.as_deref().map(str::as_bytes));
        send(&path).problem(404, "POLICY_NOT_FOUND");
        send(&path.replace(&policy, &unknown)).problem(404, "POLICY_NOT_FOUND");
    }
    assert_eq!(key.get("/v1/policies").items().len(), 0);
    let binding = key.get(&format!("/v1/agents/{}/policies", tenants[2].1.id)).items();
    assert_eq!(binding.len(), 1, "{binding:?}");
    assert_eq!((&binding[0]["id"], &binding[0]["scope"]), (&json!(policy), &json!("instance")));
    for hidden in ["limits", "currentUsage", "windows", "status", "lastDeniedAt"] {
        assert_eq!(binding[0].get(hidden), None, "{hidden}");
    }
    let created = key.post("/v1/policies", json!({ "scope": "instance", "limits": { "maxCallsPerDay": 1 } }));
    created.problem(403, "FORBIDDEN");
    // Nor does a key of the default tenant, which the policy belongs to.
    let own = operator.post("/v1/tenants/default/keys", json!({ "name": "ours" })).expect(201);
    let own = server.with_key(own["key"].as_str().unwrap());
    own.get(&path).problem(404, "POLICY_NOT_FOUND");
    own.patch(&path, json!({ "action": "block" })).problem(404, "POLICY_NOT_FOUND");
    assert_eq!(own.get("/v1/policies").items().len(), 0);
    // The operator sees all of it.
    let listed = operator.get("/v1/policies?scope=instance").items();
    assert_eq!((listed.len(), &listed[0]["scope"], &listed[0]["status"]), (1, &json!("instance"), &json!("triggered")));
    assert_eq!(operator.get("/v1/policies?scope=tenant").items().len(), 0);
}

#[test]
fn calls_of_the_default_tenant_count_too_and_a_restart_forgets_nothing() {
    settle_into_the_day();
    let mut server = Server::start();
    let operator = server.operator();
    let tenants = tenants(&operator, 2);
    let own = operator.agent(Value::Null, crate::world::permits("*", &["*"]));
    operator.instance_policy(json!({ "limits": { "maxCallsPerDay": 6 } }));
    operator.granted(call(&own.id));
    operator.granted(call(&tenants[0].1.id));
    server.crash_and_start();
    // The first call after the start is decided by it too.
    let operator = server.operator();
    operator.granted(call(&tenants[1].1.id));
    operator.granted(call(&own.id));
    server.stop();
    server.start_again();
    let operator = server.operator();
    operator.granted(call(&tenants[0].1.id));
    let batch = json!({ "requests": [call(&tenants[1].1.id), call(&tenants[1].1.id), call(&own.id)] });
    let answers = operator.post("/v1/authorize/batch", batch).expect(200);
    let allowed = answers["results"].as_array().unwrap().iter().filter(|answer| answer["allowed"] == true).count();
    assert_eq!(allowed, 1, "{answers}");
    assert_eq!(self::allowed(&operator), 6);
}

#[test]
fn changes_recall_what_is_lent() {
    settle_into_the_day();
    let server = Server::start();
    let operator = server.operator();
    let tenants = tenants(&operator, 3);
    let policy = operator.instance_policy(json!({ "limits": { "maxCallsPerDay": 1_600 } }));
    let path = format!("/v1/policies/{policy}");
    for (_, agent) in &tenants {
        operator.granted(call(&agent.id));
    }
    let before = day(&operator, &policy);
    assert!(before["callsHeld"].as_u64().unwrap() > 100, "{before}");
    // A lower limit holds for everybody once it was answered.
    let patched = operator.patch(&path, json!({ "limits": { "maxCallsPerDay": 5 } })).expect(200);
    assert_eq!(patched["windows"][0]["calls"], 3, "{patched}");
    let passed = |count: usize| {
        let allowed = |turn: usize| operator.authorize(call(&tenants[turn % 3].1.id)).expect(200)["allowed"] == true;
        (0..count).filter(|turn| allowed(*turn)).count()
    };
    assert_eq!(passed(9), 2);
    let reset = operator.post(&format!("{path}/reset"), json!({ "period": "all" })).expect(200);
    assert_eq!((&reset["windows"][0]["calls"], &reset["windows"][0]["callsHeld"]), (&json!(0), &json!(0)));
    assert_eq!(passed(9), 5);
    operator.patch(&path, json!({ "limits": { "maxCallsPerDay": 7 } })).expect(200);
    assert_eq!(passed(9), 2);
    // Whoever asks for a slice of another policy meanwhile still knows what was spent of this one.
    let wide = operator.instance_policy(json!({ "limits": { "maxCallsPerDay": 1_000 } }));
    operator.patch(&path, json!({ "status": "disabled" })).expect(200);
    assert_eq!(passed(9), 9);
    operator.delete(&format!("/v1/policies/{wide}")).expect(204);
    operator.patch(&path, json!({ "status": "active" })).expect(200);
    assert_eq!(passed(9), 0);
    operator.delete(&path).expect(204);
    assert_eq!(passed(9), 9);
    let actions: Vec<_> = operator.trail("tenantId=default&kind=admin");
    let actions: Vec<_> = actions.iter().filter(|entry| entry["resource"] == json!(policy)).collect();
    let actions: Vec<_> = actions.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions.iter().filter(|action| **action == "policy.update").count(), 4, "{actions:?}");
    assert_eq!((actions.first(), actions.last()), (Some(&"policy.delete"), Some(&"policy.create")));
    // What is lent to whom is nobody's to read.
    let kinds: Vec<_> = operator.trail("tenantId=default&kind=all").iter().map(|entry| entry["kind"].clone()).collect();
    assert!(kinds.iter().all(|kind| kind == "admin"), "{kinds:?}");
}

#[test]
fn cost_is_settled_and_held_in_slices() {
    settle_into_the_day();
    let server = Server::start();
    let operator = server.operator();
    let tenants = tenants(&operator, 2);
    let policy = operator.instance_policy(json!({ "limits": { "maxTokensCostPerDay": 10 } }));
    let first = operator.granted(costing(&tenants[0].1.id, "6"));
    operator.denied(costing(&tenants[1].1.id, "5"), "BUDGET_EXCEEDED");
    let usage = |agent: &str, audit: Option<&str>, cost: u64| {
        let mut body = json!({ "agentId": agent, "tokensCost": cost });
        if let Some(audit) = audit {
            body["auditId"] = json!(audit);
        }
        operator.post("/v1/usage", body).expect(200);
    };
    // Five come back, and another tenant gets them.
    usage(&tenants[0].1.id, Some(&first), 1);
    eventually("what came back is lent again", || {
        (operator.authorize(costing(&tenants[1].1.id, "8")).expect(200)["allowed"] == true).then_some(())
    });
    operator.granted(costing(&tenants[0].1.id, "1"));
    operator.denied(costing(&tenants[0].1.id, "0.000001"), "BUDGET_EXCEEDED");
    // What was spent without asking counts past the limit.
    usage(&tenants[1].1.id, None, 3);
    let spent = eventually("the lender heard of it", || {
        let day = day(&operator, &policy);
        (day["tokensCostSpent"] == 13).then_some(day)
    });
    assert_eq!(spent["tokensCostLeft"], -3, "{spent}");
}

#[test]
fn a_budget_check_says_what_a_call_would_be_told_and_takes_nothing() {
    settle_into_the_day();
    let mut server = Server::start();
    let operator = server.operator();
    let tenants = tenants(&operator, 3);
    let policy = operator.instance_policy(json!({ "limits": { "maxTokensCostPerDay": 16 }, "action": "throttle" }));
    let body = |tenant: usize, cost: &str| json!({ "agentId": tenants[tenant].1.id, "tokensCost": cost });
    let check =
        |client: &Client, tenant: usize, cost: &str| client.post("/v1/budget/check", body(tenant, cost)).expect(200);
    let outcome = |answer: &Value| answer["instancePolicies"][0]["outcome"].clone();
    // Nobody holds anything, and nobody does after any number of questions.
    let before = day(&operator, &policy);
    for (tenant, (_, agent)) in tenants.iter().enumerate() {
        let fits = check(&operator, tenant, "16");
        assert_eq!((&fits["allowed"], fits.get("code")), (&json!(true), None), "{fits}");
        let amounts = |cost: u64| json!({ "calls": null, "tokensCost": cost });
        let shown =
            json!([{ "policyId": policy, "outcome": "fits", "sliceLeft": amounts(0), "lendable": amounts(16) }]);
        assert_eq!(fits["instancePolicies"], shown);
        let over = check(&operator, tenant, "16.000001");
        assert_eq!((&over["allowed"], &over["code"]), (&json!(false), &json!("BUDGET_EXCEEDED")), "{over}");
        assert_eq!((&over["policyId"], outcome(&over)), (&json!(policy), json!("exhausted")));
        let denied = operator.authorize(costing(&agent.id, "16.000001")).expect(200);
        assert_eq!((&over["reason"], &over["policyId"]), (&denied["reason"], &denied["policyId"]));
        assert!(over["retryAfter"].as_u64().unwrap() <= 86_400, "{over}");
    }
    let after = day(&operator, &policy);
    assert_eq!(after, before);
    // The first takes a sixteenth, spends half of it, and keeps the rest although others could use it.
    operator.granted(costing(&tenants[0].1.id, "0.5"));
    let held = check(&operator, 0, "0.5");
    let left = json!({ "calls": null, "tokensCost": 0.5 });
    assert_eq!(held["instancePolicies"], json!([{ "policyId": policy, "outcome": "fits", "sliceLeft": left }]));
    assert_eq!(outcome(&check(&operator, 1, "15")), "fits");
    assert_eq!(outcome(&check(&operator, 1, "15.5")), "fits", "the first would give back what it holds");
    assert_eq!(outcome(&check(&operator, 1, "15.500001")), "exhausted");
    assert_eq!(check(&operator, 0, "0.5")["instancePolicies"], held["instancePolicies"], "it kept it");
    // A tenant's key learns whether there is so much, and no amount.
    let key = server.with_key(&tenants[1].0.key);
    let seen = check(&key, 1, "15.5");
    assert_eq!(seen["instancePolicies"], json!([{ "policyId": policy, "outcome": "fits" }]));
    let seen = check(&key, 1, "15.75");
    let names: Vec<_> = seen["instancePolicies"][0].as_object().unwrap().keys().cloned().collect();
    assert_eq!((names.len(), outcome(&seen)), (3, json!("exhausted")), "{seen}");
    key.post("/v1/budget/check", body(0, "1")).problem(404, "AGENT_NOT_FOUND");
    // It would have got it. Then all is spent, and whoever asks is told so before anybody was denied.
    operator.granted(costing(&tenants[1].1.id, "15.5"));
    for tenant in 0..3 {
        let over = check(&operator, tenant, "0");
        assert_eq!((&over["allowed"], outcome(&over)), (&json!(false), json!("exhausted")), "{over}");
    }
    assert_eq!(day(&operator, &policy)["tokensCostLeft"], 0);
    // What its tenant's own policy denies asks nobody else.
    operator.policy("t0", json!({ "limits": { "maxCallsPerDay": 0 } }));
    let own = check(&operator, 0, "0");
    assert_eq!((&own["allowed"], own.get("instancePolicies")), (&json!(false), None), "{own}");
    // A start knows the policies before it answers. No question is in a trail.
    server.crash_and_start();
    let operator = server.operator();
    assert_eq!(outcome(&check(&operator, 2, "0")), "exhausted");
    operator.patch(&format!("/v1/policies/{policy}"), json!({ "limits": { "maxTokensCostPerDay": 17 } })).expect(200);
    assert_eq!(outcome(&check(&operator, 2, "1")), "fits");
    operator.patch(&format!("/v1/policies/{policy}"), json!({ "status": "disabled" })).expect(200);
    assert_eq!(check(&operator, 2, "99").get("instancePolicies"), None);
    for (tenant, decided) in [("t0", 2), ("t1", 2), ("t2", 1), ("default", 0)] {
        assert_eq!(operator.trail(&format!("tenantId={tenant}&kind=decision")).len(), decided, "{tenant}");
    }
}

#[test]
fn a_budget_check_goes_by_the_most_severe_policy_of_the_call() {
    settle_into_the_day();
    let server = Server::start();
    let operator = server.operator();
    let tenants = tenants(&operator, 1);
    let agent = &tenants[0].1.id;
    let body = call(agent);
    let limits = json!({ "maxCallsPerDay": 0 });
    let scoped = json!({ "limits": limits, "resource": body["resource"], "action": "block" });
    let (throttle, block) = (
        operator.instance_policy(json!({ "limits": limits, "action": "throttle", "actions": [body["action"]] })),
        operator.instance_policy(scoped),
    );
    let check = |fields: Value| {
        let mut body = json!({ "agentId": agent });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        operator.post("/v1/budget/check", body).expect(200)
    };
    // Those that name actions or a resource are asked only if the call's are given.
    assert_eq!(check(json!({})).get("instancePolicies"), None);
    assert_eq!(check(json!({ "action": body["action"] }))["policyId"], json!(throttle));
    let both = check(json!({ "action": body["action"], "resource": body["resource"] }));
    assert_eq!((&both["policyId"], both["instancePolicies"].as_array().unwrap().len()), (&json!(block), 2), "{both}");
    assert_eq!(operator.authorize(body).expect(200)["policyId"], json!(block));
}

#[test]
fn the_trail_says_nothing_of_what_all_tenants_used() {
    settle_into_the_day();
    let server = Server::start();
    let operator = server.operator();
    let tenants = tenants(&operator, 2);
    let policy = operator.instance_policy(json!({ "limits": { "maxTokensCostPerDay": 1_000_000 } }));
    for ((_, agent), cost) in tenants.iter().zip(["7531.25", "1111.5"]) {
        operator.granted(costing(&agent.id, cost));
    }
    let path = format!("/v1/policies/{policy}");
    operator.reset(&policy, json!({ "period": "day" }));
    operator.granted(costing(&tenants[0].1.id, "2222.75"));
    operator.reset(&policy, json!({ "period": "all" }));
    operator.patch(&path, json!({ "limits": { "maxTokensCostPerDay": 2_000_000 } })).expect(200);
    operator.delete(&path).expect(204);
    let own = operator.post("/v1/tenants/default/keys", json!({ "name": "ours" })).expect(201);
    let own = server.with_key(own["key"].as_str().unwrap());
    let trail = own.trail("kind=all");
    let resets: Vec<_> = trail.iter().filter(|entry| entry["action"] == "policy.reset").collect();
    assert_eq!(resets.len(), 2, "{trail:?}");
    for reset in resets {
        assert_eq!((&reset["resource"], &reset["before"]), (&json!(policy), &Value::Null));
    }
    // Neither a sum nor a part of it is anywhere in what its keys read.
    let exported = own.get("/v1/audit/export?format=csv&kind=all").text();
    let shown = format!("{exported} {}", json!(trail));
    for spent in ["7531.25", "1111.5", "8642.75", "2222.75"] {
        assert!(!shown.contains(spent), "{spent} in {shown}");
    }
}

#[test]
fn what_can_not_be_an_instance_policy_is_refused() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let limits = json!({ "maxCallsPerDay": 1 });
    for (field, value) in [
        ("tenantId", json!("acme")),
        ("agentId", json!(agent.id)),
        ("userId", json!("ann")),
        ("action", json!("warn")),
        ("action", json!("revoke")),
    ] {
        let mut body = json!({ "scope": "instance", "limits": limits });
        body[field] = value;
        let sentence = operator.post("/v1/policies", body).problem(400, "INVALID_FIELD");
        assert!(sentence.contains(field), "{sentence}");
    }
    operator.post("/v1/policies", json!({ "scope": "planet", "limits": limits })).problem(400, "INVALID_BODY");
    let policy = operator.instance_policy(json!({ "limits": limits }));
    operator.patch(&format!("/v1/policies/{policy}"), json!({ "action": "warn" })).problem(400, "INVALID_FIELD");
    // A reset of all of a tenant's policies leaves it alone.
    operator.granted(call(&agent.id));
    let reset = operator.post("/v1/policies/reset", json!({ "period": "all" })).expect(200);
    assert_eq!(reset["policies"], 0);
    operator.denied(call(&agent.id), "BUDGET_EXCEEDED");
}

#[test]
fn only_calls_that_match_are_charged() {
    settle_into_the_day();
    let server = Server::start();
    let operator = server.operator();
    let tenants = tenants(&operator, 2);
    let body = call(&tenants[0].1.id);
    let (resource, action) = (body["resource"].clone(), body["action"].clone());
    operator.instance_policy(json!({ "limits": { "maxCallsPerDay": 1 }, "resource": resource, "actions": [action] }));
    operator.instance_policy(json!({ "limits": { "maxCallsPerDay": 0 }, "labels": { "env": "test" } }));
    operator.granted(body);
    operator.denied(call(&tenants[1].1.id), "BUDGET_EXCEEDED");
    let refused = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for (_, agent) in &tenants {
            let (operator, refused) = (&operator, &refused);
            scope.spawn(move || {
                for _ in 0..20 {
                    let answer = operator.authorize(call(&agent.id)).expect(200);
                    refused.lock().unwrap().push(answer["code"].clone());
                }
            });
        }
    });
    assert!(refused.into_inner().unwrap().iter().all(|code| code == "BUDGET_EXCEEDED"));
    let explained = operator.post("/v1/authorize/explain", call(&tenants[1].1.id)).expect(200);
    assert_eq!(explained["code"], "BUDGET_EXCEEDED", "{explained}");
}

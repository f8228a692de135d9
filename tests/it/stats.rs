//! `GET /v1/stats`: the dashboard's figures, compared with what really happened.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use crate::client::Client;
use crate::damage::files;
use crate::harness::{Server, eventually};
use crate::world::{Tenant, call, constrained, permits};

fn stats(client: &Client, query: &str) -> Value {
    client.get(&format!("/v1/stats{query}")).expect(200)
}

/// The audit trail's decisions: by result, and denials by code.
fn counted(trail: &[Value]) -> (Value, BTreeMap<String, u64>) {
    let of = |result: &str| trail.iter().filter(|entry| entry["result"] == result).count();
    let mut codes = BTreeMap::new();
    for code in trail.iter().filter_map(|entry| entry["code"].as_str()) {
        *codes.entry(code.to_owned()).or_default() += 1;
    }
    let results = json!({ "allowed": of("allowed"), "denied": of("denied"), "rateLimited": of("rate_limited") });
    (results, codes)
}

fn denials(stats: &Value) -> BTreeMap<String, u64> {
    let list = stats["denials"].as_array().unwrap();
    let counts: Vec<_> = list.iter().map(|denial| denial["count"].as_u64().unwrap()).collect();
    assert!(counts.is_sorted_by(|one, other| one >= other), "{list:?}");
    list.iter().map(|denial| denial["code"].as_str().unwrap().to_owned()).zip(counts).collect()
}

/// Calls of all kinds by a tenant's agents, in all ways.
pub fn mixed_run(server: &Server, tenant: &Tenant, rounds: usize) {
    let operator = server.operator();
    let key = server.with_key(&tenant.key);
    let agent = operator.reader(tenant);
    let slow = operator.agent(tenant.id.as_str(), constrained("docs:*", json!({ "maxCallsPerHour": 2 })));
    let gone = operator.reader(tenant);
    operator.delete(&format!("/v1/agents/{}", gone.id)).expect(204);
    for _ in 0..rounds {
        server.with_key(&agent.token).authorize(call(&agent.id)).expect(200);
        key.authorize(call(&slow.id)).expect(200);
        operator.authorize(call(&gone.id)).expect(200);
        let other = json!({ "agentId": agent.id, "action": "write", "resource": "docs:1" });
        let batch = json!({ "requests": [call(&agent.id), other, call(&slow.id), call(&gone.id)] });
        key.post("/v1/authorize/batch", batch.clone()).expect(200);
        operator.post("/v1/authorize/batch", batch).expect(200);
        operator.post(&format!("/v1/tenants/{}/authorize", tenant.slug), call("agt_nobody")).expect(200);
        operator.post(&format!("/v1/agents/{}/authorize", agent.id), other).expect(200);
        // What is not a decision is not counted as one.
        key.post("/v1/authorize/explain", call(&agent.id)).expect(200);
        key.authorize(json!({ "agentId": agent.id, "action": "" })).problem(400, "INVALID_BODY");
        key.post("/v1/usage", json!({ "agentId": agent.id, "calls": 1 })).expect(200);
    }
}

#[test]
fn stats_agree_with_the_audit_trail() {
    let server = Server::start();
    let operator = server.operator();
    let (acme, globex) = (operator.tenant("acme"), operator.tenant("globex"));
    mixed_run(&server, &acme, 5);
    mixed_run(&server, &globex, 2);
    operator.authorize(call("agt_nobody")).expect(200);
    let limit = json!({ "tenantId": "globex", "limits": { "maxCallsPerDay": 0 }, "action": "throttle" });
    operator.post("/v1/policies", limit).expect(201);
    let throttled = operator.reader(&globex);
    operator.denied(call(&throttled.id), "BUDGET_EXCEEDED");
    operator.post("/v1/tenants/globex/suspend", json!({})).expect(200);
    operator.denied(call(&throttled.id), "TENANT_SUSPENDED");

    for (query, audit) in
        [("", ""), ("?tenantId=acme", "tenantId=acme"), (&format!("?tenantId={}", globex.id), "tenantId=globex")]
    {
        let (seen, trail) = (stats(&operator, query), operator.trail(audit));
        let (results, codes) = counted(&trail);
        assert!(results["allowed"].as_u64().unwrap() > 0 && codes.len() > 3, "{results} {codes:?}");
        assert_eq!((&seen["decisions"], denials(&seen)), (&results, codes), "{query}");
        let rate_limited = results["rateLimited"].as_u64().unwrap();
        assert!(rate_limited > 0 || query.contains("acme"), "{results}");
        // All of it is from the last five minutes, unless the machine was held up.
        let latency = &seen["latency"];
        assert!(latency["count"].as_u64().unwrap() <= trail.len() as u64, "{latency}");
        let times = ["p50Ms", "p90Ms", "p99Ms", "maxMs"].map(|member| latency[member].as_f64().unwrap());
        assert!(times.is_sorted(), "{latency}");
    }
    let all = stats(&operator, "");
    assert_eq!(all["tenants"], json!({ "active": 2, "suspended": 1, "unavailable": 0 }));
    assert_eq!(all["agents"], json!({ "active": 5, "revoked": 2, "expired": 0 }));
    assert!(stats(&operator, "?tenantId=acme").get("tenants").is_none());
    assert!(all["startedAt"].as_str() < all["at"].as_str());
}

#[test]
fn a_decision_shows_in_its_minute_at_once_and_in_its_second_when_that_is_over() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    // One after another, so that one of them is in a finished second, however slow this machine is.
    let seen = eventually("a call is in a second", || {
        operator.granted(call(&agent.id));
        let seen = stats(&operator, "");
        let is_there = seen["seconds"]["allowed"].as_array().unwrap().iter().any(|count| *count != 0);
        is_there.then_some(seen)
    });
    for (member, step) in [("seconds", 1), ("minutes", 60)] {
        let series = &seen[member];
        assert_eq!(series["step"], step);
        for result in ["allowed", "denied", "rateLimited"] {
            assert_eq!(series[result].as_array().unwrap().len(), 60, "{member} {result}");
        }
        let from = series["from"].as_str().unwrap();
        assert!(from.ends_with(if step == 60 { ":00.000Z" } else { ".000Z" }), "{from}");
    }
    let own = stats(&server.with_key(&acme.key), "");
    let most = own["decisions"]["allowed"].as_u64().unwrap();
    let sum: u64 = own["seconds"]["allowed"].as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).sum();
    assert!(sum <= most, "{sum} of {most}");
    // The hour includes everything that the process counted since it began, if that is less than an hour ago.
    let seen = stats(&operator, "");
    let sum =
        |series: &Value| series["allowed"].as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).sum::<u64>();
    assert_eq!(json!(sum(&seen["minutes"])), seen["decisions"]["allowed"]);
    assert!(sum(&seen["minutes"]) >= sum(&seen["seconds"]));
}

#[test]
fn a_tenant_key_sees_its_own_tenant_and_nothing_of_another() {
    let server = Server::start();
    let operator = server.operator();
    let (acme, globex) = (operator.tenant("acme"), operator.tenant("globex"));
    let (agent, other) = (operator.reader(&acme), operator.reader(&globex));
    operator.granted(call(&agent.id));
    for _ in 0..7 {
        operator.granted(call(&other.id));
    }
    for tenant in ["acme", "globex"] {
        let limit = json!({ "tenantId": tenant, "limits": { "maxCallsPerDay": 1 }, "action": "warn" });
        operator.post("/v1/policies", limit).expect(201);
    }
    operator.granted(call(&agent.id));
    operator.granted(call(&other.id));
    let own = server.with_key(&acme.key).get("/v1/stats");
    for foreign in [&*globex.id, "globex", &other.id] {
        assert!(!own.text().contains(foreign), "{foreign}: {}", own.text());
    }
    let own = own.expect(200);
    assert_eq!(own["decisions"], json!({ "allowed": 2, "denied": 0, "rateLimited": 0 }));
    assert_eq!(own["agents"], json!({ "active": 1, "revoked": 0, "expired": 0 }));
    assert!(own.get("tenants").is_none());
    let slowest = own["slowestTenants"].as_array().unwrap();
    assert!(slowest.iter().all(|slow| slow["tenantId"] == acme.id.as_str()), "{slowest:?}");
    assert_eq!(own["budgets"].as_array().unwrap().len(), 1);
    assert_eq!(own["budgets"][0]["tenantId"], acme.id.as_str());
    for name in ["acme", &acme.id] {
        let named = stats(&server.with_key(&acme.key), &format!("?tenantId={name}"));
        assert_eq!(named["decisions"], own["decisions"]);
    }
    for name in ["globex", &globex.id, "default", "nobody"] {
        let query = format!("/v1/stats?tenantId={name}");
        server.with_key(&acme.key).get(&query).problem(403, "TENANT_MISMATCH");
    }
    operator.get("/v1/stats?tenantId=nobody").problem(404, "TENANT_NOT_FOUND");
    operator.get("/v1/stats?tenant=acme").problem(400, "INVALID_QUERY");
    server.with_key(&agent.token).get("/v1/stats").problem(403, "FORBIDDEN");
    server.anonymous().get("/v1/stats").problem(401, "UNAUTHENTICATED");

    let all = stats(&operator, "");
    let slowest = all["slowestTenants"].as_array().unwrap();
    let times: Vec<_> = slowest.iter().map(|slow| slow["p99Ms"].as_f64().unwrap()).collect();
    assert!(times.is_sorted_by(|one, other| one >= other), "{slowest:?}");
    // The machine may have been held up for more than five minutes since.
    assert!(slowest.iter().all(|slow| ["acme", "globex"].contains(&slow["name"].as_str().unwrap())), "{slowest:?}");
    assert_eq!(all["budgets"].as_array().unwrap().len(), 2);
}

#[test]
fn budgets_near_their_limit_are_listed_fullest_first_and_up_to_date() {
    let server = Server::start();
    let operator = server.operator();
    let (acme, globex) = (operator.tenant("acme"), operator.tenant("globex"));
    let (agent, other) = (operator.reader(&acme), operator.reader(&globex));
    let policy = |body: Value| operator.post("/v1/policies", body).expect(201)["id"].as_str().unwrap().to_owned();
    let cost = json!({ "maxTokensCostPerMonth": 0.3, "maxCallsPerDay": 1000 });
    let full = policy(json!({ "agentId": agent.id, "limits": cost, "action": "warn" }));
    let calls = policy(json!({ "tenantId": "globex", "limits": { "maxCallsPerDay": 10 }, "action": "block" }));
    let off = policy(json!({ "tenantId": "globex", "limits": { "maxCallsPerDay": 1 }, "action": "warn" }));
    operator.patch(&format!("/v1/policies/{off}"), json!({ "status": "disabled" })).expect(200);
    let owned = policy(json!({ "userId": "user-1", "limits": { "maxCallsPerMonth": 1 }, "action": "warn" }));
    let budgets = |query: &str| stats(&operator, query)["budgets"].as_array().unwrap().clone();
    assert_eq!(budgets(""), Vec::<Value>::new());

    for _ in 0..8 {
        operator.granted(call(&other.id));
    }
    let near = budgets("");
    assert_eq!(near, budgets("?tenantId=globex"));
    assert_eq!(near, stats(&server.with_key(&globex.key), "")["budgets"].as_array().unwrap().clone());
    let (resets, near) = (near[0]["resetsAt"].as_str().unwrap().to_owned(), &near[..]);
    assert!(resets.ends_with("T00:00:00.000Z"), "{resets}");
    let wanted = json!({
        "tenantId": globex.id, "slug": "globex", "policyId": calls, "agentId": null, "userId": null, "action": "block",
        "status": "active", "limit": "maxCallsPerDay", "used": 8, "max": 10, "share": 0.8, "resetsAt": resets,
        "lastDeniedAt": null,
    });
    assert_eq!(near, [wanted]);

    // Only changed tenants are asked again: after a decision, a report or a change, even if suspended.
    operator.post("/v1/usage", json!({ "agentId": agent.id, "tokensCost": 0.300001 })).expect(200);
    operator.granted(call(&other.id));
    operator.post("/v1/tenants/globex/suspend", json!({})).expect(200);
    let answer = operator.get("/v1/stats");
    assert!(answer.text().contains(r#""used":0.300001,"max":0.3"#), "it is exact: {}", answer.text());
    let near = answer.expect(200)["budgets"].clone();
    let shown: Vec<_> = near.as_array().unwrap().iter().map(|one| (&one["policyId"], &one["status"])).collect();
    assert_eq!(shown, [(&json!(full), &json!("triggered")), (&json!(calls), &json!("active"))], "{near}");
    assert_eq!((&near[0]["agentId"], &near[0]["limit"]), (&json!(agent.id), &json!("maxTokensCostPerMonth")));
    operator.post(&format!("/v1/policies/{full}/reset"), json!({ "period": "all" })).expect(200);
    operator.delete(&format!("/v1/policies/{calls}")).expect(204);
    assert_eq!(budgets(""), Vec::<Value>::new());
    // One with room, that denies a call which asks for more.
    let small = policy(json!({ "agentId": other.id, "limits": { "maxTokensCostPerDay": 5 }, "action": "block" }));
    operator.post("/v1/tenants/globex/activate", json!({})).expect(200);
    let mut costly = call(&other.id);
    costly["tokensCost"] = json!(3);
    operator.granted(costly.clone());
    assert_eq!(budgets(""), Vec::<Value>::new());
    operator.denied(costly, "BUDGET_EXCEEDED");
    let near = budgets("");
    assert_eq!(
        (&near[0]["policyId"], &near[0]["status"], &near[0]["share"]),
        (&json!(small), &json!("active"), &json!(0.6))
    );
    assert_eq!(near[0]["lastDeniedAt"], operator.policy_of(&small)["lastDeniedAt"]);
    assert!(near[0]["lastDeniedAt"].is_string(), "{near:?}");
    operator.post(&format!("/v1/policies/{small}/reset"), json!({ "period": "day" })).expect(200);
    assert_eq!(operator.policy_of(&small)["lastDeniedAt"], Value::Null);
    // Of the default tenant, by owner.
    let mine = operator.agent(Value::Null, permits("docs:*", &["read"]));
    operator.granted(call(&mine.id));
    let near = budgets("");
    assert_eq!((&near[0]["policyId"], &near[0]["userId"]), (&json!(owned), &json!("user-1")));
    assert_eq!((&near[0]["tenantId"], &near[0]["slug"]), (&Value::Null, &json!("default")));
}

#[test]
fn tenants_and_agents_are_counted_up_to_date() {
    let mut server = Server::start();
    let operator = server.operator();
    let tenants = |client: &Client| {
        let seen = stats(client, "");
        ["active", "suspended", "unavailable"].map(|member| seen["tenants"][member].as_u64().unwrap())
    };
    let agents = |client: &Client| {
        let seen = stats(client, "");
        ["active", "revoked", "expired"].map(|member| seen["agents"][member].as_u64().unwrap())
    };
    assert_eq!((tenants(&operator), agents(&operator)), ([1, 0, 0], [0, 0, 0]));
    let (acme, globex) = (operator.tenant("acme"), operator.tenant("globex"));
    let (one, _, other) = (operator.reader(&acme), operator.reader(&acme), operator.reader(&globex));
    assert_eq!((tenants(&operator), agents(&operator)), ([3, 0, 0], [3, 0, 0]));
    operator.patch(&format!("/v1/agents/{}", one.id), json!({ "expiresAt": "2020-01-01T00:00:00Z" })).expect(200);
    operator.post("/v1/tenants/globex/suspend", json!({})).expect(200);
    assert_eq!((tenants(&operator), agents(&operator)), ([2, 1, 0], [2, 0, 1]));
    operator.delete(&format!("/v1/agents/{}", one.id)).expect(204);
    operator.post("/v1/tenants/globex/activate", json!({})).expect(200);
    operator.granted(call(&other.id));
    assert_eq!((tenants(&operator), agents(&operator)), ([3, 0, 0], [2, 1, 0]));
    // An agent that a budget revokes.
    let limit = json!({ "agentId": other.id, "limits": { "maxCallsPerDay": 1 }, "action": "revoke" });
    operator.post("/v1/policies", limit).expect(201);
    operator.granted(call(&other.id));
    operator.denied(call(&other.id), "BUDGET_EXCEEDED");
    assert_eq!(agents(&operator), [1, 2, 0]);
    // Time alone makes one expire.
    let soon = operator.reader(&acme);
    let at = kavach::actors::clock::Clock::default().now().plus_millis(1_500);
    operator.patch(&format!("/v1/agents/{}", soon.id), json!({ "expiresAt": at })).expect(200);
    eventually("it expires", || (agents(&operator) == [1, 2, 1]).then_some(()));

    // An erased tenant is gone, but its counts stay.
    let before = stats(&operator, "");
    operator.delete("/v1/tenants/globex?confirm=globex").expect(204);
    let after = stats(&operator, "");
    assert_eq!((tenants(&operator), agents(&operator)), ([2, 0, 0], [1, 1, 1]));
    assert_eq!((&after["decisions"], &after["denials"]), (&before["decisions"], &before["denials"]));
    assert!(after["slowestTenants"].as_array().unwrap().iter().all(|slow| slow["slug"] != "globex"));

    // A tenant with damaged files.
    server.stop();
    let folder = server.folder(&acme.id);
    files(&folder, ".snapshot").iter().for_each(|snapshot| fs::remove_file(snapshot).unwrap());
    for journal in files(&folder, ".journal") {
        let mut bytes = fs::read(&journal).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        fs::write(&journal, bytes).unwrap();
    }
    server.start_again();
    let operator = server.operator();
    operator.get("/v1/tenants/acme").problem(503, "TENANT_UNAVAILABLE");
    assert_eq!((tenants(&operator), agents(&operator)), ([1, 0, 1], [0, 0, 0]));
    let fresh = stats(&operator, "");
    assert_eq!(fresh["decisions"], json!({ "allowed": 0, "denied": 0, "rateLimited": 0 }), "of this process");
    operator.get("/v1/stats?tenantId=acme").problem(503, "TENANT_UNAVAILABLE");
}

//! Budget policies over HTTP: their life, the effect of each action, the agents they apply to, and exact limits.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::client::Client;
use crate::decisions::unknown_like;
use crate::harness::Server;
use crate::world::{Agent, call, constrained, next_page, permits};

/// Counts belong to a UTC day: a test that could run past midnight waits for it to pass.
pub fn settle_into_the_day() {
    let left = || 86_400 - SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() % 86_400;
    while left() < 120 {
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// That call with an estimate. `cost` is the JSON of a number.
pub fn costing(agent: &str, cost: &str) -> Value {
    let mut body = call(agent);
    body["tokensCost"] = serde_json::from_str(cost).unwrap();
    body
}

impl Client {
    /// A policy of that tenant.
    #[track_caller]
    pub fn policy(&self, tenant: impl Into<Value>, fields: Value) -> String {
        let mut body = json!({ "tenantId": tenant.into() });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        self.post("/v1/policies", body).expect(201)["id"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub fn policy_of(&self, id: &str) -> Value {
        self.get(&format!("/v1/policies/{id}")).expect(200)
    }

    /// `[callsToday, callsThisMonth, tokensCostToday, tokensCostThisMonth]`
    #[track_caller]
    pub fn used(&self, id: &str) -> Value {
        let usage = self.policy_of(id)["currentUsage"].clone();
        json!([usage["callsToday"], usage["callsThisMonth"], usage["tokensCostToday"], usage["tokensCostThisMonth"]])
    }

    #[track_caller]
    pub fn patch_policy(&self, id: &str, body: Value) -> Value {
        self.patch(&format!("/v1/policies/{id}"), body).expect(200)
    }

    #[track_caller]
    pub fn reset(&self, id: &str, body: Value) -> Value {
        self.post(&format!("/v1/policies/{id}/reset"), body).expect(200)
    }

    /// A denial by that policy, with all its details.
    #[track_caller]
    pub fn denied_by(&self, body: Value, policy: &str) -> Value {
        let decision = self.authorize(body).expect(200);
        assert_eq!((&decision["allowed"], &decision["code"]), (&json!(false), &json!("BUDGET_EXCEEDED")), "{decision}");
        assert_eq!(decision["policyId"], policy, "{decision}");
        assert!(decision["retryAfter"].as_u64().is_some_and(|s| (1..=31 * 86_400).contains(&s)), "{decision}");
        let reason = decision["reason"].as_str().unwrap();
        assert!(reason.contains(" exceeded") && reason.contains(policy), "{decision}");
        decision
    }

    #[track_caller]
    fn warned(&self, body: Value) -> Vec<Value> {
        let decision = self.authorize(body).expect(200);
        assert_eq!(decision["allowed"], true, "{decision}");
        decision.get("warnings").map_or(Vec::new(), |warnings| warnings.as_array().unwrap().clone())
    }
}

#[test]
fn a_policys_life() {
    settle_into_the_day();
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let limits = json!({ "maxCallsPerDay": 3, "maxTokensCostPerMonth": 12.5 });
    let made = operator.post(
        "/v1/policies",
        json!({ "tenantId": "acme", "agentId": agent.id, "userId": "user-1", "limits": limits, "action": "throttle" }),
    );
    let policy = made.expect(201);
    let id = policy["id"].as_str().unwrap().to_owned();
    assert!(id.starts_with("pol_") && id.len() == 36, "{id}");
    assert_eq!(made.header("location"), Some(&*format!("/v1/policies/{id}")));
    let created_at = policy["createdAt"].clone();
    // What its windows are, the test of periods knows.
    let windows = policy["windows"].clone();
    assert_eq!(windows.as_array().unwrap().len(), 2, "a day and a month");
    let expected = json!({
        "id": id, "tenantId": acme.id, "agentId": agent.id, "userId": "user-1", "limits": limits,
        "action": "throttle", "status": "active", "createdAt": created_at, "updatedAt": created_at,
        "currentUsage": {
            "callsToday": 0, "callsThisMonth": 0, "tokensCostToday": 0, "tokensCostThisMonth": 0, "lastUpdated": null,
        },
        "lastDeniedAt": null, "matchesAgents": 1, "windows": windows, "thresholds": [80, 100], "timeZone": "UTC", "weekStartsOn": "monday", "monthStartsOn": 1,
        "labels": null, "resource": null, "actions": null, "temporary": null,
    });
    assert_eq!(policy, expected);
    assert_eq!(operator.policy_of(&id), expected);
    // Defaults: any agent, any owner, block.
    let plain = operator.post("/v1/policies", json!({ "limits": { "maxCallsPerMonth": 0 } })).expect(201);
    for (member, value) in [("tenantId", json!(null)), ("agentId", json!(null)), ("userId", json!(null))] {
        assert_eq!(plain[member], value, "{member}");
    }
    assert_eq!((&plain["action"], &plain["status"]), (&json!("block"), &json!("triggered")));
    // Limits merge, null clears; the action can change too. The agents it applies to can't.
    let changed = operator
        .patch_policy(&id, json!({ "limits": { "maxCallsPerDay": null, "maxCallsPerMonth": 7 }, "action": "warn" }));
    assert_eq!(changed["limits"], json!({ "maxCallsPerMonth": 7, "maxTokensCostPerMonth": 12.5 }));
    assert_eq!((&changed["action"], &changed["createdAt"]), (&json!("warn"), &created_at));
    assert!(changed["updatedAt"].as_str() >= created_at.as_str());
    // An empty change changes nothing, not even its time.
    let trail = operator.trail("tenantId=acme&kind=admin").len();
    for nothing in [json!({}), json!({ "limits": {} }), json!({ "action": "warn", "status": "active" })] {
        assert_eq!(operator.patch_policy(&id, nothing), changed);
    }
    assert_eq!(operator.trail("tenantId=acme&kind=admin").len(), trail);
    // Once it is gone, so are its denials.
    operator.delete(&format!("/v1/policies/{id}")).expect(204);
    operator.get(&format!("/v1/policies/{id}")).problem(404, "POLICY_NOT_FOUND");
    operator.delete(&format!("/v1/policies/{id}")).problem(404, "POLICY_NOT_FOUND");
    let trail: Vec<_> = operator.trail("tenantId=acme&kind=admin&actions=policy.create,policy.update,policy.delete");
    let actions: Vec<_> = trail.iter().rev().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["policy.create", "policy.update", "policy.delete"]);
    assert!(trail.iter().all(|entry| entry["resource"] == json!(id) && entry["by"] == "operator"));
}

#[test]
fn lists_filter_and_page() {
    let server = Server::start();
    let operator = server.operator();
    let (acme, globex) = (operator.tenant("acme"), operator.tenant("globex"));
    let (a, g) = (operator.reader(&acme), operator.reader(&globex));
    let limits = |max: u64| json!({ "maxCallsPerMonth": max });
    let ids = [
        operator.policy("acme", json!({ "limits": limits(5) })),
        operator.policy("acme", json!({ "limits": limits(5), "agentId": a.id })),
        operator.policy("acme", json!({ "limits": limits(0), "userId": "ann" })),
        operator.policy("acme", json!({ "limits": limits(5), "agentId": a.id, "userId": "ann" })),
        operator.policy("globex", json!({ "limits": limits(5), "userId": "ann" })),
        operator.policy(json!(null), json!({ "limits": limits(5) })),
    ];
    // With an agent and no tenant, it belongs to the agent's tenant.
    let of_g = operator.post("/v1/policies", json!({ "limits": limits(5), "agentId": g.id })).expect(201);
    assert_eq!(of_g["tenantId"], json!(globex.id));
    let of_g = of_g["id"].as_str().unwrap().to_owned();
    operator.patch_policy(&ids[3], json!({ "status": "disabled" }));
    let all = [&ids[..], std::slice::from_ref(&of_g)].concat();
    let found = |client: &Client, query: &str| -> Vec<String> {
        let items = client.get(&format!("/v1/policies{query}")).items();
        items.iter().map(|policy| policy["id"].as_str().unwrap().to_owned()).collect()
    };
    // In order of their ids. Two in different tenants may be made within one millisecond.
    let pick = |places: &[usize]| -> Vec<String> {
        let mut picked: Vec<_> = places.iter().map(|at| all[*at].clone()).collect();
        picked.sort();
        picked
    };
    for (query, expected) in [
        ("", pick(&[0, 1, 2, 3, 4, 5, 6])),
        ("?tenantId=acme", pick(&[0, 1, 2, 3])),
        ("?tenantId=default", pick(&[5])),
        (&*format!("?agentId={}", a.id), pick(&[1, 3])),
        (&*format!("?agentId={}&tenantId=globex", a.id), pick(&[])),
        (&*format!("?agentId={}", g.id), pick(&[6])),
        ("?userId=ann", pick(&[2, 3, 4])),
        ("?userId=ann&tenantId=acme", pick(&[2, 3])),
        ("?userId=nobody", pick(&[])),
        ("?status=active", pick(&[0, 1, 4, 5, 6])),
        ("?status=triggered", pick(&[2])),
        ("?status=disabled", pick(&[3])),
        ("?status=disabled&userId=ann", pick(&[3])),
    ] {
        assert_eq!(found(&operator, query), expected, "{query}");
    }
    assert_eq!(found(&server.with_key(&acme.key), ""), pick(&[0, 1, 2, 3]), "a tenant key sees its own");
    // Pages hold each policy once, in that order.
    for limit in 1..8 {
        let mut page = Some(format!("/v1/policies?limit={limit}"));
        let mut walked = Vec::new();
        while let Some(path) = page {
            let answer = operator.get(&path);
            assert!(answer.items().len() <= limit);
            walked.extend(answer.items().iter().map(|policy| policy["id"].as_str().unwrap().to_owned()));
            page = next_page(&answer);
        }
        assert_eq!(walked, pick(&[0, 1, 2, 3, 4, 5, 6]), "{limit}");
    }
}

#[test]
fn a_tenant_key_changes_only_what_a_tenant_key_set() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let key = server.with_key(&acme.key);
    let other = operator.post("/v1/tenants/acme/keys", json!({ "name": "second" })).expect(201);
    let other = server.with_key(other["key"].as_str().unwrap());
    let limits = json!({ "limits": { "maxCallsPerMonth": 5 } });
    let (set, own) = (operator.policy("acme", limits.clone()), key.policy(json!(null), limits.clone()));
    assert_eq!(key.policy_of(&own)["tenantId"], json!(acme.id), "the tenant is implied");
    operator.granted(call(&agent.id));
    let before = operator.policy_of(&set);
    for (method, path, body) in [
        ("PATCH", format!("/v1/policies/{set}"), json!({ "limits": { "maxCallsPerMonth": 500 } })),
        ("PATCH", format!("/v1/policies/{set}"), json!({ "status": "disabled" })),
        ("PATCH", format!("/v1/policies/{set}"), json!({})),
        ("POST", format!("/v1/policies/{set}/reset"), json!({ "period": "all" })),
        ("DELETE", format!("/v1/policies/{set}"), Value::Null),
    ] {
        let body = body.to_string();
        key.send(method, &path, Some(body.as_bytes())).problem(403, "FORBIDDEN");
    }
    assert_eq!((operator.policy_of(&set), key.policy_of(&set)), (before.clone(), before));
    // Another key of the tenant changes what one key created.
    for client in [&key, &other] {
        assert_eq!(client.patch_policy(&own, json!({ "action": "throttle" }))["action"], "throttle");
        assert_eq!(client.reset(&own, json!({ "period": "all" }))["currentUsage"]["callsToday"], 0);
    }
    other.delete(&format!("/v1/policies/{own}")).expect(204);
    // An agent's token can neither read nor change one.
    let token = server.with_key(&agent.token);
    token.get("/v1/policies").problem(403, "FORBIDDEN");
    token.post("/v1/policies", limits).problem(403, "FORBIDDEN");
    token.get(&format!("/v1/policies/{set}")).problem(403, "FORBIDDEN");
    token.delete(&format!("/v1/policies/{set}")).problem(403, "FORBIDDEN");
    token.post("/v1/budget/check", json!({ "agentId": agent.id })).problem(403, "FORBIDDEN");
    token.post("/v1/usage", json!({ "agentId": agent.id, "tokensCost": 1 })).problem(403, "FORBIDDEN");
    assert_eq!(operator.used(&set), json!([1, 1, 0, 0]));
}

#[test]
fn each_action_does_what_it_says() {
    settle_into_the_day();
    let server = Server::start();
    let operator = server.operator();
    for (action, result) in [("throttle", "rate_limited"), ("block", "denied"), ("revoke", "denied")] {
        let tenant = operator.tenant(action);
        let (agent, other) = (operator.reader(&tenant), operator.reader(&tenant));
        let limits = json!({ "maxCallsPerDay": 2 });
        let policy = operator.policy(action, json!({ "limits": limits, "action": action, "agentId": agent.id }));
        operator.granted(call(&agent.id));
        operator.granted(call(&agent.id));
        let decision = operator.denied_by(call(&agent.id), &policy);
        let message = format!("Budget maxCallsPerDay of policy {policy} exceeded: 2 of 2 used, 1 requested");
        assert_eq!(decision["reason"], message);
        let entry = &operator.trail(&format!("tenantId={action}"))[0];
        assert_eq!((&entry["result"], &entry["code"]), (&json!(result), &json!("BUDGET_EXCEEDED")), "{entry}");
        assert_eq!((&entry["policyId"], &entry["reason"]), (&json!(policy), &json!(message)), "{entry}");
        assert_eq!(entry["id"], decision["auditId"]);
        // Only `revoke` ended the agent, by that very call, and no other.
        let path = format!("/v1/agents/{}", agent.id);
        let status = if action == "revoke" { "revoked" } else { "active" };
        assert_eq!(operator.get(&path).expect(200)["status"], status);
        if action == "revoke" {
            operator.denied(call(&agent.id), "AGENT_REVOKED");
            operator.patch(&path, json!({ "name": "again" })).problem(409, "AGENT_IS_REVOKED");
            operator.delete(&format!("/v1/policies/{policy}")).expect(204);
            operator.denied(call(&agent.id), "AGENT_REVOKED");
        } else {
            operator.denied_by(call(&agent.id), &policy);
            assert_eq!(operator.used(&policy), json!([2, 2, 0, 0]));
        }
        operator.granted(call(&other.id));
    }
    // A warning allows, keeps charging, and appears in every answer.
    let tenant = operator.tenant("warn");
    let agent = operator.reader(&tenant);
    let policy = operator.policy("warn", json!({ "limits": { "maxTokensCostPerDay": 1 }, "action": "warn" }));
    assert!(operator.warned(costing(&agent.id, "0.6")).is_empty());
    for (used, cost) in [("0.6", "0.400001"), ("1.000001", "0"), ("1.000001", "0.5")] {
        let warnings = operator.warned(costing(&agent.id, cost));
        assert_eq!(warnings.len(), 1);
        let warning = &warnings[0];
        let message =
            format!("Budget maxTokensCostPerDay of policy {policy} exceeded: {used} of 1 used, {cost} requested");
        let number = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        for (member, value) in [
            ("policyId", json!(policy)),
            ("action", json!("warn")),
            ("limit", json!("maxTokensCostPerDay")),
            ("used", number(used)),
            ("requested", number(cost)),
            ("max", json!(1)),
            ("message", json!(message)),
        ] {
            assert_eq!(warning[member], value, "{member}: {warning}");
        }
        assert!(warning["retryAfter"].as_u64().is_some_and(|seconds| (1..=86_400).contains(&seconds)), "{warning}");
    }
    assert_eq!(operator.used(&policy), json!([4, 4, 1.500001, 1.500001]));
    assert_eq!(operator.policy_of(&policy)["status"], "triggered");
}

#[test]
fn the_most_severe_exceeded_policy_decides_whatever_their_order() {
    let server = Server::start();
    let operator = server.operator();
    let severity = ["warn", "throttle", "block", "revoke"];
    let orders = [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [1, 3, 0, 2]];
    for (n, order) in orders.iter().enumerate() {
        let slug = format!("t{n}");
        let tenant = operator.tenant(&slug);
        let agent = operator.reader(&tenant);
        let mut ids = vec![String::new(); 4];
        for at in order {
            let body = json!({ "limits": { "maxCallsPerMonth": 0 }, "action": severity[*at] });
            ids[*at] = operator.policy(&*slug, body);
        }
        let idle = operator.policy(&*slug, json!({ "limits": { "maxCallsPerMonth": 5 }, "action": "revoke" }));
        // The milder ones first, since revocation is final.
        for at in 1..4 {
            for (other, id) in ids.iter().enumerate() {
                let status = if other <= at { "active" } else { "disabled" };
                operator.patch_policy(id, json!({ "status": status }));
            }
            let decision = operator.denied_by(call(&agent.id), &ids[at]);
            // A warning hides no denial, and stays beside it.
            let warnings = decision["warnings"].as_array().unwrap();
            assert_eq!(warnings.len(), 1, "{decision}");
            assert_eq!(warnings[0]["policyId"], json!(ids[0]), "{decision}");
        }
        assert_eq!(operator.get(&format!("/v1/agents/{}", agent.id)).expect(200)["status"], "revoked");
        assert_eq!(operator.used(&idle), json!([0, 0, 0, 0]), "a policy that is not exceeded is not charged");
    }
    // Of equally severe ones, the oldest is named.
    let agent = operator.reader(&operator.tenant("equal"));
    let first = operator.policy("equal", json!({ "limits": { "maxCallsPerMonth": 0 } }));
    operator.policy("equal", json!({ "limits": { "maxTokensCostPerMonth": 0 } }));
    operator.denied_by(call(&agent.id), &first);
}

#[test]
fn a_limit_of_n_lets_n_calls_through() {
    settle_into_the_day();
    let server = Server::start();
    let operator = server.operator();
    for limit in ["maxCallsPerDay", "maxCallsPerMonth"] {
        for max in [0, 1, 2, 7] {
            let slug = format!("{}-{max}", limit.to_lowercase());
            let agent = operator.reader(&operator.tenant(&slug));
            let policy = operator.policy(&*slug, json!({ "limits": { limit: max } }));
            for used in 0..max {
                let status = &operator.policy_of(&policy)["status"];
                assert_eq!((status, operator.used(&policy)), (&json!("active"), json!([used, used, 0, 0])));
                operator.granted(call(&agent.id));
            }
            assert_eq!(operator.policy_of(&policy)["status"], "triggered");
            for _ in 0..3 {
                let decision = operator.denied_by(call(&agent.id), &policy);
                let reason = decision["reason"].as_str().unwrap();
                assert!(reason.ends_with(&format!("{max} of {max} used, 1 requested")), "{reason}");
            }
            assert_eq!(operator.used(&policy), json!([max, max, 0, 0]));
        }
    }
    // In one batch too, each call is decided on its own.
    let agent = operator.reader(&operator.tenant("batch"));
    let policy = operator.policy("batch", json!({ "limits": { "maxCallsPerMonth": 3 } }));
    let batch = json!({ "requests": vec![call(&agent.id); 8] });
    let results = operator.post("/v1/authorize/batch", batch).expect(200)["results"].clone();
    let allowed: Vec<_> = results.as_array().unwrap().iter().map(|one| one["allowed"].as_bool().unwrap()).collect();
    assert_eq!(allowed, [true, true, true, false, false, false, false, false]);
    assert_eq!(operator.used(&policy), json!([3, 3, 0, 0]));
}

#[test]
fn cost_is_exact_to_the_last_millionth() {
    settle_into_the_day();
    let server = Server::start();
    let operator = server.operator();
    for (n, limit) in ["maxTokensCostPerDay", "maxTokensCostPerMonth"].into_iter().enumerate() {
        let slug = format!("t{n}");
        let agent = operator.reader(&operator.tenant(&slug));
        let policy = operator.policy(&*slug, json!({ "limits": { limit: 1 } }));
        // Ten times 0.1 is 1: in floats it is less.
        for _ in 0..9 {
            operator.granted(costing(&agent.id, "0.1"));
        }
        operator.denied_by(costing(&agent.id, "0.100001"), &policy);
        operator.granted(costing(&agent.id, "0.099999"));
        assert_eq!(operator.policy_of(&policy)["status"], "active");
        operator.denied_by(costing(&agent.id, "0.000002"), &policy);
        operator.granted(call(&agent.id));
        operator.granted(costing(&agent.id, "0.000001"));
        assert_eq!(operator.used(&policy), json!([12, 12, 1, 1]));
        // Used up: even a call that costs nothing is stopped.
        assert_eq!(operator.policy_of(&policy)["status"], "triggered");
        operator.denied_by(costing(&agent.id, "0"), &policy);
        operator.denied_by(call(&agent.id), &policy);
        // One call that is too expensive by itself, and one that just fits.
        let dear = operator.policy(&*slug, json!({ "limits": { limit: 0.5 }, "agentId": agent.id }));
        operator.patch_policy(&policy, json!({ "status": "disabled" }));
        operator.denied_by(costing(&agent.id, "0.500001"), &dear);
        operator.granted(costing(&agent.id, "5e-1"));
        operator.denied_by(costing(&agent.id, "0.000001"), &dear);
    }
    // Digits that a float can't hold, in limits, counters, answers and the trail.
    let agent = operator.reader(&operator.tenant("large"));
    let body = br#"{"tenantId":"large","limits":{"maxTokensCostPerMonth":123456789012.123457,"maxTokensCostPerDay":999999999999.999999}}"#;
    let made = operator.send("POST", "/v1/policies", Some(body));
    let policy = made.expect(201)["id"].as_str().unwrap().to_owned();
    let exact = |text: String| {
        assert!(text.contains("123456789012.123457") && text.contains("999999999999.999999"), "{text}");
    };
    exact(made.text());
    exact(operator.get("/v1/audit?kind=admin&actions=policy.create&tenantId=large").text());
    operator.patch_policy(&policy, json!({ "action": "throttle" }));
    exact(operator.get("/v1/audit?kind=admin&actions=policy.update&tenantId=large").text());
    let asked =
        format!(r#"{{"agentId":"{}","action":"read","resource":"docs:1","tokensCost":123456789012.123456}}"#, agent.id);
    let decision = operator.send("POST", "/v1/authorize", Some(asked.as_bytes())).expect(200);
    assert_eq!(decision["allowed"], true);
    assert!(
        operator.get(&format!("/v1/policies/{policy}")).text().contains(r#""tokensCostToday":123456789012.123456,"#)
    );
    assert!(operator.get("/v1/audit?tenantId=large").text().contains(r#""tokensCost":123456789012.123456,"#));
    let denied = operator.denied_by(costing(&agent.id, "0.000002"), &policy);
    let says = "123456789012.123456 of 123456789012.123457 used, 0.000002 requested";
    assert!(denied["reason"].as_str().unwrap().ends_with(says), "{denied}");
    operator.granted(costing(&agent.id, "0.000001"));
}

#[test]
fn all_policies_are_charged_or_none() {
    settle_into_the_day();
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let once = json!({ "maxCallsPerHour": 4 });
    let agent = operator.agent("acme", constrained("docs:*", once));
    let roomy = operator.policy("acme", json!({ "limits": { "maxCallsPerDay": 100 } }));
    let warns = operator.policy("acme", json!({ "limits": { "maxCallsPerDay": 1 }, "action": "warn" }));
    let tight = operator.policy("acme", json!({ "limits": { "maxTokensCostPerMonth": 1 }, "userId": "user-1" }));
    let last = operator.policy("acme", json!({ "limits": { "maxCallsPerMonth": 100 }, "agentId": agent.id }));
    let all = [&roomy, &warns, &tight, &last];
    operator.granted(costing(&agent.id, "0.4"));
    let same = |expected: Value| {
        for policy in all {
            assert_eq!(operator.used(policy), expected, "{policy}");
        }
    };
    same(json!([1, 1, 0.4, 0.4]));
    // Denied by a budget.
    operator.denied_by(costing(&agent.id, "0.7"), &tight);
    same(json!([1, 1, 0.4, 0.4]));
    // Denied before any budget, in every possible way; the hour's window also counts only granted calls.
    let ask = |action: &str| json!({ "agentId": agent.id, "action": action, "resource": "other:1", "tokensCost": 0.1 });
    operator.denied(ask("read"), "PERMISSION_DENIED");
    let mut mismatch = costing(&agent.id, "0.1");
    mismatch["tenantId"] = json!("default");
    operator.denied(mismatch, "TENANT_MISMATCH");
    operator.post("/v1/tenants/acme/suspend", json!({})).expect(200);
    operator.denied(costing(&agent.id, "0.1"), "TENANT_SUSPENDED");
    operator.post("/v1/tenants/acme/activate", json!({})).expect(200);
    same(json!([1, 1, 0.4, 0.4]));
    for _ in 0..3 {
        operator.authorize(costing(&agent.id, "0.2")).expect(200);
    }
    same(json!([4, 4, 1, 1]));
    let reason = operator.denied(costing(&agent.id, "0.2"), "RATE_LIMITED");
    assert!(reason.starts_with("Rate limit exceeded: 4/4 "), "{reason}");
    // Neither an explanation nor a check charges.
    operator.post("/v1/authorize/explain", costing(&agent.id, "0.2")).expect(200);
    operator.post("/v1/budget/check", json!({ "agentId": agent.id, "tokensCost": 0.2 })).expect(200);
    // A revoked agent's call is denied for that reason.
    operator.delete(&format!("/v1/agents/{}", agent.id)).expect(204);
    operator.denied(call(&agent.id), "AGENT_REVOKED");
    same(json!([4, 4, 1, 1]));
    assert_eq!(operator.policy_of(&tight)["tenantId"], json!(acme.id));
}

#[test]
fn a_triggered_policy_comes_back_by_reset_or_a_raised_limit() {
    settle_into_the_day();
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let limits = json!({ "maxCallsPerDay": 1, "maxTokensCostPerMonth": 0.5 });
    let policy = operator.policy("acme", json!({ "limits": limits }));
    let status = || operator.policy_of(&policy)["status"].as_str().unwrap().to_owned();
    operator.granted(costing(&agent.id, "0.5"));
    assert_eq!(status(), "triggered");
    // Raised one after another: it is active once no limit is used up.
    assert_eq!(operator.patch_policy(&policy, json!({ "limits": { "maxCallsPerDay": 2 } }))["status"], "triggered");
    assert_eq!(
        operator.patch_policy(&policy, json!({ "limits": { "maxTokensCostPerMonth": 0.500001 } }))["status"],
        "active"
    );
    operator.denied_by(costing(&agent.id, "0.000002"), &policy);
    operator.granted(costing(&agent.id, "0.000001"));
    assert_eq!((status(), operator.used(&policy)), ("triggered".to_owned(), json!([2, 2, 0.500001, 0.500001])));
    // A limit lowered below the usage triggers.
    operator.patch_policy(&policy, json!({ "limits": { "maxCallsPerDay": 1, "maxTokensCostPerMonth": null } }));
    operator.denied_by(call(&agent.id), &policy);
    // Resets of the day, of the month, and of both.
    let reset = operator.reset(&policy, json!({ "period": "month" }));
    assert_eq!((&reset["status"], operator.used(&policy)), (&json!("triggered"), json!([2, 0, 0.500001, 0])));
    let reset = operator.reset(&policy, json!({ "period": "day" }));
    assert_eq!((&reset["status"], operator.used(&policy)), (&json!("active"), json!([0, 0, 0, 0])));
    assert!(reset["currentUsage"]["lastUpdated"].is_string(), "{reset}");
    operator.granted(costing(&agent.id, "0.1"));
    operator.denied_by(call(&agent.id), &policy);
    // The period must be named.
    for body in ["{}", "", "null", "[]"] {
        let answer = operator.send("POST", &format!("/v1/policies/{policy}/reset"), Some(body.as_bytes()));
        answer.problem(400, "INVALID_BODY");
    }
    assert_eq!(operator.used(&policy), json!([1, 1, 0.1, 0.1]));
    assert_eq!(operator.reset(&policy, json!({ "period": "all" }))["status"], "active");
    assert_eq!(operator.used(&policy), json!([0, 0, 0, 0]));
    // Switched off it stops nothing, keeps counting, and is right when it comes back.
    assert_eq!(operator.patch_policy(&policy, json!({ "status": "disabled" }))["status"], "disabled");
    for _ in 0..3 {
        operator.granted(call(&agent.id));
    }
    assert_eq!(operator.used(&policy), json!([3, 3, 0, 0]));
    assert_eq!(operator.patch_policy(&policy, json!({ "status": "active" }))["status"], "triggered");
    operator.denied_by(call(&agent.id), &policy);
    operator.delete(&format!("/v1/policies/{policy}")).expect(204);
    operator.granted(call(&agent.id));
    assert_eq!(acme.slug, "acme");
}

#[test]
fn a_policy_applies_to_the_agents_it_names() {
    settle_into_the_day();
    let server = Server::start();
    let operator = server.operator();
    operator.tenant("acme");
    operator.tenant("globex");
    let owned = |tenant: &str, owner: &str| {
        operator.agent_with(tenant, json!({ "ownerId": owner, "permissions": permits("docs:*", &["read"]) }))
    };
    let (ann1, ann2, bob, foreign) =
        (owned("acme", "ann"), owned("acme", "ann"), owned("acme", "bob"), owned("globex", "ann"));
    let nobody =
        operator.agent_with(json!(null), json!({ "ownerId": "ann", "permissions": permits("docs:*", &["read"]) }));
    let policy = |fields: Value| {
        let mut body = json!({ "limits": { "maxCallsPerMonth": 1000 } });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        operator.policy("acme", body)
    };
    let of_all = policy(json!({}));
    let of_ann = policy(json!({ "userId": "ann" }));
    let of_bob = policy(json!({ "userId": "bob" }));
    let of_ann1 = policy(json!({ "agentId": ann1.id }));
    let of_both = policy(json!({ "agentId": ann1.id, "userId": "ann" }));
    let never = policy(json!({ "agentId": ann1.id, "userId": "bob" }));
    for (agent, times) in [(&ann1, 1), (&ann2, 2), (&bob, 4), (&foreign, 8), (&nobody, 16)] {
        for _ in 0..times {
            operator.granted(call(&agent.id));
        }
    }
    let calls = |id: &String| operator.used(id)[0].as_u64().unwrap();
    let counts = || [&of_all, &of_ann, &of_bob, &of_ann1, &of_both, &never].map(calls);
    assert_eq!(counts(), [7, 3, 4, 1, 1, 0]);
    // After an agent changes hands, its calls count for the new owner, and what was counted stays.
    operator.patch(&format!("/v1/agents/{}", ann1.id), json!({ "ownerId": "bob" })).expect(200);
    operator.granted(call(&ann1.id));
    assert_eq!(counts(), [8, 3, 5, 2, 1, 1]);
    // Limits hold for the new owner at once.
    operator.patch_policy(&of_bob, json!({ "limits": { "maxCallsPerMonth": 5 } }));
    operator.denied_by(call(&ann1.id), &of_bob);
    operator.denied_by(call(&bob.id), &of_bob);
    operator.granted(call(&ann2.id));
    operator.patch(&format!("/v1/agents/{}", ann1.id), json!({ "ownerId": "ann" })).expect(200);
    operator.granted(call(&ann1.id));
    assert_eq!(counts(), [10, 5, 5, 3, 2, 1]);
    // The default tenant's policies are its own.
    let of_default = operator.policy(json!(null), json!({ "limits": { "maxCallsPerMonth": 1 } }));
    operator.granted(call(&nobody.id));
    operator.denied_by(call(&nobody.id), &of_default);
    operator.granted(call(&bob_free(&operator).id));
    assert_eq!(counts()[0], 11);
}

/// Another agent of `acme`, with an owner that no policy names.
fn bob_free(operator: &Client) -> Agent {
    operator.agent_with("acme", json!({ "ownerId": "zoe", "permissions": permits("docs:*", &["read"]) }))
}

#[test]
fn explain_and_check_show_every_policy_and_charge_nothing() {
    settle_into_the_day();
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let two = operator.policy("acme", json!({ "limits": { "maxCallsPerDay": 1, "maxTokensCostPerMonth": 9 } }));
    let off = operator.policy("acme", json!({ "limits": { "maxCallsPerMonth": 0 } }));
    operator.patch_policy(&off, json!({ "status": "disabled" }));
    let warn = operator.policy("acme", json!({ "limits": { "maxTokensCostPerDay": 0.5 }, "action": "warn" }));
    operator.policy("acme", json!({ "limits": { "maxCallsPerDay": 0 }, "userId": "somebody else" }));
    let body = costing(&agent.id, "0.25");
    for round in 0..2 {
        let explained = operator.post("/v1/authorize/explain", body.clone()).expect(200);
        let steps: Vec<_> =
            explained["steps"].as_array().unwrap().iter().filter(|step| step["check"] == "policy").collect();
        let (used, cost) = if round == 0 { ("0", "0") } else { ("1", "0.25") };
        let expected = [
            (&two, round == 0, format!("maxCallsPerDay: {used} of 1 used, 1 requested")),
            (&two, true, format!("maxTokensCostPerMonth: {cost} of 9 used, 0.25 requested")),
            (&off, true, format!("maxCallsPerMonth: {used} of 0 used, 1 requested; the policy is disabled")),
            (&warn, true, format!("maxTokensCostPerDay: {cost} of 0.5 used, 0.25 requested")),
        ];
        assert_eq!(steps.len(), expected.len(), "{explained}");
        for (step, (policy, passed, detail)) in steps.iter().zip(expected) {
            assert_eq!((&step["policy"], &step["passed"]), (&json!(policy), &json!(passed)), "{step}");
            assert_eq!(step["detail"], detail);
        }
        // The check agrees with the decision, and shows the policies.
        let check = operator.post("/v1/budget/check", json!({ "agentId": agent.id, "tokensCost": 0.25 })).expect(200);
        let shown: Vec<_> = check["policies"].as_array().unwrap().iter().map(|policy| policy["id"].clone()).collect();
        assert_eq!(shown, [json!(two), json!(off), json!(warn)]);
        let mut alone = operator.policy_of(&two);
        assert_eq!(alone.as_object_mut().unwrap().remove("matchesAgents"), Some(json!(1)), "a list does not count");
        assert_eq!(check["policies"][0], alone);
        let decision = operator.authorize(body.clone()).expect(200);
        for member in ["allowed", "code", "policyId", "reason"] {
            assert_eq!(check.get(member), decision.get(member), "{member}: {check}");
            assert_eq!(explained.get(member), decision.get(member), "{member}: {explained}");
        }
        assert_eq!(decision["allowed"], round == 0);
    }
    let check =
        |cost: f64| operator.post("/v1/budget/check", json!({ "agentId": agent.id, "tokensCost": cost })).expect(200);
    operator.reset(&two, json!({ "period": "all" }));
    assert_eq!((&check(0.25)["allowed"], &check(0.25)["warnings"]), (&json!(true), &json!([])));
    let warned = check(0.250001);
    assert_eq!((&warned["allowed"], &warned["warnings"][0]["policyId"]), (&json!(true), &json!(warn)));
    assert_eq!(check(9.5)["policyId"], json!(two));
    let plain = operator.post("/v1/budget/check", json!({ "agentId": agent.id })).expect(200);
    assert_eq!((&plain["allowed"], plain.get("code")), (&json!(true), None));
    assert_eq!((operator.used(&two), operator.used(&warn)), (json!([0, 0, 0, 0]), json!([1, 1, 0.25, 0.25])));
    assert_eq!(operator.trail("tenantId=acme").len(), 2, "only what was decided is recorded");
}

#[test]
fn another_tenants_ids_get_the_answer_for_unknown_ones() {
    let server = Server::start();
    let operator = server.operator();
    let (acme, globex) = (operator.tenant("acme"), operator.tenant("globex"));
    let (a, g) = (operator.reader(&acme), operator.reader(&globex));
    let theirs = operator.policy("globex", json!({ "limits": { "maxCallsPerMonth": 5 } }));
    let decision = operator.granted(call(&g.id));
    let key = server.with_key(&acme.key);
    let unknown = |id: &str| {
        let (head, rest) = id.split_at(8);
        format!("{head}{}{}", if rest.starts_with('f') { 'e' } else { 'f' }, &rest[1..])
    };
    assert_eq!(unknown(&g.id), unknown_like(&g.id));
    type Ask<'a> = (&'static str, &'a str, Box<dyn Fn(&str) -> (String, Value)>);
    let own = a.id.clone();
    let asks: Vec<Ask<'_>> = vec![
        ("GET", &theirs, Box::new(|id| (format!("/v1/policies/{id}"), Value::Null))),
        ("PATCH", &theirs, Box::new(|id| (format!("/v1/policies/{id}"), json!({ "status": "disabled" })))),
        (
            "PATCH",
            &theirs,
            Box::new(|id| (format!("/v1/policies/{id}"), json!({ "limits": { "maxCallsPerMonth": null } }))),
        ),
        ("POST", &theirs, Box::new(|id| (format!("/v1/policies/{id}/reset"), json!({ "period": "all" })))),
        ("DELETE", &theirs, Box::new(|id| (format!("/v1/policies/{id}"), Value::Null))),
        ("GET", &g.id, Box::new(|id| (format!("/v1/policies?agentId={id}"), Value::Null))),
        (
            "POST",
            &g.id,
            Box::new(|id| ("/v1/policies".into(), json!({ "agentId": id, "limits": { "maxCallsPerDay": 1 } }))),
        ),
        ("POST", &g.id, Box::new(|id| ("/v1/budget/check".into(), json!({ "agentId": id })))),
        ("POST", &g.id, Box::new(|id| ("/v1/usage".into(), json!({ "agentId": id, "tokensCost": 1 })))),
        (
            "POST",
            &g.id,
            Box::new(|id| {
                ("/v1/usage".into(), json!({ "agentId": id, "tokensCost": 1, "auditId": id.replace("agt", "aud") }))
            }),
        ),
        (
            "POST",
            &decision,
            Box::new(move |id| ("/v1/usage".into(), json!({ "agentId": own, "tokensCost": 1, "auditId": id }))),
        ),
    ];
    let everything = || {
        let policies = operator.get("/v1/policies").expect(200);
        json!([policies, operator.all_of("acme"), operator.all_of("globex"), operator.trail("kind=usage")])
    };
    let before = everything();
    for (method, id, ask) in asks {
        let answers = [id.to_owned(), unknown(id)].map(|id| {
            let (path, body) = ask(&id);
            let body = body.to_string();
            let body = (method != "GET").then_some(body.as_bytes());
            let answer = key.send(method, &path, body);
            (answer.status, answer.text().replace(&id, "ID").replace(&id.replace("agt", "aud"), "ID"))
        });
        assert_eq!(answers[0], answers[1], "{method} {id}");
        assert!(answers[0].0 == 404 || answers[0] == (200, "[]".to_owned()), "{method} {id}: {:?}", answers[0]);
    }
    // Naming the other tenant is a mismatch, whether it exists or not.
    for tenant in ["globex", globex.id.as_str(), "nowhere", "default"] {
        let body = json!({ "tenantId": tenant, "limits": { "maxCallsPerDay": 1 } });
        key.post("/v1/policies", body).problem(403, "TENANT_MISMATCH");
        key.get(&format!("/v1/policies?tenantId={tenant}")).problem(403, "TENANT_MISMATCH");
    }
    // An operator who names one tenant and another's agent gets an error: there is no such agent there.
    let body = json!({ "tenantId": "acme", "agentId": g.id, "limits": { "maxCallsPerDay": 1 } });
    assert!(operator.post("/v1/policies", body).problem(404, "AGENT_NOT_FOUND").starts_with("agentId "));
    assert_eq!(everything(), before);
}

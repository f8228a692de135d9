//! `budget.threshold`: each threshold is told once in its window.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::endpoint::{Endpoint, Received, Reply};
use super::server;
use crate::world::call;

/// The thresholds that a message tells of.
fn told(request: &Received) -> Vec<(String, u64)> {
    let body = request.json();
    assert_eq!(body["type"], "budget.threshold");
    let thresholds = body["data"]["thresholds"].as_array().unwrap();
    thresholds.iter().map(|one| (one["limit"].as_str().unwrap().to_owned(), one["percent"].as_u64().unwrap())).collect()
}

#[test]
fn each_threshold_is_told_once_although_the_server_is_killed() {
    let mut server = server();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let limits = json!({ "maxCallsPerMonth": 20, "maxTokensCostPerMonth": 10 });
    let body = json!({ "tenantId": acme.id, "limits": limits, "action": "warn", "thresholds": [50, 100, 150] });
    let policy = operator.post("/v1/policies", body).expect(201);
    assert_eq!(policy["thresholds"], json!([50, 100, 150]));
    let draw = AtomicUsize::new(3);
    let endpoint = Endpoint::answering(move |_| {
        // Every second answer is bad.
        if draw.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) { Reply::Status(500) } else { Reply::Status(200) }
    });
    let made = operator.webhook("acme", &endpoint.url(), &["budget.threshold"]);
    for round in 0..8 {
        let operator = server.operator();
        for _ in 0..4 {
            operator
                .granted(json!({ "tokensCost": 0.25, "agentId": agent.id, "action": "read", "resource": "docs:1" }));
        }
        if round % 2 == 0 {
            server.crash_and_start();
        }
    }
    let operator = server.operator();
    operator.post("/v1/usage", json!({ "agentId": agent.id, "tokensCost": 8 })).expect(200);
    operator.drained(&made);
    // By id, since a kill may repeat a message.
    let messages: HashMap<_, _> =
        endpoint.taken().iter().map(|request| (request.id().to_owned(), told(request))).collect();
    let mut all: Vec<_> = messages.into_values().flatten().collect();
    all.sort();
    let expected =
        ["maxCallsPerMonth", "maxTokensCostPerMonth"].map(|limit| [50, 100, 150].map(|of| (limit.to_owned(), of)));
    assert_eq!(all, expected.concat());
    let last = endpoint.taken().pop().unwrap().json();
    let one = &last["data"]["thresholds"][0];
    assert_eq!((&one["policyId"], &one["max"], &one["used"]), (&policy["id"], &json!(10), &json!(16)));
    assert_eq!(last["data"]["kind"], "usage");
}

#[test]
fn a_policy_without_thresholds_has_the_usual_ones_and_none_can_be_asked_for() {
    let server = server();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let new = |body: Value| operator.post("/v1/policies", body);
    let usual = new(json!({ "tenantId": acme.id, "limits": { "maxCallsPerMonth": 5 }, "action": "warn" })).expect(201);
    assert_eq!(usual["thresholds"], json!([80, 100]));
    let limits = json!({ "maxCallsPerMonth": 2 });
    new(json!({ "tenantId": acme.id, "limits": limits, "action": "warn", "thresholds": [] })).expect(201);
    for bad in [json!([0]), json!([1001]), json!([80, 100_000]), json!(vec![50; 11])] {
        let sentence =
            new(json!({ "tenantId": acme.id, "limits": limits, "thresholds": bad })).problem(400, "INVALID_FIELD");
        assert!(sentence.starts_with("thresholds "), "{sentence}");
    }
    let endpoint = Endpoint::start();
    let made = operator.webhook("acme", &endpoint.url(), &["budget.*"]);
    for _ in 0..6 {
        operator.granted(call(&agent.id));
    }
    operator.drained(&made);
    let all: Vec<_> = endpoint.taken().iter().flat_map(told).collect();
    assert_eq!(all, [("maxCallsPerMonth".to_owned(), 80), ("maxCallsPerMonth".to_owned(), 100)]);
}

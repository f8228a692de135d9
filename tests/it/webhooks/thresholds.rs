//! `budget.threshold`: each threshold is told once in its window.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::endpoint::{Endpoint, Received, Reply};
use super::server;
use crate::budgets::costing;
use crate::harness::eventually;
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

/// 64 connections charge past every threshold, in three windows that resets begin, while the endpoint fails half of the
/// time or dies with the message, and the server is killed.
#[test]
fn each_threshold_is_told_once_in_each_window_whoever_is_killed() {
    const WINDOWS: u64 = 3;
    let mut server = server();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let limits = json!({ "maxCallsPerMonth": 400, "maxTokensCostPerMonth": 100 });
    let body = json!({ "tenantId": acme.id, "limits": limits, "action": "warn", "thresholds": [10, 50, 100, 150] });
    let policy = operator.post("/v1/policies", body).expect(201)["id"].as_str().unwrap().to_owned();
    let draw = AtomicUsize::new(11);
    let endpoint = Endpoint::answering(move |_| {
        let next = draw.load(Ordering::Relaxed).wrapping_mul(1_103_515_245).wrapping_add(12_345);
        draw.store(next, Ordering::Relaxed);
        match next >> 16 & 7 {
            0..4 => Reply::Status(200),
            4 | 5 => Reply::Status(503),
            6 => Reply::Close,
            _ => Reply::Die,
        }
    });
    let made = operator.webhook("acme", &endpoint.url(), &["budget.threshold"]);
    for window in 0..WINDOWS {
        // Some calls come before the kill, the others after it. A call whose answer is lost may count.
        for part in 0..2 {
            let (operator, granted) = (server.operator(), AtomicUsize::new(0));
            std::thread::scope(|scope| {
                for _ in 0..64 {
                    let (operator, granted, agent) = (&operator, &granted, &agent);
                    scope.spawn(move || {
                        for _ in 0..if part == 0 { 6 } else { 8 } {
                            let body = costing(&agent.id, "0.25").to_string();
                            match operator.try_send("POST", "/v1/authorize", &[], Some(body.as_bytes())) {
                                Ok(answer) if answer.status == 200 => granted.fetch_add(1, Ordering::Relaxed),
                                _ => return,
                            };
                        }
                    });
                }
                if part == 0 {
                    let some = 64 * 3;
                    eventually("some were granted", || (granted.load(Ordering::Relaxed) >= some).then_some(()));
                    server.kill();
                }
            });
            if part == 0 {
                server.start_again();
            }
        }
        let operator = server.operator();
        let used = operator.used(&policy);
        assert!(used[1].as_u64().unwrap() >= 600 && used[3].as_f64().unwrap() >= 150.0, "{used}");
        if window + 1 < WINDOWS {
            operator.reset(&policy, json!({ "period": "all" }));
        }
    }
    let operator = server.operator();
    operator.drained(&made);
    // By id, since whoever is killed may have a message sent again.
    let messages: HashMap<_, _> =
        endpoint.taken().iter().map(|request| (request.id().to_owned(), told(request))).collect();
    let mut counts: HashMap<_, u64> = HashMap::new();
    messages.into_values().flatten().for_each(|one| *counts.entry(one).or_default() += 1);
    let expected = ["maxCallsPerMonth", "maxTokensCostPerMonth"]
        .into_iter()
        .flat_map(|limit| [10, 50, 100, 150].map(|percent| ((limit.to_owned(), percent), WINDOWS)));
    assert_eq!(counts, expected.collect::<HashMap<_, _>>());
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

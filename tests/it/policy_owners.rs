//! Owners of policies: no tenant key changes what an operator set last.

use serde_json::{Value, json};

use crate::client::Client;
use crate::harness::Server;
use crate::world::call;

fn new_policy(client: &Client) -> String {
    let body = json!({ "limits": { "maxCallsPerMonth": 5 } });
    client.post("/v1/policies", body).expect(201)["id"].as_str().unwrap().to_owned()
}

/// Everything that changes a policy.
fn changes(policy: &str) -> Vec<(&'static str, String, Value)> {
    let path = format!("/v1/policies/{policy}");
    vec![
        ("PATCH", path.clone(), json!({})),
        ("PATCH", path.clone(), json!({ "limits": { "maxCallsPerMonth": 500 } })),
        ("PATCH", path.clone(), json!({ "action": "warn" })),
        ("PATCH", path.clone(), json!({ "status": "disabled" })),
        ("POST", format!("{path}/reset"), json!({ "period": "all" })),
        ("DELETE", path, Value::Null),
    ]
}

#[test]
fn a_policy_that_an_operator_set_last_belongs_to_operators() {
    let mut server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let key = server.with_key(&acme.key);
    let patches = [
        json!({ "limits": { "maxCallsPerMonth": 3 } }),
        json!({ "action": "throttle" }),
        json!({ "status": "disabled" }),
        // The old values: the operator set them all the same.
        json!({ "limits": { "maxCallsPerMonth": 5 } }),
        json!({ "action": "block" }),
        json!({ "status": "active" }),
    ];
    let taken: Vec<String> = patches
        .into_iter()
        .map(|patch| {
            let policy = new_policy(&key);
            key.patch(&format!("/v1/policies/{policy}"), json!({ "action": "block" })).expect(200);
            operator.patch(&format!("/v1/policies/{policy}"), patch).expect(200);
            policy
        })
        .collect();
    // An operator who sets nothing, or only resets the usage, takes nothing over.
    let own: Vec<String> = (0..3).map(|_| new_policy(&key)).collect();
    operator.patch(&format!("/v1/policies/{}", own[0]), json!({})).expect(200);
    operator.post(&format!("/v1/policies/{}/reset", own[1]), json!({ "period": "all" })).expect(200);
    operator.granted(call(&agent.id));
    let check = |server: &Server| {
        let (operator, key) = (server.operator(), server.with_key(&acme.key));
        for policy in &taken {
            let before = operator.get(&format!("/v1/policies/{policy}")).expect(200);
            for (method, path, body) in changes(policy) {
                let body = body.to_string();
                key.send(method, &path, Some(body.as_bytes())).problem(403, "FORBIDDEN");
            }
            assert_eq!(key.get(&format!("/v1/policies/{policy}")).expect(200), before);
        }
    };
    check(&server);
    // From the events, and from a snapshot.
    server.crash_and_start();
    check(&server);
    server.operator().post("/v1/snapshot", Value::Null).expect(200);
    server.crash_and_start();
    check(&server);
    let (operator, key) = (server.operator(), server.with_key(&acme.key));
    for policy in &own {
        for (method, path, body) in changes(policy) {
            let body = body.to_string();
            let answer = key.send(method, &path, Some(body.as_bytes()));
            assert!(answer.status < 300, "{method} {path}: {}", answer.text());
        }
    }
    // The operator may change all of them.
    for policy in &taken {
        operator.delete(&format!("/v1/policies/{policy}")).expect(204);
    }
}

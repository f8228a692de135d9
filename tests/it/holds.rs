//! Holds: what they keep from others, the three ways to end one, and their end by time.

use kavach::domain::Timestamp;
use serde_json::{Value, json};

use crate::budgets::{costing, settle_into_the_day};
use crate::client::Client;
use crate::harness::{OPERATOR_KEY, Server};
use crate::panics::{settings, start};
use crate::world::{audit_id, call, next_page};

const MINUTE: i64 = 60_000;

/// That call with an estimate that is held for so many seconds.
pub fn holding(agent: &str, cost: &str, seconds: u64) -> Value {
    let mut body = costing(agent, cost);
    body["hold"] = json!({ "ttlSeconds": seconds });
    body
}

impl Client {
    fn hold(&self, id: &str, verb: &str, body: Value) -> crate::client::Answer {
        self.post(&format!("/v1/holds/{id}/{verb}"), body)
    }

    pub fn release(&self, id: &str) -> crate::client::Answer {
        self.hold(id, "release", json!({}))
    }

    fn extend(&self, id: &str, seconds: u64) -> crate::client::Answer {
        self.hold(id, "extend", json!({ "ttlSeconds": seconds }))
    }

    /// `[spent, held, left]` of the day.
    #[track_caller]
    fn day_of(&self, policy: &str) -> Value {
        let policy = self.policy_of(policy);
        let day = policy["windows"].as_array().unwrap().iter().find(|window| window["period"] == "day").unwrap();
        json!([day["tokensCostSpent"], day["tokensCostHeld"], day["tokensCostLeft"]])
    }

    fn open_holds(&self, query: &str) -> Vec<String> {
        let holds = self.get(&format!("/v1/holds?{query}")).items();
        holds.iter().map(audit_id).collect()
    }
}

fn millis(time: &Value) -> i64 {
    Timestamp::parse("time", time.as_str().unwrap()).unwrap().millis()
}

#[test]
fn a_hold_is_settled_once() {
    settle_into_the_day();
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let (agent, other) = (operator.reader(&acme), operator.reader(&acme));
    let policy = operator.policy("acme", json!({ "limits": { "maxTokensCostPerDay": 1 } }));
    let key = server.with_key(&acme.key);
    let decision = operator.authorize(holding(&agent.id, "0.6", 300)).expect(200);
    let id = audit_id(&decision);
    let hold = operator.get(&format!("/v1/holds/{id}")).expect(200);
    for (member, value) in [
        ("auditId", json!(id)),
        ("tenantId", json!(acme.id)),
        ("agentId", json!(agent.id)),
        ("userId", json!("user-1")),
        ("tokensCost", json!(0.6)),
        ("until", decision["hold"]["until"].clone()),
    ] {
        assert_eq!(hold[member], value, "{member}: {hold}");
    }
    assert_eq!(millis(&hold["until"]) - millis(&hold["createdAt"]), 300_000);
    assert_eq!(key.get("/v1/holds").items(), [hold]);
    let entry = operator.get(&format!("/v1/audit/{id}")).expect(200);
    assert_eq!((&entry["heldUntil"], &entry["settledCost"]), (&decision["hold"]["until"], &Value::Null));
    // What is held is neither left nor spent.
    assert_eq!(operator.day_of(&policy), json!([0, 0.6, 0.4]));
    operator.denied_by(costing(&agent.id, "0.5"), &policy);
    // A denied call holds nothing, and an explained one neither.
    let denied = operator.authorize(holding(&agent.id, "0.5", 9)).expect(200);
    assert!(denied.get("hold").is_none() && denied["allowed"] == false, "{denied}");
    let explained = operator.post("/v1/authorize/explain", holding(&agent.id, "0.1", 9)).expect(200);
    assert!(explained.get("hold").is_none() && explained["allowed"] == true, "{explained}");
    assert_eq!(operator.open_holds("tenantId=acme").len(), 1);

    assert!(key.settle(&other.id, &id, json!(0.1)).problem(400, "INVALID_FIELD").starts_with("auditId "));
    let settled = key.settle(&agent.id, &id, json!(0.1)).expect(200);
    assert_eq!((&settled["ref"], &settled["tokensCost"]), (&json!(id), &json!(0.1)));
    assert_eq!(operator.day_of(&policy), json!([0.1, 0, 0.9]));
    assert_eq!(operator.get(&format!("/v1/audit/{id}")).expect(200)["settledCost"], 0.1);
    assert!(operator.open_holds("tenantId=acme").is_empty());
    assert_eq!(key.settle(&agent.id, &id, json!(0.1)).expect(200), settled);
    assert!(key.settle(&agent.id, &id, json!(0.2)).problem(409, "ALREADY_SETTLED").contains("settled at 0.1"));
    for answer in [key.release(&id), operator.extend(&id, 60)] {
        assert!(answer.problem(409, "HOLD_ENDED").contains("was settled at 0.1"));
    }
    let gone = operator.get(&format!("/v1/holds/{id}"));
    assert!(gone.problem(404, "HOLD_NOT_FOUND").contains("was settled at 0.1"));
    // More than the estimate, past the limit: the money is spent.
    let second = operator.granted_hold(holding(&agent.id, "0.5", 300));
    operator.settle(&agent.id, &second, json!(1.25)).expect(200);
    assert_eq!(operator.day_of(&policy), json!([1.35, 0, -0.35]));
    assert_eq!(operator.trail("kind=usage").len(), 2);
}

impl Client {
    /// Asks, and expects a yes with a hold.
    #[track_caller]
    fn granted_hold(&self, body: Value) -> String {
        let decision = self.authorize(body).expect(200);
        assert!(decision["allowed"] == true && decision["hold"]["until"].is_string(), "{decision}");
        audit_id(&decision)
    }
}

#[test]
fn a_hold_is_released_or_prolonged() {
    settle_into_the_day();
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let policy = operator.policy("acme", json!({ "limits": { "maxTokensCostPerDay": 1, "maxCallsPerDay": 100 } }));
    let key = server.with_key(&acme.key);
    let id = server.with_key(&agent.token).granted_hold(json!({
        "action": "read", "resource": "docs:1", "tokensCost": 1, "hold": { "ttlSeconds": 60 },
    }));
    let first = operator.get(&format!("/v1/holds/{id}")).expect(200);
    let prolonged = key.extend(&id, 3_600).expect(200);
    assert_eq!(prolonged["createdAt"], first["createdAt"]);
    assert!(millis(&prolonged["until"]) >= millis(&first["until"]) + 3_500_000, "{prolonged}");
    assert_eq!(operator.get(&format!("/v1/holds/{id}")).expect(200), prolonged);
    let entries = operator.trail("kind=usage");
    for (member, value) in [
        ("ref", json!(id)),
        ("by", json!(acme.key_id)),
        ("heldUntil", prolonged["until"].clone()),
        ("tokensCost", Value::Null),
        ("parameters", json!({ "calls": 0, "estimate": 1, "hold": "extended" })),
    ] {
        assert_eq!(entries[0][member], value, "{member}: {}", entries[0]);
    }
    assert_eq!(operator.day_of(&policy), json!([0, 1, 0]));

    // Its tenant may be suspended, and its agent gone.
    operator.post("/v1/tenants/acme/suspend", json!({})).expect(200);
    operator.delete(&format!("/v1/agents/{}", agent.id)).expect(204);
    let released = key.release(&id).expect(200);
    assert_eq!((&released["ref"], &released["tokensCost"]), (&json!(id), &json!(0)));
    assert_eq!(operator.day_of(&policy), json!([0, 0, 1]));
    assert_eq!(operator.used(&policy)[0], 1, "the call stays counted");
    assert_eq!(operator.release(&id).expect(200), released, "a repeat is answered as the first was");
    assert!(operator.extend(&id, 60).problem(409, "HOLD_ENDED").contains("was released"));
    assert!(operator.settle(&agent.id, &id, json!(1)).problem(409, "HOLD_ENDED").contains("was released"));
    assert_eq!(operator.get(&format!("/v1/audit/{id}")).expect(200)["settledCost"], 0);
    let entries = operator.trail("kind=usage");
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0]["parameters"], json!({ "calls": 0, "estimate": 1, "hold": "released" }));
    // A decision without a hold has none to release.
    operator.post("/v1/tenants/acme/activate", json!({})).expect(200);
    let plain = operator.granted(call(&operator.reader(&acme).id));
    for answer in [operator.release(&plain), operator.extend(&plain, 1), operator.release("aud_1")] {
        answer.problem(404, "HOLD_NOT_FOUND");
    }
    server.with_key(&agent.token).release(&id).problem(403, "FORBIDDEN");
}

#[test]
fn open_holds_are_listed_page_by_page() {
    let server = Server::start();
    let operator = server.operator();
    let (acme, globex) = (operator.tenant("acme"), operator.tenant("globex"));
    let agents = [operator.reader(&acme), operator.reader(&acme), operator.reader(&globex)];
    let held: Vec<_> = (0..9).map(|n| operator.granted_hold(holding(&agents[n % 3].id, "1", 60 + n as u64))).collect();
    let listed = |query: &str| {
        let (mut path, mut all) = (Some(format!("/v1/holds?limit=2&{query}")), Vec::new());
        while let Some(page) = path {
            let answer = operator.get(&page);
            all.extend(answer.items().iter().map(audit_id));
            path = next_page(&answer);
        }
        assert_eq!(operator.open_holds(query), all);
        all
    };
    let of = |wanted: &[usize]| -> Vec<String> {
        held.iter().zip(0..).filter(|(_, n)| wanted.contains(&(n % 3))).map(|(id, _)| id.clone()).collect()
    };
    assert_eq!(listed("tenantId=acme"), of(&[0, 1]));
    assert_eq!(listed(&format!("tenantId=acme&agentId={}", agents[1].id)), of(&[1]));
    assert_eq!(listed(&format!("agentId={}", agents[2].id)), of(&[2]));
    let mut all = listed("");
    all.sort();
    let mut expected = held.clone();
    expected.sort();
    assert_eq!(all, expected);
    operator.release(&held[3]).expect(200);
    assert_eq!(listed("tenantId=acme").len(), 5);
    assert_eq!(server.with_key(&globex.key).get("/v1/holds").items().len(), 3);
}

#[test]
fn a_hold_ends_when_its_time_is_over() {
    settle_into_the_day();
    let home = tempfile::tempdir().unwrap();
    let server = start(settings(home.path()));
    let operator = server.with_key(OPERATOR_KEY);
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let policy = operator.policy("acme", json!({ "limits": { "maxTokensCostPerDay": 400 } }));
    // More than end in one step.
    let holds: Vec<_> = (0..300).map(|_| operator.granted_hold(holding(&agent.id, "1", 300))).collect();
    let longer = operator.granted_hold(holding(&agent.id, "100", 3_000));
    operator.denied_by(costing(&agent.id, "1"), &policy);
    server.kavach.inject_clock_step(6 * MINUTE);
    // Nothing has happened yet, and every read says that they are over.
    assert_eq!(operator.day_of(&policy), json!([0, 100, 300]));
    assert_eq!(operator.open_holds("tenantId=acme"), [longer.as_str()]);
    assert!(
        operator.get(&format!("/v1/holds/{}", holds[7])).problem(404, "HOLD_NOT_FOUND").contains("ended by itself")
    );
    assert_eq!(operator.post("/v1/authorize/explain", costing(&agent.id, "300")).expect(200)["allowed"], true);
    let check = operator.post("/v1/budget/check", json!({ "agentId": agent.id, "tokensCost": 300 })).expect(200);
    assert_eq!(check["allowed"], true, "{check}");
    assert_eq!(operator.trail("kind=usage&tenantId=acme").len(), 0);
    // The next call is decided after all of them have ended, and the trail has it in that order.
    let call = operator.granted(costing(&agent.id, "300"));
    assert_eq!(operator.day_of(&policy), json!([300, 100, 0]));
    let ends = operator.trail("kind=usage&tenantId=acme");
    assert_eq!(ends.len(), 300);
    for end in &ends {
        assert!(end["id"].as_str().unwrap() < &*call, "{end}");
        assert_eq!((&end["by"], &end["tokensCost"]), (&json!("time"), &json!(0)));
        assert_eq!(end["parameters"], json!({ "calls": 0, "estimate": 1, "hold": "expired" }));
    }
    let answers = [operator.settle(&agent.id, &holds[0], json!(1)), operator.release(&holds[1])];
    for answer in answers {
        assert!(answer.problem(409, "HOLD_ENDED").contains("ended by itself"));
    }
    // A clock that is set back opens none again.
    server.kavach.inject_clock_step(-6 * MINUTE);
    assert_eq!(operator.day_of(&policy), json!([300, 100, 0]));
    assert_eq!(operator.open_holds("tenantId=acme"), [longer.as_str()]);
    operator.settle(&agent.id, &holds[0], json!(1)).problem(409, "HOLD_ENDED");
    // The one who settles comes too late even if nobody else calls meanwhile.
    server.kavach.inject_clock_step(51 * MINUTE);
    operator.settle(&agent.id, &longer, json!(5)).problem(409, "HOLD_ENDED");
    assert_eq!(operator.day_of(&policy), json!([300, 0, 100]));
    server.end();
}

#[test]
fn each_item_of_a_batch_may_hold() {
    let server = Server::start();
    let operator = server.operator();
    let agent = operator.reader(&operator.tenant("acme"));
    let bad = json!({ "agentId": agent.id, "action": "read", "resource": "docs:1", "hold": { "ttlSeconds": 5 } });
    let requests = json!([holding(&agent.id, "1", 60), call(&agent.id), bad, holding(&agent.id, "2", 70)]);
    let answer = operator.post("/v1/authorize/batch", json!({ "requests": requests })).expect(200);
    let results = answer["results"].as_array().unwrap();
    let held: Vec<_> = results.iter().map(|result| result["hold"]["until"].is_string()).collect();
    assert_eq!(held, [true, false, false, true], "{answer}");
    let message = results[2]["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("requests[2].hold ") && message.contains("tokensCost"), "{message}");
    assert_eq!(operator.open_holds("tenantId=acme").len(), 2);
}

#[test]
fn holds_and_their_ends_outlive_kill_9() {
    settle_into_the_day();
    let mut server = Server::start();
    let operator = server.operator();
    let agent = operator.reader(&operator.tenant("acme"));
    let policy = operator.policy("acme", json!({ "limits": { "maxTokensCostPerDay": 10 } }));
    let ids = [1, 2, 3].map(|cost: u64| operator.granted_hold(holding(&agent.id, &cost.to_string(), 3_600)));
    operator.release(&ids[0]).expect(200);
    let before = operator.get("/v1/holds?tenantId=acme").items();
    server.kill();
    server.start_again();
    let operator = server.operator();
    assert_eq!(operator.get("/v1/holds?tenantId=acme").items(), before);
    assert_eq!(operator.day_of(&policy), json!([0, 5, 5]));
    operator.settle(&agent.id, &ids[1], json!(0.5)).expect(200);
    operator.post("/v1/snapshot", json!({})).expect(200);
    server.kill();
    server.start_again();
    let operator = server.operator();
    assert_eq!(operator.day_of(&policy), json!([0.5, 3, 6.5]));
    operator.settle(&agent.id, &ids[1], json!(0.6)).problem(409, "ALREADY_SETTLED");
    operator.release(&ids[0]).expect(200);
    operator.settle(&agent.id, &ids[2], json!(3)).expect(200);
    assert_eq!(operator.day_of(&policy), json!([3.5, 0, 6.5]));
}

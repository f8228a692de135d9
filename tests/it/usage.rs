//! Usage reports: what a call really cost, settled once, and spending outside of calls.

use serde_json::{Value, json};

use crate::budgets::{costing, settle_into_the_day};
use crate::client::{Answer, Client};
use crate::harness::Server;
use crate::world::{audit_id, call};

impl Client {
    fn report(&self, agent: &str, fields: Value) -> Answer {
        let mut body = json!({ "agentId": agent });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        self.post("/v1/usage", body)
    }

    pub fn settle(&self, agent: &str, decision: &str, cost: Value) -> Answer {
        self.report(agent, json!({ "auditId": decision, "tokensCost": cost }))
    }
}

#[test]
fn an_estimate_is_settled_once_up_or_down() {
    settle_into_the_day();
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let policy = operator.policy("acme", json!({ "limits": { "maxTokensCostPerDay": 10 } }));
    let key = server.with_key(&acme.key);
    let mut calls = 0;
    let mut sum = 0.0;
    for (estimate, cost, charged) in [
        (Some("3"), json!(1.5), 1.5),
        (Some("1"), json!(2.25), 2.25),
        (Some("0.5"), json!(0.5), 0.5),
        (Some("2"), json!(0), 0.0),
        (None, json!(0.25), 0.25),
        (Some("1"), Value::Null, 0.0),
    ] {
        let body = estimate.map_or_else(|| call(&agent.id), |estimate| costing(&agent.id, estimate));
        let id = operator.granted(body);
        calls += 1;
        let settled = key.settle(&agent.id, &id, cost.clone()).expect(200);
        sum += charged;
        assert_eq!(operator.used(&policy)[2].as_f64(), Some(sum), "{estimate:?} {cost}");
        assert_eq!(operator.used(&policy)[0], calls, "the call was counted when it was allowed");
        for (member, value) in [
            ("ref", json!(id)),
            ("agentId", json!(agent.id)),
            ("tokensCost", if cost.is_null() { json!(0) } else { cost.clone() }),
            ("calls", json!(0)),
        ] {
            assert_eq!(settled[member], value, "{member}: {settled}");
        }
        // The report's own entry names the decision; the decision's entry does not change.
        let entry = operator.get(&format!("/v1/audit/{}", audit_id(&settled))).expect(200);
        for (member, value) in [
            ("kind", json!("usage")),
            ("ref", json!(id)),
            ("tokensCost", settled["tokensCost"].clone()),
            ("agentId", json!(agent.id)),
            ("userId", json!("user-1")),
            ("by", json!(acme.key_id)),
            ("result", json!("allowed")),
        ] {
            assert_eq!(entry[member], value, "{member}: {entry}");
        }
        let decision = operator.get(&format!("/v1/audit/{id}")).expect(200);
        let estimate = estimate.map_or(Value::Null, |text| serde_json::from_str(text).unwrap());
        assert_eq!((&decision["tokensCost"], &decision["ref"]), (&estimate, &Value::Null));
        // A repeat gets the first answer and records nothing; another cost is refused.
        let count = operator.trail("kind=usage").len();
        assert_eq!(count, calls);
        assert_eq!(key.settle(&agent.id, &id, cost.clone()).expect(200), settled);
        assert_eq!(operator.settle(&agent.id, &id, cost).expect(200), settled);
        assert!(key.settle(&agent.id, &id, json!(7)).problem(409, "ALREADY_SETTLED").starts_with("auditId "));
        assert_eq!((operator.trail("kind=usage").len(), operator.used(&policy)[2].as_f64()), (count, Some(sum)));
    }
    assert_eq!(operator.trail("").len(), calls, "a query without a kind shows decisions");
}

#[test]
fn settled_costs_count_towards_the_limit() {
    settle_into_the_day();
    let server = Server::start();
    let operator = server.operator();
    let agent = operator.reader(&operator.tenant("acme"));
    let policy = operator.policy("acme", json!({ "limits": { "maxTokensCostPerDay": 1 } }));
    let first = operator.granted(costing(&agent.id, "1"));
    operator.denied_by(call(&agent.id), &policy);
    // Cheaper than estimated: there is room again, to the millionth.
    operator.settle(&agent.id, &first, json!(0.999998)).expect(200);
    assert_eq!(operator.policy_of(&policy)["status"], "active");
    operator.denied_by(costing(&agent.id, "0.000003"), &policy);
    let second = operator.granted(costing(&agent.id, "0.000002"));
    // More expensive than estimated: past the limit, since the money is spent.
    operator.settle(&agent.id, &second, json!(0.5)).expect(200);
    assert_eq!(operator.used(&policy), json!([2, 2, 1.499998, 1.499998]));
    let denied = operator.denied_by(call(&agent.id), &policy);
    assert!(denied["reason"].as_str().unwrap().ends_with("1.499998 of 1 used, 0 requested"), "{denied}");
    // A policy made later was not charged the estimate, and is not charged the difference.
    let later = operator.policy("acme", json!({ "limits": { "maxTokensCostPerDay": 5 } }));
    operator.patch_policy(&policy, json!({ "limits": { "maxTokensCostPerDay": 5 } }));
    let third = operator.granted(costing(&agent.id, "1"));
    operator.settle(&agent.id, &third, json!(1.25)).expect(200);
    assert_eq!((operator.used(&policy)[2].clone(), operator.used(&later)[2].clone()), (json!(2.749998), json!(1.25)));
    let newest = operator.policy("acme", json!({ "limits": { "maxTokensCostPerDay": 5 } }));
    let fourth = operator.granted(costing(&agent.id, "1"));
    operator.reset(&newest, json!({ "period": "all" }));
    operator.settle(&agent.id, &fourth, json!(0.25)).expect(200);
    assert_eq!(operator.used(&newest), json!([0, 0, 0, 0]), "nothing goes below zero");
}

#[test]
fn a_settlement_is_charged_to_the_decisions_owner_even_if_the_agent_changed_hands() {
    settle_into_the_day();
    let server = Server::start();
    let operator = server.operator();
    let agent = operator.reader(&operator.tenant("acme"));
    let of =
        |owner: &str| operator.policy("acme", json!({ "limits": { "maxTokensCostPerMonth": 99 }, "userId": owner }));
    let (before, after) = (of("user-1"), of("user-2"));
    let (down, up) = (operator.granted(costing(&agent.id, "4")), operator.granted(costing(&agent.id, "4")));
    operator.patch(&format!("/v1/agents/{}", agent.id), json!({ "ownerId": "user-2" })).expect(200);
    operator.settle(&agent.id, &down, json!(1)).expect(200);
    operator.settle(&agent.id, &up, json!(6)).expect(200);
    assert_eq!((operator.used(&before), operator.used(&after)), (json!([2, 2, 7, 7]), json!([0, 0, 0, 0])));
    let entries = operator.trail("kind=usage&userId=user-1");
    assert_eq!(entries.len(), 2);
    // A report without a decision counts for the current owner.
    operator.report(&agent.id, json!({ "tokensCost": 2, "calls": 3 })).expect(200);
    assert_eq!((operator.used(&before), operator.used(&after)), (json!([2, 2, 7, 7]), json!([3, 3, 2, 2])));
    // Even if the agent is revoked or its tenant suspended: the money is spent.
    let last = operator.granted(costing(&agent.id, "1"));
    operator.post("/v1/tenants/acme/suspend", json!({})).expect(200);
    operator.delete(&format!("/v1/agents/{}", agent.id)).expect(204);
    operator.settle(&agent.id, &last, json!(3)).expect(200);
    assert_eq!(operator.used(&after), json!([4, 4, 5, 5]));
}

#[test]
fn a_report_without_a_decision_counts_even_past_a_limit() {
    settle_into_the_day();
    let server = Server::start();
    let operator = server.operator();
    let agent = operator.reader(&operator.tenant("acme"));
    let policy = operator.policy("acme", json!({ "limits": { "maxTokensCostPerDay": 1, "maxCallsPerDay": 10 } }));
    for (fields, used) in [
        (json!({ "tokensCost": 0.75 }), json!([0, 0, 0.75, 0.75])),
        (json!({ "tokensCost": 0.75, "calls": 4 }), json!([4, 4, 1.5, 1.5])),
        (json!({ "calls": 7 }), json!([11, 11, 1.5, 1.5])),
        (json!({ "tokensCost": null, "auditId": null, "calls": 0 }), json!([11, 11, 1.5, 1.5])),
        (json!({}), json!([11, 11, 1.5, 1.5])),
    ] {
        let answer = operator.report(&agent.id, fields.clone()).expect(200);
        assert_eq!(operator.used(&policy), used, "{fields}");
        assert_eq!((answer.get("ref"), &answer["calls"]), (None, &json!(fields["calls"].as_u64().unwrap_or(0))));
        let entry = &operator.trail("kind=usage")[0];
        assert_eq!((&entry["id"], &entry["ref"]), (&answer["auditId"], &Value::Null));
        assert_eq!((&entry["parameters"]["calls"], &entry["tokensCost"]), (&answer["calls"], &answer["tokensCost"]));
    }
    // Two equal reports count twice.
    for _ in 0..2 {
        operator.report(&agent.id, json!({ "tokensCost": 0.1 })).expect(200);
    }
    assert_eq!(operator.used(&policy)[2], 1.7);
    operator.denied_by(call(&agent.id), &policy);
    assert_eq!(operator.trail("kind=usage&actions=usage&result=allowed").len(), 7);
    assert_eq!(operator.trail("kind=usage&result=denied").len(), 0);
    assert_eq!(operator.trail(&format!("kind=usage&agentId={}", agent.id)).len(), 7);
}

#[test]
fn settlements_that_are_impossible_are_refused_and_charge_nothing() {
    settle_into_the_day();
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let (agent, other) = (operator.reader(&acme), operator.reader(&acme));
    let policy = operator.policy("acme", json!({ "limits": { "maxTokensCostPerDay": 5, "maxCallsPerDay": 2 } }));
    let decision = operator.granted(costing(&agent.id, "1"));
    operator.granted(call(&other.id));
    let denials = [
        audit_id(&operator.denied_by(costing(&agent.id, "1"), &policy)),
        audit_id(
            &operator.authorize(json!({ "agentId": agent.id, "action": "drop", "resource": "docs:1" })).expect(200),
        ),
    ];
    let used = operator.used(&policy);
    let no = |answer: Answer, status: u16, code: &str, field: &str| {
        let sentence = answer.problem(status, code);
        assert!(sentence.starts_with(field), "{sentence}");
        assert_eq!(answer.json()["details"]["field"], field, "{sentence}");
        assert_eq!(operator.used(&policy), used, "{sentence}");
        assert_eq!(operator.trail("kind=usage").len(), 0, "{sentence}");
    };
    for denied in &denials {
        no(operator.settle(&agent.id, denied, json!(1)), 409, "NOT_SETTLEABLE", "auditId");
        no(operator.settle(&agent.id, denied, json!(0)), 409, "NOT_SETTLEABLE", "auditId");
    }
    no(operator.settle(&other.id, &decision, json!(1)), 400, "INVALID_FIELD", "auditId");
    let with_calls = json!({ "auditId": decision, "tokensCost": 1, "calls": 1 });
    no(operator.report(&agent.id, with_calls), 400, "INVALID_FIELD", "calls");
    // The id of an entry that is no decision, an unknown id, and a malformed one.
    let admin = audit_id(&json!({ "auditId": operator.trail("kind=admin")[0]["id"] }));
    no(operator.settle(&agent.id, &admin, json!(1)), 404, "AUDIT_ENTRY_NOT_FOUND", "auditId");
    let (head, rest) = decision.split_at(8);
    let digit = if rest.starts_with('f') { 'e' } else { 'f' };
    for unknown in [format!("{head}{digit}{}", &rest[1..]), "aud_".into(), "garbage".into(), agent.id.clone()] {
        no(operator.settle(&agent.id, &unknown, json!(1)), 404, "AUDIT_ENTRY_NOT_FOUND", "auditId");
    }
    // A report is not a decision either.
    let report = audit_id(&operator.report(&agent.id, json!({ "tokensCost": 1 })).expect(200));
    operator.settle(&agent.id, &report, json!(1)).problem(404, "AUDIT_ENTRY_NOT_FOUND");
    assert_eq!(operator.used(&policy), json!([2, 2, 2, 2]));
    // All the while the decision could be settled.
    operator.settle(&agent.id, &decision, json!(0.5)).expect(200);
    assert_eq!(operator.used(&policy), json!([2, 2, 1.5, 1.5]));
}

#[test]
fn everything_survives_kill_9() {
    settle_into_the_day();
    let mut server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let (agent, other) = (operator.reader(&acme), operator.reader(&acme));
    let limits = json!({ "maxCallsPerDay": 4, "maxTokensCostPerMonth": 3.5 });
    let policy = operator.policy("acme", json!({ "limits": limits, "action": "throttle" }));
    let off = operator.policy("acme", json!({ "limits": { "maxCallsPerDay": 1 } }));
    operator.patch_policy(&off, json!({ "status": "disabled" }));
    let emptied = operator.policy("acme", json!({ "limits": { "maxTokensCostPerDay": 9 }, "action": "warn" }));
    let revoke =
        operator.policy("acme", json!({ "limits": { "maxCallsPerDay": 0 }, "action": "revoke", "agentId": other.id }));
    let gone = operator.policy("acme", json!({ "limits": { "maxCallsPerDay": 0 } }));
    operator.delete(&format!("/v1/policies/{gone}")).expect(204);
    operator.denied_by(call(&other.id), &revoke);
    let first = operator.granted(costing(&agent.id, "1"));
    operator.reset(&emptied, json!({ "period": "day" }));
    let second = operator.granted(costing(&agent.id, "1.25"));
    let settled = operator.settle(&agent.id, &first, json!(0.5)).expect(200);
    let denied = audit_id(&operator.denied_by(costing(&agent.id, "1.750001"), &policy));
    let key = server.with_key(&acme.key);
    let own = key.policy(json!(null), json!({ "limits": { "maxCallsPerMonth": 7 } }));
    operator.granted(call(&agent.id));

    let shown = |client: &Client| {
        let kinds = ["decision", "usage", "admin"].map(|kind| client.trail(&format!("tenantId=acme&kind={kind}")));
        json!([client.get("/v1/policies").expect(200), kinds, client.get("/v1/agents?tenantId=acme").expect(200)])
    };
    let before = shown(&operator);
    // From the journal alone, and from a snapshot that an earlier start made, with a journal after it.
    for round in 0..3 {
        server.crash_and_start();
        let operator = server.operator();
        assert_eq!(shown(&operator), before, "{round}");
        assert_eq!(operator.used(&policy), json!([3, 3, 1.75, 1.75]));
        assert_eq!(operator.used(&emptied), json!([2, 3, 1.25, 1.75]));
        // Settled stays settled, denied stays denied, and the agent revoked.
        assert_eq!(operator.settle(&agent.id, &first, json!(0.5)).expect(200), settled);
        operator.settle(&agent.id, &first, json!(0.75)).problem(409, "ALREADY_SETTLED");
        operator.settle(&agent.id, &denied, json!(0.5)).problem(409, "NOT_SETTLEABLE");
        assert_eq!(operator.get(&format!("/v1/agents/{}", other.id)).expect(200)["status"], "revoked");
        let key = server.with_key(&acme.key);
        key.patch(&format!("/v1/policies/{policy}"), json!({ "status": "disabled" })).problem(403, "FORBIDDEN");
        assert_eq!(shown(&operator), before, "{round}: nothing of that changed anything");
        if round == 1 {
            operator.post("/v1/snapshot", json!({})).expect(200);
        }
    }
    // And it continues from there, exactly.
    let operator = server.operator();
    operator.settle(&agent.id, &second, json!(1)).expect(200);
    assert_eq!(operator.used(&policy), json!([3, 3, 1.5, 1.5]));
    operator.denied_by(costing(&agent.id, "2.000001"), &policy);
    operator.granted(costing(&agent.id, "2"));
    operator.denied_by(call(&agent.id), &policy);
    server.with_key(&acme.key).delete(&format!("/v1/policies/{own}")).expect(204);
    server.crash_and_start();
    assert_eq!(server.operator().used(&policy), json!([4, 4, 3.5, 3.5]));
    assert_eq!(server.operator().policy_of(&policy)["status"], "triggered");
}

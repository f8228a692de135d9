//! Evaluations are decisions like any other: decided, charged and recorded in one way.

use serde_json::{Value, json};

use super::{EVALUATION, EVALUATIONS, Fixture, decision, decisions, with};
use crate::client::Client;
use crate::harness::Server;
use crate::world::constrained;

/// `may this agent read docs:1?`
fn ask(agent: &str) -> Value {
    json!({
        "subject": { "type": "agent", "id": agent },
        "action": { "name": "read" },
        "resource": { "type": "docs", "id": "1" },
    })
}

#[track_caller]
fn denied(client: &Client, body: Value, code: &str) -> Value {
    let answer = client.post(EVALUATION, body).expect(200);
    assert!(!decision(&answer), "{answer}");
    let context = answer["context"].clone();
    assert_eq!(context["code"], code, "{answer}");
    assert_eq!(context["reason"], context["reason_admin"]["403"]);
    assert!(context["reason_user"]["403"].is_string(), "{answer}");
    context
}

#[test]
fn an_evaluation_is_recorded_as_authorize_does() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let body = with(
        ask(&agent.id),
        json!({
            "action": { "name": "read", "properties": { "path": "/srv/a", "n": [1, 2] } },
            "resource": { "type": "docs", "id": "a:b", "properties": { "secret": "unseen" } },
            "context": { "ip": "10.1.2.3", "userAgent": "bot/1", "tokensCost": 0.5, "tenantId": "acme", "time": "now" },
        }),
    );
    let traced = |path: &str, body: Value| {
        let parent = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".as_slice();
        let sent = operator.try_send("POST", path, &[("traceparent", parent)], Some(body.to_string().as_bytes()));
        sent.unwrap().expect(200)
    };
    let answer = traced(EVALUATION, body);
    let by_authzen = operator.get(&format!("/v1/audit/{}", answer["context"]["auditId"].as_str().unwrap())).expect(200);
    let body = json!({
        "agentId": agent.id, "tenantId": "acme", "action": "read", "resource": "docs:a:b", "tokensCost": 0.5,
        "arguments": { "path": "/srv/a", "n": [1, 2] }, "context": { "ip": "10.1.2.3", "userAgent": "bot/1" },
    });
    let answer = traced("/v1/authorize", body);
    let by_authorize = operator.get(&format!("/v1/audit/{}", answer["auditId"].as_str().unwrap())).expect(200);
    assert_eq!(by_authzen["traceId"], "4bf92f3577b34da6a3ce929d0e0e4736");
    let bare = |entry: Value| with(entry, json!({ "id": null, "timestamp": null, "durationMs": null }));
    assert_eq!(bare(by_authzen), bare(by_authorize));
}

#[test]
fn a_subject_that_is_not_an_agent_is_denied() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let pep = server.with_key(&acme.key);
    for (kind, id) in [("user", &*agent.id), ("Agent", &*agent.id), ("agent", "alice"), ("", &*agent.id), ("agent", "")]
    {
        let body = with(ask(&agent.id), json!({ "subject": { "type": kind, "id": id } }));
        let context = denied(&pep, body, "AGENT_NOT_FOUND");
        assert!(context["auditId"].is_string(), "it is recorded: {context}");
    }
    // An agent's token asks only for its own agent.
    let own = server.with_key(&agent.token);
    assert!(decision(&own.post(EVALUATION, ask(&agent.id)).expect(200)));
    let other = operator.reader(&acme);
    own.post(EVALUATION, ask(&other.id)).problem(403, "FORBIDDEN");
    let body = with(ask(&agent.id), json!({ "subject": { "type": "user", "id": agent.id } }));
    own.post(EVALUATION, body).problem(403, "FORBIDDEN");
    let before = pep.trail("").len();
    let items = json!([ask(&agent.id), ask(&other.id)]);
    for semantic in ["execute_all", "deny_on_first_deny", "permit_on_first_permit"] {
        let body = json!({ "evaluations": items, "options": { "evaluations_semantic": semantic } });
        own.post(EVALUATIONS, body).problem(403, "FORBIDDEN");
    }
    assert_eq!(pep.trail("").len(), before);
}

#[test]
fn a_type_and_an_id_name_one_resource() {
    let server = Server::start();
    let operator = server.operator();
    let agent = operator.agent(
        Value::Null,
        json!([
            { "resource": "docs:*", "actions": ["read"] },
            { "resource": "urn%3Aexample:*", "actions": ["read"] },
        ]),
    );
    let may = |kind: &str, id: &str| {
        let body = with(ask(&agent.id), json!({ "resource": { "type": kind, "id": id } }));
        decision(&operator.post(EVALUATION, body).expect(200))
    };
    assert!(may("docs", "1") && may("docs", "a:b:c") && may("docs", "*"));
    // A type can't reach into another's ids.
    assert!(!may("docs:a", "b") && !may("*", "1") && !may("doc", "s:1") && !may("docs%3Aa", "b"));
    assert!(may("urn:example", "1") && !may("urn", "example:1") && !may("urn%3Aexample", "1"));
    for (kind, id) in [("", "1"), ("docs", ""), ("docs", "a:"), ("do\ncs", "1"), ("docs", "\u{7}")] {
        let body = with(ask(&agent.id), json!({ "resource": { "type": kind, "id": id } }));
        denied(&operator, body, "PERMISSION_DENIED");
    }
}

#[test]
fn constraints_see_properties_and_context() {
    let server = Server::start();
    let operator = server.operator();
    let constraints = json!({ "allowedArgPatterns": ["/srv/**"], "ipAllowlist": ["10.0.0.0/8"] });
    let agent = operator.agent(Value::Null, constrained("docs:*", constraints));
    let body = |path: &str, ip: &str| {
        let action = json!({ "name": "read", "properties": { "path": path } });
        with(ask(&agent.id), json!({ "action": action, "context": { "ip": ip } }))
    };
    assert!(decision(&operator.post(EVALUATION, body("/srv/a", "10.0.0.1")).expect(200)));
    denied(&operator, body("/etc/a", "10.0.0.1"), "ARGUMENT_NOT_ALLOWED");
    denied(&operator, body("/srv/a", "192.0.2.1"), "IP_NOT_ALLOWED");
    denied(&operator, ask(&agent.id), "IP_NOT_ALLOWED");
    // The address that an agent claims for itself does not count.
    denied(&server.with_key(&agent.token), body("/srv/a", "10.0.0.1"), "IP_NOT_ALLOWED");
    for (context, names) in [
        (json!({ "ip": "nowhere" }), "context.ip"),
        (json!({ "tokensCost": -1 }), "context.tokensCost"),
        (json!({ "tokensCost": "one" }), "context.tokensCost"),
    ] {
        let sentence = operator
            .post(EVALUATION, with(ask(&agent.id), json!({ "context": context })))
            .problem(400, "INVALID_FIELD");
        assert!(sentence.contains(names), "{sentence}");
    }
}

#[test]
fn a_budget_is_charged_once_for_each_permit() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let pep = server.with_key(&acme.key);
    let limits = json!({ "maxCallsPerDay": 3, "maxTokensCostPerDay": 10 });
    pep.post("/v1/policies", json!({ "agentId": agent.id, "limits": limits, "action": "block" })).expect(201);
    let costly = with(ask(&agent.id), json!({ "context": { "tokensCost": 1.5 } }));
    assert!(decision(&pep.post(EVALUATION, costly.clone()).expect(200)));
    let items = with(costly.clone(), json!({ "evaluations": [{}, { "action": { "name": "drop" } }, {}, {}] }));
    assert_eq!(decisions(&pep.post(EVALUATIONS, items).expect(200)), [true, false, true, false]);
    let context = denied(&pep, costly, "BUDGET_EXCEEDED");
    assert!(context["retryAfter"].is_u64() && context["policyId"].is_string(), "{context}");
    let usage = &pep.get("/v1/policies").items()[0]["currentUsage"];
    assert_eq!((&usage["callsToday"], &usage["tokensCostToday"]), (&json!(3), &json!(4.5)), "{usage}");
}

#[test]
fn an_operators_evaluations_go_to_each_agents_tenant() {
    let fixture = Fixture::new();
    let operator = fixture.server.operator();
    let globex = operator.tenant("globex");
    let other = operator.reader(&globex);
    let items = |order: [&str; 3]| {
        let items: Vec<_> = order.iter().map(|agent| json!({ "subject": { "type": "agent", "id": agent } })).collect();
        with(ask(&other.id), json!({ "subject": null, "evaluations": items }))
    };
    let body = items([&other.id, &fixture.alice.id, &other.id]);
    assert_eq!(decisions(&operator.post(EVALUATIONS, body.clone()).expect(200)), [true, false, true]);
    assert_eq!((operator.trail("tenantId=globex").len(), operator.trail("tenantId=acme").len()), (2, 1));
    // A tenant's key knows no other tenant's agent.
    assert_eq!(decisions(&fixture.pep.post(EVALUATIONS, body.clone()).expect(200)), [false; 3]);
    let until = with(body, json!({ "options": { "evaluations_semantic": "deny_on_first_deny" } }));
    assert_eq!(decisions(&operator.post(EVALUATIONS, until).expect(200)), [true, false]);
    assert_eq!(operator.trail("tenantId=globex").len(), 3);
    // A tenant that is named but isn't the agent's.
    let body = with(ask(&fixture.alice.id), json!({ "context": { "tenantId": "globex" } }));
    for client in [&operator, &fixture.pep] {
        denied(client, body.clone(), "TENANT_MISMATCH");
    }
}

//! The overview's view of budgets, and of a time before the server started.

use serde_json::json;

use crate::browser::Browser;
use crate::harness::{OPERATOR_KEY, Server};

#[test]
fn a_budget_names_its_agent_and_does_not_look_fine_near_its_limit() {
    let server = Server::start();
    let operator = server.operator();
    operator.post("/v1/tenants", json!({ "name": "Acme", "slug": "acme" })).expect(201);
    let body = json!({
        "tenantId": "acme", "ownerId": "ana", "name": "spender", "type": "service",
        "permissions": [{ "resource": "docs:*", "actions": ["read"] }],
    });
    let id = operator.post("/v1/agents", body).expect(201)["id"].as_str().unwrap().to_owned();
    let policy = json!({ "agentId": id, "limits": { "maxTokensCostPerDay": 5 }, "action": "block" });
    let policy = operator.post("/v1/policies", policy).expect(201)["id"].as_str().unwrap().to_owned();
    let ask = |cost: f64| {
        let call = json!({ "agentId": id, "action": "read", "resource": "docs:1", "tokensCost": cost });
        operator.post("/v1/authorize", call).expect(200)
    };
    assert_eq!(ask(4.9998)["allowed"], true);
    assert_eq!(ask(0.01)["code"], "BUDGET_EXCEEDED");
    let browser = Browser::start(&server);
    browser.sign_in(OPERATOR_KEY);
    let row = "const row = document.querySelector('#budgets tbody tr');";
    browser.until(
        "the agent is named, with a link",
        &format!(
            "{row} const link = row?.querySelector('a[href=\"#/agents/{id}\"]'); return link?.textContent === 'spender'"
        ),
    );
    let tone = |place: &str| {
        format!(
            "{place} return !!row && !row.querySelector('.badge.ok') && !!row.querySelector('.badge.warn, .badge.bad')"
        )
    };
    browser.until("it does not look fine", &tone(row));
    browser.go("#/tenants/acme/policies");
    browser.until("nor among the policies", &tone("const row = document.querySelector('[data-policy]');"));
    // With more room, it is fine until it denies a larger call.
    let path = format!("/v1/policies/{policy}");
    operator.patch(&path, json!({ "limits": { "maxTokensCostPerDay": 10 } })).expect(200);
    browser.go("#/overview");
    browser.sees("All budgets have room");
    assert_eq!(ask(6.0)["code"], "BUDGET_EXCEEDED");
    browser.until("it does not look fine again", &tone(row));
    browser.go("#/tenants/acme/policies");
    browser.until("nor there", &tone("const row = document.querySelector('[data-policy]');"));
    browser.check_records();
}

#[test]
fn the_time_before_the_start_is_not_drawn_as_zero() {
    let mut server = Server::start();
    let body = json!({ "agentId": "agt_nobody", "action": "read", "resource": "docs:1" });
    server.operator().post("/v1/authorize", body).expect(200);
    server.stop();
    server.start_again();
    let browser = Browser::start(&server);
    browser.sign_in(OPERATOR_KEY);
    browser.sees("No denial since the server started");
    browser.until("the hour before is marked", "return !!document.querySelector('.chart .unknown')");
    browser.sees("before that not known: the server started at");
    browser.check_records();
}

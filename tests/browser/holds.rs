//! What is held: beside what is spent, and on its agent's page, where it can be released.

use serde_json::json;

use crate::browser::Browser;
use crate::harness::{OPERATOR_KEY, Server};

#[test]
fn a_hold_is_seen_and_released() {
    let server = Server::start();
    let operator = server.operator();
    operator.post("/v1/tenants", json!({ "name": "Acme", "slug": "acme" })).expect(201);
    let permissions = json!([{ "resource": "docs:*", "actions": ["read"] }]);
    let body =
        json!({ "tenantId": "acme", "ownerId": "u", "name": "bot", "type": "service", "permissions": permissions });
    let id = operator.post("/v1/agents", body).expect(201)["id"].as_str().unwrap().to_owned();
    operator.post("/v1/policies", json!({ "tenantId": "acme", "limits": { "maxTokensCostPerMonth": 10 } })).expect(201);
    for (cost, hold) in [(3, None), (2, Some(86_400)), (1, Some(3_600))] {
        let mut call = json!({ "agentId": id, "action": "read", "resource": "docs:1", "tokensCost": cost });
        if let Some(seconds) = hold {
            call["hold"] = json!({ "ttlSeconds": seconds });
        }
        operator.post("/v1/authorize", call).expect(200);
    }
    let browser = Browser::start(&server);
    browser.sign_in(OPERATOR_KEY);
    browser.go("#/tenants/acme/policies");
    browser.sees("6 of 10");
    browser.sees("3 held");
    browser.picture("held");
    browser.go(&format!("#/agents/{id}"));
    browser.sees("Open holds");
    assert_eq!(browser.run("return document.querySelectorAll('#holds tbody tr').length", json!([])), 2);
    browser.picture("agent-holds");
    // Which call is it?
    browser.click("Show the decision that holds 2");
    browser.until("the decision is shown", "return location.hash.startsWith('#/audit/aud_')");
    browser.sees("Held until (UTC)");
    browser.sees("docs:1");
    browser.go(&format!("#/agents/{id}"));
    browser.click("Release the hold of 2");
    browser.sees("Release this hold?");
    browser.click("Release");
    browser.sees("The hold is released");
    browser.until("one is left", "return document.querySelectorAll('#holds tbody tr').length === 1");
    browser.sees("4 of 10");
    assert_eq!(operator.get("/v1/holds?tenantId=acme").items().len(), 1);
    browser.check_records();
}

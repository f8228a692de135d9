//! Dialogs: one at a time, and none outlives its page.

use serde_json::json;

use crate::browser::{Browser, ESCAPE};
use crate::harness::{OPERATOR_KEY, Server};

const NONE_OPEN: &str = "return document.querySelectorAll('dialog').length === 0";
const ONE_OPEN: &str = "return document.querySelectorAll('dialog').length === 1";

#[test]
fn navigation_closes_a_dialog_and_there_is_one_at_most() {
    let server = Server::start();
    let operator = server.operator();
    operator.post("/v1/tenants", json!({ "name": "Acme", "slug": "acme" })).expect(201);
    let body = json!({
        "tenantId": "acme", "ownerId": "ana", "name": "bot", "type": "service",
        "permissions": [{ "resource": "docs:*", "actions": ["read"] }],
    });
    let id = operator.post("/v1/agents", body).expect(201)["id"].as_str().unwrap().to_owned();
    let browser = Browser::start(&server);
    browser.sign_in(OPERATOR_KEY);

    // Back leaves the page and closes its question, so nobody can say yes to it any more.
    browser.go("#/agents");
    browser.go(&format!("#/agents/{id}"));
    browser.click("Revoke");
    browser.sees("can't be undone");
    browser.run("history.back()", json!([]));
    browser.at("#/agents");
    browser.until("the dialog is closed", NONE_OPEN);
    assert_eq!(operator.get(&format!("/v1/agents/{id}")).expect(200)["status"], "active");

    // So does any other way, even out of a form or away from a secret; and the dialog that should follow a secret then
    // does not open.
    browser.go("#/tenants");
    browser.click("New tenant");
    browser.fill("Name", "Half");
    browser.run("location.hash = '#/audit'", json!([]));
    browser.at("#/audit");
    browser.until("the form is closed", NONE_OPEN);
    browser.go("#/agents/new?tenantId=acme");
    browser.fill("Name", "second");
    browser.fill("Owner", "ana");
    browser.fill("Resource", "docs:*");
    browser.fill("Actions", "read");
    browser.click("Create agent");
    browser.sees("second is ready");
    browser.run("location.hash = '#/overview'", json!([]));
    browser.until("the secret is closed", NONE_OPEN);
    browser.at("#/overview");
    browser.sees("All budgets have room");

    // The keyboard opens no dialog over another, wherever the focus is, and a dialog that follows another replaces it.
    browser.press_all("?");
    browser.sees("Close what is open");
    browser.run("document.activeElement.blur(); document.dispatchEvent(new KeyboardEvent('keydown', { key: '?', bubbles: true }))", json!([]));
    browser.until("it is the only one", ONE_OPEN);
    browser.press(ESCAPE);
    browser.until("it is closed", NONE_OPEN);
    browser.go(&format!("#/agents/{id}"));
    browser.click("Rotate token");
    browser.click("Rotate");
    browser.sees("The new token");
    browser.until("the question made room", ONE_OPEN);
    browser.click("I have copied it");
    browser.until("it is closed", NONE_OPEN);
    browser.check_records();
}

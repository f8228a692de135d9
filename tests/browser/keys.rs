//! Keys in the dashboard: made with a role and an end, used, revoked with a reason.

use serde_json::json;

use crate::browser::Browser;
use crate::harness::{OPERATOR_KEY, Server};

#[test]
fn an_operator_gives_an_auditor_a_key_and_takes_it_back() {
    let server = Server::start();
    let operator = server.operator();
    operator.post("/v1/tenants", json!({ "name": "Acme", "slug": "acme" })).expect(201);
    let browser = Browser::start(&server);
    browser.sign_in(OPERATOR_KEY);
    browser.go("#/keys");
    browser.sees("Only the first key");
    browser.click("New key");
    browser.fill("Name", "Ada, audit 2099");
    browser.run(
        "const end = document.querySelector('dialog [name=expiresAt]'); end.value = '2099-01-31T12:00'",
        json!([]),
    );
    browser.click("Create key");
    browser.sees("The new key");
    let key = browser.text_of("dialog [data-secret]");
    browser.click("I have copied it");
    browser.sees("Ada, audit 2099");
    let made = operator.get("/v1/keys").items().remove(0);
    assert_eq!((&made["role"], &made["expiresAt"]), (&json!("auditor"), &json!("2099-01-31T12:00:00.000Z")));
    browser.sees("2099");
    browser.sees("not since");

    // A tenant's key with a role.
    browser.go("#/tenants/acme/keys");
    browser.click("New key");
    browser.fill("Name", "gateway");
    browser.run("document.querySelector('dialog [name=role]').value = 'caller'", json!([]));
    browser.click("Create key");
    browser.click("I have copied it");
    browser.sees("caller");
    assert_eq!(operator.get("/v1/tenants/acme/keys").items()[0]["role"], "caller");
    browser.check_records();

    // The auditor sees the keys, and nothing to make or revoke them with.
    browser.click("Sign out");
    browser.fill("Operator or tenant key", &key);
    browser.click("Sign in");
    browser.sees("Operator, auditor");
    for page in ["#/keys", "#/tenants/acme/keys"] {
        browser.go(page);
        browser.sees(if page == "#/keys" { "this one" } else { "gateway" });
        let buttons = browser.run("return document.querySelector('main').innerText", json!([]));
        let text = buttons.as_str().unwrap();
        assert!(!text.contains("New key") && !text.contains("Revoke"), "{text}");
    }
    browser.check_records();

    browser.click("Sign out");
    browser.fill("Operator or tenant key", OPERATOR_KEY);
    browser.click("Sign in");
    browser.go("#/keys");
    browser.click("Revoke Ada, audit 2099");
    browser.fill("Reason, for the trail", "left the company");
    browser.run(
        "[...document.querySelectorAll('dialog button')].find((one) => one.innerText === 'Revoke').click()",
        json!([]),
    );
    browser.sees("Only the first key");
    let entry = operator.get("/v1/audit?tenantId=default&kind=admin&limit=1").items().remove(0);
    assert_eq!((&entry["action"], &entry["reason"]), (&json!("operator_key.revoke"), &json!("left the company")));
    server.with_key(&key).get("/v1/keys").problem(401, "INVALID_TOKEN");
    browser.check_records();
}

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

    // It is to end earlier.
    browser.click("Edit Ada, audit 2099");
    browser.fill("Name", "Ada, audit 2098");
    browser.run(
        "const end = document.querySelector('dialog [name=expiresAt]'); end.value = '2098-01-31T12:00'",
        json!([]),
    );
    browser.click("Save");
    browser.sees("Ada, audit 2098");
    let made = operator.get("/v1/keys").items().remove(0);
    assert_eq!((&made["role"], &made["expiresAt"]), (&json!("auditor"), &json!("2098-01-31T12:00:00.000Z")));

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
        assert!(["New key", "Edit", "Revoke"].iter().all(|change| !text.contains(change)), "{text}");
    }
    browser.check_records();

    browser.click("Sign out");
    browser.fill("Operator or tenant key", OPERATOR_KEY);
    browser.click("Sign in");
    browser.go("#/keys");
    browser.click("Revoke Ada, audit 2098");
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

/// Each page of a tenant with one of everything, and the buttons and links that an admin finds there.
const CHANGES: [(&str, &str, &[&str]); 9] = [
    ("#/tenants", "Acme", &["New tenant", "Suspend Acme"]),
    ("#/tenants/acme/agents", "lender", &["Suspend Acme", "New agent"]),
    ("#/tenants/acme/policies", "All agents of the tenant", &["New policy", "Edit", "Disable", "Reset", "Delete"]),
    ("#/tenants/acme/delegations", "Who lends to whom", &["Delegate", "Revoke the delegation from lender to borrower"]),
    (
        "#/tenants/acme/webhooks",
        "To the pager",
        &["New webhook", "Send a test", "Edit", "Disable", "New secret", "Delete"],
    ),
    ("#/tenants/acme/keys", "support", &["New key", "Edit support", "Revoke support"]),
    ("#/tenants/acme/settings", "Audit kept", &["Save", "Delete tenant"]),
    ("#/agents", "lender", &["New agent"]),
    ("#/agents/{}", "Recent decisions", &["Edit", "Rotate token", "Revoke", "Release the hold of 1"]),
];

#[test]
fn a_key_that_only_reads_is_offered_no_change() {
    let server = Server::start();
    let operator = server.operator();
    operator.post("/v1/tenants", json!({ "name": "Acme", "slug": "acme" })).expect(201);
    let agent = |name: &str| {
        let permissions = json!([{ "resource": "docs:*", "actions": ["read"] }]);
        let body = json!({ "tenantId": "acme", "ownerId": "ana", "name": name, "type": "service", "permissions": permissions });
        operator.post("/v1/agents", body).expect(201)["id"].as_str().unwrap().to_owned()
    };
    let (lender, borrower) = (agent("lender"), agent("borrower"));
    let lent = json!([{ "resource": "docs:1", "actions": ["read"] }]);
    operator
        .post("/v1/delegations", json!({ "fromAgent": lender, "toAgent": borrower, "permissions": lent }))
        .expect(201);
    operator.post("/v1/policies", json!({ "tenantId": "acme", "limits": { "maxCallsPerDay": 9 } })).expect(201);
    let hook = json!({ "tenantId": "acme", "url": "https://kavach.invalid/", "events": ["key.created"], "description": "To the pager" });
    operator.post("/v1/webhooks", hook).expect(201);
    let held = json!({ "agentId": lender, "action": "read", "resource": "docs:1", "tokensCost": 1, "hold": { "ttlSeconds": 86_400 } });
    operator.post("/v1/authorize", held).expect(200);
    let key = |path: &str, name: &str, role: &str| {
        let made = operator.post(path, json!({ "name": name, "role": role })).expect(201);
        made["key"].as_str().unwrap().to_owned()
    };
    let viewer = key("/v1/tenants/acme/keys", "support", "viewer");
    let auditor = key("/v1/keys", "Bob", "auditor");
    let browser = Browser::start(&server);
    let offered = || {
        let script = "return [...document.querySelectorAll('main button, main a')].map((one) => one.getAttribute('aria-label') ?? one.innerText)";
        let names = browser.run(script, json!([]));
        names.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let mut signed_in = false;
    for (who, text) in [("admin", OPERATOR_KEY), ("auditor", &auditor), ("viewer", &viewer)] {
        if signed_in {
            browser.click("Sign out");
            browser.fill("Operator or tenant key", text);
            browser.click("Sign in");
            browser.sees(&format!(", {who}"));
        } else {
            browser.sign_in(text);
            signed_in = true;
        }
        for (page, shows, changes) in CHANGES {
            // Keys of a tenant have no list of tenants.
            if who == "viewer" && page == "#/tenants" {
                continue;
            }
            browser.go(&page.replace("{}", &lender));
            browser.sees(shows);
            let offered = offered();
            for change in changes {
                assert_eq!(
                    offered.iter().any(|name| name == change),
                    who == "admin",
                    "{who}, {page}, {change}: {offered:?}"
                );
            }
        }
        browser.check_records();
    }
}

//! The view of a tenant key: its own tenant, and nothing of any other.

use serde_json::json;

use crate::browser::Browser;
use crate::harness::Server;

#[test]
fn a_tenant_key_sees_its_tenant_only() {
    let server = Server::start();
    let operator = server.operator();
    for (name, slug) in [("Acme", "acme"), ("Globex", "globex")] {
        operator.post("/v1/tenants", json!({ "name": name, "slug": slug })).expect(201);
        let permissions = json!([{ "resource": "docs:*", "actions": ["read"] }]);
        let body = json!({ "tenantId": slug, "ownerId": "u", "name": format!("{slug}-bot"), "type": "service", "permissions": permissions });
        let id = operator.post("/v1/agents", body).expect(201)["id"].clone();
        operator
            .post("/v1/authorize", json!({ "agentId": id, "action": "read", "resource": format!("docs:{slug}") }))
            .expect(200);
    }
    let key = operator.post("/v1/tenants/acme/keys", json!({ "name": "ours" })).expect(201)["key"]
        .as_str()
        .unwrap()
        .to_owned();

    let browser = Browser::start(&server);
    browser.sign_in(&key);
    let nav = browser.text_of("nav");
    assert!(nav.contains("Acme") && !nav.contains("Tenants"), "{nav}");
    let foreign = "return !document.body.innerText.toLowerCase().includes('globex')";
    for page in [
        "#/overview",
        "#/agents",
        "#/audit",
        "#/why",
        "#/agents/new",
        "#/tenants/acme/keys",
        "#/tenants/acme/settings",
        "#/tenants/acme/policies",
        "#/tenants/acme/delegations",
        "#/tenants/acme/webhooks",
        "#/tenants/acme/audit",
    ] {
        browser.go(page);
        browser.until("nothing of the other tenant is shown", foreign);
    }
    browser.run("location.hash = '#/tenants'", json!([]));
    browser.at("#/tenants/acme");
    browser.sees("acme-bot");
    browser.check_records();

    // The other tenant does not exist for it.
    browser.go("#/tenants/globex");
    browser.sees("Not here");
    assert!(browser.complaints().iter().all(|line| line.contains("status of 404")));

    // After a key is revoked, the page returns to the sign-in and forgets it.
    let id = operator.get("/v1/tenants/acme/keys").items()[0]["id"].as_str().unwrap().to_owned();
    operator.delete(&format!("/v1/tenants/acme/keys/{id}")).expect(204);
    browser.run("location.hash = '#/agents'", json!([]));
    browser.find("input", Some("Operator or tenant key"));
    browser.sees("INVALID_TOKEN");
    assert_eq!(browser.run("return sessionStorage.length", json!([])), 0);
    assert!(browser.complaints().iter().all(|line| line.contains("status of 401")));
    browser.check_records();
}

//! Webhooks in the dashboard: made, tried out, looked at, sent again.

use serde_json::json;

use crate::browser::Browser;
use crate::harness::{OPERATOR_KEY, Options, Server};

#[test]
fn a_webhook_is_made_tried_and_repaired() {
    let env = vec![("KAVACH_TEST_WEBHOOK_WAIT_MS", "20")];
    let server = Server::start_with(Options { env, ..Options::args(&["--webhook-allow", "127.0.0.1/32"]) });
    let operator = server.operator();
    operator.post("/v1/tenants", json!({ "name": "Acme", "slug": "acme" })).expect(201);
    let browser = Browser::start(&server);
    browser.sign_in(OPERATOR_KEY);
    browser.go("#/tenants/acme/webhooks");
    browser.sees("No webhook yet");
    browser.click("New webhook");
    browser.fill("URL", "https://10.0.0.1/");
    browser.click("Create webhook");
    browser.sees("must lead to a public address");
    // The server itself is an endpoint that refuses: it has no such route.
    browser.fill("URL", &format!("{}/nowhere", server.base()));
    browser.fill("Description", "To the pager");
    browser.click("Create webhook");
    browser.sees("whsec_");
    browser.click("I have copied it");
    browser.sees("nothing sent yet");
    browser.click("Send a test");
    browser.sees("webhook.test");
    browser.sees("pending");
    browser.click("Close");
    let webhook = operator.get("/v1/webhooks?tenantId=acme").items()[0].clone();
    assert_eq!((&webhook["description"], &webhook["pending"]), (&json!("To the pager"), &json!(1)));
    browser.click("Disable");
    browser.sees("disabled");
    browser.click("Delete");
    browser.sees("What waits for it is not sent");
    browser.run(
        "[...document.querySelectorAll('dialog button')].find((one) => one.innerText === 'Delete').click()",
        json!([]),
    );
    browser.sees("No webhook yet");
    assert!(operator.get("/v1/webhooks?tenantId=acme").items().is_empty());
}

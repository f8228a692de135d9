//! Signing out, coming back and being refused, while calls are under way.

use serde_json::json;

use crate::browser::Browser;
use crate::harness::{OPERATOR_KEY, Server};

/// Holds the next answer back until `release()` is called.
const HOLD: &str = r#"
const own = window.fetch;
window.held = false;
window.fetch = async (...call) => {
  window.fetch = own;
  const answer = await own(...call);
  await new Promise((resolve) => { window.release = resolve; window.held = true; });
  return answer;
};
"#;

const SIGN_OUT: &str = "document.querySelector('[aria-label=\"Sign out\"]').click()";

/// Signs in without reloading the page.
fn sign_in_again(browser: &Browser, key: &str) {
    browser.fill("Operator or tenant key", key);
    browser.click("Sign in");
    browser.at("#/overview");
}

#[test]
fn signing_out_leaves_nothing_behind() {
    let server = Server::start();
    let operator = server.operator();
    let body = json!({ "ownerId": "ana", "name": "ledger-bot", "type": "service", "permissions": [] });
    let id = operator.post("/v1/agents", body).expect(201)["id"].as_str().unwrap().to_owned();
    let browser = Browser::start(&server);
    browser.sign_in(OPERATOR_KEY);

    // Not in the page, not in the tab's storage, not in the address.
    browser.go(&format!("#/why?agentId={id}&arguments=%7B%22iban%22%3A%22DE00%22%7D"));
    browser.until("it is filled in", "return document.querySelector('[role=combobox]').value === 'ledger-bot'");
    browser.click("Sign out");
    browser.find("input", Some("Operator or tenant key"));
    let left = "return [location.href, document.documentElement.outerHTML, JSON.stringify(sessionStorage)].join()";
    let left = browser.run(left, json!([])).to_string();
    for secret in [OPERATOR_KEY, "ledger-bot", "iban", &id] {
        assert!(!left.contains(secret), "{secret}: {left}");
    }

    // If a token arrives after signing out, nobody sees it.
    sign_in_again(&browser, OPERATOR_KEY);
    browser.go(&format!("#/agents/{id}"));
    browser.click("Rotate token");
    browser.run(HOLD, json!([]));
    browser.click("Rotate");
    browser.until("the answer is there", "return window.held");
    browser.run(SIGN_OUT, json!([]));
    browser.run("window.release()", json!([]));
    sign_in_again(&browser, OPERATOR_KEY);
    browser.go("#/audit");
    browser.until("no token is shown", "return !document.querySelector('[data-secret], dialog')");
    browser.check_records();
}

#[test]
fn a_late_refusal_of_an_old_key_does_not_affect_the_next() {
    let server = Server::start();
    let operator = server.operator();
    operator.post("/v1/tenants", json!({ "name": "Acme", "slug": "acme" })).expect(201);
    let made = operator.post("/v1/tenants/acme/keys", json!({ "name": "ours" })).expect(201);
    let browser = Browser::start(&server);
    browser.sign_in(made["key"].as_str().unwrap());
    browser.go("#/none");
    operator.delete(&format!("/v1/tenants/acme/keys/{}", made["id"].as_str().unwrap())).expect(204);
    browser.run(HOLD, json!([]));
    browser.run("location.hash = '#/agents'", json!([]));
    browser.until("it is refused", "return window.held");
    browser.click("Sign out");
    sign_in_again(&browser, OPERATOR_KEY);
    browser.run("window.release()", json!([]));
    browser.go("#/tenants");
    browser.sees("Acme");
    assert_eq!(browser.run("return sessionStorage.getItem('kavach.key')", json!([])), OPERATOR_KEY);
    assert!(browser.complaints().iter().all(|line| line.contains("status of 401")));
    browser.check_records();
}

#[test]
fn a_key_survives_a_server_that_does_not_answer() {
    let server = Server::start();
    let browser = Browser::start(&server);
    browser.sign_in(OPERATOR_KEY);
    browser.run_first(
        "const own = fetch; window.fetch = (path, ...rest) => path === '/v1/whoami'
            ? (window.fetch = own, Promise.resolve(new Response('{\"detail\":\"tenants are being read\"}', { status: 503 })))
            : own(path, ...rest);",
    );
    browser.open();
    browser.sees("tenants are being read");
    browser.click("Try again");
    browser.at("#/overview");
    browser.check_records();
}

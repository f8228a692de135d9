//! What the overview says of budgets, and of a time that it knows nothing of.

use serde_json::json;

use crate::browser::Browser;
use crate::harness::{OPERATOR_KEY, Server};

#[test]
fn what_was_before_the_start_is_not_drawn_as_zero() {
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

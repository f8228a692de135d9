//! Calls without a valid key: limited by address, for every route and kind of key, and callers with a valid one don't
//! notice.

use crate::client::Client;
use crate::harness::{OPERATOR_KEY, Options, Server};
use crate::world::{call, permits};

/// More failed calls than an address may make at once, including those it regains in the time they take.
const MANY: usize = 1_000;

/// Fails until it is refused. Returns the number of calls.
fn fail_until_refused(client: &Client, ask: impl Fn(&Client) -> crate::client::Answer) -> usize {
    let refused = (1..=MANY).find(|_| {
        let answer = ask(client);
        match answer.status {
            401 => false,
            _ => {
                let sentence = answer.problem(429, "AUTH_RATE_LIMITED");
                assert!(sentence.contains("address"), "{sentence}");
                let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
                assert!((1..=2).contains(&seconds), "{seconds}");
                assert_eq!(answer.json()["details"]["retryAfter"], seconds);
                true
            }
        }
    });
    refused.unwrap_or_else(|| panic!("{MANY} calls with a bad key were all answered with 401"))
}

#[test]
fn failed_calls_are_limited_by_address_and_valid_ones_are_not() {
    let server = Server::start_with(Options::args(&["--trusted-proxies", "127.0.0.1"]));
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.agent(acme.id.as_str(), permits("docs:*", &["read"]));
    let [agent_call, foreign] = [call(&agent.id), call("agt_00000000000000000000000000000000")];
    let from = |address: &str, key: &str| server.with_key(key).forwarded_for(address);
    let wrong_token = format!("{}x", &agent.token[..agent.token.len() - 1]);
    assert_ne!(wrong_token, agent.token);

    // The route that is answered before the router, one behind it, and calls without a key.
    let first = fail_until_refused(&from("192.0.2.1", &wrong_token), |client| client.authorize(agent_call.clone()));
    assert!(first > 50, "{first}: a service with an old key must learn that it is not valid");
    fail_until_refused(&from("192.0.2.2", "kvo_wrong"), |client| client.get("/v1/tenants"));
    let nobody = Client::new(server.base(), None).forwarded_for("192.0.2.3");
    fail_until_refused(&nobody, |client| client.get("/v1/audit"));
    // If no address can be trusted, all such calls count together.
    fail_until_refused(&from("nobody's, hidden", "kvo_wrong"), |client| client.get("/v1/tenants"));
    // An IPv6 network counts as one caller.
    fail_until_refused(&from("2001:db8::1", "kvo_wrong"), |client| client.get("/v1/tenants"));
    from("2001:db8:0:0:ffff::2", "kvo_wrong").get("/v1/tenants").problem(429, "AUTH_RATE_LIMITED");
    from("2001:db8:0:1::2", "kvo_wrong").get("/v1/tenants").problem(401, "INVALID_TOKEN");

    // Callers with a valid key share these addresses, and pass.
    for address in ["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1"] {
        for key in [OPERATOR_KEY, &acme.key] {
            let client = from(address, key);
            client.granted(agent_call.clone());
            client.denied(foreign.clone(), "AGENT_NOT_FOUND");
            client.get("/v1/tenants/acme").expect(200);
        }
        from(address, &agent.token).granted(serde_json::json!({ "action": "read", "resource": "docs:1" }));
        // A valid key without the right to call is not a failed authentication.
        for _ in 0..3 {
            from(address, &agent.token).get("/v1/tenants").problem(403, "FORBIDDEN");
        }
    }
    // Another address has its own limit.
    from("192.0.2.9", "kvo_wrong").get("/v1/tenants").problem(401, "INVALID_TOKEN");

    let log = server.log();
    let lines = log.lines().filter(|line| line.contains("valid key")).count();
    assert_eq!(lines, 1, "one line a minute:\n{log}");
    for secret in ["kvo_wrong", &wrong_token, &agent.token, OPERATOR_KEY, &acme.key] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[test]
fn without_a_trusted_proxy_no_header_changes_the_address() {
    let server = Server::start();
    let failing = |n: usize| server.with_key("kvo_wrong").forwarded_for(&format!("192.0.2.{n}"));
    let refused = (0..MANY).find(|n| failing(n % 250).get("/v1/tenants").status == 429);
    assert!(refused.is_some());
    server.operator().get("/v1/tenants").expect(200);
}

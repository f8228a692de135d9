//! Discovery: section 6 of the scenario.

use serde_json::{Value, json};

use super::EVALUATION;
use crate::client::{Answer, send_bytes};
use crate::harness::{Options, Server};

const PATH: &str = "/.well-known/authzen-configuration";

fn metadata(base: &str) -> Value {
    json!({
        "policy_decision_point": base,
        "access_evaluation_endpoint": format!("{base}/access/v1/evaluation"),
        "access_evaluations_endpoint": format!("{base}/access/v1/evaluations"),
        "search_subject_endpoint": format!("{base}/access/v1/search/subject"),
        "search_resource_endpoint": format!("{base}/access/v1/search/resource"),
        "search_action_endpoint": format!("{base}/access/v1/search/action"),
    })
}

fn ask(server: &Server, headers: &str) -> Answer {
    send_bytes(server.host(), format!("GET {PATH} HTTP/1.1\r\n{headers}\r\n\r\n").as_bytes()).unwrap()
}

#[test]
fn the_public_url_is_the_setting() {
    let server = Server::start_with(Options::args(&["--public-url", "https://pdp.example.com/"]));
    let answer = server.anonymous().get(PATH);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("public, max-age=3600"));
    assert_eq!(answer.expect(200), metadata("https://pdp.example.com"));
    // Nothing in a request changes it.
    let headers = "Host: evil.example\r\nX-Forwarded-Host: evil.example\r\nX-Forwarded-Proto: http";
    assert_eq!(ask(&server, headers).expect(200), metadata("https://pdp.example.com"));
}

#[test]
fn without_a_setting_it_is_the_clients_own_url() {
    let server = Server::start();
    let answer = server.anonymous().get(PATH);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let found = answer.expect(200);
    assert_eq!(found, metadata(server.base()), "the base URL that it was found by");
    // The endpoints that it names exist.
    for (name, endpoint) in found.as_object().unwrap().iter().filter(|(name, _)| name.ends_with("_endpoint")) {
        let path = endpoint.as_str().unwrap().strip_prefix(server.base()).unwrap();
        server.operator().post(path, json!({})).problem(400, "INVALID_BODY");
        assert!(!name.contains("evaluation") || path.starts_with(EVALUATION), "{path}");
    }
    // No client can claim how it reached the server.
    let headers = "Host: pdp.test:1234\r\nX-Forwarded-Host: evil.example\r\nX-Forwarded-Proto: https";
    assert_eq!(ask(&server, headers).expect(200), metadata("http://pdp.test:1234"));
    for host in ["", "a/b", "a b", "a\"b", "user@host", "host?x"] {
        let answer = ask(&server, &format!("Host: {host}"));
        assert_eq!(answer.status, 400, "{host}: {}", answer.text());
    }
}

#[test]
fn a_trusted_proxy_says_how_it_was_reached() {
    let server = Server::start_with(Options::args(&["--trusted-proxies", "127.0.0.1"]));
    let headers = "Host: internal:7600\r\nX-Forwarded-Host: pdp.example.com\r\nX-Forwarded-Proto: https";
    assert_eq!(ask(&server, headers).expect(200), metadata("https://pdp.example.com"));
    // Of several, the last is the proxy's own.
    let headers = "Host: x\r\nX-Forwarded-Host: evil.example, pdp.example.com\r\nX-Forwarded-Proto: http, https";
    assert_eq!(ask(&server, headers).expect(200), metadata("https://pdp.example.com"));
    ask(&server, "Host: x\r\nX-Forwarded-Proto: gopher").problem(400, "INVALID_FIELD");
    ask(&server, "Host: x\r\nX-Forwarded-Host: a/b").problem(400, "INVALID_FIELD");
}

//! Which addresses webhooks reach.

use std::net::TcpListener;

use serde_json::json;

use super::endpoint::{Endpoint, Reply};
use super::id;
use crate::harness::{Options, Server, eventually};

fn fast(args: &[&'static str]) -> Server {
    let env = vec![("KAVACH_TEST_WEBHOOK_WAIT_MS", "20")];
    Server::start_with(Options { env, ..Options::args(args) })
}

#[test]
fn names_that_lead_inside_are_never_connected_to() {
    let server = fast(&[]);
    let operator = server.operator();
    operator.tenant("acme");
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    // What the name leads to is known only when it is looked up.
    for name in ["localhost", "localhost.", "LOCALHOST"] {
        let made = operator.webhook("acme", &format!("https://{name}:{port}/"), &["tenant.deleted"]);
        operator.post(&format!("/v1/webhooks/{}/test", id(&made)), json!({})).expect(202);
    }
    let failures = || {
        let metrics = server.anonymous().get("/metrics").text();
        let line = metrics.lines().find(|line| line.starts_with("kavach_webhook_failures_total ")).unwrap().to_owned();
        line.split_once(' ').unwrap().1.parse::<f64>().unwrap()
    };
    eventually("each was tried, some again", || (failures() >= 6.0).then_some(()));
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "somebody came");
}

#[test]
fn redirects_lead_nowhere() {
    let server = fast(&["--webhook-allow", "127.0.0.1/32"]);
    let operator = server.operator();
    operator.tenant("acme");
    let inside = Endpoint::start();
    let url = inside.url();
    let endpoint =
        Endpoint::answering(move |before| if before < 2 { Reply::Redirect(url.clone()) } else { Reply::Status(200) });
    let made = operator.webhook("acme", &endpoint.url(), &["tenant.deleted"]);
    operator.post(&format!("/v1/webhooks/{}/test", id(&made)), json!({})).expect(202);
    operator.drained(&made);
    assert_eq!(operator.deliveries(&made, "delivered")[0]["attempts"], 3);
    assert!(inside.received().is_empty());
}

#[test]
fn only_the_networks_that_are_allowed_are_reached() {
    let server = fast(&["--webhook-allow", "127.0.0.2/32,10.9.0.0/16"]);
    let operator = server.operator();
    operator.tenant("acme");
    let refused = |url: &str| {
        let body = json!({ "tenantId": "acme", "url": url, "events": ["*"] });
        let answer = operator.post("/v1/webhooks", body);
        let detail = answer.problem(400, "INVALID_FIELD");
        assert!(detail.starts_with("url "), "{detail}");
    };
    refused("https://127.0.0.1/");
    refused("http://10.10.0.1/");
    refused("http://8.8.8.8/");
    operator.webhook("acme", "http://10.9.255.1:8080/", &["tenant.deleted"]);
    operator.webhook("acme", "http://[::ffff:10.9.0.1]/", &["tenant.deleted"]);
    operator.webhook("acme", "https://8.8.8.8/", &["tenant.deleted"]);
    let made = operator.webhook("acme", "http://127.0.0.2/", &["tenant.deleted"]);
    operator
        .patch(&format!("/v1/webhooks/{}", id(&made)), json!({ "url": "http://127.0.0.1/" }))
        .problem(400, "INVALID_FIELD");
}

#[test]
fn messages_go_through_tls_with_a_certificate_that_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let trusted = folder.path().join("ca.pem");
    std::fs::write(&trusted, made.cert.pem()).unwrap();
    let endpoint = super::endpoint::secured(&made);
    for (is_trusted, file) in [(true, trusted.clone()), (false, "/etc/ssl/certs/ca-certificates.crt".into())] {
        let file: &'static str = file.display().to_string().leak();
        let env = vec![("KAVACH_TEST_WEBHOOK_WAIT_MS", "20"), ("SSL_CERT_FILE", file)];
        let server = Server::start_with(Options { env, ..Options::args(&["--webhook-allow", "127.0.0.1/32"]) });
        let operator = server.operator();
        operator.tenant("acme");
        let url = format!("https://127.0.0.1:{}/", endpoint.port());
        let webhook = operator.webhook("acme", &url, &["tenant.deleted"]);
        let sent = operator.post(&format!("/v1/webhooks/{}/test", id(&webhook)), json!({})).expect(202);
        if is_trusted {
            operator.drained(&webhook);
            assert_eq!(endpoint.received().last().unwrap().id(), id(&sent));
        } else {
            let failed = || {
                let metrics = server.anonymous().get("/metrics").text();
                metrics.lines().any(|line| line.starts_with("kavach_webhook_failures_total ") && !line.ends_with(" 0"))
            };
            eventually("it was refused", || failed().then_some(()));
            assert!(endpoint.received().iter().all(|request| request.id() != id(&sent)));
        }
    }
}

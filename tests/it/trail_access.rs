//! Who reads an audit trail for a long time, and what ends that: the key, the tenant, a trail that can't be read.

use std::io::Read;

use serde_json::json;
use ureq::http::Request;

use crate::client::Client;
use crate::events::Stream;
use crate::harness::{OPERATOR_KEY, Server};
use crate::world::{Tenant, call};

/// Entries of a trail that is far larger than what any socket's buffers hold, and bytes of each one's arguments.
const ENTRIES: usize = 2_000;
const EACH: usize = 9_000;

/// Such a trail, made by an agent of that tenant.
fn large_trail(operator: &Client, tenant: &Tenant) {
    let agent = operator.reader(tenant);
    let mut request = call(&agent.id);
    request["arguments"] = json!({ "text": "x".repeat(EACH) });
    let batch = json!({ "requests": vec![request; 100] });
    for _ in 0..ENTRIES / 100 {
        operator.post("/v1/authorize/batch", batch.clone()).expect(200);
    }
}

/// An export that is read on by hand.
fn export(server: &Server, key: &str, tenant: &Tenant) -> impl Read + use<> {
    let request = Request::builder()
        .uri(format!("{}/v1/audit/export?format=ndjson&tenantId={}", server.base(), tenant.id))
        .header("Authorization", format!("Bearer {key}"));
    let answer = ureq::agent().run(request.body(()).unwrap()).unwrap();
    let mut body = answer.into_body().into_reader();
    body.read_exact(&mut [0; EACH]).unwrap();
    body
}

#[test]
fn a_long_read_ends_with_the_key_it_began_with() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    large_trail(&operator, &acme);
    let mut exported = export(&server, &acme.key, &acme);
    let mut backlog = Stream::open(server.base(), &acme.key, "since=2000-01-01T00:00:00Z", None).unwrap();
    backlog.take(1);
    operator.delete(&format!("/v1/tenants/acme/keys/{}", acme.key_id)).expect(204);
    let mut rest = Vec::new();
    let broken = exported.read_to_end(&mut rest);
    assert!(broken.is_err(), "it seemed whole, with {} bytes", rest.len());
    let shown = 1 + std::iter::from_fn(|| backlog.next()).count();
    assert!(shown < ENTRIES, "{shown}");
    // An operator's own key is as good as before.
    assert_eq!(operator.trail("tenantId=acme").len(), ENTRIES);
}

#[test]
fn a_long_read_ends_with_its_tenant() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    large_trail(&operator, &acme);
    let mut exports = [export(&server, &acme.key, &acme), export(&server, OPERATOR_KEY, &acme)];
    let mut backlogs = [&*acme.key, OPERATOR_KEY].map(|key| {
        let mut backlog =
            Stream::open(server.base(), key, &format!("since=2000-01-01T00:00:00Z&tenantId={}", acme.id), None)
                .unwrap();
        backlog.take(1);
        backlog
    });
    operator.delete("/v1/tenants/acme?confirm=acme").expect(204);
    for exported in &mut exports {
        let mut rest = Vec::new();
        assert!(exported.read_to_end(&mut rest).is_err(), "it seemed whole, with {} bytes", rest.len());
    }
    for backlog in &mut backlogs {
        let shown = 1 + std::iter::from_fn(|| backlog.next()).count();
        assert!(shown < ENTRIES, "{shown}");
    }
}

//! Long reads of an audit trail, and what ends them: the key, the tenant, an unreadable trail.

use std::fs;
use std::io::Read;

use kavach::domain::Timestamp;
use kavach::journal::DataDir;
use serde_json::json;
use ureq::http::Request;

use crate::audit_streams::damage;
use crate::client::Client;
use crate::events::Stream;
use crate::harness::{OPERATOR_KEY, Options, Server, eventually};
use crate::retention::{now, with_a_past};
use crate::world::{Tenant, call, permits};

/// Entries of a trail far larger than any socket's buffers, and bytes of each one's arguments.
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

/// An export that the test reads by hand.
fn export(server: &Server, key: &str, query: &str) -> impl Read + use<> {
    let request = Request::builder()
        .uri(format!("{}/v1/audit/export?format=ndjson&{query}", server.base()))
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
    let mut exported = export(&server, &acme.key, "");
    let mut backlog = Stream::open(server.base(), &acme.key, "since=2000-01-01T00:00:00Z", None).unwrap();
    backlog.take(1);
    operator.delete(&format!("/v1/tenants/acme/keys/{}", acme.key_id)).expect(204);
    let mut rest = Vec::new();
    let broken = exported.read_to_end(&mut rest);
    assert!(broken.is_err(), "it seemed whole, with {} bytes", rest.len());
    let shown = 1 + std::iter::from_fn(|| backlog.next()).count();
    assert!(shown < ENTRIES, "{shown}");
    // An operator's own key still works.
    assert_eq!(operator.trail("tenantId=acme").len(), ENTRIES);
}

#[test]
fn a_long_read_ends_with_its_tenant() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    large_trail(&operator, &acme);
    // A read of all tenants comes to this one after acme.
    let globex = operator.tenant("globex");
    let other = operator.granted(call(&operator.reader(&globex).id));
    let mut of_all = export(&server, OPERATOR_KEY, "");
    let mut exports = [export(&server, &acme.key, ""), export(&server, OPERATOR_KEY, "tenantId=acme")];
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
    // In a read of all tenants, a vanished one is not missed.
    let mut rest = String::new();
    of_all.read_to_string(&mut rest).unwrap();
    assert!(rest.lines().count() < ENTRIES);
    assert!(rest.lines().last().unwrap().contains(&other), "it goes on with the next");
    for backlog in &mut backlogs {
        let shown = 1 + std::iter::from_fn(|| backlog.next()).count();
        assert!(shown < ENTRIES, "{shown}");
    }
}

#[test]
fn one_unreadable_trail_fails_no_read_of_all_tenants() {
    let server = Server::start();
    let operator = server.operator();
    let tenants = ["acme", "globex", "initech"].map(|slug| operator.tenant(slug));
    let agents = tenants.each_ref().map(|tenant| operator.reader(tenant));
    let mut made: Vec<_> = agents.each_ref().map(|agent| operator.granted(call(&agent.id))).into();
    made.push(operator.granted(call(&agents[0].id)));
    // A checkpoint has the events go into the folder.
    operator.get("/v1/audit/checkpoint?tenantId=globex").expect(200);
    damage(&server.folder(&tenants[1].id), 0);
    let answer = operator.get("/v1/audit?limit=10");
    let shown: Vec<_> = answer.items().iter().map(|entry| entry["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(shown, [&*made[3], &made[2], &made[0]]);
    assert_eq!(answer.header("kavach-unavailable-tenants"), Some(&*tenants[1].id), "who is missing is said");
    operator.get("/v1/audit?tenantId=globex").problem(503, "TENANT_UNAVAILABLE");
    // A stream continues without the unreadable part, and with what comes after it.
    let mut stream = Stream::open(server.base(), OPERATOR_KEY, "since=2000-01-01T00:00:00Z", None).unwrap();
    let mut shown: Vec<_> = stream.take(3).iter().map(|entry| entry["id"].as_str().unwrap().to_owned()).collect();
    shown.sort();
    assert_eq!(shown, [&*made[0], &made[2], &made[3]]);
    operator.granted(call(&agents[2].id));
    assert_eq!(stream.next().unwrap()["tenantId"], json!(tenants[2].id));
    eventually("the log says so", || server.log().contains("a live stream skips to its end").then_some(()));
    // A tenant erased meanwhile is not missed.
    operator.delete("/v1/tenants/globex?confirm=globex").expect(204);
    assert_eq!(operator.get("/v1/audit").header("kavach-unavailable-tenants"), None);
}

#[test]
fn entries_outside_the_requested_time_need_not_be_readable() {
    let root = tempfile::tempdir().unwrap();
    let now = now();
    let data = DataDir::open(root.path()).unwrap();
    let (acme, made) = with_a_past(&data, "acme", None, now);
    drop(data);
    let mut server = Server::start_with(Options { data_dir: Some(root.path().to_owned()), ..Options::default() });
    // Something for a snapshot to cover: the next start does not read what a snapshot covers.
    server.operator().agent("acme", permits("docs:*", &["read"]));
    server.operator().post("/v1/snapshot", json!({})).expect(200);
    server.stop();
    let folder = server.folder(&acme.to_string());
    let middle = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut middle: Vec<_> = middle.filter(|path| path.to_string_lossy().contains(".journal")).collect();
    middle.sort();
    let middle = &middle[middle.len() / 2];
    let mut bytes = fs::read(middle).unwrap();
    let last = bytes.len() - 20;
    bytes[last] ^= 1;
    fs::write(middle, bytes).unwrap();
    server.start_again();
    let operator = server.operator();
    if let Ok(answer) = operator.try_send("GET", "/v1/audit/export?tenantId=acme", &[], None) {
        answer.problem(503, "TENANT_UNAVAILABLE");
    }
    operator.get("/v1/audit?tenantId=acme&limit=1000").problem(503, "TENANT_UNAVAILABLE");
    // Ten days at one end, and ten at the other.
    let (late, early) = (&made[made.len() - 40..], &made[..40]);
    let ids = |entries: &[(i64, String)]| -> Vec<String> { entries.iter().map(|(_, id)| id.clone()).collect() };
    let shown = |query: &str| -> Vec<String> {
        let answer = operator.get(&format!("/v1/audit{query}"));
        assert_eq!(answer.status, 200, "{query}");
        let entries = answer.items();
        entries.iter().map(|entry| entry["id"].as_str().unwrap().to_owned()).collect()
    };
    let since = format!("since={}", Timestamp::from_millis(late[0].0));
    assert_eq!(shown(&format!("/export?tenantId=acme&{since}")), ids(late));
    let mut reversed = ids(late);
    reversed.reverse();
    assert_eq!(shown(&format!("?tenantId=acme&{since}")), reversed);
    let until = format!("until={}", Timestamp::from_millis(made[40].0));
    assert_eq!(shown(&format!("/export?tenantId=acme&{until}")), ids(early));
    let mut reversed = ids(early);
    reversed.reverse();
    assert_eq!(shown(&format!("?tenantId=acme&{until}")), reversed);
}

//! What is read, and what is not.

use serde_json::json;

use super::{come_to_rest, in_memory, keeping, loads, make_tenants};
use crate::damage::files;
use crate::events::Stream;
use crate::harness::{OPERATOR_KEY, Server, eventually};
use crate::world::call;

#[test]
fn the_newest_entries_of_many_idle_tenants_are_found_without_reading_all() {
    let server = Server::start_with(keeping("4"));
    let operator = server.operator();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let operator = server.operator();
            scope.spawn(move || {
                for n in 0..25 {
                    let slug = format!("t-{thread}-{n}");
                    operator.post("/v1/tenants", json!({ "name": slug, "slug": slug })).expect(201);
                }
            });
        }
    });
    come_to_rest(&operator, 4);
    let whole = operator.trail("kind=admin");
    assert_eq!(whole.len(), 200 + 1, "each tenant's creation");
    come_to_rest(&operator, 4);
    let before = loads(&operator);
    let newest = operator.get("/v1/audit?kind=admin&limit=10").items();
    assert_eq!(newest, whole[..10]);
    let read = loads(&operator) - before;
    assert!(read <= 100, "{read} of 200 were read");
    // Their rows say that none of them has anything.
    come_to_rest(&operator, 4);
    let before = loads(&operator);
    for path in ["/v1/tenants", "/v1/agents", "/v1/policies", "/v1/delegations", "/v1/stats"] {
        operator.get(path).expect(200);
    }
    let read = loads(&operator) - before;
    assert!(read <= 4, "{read} were read for lists");
}

#[test]
fn a_live_stream_of_all_tenants_comes_to_rest() {
    let server = Server::start_with(keeping("1"));
    let operator = server.operator();
    let tenants = make_tenants(&operator, 6);
    come_to_rest(&operator, 1);
    let mut stream = Stream::open(server.base(), OPERATOR_KEY, "", None).unwrap();
    let made: Vec<_> = tenants.iter().map(|(_, agent)| operator.granted(call(&agent.id))).collect();
    let mut seen: Vec<_> = stream.take(6).iter().map(|entry| entry["id"].as_str().unwrap().to_owned()).collect();
    seen.sort();
    let mut wanted = made.clone();
    wanted.sort();
    assert_eq!(seen, wanted);
    // Nothing happens any more, so nobody is read.
    let mut before = loads(&operator);
    eventually("nobody is read any more", || {
        let now = loads(&operator);
        let is_quiet = now == before;
        before = now;
        is_quiet.then_some(())
    });
    let again = operator.granted(call(&tenants[3].1.id));
    assert_eq!(stream.next().unwrap()["id"], json!(again));
}

#[test]
fn a_snapshot_of_all_has_tenants_that_leave_meanwhile_too() {
    let server = Server::start_with(keeping("1"));
    let operator = server.operator();
    let tenants = make_tenants(&operator, 12);
    for _ in 0..3 {
        for (_, agent) in &tenants {
            operator.granted(call(&agent.id));
        }
        // Several at once, so that a tenant may be asked again while its snapshot is written.
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let operator = server.operator();
                scope.spawn(move || {
                    let answer = operator.post("/v1/snapshot", json!({})).expect(200);
                    assert_eq!(answer, json!({ "tenants": 13 }));
                });
            }
        });
    }
    for (tenant, _) in &tenants {
        assert!(!files(&server.folder(&tenant.id), ".snapshot").is_empty(), "{}", tenant.slug);
    }
}

#[test]
fn tenants_in_memory_are_counted() {
    let server = Server::start_with(keeping("3"));
    let operator = server.operator();
    make_tenants(&operator, 8);
    come_to_rest(&operator, 3);
    let (resident, known) = in_memory(&operator);
    assert!(resident >= 1 && known == 9, "{resident} of {known}");
    operator.delete("/v1/tenants/t5?confirm=t5").expect(204);
    assert_eq!(in_memory(&operator).1, 8);
    // All of them are read, and leave again.
    assert_eq!(operator.trail("kind=admin&actions=agent.create").len(), 7);
    come_to_rest(&operator, 3);
}

#[test]
fn nobody_can_be_kept_in_memory_when_nobody_may() {
    let refused = Server::start().second_process().args(["--resident-tenants", "0"]).output().unwrap();
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--resident-tenants"));
}

//! Tenants that are made, erased, damaged, or past their retention, while they are not in memory.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::sync::Mutex;

use kavach::journal::DataDir;
use serde_json::{Value, json};

use super::{come_to_rest, in_memory, keeping, keeping_in_process, make_tenants};
use crate::damage::{files, flip_middle};
use crate::harness::{OPERATOR_KEY, Options, Server, eventually};
use crate::retention::{A_DAY, DAYS, now, segments, with_a_past};
use crate::world::call;

#[test]
fn a_damaged_tenant_is_found_when_somebody_calls_it() {
    let mut server = Server::start_with(keeping("2"));
    let operator = server.operator();
    let tenants = make_tenants(&operator, 5);
    tenants.iter().for_each(|(_, agent)| drop(operator.granted(call(&agent.id))));
    server.stop();
    let (acme, agent) = &tenants[1];
    let folder = server.folder(&acme.id);
    files(&folder, ".snapshot").iter().for_each(|path| fs::remove_file(path).unwrap());
    flip_middle(&files(&folder, ".journal")[0]);
    let damaged = fs::read(&files(&folder, ".journal")[0]).unwrap();
    server.start_again();
    let operator = server.operator();
    // Nobody knows yet.
    assert_eq!(operator.get("/readyz").expect(200)["unavailableTenants"], json!([]));
    assert_eq!(operator.get("/v1/tenants").items().len(), 5);
    // Several callers at once, all of them the first.
    std::thread::scope(|scope| {
        for n in 0..6 {
            let (server, acme, agent) = (&server, &acme, &agent);
            scope.spawn(move || {
                let answer = match n % 3 {
                    0 => server.with_key(&agent.token).authorize(call(&agent.id)),
                    1 => server.with_key(&acme.key).get("/v1/agents"),
                    _ => server.operator().get(&format!("/v1/tenants/{}", acme.slug)),
                };
                let reason = answer.problem(503, "TENANT_UNAVAILABLE");
                assert_eq!(reason, "the tenant's data can't be read; the server's log says why");
            });
        }
    });
    for (other, agent) in tenants.iter().filter(|(other, _)| other.id != acme.id) {
        server.with_key(&agent.token).granted(call(&agent.id));
        server.with_key(&other.key).get("/v1/agents").expect(200);
    }
    operator.post("/v1/tenants", json!({ "name": "x", "slug": acme.slug })).problem(409, "SLUG_TAKEN");
    let ready = operator.get("/readyz").expect(200);
    assert_eq!(ready["status"], "ready");
    let down = ready["unavailableTenants"].as_array().unwrap();
    assert_eq!((down.len(), &down[0]["tenant"]), (1, &json!(acme.id)));
    for path in ["/v1/tenants", "/v1/agents", "/v1/audit", "/v1/policies"] {
        let list = operator.get(path);
        assert_eq!((list.status, list.header("kavach-unavailable-tenants")), (200, Some(&*acme.id)), "{path}");
    }
    let counted = operator.get("/v1/stats").expect(200);
    assert_eq!(counted["tenants"], json!({ "active": 5, "suspended": 0, "unavailable": 1 }));
    come_to_rest(&operator, 2);
    assert!(server.log().contains(files(&folder, ".journal")[0].to_str().unwrap()), "the log names the file");
    server.stop();
    assert_eq!(fs::read(&files(&folder, ".journal")[0]).unwrap(), damaged);
}

/// That a tenant is gone, and its slug is somebody's who is new.
fn check_gone(server: &mut Server, id: &str, slug: &str, token: &str) {
    let operator = server.operator();
    operator.get(&format!("/v1/tenants/{id}")).problem(404, "TENANT_NOT_FOUND");
    server.with_key(token).authorize(json!({ "action": "read", "resource": "docs:1" })).problem(401, "INVALID_TOKEN");
    assert!(!server.folder(id).exists());
    let again = operator.tenant(slug);
    assert_ne!(again.id, id);
    assert_eq!(operator.get(&format!("/v1/agents?tenantId={slug}")).items(), Vec::<Value>::new());
}

#[test]
fn an_idle_tenant_is_erased_and_does_not_come_back() {
    let mut server = Server::start_with(keeping("1"));
    let operator = server.operator();
    let tenants = make_tenants(&operator, 8);
    tenants.iter().for_each(|(_, agent)| drop(operator.granted(call(&agent.id))));
    come_to_rest(&operator, 1);
    let of = |server: &Server| {
        let tenants = server.operator().get("/v1/tenants").items();
        let mut slugs: Vec<_> = tenants.iter().map(|tenant| tenant["slug"].as_str().unwrap().to_owned()).collect();
        slugs.sort();
        slugs
    };
    for (n, (tenant, agent)) in tenants.iter().take(3).enumerate() {
        let path = format!("/v1/tenants/{}?confirm={}", tenant.slug, tenant.slug);
        server.operator().delete(&path).expect(204);
        server.operator().delete(&path).problem(404, "TENANT_NOT_FOUND");
        check_gone(&mut server, &tenant.id, &tenant.slug, &agent.token);
        if n % 2 == 0 {
            server.crash_and_start()
        } else {
            server.stop();
            server.start_again()
        }
        assert_eq!(of(&server), (0..8).map(|n| format!("t{n}")).collect::<Vec<_>>());
        server.operator().get(&format!("/v1/tenants/{}", tenant.id)).problem(404, "TENANT_NOT_FOUND");
        assert!(!server.folder(&tenant.id).exists());
    }
    // Their ends are in the default tenant's trail, with what they were.
    let ends = server.operator().trail("tenantId=default&kind=admin&actions=tenant.delete");
    assert_eq!(ends.len(), 3);
    assert!(ends.iter().all(|entry| entry["before"]["status"] == "active"), "{ends:?}");
    let limit = server.operator().get("/v1/stats").expect(200)["tenants"].clone();
    assert_eq!(limit, json!({ "active": 9, "suspended": 0, "unavailable": 0 }));
}

#[test]
fn tenants_are_erased_while_they_leave_and_while_they_are_read() {
    let args = ["--resident-tenants", "1", "--trusted-proxies", "127.0.0.1"];
    let mut server = Server::start_with(Options::args(&args));
    let operator = server.operator();
    let tenants = make_tenants(&operator, 24);
    // Callers have all of them come and go, and each is erased in the middle of that.
    let gone: Mutex<HashSet<&str>> = Mutex::default();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (server, tenants, gone) = (&server, &tenants, &gone);
            scope.spawn(move || {
                for n in 0..120 {
                    let (tenant, agent) = &tenants[(n * 7 + thread * 5) % tenants.len()];
                    // Each invalid token comes from its own address, so that none is refused for being one of many.
                    let address = format!("10.0.{thread}.{n}");
                    let was_gone = gone.lock().unwrap().contains(&*tenant.id);
                    let client = server.with_key(&agent.token).forwarded_for(&address);
                    let answer = client.authorize(call(&agent.id));
                    match answer.status {
                        200 => assert!(!was_gone, "it was erased before"),
                        // While it is being erased.
                        503 => {}
                        _ => drop(answer.problem(401, "INVALID_TOKEN")),
                    }
                }
            });
        }
        for thread in 0..2 {
            let (operator, tenants, gone) = (server.operator(), &tenants, &gone);
            scope.spawn(move || {
                for (tenant, _) in tenants.iter().skip(thread).step_by(2).take(10) {
                    operator.delete(&format!("/v1/tenants/{}?confirm={}", tenant.slug, tenant.slug)).expect(204);
                    gone.lock().unwrap().insert(&tenant.id);
                    let made =
                        operator.post("/v1/tenants", json!({ "name": "again", "slug": tenant.slug })).expect(201);
                    assert_ne!(made["id"], tenant.id.as_str());
                }
            });
        }
    });
    come_to_rest(&operator, 1);
    assert_eq!(in_memory(&operator).1, 25);
    for restart in 0..3 {
        let operator = server.operator();
        let listed = operator.get("/v1/tenants").items();
        assert_eq!(listed.len(), 24, "after {restart} starts");
        for (n, (tenant, agent)) in tenants.iter().enumerate() {
            let is_gone = n < 20;
            assert_eq!(server.folder(&tenant.id).exists(), !is_gone);
            assert_eq!(listed.iter().any(|one| one["id"] == tenant.id.as_str()), !is_gone);
            let found = operator.get(&format!("/v1/tenants/{}", tenant.slug)).expect(200);
            assert_eq!(found["name"] == "again", is_gone);
            if !is_gone {
                server.with_key(&agent.token).granted(call(&agent.id));
            }
        }
        assert_eq!(operator.get("/readyz").expect(200)["unavailableTenants"], json!([]));
        if restart == 1 {
            server.crash_and_start()
        } else {
            server.stop();
            server.start_again()
        }
    }
    assert!(!server.log().contains("panicked"));
}

#[test]
fn of_tenants_made_at_once_with_one_slug_one_is_made() {
    let server = Server::start_with(keeping("4"));
    let answers = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for n in 0..200 {
            let (operator, answers) = (server.operator(), &answers);
            // Forty slugs have four callers each, and forty callers have none.
            let slug = if n < 160 { json!(format!("s{}", n % 40)) } else { json!(format!("own-{n}")) };
            scope.spawn(move || {
                let answer = operator.post("/v1/tenants", json!({ "name": format!("n{n}"), "slug": slug }));
                answers.lock().unwrap().push((slug.as_str().unwrap().to_owned(), answer));
            });
        }
    });
    let mut made: HashMap<String, Vec<Value>> = HashMap::new();
    for (slug, answer) in answers.into_inner().unwrap() {
        match answer.status {
            201 => made.entry(slug).or_default().push(answer.json()),
            _ => drop(answer.problem(409, "SLUG_TAKEN")),
        }
    }
    let operator = server.operator();
    assert_eq!(made.len(), 80);
    let listed = operator.get("/v1/tenants").items();
    assert_eq!(listed.len(), 80);
    for (slug, made) in &made {
        let [one] = &made[..] else { panic!("{slug}: {made:?}") };
        let found = operator.get(&format!("/v1/tenants/{slug}")).expect(200);
        assert_eq!(&found, one);
        assert!(listed.contains(one));
    }
    assert_eq!(operator.trail("kind=admin&actions=tenant.create").len(), 81);
    come_to_rest(&operator, 4);
}

#[test]
fn an_idle_tenants_old_segments_are_removed() {
    const MINUTE: i64 = 60_000;
    let root = tempfile::tempdir().unwrap();
    let (data, now) = (DataDir::open(root.path()).unwrap(), now());
    // A day of it is within the retention for half an hour more.
    let (old, made) = with_a_past(&data, "old", Some(30), now + 30 * MINUTE);
    drop(data);
    let server = keeping_in_process(root.path(), 1);
    let operator = server.with_key(OPERATOR_KEY);
    let folder = root.path().join(old.to_string());
    let agent = operator.agent("old", json!([{ "resource": "docs:*", "actions": ["read"] }]));
    // What is past it already goes once two snapshots cover it, and it is compressed. Its last day is not.
    let last_day = 2 + (DAYS as u64 / 2 - 1) * A_DAY;
    eventually("old segments are removed", || {
        operator.granted(call(&agent.id));
        operator.post("/v1/snapshot", json!({})).expect(200);
        (segments(&folder)[0] == last_day).then_some(())
    });
    let other = operator.tenant("other");
    operator.get(&format!("/v1/tenants/{}", other.id)).expect(200);
    come_to_rest(&operator, 1);
    let round = || actix_rt::System::new().block_on(server.kavach.inject_retention_round());
    round();
    assert_eq!(segments(&folder)[0], last_day, "nothing is past it yet");
    server.kavach.inject_clock_step(50 * MINUTE);
    round();
    assert_eq!(segments(&folder)[0], last_day + A_DAY);
    assert_eq!(operator.trail("tenantId=old&result=denied").len(), made.len() / 2 - A_DAY as usize);
    server.end();
}

#[test]
fn those_of_a_tenant_that_was_not_called_since_the_start_too() {
    const MINUTE: i64 = 60_000;
    let root = tempfile::tempdir().unwrap();
    let (data, now) = (DataDir::open(root.path()).unwrap(), now());
    let (old, _) = with_a_past(&data, "old", Some(30), now + 30 * MINUTE);
    drop(data);
    let folder = root.path().join(old.to_string());
    {
        let server = keeping_in_process(root.path(), 8);
        let operator = server.with_key(OPERATOR_KEY);
        let agent = operator.agent("old", json!([{ "resource": "docs:*", "actions": ["read"] }]));
        eventually("old segments are removed", || {
            operator.granted(call(&agent.id));
            operator.post("/v1/snapshot", json!({})).expect(200);
            (segments(&folder)[0] == 2 + (DAYS as u64 / 2 - 1) * A_DAY).then_some(())
        });
        server.end();
    }
    // The catalog is lost: the row is made of what the folder has.
    fs::remove_file(root.path().join("catalog")).unwrap();
    let server = keeping_in_process(root.path(), 8);
    server.kavach.inject_clock_step(50 * MINUTE);
    actix_rt::System::new().block_on(server.kavach.inject_retention_round());
    assert_eq!(segments(&folder)[0], 2 + DAYS as u64 / 2 * A_DAY);
    server.end();
}

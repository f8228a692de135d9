//! The catalog: what is known of each tenant without reading it holds after a stop and after a crash; and nothing is true
//! only because it is in there.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{come_to_rest, keeping, listed, loads, make_tenants};
use crate::copied_folders::copy;
use crate::harness::Server;
use crate::world::{Agent, Tenant, call};

const TENANTS: usize = 8;

fn catalog(server: &Server) -> std::path::PathBuf {
    server.data_dir().join("catalog")
}

/// Tenants that differ: one is suspended, one renamed, and some have agents that were revoked.
fn world(server: &Server) -> Vec<(Tenant, Agent)> {
    let operator = server.operator();
    let tenants = make_tenants(&operator, TENANTS);
    for (n, (tenant, agent)) in tenants.iter().enumerate() {
        for _ in 0..=n {
            operator.granted(call(&agent.id));
        }
        if n % 3 == 1 {
            operator.delete(&format!("/v1/agents/{}", agent.id)).expect(204);
        }
        if n % 2 == 1 {
            operator.policy(tenant.id.as_str(), json!({ "limits": { "maxCallsPerDay": 1_000 } }));
        }
    }
    // These come back for it, so their rows are not their first ones.
    operator.post("/v1/tenants/t2/suspend", json!({})).expect(200);
    operator.patch("/v1/tenants/t5", json!({ "name": "Five" })).expect(200);
    tenants
}

/// The tenants as they are listed without being read.
fn statuses(server: &Server) -> Vec<String> {
    let tenants = server.operator().get("/v1/tenants").items();
    tenants
        .iter()
        .map(|tenant| format!("{} {}", tenant["name"].as_str().unwrap(), tenant["status"].as_str().unwrap()))
        .collect()
}

const STATUSES: [&str; TENANTS] =
    ["t0 active", "t1 active", "t2 suspended", "t3 active", "t4 active", "Five active", "t6 active", "t7 active"];

#[test]
fn after_a_stop_lists_are_made_of_rows() {
    let mut server = Server::start_with(keeping("2"));
    world(&server);
    let before = listed(&server.operator());
    for round in 0..2 {
        server.stop();
        server.start_again();
        let operator = server.operator();
        assert_eq!(statuses(&server), STATUSES);
        let counted = operator.get("/v1/stats").expect(200);
        assert_eq!(counted["tenants"], json!({ "active": 8, "suspended": 1, "unavailable": 0 }));
        assert_eq!(counted["agents"], json!({ "active": 5, "revoked": 3, "expired": 0 }));
        assert_eq!(loads(&operator), 0, "start {round}");
        // Those that left with few events have none yet.
        operator.post("/v1/snapshot", json!({})).expect(200);
        assert_eq!(loads(&operator) > 0, round == 0);
        assert_eq!(listed(&operator), before);
    }
}

#[test]
fn after_a_crash_they_say_what_is_true() {
    let mut server = Server::start_with(keeping("2"));
    let tenants = world(&server);
    let operator = server.operator();
    let before = listed(&operator);
    come_to_rest(&operator, 2);
    for round in 0..2 {
        server.kill();
        server.start_again();
        let operator = server.operator();
        assert_eq!(statuses(&server), STATUSES, "start {round}");
        let counted = operator.get("/v1/stats").expect(200);
        assert_eq!(counted["tenants"], json!({ "active": 8, "suspended": 1, "unavailable": 0 }));
        assert_eq!(counted["agents"], json!({ "active": 5, "revoked": 3, "expired": 0 }));
        assert_eq!(listed(&operator), before, "start {round}");
    }
    // Rows of an earlier start are outdated now, for some with a second crash between.
    for (n, (tenant, _)) in tenants.iter().enumerate() {
        let change = if tenant.slug == "t2" { "activate" } else { "suspend" };
        server.operator().post(&format!("/v1/tenants/{}/{change}", tenant.slug), json!({})).expect(200);
        if n % 4 == 0 {
            server.crash_and_start();
        }
    }
    for round in 0..2 {
        server.crash_and_start();
        for status in statuses(&server) {
            assert_eq!(status.ends_with("suspended"), !status.starts_with("t2"), "start {round}: {status}");
        }
        let counted = server.operator().get("/v1/stats").expect(200);
        assert_eq!(counted["tenants"], json!({ "active": 2, "suspended": 7, "unavailable": 0 }));
    }
}

/// Damages the catalog in one way, and checks that everything is as before. With `crash` the server is killed before,
/// else stopped.
fn check_damaged(server: &mut Server, crash: bool, what: &str, before: &Value, damage: impl FnOnce(&Path)) {
    if crash {
        server.kill()
    } else {
        server.stop()
    }
    damage(&catalog(server));
    server.start_again();
    assert_eq!(statuses(server), STATUSES, "{what}");
    let now = listed(&server.operator());
    for (member, before) in before.as_object().unwrap() {
        assert_eq!(&now[member], before, "{what}: {member}");
    }
}

fn cut(path: &Path, length: usize) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..length.min(bytes.len())]).unwrap();
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = at.min(bytes.len() - 1);
    bytes[at] ^= 0x20;
    fs::write(path, bytes).unwrap();
}

fn damage_everywhere(crash: bool) {
    let mut server = Server::start_with(keeping("2"));
    world(&server);
    let before = listed(&server.operator());
    come_to_rest(&server.operator(), 2);
    check_damaged(&mut server, crash, "removed", &before, |path| fs::remove_file(path).unwrap());
    check_damaged(&mut server, crash, "replaced", &before, |path| fs::write(path, b"something else").unwrap());
    for thirds in 0..3 {
        // Rows that are newer than others, in batches of their own.
        let operator = server.operator();
        operator.patch("/v1/tenants/t6", json!({ "name": "Six" })).expect(200);
        operator.patch("/v1/tenants/t6", json!({ "name": "t6" })).expect(200);
        operator.post("/v1/tenants/t2/activate", json!({})).expect(200);
        operator.post("/v1/tenants/t2/suspend", json!({})).expect(200);
        let before = listed(&operator);
        come_to_rest(&operator, 2);
        // Not in the version, which is another matter.
        let place = |path: &Path, sixths: usize| (fs::metadata(path).unwrap().len() as usize * sixths / 6).max(10);
        check_damaged(&mut server, crash, &format!("cut at {thirds} thirds"), &before, |path| {
            cut(path, place(path, 2 * thirds))
        });
        check_damaged(&mut server, crash, &format!("flipped behind {thirds} thirds"), &before, |path| {
            flip(path, place(path, 2 * thirds + 1))
        });
    }
    let before = listed(&server.operator());
    check_damaged(&mut server, crash, "its last byte is gone", &before, |path| {
        cut(path, fs::metadata(path).unwrap().len() as usize - 1)
    });
    check_damaged(&mut server, crash, "its last byte is flipped", &before, |path| flip(path, usize::MAX));
}

#[test]
fn a_catalog_damaged_after_a_stop_costs_nothing_but_a_slow_start() {
    damage_everywhere(false);
}

#[test]
fn a_catalog_damaged_after_a_crash_costs_nothing_but_a_slow_start() {
    damage_everywhere(true);
}

#[test]
fn a_row_without_a_folder_is_forgotten_and_a_folder_without_a_row_is_read() {
    let mut server = Server::start_with(keeping("2"));
    let tenants = world(&server);
    let before = listed(&server.operator());
    server.stop();
    // Moved away, and for a while nobody has it.
    let (tenant, agent) = &tenants[3];
    let away = server.data_dir().parent().unwrap().join("away");
    fs::rename(server.folder(&tenant.id), &away).unwrap();
    server.start_again();
    let operator = server.operator();
    operator.get("/v1/tenants/t3").problem(404, "TENANT_NOT_FOUND");
    operator.get(&format!("/v1/agents/{}", agent.id)).problem(404, "AGENT_NOT_FOUND");
    server.with_key(&agent.token).authorize(call(&agent.id)).problem(401, "INVALID_TOKEN");
    assert_eq!(operator.get("/v1/tenants").items().len(), TENANTS - 1);
    assert_eq!(
        operator.get("/v1/stats").expect(200)["tenants"],
        json!({ "active": 7, "suspended": 1, "unavailable": 0 })
    );
    assert_eq!(operator.get("/readyz").expect(200)["unavailableTenants"], json!([]));
    // Its slug is free, and a tenant that has it meanwhile goes again.
    let other = operator.tenant("t3");
    operator.delete("/v1/tenants/t3?confirm=t3").expect(204);
    server.stop();
    assert!(!server.folder(&other.id).exists());
    copy(&away, &server.folder(&tenant.id), "");
    server.start_again();
    let operator = server.operator();
    let now = listed(&operator);
    for member in ["tenants", "policies", "delegations", "counted", "ready"] {
        assert_eq!(now[member], before[member], "{member}");
    }
    assert_eq!(now["agents"].as_array().unwrap().len(), before["agents"].as_array().unwrap().len());
    server.with_key(&agent.token).granted(call(&agent.id));
    assert_eq!(statuses(&server), STATUSES);
}

#[test]
fn a_folder_that_was_restored_counts_once_the_catalog_is_made_anew() {
    let mut server = Server::start_with(keeping("2"));
    let tenants = world(&server);
    let (tenant, agent) = &tenants[6];
    server.stop();
    let away = server.data_dir().parent().unwrap().join("away");
    copy(&server.folder(&tenant.id), &away, "");
    server.start_again();
    let operator = server.operator();
    operator.granted(call(&agent.id));
    operator.post("/v1/tenants/t6/suspend", json!({})).expect(200);
    operator.patch("/v1/tenants/t6", json!({ "name": "Six" })).expect(200);
    server.stop();
    fs::remove_dir_all(server.folder(&tenant.id)).unwrap();
    copy(&away, &server.folder(&tenant.id), "");
    fs::remove_file(catalog(&server)).unwrap();
    server.start_again();
    assert_eq!(statuses(&server), STATUSES);
    server.with_key(&agent.token).granted(call(&agent.id));
}

/// Every file and folder with its size and the time of its last change.
fn everything(folder: &Path, found: &mut BTreeMap<String, Option<Vec<u8>>>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            found.insert(path.display().to_string(), None);
            everything(&path, found);
        } else {
            found.insert(path.display().to_string(), Some(fs::read(&path).unwrap()));
        }
    }
}

#[test]
fn a_catalog_of_a_newer_version_keeps_the_server_from_starting_and_nothing_is_changed() {
    let mut server = Server::start_with(keeping("2"));
    world(&server);
    let before = listed(&server.operator());
    server.stop();
    let good = fs::read(catalog(&server)).unwrap();
    let mut newer = good.clone();
    newer[8] = 2;
    fs::write(catalog(&server), &newer).unwrap();
    let snapshot = |server: &Server| {
        let mut found = BTreeMap::new();
        everything(&server.data_dir(), &mut found);
        found
    };
    let on_disk = snapshot(&server);
    for _ in 0..2 {
        let said = server.try_start_again().unwrap_err();
        let sentence = said.lines().find(|line| line.starts_with("kavach: ")).unwrap_or_else(|| panic!("{said}"));
        assert!(sentence.contains(catalog(&server).to_str().unwrap()), "{sentence}");
        assert!(sentence.contains("format version 2") && sentence.contains("remove the file"), "{sentence}");
        assert!(!said.contains("panicked"), "{said}");
        let now = snapshot(&server);
        let names = |files: &BTreeMap<String, _>| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&now), names(&on_disk));
        assert!(now == on_disk, "no content is changed");
    }
    fs::remove_file(catalog(&server)).unwrap();
    server.start_again();
    assert_eq!(listed(&server.operator()), before);
}

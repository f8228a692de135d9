//! Damaged files: only their tenant stays down, and its names stay taken.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::harness::Server;
use crate::world::{Agent, Tenant, call};

/// Two tenants with an agent each and some calls, stopped cleanly.
fn stopped() -> (Server, [(Tenant, Agent); 2]) {
    let mut server = Server::start();
    let operator = server.operator();
    let made = ["acme", "globex"].map(|slug| {
        let tenant = operator.tenant(slug);
        let agent = operator.reader(&tenant);
        for _ in 0..20 {
            operator.granted(call(&agent.id));
        }
        (tenant, agent)
    });
    server.stop();
    (server, made)
}

pub fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = paths.filter(|path| path.to_string_lossy().ends_with(ending)).collect();
    found.sort();
    found
}

pub fn flip_middle(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_tenant_with_a_damaged_journal_stays_down_alone() {
    let (mut server, [(acme, agent), (globex, other)]) = stopped();
    let folder = server.folder(&acme.id);
    for snapshot in files(&folder, ".snapshot") {
        fs::remove_file(snapshot).unwrap();
    }
    let journals = files(&folder, ".journal");
    assert_eq!(journals.len(), 1);
    let healthy = fs::read(&journals[0]).unwrap();
    flip_middle(&journals[0]);
    let damaged = fs::read(&journals[0]).unwrap();
    server.start_again();

    // Its calls and tokens, in every way.
    let operator = server.operator();
    let code = "TENANT_UNAVAILABLE";
    server.with_key(&agent.token).authorize(call(&agent.id)).problem(503, code);
    server.with_key(&acme.key).authorize(call(&agent.id)).problem(503, code);
    server.with_key(&acme.key).get("/v1/agents").problem(503, code);
    operator.authorize(call(&agent.id)).problem(503, code);
    operator.get(&format!("/v1/agents/{}", agent.id)).problem(503, code);
    for name in ["acme", &acme.id] {
        operator.get(&format!("/v1/tenants/{name}")).problem(503, code);
        operator.patch(&format!("/v1/tenants/{name}"), json!({ "name": "x" })).problem(503, code);
        operator.post(&format!("/v1/tenants/{name}/authorize"), call(&agent.id)).problem(503, code);
        operator.get(&format!("/v1/audit?tenantId={name}")).problem(503, code);
    }
    let batch = json!({ "requests": [call(&agent.id), call(&other.id)] });
    let results = operator.post("/v1/authorize/batch", batch).expect(200);
    assert_eq!((&results["results"][0]["code"], &results["results"][1]["allowed"]), (&json!(code), &json!(true)));
    // Its names are taken, the server is ready and reports the missing tenant, and the reason is in the log.
    operator.post("/v1/tenants", json!({ "name": "Acme", "slug": "acme" })).problem(409, "SLUG_TAKEN");
    let ready = server.anonymous().get("/readyz").expect(200);
    assert_eq!(ready["status"], "ready");
    let listed = ready["unavailableTenants"].as_array().unwrap();
    assert_eq!((listed.len(), &listed[0]["tenant"], &listed[0]["code"]), (1, &json!(acme.id), &json!(code)));
    assert!(server.log().contains(journals[0].to_str().unwrap()), "the log names the file");
    // The others work.
    server.with_key(&other.token).granted(call(&other.id));
    operator.patch("/v1/tenants/globex", json!({ "name": "Globex 2" })).expect(200);
    operator.tenant("initech");
    assert_eq!(operator.trail("").len(), 22);
    // A list over all tenants names the missing ones.
    for path in ["/v1/tenants", "/v1/agents", "/v1/policies", "/v1/delegations", "/v1/audit"] {
        let list = operator.get(path);
        assert_eq!((list.status, list.header("kavach-unavailable-tenants")), (200, Some(&*acme.id)), "{path}");
    }
    operator.get("/v1/agents?tenantId=acme").problem(503, code);
    assert_eq!(server.with_key(&globex.key).get("/v1/agents").items().len(), 1);
    operator.post("/v1/snapshot", json!({})).expect(200);

    // The damage was not overwritten, so the restored file brings the tenant back.
    server.stop();
    assert_eq!(fs::read(&journals[0]).unwrap(), damaged);
    fs::write(&journals[0], healthy).unwrap();
    server.start_again();
    server.with_key(&agent.token).granted(call(&agent.id));
    assert_eq!(server.operator().trail("tenantId=acme").len(), 21);
    assert_eq!(server.anonymous().get("/readyz").expect(200)["unavailableTenants"], json!([]));
}

#[test]
fn a_tenant_that_is_down_can_be_erased() {
    let (mut server, [(acme, agent), _]) = stopped();
    for path in files(&server.folder(&acme.id), ".snapshot") {
        fs::remove_file(path).unwrap();
    }
    flip_middle(&files(&server.folder(&acme.id), ".journal")[0]);
    server.start_again();
    let operator = server.operator();
    operator.delete("/v1/tenants/acme?confirm=wrong").problem(400, "CONFIRMATION_REQUIRED");
    operator.delete("/v1/tenants/acme?confirm=acme").expect(204);
    assert!(!server.folder(&acme.id).exists());
    server.with_key(&agent.token).authorize(call(&agent.id)).problem(401, "INVALID_TOKEN");
    assert_eq!(server.anonymous().get("/readyz").expect(200)["unavailableTenants"], json!([]));
    operator.tenant("acme");
}

#[test]
fn a_damaged_snapshot_costs_nothing_but_the_replay() {
    let (mut server, [(acme, agent), _]) = stopped();
    server.start_again();
    let before = server.operator().all_of("acme");
    server.stop();
    let snapshots = files(&server.folder(&acme.id), ".snapshot");
    assert!(!snapshots.is_empty());
    for snapshot in snapshots {
        flip_middle(&snapshot);
    }
    server.start_again();
    assert_eq!(server.operator().all_of("acme"), before);
    server.with_key(&agent.token).granted(call(&agent.id));
}

#[test]
fn a_torn_end_of_a_journal_is_cut_and_the_rest_is_there() {
    let (mut server, [(acme, agent), _]) = stopped();
    server.start_again();
    let before = server.operator().all_of("acme");
    server.kill();
    let journal = files(&server.folder(&acme.id), ".journal").pop().unwrap();
    let mut bytes = fs::read(&journal).unwrap();
    bytes.extend_from_slice(&[0x55; 37]);
    fs::write(&journal, bytes).unwrap();
    server.start_again();
    assert_eq!(server.operator().all_of("acme"), before);
    server.with_key(&agent.token).granted(call(&agent.id));
    server.crash_and_start();
    assert_eq!(server.operator().trail("tenantId=acme").len(), 21);
}

#[test]
fn folders_that_belong_to_no_tenant_are_left_alone() {
    let (mut server, _) = stopped();
    let strange = server.folder("lost+found");
    fs::create_dir(&strange).unwrap();
    fs::write(strange.join("file"), b"mine").unwrap();
    fs::write(server.data_dir().join("notes.txt"), b"mine").unwrap();
    // A tenant's empty folder keeps its id taken, and affects no other.
    let empty = "tnt_0190a0000000700080000000deadbeef";
    fs::create_dir(server.folder(empty)).unwrap();
    server.start_again();
    assert_eq!(server.operator().get("/v1/tenants").items().len(), 2);
    server.operator().get(&format!("/v1/tenants/{empty}")).problem(503, "TENANT_UNAVAILABLE");
    server.stop();
    assert_eq!(fs::read(strange.join("file")).unwrap(), b"mine");
}

//! Storage that fails for a while: calls that need it are refused, reads continue, and service resumes by itself.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Resource, Rlimit, prlimit};
use serde_json::{Value, json};

use crate::budgets::{costing, settle_into_the_day};
use crate::damage::files;
use crate::events::Stream;
use crate::harness::{OPERATOR_KEY, Options, Server, eventually};
use crate::holds::holding;
use crate::places::{Frozen, Mount};
use crate::world::{Agent, audit_id, call};

/// Limits the size of the server's files (`EFBIG`), or lifts the limit.
pub fn limit_files(server: &Server, limit: Option<u64>) {
    prlimit(Some(server.pid()), Resource::Fsize, Rlimit { current: limit, maximum: None }).unwrap();
}

/// Bytes of the largest file under a folder, without the log, which has all its space from the start.
fn largest_file(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let sizes = entries.filter(|entry| entry.file_name() != "log").map(|entry| {
        let data = entry.metadata().unwrap();
        if data.is_dir() { largest_file(&entry.path()) } else { data.len() }
    });
    sizes.max().unwrap_or(0)
}

/// What must hold from the moment when nothing can be written until it can again.
fn check_outage(server: &mut Server, agent: &Agent, before: &Value, repair: impl FnOnce(&Server)) {
    let operator = server.operator();
    // The first call finds out; while the tenant is loaded again, the reason may be another.
    let refused = operator.authorize(call(&agent.id));
    assert_eq!(refused.status, 503, "{}", refused.text());
    check_refused(server, agent);
    let new = json!({ "tenantId": "acme", "ownerId": "u", "name": "b", "type": "service" });
    for _ in 0..3 {
        server.with_key(&agent.token).authorize(call(&agent.id)).problem(503, "STORAGE_UNAVAILABLE");
        operator.post("/v1/agents", new.clone()).problem(503, "STORAGE_UNAVAILABLE");
        operator.patch("/v1/tenants/acme", json!({ "name": "x" })).problem(503, "STORAGE_UNAVAILABLE");
        // Reads work, and show the old state.
        assert_eq!(&operator.all_of("acme"), before);
        let explained = operator.post("/v1/authorize/explain", call(&agent.id)).expect(200);
        assert_eq!(explained["allowed"], true);
    }
    assert!(server.is_running());
    repair(server);
    let operator = server.operator();
    eventually("service resumes", || (operator.authorize(call(&agent.id)).status == 200).then_some(()));
    let storage = || server.anonymous().get("/readyz").json()["storage"].clone();
    eventually("the probe reports it", || (storage() == "ok").then_some(()));
    server.with_key(&agent.token).granted(call(&agent.id));
    operator.tenant("initech");
    operator.post("/v1/agents", new).expect(201);
    let after = operator.all_of("acme");
    let count = |all: &Value| all["decisions"].as_array().unwrap().len();
    assert_eq!(count(&after), count(before) + 2, "what was refused is not in the trail");
    server.crash_and_start();
    assert_eq!(server.operator().all_of("acme"), after);
}

#[test]
fn reads_continue_if_files_cannot_grow_and_service_resumes() {
    let options = Options { ignore_file_size_signal: true, ..Options::default() };
    let mut server = Server::start_with(options);
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    for _ in 0..5 {
        operator.granted(call(&agent.id));
    }
    let before = operator.all_of("acme");
    limit_files(&server, Some(largest_file(&server.data_dir())));
    check_outage(&mut server, &agent, &before, |server| limit_files(server, None));
}

#[test]
fn a_hold_whose_time_is_over_holds_nobody_up_while_nothing_can_be_recorded() {
    settle_into_the_day();
    let options = Options { ignore_file_size_signal: true, ..Options::default() };
    let server = Server::start_with(options);
    let operator = server.operator();
    let (acme, globex) = (operator.tenant("acme"), operator.tenant("globex"));
    let (agent, other) = (operator.reader(&acme), operator.reader(&globex));
    let policy = operator.policy("acme", json!({ "limits": { "maxTokensCostPerDay": 1 } }));
    let held = audit_id(&operator.authorize(holding(&agent.id, "0.6", 1)).expect(200));
    limit_files(&server, Some(largest_file(&server.data_dir())));
    check_refused(&server, &agent);
    let is_held = || operator.policy_of(&policy)["windows"][0]["tokensCostHeld"] != 0;
    eventually("its time is over", || (!is_held()).then_some(()));
    for _ in 0..3 {
        operator.authorize(costing(&agent.id, "0.5")).problem(503, "STORAGE_UNAVAILABLE");
        let batch = json!({ "requests": [call(&agent.id), call(&agent.id)] });
        let answers = operator.post("/v1/authorize/batch", batch).expect(200);
        assert!(
            answers["results"].as_array().unwrap().iter().all(|one| one["code"] == "STORAGE_UNAVAILABLE"),
            "{answers}"
        );
        operator.release(&held).problem(503, "STORAGE_UNAVAILABLE");
        let report = json!({ "agentId": agent.id, "tokensCost": 0.1 });
        operator.post("/v1/usage", report).problem(503, "STORAGE_UNAVAILABLE");
        // Neighbours on the thread have their turn.
        assert_eq!(server.with_key(&globex.key).get("/v1/agents").items()[0]["id"], json!(other.id));
    }
    limit_files(&server, None);
    eventually("service resumes", || (operator.authorize(costing(&agent.id, "0.5")).status == 200).then_some(()));
    let end = &operator.trail("tenantId=acme&kind=usage")[0];
    assert_eq!((&end["ref"], &end["tokensCost"]), (&json!(held), &json!(0)));
}

#[test]
fn callers_who_find_the_storage_failed_get_an_error_and_streams_survive() {
    const OUTAGES: usize = 4;
    const THREADS: usize = 8;
    let options = Options { ignore_file_size_signal: true, ..Options::default() };
    let server = Server::start_with(options);
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let open = |key: &str, query: &str| Stream::open(server.base(), key, query, None).unwrap();
    let mut streams = [open(&acme.key, ""), open(OPERATOR_KEY, "tenantId=acme"), open(OPERATOR_KEY, "")];
    let batch = json!({ "requests": vec![call(&agent.id); 100] });
    for _ in 0..OUTAGES {
        // Many are under way when it fails. One of the calls finds out, or a read that needs them written.
        let failed = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (operator, batch, failed) = (&operator, &batch, &failed);
                scope.spawn(move || {
                    while !failed.load(Ordering::Relaxed) {
                        let answer = match thread % 3 {
                            0 => operator.post("/v1/authorize/batch", batch.clone()),
                            1 => operator.get("/v1/audit?tenantId=acme&limit=1"),
                            _ => operator.get("/v1/audit/checkpoint?tenantId=acme"),
                        };
                        if answer.status != 200 {
                            failed.store(true, Ordering::Relaxed);
                            let code = answer.code().unwrap();
                            let why = ["STORAGE_UNAVAILABLE", "TENANT_UNAVAILABLE", "OUTCOME_UNKNOWN"];
                            assert!(why.contains(&&*code), "{}", answer.text());
                        }
                    }
                });
            }
            limit_files(&server, Some(0));
        });
        limit_files(&server, None);
        eventually("service resumes", || (operator.authorize(call(&agent.id)).status == 200).then_some(()));
    }
    let mut trail: Vec<_> = operator.trail("tenantId=acme").iter().map(|entry| entry["id"].clone()).collect();
    trail.reverse();
    for stream in &mut streams {
        let shown: Vec<_> = stream.take(trail.len()).iter().map(|entry| entry["id"].clone()).collect();
        assert!(shown == trail, "nothing is left out and nothing comes twice");
    }
}

/// Calls are refused, with the reason.
fn check_refused(server: &Server, agent: &Agent) {
    let operator = server.operator();
    eventually("calls get the reason", || {
        let answer = operator.authorize(call(&agent.id));
        assert_eq!(answer.status, 503, "{}", answer.text());
        (answer.code().as_deref() == Some("STORAGE_UNAVAILABLE")).then_some(())
    });
    let ready = || {
        let answer = server.anonymous().get("/readyz");
        let report = answer.json();
        let says_why = report["reason"].as_str().is_some_and(|reason| reason.starts_with("nothing can be recorded: "));
        assert_eq!(
            (answer.status == 503, says_why),
            (report["status"] == "unwritable", report["status"] == "unwritable")
        );
        (answer.status, report["storage"].clone())
    };
    eventually("the probe reports it", || (ready() == (503, json!("unavailable"))).then_some(()));
}

/// Everything is as before, except for one call that was allowed since.
fn check_resumed(server: &mut Server, agent: &Agent, before: &Value) {
    let operator = server.operator();
    eventually("service resumes", || (operator.authorize(call(&agent.id)).status == 200).then_some(()));
    let storage = || server.anonymous().get("/readyz").json()["storage"].clone();
    eventually("the probe reports it", || (storage() == "ok").then_some(()));
    let after = operator.all_of("acme");
    assert_eq!((&after["keys"], &after["tenant"]), (&before["keys"], &before["tenant"]));
    let count = |all: &Value| all["decisions"].as_array().unwrap().len();
    assert_eq!(count(&after), count(before) + 1, "what was refused is not in the trail");
    server.crash_and_start();
    assert_eq!(server.operator().all_of("acme"), after);
}

#[test]
fn storage_that_refuses_every_write_is_retried_until_it_works() {
    let options = Options { ignore_file_size_signal: true, ..Options::default() };
    let mut server = Server::start_with(options);
    let operator = server.operator();
    let (acme, globex) = (operator.tenant("acme"), operator.tenant("globex"));
    let (agent, other) = (operator.reader(&acme), operator.reader(&globex));
    for _ in 0..5 {
        operator.granted(call(&agent.id));
    }
    let before = operator.all_of("acme");
    // Not even existing data can be overwritten, so the tenant can't be opened again.
    limit_files(&server, Some(0));
    check_refused(&server, &agent);
    operator.post("/v1/tenants", json!({ "name": "n", "slug": "acme" })).problem(409, "SLUG_TAKEN");
    // A tenant without calls has not noticed.
    assert_eq!(server.with_key(&globex.key).get("/v1/agents").items().len(), 1);
    limit_files(&server, None);
    check_resumed(&mut server, &agent, &before);
    server.operator().granted(call(&other.id));
}

#[test]
fn reads_continue_on_a_full_disk_and_service_resumes() {
    let place = tempfile::tempdir().unwrap();
    let Some(_mount) = Mount::new(place.path(), "80m") else {
        // The tests above come closest without a separate file system.
        eprintln!("skipped: a file system can't be mounted here");
        return;
    };
    let mut server = Server::start_with(Options { data_dir: Some(place.path().join("data")), ..Options::default() });
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    for _ in 0..5 {
        operator.granted(call(&agent.id));
    }
    let before = operator.all_of("acme");
    // All the space left is taken, to the last byte of the journal's last block.
    let ballast = place.path().join("ballast");
    let filled = std::fs::write(&ballast, vec![0; 128 << 20]);
    assert!(filled.is_err(), "the disk is small");
    // The log has its space. The folder does not get the events, and then no more are taken; reads have them all.
    let count = |all: &Value| all["decisions"].as_array().unwrap().len();
    let mut calls = 0;
    let before = loop {
        if operator.authorize(call(&agent.id)).status != 200 {
            break operator.all_of("acme");
        }
        calls += 1;
        assert_eq!(count(&operator.all_of("acme")), count(&before) + calls);
        assert!(calls < 1_000, "a page of the file system takes no more");
    };
    assert_eq!(count(&before), 5 + calls);
    let new = json!({ "name": "Initech", "slug": "initech" });
    operator.post("/v1/tenants", new).problem(503, "STORAGE_UNAVAILABLE");
    check_outage(&mut server, &agent, &before, |_| std::fs::remove_file(&ballast).unwrap());
}

/// The output of a server that doesn't start because it can't write.
fn check_refusal(server: &mut Server) {
    let said = server.try_start_again().unwrap_err();
    let sentence = said.lines().find(|line| line.starts_with("kavach: ")).unwrap_or_else(|| panic!("{said}"));
    assert!(sentence.contains(server.data_dir().to_str().unwrap()), "{sentence}");
    assert!(sentence.contains("can't be written") && sentence.contains("choose another directory"), "{sentence}");
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn a_server_does_not_start_without_write_access_and_names_the_place() {
    let mut server = Server::start_with(Options { unprivileged: true, ..Options::default() });
    let agent = server.operator().reader(&server.operator().tenant("acme"));
    server.operator().granted(call(&agent.id));
    let before = server.operator().all_of("acme");
    server.kill();
    let frozen = Frozen::by_permissions(&server.data_dir());
    frozen.freeze();
    // The lock's file exists and is the server's own.
    std::fs::set_permissions(server.data_dir().join("LOCK"), Permissions::from_mode(0o400)).unwrap();
    check_refusal(&mut server);
    std::fs::set_permissions(server.data_dir().join("LOCK"), Permissions::from_mode(0o600)).unwrap();
    frozen.thaw();
    server.start_again();
    assert_eq!(server.operator().all_of("acme"), before);
    server.operator().granted(call(&agent.id));
}

#[test]
fn nor_on_a_file_system_that_is_read_only() {
    let place = tempfile::tempdir().unwrap();
    let Some(mount) = Mount::new(place.path(), "80m") else {
        eprintln!("skipped: a file system can't be mounted here; permissions are tested above");
        return;
    };
    let mut server = Server::start_with(Options { data_dir: Some(place.path().join("data")), ..Options::default() });
    let agent = server.operator().reader(&server.operator().tenant("acme"));
    let before = server.operator().all_of("acme");
    server.kill();
    mount.make_read_only();
    check_refusal(&mut server);
    mount.make_writable();
    server.start_again();
    assert_eq!(server.operator().all_of("acme"), before);
    server.operator().granted(call(&agent.id));
}

#[test]
fn nor_for_the_first_time_on_a_full_disk() {
    let place = tempfile::tempdir().unwrap();
    let Some(_mount) = Mount::new(place.path(), "40m") else {
        eprintln!("skipped: a file system can't be mounted here");
        return;
    };
    let mut server = Server::start();
    server.kill();
    let ballast = place.path().join("ballast");
    assert!(std::fs::write(&ballast, vec![0; 64 << 20]).is_err(), "the disk is small");
    server.move_to(place.path().join("data"));
    check_refusal(&mut server);
    std::fs::remove_file(&ballast).unwrap();
    server.start_again();
    server.operator().tenant("acme");
}

#[test]
fn reads_continue_in_a_directory_that_turns_read_only_and_service_resumes() {
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let data_dir = home.path().join("data");
    let mut server = Server::start_with(Options { data_dir: Some(data_dir.clone()), ..Options::default() });
    let frozen = Frozen::new(&data_dir);
    if !frozen.stops_open_files() {
        eprintln!("skipped: nothing here makes open files read-only; the limit of their size is tested above");
        return;
    }
    let operator = server.operator();
    let agent = operator.reader(&operator.tenant("acme"));
    operator.granted(call(&agent.id));
    let before = operator.all_of("acme");
    frozen.freeze();
    operator.post("/v1/tenants", json!({ "name": "n", "slug": "n" })).problem(503, "STORAGE_UNAVAILABLE");
    // Not even existing files can be opened for writing, so the tenant is down until they can.
    check_refused(&server, &agent);
    frozen.thaw();
    check_resumed(&mut server, &agent, &before);
}

#[test]
fn existing_files_are_written_when_no_new_one_can_be_made() {
    let mut server = Server::start_with(Options { unprivileged: true, ..Options::default() });
    let operator = server.operator();
    let agent = operator.reader(&operator.tenant("acme"));
    let frozen = Frozen::by_permissions(&server.data_dir());
    frozen.freeze();
    let new = json!({ "name": "n", "slug": "n" });
    for _ in 0..3 {
        operator.granted(call(&agent.id));
        operator.patch("/v1/tenants/acme", json!({ "name": "Acme" })).expect(200);
        operator.post("/v1/tenants", new.clone()).problem(503, "STORAGE_UNAVAILABLE");
        operator.post("/v1/snapshot", json!({})).problem(503, "STORAGE_UNAVAILABLE");
    }
    // A folder that could not be erased is loaded again, and written to once new files can be made.
    operator.delete("/v1/tenants/acme?confirm=acme").problem(503, "STORAGE_UNAVAILABLE");
    eventually("it is back", || (operator.get("/v1/tenants/acme").status == 200).then_some(()));
    operator.authorize(call(&agent.id)).problem(503, "STORAGE_UNAVAILABLE");
    frozen.thaw();
    eventually("service resumes", || (operator.authorize(call(&agent.id)).status == 200).then_some(()));
    operator.post("/v1/tenants", new).expect(201);
    operator.post("/v1/snapshot", json!({})).expect(200);
    let before = operator.all_of("acme");
    assert_eq!(before["decisions"].as_array().unwrap().len(), 3 + 1);
    server.crash_and_start();
    assert_eq!(server.operator().all_of("acme"), before);
}

#[test]
fn a_failed_snapshot_keeps_no_other_tenant_from_its_own() {
    let server = Server::start_with(Options { unprivileged: true, ..Options::default() });
    let operator = server.operator();
    // More than are written at once, and the first of them can't be.
    let tenants: Vec<_> = (0..20).map(|n| operator.tenant(&format!("t{n}"))).collect();
    let bad = Frozen::by_permissions(&server.folder(&tenants[0].id));
    bad.freeze();
    operator.post("/v1/snapshot", json!({})).problem(503, "STORAGE_UNAVAILABLE");
    for tenant in &tenants[1..] {
        // One more may be due by the clock.
        assert!(!files(&server.folder(&tenant.id), ".snapshot").is_empty(), "{}", tenant.slug);
    }
    bad.thaw();
    assert_eq!(operator.post("/v1/snapshot", json!({})).expect(200), json!({ "tenants": 21 }));
}

//! The process from outside: SIGTERM under load, a second process, bad settings, and the erasure of a tenant.

use std::fs;

use serde_json::json;

use crate::crash::{check_trail, counted, under_load};
use crate::harness::{Server, eventually};
use crate::world::{call, permits};

fn snapshots(folder: &std::path::Path) -> usize {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().ends_with(".snapshot")).count()
}

#[test]
fn a_terminated_server_answers_calls_under_way_and_leaves_snapshots() {
    let mut server = Server::start();
    let operator = server.operator();
    let (acme, globex) = (operator.tenant("acme"), operator.tenant("globex"));
    let agent = counted(&operator, "acme");
    let clients: Vec<_> = (0..6).map(|_| server.with_key(&agent.token)).collect();
    let answers = under_load(&clients, 200, || {
        server.terminate();
        let status = server.wait();
        assert_eq!(status.code(), Some(0), "{status}");
    });
    for code in answers.refused.iter().flatten() {
        assert!(["SHUTTING_DOWN", "TENANT_UNAVAILABLE"].contains(&&**code), "{code}");
    }
    for folder in [&*acme.id, &globex.id] {
        assert!(snapshots(&server.folder(folder)) >= 1, "{folder}");
    }
    let log = server.log();
    assert!(!log.contains("ERROR"), "{log}");
    server.start_again();
    check_trail(&server.operator(), &agent.id, &answers);
}

#[test]
fn a_server_without_calls_stops_at_once() {
    let mut server = Server::start();
    // An idle connection does not delay it for long.
    let idle = server.operator();
    idle.get("/livez").expect(200);
    server.stop();
    idle.try_send("GET", "/livez", &[], None).unwrap_err();
}

#[test]
fn a_second_process_on_a_directory_in_use_ends_and_the_first_continues() {
    let mut server = Server::start();
    let agent = counted(&server.operator(), &server.operator().tenant("acme").slug);
    let clients: Vec<_> = (0..4).map(|_| server.with_key(&agent.token)).collect();
    let answers = under_load(&clients, 50, || {
        for _ in 0..5 {
            let output = server.second_process().output().unwrap();
            assert!(!output.status.success());
            let said = String::from_utf8(output.stderr).unwrap();
            let sentence = said.lines().find(|line| line.starts_with("kavach: ")).unwrap_or_else(|| panic!("{said}"));
            assert!(sentence.contains("in use by another process"), "{sentence}");
            assert!(sentence.contains(server.data_dir().to_str().unwrap()), "{sentence}");
            assert!(!said.contains("panicked"), "{said}");
        }
    });
    assert!(answers.refused.is_empty(), "{:?}", answers.refused);
    check_trail(&server.operator(), &agent.id, &answers);
    server.crash_and_start();
    assert_eq!(check_trail(&server.operator(), &agent.id, &answers).len(), answers.all().count());
}

#[test]
fn unusable_settings_end_the_process_with_a_sentence() {
    let server = Server::start();
    let not_a_directory = server.data_dir().join("file");
    fs::write(&not_a_directory, b"").unwrap();
    let taken = server.host().to_owned();
    for (args, wanted) in [
        (vec!["--durability", "maybe"], "--durability"),
        (vec!["--trusted-proxies", "10.0.0.0/33"], "--trusted-proxies"),
        (vec!["--operator-key", "short"], "--operator-key"),
        (vec!["--workers", "0"], "--workers"),
        (vec!["--data-dir", not_a_directory.to_str().unwrap()], "kavach: "),
        (vec!["--data-dir", not_a_directory.with_extension("d").to_str().unwrap(), "--addr", &taken], &taken),
        (vec!["--no-such-option"], "--no-such-option"),
    ] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_kavach"));
        let output = command.args(["--addr", "127.0.0.1:0"].iter().filter(|_| !args.contains(&"--addr")));
        let output = output.args(&args).env_clear().current_dir(server.data_dir()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{args:?}");
        assert!(said.contains(wanted) && !said.contains("panicked"), "{args:?}: {said}");
    }
}

#[test]
fn a_deleted_tenant_is_gone_with_its_folder_and_its_slug_is_free() {
    let mut server = Server::start();
    let operator = server.operator();
    let (acme, globex) = (operator.tenant("acme"), operator.tenant("globex"));
    let (agent, other) = (operator.reader(&acme), operator.reader(&globex));
    operator.granted(call(&agent.id));
    let entry = operator.granted(call(&agent.id));
    let globex_before = operator.all_of("globex");
    operator.delete("/v1/tenants/acme?confirm=").problem(400, "INVALID_QUERY");
    for path in ["/v1/tenants/acme", "/v1/tenants/acme?confirm=globex"] {
        let message = operator.delete(path).problem(400, "CONFIRMATION_REQUIRED");
        assert!(message.contains("confirm"), "{message}");
    }
    operator.delete("/v1/tenants/default?confirm=default").problem(422, "DEFAULT_TENANT_FIXED");
    operator.granted(call(&agent.id));
    assert!(server.folder(&acme.id).is_dir());
    operator.delete("/v1/tenants/acme?confirm=acme").expect(204);
    for _ in 0..2 {
        let operator = server.operator();
        assert!(!server.folder(&acme.id).exists());
        for path in ["acme", &acme.id] {
            operator.get(&format!("/v1/tenants/{path}")).problem(404, "TENANT_NOT_FOUND");
        }
        operator.get(&format!("/v1/agents/{}", agent.id)).problem(404, "AGENT_NOT_FOUND");
        operator.get(&format!("/v1/audit/{entry}")).problem(404, "AUDIT_ENTRY_NOT_FOUND");
        server.with_key(&agent.token).authorize(call(&agent.id)).problem(401, "INVALID_TOKEN");
        server.with_key(&acme.key).get("/v1/agents").problem(401, "INVALID_TOKEN");
        operator.delete("/v1/tenants/acme?confirm=acme").problem(404, "TENANT_NOT_FOUND");
        assert_eq!(operator.all_of("globex"), globex_before);
        server.crash_and_start();
    }
    let operator = server.operator();
    let again = operator.tenant("acme");
    assert_ne!(again.id, acme.id);
    assert_eq!(operator.trail("tenantId=acme").len(), 0);
    server.with_key(&agent.token).authorize(call(&agent.id)).problem(401, "INVALID_TOKEN");
    operator.granted(call(&other.id));
}

#[test]
fn a_tenant_deleted_under_load_answers_and_then_is_unknown() {
    let server = Server::start();
    let operator = server.operator();
    operator.tenant("acme");
    let agent = operator.agent("acme", permits("docs:*", &["read"]));
    let client = server.with_key(&agent.token);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                eventually("the token is no longer one", || {
                    let answer = client.authorize(call(&agent.id));
                    match answer.status {
                        200 => assert_eq!(answer.json()["allowed"], true),
                        // While the folder is being deleted.
                        503 => {}
                        _ => {
                            answer.problem(401, "INVALID_TOKEN");
                            return Some(());
                        }
                    }
                    None
                });
            });
        }
        eventually("calls are recorded", || (operator.trail("tenantId=acme").len() > 20).then_some(()));
        operator.delete("/v1/tenants/acme?confirm=acme").expect(204);
    });
    assert_eq!(operator.post("/v1/snapshot", json!({})).expect(200), json!({ "tenants": 1 }));
}

#[test]
fn a_snapshot_now_holds_what_is_there() {
    let mut server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    operator.granted(call(&agent.id));
    assert_eq!(operator.post("/v1/snapshot", json!({})).expect(200), json!({ "tenants": 2 }));
    assert!(snapshots(&server.folder(&acme.id)) >= 1);
    operator.granted(call(&agent.id));
    let before = operator.all_of("acme");
    server.crash_and_start();
    assert_eq!(server.operator().all_of("acme"), before);
}

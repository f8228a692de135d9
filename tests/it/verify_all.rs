//! `kavach audit verify` without a tenant: a whole data directory, one line per tenant.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::audit_streams::damage;
use crate::damage::files;
use crate::harness::Server;
use crate::world::{Tenant, call};

/// Runs it on a data directory; returns the exit code and the output.
fn verify_in(data_dir: &Path, args: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kavach"));
    command.args(["audit", "verify", "--data-dir"]).arg(data_dir).args(args);
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

fn verify(server: &Server, args: &[&str]) -> (i32, String) {
    verify_in(&server.data_dir(), args)
}

fn three_tenants() -> (Server, [Tenant; 3]) {
    let mut server = Server::start();
    let operator = server.operator();
    let tenants = ["acme", "globex", "initech"].map(|slug| operator.tenant(slug));
    for tenant in &tenants {
        let agent = operator.reader(tenant);
        for _ in 0..5 {
            operator.granted(call(&agent.id));
        }
    }
    assert_eq!(verify(&server, &[]).0, 2, "a server is using it");
    server.stop();
    (server, tenants)
}

#[test]
fn all_trails_are_verified_if_no_tenant_is_named() {
    let (server, [acme, globex, initech]) = three_tenants();
    let (code, text) = verify(&server, &[]);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!((code, lines.len()), (0, 5), "{text}");
    for name in ["default", &acme.id, &globex.id, &initech.id] {
        let of_it = lines.iter().filter(|line| line.starts_with(&format!("{name}: intact"))).count();
        assert_eq!(of_it, 1, "{text}");
    }
    assert!(lines[4].starts_with("Tenants: 4, intact: 4, not"), "{text}");

    // An unreadable folder, then a changed trail: the exit code reports the worse of the two.
    let copy = format!("tnt_ffff{}", &acme.id[8..]);
    fs::create_dir(server.folder(&copy)).unwrap();
    for file in files(&server.folder(&acme.id), "") {
        fs::copy(&file, server.folder(&copy).join(file.file_name().unwrap())).unwrap();
    }
    let (code, text) = verify(&server, &[]);
    assert_eq!(code, 2, "{text}");
    assert!(text.contains(&copy) && text.contains("intact: 4") && text.contains("not read: 1"));
    assert_eq!(verify(&server, &["--tenant", "acme"]).0, 0, "the copy has its slug in its label");
    damage(&server.folder(&globex.id), 2);
    let (code, text) = verify(&server, &[]);
    assert_eq!((code, text.lines().count()), (1, 6), "{text}");
    assert!(text.contains(&format!("{}: NOT intact. ", globex.id)), "{text}");
    assert!(text.contains("Tenants: 5, intact: 3, not intact: 1, not read: 1."));

    let (code, json) = verify(&server, &["--json"]);
    let summary: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &summary["ok"]), (1, &Value::Bool(false)));
    assert_eq!(summary["tenants"].as_array().unwrap().len(), 4);
    assert!(summary["notLookedAt"][0]["folder"].as_str().unwrap().ends_with(&copy), "{json}");
}

#[test]
fn an_empty_directory_and_a_checkpoint_without_a_tenant_are_refused() {
    let (server, _) = three_tenants();
    let checkpoint =
        format!(r#"{{"tenantId":null,"seq":1,"hash":"{}","time":"2026-01-01T00:00:00Z"}}"#, "00".repeat(32));
    let (code, text) = verify(&server, &["--checkpoint", &checkpoint]);
    assert!(code == 2 && text.contains("--tenant"), "{text}");
    let empty = tempfile::tempdir().unwrap();
    let (code, text) = verify_in(empty.path(), &[]);
    assert!(code == 2 && text.contains("holds no tenant"), "{text}");
}

//! Folders that somebody copied, renamed or restored by hand: only the copy is refused, and the healthy tenant keeps
//! its calls, its slug and its trail, whatever happens to the copy.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::damage::files;
use crate::harness::Server;
use crate::world::{Agent, Tenant, call, permits};

/// Copies a folder's files with that ending; all if it is empty.
pub fn copy(from: &Path, to: &Path, ending: &str) {
    fs::create_dir(to).unwrap();
    for file in files(from, ending) {
        fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
    }
}

/// The id with other digits at that place.
fn with_digits(id: &str, at: usize, digits: &str) -> String {
    let mut changed = id.to_owned();
    changed.replace_range(at..at + digits.len(), digits);
    assert_ne!(changed, id);
    changed
}

/// Whether the tenant is served and its names are its own.
fn is_served(server: &Server, tenant: &Tenant, agent: &Agent) {
    let operator = server.operator();
    server.with_key(&agent.token).granted(call(&agent.id));
    server.with_key(&tenant.key).get("/v1/agents").expect(200);
    for name in [&tenant.slug, &tenant.id] {
        assert_eq!(operator.get(&format!("/v1/tenants/{name}")).expect(200)["id"], tenant.id.as_str());
    }
    let again = json!({ "name": "again", "slug": tenant.slug });
    operator.post("/v1/tenants", again).problem(409, "SLUG_TAKEN");
}

/// The folders that `/readyz` lists as not served: each with a reason that names the folder.
fn not_served(server: &Server) -> Vec<String> {
    let ready = server.anonymous().get("/readyz").expect(200);
    assert_eq!(ready["status"], "ready");
    let mut names = Vec::new();
    for (list, name) in [("unavailableTenants", "tenant"), ("refusedFolders", "folder")] {
        for entry in ready[list].as_array().unwrap() {
            let text = |member: &str| entry[member].as_str().unwrap().to_owned();
            assert!(text("reason").contains(&text(name)) && text("reason").contains("move"), "{entry}");
            names.push(text(name));
        }
    }
    names.sort();
    names
}

#[test]
fn a_copy_of_a_folder_is_refused_and_its_original_is_served() {
    let mut server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let own = operator.agent(Value::Null, permits("docs:*", &["read"]));
    operator.post("/v1/snapshot", json!({})).expect(200);
    operator.granted(call(&agent.id));
    server.stop();

    let random = "0123456789abcdef0123456789abcdef";
    let nil = "0".repeat(32);
    let original = server.folder(&acme.id);
    // Ids before and after the tenant's own, with its tag and with another.
    let other_ids = [("0", "0"), ("0", "f"), ("f", "0"), ("f", "f")].map(|(first, last)| {
        let id = with_digits(&acme.id, 4, &first.repeat(4));
        if last == "0" { id } else { with_digits(&id, 28, &last.repeat(8)) }
    });
    let copies =
        other_ids.iter().map(String::as_str).chain(["acme", "tnt_old", "acme 2026-11-29.bak", ".copy", "b.\u{fc}"]);
    let mut refused: Vec<String> = copies.map(str::to_owned).collect();
    refused.push(format!("{}.bak", acme.id));
    refused.push(acme.id.to_uppercase());
    for name in &refused {
        copy(&original, &server.folder(name), "");
    }
    // Parts of a copy, and one with a label made to fit.
    for (n, ending) in [".snapshot", ".journal"].iter().enumerate() {
        refused.push(with_digits(&acme.id, 4, &format!("e{n}")));
        copy(&original, &server.folder(&refused[refused.len() - 1]), ending);
    }
    let relabelled = with_digits(&acme.id, 4, "fe");
    copy(&original, &server.folder(&relabelled), "");
    let label = format!("{{\"id\": \"{relabelled}\", \"slug\": \"acme\", \"name\": \"acme\"}}");
    fs::write(server.folder(&relabelled).join("tenant.json"), label).unwrap();
    refused.push(relabelled);
    // The default tenant's folder: under an id, under its own digits, and under an id with its tag.
    for name in [format!("tnt_{random}"), format!("tnt_{nil}"), format!("tnt_0{}", &"1".repeat(23)) + &nil[..8]] {
        copy(&server.folder("default"), &server.folder(&name), "");
        refused.push(name);
    }
    refused.sort();

    server.start_again();
    for round in 0..3 {
        is_served(&server, &acme, &agent);
        server.with_key(&own.token).granted(call(&own.id));
        assert_eq!(not_served(&server), refused, "start {round}");
        let tenants = server.operator().get("/v1/tenants").items();
        assert!(tenants.len() == 1 && tenants[0]["id"] == acme.id.as_str(), "{tenants:?}");
        let log = server.log();
        for name in &refused {
            assert!(log.contains(server.folder(name).to_str().unwrap()), "the log names {name}");
        }
        if round == 1 {
            server.crash_and_start();
        } else {
            server.stop();
            server.start_again();
        }
    }

    // A copy can be erased by its name. The healthy tenant's names stay its own.
    let operator = server.operator();
    let mut kept = Vec::new();
    for name in refused {
        let erase = |confirm: &str| operator.delete(&format!("/v1/tenants/{name}?confirm={confirm}")).status;
        if name.starts_with("tnt_") && erase("acme") != 204 && erase(&name) == 204 {
            assert!(!server.folder(&name).exists());
        } else {
            kept.push(name);
        }
        is_served(&server, &acme, &agent);
    }
    assert!(kept.len() < 20, "{kept:?}");
    assert_eq!(not_served(&server), kept);
    server.crash_and_start();
    is_served(&server, &acme, &agent);
    assert_eq!(not_served(&server), kept);
    // Only its own end frees its slug.
    let operator = server.operator();
    operator.delete("/v1/tenants/acme?confirm=acme").expect(204);
    operator.tenant("acme");
}

#[test]
fn of_two_tenants_with_one_slug_the_newer_is_served_in_any_load_order() {
    let mut server = Server::start();
    let operator = server.operator();
    // The older one has many more files, so it is loaded last.
    let older = operator.tenant("acme");
    let old_agent = operator.reader(&older);
    for _ in 0..500 {
        operator.granted(call(&old_agent.id));
    }
    server.stop();
    let (place, backup) = (server.folder(&older.id), server.data_dir().with_extension("backup"));
    copy(&place, &backup, "");
    server.start_again();
    server.operator().delete("/v1/tenants/acme?confirm=acme").expect(204);
    let later = server.operator().tenant("acme");
    let agent = server.operator().reader(&later);
    server.stop();
    copy(&backup, &place, "");

    server.start_again();
    for _ in 0..3 {
        is_served(&server, &later, &agent);
        assert_eq!(not_served(&server), [older.id.as_str()]);
        server.with_key(&old_agent.token).authorize(call(&old_agent.id)).problem(503, "TENANT_UNAVAILABLE");
        server.crash_and_start();
    }
    let operator = server.operator();
    operator.delete(&format!("/v1/tenants/{}?confirm=acme", older.id)).problem(400, "CONFIRMATION_REQUIRED");
    operator.delete(&format!("/v1/tenants/{0}?confirm={0}", older.id)).expect(204);
    is_served(&server, &later, &agent);
    server.crash_and_start();
    is_served(&server, &later, &agent);
    assert!(not_served(&server).is_empty());
}

#[test]
fn a_damaged_tenant_keeps_its_slug_beside_its_copy() {
    let mut server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    operator.granted(call(&operator.reader(&acme).id));
    server.kill();
    let original = server.folder(&acme.id);
    let copies = ["0000", "ffff"].map(|digits| with_digits(&acme.id, 4, digits));
    for name in &copies {
        copy(&original, &server.folder(name), "");
    }
    fs::remove_file(&files(&original, ".journal")[0]).unwrap();
    server.start_again();
    let operator = server.operator();
    operator.get("/v1/tenants/acme").problem(503, "TENANT_UNAVAILABLE");
    operator.get(&format!("/v1/tenants/{}", acme.id)).problem(503, "TENANT_UNAVAILABLE");
    for name in &copies {
        operator.delete(&format!("/v1/tenants/{name}?confirm={name}")).problem(404, "TENANT_NOT_FOUND");
    }
    operator.post("/v1/tenants", json!({ "name": "again", "slug": "acme" })).problem(409, "SLUG_TAKEN");
    operator.delete("/v1/tenants/acme?confirm=acme").expect(204);
    assert!(!original.exists());
    operator.tenant("acme");
}

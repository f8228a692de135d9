//! Secrets: shown once, rotated, never stored; and signatures as the published libraries of other languages check them.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::endpoint::Endpoint;
use super::{id, server};

#[test]
fn a_new_secret_signs_at_once_and_the_old_one_for_a_while() {
    let mut server = server();
    let operator = server.operator();
    operator.tenant("acme");
    let endpoint = Endpoint::start();
    let made = operator.webhook("acme", &endpoint.url(), &["tenant.deleted"]);
    let old = made["secret"].as_str().unwrap().to_owned();
    let path = format!("/v1/webhooks/{}", id(&made));
    let rotated = operator.post(&format!("{path}/rotate"), json!({})).expect(200);
    let new = rotated["secret"].as_str().unwrap().to_owned();
    assert_ne!(old, new);
    operator.post(&format!("{path}/test"), json!({})).expect(202);
    let first = endpoint.wait_for(1).remove(0);
    assert!(first.is_signed_by(&new) && first.is_signed_by(&old));
    operator.post(&format!("{path}/rotate"), json!({})).expect(200);
    operator.post(&format!("{path}/test"), json!({})).expect(202);
    let second = endpoint.wait_for(2).remove(1);
    assert!(second.is_signed_by(&new) && !second.is_signed_by(&old));
    // Nobody can read a secret again, and none is on disk.
    assert_eq!(operator.get(&path).expect(200)["secret"], "");
    server.stop();
    let mut files = 0;
    each_file(&server.data_dir(), &mut |path, bytes| {
        files += 1;
        for secret in [&old, &new] {
            let part = secret.strip_prefix("whsec_").unwrap().as_bytes();
            assert!(!bytes.windows(part.len()).any(|window| window == part), "{}", path.display());
        }
    });
    assert!(files > 3);
    // After a restart the secret is the same.
    server.start_again();
    let operator = server.operator();
    let last = operator.post(&format!("{path}/rotate"), json!({})).expect(200);
    operator.post(&format!("{path}/test"), json!({})).expect(202);
    assert!(endpoint.wait_for(3)[2].is_signed_by(last["secret"].as_str().unwrap()));
    assert!(!server.log().contains("whsec_"));
}

fn each_file(folder: &Path, look: &mut dyn FnMut(&Path, &[u8])) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { each_file(&path, look) } else { look(&path, &fs::read(&path).unwrap()) }
    }
}

/// Messages as an endpoint got them, with the secret they should be signed with, for the checkers beside this file.
#[test]
#[ignore = "scripts/signatures runs it, after it installed the libraries"]
fn libraries_of_other_languages_accept_the_signatures() {
    let server = server();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let endpoint = Endpoint::start();
    let made = operator.webhook("acme", &endpoint.url(), &["*"]);
    operator.agent_with(acme.id.as_str(), json!({ "name": "Zoë \"the bot\" ☃ \u{1F916}" }));
    let rotated = operator.post(&format!("/v1/webhooks/{}/rotate", id(&made)), json!({})).expect(200);
    operator.post(&format!("/v1/webhooks/{}/test", id(&made)), json!({})).expect(202);
    let got = endpoint.wait_for(3);
    let message = |request: &super::endpoint::Received, secret: &serde_json::Value| {
        let header = |name: &str| request.header(name).to_owned();
        json!({
            "secret": secret,
            "headers": {
                "webhook-id": header("webhook-id"),
                "webhook-timestamp": header("webhook-timestamp"),
                "webhook-signature": header("webhook-signature"),
            },
            "body": String::from_utf8(request.body.clone()).unwrap(),
        })
    };
    let messages = json!([
        message(&got[0], &made["secret"]),
        message(&got[2], &rotated["secret"]),
        // The secret before the rotation still does.
        message(&got[2], &made["secret"]),
    ]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("messages.json");
    fs::write(&file, messages.to_string()).unwrap();
    let installed = std::env::var("KAVACH_SIGNATURES").expect("scripts/signatures runs this test");
    let installed = Path::new(&installed);
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/webhooks");
    let python =
        Command::new(installed.join("venv/bin/python")).arg(here.join("check.py")).arg(&file).status().unwrap();
    assert!(python.success(), "Python refuses a signature");
    // Modules are looked for beside the script.
    let script = installed.join("check.mjs");
    fs::copy(here.join("check.mjs"), &script).unwrap();
    let node = Command::new("node").arg(script).arg(&file).status().unwrap();
    assert!(node.success(), "Node refuses a signature");
}

//! No secret is stored or logged, whatever was done with it.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use crate::harness::{OPERATOR_KEY, Options, Server};
use crate::world::{Agent, call};

fn files_under(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files_under(&path, found) } else { found.push(path) }
    }
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn no_key_or_token_is_in_any_file_or_in_the_log() {
    let mut server = Server::start_with(Options { env: vec![("RUST_LOG", "trace")], ..Options::default() });
    let operator = server.operator();
    let (acme, globex) = (operator.tenant("acme"), operator.tenant("globex"));
    let agent = operator.reader(&acme);
    let rotated = Agent::from(
        &operator.post(&format!("/v1/agents/{}/rotate", agent.id), json!({ "graceSeconds": 60 })).expect(200),
    );
    let wrong = "kvo_a-key-that-is-not-the-right-one-0123456789";
    let forged = format!("kv_{}", "A".repeat(64));
    let secrets = [OPERATOR_KEY, &acme.key, &globex.key, &agent.token, &rotated.token, wrong, &forged];
    // Each is used in every way there is: rightly, wrongly, with bodies that can't be read.
    for secret in secrets {
        let client = server.with_key(secret);
        client.authorize(call(&agent.id));
        client.authorize(json!({ "action": "" }));
        client.get("/v1/tenants");
        client.post("/v1/tenants", json!({ "bad": 1 }));
        client.get(&format!("/v1/agents/{}", agent.id));
        client.post("/v1/authorize/explain", call(&agent.id));
        client.get("/v1/audit");
        client.get("/no/such/route");
    }
    operator.post("/v1/snapshot", json!({})).expect(200);
    server.crash_and_start();
    server.with_key(&rotated.token).granted(call(&agent.id));
    server.stop();

    let log = server.log();
    assert!(log.contains("TRACE"), "the log is as loud as it gets");
    let mut texts = vec![(PathBuf::from("the log"), log.into_bytes())];
    let mut paths = Vec::new();
    files_under(&server.data_dir(), &mut paths);
    for ending in [".journal", ".snapshot", "tenant.json"] {
        assert!(paths.iter().any(|path| path.to_string_lossy().ends_with(ending)), "{ending}: {paths:?}");
    }
    for path in paths {
        let bytes = fs::read(&path).unwrap();
        if path.extension().is_some_and(|ending| ending == "zst") {
            texts.push((path.clone(), zstd::decode_all(&*bytes).unwrap()));
        }
        texts.push((path, bytes));
    }
    for secret in secrets {
        // The random part alone is as good as the whole, as text and as bytes.
        let random_text = &secret.as_bytes()[secret.len() - 40..];
        let encoded = secret.split_once('_').unwrap().1;
        let decoded = URL_SAFE_NO_PAD.decode(encoded).ok().map(|bytes| bytes[bytes.len() - 24..].to_vec());
        for (path, bytes) in &texts {
            assert!(!holds(bytes, random_text), "{} holds {secret}", path.display());
            let raw = decoded.as_ref().is_some_and(|part| holds(bytes, part));
            assert!(!raw, "{} holds the bytes of {secret}", path.display());
        }
    }
}

#[test]
fn the_first_start_makes_an_operator_key_and_shows_it_once() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    let home = tempfile::tempdir().unwrap();
    let start = || {
        let mut child = Command::new(env!("CARGO_BIN_EXE_kavach"))
            .args(["--addr", "127.0.0.1:0", "--data-dir", "data"])
            .env_clear()
            .current_dir(home.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut said = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let listening = line.starts_with("Listening on ");
            said.push(line);
            if listening {
                break;
            }
        }
        (child, said)
    };
    let ask = |said: &[String], key: &str| {
        let base = said.last().unwrap().strip_prefix("Listening on ").unwrap();
        crate::client::Client::new(base, Some(&format!("Bearer {key}"))).get("/v1/tenants").status
    };
    let (mut child, said) = start();
    let key = said.iter().find_map(|line| line.split_whitespace().find(|word| word.starts_with("kvo_"))).unwrap();
    let key = key.to_owned();
    assert_eq!(key.len(), 4 + 43);
    assert_eq!((ask(&said, &key), ask(&said, OPERATOR_KEY)), (200, 401));
    child.kill().unwrap();
    child.wait().unwrap();
    let (mut child, said) = start();
    let again = said.join("\n").contains("kvo_");
    let status = ask(&said, &key);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!again, "{said:?}");
    assert_eq!(status, 200);
    let mut paths = Vec::new();
    files_under(home.path(), &mut paths);
    assert!(paths.iter().all(|path| !holds(&fs::read(path).unwrap(), key.as_bytes())));
}

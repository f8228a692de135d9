//! The audit trail as a whole: exports, live streams, checkpoints, retention on disk, and `kavach audit verify`.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};
use ureq::http::Request;

use crate::client::Client;
use crate::events::Stream;
use crate::harness::{OPERATOR_KEY, Options, Server, eventually};
use crate::world::{call, permits};

/// Some entries with everything that needs care in a text format.
fn odd_entries(operator: &Client) {
    let acme = operator.tenant("acme");
    let globex = operator.tenant("globex");
    let agent = operator
        .agent_with("acme", json!({ "permissions": permits("docs:*", &["read"]), "ownerId": "Zoë, \"the\" owner" }));
    let arguments = json!({ "path": "a\r\nb,\"c\"", "list": [1, 2.5, null], "f": "=1+1" });
    for n in 0..20 {
        let (action, user_agent) = (["read", "=drop"][n % 2], ["", "a,b\t\"c\""][n / 2 % 2]);
        let body = json!({
            "agentId": agent.id, "action": action, "resource": format!("docs:{n}"),
            "tokensCost": 0.25, "arguments": arguments,
            "context": { "ip": "2001:db8::1", "userAgent": user_agent },
        });
        operator.authorize(body).expect(200);
    }
    let traced: [(&str, &[u8]); 1] = [("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")];
    let body = call(&agent.id).to_string();
    operator.try_send("POST", "/v1/authorize", &traced, Some(body.as_bytes())).unwrap().expect(200);
    let other = operator.reader(&globex);
    operator.granted(call(&other.id));
    operator.post("/v1/usage", json!({ "agentId": agent.id, "tokensCost": 1.25, "calls": 2 })).expect(200);
    assert_eq!(acme.slug, "acme");
}

/// The cells of RFC 4180 text.
fn rows(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut cell, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '"' if quoted && chars.peek() == Some(&'"') => cell.extend(chars.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut cell)),
            '\r' if !quoted => {
                assert_eq!(chars.next(), Some('\n'));
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            other => cell.push(other),
        }
    }
    assert!(!quoted && cell.is_empty() && row.is_empty(), "it ends with a whole row");
    rows
}

/// An entry's member as a cell.
fn cell(name: &str, value: &Value) -> Value {
    match value {
        Value::Null => json!(""),
        Value::String(text) => json!(text),
        // Compared as JSON, since a cell keeps the call's text.
        other if name == "parameters" => other.clone(),
        other => json!(other.to_string()),
    }
}

#[test]
fn every_format_holds_what_the_query_shows() {
    let server = Server::start();
    let operator = server.operator();
    odd_entries(&operator);
    for filter in ["", "tenantId=acme", "tenantId=acme&result=denied&actions=%3Ddrop", "kind=admin", "kind=usage"] {
        let mut expected = operator.trail(filter);
        expected.reverse();
        assert!(!expected.is_empty(), "{filter}");
        let export = |format: &str| {
            let answer = operator.get(&format!("/v1/audit/export?{format}&{filter}"));
            assert_eq!(answer.status, 200, "{}", answer.text());
            answer
        };
        let sorted = |mut entries: Vec<Value>| {
            // Tenants come one after another; each tenant's entries are in order already.
            if !filter.contains("tenantId") {
                entries.sort_by_key(|entry| entry["id"].as_str().unwrap().to_owned());
            }
            entries
        };
        for format in ["", "format=json"] {
            let answer = export(format);
            assert_eq!(answer.header("content-type"), Some("application/json"));
            let name = if filter.contains("acme") { "acme" } else { "all" };
            let disposition = format!("attachment; filename=\"kavach-audit-{name}.json\"");
            assert_eq!(answer.header("content-disposition"), Some(&*disposition));
            assert_eq!(sorted(answer.items()), expected, "{filter}");
        }
        let answer = export("format=ndjson");
        assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
        assert!(answer.text().ends_with('\n'));
        let lines = answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(sorted(lines), expected, "{filter}");
        let answer = export("format=csv");
        assert_eq!(answer.header("content-type"), Some("text/csv; charset=utf-8; header=present"));
        let mut table = rows(&answer.text()).into_iter();
        let names = table.next().unwrap();
        let members: Vec<_> = expected[0].as_object().unwrap().keys().cloned().collect();
        let mut columns = names.clone();
        columns.sort();
        assert_eq!(columns, members, "the columns are the members");
        let read: Vec<Value> = table
            .map(|row| {
                let cells = names.iter().zip(row).map(|(name, text)| {
                    let value = match name.as_str() {
                        "parameters" | "before" if !text.is_empty() => serde_json::from_str(&text).unwrap(),
                        _ => json!(text),
                    };
                    (name.clone(), value)
                });
                Value::Object(cells.collect())
            })
            .collect();
        let shown = expected.iter().map(|entry| {
            let members = entry.as_object().unwrap().iter();
            Value::Object(members.map(|(name, value)| (name.clone(), cell(name, value))).collect())
        });
        assert_eq!(sorted(read), shown.collect::<Vec<_>>(), "{filter}");
    }
    // An empty result is a complete document too.
    let none = "tenantId=acme&since=2100-01-01T00:00:00Z";
    assert_eq!(operator.get(&format!("/v1/audit/export?{none}")).expect(200), json!([]));
    assert_eq!(operator.get(&format!("/v1/audit/export?format=ndjson&{none}")).text(), "");
    assert_eq!(rows(&operator.get(&format!("/v1/audit/export?format=csv&{none}")).text()).len(), 1);
    // A tenant's own key sees its own trail.
    let globex = operator.post("/v1/tenants/globex/keys", json!({ "name": "k" })).expect(201);
    let own = server.with_key(globex["key"].as_str().unwrap());
    assert_eq!(own.get("/v1/audit/export").items().len(), 1);
    own.get("/v1/audit/export?tenantId=acme").problem(403, "TENANT_MISMATCH");
}

#[test]
fn errors_about_parameters_name_them() {
    let server = Server::start();
    let operator = server.operator();
    operator.tenant("acme");
    for route in ["export", "stream"] {
        for (query, field) in [
            ("limit=5", "limit"),
            ("offset=0", "offset"),
            ("cursor=x", "cursor"),
            ("since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", "since"),
            ("since=yesterday", "since"),
            ("until=2026-13-01T00:00:00Z", "until"),
            ("agentId=nobody", "agentId"),
            ("kind=every", "kind"),
            ("result=maybe", "result"),
            ("format=xml", "format"),
        ] {
            let answer = operator.get(&format!("/v1/audit/{route}?{query}"));
            assert_eq!(answer.status, 400, "{route} {query}: {}", answer.text());
            let details = &answer.json()["details"]["field"];
            assert_eq!(details, field, "{route} {query}: {}", answer.text());
        }
        operator.get(&format!("/v1/audit/{route}?tenantId=nobody")).problem(404, "TENANT_NOT_FOUND");
        server.anonymous().get(&format!("/v1/audit/{route}")).problem(401, "UNAUTHENTICATED");
    }
    operator.get("/v1/audit?format=csv").problem(400, "INVALID_QUERY");
    for bad in ["aud_1", "17", "aud_00000000000000000000000000000000"] {
        let headers: [(&str, &[u8]); 1] = [("Last-Event-ID", bad.as_bytes())];
        let answer = operator.try_send("GET", "/v1/audit/stream?tenantId=acme", &headers, None).unwrap();
        answer.problem(400, "INVALID_QUERY");
        assert_eq!(answer.json()["details"]["field"], "Last-Event-ID");
    }
}

/// Flips a bit in the resource of one call on `docs:1` in a tenant's only segment.
pub fn damage(folder: &Path, nth: usize) {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let journal = files.filter(|path| path.extension().is_some_and(|ending| ending == "journal")).min().unwrap();
    let mut bytes = fs::read(&journal).unwrap();
    let wanted = b"docs:1";
    let at = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(wanted)).nth(nth).unwrap();
    bytes[at] ^= 1;
    fs::write(journal, bytes).unwrap();
}

#[test]
fn an_export_that_fails_does_not_look_complete() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let arguments = json!({ "text": "x".repeat(1_000) });
    let mut request = call(&agent.id);
    request["arguments"] = arguments;
    for _ in 0..4 {
        operator.post("/v1/authorize/batch", json!({ "requests": vec![request.clone(); 500] })).expect(200);
    }
    let whole = operator.get("/v1/audit/export?format=ndjson&tenantId=acme");
    assert_eq!(whole.text().lines().count(), 2_000);
    // Its events go into its folder.
    operator.post("/v1/snapshot", json!({})).expect(200);
    damage(&server.folder(&acme.id), 1_000);
    for format in ["json", "ndjson", "csv"] {
        let path = format!("/v1/audit/export?format={format}&tenantId=acme");
        let broken = operator.try_send("GET", &path, &[], None);
        assert!(broken.is_err(), "{format}: it seemed whole: {}", broken.unwrap().text());
    }
    // If nothing was sent yet, the status says so.
    damage(&server.folder(&acme.id), 0);
    operator.get("/v1/audit/export?tenantId=acme").problem(503, "TENANT_UNAVAILABLE");
    assert_eq!(operator.get("/v1/audit/export?tenantId=default").expect(200), json!([]));
}

#[test]
fn a_stream_shows_each_entry_once_in_order_while_many_write() {
    const THREADS: usize = 4;
    const CALLS: usize = 150;
    for durability in ["interval", "fsync"] {
        let server = Server::start_with(Options::args(&["--durability", durability]));
        let operator = server.operator();
        let (acme, globex) = (operator.tenant("acme"), operator.tenant("globex"));
        let (agent, other) = (operator.reader(&acme), operator.reader(&globex));
        operator.granted(call(&agent.id));
        let open = |query: &str, last: Option<&str>| Stream::open(server.base(), OPERATOR_KEY, query, last).unwrap();
        let mut one = open("tenantId=acme", None);
        let mut all = open("", None);
        let mut denied = open("tenantId=acme&result=denied", None);
        let mut own = Stream::open(server.base(), &globex.key, "", None).unwrap();
        let done = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (operator, agent, other, done) = (&operator, &agent, &other, &done);
                scope.spawn(move || {
                    for n in 0..CALLS {
                        let action = if (n + thread) % 10 == 0 { "drop" } else { "read" };
                        let body = json!({ "agentId": agent.id, "action": action, "resource": "docs:1" });
                        operator.authorize(body).expect(200);
                        operator.granted(call(&other.id));
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                });
            }
            // Read while they write.
            let seen = one.take(THREADS * CALLS);
            let mut seen_of_all = all.take(THREADS * CALLS);
            let last_id = all.last_id.clone().expect("a live stream gives ids");
            let rest_of_all = all.take(THREADS * CALLS);
            seen_of_all.extend(rest_of_all.clone());
            let seen_denied = denied.take(THREADS * CALLS / 10);
            let seen_own = own.take(THREADS * CALLS);
            eventually("all calls are made", || (done.load(Ordering::Relaxed) == THREADS).then_some(()));
            let mut trail = operator.trail("tenantId=acme");
            trail.reverse();
            trail.remove(0);
            assert_eq!(seen, trail, "all that came after the stream began, in order");
            let mut trail_denied = operator.trail("tenantId=acme&result=denied");
            trail_denied.reverse();
            assert_eq!(seen_denied, trail_denied);
            let mut trail_own = operator.trail("tenantId=globex");
            trail_own.reverse();
            assert_eq!(seen_own, trail_own);
            let of = |entries: &[Value], tenant: &str| -> Vec<Value> {
                entries.iter().filter(|entry| entry["tenantId"] == tenant).cloned().collect()
            };
            assert_eq!(of(&seen_of_all, &acme.id), trail, "of each tenant in order");
            assert_eq!(of(&seen_of_all, &globex.id), trail_own);
            // It continues exactly after any entry.
            for at in [0, 1, THREADS * CALLS / 2, THREADS * CALLS - 2] {
                let mut resumed = open("tenantId=acme", Some(seen[at]["id"].as_str().unwrap()));
                assert_eq!(resumed.take(trail.len() - at - 1), trail[at + 1..]);
            }
            let mut since = open("tenantId=acme&since=2000-01-01T00:00:00Z", None);
            assert_eq!(since.take(trail.len() + 1)[1..], trail);
            // Over all tenants, nothing after it is left out, and a repeated entry has its old id.
            let mut resumed = open("", Some(&last_id));
            let mut missing: Vec<_> = rest_of_all.iter().map(|entry| entry["id"].clone()).collect();
            let last = seen_of_all.iter().find(|entry| entry["id"] == json!(last_id)).unwrap();
            while !missing.is_empty() {
                let entry = resumed.next().unwrap();
                missing.retain(|id| *id != entry["id"]);
                if entry["tenantId"] == last["tenantId"] {
                    assert!(entry["id"].as_str() > Some(&*last_id), "of its tenant exactly what came after it");
                }
            }
        });
    }
}

#[test]
fn a_stream_of_all_tenants_includes_new_ones() {
    let server = Server::start();
    let operator = server.operator();
    let mut decisions = Stream::open(server.base(), OPERATOR_KEY, "", None).unwrap();
    let mut admin = Stream::open(server.base(), OPERATOR_KEY, "kind=admin", None).unwrap();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let id = operator.granted(call(&agent.id));
    assert_eq!(decisions.next().unwrap()["id"], json!(id));
    let actions: Vec<_> = admin.take(3).iter().map(|entry| entry["action"].as_str().unwrap().to_owned()).collect();
    assert_eq!(actions, ["tenant.create", "key.create", "agent.create"]);
    // Erasing one does not end the stream.
    operator.delete("/v1/tenants/acme?confirm=acme").expect(204);
    let globex = operator.tenant("globex");
    let agent = operator.reader(&globex);
    let id = operator.granted(call(&agent.id));
    assert_eq!(decisions.next().unwrap()["id"], json!(id));
}

#[test]
fn a_stream_ends_with_the_server_the_tenant_or_the_key() {
    let mut server = Server::start();
    let operator = server.operator();
    let (acme, globex) = (operator.tenant("acme"), operator.tenant("globex"));
    let mut by_key = Stream::open(server.base(), &acme.key, "", None).unwrap();
    let mut of_globex = Stream::open(server.base(), OPERATOR_KEY, "tenantId=globex", None).unwrap();
    let mut of_all = Stream::open(server.base(), OPERATOR_KEY, "", None).unwrap();
    operator.delete(&format!("/v1/tenants/acme/keys/{}", acme.key_id)).expect(204);
    assert_eq!(by_key.next(), None, "its key is gone");
    let agent = operator.reader(&globex);
    operator.granted(call(&agent.id));
    let entry = of_globex.next().unwrap();
    // A stream that has not read it yet would end without it, and go on from there with the next server.
    assert_eq!(of_all.next(), Some(entry.clone()));
    server.stop();
    assert_eq!(of_globex.next(), None);
    assert_eq!(of_all.next(), None);
    // The next server continues where the last one was.
    server.start_again();
    let operator = server.operator();
    let id = operator.granted(call(&agent.id));
    let last = entry["id"].as_str().unwrap();
    let mut again = Stream::open(server.base(), &globex.key, "", Some(last)).unwrap();
    assert_eq!(again.next().unwrap()["id"], json!(id));
    let mut seen_by_operator = Stream::open(server.base(), OPERATOR_KEY, "tenantId=globex", None).unwrap();
    operator.delete("/v1/tenants/globex?confirm=globex").expect(204);
    assert_eq!(again.next(), None, "its tenant is gone");
    assert_eq!(seen_by_operator.next(), None, "whoever reads it");
}

#[test]
fn streams_are_limited() {
    let server = Server::start();
    let operator = server.operator();
    operator.tenant("acme");
    let open = |query: &str| Stream::open(server.base(), OPERATOR_KEY, query, None);
    let mut streams: Vec<_> = (0..16).map(|_| open("tenantId=acme").ok().unwrap()).collect();
    assert_eq!(open("tenantId=acme").err(), Some(429));
    operator.get("/v1/audit/stream?tenantId=acme").problem(429, "TOO_MANY_STREAMS");
    assert!(open("tenantId=default").is_ok(), "another tenant's are its own");
    drop(streams.pop());
    // The server notices that a client is gone when it next has something to send.
    let agent = operator.agent("acme", permits("docs:*", &["read"]));
    eventually("the place is free again", || {
        operator.granted(call(&agent.id));
        open("tenantId=acme").ok()
    });
}

#[test]
fn a_stream_outlives_a_slow_client_and_holds_up_nobody() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let mut slow = Stream::open(server.base(), OPERATOR_KEY, "tenantId=acme", None).unwrap();
    let mut request = call(&agent.id);
    request["arguments"] = json!({ "text": "x".repeat(9_000) });
    // Far more than any socket's buffers hold.
    let batch = json!({ "requests": vec![request; 100] });
    for _ in 0..20 {
        operator.post("/v1/authorize/batch", batch.clone()).expect(200);
    }
    let mut trail = operator.trail("tenantId=acme");
    trail.reverse();
    assert_eq!(trail.len(), 2_000);
    // Exports that nobody reads keep their places until their clients go away.
    let export = || {
        let request = Request::builder()
            .uri(format!("{}/v1/audit/export?tenantId=acme", server.base()))
            .header("Authorization", format!("Bearer {OPERATOR_KEY}"));
        let config = ureq::Agent::config_builder().http_status_as_error(false).build();
        ureq::Agent::from(config).run(request.body(()).unwrap()).unwrap()
    };
    let begun = [export(), export()];
    operator.get("/v1/audit/export?tenantId=acme").problem(429, "TOO_MANY_STREAMS");
    drop(begun);
    eventually("a place is free again", || (export().status() == 200).then_some(()));
    assert_eq!(slow.take(2_000), trail);
}

/// Runs `kavach audit verify`; returns the exit code and the report.
fn verify(args: &[&str]) -> (i32, Value) {
    let binary = env!("CARGO_BIN_EXE_kavach");
    let output = Command::new(binary).args(["audit", "verify", "--json"]).args(args).output().unwrap();
    let text = if output.status.code() == Some(2) { output.stderr } else { output.stdout };
    let text = String::from_utf8(text).unwrap();
    (output.status.code().unwrap(), serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

#[test]
fn a_checkpoint_proves_the_trail_later() {
    let mut server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let ids: Vec<_> = (0..10).map(|_| operator.granted(call(&agent.id))).collect();
    let checkpoint = operator.get("/v1/audit/checkpoint?tenantId=acme").expect(200);
    assert_eq!(checkpoint["tenantId"], json!(acme.id));
    assert_eq!(checkpoint["seq"], 13, "a tenant, its key, an agent and ten calls");
    assert_eq!(checkpoint["hash"].as_str().unwrap().len(), 64);
    assert!(checkpoint["time"].as_str().unwrap().ends_with('Z'));
    assert_eq!(server.with_key(&acme.key).get("/v1/audit/checkpoint").expect(200), checkpoint, "nothing is new");
    server.with_key(&acme.key).get("/v1/audit/checkpoint?tenantId=default").problem(403, "TENANT_MISMATCH");
    assert_eq!(operator.get("/v1/audit/checkpoint").expect(200)["tenantId"], Value::Null);
    operator.granted(call(&agent.id));
    // A change is on disk once it is answered, and the journal's link then covers everything before it.
    operator.patch("/v1/tenants/acme", json!({ "name": "Acme" })).expect(200);
    let data = server.data_dir();
    let data = data.to_str().unwrap();
    let (code, text) = verify(&["--data-dir", data, "--tenant", "acme"]);
    assert_eq!(code, 2);
    assert!(text.as_str().unwrap().contains("a server is using"), "{text}");
    // A killed server leaves an intact trail.
    server.kill();
    let file = server.data_dir().join("kept.txt");
    fs::write(&file, checkpoint.to_string()).unwrap();
    for tenant in ["acme", acme.id.as_str()] {
        for kept in [checkpoint.to_string(), file.to_str().unwrap().to_owned()] {
            let (code, report) = verify(&["--data-dir", data, "--tenant", tenant, "--checkpoint", &kept]);
            assert_eq!((code, &report["ok"]), (0, &json!(true)), "{report}");
            assert_eq!((&report["lastSeq"], &report["checkpoint"]), (&json!(15), &json!("passed")));
        }
    }
    assert_eq!(verify(&["--data-dir", data, "--tenant", "default"]).0, 0);
    assert_eq!(verify(&["--data-dir", data, "--tenant", "nobody"]).0, 2);
    assert_eq!(verify(&["--data-dir", data, "--tenant", "acme", "--checkpoint", "/none"]).0, 2);
    assert_eq!(verify(&["--data-dir", data, "--tenant", "default", "--checkpoint", &checkpoint.to_string()]).0, 2);
    let mut other = checkpoint.clone();
    other["hash"] = json!("00".repeat(32));
    let (code, report) = verify(&["--data-dir", data, "--tenant", "acme", "--checkpoint", &other.to_string()]);
    assert_eq!((code, &report["fault"]["kind"]), (1, &json!("rewritten")), "{report}");
    // A copy needs no data directory, and the report names the bad entry.
    let copy = tempfile::tempdir().unwrap();
    let copied = copy.path().join("copy");
    fs::create_dir(&copied).unwrap();
    for entry in fs::read_dir(server.folder(&acme.id)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copied.join(entry.file_name())).unwrap();
    }
    let folder = copied.to_str().unwrap();
    assert_eq!(verify(&["--folder", folder]).0, 0);
    damage(&copied, 6);
    let (code, report) = verify(&["--folder", folder, "--checkpoint", &checkpoint.to_string()]);
    assert_eq!(code, 1);
    let fault = &report["fault"];
    assert_eq!((&fault["seq"], &fault["afterAuditId"]), (&json!(10), &json!(ids[5])), "{fault}");
    assert_eq!((&fault["kind"], &report["checkpoint"]), (&json!("changed"), &json!("notPassed")));
    let output =
        Command::new(env!("CARGO_BIN_EXE_kavach")).args(["audit", "verify", "--folder", folder]).output().unwrap();
    let sentence = String::from_utf8(output.stdout).unwrap();
    assert!(sentence.contains("is NOT intact") && sentence.contains(&ids[5]), "{sentence}");
    // In the server's own directory nothing changed.
    server.start_again();
    assert_eq!(server.operator().trail("tenantId=acme").len(), 11);
}

#[test]
fn an_export_is_complete_during_writes() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    for _ in 0..5 {
        operator.post("/v1/authorize/batch", json!({ "requests": vec![call(&agent.id); 500] })).expect(200);
    }
    let mut there = operator.trail("tenantId=acme");
    there.reverse();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                operator.granted(call(&agent.id));
            }
        });
        for _ in 0..5 {
            let exported = operator.get("/v1/audit/export?tenantId=acme").items();
            assert_eq!(exported[..there.len()], there);
            assert!(exported.windows(2).all(|pair| pair[0]["id"].as_str() < pair[1]["id"].as_str()));
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_tenant_that_is_down_delays_no_stream_and_fails_an_export() {
    let mut server = Server::start();
    let operator = server.operator();
    let tenants = ["acme", "globex", "initech"].map(|slug| operator.tenant(slug));
    let agents = tenants.each_ref().map(|tenant| operator.reader(tenant));
    for agent in &agents {
        operator.granted(call(&agent.id));
    }
    server.stop();
    // The tenant with the lowest id.
    damage(&server.folder(&tenants[0].id), 0);
    server.start_again();
    let operator = server.operator();
    let mut stream = Stream::open(server.base(), OPERATOR_KEY, "since=2000-01-01T00:00:00Z", None).unwrap();
    let seen = stream.take(2);
    let id = operator.granted(call(&agents[2].id));
    let live = stream.next().unwrap();
    let mut shown: Vec<_> = seen.iter().map(|entry| entry["tenantId"].as_str().unwrap()).collect();
    shown.sort_unstable();
    let mut up = [tenants[1].id.as_str(), tenants[2].id.as_str()];
    up.sort_unstable();
    assert_eq!((shown, &live["id"]), (up.to_vec(), &json!(id)));
    operator.get("/v1/audit/export").problem(503, "TENANT_UNAVAILABLE");
    operator.get("/v1/audit/stream?tenantId=acme").problem(503, "TENANT_UNAVAILABLE");
    assert_eq!(operator.get("/v1/audit/export?tenantId=initech").items().len(), 2);
}

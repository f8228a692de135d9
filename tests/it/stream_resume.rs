//! A stream of all tenants breaks off and resumes from its client's id: no entry may be lost.

use std::collections::HashSet;
use std::fs;

use kavach::domain::AuditId;
use kavach::journal::DataDir;
use serde_json::{Value, json};

use crate::damage::files;
use crate::events::Stream;
use crate::harness::{OPERATOR_KEY, Options, Server, eventually};
use crate::retention::{A_DAY, DAYS, now, with_a_past};
use crate::world::call;

/// Entries of one tenant's past.
const EACH: usize = DAYS as usize * A_DAY as usize;

fn id(entry: &Value) -> String {
    entry["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_backlog_that_breaks_off_between_two_tenants_resumes_with_the_second() {
    let root = tempfile::tempdir().unwrap();
    let data = DataDir::open(root.path()).unwrap();
    let of =
        |slug| -> HashSet<String> { with_a_past(&data, slug, None, now()).1.into_iter().map(|made| made.1).collect() };
    let all: HashSet<_> = of("acme").union(&of("globex")).cloned().collect();
    drop(data);
    let server = Server::start_with(Options { data_dir: Some(root.path().to_owned()), ..Options::default() });
    let query = "since=2000-01-01T00:00:00Z";
    // Wherever it breaks: what was seen and what the next stream shows is everything.
    for seen in [1, EACH, EACH + 1, 2 * EACH - 1] {
        let mut first = Stream::open(server.base(), OPERATOR_KEY, query, None).unwrap();
        let mut shown: HashSet<_> = first.take(seen).iter().map(id).collect();
        let last = first.last_id.take();
        drop(first);
        let mut again = Stream::open(server.base(), OPERATOR_KEY, query, last.as_deref()).unwrap();
        while shown.len() < all.len() {
            shown.insert(id(&again.next().expect("the stream ended")));
        }
        assert_eq!(shown, all, "after {seen}");
    }
}

#[test]
fn a_stream_that_has_caught_up_resumes_from_its_newest_entry() {
    let server = Server::start();
    let operator = server.operator();
    let (acme, globex) = (operator.tenant("acme"), operator.tenant("globex"));
    let agents = [operator.reader(&acme), operator.reader(&globex)];
    let old: Vec<_> = (0..4).map(|n| operator.granted(call(&agents[n % 2].id))).collect();
    let mut stream = Stream::open(server.base(), OPERATOR_KEY, "since=2000-01-01T00:00:00Z", None).unwrap();
    stream.take(old.len());
    // Live entries have ids, and the id never goes back.
    let mut last = None;
    for agent in agents.iter().cycle().take(6) {
        eventually("it says that one can go on from its newest entry", || {
            let made = operator.granted(call(&agent.id));
            assert_eq!(id(&stream.next().unwrap()), made);
            assert!(stream.last_id >= last, "{:?} after {last:?}", stream.last_id);
            last.clone_from(&stream.last_id);
            (last == Some(made)).then_some(())
        });
    }
    // A resumed stream shows what comes after, and sends no client back.
    let mut again = Stream::open(server.base(), OPERATOR_KEY, "since=2000-01-01T00:00:00Z", last.as_deref()).unwrap();
    let made = operator.granted(call(&agents[0].id));
    loop {
        let entry = again.next().expect("the stream ended");
        assert!(again.last_id >= last, "{:?} after {last:?}", again.last_id);
        if entry["id"] == json!(made) {
            break;
        }
    }
}

#[test]
fn an_id_from_a_lost_history_is_refused() {
    let mut server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let kept = operator.granted(call(&agent.id));
    server.stop();
    let (place, backup) = (server.folder(&acme.id), server.data_dir().with_extension("backup"));
    fs::rename(&place, &backup).unwrap();
    let restore = || {
        fs::create_dir_all(&place).unwrap();
        for file in files(&place, "") {
            fs::remove_file(file).unwrap();
        }
        for file in files(&backup, "") {
            fs::copy(&file, place.join(file.file_name().unwrap())).unwrap();
        }
    };
    restore();
    server.start_again();
    // Lost with the restore; an equal number come after it.
    let lost: Vec<_> = (0..3).map(|_| server.operator().granted(call(&agent.id))).collect();
    server.stop();
    restore();
    server.start_again();
    let operator = server.operator();
    let first = operator.granted(call(&agent.id));
    let made = AuditId::parse(&kept).unwrap();
    let ids = [
        AuditId::derive(made.time(), made.seq() + 1_000, made.tag()),
        AuditId::derive(made.time().plus_millis(1), made.seq(), made.tag()),
        AuditId::derive(made.time().plus_millis(1), made.seq() - 1, made.tag()),
        AuditId::derive(made.time(), 0, made.tag()),
    ];
    let refused: Vec<_> = ids.iter().map(ToString::to_string).chain(lost).collect();
    let keys = [(OPERATOR_KEY, ""), (OPERATOR_KEY, "tenantId=acme"), (acme.key.as_str(), "")];
    for (key, query) in keys {
        for id in &refused {
            let path = format!("/v1/audit/stream?since=2000-01-01T00:00:00Z&{query}");
            let headers: [(&str, &[u8]); 1] = [("Last-Event-ID", id.as_bytes())];
            let answer = server.with_key(key).try_send("GET", &path, &headers, None).unwrap();
            answer.problem(400, "INVALID_QUERY");
            assert_eq!(answer.json()["details"]["field"], "Last-Event-ID");
        }
        let mut stream = Stream::open(server.base(), key, query, Some(&kept)).unwrap();
        while id(&stream.next().expect("the stream ended")) != first {}
    }
}

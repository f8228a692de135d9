//! A stream of all tenants that breaks off and goes on from the id its client has: no entry may be lost.

use std::collections::HashSet;

use kavach::domain::AuditId;
use kavach::journal::DataDir;
use serde_json::{Value, json};

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
fn a_backlog_that_breaks_off_between_two_tenants_goes_on_with_the_second() {
    let root = tempfile::tempdir().unwrap();
    let data = DataDir::open(root.path()).unwrap();
    let of =
        |slug| -> HashSet<String> { with_a_past(&data, slug, None, now()).1.into_iter().map(|made| made.1).collect() };
    let all: HashSet<_> = of("acme").union(&of("globex")).cloned().collect();
    drop(data);
    let server = Server::start_with(Options { data_dir: Some(root.path().to_owned()), ..Options::default() });
    let query = "since=2000-01-01T00:00:00Z";
    // Wherever it breaks: what was seen and what the next stream shows is all there is.
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
fn a_stream_that_has_caught_up_goes_on_from_its_newest_entry() {
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
    // One that goes on shows what comes after it, and asks no client to go back.
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
fn an_id_past_the_end_of_a_tenants_trail_hides_nothing_that_comes() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let made = operator.granted(call(&agent.id));
    // The trail has not reached that number, as after an older copy was put back.
    let made = AuditId::parse(&made).unwrap();
    let beyond = AuditId::derive(made.time(), made.seq() + 1_000, made.tag()).to_string();
    let next = operator.granted(call(&agent.id));
    for query in ["", "tenantId=acme"] {
        let mut stream = Stream::open(server.base(), OPERATOR_KEY, query, Some(&beyond)).unwrap();
        let live = operator.granted(call(&agent.id));
        for wanted in [&next, &live] {
            // What is within the overlap may come again.
            while id(&stream.next().expect("the stream ended")) != *wanted {}
        }
    }
}

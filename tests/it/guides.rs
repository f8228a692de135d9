//! The guides' commands, as a new user pastes them.

use std::net::TcpListener;

use crate::followed::{Reader, steps};
use crate::harness::{Options, Server};

#[test]
fn a_customer_is_capped_alerted_and_billed_as_the_guide_says() {
    let guide = include_str!("../../docs/guides/cap-alert-and-bill.md");
    let home = tempfile::tempdir().unwrap();
    // The receiver may be slower than the first message.
    let env = vec![("KAVACH_TEST_WEBHOOK_WAIT_MS", "20")];
    let server = Server::start_with(Options { env, ..Options::args(&["--webhook-allow", "127.0.0.1/32"]) });
    // Nothing else has it: the receiver takes it a moment later.
    let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let replaced = [("http://127.0.0.1:7600", server.base()), ("7700", &port.to_string())];
    let guide = replaced.into_iter().fold(guide.to_owned(), |guide, (is, becomes)| guide.replace(is, becomes));
    let mut steps = steps(&guide);
    let start = steps.remove(0).commands;
    assert_eq!(start.trim(), "kavach --data-dir soylent-data --webhook-allow 127.0.0.1/32", "as this test starts it");
    let mut reader = Reader::new(home.path());
    for step in &steps {
        reader.follow(step);
    }
    reader.finish();
}

//! An endpoint that fails half of the time, while the server is killed and started again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::endpoint::{Endpoint, Reply};
use super::server;
use crate::harness::eventually;

const KILLS: usize = 6;
const EACH: usize = 15;

#[test]
fn each_message_comes_in_order_and_again_only_after_a_kill() {
    let mut server = server();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let draw = AtomicUsize::new(7);
    let endpoint = Endpoint::answering(move |_| {
        // A fixed sequence of good and bad answers, half of each.
        let next = draw.load(Ordering::Relaxed).wrapping_mul(1_103_515_245).wrapping_add(12_345);
        draw.store(next, Ordering::Relaxed);
        match next >> 16 & 3 {
            0 | 1 => Reply::Status(200),
            2 => Reply::Status(503),
            _ => Reply::Close,
        }
    });
    let made = operator.webhook("acme", &endpoint.url(), &["agent.created"]);
    let mut agents = Vec::new();
    for kill in 0..=KILLS {
        let operator = server.operator();
        for _ in 0..EACH {
            agents.push(operator.reader(&acme).id);
        }
        if kill < KILLS {
            // Somewhere in the middle of sending.
            let some = kill * EACH + EACH / 3;
            eventually("some were taken", || (endpoint.taken().len() >= some).then_some(()));
            server.crash_and_start();
        }
    }
    let operator = server.operator();
    operator.drained(&made);
    let taken = endpoint.taken();
    let told = |request: &super::endpoint::Received| request.json()["data"]["resource"].as_str().unwrap().to_owned();
    // In the order in which they were made, but for what a kill repeats.
    let mut first_seen = Vec::new();
    let mut times: HashMap<String, usize> = HashMap::new();
    for request in &taken {
        let agent = told(request);
        let count = times.entry(agent.clone()).or_default();
        *count += 1;
        if *count == 1 {
            first_seen.push(agent);
        }
        assert!(request.is_signed_by(made["secret"].as_str().unwrap()));
    }
    assert_eq!(first_seen, agents);
    let again = taken.len() - agents.len();
    assert!(again <= KILLS, "{again} came again after {KILLS} kills");
    // A message has one id, however often it comes.
    let ids: HashMap<_, _> = taken.iter().map(|request| (request.id().to_owned(), told(request))).collect();
    assert_eq!(ids.len(), agents.len());
    // A clean stop repeats nothing.
    let before = endpoint.taken().len();
    server.stop();
    server.start_again();
    let operator = server.operator();
    operator.reader(&acme);
    endpoint.wait_for(before + 1);
    operator.drained(&made);
    assert_eq!(endpoint.taken().len(), before + 1);
    assert_eq!(operator.get("/v1/webhooks?tenantId=acme").items()[0]["pending"], json!(0));
}

#[test]
fn what_waits_is_sent_after_a_start_without_a_call() {
    let mut server = server();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let is_up = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let up = std::sync::Arc::clone(&is_up);
    let endpoint = Endpoint::answering(move |_| Reply::Status(if up.load(Ordering::Relaxed) { 200 } else { 500 }));
    operator.webhook("acme", &endpoint.url(), &["agent.created"]);
    // One tenant that is clean, so that its row says that nothing waits.
    operator.tenant("quiet");
    let mut made = Vec::new();
    for is_clean in [true, false] {
        made.push(server.operator().reader(&acme).id);
        if is_clean {
            server.stop();
            server.start_again();
        } else {
            server.crash_and_start();
        }
    }
    is_up.store(true, Ordering::Relaxed);
    let taken = endpoint.wait_for(2);
    let told: Vec<_> = taken.iter().map(|request| request.json()["data"]["resource"].clone()).collect();
    assert_eq!(told, made);
}

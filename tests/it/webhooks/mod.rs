//! Webhooks: what endpoints get, however they and the server fail.

mod crash;
mod endpoint;
mod reach;
mod secrets;
mod sending;
mod thresholds;

use serde_json::{Value, json};

use crate::client::Client;
use crate::harness::{Options, Server, eventually};

/// A server whose webhooks may reach the tests' endpoints, and try again after some milliseconds.
fn server() -> Server {
    Server::start_with(options())
}

fn options() -> Options {
    let env = vec![("KAVACH_TEST_WEBHOOK_WAIT_MS", "20")];
    Options { env, ..Options::args(&["--webhook-allow", "127.0.0.0/8"]) }
}

impl Client {
    /// Creates a webhook of a tenant, and returns the answer.
    fn webhook(&self, tenant: &str, url: &str, events: &[&str]) -> Value {
        self.post("/v1/webhooks", json!({ "tenantId": tenant, "url": url, "events": events })).expect(201)
    }

    /// A webhook's messages that stand there, newest first.
    fn deliveries(&self, webhook: &Value, status: &str) -> Vec<Value> {
        self.get(&format!("/v1/webhooks/{}/deliveries?status={status}&limit=1000", id(webhook))).items()
    }

    /// Waits until a webhook has nothing left to send.
    fn drained(&self, webhook: &Value) {
        eventually("all messages are sent", || self.deliveries(webhook, "pending").is_empty().then_some(()));
    }
}

/// The id in an answer.
fn id(made: &Value) -> &str {
    made["id"].as_str().unwrap()
}

//! The requests of a load, rendered before it starts: sending one only copies bytes.

use std::io::Write;

use fastrand::Rng;

use crate::calls::CallSeries;
use crate::options::BaseUrl;
use crate::targets::Targets;

/// Different bodies of single calls: enough that a server sees no few repeating ones, few enough to stay in a cache.
const SINGLE_BODIES: usize = 1_000;
/// Different bodies of batches, each of which holds up to a thousand calls.
const BATCH_BODIES: usize = 64;

/// The requests of a load, in parts that are copied together when one is sent.
pub struct RenderedRequests {
    /// Up to the token.
    prefix: Box<[u8]>,
    /// All agents' tokens one after the other, and where each ends.
    tokens: Box<[u8]>,
    token_ends: Box<[usize]>,
    /// From the token to the end of the body.
    rests: Box<[Box<[u8]>]>,
    next_rest: usize,
    /// Idempotency keys, if each request has a new one.
    keys: Option<NewKeys>,
    rng: Rng,
}

/// Idempotency keys that no other run has: its own number, and one that counts up.
struct NewKeys {
    run: u64,
    next: u64,
}

impl NewKeys {
    /// Appends the header with the next key.
    fn append_header(&mut self, out: &mut Vec<u8>) {
        // Writing to memory does not fail.
        let _ = write!(out, "\r\nidempotency-key: {:016x}{:016x}", self.run, self.next);
        self.next += 1;
    }
}

/// Which requests to render.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// CallSeries of one batch; `None` asks for one call at a time.
    pub batch: Option<u16>,
    /// Share of the calls that have to be denied.
    pub deny_share: f64,
    /// Whether the connection stays open after the answer.
    pub keep_alive: bool,
    /// Whether each request has a new idempotency key. Batches have none.
    pub idempotency_keys: bool,
    /// Equal seeds make equal requests, but for the keys.
    pub seed: u64,
}

impl RenderedRequests {
    /// Renders the requests.
    pub fn new(url: &BaseUrl, targets: &Targets, mix: Mix) -> Self {
        let route = if mix.batch.is_some() { "/v1/authorize/batch" } else { "/v1/authorize" };
        let connection = if mix.keep_alive { "" } else { "connection: close\r\n" };
        let prefix = format!(
            "POST {} HTTP/1.1\r\nhost: {}\r\nuser-agent: kavach-load/{}\r\n{connection}content-type: application/json\r\n\
             authorization: Bearer ",
            url.path_of(route),
            url.host(),
            env!("CARGO_PKG_VERSION"),
        );
        let mut calls = CallSeries::new(mix.deny_share, mix.seed);
        let mut body = || match mix.batch {
            None => calls.next(),
            Some(size) => {
                let calls: Vec<String> = (0..size).map(|_| calls.next()).collect();
                format!("{{\"requests\":[{}]}}", calls.join(","))
            }
        };
        let rest = |body: String| format!("\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes().into();
        let count = if mix.batch.is_some() { BATCH_BODIES } else { SINGLE_BODIES };
        let mut token_ends = Vec::new();
        let mut tokens = Vec::new();
        for token in targets.tokens() {
            tokens.extend_from_slice(token.as_bytes());
            token_ends.push(tokens.len());
        }
        Self {
            prefix: prefix.into_bytes().into(),
            tokens: tokens.into(),
            token_ends: token_ends.into(),
            rests: (0..count).map(|_| rest(body())).collect(),
            next_rest: 0,
            keys: mix.idempotency_keys.then(|| NewKeys { run: fastrand::u64(..), next: 0 }),
            rng: Rng::with_seed(mix.seed),
        }
    }

    /// Appends the next request: the next body, by some agent.
    pub fn append_next(&mut self, out: &mut Vec<u8>) {
        let agent = self.rng.usize(..self.token_ends.len().max(1));
        let start = agent.checked_sub(1).and_then(|before| self.token_ends.get(before)).copied().unwrap_or(0);
        let end = self.token_ends.get(agent).copied().unwrap_or(0);
        let rest = self.rests.get(self.next_rest).map(|rest| &**rest).unwrap_or_default();
        self.next_rest = if self.next_rest + 1 < self.rests.len() { self.next_rest + 1 } else { 0 };
        out.extend_from_slice(&self.prefix);
        out.extend_from_slice(self.tokens.get(start..end).unwrap_or_default());
        if let Some(keys) = &mut self.keys {
            keys.append_header(out);
        }
        out.extend_from_slice(rest);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::targets::{TargetAgent, TargetTenant};

    fn traffic(mix: Mix) -> RenderedRequests {
        let agent = |n: u32| TargetAgent { id: n.to_string(), token: format!("kv_{n}") };
        let tenant = TargetTenant { id: "t".into(), slug: "t".into(), agents: (0..20).map(agent).collect() };
        RenderedRequests::new(&"http://h:1/base".parse().unwrap(), &Targets { tenants: vec![tenant] }, mix)
    }

    fn parse(request: &[u8]) -> (String, Value) {
        let text = str::from_utf8(request).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
        (head.to_owned(), serde_json::from_str(body).unwrap())
    }

    #[test]
    fn requests_are_whole_and_by_different_agents() {
        let mut traffic =
            traffic(Mix { batch: None, deny_share: 0.1, keep_alive: true, idempotency_keys: false, seed: 1 });
        let mut agents = std::collections::BTreeSet::new();
        let mut out = Vec::new();
        for _ in 0..500 {
            out.clear();
            traffic.append_next(&mut out);
            let (head, body) = parse(&out);
            assert!(head.starts_with("POST /base/v1/authorize HTTP/1.1\r\nhost: h:1\r\n"), "{head}");
            assert!(!head.contains("connection"), "{head}");
            assert!(body["resource"].is_string());
            agents.insert(
                head.lines().find_map(|line| line.strip_prefix("authorization: Bearer kv_")).unwrap().to_owned(),
            );
        }
        assert_eq!(agents.len(), 20);
    }

    #[test]
    fn each_request_has_a_key_of_its_own_if_that_is_asked_for() {
        let mix = Mix { batch: None, deny_share: 0.1, keep_alive: true, idempotency_keys: true, seed: 1 };
        let mut keys = std::collections::BTreeSet::new();
        for mut traffic in [traffic(mix), traffic(mix)] {
            for _ in 0..50 {
                let mut out = Vec::new();
                traffic.append_next(&mut out);
                let (head, _) = parse(&out);
                let key = head.lines().find_map(|line| line.strip_prefix("idempotency-key: ")).unwrap();
                assert_eq!(key.len(), 32);
                keys.insert(key.to_owned());
            }
        }
        assert_eq!(keys.len(), 100);
    }

    #[test]
    fn a_batch_holds_as_many_calls_as_it_says() {
        let mut traffic =
            traffic(Mix { batch: Some(7), deny_share: 0.1, keep_alive: false, idempotency_keys: false, seed: 1 });
        let mut out = Vec::new();
        traffic.append_next(&mut out);
        let (head, body) = parse(&out);
        assert!(head.starts_with("POST /base/v1/authorize/batch HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
        assert_eq!(body["requests"].as_array().unwrap().len(), 7);
    }

    #[test]
    fn the_largest_batch_is_one_that_the_server_takes() {
        let traffic =
            traffic(Mix { batch: Some(1_000), deny_share: 0.1, keep_alive: true, idempotency_keys: false, seed: 1 });
        for rest in traffic.rests {
            assert!(rest.len() < kavach_domain::limits::MAX_BODY_BYTES, "{}", rest.len());
        }
    }
}

//! `GET /metrics`: read as strictly as a monitoring system may read it, and compared with what really happened.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::client::{Answer, Client};
use crate::harness::{Options, Server, eventually};
use crate::stats::mixed_run;
use crate::world::call;

/// A metric, as the page shows it.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    /// By the name's ending and the labels.
    samples: BTreeMap<(String, BTreeMap<String, String>), f64>,
}

/// Reads the Prometheus text format (version 0.0.4), and accepts nothing else.
fn read(page: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    assert!(page.ends_with('\n'));
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').unwrap();
            assert!(text.ends_with('.') && text.len() > 5, "{line}");
            assert!(families.insert(name.to_owned(), Family::default()).is_none(), "{name} appears twice");
            current = name.to_owned();
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(name, current, "right after its help");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            families.get_mut(name).unwrap().kind = kind.to_owned();
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = match series.split_once('{') {
                Some((name, labels)) => (name, read_labels(labels.strip_suffix('}').unwrap())),
                None => (series, BTreeMap::new()),
            };
            let family = families.get_mut(&current).unwrap();
            let ending = name.strip_prefix(&current).unwrap_or_else(|| panic!("{line} is not of {current}"));
            let endings: &[&str] = if family.kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(endings.contains(&ending), "{line}");
            let value: f64 = value.parse().unwrap();
            assert!(value >= 0.0, "{line}");
            let before = family.samples.insert((ending.to_owned(), labels), value);
            assert!(before.is_none(), "twice: {line}");
        }
    }
    families
}

fn read_labels(text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for label in text.split(',') {
        let (name, value) = label.split_once('=').unwrap();
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap();
        assert!(!value.contains(['"', '\\', '\n']), "{value}");
        assert!(labels.insert(name.to_owned(), value.to_owned()).is_none());
    }
    labels
}

fn metrics(client: &Client) -> BTreeMap<String, Family> {
    let answer = client.get("/metrics");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    read(&answer.text())
}

/// The value with that label, or the only one.
fn value(families: &BTreeMap<String, Family>, name: &str, label: Option<(&str, &str)>) -> f64 {
    let labels = label.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect();
    let found = families.get(name).and_then(|family| family.samples.get(&(String::new(), labels)));
    *found.unwrap_or_else(|| panic!("no {name} {label:?} in {families:#?}"))
}

#[test]
fn every_metric_follows_the_rules() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    mixed_run(&server, &acme, 1);
    let families = eventually("metrics of now", || {
        let families = metrics(&server.anonymous());
        (value(&families, "kavach_decisions_total", Some(("result", "allowed"))) > 0.0).then_some(families)
    });
    for (name, family) in &families {
        assert!(name.starts_with("kavach_") || name.starts_with("process_"), "{name}");
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        assert_eq!(name.ends_with("_total"), family.kind == "counter", "{name} is a {}", family.kind);
        assert!(!family.samples.is_empty(), "{name}");
        // Base units, which come last.
        for unit in ["seconds", "bytes"] {
            if name.contains(unit) {
                assert!(name.trim_end_matches("_total").ends_with(&format!("_{unit}")), "{name}");
            }
        }
        for part in ["milli", "micro", "_ms", "_kb", "minutes", "percent"] {
            assert!(!name.contains(part), "{name}");
        }
        if family.kind == "histogram" {
            assert!(name.ends_with("_seconds"), "{name}");
            check_histogram(name, family);
        }
    }
    for name in ["kavach_log_written_bytes_total", "process_resident_memory_bytes", "process_open_fds"] {
        assert!(value(&families, name, None) > 0.0, "{name}");
    }
    for (name, wanted) in [("kavach_ready", 1.0), ("kavach_mailbox_calls", 0.0), ("kavach_tenant_restarts_total", 0.0)]
    {
        assert_eq!(value(&families, name, None), wanted, "{name}");
    }
    assert_eq!(value(&families, "kavach_build_info", Some(("version", env!("CARGO_PKG_VERSION")))), 1.0);
    assert!(value(&families, "kavach_http_connections", None) >= 1.0);
}

fn check_histogram(name: &str, family: &Family) {
    let mut buckets: Vec<(f64, f64)> = Vec::new();
    for ((ending, labels), count) in &family.samples {
        if ending == "_bucket" {
            buckets.push((labels["le"].parse().unwrap(), *count));
        }
    }
    buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
    assert!(buckets.len() > 10 && buckets.is_sorted_by(|one, other| one.1 <= other.1), "{name}: {buckets:?}");
    let of = |ending: &str| family.samples[&(ending.to_owned(), BTreeMap::new())];
    assert_eq!(*buckets.last().unwrap(), (f64::INFINITY, of("_count")), "{name}");
    assert!(of("_sum") > 0.0 || of("_count") == 0.0, "{name}");
}

#[test]
fn metrics_agree_with_the_audit_trail_and_name_nobody() {
    let mut server = Server::start();
    let operator = server.operator();
    let (acme, globex) = (operator.tenant("acme"), operator.tenant("globex"));
    mixed_run(&server, &acme, 3);
    mixed_run(&server, &globex, 2);
    let agents = operator.get("/v1/agents").items();
    operator.post("/v1/snapshot", json!({})).expect(200);
    operator.post("/v1/tenants/globex/suspend", json!({})).expect(200);
    server.with_key("kvo_no-key-at-all").get("/v1/agents").problem(401, "INVALID_TOKEN");
    let trail = operator.trail("");
    let of = |result: &str| trail.iter().filter(|entry| entry["result"] == result).count() as f64;
    let families = eventually("metrics of now", || {
        let families = metrics(&server.anonymous());
        (value(&families, "kavach_authentication_failures_total", None) == 1.0).then_some(families)
    });
    for result in ["allowed", "denied", "rate_limited"] {
        assert_eq!(value(&families, "kavach_decisions_total", Some(("result", result))), of(result), "{result}");
    }
    let codes: BTreeSet<_> = trail.iter().filter_map(|entry| entry["code"].as_str()).collect();
    assert!(codes.len() > 3);
    for code in &codes {
        let count = trail.iter().filter(|entry| entry["code"] == *code).count() as f64;
        assert_eq!(value(&families, "kavach_denials_total", Some(("code", code))), count, "{code}");
    }
    let duration = &families["kavach_decision_duration_seconds"];
    assert_eq!(duration.samples[&("_count".to_owned(), BTreeMap::new())], trail.len() as f64);
    assert_eq!(value(&families, "kavach_tenants", Some(("status", "active"))), 2.0);
    assert_eq!(value(&families, "kavach_tenants", Some(("status", "suspended"))), 1.0);
    assert_eq!(value(&families, "kavach_agents", Some(("status", "active"))), 4.0);
    assert_eq!(value(&families, "kavach_agents", Some(("status", "revoked"))), 2.0);
    assert!(families["kavach_snapshot_duration_seconds"].samples[&("_count".to_owned(), BTreeMap::new())] >= 2.0);
    assert!(value(&families, "kavach_snapshot_last_timestamp_seconds", None) > 1.7e9);
    assert!(value(&families, "kavach_http_requests_total", Some(("code", "4xx"))) >= 1.0);

    // No format names anybody.
    let accept: &[(&str, &[u8])] = &[("accept", b"application/openmetrics-text; version=1.0.0")];
    let open = server.anonymous().try_send("GET", "/metrics", accept, None).unwrap();
    assert_eq!(open.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert!(open.text().ends_with("# EOF\n") && open.text().contains("# UNIT process_cpu_seconds seconds\n"));
    for page in [open.text(), server.anonymous().get("/metrics").text()] {
        let ids = agents.iter().map(|agent| agent["id"].as_str().unwrap());
        let names = [&*acme.id, &acme.slug, &acme.key, &acme.key_id, &*globex.id, &globex.slug, "tenant=", "agent="];
        for name in ids.chain(names) {
            assert!(!page.contains(name), "{name}: {page}");
        }
    }

    // Events that a start replays.
    server.crash_and_start();
    let families = metrics(&server.anonymous());
    assert!(value(&families, "kavach_recovery_duration_seconds", None) > 0.0);
    assert!(value(&families, "kavach_recovery_events_total", None) >= 1.0, "that a tenant was suspended");
    assert_eq!(value(&families, "kavach_decisions_total", Some(("result", "allowed"))), 0.0);
}

#[test]
fn metrics_per_tenant_are_optional_and_limited() {
    let server = Server::start_with(Options::args(&["--metrics-per-tenant", "2"]));
    let operator = server.operator();
    let tenants = ["acme", "globex", "initech"].map(|slug| operator.tenant(slug));
    for (tenant, calls) in tenants.iter().zip([3, 1, 2]) {
        let agent = operator.reader(tenant);
        for _ in 0..calls {
            operator.granted(call(&agent.id));
        }
    }
    // All three had decisions before anybody looked.
    let page: Answer = server.anonymous().get("/metrics");
    let families = read(&page.text());
    let of = |tenant: &str| {
        let labels =
            [("tenant", tenant), ("result", "allowed")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        families["kavach_tenant_decisions_total"].samples.get(&(String::new(), labels.into())).copied()
    };
    let [one, two, three] = tenants.each_ref().map(|tenant| of(&tenant.id));
    assert_eq!((one, two, three, of("other")), (Some(3.0), None, Some(2.0), Some(1.0)));
    for tenant in &tenants {
        assert!(!page.text().contains(&tenant.slug) && !page.text().contains(&tenant.key), "{}", page.text());
    }
}

//! Tenants that leave memory and come back: nobody can tell, except by the time that it takes.
//!
//! | to find | look in |
//! | --- | --- |
//! | calls from many sides, while tenants come and go | `traffic` |
//! | one history with all tenants in memory and with one: the same answers | `sameness` |
//! | what is not read: the newest entries, lists; a live stream comes to rest | `reading` |
//! | the catalog: rows after a stop and a crash; damaged, old, foreign, newer | `catalog` |
//! | erased, damaged and new tenants; retention | `comings_and_goings` |

mod catalog;
mod comings_and_goings;
mod reading;
mod sameness;
mod traffic;

use kavach::ServerSettings;
use serde_json::{Value, json};

use crate::client::Client;
use crate::harness::{Options, eventually};
use crate::panics::{InProcess, settings, start};
use crate::world::{Agent, Tenant};

/// A server that keeps that many tenants in memory.
fn keeping(most: &'static str) -> Options {
    Options::args(&["--resident-tenants", most])
}

/// The same, inside this process.
fn keeping_in_process(home: &std::path::Path, most: u32) -> InProcess {
    start(ServerSettings { resident_tenants: Some(most), ..settings(home) })
}

/// Tenants with an agent each that may read `docs`.
fn make_tenants(operator: &Client, count: usize) -> Vec<(Tenant, Agent)> {
    let make = |n| {
        let tenant = operator.tenant(&format!("t{n}"));
        let agent = operator.reader(&tenant);
        (tenant, agent)
    };
    (0..count).map(make).collect()
}

/// How many tenants are in memory, and how many there are.
fn in_memory(operator: &Client) -> (u64, u64) {
    let memory = operator.get("/v1/stats").expect(200)["memory"].clone();
    (memory["resident"].as_u64().unwrap(), memory["known"].as_u64().unwrap())
}

/// Waits until no more tenants are in memory than may be.
fn come_to_rest(operator: &Client, most: u64) {
    eventually("no more tenants are in memory than may be", || (in_memory(operator).0 <= most).then_some(()));
}

fn metric(page: &str, name: &str) -> f64 {
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name} in {page}")).parse().unwrap()
}

/// The metrics as of now: a page may be a second old, so we wait for one that counts a call made now.
fn metrics(operator: &Client) -> String {
    const FAILURES: &str = "kavach_authentication_failures_total";
    let page = || operator.get("/metrics").text();
    let before = metric(&page(), FAILURES);
    // The page may have been made after an earlier call of this kind.
    operator.acting_for("kvo_no-key-at-all").get("/v1/agents").problem(401, "INVALID_TOKEN");
    eventually("metrics of now", || Some(page()).filter(|page| metric(page, FAILURES) > before))
}

/// How many tenants were read into memory so far.
fn loads(operator: &Client) -> u64 {
    metric(&metrics(operator), "kavach_tenant_load_duration_seconds_count") as u64
}

/// Everything that an operator can list, and the numbers of tenants and agents.
fn listed(operator: &Client) -> Value {
    let stats = operator.get("/v1/stats").expect(200);
    json!({
        "tenants": operator.get("/v1/tenants").items(),
        "agents": operator.get("/v1/agents").items(),
        "policies": operator.get("/v1/policies").items(),
        "delegations": operator.get("/v1/delegations").items(),
        "trail": operator.trail("kind=all"),
        "counted": [stats["tenants"], stats["agents"]],
        "ready": operator.get("/readyz").expect(200)["unavailableTenants"],
    })
}

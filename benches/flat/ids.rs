//! Whether the time of an answer distinguishes a foreign id from an unknown one. Requests for both are sent over one
//! connection in random order, and their medians are compared. So are those of two halves of the unknown ones, which
//! shows the machine's own noise.

use std::time::{Duration, Instant};

use kavach::journal::DataDir;
use serde_json::{Value, json};

use crate::calls::fill;
use crate::claim;
use crate::common::{measuring, tenant_id, token};
use crate::decide::shuffle;
use crate::interleaved::median;
use crate::served::{Connection, OPERATOR_KEY, Served, request};

/// The tenant with the keys, and the one with the ids.
const OWN: u32 = 0;
const FOREIGN: u32 = 1;

/// Time limit of one comparison.
const PATIENCE: Duration = Duration::from_secs(4);

/// Creates something as an operator; returns it.
fn make(connection: &mut Connection, path: &str, body: &Value) -> Value {
    let status = connection.call(&request("POST", path, OPERATOR_KEY, &body.to_string(), false));
    assert!(status < 300, "{path}: {status} {}", String::from_utf8_lossy(connection.body()));
    serde_json::from_slice(connection.body()).unwrap()
}

fn id(made: &Value) -> String {
    made["id"].as_str().unwrap().to_owned()
}

/// An unused id of that kind with that tag.
fn unknown(id: &str) -> String {
    let (head, rest) = id.split_at(8);
    let digit = if rest.starts_with('f') { 'e' } else { 'f' };
    format!("{head}{digit}{}", &rest[1..])
}

pub fn run() {
    let served = Served::start(|root| {
        let data = DataDir::open(root).unwrap();
        fill(&data, OWN, 10, 1_000);
        fill(&data, FOREIGN, 10, 1_000);
    });
    let mut connection = served.connect();
    let key = |connection: &mut Connection, tenant: u32| {
        make(connection, &format!("/v1/tenants/{}/keys", tenant_id(tenant)), &json!({ "name": "k" }))["key"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let own_key = key(&mut connection, OWN);
    let new = |connection: &mut Connection, tenant: u32| {
        let permissions = json!([{ "resource": "docs:*", "actions": ["read"] }]);
        let body = json!({
            "tenantId": tenant_id(tenant), "ownerId": "u", "name": "n", "type": "service", "permissions": permissions,
        });
        id(&make(connection, "/v1/agents", &body))
    };
    let (own_agent, agent) = (new(&mut connection, OWN), new(&mut connection, FOREIGN));
    let friend = new(&mut connection, FOREIGN);
    let limits = json!({ "maxCallsPerDay": 1_000 });
    let policy =
        id(&make(&mut connection, "/v1/policies", &json!({ "tenantId": tenant_id(FOREIGN), "limits": limits })));
    let webhook =
        json!({ "tenantId": tenant_id(FOREIGN), "url": "https://kavach.invalid/", "events": ["tenant.deleted"] });
    let webhook = id(&make(&mut connection, "/v1/webhooks", &webhook));
    let permissions = json!([{ "resource": "docs:1", "actions": ["read"] }]);
    let link = json!({ "fromAgent": agent, "toAgent": friend, "permissions": permissions });
    let link = id(&make(&mut connection, "/v1/delegations", &link));
    let ask = |agent: &str| json!({ "agentId": agent, "action": "read", "resource": "docs:1" });
    let entry = make(&mut connection, "/v1/authorize", &ask(&agent))["auditId"].as_str().unwrap().to_owned();
    let tenant = tenant_id(FOREIGN).to_string();

    let get = |path: &str, id: &str| request("GET", &format!("{path}{id}"), &own_key, "", false);
    let post = |path: &str, body: Value| request("POST", path, &own_key, &body.to_string(), false);
    let pair = |id: &str, make: &dyn Fn(&str) -> Vec<u8>| [make(id), make(&unknown(id))];
    let cases = vec![
        ("GET /v1/agents/{id}", pair(&agent, &|id| get("/v1/agents/", id))),
        ("GET /v1/agents/{id}/policies", pair(&agent, &|id| get("/v1/agents/", &format!("{id}/policies")))),
        ("GET /v1/policies/{id}", pair(&policy, &|id| get("/v1/policies/", id))),
        ("GET /v1/webhooks/{id}", pair(&webhook, &|id| get("/v1/webhooks/", id))),
        ("GET /v1/delegations/{id}", pair(&link, &|id| get("/v1/delegations/", id))),
        (
            "GET /v1/delegations/{id}/permissions",
            pair(&agent, &|id| get("/v1/delegations/", &format!("{id}/permissions"))),
        ),
        ("GET /v1/audit/{id}", pair(&entry, &|id| get("/v1/audit/", id))),
        ("GET /v1/tenants/{tenant}, by id", pair(&tenant, &|id| get("/v1/tenants/", id))),
        ("GET /v1/tenants/{tenant}, by slug", ["acme-1", "acme-9"].map(|slug| get("/v1/tenants/", slug))),
        ("GET /v1/agents?tenantId", pair(&tenant, &|id| get("/v1/agents?tenantId=", id))),
        ("GET /v1/delegations?fromAgent", pair(&agent, &|id| get("/v1/delegations?fromAgent=", id))),
        ("GET /v1/audit?agentId", pair(&agent, &|id| get("/v1/audit?agentId=", id))),
        ("GET /v1/spend?agentId", pair(&agent, &|id| get("/v1/spend?agentId=", id))),
        ("POST /v1/authorize", pair(&agent, &|id| post("/v1/authorize", ask(id)))),
        ("POST /v1/authorize/explain", pair(&agent, &|id| post("/v1/authorize/explain", ask(id)))),
        ("POST /v1/budget/check", pair(&agent, &|id| post("/v1/budget/check", json!({ "agentId": id })))),
        (
            "POST /v1/usage, of a foreign decision",
            pair(&entry, &|id| post("/v1/usage", json!({ "agentId": own_agent, "auditId": id, "tokensCost": 1 }))),
        ),
        ("GET /v1/holds/{id}", pair(&entry, &|id| get("/v1/holds/", id))),
        (
            "POST /v1/policies/reset",
            pair(&tenant, &|id| post("/v1/policies/reset", json!({ "tenantId": id, "period": "all" }))),
        ),
        (
            "POST /v1/policies about an agent",
            pair(&agent, &|id| post("/v1/policies", json!({ "agentId": id, "limits": limits }))),
        ),
    ];
    // To guess a token, one must first guess its tenant's whole id: the difference measured here is smaller than that.
    let forged = |tenant| {
        let mut text = token(tenant_id(tenant), 0).reveal().to_owned();
        text.replace_range(text.len() - 20.., "aaaaaaaaaaaaaaaaaaaa");
        let body = json!({ "action": "read", "resource": "docs:1" }).to_string();
        // From a single address, this many would be refused as failed attempts.
        let from = |n| format!("{text}\r\nX-Forwarded-For: 198.18.0.{n}");
        (0..=255).map(|n| request("POST", "/v1/authorize", &from(n), &body, false)).collect()
    };
    let forged: [Vec<_>; 2] = [forged(FOREIGN), forged(77)];
    for (name, requests) in cases {
        compare(&mut connection, name, &requests.map(|request| vec![request]));
    }
    compare(&mut connection, "a forged token, of a tenant that is there and of none", &forged);
}

/// Compares the times of two kinds of requests; the forms of each kind are sent in turn.
fn compare(connection: &mut Connection, name: &str, requests: &[Vec<Vec<u8>>; 2]) {
    let each = if measuring() { 4_000 } else { 4 };
    let mut order: Vec<usize> = (0..3 * each).map(|n| n % 3).collect();
    shuffle(&mut order);
    // Foreign ones, and two sets of unknown ones.
    let mut times: [Vec<f64>; 3] = Default::default();
    let mut answers: [Option<(u16, usize)>; 2] = [None; 2];
    let begun = Instant::now();
    for which in order {
        // Some answers take a hundred times as long as others.
        if begun.elapsed() > PATIENCE && times.iter().all(|times| !times.is_empty()) {
            break;
        }
        let forms = &requests[which.min(1)];
        let request = &forms[times[which].len() % forms.len()];
        let start = Instant::now();
        let status = connection.call(request);
        times[which].push(start.elapsed().as_nanos() as f64 / 1e3);
        let answer = (status, connection.body().len());
        assert_eq!(*answers[which.min(1)].get_or_insert(answer), answer, "{name}");
    }
    assert_eq!(answers[0], answers[1], "{name}: they differ by more than their time");
    let [foreign, unknown, again] = times.map(|mut times| median(&mut times));
    if measuring() {
        let percent = |other: f64| 100.0 * (other / unknown - 1.0);
        println!(
            "{name}: foreign {foreign:.2} us, unknown {unknown:.2} us; {:+.2} %, where unknown ones differ by {:+.2} %",
            percent(foreign),
            percent(again)
        );
    }
    claim::note("    apart", foreign - unknown, "microseconds");
}

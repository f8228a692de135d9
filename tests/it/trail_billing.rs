//! The cost of a month, from the audit trail alone: all kinds of entries, and decisions with their settlements.

use serde_json::{Value, json};

use crate::harness::Server;
use crate::world::{call, permits};

fn costing(agent: &str, cost: f64) -> Value {
    json!({ "agentId": agent, "action": "read", "resource": "docs:1", "tokensCost": cost })
}

#[test]
fn a_settled_decision_shows_what_it_really_cost_and_all_kinds_come_at_once() {
    let mut server = Server::start();
    let operator = server.operator();
    let (acme, globex) = (operator.tenant("acme"), operator.tenant("globex"));
    let (agent, other) = (operator.reader(&acme), operator.reader(&globex));
    let settled = operator.granted(costing(&agent.id, 0.05));
    let open = operator.granted(costing(&agent.id, 0.5));
    let free = operator.granted(call(&agent.id));
    let foreign = operator.granted(costing(&other.id, 0.05));
    operator.authorize(json!({ "agentId": agent.id, "action": "drop", "resource": "docs:1" })).expect(200);
    let settle = |agent: &str, id: &str, cost: f64| {
        operator.post("/v1/usage", json!({ "agentId": agent, "auditId": id, "tokensCost": cost })).expect(200);
    };
    settle(&agent.id, &settled, 0.0312);
    settle(&agent.id, &free, 0.000001);
    settle(&other.id, &foreign, 0.0);
    operator.post("/v1/usage", json!({ "agentId": agent.id, "tokensCost": 2 })).expect(200);

    for _ in 0..2 {
        let operator = server.operator();
        let cost_of = |id: &str| operator.get(&format!("/v1/audit/{id}")).expect(200)["settledCost"].to_string();
        assert_eq!([&settled, &open, &free, &foreign].map(|id| cost_of(id)), ["0.0312", "null", "1e-6", "0"]);
        let bill = |entries: &[Value]| {
            let cost = |entry: &Value| match (entry["kind"].as_str().unwrap(), &entry["settledCost"]) {
                ("decision", Value::Null) if entry["result"] == "allowed" => entry["tokensCost"].as_f64(),
                ("decision", settled) => settled.as_f64(),
                ("usage", _) if entry["ref"].is_null() => entry["tokensCost"].as_f64(),
                _ => None,
            };
            let sum: f64 = entries.iter().filter_map(cost).sum();
            (sum * 1e6).round() / 1e6
        };
        let page = operator.trail("tenantId=acme&kind=all");
        let kinds = |kind: &str| page.iter().filter(|entry| entry["kind"] == kind).count();
        assert_eq!((kinds("decision"), kinds("usage")), (4, 3));
        assert!(kinds("admin") >= 3, "{page:?}");
        assert!(page.is_sorted_by(|one, other| one["id"].as_str() > other["id"].as_str()), "newest first");
        assert_eq!(bill(&page), 2.531201);
        // For all tenants, and by the tenant's own key.
        assert_eq!(bill(&operator.trail("kind=all")), 2.531201);
        assert_eq!(server.with_key(&acme.key).trail("kind=all"), page);
        let mut exported = operator.get("/v1/audit/export?tenantId=acme&kind=all").items();
        exported.reverse();
        assert_eq!(exported, page);
        let csv = operator.get("/v1/audit/export?tenantId=acme&format=csv").text();
        assert!(
            csv.lines().next().unwrap().ends_with(",traceId,clockTime,keyName,before,settledCost,heldUntil"),
            "{csv}"
        );
        assert!(csv.contains(",0.0312,\r\n"), "{csv}");
        // A filter for decisions filters every kind.
        let narrow = operator.trail(&format!("kind=all&agentId={}&result=denied", agent.id));
        assert_eq!(narrow.len(), 1);
        assert_eq!(operator.trail("kind=all&actions=usage").len(), 4);
        server.kill();
        server.start_again();
    }
    server.operator().get("/v1/audit?kind=every").problem(400, "INVALID_QUERY");
}

#[test]
fn the_live_stream_shows_every_kind_on_request() {
    let server = Server::start();
    let operator = server.operator();
    let agent = operator.reader(&operator.tenant("acme"));
    operator.granted(call(&agent.id));
    operator.post("/v1/usage", json!({ "agentId": agent.id, "tokensCost": 2 })).expect(200);
    operator.tenant("globex");
    let until = kavach::actors::clock::Clock::default().now().plus_millis(1);
    let mut kinds = Vec::new();
    let path = format!("/v1/audit/stream?tenantId=acme&kind=all&since=2020-01-01T00:00:00Z&until={until}");
    operator.lines(&path, |line| {
        if let Some(data) = line.strip_prefix("data: ") {
            let entry: Value = serde_json::from_str(data).unwrap();
            kinds.push(entry["kind"].as_str().unwrap().to_owned());
        }
    });
    assert_eq!(kinds, ["admin", "admin", "admin", "decision", "usage"]);
}

#[test]
fn a_spreadsheet_export_holds_no_formula_and_the_exact_one_is_exact() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let actions = ["=HYPERLINK(1)", "+1", "-1", "@SUM(1)", "read"];
    let agent = operator.agent(acme.id.as_str(), permits("docs:*", &["read"]));
    for action in actions {
        operator.authorize(json!({ "agentId": agent.id, "action": action, "resource": "docs:1" })).expect(200);
    }
    let mut body = call(&agent.id);
    body["context"] = json!({ "userAgent": "=1+1" });
    operator.authorize(body).expect(200);
    let cells = |query: &str| {
        let text = operator.get(&format!("/v1/audit/export?tenantId=acme&format=csv{query}")).text();
        let mut rows = csv::Reader::from_reader(text.as_bytes());
        let names = rows.headers().unwrap().clone();
        let rows: Vec<_> = rows.records().map(Result::unwrap).collect();
        let of = |name: &str| {
            let at = names.iter().position(|known| known == name).unwrap();
            rows.iter().map(|row| row[at].to_owned()).collect::<Vec<_>>()
        };
        let all: Vec<_> = rows.iter().flat_map(|row| row.iter().map(str::to_owned)).collect();
        (of("action"), of("userAgent"), all)
    };
    let (exact, _, _) = cells("");
    assert_eq!(exact[..5], actions);
    assert_eq!(cells("&spreadsheet=false").0, exact);
    let (guarded, agents, all) = cells("&spreadsheet=true");
    assert_eq!(guarded[..5], ["'=HYPERLINK(1)", "'+1", "'-1", "'@SUM(1)", "read"]);
    assert_eq!(agents[5], "'=1+1");
    assert!(all.iter().all(|cell| !cell.starts_with(['=', '+', '-', '@', '\t', '\r'])), "{all:?}");
    operator.get("/v1/audit/export?spreadsheet=true").problem(400, "INVALID_QUERY");
    operator.get("/v1/audit/export?format=ndjson&spreadsheet=true").problem(400, "INVALID_QUERY");
    operator.get("/v1/audit?spreadsheet=true").problem(400, "INVALID_QUERY");
    operator.get("/v1/audit/stream?spreadsheet=true").problem(400, "INVALID_QUERY");
}

//! Query strings: every route refuses unknown parameters, an empty filter is refused since nobody can mean it, an owner
//! has two names, and a date alone is a time.

use serde_json::{Value, json};

use crate::access::World;
use crate::access_table::{Target, rows};
use crate::client::Client;
use crate::harness::Server;
use crate::world::{call, permits};

/// Sends a route's own call, with `more` after its path.
fn send(client: &Client, row: &crate::access_table::Row, target: &Target, more: &str) -> crate::client::Answer {
    let path = row.path_to(target);
    let path = format!("{path}{}{more}", if path.contains('?') { '&' } else { '?' });
    let body = (row.body)(target);
    let body = (!body.is_null()).then(|| body.to_string());
    client.try_send(row.method, &path, &[], body.as_deref().map(str::as_bytes)).unwrap()
}

#[test]
fn a_parameter_that_nobody_knows_is_refused_by_every_route() {
    let server = Server::start();
    let operator = server.operator();
    let world = World::new(&operator, 1);
    let before = operator.all_of(&world.own.target.tenant);
    for row in rows() {
        // Public pages accept any parameter; the gateway's query is the original request's.
        let is_public = row.method == "GET" && server.anonymous().get(&row.path_to(&world.own.target)).status == 200;
        if is_public || row.path == "/v1/forward-auth" {
            continue;
        }
        for parameter in ["sudo=1", "sudo", "sudo="] {
            let message = send(&operator, &row, &world.own.target, parameter).problem(400, "INVALID_QUERY");
            assert!(message.starts_with("sudo "), "{} {}: {message}", row.method, row.path);
        }
        // Callers without a valid key don't learn of it.
        let nobody = server.with_key(&format!("kvo_{}", "x".repeat(43)));
        let answer = send(&nobody, &row, &world.own.target, "sudo=1");
        assert_eq!(answer.code().as_deref(), Some("INVALID_TOKEN"), "{} {}", row.method, row.path);
    }
    assert_eq!(operator.all_of(&world.own.target.tenant), before);
}

#[test]
fn an_answer_that_may_show_a_secret_is_not_cached() {
    let server = Server::start();
    let operator = server.operator();
    let world = World::new(&operator, 1);
    let mut secrets = 0;
    for row in rows() {
        let answer = send(&operator, &row, &world.own.target, "");
        let is_private = row.path.starts_with("/v1/") || row.path.starts_with("/access/");
        // Answers to tool calls don't mention caches: nothing stores the answer of such a POST.
        let expected = (is_private && row.path != "/v1/authorize").then_some("no-store");
        if expected.is_some() {
            assert_eq!(answer.header("cache-control"), expected, "{} {}", row.method, row.path);
        }
        secrets += usize::from(answer.text().contains("\"kv_") || answer.text().contains("\"kvt_"));
    }
    assert!(secrets >= 2, "a tenant's key and an agent's token: {secrets}");
    // Refusals too.
    for path in ["/v1/agents/agt_1", "/v1/nowhere", "/access/v1/nowhere"] {
        assert_eq!(operator.get(path).header("cache-control"), Some("no-store"), "{path}");
    }
    assert_eq!(server.anonymous().get("/v1/agents").header("cache-control"), Some("no-store"));
}

#[test]
fn an_empty_filter_is_refused() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    operator.granted(call(&operator.reader(&acme).id));
    let filters = [
        ("agents", "tenantId ownerId userId status type limit cursor"),
        ("policies", "tenantId agentId ownerId userId status limit cursor"),
        ("delegations", "tenantId fromAgent toAgent limit cursor"),
        (
            "audit",
            "kind tenantId agentId ownerId userId since until actions result traceId code resource ip limit offset cursor",
        ),
        ("spend", "tenantId agentId ownerId userId since until groupBy timeZone format"),
        (
            "audit/export",
            "kind tenantId agentId ownerId userId since until actions result traceId code resource ip format",
        ),
        ("audit/stream", "kind tenantId agentId ownerId userId since until actions result traceId code resource ip"),
        ("audit/checkpoint", "tenantId"),
        ("stats", "tenantId"),
        ("tenants", "limit cursor"),
    ];
    for (route, names) in filters {
        for name in names.split(' ') {
            for value in ["", "=", "=%20", "=+%09"] {
                let message = operator.get(&format!("/v1/{route}?{name}{value}")).problem(400, "INVALID_QUERY");
                assert!(message.starts_with(&format!("{name} ")), "{route} {name}{value}: {message}");
            }
        }
    }
}

/// The ids in a list's answer.
fn ids(client: &Client, path: &str) -> Vec<Value> {
    client.get(path).items().into_iter().map(|item| item["id"].clone()).collect()
}

#[test]
fn an_owner_filter_has_two_names() {
    let server = Server::start();
    let operator = server.operator();
    operator.tenant("acme");
    // In bodies, both names have one meaning.
    let mut agents = Vec::new();
    for name in ["ownerId", "userId"] {
        let body = json!({ "tenantId": "acme", "name": "b", "type": "service", name: "ana", "permissions": permits("docs:*", &["read"]) });
        let made = operator.post("/v1/agents", body).expect(201);
        assert_eq!(made["ownerId"], "ana");
        agents.push(made["id"].clone());
        let body = json!({ "tenantId": "acme", name: "ana", "limits": { "maxCallsPerDay": 100 } });
        assert_eq!(operator.post("/v1/policies", body).expect(201)["userId"], "ana");
    }
    for (name, owner) in [("ownerId", "bob"), ("userId", "ana")] {
        let path = format!("/v1/agents/{}", agents[0].as_str().unwrap());
        assert_eq!(operator.patch(&path, json!({ name: owner })).expect(200)["ownerId"], owner);
    }
    operator.granted(call(agents[0].as_str().unwrap()));
    for route in ["agents", "policies", "audit", "audit/export"] {
        let path = |query: &str| format!("/v1/{route}?tenantId=acme&{query}");
        let found = ids(&operator, &path("ownerId=ana"));
        assert!(!found.is_empty(), "{route}");
        for query in ["userId=ana", "ownerId=ana&userId=ana", "userId=%20ana&ownerId=ana%20"] {
            assert_eq!(ids(&operator, &path(query)), found, "{route} {query}");
        }
        assert!(ids(&operator, &path("ownerId=bob")).is_empty(), "{route}");
        let message = operator.get(&path("ownerId=ana&userId=bob")).problem(400, "INVALID_QUERY");
        assert!(message.contains("ownerId") && message.contains("userId"), "{message}");
    }
    // One body may not have both names.
    let agent = json!({ "tenantId": "acme", "name": "b", "type": "service", "ownerId": "ana", "userId": "bob" });
    operator.post("/v1/agents", agent).problem(400, "INVALID_BODY");
    let policy = json!({ "ownerId": "ana", "userId": "bob", "limits": { "maxCallsPerDay": 1 } });
    operator.post("/v1/policies", policy).problem(400, "INVALID_BODY");
    let path = format!("/v1/agents/{}", agents[1].as_str().unwrap());
    operator.patch(&path, json!({ "ownerId": "ana", "userId": "bob" })).problem(400, "INVALID_BODY");
}

#[test]
fn a_date_alone_is_the_start_of_its_day() {
    let server = Server::start();
    let operator = server.operator();
    operator.tenant("acme");
    let agent = operator.agent("acme", permits("docs:*", &["read"]));
    let entry = operator.granted(call(&agent.id));
    let made = operator.get(&format!("/v1/audit/{entry}")).expect(200)["timestamp"].as_str().unwrap().to_owned();
    let (day, _) = made.split_once('T').unwrap();
    for route in ["audit", "audit/export"] {
        let found = |query: String| ids(&operator, &format!("/v1/{route}?tenantId=acme&{query}"));
        for (query, expected) in [
            (format!("since={day}"), vec![json!(entry)]),
            // No entry of that day is before its start.
            (format!("until={day}"), vec![]),
            ("since=2026-01-01&until=9999-12-31".into(), vec![json!(entry)]),
            ("since=9999-12-31".into(), vec![]),
            (format!("until={day}T00:00:00Z"), vec![]),
            (format!("since={day}&until={day}"), vec![]),
        ] {
            assert_eq!(found(query.clone()), expected, "{route} {query}");
        }
    }
    // The stream ends at its `until`, which has passed.
    let answer = operator.get(&format!("/v1/audit/stream?tenantId=acme&since={day}&until={day}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

//! Searches checked against evaluations: whatever is found is permitted at that moment, and whatever is permitted is
//! found.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{EVALUATION, SEARCH_ACTION, SEARCH_RESOURCE, SEARCH_SUBJECT, decision, with};
use crate::client::Client;
use crate::harness::Server;
use crate::world::{constrained, permits};

/// All results of a search, page by page, by their `id` or `name`.
fn found(client: &Client, path: &str, body: &Value, limit: usize) -> Vec<String> {
    let (mut all, mut page) = (Vec::new(), json!({ "limit": limit }));
    loop {
        let answer = client.post(path, with(body.clone(), json!({ "page": page }))).expect(200);
        let results = answer["results"].as_array().unwrap();
        assert!(results.len() <= limit, "{answer}");
        all.extend(results.iter().map(|result| {
            let text = result.get("id").or_else(|| result.get("name")).and_then(Value::as_str);
            text.unwrap().to_owned()
        }));
        let token = answer["page"]["next_token"].as_str().unwrap().to_owned();
        if token.is_empty() {
            return all;
        }
        page = json!({ "limit": limit, "token": token });
    }
}

fn request(agent: &str, action: &str, id: &str) -> Value {
    json!({
        "subject": { "type": "agent", "id": agent },
        "action": { "name": action },
        "resource": { "type": "docs", "id": id },
    })
}

#[test]
fn searches_agree_with_evaluations() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let pep = server.with_key(&acme.key);
    let tenant = acme.id.as_str();
    let expired = json!({ "permissions": permits("docs:*", &["read"]), "expiresAt": "2020-01-01T00:00:00Z" });
    let agents = [
        operator.agent(tenant, permits("docs:1", &["read", "write"])),
        operator.agent(tenant, permits("docs:*", &["read"])),
        operator.agent(tenant, permits("*", &["*"])),
        operator.agent(tenant, permits("docs:*:b", &["write"])),
        operator.agent(tenant, json!([])),
        operator.agent(tenant, permits("docs:1", &["read"])),
        operator.agent_with(tenant, expired),
        operator.agent(tenant, constrained("docs:*", json!({ "ipAllowlist": ["10.0.0.0/8"] }))),
        operator.agent(tenant, constrained("docs:2", json!({ "requireApproval": true }))),
        operator.agent(tenant, constrained("docs:1", json!({ "maxCallsPerHour": 1 }))),
        operator.agent(tenant, permits("docs:1", &["read"])),
    ];
    // Lent, and then narrowed by its lender.
    operator.delegation(&agents[1].id, &agents[4].id, permits("docs:*", &["read"]));
    let narrowed = json!({ "permissions": permits("docs:a:*", &["read"]) });
    operator.patch(&format!("/v1/agents/{}", agents[1].id), narrowed).expect(200);
    operator.delete(&format!("/v1/agents/{}", agents[5].id)).expect(204);
    // Used up, and over its budget.
    let read_1 = |agent: &str| json!({ "agentId": agent, "action": "read", "resource": "docs:1" });
    operator.granted(read_1(&agents[9].id));
    let limits = json!({ "agentId": agents[10].id, "limits": { "maxCallsPerDay": 0 } });
    pep.post("/v1/policies", limits).expect(201);

    let compare = |context: &Value, suspended: bool| {
        let ids = ["1", "2", "a:b", "a:c", "x:b", "*"];
        let actions = ["read", "write", "drop", "*"];
        let before = pep.trail("").len();
        let mut permitted = BTreeSet::new();
        for (agent, at) in agents.iter().zip(0..) {
            for action in actions {
                for id in ids {
                    let body = with(request(&agent.id, action, id), json!({ "context": context }));
                    // An explanation changes nothing.
                    let explain = json!({
                        "agentId": agent.id, "action": action, "resource": format!("docs:{id}"), "context": context,
                    });
                    if pep.post("/v1/authorize/explain", explain).expect(200)["allowed"] == true {
                        permitted.insert((at, action, id));
                    }
                    let subject = json!({ "subject": { "type": "agent" } });
                    if at == 0 {
                        let with_subject = with(body, subject);
                        let who = found(&pep, SEARCH_SUBJECT, &with_subject, 2);
                        let wanted: Vec<_> = agents.iter().map(|agent| agent.id.clone()).collect();
                        assert!(who.iter().all(|id| wanted.contains(id)));
                        assert_eq!(who.len(), who.iter().collect::<BTreeSet<_>>().len(), "none twice");
                    }
                }
            }
        }
        assert_eq!(permitted.is_empty(), suspended);
        for action in actions {
            for id in ids {
                let body = with(request("x", action, id), json!({ "context": context }));
                let who: BTreeSet<_> =
                    found(&pep, SEARCH_SUBJECT, &with(body, json!({ "subject": { "type": "agent" } })), 3)
                        .into_iter()
                        .collect();
                let is_permitted = |at: usize| permitted.contains(&(at, action, id));
                let wanted: BTreeSet<_> =
                    (0..agents.len()).filter(|at| is_permitted(*at)).map(|at| agents[at].id.clone()).collect();
                assert_eq!(who, wanted, "{action} {id} {context}");
            }
        }
        for (agent, at) in agents.iter().zip(0..) {
            for action in actions {
                let body = with(request(&agent.id, action, "ignored"), json!({ "context": context }));
                let which = found(&pep, SEARCH_RESOURCE, &body, 1);
                for id in ids {
                    let matches = |pattern: &String| {
                        let (pattern, id): (Vec<_>, Vec<_>) = (pattern.split(':').collect(), id.split(':').collect());
                        let open = pattern.last() == Some(&"*") && id.len() > pattern.len();
                        let same = pattern.iter().zip(&id).all(|(one, other)| *one == "*" || one == other);
                        same && (open || pattern.len() == id.len())
                    };
                    let is_found = which.iter().any(matches);
                    assert_eq!(is_found, permitted.contains(&(at, action, id)), "{at} {action} {id}: {which:?}");
                }
            }
            for id in ids {
                let body = with(request(&agent.id, "ignored", id), json!({ "context": context, "action": null }));
                let what = found(&pep, SEARCH_ACTION, &body, 1);
                for action in actions {
                    let is_found = what.iter().any(|name| name == action || name == "*");
                    assert_eq!(is_found, permitted.contains(&(at, action, id)), "{at} {action} {id}: {what:?}");
                }
            }
        }
        assert_eq!(pep.trail("").len(), before, "searches are not recorded");
        permitted
    };
    let outside = compare(&json!({}), false);
    let inside = compare(&json!({ "ip": "10.0.0.1" }), false);
    assert!(inside.is_superset(&outside) && inside.len() > outside.len());
    for (at, action, id) in inside.iter().filter(|(at, _, _)| *at != 9) {
        let body = with(request(&agents[*at].id, action, id), json!({ "context": { "ip": "10.0.0.1" } }));
        assert!(decision(&pep.post(EVALUATION, body).expect(200)), "{at} {action} {id}");
    }
    operator.post(&format!("/v1/tenants/{tenant}/suspend"), json!({})).expect(200);
    compare(&json!({ "ip": "10.0.0.1" }), true);
}

#[test]
fn a_search_stays_in_its_tenant() {
    let server = Server::start();
    let operator = server.operator();
    let (acme, globex) = (operator.tenant("acme"), operator.tenant("globex"));
    let (own, foreign, nobodys) =
        (operator.reader(&acme), operator.reader(&globex), operator.agent(Value::Null, permits("docs:*", &["read"])));
    let who = |client: &Client, context: Value| {
        let body = with(request("x", "read", "1"), json!({ "subject": { "type": "agent" }, "context": context }));
        found(client, SEARCH_SUBJECT, &body, 10)
    };
    let (pep, token) = (server.with_key(&acme.key), server.with_key(&own.token));
    assert_eq!(who(&pep, json!({})), std::slice::from_ref(&own.id));
    assert_eq!(who(&pep, json!({ "tenantId": "acme" })), std::slice::from_ref(&own.id));
    for other in ["globex", "nobody", &globex.id] {
        assert!(who(&pep, json!({ "tenantId": other })).is_empty());
    }
    // An operator's search is in the tenant that it names, else in the default one.
    assert_eq!(who(&operator, json!({})), std::slice::from_ref(&nobodys.id));
    assert_eq!(who(&operator, json!({ "tenantId": "globex" })), std::slice::from_ref(&foreign.id));
    let body = with(request("x", "read", "1"), json!({ "context": { "tenantId": "nobody" } }));
    operator.post(SEARCH_SUBJECT, body).problem(404, "TENANT_NOT_FOUND");
    for (path, own_result) in [(SEARCH_RESOURCE, "*"), (SEARCH_ACTION, "read")] {
        assert_eq!(found(&pep, path, &request(&own.id, "read", "1"), 5), [own_result]);
        assert!(found(&pep, path, &request(&foreign.id, "read", "1"), 5).is_empty());
        assert_eq!(found(&operator, path, &request(&foreign.id, "read", "1"), 5), [own_result]);
        token.post(path, request(&own.id, "read", "1")).problem(403, "FORBIDDEN");
    }
    token.post(SEARCH_SUBJECT, request(&own.id, "read", "1")).problem(403, "FORBIDDEN");
}

#[test]
fn a_search_holds_its_arguments_only_once() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let permissions: Vec<_> =
        (0..1_000).map(|n| json!({ "resource": format!("docs:{n}"), "actions": ["read"] })).collect();
    let agent = operator.agent(acme.id.as_str(), json!(permissions));
    let pep = server.with_key(&acme.key);
    // Peak memory in MiB.
    let most = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid().as_raw_nonzero())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    };
    let body = request(&agent.id, "read", "ignored");
    assert_eq!(found(&pep, SEARCH_RESOURCE, &body, 1_000).len(), 1_000);
    let before = most();
    let properties = json!({ "text": "x".repeat(30 * 1_024) });
    let body = with(body, json!({ "action": { "name": "read", "properties": properties } }));
    assert_eq!(found(&pep, SEARCH_RESOURCE, &body, 1_000).len(), 1_000);
    let taken = most() - before;
    assert!(taken < 16, "{taken} MiB, and a thousand times the arguments are 30");
}

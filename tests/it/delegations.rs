//! Delegation over HTTP: answers, refusals, and what a crash leaves.

use serde_json::{Value, json};

use crate::harness::Server;
use crate::world::{Agent, next_page, permits};

fn lend(from: &Agent, to: &Agent, permissions: Value) -> Value {
    json!({ "fromAgent": from.id, "toAgent": to.id, "permissions": permissions })
}

fn ask(agent: &Agent, action: &str, resource: &str) -> Value {
    json!({ "agentId": agent.id, "action": action, "resource": resource })
}

#[test]
fn a_delegations_life() {
    let mut server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let limited =
        json!([{ "resource": "mcp:*", "actions": ["read", "list"], "constraints": { "maxCallsPerHour": 4 } }]);
    let lead = operator.agent("acme", limited);
    let [helper, intern] = [(); 2].map(|()| operator.agent("acme", json!([])));
    let key = server.with_key(&acme.key);

    // The tenant's own key makes a chain of two.
    let made = key.post("/v1/delegations", lend(&lead, &helper, permits("mcp:github:*", &["read"])));
    let first = made.expect(201);
    let id = first["id"].as_str().unwrap();
    assert_eq!(made.header("location"), Some(format!("/v1/delegations/{id}").as_str()));
    let expected = json!({
        "id": id, "tenantId": acme.id, "fromAgent": lead.id, "toAgent": helper.id,
        "permissions": [{ "resource": "mcp:github:*", "actions": ["read"] }],
        "expiresAt": null, "maxDepth": 3, "depth": 1, "status": "active", "createdAt": first["createdAt"],
    });
    assert_eq!(first, expected);
    let mut body = lend(&helper, &intern, permits("mcp:github:issues", &["read"]));
    body["expiresAt"] = json!("2099-01-01T00:00:00.000Z");
    body["tenantId"] = json!("acme");
    let second = key.post("/v1/delegations", body).expect(201);
    assert_eq!((&second["depth"], &second["expiresAt"]), (&json!(2), &json!("2099-01-01T00:00:00.000Z")));

    // They all share the lead's four calls an hour.
    server.with_key(&intern.token).granted(json!({ "action": "read", "resource": "mcp:github:issues" }));
    operator.granted(ask(&helper, "read", "mcp:github:pulls"));
    operator.denied(ask(&intern, "read", "mcp:github:pulls"), "PERMISSION_DENIED");
    operator.denied(ask(&helper, "list", "mcp:github:pulls"), "PERMISSION_DENIED");
    operator.granted(ask(&lead, "list", "mcp:slack:channels"));
    operator.granted(ask(&intern, "read", "mcp:github:issues"));

    // A crash loses nothing.
    let seen = |server: &Server| {
        let operator = server.operator();
        ["/v1/delegations?tenantId=acme", &format!("/v1/delegations/{}/permissions", intern.id)]
            .map(|path| operator.get(path).text())
    };
    let before = seen(&server);
    server.crash_and_start();
    assert_eq!(seen(&server), before);
    let operator = server.operator();
    for agent in [&intern, &helper, &lead] {
        let reason = operator.denied(ask(agent, "read", "mcp:github:issues"), "RATE_LIMITED");
        assert!(reason.starts_with("Rate limit exceeded: 4/4"), "{reason}");
    }
    let explained = operator.post("/v1/authorize/explain", ask(&intern, "read", "mcp:github:issues")).expect(200);
    let step = |check: &str, member: &str, id: &Value| {
        let found = explained["steps"].as_array().unwrap().iter().find(|s| s["check"] == check && s[member] == *id);
        found.unwrap_or_else(|| panic!("{check} {member} {id}: {explained}"))["passed"].as_bool().unwrap()
    };
    assert!(step("permission", "delegation", &second["id"]));
    assert!(!step("maxCallsPerHour", "agent", &json!(lead.id)));
    assert!(!step("delegation", "delegation", &first["id"]));

    // Where the intern's permission comes from, and its end.
    let effective = operator.get(&format!("/v1/delegations/{}/permissions", intern.id)).items();
    let expected = json!([{
        "resource": "mcp:github:issues", "actions": ["read"], "source": "delegation", "delegationId": second["id"],
        "fromAgent": helper.id, "depth": 2, "expiresAt": "2099-01-01T00:00:00.000Z", "held": true,
    }]);
    assert_eq!(json!(effective), expected);
    let own = operator.get(&format!("/v1/delegations/{}/permissions", lead.id)).items();
    assert_eq!((&own[0]["source"], &own[0]["delegationId"]), (&json!("own"), &Value::Null));
    operator.delete(&format!("/v1/delegations/{id}")).expect(204);
    operator.delete(&format!("/v1/delegations/{id}")).expect(204);
    for id in [&first["id"], &second["id"]] {
        let link = operator.get(&format!("/v1/delegations/{}", id.as_str().unwrap())).expect(200);
        assert_eq!(link["status"], "revoked");
    }
    operator.denied(ask(&intern, "read", "mcp:github:issues"), "PERMISSION_DENIED");
    assert!(operator.get(&format!("/v1/delegations/{}/permissions", intern.id)).items().is_empty());
    let trail = operator.trail("tenantId=acme&kind=admin&actions=delegation.create,delegation.revoke");
    assert_eq!(
        trail.iter().map(|entry| &entry["resource"]).collect::<Vec<_>>(),
        [id, second["id"].as_str().unwrap(), id]
    );
    assert_eq!((&trail[2]["by"], &trail[2]["agentId"]), (&json!(acme.key_id), &json!(lead.id)));
}

#[test]
fn lists_are_filtered_and_paged() {
    let server = Server::start();
    let operator = server.operator();
    let (acme, globex) = (operator.tenant("acme"), operator.tenant("globex"));
    let [a, b, c] = [(); 3].map(|()| operator.reader(&acme));
    let elsewhere = [(); 2].map(|()| operator.reader(&globex));
    let docs = || permits("docs:*", &["read"]);
    let ab = operator.delegation(&a.id, &b.id, docs());
    let other = operator.delegation(&elsewhere[0].id, &elsewhere[1].id, docs());
    let ac = operator.delegation(&a.id, &c.id, docs());
    let bc = operator.delegation(&b.id, &c.id, docs());
    let ids = |path: &str| -> Vec<String> {
        operator.get(path).items().iter().map(|link| link["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids("/v1/delegations"), [&*ab, &other, &ac, &bc]);
    assert_eq!(ids("/v1/delegations?tenantId=acme"), [&*ab, &ac, &bc]);
    assert_eq!(ids(&format!("/v1/delegations?fromAgent={}", a.id)), [&*ab, &ac]);
    assert_eq!(ids(&format!("/v1/delegations?toAgent={}", c.id)), [&*ac, &bc]);
    assert_eq!(ids(&format!("/v1/delegations?fromAgent={}&toAgent={}", a.id, c.id)), [&*ac]);
    assert!(ids(&format!("/v1/delegations?fromAgent={}&tenantId=globex", a.id)).is_empty());
    assert_eq!(ids(&format!("/v1/delegations/{}", a.id)), [&*ab, &ac]);
    assert!(ids(&format!("/v1/delegations/{}", c.id)).is_empty());
    for path in ["/v1/delegations?limit=1".to_owned(), format!("/v1/delegations/{}?limit=1", a.id)] {
        let (mut next, mut paged) = (Some(path.clone()), Vec::new());
        while let Some(page) = next {
            paged.extend(ids(&page));
            next = next_page(&operator.get(&page));
        }
        assert_eq!(paged, ids(&path.replace("?limit=1", "")));
    }
    // A tenant key sees its own, and learns nothing of others by a filter.
    let key = server.with_key(&globex.key);
    assert_eq!(key.get("/v1/delegations").items().len(), 1);
    assert!(key.get(&format!("/v1/delegations?fromAgent={}", a.id)).items().is_empty());
    key.get(&format!("/v1/delegations/{}", a.id)).problem(404, "AGENT_NOT_FOUND");
}

#[test]
fn forbidden_delegations_are_refused() {
    let server = Server::start();
    let operator = server.operator();
    let (acme, globex) = (operator.tenant("acme"), operator.tenant("globex"));
    let [a, b, c] = [(); 3].map(|()| operator.reader(&acme));
    let stranger = operator.reader(&globex);
    let docs = || permits("docs:*", &["read"]);
    let refused = |body: Value, status, code| operator.post("/v1/delegations", body).problem(status, code);
    refused(lend(&a, &a, docs()), 422, "DELEGATION_SELF");
    refused(lend(&a, &b, permits("docs:*", &["write"])), 422, "INSUFFICIENT_PERMISSIONS");
    refused(lend(&a, &b, permits("*", &["read"])), 422, "INSUFFICIENT_PERMISSIONS");
    assert!(refused(lend(&a, &stranger, docs()), 404, "AGENT_NOT_FOUND").starts_with("toAgent "));
    assert!(refused(lend(&stranger, &a, docs()), 404, "AGENT_NOT_FOUND").starts_with("toAgent "));
    let mut elsewhere = lend(&a, &b, docs());
    elsewhere["tenantId"] = json!("globex");
    refused(elsewhere, 403, "TENANT_MISMATCH");
    let mut past = lend(&a, &b, docs());
    past["expiresAt"] = json!("2020-01-01T00:00:00Z");
    assert!(refused(past, 400, "INVALID_FIELD").starts_with("expiresAt "));
    operator.delegation(&a.id, &b.id, docs());
    operator.delegation(&b.id, &c.id, docs());
    refused(lend(&c, &a, docs()), 422, "DELEGATION_CYCLE");
    operator.patch("/v1/tenants/acme", json!({ "settings": { "maxDelegationDepth": 2 } })).expect(200);
    let last = operator.reader(&acme);
    refused(lend(&c, &last, docs()), 422, "DELEGATION_DEPTH_EXCEEDED");
    operator.delete(&format!("/v1/agents/{}", last.id)).expect(204);
    refused(lend(&last, &a, docs()), 422, "DELEGATION_GRANTOR_INACTIVE");
    refused(lend(&a, &last, docs()), 409, "AGENT_IS_REVOKED");
    assert_eq!(operator.get("/v1/delegations?tenantId=acme").items().len(), 2);
    // Revoking an agent also ends what it lent and what stands on that.
    operator.delete(&format!("/v1/agents/{}", a.id)).expect(204);
    for link in operator.get("/v1/delegations?tenantId=acme").items() {
        assert_eq!(link["status"], "revoked");
    }
}

//! Suspended agents: stopped at once, and after their activation as if nothing had been.

use serde_json::{Value, json};

use crate::harness::Server;
use crate::world::{call, constrained, permits};

#[test]
fn a_suspended_agent_is_stopped_and_keeps_its_tokens_delegations_and_counts() {
    let mut server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let key = server.with_key(&acme.key);
    let agent = operator.agent("acme", constrained("docs:*", json!({ "maxCallsPerHour": 3 })));
    let [middle, last] = [(); 2].map(|()| operator.agent("acme", json!([])));
    let first_link = operator.delegation(&agent.id, &middle.id, permits("docs:*", &["read"]));
    let second_link = operator.delegation(&middle.id, &last.id, permits("docs:*", &["read"]));
    let own = server.with_key(&agent.token);
    let ask = || json!({ "action": "read", "resource": "docs:1" });
    own.granted(ask());
    operator.granted(call(&last.id));
    let path = format!("/v1/agents/{}", agent.id);
    let status = |path: &str| server.operator().get(path).expect(200)["status"].clone();
    let links = [&first_link, &second_link].map(|link| format!("/v1/delegations/{link}"));

    let suspended = key.post(&format!("{path}/suspend?reason=odd+calls"), Value::Null).expect(200);
    assert_eq!((&suspended["status"], &suspended["token"]), (&json!("suspended"), &json!("")));
    // A repeat changes nothing, and is not recorded.
    assert_eq!(key.post(&format!("{path}/suspend"), Value::Null).expect(200), suspended);
    assert_eq!(operator.trail("tenantId=acme&kind=admin&actions=agent.suspend").len(), 1);
    assert_eq!(own.denied(ask(), "AGENT_SUSPENDED"), "The agent is suspended");
    operator.denied(call(&agent.id), "AGENT_SUSPENDED");
    // What came from it rests, all along the chain.
    for other in [&middle, &last] {
        operator.denied(call(&other.id), "PERMISSION_DENIED");
    }
    assert_eq!(links.each_ref().map(|link| status(link)), ["suspended", "suspended"]);
    let lend = json!({ "fromAgent": agent.id, "toAgent": last.id, "permissions": permits("docs:1", &["read"]) });
    operator.post("/v1/delegations", lend).problem(422, "DELEGATION_GRANTOR_INACTIVE");
    let listed = |status: &str| operator.get(&format!("/v1/agents?tenantId=acme&status={status}")).items().len();
    assert_eq!(["active", "suspended", "revoked", "expired"].map(listed), [2, 1, 0, 0]);
    let resting = operator.get("/v1/delegations?tenantId=acme&status=suspended").items();
    assert_eq!(resting.len(), 2);
    // It can be changed meanwhile, and stays suspended, also after a crash.
    assert_eq!(operator.patch(&path, json!({ "name": "other" })).expect(200)["status"], "suspended");
    server.crash_and_start();
    let operator = server.operator();
    let own = server.with_key(&agent.token);
    own.denied(ask(), "AGENT_SUSPENDED");

    let active = operator.post(&format!("{path}/activate"), Value::Null).expect(200);
    assert_eq!(active["status"], "active");
    // Its token is the same, its links are live again, and two calls of the hour are used.
    own.granted(ask());
    operator.denied(call(&last.id), "RATE_LIMITED");
    for link in links {
        assert_eq!(operator.get(&link).expect(200)["status"], "active");
    }
    assert_eq!(operator.post(&format!("{path}/activate"), Value::Null).expect(200)["updatedAt"], active["updatedAt"]);
    // A revocation is final.
    operator.delete(&path).expect(204);
    for way in ["suspend", "activate"] {
        operator.post(&format!("{path}/{way}"), Value::Null).problem(409, "AGENT_IS_REVOKED");
    }
    own.denied(ask(), "AGENT_REVOKED");
}

#[test]
fn a_suspended_agent_keeps_its_place_and_its_end() {
    let server = Server::start();
    let operator = server.operator();
    operator.tenant("acme");
    operator.patch("/v1/tenants/acme", json!({ "settings": { "maxAgents": 1 } })).expect(200);
    let agent = operator.agent("acme", permits("docs:*", &["read"]));
    let path = format!("/v1/agents/{}", agent.id);
    operator.post(&format!("{path}/suspend"), Value::Null).expect(200);
    let another = json!({ "tenantId": "acme", "ownerId": "u", "name": "n", "type": "service", "permissions": [] });
    operator.post("/v1/agents", another.clone()).problem(422, "AGENT_LIMIT_EXCEEDED");
    // Expired, it gives up its place, and gets it back only if there is room.
    let ended = operator.patch(&path, json!({ "expiresAt": "2020-01-01T00:00:00Z" })).expect(200);
    assert_eq!(ended["status"], "suspended");
    operator.denied(call(&agent.id), "AGENT_SUSPENDED");
    operator.post("/v1/agents", another).expect(201);
    operator.patch(&path, json!({ "expiresAt": null })).problem(422, "AGENT_LIMIT_EXCEEDED");
    assert_eq!(operator.post(&format!("{path}/activate"), Value::Null).expect(200)["status"], "expired");
    operator.denied(call(&agent.id), "AGENT_EXPIRED");
}

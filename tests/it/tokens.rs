//! Keys and tokens: rotation with and without grace, revocation, expiry, and how many agents a tenant may have.

use std::sync::Mutex;

use serde_json::{Value, json};

use crate::harness::{Server, eventually};
use crate::world::{Agent, call, permits};

#[test]
fn a_rotated_token_ends_at_once_or_after_its_grace() {
    let mut server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let rotate =
        |body: Value| Agent::from(&operator.post(&format!("/v1/agents/{}/rotate", agent.id), body).expect(200));
    let second = rotate(json!({}));
    assert_eq!(second.id, agent.id);
    assert_ne!(second.token, agent.token);
    server.with_key(&agent.token).authorize(call(&agent.id)).problem(401, "INVALID_TOKEN");
    server.with_key(&second.token).granted(call(&agent.id));
    // With grace both work; without, every older one ends, even one still in a grace period.
    let third = rotate(json!({ "graceSeconds": 3_600 }));
    server.with_key(&second.token).granted(call(&agent.id));
    let fourth = rotate(json!({ "graceSeconds": 0 }));
    server.with_key(&second.token).authorize(call(&agent.id)).problem(401, "INVALID_TOKEN");
    server.with_key(&third.token).authorize(call(&agent.id)).problem(401, "INVALID_TOKEN");
    // An empty body is a rotation without grace.
    let path = format!("/v1/agents/{}/rotate", agent.id);
    let fifth = Agent::from(&operator.send("POST", &path, Some(b"")).expect(200));
    server.with_key(&fourth.token).authorize(call(&agent.id)).problem(401, "INVALID_TOKEN");
    // Grace ends by itself.
    let sixth = rotate(json!({ "graceSeconds": 1 }));
    let old = server.with_key(&fifth.token);
    eventually("the grace ends", || (old.authorize(call(&agent.id)).status == 401).then_some(()));
    server.with_key(&sixth.token).granted(call(&agent.id));
    // All of that holds after a crash.
    server.crash_and_start();
    for (token, status) in [
        (&agent.token, 401),
        (&second.token, 401),
        (&third.token, 401),
        (&fourth.token, 401),
        (&fifth.token, 401),
        (&sixth.token, 200),
    ] {
        assert_eq!(server.with_key(token).authorize(call(&agent.id)).status, status);
    }
    // No other answer shows a token.
    let operator = server.operator();
    assert_eq!(operator.get(&format!("/v1/agents/{}", agent.id)).expect(200)["token"], "");
    assert_eq!(operator.get("/v1/agents").items()[0]["token"], "");
    assert_eq!(operator.patch(&format!("/v1/agents/{}", agent.id), json!({ "name": "x" })).expect(200)["token"], "");
}

#[test]
fn the_number_of_old_tokens_in_grace_is_limited() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let path = format!("/v1/agents/{}/rotate", agent.id);
    let mut tokens = vec![agent.token];
    for _ in 0..kavach::domain::limits::MAX_GRACED_TOKENS {
        let rotated = operator.post(&path, json!({ "graceSeconds": 3_600 })).expect(200);
        tokens.push(Agent::from(&rotated).token);
    }
    operator.post(&path, json!({ "graceSeconds": 3_600 })).problem(422, "ROTATION_LIMIT_EXCEEDED");
    for token in &tokens {
        server.with_key(token).granted(call(&agent.id));
    }
    let last = Agent::from(&operator.post(&path, json!({})).expect(200));
    for token in &tokens {
        server.with_key(token).authorize(call(&agent.id)).problem(401, "INVALID_TOKEN");
    }
    server.with_key(&last.token).granted(call(&agent.id));
}

#[test]
fn revocation_is_final_and_its_calls_are_recorded() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let path = format!("/v1/agents/{}", agent.id);
    operator.delete(&path).expect(204);
    let shown = operator.get(&path).expect(200);
    assert_eq!(shown["status"], "revoked");
    let reason = server.with_key(&agent.token).denied(call(&agent.id), "AGENT_REVOKED");
    assert!(!reason.is_empty());
    let trail = operator.trail(&format!("agentId={}", agent.id));
    assert_eq!((trail.len(), &trail[0]["result"], &trail[0]["code"]), (1, &json!("denied"), &json!("AGENT_REVOKED")));
    for body in
        [json!({ "name": "again" }), json!({ "expiresAt": "2099-01-01T00:00:00Z" }), json!({ "permissions": [] })]
    {
        operator.patch(&path, body).problem(409, "AGENT_IS_REVOKED");
    }
    operator.patch(&path, json!({ "status": "active" })).problem(400, "INVALID_BODY");
    operator.post(&format!("{path}/rotate"), json!({})).problem(409, "AGENT_IS_REVOKED");
    operator.delete(&path).expect(204);
    let changes = operator.trail("tenantId=acme&kind=admin&actions=agent.revoke");
    assert_eq!(changes.len(), 1, "the second one changed nothing");
    assert_eq!(operator.get("/v1/agents?tenantId=acme&status=revoked").items().len(), 1);
    assert_eq!(operator.get("/v1/agents?tenantId=acme&status=active").items().len(), 0);
}

#[test]
fn an_expired_agent_is_revived_within_max_agents() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    operator.patch("/v1/tenants/acme", json!({ "settings": { "maxAgents": 1 } })).expect(200);
    let past = json!({ "permissions": permits("docs:*", &["read"]), "expiresAt": "2020-01-01T00:00:00Z" });
    // An agent that is expired from the start takes no place.
    let (expired, active) = (operator.agent_with("acme", past.clone()), operator.reader(&acme));
    operator.agent_with("acme", past);
    let path = format!("/v1/agents/{}", expired.id);
    assert_eq!(operator.get(&path).expect(200)["status"], "expired");
    server.with_key(&expired.token).denied(call(&expired.id), "AGENT_EXPIRED");
    let revive = json!({ "expiresAt": "2099-01-01T00:00:00.5+02:00" });
    operator.patch(&path, revive.clone()).problem(422, "AGENT_LIMIT_EXCEEDED");
    operator.patch(&path, json!({ "expiresAt": null })).problem(422, "AGENT_LIMIT_EXCEEDED");
    assert_eq!(operator.get(&path).expect(200)["status"], "expired");
    // A change that does not revive it is free.
    operator.patch(&path, json!({ "name": "old" })).expect(200);
    operator.delete(&format!("/v1/agents/{}", active.id)).expect(204);
    let revived = operator.patch(&path, revive).expect(200);
    assert_eq!((&revived["status"], &revived["expiresAt"]), (&json!("active"), &json!("2098-12-31T22:00:00.500Z")));
    server.with_key(&expired.token).granted(call(&expired.id));
    // One that expires soon stops by itself and frees its place.
    let soon = std::time::SystemTime::now() + std::time::Duration::from_millis(1_500);
    let millis = soon.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    let soon = kavach::domain::Timestamp::from_millis(millis).to_string();
    assert_eq!(operator.patch(&path, json!({ "expiresAt": soon })).expect(200)["expiresAt"], soon.as_str());
    eventually("it expires", || (operator.get(&path).expect(200)["status"] == "expired").then_some(()));
    server.with_key(&expired.token).denied(call(&expired.id), "AGENT_EXPIRED");
    operator.reader(&acme);
}

#[test]
fn max_agents_is_exact_when_many_create_at_once() {
    let server = Server::start();
    let operator = server.operator();
    operator.tenant("acme");
    operator.patch("/v1/tenants/acme", json!({ "settings": { "maxAgents": 7 } })).expect(200);
    let body = json!({ "tenantId": "acme", "ownerId": "u", "name": "bot", "type": "service", "permissions": [] });
    let create = || {
        let statuses = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..3 {
                        let answer = operator.post("/v1/agents", body.clone());
                        if answer.status != 201 {
                            let message = answer.problem(422, "AGENT_LIMIT_EXCEEDED");
                            assert!(message.contains("maxAgents"), "{message}");
                        }
                        statuses.lock().unwrap().push(answer.status);
                    }
                });
            }
        });
        statuses.into_inner().unwrap().iter().filter(|status| **status == 201).count()
    };
    assert_eq!(create(), 7);
    assert_eq!(operator.get("/v1/agents?tenantId=acme").items().len(), 7);
    // If lowered below the current number, nobody is stopped, and nobody is added until there is room.
    operator.patch("/v1/tenants/acme", json!({ "settings": { "maxAgents": 5 } })).expect(200);
    let agents = operator.get("/v1/agents?tenantId=acme&status=active").items();
    assert_eq!((agents.len(), create()), (7, 0));
    for agent in &agents[..3] {
        operator.delete(&format!("/v1/agents/{}", agent["id"].as_str().unwrap())).expect(204);
    }
    assert_eq!(create(), 1);
    operator.patch("/v1/tenants/acme", json!({ "settings": { "maxAgents": null } })).expect(200);
    assert_eq!(create(), 24);
}

#[test]
fn a_type_that_is_not_allowed_is_refused_and_existing_agents_stay() {
    let server = Server::start();
    let operator = server.operator();
    operator.tenant("acme");
    let agent = operator.agent_with("acme", json!({ "type": "delegated" }));
    let settings = json!({ "settings": { "allowedAgentTypes": ["autonomous", "service"] } });
    operator.patch("/v1/tenants/acme", settings).expect(200);
    let new = json!({ "tenantId": "acme", "ownerId": "u", "name": "b", "type": "delegated", "permissions": [] });
    let message = operator.post("/v1/agents", new).problem(422, "AGENT_TYPE_NOT_ALLOWED");
    assert!(message.contains("delegated") && message.contains("autonomous"), "{message}");
    let path = format!("/v1/agents/{}", agent.id);
    operator.patch(&path, json!({ "name": "other" })).expect(200);
    operator.patch(&path, json!({ "type": "service" })).expect(200);
    operator.patch(&path, json!({ "type": "delegated" })).problem(422, "AGENT_TYPE_NOT_ALLOWED");
    assert_eq!(operator.get("/v1/agents?tenantId=acme&type=service").items().len(), 1);
}

#[test]
fn a_tenant_key_works_until_it_is_revoked() {
    let mut server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let made = operator.post("/v1/tenants/acme/keys", json!({ "name": " second " })).expect(201);
    let second = made["key"].as_str().unwrap();
    assert_eq!((second.len(), second.starts_with("kvt_"), &made["name"]), (4 + 64, true, &json!("second")));
    assert!(second.starts_with(made["prefix"].as_str().unwrap()));
    let listed = server.with_key(second).get("/v1/tenants/acme/keys").items();
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().all(|key| key.get("key").is_none()), "{listed:?}");
    operator.delete(&format!("/v1/tenants/acme/keys/{}", acme.key_id)).expect(204);
    for _ in 0..2 {
        server.with_key(&acme.key).get("/v1/tenants").problem(401, "INVALID_TOKEN");
        assert_eq!(server.with_key(second).get("/v1/tenants").items().len(), 1);
        server.crash_and_start();
    }
    let path = format!("/v1/tenants/acme/keys/{}", acme.key_id);
    server.operator().delete(&path).problem(404, "KEY_NOT_FOUND");
    // A suspended tenant's key still reads and repairs.
    server.operator().post("/v1/tenants/acme/suspend", json!({})).expect(200);
    let key = server.with_key(second);
    let agent = key.reader(&crate::world::Tenant { id: acme.id.clone(), ..acme });
    key.patch(&format!("/v1/agents/{}", agent.id), json!({ "name": "x" })).expect(200);
    key.denied(call(&agent.id), "TENANT_SUSPENDED");
    assert_eq!(key.trail("").len(), 1);
}

//! Keys of people and services: their roles and ends, operators' keys, and what ends with a key.

use std::collections::BTreeSet;

use kavach::domain::Timestamp;
use serde_json::{Value, json};

use crate::client::Client;
use crate::events::Stream;
use crate::harness::{OPERATOR_KEY, Options, Server, eventually};
use crate::retention::now;
use crate::world::{call, permits};

/// A time so many milliseconds from now.
fn soon(millis: i64) -> String {
    Timestamp::from_millis(now() + millis).to_string()
}

/// A key that was just made: its text and its id.
fn made(client: &Client, path: &str, body: Value) -> (String, String) {
    let answer = client.post(path, body).expect(201);
    let text = |member: &str| answer[member].as_str().unwrap().to_owned();
    (text("key"), text("id"))
}

/// A key that ends soon, and what was seen of it before. On a busy machine it may have ended before anyone could look;
/// then the next one has more time.
fn short_lived<T>(client: &Client, path: &str, mut body: Value, look: impl Fn(&str) -> Option<T>) -> (String, T) {
    let made = (2..).find_map(|seconds| {
        body["expiresAt"] = json!(soon(seconds * 1_000));
        let answer = client.post(path, body.clone());
        let key = (answer.status == 201).then(|| answer.expect(201)["key"].as_str().unwrap().to_owned())?;
        let seen = look(&key)?;
        Some((key, seen))
    });
    made.unwrap()
}

#[test]
fn a_tenant_key_may_do_what_its_role_says_until_its_end() {
    let mut server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let keys = "/v1/tenants/acme/keys";
    let (gateway, id) = made(&operator, keys, json!({ "name": "gateway", "role": "caller", "expiresAt": null }));
    let (viewer, _) = made(&operator, keys, json!({ "name": "support", "role": "viewer" }));
    server.with_key(&gateway).granted(call(&agent.id));
    let message = server.with_key(&gateway).get("/v1/agents").problem(403, "FORBIDDEN");
    assert_eq!(
        message,
        "this requires a tenant key with the role admin, approver or viewer; the role of this key is caller"
    );
    let message = server.with_key(&viewer).authorize(call(&agent.id)).problem(403, "FORBIDDEN");
    assert!(message.contains("admin or caller") && message.ends_with("viewer"), "{message}");
    // Also where the body can't be read.
    server.with_key(&viewer).authorize(json!({ "agentId": 5 })).problem(403, "FORBIDDEN");
    server.with_key(&viewer).post("/v1/authorize/batch", json!({})).problem(403, "FORBIDDEN");
    assert_eq!(server.with_key(&viewer).get("/v1/agents").items().len(), 1);
    assert_eq!(server.with_key(&viewer).get("/v1/whoami").expect(200)["role"], "viewer");
    // A caller settles what it asked for.
    let mut asked = call(&agent.id);
    (asked["tokensCost"], asked["hold"]) = (json!(1), json!({ "ttlSeconds": 60 }));
    let decision = server.with_key(&gateway).granted(asked.clone());
    let usage = json!({ "agentId": agent.id, "tokensCost": 0.5, "auditId": decision });
    server.with_key(&gateway).post("/v1/usage", usage).expect(200);
    let decision = server.with_key(&gateway).granted(asked);
    server.with_key(&gateway).post(&format!("/v1/holds/{decision}/release"), json!({})).expect(200);

    let listed = operator.get(keys).items();
    let shown = |name: &str| listed.iter().find(|key| key["name"] == name).unwrap();
    assert_eq!((&shown("first")["role"], &shown("first")["expiresAt"]), (&json!("admin"), &Value::Null));
    assert_eq!(shown("first")["lastUsedAt"], Value::Null, "it was never used");
    let used = shown("gateway");
    assert_eq!((&used["role"], &used["id"], used.get("key")), (&json!("caller"), &json!(id), None));
    let time = |member: &str| used[member].as_str().unwrap().to_owned();
    assert!(time("lastUsedAt") >= time("trackedSince") && time("trackedSince") >= time("createdAt"), "{used}");

    // An end in the past, and one that comes.
    for (field, value) in [("expiresAt", json!(soon(-1))), ("expiresAt", json!("2026-99-01")), ("name", json!(""))] {
        let mut body = json!({ "name": "k" });
        body[field] = value;
        let message = operator.post(keys, body).problem(400, "INVALID_FIELD");
        assert!(message.starts_with(field), "{message}");
    }
    operator.post(keys, json!({ "name": "k", "role": "auditor" })).problem(400, "INVALID_BODY");
    let allowed = |key: &str| (server.with_key(key).authorize(call(&agent.id)).status == 200).then_some(());
    let (short, ()) = short_lived(&operator, keys, json!({ "name": "short", "role": "caller" }), allowed);
    let short = server.with_key(&short);
    eventually("the key ends", || (short.authorize(call(&agent.id)).status == 401).then_some(()));
    short.authorize(call(&agent.id)).problem(401, "INVALID_TOKEN");
    let count = operator.get(keys).items().len();
    server.crash_and_start();
    let operator = server.operator();
    assert_eq!(operator.get(keys).items().len(), count, "one that ended is listed until it is revoked");
    server.with_key(&viewer).authorize(call(&agent.id)).problem(403, "FORBIDDEN");
    server.with_key(&gateway).granted(call(&agent.id));
    operator.delete(&format!("{keys}/{id}")).expect(204);
    server.with_key(&gateway).authorize(call(&agent.id)).problem(401, "INVALID_TOKEN");
    // The trail says which role it had.
    let entry = operator.trail("tenantId=acme&kind=admin&actions=key.revoke").remove(0);
    assert_eq!((&entry["before"]["name"], &entry["before"]["role"]), (&json!("gateway"), &json!("caller")));
    let entry = operator.trail("tenantId=acme&kind=admin&actions=key.create").remove(0);
    assert_eq!((&entry["parameters"]["name"], &entry["parameters"]["role"]), (&json!("short"), &json!("caller")));
    assert!(entry["parameters"]["expiresAt"].is_string(), "{entry}");
}

#[test]
fn only_who_could_change_a_webhook_sees_where_it_leads() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let (viewer, _) = made(&operator, "/v1/tenants/acme/keys", json!({ "name": "support", "role": "viewer" }));
    let (auditor, _) = made(&operator, "/v1/keys", json!({ "name": "audit", "role": "auditor" }));
    // The path may be a secret, as Slack's are.
    let hook = json!({ "url": "https://hooks.example.com/services/T0/B0/s3cr3t", "events": ["*"] });
    let hook = server.with_key(&acme.key).post("/v1/webhooks", hook).expect(201);
    let path = format!("/v1/webhooks/{}", hook["id"].as_str().unwrap());
    for (key, sees) in [(&*acme.key, true), (&*viewer, false), (&*auditor, false), (OPERATOR_KEY, true)] {
        let client = server.with_key(key);
        for shown in [client.get(&path).expect(200), client.get("/v1/webhooks?tenantId=acme").items()[0].clone()] {
            assert_eq!(shown["url"].as_str().unwrap().contains("s3cr3t"), sees, "{shown}");
        }
    }
}

#[test]
fn operators_keys_are_many_named_and_revocable() {
    let mut server = Server::start_with(Options::args(&["--workers", "4"]));
    let first = server.operator();
    let (ada, ada_id) = made(&first, "/v1/keys", json!({ "name": "Ada", "role": "admin" }));
    let (bob, bob_id) = made(&first, "/v1/keys", json!({ "name": "Bob, audit", "role": "auditor" }));
    assert!(ada.starts_with("kvo_") && ada.len() == 47, "the form of an operator key");
    let whoami = |server: &Server, key: &str| server.with_key(key).get("/v1/whoami").expect(200);
    assert_eq!(whoami(&server, OPERATOR_KEY), json!({ "kind": "operator", "role": "admin", "keyId": null }));
    assert_eq!(whoami(&server, &ada), json!({ "kind": "operator", "role": "admin", "keyId": ada_id }));
    assert_eq!(whoami(&server, &bob), json!({ "kind": "operator", "role": "auditor", "keyId": bob_id }));

    // What Ada changes has her name, in whatever tenant.
    let as_ada = server.with_key(&ada);
    let headers: [(&str, &[u8]); 2] = [("X-Reason", "ticket 7, é".as_bytes()), ("User-Agent", b"console/3")];
    let body = json!({ "name": "Acme", "slug": "acme" }).to_string();
    assert_eq!(as_ada.try_send("POST", "/v1/tenants", &headers, Some(body.as_bytes())).unwrap().status, 201);
    let agent = as_ada.agent("acme", permits("docs:*", &["read"]));
    as_ada.granted(call(&agent.id));
    let entries = first.trail("tenantId=acme&kind=admin");
    assert_eq!(entries.len(), 2);
    for entry in &entries {
        assert_eq!((&entry["by"], &entry["keyName"]), (&json!(ada_id), &json!("Ada")), "{entry}");
        assert_eq!(entry["ip"], "127.0.0.1");
    }
    assert_eq!((&entries[1]["reason"], &entries[1]["userAgent"]), (&json!("ticket 7, é"), &json!("console/3")));
    as_ada.delete("/v1/tenants/default?confirm=default").problem(422, "DEFAULT_TENANT_FIXED");
    as_ada.delete("/v1/tenants/acme?confirm=acme&reason=moved").expect(204);
    let entry = first.trail("tenantId=default&kind=admin&actions=tenant.delete").remove(0);
    assert_eq!((&entry["by"], &entry["keyName"], &entry["reason"]), (&json!(ada_id), &json!("Ada"), &json!("moved")));
    // What the first key does is the operator's, as before.
    let entry = first.trail("tenantId=default&kind=admin&actions=operator_key.create").remove(0);
    assert_eq!(
        (&entry["by"], &entry["keyName"], &entry["resource"]),
        (&json!("operator"), &Value::Null, &json!(bob_id))
    );
    assert_eq!(entry["parameters"]["role"], "auditor");

    // Bob reads everything and changes nothing.
    let as_bob = server.with_key(&bob);
    let acme = first.tenant("acme");
    let agent = first.reader(&acme);
    let seen = first.all_of("acme");
    assert_eq!(as_bob.all_of("acme"), seen);
    let message = as_bob.authorize(call(&agent.id)).problem(403, "FORBIDDEN");
    assert_eq!(message, "this requires an operator key with the role admin; the role of this key is auditor");
    as_bob.post("/v1/keys", json!({ "name": "mine", "role": "admin" })).problem(403, "FORBIDDEN");
    as_bob.delete(&format!("/v1/keys/{ada_id}")).problem(403, "FORBIDDEN");
    as_bob.patch(&format!("/v1/agents/{}", agent.id), json!({ "name": "x" })).problem(403, "FORBIDDEN");
    as_bob.post("/v1/authorize/explain", call(&agent.id)).expect(200);
    assert_eq!(first.all_of("acme"), seen);

    let listed = as_bob.get("/v1/keys").items();
    let names: Vec<_> = listed.iter().map(|key| key["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["Ada", "Bob, audit"], "the first key has no entry");
    assert!(listed.iter().all(|key| key.get("key").is_none() && key["lastUsedAt"].is_string()), "{listed:?}");
    server.with_key(&acme.key).get("/v1/keys").problem(403, "FORBIDDEN");

    // They outlive a crash and a clean stop, from the first call on.
    for clean in [false, true] {
        if clean {
            server.stop();
            server.start_again();
        } else {
            server.crash_and_start();
        }
        assert_eq!(server.with_key(&bob).get("/v1/keys").items().len(), 2, "clean: {clean}");
        server.with_key(&bob).post("/v1/snapshot", json!({})).problem(403, "FORBIDDEN");
    }

    // A revoked key is refused on every worker as soon as that was answered.
    let agent = agent.id;
    for _ in 0..32 {
        server.with_key(&ada).granted(call(&agent));
    }
    server.with_key(&ada).delete(&format!("/v1/keys/{ada_id}?reason=left")).expect(204);
    for _ in 0..64 {
        server.with_key(&ada).authorize(call(&agent)).problem(401, "INVALID_TOKEN");
    }
    server.with_key(&bob).get("/v1/keys").expect(200);
    server.operator().delete(&format!("/v1/keys/{ada_id}")).problem(404, "KEY_NOT_FOUND");
    server.operator().delete("/v1/keys/operator").problem(404, "KEY_NOT_FOUND");
    let entry = server.operator().trail("tenantId=default&kind=admin&actions=operator_key.revoke").remove(0);
    assert_eq!((&entry["by"], &entry["keyName"]), (&json!(ada_id), &json!("Ada")), "she ended her own");
    assert_eq!((&entry["before"]["name"], &entry["reason"]), (&json!("Ada"), &json!("left")));
    server.crash_and_start();
    server.with_key(&ada).get("/v1/keys").problem(401, "INVALID_TOKEN");
    server.with_key(&bob).get("/v1/keys").expect(200);

    // An end comes by itself.
    let allowed = |key: &str| (server.with_key(key).authorize(call(&agent)).status == 200).then_some(());
    let (temp, ()) = short_lived(&server.operator(), "/v1/keys", json!({ "name": "temp", "role": "admin" }), allowed);
    let temp = server.with_key(&temp);
    eventually("the key ends", || (temp.authorize(call(&agent)).status == 401).then_some(()));
    let body = json!({ "name": "late", "role": "admin", "expiresAt": soon(-1) });
    let message = server.operator().post("/v1/keys", body).problem(400, "INVALID_FIELD");
    assert!(message.starts_with("expiresAt"), "{message}");
    server.operator().post("/v1/keys", json!({ "name": "x" })).problem(400, "INVALID_BODY");
    server.operator().post("/v1/keys", json!({ "name": "x", "role": "viewer" })).problem(400, "INVALID_BODY");
}

#[test]
fn a_silent_stream_ends_with_its_key() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let (ended, ended_id) = made(&operator, "/v1/keys", json!({ "name": "a", "role": "auditor" }));
    let (other, _) = made(&operator, "/v1/keys", json!({ "name": "b", "role": "auditor" }));
    let keys = "/v1/tenants/acme/keys";
    let (revoked, revoked_id) = made(&operator, keys, json!({ "name": "c", "role": "viewer" }));
    let open = |key: &str| Stream::open(server.base(), key, "tenantId=acme", None).unwrap();
    let mut of_all = Stream::open(server.base(), &ended, "", None).unwrap();
    let (mut of_one, mut goes_on, mut of_tenant) = (open(&ended), open(&other), open(&revoked));
    let body = json!({ "name": "d", "role": "viewer" });
    let (_, mut of_time) =
        short_lived(&operator, keys, body, |key| Stream::open(server.base(), key, "tenantId=acme", None).ok());
    assert_eq!(of_time.next(), None, "its end has come");
    operator.delete(&format!("/v1/keys/{ended_id}")).expect(204);
    assert_eq!((of_all.next(), of_one.next()), (None, None));
    operator.delete(&format!("{keys}/{revoked_id}")).expect(204);
    assert_eq!(of_tenant.next(), None);
    let entry = operator.granted(call(&operator.reader(&acme).id));
    assert_eq!(goes_on.next().unwrap()["id"], json!(entry));
    assert_eq!(Stream::open(server.base(), &ended, "", None).err(), Some(401));
}

#[test]
fn a_key_gets_another_name_and_another_end() {
    let mut server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let tenants = "/v1/tenants/acme/keys";
    let (gateway, id) = made(&operator, tenants, json!({ "name": "gateway", "role": "caller" }));
    let (ada, ada_id) = made(&operator, "/v1/keys", json!({ "name": "Ada", "role": "admin" }));
    let as_ada = server.with_key(&ada);
    server.with_key(&gateway).granted(call(&agent.id));
    let path = format!("{tenants}/{id}");
    let changed = as_ada.patch(&path, json!({ "name": "gateway 2", "expiresAt": "2099-01-01T00:00:00Z" })).expect(200);
    assert_eq!(
        (&changed["name"], &changed["expiresAt"], &changed["role"], changed.get("key")),
        (&json!("gateway 2"), &json!("2099-01-01T00:00:00.000Z"), &json!("caller"), None)
    );
    assert!(changed["lastUsedAt"].is_string(), "{changed}");
    assert_eq!(operator.get(tenants).items().last(), Some(&changed));
    server.with_key(&gateway).granted(call(&agent.id));
    let entry = operator.trail("tenantId=acme&kind=admin&actions=key.update").remove(0);
    assert_eq!((&entry["by"], &entry["keyName"], &entry["resource"]), (&json!(ada_id), &json!("Ada"), &json!(id)));
    assert_eq!(entry["parameters"], json!({ "name": "gateway 2", "expiresAt": "2099-01-01T00:00:00.000Z" }));
    assert_eq!((&entry["before"]["name"], &entry["before"]["expiresAt"]), (&json!("gateway"), &Value::Null));
    // What is the same already makes no entry.
    as_ada.patch(&path, json!({ "name": "gateway 2" })).expect(200);
    as_ada.patch(&path, json!({})).expect(200);
    assert_eq!(operator.trail("tenantId=acme&kind=admin&actions=key.update").len(), 1);
    assert_eq!(operator.patch(&path, json!({ "expiresAt": null })).expect(200)["expiresAt"], Value::Null);
    for (field, value) in [("expiresAt", json!(soon(-1))), ("name", json!(" "))] {
        let mut body = json!({});
        body[field] = value;
        let message = operator.patch(&path, body).problem(400, "INVALID_FIELD");
        assert!(message.starts_with(field), "{message}");
    }
    operator.patch(&path, json!({ "role": "admin" })).problem(400, "INVALID_BODY");
    server.with_key(&acme.key).patch(&path, json!({ "name": "mine" })).problem(403, "FORBIDDEN");
    // Another tenant's path does not reach it.
    operator.tenant("globex");
    operator.patch(&format!("/v1/tenants/globex/keys/{id}"), json!({ "name": "x" })).problem(404, "KEY_NOT_FOUND");

    // An operator's.
    let path = format!("/v1/keys/{ada_id}");
    let changed = operator.patch(&path, json!({ "name": "Ada L.", "expiresAt": soon(3_600_000) })).expect(200);
    assert_eq!((&changed["name"], &changed["role"], changed.get("key")), (&json!("Ada L."), &json!("admin"), None));
    assert!(changed["lastUsedAt"].is_string() && changed["expiresAt"].is_string(), "{changed}");
    as_ada.granted(call(&agent.id));
    let entry = operator.trail("tenantId=default&kind=admin&actions=operator_key.update").remove(0);
    assert_eq!((&entry["before"]["name"], &entry["parameters"]["name"]), (&json!("Ada"), &json!("Ada L.")));
    as_ada.patch(&path, json!({ "expiresAt": null })).expect(200);
    assert_eq!(
        operator.trail("tenantId=default&kind=admin&actions=operator_key.update").remove(0)["keyName"],
        "Ada L."
    );
    let keys = [operator.get(tenants).items().len(), operator.get("/v1/keys").items().len()];
    server.crash_and_start();
    let operator = server.operator();
    assert_eq!([operator.get(tenants).items().len(), operator.get("/v1/keys").items().len()], keys);
    assert_eq!(server.with_key(&ada).get("/v1/keys").items()[0]["name"], "Ada L.");
    assert_eq!(operator.get(tenants).items().last().unwrap()["name"], "gateway 2");
}

#[test]
fn a_stream_goes_by_the_newest_end_of_its_key() {
    let server = Server::start();
    let operator = server.operator();
    operator.tenant("acme");
    let keys = "/v1/tenants/acme/keys";
    let (of_tenant, tenant_id) = made(&operator, keys, json!({ "name": "a", "role": "viewer" }));
    let (of_operator, operator_id) = made(&operator, "/v1/keys", json!({ "name": "b", "role": "auditor" }));
    let open = |key: &str| Stream::open(server.base(), key, "tenantId=acme", None).unwrap();
    let (mut one, mut other) = (open(&of_tenant), open(&of_operator));
    for (path, stream) in [(format!("{keys}/{tenant_id}"), &mut one), (format!("/v1/keys/{operator_id}"), &mut other)] {
        // The first end is far enough on any machine.
        let changed = (1..).find_map(|seconds| {
            let answer = operator.patch(&path, json!({ "expiresAt": soon(seconds * 1_000) }));
            (answer.status == 200).then_some(())
        });
        assert_eq!((changed, stream.next()), (Some(()), None));
    }
}

#[test]
fn introspection_says_whose_a_token_is_and_records_nothing() {
    let server = Server::start();
    let operator = server.operator();
    let (acme, globex) = (operator.tenant("acme"), operator.tenant("globex"));
    let (agent, other) = (operator.reader(&acme), operator.reader(&globex));
    let ends = json!({ "permissions": permits("docs:*", &["read"]), "expiresAt": "2099-01-01T00:00:00Z" });
    let ending = operator.agent_with("acme", ends);
    let (gateway, _) = made(&operator, "/v1/tenants/acme/keys", json!({ "name": "gw", "role": "caller" }));
    let (viewer, _) = made(&operator, "/v1/tenants/acme/keys", json!({ "name": "v", "role": "viewer" }));
    let (auditor, _) = made(&operator, "/v1/keys", json!({ "name": "b", "role": "auditor" }));
    let before = operator.all_of("acme");
    let path = "/v1/tokens/introspect";
    let ask = |key: &str, token: &str| server.with_key(key).post(path, json!({ "token": token })).expect(200);
    let active = json!({
        "active": true, "client_id": agent.id, "sub": agent.id, "username": "user-1", "token_type": "Bearer",
        "tenantId": acme.id, "status": "active", "tenantStatus": "active",
    });
    for key in [OPERATOR_KEY, &auditor, &acme.key, &gateway] {
        assert_eq!(ask(key, &agent.token), active);
        assert_eq!(ask(key, &ending.token)["exp"], 4_070_908_800_u64);
    }
    // As clients of RFC 7662 send it.
    let form = format!("token={}&token_type_hint=access_token", agent.token);
    let headers: [(&str, &[u8]); 1] = [("Content-Type", b"application/x-www-form-urlencoded; charset=utf-8")];
    let answer = server.with_key(&gateway).try_send("POST", path, &headers, Some(form.as_bytes())).unwrap();
    assert_eq!(answer.expect(200), active);
    let answer = server.with_key(&gateway).try_send("POST", path, &headers, Some(b"tokens=x")).unwrap();
    assert!(answer.problem(400, "INVALID_BODY").contains("token"));
    server.with_key(&gateway).post(path, json!({})).problem(400, "INVALID_BODY");

    // To a tenant key all others are alike, byte for byte.
    let forged = format!("{}{}", &agent.token[..40], "A".repeat(27));
    let mut nothing = Vec::new();
    for token in [&*other.token, &forged, "", "kv_", "no token", &acme.key, &gateway, OPERATOR_KEY, &"x".repeat(9_000)]
    {
        let answer = server.with_key(&gateway).post(path, json!({ "token": token }));
        let headers = answer.headers.iter().filter(|(name, _)| *name != "date");
        let headers: BTreeSet<_> = headers.map(|(name, value)| format!("{name}: {value:?}")).collect();
        nothing.push((answer.status, answer.text(), headers));
    }
    assert_eq!(nothing[0].1, "{\"active\":false}");
    assert!(nothing.iter().all(|answer| *answer == nothing[0]), "{nothing:?}");
    assert_eq!(ask(OPERATOR_KEY, &other.token)["tenantId"], json!(globex.id));
    assert_eq!(ask(OPERATOR_KEY, "no token"), json!({ "active": false }));
    server.with_key(&viewer).post(path, json!({ "token": agent.token })).problem(403, "FORBIDDEN");
    server.with_key(&agent.token).post(path, json!({ "token": agent.token })).problem(403, "FORBIDDEN");
    server.with_key("kvt_wrong").post(path, json!({ "token": 5 })).problem(401, "INVALID_TOKEN");
    assert_eq!(operator.all_of("acme"), before, "nothing was recorded or charged");

    // An old token ends with its grace, and a replaced one is unknown.
    let rotate = |body: Value| operator.post(&format!("/v1/agents/{}/rotate", agent.id), body).expect(200);
    let second = rotate(json!({ "graceSeconds": 3_600 }))["token"].as_str().unwrap().to_owned();
    assert!(ask(&gateway, &agent.token)["exp"].is_u64());
    assert_eq!(ask(&gateway, &second), active);
    rotate(json!({}));
    assert_eq!(ask(&gateway, &second), json!({ "active": false }));
    // What can't act is not active, and says whose it is.
    operator.delete(&format!("/v1/agents/{}", ending.id)).expect(204);
    let answer = ask(&gateway, &ending.token);
    assert_eq!(
        (&answer["active"], &answer["status"], &answer["sub"]),
        (&json!(false), &json!("revoked"), &json!(ending.id))
    );
    operator.post("/v1/tenants/globex/suspend", json!(null)).expect(200);
    let answer = ask(OPERATOR_KEY, &other.token);
    assert_eq!(
        (&answer["active"], &answer["status"], &answer["tenantStatus"]),
        (&json!(false), &json!("active"), &json!("suspended"))
    );
}

#[test]
fn any_change_takes_a_reason_in_its_head() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let path = format!("/v1/agents/{}", agent.id);
    let patch = |client: &Client, reasons: &[&[u8]]| {
        let headers: Vec<_> = reasons.iter().map(|reason| ("X-Reason", *reason)).collect();
        client.try_send("PATCH", &path, &headers, Some(br#"{"name":"renamed"}"#)).unwrap()
    };
    for reasons in [&[&b""[..]][..], &[b"\xff"], &[b"a", b"a"], &[&[b'x'; 257]], &[acme.key.as_bytes()]] {
        let message = patch(&operator, reasons).problem(400, "INVALID_FIELD");
        assert!(message.starts_with("X-Reason "), "{message}");
        // Only a caller with a valid key learns that.
        patch(&server.with_key("kvt_wrong"), reasons).problem(401, "INVALID_TOKEN");
    }
    patch(&server.with_key(&acme.key), &["renamed after the merger, é".as_bytes()]).expect(200);
    let entry = operator.trail("tenantId=acme&kind=admin&actions=agent.update").remove(0);
    assert_eq!((&entry["reason"], &entry["keyName"]), (&json!("renamed after the merger, é"), &json!("first")));
    // The query's is nearer to what it is about.
    let headers: [(&str, &[u8]); 1] = [("X-Reason", b"in the head")];
    assert_eq!(
        operator.try_send("DELETE", &format!("{path}?reason=in+the+query"), &headers, None).unwrap().status,
        204
    );
    let entry = operator.trail("tenantId=acme&kind=admin&actions=agent.revoke").remove(0);
    assert_eq!(entry["reason"], "in the query");
}

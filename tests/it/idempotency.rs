//! Requests that are sent again with their idempotency key: they get the first answer, and nothing happens twice.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::budgets::{costing, settle_into_the_day};
use crate::client::{Answer, Client};
use crate::harness::{OPERATOR_KEY, Options, Server, eventually};
use crate::holds::holding;
use crate::places::Frozen;
use crate::world::{audit_id, call, permits};

impl Client {
    /// A request with an idempotency key.
    fn once(&self, key: &str, path: &str, body: &Value) -> Answer {
        self.try_once(key, path, body).unwrap_or_else(|problem| panic!("{path}: {problem}"))
    }

    fn try_once(&self, key: &str, path: &str, body: &Value) -> Result<Answer, String> {
        self.try_send("POST", path, &[("Idempotency-Key", key.as_bytes())], Some(body.to_string().as_bytes()))
    }
}

/// Whether the answer says that it was given before.
fn is_repeat(answer: &Answer) -> bool {
    let header = answer.header("idempotent-replayed");
    assert!(header.is_none_or(|value| value == "true"), "{header:?}");
    header.is_some()
}

/// A body of every route that takes a key, with the status of its answer.
fn requests(agent: &str, other: &str) -> Vec<(String, Value, u16)> {
    let one = |path: &str, body: Value, status| (path.to_owned(), body, status);
    vec![
        one("/v1/authorize", costing(agent, "0.25"), 200),
        one(&format!("/v1/agents/{agent}/authorize"), call(agent), 200),
        one("/v1/tenants/acme/authorize", call(agent), 200),
        one("/v1/usage", json!({ "agentId": agent, "calls": 2, "tokensCost": 0.5 }), 200),
        one(
            "/v1/agents",
            json!({ "tenantId": "acme", "ownerId": "user-7", "name": "bot", "type": "service", "permissions": permits("x:*", &["read", "*"]), "metadata": { "a": 1 }, "expiresAt": "2001-01-01T00:00:00Z" }),
            201,
        ),
        one(
            "/v1/policies",
            json!({ "tenantId": "acme", "limits": { "maxCallsPerDay": 0, "maxTokensCostPerMonth": 3.5 }, "action": "warn", "userId": "user-7" }),
            201,
        ),
        one(
            "/v1/delegations",
            json!({ "fromAgent": agent, "toAgent": other, "permissions": permits("docs:1", &["read"]), "expiresAt": "2999-01-01T00:00:00Z" }),
            201,
        ),
    ]
}

/// The same of the routes that change what is there, which first needs to be made.
fn changes(caller: &Client, agent: &str) -> Vec<(String, Value, u16)> {
    let one = |path: String, body: Value, status| (path, body, status);
    let held = |cost: &str| {
        let decision = caller.authorize(holding(agent, cost, 600)).expect(200);
        decision["auditId"].as_str().unwrap().to_owned()
    };
    let id = |made: Value| made["id"].as_str().unwrap().to_owned();
    let made = |path: &str, body: Value| id(caller.post(path, body).expect(201));
    let (released, extended) = (held("0.25"), held("0.5"));
    let agent = made(
        "/v1/agents",
        json!({ "ownerId": "u", "name": "turns", "type": "service", "permissions": permits("*", &["*"]) }),
    );
    let limits = json!({ "maxCallsPerDay": 500, "maxTokensCostPerMonth": 500 });
    let policy = made("/v1/policies", json!({ "limits": limits, "timeZone": "Asia/Kolkata" }));
    caller.granted(costing(&agent, "0.125"));
    let webhook = made("/v1/webhooks", json!({ "url": "https://hooks.example.com/it", "events": ["webhook.*"] }));
    vec![
        one(format!("/v1/holds/{released}/release"), json!({}), 200),
        one(format!("/v1/holds/{extended}/extend"), json!({ "ttlSeconds": 1_200 }), 200),
        one(format!("/v1/agents/{agent}/rotate"), json!({ "graceSeconds": 60 }), 200),
        one(format!("/v1/policies/{policy}/reset"), json!({ "period": "day" }), 200),
        one("/v1/policies/reset".to_owned(), json!({ "period": "month" }), 200),
        one(format!("/v1/webhooks/{webhook}/rotate"), json!({}), 200),
        one(format!("/v1/webhooks/{webhook}/test"), json!({}), 202),
    ]
}

/// The answer without the secret that only the first one shows.
fn without_secret(mut answer: Value) -> Value {
    for member in ["token", "key", "secret"] {
        if let Some(secret) = answer.get_mut(member) {
            *secret = json!("");
        }
    }
    answer
}

#[test]
fn each_route_answers_a_repeat_as_it_did_first_and_does_nothing() {
    settle_into_the_day();
    let mut server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let other = operator.reader(&acme);
    let key = server.with_key(&acme.key);
    let mut firsts = Vec::new();
    let mut all = requests(&agent.id, &other.id);
    all.push(("/v1/tenants/acme/keys".to_owned(), json!({ "name": "ci" }), 201));
    all.push(("/v1/keys".to_owned(), json!({ "name": "Ada", "role": "auditor" }), 201));
    let webhook = json!({ "url": "https://hooks.example.com/kavach", "events": ["agent.*"] });
    all.push(("/v1/webhooks".to_owned(), webhook, 201));
    all.extend(changes(&key, &agent.id));
    for (number, (path, body, status)) in all.iter().enumerate() {
        // Only operators make keys.
        let caller = if path.ends_with("/keys") { &operator } else { &key };
        let name = format!("request-{number}");
        let first = caller.once(&name, path, body);
        assert!(!is_repeat(&first), "{path}");
        let answer = first.expect(*status);
        for member in ["token", "key", "secret"] {
            assert!(answer.get(member).is_none_or(|secret| !secret.as_str().unwrap().is_empty()), "{path}");
        }
        // It is none of what is told now.
        if path.ends_with("/rotate") {
            let thing = path.trim_end_matches("/rotate");
            let patch = if thing.contains("agents") { json!({ "name": "x" }) } else { json!({ "description": "x" }) };
            caller.patch(thing, patch).expect(200);
        }
        let before = operator.all_of("acme");
        let again = caller.once(&name, path, body);
        assert!(is_repeat(&again), "{path}: {}", again.text());
        assert_eq!(again.expect(*status), without_secret(answer.clone()), "{path}");
        assert_eq!(again.header("location"), first.header("location"), "{path}");
        assert_eq!(again.header("content-type"), first.header("content-type"), "{path}");
        // Spaces between the parts of a body do not matter.
        let spaced = format!(" {}\n", serde_json::to_string_pretty(body).unwrap());
        let headers = [("Idempotency-Key", name.as_bytes())];
        let again = caller.try_send("POST", path, &headers, Some(spaced.as_bytes())).unwrap();
        assert!(is_repeat(&again) && again.status == *status, "{path}: {}", again.text());
        assert_eq!(operator.all_of("acme"), before, "{path} changed something");
        firsts.push((name, answer));
    }
    let before = operator.all_of("acme");
    let usage = operator.trail("tenantId=acme&kind=usage");
    for (number, (path, body, _)) in all.iter().enumerate() {
        let name = &firsts[number].0;
        let caller = if path.ends_with("/keys") { &operator } else { &key };
        // Another body, or another route with the same body.
        let mut changed = body.clone();
        match changed.get_mut("name") {
            Some(text) => *text = json!("another"),
            None => changed["expiresAt"] = json!("2888-01-01T00:00:00Z"),
        }
        if path.ends_with("authorize") {
            changed["resource"] = json!("docs:2");
        } else if path == "/v1/usage" {
            changed = json!({ "agentId": agent.id, "calls": 3, "tokensCost": 0.5 });
        } else if path == "/v1/policies" {
            changed["limits"]["maxCallsPerDay"] = json!(1);
            changed.as_object_mut().unwrap().remove("expiresAt");
        } else if path == "/v1/webhooks" {
            changed = json!({ "url": "https://hooks.example.com/other", "events": ["agent.*"] });
        } else if path.ends_with("/extend") {
            changed = json!({ "ttlSeconds": 1_201 });
        } else if path.starts_with("/v1/agents/") {
            changed = json!({ "graceSeconds": 61 });
        } else if path.ends_with("/reset") {
            changed = json!({ "period": "hour" });
        }
        // The others read no body.
        if *body != json!({}) {
            caller.once(name, path, &changed).problem(422, "IDEMPOTENCY_KEY_REUSED");
        }
        let (other_path, other_body, _) = &all[(number + 3) % 7];
        if !path.ends_with("/keys") {
            caller.once(name, other_path, other_body).problem(422, "IDEMPOTENCY_KEY_REUSED");
        }
    }
    assert_eq!(operator.all_of("acme"), before);
    // It is all remembered after a crash, and after a clean stop.
    for ends in 0..2 {
        if ends == 0 {
            server.crash_and_start();
        } else {
            server.stop();
            server.start_again();
        }
        let (operator, key) = (server.operator(), server.with_key(&acme.key));
        for ((path, body, status), (name, answer)) in all.iter().zip(&firsts) {
            let caller = if path.ends_with("/keys") { &operator } else { &key };
            let again = caller.once(name, path, body);
            assert!(is_repeat(&again), "{path}");
            assert_eq!(again.expect(*status), without_secret(answer.clone()), "{path}");
        }
        assert_eq!(operator.all_of("acme"), before);
        assert_eq!(operator.trail("tenantId=acme&kind=usage"), usage);
    }
}

#[test]
fn a_key_is_its_callers_and_its_tenants() {
    let server = Server::start();
    let operator = server.operator();
    let (acme, globex) = (operator.tenant("acme"), operator.tenant("globex"));
    let (first, second, foreign) = (operator.reader(&acme), operator.reader(&acme), operator.reader(&globex));
    let one = json!({ "action": "read", "resource": "docs:1" });
    let named = |agent: &str| json!({ "agentId": agent, "action": "read", "resource": "docs:1" });
    let rotated = operator.post(&format!("/v1/agents/{}/rotate", first.id), json!({ "graceSeconds": 60 })).expect(200);
    // Each of these is somebody else, though they send the same key.
    let callers = [
        (server.with_key(&first.token), one.clone()),
        (server.with_key(&second.token), one.clone()),
        (server.with_key(&foreign.token), one.clone()),
        (server.with_key(&acme.key), named(&first.id)),
        (server.with_key(&globex.key), named(&foreign.id)),
        (operator.clone(), named(&first.id)),
    ];
    let mut ids = HashSet::new();
    for (caller, body) in &callers {
        let answer = caller.once("k", "/v1/authorize", body);
        assert!(!is_repeat(&answer));
        assert!(ids.insert(audit_id(&answer.expect(200))), "{}", answer.text());
    }
    for (caller, body) in &callers {
        let answer = caller.once("k", "/v1/authorize", body);
        assert!(is_repeat(&answer) && !ids.insert(audit_id(&answer.expect(200))));
    }
    // An operator's keys are apart in each tenant.
    let answer = operator.once("k", "/v1/authorize", &named(&foreign.id));
    assert!(!is_repeat(&answer) && ids.insert(audit_id(&answer.expect(200))));
    // A new token is of the same agent, and a new key of the same tenant.
    let newer = server.with_key(rotated["token"].as_str().unwrap());
    assert!(is_repeat(&newer.once("k", "/v1/authorize", &one)));
    let key = operator.post("/v1/tenants/acme/keys", json!({ "name": "second" })).expect(201);
    let key = server.with_key(key["key"].as_str().unwrap());
    assert!(is_repeat(&key.once("k", "/v1/authorize", &named(&first.id))));
    // Who may not ask does not get the answer either.
    server.with_key(&second.token).once("k", "/v1/authorize", &named(&first.id)).problem(403, "FORBIDDEN");
    operator.delete(&format!("/v1/tenants/acme/keys/{}", acme.key_id)).expect(204);
    server.with_key(&acme.key).once("k", "/v1/authorize", &named(&first.id)).problem(401, "INVALID_TOKEN");
    server.anonymous().once("k", "/v1/authorize", &one).problem(401, "UNAUTHENTICATED");
    assert_eq!(operator.trail("").len(), ids.len());
}

#[test]
fn a_tenant_is_made_once() {
    let mut server = Server::start();
    let operator = server.operator();
    let body = |slug: &str, name: &str| json!({ "name": name, "slug": slug, "settings": { "maxAgents": 3 } });
    let first = operator.once("t", "/v1/tenants", &body("acme", "Acme"));
    let made = first.expect(201);
    assert!(!is_repeat(&first));
    // The tenant may change since.
    operator.patch("/v1/tenants/acme", json!({ "name": "Acme Inc." })).expect(200);
    let again = |operator: &Client| {
        let again = operator.once("t", "/v1/tenants", &body("acme", "Acme"));
        assert!(is_repeat(&again), "{}", again.text());
        assert_eq!((again.expect(201), again.header("location")), (made.clone(), first.header("location")));
    };
    again(&operator);
    operator.once("t", "/v1/tenants", &body("acme", "Other")).problem(422, "IDEMPOTENCY_KEY_REUSED");
    operator.once("other", "/v1/tenants", &body("acme", "Acme")).problem(409, "SLUG_TAKEN");
    operator.post("/v1/tenants", body("acme", "Acme")).problem(409, "SLUG_TAKEN");
    // Whatever the tenant is called: the default tenant remembers the key.
    operator.once("t", "/v1/tenants", &body("globex", "Acme")).problem(422, "IDEMPOTENCY_KEY_REUSED");
    let agent = |tenant: Value| json!({ "tenantId": tenant, "ownerId": "u", "name": "bot", "type": "service" });
    operator.once("t", "/v1/agents", &agent(Value::Null)).problem(422, "IDEMPOTENCY_KEY_REUSED");
    operator.once("in-default", "/v1/agents", &agent(Value::Null)).expect(201);
    operator.once("in-default", "/v1/tenants", &body("globex", "Acme")).problem(422, "IDEMPOTENCY_KEY_REUSED");
    // In the new tenant it is another key.
    assert!(!is_repeat(&operator.once("t", "/v1/agents", &agent(json!("acme")))));
    // A key that came with an error made nothing, and is free.
    operator.once("other", "/v1/tenants", &body("globex", "Globex")).expect(201);
    let claims = operator.trail("tenantId=default&kind=admin&actions=tenant.request");
    assert_eq!(claims.len(), 2);
    assert_eq!((&claims[1]["resource"], &claims[1]["parameters"]), (&made["id"], &json!({ "slug": "acme" })));
    server.crash_and_start();
    again(&server.operator());
    server.stop();
    server.start_again();
    let operator = server.operator();
    again(&operator);
    assert_eq!(operator.get("/v1/tenants").items().len(), 2);
    // Many at once make one.
    let (made, repeats) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                let client = server.operator();
                let answer = eventually("it is no longer under way", || {
                    let answer = client.once("many", "/v1/tenants", &body("initech", "Initech"));
                    if answer.status == 409 {
                        answer.problem(409, "IDEMPOTENCY_KEY_IN_USE");
                        return None;
                    }
                    Some(answer)
                });
                answer.expect(201);
                if is_repeat(&answer) { &repeats } else { &made }.fetch_add(1, Ordering::Relaxed);
            });
        }
    });
    assert_eq!((made.into_inner(), repeats.into_inner()), (1, 63));
    // Of an erased tenant nothing is left to tell, so it is made anew, and that is repeated then.
    operator.delete("/v1/tenants/acme?confirm=acme").expect(204);
    operator.once("t", "/v1/tenants", &body("hooli", "Acme")).problem(422, "IDEMPOTENCY_KEY_REUSED");
    let anew = operator.once("t", "/v1/tenants", &body("acme", "Acme"));
    assert!(!is_repeat(&anew) && anew.expect(201)["id"] != first.json()["id"]);
    let again = operator.once("t", "/v1/tenants", &body("acme", "Acme"));
    assert!(is_repeat(&again) && again.expect(201) == anew.json());
}

#[test]
fn one_key_makes_one_tenant_under_whichever_name_it_came_first() {
    let server = Server::start();
    let statuses = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for number in 0..64 {
            let (server, statuses) = (&server, &statuses);
            scope.spawn(move || {
                let client = server.operator();
                let body = json!({ "name": "x", "slug": format!("name-{}", number % 8) });
                let answer = eventually("it is no longer under way", || {
                    let answer = client.once("one", "/v1/tenants", &body);
                    (answer.status != 409).then_some(answer)
                });
                if answer.status != 201 {
                    answer.problem(422, "IDEMPOTENCY_KEY_REUSED");
                }
                statuses.lock().unwrap().push((answer.status, is_repeat(&answer)));
            });
        }
    });
    let statuses = statuses.into_inner().unwrap();
    let count = |wanted| statuses.iter().filter(|status| **status == wanted).count();
    assert_eq!([count((201, false)), count((201, true)), count((422, false))], [1, 7, 56]);
    assert_eq!(server.operator().get("/v1/tenants").items().len(), 1);
}

#[test]
fn a_key_whose_tenant_was_not_made_is_claimed_anew_by_its_own_request() {
    let mut server = Server::start_with(Options { unprivileged: true, ..Options::default() });
    let frozen = Frozen::by_permissions(&server.data_dir());
    let body = |slug: &str| json!({ "name": "x", "slug": slug });
    for (is_killed, slug) in [(false, "acme"), (true, "globex")] {
        // The key can be recorded, since the log has its files, and the tenant's folder can't be made.
        frozen.freeze();
        let operator = server.operator();
        for _ in 0..2 {
            operator.once(slug, "/v1/tenants", &body(slug)).problem(503, "STORAGE_UNAVAILABLE");
        }
        if is_killed {
            server.kill();
        }
        frozen.thaw();
        if is_killed {
            server.start_again();
        }
        let operator = server.operator();
        operator.get(&format!("/v1/tenants/{slug}")).problem(404, "TENANT_NOT_FOUND");
        operator.once(slug, "/v1/tenants", &body("another")).problem(422, "IDEMPOTENCY_KEY_REUSED");
        let first = operator.once(slug, "/v1/tenants", &body(slug));
        assert!(!is_repeat(&first), "{slug}");
        let made = first.expect(201);
        let again = operator.once(slug, "/v1/tenants", &body(slug));
        assert!(is_repeat(&again) && again.expect(201) == made, "{slug}");
        let claims = operator.trail("tenantId=default&kind=admin&actions=tenant.request");
        let claims: Vec<_> = claims.iter().filter(|claim| claim["parameters"]["slug"] == json!(slug)).collect();
        assert_eq!(claims.len(), 3, "each attempt is for a tenant of its own");
        assert_eq!(claims[0]["resource"], made["id"]);
    }
    assert_eq!(server.operator().get("/v1/tenants").items().len(), 2);
}

#[test]
fn each_key_makes_one_tenant_across_kills() {
    let mut server = Server::start();
    let base = Mutex::new(server.base().to_owned());
    let (tries, answers) = (AtomicUsize::new(0), Mutex::new(HashMap::new()));
    let (clients, each) = (6, 30);
    std::thread::scope(|scope| {
        for client in 0..clients {
            let (base, tries, answers) = (&base, &tries, &answers);
            scope.spawn(move || {
                for number in 0..each {
                    let name = format!("t-{client}-{number}");
                    let body = json!({ "name": name, "slug": name });
                    let answer = eventually("the key has an answer", || {
                        let url = base.lock().unwrap().clone();
                        let operator = Client::new(&url, Some(&format!("Bearer {OPERATOR_KEY}")));
                        tries.fetch_add(1, Ordering::Relaxed);
                        let answer = operator.try_once(&name, "/v1/tenants", &body).ok()?;
                        // While the server starts, or while an attempt before this one is under way.
                        (answer.status < 500 && answer.status != 409).then_some(answer)
                    });
                    answers.lock().unwrap().insert(name, answer.expect(201));
                }
            });
        }
        // The key is on disk some time before its tenant is, so of many kills some come between the two.
        for round in 1..=12 {
            let enough = clients * each * round / 13;
            eventually("more is answered", || (answers.lock().unwrap().len() >= enough).then_some(()));
            let tried = tries.load(Ordering::Relaxed);
            eventually("one is on its way", || (tries.load(Ordering::Relaxed) > tried).then_some(()));
            server.crash_and_start();
            *base.lock().unwrap() = server.base().to_owned();
        }
    });
    let operator = server.operator();
    let tenants = operator.get("/v1/tenants").items();
    assert_eq!(tenants.len(), clients * each);
    for (name, answer) in answers.into_inner().unwrap() {
        let found: Vec<_> = tenants.iter().filter(|tenant| tenant["slug"] == json!(name)).collect();
        assert!(found.len() == 1 && *found[0] == answer, "{name}: {found:?}");
        let again = operator.once(&name, "/v1/tenants", &json!({ "name": name, "slug": name }));
        assert!(is_repeat(&again) && again.expect(201) == answer, "{name}");
        let other = json!({ "name": name, "slug": format!("{name}-other") });
        operator.once(&name, "/v1/tenants", &other).problem(422, "IDEMPOTENCY_KEY_REUSED");
    }
    // Whoever died between the key and the tenant left a key without one, which was then claimed anew.
    let claims = operator.trail("tenantId=default&kind=admin&actions=tenant.request");
    assert!(claims.len() >= tenants.len(), "{}", claims.len());
}

#[test]
fn a_hold_is_made_settled_released_and_ended_once_for_each_key() {
    settle_into_the_day();
    let mut server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let policy = operator.policy("acme", json!({ "limits": { "maxTokensCostPerDay": 10 } }));
    let day = |operator: &Client| {
        let windows = operator.policy_of(&policy)["windows"].clone();
        let day = windows.as_array().unwrap().iter().find(|window| window["period"] == "day").unwrap().clone();
        json!([day["tokensCostSpent"], day["tokensCostHeld"], day["tokensCostLeft"]])
    };
    let same = |operator: &Client, key: &str, path: &str, body: &Value, first: &Value| {
        let (before, usage) = (operator.all_of("acme"), operator.trail("kind=usage"));
        let again = operator.once(key, path, body);
        assert!(is_repeat(&again), "{key}");
        assert_eq!(again.expect(200), *first, "{key}");
        assert_eq!((operator.all_of("acme"), operator.trail("kind=usage")), (before, usage), "{key} did something");
    };
    let ask = |seconds| holding(&agent.id, "2", seconds);
    let hold = |key: &str, seconds| operator.once(key, "/v1/authorize", &ask(seconds)).expect(200);
    let (settled, released) = (hold("settled", 600), hold("released", 600));
    let path = |decision: &Value, verb: &str| format!("/v1/holds/{}/{verb}", audit_id(decision));
    assert_eq!(settled["hold"]["until"].as_str().map(str::len), Some(24), "{settled}");
    // The same hold, and another one only for another request.
    same(&operator, "settled", "/v1/authorize", &ask(600), &settled);
    operator.once("settled", "/v1/authorize", &ask(601)).problem(422, "IDEMPOTENCY_KEY_REUSED");
    operator.once("settled", "/v1/authorize", &costing(&agent.id, "2")).problem(422, "IDEMPOTENCY_KEY_REUSED");
    let extended = operator.once("extend", &path(&released, "extend"), &json!({ "ttlSeconds": 900 })).expect(200);
    let settlement = json!({ "agentId": agent.id, "auditId": audit_id(&settled), "tokensCost": 0.5 });
    let settles = operator.once("settle", "/v1/usage", &settlement).expect(200);
    let releases = operator.once("release", &path(&released, "release"), &json!({})).expect(200);
    let ended = hold("ended", 1);
    eventually("the short hold has ended", || {
        let gone = operator.get(&format!("/v1/holds/{}", audit_id(&ended)));
        (gone.status == 404).then_some(())
    });
    // Its end is recorded before the next call is decided.
    operator.granted(costing(&agent.id, "0"));
    assert_eq!(day(&operator), json!([0.5, 0, 9.5]));
    // What ended the hold is told again with its key, and so is each hold as it was when it was made.
    let repeats = |operator: &Client| {
        same(operator, "settled", "/v1/authorize", &ask(600), &settled);
        same(operator, "released", "/v1/authorize", &ask(600), &released);
        same(operator, "ended", "/v1/authorize", &ask(1), &ended);
        same(operator, "extend", &path(&released, "extend"), &json!({ "ttlSeconds": 900 }), &extended);
        same(operator, "settle", "/v1/usage", &settlement, &settles);
        same(operator, "release", &path(&released, "release"), &json!({}), &releases);
        assert_eq!(day(operator), json!([0.5, 0, 9.5]));
    };
    repeats(&operator);
    server.crash_and_start();
    repeats(&server.operator());
    // Without its key, or with a new one, a change of a hold that has ended is what it is for everybody.
    let operator = server.operator();
    operator.once("new", &path(&settled, "release"), &json!({})).problem(409, "HOLD_ENDED");
    operator.once("new", &path(&ended, "extend"), &json!({ "ttlSeconds": 9 })).problem(409, "HOLD_ENDED");
    assert_eq!(operator.once("new", &path(&released, "release"), &json!({})).expect(200), releases);
}

#[test]
fn every_post_takes_a_key_or_needs_none() {
    let server = Server::start();
    let document = server.anonymous().get("/openapi.json").expect(200);
    let takes_key = |operation: &Value| {
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        parameters.iter().any(|parameter| parameter["name"] == "Idempotency-Key")
    };
    let mut without = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            assert!(method == "post" || !takes_key(operation), "{method} {path}");
            if method == "post" && path.starts_with("/v1/") && !takes_key(operation) {
                without.push(path.clone());
            }
        }
    }
    without.sort();
    let expected = [
        "/v1/agents/{id}/activate",
        "/v1/agents/{id}/suspend",
        // Each request of a batch has its own.
        "/v1/authorize/batch",
        "/v1/authorize/explain",
        "/v1/budget/check",
        "/v1/snapshot",
        "/v1/tenants/{tenant}/activate",
        "/v1/tenants/{tenant}/suspend",
        "/v1/tokens/introspect",
    ];
    assert_eq!(without, expected);
}

#[test]
fn a_denial_and_its_warnings_are_repeated_and_an_error_is_not() {
    settle_into_the_day();
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let warns = operator.policy("acme", json!({ "limits": { "maxCallsPerDay": 0 }, "action": "warn" }));
    // Warned, with a cost that is rounded.
    let fine = costing(&agent.id, "0.0000001");
    let warned = operator.once("warned", "/v1/authorize", &fine).expect(200);
    assert_eq!((&warned["warnings"][0]["policyId"], &warned["tokensCost"]), (&json!(warns), &json!(0.000001)));
    let throttles = operator.policy("acme", json!({ "limits": { "maxTokensCostPerDay": 0.5 }, "action": "throttle" }));
    let dear = costing(&agent.id, "1");
    let denied = operator.once("denied", "/v1/authorize", &dear).expect(200);
    assert_eq!((&denied["policyId"], &denied["code"]), (&json!(throttles), &json!("BUDGET_EXCEEDED")));
    assert!(denied["retryAfter"].as_u64().is_some_and(|seconds| seconds > 0), "{denied}");
    // Whatever becomes of the policies: the call was answered.
    operator.patch_policy(&throttles, json!({ "limits": { "maxTokensCostPerDay": 100 } }));
    operator.delete(&format!("/v1/policies/{warns}")).expect(204);
    assert_eq!(operator.once("denied", "/v1/authorize", &dear).expect(200), denied);
    assert_eq!(operator.once("warned", "/v1/authorize", &fine).expect(200), warned);
    operator.granted(dear);
    // An error changed nothing, so the same request with the same key is carried out once it can be.
    let full = json!({ "settings": { "maxAgents": 1 } });
    operator.patch("/v1/tenants/acme", full).expect(200);
    let new = json!({ "tenantId": "acme", "ownerId": "u", "name": "late", "type": "service" });
    for _ in 0..2 {
        operator.once("late", "/v1/agents", &new).problem(422, "AGENT_LIMIT_EXCEEDED");
    }
    operator.patch("/v1/tenants/acme", json!({ "settings": { "maxAgents": null } })).expect(200);
    let made = operator.once("late", "/v1/agents", &new);
    assert!(!is_repeat(&made));
    made.expect(201);
    // Then it is a repeat, although the tenant is full again.
    operator.patch("/v1/tenants/acme", json!({ "settings": { "maxAgents": 1 } })).expect(200);
    let again = operator.once("late", "/v1/agents", &new);
    assert!(is_repeat(&again));
    assert_eq!(again.expect(201)["id"], made.json()["id"]);
}

#[test]
fn a_settlement_is_repeated_with_its_key() {
    settle_into_the_day();
    let server = Server::start();
    let operator = server.operator();
    let agent = operator.reader(&operator.tenant("acme"));
    let decision = operator.granted(costing(&agent.id, "1"));
    let body = json!({ "agentId": agent.id, "auditId": decision, "tokensCost": 0.25 });
    let first = operator.once("settle", "/v1/usage", &body);
    let again = operator.once("settle", "/v1/usage", &body);
    assert_eq!((again.expect(200), is_repeat(&first), is_repeat(&again)), (first.expect(200), false, true));
    let dearer = json!({ "agentId": agent.id, "auditId": decision, "tokensCost": 0.5 });
    operator.once("settle", "/v1/usage", &dearer).problem(422, "IDEMPOTENCY_KEY_REUSED");
    operator.once("another", "/v1/usage", &dearer).problem(409, "ALREADY_SETTLED");
    assert_eq!(operator.trail("kind=usage").len(), 1);
}

#[test]
fn each_request_of_a_batch_has_its_own_key() {
    settle_into_the_day();
    let server = Server::start();
    let operator = server.operator();
    let (acme, globex) = (operator.tenant("acme"), operator.tenant("globex"));
    let (agent, foreign) = (operator.reader(&acme), operator.reader(&globex));
    let policy = operator.policy("acme", json!({ "limits": { "maxCallsPerDay": 100 } }));
    let one = |key: &str, agent: &str, resource: &str| json!({ "agentId": agent, "action": "read", "resource": resource, "idempotencyKey": key });
    let unknown = "agt_0190a1b2c3d4700080000000deadbeef";
    let requests = json!([
        one("a", &agent.id, "docs:1"),
        one("b", &agent.id, "docs:1"),
        one("a", &agent.id, "docs:1"),
        one("a", &agent.id, "docs:2"),
        one("c", &foreign.id, "docs:1"),
        one("d", unknown, "docs:1"),
        one("e e", &agent.id, "docs:1"),
        call(&agent.id),
    ]);
    let batch = |client: &Client| {
        let answer = client.post("/v1/authorize/batch", json!({ "requests": requests }));
        assert!(!is_repeat(&answer));
        answer.expect(200)["results"].as_array().unwrap().clone()
    };
    let first = batch(&operator);
    assert_eq!(first[0]["auditId"], first[2]["auditId"], "the third repeats the first");
    assert_ne!(first[0]["auditId"], first[1]["auditId"]);
    for (at, code) in [(3, "IDEMPOTENCY_KEY_REUSED"), (6, "INVALID_FIELD")] {
        assert_eq!(
            (&first[at]["allowed"], &first[at]["error"]["code"]),
            (&json!(false), &json!(code)),
            "{}",
            first[at]
        );
    }
    assert_eq!(first[6]["error"]["details"]["field"], "requests[6].idempotencyKey");
    assert_eq!((&first[4]["allowed"], &first[5]["code"]), (&json!(true), &json!("AGENT_NOT_FOUND")));
    assert_eq!(operator.used(&policy)[0], 3);
    let again = batch(&operator);
    assert_eq!(first[..7], again[..7]);
    assert_ne!(first[7]["auditId"], again[7]["auditId"], "it has no key");
    assert_eq!(operator.used(&policy)[0], 4);
    // A single call with the key in its body or its head is the same call.
    let single = operator.authorize(one("a", &agent.id, "docs:1"));
    assert!(is_repeat(&single));
    assert_eq!(single.expect(200), first[0]);
    assert_eq!(operator.once("b", "/v1/authorize", &call(&agent.id)).expect(200), first[1]);
    // The tenant's own key is somebody else.
    let own = json!({ "requests": [one("a", &agent.id, "docs:1"), one("a", &agent.id, "docs:1")] });
    let results = server.with_key(&acme.key).post("/v1/authorize/batch", own).expect(200)["results"].clone();
    assert_eq!(results[0], results[1]);
    assert_ne!(results[0]["auditId"], first[0]["auditId"]);
    // The header would be about all of them.
    let refused = operator.once("all", "/v1/authorize/batch", &json!({ "requests": [call(&agent.id)] }));
    assert!(refused.problem(400, "INVALID_FIELD").contains("'idempotencyKey'"));
}

#[test]
fn what_is_no_key_is_refused_and_nothing_happens() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let (agent, other) = (operator.reader(&acme), operator.reader(&acme));
    let before = operator.all_of("acme");
    let long = "k".repeat(256);
    for (path, body, _) in requests(&agent.id, &other.id) {
        let text = body.to_string();
        let send = |headers: &[(&str, &[u8])]| operator.try_send("POST", &path, headers, Some(text.as_bytes()));
        for bad in [&b""[..], b"a b", b"\xff\xfe", "é".as_bytes(), long.as_bytes(), b"a\tb"] {
            let problem = send(&[("Idempotency-Key", bad)]).unwrap().problem(400, "INVALID_FIELD");
            assert!(problem.starts_with("Idempotency-Key must be 1 to 255 visible"), "{problem}");
        }
        let twice = send(&[("Idempotency-Key", b"a"), ("Idempotency-Key", b"a")]).unwrap();
        assert!(twice.problem(400, "INVALID_FIELD").starts_with("Idempotency-Key must be in the request only once"));
        // Nobody without a key of the server learns that.
        let stranger = server.with_key("kvo_another-operator-key-0123456789abcdefghij");
        let answer = stranger.try_send("POST", &path, &[("Idempotency-Key", b"")], Some(text.as_bytes())).unwrap();
        answer.problem(401, "INVALID_TOKEN");
        // A control character is no header to begin with.
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nIdempotency-Key: a\u{1}b\r\n\r\n");
        let answer = crate::client::send_bytes(server.host(), head.as_bytes());
        assert!(answer.as_ref().map_or(true, |answer| (400..500).contains(&answer.status)), "{answer:?}");
    }
    for bad in [json!(""), json!("a b"), json!(long), json!("é"), json!("a\u{7}")] {
        let mut body = call(&agent.id);
        body["idempotencyKey"] = bad;
        assert!(operator.authorize(body).problem(400, "INVALID_FIELD").starts_with("idempotencyKey must be"));
    }
    let mut body = call(&agent.id);
    body["idempotencyKey"] = json!("a");
    let problem = operator.once("b", "/v1/authorize", &body).problem(400, "INVALID_FIELD");
    assert!(problem.starts_with("idempotencyKey differs"), "{problem}");
    assert_eq!(operator.all_of("acme"), before);
    // The longest key, and the same in both places.
    body["idempotencyKey"] = json!("~".repeat(255));
    operator.once(&"~".repeat(255), "/v1/authorize", &body).expect(200);
}

#[test]
fn other_protocols_ignore_the_header() {
    let server = Server::start();
    let operator = server.operator();
    let agent = operator.reader(&operator.tenant("acme"));
    let body = json!({
        "subject": { "type": "agent", "id": agent.id },
        "action": { "name": "read" },
        "resource": { "type": "docs", "id": "1" },
    });
    for _ in 0..2 {
        let answer = operator.once("k", "/access/v1/evaluation", &body);
        assert!(!is_repeat(&answer));
        answer.expect(200);
    }
    assert_eq!(operator.trail("").len(), 2);
}

#[test]
fn a_key_sent_on_many_connections_at_once_is_used_once() {
    for durability in ["interval", "fsync"] {
        sent_on_many_connections(Options::args(&["--durability", durability]));
    }
}

fn sent_on_many_connections(options: Options) {
    settle_into_the_day();
    let server = Server::start_with(options);
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let (agent, other) = (operator.reader(&acme), operator.reader(&acme));
    let policy = operator.policy("acme", json!({ "limits": { "maxCallsPerDay": 1_000 } }));
    let mut calls = 0;
    for (number, (path, body, status)) in requests(&agent.id, &other.id).into_iter().enumerate() {
        let key = format!("k-{number}");
        let answers = Mutex::new(Vec::new());
        let firsts = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..64 {
                scope.spawn(|| {
                    let client = server.operator();
                    let answer = client.once(&key, &path, &body);
                    if !is_repeat(&answer) {
                        firsts.fetch_add(1, Ordering::Relaxed);
                    }
                    answers.lock().unwrap().push(without_secret(answer.expect(status)));
                });
            }
        });
        let answers = answers.into_inner().unwrap();
        assert_eq!((firsts.into_inner(), answers.len()), (1, 64), "{path}");
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{path}");
        calls += match &*path {
            "/v1/usage" => 2,
            path if path.ends_with("authorize") => 1,
            _ => 0,
        };
    }
    assert_eq!(operator.used(&policy)[0], calls);
}

/// Clients that send each key until it has an answer, while the server is killed again and again.
fn killed(options: Options) {
    settle_into_the_day();
    let mut server = Server::start_with(options);
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let policy = operator.policy("acme", json!({ "limits": { "maxCallsPerDay": 1_000_000 } }));
    let base = Mutex::new(server.base().to_owned());
    let (answered, made) = (AtomicUsize::new(0), Mutex::new(HashMap::new()));
    let (clients, each) = (6, 60);
    std::thread::scope(|scope| {
        for client in 0..clients {
            let (base, answered, made, agent, key) = (&base, &answered, &made, &agent, &acme.key);
            scope.spawn(move || {
                for number in 0..each {
                    let name = format!("{client}-{number}");
                    let (path, body) = if number % 10 == 9 {
                        let new = json!({ "ownerId": "u", "name": name, "type": "service" });
                        ("/v1/agents", new)
                    } else {
                        let body = json!({ "agentId": agent.id, "action": "read", "resource": format!("docs:{name}") });
                        ("/v1/authorize", body)
                    };
                    let answer = eventually("the key has an answer", || {
                        let url = base.lock().unwrap().clone();
                        let client = Client::new(&url, Some(&format!("Bearer {key}")));
                        let answer = client.try_once(&name, path, &body).ok()?;
                        // The second attempt is for those whose first answer got lost on the way.
                        (answer.status < 500).then_some(answer)
                    });
                    assert!(answer.status == 200 || answer.status == 201, "{}", answer.text());
                    made.lock().unwrap().insert(name, answer.json());
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for round in 1..=4 {
            let enough = clients * each * round / 5;
            eventually("more is answered", || (answered.load(Ordering::Relaxed) >= enough).then_some(()));
            server.crash_and_start();
            *base.lock().unwrap() = server.base().to_owned();
        }
    });
    let operator = server.operator();
    let made = made.into_inner().unwrap();
    let trail = operator.trail("tenantId=acme");
    let resources: HashSet<_> = trail.iter().map(|entry| entry["resource"].as_str().unwrap()).collect();
    assert_eq!(resources.len(), trail.len(), "a key is in the trail twice");
    assert_eq!(trail.len(), clients * each * 9 / 10);
    assert_eq!(operator.used(&policy)[0], trail.len());
    let ids: HashSet<_> = trail.iter().map(|entry| entry["id"].clone().to_string()).collect();
    let agents = operator.get("/v1/agents?tenantId=acme").items();
    assert_eq!(agents.len(), 1 + clients * each / 10, "an agent was made twice");
    for (name, answer) in &made {
        match answer.get("auditId") {
            Some(id) => assert!(ids.contains(&id.to_string()), "{name}"),
            None => assert_eq!(agents.iter().filter(|agent| agent["id"] == answer["id"]).count(), 1, "{name}"),
        }
    }
}

#[test]
fn a_client_that_repeats_until_it_has_an_answer_is_charged_once_across_kills() {
    killed(Options::default());
}

#[test]
fn nor_twice_when_each_decision_waits_for_the_disk() {
    killed(Options::args(&["--durability", "fsync"]));
}

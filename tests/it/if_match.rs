//! `If-Match`: a change is made only to the version that its author has seen, and of several authors with one version only
//! the first makes its change.

use serde_json::{Value, json};

use crate::client::{Answer, Client};
use crate::harness::Server;
use crate::world::{call, permits};

/// Something that can be changed: where it is, a change of it, and what its end takes in its query.
struct Thing {
    path: String,
    patch: fn(&str) -> Value,
    confirm: &'static str,
}

/// One of each kind, of the tenant `acme`. The tenant is last, since the others go with it.
fn things(operator: &Client) -> Vec<Thing> {
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let made = |path: &str, body: Value| {
        let id = operator.post(path, body).expect(201)["id"].as_str().unwrap().to_owned();
        format!("{path}/{id}")
    };
    let policy = |tenant: &str, scope: &str| json!({ "tenantId": tenant, "scope": scope, "limits": { "maxCallsPerDay": 100 }, "action": "block" });
    let mut whole = policy("acme", "instance");
    whole.as_object_mut().unwrap().remove("tenantId");
    let limits = |text: &str| json!({ "limits": { "maxCallsPerDay": 100 + text.len() } });
    let name = |text: &str| json!({ "name": text });
    let webhook = json!({ "tenantId": "acme", "url": "https://kavach.invalid/", "events": ["budget.threshold"] });
    vec![
        Thing { path: format!("/v1/agents/{}", agent.id), patch: name, confirm: "" },
        Thing { path: made("/v1/policies", policy("acme", "tenant")), patch: limits, confirm: "" },
        Thing { path: made("/v1/policies", whole), patch: limits, confirm: "" },
        Thing { path: made("/v1/webhooks", webhook), patch: |text| json!({ "description": text }), confirm: "" },
        Thing { path: "/v1/tenants/acme".to_owned(), patch: name, confirm: "?confirm=acme" },
    ]
}

fn tag(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let tag = answer.header("etag").unwrap_or_else(|| panic!("no ETag: {answer:?}")).to_owned();
    assert!(tag.starts_with('"') && tag.ends_with('"') && tag.len() == 34, "{tag}");
    tag
}

fn with_tag(client: &Client, method: &str, path: &str, tag: &str, body: Option<&Value>) -> Answer {
    let body = body.map(Value::to_string);
    let headers: [(&str, &[u8]); 1] = [("If-Match", tag.as_bytes())];
    client.try_send(method, path, &headers, body.as_ref().map(String::as_bytes)).unwrap()
}

#[test]
fn a_change_of_what_was_changed_since_is_refused_and_changes_nothing() {
    let mut server = Server::start();
    let mut operator = server.operator();
    for Thing { path, patch, confirm } in things(&operator) {
        let first = tag(&operator.get(&path));
        assert_eq!(tag(&operator.get(&path)), first, "reading makes no other version");
        let changed = with_tag(&operator, "PATCH", &path, &first, Some(&patch("a")));
        let second = tag(&changed);
        assert_ne!(second, first, "{path}");
        assert_eq!(tag(&operator.get(&path)), second);
        let seen = || {
            (operator.get(&path).expect(200), operator.all_of("acme"), operator.trail("tenantId=default&kind=admin"))
        };
        let before = seen();
        let end = format!("{path}{confirm}");
        // A weak tag matches nothing (RFC 9110, 13.1.1), also of what is current.
        for stale in [first.clone(), format!("W/{second}"), "\"x\"".to_owned(), format!("{first}, \"y\"")] {
            for answer in [
                with_tag(&operator, "PATCH", &path, &stale, Some(&patch("bcd"))),
                // Also if nothing would change.
                with_tag(&operator, "PATCH", &path, &stale, Some(&patch("a"))),
                with_tag(&operator, "DELETE", &end, &stale, None),
            ] {
                let message = answer.problem(412, "PRECONDITION_FAILED");
                assert!(message.contains("changed since"), "{message}");
            }
        }
        for bad in ["x", "\"x", &second[1..33], "*, *"] {
            with_tag(&operator, "PATCH", &path, bad, Some(&patch("bcd"))).problem(400, "INVALID_FIELD");
        }
        assert_eq!(seen(), before, "{path}");
        // A restart makes no other version.
        server.crash_and_start();
        operator = server.operator();
        let third = tag(&with_tag(&operator, "PATCH", &path, &format!("\"x\" ,{second}"), Some(&patch("bcd"))));
        // Without the header, and with `*`, any version will do.
        operator.patch(&path, patch("efghi")).expect(200);
        with_tag(&operator, "PATCH", &path, "*", Some(&patch("klmnopq"))).expect(200);
        with_tag(&operator, "DELETE", &end, &third, None).problem(412, "PRECONDITION_FAILED");
        let last = tag(&operator.get(&path));
        with_tag(&operator, "DELETE", &end, &last, None).expect(204);
    }
}

#[test]
fn of_many_authors_with_one_version_one_makes_its_change() {
    let server = Server::start();
    let operator = server.operator();
    for Thing { path, patch, confirm } in things(&operator) {
        for round in 0..5 {
            let seen = tag(&operator.get(&path));
            let authors = 16;
            let statuses: Vec<u16> = std::thread::scope(|scope| {
                let authors: Vec<_> = (0..authors)
                    .map(|author| {
                        let (path, seen, client) = (&path, &seen, server.operator());
                        // In the last round some want to end it.
                        let ends = round == 4 && author % 2 == 0;
                        scope.spawn(move || {
                            if ends {
                                return with_tag(&client, "DELETE", &format!("{path}{confirm}"), seen, None).status;
                            }
                            let body = patch(&"x".repeat(1 + author + authors * round));
                            with_tag(&client, "PATCH", path, seen, Some(&body)).status
                        })
                    })
                    .collect();
                authors.into_iter().map(|author| author.join().unwrap()).collect()
            });
            let made = statuses.iter().filter(|status| **status < 300).count();
            assert_eq!(made, 1, "{path}: {statuses:?}");
            // Who comes after an end finds nothing, or a revoked agent, or a tenant that is about to go.
            assert!(statuses.iter().all(|status| [200, 204, 404, 409, 412, 503].contains(status)), "{statuses:?}");
            if operator.get(&path).status == 404 {
                break;
            }
        }
    }
}

#[test]
fn calls_make_no_other_version_and_every_change_does() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let path = format!("/v1/agents/{}", agent.id);
    let limits = json!({ "tenantId": "acme", "limits": { "maxCallsPerDay": 5 }, "action": "block" });
    let policy = operator.post("/v1/policies", limits).expect(201);
    let policy = format!("/v1/policies/{}", policy["id"].as_str().unwrap());
    let (of_agent, of_policy) = (tag(&operator.get(&path)), tag(&operator.get(&policy)));
    operator.granted(call(&agent.id));
    assert!(!operator.get(&path).expect(200)["lastActiveAt"].is_null());
    assert_eq!((tag(&operator.get(&path)), tag(&operator.get(&policy))), (of_agent.clone(), of_policy));
    let mut seen = vec![of_agent];
    let mut changed = |what: &str| {
        let now = tag(&operator.get(&path));
        assert!(!seen.contains(&now), "{what}");
        seen.push(now);
    };
    let suspend = format!("{path}/suspend");
    with_tag(&operator, "POST", &suspend, "\"x\"", None).problem(412, "PRECONDITION_FAILED");
    let suspended = with_tag(&operator, "POST", &suspend, &tag(&operator.get(&path)), None);
    assert_eq!(tag(&suspended), tag(&operator.get(&path)));
    changed("suspended");
    operator.post(&format!("{path}/activate"), Value::Null).expect(200);
    changed("activated");
    operator.post(&format!("{path}/rotate"), json!({})).expect(200);
    changed("rotated");
    operator.patch(&path, json!({ "permissions": permits("mail:*", &["read"]) })).expect(200);
    changed("patched");
    operator.delete(&path).expect(204);
    changed("revoked");
}

#[test]
fn a_version_tells_nothing_to_who_may_not_see_or_change_it() {
    let server = Server::start();
    let operator = server.operator();
    let [acme, globex] = ["acme", "globex"].map(|slug| operator.tenant(slug));
    let agent = operator.reader(&acme);
    let path = format!("/v1/agents/{}", agent.id);
    let right = tag(&operator.get(&path));
    let limits = json!({ "tenantId": "acme", "limits": { "maxCallsPerDay": 5 }, "action": "block" });
    let policy = operator.post("/v1/policies", limits).expect(201);
    let policy = format!("/v1/policies/{}", policy["id"].as_str().unwrap());
    let secret = json!({ "tenantId": "acme", "url": "https://kavach.invalid/secret-path", "events": ["*"] });
    let webhook = operator.post("/v1/webhooks", secret).expect(201);
    let webhook = format!("/v1/webhooks/{}", webhook["id"].as_str().unwrap());
    let (own, foreign) = (server.with_key(&acme.key), server.with_key(&globex.key));
    for tag in [&*right, "\"x\""] {
        with_tag(&foreign, "PATCH", &path, tag, Some(&json!({ "name": "n" }))).problem(404, "AGENT_NOT_FOUND");
        with_tag(&foreign, "DELETE", &path, tag, None).problem(404, "AGENT_NOT_FOUND");
        // What an operator set is the operator's, whatever its version.
        with_tag(&own, "DELETE", &policy, tag, None).problem(403, "FORBIDDEN");
        with_tag(&own, "DELETE", &webhook, tag, None).problem(403, "FORBIDDEN");
        with_tag(&own, "PATCH", "/v1/tenants/acme", tag, Some(&json!({ "name": "n" }))).problem(403, "FORBIDDEN");
    }
    // The path of a URL that a key does not see is not in the version that it sees.
    let shown = tag(&own.get(&webhook));
    assert_ne!(shown, tag(&operator.get(&webhook)));
    assert_eq!(operator.get(&path).expect(200)["name"], "bot");
}

//! The audit trail: filters, paging, single entries, and the content of an entry.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

use kavach::domain::Timestamp;
use kavach::journal::DataDir;
use serde_json::{Value, json};

use crate::client::Client;
use crate::decisions::unknown_like;
use crate::harness::{Options, Server};
use crate::retention::{now, with_a_past};
use crate::world::{Agent, call, next_page, permits};

fn ids(entries: &[Value]) -> Vec<String> {
    entries.iter().map(|entry| entry["id"].as_str().unwrap().to_owned()).collect()
}

/// Ten calls of two agents of `acme`, and one of `globex`.
fn some_calls(operator: &Client) -> (Agent, Agent) {
    operator.tenant("acme");
    let globex = operator.tenant("globex");
    let permissions = permits("docs:*", &["read", "list"]);
    let first = operator.agent_with("acme", json!({ "permissions": permissions, "ownerId": "ann" }));
    let second = operator.agent_with("acme", json!({ "permissions": permissions, "ownerId": "bob" }));
    for n in 0..5 {
        for (agent, action) in [(&first, ["read", "list", "drop"][n % 3]), (&second, "read")] {
            let body = json!({ "agentId": agent.id, "action": action, "resource": format!("docs:{n}") });
            operator.authorize(body).expect(200);
        }
    }
    let other = operator.reader(&globex);
    operator.granted(call(&other.id));
    (first, second)
}

#[test]
fn filters_narrow_the_trail() {
    let server = Server::start();
    let operator = server.operator();
    let (first, second) = some_calls(&operator);
    let all = operator.trail("tenantId=acme");
    assert_eq!(all.len(), 10);
    let (newest, oldest) = (&all[0]["timestamp"], &all[9]["timestamp"]);
    assert!(newest.as_str() >= oldest.as_str());
    let unknown = unknown_like(&first.id);
    for (query, count) in [
        ("", 11),
        ("tenantId=globex", 1),
        ("tenantId=default", 0),
        ("tenantId=acme&userId=ann", 5),
        ("userId=bob", 5),
        ("userId=%20bob%20", 5),
        ("userId=nobody", 0),
        ("tenantId=acme&actions=list", 2),
        ("tenantId=acme&actions=list,drop", 3),
        ("tenantId=acme&actions=nothing", 0),
        ("tenantId=acme&result=denied", 1),
        ("tenantId=acme&result=allowed", 9),
        ("tenantId=acme&result=rate_limited", 0),
        ("tenantId=acme&kind=decision&result=allowed&actions=read&userId=ann", 2),
        ("since=2100-01-01T00:00:00Z", 0),
        ("until=2000-01-01T00:00:00Z", 0),
        ("since=2000-01-01T00:00:00Z&until=2100-01-01T00:00:00%2B02:00", 11),
        (&*format!("agentId={}", first.id), 5),
        (&*format!("agentId={}&tenantId=globex", second.id), 0),
        (&*format!("agentId={unknown}"), 0),
    ] {
        assert_eq!(operator.trail(query).len(), count, "{query}");
    }
    // From a time on, and before a time.
    let middle = all[4]["timestamp"].as_str().unwrap();
    let since = operator.trail(&format!("tenantId=acme&since={middle}"));
    let until = operator.trail(&format!("tenantId=acme&until={middle}"));
    assert_eq!([since, until].concat(), all, "together they are all of it, once");
}

#[test]
fn the_trail_is_filtered_by_code_resource_and_address() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.agent_with("acme", json!({ "permissions": permits("docs:*", &["read"]) }));
    let entry = |action: &str, resource: &str, ip: Option<&str>| {
        let mut body = json!({ "agentId": agent.id, "action": action, "resource": resource });
        if let Some(ip) = ip {
            body["context"] = json!({ "ip": ip });
        }
        operator.authorize(body).expect(200)["auditId"].as_str().unwrap().to_owned()
    };
    let plain = entry("read", "docs:a", Some("192.0.2.7"));
    let deep = entry("read", "docs:a:b", Some("::ffff:192.0.2.9"));
    let v6 = entry("read", "docs:x", Some("2001:db8::1"));
    let denied = entry("drop", "docs:a", Some("198.51.100.4"));
    let unknown = entry("drop", "mail:a", None);
    let odd = entry("read", "docs:a*", Some("192.0.2.7"));
    let limited = operator.policy("acme", json!({ "limits": { "maxCallsPerDay": 0 } }));
    let over = entry("read", "docs:a", Some("192.0.2.7"));
    for (query, expected) in [
        ("code=PERMISSION_DENIED", vec![&unknown, &denied]),
        ("code=BUDGET_EXCEEDED", vec![&over]),
        ("code=AGENT_REVOKED", vec![]),
        ("code=PERMISSION_DENIED&result=allowed", vec![]),
        ("resource=docs:a", vec![&over, &denied, &plain]),
        ("resource=docs:*", vec![&over, &odd, &denied, &v6, &deep, &plain]),
        ("resource=docs:*:b", vec![&deep]),
        ("resource=*", vec![&over, &odd, &unknown, &denied, &v6, &deep, &plain]),
        ("resource=*:a", vec![&over, &unknown, &denied, &plain]),
        ("resource=mail", vec![]),
        ("ip=192.0.2.7", vec![&over, &odd, &plain]),
        ("ip=::ffff:192.0.2.7", vec![&over, &odd, &plain]),
        ("ip=192.0.2.0/24", vec![&over, &odd, &deep, &plain]),
        ("ip=2001:db8::/32", vec![&v6]),
        ("ip=0.0.0.0/0", vec![&over, &odd, &denied, &deep, &plain]),
        ("ip=192.0.2.0/24&resource=docs:a&code=BUDGET_EXCEEDED", vec![&over]),
    ] {
        let expected: Vec<_> = expected.into_iter().cloned().collect();
        assert_eq!(ids(&operator.trail(&format!("tenantId=acme&{query}"))), expected, "{query}");
        // An export has the same, oldest first.
        let mut exported = Vec::new();
        let path = format!("/v1/audit/export?tenantId=acme&format=ndjson&{query}");
        operator.lines(&path, |line| {
            if !line.is_empty() {
                exported.push(serde_json::from_str::<Value>(line).unwrap());
            }
        });
        exported.reverse();
        assert_eq!(ids(&exported), expected, "{query}");
    }
    // Entries of other kinds have a resource too, those of changes also an address.
    let of = |query: &str| operator.trail(&format!("tenantId=acme&kind=all&{query}"));
    let changes = of(&format!("resource={limited}"));
    assert_eq!((changes.len(), &changes[0]["action"]), (1, &json!("policy.create")));
    assert_eq!(of(&format!("resource={}", acme.id))[0]["action"], "tenant.create");
    operator.post("/v1/usage", json!({ "agentId": agent.id, "calls": 1 })).expect(200);
    let about_agent: Vec<_> = of(&format!("resource={}", agent.id)).iter().map(|entry| entry["kind"].clone()).collect();
    assert_eq!(about_agent, ["usage", "admin"]);
    assert!(of("ip=127.0.0.1").iter().all(|entry| entry["kind"] == "admin"));
    assert!(of("ip=127.0.0.0/8").len() >= 3);
    assert!(of("code=PERMISSION_DENIED").iter().all(|entry| entry["kind"] == "decision"));
}

#[test]
fn an_entry_says_what_happened() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let body = json!({
        "agentId": agent.id, "action": "read", "resource": "docs:7", "tokensCost": 0.100001,
        "arguments": { "path": "/a  b", "n": [1, 2.50, null] }, "context": { "ip": "192.0.2.7", "userAgent": "cli/1" },
        "unknown": { "is": "ignored" },
    });
    let id = operator.granted(body);
    let entry = operator.get(&format!("/v1/audit/{id}")).expect(200);
    for (member, value) in [
        ("id", json!(id)),
        ("tenantId", json!(acme.id)),
        ("agentId", json!(agent.id)),
        ("userId", json!("user-1")),
        ("kind", json!("decision")),
        ("action", json!("read")),
        ("resource", json!("docs:7")),
        ("parameters", json!({ "path": "/a  b", "n": [1, 2.5, null] })),
        ("result", json!("allowed")),
        ("code", Value::Null),
        ("reason", Value::Null),
        ("tokensCost", json!(0.100001)),
        ("ip", json!("192.0.2.7")),
        ("userAgent", json!("cli/1")),
    ] {
        assert_eq!(entry[member], value, "{member}: {entry}");
    }
    assert!(entry["durationMs"].as_f64().is_some_and(|ms| (0.0..60_000.0).contains(&ms)), "{entry}");
    let time = entry["timestamp"].as_str().unwrap();
    assert!(time.ends_with('Z') && time.len() == "2026-01-01T00:00:00.000Z".len(), "{time}");
    assert_eq!(operator.get(&format!("/v1/agents/{}", agent.id)).expect(200)["lastActiveAt"], time);
    // A denial says why, in the words that the caller got; an agent's own call shows its own client.
    let body = json!({ "action": "drop", "resource": "docs:7", "context": { "userAgent": "liar" } });
    let headers: [(&str, &[u8]); 1] = [("User-Agent", b"agent/2")];
    let answer = server
        .with_key(&agent.token)
        .try_send("POST", "/v1/authorize", &headers, Some(body.to_string().as_bytes()))
        .unwrap()
        .expect(200);
    let entry = &operator.trail("tenantId=acme")[0];
    assert_eq!((&entry["code"], &entry["reason"]), (&answer["code"], &answer["reason"]));
    assert_eq!((&entry["userAgent"], &entry["result"]), (&json!("agent/2"), &json!("denied")));
    assert_eq!((&entry["parameters"], &entry["tokensCost"]), (&json!({}), &Value::Null));
}

#[test]
fn a_decision_keeps_the_trace_it_is_part_of() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let (trace, other) = ("4bf92f3577b34da6a3ce929d0e0e4736", "0af7651916cd43dd8448eb211c80319c");
    let parent = |trace: &str| format!("00-{trace}-00f067aa0ba902b7-01").into_bytes();
    let traced = |client: &Client, path: &str, body: &Value, headers: &[&[u8]]| {
        let headers: Vec<_> = headers.iter().map(|value| ("traceparent", *value)).collect();
        client.try_send("POST", path, &headers, Some(body.to_string().as_bytes())).unwrap().expect(200)
    };
    let shown = |decision: &Value| {
        let id = decision["auditId"].as_str().unwrap();
        operator.get(&format!("/v1/audit/{id}")).expect(200)["traceId"].clone()
    };
    let asked = call(&agent.id);
    let mut ids = Vec::new();
    for path in ["/v1/authorize", &format!("/v1/agents/{}/authorize", agent.id), "/v1/tenants/acme/authorize"] {
        let decision = traced(&operator, path, &asked, &[&parent(trace)]);
        assert_eq!(shown(&decision), trace, "{path}");
        ids.push(decision["auditId"].clone());
    }
    let own = json!({ "action": "drop", "resource": "docs:1" });
    let denied = traced(&server.with_key(&agent.token), "/v1/authorize", &own, &[&parent(trace)]);
    assert_eq!(shown(&denied), trace);
    ids.push(denied["auditId"].clone());
    let batch = json!({ "requests": [asked, asked] });
    let results = traced(&operator, "/v1/authorize/batch", &batch, &[&parent(trace)]);
    for decision in results["results"].as_array().unwrap() {
        assert_eq!(shown(decision), trace);
        ids.push(decision["auditId"].clone());
    }
    // An invalid one counts as none, and nobody is refused for it.
    let (good, bad, odd) = (parent(trace), parent("not-a-trace"), b"00-\xff".as_slice());
    for headers in [&[][..], &[&*bad], &[odd], &[&*good, &*good], &[&*good, &*bad]] {
        let decision = traced(&operator, "/v1/authorize", &asked, headers);
        assert_eq!(shown(&decision), Value::Null, "{headers:?}");
    }
    assert_eq!(shown(&traced(&operator, "/v1/authorize", &asked, &[&parent(other)])), other);
    ids.reverse();
    let found = |query: &str| operator.trail(query).iter().map(|entry| entry["id"].clone()).collect::<Vec<_>>();
    assert_eq!(found(&format!("traceId={trace}")), ids);
    assert_eq!(found(&format!("traceId={trace}&result=denied")), [denied["auditId"].clone()]);
    assert_eq!(found(&format!("traceId={trace}&kind=admin")), Vec::<Value>::new());
    assert_eq!(found(&format!("traceId={}", trace.replace('4', "5"))), Vec::<Value>::new());
}

#[test]
fn administrative_changes_are_in_the_trail_of_their_tenant() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let key = server.with_key(&acme.key);
    let agent = key.reader(&acme);
    key.patch(&format!("/v1/agents/{}", agent.id), json!({ "name": "renamed" })).expect(200);
    key.post(&format!("/v1/agents/{}/rotate", agent.id), json!({})).expect(200);
    operator.post("/v1/tenants/acme/suspend", json!({})).expect(200);
    operator.post("/v1/tenants/acme/suspend", json!({})).expect(200);
    operator.post("/v1/tenants/acme/activate", json!({})).expect(200);
    operator.patch("/v1/tenants/acme", json!({ "settings": { "maxAgents": 3 } })).expect(200);
    operator.delete(&format!("/v1/agents/{}", agent.id)).expect(204);
    operator.delete(&format!("/v1/tenants/acme/keys/{}", acme.key_id)).expect(204);
    let trail = operator.trail("tenantId=acme&kind=admin");
    let mut recorded: Vec<_> =
        trail.iter().map(|e| (e["action"].as_str().unwrap(), e["by"].as_str().unwrap())).collect();
    recorded.reverse();
    let by = acme.key_id.as_str();
    let expected = [
        ("tenant.create", "operator"),
        ("key.create", "operator"),
        ("agent.create", by),
        ("agent.update", by),
        ("agent.rotate", by),
        ("tenant.suspend", "operator"),
        ("tenant.activate", "operator"),
        ("tenant.update", "operator"),
        ("agent.revoke", "operator"),
        ("key.revoke", "operator"),
    ];
    assert_eq!(recorded, expected, "a change that changes nothing is not recorded again");
    assert!(trail.iter().all(|entry| entry["kind"] == "admin" && entry["tenantId"] == acme.id));
    let update = operator.trail("tenantId=acme&kind=admin&actions=agent.update");
    assert_eq!((update.len(), &update[0]["parameters"]["name"]), (1, &json!("renamed")));
    assert_eq!(update[0]["resource"], json!(agent.id));
    assert_eq!(operator.trail(&format!("kind=admin&agentId={}", agent.id)).len(), 4);
    assert_eq!(operator.trail("tenantId=acme").len(), 0, "no decision was made");
    let id = trail[0]["id"].as_str().unwrap();
    assert_eq!(operator.get(&format!("/v1/audit/{id}")).expect(200), trail[0]);
}

#[test]
fn pages_hold_each_entry_once_during_writes() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    for n in 0..60 {
        operator.granted(json!({ "agentId": agent.id, "action": "read", "resource": format!("docs:{n}") }));
    }
    let there = operator.trail("tenantId=acme&actions=read");
    assert_eq!(there.len(), 60);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                operator.granted(call(&agent.id));
            }
        });
        for limit in [7, 20, 59, 60, 61] {
            let mut path = Some(format!("/v1/audit?tenantId=acme&actions=read,x%20y&limit={limit}"));
            let (mut walked, mut pages) = (Vec::new(), 0);
            // The writer adds at the front, so a walk ends.
            while let Some(page) = path {
                let answer = operator.get(&page);
                let items = answer.items();
                path = next_page(&answer);
                assert!(items.len() == limit || path.is_none(), "a short page in the middle");
                assert!(
                    path.as_ref().is_none_or(|path| path.contains("actions=read") && path.contains("tenantId=acme"))
                );
                walked.extend(items);
                pages += 1;
            }
            let walked = ids(&walked);
            let distinct: HashSet<_> = walked.iter().collect();
            assert_eq!(distinct.len(), walked.len(), "an entry came twice");
            assert!(walked.windows(2).all(|pair| pair[0] > pair[1]), "newest first");
            let old: Vec<_> = ids(&there);
            assert!(walked.ends_with(&old), "what was there is there to the end");
            assert!(pages >= 60 / limit);
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn limit_offset_and_cursor_agree() {
    let server = Server::start();
    let operator = server.operator();
    some_calls(&operator);
    let all = ids(&operator.get("/v1/audit?limit=1000").items());
    assert_eq!(all.len(), 11);
    for (offset, limit) in [(0, 3), (3, 3), (8, 3), (9, 3), (11, 3), (500, 3), (0, 11), (0, 12)] {
        let answer = operator.get(&format!("/v1/audit?limit={limit}&offset={offset}"));
        let expected = &all[offset.min(11)..(offset + limit).min(11)];
        assert_eq!(ids(&answer.items()), expected, "{offset} {limit}");
        assert_eq!(next_page(&answer).is_some(), offset + limit < 11, "{offset} {limit}");
    }
    let first = operator.get("/v1/audit?limit=4");
    let second = operator.get(&next_page(&first).unwrap());
    assert_eq!(ids(&second.items()), &all[4..8]);
    // A page reached by an offset continues where it ended.
    let page = operator.get("/v1/audit?limit=4&offset=2");
    assert_eq!(ids(&operator.get(&next_page(&page).unwrap()).items()), &all[6..10]);
    // The lists of agents and tenants page in this way too, in order of creation.
    for (path, count) in [("/v1/agents", 3), ("/v1/tenants", 2)] {
        let whole = operator.get(path);
        assert_eq!((whole.items().len(), next_page(&whole)), (count, None));
        let mut page = Some(format!("{path}?limit=1"));
        let mut walked = Vec::new();
        while let Some(path) = page {
            let answer = operator.get(&path);
            assert_eq!(answer.items().len(), 1);
            walked.extend(answer.items());
            page = next_page(&answer);
        }
        assert_eq!(walked, whole.items());
    }
}

#[test]
fn pages_of_a_long_history_agree_wherever_they_begin() {
    let root = tempfile::tempdir().unwrap();
    let data = DataDir::open(root.path()).unwrap();
    let of = |slug| {
        let mut made = with_a_past(&data, slug, None, now()).1;
        made.reverse();
        made
    };
    let acme = of("acme");
    let mut all = [acme.clone(), of("globex")].concat();
    // By time, then by number and tenant.
    all.sort_by(|one, other| other.1.cmp(&one.1));
    drop(data);
    let server = Server::start_with(Options { data_dir: Some(root.path().to_owned()), ..Options::default() });
    let operator = server.operator();
    for (tenant, expected) in [("tenantId=acme&", &acme), ("", &all)] {
        let page = |query: &str| ids(&operator.get(&format!("/v1/audit?{tenant}{query}")).items());
        let part = |part: &[(i64, String)]| part.iter().map(|(_, id)| id.clone()).collect::<Vec<_>>();
        for offset in [0, 1, 9, 100, expected.len() - 3, expected.len()] {
            let end = expected.len().min(offset + 7);
            assert_eq!(page(&format!("limit=7&offset={offset}")), part(&expected[offset..end]), "{tenant}{offset}");
            // A cursor, of this tenant or another, and a time also set the start.
            let Some((at, id)) = expected.get(offset) else { continue };
            let end = expected.len().min(offset + 8);
            assert_eq!(page(&format!("limit=7&cursor={id}")), part(&expected[offset + 1..end]), "{tenant}{offset}");
            let before = expected.iter().position(|other| other.0 < *at).unwrap_or(expected.len());
            let until = Timestamp::from_millis(*at);
            let end = expected.len().min(before + 7);
            assert_eq!(page(&format!("limit=7&until={until}")), part(&expected[before..end]), "{tenant}{offset}");
        }
    }
}

#[test]
fn without_a_limit_a_hundred_come() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let batch = json!({ "requests": vec![call(&agent.id); 150] });
    operator.post("/v1/authorize/batch", batch).expect(200);
    let answer = operator.get("/v1/audit");
    assert_eq!(answer.items().len(), 100);
    assert_eq!(operator.get(&next_page(&answer).unwrap()).items().len(), 50);
}

#[test]
fn an_entry_is_found_only_by_its_whole_id() {
    let server = Server::start();
    let operator = server.operator();
    let (acme, globex) = (operator.tenant("acme"), operator.tenant("globex"));
    let agent = operator.reader(&acme);
    let id = operator.granted(call(&agent.id));
    let found = server.with_key(&acme.key).get(&format!("/v1/audit/{id}")).expect(200);
    assert_eq!(found["id"], json!(id));
    server.with_key(&globex.key).get(&format!("/v1/audit/{id}")).problem(404, "AUDIT_ENTRY_NOT_FOUND");
    // The number of an entry with another time is no entry.
    let (head, rest) = id.split_at("aud_".len() + 3);
    let digit = if rest.starts_with('0') { '1' } else { '0' };
    for unknown in [format!("{head}{digit}{}", &rest[1..]), "aud_".into(), "garbage".into(), id.to_uppercase()] {
        operator.get(&format!("/v1/audit/{unknown}")).problem(404, "AUDIT_ENTRY_NOT_FOUND");
    }
}

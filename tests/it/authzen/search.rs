//! Search Core: sections 4.2 to 4.7 of the scenario.

use serde_json::{Value, json};

use super::{Fixture, SEARCH_ACTION, SEARCH_RESOURCE, SEARCH_SUBJECT, with};

fn record(id: &str) -> Value {
    json!({ "type": "record", "id": id })
}

/// `who may read record-1?`
fn readers() -> Value {
    json!({ "subject": { "type": "user" }, "action": { "name": "read" }, "resource": record("record-1") })
}

fn readable() -> Value {
    let alice = json!({ "type": "user", "id": "alice" });
    json!({ "subject": alice, "action": { "name": "read" }, "resource": { "type": "record" } })
}

fn allowed() -> Value {
    json!({ "subject": { "type": "user", "id": "alice" }, "resource": record("record-1") })
}

impl Fixture {
    /// The results of a search that must succeed, on one page.
    #[track_caller]
    fn found(&self, path: &str, body: Value) -> Value {
        let answer = self.ask(path, body);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let answer = answer.expect(200);
        assert_eq!(answer["page"]["next_token"], "", "{answer}");
        assert_eq!(answer["page"]["count"], answer["results"].as_array().unwrap().len(), "{answer}");
        answer["results"].clone()
    }

    fn both(&self) -> Value {
        json!([{ "type": "agent", "id": self.alice.id }, { "type": "agent", "id": self.bob.id }])
    }
}

#[test]
fn subject_search() {
    let fixture = Fixture::new();
    let context = json!({ "context": { "time": "2025-06-27T18:03-07:00", "ip": "192.168.1.1" } });
    let named = json!({ "subject": { "type": "user", "id": "alice" } });
    // 4.2.1 to 4.2.3
    for body in [readers(), with(readers(), context), with(readers(), named)] {
        assert_eq!(fixture.found(SEARCH_SUBJECT, body), fixture.both());
    }
    let writers = with(readers(), json!({ "action": { "name": "write" } }));
    assert_eq!(fixture.found(SEARCH_SUBJECT, writers), json!([{ "type": "agent", "id": fixture.alice.id }]));
}

#[test]
fn resource_search() {
    let fixture = Fixture::new();
    let context = json!({ "context": { "time": "2025-06-27T18:03-07:00", "ip": "192.168.1.1" } });
    let named = json!({ "resource": record("record-9") });
    // 4.3.1 to 4.3.3
    for body in [readable(), with(readable(), context), with(readable(), named)] {
        assert_eq!(fixture.found(SEARCH_RESOURCE, body), json!([record("record-1")]));
    }
}

#[test]
fn action_search() {
    let fixture = Fixture::new();
    let context = json!({ "context": { "time": "2025-06-27T18:03-07:00", "ip": "192.168.1.1" } });
    let action = json!({ "action": { "name": "drop" } });
    // 4.4.1 and 4.4.2
    for body in [allowed(), with(allowed(), context), with(allowed(), action)] {
        assert_eq!(fixture.found(SEARCH_ACTION, body), json!([{ "name": "read" }, { "name": "write" }]));
    }
}

#[test]
fn pagination() {
    let fixture = Fixture::new();
    let both = fixture.both();
    // 4.5.1 Request with page limit.
    let first = fixture.ask(SEARCH_SUBJECT, with(readers(), json!({ "page": { "limit": 1 } }))).expect(200);
    assert_eq!((&first["results"], &first["page"]["count"]), (&json!([both[0]]), &json!(1)));
    let token = first["page"]["next_token"].as_str().unwrap();
    assert!(!token.is_empty());
    // 4.5.2 Request with page token, and 4.5.3.
    let rest = with(readers(), json!({ "page": { "token": token } }));
    assert_eq!(fixture.found(SEARCH_SUBJECT, rest), json!([both[1]]));
    // Unknown members of a page, and an empty token, are ignored.
    let page = json!({ "page": { "limit": 2, "token": "", "properties": { "sort": "id" }, "size": 1 } });
    assert_eq!(fixture.found(SEARCH_SUBJECT, with(readers(), page)), both);
    // Pages with limit 0 would never end.
    for (path, body) in [(SEARCH_SUBJECT, readers()), (SEARCH_RESOURCE, readable()), (SEARCH_ACTION, allowed())] {
        let none = fixture.ask(path, with(body, json!({ "page": { "limit": 0 } })));
        assert!(none.problem(400, "INVALID_FIELD").starts_with("page.limit "));
    }
    // The other searches.
    let page = json!({ "page": { "limit": 1 } });
    let first = fixture.ask(SEARCH_ACTION, with(allowed(), page)).expect(200);
    assert_eq!(first["results"], json!([{ "name": "read" }]));
    let rest = json!({ "page": { "token": first["page"]["next_token"], "limit": 5 } });
    assert_eq!(fixture.found(SEARCH_ACTION, with(allowed(), rest)), json!([{ "name": "write" }]));
}

#[test]
fn a_page_token_works_only_for_its_own_search() {
    let fixture = Fixture::new();
    let first = fixture.ask(SEARCH_SUBJECT, with(readers(), json!({ "page": { "limit": 1 } }))).expect(200);
    let page = json!({ "page": { "token": first["page"]["next_token"] } });
    for (path, other) in [
        (SEARCH_SUBJECT, with(readers(), json!({ "action": { "name": "write" } }))),
        (SEARCH_SUBJECT, with(readers(), json!({ "resource": record("record-2") }))),
        (SEARCH_SUBJECT, with(readers(), json!({ "context": { "ip": "10.0.0.1" } }))),
        (SEARCH_SUBJECT, with(readers(), json!({ "action": { "name": "read", "properties": {} } }))),
        (SEARCH_RESOURCE, readable()),
        (SEARCH_ACTION, allowed()),
    ] {
        let sentence = fixture.ask(path, with(other, page.clone())).problem(400, "INVALID_FIELD");
        assert!(sentence.contains("page.token"), "{sentence}");
    }
    for token in ["x", "AAAA", "AAAAAAAAAAAAAAAA", "=", "\u{e9}"] {
        let body = with(readers(), json!({ "page": { "token": token } }));
        fixture.ask(SEARCH_SUBJECT, body).problem(400, "INVALID_FIELD");
    }
    for page in [json!([]), json!(5), json!({ "limit": -1 }), json!({ "limit": "1" }), json!({ "token": 1 })] {
        fixture.ask(SEARCH_SUBJECT, with(readers(), json!({ "page": page }))).problem(400, "INVALID_BODY");
    }
}

#[test]
fn empty_results() {
    let fixture = Fixture::new();
    let none = json!([]);
    // 4.6.1 Unknown entity identifier.
    let nobody = json!({ "subject": { "type": "user", "id": "nonexistent-user" } });
    assert_eq!(fixture.found(SEARCH_ACTION, with(allowed(), nobody.clone())), none);
    assert_eq!(fixture.found(SEARCH_RESOURCE, with(readable(), nobody)), none);
    let nothing = json!({ "resource": record("nonexistent-record") });
    assert_eq!(fixture.found(SEARCH_SUBJECT, with(readers(), nothing.clone())), none);
    assert_eq!(fixture.found(SEARCH_ACTION, with(allowed(), nothing)), none);
    let no_action = json!({ "action": { "name": "nonexistent-action" } });
    assert_eq!(fixture.found(SEARCH_SUBJECT, with(readers(), no_action.clone())), none);
    assert_eq!(fixture.found(SEARCH_RESOURCE, with(readable(), no_action)), none);
    // 4.6.2 Unknown entity type.
    for kind in ["spaceship", "urn:example:spaceship", "*", "agents"] {
        let subject = json!({ "subject": { "type": kind } });
        assert_eq!(fixture.found(SEARCH_SUBJECT, with(readers(), subject)), none, "{kind}");
        let subject = json!({ "subject": { "type": kind, "id": fixture.alice.id } });
        assert_eq!(fixture.found(SEARCH_RESOURCE, with(readable(), subject.clone())), none, "{kind}");
        assert_eq!(fixture.found(SEARCH_ACTION, with(allowed(), subject)), none, "{kind}");
        let resource = json!({ "resource": { "type": kind, "id": "record-1" } });
        assert_eq!(fixture.found(SEARCH_SUBJECT, with(readers(), resource.clone())), none, "{kind}");
        assert_eq!(fixture.found(SEARCH_RESOURCE, with(readable(), resource.clone())), none, "{kind}");
        assert_eq!(fixture.found(SEARCH_ACTION, with(allowed(), resource)), none, "{kind}");
    }
}

#[test]
fn missing_required_fields() {
    let fixture = Fixture::new();
    // 4.7.1
    for (path, body, fields) in [
        (SEARCH_SUBJECT, readers(), &["subject", "action", "resource"][..]),
        (SEARCH_RESOURCE, readable(), &["subject", "action", "resource"]),
        (SEARCH_ACTION, allowed(), &["subject", "resource"]),
    ] {
        for field in fields {
            let sentence = fixture.ask(path, with(body.clone(), json!({ *field: null }))).problem(400, "INVALID_BODY");
            assert!(sentence.contains(field), "{sentence}");
        }
    }
    // 4.7.2
    let no_resource_id = json!({ "resource": { "type": "record" } });
    let no_subject_id = json!({ "subject": { "type": "user" } });
    for (path, body) in [
        (SEARCH_SUBJECT, with(readers(), no_resource_id.clone())),
        (SEARCH_RESOURCE, with(readable(), no_subject_id.clone())),
        (SEARCH_ACTION, with(allowed(), no_subject_id)),
        (SEARCH_ACTION, with(allowed(), no_resource_id)),
        (SEARCH_SUBJECT, with(readers(), json!({ "subject": {} }))),
        (SEARCH_RESOURCE, with(readable(), json!({ "resource": { "id": "record-1" } }))),
    ] {
        fixture.ask(path, body).problem(400, "INVALID_BODY");
    }
}

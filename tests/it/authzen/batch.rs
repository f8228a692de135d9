//! Batch Core: sections 3.2 to 3.4 of the scenario, and the three semantics of the specification.

use kavach::domain::limits::{MAX_BATCH, MAX_BODY_BYTES};
use serde_json::{Value, json};

use super::{EVALUATIONS, Fixture, decision, decisions, request, with};

#[test]
fn request_acceptance() {
    let fixture = Fixture::new();
    let ask = |body: Value| decisions(&fixture.ask(EVALUATIONS, body).expect(200));
    let resource = |id: &str| json!({ "type": "record", "id": id });
    // 3.2.1 Batch request with evaluations array.
    let alice_reads = json!({ "subject": { "type": "user", "id": "alice" }, "action": { "name": "read" } });
    let two = json!([{ "resource": resource("record-1") }, { "resource": resource("record-2") }]);
    assert_eq!(ask(with(alice_reads.clone(), json!({ "evaluations": two }))), [true, false]);
    // 3.2.2 Batch with fixture decisions validated.
    let bob = json!({
        "subject": { "type": "user", "id": "bob" },
        "resource": resource("record-1"),
        "evaluations": [{ "action": { "name": "read" } }, { "action": { "name": "write" } }],
    });
    assert_eq!(ask(bob), [true, false]);
    // 3.2.5 Batch with fully specified evaluations (no defaults).
    let whole = json!([request("alice", "read", "record-1"), request("bob", "write", "record-1")]);
    assert_eq!(ask(json!({ "evaluations": whole })), [true, false]);
    // 3.2.6 Batch with context inheritance.
    let inherited = with(
        alice_reads,
        json!({
            "context": { "time": "2025-06-27T18:03-07:00" },
            "evaluations": [
                { "resource": resource("record-1") },
                {
                    "resource": resource("record-2"),
                    "context": { "time": "2025-06-27T19:00-07:00", "source": "batch-override" },
                },
            ],
        }),
    );
    assert_eq!(ask(inherited), [true, false]);
}

#[test]
fn defaults_are_taken_whole() {
    // The inheritance of 3.2.7; the scenario's decisions need properties.
    let fixture = Fixture::new();
    let defaults = with(request("alice", "write", "record-1"), json!({ "context": { "ip": "10.0.0.1" } }));
    let body = with(
        defaults,
        json!({ "evaluations": [
            {},
            { "resource": { "type": "record", "id": "record-2" } },
            { "resource": { "id": "record-1" } },
            { "context": { "userAgent": "second" } },
            { "resource": null },
        ]}),
    );
    let answer = fixture.ask(EVALUATIONS, body).expect(200);
    assert_eq!(decisions(&answer), [true, false, false, true, true]);
    assert_eq!(answer["evaluations"][2]["context"]["error"]["status"], 400, "a part of an entity is none");
    let trail = fixture.pep.trail("");
    let (overridden, inherited) = (&trail[1], &trail[3]);
    assert_eq!((&overridden["ip"], &overridden["userAgent"]), (&Value::Null, &json!("second")));
    assert_eq!(inherited["ip"], "10.0.0.1");
}

#[test]
fn response_format() {
    // 3.3.1 to 3.3.4
    let fixture = Fixture::new();
    let items: Vec<_> = (0..MAX_BATCH).map(|n| request(["alice", "bob"][n % 2], "write", "record-1")).collect();
    let answer = fixture.ask(EVALUATIONS, json!({ "evaluations": items })).expect(200);
    let wanted: Vec<_> = (0..MAX_BATCH).map(|n| n % 2 == 0).collect();
    assert_eq!(decisions(&answer), wanted);
    assert!(answer.get("decision").is_none());
    assert_eq!(fixture.recorded().len(), MAX_BATCH);
}

#[test]
fn evaluation_level_errors() {
    // 3.4.1
    let fixture = Fixture::new();
    let body = json!({
        "subject": { "type": "user", "id": "alice" },
        "action": { "name": "read" },
        "options": { "evaluations_semantic": "execute_all" },
        "evaluations": [
            { "resource": { "type": "record", "id": "record-1" } },
            {},
            { "resource": "record-1" },
            7,
            { "context": { "ip": "nowhere" }, "resource": { "type": "record", "id": "record-1" } },
            { "resource": { "type": "record", "id": "record-1" } },
        ],
    });
    let answer = fixture.ask(EVALUATIONS, body).expect(200);
    assert_eq!(decisions(&answer), [true, false, false, false, false, true]);
    for at in 1..=4 {
        let context = &answer["evaluations"][at]["context"];
        assert_eq!(context["error"]["status"], 400, "{context}");
        let message = context["error"]["message"].as_str().unwrap();
        assert!(message.contains(&format!("evaluations[{at}]")), "{message}");
        assert!(context.get("auditId").is_none(), "{context}");
    }
    let no_object = &answer["evaluations"][3]["context"]["error"]["message"];
    assert_eq!(no_object, "evaluations[3] can't be read: invalid type: integer `7`, expected an object");
    assert_eq!(fixture.recorded().len(), 2);
}

#[test]
fn without_evaluations_it_is_one() {
    // 3.4.2 and 3.4.3
    let fixture = Fixture::new();
    for body in [json!({}), json!({ "evaluations": [] })] {
        let answer = fixture.ask(EVALUATIONS, with(request("alice", "read", "record-1"), body.clone())).expect(200);
        assert!(decision(&answer) && answer.get("evaluations").is_none());
        let answer = fixture.ask(EVALUATIONS, with(request("bob", "write", "record-1"), body.clone())).expect(200);
        assert!(!decision(&answer));
        let body = with(request("bob", "write", "record-1"), with(body, json!({})));
        fixture.ask(EVALUATIONS, with(body, json!({ "resource": null }))).problem(400, "INVALID_BODY");
    }
    assert_eq!(fixture.recorded().len(), 4);
}

#[test]
fn errors_about_the_whole_batch_refuse_it() {
    let fixture = Fixture::new();
    let item = json!([request("alice", "read", "record-1")]);
    for (wrong, code) in [
        (json!({ "evaluations": 5 }), "INVALID_BODY"),
        (json!({ "evaluations": item, "options": [] }), "INVALID_BODY"),
        (json!({ "evaluations": item, "options": { "evaluations_semantic": "first" } }), "INVALID_BODY"),
        (json!({ "evaluations": item, "options": { "evaluations_semantic": 1 } }), "INVALID_BODY"),
        (json!({ "evaluations": item, "subject": "alice" }), "INVALID_BODY"),
        (json!({ "evaluations": item, "subject": { "id": "alice" } }), "INVALID_BODY"),
        (json!({ "evaluations": vec![json!({}); MAX_BATCH + 1] }), "INVALID_FIELD"),
    ] {
        fixture.ask(EVALUATIONS, wrong).problem(400, code);
    }
    let unknown = json!({ "evaluations": item, "options": { "another_option": "value" } });
    assert_eq!(decisions(&fixture.ask(EVALUATIONS, unknown).expect(200)), [true]);
    assert_eq!(fixture.recorded().len(), 1);
}

#[test]
fn recording_a_default_for_a_thousand_evaluations_has_a_limit() {
    let fixture = Fixture::new();
    let text = "x".repeat(16 * 1_024);
    let body = |count: usize| {
        let action = json!({ "name": "read", "properties": { "text": text } });
        with(request("alice", "read", "record-1"), json!({ "action": action, "evaluations": vec![json!({}); count] }))
    };
    let rest = "agent".len() + fixture.alice.id.len() + "read".len() + "record".len() + "record-1".len();
    let most = MAX_BODY_BYTES / (text.len() + r#"{"text":""}"#.len() + rest);
    assert_eq!(decisions(&fixture.ask(EVALUATIONS, body(most)).expect(200)).len(), most);
    fixture.ask(EVALUATIONS, body(most + 1)).problem(413, "PAYLOAD_TOO_LARGE");
    assert_eq!(fixture.recorded().len(), most);
}

/// The answers for these actions of alice on record-1. She may `read` and `write`; `""` is denied for its form.
fn in_turn(fixture: &Fixture, semantic: &str, actions: &[&str], as_operator: bool) -> Vec<bool> {
    let items: Vec<_> = actions.iter().map(|action| json!({ "action": { "name": action } })).collect();
    let body = with(
        request("alice", "read", "record-1"),
        json!({ "evaluations": items, "options": { "evaluations_semantic": semantic } }),
    );
    let client = if as_operator { fixture.server.operator() } else { fixture.pep.clone() };
    decisions(&client.post(EVALUATIONS, fixture.named(body)).expect(200))
}

#[test]
fn semantics_stop_exactly_where_they_say() {
    let fixture = Fixture::new();
    let limits = json!({ "agentId": fixture.alice.id, "limits": { "maxCallsPerMonth": 1_000 } });
    let policy = fixture.pep.post("/v1/policies", limits).expect(201)["id"].as_str().unwrap().to_owned();
    let charged =
        || fixture.pep.get(&format!("/v1/policies/{policy}")).expect(200)["currentUsage"]["callsThisMonth"].clone();
    let (all, deny, permit) = ("execute_all", "deny_on_first_deny", "permit_on_first_permit");
    let (mut recorded, mut calls) = (0, 0);
    for (semantic, actions, wanted, decided) in [
        (all, &["read", "drop", "", "write"][..], &[true, false, false, true][..], 4),
        (deny, &["read", "write", "read"], &[true, true, true], 3),
        (deny, &["read", "drop", "write", "read"], &[true, false], 2),
        (deny, &["drop", "read"], &[false], 1),
        (deny, &["read", "", "write"], &[true, false], 2),
        (deny, &["", "read"], &[false], 1),
        (deny, &["read", "drop", ""], &[true, false], 2),
        (permit, &["drop", "burn", "read", "write"], &[false, false, true], 3),
        (permit, &["read", "drop"], &[true], 1),
        (permit, &["drop", "", "burn"], &[false, false, false], 3),
        (permit, &["", "write", "", "read"], &[false, true], 2),
        (permit, &["drop", ""], &[false, false], 2),
    ] {
        for as_operator in [false, true] {
            assert_eq!(in_turn(&fixture, semantic, actions, as_operator), wanted, "{semantic} {actions:?}");
            recorded += decided;
            calls += wanted.iter().filter(|permitted| **permitted).count();
            assert_eq!(fixture.recorded().len(), recorded, "{semantic} {actions:?}");
            assert_eq!(charged(), calls, "{semantic} {actions:?}");
        }
    }
}

#[test]
fn checking_a_default_for_a_thousand_evaluations_has_a_limit() {
    let fixture = Fixture::new();
    let long = "x".repeat(MAX_BODY_BYTES / 2);
    // Each of them is bad, and checking makes none shorter.
    for default in [
        json!({ "action": { "name": "read", "properties": { "text": long } } }),
        json!({ "action": { "name": long } }),
        json!({ "resource": { "type": "record", "id": long } }),
        json!({ "resource": { "type": "%".repeat(MAX_BODY_BYTES / 2), "id": "record-1" } }),
        json!({ "subject": { "type": "agent", "id": long } }),
        json!({ "context": { "tenantId": long } }),
        json!({ "context": { "userAgent": long } }),
    ] {
        let body = with(with(request("alice", "read", "record-1"), default), json!({ "evaluations": [{}, {}, {}] }));
        fixture.ask(EVALUATIONS, body).problem(413, "PAYLOAD_TOO_LARGE");
    }
    // White space counts as well.
    let spaces = " ".repeat(MAX_BODY_BYTES / 2);
    let body = fixture.named(with(request("alice", "read", "record-1"), json!({ "evaluations": [{}, {}, {}] })));
    let body = body.to_string().replace("\"read\"", &format!("\"read\",\"properties\":{{{spaces}}}"));
    fixture.pep.send("POST", EVALUATIONS, Some(body.as_bytes())).problem(413, "PAYLOAD_TOO_LARGE");
    assert!(fixture.recorded().is_empty());
}

//! Texts and numbers in every spelling: texts that look alike are equal or refused, a call with a bad form is denied
//! and recorded, and large or fine values lose nothing.

use kavach::domain::limits::{
    MAX_ACTION_BYTES, MAX_ARGUMENTS_BYTES, MAX_BODY_BYTES, MAX_JSON_DEPTH, MAX_RESOURCE_BYTES, MAX_RESOURCE_SEGMENTS,
    MAX_UNCHECKED_BODY_BYTES,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::bad_table::nested;
use crate::client::Client;
use crate::harness::Server;
use crate::world::{Agent, audit_id, call, constrained, permits};

fn with(agent: &Agent, changes: Value) -> Value {
    let mut body = call(&agent.id);
    body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    body
}

/// A call with text that `json!` can't spell.
fn raw(operator: &Client, agent: &Agent, members: &str) -> crate::client::Answer {
    let body = format!(r#"{{"agentId":"{}","action":"read","resource":"docs:1",{members}}}"#, agent.id);
    operator.send("POST", "/v1/authorize", Some(body.as_bytes()))
}

fn entry(operator: &Client, id: &str) -> Value {
    operator.get(&format!("/v1/audit/{id}")).expect(200)
}

#[test]
fn malformed_calls_are_denied_and_recorded() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.agent("acme", permits("*", &["*"]));
    let token = format!("kv_{}", "aB3-".repeat(16));
    let asked = [&operator, &server.with_key(&acme.key)];
    for (changes, recorded) in [
        (json!({ "resource": "" }), Some(("resource", String::new()))),
        (json!({ "resource": "mcp:files:\u{202e}tool" }), Some(("resource", "mcp:files:\\u{202e}tool".to_owned()))),
        (json!({ "resource": "a\u{200b}" }), Some(("resource", "a\\u{200b}".to_owned()))),
        (json!({ "resource": "docs:e\u{301}" }), Some(("resource", "docs:e\u{301}".to_owned()))),
        (json!({ "resource": ":a" }), Some(("resource", ":a".to_owned()))),
        (json!({ "resource": vec!["a"; MAX_RESOURCE_SEGMENTS + 1].join(":") }), None),
        (json!({ "resource": "x".repeat(MAX_RESOURCE_BYTES + 1) }), None),
        (json!({ "resource": format!("{} {token}", "x".repeat(MAX_RESOURCE_BYTES - 20)) }), None),
        (json!({ "action": "" }), Some(("action", String::new()))),
        (json!({ "action": "re\u{1b}[2Jad" }), Some(("action", "re\\u{1b}[2Jad".to_owned()))),
        (json!({ "action": "re\u{feff}ad" }), Some(("action", "re\\u{feff}ad".to_owned()))),
        (json!({ "action": "x".repeat(MAX_BODY_BYTES / 4) }), None),
        (json!({ "arguments": nested(MAX_JSON_DEPTH + 1) }), None),
    ] {
        for client in asked {
            let decision = client.authorize(with(&agent, changes.clone())).expect(200);
            assert_eq!(decision["code"], "PERMISSION_DENIED", "{decision}");
            let entry = entry(&operator, decision["auditId"].as_str().unwrap());
            assert_eq!(entry["agentId"], json!(agent.id));
            assert!(entry["reason"].as_str().unwrap().starts_with("No permission can cover this call: "), "{entry}");
            if let Some((member, text)) = &recorded {
                assert_eq!(entry[member], json!(text));
            }
            let bytes = |member: &str| entry[member].as_str().unwrap().len();
            assert!(bytes("action") <= MAX_ACTION_BYTES && bytes("resource") <= MAX_RESOURCE_BYTES);
            assert!(!entry.to_string().contains("aB3-"), "{entry}");
        }
        // In a batch it affects no other request.
        let batch = json!({ "requests": [call(&agent.id), with(&agent, changes)] });
        let answer = operator.post("/v1/authorize/batch", batch).expect(200);
        assert_eq!((&answer["results"][0]["allowed"], &answer["results"][1]["allowed"]), (&json!(true), &json!(false)));
    }
    let body = json!({ "resource": "a:", "agentId": "agt_00000000000070008000000000000000" });
    operator.denied(with(&agent, body), "AGENT_NOT_FOUND");
}

#[test]
fn resources_of_other_systems_are_resources() {
    let server = Server::start();
    let operator = server.operator();
    operator.tenant("acme");
    let names = ["arn:aws:s3:::bucket/key", "2001:db8::1", "http://[::1]:8080/", "DB::Table", "std::io::Write"];
    let all = operator.agent("acme", permits("*", &["read"]));
    for name in names {
        operator.granted(with(&all, json!({ "resource": name })));
        let exact = operator.agent("acme", permits(name, &["read"]));
        operator.granted(with(&exact, json!({ "resource": name })));
    }
    let one = operator.agent("acme", permits("arn:aws:s3:*:*:bucket/key", &["read"]));
    operator.denied(with(&one, json!({ "resource": "arn:aws:s3:::bucket/key" })), "PERMISSION_DENIED");
    operator.granted(with(&one, json!({ "resource": "arn:aws:s3:eu:1:bucket/key" })));
}

#[test]
fn compared_texts_that_look_alike_are_equal_or_refused() {
    let server = Server::start();
    let operator = server.operator();
    operator.tenant("acme");
    let (composed, apart) = ("Zo\u{eb}", "Zoe\u{308}");
    let agent = operator.agent_with("acme", json!({ "ownerId": apart, "permissions": permits("docs:*", &["read"]) }));
    let limits = json!({ "maxCallsPerDay": 0 });
    let policy = json!({ "tenantId": "acme", "userId": composed, "limits": limits, "action": "block" });
    operator.post("/v1/policies", policy).expect(201);
    operator.denied(call(&agent.id), "BUDGET_EXCEEDED");
    for name in ["Zo%C3%AB", "Zoe%CC%88"] {
        assert_eq!(operator.get(&format!("/v1/agents?tenantId=acme&userId={name}")).items().len(), 1);
        assert_eq!(operator.get(&format!("/v1/policies?tenantId=acme&userId={name}")).items().len(), 1);
        assert_eq!(operator.get(&format!("/v1/audit?tenantId=acme&userId={name}")).items().len(), 1);
    }
    for unseen in ["a\u{200b}", "a\n", "\u{202e}a", "a\u{200d}b", "a\u{0}"] {
        let permission = |resource: &str, action: &str| json!([{ "resource": resource, "actions": [action] }]);
        let base = json!({ "tenantId": "acme", "ownerId": "o", "name": "n", "type": "service" });
        for changes in [
            json!({ "ownerId": unseen }),
            json!({ "name": unseen }),
            json!({ "permissions": permission(unseen, "read") }),
            json!({ "permissions": permission("docs", unseen) }),
        ] {
            let mut body = base.clone();
            body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            operator.post("/v1/agents", body).problem(400, "INVALID_FIELD");
        }
        let policy = json!({ "tenantId": "acme", "userId": unseen, "limits": limits, "action": "block" });
        operator.post("/v1/policies", policy).problem(400, "INVALID_FIELD");
        operator.post("/v1/tenants", json!({ "name": unseen, "slug": "x" })).problem(400, "INVALID_FIELD");
        operator.post("/v1/tenants/acme/keys", json!({ "name": unseen })).problem(400, "INVALID_FIELD");
    }
}

#[test]
fn a_repeated_member_is_refused_and_a_secret_hidden_in_any_spelling() {
    let server = Server::start();
    let operator = server.operator();
    operator.tenant("acme");
    let agent = operator.agent("acme", permits("docs:*", &["read"]));
    for twice in [
        r#"{"a":"1","a":"2"}"#,
        r#"{ "a": "1", "a": "2" }"#,
        r#"{"a":1,"\u0061":2}"#,
        r#"[{"x":[{"a":{},"b":1,"a":[]}]}]"#,
    ] {
        let message = raw(&operator, &agent, &format!(r#""arguments":{twice}"#)).problem(400, "INVALID_FIELD");
        assert!(message.starts_with("arguments ") && message.contains("twice"), "{message}");
    }
    let secret = "aB3-".repeat(16);
    for spelt in [
        format!("kv_{secret}"),
        format!("\\u006bv_{secret}"),
        format!("kv\\u005f{secret}"),
        format!("kv_a\\u0042{}", &secret[2..]),
    ] {
        for arguments in [format!(r#"{{"t":"{spelt}"}}"#), format!(r#"{{ "{spelt}": [1] }}"#)] {
            let decision = raw(&operator, &agent, &format!(r#""arguments":{arguments}"#)).expect(200);
            let entry = entry(&operator, &audit_id(&decision)).to_string();
            assert!(entry.contains("(hidden)") && !entry.contains(&secret[2..]), "{entry}");
        }
        let body =
            format!(r#"{{"tenantId":"acme","ownerId":"o","name":"n","type":"service","metadata":{{"a":"{spelt}"}}}}"#);
        operator.send("POST", "/v1/agents", Some(body.as_bytes())).problem(400, "INVALID_FIELD");
    }
}

#[test]
fn large_arguments_are_decided_whole_and_recorded_by_hash_and_size() {
    let server = Server::start();
    let operator = server.operator();
    operator.tenant("acme");
    let agent = operator.agent("acme", constrained("docs:*", json!({ "allowedArgPatterns": ["^x{100}$", "^ok$"] })));
    let values = |count: usize| json!({ "a": vec!["x".repeat(100); count] });
    for count in [400, 9_000] {
        let arguments = values(count);
        let text = arguments.to_string();
        assert!(text.len() > MAX_ARGUMENTS_BYTES);
        let id = operator.granted(with(&agent, json!({ "arguments": arguments })));
        let hash: String = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(entry(&operator, &id)["parameters"], json!({ "sha256": hash, "bytes": text.len() }));
        // The last of them counts as the first does.
        let mut bad = values(count);
        bad["a"].as_array_mut().unwrap().push(json!("no"));
        operator.denied(with(&agent, json!({ "arguments": bad })), "ARGUMENT_NOT_ALLOWED");
    }
    // Arguments that are small once decoded are recorded whole.
    let free = operator.agent("acme", permits("docs:*", &["read"]));
    let emoji = r"\ud83d\ude00".repeat(8_000);
    let decision = raw(&operator, &free, &format!(r#""arguments":{{"t":"{emoji}"}}"#)).expect(200);
    assert_eq!(entry(&operator, &audit_id(&decision))["parameters"], json!({ "t": "😀".repeat(8_000) }));
    // Nobody without a valid key gets a large body read.
    let long = with(&free, json!({ "arguments": { "a": "x".repeat(MAX_UNCHECKED_BODY_BYTES) } }));
    operator.granted(long.clone());
    server.with_key("kvo_nobody").authorize(long).problem(401, "INVALID_TOKEN");
}

#[test]
fn a_fine_cost_is_rounded_up_and_the_answer_says_so() {
    let server = Server::start();
    let operator = server.operator();
    operator.tenant("acme");
    let agent = operator.agent("acme", permits("docs:*", &["read"]));
    for (spelt, charged, is_rounded) in [
        ("0.30000000000000004", 0.300_001, true),
        ("0.0016150000000000001", 0.001_616, true),
        ("0.00001845", 0.000_019, true),
        ("\"0.00001845\"", 0.000_019, true),
        ("1e-30", 0.000_001, true),
        ("\"0.05\"", 0.05, false),
        ("5e-2", 0.05, false),
        ("-0.0", 0.0, false),
        ("\"-0\"", 0.0, false),
    ] {
        let decision = raw(&operator, &agent, &format!(r#""tokensCost":{spelt}"#)).expect(200);
        assert_eq!(decision["allowed"], json!(true), "{spelt}");
        assert_eq!(decision.get("tokensCost").and_then(Value::as_f64), is_rounded.then_some(charged), "{spelt}");
        let id = audit_id(&decision);
        assert_eq!(entry(&operator, &id)["tokensCost"].as_f64(), Some(charged), "{spelt}");
        let body = format!(r#"{{"agentId":"{}","auditId":"{id}","tokensCost":{spelt}}}"#, agent.id);
        for _ in 0..2 {
            let settled = operator.send("POST", "/v1/usage", Some(body.as_bytes())).expect(200);
            assert_eq!(settled["tokensCost"].as_f64(), Some(charged), "{spelt}");
        }
    }
    for bad in ["-0.000001", "-1e-99", "\"-1\"", "\"one\"", "\"\"", "\"1,5\"", "true", "[1]", "1e13"] {
        raw(&operator, &agent, &format!(r#""tokensCost":{bad}"#)).problem(400, "INVALID_FIELD");
    }
    // A limit is rounded down, so that it never grows.
    let limits = json!({ "maxTokensCostPerDay": "0.0000019" });
    let policy = json!({ "tenantId": "acme", "limits": limits, "action": "block" });
    let made = operator.post("/v1/policies", policy).expect(201);
    assert_eq!(made["limits"]["maxTokensCostPerDay"].as_f64(), Some(0.000_001));
}

//! Patterns for arguments, in every way that a call or a pattern can arrive.

use serde_json::{Value, json};

use crate::harness::Server;
use crate::world::{constrained, permits};

/// Values that a pattern fits, but that other programs may read differently.
const ODD: [&str; 12] = [
    "/srv/data/../../etc/passwd",
    "/srv/data/..",
    "/srv/data//../../etc/passwd",
    "/srv/data/%2e%2e/%2e%2e/etc",
    "/srv/data/%252e%252E/etc",
    "/srv/data/..%2f..%2fetc",
    r"/srv/data/..\..\etc",
    r"/srv/data/a\x",
    "/srv/data//x",
    "/srv/data/x\u{0}/etc",
    "/srv/data/x%00/etc",
    "/srv/data/x\n",
];

#[test]
fn a_glob_matches_no_ambiguous_value_for_any_caller_or_route() {
    let server = Server::start();
    let operator = server.operator();
    operator.tenant("acme");
    let globs = json!({ "allowedArgPatterns": ["/srv/data/**"] });
    let own = operator.agent("acme", constrained("mcp:fs:*", globs.clone()));
    let lender = operator.agent("acme", permits("mcp:*", &["*"]));
    let borrower = operator.agent("acme", json!([]));
    operator.delegation(&lender.id, &borrower.id, constrained("mcp:fs:*", globs));
    for agent in [&own, &borrower] {
        let ask = |arguments: Value| json!({ "agentId": agent.id, "action": "read", "resource": "mcp:fs:move", "arguments": arguments });
        operator.granted(ask(json!({ "source": "/srv/data/a", "destination": "/srv/data/b/c..d" })));
        for odd in ODD {
            let arguments = json!({ "destination": "/srv/data/b", "source": odd });
            let reason = operator.denied(ask(arguments.clone()), "ARGUMENT_NOT_ALLOWED");
            assert!(reason.contains("does not match pattern '/srv/data/**': a glob "), "{reason}");
            let explained = operator.post("/v1/authorize/explain", ask(arguments.clone())).expect(200);
            assert_eq!((&explained["allowed"], &explained["reason"]), (&json!(false), &json!(reason)), "{explained}");
            let evaluation = json!({
                "subject": { "type": "agent", "id": agent.id },
                "action": { "name": "read", "properties": arguments },
                "resource": { "type": "mcp", "id": "fs:move" },
                "context": { "tenantId": "acme" },
            });
            let answer = operator.post("/access/v1/evaluation", evaluation).expect(200);
            assert_eq!(answer["decision"], false, "{odd:?}: {answer}");
            assert_eq!(answer["context"]["code"], "ARGUMENT_NOT_ALLOWED");
        }
    }
}

#[test]
fn globs_have_their_usual_meaning_and_expressions_match_the_whole() {
    let server = Server::start();
    let operator = server.operator();
    operator.tenant("acme");
    for (pattern, value, granted) in [
        ("[ab]?.txt", "a1.txt", true),
        ("[ab]?.txt", "c1.txt", false),
        ("[!a].txt", "b.txt", true),
        ("{a,b}.txt", "a.txt", true),
        ("{a,b}.txt", "c.txt", false),
        ("https://*.example.com/**", "https://www.example.com/a?b#c", true),
        ("https://*.example.com/**", "https://evil.com#.example.com/", false),
        ("https://*.example.com/**", "https://evil.com?.example.com/", false),
        ("https://*.example.com/**", r"https://evil.com\.example.com/", false),
        ("http://localhost:*/**", "http://localhost:8080/x", true),
        ("http://localhost:*/**", "http://localhost:80@evil.com/x", false),
        ("^a|b", "zb", false),
        ("^a|b", "b", true),
        ("^/srv/data/[a-z]+", "/srv/data/a/../../etc/passwd", false),
        ("^/srv/data/[a-z]+", "/srv/data/abc", true),
    ] {
        let agent = operator.agent("acme", constrained("docs:*", json!({ "allowedArgPatterns": [pattern] })));
        let body = json!({ "agentId": agent.id, "action": "read", "resource": "docs:1", "arguments": [value] });
        let decision = operator.authorize(body).expect(200);
        assert_eq!(decision["allowed"], granted, "{pattern} {value}: {decision}");
    }
    for bad in
        ["[ab", "{a,b", "a}", "{a}", r"C:\data\*", "[z-a]", "/srv/../x", "/srv//x", "https://a.com/x?y=1", "a\nb"]
    {
        let permissions = constrained("docs:*", json!({ "allowedArgPatterns": ["a", bad] }));
        let body =
            json!({ "tenantId": "acme", "ownerId": "u", "name": "n", "type": "service", "permissions": permissions });
        let sentence = operator.post("/v1/agents", body).problem(400, "INVALID_PATTERN");
        assert!(sentence.starts_with("permissions[0].constraints.allowedArgPatterns[1] "), "{bad}: {sentence}");
    }
}

#[test]
fn doubtful_permissions_get_a_warning_at_creation_at_change_and_from_explain() {
    let server = Server::start();
    let operator = server.operator();
    operator.tenant("acme");
    let permissions = json!([
        { "resource": "site:*", "actions": ["read"] },
        { "resource": "site:premium:*", "actions": ["read"], "constraints": { "requireApproval": true } },
        { "resource": "docs:*", "actions": ["read"], "constraints": { "allowedArgPatterns": ["^/srv/"] } },
    ]);
    let fields = |answer: &Value| -> Vec<String> {
        let warnings = answer["warnings"].as_array().cloned().unwrap_or_default();
        warnings.iter().map(|warning| warning["field"].as_str().unwrap().to_owned()).collect()
    };
    let expected = ["permissions[1].constraints", "permissions[2].constraints.allowedArgPatterns[0]"];
    let body =
        json!({ "tenantId": "acme", "ownerId": "u", "name": "n", "type": "service", "permissions": permissions });
    let made = operator.post("/v1/agents", body).expect(201);
    assert_eq!(fields(&made), expected, "{made}");
    let id = made["id"].as_str().unwrap();
    let path = format!("/v1/agents/{id}");
    assert_eq!(fields(&operator.patch(&path, json!({ "name": "m" })).expect(200)), expected);
    assert_eq!(operator.get(&path).expect(200).get("warnings"), None);
    let other = operator.agent("acme", json!([]));
    let lent = json!({ "fromAgent": id, "toAgent": other.id, "permissions": permissions });
    assert_eq!(fields(&operator.post("/v1/delegations", lent).expect(201)), expected);

    let ask = |resource: &str| json!({ "agentId": id, "action": "read", "resource": resource });
    operator.granted(ask("site:premium:1"));
    let notes = |resource: &str| -> Vec<Value> {
        let explained = operator.post("/v1/authorize/explain", ask(resource)).expect(200);
        explained["steps"].as_array().unwrap().iter().filter(|step| step["check"] == "note").cloned().collect()
    };
    let found = notes("site:premium:1");
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0]["permission"], &found[0]["passed"]), (&json!(1), &json!(true)), "{found:?}");
    assert!(notes("site:public:1").is_empty());

    let fewer =
        json!([{ "resource": "site:premium:*", "actions": ["read"], "constraints": { "requireApproval": true } }]);
    assert_eq!(operator.patch(&path, json!({ "permissions": fewer })).expect(200).get("warnings"), None);
    operator.denied(ask("site:premium:1"), "REQUIRES_APPROVAL");
}

//! Arguments by their names: real tools confined to a folder and to an amount, for every caller and on every route.

use std::collections::BTreeSet;

use kavach_fixture::tools;
use serde_json::{Value, json};

use crate::client::Client;
use crate::harness::Server;
use crate::world::{constrained, permits};

/// What holds for each tool of the public MCP file system server that an agent may use in `/srv/data`, and nowhere else.
fn folder() -> Value {
    let path = json!({ "match": ["/srv/data", "/srv/data/**"] });
    let only_path = json!({ "arguments": { "path": path } });
    let part_of_file = json!({ "arguments": { "path": path }, "otherArguments": "strings" });
    let rules = [
        ("read_file", part_of_file.clone()),
        ("read_text_file", part_of_file),
        ("read_media_file", only_path.clone()),
        ("read_multiple_files", json!({ "arguments": { "paths[]": path } })),
        ("write_file", json!({ "arguments": { "path": path, "content": {} } })),
        (
            "edit_file",
            json!({ "arguments": {
                "path": path, "edits[].oldText": {}, "edits[].newText": {}, "dryRun": { "oneOf": [true, false], "absent": true },
            } }),
        ),
        ("create_directory", only_path.clone()),
        ("list_directory", only_path.clone()),
        (
            "list_directory_with_sizes",
            json!({ "arguments": { "path": path, "sortBy": { "oneOf": ["name", "size"], "absent": true } } }),
        ),
        ("directory_tree", json!({ "arguments": { "path": path, "excludePatterns[]": {} } })),
        ("move_file", json!({ "arguments": { "source": path, "destination": path } })),
        ("search_files", json!({ "arguments": { "path": path, "pattern": {}, "excludePatterns[]": {} } })),
        ("get_file_info", only_path),
        ("list_allowed_directories", json!({ "otherArguments": "deny" })),
    ];
    let permission = |(tool, constraints)| json!({ "resource": format!("mcp:filesystem:{tool}"), "actions": ["*"], "constraints": constraints });
    rules.into_iter().map(permission).collect()
}

/// A proper call of each tool, with text in its content that a folder's pattern would not match.
fn proper_calls() -> Vec<(&'static str, Value)> {
    let text = "SELECT * FROM users;\n-- ../../etc/passwd\n";
    vec![
        ("read_file", json!({ "path": "/srv/data/a.csv" })),
        ("read_text_file", json!({ "path": "/srv/data/reports/2026/q1.md", "head": 10 })),
        ("read_media_file", json!({ "path": "/srv/data/logo.png" })),
        ("read_multiple_files", json!({ "paths": ["/srv/data/a.csv", "/srv/data/b c.csv"] })),
        ("write_file", json!({ "path": "/srv/data/out.sql", "content": text.repeat(20) })),
        (
            "edit_file",
            json!({
                "path": "/srv/data/out.sql", "edits": [{ "oldText": text, "newText": "" }, { "oldText": "a", "newText": "/etc" }],
                "dryRun": true,
            }),
        ),
        ("create_directory", json!({ "path": "/srv/data/new/größe" })),
        ("list_directory", json!({ "path": "/srv/data" })),
        ("list_directory_with_sizes", json!({ "path": "/srv/data/reports", "sortBy": "size" })),
        ("directory_tree", json!({ "path": "/srv/data", "excludePatterns": ["**/.git", "/tmp"] })),
        ("move_file", json!({ "source": "/srv/data/a.csv", "destination": "/srv/data/old/a.csv" })),
        ("search_files", json!({ "path": "/srv/data", "pattern": "*.csv", "excludePatterns": [] })),
        ("get_file_info", json!({ "path": "/srv/data/..a" })),
        ("list_allowed_directories", json!({})),
    ]
}

/// Paths and other values that lead out of the folder, or that some program reads as one that does.
fn escapes() -> Vec<Value> {
    let mut all: Vec<Value> = [
        "/etc/passwd",
        "/srv",
        "/srv/",
        "/srv/data2/x",
        "/srv/database",
        "/SRV/DATA/x",
        "srv/data/x",
        " /srv/data/x",
        "./srv/data/x",
        "~/x",
        "",
        "/",
        "C:\\srv\\data\\x",
        "file:///srv/data/x",
        "/srv/data/../../etc/passwd",
        "/srv/data/..",
        "/srv/data/./../x",
        "/srv/data//x",
        "//srv/data/x",
        "/srv/data/%2e%2e/%2e%2e/etc/passwd",
        "/srv/data/%252e%252E/x",
        "/srv/data/..%2f..%2fetc",
        "/srv/data/%2fetc",
        "/srv/data/%c0%ae%c0%ae/x",
        r"/srv/data/..\..\etc",
        r"/srv/data\..\x",
        "/srv/data/a\u{0}/../../etc",
        "/srv/data/a%00",
        "/srv/data/a\n/etc/passwd",
        "/srv/data/\u{85}x",
        // Look-alikes of `a` and of `/`.
        "/srv/d\u{430}ta/x",
        "\u{2215}srv\u{2215}data\u{2215}x",
        "\u{ff0f}srv\u{ff0f}data\u{ff0f}x",
        "/srv/data\u{2044}..\u{2044}x",
        "/srv/\u{200b}data/x",
    ]
    .into_iter()
    .map(Value::from)
    .collect();
    all.push(json!(format!("/srv/data/{}", "a".repeat(5_000))));
    // Not a string at all: a program may make one of it.
    let others = [
        json!(null),
        json!(5),
        json!(true),
        json!(["/srv/data/x"]),
        json!([]),
        json!({}),
        json!({ "path": "/srv/data/x" }),
        json!(["/srv/data/x", "/etc"]),
    ];
    all.extend(others);
    all
}

fn ask(agent: &str, tool: &str, arguments: &Value) -> Value {
    json!({ "agentId": agent, "action": "execute", "resource": format!("mcp:filesystem:{tool}"), "arguments": arguments })
}

/// Asks many calls at once. Each must be denied for its arguments.
#[track_caller]
fn all_denied(operator: &Client, calls: &[Value]) {
    for some in calls.chunks(500) {
        let answer = operator.post("/v1/authorize/batch", json!({ "requests": some })).expect(200);
        for (call, result) in some.iter().zip(answer["results"].as_array().unwrap()) {
            assert_eq!(
                (&result["allowed"], &result["code"]),
                (&json!(false), &json!("ARGUMENT_NOT_ALLOWED")),
                "{call}: {result}"
            );
            assert!(result["reason"].as_str().unwrap().contains("rgument"), "{result}");
        }
    }
}

#[test]
fn each_tool_of_the_file_system_server_is_confined_to_a_folder() {
    let mut server = Server::start();
    let operator = server.operator();
    operator.tenant("acme");
    let of_server: BTreeSet<_> =
        tools().iter().filter(|tool| tool.server == "filesystem").map(|tool| tool.tool.as_str()).collect();
    let proper = proper_calls();
    assert_eq!(proper.iter().map(|(tool, _)| *tool).collect::<BTreeSet<_>>(), of_server);
    let own = operator.agent("acme", folder());
    // What is delegated is confined twice: by the delegator's constraints, and by its own.
    let borrower = operator.agent("acme", json!([]));
    let lent = proper.iter().map(|(tool, _)| json!({ "resource": format!("mcp:filesystem:{tool}"), "actions": ["*"] }));
    operator.delegation(&own.id, &borrower.id, lent.collect());
    for agent in [&own, &borrower] {
        for (tool, arguments) in &proper {
            operator.granted(ask(&agent.id, tool, arguments));
        }
    }
    // Content is not matched, so it may be longer than what is.
    let long = json!({ "path": "/srv/data/a", "content": "/etc/passwd\n".repeat(2_000) });
    operator.granted(ask(&own.id, "write_file", &long));
    let mut wrong = Vec::new();
    for (tool, arguments) in &proper {
        let members = arguments.as_object().unwrap();
        let paths: Vec<_> =
            members.keys().filter(|name| ["path", "paths", "source", "destination"].contains(&name.as_str())).collect();
        for name in paths {
            for escape in escapes() {
                let mut bad = arguments.clone();
                bad[name] = if name == "paths" { json!(["/srv/data/a", escape]) } else { escape.clone() };
                wrong.push((tool, bad));
                if name == "paths" && escape.is_array() && escape != json!(["/srv/data/x"]) {
                    wrong.push((tool, json!({ "paths": escape })));
                }
            }
            let mut without = arguments.clone();
            without.as_object_mut().unwrap().remove(name);
            wrong.push((tool, without));
        }
        // What the tool does not have, or what somebody spells otherwise.
        for other in ["file", "Path", "path ", "PATH", "p\u{430}th", "", "paths.0", "path[]"] {
            let mut bad = arguments.clone();
            bad[other] = json!("/etc/passwd");
            wrong.push((tool, bad));
        }
        for whole in [json!([]), json!("/srv/data/a"), json!([arguments]), json!({ "arguments": arguments })] {
            wrong.push((tool, whole));
        }
    }
    wrong.extend([
        (
            &"edit_file",
            json!({ "path": "/srv/data/a", "edits": [{ "oldText": "a", "newText": "b", "path": "/etc/passwd" }] }),
        ),
        (&"edit_file", json!({ "path": "/srv/data/a", "edits": [], "dryRun": "no" })),
        (&"list_directory_with_sizes", json!({ "path": "/srv/data", "sortBy": "/etc" })),
        (&"read_text_file", json!({ "path": "/srv/data/a", "head": "/etc/passwd" })),
        (&"read_text_file", json!({ "path": "/srv/data/a", "head": { "/etc/passwd": 1 } })),
    ]);
    // Without arguments, only a tool that has none may be called.
    wrong.extend(
        proper.iter().filter(|(tool, _)| *tool != "list_allowed_directories").map(|(tool, _)| (tool, json!({}))),
    );
    assert!(wrong.len() > 700, "{}", wrong.len());
    for agent in [&own, &borrower] {
        let calls: Vec<_> = wrong.iter().map(|(tool, arguments)| ask(&agent.id, tool, arguments)).collect();
        all_denied(&operator, &calls);
    }
    // Another tool of the server is none of these.
    operator.denied(ask(&own.id, "delete_file", &json!({ "path": "/srv/data/a" })), "PERMISSION_DENIED");

    // All of it outlives a crash.
    let shown = operator.get(&format!("/v1/agents/{}", own.id)).expect(200)["permissions"].clone();
    server.crash_and_start();
    let operator = server.operator();
    assert_eq!(operator.get(&format!("/v1/agents/{}", own.id)).expect(200)["permissions"], shown);
    for (tool, arguments) in &proper {
        operator.granted(ask(&own.id, tool, arguments));
    }
    operator
        .denied(ask(&own.id, "write_file", &json!({ "path": "/etc/passwd", "content": "x" })), "ARGUMENT_NOT_ALLOWED");
}

#[test]
fn a_refund_is_held_to_an_amount_digit_by_digit() {
    let server = Server::start();
    let operator = server.operator();
    operator.tenant("acme");
    let rules =
        json!({ "arguments": { "amount": { "max": 100, "min": 0.01 }, "currency": { "oneOf": ["EUR"] }, "note": {} } });
    let agent = operator.agent("acme", constrained("payments:refund", rules));
    let refund = |arguments: &str| {
        let body = format!(
            r#"{{"agentId":"{}","action":"execute","resource":"payments:refund","arguments":{arguments}}}"#,
            agent.id
        );
        operator.send("POST", "/v1/authorize", Some(body.as_bytes()))
    };
    for amount in
        ["100", "100.0", "1e2", "1E+2", "1000e-1", "100.00000000000000000000", "0.01", "99.99999999999999999999"]
    {
        let decision = refund(&format!(r#"{{"amount":{amount},"currency":"EUR","note":"300"}}"#)).expect(200);
        assert_eq!(decision["allowed"], true, "{amount}: {decision}");
    }
    for amount in [
        "100.01",
        "100.00000000000000000001",
        "1e3",
        "1e308",
        "101",
        "0",
        "-0",
        "-5",
        "0.009999999999999999999",
        "1e-400",
        "\"50\"",
        "true",
        "null",
        "[50]",
        "{\"value\":50}",
    ] {
        let decision = refund(&format!(r#"{{"amount":{amount},"currency":"EUR"}}"#)).expect(200);
        assert_eq!(
            (&decision["allowed"], &decision["code"]),
            (&json!(false), &json!("ARGUMENT_NOT_ALLOWED")),
            "{amount}: {decision}"
        );
    }
    let over = refund(r#"{"amount":100.5,"currency":"EUR"}"#).expect(200);
    assert_eq!(over["reason"], "Argument 'amount' is not allowed: 100.5 is over the maximum of 100");
    for arguments in [
        r#"{"currency":"EUR"}"#,
        r#"{"amount":5}"#,
        r#"{"amount":5,"currency":"USD"}"#,
        r#"{"amount":5,"currency":"EUR","amounts":[900]}"#,
        r#"{"amount":5,"currency":"EUR","Amount":900}"#,
    ] {
        let decision = refund(arguments).expect(200);
        assert_eq!(decision["code"], "ARGUMENT_NOT_ALLOWED", "{arguments}: {decision}");
    }
    // One value would be recorded, and another program might read the other.
    refund(r#"{"amount":5,"amount":900,"currency":"EUR"}"#).problem(400, "INVALID_FIELD");
    refund(r#"{"amount":5,"\u0061mount":900,"currency":"EUR"}"#).problem(400, "INVALID_FIELD");
    refund(r#"{"amount":1e999,"currency":"EUR"}"#).problem(400, "INVALID_FIELD");
}

#[test]
fn an_explanation_shows_each_look_and_no_secret() {
    let server = Server::start();
    let operator = server.operator();
    operator.tenant("acme");
    let rules = json!({ "arguments": { "path": { "match": ["/srv/**"] } }, "allowedArgPatterns": ["**"] });
    let agent = operator.agent("acme", constrained("docs:*", rules));
    let explain = |arguments: Value| {
        let call = json!({ "agentId": agent.id, "action": "read", "resource": "docs:1", "arguments": arguments });
        operator.post("/v1/authorize/explain", call).expect(200)
    };
    let looks = |explained: &Value| -> Vec<(String, bool)> {
        let steps = explained["steps"].as_array().unwrap().iter();
        let of_constraints = steps.filter(|step| step["check"].as_str().unwrap().contains("rg"));
        of_constraints.map(|step| (step["check"].as_str().unwrap().to_owned(), step["passed"] == true)).collect()
    };
    let all = |last: bool| {
        ["allowedArgPatterns", "arguments", "otherArguments"]
            .map(|name| (name.to_owned(), last || name != "otherArguments"))
    };
    assert_eq!(looks(&explain(json!({ "path": "/srv/a" }))), all(true));
    assert_eq!(looks(&explain(json!({ "path": "/srv/a", "n": 1 }))), all(false));
    let token = format!("kv_{}", "aB3-".repeat(16));
    let explained = explain(json!({ "path": token.clone(), (token.clone()): 1 }));
    assert_eq!(explained["code"], "ARGUMENT_NOT_ALLOWED");
    assert!(!explained.to_string().contains("aB3-"), "{explained}");
    // The same rules hold where the call comes in another form.
    let evaluation = |path: &str| {
        let body = json!({
            "subject": { "type": "agent", "id": agent.id }, "action": { "name": "read", "properties": { "path": path } },
            "resource": { "type": "docs", "id": "1" }, "context": { "tenantId": "acme" },
        });
        operator.post("/access/v1/evaluation", body).expect(200)["decision"].clone()
    };
    assert_eq!((evaluation("/srv/a"), evaluation("/etc")), (json!(true), json!(false)));
}

#[test]
fn a_delegate_is_held_to_the_rules_of_both() {
    let server = Server::start();
    let operator = server.operator();
    operator.tenant("acme");
    let amount = |max: u32| json!({ "arguments": { "amount": { "max": max } } });
    let lender = operator.agent("acme", constrained("pay", amount(100)));
    // A rule of a delegation adds to the delegator's and never replaces it, as with every other constraint.
    for (lent, most) in
        [(constrained("pay", amount(10)), 10), (constrained("pay", amount(1_000)), 100), (permits("pay", &["*"]), 100)]
    {
        let borrower = operator.agent("acme", json!([]));
        operator.delegation(&lender.id, &borrower.id, lent);
        let pay = |amount: u32| json!({ "agentId": borrower.id, "action": "do", "resource": "pay", "arguments": { "amount": amount } });
        operator.granted(pay(most));
        operator.denied(pay(most + 1), "ARGUMENT_NOT_ALLOWED");
        operator.denied(json!({ "agentId": borrower.id, "action": "do", "resource": "pay" }), "ARGUMENT_NOT_ALLOWED");
    }
}

#[test]
fn rules_are_shown_as_they_were_given_with_the_default() {
    let server = Server::start();
    let operator = server.operator();
    operator.tenant("acme");
    let rules = r#"{"arguments":{"edits[].a\\.b":{"match":["^/srv/"],"absent":true},"n":{"max":100.50,"min":1e-2},"s":{"oneOf":["a",1.0,null]}}}"#;
    let permissions =
        |rules: &str| format!(r#""permissions":[{{"resource":"a","actions":["b"],"constraints":{rules}}}]"#);
    let body = format!(r#"{{"tenantId":"acme","ownerId":"u","name":"n","type":"service",{}}}"#, permissions(rules));
    let made = operator.send("POST", "/v1/agents", Some(body.as_bytes())).expect(201);
    let mut expected: Value = serde_json::from_str(rules).unwrap();
    expected["otherArguments"] = json!("deny");
    assert_eq!(made["permissions"][0]["constraints"], expected);
    assert_eq!(made["warnings"][0]["field"], r"permissions[0].constraints.arguments.edits[].a\.b.match[0]");
    let text = operator.get(&format!("/v1/agents/{}", made["id"].as_str().unwrap())).text();
    assert!(text.contains(r#""n":{"max":100.50,"min":1e-2}"#), "every digit: {text}");
    // Rules that differ only in the default are the same permission, so nothing changes.
    let same = format!("{{{}}}", permissions(&rules.replace("null]}}}", r#"null]}},"otherArguments":"deny"}"#)));
    let path = format!("/v1/agents/{}", made["id"].as_str().unwrap());
    let kept = operator.send("PATCH", &path, Some(same.as_bytes())).expect(200);
    assert_eq!((&kept["permissions"], &kept["updatedAt"]), (&made["permissions"], &made["updatedAt"]));
}

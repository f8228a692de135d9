//! Bad input about budgets: each request is wrong in one way, its answer names the field, and nothing is charged.

use serde_json::{Value, json};

use crate::decisions::unknown_like;
use crate::harness::Server;
use crate::world::call;

/// A bad request: method, path, body as text, status, code, and what the sentence must name.
type Bad<'a> = (&'a str, String, String, u16, &'a str, &'a str);

const FIELD: &str = "INVALID_FIELD";
const BODY: &str = "INVALID_BODY";

/// Values that are not costs, as JSON text.
const NO_COSTS: [&str; 14] = [
    "-1",
    "-0.000001",
    "-1e-7",
    "\"-1\"",
    "\"one\"",
    "\"\"",
    "1000000000000.000001",
    "1000000000001",
    "1e300",
    "18446744073709551616",
    "\"1,5\"",
    "true",
    "[1]",
    "{}",
];

/// Values that are not numbers of calls.
const NO_COUNTS: [&str; 8] = ["1.5", "-1", "1e30", "18446744073709551616", "\"5\"", "true", "[]", "0.5"];

#[test]
fn each_bad_request_names_its_field_and_charges_nothing() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let policy = operator.policy("acme", json!({ "limits": { "maxCallsPerDay": 5 } }));
    let decision = operator.granted(call(&agent.id));
    let unknown = unknown_like(&agent.id);
    let unknown_policy = unknown_like(&policy);
    let path = format!("/v1/policies/{policy}");
    let mut table: Vec<Bad<'_>> = Vec::new();
    let new = |body: String, code, names| ("POST", "/v1/policies".to_owned(), body, 400, code, names);
    let patch = |body: String, code, names| ("PATCH", path.clone(), body, 400, code, names);
    let usage = |body: String, code, names| ("POST", "/v1/usage".to_owned(), body, 400, code, names);
    let check = |body: String, code, names| ("POST", "/v1/budget/check".to_owned(), body, 400, code, names);
    for (name, path) in [
        ("maxTokensCostPerDay", "limits.maxTokensCostPerDay"),
        ("maxTokensCostPerMonth", "limits.maxTokensCostPerMonth"),
    ] {
        for number in NO_COSTS {
            let limits = format!(r#"{{"limits":{{"{name}":{number}}}}}"#);
            table.push(new(limits.clone(), FIELD, path));
            table.push(patch(limits, FIELD, path));
        }
    }
    for (name, path) in [("maxCallsPerDay", "limits.maxCallsPerDay"), ("maxCallsPerMonth", "limits.maxCallsPerMonth")] {
        for number in NO_COUNTS {
            let limits = format!(r#"{{"limits":{{"{name}":{number}}}}}"#);
            table.push(new(limits.clone(), BODY, path));
            table.push(patch(limits, BODY, path));
        }
    }
    let ask = format!(r#""agentId":"{}""#, agent.id);
    for number in NO_COSTS {
        table.push(usage(format!(r#"{{{ask},"tokensCost":{number}}}"#), FIELD, "tokensCost"));
        table.push(check(format!(r#"{{{ask},"tokensCost":{number}}}"#), FIELD, "tokensCost"));
        let body = format!(r#"{{{ask},"action":"read","resource":"docs:1","tokensCost":{number}}}"#);
        table.push(("POST", "/v1/authorize".into(), body.clone(), 400, FIELD, "tokensCost"));
        table.push(("POST", "/v1/authorize/explain".into(), body.clone(), 400, FIELD, "tokensCost"));
    }
    for number in NO_COUNTS {
        table.push(usage(format!(r#"{{{ask},"calls":{number}}}"#), BODY, "calls"));
    }
    table.push(usage(format!(r#"{{{ask},"calls":1000000001}}"#), FIELD, "calls"));
    table.push(usage(format!(r#"{{{ask},"calls":1,"auditId":"{decision}"}}"#), FIELD, "calls"));
    // No limit at all, or none left.
    table.push(new("{}".into(), BODY, "limits"));
    table.push(new(r#"{"limits":null}"#.into(), BODY, "limits"));
    table.push(new(r#"{"limits":{}}"#.into(), FIELD, "limits"));
    table.push(new(r#"{"limits":{"maxCallsPerDay":null}}"#.into(), FIELD, "limits"));
    table.push(patch(r#"{"limits":{"maxCallsPerDay":null}}"#.into(), FIELD, "limits"));
    // Unknown, misspelled, or read-only fields.
    let limits = r#""limits":{"maxCallsPerDay":1}"#;
    for (member, names) in [
        (r#""status":"disabled""#, "status"),
        (r#""id":"pol_1""#, "id"),
        (r#""ownerId":"ann","userId":"bob""#, "userId"),
        (r#""currentUsage":{}"#, "currentUsage"),
        (r#""action":"deny""#, "action"),
        (r#""action":"Block""#, "action"),
        (r#""action":7"#, "action"),
        (r#""agentId":7"#, "agentId"),
        (r#""userId":7"#, "userId"),
        (r#""tenantId":7"#, "tenantId"),
    ] {
        table.push(new(format!("{{{limits},{member}}}"), BODY, names));
    }
    for owner in ["", "   ", "a\\u0000b", &"x".repeat(257)] {
        table.push(new(format!(r#"{{{limits},"userId":"{owner}"}}"#), FIELD, "userId"));
    }
    table.push(new(r#"{"limits":{"maxCallPerDay":1}}"#.into(), BODY, "maxCallPerDay"));
    table.push(patch(r#"{"limits":{"maxCallsPerYear":1}}"#.into(), BODY, "maxCallsPerYear"));
    // Calendars, scopes and temporary limits.
    let long = "x".repeat(64);
    let many: Vec<_> = (0..33).map(|at| format!(r#""k{at}":"v""#)).collect();
    for (member, code, names) in [
        (r#""timeZone":"Mars/Olympus""#.to_owned(), FIELD, "timeZone"),
        (r#""timeZone":"""#.to_owned(), FIELD, "timeZone"),
        (r#""timeZone":"+02:00""#.to_owned(), FIELD, "timeZone"),
        (r#""timeZone":7"#.to_owned(), BODY, "timeZone"),
        (r#""weekStartsOn":"someday""#.to_owned(), BODY, "weekStartsOn"),
        (r#""monthStartsOn":29"#.to_owned(), FIELD, "monthStartsOn"),
        (r#""monthStartsOn":0"#.to_owned(), FIELD, "monthStartsOn"),
        (r#""monthStartsOn":-1"#.to_owned(), BODY, "monthStartsOn"),
        (r#""labels":{}"#.to_owned(), FIELD, "labels"),
        (r#""labels":{"a b":"c"}"#.to_owned(), FIELD, "labels"),
        (format!(r#""labels":{{"{long}":"c"}}"#), FIELD, "labels"),
        (format!(r#""labels":{{"team":"{long}"}}"#), FIELD, "labels.team"),
        (format!(r#""labels":{{{}}}"#, many.join(",")), FIELD, "labels"),
        (r#""labels":{"a":"b","a":"c"}"#.to_owned(), BODY, "labels"),
        (r#""labels":["a"]"#.to_owned(), BODY, "labels"),
        (r#""thresholds":[0]"#.to_owned(), FIELD, "thresholds"),
        (r#""thresholds":[80,1001]"#.to_owned(), FIELD, "thresholds"),
        (r#""thresholds":[1,2,3,4,5,6,7,8,9,10,11]"#.to_owned(), FIELD, "thresholds"),
        (r#""thresholds":[-1]"#.to_owned(), BODY, "thresholds"),
        (r#""thresholds":[79.5]"#.to_owned(), BODY, "thresholds"),
        (r#""thresholds":["80"]"#.to_owned(), BODY, "thresholds"),
        (r#""thresholds":80"#.to_owned(), BODY, "thresholds"),
        (r#""resource":"""#.to_owned(), FIELD, "resource"),
        (r#""resource":"doc*""#.to_owned(), "INVALID_PATTERN", "resource"),
        (r#""actions":[]"#.to_owned(), FIELD, "actions"),
        (r#""actions":["re*"]"#.to_owned(), "INVALID_PATTERN", "actions[0]"),
        (r#""actions":"read""#.to_owned(), BODY, "actions"),
        (r#""temporary":{"limits":{"maxCallsPerDay":9}}"#.to_owned(), BODY, "until"),
        (r#""temporary":{"limits":{},"until":"2099-01-01T00:00:00Z"}"#.to_owned(), FIELD, "temporary.limits"),
        (r#""temporary":{"limits":{"maxCallsPerDay":9},"until":"soon"}"#.to_owned(), FIELD, "temporary.until"),
        (
            r#""temporary":{"limits":{"maxCallsPerDay":9},"until":"2020-01-01T00:00:00Z"}"#.to_owned(),
            FIELD,
            "temporary.until",
        ),
        (
            r#""temporary":{"limits":{"maxTokensCostPerDay":-1},"until":"2099-01-01T00:00:00Z"}"#.to_owned(),
            FIELD,
            "temporary.limits.maxTokensCostPerDay",
        ),
    ] {
        table.push(new(format!("{{{limits},{member}}}"), code, names));
        table.push(patch(format!("{{{member}}}"), code, names));
    }
    // One without a scope gets none later.
    for (member, names) in [
        (r#""labels":{"a":"b"}"#, "labels"),
        (r#""resource":"docs:*""#, "resource"),
        (r#""actions":["read"]"#, "actions"),
    ] {
        table.push(patch(format!("{{{member}}}"), FIELD, names));
    }
    table.push(check(format!(r#"{{{ask},"action":""}}"#), FIELD, "action"));
    table.push(check(format!(r#"{{{ask},"resource":":a"}}"#), FIELD, "resource"));
    for (body, names) in [("{}", "period"), (r#"{"period":"year"}"#, "period"), (r#"{"period":"all","id":1}"#, "id")] {
        table.push(("POST", "/v1/policies/reset".into(), body.into(), 400, BODY, names));
    }
    table.push((
        "POST",
        "/v1/policies/reset".into(),
        r#"{"period":"all","tenantId":"nowhere"}"#.into(),
        404,
        "TENANT_NOT_FOUND",
        "nowhere",
    ));
    for (query, names) in [("label=team", "label"), ("label=", "label")] {
        table.push(("GET", format!("/v1/agents?{query}"), String::new(), 400, "INVALID_QUERY", names));
    }
    table.push(("GET", "/v1/delegations?status=over".into(), String::new(), 400, "INVALID_QUERY", "status"));
    table.push(("GET", format!("/v1/agents/{unknown}/policies"), String::new(), 404, "AGENT_NOT_FOUND", "agent"));
    table.push(patch(r#"{"status":"triggered"}"#.into(), FIELD, "status"));
    for (member, names) in [
        (r#""status":"off""#, "status"),
        (r#""action":"allow""#, "action"),
        (r#""agentId":null"#, "agentId"),
        (r#""userId":"bob""#, "userId"),
        (r#""tenantId":"acme""#, "tenantId"),
        (r#""limits":7"#, "limits"),
    ] {
        table.push(patch(format!("{{{member}}}"), BODY, names));
    }
    let reset = format!("{path}/reset");
    for (body, names) in [
        (r#"{"period":"year"}"#, "period"),
        (r#"{"period":7}"#, "period"),
        (r#"{"perid":"day"}"#, "perid"),
        ("7", "body"),
        ("{", "body"),
    ] {
        table.push(("POST", reset.clone(), body.into(), 400, BODY, names));
    }
    for route in ["/v1/usage", "/v1/budget/check"] {
        for (body, names) in [
            ("{}".to_owned(), "agentId"),
            (r#"{"agentId":null}"#.to_owned(), "agentId"),
            (format!(r#"{{{ask},"cost":1}}"#), "cost"),
            (format!(r#"{{{ask},"tenantId":"acme"}}"#), "tenantId"),
            ("".to_owned(), "body"),
        ] {
            table.push(("POST", route.into(), body, 400, BODY, names));
        }
    }
    table.push(usage(format!(r#"{{{ask},"auditId":7}}"#), BODY, "auditId"));
    // Agents and policies that don't exist.
    for id in [&*unknown, "agt_", "garbage", &policy] {
        for body in
            [format!(r#"{{{limits},"agentId":"{id}"}}"#), format!(r#"{{{limits},"agentId":"{id}","tenantId":"acme"}}"#)]
        {
            table.push(("POST", "/v1/policies".into(), body, 404, "AGENT_NOT_FOUND", "agentId"));
        }
        for route in ["/v1/usage", "/v1/budget/check"] {
            let body = format!(r#"{{"agentId":"{id}","tokensCost":1}}"#);
            table.push(("POST", route.into(), body, 404, "AGENT_NOT_FOUND", "agentId"));
        }
        let body = format!(r#"{{"agentId":"{id}","tokensCost":1,"auditId":"{decision}"}}"#);
        table.push(("POST", "/v1/usage".into(), body, 404, "AGENT_NOT_FOUND", "agentId"));
    }
    table.push((
        "POST",
        "/v1/policies".into(),
        format!(r#"{{{limits},"tenantId":"nowhere"}}"#),
        404,
        "TENANT_NOT_FOUND",
        "nowhere",
    ));
    for id in [&*unknown_policy, "pol_", "garbage", &agent.id] {
        let reset = r#"{"period":"all"}"#;
        for (method, tail, body) in
            [("GET", "", "{}"), ("PATCH", "", "{}"), ("DELETE", "", "{}"), ("POST", "/reset", reset)]
        {
            table.push((method, format!("/v1/policies/{id}{tail}"), body.into(), 404, "POLICY_NOT_FOUND", "policy"));
        }
    }
    for (query, names) in [
        ("agentId=garbage", "agentId"),
        ("status=off", "status"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("cursor=garbage", "cursor"),
        ("owner=ann", "owner"),
    ] {
        table.push(("GET", format!("/v1/policies?{query}"), String::new(), 400, "INVALID_QUERY", names));
    }

    let everything = || {
        let usage = operator.trail("kind=usage");
        json!([operator.get("/v1/policies").expect(200), operator.all_of("acme"), operator.all_of("default"), usage])
    };
    let before = everything();
    let mut wrong = Vec::new();
    for (method, path, body, status, code, names) in &table {
        let body = (*method != "GET").then_some(body.as_bytes());
        let answer = operator.send(method, path, body);
        let shown: String = format!("{method} {path} {}", String::from_utf8_lossy(body.unwrap_or_default()));
        if (answer.status, answer.code().as_deref()) != (*status, Some(*code)) {
            wrong.push(format!("{shown}\n    {status} {code} was wanted, not {}", answer.text()));
        } else if !answer.problem(*status, code).contains(names) {
            wrong.push(format!("{shown}\n    '{names}' is not named: {}", answer.text()));
        }
        assert_eq!(operator.used(&policy), json!([1, 1, 0, 0]), "{shown}");
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), table.len(), wrong.join("\n"));
    assert_eq!(everything(), before);
    assert_eq!(operator.settle(&agent.id, &decision, Value::from(0.5)).expect(200)["tokensCost"], 0.5);
}

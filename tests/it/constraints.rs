//! Constraints over HTTP: rates under many threads, addresses and proxies, times of day, arguments.

use std::collections::HashSet;
use std::sync::Mutex;

use serde_json::{Value, json};

use crate::decisions::clock;
use crate::harness::{Options, Server};
use crate::world::{audit_id, call, constrained};

#[test]
fn a_rate_is_exact_at_any_concurrency() {
    let server = Server::start();
    let operator = server.operator();
    operator.tenant("acme");
    for limit in [3, 100] {
        let agent = operator.agent("acme", constrained("docs:*", json!({ "maxCallsPerHour": limit })));
        let client = server.with_key(&agent.token);
        let decisions = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    for _ in 0..10 {
                        let decision = client.authorize(json!({ "action": "read", "resource": "docs:1" })).expect(200);
                        decisions.lock().unwrap().push(decision);
                    }
                });
            }
        });
        let decisions = decisions.into_inner().unwrap();
        let (granted, denied): (Vec<_>, Vec<_>) = decisions.iter().partition(|decision| decision["allowed"] == true);
        assert_eq!((granted.len(), denied.len()), (limit, 160 - limit));
        let start = format!("Rate limit exceeded: {limit}/{limit} ");
        for decision in denied {
            assert_eq!(decision["code"], "RATE_LIMITED");
            assert!(decision["reason"].as_str().unwrap().starts_with(&start), "{decision}");
            assert!((1..=3_600).contains(&decision["retryAfter"].as_u64().unwrap()), "{decision}");
        }
        let ids: HashSet<_> = decisions.iter().map(audit_id).collect();
        assert_eq!(ids.len(), 160);
        let query = |result: &str| operator.trail(&format!("agentId={}&result={result}", agent.id)).len();
        assert_eq!([query("allowed"), query("denied"), query("rate_limited")], [limit, 0, 160 - limit]);
    }
}

#[test]
fn a_rate_belongs_to_one_agent_and_one_permission_and_outlives_changes_and_crashes() {
    let mut server = Server::start();
    let operator = server.operator();
    operator.tenant("acme");
    let rated = |resource: &str, limit: u32| json!({ "resource": resource, "actions": ["read"], "constraints": { "maxCallsPerHour": limit } });
    let permissions = json!([rated("docs:*", 2), rated("mail:*", 1)]);
    let (one, two) = (operator.agent("acme", permissions.clone()), operator.agent("acme", permissions));
    let ask = |agent: &str, resource: &str| json!({ "agentId": agent, "action": "read", "resource": resource });
    operator.granted(ask(&one.id, "docs:1"));
    operator.granted(ask(&one.id, "docs:2"));
    operator.denied(ask(&one.id, "docs:1"), "RATE_LIMITED");
    operator.granted(ask(&one.id, "mail:1"));
    operator.granted(ask(&two.id, "docs:1"));
    // A change that leaves a permission alone keeps its window; a changed permission starts anew.
    let path = format!("/v1/agents/{}", one.id);
    operator
        .patch(&path, json!({ "permissions": [rated("new:*", 1), rated("docs:*", 2), rated("mail:*", 5)] }))
        .expect(200);
    operator.denied(ask(&one.id, "docs:1"), "RATE_LIMITED");
    operator.granted(ask(&one.id, "mail:1"));
    server.crash_and_start();
    let operator = server.operator();
    operator.denied(ask(&one.id, "docs:1"), "RATE_LIMITED");
    operator.granted(ask(&two.id, "docs:1"));
    operator.denied(ask(&two.id, "docs:1"), "RATE_LIMITED");
    // A rate of zero: there is no time to wait for.
    operator.patch(&path, json!({ "permissions": [rated("docs:*", 0)] })).expect(200);
    let decision = operator.authorize(ask(&one.id, "docs:1")).expect(200);
    assert_eq!((&decision["code"], decision.get("retryAfter")), (&json!("RATE_LIMITED"), None), "{decision}");
}

#[test]
fn only_a_key_that_speaks_for_others_may_say_where_a_call_comes_from() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let remote =
        operator.agent("acme", constrained("docs:*", json!({ "ipAllowlist": ["198.51.100.0/24", "2001:db8::/32"] })));
    let local = operator.agent("acme", constrained("docs:*", json!({ "ipAllowlist": ["127.0.0.1"] })));
    let ask = |agent: &str, ip: Value| json!({ "agentId": agent, "action": "read", "resource": "docs:1", "context": { "ip": ip } });
    let key = server.with_key(&acme.key);
    for client in [&operator, &key] {
        for ip in ["198.51.100.7", "::ffff:198.51.100.7", "2001:db8::1"] {
            client.granted(ask(&remote.id, json!(ip)));
        }
        for ip in ["198.51.101.7", "2001:db9::1", "127.0.0.1", "::1"] {
            let reason = client.denied(ask(&remote.id, json!(ip)), "IP_NOT_ALLOWED");
            assert!(reason.contains(ip), "{reason}");
        }
        // Not given: unknown, whatever the connection's own address is.
        client.denied(ask(&remote.id, Value::Null), "IP_NOT_ALLOWED");
        client.denied(ask(&local.id, Value::Null), "IP_NOT_ALLOWED");
        client.denied(call(&local.id), "IP_NOT_ALLOWED");
    }
    // With its own token an agent calls from its connection's address, whatever it claims.
    let claims: [(&str, &[u8]); 1] = [("X-Forwarded-For", b"198.51.100.7")];
    for (agent, code) in [(&remote, Some("IP_NOT_ALLOWED")), (&local, None)] {
        let client = server.with_key(&agent.token);
        let body = ask(&agent.id, json!("198.51.100.7")).to_string();
        let answer = client.try_send("POST", "/v1/authorize", &claims, Some(body.as_bytes())).unwrap();
        answer.expect(200);
        assert_eq!(answer.code().as_deref(), code);
        let entry = &operator.trail(&format!("agentId={}", agent.id))[0];
        assert_eq!(entry["ip"], "127.0.0.1");
    }
}

#[test]
fn a_trusted_proxys_word_is_taken_for_an_agents_address() {
    let server = Server::start_with(Options::args(&["--trusted-proxies", "127.0.0.0/8,10.0.0.0/8"]));
    let operator = server.operator();
    operator.tenant("acme");
    let agent = operator.agent("acme", constrained("docs:*", json!({ "ipAllowlist": ["198.51.100.0/24"] })));
    let client = server.with_key(&agent.token);
    let body = json!({ "action": "read", "resource": "docs:1", "context": { "ip": "198.51.100.9" } }).to_string();
    for (forwarded, allowed, seen) in [
        ("198.51.100.7", true, json!("198.51.100.7")),
        ("203.0.113.1, 198.51.100.7, 10.1.2.3", true, json!("198.51.100.7")),
        ("198.51.100.7, 203.0.113.1", false, json!("203.0.113.1")),
        ("::ffff:198.51.100.7", true, json!("198.51.100.7")),
        ("unknown", false, Value::Null),
        ("198.51.100.7, unknown", false, Value::Null),
    ] {
        let headers: [(&str, &[u8]); 1] = [("X-Forwarded-For", forwarded.as_bytes())];
        let decision = client.try_send("POST", "/v1/authorize", &headers, Some(body.as_bytes())).unwrap().expect(200);
        assert_eq!(decision["allowed"], allowed, "{forwarded}");
        assert_eq!(operator.get(&format!("/v1/audit/{}", audit_id(&decision))).expect(200)["ip"], seen, "{forwarded}");
    }
}

#[test]
fn a_time_window_is_in_utc_and_may_wrap_midnight() {
    let server = Server::start();
    let operator = server.operator();
    operator.tenant("acme");
    for (from, to, open) in [(-30, 30, true), (30, 90, false), (-90, -30, false), (-720, 30, true), (30, -30, false)] {
        let window = json!({ "start": clock(from), "end": clock(to) });
        let agent = operator.agent("acme", constrained("docs:*", json!({ "timeWindow": window })));
        let decision = operator.authorize(call(&agent.id)).expect(200);
        assert_eq!(decision["allowed"], open, "{window}");
        if !open {
            assert_eq!(decision["code"], "OUTSIDE_TIME_WINDOW");
        }
    }
}

#[test]
fn every_string_argument_must_match_a_pattern() {
    let server = Server::start();
    let operator = server.operator();
    operator.tenant("acme");
    let patterns = json!({ "allowedArgPatterns": ["/srv/*", "/data/**", "^v[0-9]+$"] });
    let agent = operator.agent("acme", constrained("docs:*", patterns));
    for (arguments, granted) in [
        (json!({ "path": "/srv/a" }), true),
        (json!({ "path": "/srv/a/b" }), false),
        (json!({ "path": "/data/a/b" }), true),
        (json!({ "path": "/srv/a", "tags": ["v1", { "deep": ["v22", "/data/x"] }], "n": 5, "none": null }), true),
        (json!({ "path": "/srv/a", "tags": ["v1", { "deep": ["v22x"] }] }), false),
        (json!({ "path": "/srv/a\n/etc" }), false),
        (json!({ "path": "/srv/a\nb" }), false),
        (json!({ "/etc/passwd": "v1" }), true),
        (json!({ "v1": 5 }), false),
        (json!({}), false),
        (json!("v1"), true),
        (Value::Null, false),
    ] {
        let body = json!({ "agentId": agent.id, "action": "read", "resource": "docs:1", "arguments": arguments });
        let decision = operator.authorize(body).expect(200);
        assert_eq!(decision["allowed"], granted, "{arguments}: {decision}");
        if !granted {
            assert_eq!(decision["code"], "ARGUMENT_NOT_ALLOWED");
            assert!(decision["reason"].as_str().unwrap().contains("does not match pattern"), "{decision}");
        }
    }
    // A repeated key: one value would be recorded, and another program might read the other.
    let body = format!(
        r#"{{"agentId":"{}","action":"read","resource":"docs:1","arguments":{{"a":"/etc/passwd","a":"v1"}}}}"#,
        agent.id
    );
    operator.send("POST", "/v1/authorize", Some(body.as_bytes())).problem(400, "INVALID_FIELD");
}

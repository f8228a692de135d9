//! A system clock that jumps, over HTTP: the decisions meanwhile, the reports about it, and the return to normal once
//! the clock is right.

use std::time::{SystemTime, UNIX_EPOCH};

use kavach::domain::Timestamp;
use serde_json::{Value, json};

use crate::client::Client;
use crate::harness::{OPERATOR_KEY, eventually};
use crate::panics::{InProcess, settings, start};
use crate::world::{call, constrained};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const YEARS: i64 = 64 * 365 * 24 * HOUR;

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// Permissions for `docs` that begin `from` milliseconds from now and end `until` milliseconds from now.
fn within(from: i64, until: i64) -> Value {
    let clock = |offset| Timestamp::from_millis(now() + offset).to_string()[11..16].to_owned();
    constrained("docs:*", json!({ "timeWindow": { "start": clock(from), "end": clock(until) } }))
}

fn code(client: &Client, agent: &str) -> Option<String> {
    client.authorize(call(agent)).expect(200)["code"].as_str().map(str::to_owned)
}

fn clock_of(client: &Client) -> String {
    client.get("/readyz").expect(200)["clock"].as_str().unwrap().to_owned()
}

/// A metric's value, once it is as wanted: figures may be a second old.
fn metric(client: &Client, name: &str, is_wanted: impl Fn(f64) -> bool) {
    eventually(name, || {
        let page = client.get("/metrics").text();
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
        is_wanted(line.unwrap().parse().unwrap()).then_some(())
    });
}

fn newest(client: &Client, agent: &str) -> Value {
    client.get(&format!("/v1/audit?tenantId=acme&agentId={agent}&limit=1")).items().remove(0)
}

#[test]
fn a_far_jump_ahead_opens_nothing_and_is_seen() {
    let home = tempfile::tempdir().unwrap();
    let server = start(settings(home.path()));
    let operator = server.with_key(OPERATOR_KEY);
    operator.tenant("acme");
    let always = operator.agent("acme", constrained("docs:*", json!({ "maxCallsPerHour": 100 })));
    let soon = operator.agent("acme", within(2 * HOUR, 4 * HOUR));
    let current = operator.agent("acme", within(-HOUR, HOUR));
    let ends = Timestamp::from_millis(now() + 2 * HOUR).to_string();
    let fields = json!({ "expiresAt": ends, "permissions": constrained("docs:*", json!({})) });
    let ending = operator.agent_with("acme", fields);
    let outside = Some("OUTSIDE_TIME_WINDOW".to_owned());
    let as_ever = || {
        assert_eq!(clock_of(&operator), "ok");
        assert_eq!((code(&operator, &soon.id), code(&operator, &current.id)), (outside.clone(), None));
        assert_eq!((code(&operator, &always.id), code(&operator, &ending.id)), (None, None));
    };
    as_ever();
    for jump in [3 * HOUR, YEARS + 3 * HOUR] {
        server.kavach.inject_clock_step(jump);
        // A call is allowed only if both times allow it.
        assert_eq!(code(&operator, &always.id), None);
        for agent in [&soon, &current] {
            assert_eq!(code(&operator, &agent.id), outside);
        }
        assert_eq!(code(&operator, &ending.id).as_deref(), Some("AGENT_EXPIRED"));
        let explained = operator.post("/v1/authorize/explain", call(&current.id)).expect(200);
        assert_eq!(explained["code"], "OUTSIDE_TIME_WINDOW");
        assert_eq!(clock_of(&operator), "held_back");
        metric(&operator, "kavach_clock_held_back_seconds", |seconds| seconds > 2.9 * 3_600.0);
        let entry = newest(&operator, &always.id);
        let made = Timestamp::parse("timestamp", entry["timestamp"].as_str().unwrap()).unwrap();
        assert!(made.millis() <= now() && entry["clockTime"].is_null(), "{entry}");
        server.kavach.inject_clock_step(-jump);
        as_ever();
        metric(&operator, "kavach_clock_held_back_seconds", |seconds| seconds == 0.0);
    }
    metric(&operator, "kavach_clock_jumps_total{direction=\"ahead\"}", |jumps| jumps == 0.0);
    server.end();
}

/// What holds under a clock that was ahead and is right again; `day` is the policy's id.
fn check_right(server: &InProcess, ended: &str, current: &str, day: &str) {
    let operator = server.with_key(OPERATOR_KEY);
    assert_eq!(code(&operator, ended).as_deref(), Some("OUTSIDE_TIME_WINDOW"));
    assert_eq!(code(&operator, current), None);
    let entry = newest(&operator, current);
    let time = |member: &str| Timestamp::parse(member, entry[member].as_str().unwrap()).unwrap().millis();
    assert!(time("clockTime") <= now() && time("timestamp") > now() + 30 * MINUTE, "{entry}");
    assert_eq!(operator.get(&format!("/v1/audit/{}", entry["id"].as_str().unwrap())).expect(200), entry);
    assert_eq!(clock_of(&operator), "behind");
    metric(&operator, "kavach_clock_behind_events_seconds", |seconds| seconds > 30.0 * 60.0);
    let used = operator.get(&format!("/v1/policies/{day}")).expect(200)["currentUsage"]["callsThisMonth"].clone();
    assert!(used.as_u64().unwrap() >= 2, "{used}");
}

#[test]
fn once_the_clock_is_right_windows_follow_it_even_after_a_restart() {
    let home = tempfile::tempdir().unwrap();
    let server = start(settings(home.path()));
    let operator = server.with_key(OPERATOR_KEY);
    operator.tenant("acme");
    let ahead = operator.agent("acme", within(40 * MINUTE, 3 * HOUR));
    let current = operator.agent("acme", within(-HOUR, 30 * MINUTE));
    let policy = json!({ "tenantId": "acme", "limits": { "maxCallsPerMonth": 1000 } });
    let day = operator.post("/v1/policies", policy).expect(201)["id"].as_str().unwrap().to_owned();
    assert_eq!(code(&operator, &current.id), None);
    // A jump short enough for a correction is followed.
    let jump = 50 * MINUTE;
    server.kavach.inject_clock_step(jump);
    assert_eq!(code(&operator, &ahead.id), None);
    assert_eq!(code(&operator, &current.id).as_deref(), Some("OUTSIDE_TIME_WINDOW"));
    assert!(newest(&operator, &ahead.id)["clockTime"].is_null());
    server.kavach.inject_clock_step(-jump);
    check_right(&server, &ahead.id, &current.id, &day);
    for direction in ["ahead", "back"] {
        metric(&operator, &format!("kavach_clock_jumps_total{{direction=\"{direction}\"}}"), |jumps| jumps == 1.0);
    }
    let before = operator.all_of("acme");
    server.end();
    let server = start(settings(home.path()));
    assert_eq!(server.with_key(OPERATOR_KEY).all_of("acme"), before);
    check_right(&server, &ahead.id, &current.id, &day);
    server.end();
}

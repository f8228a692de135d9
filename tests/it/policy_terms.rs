//! What only some policies have: periods, calendars, scopes, temporary limits; labels of agents; all policies of an agent
//! or a tenant at once.

use serde_json::{Value, json};

use crate::budgets::{costing, settle_into_the_day};
use crate::client::Client;
use crate::harness::Server;
use crate::world::{call, permits};

impl Client {
    /// That window of a policy.
    #[track_caller]
    fn window(&self, policy: &str, period: &str) -> Value {
        let windows = self.policy_of(policy)["windows"].clone();
        windows.as_array().unwrap().iter().find(|window| window["period"] == period).unwrap().clone()
    }

    /// The ids of the policies that bind an agent.
    #[track_caller]
    fn binding(&self, agent: &str) -> Vec<String> {
        let policies = self.get(&format!("/v1/agents/{agent}/policies")).items();
        policies.iter().map(|policy| policy["id"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn a_policy_says_how_many_agents_it_is_about() {
    let server = Server::start();
    let operator = server.operator();
    let (acme, other) = (operator.tenant("acme"), operator.tenant("other"));
    let permissions = permits("docs:*", &["read"]);
    let agent = |owner: &str, team: &str| {
        let labels = json!({ "team": team, "env": "prod" });
        let fields = json!({ "permissions": permissions, "ownerId": owner, "labels": labels });
        operator.agent_with("acme", fields).id
    };
    let agents = [agent("ann", "data"), agent("ann", "web"), agent("bob", "data")];
    operator.agent_with("other", json!({ "permissions": permissions, "ownerId": "ann" }));
    let limits = json!({ "maxCallsPerDay": 5 });
    let mut made = Vec::new();
    for (fields, count) in [
        (json!({}), 3),
        (json!({ "userId": "ann" }), 2),
        (json!({ "userId": "nobody" }), 0),
        (json!({ "agentId": agents[2] }), 1),
        (json!({ "agentId": agents[2], "userId": "ann" }), 0),
        (json!({ "labels": { "team": "data" } }), 2),
        (json!({ "labels": { "team": "data", "env": "test" } }), 0),
        (json!({ "userId": "ann", "labels": { "team": "data" } }), 1),
        // It is about agents, not about what they may do.
        (json!({ "resource": "mail:*", "actions": ["send"] }), 3),
    ] {
        let mut body = json!({ "tenantId": acme.id, "limits": limits });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let policy = operator.post("/v1/policies", body).expect(201);
        assert_eq!(policy["matchesAgents"], count, "{fields}");
        made.push((policy["id"].as_str().unwrap().to_owned(), count));
    }
    // Those that can't call any more are not among them.
    operator.delete(&format!("/v1/agents/{}", agents[2])).expect(204);
    let past = json!({ "expiresAt": "2020-01-01T00:00:00Z" });
    operator.patch(&format!("/v1/agents/{}", agents[1]), past).expect(200);
    let key = server.with_key(&acme.key);
    let now: Vec<_> = made.iter().map(|(id, _)| key.policy_of(id)["matchesAgents"].clone()).collect();
    assert_eq!(now, [1, 1, 0, 0, 0, 1, 0, 1, 1]);
    let path = format!("/v1/policies/{}", made[0].0);
    assert_eq!(operator.patch(&path, json!({ "limits": { "maxCallsPerDay": 6 } })).expect(200)["matchesAgents"], 1);
    operator.patch(&format!("/v1/agents/{}", agents[1]), json!({ "expiresAt": null })).expect(200);
    assert_eq!(operator.policy_of(&made[0].0)["matchesAgents"], 2);
    // Lists don't count, and of a policy of the whole instance nobody says it.
    assert!(operator.get("/v1/policies?tenantId=acme").items().iter().all(|one| one.get("matchesAgents").is_none()));
    let instance = operator.post("/v1/policies", json!({ "scope": "instance", "limits": limits })).expect(201);
    assert_eq!(instance.get("matchesAgents"), None);
    server.with_key(&other.key).get(&path).problem(404, "POLICY_NOT_FOUND");
}

#[test]
fn periods_have_limits_and_windows() {
    settle_into_the_day();
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let limits = json!({
        "maxCallsPerHour": 50, "maxCallsPerWeek": 40, "maxCallsTotal": 2, "maxTokensCostPerHour": 5,
        "maxTokensCostPerWeek": 6, "maxTokensCostTotal": 7.5,
    });
    let policy = operator.policy("acme", json!({ "limits": limits }));
    let shown = operator.policy_of(&policy);
    assert_eq!(shown["limits"], limits);
    let periods: Vec<_> = shown["windows"].as_array().unwrap().iter().map(|window| window["period"].clone()).collect();
    assert_eq!(periods, ["hour", "day", "week", "month", "total"]);
    operator.granted(costing(&agent.id, "1.25"));
    let total = operator.window(&policy, "total");
    let expected = json!({
        "period": "total", "calls": 1, "maxCalls": 2, "callsLeft": 1, "tokensCostSpent": 1.25, "tokensCostHeld": 0,
        "maxTokensCost": 7.5, "tokensCostLeft": 6.25,
    });
    assert_eq!(total, expected, "a total has no bounds");
    let usage = operator.policy_of(&policy)["currentUsage"].clone();
    for (calls, cost) in [
        ("callsThisHour", "tokensCostThisHour"),
        ("callsToday", "tokensCostToday"),
        ("callsThisWeek", "tokensCostThisWeek"),
        ("callsTotal", "tokensCostTotal"),
    ] {
        assert_eq!((&usage[calls], &usage[cost]), (&json!(1), &json!(1.25)), "{usage}");
    }
    operator.granted(call(&agent.id));
    // A total never starts anew, so there is nothing to wait for.
    let denied = operator.authorize(call(&agent.id)).expect(200);
    assert_eq!((&denied["code"], denied.get("retryAfter")), (&json!("BUDGET_EXCEEDED"), None), "{denied}");
    assert!(denied["reason"].as_str().unwrap().contains("maxCallsTotal"), "{denied}");
    assert_eq!(operator.reset(&policy, json!({ "period": "hour" }))["status"], "triggered");
    let reset = operator.reset(&policy, json!({ "period": "total" }));
    assert_eq!((&reset["status"], &reset["currentUsage"]["callsToday"]), (&json!("active"), &json!(2)));
    operator.granted(call(&agent.id));
    // Without such a limit nothing is counted, and a new one counts from then on.
    operator.patch_policy(&policy, json!({ "limits": { "maxCallsPerWeek": null, "maxTokensCostPerWeek": null } }));
    assert!(operator.policy_of(&policy)["currentUsage"].get("callsThisWeek").is_none());
    operator.patch_policy(&policy, json!({ "limits": { "maxCallsPerWeek": 9 } }));
    assert_eq!(operator.policy_of(&policy)["currentUsage"]["callsThisWeek"], 0);
}

#[test]
fn a_calendar_moves_windows_and_keeps_counts_also_over_a_restart() {
    settle_into_the_day();
    let mut server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let made = json!({
        "tenantId": "acme", "limits": { "maxCallsPerDay": 9 }, "timeZone": "Asia/Kolkata", "weekStartsOn": "sunday",
        "monthStartsOn": 28,
    });
    let policy = operator.post("/v1/policies", made).expect(201);
    for (field, value) in
        [("timeZone", json!("Asia/Kolkata")), ("weekStartsOn", json!("sunday")), ("monthStartsOn", json!(28))]
    {
        assert_eq!(policy[field], value);
    }
    let id = policy["id"].as_str().unwrap();
    let day = operator.window(id, "day");
    assert!(day["startsAt"].as_str().unwrap().ends_with("T18:30:00.000Z"), "{day}");
    assert!(day["endsAt"].as_str().unwrap().ends_with("T18:30:00.000Z"), "{day}");
    operator.granted(call(&agent.id));
    let moved = operator.patch_policy(id, json!({ "timeZone": "Europe/Berlin" }));
    assert_eq!((&moved["timeZone"], &moved["currentUsage"]["callsToday"]), (&json!("Europe/Berlin"), &json!(1)));
    assert_eq!((&moved["weekStartsOn"], &moved["monthStartsOn"]), (&json!("sunday"), &json!(28)), "they were left out");
    let plain = operator.patch_policy(id, json!({ "timeZone": null, "weekStartsOn": null, "monthStartsOn": null }));
    assert_eq!((&plain["timeZone"], &plain["currentUsage"]["callsToday"]), (&json!("UTC"), &json!(1)));
    assert_eq!((&plain["weekStartsOn"], &plain["monthStartsOn"]), (&json!("monday"), &json!(1)));
    let before = operator.policy_of(id);
    server.kill();
    server.start_again();
    assert_eq!(server.operator().policy_of(id), before);
}

#[test]
fn a_scoped_policy_charges_only_what_matches() {
    settle_into_the_day();
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.agent_with(
        acme.id.as_str(),
        json!({ "permissions": permits("docs:*", &["read", "write"]), "labels": { "team": "data", "env": "prod" } }),
    );
    let limits = json!({ "maxCallsPerDay": 2, "maxTokensCostPerDay": 9 });
    let policy = |fields: Value| {
        let mut body = json!({ "limits": limits });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        operator.policy("acme", body)
    };
    let (data, writes, one) = (
        policy(json!({ "labels": { "team": "data" } })),
        policy(json!({ "actions": ["write"] })),
        policy(json!({ "resource": "docs:1", "labels": { "env": "prod" } })),
    );
    let other = policy(json!({ "labels": { "team": "web" } }));
    let shown = operator.policy_of(&one);
    assert_eq!(
        (&shown["labels"], &shown["resource"], &shown["actions"]),
        (&json!({ "env": "prod" }), &json!("docs:1"), &Value::Null)
    );
    assert_eq!(operator.binding(&agent.id), [&*data, &*writes, &*one]);
    let decision = operator.granted(costing(&agent.id, "1"));
    let calls = |id: &str| operator.used(id)[0].clone();
    assert_eq!([&data, &writes, &one, &other].map(|id| calls(id)), [json!(1), json!(0), json!(1), json!(0)]);
    // Labels that change later move no money: the settlement goes where the decision went.
    let patch = json!({ "labels": { "team": "web" } });
    let changed = operator.patch(&format!("/v1/agents/{}", agent.id), patch).expect(200);
    assert_eq!(changed["labels"], json!({ "team": "web" }));
    operator.settle(&agent.id, &decision, json!(0.25)).expect(200);
    let cost = |id: &str| operator.used(id)[2].clone();
    assert_eq!([&data, &one, &other].map(|id| cost(id)), [json!(0.25), json!(0.25), json!(0)]);
    assert_eq!(operator.binding(&agent.id), [&*writes, &*other]);
    // A report about no call is charged where labels alone decide.
    operator.post("/v1/usage", json!({ "agentId": agent.id, "calls": 5, "tokensCost": 1 })).expect(200);
    assert_eq!([&writes, &other].map(|id| calls(id)), [json!(0), json!(5)]);
    operator.denied_by(call(&agent.id), &other);
    // A check asks the policies that it knows enough for.
    let check = |fields: Value| {
        let mut body = json!({ "agentId": agent.id });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        operator.post("/v1/budget/check", body).expect(200)["policies"].as_array().unwrap().len()
    };
    let counts = [
        check(json!({})),
        check(json!({ "action": "write" })),
        check(json!({ "action": "read", "resource": "docs:1" })),
    ];
    assert_eq!(counts, [1, 2, 1]);
    // An explanation names what it looked at.
    let explained = operator.post("/v1/authorize/explain", call(&agent.id)).expect(200);
    let note = explained["steps"].as_array().unwrap().iter().find(|step| step["check"] == "note").unwrap().clone();
    assert_eq!(note["policy"], json!(writes), "{note}");
    // Scopes change, but do not come or go.
    assert_eq!(operator.patch_policy(&one, json!({ "resource": "docs:2" }))["resource"], "docs:2");
    let gone = json!({ "labels": null, "resource": null });
    operator.patch(&format!("/v1/policies/{one}"), gone).problem(400, "INVALID_FIELD");
}

#[test]
fn temporary_limits_replace_others_until_they_end() {
    settle_into_the_day();
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = operator.reader(&acme);
    let temporary =
        json!({ "limits": { "maxCallsPerDay": 1, "maxTokensCostPerDay": null }, "until": "2099-01-01T00:00:00.000Z" });
    let limits = json!({ "maxCallsPerDay": 100, "maxTokensCostPerDay": 0 });
    let policy = operator.policy("acme", json!({ "limits": limits, "temporary": temporary }));
    let shown = operator.policy_of(&policy);
    assert_eq!((&shown["limits"], &shown["temporary"]), (&limits, &temporary));
    assert_eq!(shown["effectiveLimits"], json!({ "maxCallsPerDay": 1 }));
    operator.granted(costing(&agent.id, "3"));
    operator.denied_by(call(&agent.id), &policy);
    let ended = operator.patch_policy(&policy, json!({ "temporary": null }));
    assert_eq!((&ended["temporary"], ended.get("effectiveLimits")), (&Value::Null, None));
    assert_eq!(ended["status"], "triggered", "a cost of 3 is past a limit of 0");
    assert_eq!(operator.window(&policy, "day")["tokensCostLeft"], -3);
}

#[test]
fn agents_are_listed_by_label_and_delegations_by_status() {
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let agent = |labels: Value| {
        operator.agent_with(acme.id.as_str(), json!({ "permissions": permits("docs:*", &["read"]), "labels": labels }))
    };
    let (one, two) = (agent(json!({ "team": "data", "env": "a:b" })), agent(json!({ "team": "web" })));
    let ids = |query: &str| -> Vec<String> {
        let agents = operator.get(&format!("/v1/agents?tenantId=acme&{query}")).items();
        agents.iter().map(|agent| agent["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids("label=team:data"), [&*one.id]);
    assert_eq!(ids("label=env:a:b"), [&*one.id]);
    assert_eq!(ids("label=team:nobody"), [""; 0]);
    let cleared = operator.patch(&format!("/v1/agents/{}", one.id), json!({ "labels": null })).expect(200);
    assert_eq!(cleared["labels"], json!({}));
    let bad = json!({ "labels": { "team": "x".repeat(64) } });
    let refused = operator.patch(&format!("/v1/agents/{}", one.id), bad).problem(400, "INVALID_FIELD");
    assert!(refused.starts_with("labels.team "), "{refused}");
    let link = |permissions| operator.delegation(&one.id, &two.id, permissions);
    let (kept, revoked) = (link(permits("docs:1", &["read"])), link(permits("docs:2", &["read"])));
    operator.delete(&format!("/v1/delegations/{revoked}")).expect(204);
    for (status, expected) in [("active", vec![kept]), ("revoked", vec![revoked]), ("expired", vec![])] {
        let links = operator.get(&format!("/v1/delegations?tenantId=acme&status={status}")).items();
        let found: Vec<_> = links.iter().map(|link| link["id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(found, expected, "{status}");
    }
}

#[test]
fn all_policies_of_a_tenant_are_reset_in_one_event() {
    settle_into_the_day();
    let server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let key = server.with_key(&acme.key);
    let agent = operator.reader(&acme);
    let limits = json!({ "limits": { "maxCallsPerDay": 9 } });
    let (own, set) = (key.policy(Value::Null, limits.clone()), operator.policy("acme", limits));
    operator.granted(call(&agent.id));
    let answer = key.post("/v1/policies/reset", json!({ "period": "day" })).expect(200);
    assert_eq!(answer, json!({ "policies": 1 }));
    assert_eq!(
        (operator.used(&own), operator.used(&set)),
        (json!([0, 1, 0, 0]), json!([1, 1, 0, 0])),
        "one is an operator's"
    );
    let answer = operator.post("/v1/policies/reset", json!({ "tenantId": "acme", "period": "all" })).expect(200);
    assert_eq!(answer, json!({ "policies": 2 }));
    assert_eq!((operator.used(&own), operator.used(&set)), (json!([0, 0, 0, 0]), json!([0, 0, 0, 0])));
    let entries = operator.get("/v1/audit?tenantId=acme&kind=admin&actions=policy.reset_all").items();
    let noted: Vec<_> = entries.iter().map(|entry| entry["parameters"].clone()).collect();
    assert_eq!(noted, [json!({ "period": "all" }), json!({ "period": "day" })]);
    // Without policies there is nothing to record.
    assert_eq!(operator.post("/v1/policies/reset", json!({ "period": "all" })).expect(200), json!({ "policies": 0 }));
}

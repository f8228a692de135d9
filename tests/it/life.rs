//! A tenant's life, from its creation to the restart after `kill -9`.

use serde_json::{Value, json};

use crate::harness::Server;
use crate::world::{Agent, permits};

#[test]
fn a_tenants_life() {
    let mut server = Server::start();
    let operator = server.operator();

    // Created with its settings, and shown as it will be from then on.
    let settings = json!({
        "maxAgents": 200,
        "auditRetentionDays": 365,
        "allowedAgentTypes": ["autonomous", "service"],
    });
    let created = operator.post("/v1/tenants", json!({ "name": "Acme", "slug": "acme", "settings": settings }));
    let acme = created.expect(201);
    let id = acme["id"].as_str().unwrap();
    assert_eq!(created.header("location"), Some(&*format!("/v1/tenants/{id}")));
    assert_eq!((&acme["name"], &acme["slug"], &acme["status"]), (&json!("Acme"), &json!("acme"), &json!("active")));
    let mut kept = settings.clone();
    kept["maxDelegationDepth"] = Value::Null;
    assert_eq!(acme["settings"], kept);
    assert_eq!(acme["createdAt"], acme["updatedAt"]);

    // Its first agent.
    let body = json!({
        "tenantId": "acme", "ownerId": "user-1", "name": "acme-data-bot", "type": "autonomous",
        "permissions": permits("reports:*", &["read", "export"]), "metadata": { "team": "data" },
    });
    let bot = operator.post("/v1/agents", body).expect(201);
    assert_eq!((&bot["tenantId"], &bot["status"], &bot["type"]), (&json!(id), &json!("active"), &json!("autonomous")));
    assert_eq!(bot["permissions"], permits("reports:*", &["read", "export"]));
    assert_eq!(bot["metadata"], json!({ "team": "data" }));
    assert_eq!((&bot["expiresAt"], &bot["lastActiveAt"]), (&Value::Null, &Value::Null));
    let Agent { id: bot_id, token } = Agent::from(&bot);
    assert_eq!((token.len(), token.starts_with("kv_")), (3 + 64, true));
    let mut shown = bot.clone();
    shown["token"] = json!("");

    // Lists and lookups.
    assert_eq!(operator.get("/v1/agents?tenantId=acme&status=active").items(), [shown.clone()]);
    assert_eq!(operator.get(&format!("/v1/agents/{bot_id}")).expect(200), shown);
    assert_eq!(operator.get(&format!("/v1/tenants/{id}")).expect(200), acme);
    assert_eq!(operator.get("/v1/tenants/acme").expect(200), acme);

    // Settings merge.
    let raised = operator.patch("/v1/tenants/acme", json!({ "settings": { "maxAgents": 500 } })).expect(200);
    kept["maxAgents"] = json!(500);
    assert_eq!(raised["settings"], kept);

    // All tenants of any status; the default one is not among them.
    operator.tenant("globex");
    operator.post("/v1/tenants/globex/suspend", json!({})).expect(200);
    let slugs =
        || -> Vec<Value> { server.operator().get("/v1/tenants").items().iter().map(|t| t["slug"].clone()).collect() };
    assert_eq!(slugs(), ["acme", "globex"]);

    // Calls, with the token alone and with the operator's key and the agent's id.
    let agent = server.with_key(&token);
    let ask = |action: &str, resource: &str| json!({ "action": action, "resource": resource });
    let about = |action: &str, resource: &str| json!({ "agentId": bot_id, "action": action, "resource": resource });
    agent.granted(ask("read", "reports:2026:q1"));
    agent.granted(ask("export", "reports:2026"));
    operator.granted(about("read", "reports:1"));
    for (action, resource) in [("delete", "reports:2026"), ("read", "reports"), ("read", "invoices:1")] {
        let reason = agent.denied(ask(action, resource), "PERMISSION_DENIED");
        assert!(reason.starts_with("No permission ") && reason.contains(resource), "{reason}");
        operator.denied(about(action, resource), "PERMISSION_DENIED");
    }

    // Suspended: every call of every agent is denied, and every token stays valid.
    let second = operator.agent_with("acme", json!({ "permissions": permits("*", &["*"]) }));
    operator.post("/v1/tenants/acme/suspend", json!({})).expect(200);
    assert_eq!(operator.get("/v1/tenants/acme").expect(200)["status"], "suspended");
    for token in [&token, &second.token] {
        for resource in ["reports:2026", "invoices:1"] {
            server.with_key(token).denied(ask("read", resource), "TENANT_SUSPENDED");
        }
    }
    operator.denied(about("read", "reports:1"), "TENANT_SUSPENDED");
    let path = format!("/v1/agents/{bot_id}/authorize");
    assert_eq!(operator.post(&path, ask("read", "reports:1")).expect(200)["code"], "TENANT_SUSPENDED");
    assert_eq!(
        operator.post("/v1/tenants/acme/authorize", about("read", "reports:1")).expect(200)["code"],
        "TENANT_SUSPENDED"
    );
    // It can still be read and repaired.
    operator.patch(&format!("/v1/agents/{bot_id}"), json!({ "name": "data-bot" })).expect(200);
    let active = operator.post("/v1/tenants/acme/activate", json!({})).expect(200);
    assert_eq!((&active["status"], &active["settings"]), (&json!("active"), &kept));
    agent.granted(ask("read", "reports:2026:q1"));

    // Killed and started again: everything is there, the audit trail byte by byte.
    let seen = |server: &Server| {
        let operator = server.operator();
        let texts =
            ["/v1/tenants", "/v1/agents", "/v1/audit?tenantId=acme&limit=1000", "/v1/audit?kind=admin&limit=1000"];
        let texts = texts.map(|path| operator.get(path)).map(|answer| (answer.status, answer.text()));
        (texts, ["acme", "globex"].map(|tenant| operator.all_of(tenant)["keys"].clone()))
    };
    let before = seen(&server);
    assert!(before.0.iter().all(|(status, _)| *status == 200));
    server.crash_and_start();
    assert_eq!(seen(&server), before);
    server.with_key(&token).granted(ask("read", "reports:2026:q1"));
    server.with_key(&token).denied(ask("delete", "reports:2026:q1"), "PERMISSION_DENIED");
    server.operator().post("/v1/tenants", json!({ "name": "Acme 2", "slug": "acme" })).problem(409, "SLUG_TAKEN");

    // Once more with a clean stop, which leaves snapshots, and a second kill on top of them.
    let before = seen(&server);
    server.stop();
    server.start_again();
    assert_eq!(seen(&server), before);
    server.crash_and_start();
    assert_eq!(seen(&server), before);
    server.with_key(&token).granted(ask("export", "reports:2026:q1"));
}

//! Reasons for ending something: given in the request, and kept in the audit trail.

use serde_json::json;

use crate::harness::Server;
use crate::world::permits;

#[test]
fn whatever_ends_something_keeps_its_reason() {
    let mut server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let key = server.with_key(&acme.key);
    let (a, b) = (operator.reader(&acme), operator.reader(&acme));
    let link = operator.delegation(&a.id, &b.id, permits("docs:1", &["read"]));
    let policy = key.post("/v1/policies", json!({ "limits": { "maxCallsPerDay": 5 } })).expect(201);
    let policy = policy["id"].as_str().unwrap();
    let made = operator.post("/v1/tenants/acme/keys", json!({ "name": "second" })).expect(201);
    let second = made["id"].as_str().unwrap();
    let calls = [
        ("DELETE", format!("/v1/delegations/{link}"), "delegation.revoke", link.as_str(), &key),
        ("DELETE", format!("/v1/policies/{policy}"), "policy.delete", policy, &key),
        ("POST", format!("/v1/agents/{}/suspend", b.id), "agent.suspend", b.id.as_str(), &key),
        ("POST", format!("/v1/agents/{}/activate", b.id), "agent.activate", b.id.as_str(), &key),
        ("DELETE", format!("/v1/agents/{}", b.id), "agent.revoke", b.id.as_str(), &operator),
        ("DELETE", format!("/v1/tenants/acme/keys/{second}"), "key.revoke", second, &operator),
        ("POST", "/v1/tenants/acme/suspend".to_owned(), "tenant.suspend", acme.id.as_str(), &operator),
    ];
    for (method, path, action, _, client) in &calls {
        for (reason, problem) in [
            ("", "INVALID_QUERY"),
            ("%20", "INVALID_QUERY"),
            ("a%0Ab", "INVALID_FIELD"),
            (&*"x".repeat(257), "INVALID_FIELD"),
            (&*acme.key, "INVALID_FIELD"),
        ] {
            let message = client.send(method, &format!("{path}?reason={reason}"), None).problem(400, problem);
            assert!(message.starts_with("reason "), "{action}: {message}");
        }
        let answer = client.send(method, &format!("{path}?reason=%20left%20the%20company,%20%C3%A9%20"), None);
        assert!(answer.status < 300, "{action}: {}", answer.text());
    }
    // A change without a reason has none.
    operator.post("/v1/tenants/acme/activate", json!(null)).expect(200);
    operator.delete(&format!("/v1/agents/{}", a.id)).expect(204);
    let trail = || server.operator().trail("tenantId=acme&kind=admin");
    let entries = trail();
    for (_, _, action, resource, _) in &calls {
        let entry = entries.iter().find(|entry| entry["action"] == *action && entry["resource"] == *resource);
        let entry = entry.unwrap_or_else(|| panic!("{action} is not recorded"));
        assert_eq!(entry["reason"], "left the company, é", "{entry}");
    }
    let without = entries.iter().filter(|entry| entry["reason"].is_null()).count();
    assert_eq!(without, entries.len() - calls.len());
    let csv = operator.get("/v1/audit/export?tenantId=acme&kind=admin&format=csv").text();
    assert_eq!(csv.matches("left the company, é").count(), calls.len());
    server.crash_and_start();
    assert_eq!(server.operator().trail("tenantId=acme&kind=admin"), entries);
    // Erasing a tenant takes a reason too.
    let operator = server.operator();
    operator.delete("/v1/tenants/acme?confirm=acme&reason=a%0Ab").problem(400, "INVALID_FIELD");
    operator.delete("/v1/tenants/acme?confirm=acme&reason=moved+away").expect(204);
    let erased = operator.trail("tenantId=default&kind=admin");
    assert_eq!((&erased[0]["action"], &erased[0]["reason"]), (&json!("tenant.delete"), &json!("moved away")));
}

//! An operator's work, from the first sign-in to a suspended tenant.

use serde_json::{Value, json};

use crate::browser::{Browser, ENTER, ESCAPE, TAB};
use crate::harness::{OPERATOR_KEY, Server};

fn ask(resource: &str) -> Value {
    json!({ "action": "read", "resource": resource })
}

#[test]
fn an_operator_sets_a_tenant_up_watches_it_and_stops_it() {
    let server = Server::start();
    let browser = Browser::start(&server);
    browser.sign_in(OPERATOR_KEY);
    browser.sees("All budgets have room");

    // A tenant. The first page says what to do.
    browser.go("#/tenants");
    browser.sees("No tenant yet");
    browser.click("New tenant");
    browser.fill("Name", "Acme Corp");
    browser.fill("Agents at most", "many");
    browser.fill("Agents at most", "50");
    browser.click("Create tenant");
    browser.at("#/tenants/acme-corp");
    browser.sees("No agent yet");
    let tenant = server.operator().get("/v1/tenants/acme-corp").expect(200);
    assert_eq!((&tenant["name"], &tenant["settings"]["maxAgents"]), (&json!("Acme Corp"), &json!(50)));

    // An agent, by keyboard alone.
    browser.tab_to("New agent");
    browser.press(ENTER);
    browser.at("#/agents/new?tenantId=acme-corp");
    browser.tab_to("Name");
    browser.press("doc-reader");
    browser.press(TAB);
    browser.press("ana");
    browser.tab_to("Resource");
    browser.press("docs:*");
    browser.press(TAB);
    browser.press("read");
    browser.tab_to("Create agent");
    browser.press(ENTER);
    browser.sees("doc-reader is ready");
    let token = browser.text_of("dialog [data-secret]");
    assert!(token.starts_with("kv_") && token.len() == 67, "{token}");
    browser.click("I have copied it");
    browser.until("the agent's page is shown", "return location.hash.startsWith('#/agents/agt_')");
    browser.sees("No decision yet");
    browser.until("the token is gone", &format!("return !document.documentElement.outerHTML.includes('{token}')"));

    // Its call arrives in the live tail.
    browser.go("#/audit");
    browser.sees("Nothing happened yet");
    browser.click("Live tail");
    browser.sees("Following");
    let agent = server.with_key(&token);
    assert_eq!(agent.post("/v1/authorize", ask("docs:first")).expect(200)["allowed"], true);
    assert_eq!(agent.post("/v1/authorize", ask("secrets:all")).expect(200)["allowed"], false);
    browser.sees("docs:first");
    browser.sees("secrets:all");
    browser.click("Pause");
    agent.post("/v1/authorize", ask("docs:while-paused")).expect(200);
    browser.sees("Paused, 1 new");
    assert!(!browser.text_of("table").contains("docs:while-paused"));
    browser.click("Resume");
    browser.sees("docs:while-paused");
    browser.click("Live tail");

    // All of it can be downloaded, with the current filters.
    browser.click("Export as CSV");
    let fetched = "return performance.getEntriesByType('resource').some((e) => e.name.endsWith('/v1/audit/export?format=csv&spreadsheet=true') && e.responseStatus === 200)";
    browser.until("the trail is exported", fetched);

    // Why was it denied?
    browser.click("Details of read on secrets:all");
    browser.sees("PERMISSION_DENIED");
    browser.click("Why?");
    browser.until("the verdict is there", "return document.querySelector('[data-verdict=denied]') !== null");
    browser.sees("decided it");

    // A used-up budget shows on the overview.
    browser.go("#/tenants/acme-corp/policies");
    browser.sees("No budget yet");
    browser.click("New policy");
    browser.fill("Calls a day", "4");
    browser.click("Create policy");
    browser.sees("0 of 4");
    for n in 0..4 {
        assert_eq!(agent.post("/v1/authorize", ask(&format!("docs:{n}"))).expect(200)["allowed"], true);
    }
    assert_eq!(agent.post("/v1/authorize", ask("docs:5")).expect(200)["code"], "BUDGET_EXCEEDED");
    browser.go("#/overview");
    browser.until(
        "the budget is on the overview",
        "return document.getElementById('budgets')?.innerText.includes('4 of 4')",
    );
    browser.sees("triggered");
    browser.sees("BUDGET_EXCEEDED");

    // Suspended only after a question, which Escape answers with no.
    browser.go("#/tenants/acme-corp");
    browser.click("Suspend Acme Corp");
    browser.sees("All its agents are stopped at once");
    browser.press(ESCAPE);
    browser.until("the dialog is closed", "return !document.querySelector('dialog[open]')");
    assert_eq!(server.operator().get("/v1/tenants/acme-corp").expect(200)["status"], "active");
    browser.click("Suspend Acme Corp");
    browser.click("Suspend");
    browser.sees("Acme Corp is suspended");
    browser.find("button", Some("Activate Acme Corp"));
    browser.sees("every call of its agents is denied");
    assert_eq!(agent.post("/v1/authorize", ask("docs:6")).expect(200)["code"], "TENANT_SUSPENDED");
    browser.check_records();
}

#[test]
fn a_refusal_is_shown_at_its_field_in_the_servers_words() {
    let server = Server::start();
    server.operator().post("/v1/tenants", json!({ "name": "Acme", "slug": "acme" })).expect(201);
    let browser = Browser::start(&server);

    // A wrong key.
    browser.open();
    browser.fill("Operator or tenant key", "kvo_wrong");
    browser.click("Sign in");
    browser.sees("the key or token is not valid");
    assert_eq!(browser.run("return sessionStorage.length", json!([])), 0);
    browser.sign_in(OPERATOR_KEY);

    browser.go("#/tenants");
    browser.click("New tenant");
    browser.fill("Name", "Second");
    browser.fill("Slug", "acme");
    browser.click("Create tenant");
    browser.until(
        "the slug is marked",
        "return document.querySelector('dialog [name=slug]').getAttribute('aria-invalid') === 'true'",
    );
    browser.press(ESCAPE);

    browser.go("#/agents/new?tenantId=acme");
    browser.fill("Name", "bot");
    browser.fill("Owner", "ana");
    browser.fill("Resource", "docs*");
    browser.fill("Actions", "read");
    browser.click("Create agent");
    browser.until(
        "the resource is marked",
        "return document.querySelector('[data-field=\"permissions[0].resource\"] input').getAttribute('aria-invalid') === 'true'",
    );
    assert!(server.operator().get("/v1/agents?tenantId=acme").items().is_empty());

    // A template of permissions replaces it.
    browser.click("GitHub writer, 20 an hour");
    browser.click("Create agent");
    browser.sees("bot is ready");
    let made = &server.operator().get("/v1/agents?tenantId=acme").items()[0];
    assert_eq!(made["permissions"][1]["constraints"], json!({ "maxCallsPerHour": 20 }));

    let refused = browser.complaints();
    assert!(refused.iter().all(|line| line.contains("the server responded with a status of 4")), "{refused:?}");
    browser.check_records();
}

#[test]
fn names_are_shown_as_text_whatever_they_contain() {
    let server = Server::start();
    let operator = server.operator();
    let hostile = "<img src=x onerror=document.title='taken'><script>document.title='taken'</script>&amp;";
    operator.post("/v1/tenants", json!({ "name": hostile, "slug": "acme" })).expect(201);
    let permissions = json!([{ "resource": "docs:*", "actions": ["read"] }]);
    let body = json!({ "tenantId": "acme", "ownerId": hostile, "name": hostile, "type": "service", "permissions": permissions, "metadata": { "m": hostile } });
    let made = operator.post("/v1/agents", body.clone()).expect(201);
    let other = operator.post("/v1/agents", body).expect(201);
    let id = made["id"].as_str().unwrap();
    operator
        .post("/v1/delegations", json!({ "fromAgent": id, "toAgent": other["id"], "permissions": permissions }))
        .expect(201);
    let limits = json!({ "tenantId": "acme", "userId": hostile, "limits": { "maxCallsPerDay": 1 }, "action": "warn" });
    operator.post("/v1/policies", limits).expect(201);
    operator.post("/v1/tenants/acme/keys", json!({ "name": hostile })).expect(201);
    let call = json!({ "agentId": id, "action": "read", "resource": "docs:<b>x</b>", "arguments": { "a": hostile } });
    operator.post("/v1/authorize", call).expect(200);

    let browser = Browser::start(&server);
    browser.sign_in(OPERATOR_KEY);
    let agent = format!("#/agents/{id}");
    for page in [
        "#/overview",
        "#/tenants",
        "#/tenants/acme",
        "#/tenants/acme/policies",
        "#/tenants/acme/delegations",
        "#/tenants/acme/keys",
        "#/tenants/acme/settings",
        "#/agents",
        &agent,
        "#/audit",
        "#/agents/new",
        "#/why",
    ] {
        browser.go(page);
        browser.until(
            "nothing of it became an element",
            "return !document.querySelector('#app img[src=x], #app script, #app b b') && document.title !== 'taken'",
        );
    }
    browser.go("#/tenants");
    browser.sees(hostile);
    browser.go("#/tenants/acme");
    browser.sees(hostile);
    browser.go("#/audit");
    browser.click("Details of read on docs:<b>x</b>");
    browser.sees("onerror");
    browser.check_records();
}

#[test]
fn agents_keys_and_delegations_are_managed() {
    let server = Server::start();
    let operator = server.operator();
    operator.post("/v1/tenants", json!({ "name": "Acme", "slug": "acme" })).expect(201);
    let make = |name: &str| {
        let permissions = json!([{ "resource": "docs:*", "actions": ["read", "write"] }]);
        // A spec that a form can't show exactly.
        let body = json!({
            "tenantId": "acme", "ownerId": "ana", "name": name, "type": "service", "permissions": permissions,
            "expiresAt": "2099-01-01T10:00:30.500Z", "metadata": { "account": 12_345_678_901_234_567_891_u64 },
        });
        let made = operator.post("/v1/agents", body).expect(201);
        (made["id"].as_str().unwrap().to_owned(), made["token"].as_str().unwrap().to_owned())
    };
    let ((lender, token), (borrower, _)) = (make("lender"), make("borrower"));
    let browser = Browser::start(&server);
    browser.sign_in(OPERATOR_KEY);

    // The search leads to an agent, by keyboard alone.
    browser.press_all("/");
    browser.find("input", Some("Go to a page, a tenant or an agent"));
    browser.press("lend");
    browser.until(
        "it is found",
        "return document.querySelector('.palette li[aria-selected=true]')?.innerText.startsWith('lender')",
    );
    browser.press(ENTER);
    browser.at(&format!("#/agents/{lender}"));

    // A new token; the old one is invalid.
    browser.click("Rotate token");
    browser.click("Rotate");
    browser.sees("The new token");
    let fresh = browser.text_of("dialog [data-secret]");
    // Escape does not lose it.
    browser.press_all(ESCAPE);
    browser.sees("The new token");
    browser.click("I have copied it");
    assert_ne!(fresh, token);
    server.with_key(&token).post("/v1/authorize", ask("docs:1")).expect(401);
    assert_eq!(server.with_key(&fresh).post("/v1/authorize", ask("docs:1")).expect(200)["allowed"], true);

    // Edit its permissions.
    browser.click("Edit");
    browser.fill("Actions", "read");
    browser.click("Save");
    browser.until("the dialog is closed", "return !document.querySelector('dialog[open]')");
    let edited = operator.get(&format!("/v1/agents/{lender}")).expect(200);
    assert_eq!(edited["permissions"][0]["actions"], json!(["read"]));
    assert_eq!(edited["expiresAt"], "2099-01-01T10:00:30.500Z", "what nobody touched stays as it was");
    assert_eq!(edited["metadata"]["account"].to_string(), "12345678901234567891");

    // It lends its own permissions, which fill the form.
    browser.go("#/tenants/acme/delegations");
    browser.sees("No delegation yet");
    browser.click("Delegate");
    browser.fill("From", "lend");
    browser.sees("ana");
    browser.press(ENTER);
    browser.until(
        "its permissions are offered",
        "return document.querySelector('dialog [name=resource]')?.value === 'docs:*'",
    );
    browser.fill("To", "borr");
    browser.sees("ana");
    browser.press(ENTER);
    browser.click("Delegate");
    browser.until("the graph is drawn", "return document.querySelectorAll('.graph a').length === 2");
    let links = operator.get(&format!("/v1/delegations?toAgent={borrower}")).items();
    assert_eq!((links.len(), &links[0]["fromAgent"]), (1, &json!(lender)));
    browser.click("Revoke the delegation from lender to borrower");
    browser.click("Revoke");
    browser.sees("revoked");
    assert_eq!(operator.get(&format!("/v1/delegations?toAgent={borrower}")).items()[0]["status"], "revoked");

    // A tenant key.
    browser.go("#/tenants/acme/keys");
    browser.sees("No key yet");
    browser.click("New key");
    browser.fill("Name", "billing");
    browser.click("Create key");
    browser.sees("The new key");
    let key = browser.text_of("dialog [data-secret]");
    browser.click("I have copied it");
    server.with_key(&key).get("/v1/agents").expect(200);
    browser.click("Revoke billing");
    browser.click("Revoke");
    browser.sees("No key yet");

    // Settings; and the agent is revoked.
    browser.go("#/tenants/acme/settings");
    browser.fill("Audit kept, days", "30");
    browser.click("Service");
    browser.click("Save");
    browser.sees("Saved");
    let settings = &operator.get("/v1/tenants/acme").expect(200)["settings"];
    assert_eq!(settings["auditRetentionDays"], 30);
    assert_eq!(settings["allowedAgentTypes"], json!(["autonomous", "delegated"]));
    browser.go(&format!("#/agents/{lender}"));
    browser.click("Revoke");
    browser.sees("can't be undone");
    browser.click("Revoke");
    browser.sees("lender is revoked");
    assert_eq!(operator.get(&format!("/v1/agents/{lender}")).expect(200)["status"], "revoked");

    // g and a letter lead to another page.
    browser.until("the dialog is closed", "return !document.querySelector('dialog[open]')");
    browser.press_all("ga");
    browser.at("#/agents");
    browser.check_records();
}

#[test]
fn one_of_many_tenants_is_found() {
    let server = Server::start();
    let operator = server.operator();
    for n in 0..201 {
        operator.post("/v1/tenants", json!({ "name": format!("Tenant {n}"), "slug": format!("t-{n}") })).expect(201);
    }
    let browser = Browser::start(&server);
    browser.sign_in(OPERATOR_KEY);
    browser.go("#/tenants");
    browser.sees("200 of 202 are shown");
    browser.fill("Find a tenant", "t-200");
    browser.until("it is found", "return document.querySelectorAll('tbody tr').length === 1");
    browser.click("Tenant 200");
    browser.at("#/tenants/t-200");
    browser.check_records();
}

#[test]
fn rules_for_arguments_are_written_as_json_and_read_in_words() {
    let server = Server::start();
    let operator = server.operator();
    operator.post("/v1/tenants", json!({ "name": "Acme", "slug": "acme" })).expect(201);
    let browser = Browser::start(&server);
    browser.open();
    browser.sign_in(OPERATOR_KEY);
    browser.go("#/agents/new?tenantId=acme");
    browser.fill("Name", "bot");
    browser.fill("Owner", "ana");
    browser.fill("Resource", "pay");
    browser.fill("Actions", "*");
    browser.run("document.querySelector('.perm details').open = true", json!([]));
    let marked = |what: &str| {
        let place = "[data-field=\"permissions[0].constraints.arguments\"]";
        browser.until(what, &format!("return document.querySelector('{place} .error').textContent.includes('{what}')"));
    };
    // Neither text that is no JSON nor a rule that the server refuses gets lost, or closes the form.
    for (typed, what) in [("{\"amount\": ", "is not JSON"), (r#"{"items[].a\\.b": {"max": "5"}}"#, "must be a number")]
    {
        browser.fill("Arguments by name, as JSON", typed);
        browser.click("Create agent");
        marked(what);
    }
    browser.fill("Arguments by name, as JSON", r#"{"amount": {"max": 100, "absent": true}, "note": {}}"#);
    browser.click("Create agent");
    browser.sees("bot is ready");
    let made = &operator.get("/v1/agents?tenantId=acme").items()[0];
    let expected =
        json!({ "arguments": { "amount": { "max": 100, "absent": true }, "note": {} }, "otherArguments": "deny" });
    assert_eq!(made["permissions"][0]["constraints"], expected);
    browser.go(&format!("#/agents/{}", made["id"].as_str().unwrap()));
    browser.sees("argument amount is at most 100 or is missing, argument note is anything");
    browser.sees("no other arguments");
}

#[test]
fn an_agent_is_suspended_and_activated_and_nobody_overwrites_what_another_changed() {
    let server = Server::start();
    let operator = server.operator();
    operator.post("/v1/tenants", json!({ "name": "Acme", "slug": "acme" })).expect(201);
    let new = json!({ "tenantId": "acme", "ownerId": "ana", "name": "bot", "type": "service", "permissions": [] });
    let made = operator.post("/v1/agents", new).expect(201);
    let path = format!("/v1/agents/{}", made["id"].as_str().unwrap());
    let browser = Browser::start(&server);
    browser.open();
    browser.sign_in(OPERATOR_KEY);
    browser.go(&format!("#/agents/{}", made["id"].as_str().unwrap()));
    browser.click("Suspend");
    browser.sees("Suspend bot?");
    browser.click("Suspend");
    browser.sees("bot is suspended");
    assert_eq!(operator.get(&path).expect(200)["status"], "suspended");
    browser.go("#/agents?status=suspended");
    browser.sees("bot");
    browser.go(&format!("#/agents/{}", made["id"].as_str().unwrap()));
    browser.click("Activate");
    browser.sees("Activate bot?");
    browser.click("Activate");
    browser.sees("bot is active again");
    assert_eq!(operator.get(&path).expect(200)["status"], "active");

    // Somebody else changes it while the form is open.
    browser.click("Edit");
    browser.fill("Owner", "ben");
    operator.patch(&path, json!({ "name": "robot" })).expect(200);
    browser.click("Save");
    browser.sees("it was changed since you read it");
    let kept = operator.get(&path).expect(200);
    assert_eq!((&kept["name"], &kept["ownerId"]), (&json!("robot"), &json!("ana")));
}

//! Spend: the page, its sums and its file, a tenant's invoice, and what agents and owners cost.

use serde_json::json;

use crate::browser::Browser;
use crate::harness::{OPERATOR_KEY, Server};

/// An agent of that tenant and owner that made a call for 1.25, one that was settled at 0.000001, and a denied one.
fn spender(server: &Server, tenant: &str, owner: &str, name: &str) -> String {
    let operator = server.operator();
    let permissions = json!([{ "resource": "docs:*", "actions": ["read"] }]);
    let body =
        json!({ "tenantId": tenant, "ownerId": owner, "name": name, "type": "service", "permissions": permissions });
    let id = operator.post("/v1/agents", body).expect(201)["id"].as_str().unwrap().to_owned();
    let ask = |action: &str, cost: f64| {
        let call = json!({ "agentId": id, "action": action, "resource": "docs:1", "tokensCost": cost });
        operator.post("/v1/authorize", call).expect(200)["auditId"].clone()
    };
    ask("read", 1.25);
    let settled = ask("read", 3.0);
    ask("drop", 5.0);
    operator.post("/v1/usage", json!({ "agentId": id, "auditId": settled, "tokensCost": 0.000001 })).expect(200);
    id
}

#[test]
fn a_month_is_billed_in_two_clicks() {
    let server = Server::start();
    let operator = server.operator();
    for slug in ["acme", "globex"] {
        operator.post("/v1/tenants", json!({ "name": slug, "slug": slug })).expect(201);
    }
    let agent = spender(&server, "acme", "ana", "reader");
    spender(&server, "acme", "ana", "writer");
    spender(&server, "acme", "ben", "keeper");
    spender(&server, "globex", "eve", "other");
    let browser = Browser::start(&server);
    browser.sign_in(OPERATOR_KEY);

    browser.go("#/spend");
    let cells = |table: &str| {
        let script = format!(
            "return [...document.querySelectorAll('{table} tbody tr')].map((row) => [...row.cells].map((cell) => cell.innerText.trim()))"
        );
        browser.run(&script, json!([]))
    };
    browser.until(
        "both tenants are there",
        "return [...document.querySelectorAll('#spend-rows a')].map((a) => a.textContent).join() === 'acme,globex'",
    );
    assert_eq!(cells("#spend-rows").as_array().unwrap().len(), 3, "two tenants and their sum");
    browser.until(
        "a bar is drawn",
        "return !!document.querySelector('.chart rect.s-1') && !!document.querySelector('.chart rect.s-2')",
    );

    // One tenant, by owner.
    browser.go("#/spend?tenantId=acme&by=owner");
    let rows = json!([
        ["ana", "4", "2", "8.50", "0.000002", "2.500002", ""],
        ["ben", "2", "1", "4.25", "0.000001", "1.250001", ""],
        ["Sum", "6", "3", "12.75", "0.000003", "3.750003", ""],
    ]);
    assert_eq!(cells("#spend-rows"), rows);
    browser.run("window.saved = []; URL.createObjectURL = (blob) => { blob.text().then((text) => saved.push(text)); return 'blob:none'; }; HTMLAnchorElement.prototype.click = () => {};", json!([]));
    browser.click("Download as CSV");
    browser.until("the file is there", "return saved.length === 1");
    let file = browser.run("return saved[0]", json!([]));
    assert_eq!(
        file,
        "userId,calls,denied,estimated,settled,held,cost\r\n\
         ana,4,2,8.5,0.000002,0,2.500002\r\nben,2,1,4.25,0.000001,0,1.250001\r\n"
    );
    browser.click("Invoice");
    browser.sees("This is what it has cost so far");
    browser.sees("3.750003");
    let lines = json!([
        ["ana", "4", "2", "8.50", "0.000002", "2.500002"],
        ["ben", "2", "1", "4.25", "0.000001", "1.250001"],
        ["Sum", "6", "3", "12.75", "0.000003", "3.750003"],
    ]);
    assert_eq!(cells("#invoice-lines"), lines);
    browser.picture("invoice");
    browser.run("const by = document.querySelector('select[name=by]'); by.value = 'agent'; by.dispatchEvent(new Event('change'));", json!([]));
    browser.until("a line for each agent", "return document.querySelectorAll('#invoice-lines tbody tr').length === 4");
    browser.sees("keeper");

    // By a label.
    operator.patch(&format!("/v1/agents/{agent}"), json!({ "labels": { "team": "web" } })).expect(200);
    let call = json!({ "agentId": agent, "action": "read", "resource": "docs:1", "tokensCost": 0.5 });
    operator.post("/v1/authorize", call).expect(200);
    browser.go("#/spend?tenantId=acme&by=label%3Ateam");
    browser.sees("By label team");
    let rows = json!([
        ["without this label", "6", "3", "12.75", "0.000003", "3.750003", ""],
        ["web", "1", "0", "0.50", "0.000000", "0.500000", ""],
        ["Sum", "7", "3", "13.25", "0.000003", "4.250003", ""],
    ]);
    assert_eq!(cells("#spend-rows"), rows);

    // Beside agents and owners.
    browser.go("#/agents?tenantId=acme");
    browser.until("each agent's cost", "return [...document.querySelectorAll('tbody tr td:last-child')].map((cell) => cell.innerText.trim()).join() === '1.750001,1.250001,1.250001'");
    browser.sees("3.000002 this month");
    browser.go(&format!("#/agents/{agent}"));
    browser.until(
        "and on its page",
        "return [...document.querySelectorAll('dd a')].some((link) => link.innerText === '1.750001')",
    );
    browser.check_records();
}

#[test]
fn days_and_months_are_those_of_the_chosen_zone() {
    let server = Server::start();
    let operator = server.operator();
    operator.post("/v1/tenants", json!({ "name": "acme", "slug": "acme" })).expect(201);
    spender(&server, "acme", "ana", "reader");
    // Two zones that never have the same day.
    let days = ["Pacific/Kiritimati", "Pacific/Pago_Pago"].map(|zone| {
        let report = operator.get(&format!("/v1/spend?groupBy=day&timeZone={zone}")).expect(200);
        report["rows"][0]["day"].as_str().unwrap()[8..].trim_start_matches('0').to_owned()
    });
    assert_ne!(days[0], days[1]);
    let browser = Browser::start(&server);
    browser.sign_in(OPERATOR_KEY);
    browser.go("#/spend?tenantId=acme&period=7&timeZone=Pacific%2FKiritimati&by=day");
    let first = "return document.querySelector('#spend-rows tbody td').innerText.trim().split(' ')[0]";
    assert_eq!(browser.run(first, json!([])), json!(days[0]));
    let choose = |zone: &str| {
        let script = "const zone = document.querySelector('[name=timeZone]'); zone.value = arguments[0]; zone.dispatchEvent(new Event('change'));";
        browser.run(script, json!([zone]));
    };
    choose("Europe/Atlantis");
    browser.sees("must be the name of a time zone");
    choose("Pacific/Pago_Pago");
    browser.at("#/spend?tenantId=acme&period=7&timeZone=Pacific%2FPago_Pago&by=day");
    assert_eq!(browser.run(first, json!([])), json!(days[1]));
    browser.click("Invoice");
    browser.sees("Pacific/Pago_Pago");
    browser.sees("1.250001");
    browser.check_records();
}

#[test]
fn a_tenant_key_sees_and_bills_its_own_spend() {
    let server = Server::start();
    let operator = server.operator();
    for slug in ["acme", "globex"] {
        operator.post("/v1/tenants", json!({ "name": slug, "slug": slug })).expect(201);
        spender(&server, slug, "ana", &format!("bot-of-{slug}"));
    }
    let key = operator.post("/v1/tenants/acme/keys", json!({ "name": "billing" })).expect(201);
    let browser = Browser::start(&server);
    browser.sign_in(key["key"].as_str().unwrap());
    browser.go("#/spend?by=agent");
    browser.sees("bot-of-acme");
    browser.sees("1.250001");
    browser.click("Invoice");
    browser.sees("1.250001");
    browser.go("#/spend?period=custom&since=2020-01-01&until=2020-01-31");
    browser.sees("Nothing was spent");
    assert_eq!(browser.run("return document.body.innerText.includes('globex')", json!([])), false);
    browser.check_records();
}

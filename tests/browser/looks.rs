//! Every page, light and dark, wide and narrow: nothing is cut off, unnamed or hard to read.

use serde_json::{Value, json};

use crate::browser::Browser;
use crate::client::Client;
use crate::harness::{OPERATOR_KEY, Options, Server};

/// Controls without an accessible name, duplicate ids, and references to missing ids.
const UNNAMED: &str = r#"
const bad = [];
const text = (e) => (e.getAttribute("aria-label") ?? [...(e.labels ?? [])].map((l) => l.textContent).join(" ")) || e.textContent || e.title;
for (const e of document.querySelectorAll("button, a[href], input:not([type=hidden]), select, textarea, [role=img], [role=group], nav, dialog, table")) {
  const by = e.getAttribute("aria-labelledby");
  const name = by ? document.getElementById(by)?.textContent : text(e);
  if (e.checkVisibility() && !name?.trim()) bad.push(e.outerHTML.slice(0, 120));
}
const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
for (const id of new Set(ids.filter((one, n) => ids.indexOf(one) !== n))) bad.push(`id ${id} is there twice`);
if (document.querySelectorAll("h1").length !== 1) bad.push("there is not one h1");
return bad;
"#;

/// Texts with a contrast to their background under 4.5 (WCAG 2.2, 1.4.3).
const FAINT: &str = r#"
const parse = (c) => { const n = c.match(/[\d.]+/g)?.map(Number); return n && (c.startsWith("color(") ? [n[0] * 255, n[1] * 255, n[2] * 255, n[3] ?? 1] : [n[0], n[1], n[2], n[3] ?? 1]); };
const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)).reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
const behind = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c && c[3] === 1) return c; } return [255, 255, 255, 1]; };
const bad = new Set();
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const e = walker.currentNode.parentElement;
  if (!walker.currentNode.textContent.trim() || !e.checkVisibility() || e.closest("svg, option, :disabled, noscript")) continue;
  const [front, back] = [light(parse(getComputedStyle(e).color)), light(behind(e))];
  const ratio = (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
  if (ratio < 4.5) bad.add(`${ratio.toFixed(2)}: ${e.tagName}.${e.className} ${walker.currentNode.textContent.trim().slice(0, 40)}`);
}
return [...bad];
"#;

/// Elements that stick out of the window to the side, and are not inside a box that scrolls. In a wide window no table
/// has to scroll.
const CUT_OFF: &str = r##"
const boxes = innerWidth < 1280 ? [] : [...document.querySelectorAll(".table-box")].filter((e) => e.scrollWidth > e.clientWidth + 1);
if (boxes.length) return boxes.map((e) => `a table is ${e.scrollWidth} wide in ${e.clientWidth}: ${e.innerText.slice(0, 80)}`);
const wide = document.documentElement.scrollWidth;
return wide <= innerWidth ? [] : [`${wide} wide in ${innerWidth}`, ...[...document.querySelectorAll("#app *")].filter((e) => e.getBoundingClientRect().right > innerWidth + 1).slice(0, 5).map((e) => e.outerHTML.slice(0, 140))];
"##;

/// Words broken into a letter or two per line, and a header that fills the window of a phone.
const SQUEEZED: &str = r##"
const bad = new Set();
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode;
  const length = node.textContent.trim().length;
  if (length < 6 || !node.parentElement.checkVisibility() || node.parentElement.closest("svg, .sr, noscript, table.cards thead")) continue;
  const range = document.createRange();
  range.selectNodeContents(node);
  const lines = new Set([...range.getClientRects()].map((r) => Math.round(r.top))).size;
  if (lines > 2 && length / lines < 4) bad.add(`${lines} lines: ${node.textContent.slice(0, 40)}`);
}
const side = document.querySelector(".shell > .side");
if (side && innerWidth < 760 && side.offsetHeight > 120) bad.add(`the head is ${side.offsetHeight} high`);
return [...bad];
"##;

pub fn check(browser: &Browser, page: &str) {
    for (what, script) in [("unnamed", UNNAMED), ("faint", FAINT), ("cut off", CUT_OFF), ("squeezed", SQUEEZED)] {
        assert_eq!(browser.run(script, json!([])), json!([]), "{what} on {page}");
    }
}

#[test]
fn every_page_is_whole_named_and_readable() {
    let server = Server::start_with(Options::args(&["--demo"]));
    let operator = server.operator();
    let agents = operator.get("/v1/agents?tenantId=acme").items();
    let id = |name: &str| agents.iter().find(|agent| agent["name"] == name).unwrap()["id"].as_str().unwrap().to_owned();
    let made = agents[0]["createdAt"].as_str().unwrap().to_owned();
    let (lent, filer) = (id("summarizer"), id("report-filer"));
    operator.post("/v1/tenants/acme/keys", json!({ "name": "billing service" })).expect(201);
    let gateway = json!({ "name": "gateway in Frankfurt", "role": "caller", "expiresAt": "2099-01-31T12:00:00Z" });
    operator.post("/v1/tenants/acme/keys", gateway).expect(201);
    for (name, role) in [("Ada", "admin"), ("Bob of the auditors", "auditor")] {
        let made = operator.post("/v1/keys", json!({ "name": name, "role": role })).expect(201);
        operator.acting_for(made["key"].as_str().unwrap()).get("/v1/keys").expect(200);
    }
    furnish(&operator);
    let denied = operator.get("/v1/audit?tenantId=acme&result=denied&limit=1").items()[0]["id"].clone();
    let denied = denied.as_str().unwrap();
    let why = format!(
        "#/why?agentId={filer}&action=read&resource=mcp%3Afilesystem%3Aread_text_file&arguments=%7B%22path%22%3A%22%2Fetc%2Fpasswd%22%7D"
    );
    let pages: Vec<(&str, String)> = vec![
        ("overview", "#/overview".into()),
        ("overview-tenant", "#/overview?tenantId=acme".into()),
        ("tenants", "#/tenants".into()),
        ("tenant", "#/tenants/acme/agents".into()),
        ("policies", "#/tenants/acme/policies".into()),
        ("delegations", "#/tenants/acme/delegations".into()),
        ("webhooks", "#/tenants/acme/webhooks".into()),
        ("keys", "#/tenants/acme/keys".into()),
        ("operator-keys", "#/keys".into()),
        ("tenant-audit", "#/tenants/acme/audit".into()),
        ("settings", "#/tenants/acme/settings".into()),
        ("agents", "#/agents".into()),
        ("new-agent", "#/agents/new".into()),
        ("agent", format!("#/agents/{lent}")),
        ("spend", "#/spend".into()),
        ("spend-tenant", "#/spend?tenantId=acme&period=7&by=agent".into()),
        ("spend-custom", "#/spend?period=custom&since=2026-01-01&until=2026-12-31&by=resource".into()),
        ("invoice", format!("#/invoice/acme/{}", &made[..7])),
        ("audit", "#/audit".into()),
        ("audit-entry", format!("#/audit/{denied}")),
        ("why", why),
    ];

    let browser = Browser::start(&server);
    for (look, width, dark) in [
        ("wide-light", 1280, false),
        ("wide-dark", 1280, true),
        ("narrow-light", 390, false),
        ("narrow-dark", 390, true),
    ] {
        browser.look_like(width, dark);
        if look == "wide-light" {
            browser.open();
            browser.find("input", Some("Operator or tenant key"));
            check(&browser, "sign-in");
            browser.picture("sign-in-wide-light");
            browser.sign_in(OPERATOR_KEY);
        }
        for (name, hash) in &pages {
            // Some traffic for the pages to show.
            traffic(&server, &agents);
            browser.go("#/none");
            browser.sees("there is no such page");
            browser.go(hash);
            if *name == "why" {
                browser.until("it is explained", "return document.querySelector('[data-verdict]') !== null");
            }
            check(&browser, &format!("{name} {look}"));
            browser.picture(&format!("{name}-{look}"));
            // What opens on that page.
            let opened = match *name {
                "policies" => "Edit",
                "webhooks" => "Messages",
                _ => continue,
            };
            browser.run(MESSAGES, json!([]));
            browser.run("[...document.querySelectorAll('main button')].filter((one) => one.innerText === arguments[0]).at(-1).click()", json!([opened]));
            browser.until("it is open", "return !!document.querySelector('dialog[open]')");
            browser.run("for (const part of document.querySelectorAll('dialog details')) part.open = true;", json!([]));
            check(&browser, &format!("the dialog of {name} {look}"));
            browser.picture(&format!("{name}-dialog-{look}"));
        }
    }

    // A dialog too, and a choice of theme that is kept.
    browser.go("#/tenants");
    browser.click("New tenant");
    check(&browser, "the dialog");
    browser.picture("dialog-narrow-dark");
    browser.click("Cancel");
    browser.go("#/keys");
    browser.click("New key");
    check(&browser, "the dialog of a key");
    browser.picture("key-dialog-narrow-dark");
    browser.click("Cancel");
    browser.go("#/tenants");
    browser.click("Light or dark");
    browser.until("it is light", "return document.documentElement.dataset.theme === 'light' && getComputedStyle(document.body).backgroundColor === 'rgb(247, 247, 249)'");
    browser.open();
    browser.until("it is still light", "return document.documentElement.dataset.theme === 'light'");
    browser.at("#/overview");
    browser.check_records();
}

/// What the demo lacks: a policy with everything that one can have, labels, and webhooks that fare differently.
fn furnish(operator: &Client) {
    let filer = operator.get("/v1/agents?tenantId=acme&userId=ops").items()[0]["id"].as_str().unwrap().to_owned();
    let labels = json!({ "team": "release-engineering", "env": "production" });
    operator.patch(&format!("/v1/agents/{filer}"), json!({ "labels": labels })).expect(200);
    let limits = json!({ "maxCallsPerHour": 120, "maxCallsTotal": 100_000, "maxTokensCostPerWeek": 12.5, "maxTokensCostTotal": "1500.000001" });
    let meanwhile =
        json!({ "limits": { "maxCallsPerHour": 240, "maxTokensCostPerWeek": null }, "until": "2099-01-01T00:00:00Z" });
    let policy = json!({
        "tenantId": "acme", "limits": limits, "action": "throttle", "labels": labels, "resource": "mcp:github:*",
        "actions": ["read", "execute"], "timeZone": "America/Argentina/Buenos_Aires", "weekStartsOn": "sunday",
        "monthStartsOn": 28, "temporary": meanwhile, "thresholds": [50, 75, 90, 100, 120],
    });
    operator.post("/v1/policies", policy).expect(201);
    let webhooks = [
        json!({ "tenantId": "acme", "url": "https://hooks.slack.invalid/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX", "events": ["budget.threshold"], "format": "slack", "description": "To the channel of whoever is on call" }),
        json!({ "tenantId": "acme", "url": "https://kavach.invalid/hook", "events": ["budget.*", "agent.revoked", "key.created"] }),
    ];
    for webhook in webhooks {
        operator.post("/v1/webhooks", webhook).expect(201);
    }
}

/// Shows messages of every kind. That one is given up takes a day.
const MESSAGES: &str = r#"
const real = window.fetch;
const at = (minutes) => new Date(Date.now() - minutes * 60000).toISOString();
const message = (id, type, status, rest) => ({ id: `msg_01a22b9080f57000800000${id}9aaa2a6f`, type, status, attempts: null, httpStatus: null, problem: null, finishedAt: null, ...rest });
const messages = [
  message("1a", "webhook.test", "pending", { createdAt: at(0) }),
  message("19", "budget.threshold", "delivered", { createdAt: at(7), attempts: 1, httpStatus: 204, finishedAt: at(7) }),
  message("18", "agent.revoked", "dead", { createdAt: at(1700), attempts: 9, httpStatus: 503, problem: "it answered 503 Service Unavailable instead of a status from 200 to 299", finishedAt: at(260) }),
];
window.fetch = (url, ...rest) => String(url).includes("/deliveries") ? Promise.resolve(new Response(JSON.stringify(messages), { headers: { "Content-Type": "application/json" } })) : real(url, ...rest);
"#;

/// Some calls of all agents.
fn traffic(server: &Server, agents: &[Value]) {
    let call = |agent: &Value, n: usize| {
        let (action, resource) = [
            ("read", "mcp:github:list_issues"),
            ("read", "mcp:fetch:fetch"),
            ("execute", "mcp:git:git_push"),
            ("read", "mcp:memory:read_graph"),
        ][n % 4];
        json!({ "agentId": agent["id"], "action": action, "resource": resource })
    };
    let requests: Vec<_> = (0..3).flat_map(|n| agents.iter().map(move |agent| call(agent, n))).collect();
    server.operator().post("/v1/authorize/batch", json!({ "requests": requests })).expect(200);
}

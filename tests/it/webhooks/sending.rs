//! What is sent, in which order, and what becomes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::{Value, json};

use super::endpoint::{Endpoint, Reply};
use super::{id, server};
use crate::client::Client;
use crate::harness::{Options, Server, eventually};

#[test]
fn changes_are_told_in_order_and_signed() {
    let server = server();
    let operator = server.operator();
    let (acme, other) = (operator.tenant("acme"), operator.tenant("other"));
    let endpoint = Endpoint::start();
    let made = operator.webhook(&acme.id, &endpoint.url(), &["*"]);
    let secret = made["secret"].as_str().unwrap();
    assert!(secret.starts_with("whsec_"));
    let agent = operator.reader(&acme);
    // Another tenant's changes are not told.
    operator.reader(&other);
    operator.patch(&format!("/v1/agents/{}", agent.id), json!({ "name": "Ünïcode ☃" })).expect(200);
    operator.delete(&format!("/v1/agents/{}?reason=left", agent.id)).expect(204);
    let got = endpoint.wait_for(3);
    let types: Vec<_> = got.iter().map(|request| request.json()["type"].clone()).collect();
    assert_eq!(types, ["agent.created", "agent.updated", "agent.revoked"]);
    for request in &got {
        assert_eq!(request.line, "POST /hook?a=b HTTP/1.1");
        assert_eq!(request.header("content-type"), "application/json");
        assert_eq!(request.header("host"), format!("127.0.0.1:{}", endpoint.port()));
        assert!(request.is_signed_by(secret));
        let (body, entry) = (request.json(), request.json()["data"]["id"].as_str().unwrap().to_owned());
        assert_eq!(body["timestamp"], body["data"]["timestamp"]);
        assert_eq!(body["data"], operator.get(&format!("/v1/audit/{entry}")).expect(200));
        // The message's id tells of the same event.
        assert_eq!(request.id().replace("msg_", "aud_"), entry);
    }
    assert_eq!(got[1].json()["data"]["parameters"]["name"], "Ünïcode ☃");
    assert_eq!(got[2].json()["data"]["reason"], "left");
    operator.drained(&made);
    let delivered = operator.deliveries(&made, "delivered");
    let ids: Vec<_> = delivered.iter().rev().map(|delivery| delivery["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, got.iter().map(|request| request.id().to_owned()).collect::<Vec<_>>());
    assert!(delivered.iter().all(|delivery| delivery["httpStatus"] == 204 && delivery["attempts"] == 1));
    // The trail has them, where it is asked for them.
    let trail = operator.trail(&format!("tenantId={}&kind=delivery", acme.id));
    assert_eq!(trail.len(), 3);
    assert!(trail.iter().all(|entry| entry["action"] == "webhook.deliver" && entry["resource"] == made["id"]));
    assert_eq!(trail[0]["ref"], got[2].json()["data"]["id"]);
    let usual = operator.trail(&format!("tenantId={}&kind=admin", acme.id));
    assert!(usual.iter().all(|entry| entry["kind"] == "admin"));
    let shown = operator.get(&format!("/v1/webhooks/{}", id(&made))).expect(200);
    assert_eq!(
        (&shown["pending"], &shown["lastOutcome"], &shown["secret"]),
        (&json!(0), &json!("delivered"), &json!(""))
    );
}

#[test]
fn a_webhook_gets_only_what_it_asks_for_in_its_format() {
    let server = server();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let (some, slack) = (Endpoint::start(), Endpoint::start());
    let made = operator.webhook(&acme.id, &some.url(), &["key.*", "agent.revoked"]);
    let body = json!({ "tenantId": "acme", "url": slack.url(), "events": ["agent.created"], "format": "slack" });
    let to_slack = operator.post("/v1/webhooks", body).expect(201);
    let agent = operator.reader(&acme);
    operator.delete(&format!("/v1/agents/{}", agent.id)).expect(204);
    let key = operator.post("/v1/tenants/acme/keys", json!({ "name": "k" })).expect(201);
    operator.drained(&made);
    operator.drained(&to_slack);
    let types: Vec<_> = some.taken().iter().map(|request| request.json()["type"].clone()).collect();
    assert_eq!(types, ["agent.revoked", "key.created"]);
    // No secret is told.
    let told = String::from_utf8(some.taken()[1].body.clone()).unwrap();
    assert!(!told.contains(key["key"].as_str().unwrap()), "{told}");
    let [message] = &slack.taken()[..] else { panic!("{:?}", slack.taken()) };
    assert!(message.json()["text"].as_str().unwrap().contains(&agent.id));
    assert!(message.json()["blocks"].as_array().is_some_and(|blocks| !blocks.is_empty()));
    assert!(message.is_signed_by(to_slack["secret"].as_str().unwrap()));
}

#[test]
fn after_a_test_message_failed_the_waits_are_short_again() {
    // With the waits of a real server. Whoever tries out a webhook has it tried twice at once, and the third attempt is
    // seconds later, not the 5 minutes that follow a second failure. There are several, since the courier may hear of the
    // message before it hears of the nudge, or of both together.
    let server = Server::start_with(Options::args(&["--webhook-allow", "127.0.0.0/8"]));
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let fails_twice = |attempts| if attempts < 2 { Reply::Status(500) } else { Reply::Status(204) };
    let endpoints: Vec<_> = (0..12).map(|_| Endpoint::answering(fails_twice)).collect();
    for endpoint in &endpoints {
        let made = operator.webhook(&acme.id, &endpoint.url(), &["agent.*"]);
        operator.post(&format!("/v1/webhooks/{}/test", id(&made)), json!({})).expect(202);
    }
    for endpoint in &endpoints {
        endpoint.wait_for(1);
    }
}

#[test]
fn a_message_is_sent_again_although_whoever_asked_for_it_left() {
    actix_rt::System::new().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let app = open(folder.path()).await;
        let kavach = app.kavach();
        let endpoint = Endpoint::start();
        let new = json!({ "url": endpoint.url(), "events": ["key.created"] });
        let made = kavach.webhooks().create(serde_json::from_value(new).unwrap()).await.unwrap();
        let webhook = made.view.profile.id.to_string();
        let message = kavach.webhooks().test(&webhook).await.unwrap().id.to_string();
        while kavach.webhooks().get(&webhook).await.unwrap().waiting > 0 {
            actix_rt::task::yield_now().await;
        }
        {
            // It is asked, and its answer is not waited for.
            let webhooks = kavach.webhooks();
            let mut asked = std::pin::pin!(webhooks.redeliver(&webhook, &message));
            std::future::poll_fn(|context| std::task::Poll::Ready(asked.as_mut().poll(context).is_pending())).await;
        }
        wait(|| endpoint.taken().len() == 2).await;
        app.close().await;
    });
}

#[test]
fn a_failing_endpoint_holds_up_only_its_own_messages() {
    let server = server();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    // Of each kind of bad endpoint one, and a good one beside them, in the same tenant.
    let bad = [
        Reply::Nothing,
        Reply::EndlessHead,
        Reply::Close,
        Reply::Status(500),
        Reply::Status(199),
        Reply::Redirect("https://example.com/".into()),
    ];
    let bad: Vec<_> = bad.into_iter().map(|reply| Endpoint::answering(move |_| reply.clone())).collect();
    let webhooks: Vec<_> = bad.iter().map(|endpoint| operator.webhook("acme", &endpoint.url(), &["*"])).collect();
    let good = Endpoint::start();
    let made = operator.webhook("acme", &good.url(), &["agent.*"]);
    for _ in 0..5 {
        operator.reader(&acme);
    }
    assert_eq!(good.wait_for(5).len(), 5);
    operator.drained(&made);
    for (endpoint, webhook) in bad.iter().zip(&webhooks) {
        eventually("it was tried", || (!endpoint.received().is_empty()).then_some(()));
        let pending = operator.deliveries(webhook, "pending");
        // Nothing was taken, and what comes first is tried first.
        assert!(pending.len() >= 5, "{pending:?}");
        let first = pending.last().unwrap()["id"].as_str().unwrap();
        assert!(endpoint.received().iter().all(|request| request.id() == first));
    }
    let metrics = server.anonymous().get("/metrics").text();
    let value = |name: &str| -> f64 {
        let line = metrics.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
        line.split_once(' ').unwrap().1.parse().unwrap()
    };
    assert!(value("kavach_webhook_deliveries_total") >= 5.0 && value("kavach_webhook_failures_total") >= 1.0);
    assert!(value("kavach_webhook_pending") >= 5.0 && value("kavach_webhook_dead_letters_total") == 0.0);
}

#[test]
fn a_webhook_says_why_its_last_attempt_failed_while_it_goes_on() {
    let mut server = server();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let status = Arc::new(AtomicU16::new(503));
    let answer = Arc::clone(&status);
    let endpoint = Endpoint::answering(move |_| Reply::Status(answer.load(Ordering::Relaxed)));
    let made = operator.webhook("acme", &endpoint.url(), &["agent.*"]);
    let path = format!("/v1/webhooks/{}", id(&made));
    assert_eq!((&made["lastOutcome"], &made["lastProblem"]), (&Value::Null, &Value::Null));
    operator.reader(&acme);
    operator.reader(&acme);
    let shows = |operator: &Client, problem: &str| {
        eventually("the attempt shows", || {
            let shown = operator.get(&path).expect(200);
            let listed = operator.get("/v1/webhooks?tenantId=acme").items().remove(0);
            let is_so = |webhook: &Value| webhook["lastOutcome"] == "failed" && webhook["lastProblem"] == problem;
            (is_so(&shown) && is_so(&listed)).then_some(shown)
        })
    };
    let shown = shows(&operator, "it answered 503");
    assert!(shown["lastOutcomeAt"].as_str().unwrap() >= made["createdAt"].as_str().unwrap(), "{shown}");
    // The message that is tried says so too, and the one behind it was not sent.
    let [second, first] = &operator.deliveries(&made, "pending")[..] else { panic!("two wait") };
    assert_eq!((&first["httpStatus"], &first["problem"]), (&json!(503), &json!("it answered 503")));
    assert!(first["attempts"].as_u64().unwrap() > 0 && first["finishedAt"].is_null(), "{first}");
    assert_eq!((&second["attempts"], &second["problem"]), (&Value::Null, &Value::Null));
    // The newest attempt counts, also after a restart, and nothing of it is in the trail.
    status.store(500, Ordering::Relaxed);
    shows(&operator, "it answered 500");
    server.stop();
    server.start_again();
    let operator = server.operator();
    shows(&operator, "it answered 500");
    assert!(operator.trail("tenantId=acme&kind=delivery").is_empty());
    status.store(204, Ordering::Relaxed);
    operator.drained(&made);
    let shown = operator.get(&path).expect(200);
    assert_eq!((&shown["lastOutcome"], &shown["lastProblem"]), (&json!("delivered"), &Value::Null));
}

#[test]
fn an_answer_without_end_is_taken_for_what_its_head_says() {
    let server = server();
    let operator = server.operator();
    operator.tenant("acme");
    let endpoint = Endpoint::answering(|_| Reply::EndlessBody);
    let made = operator.webhook("acme", &endpoint.url(), &["agent.*"]);
    operator.post(&format!("/v1/webhooks/{}/test", id(&made)), json!({})).expect(202);
    operator.drained(&made);
    assert_eq!(operator.deliveries(&made, "delivered")[0]["httpStatus"], 200);
}

#[test]
fn a_test_message_and_its_redelivery_are_sent_once_for_each_key() {
    let mut server = server();
    let operator = server.operator();
    operator.tenant("acme");
    let endpoint = Endpoint::start();
    let made = operator.webhook("acme", &endpoint.url(), &["agent.*"]);
    let path = format!("/v1/webhooks/{}", id(&made));
    let once = |client: &Client, key: &str, path: &str| {
        let answer = client.try_send("POST", path, &[("Idempotency-Key", key.as_bytes())], None).unwrap();
        (answer.expect(202), answer.header("idempotent-replayed").is_some())
    };
    let (sent, is_repeat) = once(&operator, "test", &format!("{path}/test"));
    assert_eq!((is_repeat, &sent["status"]), (false, &json!("pending")));
    operator.drained(&made);
    // It was delivered meanwhile, and the answer is what it was.
    assert_eq!(once(&operator, "test", &format!("{path}/test")), (sent.clone(), true));
    let again = format!("{path}/deliveries/{}/redeliver", id(&sent));
    let (redelivered, is_repeat) = once(&operator, "again", &again);
    assert_eq!((is_repeat, id(&redelivered), &redelivered["status"]), (false, id(&sent), &json!("pending")));
    operator.drained(&made);
    assert_eq!(once(&operator, "again", &again), (redelivered.clone(), true));
    let taken = endpoint.taken();
    assert_eq!(taken.iter().map(|request| request.id().to_owned()).collect::<Vec<_>>(), [id(&sent); 2]);
    server.stop();
    server.start_again();
    let operator = server.operator();
    assert_eq!(once(&operator, "test", &format!("{path}/test")), (sent.clone(), true));
    assert_eq!(once(&operator, "again", &again), (redelivered, true));
    operator
        .try_send("POST", &again, &[("Idempotency-Key", b"test")], None)
        .unwrap()
        .problem(422, "IDEMPOTENCY_KEY_REUSED");
    operator.drained(&made);
    assert_eq!(endpoint.taken().len(), 2);
    let trail = operator.trail("tenantId=acme&kind=admin&actions=webhook.redeliver");
    let noted: Vec<_> = trail.iter().map(|entry| (&entry["resource"], &entry["parameters"]["message"])).collect();
    assert_eq!(noted, [(&made["id"], &sent["id"])]);
    // A new secret comes once, too, and its first answer is told without it.
    let rotate = |key: &str| {
        let path = format!("{path}/rotate");
        let answer = operator.try_send("POST", &path, &[("Idempotency-Key", key.as_bytes())], None).unwrap();
        answer.expect(200)
    };
    let first = rotate("rotate");
    assert_ne!(first["secret"], made["secret"]);
    let repeated = rotate("rotate");
    assert_eq!((&repeated["secret"], &repeated["updatedAt"]), (&json!(""), &first["updatedAt"]));
    operator.post(&format!("{path}/test"), json!({})).expect(202);
    let last = endpoint.wait_for(3).pop().unwrap();
    assert!(last.is_signed_by(first["secret"].as_str().unwrap()), "the secret is still the first rotation's");
}

#[test]
fn a_message_is_given_up_after_a_day_and_sent_again_on_demand() {
    // The clock is the server's own, so this one is in process.
    actix_rt::System::new().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let app = open(folder.path()).await;
        let kavach = app.kavach();
        let good = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let is_good = std::sync::Arc::clone(&good);
        let endpoint = Endpoint::answering(move |_| {
            Reply::Status(if is_good.load(std::sync::atomic::Ordering::Relaxed) { 200 } else { 503 })
        });
        let new = json!({ "url": endpoint.url(), "events": ["key.created"] });
        let made = kavach.webhooks().create(serde_json::from_value(new).unwrap()).await.unwrap();
        let webhook = made.view.profile.id.to_string();
        let first = kavach.webhooks().test(&webhook).await.unwrap();
        wait(|| !endpoint.received().is_empty()).await;
        // The clock follows jumps of less than an hour at once.
        for _ in 0..25 {
            kavach.inject_clock_step(59 * 60 * 1_000);
            kavach.webhooks().get(&webhook).await.unwrap();
        }
        let dead = loop {
            let status = Some(kavach::domain::webhook::commands::DeliveryStatus::Dead);
            let filter = kavach::service::DeliveryFilter { status, ..Default::default() };
            let page = kavach.webhooks().deliveries(&webhook, filter).await.unwrap();
            if let Some(dead) = page.items.into_iter().next() {
                break dead;
            }
            // Whoever changes a webhook has it tried at once.
            kavach.webhooks().update(&webhook, Default::default()).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        };
        assert_eq!((dead.id, dead.http_status), (first.id, Some(503)));
        assert_eq!(dead.problem.as_deref(), Some("it answered 503"));
        good.store(true, std::sync::atomic::Ordering::Relaxed);
        kavach.webhooks().redeliver(&webhook, &first.id.to_string()).await.unwrap();
        wait(|| !endpoint.taken().is_empty()).await;
        assert_eq!(endpoint.taken()[0].id(), first.id.to_string());
        let bodies: std::collections::HashSet<_> =
            endpoint.received().into_iter().map(|request| request.body).collect();
        assert_eq!(bodies.len(), 1, "the same body each time");
        app.close().await;
    });
}

/// A server in this process, which may send messages to it.
async fn open(data: &std::path::Path) -> kavach::App {
    let mut settings = kavach::ServerSettings::new(data);
    settings.webhook_allow = vec!["127.0.0.0/8".parse().unwrap()];
    kavach::App::open(&settings).await.unwrap()
}

async fn wait(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[test]
fn a_disabled_webhook_is_told_nothing_and_one_that_comes_back_goes_on() {
    let server = server();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let endpoint = Endpoint::answering(|before| Reply::Status(if before == 0 { 500 } else { 200 }));
    let made = operator.webhook("acme", &endpoint.url(), &["agent.created"]);
    let path = format!("/v1/webhooks/{}", id(&made));
    operator.patch(&path, json!({ "status": "disabled" })).expect(200);
    operator.reader(&acme);
    operator.post(&format!("{path}/test"), json!({})).problem(409, "WEBHOOK_DISABLED");
    operator.patch(&path, json!({ "status": "active" })).expect(200);
    let agent = operator.reader(&acme);
    let taken = endpoint.wait_for(1);
    assert_eq!(taken[0].json()["data"]["resource"], agent.id.as_str());
    operator.drained(&made);
    assert_eq!(endpoint.taken().len(), 1);
    operator.delete(&path).expect(204);
    operator.get(&path).problem(404, "WEBHOOK_NOT_FOUND");
    operator.reader(&acme);
    assert_eq!(endpoint.taken().len(), 1);
}

#[test]
fn a_tenant_key_keeps_to_its_own_tenant_and_to_what_keys_set() {
    let server = server();
    let operator = server.operator();
    let (acme, other) = (operator.tenant("acme"), operator.tenant("other"));
    let (key, foreign) = (server.with_key(&acme.key), server.with_key(&other.key));
    let endpoint = Endpoint::start();
    let own = key.post("/v1/webhooks", json!({ "url": endpoint.url(), "events": ["*"] })).expect(201);
    assert_eq!(own["tenantId"], acme.id.as_str());
    key.post("/v1/webhooks", json!({ "tenantId": other.id, "url": endpoint.url(), "events": ["*"] }))
        .problem(403, "TENANT_MISMATCH");
    let set = operator.webhook("acme", &endpoint.url(), &["key.created"]);
    let path = format!("/v1/webhooks/{}", id(&set));
    // It sees that there is one, but not where it leads.
    let seen = key.get(&path).expect(200);
    assert_eq!(seen["url"], format!("http://127.0.0.1:{}/...", endpoint.port()));
    assert_eq!(key.get("/v1/webhooks").items()[1]["url"], seen["url"]);
    assert_eq!(operator.get(&path).expect(200)["url"], endpoint.url());
    key.patch(&path, json!({ "url": "https://example.com/" })).problem(403, "FORBIDDEN");
    key.delete(&path).problem(403, "FORBIDDEN");
    for action in ["rotate", "test"] {
        key.post(&format!("{path}/{action}"), json!({})).problem(403, "FORBIDDEN");
        foreign.post(&format!("{path}/{action}"), json!({})).problem(404, "WEBHOOK_NOT_FOUND");
    }
    foreign.get(&format!("{path}/deliveries")).problem(404, "WEBHOOK_NOT_FOUND");
    assert!(foreign.get("/v1/webhooks").items().is_empty());
    // The trail of changes does not show it either.
    let trail = key.trail("kind=admin&actions=webhook.create");
    assert!(trail.iter().all(|entry| !entry["parameters"]["url"].as_str().unwrap().contains("hook?")));
}

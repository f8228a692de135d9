//! `kill -9` under load: what was acknowledged is there, once, in the trail and in the counters.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::client::Client;
use crate::harness::{Options, Server, eventually};
use crate::world::{Agent, audit_id};

/// The answers of a server under load.
#[derive(Default)]
pub struct Answers {
    /// Entries of calls that were allowed.
    pub granted: Vec<String>,
    /// Entries of calls that were denied.
    pub denied: Vec<String>,
    /// Answers without a decision, by code; a broken connection has none.
    pub refused: Vec<Option<String>>,
}

impl Answers {
    pub fn all(&self) -> impl Iterator<Item = &String> {
        self.granted.iter().chain(&self.denied)
    }

    fn take(&mut self, answer: Result<crate::client::Answer, String>) -> bool {
        let Ok(answer) = answer else {
            self.refused.push(None);
            return false;
        };
        if answer.status != 200 {
            assert_eq!(answer.status, 503, "{}", answer.text());
            self.refused.push(answer.code());
            return false;
        }
        let body = answer.json();
        let decisions = body["results"].as_array().cloned().unwrap_or_else(|| vec![body]);
        for decision in decisions {
            let list = if decision["allowed"] == true { &mut self.granted } else { &mut self.denied };
            list.push(audit_id(&decision));
        }
        true
    }
}

/// Loads the server from several threads for as long as it answers, and runs `end` after `calls` answers.
pub fn under_load(clients: &[Client], calls: usize, end: impl FnOnce()) -> Answers {
    let answers = Mutex::new(Answers::default());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (n, client) in clients.iter().enumerate() {
            let (answers, stop) = (&answers, &stop);
            scope.spawn(move || {
                for call in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let action = if call % 5 == 4 { "drop" } else { "read" };
                    let one = json!({ "action": action, "resource": format!("docs:{n}:{call}") });
                    let answer = if call % 7 == 6 {
                        let body = json!({ "requests": vec![one; 10] }).to_string();
                        client.try_send("POST", "/v1/authorize/batch", &[], Some(body.as_bytes()))
                    } else {
                        client.try_send("POST", "/v1/authorize", &[], Some(one.to_string().as_bytes()))
                    };
                    if !answers.lock().unwrap().take(answer) && stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
        }
        eventually("enough calls are answered", || (answers.lock().unwrap().granted.len() >= calls).then_some(()));
        end();
        stop.store(true, Ordering::Relaxed);
    });
    answers.into_inner().unwrap()
}

/// An agent with a window that counts all its calls and never fills up.
pub fn counted(operator: &Client, tenant: &str) -> Agent {
    let constraints = json!({ "maxCallsPerHour": 1_000_000 });
    operator.agent(tenant, json!([{ "resource": "docs:*", "actions": ["read"], "constraints": constraints }]))
}

/// Calls of the agent counted in its window.
pub fn used(operator: &Client, agent: &str) -> usize {
    let body = json!({ "agentId": agent, "action": "read", "resource": "docs:1" });
    let explained = operator.post("/v1/authorize/explain", body).expect(200);
    let steps = explained["steps"].as_array().unwrap();
    let step = steps.iter().find(|step| step["check"] == "maxCallsPerHour").unwrap_or_else(|| panic!("{explained}"));
    step["detail"].as_str().unwrap().split(' ').next().unwrap().parse().unwrap()
}

/// Checks that every answer is in the trail, once and unchanged, and that the window counts what the trail has.
pub fn check_trail(operator: &Client, agent: &str, answers: &Answers) -> Vec<Value> {
    let trail = operator.trail(&format!("agentId={agent}"));
    let ids: HashSet<_> = trail.iter().map(|entry| entry["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), trail.len(), "an entry is there twice");
    let with = |result: &str| -> HashSet<_> {
        trail.iter().filter(|entry| entry["result"] == result).map(|entry| entry["id"].as_str().unwrap()).collect()
    };
    let (allowed, denied) = (with("allowed"), with("denied"));
    for (ids, found) in [(&answers.granted, &allowed), (&answers.denied, &denied)] {
        let distinct: HashSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len(), "two calls got one entry");
        let lost: Vec<_> = ids.iter().filter(|id| !found.contains(id.as_str())).collect();
        assert!(lost.is_empty(), "{} of {} are lost: {lost:?}", lost.len(), ids.len());
    }
    assert_eq!(used(operator, agent), allowed.len(), "the window counts each granted call once");
    trail
}

fn kill_under_load(options: Options, rounds: usize) {
    let mut server = Server::start_with(options);
    server.operator().tenant("acme");
    let agent = counted(&server.operator(), "acme");
    let mut all = Answers::default();
    for _ in 0..rounds {
        let clients: Vec<_> = (0..6).map(|_| server.with_key(&agent.token)).collect();
        let answers = under_load(&clients, 150, || server.kill());
        assert!(
            answers.refused.iter().all(Option::is_none),
            "before the end every call was answered: {:?}",
            answers.refused
        );
        all.granted.extend(answers.granted);
        all.denied.extend(answers.denied);
        server.start_again();
        let trail = check_trail(&server.operator(), &agent.id, &all);
        // Beyond those, at most the calls under way are there: six threads with a batch of ten.
        assert!(trail.len() <= all.all().count() + 60 * rounds, "{} {}", trail.len(), all.all().count());
    }
}

#[test]
fn killed_under_load_nothing_acknowledged_is_lost_or_doubled() {
    kill_under_load(Options::default(), 3);
}

#[test]
fn nor_when_each_decision_waits_for_the_disk() {
    kill_under_load(Options::args(&["--durability", "fsync"]), 2);
}

#[test]
fn acknowledged_changes_survive_a_kill() {
    let mut server = Server::start();
    let operator = server.operator();
    let acme = operator.tenant("acme");
    let made = Mutex::new(Vec::new());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for n in 0..4 {
            let (operator, made, stop) = (operator.clone(), &made, &stop);
            scope.spawn(move || {
                for m in 0.. {
                    let slug = format!("t-{n}-{m}");
                    let body = json!({ "name": slug, "slug": slug }).to_string();
                    let tenant = operator.try_send("POST", "/v1/tenants", &[], Some(body.as_bytes()));
                    let body =
                        json!({ "tenantId": "acme", "ownerId": slug, "name": "b", "type": "service" }).to_string();
                    let agent = operator.try_send("POST", "/v1/agents", &[], Some(body.as_bytes()));
                    for (path, answer) in [("tenants", tenant), ("agents", agent)] {
                        match answer {
                            Ok(answer) => made.lock().unwrap().push((path, answer.expect(201))),
                            Err(_) if stop.load(Ordering::Relaxed) => return,
                            Err(_) => {}
                        }
                    }
                }
            });
        }
        eventually("enough is made", || (made.lock().unwrap().len() >= 40).then_some(()));
        stop.store(true, Ordering::Relaxed);
        server.kill();
    });
    server.start_again();
    let operator = server.operator();
    let made = made.into_inner().unwrap();
    for (path, thing) in &made {
        let found = operator.get(&format!("/v1/{path}/{}", thing["id"].as_str().unwrap())).expect(200);
        let mut shown = thing.clone();
        if let Some(token) = shown.get_mut("token") {
            server
                .with_key(token.as_str().unwrap())
                .denied(json!({ "action": "a", "resource": "b" }), "PERMISSION_DENIED");
            *token = json!("");
            assert!(found["createdAt"].is_string());
            shown["lastActiveAt"] = found["lastActiveAt"].clone();
        }
        assert_eq!(found, shown);
    }
    // Anything else there is complete: it can be listed, and its slug is taken.
    let tenants = operator.get("/v1/tenants").items();
    let slugs: HashSet<_> = tenants.iter().map(|tenant| tenant["slug"].as_str().unwrap()).collect();
    assert_eq!(slugs.len(), tenants.len());
    assert!(operator.get("/v1/agents?tenantId=acme").items().len() >= 20);
    server.with_key(&acme.key).get("/v1/tenants").expect(200);
    assert_eq!(server.operator().get("/readyz").expect(200)["unavailableTenants"], json!([]));
}

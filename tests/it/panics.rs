//! A panic inside one tenant's actor, in process: callers get an answer or a 503, and no other tenant notices.

use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use kavach::{Kavach, ServerSettings};
use tokio::sync::oneshot;

use crate::client::Client;
use crate::crash::{Answers, check_trail, counted, under_load};
use crate::harness::{OPERATOR_KEY, eventually};
use crate::world::call;

/// A server inside this process.
pub struct InProcess {
    pub kavach: Kavach,
    pub base: String,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// The settings of a server in this process, with that data directory.
pub fn settings(home: &Path) -> ServerSettings {
    let mut settings = ServerSettings::new(home);
    settings.operator_key = Some(OPERATOR_KEY.parse().unwrap());
    settings
}

pub fn start(settings: ServerSettings) -> InProcess {
    let (started, starts) = mpsc::channel();
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::spawn(move || {
        actix_rt::System::new().block_on(async move {
            // A server that just stopped may hold the directory's lock until its threads have ended.
            let mut tries = 0..10_000;
            let server = loop {
                match kavach::Server::start(&settings).await {
                    Err(problem) if problem.kind() == std::io::ErrorKind::ResourceBusy && tries.next().is_some() => {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    started => break started.unwrap(),
                }
            };
            started.send((server.app().kavach(), format!("http://{}", server.address()))).unwrap();
            stopped.await.unwrap();
            server.stop().await;
        });
    });
    let (kavach, base) = starts.recv().unwrap();
    InProcess { kavach, base, stop, thread }
}

impl InProcess {
    /// Ends it and releases everything, including the directory's lock.
    pub fn end(self) {
        let Self { kavach, base: _, stop, thread } = self;
        drop(kavach);
        stop.send(()).unwrap();
        thread.join().unwrap();
    }

    pub fn with_key(&self, key: &str) -> Client {
        Client::new(&self.base, Some(&format!("Bearer {key}")))
    }
}

#[test]
fn a_panic_ends_one_tenants_actor_and_nothing_else() {
    let home = tempfile::tempdir().unwrap();
    let server = start(settings(home.path()));
    let operator = server.with_key(OPERATOR_KEY);
    operator.tenant("acme");
    operator.tenant("globex");
    let (acme, globex) = (counted(&operator, "acme"), counted(&operator, "globex"));
    let clients = |token: &str| -> Vec<_> { (0..4).map(|_| server.with_key(token)).collect() };
    let mut answers = Answers::default();
    let others = std::thread::scope(|scope| {
        let (done, finished) = mpsc::channel();
        let globex_clients = clients(&globex.token);
        let others = scope.spawn(move || under_load(&globex_clients, 50, || finished.recv().unwrap()));
        for _ in 0..10 {
            let part = under_load(&clients(&acme.token), 30, || {
                server.kavach.inject_panic("acme").unwrap();
                // It answers again, through an actor rebuilt from disk.
                eventually("it is back", || (operator.authorize(call(&acme.id)).status == 200).then_some(()));
            });
            answers.granted.extend(part.granted);
            answers.denied.extend(part.denied);
            answers.refused.extend(part.refused);
        }
        done.send(()).unwrap();
        others.join().unwrap()
    });
    assert!(answers.refused.iter().all(|code| code.as_deref() == Some("TENANT_UNAVAILABLE")), "{:?}", answers.refused);
    assert!(others.refused.is_empty(), "{:?}", others.refused);
    check_trail(&operator, &acme.id, &answers);
    let trail = check_trail(&operator, &globex.id, &others);
    assert_eq!(trail.len(), others.all().count(), "every call of the other tenant was answered");
    assert_eq!(operator.get("/v1/tenants").items().len(), 2);
    let before = operator.all_of("acme");
    // A rebuilt actor continues the old one's counts. Decisions that a panic kept from the journal were made too.
    let stats = operator.get("/v1/stats?tenantId=acme").expect(200);
    let counted = stats["decisions"]["allowed"].as_u64().unwrap();
    assert!(counted >= answers.granted.len() as u64, "{counted} of {}", answers.granted.len());
    server.end();

    // The tenant's files are sound: another server finds an equal state.
    let server = start(settings(home.path()));
    let operator = server.with_key(OPERATOR_KEY);
    assert_eq!(operator.all_of("acme"), before);
    server.with_key(&acme.token).granted(call(&acme.id));
    server.end();
}

#[test]
fn a_panic_during_administrative_changes_loses_none_that_was_answered() {
    let home = tempfile::tempdir().unwrap();
    let server = start(settings(home.path()));
    let operator = server.with_key(OPERATOR_KEY);
    let acme = operator.tenant("acme");
    let mut made = Vec::new();
    for n in 0..40 {
        if n % 4 == 2 {
            // The tenant may still be recovering from the last panic.
            eventually("it can be asked", || server.kavach.inject_panic("acme").ok());
        }
        let agent = eventually("an agent is made", || {
            let body = serde_json::json!({ "tenantId": "acme", "ownerId": "u", "name": "b", "type": "service" });
            let answer = operator.post("/v1/agents", body);
            assert!([201, 503].contains(&answer.status), "{}", answer.text());
            (answer.status == 201).then(|| answer.json())
        });
        made.push(agent["id"].as_str().unwrap().to_owned());
    }
    let listed = eventually("it can be asked", || {
        let answer = operator.get("/v1/agents?tenantId=acme");
        (answer.status == 200).then(|| answer.items())
    });
    let listed: Vec<_> = listed.iter().map(|agent| agent["id"].as_str().unwrap()).collect();
    assert!(made.iter().all(|id| listed.contains(&id.as_str())), "{made:?} {listed:?}");
    assert!(server.with_key(&acme.key).get("/v1/tenants").items().len() == 1);
    server.end();
}

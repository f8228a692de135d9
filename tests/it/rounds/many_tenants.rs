//! Rounds with far more tenants than may be in memory, called in random order. Only a few are in memory when the server
//! is killed: the others are what the catalog, the log and their folders say.
//!
//! `KAVACH_CRASH_TENANTS=2000` sets how many there are, 300 without.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::{Value, json};

use super::{Outcome, send, setting};
use crate::client::Client;
use crate::crash::{counted, used};
use crate::harness::{Options, Server};
use crate::world::Agent;

const CALLERS: usize = 8;

/// A tenant, and what its callers know.
struct Site {
    id: String,
    agent: Agent,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// Entries of calls that were answered, with the result.
    decided: HashMap<String, &'static str>,
    /// Calls that may have happened.
    unsure: usize,
    name: String,
    /// A name that it may have instead.
    new_name: Option<String>,
    /// Whether something has happened since the last check.
    is_changed: bool,
}

impl Site {
    fn new(operator: &Client, n: usize) -> Self {
        let name = format!("t{n}");
        let made = operator.post("/v1/tenants", json!({ "name": name, "slug": name })).expect(201);
        let id = made["id"].as_str().unwrap().to_owned();
        let agent = counted(operator, &id);
        Self { id, agent, known: Mutex::new(Known { name, ..Known::default() }) }
    }

    fn call(&self, operator: &Client, rng: &mut Rng) {
        let action = if rng.usize(0..5) == 0 { "drop" } else { "read" };
        let body = json!({ "action": action, "resource": "docs:1" });
        let own = operator.acting_for(&self.agent.token);
        let answer = send(&own, "POST", "/v1/authorize", Some(body));
        let mut known = self.known.lock().unwrap();
        known.is_changed = true;
        match answer {
            Outcome::Done(decision) => {
                let result = if decision["allowed"] == true { "allowed" } else { "denied" };
                let id = decision["auditId"].as_str().unwrap().to_owned();
                assert!(known.decided.insert(id, result).is_none(), "two calls got one entry");
            }
            Outcome::Refused => {}
            Outcome::Unknown => known.unsure += 1,
        }
    }

    /// Gives it another name. Only one caller does that.
    fn rename(&self, operator: &Client, rng: &mut Rng) {
        let name = format!("name {}", rng.u32(..));
        self.known.lock().unwrap().new_name = Some(name.clone());
        let answer = send(operator, "PATCH", &format!("/v1/tenants/{}", self.id), Some(json!({ "name": name })));
        let mut known = self.known.lock().unwrap();
        match answer {
            Outcome::Done(_) => {
                known.name = name;
                known.new_name = None;
            }
            Outcome::Refused => known.new_name = None,
            Outcome::Unknown => {}
        }
    }

    /// Checks its trail and its counter.
    fn check(&self, operator: &Client, trail: &[&Value], with_counter: bool) {
        let mut known = self.known.lock().unwrap();
        let mut found = HashMap::new();
        for entry in trail {
            let (id, result) = (entry["id"].as_str().unwrap(), entry["result"].as_str().unwrap());
            assert!(found.insert(id, result).is_none(), "{id} is there twice");
        }
        for (id, result) in &known.decided {
            assert_eq!(found.get(&**id), Some(result), "{id} of {}", self.id);
        }
        let unknown = found.len() - known.decided.len();
        assert!(unknown <= known.unsure, "{unknown} entries nobody asked for in {}", self.id);
        let allowed = found.values().filter(|result| **result == "allowed").count();
        if with_counter || known.is_changed {
            assert_eq!(used(operator, &self.agent.id), allowed, "what the window of {} counts", self.id);
        }
        // From here on what happened is certain.
        let of_result = |result| if result == "allowed" { "allowed" } else { "denied" };
        known.decided = found.into_iter().map(|(id, result)| (id.to_owned(), of_result(result))).collect();
        (known.unsure, known.is_changed) = (0, false);
    }
}

/// Makes tenants from several sides.
fn make_sites(server: &Server, count: usize) -> Vec<Site> {
    let sites = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let (operator, sites) = (server.operator(), &sites);
            scope.spawn(move || {
                for n in (caller..count).step_by(CALLERS) {
                    let site = Site::new(&operator, n);
                    sites.lock().unwrap().push(site);
                }
            });
        }
    });
    sites.into_inner().unwrap()
}

fn load(server: &mut Server, sites: &[Site], rng: &mut Rng) {
    let stop = AtomicBool::new(false);
    let lasts = Duration::from_micros(rng.u64(300_000..1_200_000));
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let (operator, mut rng, stop) = (server.operator(), rng.fork(), &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let n = rng.usize(0..sites.len());
                    if n % CALLERS == caller && rng.bool() {
                        sites[n].rename(&operator, &mut rng);
                    } else {
                        sites[n].call(&operator, &mut rng);
                    }
                }
            });
        }
        std::thread::sleep(lasts);
        if rng.usize(0..4) == 0 {
            server.stop()
        } else {
            server.kill()
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// Checks everything that was acknowledged; of tenants that nobody called since the last time the counters too, if asked.
fn check(server: &Server, sites: &[Site], with_counters: bool) -> usize {
    let operator = server.operator();
    assert_eq!(operator.get("/readyz").expect(200)["unavailableTenants"], json!([]));
    let listed = operator.get("/v1/tenants").items();
    let names: HashMap<_, _> = listed.iter().map(|one| (one["id"].as_str().unwrap(), &one["name"])).collect();
    assert_eq!(names.len(), sites.len());
    for site in sites {
        let mut known = site.known.lock().unwrap();
        let shown = names[&*site.id].as_str().unwrap();
        let new_name = known.new_name.take();
        assert!(shown == known.name || Some(shown) == new_name.as_deref(), "{shown}, not {}", known.name);
        shown.clone_into(&mut known.name);
    }
    let counted = operator.get("/v1/stats").expect(200);
    assert_eq!(counted["tenants"], json!({ "active": sites.len() + 1, "suspended": 0, "unavailable": 0 }));
    assert_eq!(counted["agents"]["active"], sites.len());
    let trail = operator.trail("");
    let mut by_tenant: HashMap<&str, Vec<&Value>> = HashMap::new();
    for entry in &trail {
        by_tenant.entry(entry["tenantId"].as_str().unwrap()).or_default().push(entry);
    }
    for site in sites {
        site.check(&operator, by_tenant.get(&*site.id).map_or(&[], |entries| &entries[..]), with_counters);
    }
    trail.len()
}

#[test]
fn nothing_of_many_tenants_is_lost_or_doubled_when_few_are_in_memory() {
    let rounds = setting("KAVACH_CRASH_ROUNDS", 3);
    let seed = setting("KAVACH_CRASH_SEED", fastrand::u64(..));
    let count = setting("KAVACH_CRASH_TENANTS", 300) as usize;
    eprintln!("KAVACH_CRASH_SEED={seed}, {rounds} rounds, {count} tenants");
    let mut server = Server::start_with(Options::args(&["--resident-tenants", "50"]));
    let sites = make_sites(&server, count);
    for round in 0..rounds {
        let mut rng = Rng::with_seed(seed.wrapping_add(round));
        load(&mut server, &sites, &mut rng);
        let durability = ["interval", "fsync"][rng.usize(0..2)];
        server.set_args(&["--resident-tenants", "50", "--durability", durability]);
        let begun = Instant::now();
        server.start_again();
        let start = begun.elapsed().as_millis();
        let entries = check(&server, &sites, round + 1 == rounds);
        eprintln!("round {round}: start {start} ms, {entries} decisions so far");
    }
}

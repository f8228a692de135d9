//! Calls from many sides to far more tenants than may be in memory.

use std::collections::HashMap;
use std::process::Command;
use std::sync::Mutex;

use fastrand::Rng;
use serde_json::{Value, json};

use super::{come_to_rest, in_memory, keeping, metric, metrics};
use crate::budgets::settle_into_the_day;
use crate::client::{Answer, Client};
use crate::crash::used;
use crate::harness::{Server, eventually};
use crate::world::{Agent, Tenant, audit_id};

const TENANTS: usize = 40;
const CALLERS: usize = 16;
const CALLS: usize = 40;
/// Calls that each tenant's policy allows: most tenants are called more often.
const ALLOWED: usize = 8;

/// A tenant, and what its callers were told.
struct Site {
    tenant: Tenant,
    agent: Agent,
    policy: String,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    allowed: Vec<String>,
    denied: Vec<String>,
    /// In quarters of a unit of money: what an allowed call was settled at.
    settled: HashMap<String, u64>,
    renamed: usize,
}

impl Site {
    fn new(operator: &Client, n: usize) -> Self {
        let tenant = operator.tenant(&format!("t{n}"));
        let constraints = json!({ "maxCallsPerHour": 1_000_000 });
        let permissions = json!([{ "resource": "docs:*", "actions": ["read"], "constraints": constraints }]);
        let agent = operator.agent(tenant.id.as_str(), permissions);
        let limits = json!({ "maxCallsPerDay": ALLOWED, "maxTokensCostPerMonth": 1_000_000 });
        let policy = operator.policy(tenant.id.as_str(), json!({ "limits": limits }));
        Self { tenant, agent, policy, told: Mutex::default() }
    }

    /// One call of a random kind.
    fn call(&self, operator: &Client, rng: &mut Rng) {
        match rng.usize(0..10) {
            0..5 => self.decide(operator, rng),
            5 => {
                let name = format!("bot {}", rng.u32(..));
                good(&operator.patch(&format!("/v1/agents/{}", self.agent.id), json!({ "name": name })));
                self.told.lock().unwrap().renamed += 1;
            }
            6 => {
                let own = operator.acting_for(&self.tenant.key);
                let entries = good(&own.get("/v1/audit?limit=5"));
                assert!(entries.as_array().unwrap().iter().all(|entry| entry["tenantId"] == self.tenant.id.as_str()));
            }
            7 => drop(good(&operator.get(&format!("/v1/stats?tenantId={}", self.tenant.slug)))),
            8 => drop(good(&operator.get("/v1/stats"))),
            _ => {
                let shown = good(&operator.get(&format!("/v1/policies/{}", self.policy)));
                assert!(shown["currentUsage"]["callsToday"].as_u64().unwrap() <= ALLOWED as u64, "{shown}");
            }
        }
    }

    fn decide(&self, operator: &Client, rng: &mut Rng) {
        let own = operator.acting_for(&self.agent.token);
        let decision = good(&own.authorize(json!({ "action": "read", "resource": "docs:1", "tokensCost": 1 })));
        let id = audit_id(&decision);
        if decision["allowed"] != true {
            assert_eq!(decision["code"], "BUDGET_EXCEEDED", "{decision}");
            return self.told.lock().unwrap().denied.push(id);
        }
        self.told.lock().unwrap().allowed.push(id.clone());
        if rng.bool() {
            let cost = rng.u64(0..9);
            let by_tenant = operator.acting_for(&self.tenant.key);
            good(&by_tenant.settle(&self.agent.id, &id, json!(cost as f64 / 4.0)));
            self.told.lock().unwrap().settled.insert(id, cost);
        }
    }

    /// Whether everything is there once, and counted once.
    fn check(&self, operator: &Client) {
        let Told { allowed, denied, settled, renamed } = &*self.told.lock().unwrap();
        assert_eq!(allowed.len(), ALLOWED.min(allowed.len() + denied.len()), "the budget is exact");
        let trail = operator.trail(&format!("tenantId={}", self.tenant.id));
        for (result, told) in [("allowed", allowed), ("denied", denied)] {
            let of_result = trail.iter().filter(|entry| entry["result"] == result);
            let mut found: Vec<_> = of_result.map(|entry| entry["id"].as_str().unwrap()).collect();
            let mut told: Vec<_> = told.iter().map(String::as_str).collect();
            found.sort_unstable();
            told.sort_unstable();
            assert_eq!(found, told, "{result} calls of {}", self.tenant.slug);
        }
        for entry in &trail {
            let cost = settled.get(entry["id"].as_str().unwrap()).map(|cost| *cost as f64 / 4.0);
            assert_eq!(entry.get("settledCost").and_then(Value::as_f64), cost, "{entry}");
        }
        let unsettled = allowed.len() - settled.len();
        let spent = unsettled as f64 + settled.values().sum::<u64>() as f64 / 4.0;
        let usage = operator.policy_of(&self.policy)["currentUsage"].clone();
        let seen = ["callsToday", "callsThisMonth", "tokensCostThisMonth"].map(|member| usage[member].as_f64());
        assert_eq!(seen, [Some(allowed.len() as f64), Some(allowed.len() as f64), Some(spent)], "{usage}");
        assert_eq!(used(operator, &self.agent.id), allowed.len(), "the window counts each allowed call once");
        let updates = format!("tenantId={}&kind=admin&actions=agent.update", self.tenant.id);
        assert_eq!(operator.trail(&updates).len(), *renamed);
        assert_eq!(operator.trail(&format!("tenantId={}&kind=usage", self.tenant.id)).len(), settled.len());
    }
}

/// The answer of a call that must succeed.
#[track_caller]
fn good(answer: &Answer) -> Value {
    answer.expect(200)
}

fn sites(operator: &Client) -> Vec<Site> {
    (0..TENANTS).map(|n| Site::new(operator, n)).collect()
}

/// Many callers, each of them to one random tenant after another.
fn load(server: &Server, sites: &[Site]) {
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let operator = server.operator();
            scope.spawn(move || {
                let mut rng = Rng::with_seed(caller as u64);
                for _ in 0..CALLS {
                    sites[rng.usize(0..sites.len())].call(&operator, &mut rng);
                }
            });
        }
    });
}

#[test]
fn no_call_is_lost_doubled_or_refused_while_tenants_come_and_go() {
    settle_into_the_day();
    let mut server = Server::start_with(keeping("2"));
    let operator = server.operator();
    let sites = sites(&operator);
    load(&server, &sites);
    come_to_rest(&operator, 2);
    assert_eq!(in_memory(&operator).1, TENANTS as u64 + 1);
    let page = metrics(&operator);
    assert!(metric(&page, "kavach_tenants_resident") <= 2.0, "{page}");
    assert_eq!(metric(&page, "kavach_tenants_known"), TENANTS as f64 + 1.0);
    sites.iter().for_each(|site| site.check(&operator));
    server.stop();
    let verified = Command::new(env!("CARGO_BIN_EXE_kavach"))
        .args(["audit", "verify", "--data-dir"])
        .arg(server.data_dir())
        .output()
        .unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    server.start_again();
    sites.iter().for_each(|site| site.check(&server.operator()));
}

#[test]
fn a_server_that_is_told_to_end_under_load_ends() {
    settle_into_the_day();
    let mut server = Server::start_with(keeping("2"));
    let operator = server.operator();
    let sites = sites(&operator);
    for _ in 0..3 {
        let told = Mutex::new(0);
        std::thread::scope(|scope| {
            for caller in 0..CALLERS {
                let (operator, sites, told) = (server.operator(), &sites, &told);
                scope.spawn(move || {
                    let mut rng = Rng::with_seed(caller as u64);
                    loop {
                        let site = &sites[rng.usize(0..sites.len())];
                        let own = operator.acting_for(&site.agent.token);
                        let body = json!({ "action": "read", "resource": "docs:1" }).to_string();
                        // A broken connection, or an answer that says so, is the end.
                        let Ok(answer) = own.try_send("POST", "/v1/authorize", &[], Some(body.as_bytes())) else {
                            break;
                        };
                        if answer.status == 503 {
                            break;
                        }
                        let decision = answer.expect(200);
                        let mut list = site.told.lock().unwrap();
                        let list = if decision["allowed"] == true { &mut list.allowed } else { &mut list.denied };
                        list.push(audit_id(&decision));
                        *told.lock().unwrap() += 1;
                    }
                });
            }
            eventually("some calls are answered", || (*told.lock().unwrap() >= 100).then_some(()));
            server.stop();
        });
        server.start_again();
    }
    let operator = server.operator();
    for site in &sites {
        let told = site.told.lock().unwrap();
        let trail = operator.trail(&format!("tenantId={}", site.tenant.id));
        let found: Vec<_> = trail.iter().map(|entry| entry["id"].as_str().unwrap()).collect();
        for id in told.allowed.iter().chain(&told.denied) {
            assert_eq!(found.iter().filter(|found| *found == id).count(), 1, "{id}");
        }
        assert!(told.allowed.len() <= ALLOWED);
    }
}

//! Administrative changes, one after another in each thread, and whether each acknowledged one is there.
//!
//! Only one thread changes a thing. So its state is known, except for the one change under way at the end, which may
//! have happened or not.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use fastrand::Rng;
use serde_json::{Value, json};

use super::{Outcome, send};
use crate::client::Client;
use crate::world::permits;

/// The next address to try a secret from, in the network for benchmarks (RFC 2544).
static NEXT_ADDRESS: AtomicU32 = AtomicU32::new(0xC612_0000);

/// What a thread creates and changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThingKind {
    Agent,
    Policy,
    Delegation,
    Key,
    Tenant,
    /// The tenant itself, suspended and activated over and over.
    Suspension,
}

/// A thread's things.
pub struct Changes {
    kind: ThingKind,
    /// The tenant they are in; `None` is the default one.
    tenant: Option<&'static str>,
    /// The agents that delegate and receive.
    agents: Option<[String; 2]>,
    things: Vec<Thing>,
    made: usize,
    /// Changes that were acknowledged.
    pub acknowledged: usize,
    /// Ids of what was created and acknowledged since the last check.
    pub created: Vec<String>,
}

struct Thing {
    id: String,
    shown: Value,
    /// The change without an answer.
    pending: Option<Pending>,
    /// A token or a key, if known.
    secret: Option<String>,
    /// Secrets that must be invalid.
    retired: Vec<String>,
    /// Whether it changed since the last check.
    touched: bool,
}

enum Pending {
    Fields(Value),
    /// It may be gone.
    Gone,
    /// It may have another secret.
    Secret,
}

/// Members for times and usage, which change by themselves or with others.
const MOVING: [&str; 9] = [
    "updatedAt",
    "lastActiveAt",
    "lastUsedAt",
    "trackedSince",
    "currentUsage",
    "windows",
    "effectiveLimits",
    "matchesAgents",
    "token",
];

fn still(mut shown: Value) -> Value {
    let members = shown.as_object_mut().unwrap();
    MOVING.iter().for_each(|name| drop(members.remove(*name)));
    members.remove("key");
    shown
}

impl Changes {
    pub fn new(operator: &Client, kind: ThingKind, tenant: Option<&'static str>) -> Self {
        let agents = (kind == ThingKind::Delegation).then(|| {
            let agent = || operator.agent(tenant, permits("lend:*", &["read"])).id;
            [agent(), agent()]
        });
        let mut things = Vec::new();
        if kind == ThingKind::Suspension {
            let shown = operator.get(&format!("/v1/tenants/{}", tenant.unwrap())).expect(200);
            things.push(Thing::new(shown));
        }
        Self { kind, tenant, agents, things, made: 0, acknowledged: 0, created: Vec::new() }
    }

    fn path(&self, thing: &Thing) -> String {
        match self.kind {
            ThingKind::Agent => format!("/v1/agents/{}", thing.id),
            ThingKind::Policy => format!("/v1/policies/{}", thing.id),
            ThingKind::Delegation => format!("/v1/delegations/{}", thing.id),
            ThingKind::Key => format!("/v1/tenants/{}/keys/{}", self.tenant.unwrap(), thing.id),
            ThingKind::Tenant | ThingKind::Suspension => format!("/v1/tenants/{}", thing.id),
        }
    }

    /// Changes things until stopped.
    pub fn run(&mut self, operator: &Client, round: usize, mut rng: Rng, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let at = match self.things.len() {
                0 => None,
                // More would only take time.
                60.. => Some(rng.usize(0..self.things.len())),
                _ if self.kind != ThingKind::Suspension && rng.usize(0..5) < 2 => None,
                many => Some(rng.usize(0..many)),
            };
            match at {
                None => self.create(operator, round),
                Some(at) if self.things[at].pending.is_none() && !self.things[at].shown.is_null() => {
                    self.change(operator, at, &mut rng)
                }
                Some(_) => std::thread::yield_now(),
            }
        }
    }

    fn create(&mut self, operator: &Client, round: usize) {
        self.made += 1;
        let name = format!("n{round}-{}", self.made);
        let tenant = self.tenant;
        let (path, body) = match self.kind {
            ThingKind::Agent => {
                let permissions = permits("x:*", &["read"]);
                let body = json!({
                    "tenantId": tenant, "ownerId": name, "name": name, "type": "service", "permissions": permissions,
                });
                ("/v1/agents".to_owned(), body)
            }
            ThingKind::Policy => {
                let limits = json!({ "maxCallsPerDay": 1_000 });
                ("/v1/policies".to_owned(), json!({ "tenantId": tenant, "userId": name, "limits": limits }))
            }
            ThingKind::Delegation => {
                let [from, to] = self.agents.as_ref().unwrap();
                let permissions = permits(&format!("lend:{name}"), &["read"]);
                let body = json!({ "fromAgent": from, "toAgent": to, "permissions": permissions });
                ("/v1/delegations".to_owned(), body)
            }
            ThingKind::Key => (format!("/v1/tenants/{}/keys", tenant.unwrap()), json!({ "name": name })),
            ThingKind::Tenant => ("/v1/tenants".to_owned(), json!({ "name": name, "slug": name })),
            ThingKind::Suspension => return,
        };
        if let Outcome::Done(shown) = send(operator, "POST", &path, Some(body)) {
            let thing = Thing::new(shown);
            self.created.push(thing.id.clone());
            self.things.push(thing);
            self.acknowledged += 1;
        }
    }

    fn change(&mut self, operator: &Client, at: usize, rng: &mut Rng) {
        self.made += 1;
        let path = self.path(&self.things[at]);
        let thing = &mut self.things[at];
        let (status, name) = (thing.shown["status"].clone(), format!("m{}", self.made));
        let dice = rng.usize(0..10);
        let fields = |body: Value| ("PATCH", path.clone(), Some(body.clone()), Pending::Fields(body));
        let set = |verb: &str, status: &str| {
            let pending = Pending::Fields(json!({ "status": status }));
            ("POST", format!("{path}/{verb}"), Some(json!({})), pending)
        };
        let gone = || ("DELETE", path.clone(), None, Pending::Gone);
        let revoked = || ("DELETE", path.clone(), None, Pending::Fields(json!({ "status": "revoked" })));
        let (method, path, body, pending) = match (self.kind, dice) {
            (ThingKind::Agent | ThingKind::Delegation, _) if status == "revoked" => return,
            (ThingKind::Agent, 0..3) => revoked(),
            (ThingKind::Agent, 3..6) => ("POST", format!("{path}/rotate"), Some(json!({})), Pending::Secret),
            (ThingKind::Agent, _) => fields(json!({ "name": name, "metadata": { "n": self.made } })),
            (ThingKind::Policy, 0..2) => gone(),
            (ThingKind::Policy, 2..6) => fields(json!({ "limits": { "maxCallsPerDay": 1_000 + self.made } })),
            (ThingKind::Policy, _) if status == "disabled" => fields(json!({ "status": "active" })),
            (ThingKind::Policy, _) => fields(json!({ "status": "disabled" })),
            (ThingKind::Delegation, _) => revoked(),
            (ThingKind::Key, _) => gone(),
            (ThingKind::Tenant, 0..2) => {
                let slug = thing.shown["slug"].as_str().unwrap();
                ("DELETE", format!("{path}?confirm={slug}"), None, Pending::Gone)
            }
            (ThingKind::Tenant, 2..6) => fields(json!({ "name": name })),
            (ThingKind::Tenant | ThingKind::Suspension, _) if status == "active" => set("suspend", "suspended"),
            (ThingKind::Tenant | ThingKind::Suspension, _) => set("activate", "active"),
        };
        thing.touched = true;
        thing.pending = Some(pending);
        let outcome = send(operator, method, &path, body);
        match (outcome, &thing.pending) {
            (Outcome::Unknown, _) | (_, None) => return,
            (Outcome::Refused, _) => {}
            (Outcome::Done(_), Some(Pending::Gone)) => {
                self.acknowledged += 1;
                thing.retired.extend(thing.secret.take());
                thing.shown = Value::Null;
            }
            (Outcome::Done(answer), Some(Pending::Fields(fields))) => {
                self.acknowledged += 1;
                thing.shown.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
                if method != "DELETE" {
                    assert_eq!(still(answer), thing.shown);
                }
            }
            (Outcome::Done(answer), Some(Pending::Secret)) => {
                self.acknowledged += 1;
                thing.retired.extend(thing.secret.replace(answer["token"].as_str().unwrap().to_owned()));
            }
        }
        thing.pending = None;
    }

    /// Checks that everything is as its changes were acknowledged.
    pub fn check(&mut self, operator: &Client, data_dir: &std::path::Path) {
        let keys = match self.kind {
            ThingKind::Key => operator.get(&format!("/v1/tenants/{}/keys", self.tenant.unwrap())).items(),
            _ => Vec::new(),
        };
        let mut things = std::mem::take(&mut self.things);
        for thing in &mut things {
            let found = match self.kind {
                ThingKind::Key => keys.iter().find(|key| key["id"] == thing.id.as_str()).cloned(),
                _ => {
                    let answer = operator.get(&self.path(thing));
                    if answer.status == 404 { None } else { Some(answer.expect(200)) }
                }
            };
            thing.check(self.kind, found.map(still));
            if thing.shown.is_null() && self.kind == ThingKind::Tenant {
                assert!(!data_dir.join(&thing.id).exists(), "{} was erased", thing.id);
            }
            if std::mem::take(&mut thing.touched) {
                thing.check_secrets(operator, self.kind);
            }
            if self.kind == ThingKind::Suspension && thing.shown["status"] == "suspended" {
                // The check of its calls needs it.
                thing.shown["status"] =
                    operator.post(&format!("{}/activate", self.path(thing)), json!({})).json()["status"].clone();
                assert_eq!(thing.shown["status"], "active");
            }
        }
        things.retain(|thing| !thing.shown.is_null() && thing.shown["status"] != "revoked");
        self.things = things;
    }
}

impl Thing {
    fn new(mut shown: Value) -> Self {
        let secret = ["token", "key"].iter().find_map(|name| shown.as_object_mut().unwrap().remove(*name));
        Self {
            id: shown["id"].as_str().unwrap().to_owned(),
            shown: still(shown),
            pending: None,
            secret: secret.and_then(|secret| Some(secret.as_str()?.to_owned())),
            retired: Vec::new(),
            touched: true,
        }
    }

    fn check(&mut self, kind: ThingKind, found: Option<Value>) {
        let as_shown = found.as_ref().map_or(self.shown.is_null(), |found| *found == self.shown);
        let pending = self.pending.take();
        let as_pending = match (&pending, &found) {
            (Some(Pending::Fields(fields)), Some(found)) => {
                let mut after = self.shown.clone();
                after.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
                *found == after
            }
            (Some(Pending::Gone), None) => true,
            _ => false,
        };
        // Links that are over are forgotten at some point.
        let forgotten = kind == ThingKind::Delegation && found.is_none() && self.shown["status"] == "revoked";
        assert!(as_shown || as_pending || forgotten, "{kind:?}: {found:?} exists, {} was acknowledged", self.shown);
        match pending {
            Some(Pending::Secret) => self.secret = None,
            Some(Pending::Gone) if found.is_none() => self.retired.extend(self.secret.take()),
            _ => {}
        }
        self.shown = found.unwrap_or(Value::Null);
    }

    fn check_secrets(&self, operator: &Client, kind: ThingKind) {
        // From a single address, this many invalid ones would be refused as attempts.
        let address = || Ipv4Addr::from_bits(NEXT_ADDRESS.fetch_add(1, Ordering::Relaxed)).to_string();
        let ask = |secret: &str| {
            let caller = operator.acting_for(secret).forwarded_for(&address());
            match kind {
                ThingKind::Key => caller.get("/v1/tenants"),
                _ => caller.authorize(json!({ "action": "a", "resource": "probe" })),
            }
        };
        if let Some(secret) = &self.secret {
            let answer = ask(secret).expect(200);
            if kind == ThingKind::Agent && self.shown["status"] == "revoked" {
                assert!(["AGENT_REVOKED", "TENANT_SUSPENDED"].contains(&answer["code"].as_str().unwrap()), "{answer}");
            }
        }
        for secret in &self.retired {
            ask(secret).problem(401, "INVALID_TOKEN");
        }
    }
}

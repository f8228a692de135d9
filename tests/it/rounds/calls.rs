//! Calls that load one tenant, the answer to each, and whether the trail and the counters agree.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use fastrand::Rng;
use serde_json::{Value, json};

use super::{Outcome, send};
use crate::budget_proof::millionths;
use crate::client::Client;
use crate::crash::used;
use crate::world::{Agent, next_page};

/// Calls that the rated agent may make, and calls that the capped one's policy allows: most rounds ask for some tens.
const FEW: usize = 40;

/// A tenant with counted calls.
pub struct Site {
    /// Its name in a query; `default` is the default one.
    pub name: &'static str,
    pub folder: String,
    key: Option<String>,
    /// The policy that counts all of its calls.
    policy: String,
    round: Option<Round>,
    asked: Mutex<HashMap<String, Asked>>,
    reports: Mutex<HashMap<String, (i64, Outcome<()>)>>,
    /// The newest entry we have seen, by kind.
    newest: HashMap<&'static str, String>,
    /// Allowed calls and their cost by day, and all decisions.
    days: HashMap<String, (u64, i64)>,
    pub decisions: u64,
    checkpoint: Option<Value>,
}

/// The agents of one round.
struct Round {
    number: usize,
    wide: Agent,
    rated: Agent,
    capped: Agent,
    cap: String,
}

/// One call that was sent.
struct Asked {
    agent: String,
    answer: Answered,
}

enum Answered {
    /// No answer that says whether it happened.
    Nothing,
    /// It did not happen.
    Refused,
    Decided {
        id: String,
        code: Value,
    },
}

impl Site {
    pub fn new(operator: &Client, name: &'static str) -> Self {
        let (folder, key) = match name {
            "default" => (name.to_owned(), None),
            slug => {
                let tenant = operator.tenant(slug);
                (tenant.id, Some(tenant.key))
            }
        };
        let tenant = key.as_ref().map(|_| name);
        let limits = json!({ "maxCallsPerMonth": 1_000_000_000, "maxTokensCostPerMonth": 1_000_000_000 });
        let policy = operator.policy(tenant, json!({ "limits": limits }));
        Self {
            name,
            folder,
            key,
            policy,
            round: None,
            asked: Mutex::default(),
            reports: Mutex::default(),
            newest: HashMap::new(),
            days: HashMap::new(),
            decisions: 0,
            checkpoint: None,
        }
    }

    /// The value of `tenantId` in a body.
    pub fn tenant(&self) -> Option<&'static str> {
        self.key.as_ref().map(|_| self.name)
    }

    /// Creates the agents of a round.
    pub fn begin(&mut self, operator: &Client, number: usize) {
        let agent = |most: usize| {
            let constraints = json!({ "maxCallsPerHour": most });
            let permissions = json!([{ "resource": "docs:*", "actions": ["read"], "constraints": constraints }]);
            operator.agent_with(self.tenant(), json!({ "ownerId": "caller", "permissions": permissions }))
        };
        let (wide, rated, capped) = (agent(1_000_000), agent(FEW), agent(1_000_000));
        let about = json!({ "agentId": capped.id, "limits": { "maxCallsPerMonth": FEW } });
        let cap = operator.policy(self.tenant(), about);
        self.round = Some(Round { number, wide, rated, capped, cap });
    }

    /// Calls until stopped.
    pub fn call(&self, operator: &Client, thread: usize, mut rng: Rng, stop: &AtomicBool) {
        let Round { number, wide, rated, capped, .. } = self.round.as_ref().unwrap();
        for n in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let agent = [wide, wide, rated, capped][rng.usize(0..4)];
            let mut one = |item: usize| {
                let resource = format!("docs:{number}:{thread}:{n}:{item}");
                let asked = Asked { agent: agent.id.clone(), answer: Answered::Nothing };
                assert!(self.asked.lock().unwrap().insert(resource.clone(), asked).is_none());
                let action = if rng.usize(0..6) == 0 { "drop" } else { "read" };
                let cost = [None, Some("0.000001"), Some("0.25"), Some("1.5")][rng.usize(0..4)];
                let cost: Option<serde_json::Number> = cost.map(|cost| serde_json::from_str(cost).unwrap());
                json!({ "agentId": agent.id, "action": action, "resource": resource, "tokensCost": cost })
            };
            let batch = n % 5 == 4;
            let requests: Vec<_> = (0..if batch { 10 } else { 1 }).map(&mut one).collect();
            let client = match (rng.usize(0..3), &self.key) {
                (0, Some(key)) => operator.acting_for(key),
                (0 | 1, _) => operator.clone(),
                _ => operator.acting_for(&agent.token),
            };
            let outcome = if batch {
                send(&client, "POST", "/v1/authorize/batch", Some(json!({ "requests": requests })))
            } else {
                send(&client, "POST", "/v1/authorize", Some(requests[0].clone()))
            };
            let decisions: Vec<Option<Value>> = match outcome {
                Outcome::Unknown => continue,
                Outcome::Refused => vec![None; requests.len()],
                Outcome::Done(answer) if batch => {
                    answer["results"].as_array().unwrap().iter().cloned().map(Some).collect()
                }
                Outcome::Done(answer) => vec![Some(answer)],
            };
            assert_eq!(decisions.len(), requests.len());
            for (request, decision) in requests.iter().zip(decisions) {
                let answer = match decision {
                    None => Answered::Refused,
                    // An item of a batch if its tenant could not answer.
                    Some(decision) if decision.get("auditId").is_none() => Answered::Nothing,
                    Some(decision) => {
                        let id = decision["auditId"].as_str().unwrap().to_owned();
                        if decision["allowed"] == true && rng.usize(0..4) == 0 {
                            self.settle(operator, &agent.id, &id, rng.i64(0..3_000_000));
                        }
                        Answered::Decided { id, code: decision["code"].clone() }
                    }
                };
                self.asked.lock().unwrap().get_mut(request["resource"].as_str().unwrap()).unwrap().answer = answer;
            }
        }
    }

    /// Reports what a decision really cost, in millionths.
    fn settle(&self, operator: &Client, agent: &str, id: &str, cost: i64) {
        self.reports.lock().unwrap().insert(id.to_owned(), (cost, Outcome::Unknown));
        let report: Value = serde_json::from_str(&format!("{}.{:06}", cost / 1_000_000, cost % 1_000_000)).unwrap();
        let report = json!({ "agentId": agent, "auditId": id, "tokensCost": report });
        let outcome = send(operator, "POST", "/v1/usage", Some(report)).map(|_| ());
        self.reports.lock().unwrap().get_mut(id).unwrap().1 = outcome;
    }

    /// Entries of that kind since the last time, newest first.
    fn fresh(&mut self, operator: &Client, kind: &'static str) -> Vec<Value> {
        let upto = self.newest.get(kind).cloned();
        let mut path = Some(format!("/v1/audit?kind={kind}&limit=1000&tenantId={}", self.name));
        let mut entries = Vec::new();
        while let Some(page) = path {
            let answer = operator.get(&page);
            let items = answer.items();
            path = next_page(&answer);
            for entry in items {
                if upto.is_some() && entry["id"].as_str() == upto.as_deref() {
                    path = None;
                    break;
                }
                entries.push(entry);
            }
        }
        if let Some(newest) = entries.first() {
            self.newest.insert(kind, newest["id"].as_str().unwrap().to_owned());
        }
        entries
    }

    /// Ids of everything created since the last time, from the admin trail.
    pub fn created(&mut self, operator: &Client) -> Vec<String> {
        let entries = self.fresh(operator, "admin");
        let created = entries.iter().filter(|entry| entry["action"].as_str().unwrap().ends_with(".create"));
        created.map(|entry| entry["resource"].as_str().unwrap().to_owned()).collect()
    }

    /// Checks that the trail and the counters agree with the answers of the round.
    pub fn check(&mut self, operator: &Client) {
        let name = self.name;
        let mut asked = std::mem::take(&mut *self.asked.lock().unwrap());
        let mut reports = std::mem::take(&mut *self.reports.lock().unwrap());
        let mut costs: HashMap<String, (String, i64)> = HashMap::new();
        let mut allowed_of: HashMap<String, usize> = HashMap::new();
        let mut distinct = HashMap::new();
        for entry in self.fresh(operator, "decision") {
            self.decisions += 1;
            let text = |member: &str| entry[member].as_str().unwrap().to_owned();
            let (id, resource) = (text("id"), text("resource"));
            assert!(distinct.insert(id.clone(), ()).is_none(), "{name}: {id} is there twice");
            let allowed = entry["result"] == "allowed";
            assert_eq!(allowed, entry["code"].is_null(), "{entry}");
            if allowed {
                costs.insert(id.clone(), (text("timestamp")[..10].to_owned(), millionths(&entry["tokensCost"])));
                *allowed_of.entry(text("agentId")).or_default() += 1;
            }
            if !resource.starts_with("docs:") {
                assert_eq!(allowed, resource.starts_with("bulk:"), "nobody asked for it: {entry}");
                continue;
            }
            let call = asked.remove(&resource);
            let call = call.unwrap_or_else(|| panic!("{name}: nobody asked for it, or only once: {entry}"));
            assert_eq!(text("agentId"), call.agent);
            match call.answer {
                Answered::Nothing => {}
                Answered::Refused => panic!("{name}: its caller learned that it did not happen: {entry}"),
                Answered::Decided { id: answered, code } => {
                    assert_eq!((&id, &entry["code"]), (&answered, &code), "{name}")
                }
            }
        }
        for (resource, call) in &asked {
            assert!(!matches!(call.answer, Answered::Decided { .. }), "{name}: {resource} was decided and is lost");
        }
        for report in self.fresh(operator, "usage") {
            let decision = report["ref"].as_str().unwrap();
            let sent = reports.remove(decision).unwrap_or_else(|| panic!("{name}: reported once at most: {report}"));
            assert!(!matches!(sent.1, Outcome::Refused), "{name}: its caller learned that it did not happen: {report}");
            assert_eq!(millionths(&report["tokensCost"]), sent.0, "{name}");
            costs.get_mut(decision).unwrap().1 = sent.0;
        }
        for (decision, (_, outcome)) in &reports {
            assert!(!matches!(outcome, Outcome::Done(())), "{name}: the report about {decision} is lost");
        }
        for (day, cost) in costs.into_values() {
            let sums = self.days.entry(day).or_default();
            sums.0 += 1;
            sums.1 += cost;
        }
        self.check_counters(operator, &allowed_of);
        let checkpoint = operator.get(&format!("/v1/audit/checkpoint?tenantId={name}")).expect(200);
        self.checkpoint = Some(checkpoint);
    }

    fn check_counters(&self, operator: &Client, allowed: &HashMap<String, usize>) {
        let Some(Round { wide, rated, capped, cap, .. }) = &self.round else { return };
        let name = self.name;
        for agent in [wide, rated, capped] {
            let allowed = allowed.get(&agent.id).copied().unwrap_or(0);
            assert_eq!(used(operator, &agent.id), allowed, "{name}: the window counts each granted call once");
            assert!(agent.id == wide.id || allowed <= FEW, "{name}: {allowed} calls got past a limit of {FEW}");
        }
        assert_eq!(operator.used(cap)[1], json!(allowed.get(&capped.id).copied().unwrap_or(0)), "{name}");
        let today = crate::retention::now();
        let today = kavach::domain::Timestamp::from_millis(today).to_string()[..10].to_owned();
        let of = |prefix: &str| {
            let days = self.days.iter().filter(|(day, _)| day.starts_with(prefix));
            days.fold((0, 0), |sums, (_, day)| (sums.0 + day.0, sums.1 + day.1))
        };
        let ((day, day_cost), (month, month_cost)) = (of(&today), of(&today[..7]));
        let counted = operator.used(&self.policy);
        assert_eq!((&counted[0], &counted[1]), (&json!(day), &json!(month)), "{name}: calls");
        assert_eq!((millionths(&counted[2]), millionths(&counted[3])), (day_cost, month_cost), "{name}: cost");
    }

    /// Checks that the files are an intact trail, which passes through the kept link.
    pub fn verify(&self, data_dir: &std::path::Path) {
        let mut verify = std::process::Command::new(env!("CARGO_BIN_EXE_kavach"));
        verify.args(["audit", "verify", "--json", "--folder"]).arg(data_dir.join(&self.folder));
        if let Some(kept) = &self.checkpoint {
            verify.args(["--checkpoint", &kept.to_string()]);
        }
        let output = verify.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", self.name);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["checkpoint"] == "passed", self.checkpoint.is_some(), "{report}");
    }

    /// Reads the whole trail once more: as many decisions as were counted, none twice.
    pub fn check_all(&self, operator: &Client) -> u64 {
        let mut ids = std::collections::HashSet::new();
        let mut allowed = 0;
        operator.lines(&format!("/v1/audit/export?format=ndjson&tenantId={}", self.name), |line| {
            let entry: Value = serde_json::from_str(line).unwrap();
            allowed += u64::from(entry["result"] == "allowed");
            assert!(ids.insert(entry["id"].as_str().unwrap().to_owned()), "{entry}");
        });
        assert_eq!(ids.len() as u64, self.decisions, "{}", self.name);
        assert_eq!(allowed, self.days.values().map(|day| day.0).sum::<u64>(), "{}", self.name);
        self.decisions
    }
}

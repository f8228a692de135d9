//! AuthZEN Authorization API 1.0: the certification scenario case by case, and Kavach's additions.

mod basic;
mod batch;
mod decisions;
mod discovery;
mod search;
mod searches;

use serde_json::{Value, json};

use crate::client::{Answer, Client};
use crate::harness::Server;
use crate::world::{Agent, Tenant};

/// The route for evaluations.
pub const EVALUATION: &str = "/access/v1/evaluation";
pub const EVALUATIONS: &str = "/access/v1/evaluations";
pub const SEARCH_SUBJECT: &str = "/access/v1/search/subject";
pub const SEARCH_RESOURCE: &str = "/access/v1/search/resource";
pub const SEARCH_ACTION: &str = "/access/v1/search/action";

/// The scenario's fixture (1.1 to 1.4): two subjects, two records, three actions, and the rules of its Core. A subject
/// is an agent here, so its type and id are an agent's.
pub struct Fixture {
    pub server: Server,
    pub tenant: Tenant,
    pub alice: Agent,
    pub bob: Agent,
    /// The enforcement point: a tenant key.
    pub pep: Client,
}

impl Fixture {
    pub fn new() -> Self {
        let server = Server::start();
        let operator = server.operator();
        let tenant = operator.tenant("acme");
        let permits = |actions: &[&str], id: &str| json!({ "resource": format!("record:{id}"), "actions": actions });
        let alice = operator.agent(&*tenant.id, json!([permits(&["read", "write"], "record-1")]));
        let bob = operator.agent(&*tenant.id, json!([permits(&["read"], "record-1"), permits(&["write"], "record-2")]));
        let pep = server.with_key(&tenant.key);
        Self { server, tenant, alice, bob, pep }
    }

    /// The request with the ids of these agents for the scenario's `alice` and `bob`.
    pub fn named(&self, request: Value) -> Value {
        let text = request.to_string();
        let text = text.replace("\"user\"", "\"agent\"");
        let text = text.replace("\"alice\"", &format!("\"{}\"", self.alice.id));
        serde_json::from_str(&text.replace("\"bob\"", &format!("\"{}\"", self.bob.id))).unwrap()
    }

    /// Sends a request of the scenario.
    pub fn ask(&self, path: &str, request: Value) -> Answer {
        self.pep.post(path, self.named(request))
    }

    /// The decision of an evaluation that must succeed.
    #[track_caller]
    pub fn decision(&self, request: Value) -> bool {
        decision(&self.ask(EVALUATION, request).expect(200))
    }

    /// The audit trail's entries, newest first, as action and resource.
    pub fn recorded(&self) -> Vec<(String, String)> {
        let text = |entry: &Value, member: &str| entry[member].as_str().unwrap().to_owned();
        self.pep.trail("").iter().map(|entry| (text(entry, "action"), text(entry, "resource"))).collect()
    }
}

/// The decision in an answer, after checking the answer's form.
#[track_caller]
pub fn decision(answer: &Value) -> bool {
    assert!(answer.get("context").is_none_or(Value::is_object), "{answer}");
    answer["decision"].as_bool().unwrap_or_else(|| panic!("no decision: {answer}"))
}

/// The decisions in an answer to several evaluations.
#[track_caller]
pub fn decisions(answer: &Value) -> Vec<bool> {
    answer["evaluations"]
        .as_array()
        .unwrap_or_else(|| panic!("no evaluations: {answer}"))
        .iter()
        .map(decision)
        .collect()
}

/// `{subject, action, resource}` of the scenario's agents and records.
pub fn request(subject: &str, action: &str, id: &str) -> Value {
    json!({
        "subject": { "type": "user", "id": subject },
        "action": { "name": action },
        "resource": { "type": "record", "id": id },
    })
}

/// The request with these members added or replaced. `null` removes one.
pub fn with(mut request: Value, members: Value) -> Value {
    let object = request.as_object_mut().unwrap();
    for (name, value) in members.as_object().unwrap() {
        if value.is_null() {
            object.remove(name);
        } else {
            object.insert(name.clone(), value.clone());
        }
    }
    request
}

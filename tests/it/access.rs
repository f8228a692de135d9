//! Who may call what: every route with every kind of key, about its own things, another's, and unknown ones.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kavach::api::{Endpoint, RouteAccess, endpoints};
use kavach::domain::Right;
use serde_json::{Value, json};

use crate::access_table::{FORBIDDEN, Outcome, Row, Target, WEBHOOK_URL, rows};
use crate::client::{Answer, Client};
use crate::decisions::unknown_like;
use crate::harness::{OPERATOR_KEY, Options, Server};
use crate::world::{Agent, Tenant, call};

/// Two tenants with every key that a caller may have and everything that it may name.
pub struct World {
    pub own: Side,
    pub foreign: Side,
    pub unknown: Target,
    pub headers: Vec<(CallerKind, Option<String>)>,
}

pub struct Side {
    pub target: Target,
    /// Everything that can be read.
    pub seen: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallerKind {
    /// No `Authorization`, or one that holds no bearer.
    Missing,
    /// A bearer that belongs to nobody.
    Invalid,
    Operator,
    /// An operator who only reads.
    Auditor,
    OwnKey,
    /// Keys of the own tenant with less than all rights.
    OwnApprover,
    OwnViewer,
    OwnCaller,
    ForeignKey,
    OwnToken,
    ForeignToken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    Own,
    Foreign,
    Unknown,
}

fn side(operator: &Client, tenant: &Tenant, agent: &Agent) -> Side {
    // Its cost is held.
    let mut held = call(&agent.id);
    (held["tokensCost"], held["hold"]) = (json!(0), json!({ "ttlSeconds": 86_400 }));
    let entry = operator.granted(held);
    // A policy that an operator set, so no tenant key may change it.
    let body = json!({ "limits": { "maxCallsPerMonth": 1_000_000 } });
    let policy =
        operator.acting_for(&tenant.key).post("/v1/policies", body).expect(201)["id"].as_str().unwrap().to_owned();
    let friend = operator.reader(tenant).id;
    let permissions = json!([{ "resource": "docs:2", "actions": ["read"] }]);
    let body = json!({ "fromAgent": agent.id, "toAgent": friend, "permissions": permissions });
    let link = operator.post("/v1/delegations", body).expect(201)["id"].as_str().unwrap().to_owned();
    let (tenant_id, key) = (tenant.id.clone(), tenant.key_id.clone());
    let body = json!({ "url": WEBHOOK_URL, "events": ["tenant.deleted"] });
    let webhook =
        operator.acting_for(&tenant.key).post("/v1/webhooks", body).expect(201)["id"].as_str().unwrap().to_owned();
    let sent = operator.post(&format!("/v1/webhooks/{webhook}/test"), json!({})).expect(202);
    let delivery = sent["id"].as_str().unwrap().to_owned();
    let agent = agent.id.clone();
    let target = Target { tenant: tenant_id, agent, key, entry, policy, friend, link, webhook, delivery };
    let seen = operator.all_of(&tenant.id);
    Side { target, seen }
}

/// Operators' keys besides the first.
pub struct OperatorKeys {
    admin: String,
    auditor: String,
    revoked: String,
}

impl OperatorKeys {
    pub fn make(operator: &Client) -> Self {
        let make = |name: &str, role: &str| {
            let made = operator.post("/v1/keys", json!({ "name": name, "role": role })).expect(201);
            ["key", "id"].map(|member| made[member].as_str().unwrap().to_owned())
        };
        let ([admin, _], [auditor, _], [revoked, id]) =
            (make("Ada", "admin"), make("Bob", "auditor"), make("ended", "admin"));
        operator.delete(&format!("/v1/keys/{id}")).expect(204);
        Self { admin, auditor, revoked }
    }
}

impl World {
    pub fn new(operator: &Client, n: usize) -> Self {
        Self::with(operator, n, &OperatorKeys::make(operator))
    }

    /// A world with these operators' keys, of which many worlds would make too many.
    pub fn with(operator: &Client, n: usize, keys: &OperatorKeys) -> Self {
        let own = operator.tenant(&format!("own-{n}"));
        let foreign = operator.tenant(&format!("foreign-{n}"));
        let made = operator.post(&format!("/v1/tenants/{}/keys", own.id), json!({ "name": "revoked" })).expect(201);
        let revoked = made["key"].as_str().unwrap();
        operator.delete(&format!("/v1/tenants/{}/keys/{}", own.id, made["id"].as_str().unwrap())).expect(204);
        let old = operator.reader(&own);
        let rotated = operator.post(&format!("/v1/agents/{}/rotate", old.id), json!({})).expect(200);
        let agent = Agent::from(&rotated);
        let own_key = |role: &str| {
            let body = json!({ "name": role, "role": role });
            let made = operator.post(&format!("/v1/tenants/{}/keys", own.id), body).expect(201);
            made["key"].as_str().unwrap().to_owned()
        };
        let (approver, viewer, caller) = (own_key("approver"), own_key("viewer"), own_key("caller"));
        let other = operator.reader(&foreign);
        let bearer = |text: &str| Some(format!("Bearer {text}"));
        // A wrong token with a valid form and an existing tenant; and one with an unknown tenant.
        let forged = format!("{}{}", &agent.token[..40], "A".repeat(27));
        let forged_key = format!("{}{}", &own.key[..40], "A".repeat(28));
        let nobodys = |prefix: &str| format!("{prefix}{}", URL_SAFE_NO_PAD.encode([7; 48]));
        let headers = vec![
            (CallerKind::Missing, None),
            (CallerKind::Missing, Some(String::new())),
            (CallerKind::Missing, Some("Bearer".into())),
            (CallerKind::Missing, Some(OPERATOR_KEY.into())),
            (CallerKind::Missing, Some(format!("Basic {OPERATOR_KEY}"))),
            (CallerKind::Invalid, bearer("no-key-at-all")),
            (CallerKind::Invalid, bearer(&format!("{OPERATOR_KEY}x"))),
            (CallerKind::Invalid, bearer(&OPERATOR_KEY.to_uppercase())),
            (CallerKind::Invalid, bearer(&format!("kvo_{}", "x".repeat(43)))),
            (CallerKind::Invalid, bearer(revoked)),
            (CallerKind::Invalid, bearer(&keys.revoked)),
            (CallerKind::Invalid, bearer(&old.token)),
            (CallerKind::Invalid, bearer(&forged)),
            (CallerKind::Invalid, bearer(&forged_key)),
            (CallerKind::Invalid, bearer(&nobodys("kv_"))),
            (CallerKind::Invalid, bearer(&nobodys("kvt_"))),
            (CallerKind::Invalid, bearer(&own.key.replace("kvt_", "kv_"))),
            (CallerKind::Operator, bearer(OPERATOR_KEY)),
            (CallerKind::Operator, Some(format!("bearer  {OPERATOR_KEY}"))),
            (CallerKind::Operator, bearer(&keys.admin)),
            (CallerKind::Auditor, bearer(&keys.auditor)),
            (CallerKind::OwnKey, bearer(&own.key)),
            (CallerKind::OwnApprover, bearer(&approver)),
            (CallerKind::OwnViewer, bearer(&viewer)),
            (CallerKind::OwnCaller, bearer(&caller)),
            (CallerKind::ForeignKey, bearer(&foreign.key)),
            (CallerKind::OwnToken, bearer(&agent.token)),
            (CallerKind::ForeignToken, bearer(&other.token)),
        ];
        let unknown = Target {
            tenant: unknown_like(&own.id.replace("tnt_", "agt_")).replace("agt_", "tnt_"),
            agent: unknown_like(&agent.id),
            key: unknown_like(&own.key_id.replace("key_", "agt_")).replace("agt_", "key_"),
            entry: unknown_like(&agent.id).replace("agt_", "aud_"),
            policy: unknown_like(&agent.id).replace("agt_", "pol_"),
            friend: unknown_like(&agent.id),
            link: unknown_like(&agent.id).replace("agt_", "dlg_"),
            webhook: unknown_like(&agent.id).replace("agt_", "whk_"),
            delivery: unknown_like(&agent.id).replace("agt_", "msg_"),
        };
        Self { own: side(operator, &own, &agent), foreign: side(operator, &foreign, &other), unknown, headers }
    }

    fn target(&self, about: About) -> &Target {
        match about {
            About::Own => &self.own.target,
            About::Foreign => &self.foreign.target,
            About::Unknown => &self.unknown,
        }
    }
}

impl CallerKind {
    /// Whether a route with that right takes such a key.
    fn has(self, right: Right) -> bool {
        match self {
            Self::Missing | Self::Invalid => false,
            Self::Operator => true,
            Self::Auditor => matches!(right, Right::Oversee | Right::Read | Right::Introspect | Right::Ask),
            Self::OwnKey | Self::ForeignKey => !matches!(right, Right::Operate | Right::Oversee),
            Self::OwnApprover | Self::OwnViewer => matches!(right, Right::Read | Right::Ask),
            Self::OwnCaller => matches!(right, Right::Decide | Right::Report | Right::Introspect | Right::Ask),
            Self::OwnToken | Self::ForeignToken => right == Right::Decide,
        }
    }

    /// Which side is the key's own.
    fn side(self) -> Option<About> {
        match self {
            Self::OwnKey | Self::OwnApprover | Self::OwnViewer | Self::OwnCaller | Self::OwnToken => Some(About::Own),
            Self::ForeignKey | Self::ForeignToken => Some(About::Foreign),
            Self::Missing | Self::Invalid | Self::Operator | Self::Auditor => None,
        }
    }
}

/// What that key gets according to the table.
fn expected(row: &Row, access: RouteAccess, kind: CallerKind, about: About) -> Outcome {
    let mine = kind.side().map_or(about != About::Unknown, |own| about == own);
    match (access, kind) {
        (RouteAccess::Public, _) => row.granted,
        (_, CallerKind::Missing) => (401, Some("UNAUTHENTICATED")),
        (_, CallerKind::Invalid) => (401, Some("INVALID_TOKEN")),
        (RouteAccess::Right(right), kind) if !kind.has(right) => FORBIDDEN,
        (RouteAccess::Agent, CallerKind::OwnToken | CallerKind::ForeignToken) => row.hidden_from_agent,
        (RouteAccess::Agent, _) => FORBIDDEN,
        (_, CallerKind::OwnToken | CallerKind::ForeignToken) if !mine => row.hidden_from_agent,
        (_, CallerKind::Operator | CallerKind::Auditor) if !mine => row.missing,
        (_, _) if mine || !row.has_target() => row.granted,
        (_, _) => row.hidden,
    }
}

/// The code of an error, of a decision, or of a batch's first decision, also in AuthZEN's form.
fn code(answer: &Answer) -> Option<String> {
    answer.code().or_else(|| {
        let body: Value = serde_json::from_slice(&answer.body).ok()?;
        let first = body.get("results").or_else(|| body.get("evaluations")).and_then(|all| all.get(0)).unwrap_or(&body);
        Some(first.get("context").unwrap_or(first).get("code")?.as_str()?.to_owned())
    })
}

/// The answer without what must differ: the ids that the call named, the new entry's id, and the time.
pub fn comparable(answer: &Answer, target: &Target) -> (u16, BTreeSet<(String, String)>, String) {
    let mut text = answer.text();
    for id in target.ids() {
        text = text.replace(id, "<id>");
    }
    if let Some(at) = text.find("\"auditId\":\"") {
        text.replace_range(at + 11..at + 11 + 36, "<new>");
    }
    if let Some(at) = text.find("\"asOf\":\"") {
        text.replace_range(at + 8..at + 8 + "2026-03-01T09:30:00.000Z".len(), "<now>");
    }
    // Whether the connection stays open depends on how fast the body came.
    let compared = answer.headers.iter().filter(|(name, _)| !["connection", "date"].contains(&name.as_str()));
    let headers = compared.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    (answer.status, headers, text)
}

/// Everything that no key may change is unchanged, to the last audit entry.
fn check_untouched(operator: &Client, world: &mut World, touched: &mut [bool; 2], place: &str) {
    for (side, touched) in [&mut world.own, &mut world.foreign].into_iter().zip(touched) {
        let read = operator.all_of(&side.target.tenant);
        if std::mem::take(touched) {
            side.seen = read;
        } else {
            assert_eq!(read, side.seen, "it changed: {place}");
        }
    }
}

#[test]
fn every_route_has_a_row_and_every_row_a_route() {
    let routes: BTreeSet<_> = endpoints().iter().map(|e| (e.method.to_string(), e.path)).collect();
    let table: BTreeSet<_> = rows().iter().map(|row| (row.method.to_owned(), row.path)).collect();
    assert_eq!(routes, table);
    assert_eq!(endpoints().len(), rows().len(), "one of them is there twice");
}

#[test]
fn a_key_that_only_reads_passes_no_guard_of_a_change() {
    for endpoint in endpoints() {
        let row = rows().into_iter().find(|row| (row.method, row.path) == (endpoint.method.as_str(), endpoint.path));
        let place = format!("{} {}", endpoint.method, endpoint.path);
        let RouteAccess::Right(right) = endpoint.access else { continue };
        let reads = matches!(right, Right::Read | Right::Oversee | Right::Ask | Right::Introspect);
        assert!(!reads || !row.unwrap().changes, "{place}");
        // What does not say that it only reads needs the right to change or to decide.
        let is_question = ["/explain", "/check", "/introspect"].iter().any(|end| endpoint.path.ends_with(end))
            || endpoint.path.starts_with("/access/v1/search/");
        assert_eq!(reads, endpoint.method == "GET" || is_question, "{place}");
    }
}

#[test]
fn every_route_answers_every_key_as_the_table_says() {
    let server = Server::start_with(Options::args(&["--trusted-proxies", "127.0.0.1"]));
    let operator = server.operator();
    let rows = rows();
    let (mut made, keys) = (0, OperatorKeys::make(&operator));
    let mut world = World::with(&operator, made, &keys);
    let mut asked = 0;
    for (number, endpoint) in endpoints().into_iter().enumerate() {
        // All these failures together are too many for one address.
        let address = format!("192.0.2.{number}");
        let found = rows.iter().find(|row| (row.method, row.path) == (endpoint.method.as_str(), endpoint.path));
        let row = found.unwrap_or_else(|| panic!("{} {} has no row in the table", endpoint.method, endpoint.path));
        // The answer to all unknown keys.
        let mut refusal = None;
        for key in 0..world.headers.len() {
            let mut hidden = Vec::new();
            let mut touched = [false; 2];
            for about in [About::Own, About::Foreign, About::Unknown] {
                if about != About::Own && !row.has_target() {
                    continue;
                }
                let (kind, header) = world.headers[key].clone();
                let client = Client::new(server.base(), header.as_deref()).forwarded_for(&address);
                let target = world.target(about).clone();
                let body = match (row.body)(&target) {
                    Value::Null if row.method == "POST" => Some(String::new()),
                    Value::Null => None,
                    body => Some(body.to_string()),
                };
                let answer = client.send(row.method, &row.path_to(&target), body.as_deref().map(str::as_bytes));
                let wanted = expected(row, endpoint.access, kind, about);
                let place = format!("{} {} {header:?} about {about:?}: {}", row.method, row.path, answer.text());
                assert_eq!((answer.status, code(&answer).as_deref()), wanted, "{place}");
                if answer.status >= 400 {
                    answer.problem(wanted.0, wanted.1.unwrap());
                }
                asked += 1;

                let granted = answer.status < 300;
                let reaches = |side: About| match kind {
                    CallerKind::Operator => about == side || about == About::Unknown || !row.has_target(),
                    // What only reads leaves everything as it is.
                    CallerKind::Auditor | CallerKind::OwnApprover | CallerKind::OwnViewer => false,
                    kind => kind.side() == Some(side),
                };
                touched[0] |= granted && reaches(About::Own);
                touched[1] |= granted && reaches(About::Foreign);
                if kind.side().is_some_and(|own| about != own) {
                    hidden.push(comparable(&answer, &target));
                }
                if kind == CallerKind::Invalid && endpoint.access != RouteAccess::Public {
                    let this = comparable(&answer, &target);
                    assert_eq!(refusal.get_or_insert(this.clone()), &this, "what is invalid about it shows: {place}");
                }
                if granted && row.changes {
                    if row.path == "/v1/tenants" {
                        operator.delete("/v1/tenants/new?confirm=new").expect(204);
                    }
                    check_untouched(&operator, &mut world, &mut touched, &place);
                    made += 1;
                    world = World::with(&operator, made, &keys);
                    touched = [false; 2];
                }
            }
            // All unknown keys are checked together.
            if world
                .headers
                .get(key + 1)
                .is_none_or(|(next, _)| !matches!(next, CallerKind::Missing | CallerKind::Invalid))
            {
                check_untouched(&operator, &mut world, &mut touched, &format!("{} {}", row.method, row.path));
            }
            if let [foreign, unknown] = &hidden[..] {
                assert_eq!(foreign, unknown, "{} {}: a foreign id answers otherwise, {key}", row.method, row.path);
            }
        }
    }
    assert!(asked > 1_000, "{asked}");
}

#[test]
fn a_foreign_slug_gets_the_answer_for_an_unknown_one() {
    let server = Server::start();
    let operator = server.operator();
    let (acme, _) = (operator.tenant("acme"), operator.tenant("globex"));
    let agent = operator.reader(&acme);
    for key in [&acme.key, &agent.token] {
        let client = server.with_key(key);
        for (method, path, body) in [
            ("GET", "/v1/tenants/{}", None),
            ("GET", "/v1/tenants/{}/keys", None),
            ("PATCH", "/v1/tenants/{}", Some(json!({ "name": "x" }))),
            ("POST", "/v1/tenants/{}/suspend", Some(json!({}))),
            ("POST", "/v1/tenants/{}/authorize", Some(call(&agent.id))),
            ("GET", "/v1/agents?tenantId={}", None),
            ("GET", "/v1/audit?tenantId={}", None),
        ] {
            let body = body.map(|body| body.to_string());
            let answers = ["globex", "nobody", "default"].map(|slug| {
                let answer = client.send(method, &path.replace("{}", slug), body.as_deref().map(str::as_bytes));
                assert!(answer.status >= 400, "{}", answer.text());
                (answer.status, answer.text().replace(slug, "<slug>"))
            });
            assert_eq!(answers[0], answers[1], "{method} {path}");
            assert_eq!(answers[0], answers[2], "{method} {path}: the default tenant");
        }
    }
}

#[test]
fn a_foreign_key_id_under_the_callers_tenant_is_unknown() {
    let server = Server::start();
    let operator = server.operator();
    let (acme, globex) = (operator.tenant("acme"), operator.tenant("globex"));
    operator.delete(&format!("/v1/tenants/acme/keys/{}", globex.key_id)).problem(404, "KEY_NOT_FOUND");
    operator.delete("/v1/tenants/acme/keys/garbage").problem(404, "KEY_NOT_FOUND");
    server.with_key(&globex.key).get("/v1/tenants").expect(200);
    server.with_key(&acme.key).get("/v1/tenants").expect(200);
}

#[test]
fn a_wrong_method_gets_the_list_of_allowed_ones() {
    let server = Server::start();
    let operator = server.operator();
    let routes = endpoints();
    let paths: BTreeSet<_> = routes.iter().map(|endpoint| endpoint.path).collect();
    for path in paths {
        let takes: BTreeSet<_> = routes
            .iter()
            .filter(|endpoint| endpoint.path == path)
            .flat_map(Endpoint::methods)
            .map(|method| method.to_string())
            .collect();
        if routes.iter().any(|endpoint| endpoint.path == path && endpoint.catch_all) {
            continue;
        }
        let concrete = path.replace("{tenant}", "acme").replace("{id}", "x").replace("{file}", "app.js");
        for method in ["GET", "POST", "PATCH", "DELETE", "PUT", "OPTIONS"] {
            // `/v1/agents/x` beside `/v1/agents/{id}/…` is recognized; paths shared by two routes are not here.
            if takes.contains(method) {
                continue;
            }
            let body = ["POST", "PATCH", "PUT"].contains(&method).then_some(&b"{}"[..]);
            let answer = operator.send(method, &concrete, body);
            answer.problem(405, "METHOD_NOT_ALLOWED");
            let allowed: BTreeSet<_> = answer.header("allow").unwrap().split(", ").map(str::to_owned).collect();
            assert_eq!(allowed, takes, "{method} {path}");
        }
    }
    for path in ["/v1", "/v1/", "/v1/tenants/", "/v2/tenants", "/v1/tenants/a/b/c/d", "/v1//tenants", "/V1/tenants"] {
        let message = operator.get(path).problem(404, "ROUTE_NOT_FOUND");
        assert!(message.contains(path), "{message}");
    }
}

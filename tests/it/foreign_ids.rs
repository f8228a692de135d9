//! Every id that a call can name, one at a time: another tenant's, and three that nothing has. A tenant key and an
//! agent's token get identical bytes for all four.
//!
//! The places come from the route table, the rows of [`crate::access_table`] and the server, which lists the members
//! and parameters it knows when one is wrong. So none can be forgotten.

use std::collections::BTreeSet;

use kavach::api::openapi_document;
use kavach::api::{Endpoint, endpoints};
use serde_json::{Value, json};

use crate::access::{CallerKind, World, comparable};
use crate::access_table::{Row, Target, rows};
use crate::client::Client;
use crate::harness::Server;

/// Fields that hold an id; the route says of which kind.
const IDS: [&str; 6] = ["tenantId", "agentId", "fromAgent", "toAgent", "auditId", "cursor"];

/// Fields that hold none.
const NO_IDS: [&str; 48] = [
    "scope",
    "thresholds",
    "groupBy",
    "label",
    "labels",
    "timeZone",
    "weekStartsOn",
    "monthStartsOn",
    "temporary",
    "url",
    "events",
    "description",
    "spreadsheet",
    "traceId",
    "code",
    "ip",
    "reason",
    "name",
    "slug",
    "settings",
    "ownerId",
    "userId",
    "type",
    "permissions",
    "expiresAt",
    "metadata",
    "graceSeconds",
    "maxDepth",
    "limits",
    "action",
    "status",
    "period",
    "tokensCost",
    "calls",
    "kind",
    "since",
    "until",
    "actions",
    "result",
    "limit",
    "offset",
    "format",
    "confirm",
    "requests",
    "resource",
    "arguments",
    "context",
    "ttlSeconds",
];

/// The place of an id in a call.
#[derive(Clone, Debug)]
enum Place {
    /// As in its row: one member of the target is another's.
    Row(fn(&mut Target) -> &mut String),
    /// In a member of the body.
    Body(&'static str),
    /// In a member of the body's only item.
    Item(&'static str),
    /// In a query parameter.
    Query(&'static str),
    /// In a header.
    Header(&'static str),
}

const MEMBERS: [fn(&mut Target) -> &mut String; 9] = [
    |target| &mut target.tenant,
    |target| &mut target.agent,
    |target| &mut target.key,
    |target| &mut target.entry,
    |target| &mut target.policy,
    |target| &mut target.friend,
    |target| &mut target.link,
    |target| &mut target.webhook,
    |target| &mut target.delivery,
];

/// The target's id that belongs in that field of a route.
fn id_for<'t>(path: &str, field: &str, target: &'t Target) -> &'t str {
    match field {
        "tenantId" => &target.tenant,
        "agentId" | "fromAgent" => &target.agent,
        "toAgent" => &target.friend,
        "auditId" | "last-event-id" => &target.entry,
        _ if path.starts_with("/v1/agents") => &target.agent,
        _ if path.ends_with("/deliveries") => &target.delivery,
        _ if path.starts_with("/v1/webhooks") => &target.webhook,
        _ if path.starts_with("/v1/policies") => &target.policy,
        _ if path.starts_with("/v1/delegations") => &target.link,
        _ if path.starts_with("/v1/audit") || path.starts_with("/v1/holds") => &target.entry,
        _ => &target.tenant,
    }
}

/// Fields of a query and of a body, as the document lists them; a decision's body is left out.
fn known_fields(row: &Row) -> (BTreeSet<String>, BTreeSet<String>) {
    let (document, _) = openapi_document();
    let operation = &document["paths"][row.path][row.method.to_lowercase()];
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let in_query = parameters.filter(|parameter| parameter["in"] == "query");
    let query = in_query.map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect();
    let body = match operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].as_str() {
        Some(reference) if !row.path.contains("authorize") && !row.path.starts_with("/access/") => {
            let schema = document.pointer(&reference[1..]).unwrap();
            schema["properties"].as_object().unwrap().keys().cloned().collect()
        }
        _ => BTreeSet::new(),
    };
    (query, body)
}

fn places(endpoint: &Endpoint, row: &Row, own: &Target) -> Vec<Place> {
    let call = |target: &Target| (row.path_to(target), (row.body)(target));
    let changes = |member: &&fn(&mut Target) -> &mut String| {
        let mut other = own.clone();
        *member(&mut other) = "other".into();
        call(&other) != call(own)
    };
    let mut places: Vec<_> = MEMBERS.iter().filter(changes).map(|member| Place::Row(*member)).collect();
    let (query, body) = known_fields(row);
    for field in query.iter().chain(&body) {
        let known = IDS.contains(&&**field) || NO_IDS.contains(&&**field);
        assert!(known, "{} {}: say whether '{field}' holds an id", endpoint.method, endpoint.path);
    }
    let ids = |there: &BTreeSet<String>| IDS.into_iter().filter(|id| there.contains(*id)).collect::<Vec<_>>();
    places.extend(ids(&query).into_iter().map(Place::Query));
    places.extend(ids(&body).into_iter().map(Place::Body));
    if row.path.contains("authorize") {
        let place: fn(_) -> _ = if row.path.ends_with("/batch") { Place::Item } else { Place::Body };
        places.extend(["tenantId", "agentId"].map(place));
    }
    if row.path == "/v1/audit/stream" {
        places.push(Place::Header("last-event-id"));
    }
    places
}

/// Ids with another tenant's tag, whichever tenant the digits name.
fn with_end(target: &Target, end: &str) -> Target {
    let mut target = target.clone();
    for member in MEMBERS {
        let id = member(&mut target);
        id.replace_range(28.., end);
    }
    target
}

#[test]
fn one_foreign_id_in_a_call_gets_the_answer_for_an_unknown_one() {
    let server = Server::start();
    let operator = server.operator();
    let rows = rows();
    let (mut asked, mut found) = (0, BTreeSet::new());
    for (n, endpoint) in endpoints().into_iter().enumerate() {
        let row = rows.iter().find(|row| (row.method, row.path) == (endpoint.method.as_str(), endpoint.path)).unwrap();
        // Earlier calls would show in the trail.
        let world = World::new(&operator, n);
        let (own, foreign) = (&world.own.target, &world.foreign.target);
        let near = world.unknown.clone();
        let others = [
            ("foreign", foreign.clone()),
            ("unknown, of the key's own tenant", near.clone()),
            ("unknown, of the other tenant", with_end(&near, &foreign.tenant[28..])),
            ("unknown, of no tenant", with_end(&near, "00c0ffee")),
        ];
        // A cursor is a place in a list, so these must be valid beside the foreign one.
        let tag = u32::from_str_radix(&foreign.tenant[28..], 16).unwrap();
        let beside = |by: u32| with_end(foreign, &format!("{:08x}", tag ^ by));
        let names = ["foreign", "unknown, one beside", "unknown, two beside", "unknown, three beside"];
        let cursors = [0, 1, 2, 3].map(|by| (names[by as usize], beside(by)));
        for place in places(&endpoint, row, own) {
            if let Place::Query(field) | Place::Body(field) = place {
                found.insert((row.path, field));
            }
            for (kind, header) in &world.headers {
                if !matches!(kind, CallerKind::OwnKey | CallerKind::OwnToken) {
                    continue;
                }
                let client = Client::new(server.base(), header.as_deref());
                let others =
                    if matches!(place, Place::Query("cursor") | Place::Header(_)) { &cursors } else { &others };
                let answers = others.each_ref().map(|(what, other)| {
                    let (mut target, mut headers) = (own.clone(), Vec::new());
                    if let Place::Row(member) = place {
                        let mut other = other.clone();
                        *member(&mut target) = member(&mut other).clone();
                    }
                    let (mut path, mut body) = (row.path_to(&target), (row.body)(&target));
                    match place {
                        Place::Row(_) => {}
                        Place::Body(field) => body[field] = json!(id_for(row.path, field, other)),
                        Place::Item(field) => body["requests"][0][field] = json!(id_for(row.path, field, other)),
                        Place::Query(field) => {
                            let mark = if path.contains('?') { '&' } else { '?' };
                            // Naming it twice would be refused for that.
                            if path.contains(&format!("{field}=")) {
                                path.truncate(path.find('?').unwrap());
                                path += &format!("?{field}={}", id_for(row.path, field, other));
                            } else {
                                path += &format!("{mark}{field}={}", id_for(row.path, field, other));
                            }
                        }
                        Place::Header(name) => headers.push((name, id_for(row.path, name, other).as_bytes())),
                    }
                    let body = if body.is_null() { String::new() } else { body.to_string() };
                    let body = ["POST", "PATCH"].contains(&row.method).then_some(body.as_bytes());
                    let answer = client.try_send(row.method, &path, &headers, body).unwrap();
                    asked += 1;
                    assert!(answer.status < 500, "{path}: {}", answer.text());
                    (*what, comparable(&answer, other))
                });
                for (what, answer) in &answers[1..] {
                    let place = format!("{} {} {place:?} by {kind:?}", row.method, row.path);
                    assert_eq!(answers[0].1, *answer, "{place}: a foreign id answers not as one that is {what}");
                }
            }
        }
        let seen = operator.all_of(&foreign.tenant);
        assert_eq!(seen, world.foreign.seen, "nothing of the other tenant changed: {} {}", row.method, row.path);
        assert_ne!(seen, Value::Null);
    }
    assert!(asked > 500, "{asked}");
    // We found what we looked for, so the server still lists what it knows.
    for wanted in
        [("/v1/agents", "cursor"), ("/v1/policies", "agentId"), ("/v1/usage", "auditId"), ("/v1/audit", "agentId")]
    {
        assert!(found.contains(&wanted), "{wanted:?} of {found:?}");
    }
}

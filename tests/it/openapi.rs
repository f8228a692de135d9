//! The OpenAPI document: it is complete, and it agrees with the types and the tables.

use std::collections::BTreeSet;

use kavach::api::endpoints;
use kavach::api::openapi_document;
use kavach::domain::Code;
use serde_json::{Value, json};

use crate::conformance::validator;
use crate::harness::Server;

/// A part of the document, and its path.
struct Place<'a> {
    at: String,
    value: &'a Value,
}

/// Every part of a JSON value.
fn places(value: &Value) -> Vec<Place<'_>> {
    let mut all = vec![Place { at: String::new(), value }];
    let mut next = 0;
    while let Some(Place { at, value }) = all.get(next) {
        let (at, value) = (at.clone(), *value);
        match value {
            Value::Object(members) => all.extend(
                members.iter().map(|(name, value)| Place { at: format!("{at}/{}", name.replace('/', "~1")), value }),
            ),
            Value::Array(items) => {
                all.extend(items.iter().enumerate().map(|(n, value)| Place { at: format!("{at}/{n}"), value }));
            }
            _ => {}
        }
        next += 1;
    }
    all
}

fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    let named = |path: &str, method: &str| format!("{} {path}", method.to_uppercase());
    paths
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().iter().map(move |(method, operation)| (named(path, method), operation))
        })
        .collect()
}

#[test]
fn each_reference_leads_somewhere() {
    let (document, _) = openapi_document();
    let mut referred = BTreeSet::new();
    for Place { at, value } in places(&document) {
        let Some(reference) = value.get("$ref").and_then(Value::as_str) else { continue };
        let pointer = reference.strip_prefix('#').unwrap_or_else(|| panic!("{at}: {reference}"));
        assert!(document.pointer(pointer).is_some(), "{at}: {reference}");
        referred.insert(pointer.to_owned());
    }
    for kind in ["schemas", "headers"] {
        for name in document["components"][kind].as_object().unwrap().keys() {
            let pointer = format!("/components/{kind}/{name}");
            assert!(referred.contains(&pointer), "nothing refers to {pointer}");
        }
    }
}

#[test]
fn schemas_of_requests_and_answers_agree() {
    let (document, clashes) = openapi_document();
    assert_eq!(clashes, Vec::<String>::new(), "give one of the two types another name");
    let names = document["components"]["schemas"].as_object().unwrap().keys();
    let numbered: Vec<_> = names.filter(|name| name.ends_with(char::is_numeric)).collect();
    assert!(numbered.is_empty(), "two types have one name: {numbered:?}");
}

#[test]
fn no_choice_allows_everything() {
    for Place { at, value } in places(&openapi_document().0) {
        let choices = ["anyOf", "oneOf"].iter().filter_map(|keyword| value.get(keyword)?.as_array());
        assert!(choices.flatten().all(|choice| *choice != json!({})), "{at}: the other choices say nothing then");
    }
}

#[test]
fn each_example_fits_its_schema() {
    let (document, _) = openapi_document();
    let mut checked = 0;
    for Place { at, value } in places(&document["paths"]) {
        let (Some(schema), Some(examples)) = (value.get("schema"), value.get("examples").and_then(Value::as_object))
        else {
            continue;
        };
        assert!(!examples.is_empty(), "{at} has no example");
        let validator = validator(schema, &document["components"]["schemas"]);
        for (name, example) in examples {
            let example = match example.get("$ref").and_then(Value::as_str) {
                Some(reference) => document.pointer(&reference[1..]).unwrap(),
                None => example,
            };
            let problems: Vec<_> = validator.iter_errors(&example["value"]).map(|e| e.to_string()).collect();
            assert!(problems.is_empty(), "{at} {name}: {problems:?}");
            checked += 1;
        }
    }
    assert!(checked > 500, "{checked}");
}

#[test]
fn each_default_fits_its_schema() {
    let (document, _) = openapi_document();
    for Place { at, value } in places(&document) {
        // A member or an example may have that name.
        let is_schema = value.get("type").is_some_and(Value::is_string) || value.get("$ref").is_some();
        let Some(default) = value.get("default").filter(|_| is_schema) else { continue };
        let validator = validator(value, &document["components"]["schemas"]);
        assert!(validator.is_valid(default), "{at}: {default}");
    }
}

#[test]
fn each_problem_is_a_plain_reference_with_its_codes_beside_it() {
    let (document, _) = openapi_document();
    let mut checked = 0;
    for Place { at, value } in places(&document) {
        let Some(schema) = value.pointer("/content/application~1problem+json/schema") else { continue };
        assert_eq!(*schema, json!({ "$ref": "#/components/schemas/Problem" }), "{at}");
        let codes = value["x-codes"].as_array().unwrap();
        let description = value["description"].as_str().unwrap();
        assert!(!codes.is_empty() && codes.len() == description.lines().count(), "{at}: {codes:?}");
        for code in codes {
            assert!(description.contains(&format!("- `{}`: ", code.as_str().unwrap())), "{at}: {code}");
        }
        checked += 1;
    }
    assert!(checked > 300, "{checked}");
}

#[test]
fn every_route_and_every_code_is_in_it() {
    let (document, _) = openapi_document();
    let documented: BTreeSet<_> = operations(&document).into_iter().map(|(name, _)| name).collect();
    let routes: BTreeSet<_> = endpoints().iter().map(|e| format!("{} {}", e.method, e.path)).collect();
    assert_eq!(documented, routes);
    let codes: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(document["components"]["schemas"]["Code"]["enum"], json!(codes));
    // Each has an example somewhere, or stands among those that no route returns.
    let text = document.to_string();
    for code in codes {
        assert!(!document["components"]["examples"][code]["value"].is_null(), "{code}");
        assert!(text.contains(&format!("\"$ref\":\"#/components/examples/{code}\"")), "no answer has {code}");
    }
}

#[test]
fn a_route_that_asks_a_tenant_documents_how_that_can_fail() {
    let (document, _) = openapi_document();
    for (name, operation) in operations(&document) {
        if operation["security"].as_array().unwrap().is_empty() {
            continue;
        }
        let codes = operation["responses"]["503"]["x-codes"].as_array().unwrap();
        for code in ["NOT_READY", "OVERLOADED", "TENANT_UNAVAILABLE", "STORAGE_UNAVAILABLE", "OUTCOME_UNKNOWN"] {
            assert!(codes.iter().any(|known| known == code), "{name} does not document {code}: {codes:?}");
        }
    }
}

#[test]
fn each_operation_is_documented_in_full() {
    let (document, _) = openapi_document();
    let mut ids = BTreeSet::new();
    for (name, operation) in operations(&document) {
        let text = |member: &str| operation[member].as_str().unwrap_or_default().to_owned();
        assert!(ids.insert(text("operationId")), "{name}: another has the same operationId");
        assert!(!text("summary").is_empty() && !text("summary").ends_with('.'), "{name}");
        assert!(text("description").ends_with('.'), "{name} has no description");
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        for parameter in &parameters {
            assert!(parameter["description"].as_str().is_some_and(|text| !text.is_empty()), "{name}: {parameter}");
        }
        let path: BTreeSet<_> =
            parameters.iter().filter(|p| p["in"] == "path").map(|p| p["name"].to_string()).collect();
        assert_eq!(path.len(), name.matches('{').count(), "{name}");
        for (status, response) in operation["responses"].as_object().unwrap() {
            assert!(response["description"].as_str().is_some_and(|text| !text.is_empty()), "{name} {status}");
        }
    }
}

#[test]
fn the_source_does_not_show_through() {
    let (document, _) = openapi_document();
    for Place { at, value } in places(&document) {
        if at.ends_with("/description")
            && let Some(text) = value.as_str()
        {
            for rust in ["[`", "::", "`None`", "`Some"] {
                assert!(!text.contains(rust), "{at}: {text}");
            }
        }
    }
}

#[test]
fn it_is_served_with_its_version() {
    let server = Server::start();
    let client = server.anonymous();
    let answer = client.get("/openapi.json");
    assert_eq!(answer.expect(200), openapi_document().0);
    let etag = answer.header("etag").unwrap().to_owned();
    for known in [etag.clone(), format!("W/{etag}"), format!("\"other\", {etag}"), "*".to_owned()] {
        let headers = [("If-None-Match", known.as_bytes())];
        let answer = client.try_send("GET", "/openapi.json", &headers, None).unwrap();
        assert_eq!((answer.status, answer.body.len(), answer.header("etag")), (304, 0, Some(&*etag)), "{known}");
    }
    client.try_send("GET", "/openapi.json", &[("If-None-Match", b"\"other\"")], None).unwrap().expect(200);
    assert!(!server.log().contains("ERROR"), "making it is no defect: {}", server.log());
}

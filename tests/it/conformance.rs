//! Every answer that a test client gets is checked against the OpenAPI document: its status, headers, media type, and
//! its body with all members.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use jsonschema::Validator;
use kavach::api::openapi::document::HEADERS;
use kavach::api::openapi_document;
use serde_json::{Value, json};

use crate::client::Answer;

/// The first answers of one kind are all checked; of later ones, one in [`LATER`].
const FIRST: usize = 100;
const LATER: usize = 20;
/// Items of a list to check.
const ITEMS: usize = 100;

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| openapi_document().0);

/// Validators of bodies by operation and status, with the number of bodies so far.
static VALIDATORS: LazyLock<Mutex<HashMap<String, Counted>>> = LazyLock::new(Mutex::default);

type Counted = (Arc<Validator>, usize);

/// A validator of a schema in the document.
pub fn validator(schema: &Value, components: &Value) -> Validator {
    let whole = json!({ "components": { "schemas": components }, "allOf": [schema] });
    jsonschema::options()
        .with_draft(jsonschema::Draft::Draft202012)
        .should_validate_formats(true)
        .build(&whole)
        .unwrap_or_else(|problem| panic!("{problem}: {schema}"))
}

/// The document's schemas, closed: an object has only documented members.
static STRICT: LazyLock<Value> = LazyLock::new(|| {
    let mut schemas = DOCUMENT["components"]["schemas"].clone();
    schemas.as_object_mut().unwrap().values_mut().for_each(close);
    schemas
});

fn close(schema: &mut Value) {
    for choice in schema.get_mut("oneOf").and_then(Value::as_array_mut).into_iter().flatten() {
        close(choice);
    }
    if schema.get("properties").is_some() {
        schema["additionalProperties"] = json!(false);
    }
}

/// The documented path that fits a request's path; the one with the fewest variables if several fit.
fn operations(path: &str) -> Option<(&'static str, &'static Value)> {
    let segments: Vec<_> = path.split('/').collect();
    let fits = |template: &str| {
        let parts: Vec<_> = template.split('/').collect();
        parts.len() == segments.len()
            && parts.iter().zip(&segments).all(|(part, is)| part == is || part.starts_with('{') && !is.is_empty())
    };
    let paths = DOCUMENT["paths"].as_object().unwrap().iter();
    let fitting =
        paths.filter(|(template, _)| fits(template)).min_by_key(|(template, _)| template.matches('{').count());
    fitting.map(|(template, operations)| (template.as_str(), operations))
}

/// Panics if the answer contradicts the document.
#[track_caller]
pub fn check(method: &str, target: &str, answer: &Answer) {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    // Answers of other servers are left out, and those to gateways, which ask with any method and path and can't read
    // others.
    if answer.header("server").is_some() || path.starts_with("/v1/forward-auth") {
        return;
    }
    let place =
        || format!("{method} {target}: {} {}", answer.status, answer.text().chars().take(500).collect::<String>());
    let components = &DOCUMENT["components"]["responses"];
    let (name, response) = match operations(path) {
        None => ("no route".to_owned(), &components["RouteNotFound"]),
        Some((template, operations)) => match operations.get(method.to_ascii_lowercase()) {
            None => (format!("{method} of others"), &components["MethodNotAllowed"]),
            Some(operation) => {
                let response = &operation["responses"][answer.status.to_string()];
                assert!(!response.is_null(), "the document knows no such status: {}", place());
                (format!("{method} {template} {}", answer.status), response)
            }
        },
    };
    for (header, _) in HEADERS {
        let documented = response["headers"].get(header).is_some();
        assert!(documented || answer.header(header).is_none(), "{header} is not documented: {}", place());
    }
    let must_have = ["Location", "WWW-Authenticate", "Allow", "ETag", "Content-Disposition"];
    for header in must_have.into_iter().filter(|header| response["headers"].get(*header).is_some()) {
        assert!(answer.header(header).is_some(), "{header} is missing: {}", place());
    }
    let Some(content) = response.get("content") else {
        assert!(answer.body.is_empty(), "no body is documented: {}", place());
        return;
    };
    let media = answer.header("content-type").unwrap_or_default();
    let Some(documented) = content.get(media) else { panic!("{media:?} is not documented: {}", place()) };
    if media == "application/problem+json" {
        check_problem(response, answer, &place);
    }
    if media == "application/json" || media.ends_with("+json") {
        check_body(format!("{name} {media}"), &documented["schema"], answer, &place);
    }
}

/// Checks what the schema of all problems leaves open.
fn check_problem(response: &Value, answer: &Answer, place: &dyn Fn() -> String) {
    let problem: Value =
        serde_json::from_slice(&answer.body).unwrap_or_else(|problem| panic!("{problem}: {}", place()));
    assert_eq!(problem["status"], answer.status, "{}", place());
    let codes = response["x-codes"].as_array().unwrap();
    assert!(codes.contains(&problem["code"]), "the document does not list this code: {}", place());
}

fn check_body(name: String, schema: &Value, answer: &Answer, place: &dyn Fn() -> String) {
    let validator = {
        let mut validators = VALIDATORS.lock().unwrap();
        let (validator, count) = validators.entry(name).or_insert_with(|| (Arc::new(validator(schema, &STRICT)), 0));
        *count += 1;
        if *count > FIRST && *count % LATER > 0 {
            return;
        }
        Arc::clone(validator)
    };
    let mut body: Value =
        serde_json::from_slice(&answer.body).unwrap_or_else(|problem| panic!("{problem}: {}", place()));
    if let Value::Array(items) = &mut body {
        items.truncate(ITEMS);
    }
    let problems: Vec<_> =
        validator.iter_errors(&body).map(|problem| format!("{} {problem}", problem.instance_path())).collect();
    assert!(problems.is_empty(), "the document says otherwise: {problems:?}\n{}", place());
}

//! All that is wrong with a body: what is missing, of the wrong type, or unknown. A client that learns of one mistake at a
//! time sends its body once for each.

use serde::Deserialize;
use serde_json::error::Category;
use serde_json::json;

use super::mended_json::{MendedJson, Mends};
use super::strict_json::StrictJson;
use super::unreadable::{Mistake, unreadable};
use crate::domain::text::quote;
use crate::domain::{Code, Error};

/// Mistakes that are named at most: nobody mends more at once.
const MOST_PROBLEMS: usize = 16;
/// Of a larger body only the first is named: it is read once for each.
const MOST_BYTES: usize = 64 << 10;

/// The error about a body, or about the part of one at that place, that can't be read as `T`.
pub fn body_problems<'de, T: Deserialize<'de>>(text: &'de [u8], part: Option<&str>) -> Error {
    let (mut mends, mut found) = (Mends::default(), Vec::new());
    let most = if text.len() > MOST_BYTES { 1 } else { MOST_PROBLEMS };
    while found.len() < most {
        let mut parser = serde_json::Deserializer::from_slice(text);
        let read: Result<T, _> = serde_path_to_error::deserialize(MendedJson::new(StrictJson(&mut parser), &mends));
        let Err(problem) = read else { break };
        let path = match problem.path().to_string() {
            path if path == "." || path == "?" => String::new(),
            path => path,
        };
        if !mends.made_up(&path) {
            // The client spelled the name of an unknown field.
            let place = match (part, quote(&path)) {
                (part, path) if path.is_empty() => part.map(str::to_owned),
                (Some(part), path) => Some(format!("{part}.{path}")),
                (None, path) => Some(path),
            };
            found.push(unreadable(place.as_deref(), problem.inner()));
        }
        let goes_on = problem.inner().classify() == Category::Data
            && match Mistake::of(problem.inner()) {
                Mistake::Missing(member) => mends.add(&path, &member),
                Mistake::Unknown => mends.pass_over(&path),
                Mistake::Value => !path.is_empty() && mends.replace(&path),
            };
        if !goes_on {
            break;
        }
    }
    all_of(found)
}

/// One error that says all of these.
fn all_of(mut found: Vec<Error>) -> Error {
    if found.len() == 1
        && let Some(only) = found.pop()
    {
        return only;
    }
    let Some(first) = found.first() else {
        return Error::new(Code::InvalidBody, "the body can't be read");
    };
    let sentences: Vec<_> = found.iter().map(Error::message).collect();
    let problems: Vec<_> =
        found.iter().map(|error| json!({ "field": error.details()["field"], "message": error.message() })).collect();
    let details = json!({ "field": first.details()["field"], "problems": problems });
    Error::new(first.code(), sentences.join("; ")).with_details(details)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::value::RawValue;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    #[expect(dead_code, reason = "it is only read")]
    struct Body<'a> {
        owner_id: String,
        kind: Kind,
        #[serde(default)]
        format: Kind,
        #[serde(alias = "count")]
        number: Option<u8>,
        limits: Limits,
        #[serde(borrow)]
        rules: Vec<Rule<'a>>,
        #[serde(borrow, default)]
        metadata: Option<&'a RawValue>,
        #[serde(default)]
        labels: BTreeMap<String, String>,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "camelCase")]
    enum Kind {
        #[default]
        Service,
        Person,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "it is only read")]
    struct Limits {
        most: u64,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "it is only read")]
    struct Rule<'a> {
        resource: &'a str,
        actions: Vec<String>,
    }

    /// What is said about the fields, in order.
    fn said(json: &str) -> Vec<String> {
        let error = body_problems::<Body<'_>>(json.as_bytes(), None);
        error.message().split("; ").map(str::to_owned).collect()
    }

    #[test]
    fn all_that_is_missing_is_named() {
        let all = ["ownerId is missing", "kind is missing", "limits is missing", "rules is missing"];
        assert_eq!(said("{}"), all);
        let error = body_problems::<Body<'_>>(b"{}", Some("requests[1]"));
        assert_eq!(error.details()["field"], "requests[1].ownerId");
        assert_eq!(error.details()["problems"][3]["field"], "requests[1].rules");
        assert_eq!(error.details()["problems"][3]["message"], "requests[1].rules is missing");
        let inner = r#"{"ownerId":"o","kind":"service","limits":{},"rules":[{"resource":"a"},{"actions":[]},{}]}"#;
        let missing = ["limits.most", "rules[0].actions", "rules[1].resource", "rules[2].resource", "rules[2].actions"];
        assert_eq!(said(inner), missing.map(|field| format!("{field} is missing")));
    }

    #[test]
    fn every_kind_of_mistake_is_named_once() {
        let json = r#"{"ownerId": 5, "kind": "robot", "color": {"a": [1]}, "number": 256, "metadata": {"x": [1, {}]},
            "limits": [], "rules": [{"resource": "a", "actions": ["b", 7], "when": 1}, null], "labels": {"a": 1}}"#;
        assert_eq!(
            said(json),
            [
                "ownerId can't be read: invalid type: integer `5`, expected a string",
                "kind must be `service` or `person`, not 'robot'",
                "color can't be read: unknown field `color`, expected one of `ownerId`, `kind`, `format`, `count`, `number`, `limits`, `rules`, `metadata`, `labels`",
                "number can't be read: invalid value: integer `256`, expected a whole number from 0 to 255",
                "limits can't be read: invalid type: sequence, expected an object",
                "rules[0].actions[1] can't be read: invalid type: integer `7`, expected a string",
                "rules[0].when can't be read: unknown field `when`, expected `resource` or `actions`",
                "rules[1] can't be read: invalid type: null, expected an object",
                "labels.a can't be read: invalid type: integer `1`, expected a string",
            ]
        );
    }

    #[test]
    fn one_mistake_is_said_as_before() {
        let json = r#"{"ownerId":"o","kind":"service","limits":{"most":1}}"#;
        let error = body_problems::<Body<'_>>(json.as_bytes(), None);
        assert_eq!((error.message(), error.details()), ("rules is missing", &json!({ "field": "rules" })));
        assert_eq!(said("[]"), ["the body can't be read: invalid type: sequence, expected an object"]);
        let broken = said(r#"{"color": 1, "ownerId": "#);
        assert_eq!(broken.len(), 2, "nothing is made up behind the end: {broken:?}");
        assert_eq!(broken[1], "ownerId can't be read: EOF while parsing a value at line 1 column 24");
    }

    #[test]
    fn no_more_are_named_than_anybody_mends() {
        let unknown: Vec<_> = (0..100).map(|n| format!("\"x{n}\":0")).collect();
        assert_eq!(said(&format!("{{{}}}", unknown.join(","))).len(), MOST_PROBLEMS);
        let large = format!("{{\"metadata\":\"{}\"}}", "x".repeat(MOST_BYTES));
        assert_eq!(said(&large), ["ownerId is missing"]);
    }
}

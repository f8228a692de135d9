//! What to say about JSON that is not what a route expects: the field and what it takes, in a client's words.

use serde_json::error::Category;

use crate::domain::text::quote_cause;
use crate::domain::{Code, Error};

/// What a value is wrong about.
pub enum Mistake {
    /// An object lacks that member.
    Missing(String),
    /// Nobody knows the member.
    Unknown,
    /// The value itself.
    Value,
}

impl Mistake {
    /// What that error is about.
    pub fn of(problem: &serde_json::Error) -> Self {
        let cause = cause_of(problem);
        match missing_field(&cause) {
            Some(name) => Self::Missing(name.to_owned()),
            None if cause.starts_with("unknown field `") => Self::Unknown,
            None => Self::Value,
        }
    }
}

/// What is wrong. Where text is no JSON, line and column help. Else the field's name does.
fn cause_of(problem: &serde_json::Error) -> String {
    let text = problem.to_string();
    let at = format!(" at line {} column {}", problem.line(), problem.column());
    let is_data = problem.classify() == Category::Data;
    quote_cause(if is_data { text.strip_suffix(&at).unwrap_or(&text) } else { &text })
}

/// The field that is missing, if that is the cause.
fn missing_field(cause: &str) -> Option<&str> {
    cause.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'))
}

/// The error about a body, or about the value at that place in it.
pub fn unreadable(place: Option<&str>, problem: &serde_json::Error) -> Error {
    let cause = cause_of(problem);
    if let Some(name) = missing_field(&cause) {
        let field = place.map_or_else(|| name.to_owned(), |place| format!("{place}.{name}"));
        return Error::field(Code::InvalidBody, &field, "is missing");
    }
    let variant = cause.strip_prefix("unknown variant `").and_then(|rest| rest.split_once("`, expected "));
    match (place, variant) {
        (Some(place), Some((given, known))) => {
            Error::field(Code::InvalidBody, place, format!("must be {known}, not '{given}'"))
        }
        (Some(place), None) => Error::field(Code::InvalidBody, place, format!("can't be read: {cause}")),
        (None, _) => Error::new(Code::InvalidBody, format!("the body can't be read: {cause}")),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase")]
    #[expect(dead_code, reason = "it is only read")]
    struct Body {
        owner_id: String,
        kind: Kind,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase")]
    enum Kind {
        Service,
        Person,
    }

    fn said(place: Option<&str>, json: &str) -> (String, Option<String>) {
        let error = unreadable(place, &serde_json::from_str::<Body>(json).unwrap_err());
        (error.message().to_owned(), error.details()["field"].as_str().map(str::to_owned))
    }

    #[test]
    fn a_missing_field_is_named() {
        assert_eq!(said(None, "{}"), ("ownerId is missing".to_owned(), Some("ownerId".to_owned())));
        let field = "requests[1].ownerId";
        assert_eq!(said(Some("requests[1]"), "{}"), (format!("{field} is missing"), Some(field.to_owned())));
    }

    #[test]
    fn a_word_that_is_none_of_those_known_is_told_which_are() {
        let (message, field) = said(Some("kind"), r#"{"ownerId": "o", "kind": "robot"}"#);
        assert_eq!(message, "kind must be `service` or `person`, not 'robot'");
        assert_eq!(field.as_deref(), Some("kind"));
    }

    #[test]
    fn only_what_is_no_json_has_a_line_and_a_column() {
        assert!(said(None, r#"{"ownerId": "o"#).0.ends_with(" at line 1 column 14"));
        let (message, _) = said(Some("ownerId"), r#"{"ownerId": 5}"#);
        assert_eq!(message, "ownerId can't be read: invalid type: integer `5`, expected a string");
    }
}

//! Examples of types, and how the document shows them.

use serde_json::{Map, Value, json};

use crate::domain::Code;

/// Examples with the names they are shown by.
pub type Examples = Vec<(&'static str, Value)>;

/// A type in requests or responses that has examples. A type without can't be documented.
pub trait Example: schemars::JsonSchema {
    /// At least one.
    fn examples() -> Examples;
}

/// A list with the first example.
impl<T: Example> Example for Vec<T> {
    fn examples() -> Examples {
        T::examples().into_iter().take(1).map(|(name, value)| (name, json!([value]))).collect()
    }
}

/// OpenAPI's map of examples. Many responses show the denials, so the document holds each denial once.
pub fn shown(examples: Examples) -> Map<String, Value> {
    let denials = Code::ALL.iter().filter(|code| crate::api::status::status(**code) == 200).map(|code| code.as_str());
    let denials: Vec<_> = denials.collect();
    let shown = |(name, value): (&str, Value)| {
        let entry = if denials.contains(&name) { reference(name) } else { json!({ "value": value }) };
        (name.to_owned(), entry)
    };
    examples.into_iter().map(shown).collect()
}

/// A reference to the example of a code.
pub fn reference(code: &str) -> Value {
    json!({ "$ref": format!("#/components/examples/{code}") })
}

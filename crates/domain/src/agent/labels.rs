//! Labels: short facts about an agent, by which budgets and lists select agents.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::de::{self, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Code, Error};
use crate::limits::{MAX_LABEL_CHARS, MAX_LABELS};
use crate::schema::inline_schema;
use crate::text::{check_no_secret, problem_of_compared, quote};

/// An agent's labels, checked, each key once. Nearly all agents have few or none, so it is one word large.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Labels(Option<Arc<Vec<Label>>>);

/// A key and its value.
type Label = (Box<str>, Box<str>);

/// Labels as a request spells them: an object of strings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelsSpec(pub Vec<(String, String)>);

inline_schema!(LabelsSpec {
    "type": "object",
    "maxProperties": MAX_LABELS,
    "propertyNames": { "pattern": "^[A-Za-z0-9._/-]{1,63}$" },
    "additionalProperties": { "type": "string", "maxLength": MAX_LABEL_CHARS },
});

impl<'de> Deserialize<'de> for LabelsSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = LabelsSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<LabelsSpec, A::Error> {
                let mut pairs = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, String>()? {
                    if pairs.contains_key(&key) {
                        return Err(de::Error::custom(format!("duplicate label '{}'", quote(&key))));
                    }
                    pairs.insert(key, value);
                }
                Ok(LabelsSpec(pairs.into_iter().collect()))
            }
        }

        deserializer.deserialize_map(Pairs)
    }
}

impl Labels {
    /// Reads labels. `field` is where they stand.
    ///
    /// # Errors
    /// `INVALID_FIELD`, naming the label.
    pub fn parse(field: &str, spec: LabelsSpec) -> Result<Self, Error> {
        let LabelsSpec(pairs) = spec;
        if pairs.len() > MAX_LABELS {
            let problem = format!("must have at most {MAX_LABELS} labels, not {}", pairs.len());
            return Err(Error::field(Code::InvalidField, field, problem));
        }
        for (key, value) in &pairs {
            check_label(field, key, value)?;
        }
        Ok(Self::from(pairs))
    }

    /// The labels by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().flat_map(|labels| labels.iter()).map(|(key, value)| (&**key, &**value))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The value of that label.
    pub fn get(&self, key: &str) -> Option<&str> {
        let labels = self.0.as_ref()?;
        let at = labels.binary_search_by(|(own, _)| (**own).cmp(key)).ok()?;
        labels.get(at).map(|(_, value)| &**value)
    }

    /// Whether it has that label.
    pub fn has(&self, key: &str, value: &str) -> bool {
        self.get(key) == Some(value)
    }

    /// Whether it has all of those.
    pub fn has_all(&self, wanted: &Self) -> bool {
        wanted.iter().all(|(key, value)| self.has(key, value))
    }
}

/// Whether a label may have that key.
pub fn is_key(key: &str) -> bool {
    let may_have = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'/' | b'-');
    !key.is_empty() && key.len() <= MAX_LABEL_CHARS && key.bytes().all(may_have)
}

/// Checks one label.
fn check_label(field: &str, key: &str, value: &str) -> Result<(), Error> {
    let refuse = |problem: String| Err(Error::field(Code::InvalidField, field, problem));
    if !is_key(key) {
        return refuse(format!(
            "must have keys of 1 to {MAX_LABEL_CHARS} letters, digits and characters of ._/-, not '{}'",
            quote(key)
        ));
    }
    let field = format!("{field}.{key}");
    let problem = if value.chars().nth(MAX_LABEL_CHARS).is_some() {
        format!("must have at most {MAX_LABEL_CHARS} characters")
    } else if let Some(problem) = problem_of_compared(value) {
        problem.to_owned()
    } else {
        check_no_secret(&field, key)?;
        return check_no_secret(&field, value);
    };
    Err(Error::field(Code::InvalidField, &field, problem))
}

/// Reads a filter's label, `key:value`.
///
/// # Errors
/// `INVALID_QUERY` without a colon.
pub fn parse_filter(text: &str) -> Result<(Box<str>, Box<str>), Error> {
    let (key, value) = text.split_once(':').ok_or_else(|| {
        Error::field(Code::InvalidQuery, "label", format!("must be key:value, not '{}'", quote(text)))
    })?;
    Ok((key.into(), value.into()))
}

impl From<Vec<(String, String)>> for Labels {
    fn from(pairs: Vec<(String, String)>) -> Self {
        let mut labels: Vec<Label> = pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        labels.sort_unstable();
        Self((!labels.is_empty()).then(|| Arc::new(labels)))
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.iter().count()))?;
        for (key, value) in self.iter() {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        LabelsSpec::deserialize(deserializer).map(|LabelsSpec(pairs)| pairs.into())
    }
}

inline_schema!(Labels { "type": "object", "additionalProperties": { "type": "string" } });

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Labels, Error> {
        Labels::parse("labels", serde_json::from_str(json).unwrap())
    }

    #[test]
    fn labels_are_kept_by_key() {
        let labels = read(r#"{"team":"data","a/b":"","env":"Übung 1"}"#).unwrap();
        assert_eq!(serde_json::to_string(&labels).unwrap(), r#"{"a/b":"","env":"Übung 1","team":"data"}"#);
        assert!(labels.has("team", "data") && labels.has("a/b", "") && !labels.has("team", "Data"));
        assert!(labels.has_all(&read(r#"{"env":"Übung 1"}"#).unwrap()) && labels.has_all(&Labels::default()));
        assert!(!Labels::default().has_all(&labels) && read("{}").unwrap().is_empty());
        let bytes = rmp_serde::to_vec_named(&labels).unwrap();
        assert_eq!(rmp_serde::from_slice::<Labels>(&bytes).unwrap(), labels);
    }

    #[test]
    fn bad_labels_name_the_field() {
        let long = "x".repeat(64);
        for (bad, field) in [
            (r#"{"":"a"}"#.to_owned(), "labels "),
            (r#"{"a b":"a"}"#.to_owned(), "labels "),
            (r#"{"ü":"a"}"#.to_owned(), "labels "),
            (r#"{"a:b":"a"}"#.to_owned(), "labels "),
            (format!(r#"{{"{long}":"a"}}"#), "labels "),
            (format!(r#"{{"team":"{long}"}}"#), "labels.team "),
            (r#"{"team":"a\u0000"}"#.to_owned(), "labels.team "),
            (r#"{"team":"u\u0308"}"#.to_owned(), "labels.team "),
        ] {
            let error = read(&bad).unwrap_err();
            assert!(error.message().starts_with(field), "{error}");
        }
        let many = |count: usize| LabelsSpec((0..count).map(|at| (format!("k{at}"), String::new())).collect());
        assert!(Labels::parse("labels", many(MAX_LABELS)).is_ok());
        assert!(Labels::parse("labels", many(MAX_LABELS + 1)).is_err());
        for bad in [r#"{"a":"1","a":"2"}"#, r#"{"a":1}"#, r#"["a"]"#, "3"] {
            assert!(serde_json::from_str::<LabelsSpec>(bad).is_err(), "{bad}");
        }
        assert!(parse_filter("team").is_err());
        assert_eq!(parse_filter("a:b:c").unwrap(), ("a".into(), "b:c".into()));
    }
}

//! The parts of a JSON value, each as the text it is written in: numbers keep all their digits, and what nobody asks
//! about is not read.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// What a JSON value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool,
    /// A number.
    Number,
    /// A string.
    Text,
    /// An array.
    Array,
    /// An object.
    Object,
}

impl Kind {
    /// The kind of a JSON text, by its first character.
    pub fn of(json: &str) -> Self {
        match json.trim_start().bytes().next() {
            Some(b'{') => Self::Object,
            Some(b'[') => Self::Array,
            Some(b'"') => Self::Text,
            Some(b't' | b'f') => Self::Bool,
            Some(b'-' | b'0'..=b'9') => Self::Number,
            _ => Self::Null,
        }
    }

    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "true or false",
            Self::Number => "a number",
            Self::Text => "a string",
            Self::Array => "an array",
            Self::Object => "an object",
        }
    }
}

/// The members of an object, in their order; a name that comes twice is there twice. `None` for anything else.
pub fn members(json: &str) -> Option<Vec<(Cow<'_, str>, &str)>> {
    serde_json::from_str::<Members<'_>>(json).ok().map(|members| members.0)
}

/// The items of an array. `None` for anything else.
pub fn items(json: &str) -> Option<Vec<&str>> {
    serde_json::from_str::<Items<'_>>(json).ok().map(|items| items.0)
}

/// The text of a string, without its escapes. `None` for anything else.
pub fn text(json: &str) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Text<'_>>(json).ok().map(|text| text.0)
}

struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(TextVisitor)
    }
}

struct Members<'a>(Vec<(Cow<'a, str>, &'a str)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;

        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some((Text(name), value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                    members.push((name, value.get()));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(MembersVisitor)
    }
}

struct Items<'a>(Vec<&'a str>);

impl<'de: 'a, 'a> Deserialize<'de> for Items<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ItemsVisitor;

        impl<'de> Visitor<'de> for ItemsVisitor {
            type Value = Items<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Items<'de>, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element::<&'de RawValue>()? {
                    items.push(item.get());
                }
                Ok(Items(items))
            }
        }

        deserializer.deserialize_seq(ItemsVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_the_text_they_came_in() {
        let json = r#"{"a":1.50,"\u0062":["x",{"y":[]}],"a":null,"":"\n"}"#;
        let found = members(json).unwrap();
        let expected = [("a", "1.50"), ("b", r#"["x",{"y":[]}]"#), ("a", "null"), ("", r#""\n""#)];
        assert_eq!(found, expected.map(|(name, value)| (Cow::from(name), value)));
        assert_eq!(items(found[1].1).unwrap(), [r#""x""#, r#"{"y":[]}"#]);
        assert_eq!(text(found[3].1).unwrap(), "\n");
        assert!(matches!(text(r#""x""#), Some(Cow::Borrowed("x"))));
    }

    #[test]
    fn a_value_of_another_kind_has_no_such_parts() {
        for (json, kind) in [
            ("null", Kind::Null),
            ("true", Kind::Bool),
            ("false", Kind::Bool),
            ("-1", Kind::Number),
            ("1e5", Kind::Number),
            (r#""{}""#, Kind::Text),
            ("[1]", Kind::Array),
            (r#"{"a":1}"#, Kind::Object),
        ] {
            assert_eq!(Kind::of(json), kind, "{json}");
            assert_eq!(members(json).is_some(), kind == Kind::Object, "{json}");
            assert_eq!(items(json).is_some(), kind == Kind::Array, "{json}");
            assert_eq!(text(json).is_some(), kind == Kind::Text, "{json}");
        }
        for broken in ["", "{", r#"{"a":}"#, r#"{"a":1}x"#, "[1", "[1,]", r#""a"#, r#"{1:2}"#] {
            assert!(members(broken).is_none() && items(broken).is_none() && text(broken).is_none(), "{broken}");
        }
    }

    #[test]
    fn deep_values_are_parts_too() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert_eq!(items(&deep).unwrap()[0].len(), deep.len() - 2);
    }
}

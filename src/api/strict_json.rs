//! Strict reading of JSON: an array is not accepted for an object, and `1.0` is the whole number 1.
//!
//! The code that serde derives for a struct also reads an array, as the members in order. A body like `["N","new"]` would
//! then create a tenant, and an array would get around the refusal of unknown fields. This reader demands an object
//! wherever a struct is wanted, at every level, so body types need not care.
//!
//! The error for a wrong type says what is expected in the words of JSON. Serde's own would name the Rust type,
//! such as `struct TenantSettingsPatch` or `u32`.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, Expected, MapAccess, SeqAccess, Unexpected, Visitor,
};

use super::plain_visits::pass_plain_values;

/// Wraps a deserializer, and everything that it hands out.
pub struct StrictJson<T>(
    /// The wrapped deserializer, visitor or seed.
    pub T,
);

macro_rules! forward {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
            self.0.$method(StrictJson(visitor))
        })*
    };
}

macro_rules! whole {
    ($($method:ident: $type:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
            self.0.$method(Whole { visitor, range: Range { least: $type::MIN.into(), most: $type::MAX.into() } })
        })*
    };
}

/// Reads `27.0` as 27: JSON Schema calls it an integer, and languages with a single number type write it.
struct Whole<V> {
    visitor: V,
    range: Range,
}

/// The range of whole numbers that a type holds.
#[derive(Clone, Copy)]
struct Range {
    least: i128,
    most: i128,
}

impl Expected for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from {} to {}", self.least, self.most)
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Whole<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Expected::fmt(&self.range, f)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<V::Value, E> {
        let Self { visitor, range } = self;
        visitor.visit_u64(value).map_err(|_: E| E::invalid_value(Unexpected::Unsigned(value), &range))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<V::Value, E> {
        let Self { visitor, range } = self;
        visitor.visit_i64(value).map_err(|_: E| E::invalid_value(Unexpected::Signed(value), &range))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<V::Value, E> {
        // Beyond this a double can't hold every whole number.
        const EXACT: f64 = (1u64 << f64::MANTISSA_DIGITS) as f64;
        if value.fract() == 0.0 && value.abs() <= EXACT {
            self.visit_i64(value as i64)
        } else {
            Err(E::invalid_type(Unexpected::Float(value), &self.range))
        }
    }
}

/// Reads an object, and nothing else.
struct Members<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for Members<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(StrictJson(entries))
    }
}

/// Reads an array, and nothing else.
struct Items<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for Items<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        self.0.visit_seq(StrictJson(items))
    }
}

/// Reads one of some words, as a string and in no other way. Variants of the enums in bodies hold nothing.
struct Word<V> {
    visitor: V,
    words: &'static [&'static str],
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Word<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "one of `{}`", self.words.join("`, `"))
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<V::Value, E> {
        self.visitor.visit_enum(StrDeserializer::new(word))
    }
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for StrictJson<D> {
    type Error = D::Error;

    whole! {
        deserialize_i8: i8 deserialize_i16: i16 deserialize_i32: i32 deserialize_i64: i64
        deserialize_u8: u8 deserialize_u16: u16 deserialize_u32: u32 deserialize_u64: u64
    }

    forward! {
        deserialize_any deserialize_bool deserialize_i128 deserialize_u128
        deserialize_f32 deserialize_f64 deserialize_char deserialize_str deserialize_string deserialize_bytes
        deserialize_byte_buf deserialize_option deserialize_unit deserialize_identifier deserialize_ignored_any
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_seq(Items(visitor))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(Members(visitor))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(Members(visitor))
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_unit_struct(name, StrictJson(visitor))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_newtype_struct(name, StrictJson(visitor))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_tuple(len, Items(visitor))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_tuple_struct(name, len, Items(visitor))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_str(Word { visitor, words })
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for StrictJson<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    pass_plain_values! { self.0 }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.0.visit_some(StrictJson(inner))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.0.visit_newtype_struct(StrictJson(inner))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        self.0.visit_seq(StrictJson(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(StrictJson(entries))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, variant: A) -> Result<V::Value, A::Error> {
        self.0.visit_enum(variant)
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for StrictJson<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(StrictJson(inner))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for StrictJson<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_element_seed(StrictJson(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for StrictJson<A> {
    type Error = A::Error;

    // A key is a string.
    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_key_seed(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(StrictJson(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    fn read<T: for<'de> Deserialize<'de>>(json: &str) -> Result<T, serde_json::Error> {
        T::deserialize(StrictJson(&mut serde_json::Deserializer::from_str(json)))
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    #[expect(dead_code, reason = "it is only read")]
    struct Everything {
        flag: bool,
        small: u8,
        signed: Option<i64>,
        text: String,
        names: Vec<String>,
        word: Letter,
        map: std::collections::BTreeMap<String, u64>,
        inner: Option<Box<Everything>>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Letter {
        Alpha,
        Beta,
    }

    #[test]
    fn errors_name_the_expected_json() {
        for (json, expected) in [
            ("5", "invalid type: integer `5`, expected an object"),
            ("[]", "invalid type: sequence, expected an object"),
            (r#"{"flag":"x"}"#, "invalid type: string \"x\", expected a boolean"),
            (r#"{"small":-1}"#, "invalid value: integer `-1`, expected a whole number from 0 to 255"),
            (r#"{"small":256}"#, "invalid value: integer `256`, expected a whole number from 0 to 255"),
            (r#"{"small":1.5}"#, "invalid type: floating point `1.5`, expected a whole number from 0 to 255"),
            (r#"{"small":"1"}"#, "invalid type: string \"1\", expected a whole number from 0 to 255"),
            (r#"{"text":null}"#, "invalid type: null, expected a string"),
            (r#"{"names":{}}"#, "invalid type: map, expected an array"),
            (r#"{"names":[[]]}"#, "invalid type: sequence, expected a string"),
            (r#"{"map":[]}"#, "invalid type: sequence, expected an object"),
            (
                r#"{"map":{"a":true}}"#,
                "invalid type: boolean `true`, expected a whole number from 0 to 18446744073709551615",
            ),
            (r#"{"word":{"alpha":null}}"#, "invalid type: map, expected one of `alpha`, `beta`"),
            (r#"{"word":1}"#, "invalid type: integer `1`, expected one of `alpha`, `beta`"),
            (r#"{"word":"gamma"}"#, "unknown variant `gamma`, expected `alpha` or `beta`"),
            (r#"{"inner":7}"#, "invalid type: integer `7`, expected an object"),
        ] {
            let said = read::<Everything>(json).unwrap_err().to_string();
            assert!(said.starts_with(&format!("{expected} at line 1 column ")), "{json}: {said}");
        }
        assert_eq!(read::<Letter>(r#""b\u0065ta""#).unwrap(), Letter::Beta);
    }

    #[test]
    fn a_whole_number_may_have_a_point() {
        for (json, number) in [("27", 27), ("27.0", 27), ("2.7e1", 27), ("0.0", 0), ("-0.0", 0), ("1e6", 1_000_000)] {
            assert_eq!(read::<u32>(json).unwrap(), number, "{json}");
            assert_eq!(read::<Option<u32>>(json).unwrap(), Some(number), "{json}");
            assert_eq!(read::<Vec<u64>>(&format!("[{json}]")).unwrap(), [u64::from(number)], "{json}");
        }
        assert_eq!(read::<i64>("-3.0").unwrap(), -3);
        assert_eq!(read::<u64>("9007199254740992.0").unwrap(), 1 << 53);
        for json in ["27.5", "-1.0", "1e10", "1e300", "\"27\"", "4294967296.0"] {
            assert!(read::<u32>(json).is_err(), "{json}");
        }
        // A double holds no such number for sure.
        assert!(read::<u64>("18014398509481984.0").is_err());
        assert_eq!(read::<f64>("27.5").unwrap().to_bits(), 27.5f64.to_bits());
    }
}

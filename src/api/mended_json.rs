//! Reading on behind a mistake in JSON, to find the next one. What is missing is made up, and what is wrong or unknown is
//! passed over. The value that comes out means nothing; only the next error counts.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, IgnoredAny, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};

use super::plain_visits::pass_plain_values;

/// The mistakes that are known already, by their places as errors spell them; `""` is the whole value.
#[derive(Debug, Default)]
pub struct Mends {
    /// Values that are made up, and members that are passed over because nobody knows them.
    replaced: HashSet<String>,
    unknown: HashSet<String>,
    /// Members that objects lack.
    missing: HashMap<String, Vec<String>>,
}

impl Mends {
    /// Makes up the value at that place. `false` if it is made up already.
    pub fn replace(&mut self, place: &str) -> bool {
        self.replaced.insert(place.to_owned())
    }

    /// Passes over the member at that place. `false` if it is passed over already.
    pub fn pass_over(&mut self, place: &str) -> bool {
        self.unknown.insert(place.to_owned())
    }

    /// Makes up a member of the object at that place. `false` if it is made up already.
    pub fn add(&mut self, place: &str, member: &str) -> bool {
        let members = self.missing.entry(place.to_owned()).or_default();
        let is_new = members.iter().all(|known| known != member);
        if is_new {
            members.push(member.to_owned());
        }
        is_new
    }

    /// Whether that place is in something that is made up.
    pub fn made_up(&self, place: &str) -> bool {
        let ends = |at: &usize| matches!(place.as_bytes().get(*at), None | Some(b'.' | b'['));
        let is_within = |outer: &str| place.starts_with(outer) && ends(&outer.len());
        let added = |(object, members): (&String, &Vec<String>)| {
            members.iter().any(|member| is_within(&member_of(object, member)))
        };
        self.replaced.iter().any(|outer| is_within(outer)) || self.missing.iter().any(added)
    }
}

/// The place of a member.
fn member_of(place: &str, name: &str) -> String {
    if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") }
}

/// A place in the value, with all that is known to be wrong.
#[derive(Clone)]
struct Place<'m> {
    path: String,
    mends: &'m Mends,
}

impl Place<'_> {
    fn member(&self, name: &str) -> Self {
        Self { path: member_of(&self.path, name), mends: self.mends }
    }

    fn item(&self, index: usize) -> Self {
        Self { path: format!("{}[{index}]", self.path), mends: self.mends }
    }

    /// The members that are to be made up.
    fn missing(&self) -> std::vec::IntoIter<String> {
        self.mends.missing.get(&self.path).cloned().unwrap_or_default().into_iter()
    }
}

/// A deserializer, visitor, seed, or the entries of something, at a place.
pub struct MendedJson<'m, T> {
    inner: T,
    place: Place<'m>,
}

impl<'m, T> MendedJson<'m, T> {
    /// Reads a whole value with those mends.
    pub fn new(inner: T, mends: &'m Mends) -> Self {
        Self { inner, place: Place { path: String::new(), mends } }
    }
}

macro_rules! forward {
    ($($method:ident($($name:ident: $type:ty),*))*) => {
        $(fn $method<V: Visitor<'de>>(self $(, $name: $type)*, visitor: V) -> Result<V::Value, Self::Error> {
            let Self { inner, place } = self;
            if place.mends.replaced.contains(&place.path) {
                inner.deserialize_ignored_any(IgnoredAny)?;
                return MadeUp::<D::Error>::at(place).$method($($name,)* visitor);
            }
            inner.$method($($name,)* MendedJson { inner: visitor, place })
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for MendedJson<'_, D> {
    type Error = D::Error;

    forward! {
        deserialize_any() deserialize_bool() deserialize_i8() deserialize_i16() deserialize_i32() deserialize_i64()
        deserialize_i128() deserialize_u8() deserialize_u16() deserialize_u32() deserialize_u64() deserialize_u128()
        deserialize_f32() deserialize_f64() deserialize_char() deserialize_str() deserialize_string()
        deserialize_bytes() deserialize_byte_buf() deserialize_option() deserialize_unit() deserialize_seq()
        deserialize_map() deserialize_identifier() deserialize_ignored_any() deserialize_tuple(len: usize)
        deserialize_unit_struct(name: &'static str) deserialize_newtype_struct(name: &'static str)
        deserialize_tuple_struct(name: &'static str, len: usize)
        deserialize_struct(name: &'static str, fields: &'static [&'static str])
        deserialize_enum(name: &'static str, words: &'static [&'static str])
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for MendedJson<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    pass_plain_values! { self.inner }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.inner.visit_some(MendedJson { inner, place: self.place })
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.inner.visit_newtype_struct(MendedJson { inner, place: self.place })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        self.inner.visit_seq(Items { items, place: self.place, next: 0 })
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<V::Value, A::Error> {
        let missing = self.place.missing();
        self.inner.visit_map(Members { entries, place: self.place, name: String::new(), missing, is_made_up: false })
    }

    fn visit_enum<A: EnumAccess<'de>>(self, variant: A) -> Result<V::Value, A::Error> {
        self.inner.visit_enum(variant)
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for MendedJson<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        self.inner.deserialize(MendedJson { inner, place: self.place })
    }
}

/// The items of an array.
struct Items<'m, A> {
    items: A,
    place: Place<'m>,
    next: usize,
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Items<'_, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let place = self.place.item(self.next);
        self.next += 1;
        self.items.next_element_seed(MendedJson { inner: seed, place })
    }
}

/// The members of an object, and behind them those that are made up.
struct Members<'m, A> {
    entries: A,
    place: Place<'m>,
    name: String,
    missing: std::vec::IntoIter<String>,
    is_made_up: bool,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Members<'_, A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        while !self.is_made_up {
            match self.entries.next_key::<String>()? {
                Some(name) if self.place.mends.unknown.contains(&self.place.member(&name).path) => {
                    self.entries.next_value::<IgnoredAny>()?;
                }
                Some(name) => {
                    self.name = name;
                    return seed.deserialize(self.name.as_str().into_deserializer()).map(Some);
                }
                None => self.is_made_up = true,
            }
        }
        let Some(name) = self.missing.next() else { return Ok(None) };
        self.name = name;
        seed.deserialize(self.name.as_str().into_deserializer()).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let place = self.place.member(&self.name);
        if self.is_made_up {
            return seed.deserialize(MadeUp::at(place));
        }
        self.entries.next_value_seed(MendedJson { inner: seed, place })
    }
}

/// A value that is made up: the least that can be read as what is wanted.
struct MadeUp<'m, E> {
    place: Place<'m>,
    fails: PhantomData<fn() -> E>,
}

impl<'m, E> MadeUp<'m, E> {
    fn at(place: Place<'m>) -> Self {
        Self { place, fails: PhantomData }
    }
}

macro_rules! least {
    ($($method:ident($($name:ident: $type:ty),*) => $visit:ident($($value:expr)?);)*) => {
        $(fn $method<V: Visitor<'de>>(self $(, $name: $type)*, visitor: V) -> Result<V::Value, E> {
            visitor.$visit($($value)?)
        })*
    };
}

impl<'de, E: Error> Deserializer<'de> for MadeUp<'_, E> {
    type Error = E;

    least! {
        deserialize_any() => visit_unit();
        deserialize_bool() => visit_bool(false);
        deserialize_i8() => visit_i64(0);
        deserialize_i16() => visit_i64(0);
        deserialize_i32() => visit_i64(0);
        deserialize_i64() => visit_i64(0);
        deserialize_i128() => visit_i128(0);
        deserialize_u8() => visit_u64(0);
        deserialize_u16() => visit_u64(0);
        deserialize_u32() => visit_u64(0);
        deserialize_u64() => visit_u64(0);
        deserialize_u128() => visit_u128(0);
        deserialize_f32() => visit_f64(0.0);
        deserialize_f64() => visit_f64(0.0);
        deserialize_char() => visit_char('-');
        deserialize_str() => visit_borrowed_str("");
        deserialize_string() => visit_borrowed_str("");
        deserialize_bytes() => visit_borrowed_bytes(b"");
        deserialize_byte_buf() => visit_borrowed_bytes(b"");
        deserialize_option() => visit_none();
        deserialize_unit() => visit_unit();
        deserialize_identifier() => visit_borrowed_str("");
        deserialize_ignored_any() => visit_unit();
        deserialize_unit_struct(_name: &'static str) => visit_unit();
        deserialize_seq() => visit_seq(Nothing(PhantomData));
        deserialize_tuple(_len: usize) => visit_seq(Nothing(PhantomData));
        deserialize_tuple_struct(_name: &'static str, _len: usize) => visit_seq(Nothing(PhantomData));
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, E> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, E> {
        let missing = self.place.missing();
        let entries = Nothing(PhantomData);
        visitor.visit_map(Members { entries, place: self.place, name: String::new(), missing, is_made_up: true })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, E> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, E> {
        visitor.visit_enum(StrDeserializer::new(words.first().copied().unwrap_or_default()))
    }
}

/// An array or an object with nothing in it.
struct Nothing<E>(PhantomData<fn() -> E>);

impl<'de, E: Error> SeqAccess<'de> for Nothing<E> {
    type Error = E;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, _: S) -> Result<Option<S::Value>, E> {
        Ok(None)
    }
}

impl<'de, E: Error> MapAccess<'de> for Nothing<E> {
    type Error = E;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, _: S) -> Result<Option<S::Value>, E> {
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, _: S) -> Result<S::Value, E> {
        Err(E::custom("there is no such member"))
    }
}

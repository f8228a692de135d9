//! A call's arguments: JSON kept as the text it came in, so that a call without restrictions costs no parse.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use smallvec::SmallVec;

use crate::error::{Code, Error};
use crate::limits::{MAX_JSON_DEPTH, MAX_MATCHED_STRINGS};
use crate::text::quote;

/// A call's arguments: the text of one valid JSON value (RFC 8259).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arguments<'a> {
    /// Nothing is known about the text.
    Any(&'a str),
    /// The parser saw that no string has an escape, no object repeats a name, and nesting is within [`MAX_JSON_DEPTH`].
    Plain {
        /// The text as it came.
        json: &'a str,
        /// Whether it has white space between tokens.
        spaced: bool,
    },
}

impl<'a> Arguments<'a> {
    /// The text as it came.
    pub fn text(self) -> &'a str {
        let (Self::Any(text) | Self::Plain { json: text, .. }) = self;
        text
    }

    /// The text without white space between tokens and without needless escapes.
    ///
    /// # Errors
    /// `INVALID_FIELD` if some parsers could not read it, or would read it differently.
    pub fn compact(self) -> Result<Compact<'a>, Error> {
        match self {
            Self::Plain { json, spaced: false } => Ok(Compact { json: json.into(), is_too_deep: false }),
            Self::Plain { json, spaced: true } => Ok(Compact { json: without_spaces(json).into(), is_too_deep: false }),
            Self::Any(json) => shorten("arguments", json),
        }
    }
}

/// JSON without white space between tokens and with only the escapes it needs, as `JSON.stringify` writes it.
#[derive(Debug, PartialEq)]
pub struct Compact<'a> {
    /// The text.
    pub json: Cow<'a, str>,
    /// Whether it is nested deeper than [`MAX_JSON_DEPTH`].
    pub is_too_deep: bool,
}

/// JSON in its short form, checked against `max_bytes` and the nesting limit.
///
/// `json` must be one valid JSON value (RFC 8259), as a JSON parser's raw value is.
///
/// # Errors
/// `INVALID_FIELD`, naming `field`.
pub fn compact<'a>(field: &str, json: &'a str, max_bytes: usize) -> Result<Cow<'a, str>, Error> {
    let Compact { json, is_too_deep } = shorten(field, json)?;
    if is_too_deep {
        let problem = format!("must not be nested deeper than {MAX_JSON_DEPTH}");
        return Err(Error::field(Code::InvalidField, field, problem));
    }
    if json.len() > max_bytes {
        return Err(Error::field(Code::InvalidField, field, format!("must have at most {max_bytes} bytes as JSON")));
    }
    Ok(json)
}

/// JSON in its short form.
///
/// # Errors
/// `INVALID_FIELD` for JSON that some parsers can't read, or read differently (RFC 7493).
fn shorten<'a>(field: &str, json: &'a str) -> Result<Compact<'a>, Error> {
    let refuse = |problem: &str| Error::field(Code::InvalidField, field, problem);
    let mut open = OpenContainers::default();
    let (mut is_too_deep, mut spaces, mut escapes) = (false, 0usize, false);
    let mut string = "";
    let mut bytes = json.bytes();
    while let Some(byte) = bytes.next() {
        let start = json.len() - bytes.len();
        match byte {
            b'"' => {
                if !skip_string(&mut bytes) {
                    return Err(refuse("must not contain an unpaired surrogate"));
                }
                string = json.get(start..(json.len() - bytes.len()).saturating_sub(1)).unwrap_or_default();
                escapes |= string.contains('\\');
            }
            b':' => open.member(string),
            b'[' | b'{' => {
                open.begin();
                is_too_deep |= open.starts.len() > MAX_JSON_DEPTH;
            }
            b']' | b'}' => {
                if let Some(twice) = open.end() {
                    return Err(refuse(&format!(
                        "must not contain the member '{}' twice in one object",
                        quote(&twice)
                    )));
                }
            }
            b'-' | b'0'..=b'9' => {
                let rest = json.get(start - 1..).unwrap_or_default();
                let end = rest.bytes().position(|byte| !matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
                let (number, rest) = rest.split_at_checked(end.unwrap_or(rest.len())).unwrap_or_default();
                if !is_common_number(number) {
                    return Err(refuse(&format!(
                        "must not contain numbers outside the range of a double, such as {}",
                        quote(number)
                    )));
                }
                bytes = rest.bytes();
            }
            b' ' | b'\n' | b'\r' | b'\t' => spaces += 1,
            _ => {}
        }
    }
    let json = if spaces == 0 { Cow::Borrowed(json) } else { Cow::Owned(without_spaces(json)) };
    Ok(Compact { json: if escapes { without_escapes(&json).into() } else { json }, is_too_deep })
}

/// The objects and arrays that are open, with their members' names.
#[derive(Default)]
struct OpenContainers<'a> {
    names: Vec<Cow<'a, str>>,
    /// For each, where its names begin.
    starts: Vec<usize>,
}

impl<'a> OpenContainers<'a> {
    fn begin(&mut self) {
        self.starts.push(self.names.len());
    }

    fn member(&mut self, name: &'a str) {
        self.names.push(if name.contains('\\') { unescaped(name).into() } else { name.into() });
    }

    /// Closes the innermost. Returns a name that occurs twice.
    fn end(&mut self) -> Option<Cow<'a, str>> {
        let start = self.starts.pop().unwrap_or_default();
        let twice = first_twice(self.names.get_mut(start..).unwrap_or_default());
        self.names.truncate(start);
        twice
    }
}

/// The text of a JSON string, given what is between its quotes.
fn unescaped(inner: &str) -> String {
    // A parser has read the whole text before.
    serde_json::from_str(&format!("\"{inner}\"")).unwrap_or_else(|_| inner.to_owned())
}

/// Up to this many names we compare in pairs rather than sort.
const FEW_NAMES: usize = 8;

/// A name that occurs twice. Many names are sorted for it.
pub fn first_twice<T: Ord + Clone>(names: &mut [T]) -> Option<T> {
    if names.len() > FEW_NAMES {
        names.sort_unstable();
        return names.windows(2).find_map(|pair| match pair {
            [one, other] if one == other => Some(one.clone()),
            _ => None,
        });
    }
    let mut before: SmallVec<[&T; FEW_NAMES]> = SmallVec::new();
    names
        .iter()
        .find(|name| {
            let is_known = before.contains(name);
            before.push(*name);
            is_known
        })
        .cloned()
}

/// JSON whose strings have only the escapes they need, each in its shortest form.
fn without_escapes(json: &str) -> String {
    let mut short = String::with_capacity(json.len());
    let mut rest = json;
    while let Some((before, after)) = rest.split_once('"') {
        let mut bytes = after.bytes();
        skip_string(&mut bytes);
        let (inner, next) = after.split_at_checked(after.len() - bytes.len()).unwrap_or_default();
        let inner = inner.strip_suffix('"').unwrap_or(inner);
        short.push_str(before);
        if inner.contains('\\') {
            short.push_str(&serde_json::to_string(&unescaped(inner)).unwrap_or_default());
        } else {
            short.extend(["\"", inner, "\""]);
        }
        rest = next;
    }
    short.push_str(rest);
    short
}

/// Skips past a string's closing quote. Returns false if the string has half of a surrogate pair as an escape: that is
/// not text, and readers of the audit trail would stumble over it.
fn skip_string(bytes: &mut std::str::Bytes<'_>) -> bool {
    while let Some(byte) = bytes.find(|byte| matches!(byte, b'"' | b'\\')) {
        if byte == b'"' {
            return true;
        }
        // An escaped quote ends nothing.
        if bytes.next() == Some(b'u') {
            let is_whole = match four_digits(bytes) {
                0xd800..=0xdbff => {
                    bytes.next() == Some(b'\\')
                        && bytes.next() == Some(b'u')
                        && (0xdc00..=0xdfff).contains(&four_digits(bytes))
                }
                0xdc00..=0xdfff => false,
                _ => true,
            };
            if !is_whole {
                return false;
            }
        }
    }
    true
}

/// Whether the number fits in a double: many clients can't read any other (RFC 7493, 2.2).
fn is_common_number(number: &str) -> bool {
    let may_be_large = number.len() > 300 || number.contains(['e', 'E']);
    !may_be_large || number.parse().is_ok_and(f64::is_finite)
}

/// The hexadecimal number in the next four bytes.
fn four_digits(bytes: &mut std::str::Bytes<'_>) -> u32 {
    bytes.take(4).fold(0, |number, digit| number << 4 | char::from(digit).to_digit(16).unwrap_or(0))
}

fn without_spaces(json: &str) -> String {
    let mut in_string = false;
    let mut escaped = false;
    json.chars()
        .filter(|c| {
            match c {
                _ if escaped => escaped = false,
                '\\' if in_string => escaped = true,
                '"' => in_string = !in_string,
                _ => {}
            }
            in_string || !matches!(c, ' ' | '\n' | '\r' | '\t')
        })
        .collect()
}

/// The string values in JSON, at any depth; keys don't count. They are read once, when the first permission needs them.
pub struct Strings<'a> {
    json: &'a str,
    found: OnceCell<FoundStrings<'a>>,
}

/// The strings that were found in a text.
#[derive(Default)]
struct FoundStrings<'a> {
    /// Those before the first problem, and no more than can be matched.
    strings: SmallVec<[Cow<'a, str>; 8]>,
    is_json: bool,
    are_too_many: bool,
}

impl<'a> Strings<'a> {
    /// The strings of a text.
    pub fn of(json: &'a str) -> Self {
        Self { json, found: OnceCell::new() }
    }

    /// The text that they are in.
    pub fn json(&self) -> &'a str {
        self.json
    }

    /// Bytes to read.
    pub fn bytes(&self) -> usize {
        self.json.len()
    }

    /// Whether there are more than can be matched.
    pub fn are_too_many(&self) -> bool {
        self.found().are_too_many
    }

    fn found(&self) -> &FoundStrings<'a> {
        self.found.get_or_init(|| {
            let mut found = FoundStrings::default();
            let mut parser = serde_json::Deserializer::from_str(self.json);
            found.is_json = DeserializeSeed::deserialize(StringVisitor(&mut found), &mut parser).is_ok();
            found
        })
    }

    /// Whether there are any and `agrees` returns true for all; it is not called after its first false. False for text that
    /// is not JSON.
    pub fn all(&self, mut agrees: impl FnMut(&str) -> bool) -> bool {
        let FoundStrings { strings, is_json, .. } = self.found();
        strings.iter().all(|text| agrees(text)) && *is_json && !strings.is_empty()
    }
}

struct StringVisitor<'w, 'de>(&'w mut FoundStrings<'de>);

impl<'de> StringVisitor<'_, 'de> {
    fn take<E: de::Error>(self, text: Cow<'de, str>) -> Result<(), E> {
        self.0.are_too_many = self.0.strings.len() >= MAX_MATCHED_STRINGS;
        if self.0.are_too_many {
            return Err(E::custom("too many strings"));
        }
        self.0.strings.push(text);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for StringVisitor<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for StringVisitor<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<(), E> {
        self.take(Cow::Borrowed(text))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        self.take(Cow::Owned(text.to_owned()))
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(StringVisitor(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while entries.next_key::<serde::de::IgnoredAny>()?.is_some() {
            entries.next_value_seed(StringVisitor(self.0))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(json: &str) -> Vec<String> {
        let mut seen = Vec::new();
        let all = Strings::of(json).all(|text| {
            seen.push(text.to_owned());
            true
        });
        assert_eq!(all, !seen.is_empty(), "{json}");
        seen
    }

    #[test]
    fn every_string_value_at_any_depth_is_shown_and_no_key() {
        let json = r#"{"a":"1","b":["2",{"c":"3\n\u00e9"},4,null,true,1.5],"d":{}}"#;
        assert_eq!(strings(json), ["1", "2", "3\né"]);
        assert!(strings("{}").is_empty());
        // A repeated key hides nothing.
        assert_eq!(strings(r#"{"a":"x","a":"y"}"#), ["x", "y"]);
    }

    #[test]
    fn nobody_is_asked_after_the_first_no() {
        let strings = Strings::of(r#"["a","b\n","c"]"#);
        let mut asked = Vec::new();
        assert!(!strings.all(|text| {
            asked.push(text.to_owned());
            text == "a"
        }));
        assert_eq!(asked, ["a", "b\n"]);
        assert!(strings.all(|text| text != "d"), "they can be asked for again");
        assert!(!Strings::of("[1]").all(|_| true), "there is none");
        for broken in [r#"["a",1e999]"#, r#"["a""#] {
            assert!(!Strings::of(broken).all(|_| true), "{broken}");
        }
    }

    #[test]
    fn space_between_tokens_goes_and_space_in_strings_stays() {
        let compacted = compact("arguments", "{ \"a b\" :\n\t[ \"c \\\" d\" , 1 ] }", 100).unwrap();
        assert_eq!(compacted, r#"{"a b":["c \" d",1]}"#);
        assert!(matches!(compact("arguments", r#"{"a":1}"#, 100).unwrap(), Cow::Borrowed(_)));
    }

    #[test]
    fn json_that_some_clients_cannot_read_is_refused() {
        for (good, bad) in [
            (r#""\ud83d\ude00""#, r#""\ud83d""#),
            (r#""\\ud83d \u00e9""#, r#""\ud83dx\ude00""#),
            (r#"["\udbff\udfff"]"#, r#"["\ude00"]"#),
            (r#"{"\ud800\udc00":1}"#, r#"{"\ud800\u0041":1}"#),
            ("1e308", "1e309"),
            ("[-1E+2,1e-999]", "[1,-1E+999]"),
            (&"9".repeat(300), &"9".repeat(400)),
            (r#""1e999""#, r#"{"n":1e999}"#),
        ] {
            assert!(serde_json::from_str::<serde_json::Value>(good).is_ok(), "{good}");
            assert!(serde_json::from_str::<serde_json::Value>(bad).is_err(), "{bad}");
            let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
            assert_eq!(read(&compact("arguments", good, 1_000).unwrap()), read(good));
            assert_eq!(compact("arguments", bad, 1_000).unwrap_err().code(), Code::InvalidField, "{bad}");
        }
    }

    #[test]
    fn only_needed_escapes_stay() {
        for (json, short) in [
            (r#""\ud83d\ude00""#, "\"😀\""),
            (r#"{"\u0061\/":"\u006bv_\u0022"}"#, r#"{"a/":"kv_\""}"#),
            (r#"["\u000a\n\\\"", "\u0001"]"#, r#"["\n\n\\\"","\u0001"]"#),
            (r#""a: \\""#, r#""a: \\""#),
        ] {
            assert_eq!(compact("arguments", json, 1_000).unwrap(), short);
        }
        let emoji = format!("\"{}\"", r"\ud83d\ude00".repeat(100));
        assert!(compact("arguments", &emoji, 402).is_ok(), "the limit counts decoded bytes");
        assert!(compact("arguments", &emoji, 401).is_err());
    }

    #[test]
    fn a_repeated_member_is_refused_at_any_depth() {
        let many: Vec<_> = (0..100).map(|n| format!("\"m{n}\":{{}}")).collect();
        let object = |members: &[String]| format!("{{{}}}", members.join(","));
        for (good, bad) in [
            (r#"{"a":1,"b":1}"#, r#"{"a":1,"a":1}"#),
            (r#"[{"a":{"a":1}},{"a":"a"}]"#, r#"[{"b":[{"a":1,"b":2,"a":3}]}]"#),
            (r#"{"a":"a","b":"a"}"#, r#"{"a":{"x":1},"\u0061":2}"#),
            (r#"{"a":["b","b",":"],"b":{}}"#, r#"{"a":[],"b":{},"a" : 1}"#),
            (&object(&many), &object(&[&many[..], &["\"m50\":1".to_owned()]].concat())),
        ] {
            assert!(compact("arguments", good, 10_000).is_ok(), "{good}");
            let error = compact("arguments", bad, 10_000).unwrap_err();
            assert!(error.message().contains("twice"), "{error}");
        }
    }

    #[test]
    fn size_and_depth_are_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(compact("arguments", &nested(MAX_JSON_DEPTH), 1_000).is_ok());
        assert!(compact("arguments", &nested(MAX_JSON_DEPTH + 1), 1_000).is_err());
        assert!(compact("arguments", r#""[[[[""#, 6).is_ok());
        assert!(compact("arguments", r#""[[[[""#, 5).is_err());
    }
}

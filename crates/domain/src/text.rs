//! Text from clients: names and slugs that can't hold a bad value, and how to quote any text in a sentence.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, LazyLock};

use regex::Regex;
use serde::{Deserialize, Serialize};
use unicode_normalization::{UnicodeNormalization, is_nfc};

use crate::error::{Code, Error};
use crate::limits::{MAX_CAUSE_CHARS, MAX_NAME_CHARS, MAX_QUOTED_CHARS, MAX_SLUG_CHARS};
use crate::secret_scan::{hide_secrets, holds_secret};

/// The word that names the default tenant in paths and filters.
pub const DEFAULT_TENANT_NAME: &str = "default";

/// A value cut short enough for a sentence, with invisible characters made visible.
pub fn quote(value: &str) -> String {
    cut(value, MAX_QUOTED_CHARS)
}

/// A parser's message as part of a sentence: it may quote any text that the parser read.
pub fn quote_cause(cause: &str) -> String {
    cut(cause, MAX_CAUSE_CHARS)
}

fn cut(value: &str, most: usize) -> String {
    // Before cutting: the start of a key would not be recognized.
    let value = hide_secrets(value);
    let start = first_chars(&value, most);
    let mut quoted = visible(start);
    if start.len() < value.len() {
        quoted.push('…');
    }
    quoted
}

/// The start of a value, at most `most` bytes, with invisible characters made visible.
pub fn shown_within(value: &str, most: usize) -> String {
    // Before cutting, as above.
    let mut shown = visible(first_chars(&hide_secrets(value), most));
    if shown.len() > most {
        shown.truncate(shown.floor_char_boundary(most.saturating_sub('…'.len_utf8())));
        shown.push('…');
    }
    shown
}

fn first_chars(text: &str, most: usize) -> &str {
    text.char_indices().nth(most).and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

/// The text with invisible characters made visible.
fn visible(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    text.chars().flat_map(char_shown).collect()
}

fn char_shown(c: char) -> impl Iterator<Item = char> {
    let (escaped, plain) = if is_unseen(c) { (Some(c.escape_default()), None) } else { (None, Some(c)) };
    escaped.into_iter().flatten().chain(plain)
}

/// Whether the text is printable ASCII: a quick answer for most text.
pub fn is_plain(text: &str) -> bool {
    // No branches, so that one step checks many bytes.
    text.bytes().fold(true, |plain, byte| plain & matches!(byte, b' '..=b'~'))
}

/// Whether the text holds a control character.
pub fn has_control(text: &str) -> bool {
    !is_plain(text) && text.chars().any(char::is_control)
}

/// Invisible characters: controls, including those that turn the direction of text, zero-width ones, and those a font
/// may leave out (Unicode 16, 4.4 and 5.21).
static UNSEEN: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]").ok());

/// Whether the text holds an invisible character, so that two unequal texts may look alike.
pub fn has_unseen(text: &str) -> bool {
    !is_plain(text) && UNSEEN.as_ref().is_none_or(|unseen| unseen.is_match(text))
}

fn is_unseen(c: char) -> bool {
    has_unseen(c.encode_utf8(&mut [0; 4]))
}

/// Whether the text has that many hexadecimal digits, in lower case, and nothing else.
pub fn is_lower_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// What is wrong with a text that is compared with others: texts that look alike must be equal.
pub fn problem_of_compared(text: &str) -> Option<&'static str> {
    if is_plain(text) {
        None
    } else if has_unseen(text) {
        Some("must not contain control or invisible characters")
    } else if !is_nfc(text) {
        Some("must be in Unicode normalization form C (NFC)")
    } else {
        None
    }
}

/// The text in Unicode's NFC (UAX #15).
pub fn composed(text: &str) -> Cow<'_, str> {
    if is_plain(text) || is_nfc(text) { Cow::Borrowed(text) } else { Cow::Owned(text.nfc().collect()) }
}

/// An owner's id in the form that is compared: trimmed, and in NFC.
pub fn owner_sought(text: &str) -> Cow<'_, str> {
    composed(text.trim())
}

/// An owner's id: a name without invisible characters, since policies and filters compare it.
///
/// # Errors
/// `INVALID_FIELD`, naming `field`.
pub fn parse_owner(field: &str, text: &str) -> Result<Box<str>, Error> {
    if has_unseen(text) {
        let problem = "must not contain control or invisible characters";
        return Err(Error::field(Code::InvalidField, field, problem));
    }
    parse_name(field, text)
}

/// A name as people write it, in NFC: 1 to 256 visible characters, not blank, trimmed.
///
/// Joiners and variation selectors, which emoji and some scripts need, are allowed after a character that is not ASCII.
///
/// # Errors
/// `INVALID_FIELD`, naming `field`.
pub fn parse_name(field: &str, text: &str) -> Result<Box<str>, Error> {
    let text = &*composed(text);
    if has_unseen(text) && has_unseen(&without_joiners(text)) {
        let problem = "must not contain control or invisible characters";
        return Err(Error::field(Code::InvalidField, field, problem));
    }
    let text = text.trim();
    if text.is_empty() {
        return Err(Error::field(Code::InvalidField, field, "must not be empty"));
    }
    if text.chars().nth(MAX_NAME_CHARS).is_some() {
        return Err(Error::field(Code::InvalidField, field, format!("must have at most {MAX_NAME_CHARS} characters")));
    }
    check_no_secret(field, text)?;
    Ok(text.into())
}

/// The text without the joiners and variation selectors that have a use where they are.
fn without_joiners(text: &str) -> String {
    let mut before = ' ';
    text.chars()
        .filter(|c| {
            let is_joiner = matches!(c, '\u{200c}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}');
            if !is_joiner {
                before = *c;
            }
            !is_joiner || before.is_ascii()
        })
        .collect()
}

/// Refuses text that contains what looks like a key or token: it would be stored and shown to others.
///
/// # Errors
/// `INVALID_FIELD`, naming `field`.
pub fn check_no_secret(field: &str, text: &str) -> Result<(), Error> {
    if holds_secret(text) {
        return Err(Error::field(
            Code::InvalidField,
            field,
            "must not contain a key or token, because others can read it",
        ));
    }
    Ok(())
}

/// A tenant's short name in paths: `^[a-z0-9]+(?:-[a-z0-9]+)*$`, at most 63 characters, never `default`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Cow<'_, str>")]
pub struct Slug(Arc<str>);

impl Slug {
    /// Reads a slug for a new tenant.
    ///
    /// # Errors
    /// `INVALID_FIELD` where the text is no slug, `SLUG_TAKEN` for `default`.
    pub fn parse(field: &str, text: &str) -> Result<Self, Error> {
        if !is_slug(text) {
            return Err(Error::field(
                Code::InvalidField,
                field,
                format!(
                    "must be lower-case letters and digits in words joined by single hyphens, at most \
                     {MAX_SLUG_CHARS} characters, not '{}'",
                    quote(text)
                ),
            ));
        }
        if text == DEFAULT_TENANT_NAME {
            return Err(Error::field(Code::SlugTaken, field, "'default' already exists: it names the default tenant"));
        }
        Ok(Self(text.into()))
    }

    /// The slug's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether the text has the form of a slug.
pub fn is_slug(text: &str) -> bool {
    text.len() <= MAX_SLUG_CHARS
        && text
            .split('-')
            .all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()))
}

impl TryFrom<Cow<'_, str>> for Slug {
    type Error = Error;

    fn try_from(text: Cow<'_, str>) -> Result<Self, Error> {
        Self::parse("slug", &text)
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_words_joined_by_hyphens() {
        for good in ["a", "acme", "acme-2", "0", "a-b-c", &"x".repeat(63)] {
            assert!(Slug::parse("slug", good).is_ok(), "{good}");
        }
        for bad in ["", "-", "a-", "-a", "a--b", "Acme", "a_b", "a b", "ä", "a.b", "a/b", &"x".repeat(64)] {
            assert_eq!(Slug::parse("slug", bad).unwrap_err().code(), Code::InvalidField, "{bad}");
        }
        assert_eq!(Slug::parse("slug", "default").unwrap_err().code(), Code::SlugTaken);
    }

    #[test]
    fn names_are_trimmed_and_bounded() {
        assert_eq!(&*parse_name("name", "  Acme Inc. ").unwrap(), "Acme Inc.");
        for bad in ["", "   ", "a\u{0}b", "a\nb", "a\n", "\ta", &"é".repeat(257)] {
            assert!(parse_name("name", bad).is_err(), "{bad:?}");
        }
        assert!(parse_name("name", &"é".repeat(256)).is_ok());
    }

    /// One of each kind: directions, zero widths, fillers, separators, tags, annotations.
    const UNSEEN_ONES: &str = "\u{202e}\u{2066}\u{200f}\u{61c}\u{200b}\u{2060}\u{feff}\u{ad}\u{180e}\u{3164}\u{115f}\
                               \u{34f}\u{2028}\u{2029}\u{e0041}\u{fff9}\u{85}\u{7f}\u{0}\u{200d}\u{fe0f}\u{e0100}";

    #[test]
    fn invisible_characters_are_refused_and_shown_escaped() {
        for unseen in UNSEEN_ONES.chars() {
            let text = format!("ad{unseen}min");
            assert!(problem_of_compared(&text).is_some(), "{unseen:?}");
            assert!(parse_owner("ownerId", &text).is_err(), "{unseen:?}");
            assert!(parse_name("name", &text).is_err(), "{unseen:?}");
            assert_eq!(quote(&text), format!("ad{}min", unseen.escape_default()));
        }
        for good in ["é", "日本語", "עברית", "यूज़र", "👩", "a b", "ß-ſ"] {
            let good = &*composed(good);
            assert_eq!(problem_of_compared(good), None, "{good}");
            assert!(parse_owner("ownerId", good).is_ok(), "{good}");
            assert_eq!(quote(good), good);
        }
        // Emoji and some scripts need these, if nothing is compared.
        for name in ["👩\u{200d}💻", "❤\u{fe0f}\u{200d}🔥", "می\u{200c}خواهم"] {
            assert!(parse_name("name", name).is_ok(), "{name}");
            assert!(parse_owner("ownerId", name).is_err(), "{name}");
        }
    }

    #[test]
    fn compared_text_is_composed() {
        let (composed, apart) = ("Zoe\u{308} Å", "Zoe\u{308} A\u{30a}");
        assert_eq!(parse_owner("ownerId", apart).unwrap(), parse_owner("ownerId", composed).unwrap());
        assert_eq!(&*parse_owner("ownerId", apart).unwrap(), "Zoë Å");
        assert_eq!(owner_sought(&format!(" {apart}")), "Zoë Å");
        assert_eq!(problem_of_compared(apart), Some("must be in Unicode normalization form C (NFC)"));
        assert_eq!(problem_of_compared("Zoë Å"), None);
    }

    #[test]
    fn shown_text_is_cut_between_characters() {
        assert_eq!(shown_within("aé", 3), "aé");
        assert_eq!(shown_within("aéé", 4), "a…");
        assert_eq!(shown_within("a\u{202e}", 20), "a\\u{202e}");
        assert!((0..40).all(|most| shown_within(&"é\u{1b}".repeat(99), most).len() <= most.max(3)));
    }

    #[test]
    fn quoted_values_are_short_and_visible() {
        assert_eq!(quote("a\nb"), "a\\nb");
        assert_eq!(quote(&"x".repeat(500)).chars().count(), MAX_QUOTED_CHARS + 1);
    }
}

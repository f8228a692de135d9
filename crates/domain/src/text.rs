//! Text a client chose: names and slugs that can't hold a bad value, and how any text is quoted in a sentence.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Code, Error};
use crate::limits::{MAX_CAUSE_CHARS, MAX_NAME_CHARS, MAX_QUOTED_CHARS, MAX_SLUG_CHARS};
use crate::secret::{check_no_secret, hide_secrets};

/// The word that names the default tenant in paths and filters.
pub const DEFAULT_TENANT_NAME: &str = "default";

/// A value cut to a length a sentence can hold, with control characters made visible.
pub fn quote(value: &str) -> String {
    cut(value, MAX_QUOTED_CHARS)
}

/// What a parser says is wrong, as a part of a sentence: it may quote any text that it read.
pub fn quote_cause(cause: &str) -> String {
    cut(cause, MAX_CAUSE_CHARS)
}

fn cut(value: &str, most: usize) -> String {
    // Before it is cut: the start of a key would not be known for one.
    let value = hide_secrets(value);
    let mut quoted: String = value.chars().take(most).flat_map(char_shown).collect();
    if value.chars().nth(most).is_some() {
        quoted.push('…');
    }
    quoted
}

fn char_shown(c: char) -> impl Iterator<Item = char> {
    let (escaped, plain) = if c.is_control() { (Some(c.escape_default()), None) } else { (None, Some(c)) };
    escaped.into_iter().flatten().chain(plain)
}

/// Whether the text is of ASCII characters that can be seen, or spaces: a quick answer for most text.
pub fn is_plain(text: &str) -> bool {
    // Without a branch, so that many bytes are looked at in one step.
    text.bytes().fold(true, |plain, byte| plain & matches!(byte, b' '..=b'~'))
}

/// Whether a character in the text can't be seen but changes what is shown around it.
pub fn has_control(text: &str) -> bool {
    !is_plain(text) && text.chars().any(char::is_control)
}

/// A name as people write it: 1 to 256 characters, no control characters, not blank, outer space removed.
///
/// # Errors
/// `INVALID_FIELD`, naming `field`.
pub fn parse_name(field: &str, text: &str) -> Result<Box<str>, Error> {
    let text = text.trim();
    if text.is_empty() {
        return Err(Error::field(Code::InvalidField, field, "must not be empty"));
    }
    if text.chars().nth(MAX_NAME_CHARS).is_some() {
        return Err(Error::field(Code::InvalidField, field, format!("must have at most {MAX_NAME_CHARS} characters")));
    }
    if has_control(text) {
        return Err(Error::field(Code::InvalidField, field, "must not hold control characters"));
    }
    check_no_secret(field, text)?;
    Ok(text.into())
}

/// A tenant's short name in paths: `^[a-z0-9]+(?:-[a-z0-9]+)*$`, at most 63 characters, never `default`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Cow<'_, str>")]
pub struct Slug(Box<str>);

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
            return Err(Error::field(Code::SlugTaken, field, "'default' names the default tenant and is taken"));
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
        for bad in ["", "   ", "a\u{0}b", "a\nb", &"é".repeat(257)] {
            assert!(parse_name("name", bad).is_err(), "{bad:?}");
        }
        assert!(parse_name("name", &"é".repeat(256)).is_ok());
    }

    #[test]
    fn quoted_values_are_short_and_visible() {
        assert_eq!(quote("a\nb"), "a\\nb");
        assert_eq!(quote(&"x".repeat(500)).chars().count(), MAX_QUOTED_CHARS + 1);
    }
}

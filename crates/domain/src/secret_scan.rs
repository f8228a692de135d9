//! Finds keys and tokens in any text by their form, so that a secret in the wrong place is neither stored nor shown.

use std::borrow::Cow;
use std::ops::Range;

/// What an agent's token starts with.
pub const TOKEN_PREFIX: &str = "kv_";
/// What a tenant's API key starts with.
pub const TENANT_KEY_PREFIX: &str = "kvt_";
/// What an operator key starts with.
pub const OPERATOR_KEY_PREFIX: &str = "kvo_";

/// Characters that must follow a prefix before a text counts as a key or token. An operator key has 43, so a truncated
/// one is found too.
const HIDDEN_CHARS: usize = 40;
/// What replaces a secret's characters.
pub(crate) const HIDDEN: &str = "(hidden)";

/// The byte range of the first key or token in a text, without its prefix.
///
/// Ordinary names may start with `kv_` too, but they don't mix upper and lower case as a random secret does.
fn find_secret(text: &str) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    memchr::memchr_iter(b'_', bytes).find_map(|underscore| {
        let (head, rest) = bytes.split_at_checked(underscore + 1)?;
        let prefix = [TOKEN_PREFIX, TENANT_KEY_PREFIX, OPERATOR_KEY_PREFIX];
        let prefix = prefix.into_iter().find(|prefix| head.ends_with(prefix.as_bytes()))?;
        // We examine only the first characters, so a text made of nothing but prefixes stays cheap.
        let start = rest.get(..HIDDEN_CHARS)?;
        let has = |case: fn(&u8) -> bool| start.iter().any(case);
        let is_mixed = has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase);
        let is_secret = start.iter().all(is_base64url) && (is_mixed || prefix == OPERATOR_KEY_PREFIX);
        let length = || rest.iter().position(|byte| !is_base64url(byte)).unwrap_or(rest.len());
        is_secret.then(|| underscore + 1..underscore + 1 + length())
    })
}

fn is_base64url(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// Whether a text contains what looks like a key or token.
pub fn holds_secret(text: &str) -> bool {
    find_secret(text).is_some()
}

/// Replaces everything that looks like a key or token, except its prefix.
pub fn hide_secrets(text: &str) -> Cow<'_, str> {
    let (mut rest, mut shown) = (text, String::new());
    while let Some(place) = find_secret(rest) {
        let (before, after) = (rest.get(..place.start), rest.get(place.end..));
        shown.push_str(before.unwrap_or_default());
        shown.push_str(HIDDEN);
        rest = after.unwrap_or_default();
    }
    if shown.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(shown + rest) }
}

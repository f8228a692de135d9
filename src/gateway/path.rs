//! Reading paths and hosts, and refusing those that two programs may read differently.
//!
//! Gateways, servers and frameworks disagree on `//`, `..`, `;x=1`, `%2F`, on what is decoded and when. A path with any of
//! these is refused: if this server read it one way and the upstream another, the decision would be about one thing and the
//! response about another.

use std::borrow::Cow;

use crate::domain::text::has_control;

/// Cuts the path of a request target (RFC 9112, 3.2.1) into its segments, decoded. The query is dropped; one slash at
/// the end is ignored.
///
/// # Errors
/// A sentence that says what is ambiguous about it.
pub fn segments(target: &str) -> Result<Vec<Cow<'_, str>>, String> {
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    let path = path.strip_prefix('/').ok_or("the path must begin with '/'")?;
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() && !target.starts_with("//") {
        return Ok(Vec::new());
    }
    path.split('/').map(segment).collect()
}

/// One segment, decoded once.
fn segment(raw: &str) -> Result<Cow<'_, str>, String> {
    if !raw.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("the path must have only visible ASCII characters; percent-encode others".to_owned());
    }
    let text = if raw.contains('%') { Cow::Owned(decode(raw)?) } else { Cow::Borrowed(raw) };
    check_segment(&text)?;
    Ok(text)
}

/// Checks that every program reads a segment alike.
pub(super) fn check_segment(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("the path must not have an empty segment".to_owned());
    }
    if text == "." || text == ".." {
        return Err("the path must not have a segment '.' or '..'".to_owned());
    }
    // `:` would make two segments of a resource out of one of the path, `*` is a pattern's; `;` begins parameters that
    // some servers cut off; the others end a segment, the path or its text for some program or other.
    if let Some(bad) = text.chars().find(|char| matches!(char, ':' | '*' | ';' | '/' | '\\' | '%' | '?' | '#')) {
        return Err(format!("the path must not have a '{bad}' inside a segment, encoded or not"));
    }
    if has_control(text) {
        return Err("the path must not have control characters".to_owned());
    }
    Ok(())
}

fn decode(raw: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let (byte, after) = match rest {
            [high, low, after @ ..] => (digit(*high).zip(digit(*low)).map(|(high, low)| high << 4 | low), after),
            _ => (None, rest),
        };
        bytes.push(byte.ok_or("the path has a '%' without two hex digits")?);
        rest = after;
    }
    String::from_utf8(bytes).map_err(|_| "the path is not UTF-8 once it is decoded".to_owned())
}

/// A host's name in lowercase, without a port and without the dot at its end.
pub(super) fn host_name(text: &str) -> Result<String, String> {
    let name = match text.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => text,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if name.is_empty() || !name.bytes().all(is_good) || name.split('.').any(str::is_empty) {
        return Err("the host must be a name or an IPv4 address".to_owned());
    }
    Ok(name.to_ascii_lowercase())
}

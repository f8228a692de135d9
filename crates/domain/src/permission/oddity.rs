//! What can make two programs read one value in two ways. A glob never matches such a value.

use std::borrow::Cow;

/// Why a glob does not match a value that it would fit otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// NUL or another control character.
    Control,
    /// A segment `.` or `..`, between slashes or backslashes.
    Dots,
    /// Percent-encoded bytes that are not text, such as an overlong `.`.
    NoText,
    /// `//`, for a glob that holds `/`.
    EmptySegment,
    /// A backslash, for a glob that holds `/`.
    Backslash,
    /// A percent-encoded `/`, if a `*` could match it.
    EncodedSlash,
    /// A user name or a password in a URL.
    UserInfo,
}

impl Oddity {
    /// What the value has, in words.
    pub fn what(self) -> &'static str {
        match self {
            Self::Control => "a glob never matches a value with a control character, percent-encoded or not",
            Self::Dots => "a glob never matches a value with a segment '.' or '..', percent-encoded or not",
            Self::NoText => "a glob never matches a value with percent-encoded bytes that are not UTF-8",
            Self::EmptySegment => "a glob with a '/' never matches a value with an empty segment ('//')",
            Self::Backslash => "a glob with a '/' never matches a value with a backslash, percent-encoded or not",
            Self::EncodedSlash => "a percent-encoded '/' matches only a '**', in a glob without a '/'",
            Self::UserInfo => "a glob never matches a URL with a user name or password",
        }
    }
}

/// The odd things in a text, after all of its percent-encoding is undone, no matter how often it was encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Form {
    control: bool,
    dots: bool,
    no_text: bool,
    empty_segment: bool,
    backslash: bool,
    encoded_slash: bool,
}

impl Form {
    /// Scans a text.
    pub fn of(text: &str) -> Self {
        if is_common(text) { Self::default() } else { Self::read(text) }
    }

    /// Seldom needed, and large: inlined it would make every look begin as this does.
    #[inline(never)]
    fn read(text: &str) -> Self {
        let bytes = decode(text);
        let mut form = Self::default();
        let mut segment = 0;
        let mut before = 0;
        for (&byte, at) in bytes.iter().zip(0..) {
            match byte {
                b'/' | b'\\' => {
                    form.dots |= are_dots(bytes.get(segment..at).unwrap_or_default());
                    form.empty_segment |= byte == b'/' && before == b'/';
                    form.backslash |= byte == b'\\';
                    segment = at + 1;
                }
                ..b' ' | 0x7f => form.control = true,
                // The second byte of U+0080 to U+009F.
                0x80..=0x9f => form.control |= before == 0xc2,
                _ => {}
            }
            before = byte;
        }
        form.dots |= are_dots(bytes.get(segment..).unwrap_or_default());
        if let Cow::Owned(decoded) = &bytes {
            let slashes = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'/').count();
            form.encoded_slash = slashes(decoded) > slashes(text.as_bytes());
            form.no_text = std::str::from_utf8(decoded).is_err();
        }
        form
    }

    /// What no glob matches.
    pub fn odd(self) -> Option<Oddity> {
        match self {
            Self { control: true, .. } => Some(Oddity::Control),
            Self { dots: true, .. } => Some(Oddity::Dots),
            Self { no_text: true, .. } => Some(Oddity::NoText),
            _ => None,
        }
    }

    /// What no glob for paths matches.
    pub fn odd_in_path(self) -> Option<Oddity> {
        match self {
            _ if self.odd().is_some() => self.odd(),
            Self { empty_segment: true, .. } => Some(Oddity::EmptySegment),
            Self { backslash: true, .. } => Some(Oddity::Backslash),
            _ => self.encoded_slash(),
        }
    }

    /// Whether a `/` is encoded.
    pub fn encoded_slash(self) -> Option<Oddity> {
        self.encoded_slash.then_some(Oddity::EncodedSlash)
    }
}

/// A byte of common text that may not begin a segment.
const NO_START: u8 = 1;
/// A byte that no common text has: a control character, one beyond ASCII, `%` or `\`.
const UNCOMMON: u8 = 2;

/// The kind of each byte.
static KINDS: [u8; 256] = {
    let mut kinds = [UNCOMMON; 256];
    let mut rest: &mut [u8] = &mut kinds;
    let mut byte = 0u8;
    while let [kind, after @ ..] = rest {
        *kind = match byte {
            b'/' | b'.' | b' ' => NO_START,
            b'%' | b'\\' => UNCOMMON,
            b'!'..=b'~' => 0,
            _ => UNCOMMON,
        };
        byte = byte.wrapping_add(1);
        rest = after;
    }
    kinds
};

/// Whether the text can't have oddities: a quick answer for most. It is printable ASCII without `%` and `\`, and no
/// segment begins as the odd ones do.
fn is_common(text: &str) -> bool {
    let kind = |byte: u8| KINDS.get(usize::from(byte)).copied().unwrap_or(UNCOMMON);
    match text.bytes().fold(0, |kinds, byte| kinds | kind(byte)) {
        0 => true,
        NO_START => {
            let mut pairs = text.bytes().zip(text.bytes().skip(1));
            !text.starts_with(['.', ' ']) && !pairs.any(|(byte, next)| byte == b'/' && kind(next) == NO_START)
        }
        _ => false,
    }
}

/// Whether some program reads the segment as `.` or `..`. What some programs cut off (spaces, and what follows `;`, `?`
/// or `#`) does not count.
fn are_dots(segment: &[u8]) -> bool {
    if !matches!(segment, [b'.' | b' ', ..]) {
        return false;
    }
    let cut = segment.split(|byte| matches!(byte, b';' | b'?' | b'#')).next().unwrap_or_default();
    matches!(cut.trim_ascii(), b"." | b"..")
}

/// Undoes percent-encoding (RFC 3986, 2.1) until none is left. Decoding can produce part of another encoded byte, so
/// each new byte is checked with the two before it; the order makes no difference.
fn decode(text: &str) -> Cow<'_, [u8]> {
    if !text.contains('%') {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut bytes = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        bytes.push(byte);
        while let [.., b'%', high, low] = bytes.as_slice() {
            let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            let Some((high, low)) = digit(*high).zip(digit(*low)) else { break };
            bytes.truncate(bytes.len() - 3);
            bytes.push(high << 4 | low);
        }
    }
    Cow::Owned(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn oddities_are_seen_however_they_are_encoded() {
        for (text, odd) in [
            ("/srv/data/a.b..c/...", None),
            ("..a/b..", None),
            ("100% of %zz and %2", None),
            ("gr\u{fc}n \u{20ac}", None),
            ("/srv/%41%20b", None),
            ("a\u{0}b", Some(Oddity::Control)),
            ("a%00b", Some(Oddity::Control)),
            ("a%2500b", Some(Oddity::Control)),
            ("a\nb", Some(Oddity::Control)),
            ("a%0Ab", Some(Oddity::Control)),
            ("a\u{7f}", Some(Oddity::Control)),
            ("a\u{85}", Some(Oddity::Control)),
            ("a%C2%85", Some(Oddity::Control)),
            (".", Some(Oddity::Dots)),
            ("..", Some(Oddity::Dots)),
            ("a/..", Some(Oddity::Dots)),
            ("a/./b", Some(Oddity::Dots)),
            (r"a\..\b", Some(Oddity::Dots)),
            ("a/%2e%2E/b", Some(Oddity::Dots)),
            ("a/.%2e/b", Some(Oddity::Dots)),
            ("a/..%2fb", Some(Oddity::Dots)),
            ("a/..%5cb", Some(Oddity::Dots)),
            ("a%2F..%2Fb", Some(Oddity::Dots)),
            ("a/%252e%252e/b", Some(Oddity::Dots)),
            ("a/%25%32%65%25%32%65/b", Some(Oddity::Dots)),
            ("a/%%32e./b", Some(Oddity::Dots)),
            ("a/%2525252e./b", Some(Oddity::Dots)),
            ("a/..;x=1/b", Some(Oddity::Dots)),
            ("a/..?b", Some(Oddity::Dots)),
            ("a/.. /b", Some(Oddity::Dots)),
            ("a/%c0%ae%c0%ae/b", Some(Oddity::NoText)),
            ("a/%ff", Some(Oddity::NoText)),
        ] {
            assert_eq!(Form::of(text).odd(), odd, "{text:?}");
        }
    }

    #[test]
    fn paths_have_more_that_is_odd() {
        for (text, odd) in [
            ("/a/b/", None),
            ("//a", Some(Oddity::EmptySegment)),
            ("/a//b", Some(Oddity::EmptySegment)),
            ("/a/%2fb", Some(Oddity::EmptySegment)),
            (r"/a\b", Some(Oddity::Backslash)),
            ("/a%5Cb", Some(Oddity::Backslash)),
            ("/a%2fb", Some(Oddity::EncodedSlash)),
            ("/a%252fb", Some(Oddity::EncodedSlash)),
        ] {
            assert_eq!(Form::of(text).odd_in_path(), odd, "{text:?}");
        }
    }

    /// Decodes once, from left to right, as programs do.
    fn decode_once(text: &[u8]) -> Vec<u8> {
        match text {
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digits = [*high, *low];
                let byte = u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap();
                [vec![byte], decode_once(rest)].concat()
            }
            [first, rest @ ..] => [vec![*first], decode_once(rest)].concat(),
            [] => Vec::new(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn nothing_is_odd_about_common_text(text in "[a/. %2e\u{7f}é\\\\]{0,8}") {
            prop_assert!(!is_common(&text) || Form::read(&text) == Form::default(), "{text}");
        }

        #[test]
        fn oddities_are_seen_behind_any_number_of_encodings(text in "(%|%25|2|e|E|f|5|c|0|\\.|/|a){0,24}") {
            let form = Form::of(&text);
            let mut at = text.clone().into_bytes();
            loop {
                let has_dots = at.split(|byte| matches!(byte, b'/' | b'\\')).any(|part| part == b"." || part == b"..");
                prop_assert!(!has_dots || form.dots, "{text}");
                prop_assert!(!at.iter().any(|byte| byte.is_ascii_control()) || form.control, "{text}");
                prop_assert!(!at.contains(&b'\\') || form.backslash, "{text}");
                prop_assert!(!at.windows(2).any(|two| two == b"//") || form.empty_segment, "{text}");
                let next = decode_once(&at);
                if next == at { break; }
                at = next;
            }
            prop_assert_eq!(decode(&text).into_owned(), at);
        }
    }
}

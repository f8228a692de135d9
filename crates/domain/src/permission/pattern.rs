//! Resources and the patterns that match them.
//!
//! A resource is segments separated by `:`. The inner ones may be empty, as in `arn:aws:s3:::bucket`. A pattern of just
//! `*` matches everything; a last `*` matches one or more segments, the first of which is not empty; an inner `*`
//! matches exactly one that is not empty. A `*` is always a whole segment.

use smallvec::SmallVec;

use crate::error::{Code, Error};
use crate::limits::{MAX_RESOURCE_BYTES, MAX_RESOURCE_SEGMENTS};
use crate::text::{is_plain, problem_of_compared, quote};

/// A resource cut into its segments.
pub struct Segments<'a>(SmallVec<[&'a str; USUAL_SEGMENTS]>);

/// Segments that fit without an allocation.
const USUAL_SEGMENTS: usize = 8;

impl<'a> Segments<'a> {
    /// Splits a resource. Text past the limit of segments is ignored: [`check_resource`] has refused it.
    pub fn of(resource: &'a str) -> Self {
        Self(split(resource).take(MAX_RESOURCE_SEGMENTS).collect())
    }

    /// The segments in order.
    pub fn as_slice(&self) -> &[&'a str] {
        &self.0
    }
}

/// The segments of a text. They are short, so going byte by byte is faster than a search.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = text.bytes().position(|byte| byte == b':');
        rest = end.and_then(|end| text.get(end + 1..));
        text.get(..end.unwrap_or(text.len()))
    })
}

/// Checks a resource that a call names.
///
/// # Errors
/// `INVALID_FIELD` if it is empty or too long, has too many segments or an empty one at an end, or holds characters
/// that are invisible or not composed.
pub fn check_resource(field: &str, text: &str) -> Result<(), Error> {
    if is_plain(text) && has_form(text) {
        return Ok(());
    }
    check_form(field, text)?;
    problem_of_compared(text).map_or(Ok(()), |problem| Err(Error::field(Code::InvalidField, field, problem)))
}

/// Checks the form that searches rely on.
fn check_form(field: &str, text: &str) -> Result<(), Error> {
    let problem = if text.is_empty() {
        "must not be empty".to_owned()
    } else if text.len() > MAX_RESOURCE_BYTES {
        format!("must have at most {MAX_RESOURCE_BYTES} bytes")
    } else if split(text).count() > MAX_RESOURCE_SEGMENTS {
        format!("must have at most {MAX_RESOURCE_SEGMENTS} segments")
    } else if !has_form(text) {
        format!("must not begin or end with an empty segment, as '{}' does", quote(text))
    } else {
        return Ok(());
    };
    Err(Error::field(Code::InvalidField, field, problem))
}

/// Whether a text has the form of a resource, no matter which characters it holds.
fn has_form(text: &str) -> bool {
    let ends = |text: &str| text.as_bytes().first() != Some(&b':') && text.as_bytes().last() != Some(&b':');
    // No branches, as in `is_plain`.
    let colons = || text.bytes().fold(0, |count, byte| count + usize::from(byte == b':'));
    !text.is_empty() && text.len() <= MAX_RESOURCE_BYTES && ends(text) && colons() < MAX_RESOURCE_SEGMENTS
}

/// The form of a pattern's segments without their text. One lookup finds all patterns of one shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape {
    /// Bit `i` is set where segment `i` is literal text.
    pub literals: u32,
    /// Segments before a last `*`, or all of them if the last is no `*`.
    pub length: u8,
    /// Whether a last `*` follows, which stands for one or more segments.
    pub open: bool,
}

impl Shape {
    /// Whether a resource with `segments` segments can match a pattern of this shape.
    pub fn fits(self, segments: usize) -> bool {
        let length = usize::from(self.length);
        if self.open { segments > length } else { segments == length }
    }
}

/// A checked resource pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern(Box<str>);

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// `INVALID_PATTERN` for a `*` mixed into a segment, `INVALID_FIELD` for what resources may not have either.
    pub fn parse(field: &str, text: &str) -> Result<Self, Error> {
        check_resource(field, text)?;
        Self::stored(field, text)
    }

    /// Reads a stored pattern. An older version may have allowed more characters.
    ///
    /// # Errors
    /// As for [`Self::parse`], but any character is allowed.
    pub fn stored(field: &str, text: &str) -> Result<Self, Error> {
        check_form(field, text)?;
        if let Some(mixed) = split(text).find(|part| part.len() > 1 && part.contains('*')) {
            return Err(Error::field(
                Code::InvalidPattern,
                field,
                format!("has a '*' inside the segment '{}': a '*' must be a whole segment", quote(mixed)),
            ));
        }
        Ok(Self(text.into()))
    }

    /// The pattern's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The pattern's shape.
    pub fn shape(&self) -> Shape {
        let mut shape = Shape { literals: 0, length: 0, open: false };
        let mut parts = split(&self.0).peekable();
        while let Some(part) = parts.next() {
            if part == "*" && parts.peek().is_none() {
                shape.open = true;
            } else {
                if part != "*" {
                    shape.literals |= 1 << shape.length;
                }
                shape.length += 1;
            }
        }
        shape
    }

    /// The pattern's literal segments in order.
    pub fn literals(&self) -> impl Iterator<Item = &str> {
        split(&self.0).filter(|part| *part != "*")
    }

    /// Whether the resource matches.
    pub fn matches(&self, segments: &[&str]) -> bool {
        let mut rest = segments.iter();
        let mut parts = split(&self.0).peekable();
        while let Some(part) = parts.next() {
            let Some(segment) = rest.next() else { return false };
            if part == "*" {
                if segment.is_empty() {
                    return false;
                }
                if parts.peek().is_none() {
                    return true;
                }
            } else if part != *segment {
                return false;
            }
        }
        rest.next().is_none()
    }

    /// Whether this matches every resource that `other` matches.
    pub fn covers(&self, other: &Self) -> bool {
        let mut theirs = split(&other.0);
        let mut ours = split(&self.0).peekable();
        while let Some(part) = ours.next() {
            let Some(their) = theirs.next() else { return false };
            if part == "*" {
                if their.is_empty() {
                    return false;
                }
                // Our last `*` covers the rest, at least one segment. Against our inner `*`, their last `*` is not
                // enough, since more of ours follows.
                if ours.peek().is_none() {
                    return true;
                }
            } else if part != their {
                return false;
            }
        }
        theirs.next().is_none()
    }

    /// The pattern of the resources that match both; `None` if there are none.
    pub fn meet(&self, other: &Self) -> Option<Self> {
        let mut ours = split(&self.0).peekable();
        let mut theirs = split(&other.0).peekable();
        let mut both: Vec<&str> = Vec::new();
        loop {
            let (our, their) = match (ours.next(), theirs.next()) {
                (None, None) => return Some(Self(both.join(":").into())),
                (Some(our), Some(their)) => (our, their),
                _ => return None,
            };
            both.push(match (our, their) {
                ("*", "") | ("", "*") => return None,
                ("*", their) => their,
                (our, "*") => our,
                (our, their) if our == their => our,
                _ => return None,
            });
            // A last `*` also stands for all that is left of the other, which has a segment of its own there.
            if our == "*" && ours.peek().is_none() && theirs.peek().is_some() {
                both.extend(theirs);
                return Some(Self(both.join(":").into()));
            }
            if their == "*" && theirs.peek().is_none() && ours.peek().is_some() {
                both.extend(ours);
                return Some(Self(both.join(":").into()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every resource of one to five segments: a letter that patterns use, one that none does, or, in inner places,
    /// nothing.
    fn universe() -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        let mut longest = vec![String::new()];
        for _ in 0..5 {
            longest =
                longest.iter().flat_map(|start| ["a", "b", "z", ""].map(|part| format!("{start}:{part}"))).collect();
            all.extend(longest.iter().filter_map(|text| text.strip_prefix(':')).map(str::to_owned));
        }
        all.retain(|text| check_resource("resource", text).is_ok());
        all
    }

    fn pattern() -> impl Strategy<Value = String> {
        let ends = || "[ab*]";
        (ends(), prop::collection::vec("[ab*]?", 0..3), prop::option::of(ends())).prop_map(|(first, inner, last)| {
            let inner = if last.is_some() { inner } else { Vec::new() };
            [first].into_iter().chain(inner).chain(last).collect::<Vec<_>>().join(":")
        })
    }

    #[test]
    fn covering_agrees_with_trying_every_resource() {
        let universe = universe();
        let config = ProptestConfig::with_cases(if cfg!(debug_assertions) { 1_000 } else { 20_000 });
        proptest!(config, |(outer in pattern(), inner in pattern())| {
            let read = |text: &str| Pattern::parse("resource", text).unwrap();
            let (outer, inner) = (read(&outer), read(&inner));
            let tried = universe.iter().all(|resource| {
                let segments = Segments::of(resource);
                !inner.matches(segments.as_slice()) || outer.matches(segments.as_slice())
            });
            prop_assert_eq!(outer.covers(&inner), tried, "{:?} {:?}", outer, inner);
        });
    }

    #[test]
    fn a_meet_matches_what_both_match() {
        let universe = universe();
        let config = ProptestConfig::with_cases(if cfg!(debug_assertions) { 1_000 } else { 20_000 });
        proptest!(config, |(one in pattern(), other in pattern())| {
            let read = |text: &str| Pattern::parse("resource", text).unwrap();
            let (one, other) = (read(&one), read(&other));
            let meet = one.meet(&other);
            prop_assert_eq!(&meet, &other.meet(&one));
            for resource in &universe {
                let segments = Segments::of(resource);
                let both = one.matches(segments.as_slice()) && other.matches(segments.as_slice());
                let by_meet = meet.as_ref().is_some_and(|meet| meet.matches(segments.as_slice()));
                prop_assert_eq!(by_meet, both, "{:?} {:?} {:?} {}", one, other, meet, resource);
            }
        });
    }

    fn matches(pattern: &str, resource: &str) -> bool {
        Pattern::parse("resource", pattern).unwrap().matches(Segments::of(resource).as_slice())
    }

    #[test]
    fn stars_match_as_documented() {
        for (pattern, resource, expected) in [
            ("*", "a", true),
            ("*", "a:b:c", true),
            ("mcp:*", "mcp:github:repos", true),
            ("mcp:*", "mcp:github", true),
            ("mcp:*", "mcp", false),
            ("mcp:*", "mcpx:github", false),
            ("mcp:*:read", "mcp:github:read", true),
            ("mcp:*:read", "mcp:github:repos:read", false),
            ("mcp:*:read", "mcp:read", false),
            ("*:b", "a:b", true),
            ("*:b", "b", false),
            ("*:*", "a", false),
            ("*:*", "a:b:c", true),
            ("a:b", "a:b", true),
            ("a:b", "a:b:c", false),
            ("a:b", "a", false),
            ("*", "a::b", true),
            ("a:*", "a:b::c", true),
            ("a:*", "a::b", false),
            ("a:*:b", "a::b", false),
            ("a::b", "a::b", true),
            ("a::*", "a::b", true),
            ("a::*", "a:x:b", false),
            ("arn:aws:s3:::*", "arn:aws:s3:::bucket/key", true),
            ("arn:*", "arn:aws:s3:::bucket/key", true),
            ("arn:aws:s3:*", "arn:aws:s3:::bucket/key", false),
            ("arn:aws:s3:*:*:bucket/key", "arn:aws:s3:::bucket/key", false),
            ("2001:db8::1", "2001:db8::1", true),
            ("2001:db8:*:1", "2001:db8::1", false),
        ] {
            assert_eq!(matches(pattern, resource), expected, "{pattern} {resource}");
        }
    }

    #[test]
    fn shapes_distinguish_literals_from_stars() {
        let shape = |text| Pattern::parse("resource", text).unwrap().shape();
        assert_eq!(shape("*"), Shape { literals: 0, length: 0, open: true });
        assert_eq!(shape("a:*:c"), Shape { literals: 0b101, length: 3, open: false });
        assert_eq!(shape("a:*:*"), Shape { literals: 0b1, length: 2, open: true });
    }

    #[test]
    fn bad_patterns_are_refused_at_creation() {
        let long = format!("{}a", "a:".repeat(32));
        for bad in ["", "foo*", "a:*b", ":", "a:", ":a", "a::", "::", "**", long.as_str(), &"x".repeat(513)] {
            assert!(Pattern::parse("resource", bad).is_err(), "{bad}");
            assert!(Pattern::stored("resource", bad).is_err(), "{bad}");
        }
        // Older versions accepted these, so they must still load.
        for unseen in ["a\u{7}", "mcp:files:\u{202e}tool", "a\u{200b}:*", "e\u{301}:*"] {
            assert!(Pattern::parse("resource", unseen).is_err(), "{unseen:?}");
            assert!(
                Pattern::stored("resource", unseen)
                    .unwrap()
                    .matches(Segments::of(&unseen.replace('*', "x")).as_slice())
            );
        }
        assert!(Pattern::parse("resource", &format!("{}a", "a:".repeat(31))).is_ok());
    }
}

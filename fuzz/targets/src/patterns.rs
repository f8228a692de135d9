//! Patterns checked against naive matchers.

use kavach_domain::permission::arg_pattern::{ArgPattern, Value};
use kavach_domain::permission::constraint::{Constraints, ConstraintsSpec};
use kavach_domain::permission::glob::{self, Fit};
use kavach_domain::permission::pattern::{Pattern, Segments};
use kavach_domain::permission::regexes::RegexCache;
use kavach_domain::permission::work_budget::WorkBudget;
use kavach_domain::permission::{PermissionSet, PermissionSpec};

/// Text of a segment that no pattern can hold.
const FRESH: &str = "\u{7f}";
/// Bytes of a glob and of a text for which the naive matcher, which takes their product, is run.
const MOST_BYTES: usize = 600;

/// Lines: two resource patterns, a resource, an action, a glob, a text to match, a regular expression.
pub fn patterns(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut lines = text.split('\n');
    let mut next = || lines.next().unwrap_or_default();
    let (outer, inner, resource, action, glob, value, regex) = (next(), next(), next(), next(), next(), next(), next());
    resources(outer, inner, resource, action);
    globs(glob, value);
    regexes(regex);
}

fn resources(outer: &str, inner: &str, resource: &str, action: &str) {
    let segments = Segments::of(resource);
    let mut good = Vec::new();
    for text in [outer, inner, resource] {
        let Ok(pattern) = Pattern::parse("resource", text) else { continue };
        assert_eq!(pattern.as_str(), text, "what parses prints");
        let cut: Vec<&str> = text.split(':').collect();
        assert_eq!(pattern.matches(segments.as_slice()), naive(&cut, segments.as_slice()), "{text:?} {resource:?}");
        if pattern.matches(segments.as_slice()) {
            assert!(pattern.shape().fits(segments.as_slice().len()));
        }
        assert!(pattern.covers(&pattern));
        good.push(pattern);
    }
    for (at, one) in good.iter().enumerate() {
        for other in &good[..at] {
            for (outer, inner) in [(one, other), (other, one)] {
                assert_eq!(outer.covers(inner), covers_all(outer, inner), "{outer:?} {inner:?}");
                assert!(
                    !outer.covers(inner) || !inner.matches(segments.as_slice()) || outer.matches(segments.as_slice())
                );
            }
        }
    }
    indexed(&good, segments, action);
}

/// A pattern by its definition.
fn naive(pattern: &[&str], resource: &[&str]) -> bool {
    match (pattern, resource) {
        // A star never stands for an empty segment.
        (["*", ..], ["", ..]) => false,
        (["*"], [_, ..]) => true,
        (["*", pattern @ ..], [_, resource @ ..]) => naive(pattern, resource),
        ([own, pattern @ ..], [segment, resource @ ..]) => own == segment && naive(pattern, resource),
        ([], []) => true,
        _ => false,
    }
}

/// Whether everything that `inner` matches, with fresh text for its stars, matches `outer` too.
fn covers_all(outer: &Pattern, inner: &Pattern) -> bool {
    let parts: Vec<&str> = inner.as_str().split(':').map(|part| if part == "*" { FRESH } else { part }).collect();
    let longest = outer.as_str().split(':').count() + 2;
    let more = if inner.as_str() == "*" || inner.as_str().ends_with(":*") { longest } else { 0 };
    (0..=more).all(|more| {
        let resource: Vec<&str> = parts.iter().copied().chain(std::iter::repeat_n(FRESH, more)).collect();
        outer.matches(&resource)
    })
}

/// The index finds what a scan of all permissions finds.
fn indexed(patterns: &[Pattern], segments: Segments<'_>, action: &str) {
    let actions = ["read", "*", action];
    let spec = |(at, pattern): (usize, &Pattern)| PermissionSpec {
        resource: pattern.as_str().to_owned(),
        actions: vec![actions[at % actions.len()].to_owned(), "write".to_owned()],
        constraints: None,
    };
    let Ok(set) = PermissionSet::parse(patterns.iter().enumerate().map(spec).collect()) else { return };
    for asked in ["read", action] {
        let by_one = set.as_slice().iter().zip(0u32..).filter(|(one, _)| one.matches(segments.as_slice(), asked));
        let by_one: Vec<u32> = by_one.map(|(_, at)| at).collect();
        assert_eq!(set.matching(&segments, asked).as_slice(), by_one);
    }
    for wanted in set.as_slice() {
        let by_one = set.as_slice().iter().position(|one| one.covers(wanted));
        assert_eq!(set.covering(wanted, &mut usize::MAX.clone()).map(|at| at as usize), by_one);
    }
}

fn globs(glob: &str, value: &str) {
    if glob.len() > MOST_BYTES || value.len() > MOST_BYTES {
        return;
    }
    // An accepted pattern keeps its text, and equals its stored form. A refused one then matches nothing.
    let stored = ArgPattern::stored(glob.to_owned());
    let work = WorkBudget::default();
    let fit = stored.fits(&Value::new(value), &work, &RegexCache::default());
    match ArgPattern::parse(glob.to_owned()) {
        Ok(parsed) => assert_eq!(parsed, stored),
        Err(problem) => assert!(!problem.is_empty() && fit == Fit::Differs),
    }
    for glob in glob::alternatives(glob).unwrap_or_default() {
        one_glob(&glob, value);
    }
}

fn one_glob(glob: &str, value: &str) {
    let mut left = usize::MAX;
    let matched = glob::matches(glob, value, &mut left);
    assert_eq!(matched, naive_glob(glob, value), "{glob:?} {value:?}");
    let steps = usize::MAX - left;
    assert!(steps <= (glob.len() + 1) * (value.len() + 1) + glob.len() + value.len(), "{steps} steps");
    // Enough steps give an equal answer; one step fewer gives a no.
    assert_eq!(glob::matches(glob, value, &mut steps.clone()), matched);
    assert!(!glob::matches(glob, value, &mut (steps - 1)));
}

/// One part of a glob: some stars, or the set of characters that a single one may be.
enum Part {
    Stars(usize),
    One(Box<dyn Fn(char) -> bool>),
}

fn naive_parts(glob: &str) -> Vec<Part> {
    let chars: Vec<char> = glob.chars().collect();
    let (mut parts, mut at) = (Vec::new(), 0);
    while let Some(&first) = chars.get(at) {
        at += 1;
        parts.push(match first {
            '*' => {
                let stars = 1 + chars[at..].iter().take_while(|c| **c == '*').count();
                at += stars - 1;
                Part::Stars(stars)
            }
            '?' => Part::One(Box::new(|c| c != '/')),
            '[' => {
                let negated = matches!(chars[at], '!' | '^');
                let from = at + usize::from(negated);
                let end = from + 1 + chars[from + 1..].iter().position(|c| *c == ']').unwrap();
                let items = chars[from..end].to_vec();
                at = end + 1;
                Part::One(Box::new(move |c| {
                    let (mut found, mut item) = (false, 0);
                    while item < items.len() {
                        let high = if item + 2 < items.len() && items[item + 1] == '-' { item + 2 } else { item };
                        found |= (items[item]..=items[high]).contains(&c);
                        item = high + 1;
                    }
                    c != '/' && found != negated
                }))
            }
            other => {
                let own = if other == '\\' { chars[at] } else { other };
                at += usize::from(other == '\\');
                Part::One(Box::new(move |c| c == own))
            }
        });
    }
    parts
}

/// Matches a glob by a table of which rest of it matches which rest of the text.
fn naive_glob(glob: &str, text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    // From the end of the glob to its start. `row[t]` says whether the rest of the glob matches `text[t..]`.
    let mut row: Vec<bool> = (0..=text.len()).map(|t| t == text.len()).collect();
    for part in naive_parts(glob).iter().rev() {
        let mut before = vec![false; row.len()];
        for t in (0..=text.len()).rev() {
            before[t] = match part {
                Part::One(takes) => t < text.len() && takes(text[t]) && row[t + 1],
                Part::Stars(1) => row[t] || t < text.len() && text[t] != '/' && before[t + 1],
                Part::Stars(_) => row[t] || t < text.len() && before[t + 1],
            };
        }
        row = before;
    }
    row[0]
}

/// An accepted argument pattern keeps its text.
fn regexes(regex: &str) {
    let spec = ConstraintsSpec { allowed_arg_patterns: Some(vec![format!("^{regex}")]), ..ConstraintsSpec::default() };
    match Constraints::parse(spec.clone()) {
        Ok(constraints) => assert_eq!(constraints.spec(), spec),
        Err(error) => {
            assert!(kavach::api::status::status(error.code()) == 400 && !error.message().contains('\n'), "{error}")
        }
    }
}

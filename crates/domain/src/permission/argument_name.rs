//! Names of arguments: `path`, `options.depth`, `edits[].newText`.
//!
//! | in a name | means |
//! | --- | --- |
//! | `a.b` | the member `b` of the object `a` |
//! | `a[]` | every item of the array `a` |
//! | `\.` `\[` `\\` | the character itself, in a member's name |
//!
//! Every argument has one spelling, so that two names are equal only if they are the same text.

use crate::limits::{MAX_ARGUMENT_NAME_BYTES, MAX_ARGUMENT_NAME_STEPS};
use crate::text::problem_of_compared;

/// One step from a value to one within it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// To an object's member of that name.
    Member(Box<str>),
    /// To each item of an array.
    Items,
}

/// Reads a name of a request.
///
/// # Errors
/// What is wrong with it, to follow the field's name in a sentence.
pub fn parse(name: &str) -> Result<Vec<Step>, String> {
    if name.is_empty() || name.len() > MAX_ARGUMENT_NAME_BYTES {
        return Err(format!("must have a name of 1 to {MAX_ARGUMENT_NAME_BYTES} bytes"));
    }
    if let Some(problem) = problem_of_compared(name) {
        return Err(format!("has a name that {problem}"));
    }
    read(name)
}

/// Reads a name that was stored. It is not held against today's limits, but for its depth, which bounds recursion.
///
/// # Errors
/// As for [`parse`].
pub fn read(name: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        rest = if let Some(after) = rest.strip_prefix("[]") {
            steps.push(Step::Items);
            after
        } else {
            // The first member has no dot before it.
            let start = if steps.is_empty() { Some(rest) } else { rest.strip_prefix('.') };
            let start = start.ok_or(r"must have a '.' or a '[]' after '[]' in its name")?;
            let (member, after) = take_member(start)?;
            steps.push(Step::Member(member.into()));
            after
        };
    }
    if steps.len() > MAX_ARGUMENT_NAME_STEPS {
        return Err(format!("must not lead deeper than {MAX_ARGUMENT_NAME_STEPS} steps"));
    }
    Ok(steps)
}

/// Reads a member's name, up to a dot or an array's items.
fn take_member(text: &str) -> Result<(String, &str), &'static str> {
    let mut member = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after = rest.get(first.len_utf8()..).unwrap_or_default();
        rest = match first {
            '.' => break,
            '[' if after.starts_with(']') => break,
            '[' => return Err(r"has a '[' without a ']' after it in its name; write '\[' for a bracket"),
            '\\' => {
                let Some(escaped @ ('.' | '[' | '\\')) = after.chars().next() else {
                    return Err(
                        r"has a '\' before a character without a meaning in its name; write '\\' for a backslash",
                    );
                };
                member.push(escaped);
                after.get(1..).unwrap_or_default()
            }
            other => {
                member.push(other);
                after
            }
        };
    }
    if member.is_empty() { Err("has an empty member in its name") } else { Ok((member, rest)) }
}

/// A name with one more step at its end.
pub fn join(name: &str, step: &Step) -> String {
    match step {
        Step::Items => format!("{name}[]"),
        Step::Member(member) if name.is_empty() => escaped(member),
        Step::Member(member) => format!("{name}.{}", escaped(member)),
    }
}

/// A member's name, as it is spelled in the name of an argument.
fn escaped(member: &str) -> String {
    member.replace('\\', r"\\").replace('.', r"\.").replace('[', r"\[")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spell(steps: &[Step]) -> String {
        steps.iter().fold(String::new(), |name, step| join(&name, step))
    }

    #[test]
    fn a_name_leads_into_objects_and_arrays() {
        let member = |name: &str| Step::Member(name.into());
        for (name, steps) in [
            ("path", vec![member("path")]),
            ("a.b.c", vec![member("a"), member("b"), member("c")]),
            ("edits[].newText", vec![member("edits"), Step::Items, member("newText")]),
            ("a[][]", vec![member("a"), Step::Items, Step::Items]),
            ("[].path", vec![Step::Items, member("path")]),
            ("[]", vec![Step::Items]),
            (r"a\.b", vec![member("a.b")]),
            (r"a\[].b\\", vec![member("a[]"), member(r"b\")]),
            ("a]", vec![member("a]")]),
            ("größe per unit", vec![member("größe per unit")]),
        ] {
            assert_eq!(parse(name).unwrap(), steps, "{name}");
            assert_eq!(spell(&steps), name);
        }
    }

    #[test]
    fn a_bad_name_is_explained() {
        for (name, problem) in [
            ("", "1 to"),
            (&*"a".repeat(MAX_ARGUMENT_NAME_BYTES + 1), "1 to"),
            (".", "empty member"),
            ("a.", "empty member"),
            (".a", "empty member"),
            ("a..b", "empty member"),
            ("a.[]", "empty member"),
            ("a[]b", "after '[]'"),
            ("a[0]", "without a ']'"),
            ("a[", "without a ']'"),
            (r"a\b", "has a '\\' before"),
            (r"a\]", "has a '\\' before"),
            (r"a\", "has a '\\' before"),
            ("a\u{200b}b", "invisible"),
            ("e\u{301}", "NFC"),
            (&*format!("a{}", "[]".repeat(MAX_ARGUMENT_NAME_STEPS)), "deeper than"),
        ] {
            // One that ends after a dot or a member has nothing left to read.
            let read = parse(name);
            assert!(read.as_ref().is_err_and(|error| error.contains(problem)), "{name:?}: {read:?}");
        }
    }

    proptest! {
        #[test]
        fn a_name_that_is_read_is_spelled_as_it_was(name in r"[ab.\[\]\\é]{0,10}") {
            if let Ok(steps) = parse(&name) {
                prop_assert_eq!(spell(&steps), name);
            }
        }
    }
}

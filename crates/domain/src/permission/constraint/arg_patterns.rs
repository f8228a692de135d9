//! `allowedArgPatterns`: what every string among a call's arguments has to match.

use std::borrow::Cow;

#[cfg(feature = "schema")]
use schemars::{Schema, SchemaGenerator, json_schema};

use crate::error::{Code, Error};
use crate::limits::{MAX_ARG_PATTERN_BYTES, MAX_ARG_PATTERNS, MAX_MATCHED_BYTES};
use crate::permission::arg_pattern::{ArgPattern, Value, first_fit};
use crate::permission::constraint::kind::{Checked, Constraint, Facts, Fails, check_count};
use crate::permission::glob::Fit;
use crate::permission::oddity::Oddity;
use crate::permission::regexes::RegexCache;
use crate::permission::work_budget::WorkBudget;
use crate::text::{check_no_secret, quote};

/// Patterns, of which each string has to match one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ArgPatterns(Box<[ArgPattern]>);

impl ArgPatterns {
    /// The patterns in declared order.
    pub fn as_slice(&self) -> &[ArgPattern] {
        &self.0
    }

    /// Checks that a string matches one of them.
    ///
    /// # Errors
    /// Why it does not.
    pub(super) fn check_value(
        &self,
        value: &str,
        work: &WorkBudget,
        regexes: &RegexCache,
    ) -> Result<(), ArgumentNotAllowed<'_>> {
        let patterns = &*self.0;
        if value.len() > MAX_MATCHED_BYTES {
            return Err(ArgumentNotAllowed::TooLong(quote(value), value.len()));
        }
        let known = Value::new(value);
        let odd = match first_fit(patterns.iter().map(|pattern| pattern.fits(&known, work, regexes))) {
            Fit::Matches => return Ok(()),
            Fit::Refuses(odd) => Some(odd),
            Fit::Differs => None,
        };
        if work.is_used_up() {
            return Err(ArgumentNotAllowed::TooMuchWork);
        }
        Err(ArgumentNotAllowed::Unmatched(quote(value), patterns, odd))
    }
}

impl Constraint for ArgPatterns {
    type Spec = Vec<String>;
    type Stored = Vec<String>;

    #[cfg(feature = "schema")]
    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Globs, or regular expressions that start with `^`, of which every string argument must match \
                one as a whole. In a glob `*` stops at `/` and `**` does not; `?`, `[a-z]`, `[!a]` and `{a,b}` mean what \
                they usually do, and `\\` takes the meaning from the character after it. A glob never matches a value \
                with a segment `.` or `..` or a control character, percent-encoded or not; one with a `/` in it none \
                with `//` or a backslash either. One with `://` is held against the scheme, the host, the port and the \
                path of a URL, each by itself.",
            "type": ["array", "null"],
            "items": generator.subschema_for::<crate::schema::ArgPattern>(),
            "minItems": 1,
            "maxItems": MAX_ARG_PATTERNS,
        })
    }

    fn parse(field: &str, spec: Vec<String>) -> Result<Self, Error> {
        check_count(field, spec.len(), MAX_ARG_PATTERNS)?;
        let parse = |(at, pattern): (usize, String)| {
            let field = format!("{field}[{at}]");
            if pattern.is_empty() || pattern.len() > MAX_ARG_PATTERN_BYTES {
                let problem = format!("must have 1 to {MAX_ARG_PATTERN_BYTES} bytes");
                return Err(Error::field(Code::InvalidPattern, &field, problem));
            }
            check_no_secret(&field, &pattern)?;
            ArgPattern::parse(pattern).map_err(|problem| Error::field(Code::InvalidPattern, &field, problem))
        };
        Ok(Self(spec.into_iter().enumerate().map(parse).collect::<Result<_, _>>()?))
    }

    fn spec(&self) -> Vec<String> {
        self.0.iter().map(|pattern| pattern.as_str().to_owned()).collect()
    }

    /// No regular expression is compiled before a call needs it.
    fn restore(_: &str, stored: Vec<String>) -> Result<Self, Error> {
        Ok(Self(stored.into_iter().map(ArgPattern::stored).collect()))
    }

    fn stored(&self) -> Vec<String> {
        self.spec()
    }

    fn restricts(&self) -> bool {
        true
    }

    /// Matching takes its steps by the arguments, as it goes.
    fn steps(&self) -> usize {
        0
    }
}

impl Checked for ArgPatterns {
    type Failure<'c> = ArgumentNotAllowed<'c>;

    fn check<'c>(&'c self, facts: &Facts<'_>, regexes: &RegexCache) -> Result<(), ArgumentNotAllowed<'c>> {
        let Facts { arguments, work, .. } = facts;
        // Reading the arguments is work too.
        if !work.take(arguments.bytes()) {
            return Err(ArgumentNotAllowed::TooMuchWork);
        }
        if arguments.are_too_many() {
            return Err(ArgumentNotAllowed::TooMuchWork);
        }
        let mut checked = Ok(());
        let all_match = arguments.all(|value| {
            checked = self.check_value(value, work, regexes);
            checked.is_ok()
        });
        checked?;
        if all_match { Ok(()) } else { Err(ArgumentNotAllowed::None(&self.0)) }
    }
}

/// What is wrong with the arguments.
pub enum ArgumentNotAllowed<'c> {
    /// There is none that could match one of these patterns.
    None(&'c [ArgPattern]),
    /// One matches none of these patterns; it is quoted, with what keeps it from matching one that it fits.
    Unmatched(String, &'c [ArgPattern], Option<Oddity>),
    /// One is too long to be matched; it is quoted, with its length in bytes.
    TooLong(String, usize),
    /// No steps are left to match them.
    TooMuchWork,
}

impl ArgumentNotAllowed<'_> {
    /// What is wrong, without whose value it is.
    pub(super) fn what(&self) -> String {
        match self {
            Self::None(patterns) => {
                format!("there is no string, so it does not match pattern {}", any_of(patterns))
            }
            Self::Unmatched(quoted, patterns, odd) => {
                let why = odd.map(|odd| format!(": {}", odd.what())).unwrap_or_default();
                format!("value '{quoted}' does not match pattern {}{why}", any_of(patterns))
            }
            Self::TooLong(quoted, bytes) => format!(
                "value '{quoted}' has {bytes} bytes; a string checked against a pattern may have at most {MAX_MATCHED_BYTES}"
            ),
            Self::TooMuchWork => "matching it against the patterns takes more work than one decision may do".to_owned(),
        }
    }
}

impl Fails for ArgumentNotAllowed<'_> {
    fn code(&self) -> Code {
        Code::ArgumentNotAllowed
    }

    fn reason(&self) -> Cow<'static, str> {
        match self {
            Self::None(patterns) => {
                let patterns = any_of(patterns);
                format!("The call has no string argument, so it does not match pattern {patterns}").into()
            }
            Self::Unmatched(..) | Self::TooLong(..) => format!("Argument {}", self.what()).into(),
            Self::TooMuchWork => {
                "Matching the arguments against the patterns takes more work than one decision may do".into()
            }
        }
    }
}

fn any_of(patterns: &[ArgPattern]) -> String {
    let wanted: Vec<_> = patterns.iter().take(3).map(|pattern| format!("'{}'", pattern.as_str())).collect();
    let more = patterns.len().saturating_sub(wanted.len());
    if more == 0 { wanted.join(" or ") } else { format!("{} or {more} other patterns", wanted.join(" or ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::arguments::Strings;
    use crate::permission::constraint::example_tests::{anywhere, denial, denial_code, refused_fields};

    fn with_arguments(json: &str) -> Facts<'_> {
        Facts { arguments: Strings::of(json), ..anywhere() }
    }

    #[test]
    fn every_string_argument_must_match_a_pattern() {
        let globs = r#"{"allowedArgPatterns":["/srv/data/**","^repo-[0-9]+$"]}"#;
        assert_eq!(denial_code(globs, &with_arguments(r#"{"path":"/srv/data/a/b","n":5}"#)), None);
        assert_eq!(denial_code(globs, &with_arguments(r#"{"path":"/srv/data/a","repo":"repo-17"}"#)), None);
        let denied = Some(Code::ArgumentNotAllowed);
        assert_eq!(denial_code(globs, &with_arguments(r#"{"path":"/srv/data/a","x":{"y":["/etc/passwd"]}}"#)), denied);
        assert_eq!(denial_code(globs, &with_arguments(r#"{"repo":"repo-17x"}"#)), denied);
        assert_eq!(denial_code(globs, &with_arguments(r#"{"n":5,"/srv/data/key":1}"#)), denied, "no string to match");
        assert_eq!(denial_code(globs, &anywhere()), denied, "no arguments at all");
    }

    #[test]
    fn a_reason_says_what_is_odd_about_a_value() {
        let globs = r#"{"allowedArgPatterns":["/srv/**","*.md"]}"#;
        let (code, reason) = denial(globs, &with_arguments(r#"{"n":"a.md","path":"/srv/../etc/passwd"}"#)).unwrap();
        assert_eq!(code, Code::ArgumentNotAllowed);
        assert_eq!(
            reason,
            "Argument value '/srv/../etc/passwd' does not match pattern '/srv/**' or '*.md': a glob never matches a value \
             with a segment '.' or '..', percent-encoded or not"
        );
    }

    #[test]
    fn a_long_argument_and_one_that_takes_too_much_work_are_denied_with_a_reason() {
        let all = r#"{"allowedArgPatterns":["**"]}"#;
        let of_length = |length| format!(r#"{{"a":"{}"}}"#, "a".repeat(length));
        assert_eq!(denial(all, &with_arguments(&of_length(MAX_MATCHED_BYTES))), None);
        let (code, reason) = denial(all, &with_arguments(&of_length(MAX_MATCHED_BYTES + 1))).unwrap();
        assert_eq!(code, Code::ArgumentNotAllowed);
        assert!(reason.contains("has 4097 bytes"), "{reason}");

        let hostile: Vec<String> = (0..MAX_ARG_PATTERNS).map(|at| format!("*{}{at}", "a".repeat(250))).collect();
        let hostile = serde_json::json!({ "allowedArgPatterns": hostile }).to_string();
        let (code, reason) = denial(&hostile, &with_arguments(&of_length(MAX_MATCHED_BYTES))).unwrap();
        assert_eq!(code, Code::ArgumentNotAllowed);
        assert!(reason.contains("more work"), "{reason}");
    }

    #[test]
    fn stored_patterns_are_not_checked_again() {
        let many = vec!["^(".to_owned(); MAX_ARG_PATTERNS + 1];
        assert!(ArgPatterns::parse("allowedArgPatterns", many.clone()).is_err());
        let stored = ArgPatterns::restore("allowedArgPatterns", many.clone()).unwrap();
        assert_eq!(stored.stored(), many);
        let failure = stored.check(&with_arguments(r#"["("]"#), &RegexCache::default()).err();
        assert!(failure.is_some(), "one that can't be compiled matches nothing");
    }

    #[test]
    fn bad_patterns_name_the_field() {
        refused_fields(&[
            (r#"{"allowedArgPatterns":[]}"#, "allowedArgPatterns"),
            (r#"{"allowedArgPatterns":["a","^("]}"#, "allowedArgPatterns[1]"),
            (r#"{"allowedArgPatterns":["^(\\pL{9}){9999}"]}"#, "allowedArgPatterns[0]"),
            (r#"{"allowedArgPatterns":[""]}"#, "allowedArgPatterns[0]"),
            (r#"{"allowedArgPatterns":["a","[b"]}"#, "allowedArgPatterns[1]"),
            (r#"{"allowedArgPatterns":["{a,b"]}"#, "allowedArgPatterns[0]"),
            (r#"{"allowedArgPatterns":["/srv/../x"]}"#, "allowedArgPatterns[0]"),
        ]);
    }
}

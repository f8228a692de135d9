//! What a string argument must look like: a glob, or a regular expression that starts with `^`.

use std::cell::Cell;

use crate::limits::{BRACES_STEPS, GLOB_STEPS, REGEX_STEPS, URL_GLOB_STEPS};
use crate::permission::glob::{Fit, alternatives, fits, odd, sample};
use crate::permission::oddity::Form;
use crate::permission::regexes::{self, RegexCache};
use crate::permission::url_glob::{self, Address};
use crate::permission::work_budget::WorkBudget;

/// One pattern and its kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ArgPattern {
    text: Box<str>,
    kind: PatternKind,
}

/// The kinds of patterns, told apart by their text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum PatternKind {
    Regex,
    /// A glob without braces that is not for URLs.
    Plain,
    /// A glob without braces for URLs.
    Url,
    /// A glob with braces, for any text.
    Braces,
    /// An older version took it for a glob. It matches nothing.
    Unreadable,
}

impl ArgPattern {
    /// Reads a pattern from a request.
    ///
    /// # Errors
    /// What is wrong with it, to follow the field's name in a sentence.
    pub fn parse(text: String) -> Result<Self, String> {
        if is_regex(&text) {
            regexes::check(&text)?;
        }
        let kind = PatternKind::of(&text)?;
        Ok(Self { text: text.into(), kind })
    }

    /// Reads a stored pattern. A regular expression is compiled only when a call needs it.
    pub fn stored(text: String) -> Self {
        let kind = PatternKind::of(&text).unwrap_or(PatternKind::Unreadable);
        Self { text: text.into(), kind }
    }

    /// The pattern's text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is a regular expression that does not anchor both ends itself. It must match the whole value all the
    /// same.
    pub fn is_implicitly_anchored(&self) -> bool {
        self.kind == PatternKind::Regex && !regexes::is_anchored(&self.text)
    }

    /// How it fits the value.
    pub fn fits(&self, value: &Value<'_>, work: &WorkBudget, regexes: &RegexCache) -> Fit {
        // Before any work: many short values cost as much as a long one.
        if !work.take(self.kind.steps(&self.text)) {
            return Fit::Differs;
        }
        match self.kind {
            PatternKind::Regex => Fit::of(regexes.matches(&self.text, value.text, work)),
            PatternKind::Plain => work.spend(|left| value.fits(&self.text, left)),
            PatternKind::Url => work.spend(|left| value.fits_url(&self.text, left)),
            PatternKind::Braces => self.any_fits(value, work),
            PatternKind::Unreadable => Fit::Differs,
        }
    }

    /// The globs are made anew for each value, so that a permission takes no more memory than its text.
    fn any_fits(&self, value: &Value<'_>, work: &WorkBudget) -> Fit {
        let globs = alternatives(&self.text).unwrap_or_default();
        if !work.take(globs.iter().map(String::len).sum()) {
            return Fit::Differs;
        }
        first_fit(globs.iter().map(|glob| {
            work.spend(|left| if url_glob::is_one(glob) { value.fits_url(glob, left) } else { value.fits(glob, left) })
        }))
    }
}

impl PatternKind {
    /// Steps of holding a value against a pattern of this kind, before those for its bytes.
    fn steps(self, text: &str) -> usize {
        match self {
            Self::Plain | Self::Unreadable => GLOB_STEPS,
            Self::Regex => REGEX_STEPS,
            Self::Url => URL_GLOB_STEPS,
            Self::Braces => BRACES_STEPS + text.len(),
        }
    }

    fn of(text: &str) -> Result<Self, String> {
        if is_regex(text) {
            return Ok(Self::Regex);
        }
        if !text.contains(['{', '}']) {
            check_glob(text)?;
            return Ok(if url_glob::is_one(text) { Self::Url } else { Self::Plain });
        }
        let globs = alternatives(text)?;
        globs.iter().try_for_each(|glob| check_glob(glob))?;
        Ok(Self::Braces)
    }
}

/// Checks a glob without braces.
fn check_glob(glob: &str) -> Result<(), String> {
    if url_glob::is_one(glob) {
        return Ok(url_glob::check(glob)?);
    }
    match odd(glob, Form::of(&sample(glob)?)) {
        None => Ok(()),
        Some(oddity) => Err(format!("never matches: {}", oddity.what())),
    }
}

/// Whether an argument pattern is a regular expression rather than a glob.
pub fn is_regex(pattern: &str) -> bool {
    pattern.starts_with('^')
}

/// A match if there is one, else the first refusal.
pub fn first_fit(fits: impl Iterator<Item = Fit>) -> Fit {
    let mut best = Fit::Differs;
    for fit in fits {
        match (fit, best) {
            (Fit::Matches, _) => return fit,
            (Fit::Refuses(_), Fit::Differs) => best = fit,
            _ => {}
        }
    }
    best
}

/// A string argument to match against patterns. What they need to know about it is computed once.
pub struct Value<'v> {
    text: &'v str,
    form: Cell<Option<Form>>,
    address: Address,
}

impl<'v> Value<'v> {
    /// A value about which nothing is computed yet.
    pub fn new(text: &'v str) -> Self {
        Self { text, form: Cell::new(None), address: Address::default() }
    }

    fn form(&self) -> Form {
        let form = self.form.get().unwrap_or_else(|| Form::of(self.text));
        self.form.set(Some(form));
        form
    }

    #[inline]
    fn fits(&self, glob: &str, left: &mut usize) -> Fit {
        fits(glob, self.text, || self.form(), left)
    }

    fn fits_url(&self, glob: &str, left: &mut usize) -> Fit {
        self.address.fits(glob, self.text, || self.form(), left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MAX_MATCH_STEPS;
    use crate::permission::oddity::Oddity;

    fn fit(pattern: &str, value: &str) -> Fit {
        let pattern = ArgPattern::parse(pattern.to_owned()).unwrap();
        assert_eq!(ArgPattern::stored(pattern.as_str().to_owned()), pattern);
        pattern.fits(&Value::new(value), &WorkBudget::default(), &RegexCache::default())
    }

    #[test]
    fn a_glob_never_matches_an_ambiguous_value() {
        for value in [
            "/srv/data/../../etc/passwd",
            "/srv/data/..",
            "/srv/data/./x",
            "/srv/data//../../etc/passwd",
            "/srv/data/%2e%2e/%2e%2e/etc",
            "/srv/data/%252E./etc",
            "/srv/data/..%2f..%2fetc",
            r"/srv/data/..\..\etc",
            "/srv/data/x\u{0}/etc",
            "/srv/data/x%00/etc",
            "/srv/data/x\n",
        ] {
            for glob in ["/srv/data/**", "**", "{/srv,/tmp}/**", "/[rs]rv/????/**"] {
                assert!(matches!(fit(glob, value), Fit::Refuses(_)), "{glob} {value:?}");
            }
            assert_eq!(
                fit("^(?s:/srv/data/.*)$", value),
                Fit::Matches,
                "an expression stays as it is written: {value:?}"
            );
        }
        for (glob, value, expected) in [
            ("/srv/**", "/srv//x", Fit::Refuses(Oddity::EmptySegment)),
            ("/srv/**", r"/srv/a\b", Fit::Refuses(Oddity::Backslash)),
            ("/srv/*", "/srv/a%2fb", Fit::Refuses(Oddity::EncodedSlash)),
            ("*", "a%2fb", Fit::Refuses(Oddity::EncodedSlash)),
            ("**", "a%2fb // c \\ d", Fit::Matches),
            ("/srv/*", "/srv/..", Fit::Refuses(Oddity::Dots)),
            ("*.md", "a\nb.md", Fit::Refuses(Oddity::Control)),
            ("/srv/data/**", "/srv/data/a..b/.c/50% d", Fit::Matches),
            // If a value would not match anyway, its oddity is not reported.
            ("/srv/**", "/etc/..", Fit::Differs),
            ("{https://*.example.com,/srv}/**", "/srv/x", Fit::Matches),
            ("{https://*.example.com,/srv}/**", "https://a.example.com/x", Fit::Matches),
            ("{https://*.example.com,/srv}/**", "https://evil.com#.example.com/", Fit::Differs),
            ("http{,s}://a.com/**", "http://a.com/x", Fit::Matches),
        ] {
            assert_eq!(fit(glob, value), expected, "{glob} {value:?}");
        }
    }

    #[test]
    fn patterns_that_never_match_are_refused() {
        for bad in ["/srv/../x", "..", "/srv//x", "/srv/%2e%2e/x", r"/srv/a\\b", "/srv/%00", "/a%2fb", "{a,..}", "a\tb"]
        {
            assert!(ArgPattern::parse(bad.to_owned()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_stored_pattern_that_is_no_longer_a_glob_matches_nothing() {
        for (text, value) in [
            ("[ab", "[ab"),
            ("{a}", "a"),
            ("{a}", "{a}"),
            (r"C:\data\*", r"C:\data\x"),
            (r"C:\data\*", "C:data*"),
            ("https://a.com/x?y", "https://a.com/x?y"),
            ("https://a.com/x?y", "https://a.com/xzy"),
            ("/srv/../x", "/srv/../x"),
        ] {
            let stored = ArgPattern::stored(text.to_owned());
            assert_eq!(stored.as_str(), text);
            assert_eq!(
                stored.fits(&Value::new(value), &WorkBudget::default(), &RegexCache::default()),
                Fit::Differs,
                "{text}"
            );
        }
    }

    #[test]
    fn braces_take_steps() {
        let wide = format!("{}{}", "{a,b}".repeat(6), "c".repeat(400));
        let pattern = ArgPattern::parse(wide).unwrap();
        let work = WorkBudget::default();
        assert!(work.take(MAX_MATCH_STEPS - 50_000));
        let all_used = (0..3).any(|_| {
            pattern.fits(&Value::new("x"), &work, &RegexCache::default());
            work.is_used_up()
        });
        assert!(all_used);
    }
}

//! Regular expressions in argument patterns: which are allowed, and a cache of compiled ones.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;

use regex::{Regex, RegexBuilder};
use regex_syntax::hir::Look;

use crate::limits::{
    MAX_CACHED_REGEXES, MAX_KEPT_REGEX_BYTES, MAX_REGEX_BYTES, REGEX_COMPILE_STEPS, REGEX_STEPS_PER_BYTE,
};
use crate::permission::work_budget::WorkBudget;

/// Checks a regular expression in a request.
///
/// # Errors
/// What is wrong with it, to follow the field's name in a sentence.
pub fn check(pattern: &str) -> Result<(), String> {
    // The parser's message marks the place over several lines; its last line says what is wrong.
    let unreadable = |text: String| {
        let cause = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
        format!("is not a valid regular expression: {cause}")
    };
    regex_syntax::parse(pattern).map_err(|error| unreadable(error.to_string()))?;
    match compile(pattern, MAX_REGEX_BYTES) {
        Ok(_) => Ok(()),
        Err(regex::Error::CompiledTooBig(_)) => {
            Err(format!("is a regular expression that takes over {MAX_REGEX_BYTES} bytes when compiled"))
        }
        Err(other) => Err(unreadable(other.to_string())),
    }
}

/// Whether the expression anchors both ends itself, so that it can match only the whole text.
pub fn is_anchored(pattern: &str) -> bool {
    regex_syntax::parse(pattern).is_ok_and(|parsed| {
        let properties = parsed.properties();
        properties.look_set_prefix().contains(Look::Start) && properties.look_set_suffix().contains(Look::End)
    })
}

/// Compiles an expression so that it must match the whole text.
fn compile(pattern: &str, max_bytes: usize) -> Result<Regex, regex::Error> {
    let whole = format!(r"\A(?:{pattern})\z");
    RegexBuilder::new(&whole).size_limit(max_bytes).dfa_size_limit(MAX_KEPT_REGEX_BYTES).build()
}

/// Compiled regular expressions by their text. They are built when first needed. If there are too many, the one least
/// recently used is dropped, so a tenant's patterns take bounded memory. It is only a cache: a copy of it is empty.
#[derive(Debug, Default)]
pub struct RegexCache {
    known: RefCell<HashMap<Box<str>, CachedRegex>>,
    /// Lookups so far.
    clock: Cell<u64>,
}

#[derive(Debug)]
struct CachedRegex {
    regex: Arc<Regex>,
    used: Cell<u64>,
}

impl RegexCache {
    /// Whether the expression matches the whole text. If it can't be compiled, or the steps ran out, it matches
    /// nothing.
    pub(crate) fn matches(&self, pattern: &str, text: &str, work: &WorkBudget) -> bool {
        work.take((text.len() + 1) * REGEX_STEPS_PER_BYTE)
            && self.get(pattern, work).is_some_and(|regex| regex.is_match(text))
    }

    fn get(&self, pattern: &str, work: &WorkBudget) -> Option<Arc<Regex>> {
        let now = self.clock.get() + 1;
        self.clock.set(now);
        if let Some(cached) = self.known.borrow().get(pattern) {
            cached.used.set(now);
            return Some(Arc::clone(&cached.regex));
        }
        if !work.take(REGEX_COMPILE_STEPS) {
            return None;
        }
        // Every pattern was checked when it was set. But somebody may have edited the disk, and an expression must not
        // close the group around it.
        regex_syntax::ast::parse::Parser::new().parse(pattern).ok()?;
        let regex = Arc::new(compile(pattern, MAX_KEPT_REGEX_BYTES).ok()?);
        let mut known = self.known.borrow_mut();
        if known.len() >= MAX_CACHED_REGEXES {
            let oldest = known.iter().min_by_key(|(_, cached)| cached.used.get()).map(|(text, _)| text.clone());
            oldest.and_then(|text| known.remove(&text));
        }
        known.insert(pattern.into(), CachedRegex { regex: Arc::clone(&regex), used: Cell::new(now) });
        Some(regex)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_matches_the_whole_text_or_nothing() {
        let cache = RegexCache::default();
        for (pattern, text, expected) in [
            ("^a|b", "zb", false),
            ("^a|b", "ab", false),
            ("^a|b", "b", true),
            ("^a|ab", "ab", true),
            ("^/srv/data/[a-z]+", "/srv/data/abc", true),
            ("^/srv/data/[a-z]+", "/srv/data/abc/../../etc/passwd", false),
            ("^/srv/.*", "/srv/x", true),
            ("^/srv/.*", "/srv/x\ny", false),
            ("^(?s:.*)", "x\ny", true),
            ("^a$", "a\n", false),
            ("^(?m)a$", "a\nb", false),
            ("^(?m)a$|b", "x\nb", false),
            // Closes a group that it did not open, so it is invalid by itself.
            ("^a)|(?:b", "xb", false),
            ("^a)|(?:b", "a", false),
        ] {
            assert_eq!(cache.matches(pattern, text, &WorkBudget::default()), expected, "{pattern} {text:?}");
        }
    }

    #[test]
    fn an_expression_is_anchored_only_at_both_ends() {
        for (pattern, anchored) in
            [("^a$", true), ("^(a|b)$", true), (r"^a\z", true), ("^a", false), ("^a|b$", false), (r"^a\$", false)]
        {
            assert_eq!(is_anchored(pattern), anchored, "{pattern}");
        }
    }

    #[test]
    fn the_cache_forgets_the_one_needed_longest_ago() {
        let cache = RegexCache::default();
        let get = |at: usize| cache.get(&format!("^{at}$"), &WorkBudget::default()).unwrap();
        let first = get(0);
        for at in 1..=MAX_CACHED_REGEXES {
            get(at);
            assert!(Arc::ptr_eq(&first, &get(0)), "{at}");
        }
        assert_eq!(cache.known.borrow().len(), MAX_CACHED_REGEXES);
        assert!(!cache.known.borrow().contains_key("^1$"));
        // One decision compiles a bounded number.
        let work = WorkBudget::default();
        let compiled = (1_000..2_000).take_while(|at| cache.get(&format!("^{at}$"), &work).is_some()).count();
        assert_eq!(compiled, 2 * MAX_CACHED_REGEXES);
    }
}

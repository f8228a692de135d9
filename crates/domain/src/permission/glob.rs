//! Whole-string globs for argument values: `*` stops at `/`, `**` does not, anything else is itself.

/// Whether the glob matches the whole text.
///
/// Runs without recursion and remembers one place to go back to for each kind of star: the earliest way to match
/// what follows a star is never worse than a later one, so older places are not needed again. The time is at most
/// the product of the two lengths. Each step takes one from `left`; when there are none left, nothing matches.
pub fn matches(glob: &str, text: &str, left: &mut usize) -> bool {
    let (glob, text) = (glob.as_bytes(), text.as_bytes());
    let (mut g, mut t) = (0, 0);
    // Where to go on in the glob, and from which byte of the text, if what follows the star fails.
    let mut star: Option<(usize, usize)> = None;
    let mut double_star: Option<(usize, usize)> = None;
    loop {
        let Some(less) = left.checked_sub(1) else { return false };
        *left = less;
        match (glob.get(g), text.get(t)) {
            (Some(b'*'), _) if glob.get(g + 1) == Some(&b'*') => {
                // Three or more stars are a double star too.
                g += glob.iter().skip(g).take_while(|byte| **byte == b'*').count();
                double_star = Some((g, t));
                star = None;
                continue;
            }
            (Some(b'*'), _) => {
                g += 1;
                star = Some((g, t));
                continue;
            }
            (Some(expected), Some(byte)) if expected == byte => {
                (g, t) = (g + 1, t + 1);
                continue;
            }
            (None, None) => return true,
            _ => {}
        }
        match (&mut star, &mut double_star) {
            (Some((after, from)), _) if text.get(*from).is_some_and(|byte| *byte != b'/') => {
                *from += 1;
                (g, t) = (*after, *from);
            }
            (_, Some((after, from))) if *from < text.len() => {
                *from += 1;
                (g, t) = (*after, *from);
                star = None;
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex::Regex;

    fn matches(glob: &str, text: &str) -> bool {
        super::matches(glob, text, &mut usize::MAX.clone())
    }

    /// The same meaning, spelled as a regular expression.
    fn by_regex(glob: &str, text: &str) -> bool {
        let mut pattern = String::from(r"(?s)\A");
        let mut rest = glob;
        while let Some(c) = rest.chars().next() {
            if rest.starts_with("**") {
                pattern.push_str(".*");
                rest = rest.trim_start_matches('*');
            } else {
                pattern.push_str(&if c == '*' { "[^/]*".to_owned() } else { regex::escape(&c.to_string()) });
                rest = &rest[c.len_utf8()..];
            }
        }
        Regex::new(&(pattern + r"\z")).unwrap().is_match(text)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]
        #[test]
        fn agrees_with_a_regular_expression(glob in "[ab/*]{0,12}", text in "[ab/]{0,14}") {
            prop_assert_eq!(matches(&glob, &text), by_regex(&glob, &text), "{} {}", glob, text);
        }
    }

    #[test]
    fn examples() {
        for (glob, text, expected) in [
            ("/srv/data/*", "/srv/data/a.csv", true),
            ("/srv/data/*", "/srv/data/sub/a.csv", false),
            ("/srv/data/**", "/srv/data/sub/a.csv", true),
            ("/srv/data/**", "/etc/passwd", false),
            ("**/*.md", "docs/a/b.md", true),
            ("**.md", "docs/a/b.md", true),
            ("*.md", "docs/b.md", false),
            ("a?c", "abc", false),
            ("a?c", "a?c", true),
            ("[ab]", "a", false),
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("grün*", "grünkohl", true),
        ] {
            assert_eq!(matches(glob, text), expected, "{glob} {text}");
        }
    }

    #[test]
    fn a_hostile_glob_ends() {
        let text = "a".repeat(32 * 1024) + "b";
        assert!(!matches(&"*a".repeat(250), &text));
        assert!(!matches(&"**a".repeat(150), &text));
    }

    #[test]
    fn without_steps_left_nothing_matches() {
        let mut left = 10;
        assert!(super::matches("a*", "ab", &mut left));
        assert!(left > 0);
        assert!(!super::matches("*", &"a".repeat(20), &mut left));
        assert_eq!(left, 0);
        assert!(!super::matches("a", "a", &mut left));
    }
}

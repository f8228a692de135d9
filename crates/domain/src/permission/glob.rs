//! Whole-string globs for argument values.
//!
//! | in a glob | matches |
//! | --- | --- |
//! | `*` | any run of characters but `/` |
//! | `**` | any run of characters |
//! | `?` | one character but `/` |
//! | `[a-z]`, `[!a]` | one character that is, or is not, one of these, but never `/`; `[^a]` is `[!a]` |
//! | `{a,b}` | what the glob matches with `a`, or with `b`, in its place |
//! | `\*` | the character itself, of those that have a meaning |
//!
//! Any other character stands for itself. Anything else, such as a class without an end, is not a glob. We use no glob
//! library: they differ on `**`, compile to tables of many times the glob's size, or count no steps.

use super::oddity::{Form, Oddity};
use crate::limits::MAX_GLOB_ALTERNATIVES;

/// Characters that `\` makes literal.
const SPECIAL: &str = r"*?[]{},!^-\";

/// How a glob fits a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It matches.
    Matches,
    /// It does not match.
    Differs,
    /// It would match, but for this.
    Refuses(Oddity),
}

impl Fit {
    /// A match or a mismatch.
    pub fn of(matches: bool) -> Self {
        if matches { Self::Matches } else { Self::Differs }
    }
}

/// Cuts off the glob's first part: a run of stars, a class, an escaped character, or any one character. `None` at the
/// end.
///
/// # Errors
/// What is wrong with it, to follow the field's name in a sentence.
pub fn part(glob: &str) -> Result<Option<(&str, &str)>, &'static str> {
    let Some(first) = glob.chars().next() else { return Ok(None) };
    let length = match first {
        '*' => glob.bytes().take_while(|byte| *byte == b'*').count(),
        '[' => class_length(glob)?,
        '\\' => {
            let escaped = glob.chars().nth(1).filter(|escaped| SPECIAL.contains(*escaped));
            1 + escaped.ok_or(r"has a '\' before a character without a meaning; write '\\' for a backslash")?.len_utf8()
        }
        _ if first.is_control() => return Err("has a control character, which a glob never matches"),
        other => other.len_utf8(),
    };
    Ok(glob.split_at_checked(length))
}

/// All parts of a glob, up to the first bad one.
pub fn parts(glob: &str) -> impl Iterator<Item = Result<&str, &'static str>> {
    let mut rest = glob;
    std::iter::from_fn(move || {
        let next = part(rest).transpose()?;
        rest = next.map_or("", |(_, rest)| rest);
        Some(next.map(|(part, _)| part))
    })
}

/// The text inside the class that begins the glob, after its `!`, and whether the `!` was there.
fn class(glob: &str) -> Option<(bool, &str)> {
    let inside = glob.strip_prefix('[')?;
    let positive = inside.strip_prefix(['!', '^']);
    let items = positive.unwrap_or(inside);
    // A `]` that comes first is a member of the class.
    let first = items.chars().next()?.len_utf8();
    let end = first + items.get(first..)?.find(']')?;
    Some((positive.is_some(), items.get(..end)?))
}

/// The ranges of a class, each with its first and last character.
fn ranges(items: &str) -> impl Iterator<Item = (char, char)> {
    let mut chars = items.chars();
    std::iter::from_fn(move || {
        let low = chars.next()?;
        let mut ahead = chars.clone();
        match (ahead.next(), ahead.next()) {
            (Some('-'), Some(high)) => {
                chars = ahead;
                Some((low, high))
            }
            _ => Some((low, low)),
        }
    })
}

fn class_length(glob: &str) -> Result<usize, &'static str> {
    let (negated, items) = class(glob).ok_or(r"has a '[' without a ']'; write '\[' for a bracket")?;
    if items.contains(['/', '\\']) {
        return Err(r"has a '/' or a '\' inside a class, which matches neither");
    }
    if ["[:", "[.", "[="].iter().any(|named| items.contains(named)) || items.starts_with([':', '=']) && items.len() > 1
    {
        return Err(
            r"has a class that begins with '[:' or the like, which has no meaning here; write '\[' for a bracket",
        );
    }
    if items.chars().any(char::is_control) {
        return Err("has a control character, which a glob never matches");
    }
    if ranges(items).any(|(low, high)| low > high) {
        return Err("has a class with a range that ends before it begins");
    }
    Ok(usize::from(negated) + items.len() + 2)
}

/// Whether the class that begins the glob contains the character, and the class's length in bytes.
fn class_has(glob: &str, c: char) -> Option<(bool, usize)> {
    let (negated, items) = class(glob)?;
    let found = ranges(items).any(|(low, high)| low <= c && c <= high);
    Some((c != '/' && found != negated, usize::from(negated) + items.len() + 2))
}

/// The globs that a glob with braces stands for.
///
/// # Errors
/// What is wrong with it, to follow the field's name in a sentence.
pub fn alternatives(glob: &str) -> Result<Vec<String>, String> {
    /// An open brace.
    #[derive(Default)]
    struct OpenBrace {
        /// The alternatives before the last comma.
        done: Vec<String>,
        /// The globs of the alternative being read.
        current: Vec<String>,
    }
    let fresh = || OpenBrace { done: Vec::new(), current: vec![String::new()] };
    let many = || format!("expands to more than {MAX_GLOB_ALTERNATIVES} globs");
    let (mut open, mut top) = (Vec::new(), fresh());
    for part in parts(glob) {
        match part? {
            "{" => open.push(std::mem::replace(&mut top, fresh())),
            "," if !open.is_empty() => {
                top.done.append(&mut top.current);
                top.current.push(String::new());
            }
            "}" => {
                let before = open.pop().ok_or(r"has a '}' without a '{'; write '\}' for a brace")?;
                if top.done.is_empty() {
                    return Err(r"has braces without a ','; write '\{' for a brace".to_owned());
                }
                top.done.append(&mut top.current);
                if before.current.len() * top.done.len() > MAX_GLOB_ALTERNATIVES {
                    return Err(many());
                }
                let join = |start: &String| top.done.iter().map(|end| format!("{start}{end}")).collect::<Vec<_>>();
                top = OpenBrace { current: before.current.iter().flat_map(join).collect(), done: before.done };
            }
            other => top.current.iter_mut().for_each(|text| text.push_str(other)),
        }
        if top.done.len() + top.current.len() > MAX_GLOB_ALTERNATIVES {
            return Err(many());
        }
    }
    if !open.is_empty() {
        return Err(r"has a '{' without a '}'; write '\{' for a brace".to_owned());
    }
    Ok(top.current)
}

/// A text that a glob without braces matches. Its oddities are those of every text that the glob matches.
pub fn sample(glob: &str) -> Result<String, &'static str> {
    let mut sample = String::new();
    for part in parts(glob) {
        match part? {
            // `x` is no hex digit and no separator, so it adds no oddity.
            part if part.starts_with(['*', '?', '[']) => sample.push('x'),
            part => sample.push_str(part.strip_prefix('\\').filter(|text| !text.is_empty()).unwrap_or(part)),
        }
    }
    Ok(sample)
}

/// How a glob without braces that is not for URLs fits a text. `form` is called only if it matters.
#[inline]
pub fn fits(glob: &str, text: &str, form: impl FnOnce() -> Form, left: &mut usize) -> Fit {
    if !matches(glob, text, left) {
        return Fit::Differs;
    }
    let form = form();
    // Nothing is odd about most texts, whatever the glob is.
    if form == Form::default() {
        return Fit::Matches;
    }
    odd(glob, form).map_or(Fit::Matches, Fit::Refuses)
}

/// What keeps a glob from matching a text of that form.
pub fn odd(glob: &str, form: Form) -> Option<Oddity> {
    if glob.contains('/') {
        form.odd_in_path()
    } else if glob.contains("**") {
        form.odd()
    } else {
        form.odd().or(form.encoded_slash())
    }
}

/// Whether a glob without braces matches the whole text. An invalid one matches nothing.
///
/// Runs without recursion and remembers one place to go back to for each kind of star: the earliest way to match what
/// follows a star is never worse than a later one, so older places are not needed again. The time is at most the
/// product of the two lengths. Each step takes one from `left`, a class one for each of its bytes; when none are left,
/// nothing matches.
pub fn matches(glob: &str, text: &str, left: &mut usize) -> bool {
    let (pattern, bytes) = (glob.as_bytes(), text.as_bytes());
    let (mut g, mut t) = (0, 0);
    // Where to go on in the glob, and from which byte of the text, if what follows the star fails.
    let mut star: Option<(usize, usize)> = None;
    let mut double_star: Option<(usize, usize)> = None;
    loop {
        let Some(less) = left.checked_sub(1) else { return false };
        *left = less;
        match (pattern.get(g), bytes.get(t)) {
            (Some(b'*'), _) if pattern.get(g + 1) == Some(&b'*') => {
                // Three or more stars are a double star too.
                g += pattern.iter().skip(g).take_while(|byte| **byte == b'*').count();
                if g == pattern.len() {
                    return true;
                }
                double_star = Some((g, t));
                star = None;
                continue;
            }
            (Some(b'*'), _) => {
                g += 1;
                let rest = bytes.get(t..).unwrap_or_default();
                if g == pattern.len() && !rest.contains(&b'/') {
                    // It takes the rest: a step for each byte, and one for the end.
                    let less = left.checked_sub(rest.len() + 1);
                    *left = less.unwrap_or(0);
                    return less.is_some();
                }
                star = Some((g, t));
                continue;
            }
            (Some(b'?' | b'[' | b'\\'), Some(_)) => {
                if let Some((in_glob, in_text)) = one(glob.get(g..), text.get(t..), left) {
                    (g, t) = (g + in_glob, t + in_text);
                    continue;
                }
            }
            (Some(expected), Some(byte)) if expected == byte => {
                (g, t) = (g + 1, t + 1);
                continue;
            }
            (None, None) => return true,
            _ => {}
        }
        match (&mut star, &mut double_star) {
            (Some((after, from)), _) if bytes.get(*from).is_some_and(|byte| *byte != b'/') => {
                *from += 1;
                (g, t) = (*after, *from);
            }
            (_, Some((after, from))) if *from < bytes.len() => {
                *from += 1;
                (g, t) = (*after, *from);
                star = None;
            }
            _ => return false,
        }
    }
}

/// Lengths of the glob's first part and of the text's first character, if the part stands for one character and that
/// one fits. A star may have stopped inside a character, where no text begins.
fn one(glob: Option<&str>, text: Option<&str>, left: &mut usize) -> Option<(usize, usize)> {
    let (glob, c) = (glob?, text?.chars().next()?);
    let (has_it, length) = match glob.as_bytes().first()? {
        b'?' => (c != '/', 1),
        b'[' => {
            let (has_it, length) = class_has(glob, c)?;
            let enough = left.checked_sub(length - 1);
            *left = enough.unwrap_or(0);
            enough?;
            (has_it, length)
        }
        _ => {
            let escaped = glob.chars().nth(1)?;
            (escaped == c, 1 + escaped.len_utf8())
        }
    };
    has_it.then_some((length, c.len_utf8()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex::Regex;

    use super::*;

    fn matches(glob: &str, text: &str) -> bool {
        alternatives(glob).unwrap().iter().any(|glob| super::matches(glob, text, &mut usize::MAX.clone()))
    }

    /// The glob's meaning as a regular expression.
    fn by_regex(glob: &str, text: &str) -> bool {
        let mut pattern = String::from(r"(?s)\A");
        let mut rest = glob;
        while let Some(c) = rest.chars().next() {
            let taken;
            if rest.starts_with("**") {
                pattern.push_str(".*");
                taken = rest.len() - rest.trim_start_matches('*').len();
            } else if c == '[' {
                taken = rest.find(']').unwrap() + 1;
                let class = rest[..taken].replace("[!", "[^");
                pattern.push_str(&format!("[{class}&&[^/]]"));
            } else {
                pattern.push_str(match c {
                    '*' => "[^/]*",
                    '?' => "[^/]",
                    '{' => "(?:",
                    '}' => ")",
                    ',' => "|",
                    _ => &rest[..c.len_utf8()],
                });
                taken = c.len_utf8();
            }
            rest = &rest[taken..];
        }
        Regex::new(&(pattern + r"\z")).unwrap().is_match(text)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]
        #[test]
        fn agrees_with_a_regular_expression(
            glob in r"([abé/*?]|\[[ab]\]|\[!a]|\[a-é]){0,12}",
            text in "[abcé/]{0,14}",
        ) {
            prop_assert_eq!(matches(&glob, &text), by_regex(&glob, &text), "{} {}", glob, text);
        }

        #[test]
        fn as_many_steps_as_it_takes_suffice_and_one_less_does_not(
            glob in r"([abé/*?]|\*\*|\[!a]){0,12}",
            text in "[abcé/]{0,14}",
        ) {
            let within = |mut left: usize| (super::matches(&glob, &text, &mut left), left);
            let (matched, left) = within(usize::MAX);
            let taken = usize::MAX - left;
            prop_assert_eq!(within(taken), (matched, 0));
            prop_assert_eq!(within(taken - 1), (false, 0));
        }

        #[test]
        fn braces_are_alternatives(
            glob in r"[ab/*]?(\{[ab?]{0,2},(a|\{b,[!a]\}|\{,a,/\}b)\}[ab*]?){0,2}",
            text in "[ab/]{0,6}",
        ) {
            // Stars that meet across a brace form a double star, which the expression does not know.
            prop_assume!(alternatives(&glob).unwrap().iter().all(|glob| !glob.contains("**")));
            prop_assert_eq!(matches(&glob, &text), by_regex(&glob, &text), "{} {}", glob, text);
        }

        #[test]
        fn a_refused_glob_matches_nothing(
            glob in r"[ab\[\]{},!^\\*?/:-]{0,16}",
            text in r"[ab\[\]{},\\/]{0,10}",
        ) {
            let mut left = 1_000_000;
            match alternatives(&glob) {
                Ok(all) => for one in &all {
                    let sample = sample(one).unwrap();
                    prop_assert!(one.contains('[') || super::matches(one, &sample, &mut left), "{one} {sample}");
                    super::matches(one, &text, &mut left);
                },
                Err(problem) => prop_assert!(!problem.is_empty()),
            }
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
            ("a?c", "abc", true),
            ("a?c", "a?c", true),
            ("[ab]", "a", true),
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("grün*", "grünkohl", true),
            ("a?c", "a/c", false),
            ("a?c", "aéc", true),
            ("[ab]?.txt", "a1.txt", true),
            ("[ab]?.txt", "c1.txt", false),
            ("{a,b}.txt", "a.txt", true),
            ("{a,b}.txt", "b.txt", true),
            ("{a,b}.txt", "{a,b}.txt", false),
            ("{a,b{1,2},}.txt", "b2.txt", true),
            ("{a,b{1,2},}.txt", ".txt", true),
            ("a,b", "a,b", true),
            ("[a-c]", "b", true),
            ("[!a-c]", "b", false),
            ("[^a-c]", "d", true),
            ("[!a]", "/", false),
            ("[+-9]", "/", false),
            ("[]a]", "]", true),
            ("[a-]", "-", true),
            ("[?*]", "*", true),
            ("[{,}]", ",", true),
            ("[а-я]", "ж", true),
            (r"\*\?\[\{\}\\", r"*?[{}\", true),
            (r"\*", "a", false),
            ("a]", "a]", true),
            ("*?", "é", true),
            ("{**/,}*.md", "a/b.md", true),
            ("{**/,}*.md", "b.md", true),
        ] {
            assert_eq!(matches(glob, text), expected, "{glob} {text}");
        }
    }

    #[test]
    fn a_bad_glob_is_explained() {
        for (bad, expected) in [
            ("[ab", "without a ']'"),
            ("[]", "without a ']'"),
            ("[!]", "without a ']'"),
            ("{a,b", "without a '}'"),
            ("a}", "without a '{'"),
            ("{a}", "without a ','"),
            ("{1..3}", "without a ','"),
            ("{}", "without a ','"),
            (r"C:\data\*", "has a '\\' before"),
            (r"a\", "has a '\\' before"),
            ("[a/b]", "inside a class"),
            (r"[a\]]", "inside a class"),
            ("[z-a]", "ends before it begins"),
            ("[[:alpha:]]", "has no meaning"),
            ("http://[::1]/**", "has no meaning"),
            ("a\nb", "control character"),
            ("{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}", "more than 64"),
        ] {
            let problem = alternatives(bad).unwrap_err();
            assert!(problem.contains(expected), "{bad}: {problem}");
        }
        // As many as a pattern's 512 bytes allow.
        let nested = format!("{}{}", "{a,".repeat(128), "b}".repeat(64));
        assert!(alternatives(&nested).is_err());
    }

    #[test]
    fn a_hostile_glob_ends() {
        let text = "a".repeat(32 * 1024) + "b";
        assert!(!matches(&"*a".repeat(250), &text));
        assert!(!matches(&"**a".repeat(150), &text));
        assert!(!matches(&"*?[ab]".repeat(80), &("/".to_owned() + &text)));
    }

    #[test]
    fn without_steps_left_nothing_matches() {
        let mut left = 10;
        assert!(super::matches("a*", "ab", &mut left));
        assert!(left > 0);
        assert!(!super::matches("*", &"a".repeat(20), &mut left));
        assert_eq!(left, 0);
        assert!(!super::matches("a", "a", &mut left));
        // One for the star, one for each byte, one for the end.
        let mut left = 22;
        assert!(super::matches("*", &"a".repeat(20), &mut left));
        assert_eq!(left, 0);
        let mut left = 100;
        assert!(!super::matches(&format!("*[{}]", "b".repeat(200)), "ab", &mut left));
        assert_eq!(left, 0);
    }
}

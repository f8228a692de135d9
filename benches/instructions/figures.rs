//! The committed figures, and how new counts compare with them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// How far a count may be from the committed figure, in percent either way: compilers place and inline a little
/// differently, and so do CPUs with other features.
const MARGIN_PERCENT: u64 = 10;

const HEADER: &str = "\
# Instructions of one decision, by architecture and case. Written by `scripts/instructions --bless`.
";

/// Instructions of one decision by case, for one architecture.
pub type Figures = BTreeMap<String, u64>;

/// The file's text.
pub struct Committed(String);

impl Committed {
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The compiler that made the figures of that architecture.
    pub fn compiler(&self, architecture: &str) -> Option<&str> {
        self.0.lines().find_map(|line| line.strip_prefix(&format!("# {architecture}: ")))
    }

    /// The figures of that architecture; none if it has no line.
    pub fn of(&self, architecture: &str) -> Figures {
        let figure = |line: &str| {
            let (name, figure) = line.strip_prefix(architecture)?.strip_prefix(' ')?.rsplit_once(' ')?;
            Some((name.to_owned(), figure.parse().ok()?))
        };
        self.0.lines().filter_map(figure).collect()
    }

    /// The text with the figures of one architecture replaced.
    pub fn with(&self, architecture: &str, compiler: &str, figures: &Figures) -> String {
        let kept = |line: &&str| {
            !HEADER.contains(line)
                && !line.starts_with(&format!("# {architecture}: "))
                && !line.starts_with(&format!("{architecture} "))
        };
        let mut text = HEADER.to_owned();
        for line in self.0.lines().filter(kept) {
            text.push_str(line);
            text.push('\n');
        }
        // Writing to a string does not fail.
        let _ = writeln!(text, "# {architecture}: {compiler}");
        for (name, figure) in figures {
            let _ = writeln!(text, "{architecture} {name} {figure}");
        }
        text
    }
}

/// What is wrong with a figure, if anything.
pub fn problem(committed: Option<u64>, counted: Option<u64>) -> Option<&'static str> {
    match (committed, counted) {
        (None, _) => Some("has no figure yet: write it down with --bless"),
        (_, None) => Some("is no case any more: take it out with --bless"),
        (Some(old), Some(new)) if new * 100 > old * (100 + MARGIN_PERCENT) => {
            Some("takes more instructions than it did: make it cheaper, or say with --bless that it is worth that")
        }
        (Some(old), Some(new)) if new * 100 < old * (100 - MARGIN_PERCENT) => {
            Some("takes fewer instructions than it did: write that down with --bless, so that it stays so")
        }
        (Some(_), Some(_)) => None,
    }
}

/// Tests of the above: a bench without a harness has no other place for them.
pub fn check() {
    assert_eq!(problem(Some(1_000), Some(1_100)), None);
    assert_eq!(problem(Some(1_000), Some(900)), None);
    assert!(problem(Some(1_000), Some(1_101)).unwrap().contains("more"));
    assert!(problem(Some(1_000), Some(899)).unwrap().contains("fewer"));
    assert!(problem(None, Some(1)).is_some());
    assert!(problem(Some(1), None).is_some());

    let figures = Figures::from([("allowed/10".to_owned(), 2_000), ("no permission/10".to_owned(), 1_000)]);
    let empty = Committed::new(String::new());
    assert!(empty.of("x86_64").is_empty());
    let one = Committed::new(empty.with("x86_64", "rustc 1", &figures));
    let two = Committed::new(one.with("aarch64", "rustc 2", &figures));
    let changed = Figures::from([("allowed/10".to_owned(), 1)]);
    let three = Committed::new(two.with("x86_64", "rustc 3", &changed));
    assert_eq!((three.of("x86_64"), three.of("aarch64")), (changed, figures));
    assert_eq!((three.compiler("x86_64"), three.compiler("aarch64")), (Some("rustc 3"), Some("rustc 2")));
    assert_eq!(three.0.matches(HEADER).count(), 1);
}

//! A rule of the structure that the compiler does not check: no two files import each other, directly or through
//! others.
//!
//! It reads `use` lines and paths that begin with `crate::` or `super::`, follows re-exports to the file that defines
//! the item, and leaves out tests. A re-export is a signpost, not a dependency.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test ends by a panic that says why")]

mod graph;
mod imports;
mod source;

use std::collections::BTreeSet;
use std::path::Path;

use source::WorkspaceMember;

/// Pairs of files that are two halves of one thing, each with the reason.
const PAIRS: &[(&str, &str, &str)] = &[];

#[test]
fn no_two_files_import_each_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let members = ["src", "crates/domain/src", "crates/journal/src", "crates/store/src", "crates/load/src"];
    let mut circles = Vec::new();
    for member in members {
        let member = WorkspaceMember::read(&root.join(member));
        assert!(member.files.len() > 3, "{} has hardly any file", root.display());
        for circle in graph::circles(&imports::of(&member)) {
            let names: BTreeSet<&str> = circle.iter().map(String::as_str).collect();
            let is_pair = PAIRS.iter().any(|(one, other, _)| names == BTreeSet::from([*one, *other]));
            if !is_pair {
                circles.push(circle.join(" -> "));
            }
        }
    }
    assert!(circles.is_empty(), "files import each other:\n{}", circles.join("\n"));
}

#[test]
fn a_circle_is_found_through_a_re_export_and_outside_of_tests_only() {
    let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let circles = |files: Vec<(String, String)>| graph::circles(&imports::of(&WorkspaceMember::of(files)));
    let found = circles(vec![
        file("lib.rs", "pub mod a;\npub mod b;\npub use a::Item;"),
        file("a.rs", "use crate::b::{self, Other};\npub struct Item;"),
        file("b/mod.rs", "use super::Item;\npub struct Other;"),
    ]);
    assert_eq!(found.len(), 1, "{found:?}");
    let none = circles(vec![
        file("lib.rs", "pub mod a;\npub mod b;\npub use a::Item;"),
        file("a.rs", "use crate::b::Other;\n#[cfg(test)]\nmod tests {\n    use crate::b::tests::X;\n}\n"),
        file("b/mod.rs", "// crate::a::Item\npub struct Other;\n#[cfg(test)]\nmod tests {\n    use crate::Item;\n}\n"),
    ]);
    assert!(none.is_empty(), "{none:?}");
}

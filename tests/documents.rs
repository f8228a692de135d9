//! Everything that the documents refer to exists: each file or folder that they name, and each link between them. And
//! the README explains every constraint.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends by a panic that says what was wrong")]

use std::fs;
use std::path::{Path, PathBuf};

use kavach::domain::permission::constraint::Constraints;

/// The top folders: text in backticks that starts with one is a path.
const TOP: [&str; 8] = ["benches/", "crates/", "docs/", "examples/", "fuzz/", "scripts/", "src/", "tests/"];

/// Outputs that no checkout contains.
const MADE: [&str; 2] = ["fuzz/artifacts", "fuzz/target/"];

/// Every Markdown file of the project, except in folders that are built or fetched.
fn documents(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            documents(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

/// What a line refers to: paths in backticks from the top, and link targets from the document's own folder.
fn named<'l>(line: &'l str, root: &Path, own: &Path) -> Vec<(&'l str, PathBuf)> {
    let in_backticks = line.split('`').skip(1).step_by(2);
    let is_path = |text: &&str| TOP.iter().any(|top| text.starts_with(top)) && !text.contains(['*', ' ', '{']);
    let is_made = |text: &&str| MADE.iter().any(|made| text.starts_with(made)) || text.ends_with("...");
    let paths = in_backticks.filter(is_path).filter(|text| !is_made(text));
    let links = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let links = links.filter(|link| !link.contains("://") && !link.starts_with('#'));
    let links = links.map(|link| (link, own.join(link.split('#').next().unwrap())));
    paths.map(|path| (path, root.join(path))).chain(links).collect()
}

#[test]
fn everything_that_the_documents_name_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    documents(root, &mut files);
    assert!(files.iter().any(|file| file.ends_with("ARCHITECTURE.md")));
    let mut missing = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for (line, number) in text.lines().zip(1..) {
            for (name, path) in named(line, root, file.parent().unwrap()) {
                if !path.exists() {
                    missing.push(format!("{}:{number}: {name}", file.strip_prefix(root).unwrap().display()));
                }
            }
        }
    }
    assert!(missing.is_empty(), "named, but not there:\n{}", missing.join("\n"));
}

#[test]
fn the_readme_explains_every_constraint() {
    let readme = include_str!("../README.md");
    for name in Constraints::NAMES {
        let explained = readme.lines().any(|line| line.starts_with(&format!("- `{name}")));
        assert!(explained, "README.md has no line for {name} under \"Constraints\"");
    }
}

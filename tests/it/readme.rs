//! The README's commands, as a new user pastes them.

use std::fs;

use crate::followed::{Reader, steps};
use crate::harness::{Options, Server};

/// Commands that don't run here: the one that starts the server, which the harness does, and the one that runs these
/// tests.
const ELSEWHERE: [&str; 2] = ["cargo run --release -- --demo", "./scripts/test"];

/// Smaller loads, since a debug build beside other tests would take long.
const SMALLER: [(&str, &str); 4] = [
    ("--rate 20000 --duration 5s", "--rate 200 --duration 1s"),
    ("--connections 64 --duration 10s", "--connections 8 --duration 1s"),
    ("--tenants 1000", "--tenants 10"),
    ("--batch 100", "--batch 100 --duration 1s"),
];

/// The first words of what a load printed elsewhere: here its figures are others.
const FIGURES: &str = "open loop";

#[test]
fn every_command_of_the_readme_runs_in_order() {
    let home = tempfile::tempdir().unwrap();
    let data_dir = Some(home.path().join("snapshots"));
    let server = Server::start_with(Options { data_dir, ..Options::args(&["--demo"]) });
    let replaced = SMALLER.into_iter().chain([("http://127.0.0.1:7600", server.base())]);
    let readme = replaced.fold(include_str!("../../README.md").to_owned(), |readme, (is, becomes)| {
        assert!(readme.contains(is), "README.md has no {is:?} any more");
        readme.replace(is, becomes)
    });
    let (skipped, mut run): (Vec<_>, Vec<_>) =
        steps(&readme).into_iter().partition(|step| ELSEWHERE.contains(&step.commands.trim()));
    assert_eq!(skipped.len(), ELSEWHERE.len(), "README.md starts the server and the checks by other commands");
    let mut reader = Reader::new(home.path());
    let mut answers = 0;
    for step in &mut run {
        if step.shown.first().is_some_and(|shown| shown.starts_with(FIGURES)) {
            step.shown.clear();
        }
        answers += step.shown.len();
        reader.follow(step);
    }
    reader.finish();
    assert!(answers >= 2, "README.md shows {answers} answers");
    for file in ["checkpoint.json", "latency.svg", "targets.json"] {
        assert!(fs::metadata(home.path().join(file)).unwrap().len() > 0, "{file}");
    }
}

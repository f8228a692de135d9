//! The README's commands, as a new user pastes them: they run one after another in one shell, each succeeds, and the
//! printed answers arrive.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{OPERATOR_KEY, Options, Server};

const README: &str = include_str!("../../README.md");

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

/// The blocks of shell commands, in order.
fn blocks() -> Vec<&'static str> {
    let after = README.split("```sh\n").skip(1);
    after.map(|rest| rest.split_once("```").unwrap().0).collect()
}

/// The commands, with the server's address and those sizes replaced.
fn script(base: &str) -> String {
    let (skipped, run): (Vec<_>, Vec<_>) = blocks().into_iter().partition(|block| ELSEWHERE.contains(&block.trim()));
    assert_eq!(skipped.len(), ELSEWHERE.len(), "README.md starts the server and the checks by other commands");
    let address = ("http://127.0.0.1:7600", base);
    SMALLER.into_iter().chain([address]).fold(run.concat(), |script, (is, becomes)| {
        assert!(script.contains(is), "README.md has no {is:?} any more");
        script.replace(is, becomes)
    })
}

/// The answers in comments, with `...` for anything.
fn shown(script: &str) -> impl Iterator<Item = &str> {
    script.lines().filter_map(|line| line.strip_prefix("# ")).filter(|line| line.starts_with('{'))
}

/// Whether a line matches a comment's answer.
fn is_shown(line: &str, shown: &str) -> bool {
    let Some((start, rest)) = shown.split_once("...") else { return line == shown };
    let Some(mut left) = line.strip_prefix(start) else { return false };
    for part in rest.split("...") {
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.is_empty()
}

/// The folder for following the README: a built program, a data directory, and a curl that fails if the server refuses,
/// and ends its answer's line.
fn prepare(home: &Path) {
    fs::create_dir_all(home.join("target/release")).unwrap();
    symlink(env!("CARGO_BIN_EXE_kavach"), home.join("target/release/kavach")).unwrap();
    fs::write(home.join(".curlrc"), "fail-with-body\nshow-error\nmax-time = 120\nwrite-out = \"\\n\"\n").unwrap();
}

#[test]
fn every_command_of_the_readme_runs_in_order() {
    let home = tempfile::tempdir().unwrap();
    prepare(home.path());
    let data_dir = Some(home.path().join("snapshots"));
    let server = Server::start_with(Options { data_dir, ..Options::args(&["--demo"]) });
    let script = script(server.base());
    let mut shell = Command::new("sh");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("KAVACH_")) {
        shell.env_remove(name);
    }
    // A failing command or an unset variable ends the script.
    shell.args(["-eux", "-c", &script]).current_dir(home.path()).env("CURL_HOME", home.path());
    let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    writeln!(shell.stdin.take().unwrap(), "{OPERATOR_KEY}").unwrap();
    let output = shell.wait_with_output().unwrap();
    let (said, steps) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{said}\n{steps}", output.status);
    // In their order, among others.
    let mut lines = said.lines();
    let mut checked = 0;
    for shown in shown(&script) {
        assert!(lines.any(|line| is_shown(line, shown)), "nothing answered {shown}\n{said}");
        checked += 1;
    }
    assert!(checked >= 2, "README.md shows {checked} answers");
    for file in ["checkpoint.json", "latency.svg", "targets.json"] {
        assert!(fs::metadata(home.path().join(file)).unwrap().len() > 0, "{file}");
    }
}

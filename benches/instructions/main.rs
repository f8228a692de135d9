//! Instructions of one decision, counted by valgrind's callgrind and compared with committed figures: a machine's times
//! are noisy, its instructions are not. Run it with `scripts/instructions`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a bench that can't be set up has to stop")]
#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "it is a program for people")]

#[path = "../common/mod.rs"]
mod common;

mod cases;
mod figures;

use std::env::consts::ARCH;
use std::path::Path;
use std::process::{Command, ExitCode};

use cases::{CASES, Case};
use common::measuring;
use figures::{Committed, Figures, problem};

/// Calls counted for each case: the figure is their mean, so that rare work has its share.
const CALLS: u64 = 512;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions/figures.txt");

fn main() -> ExitCode {
    let given = |wanted| std::env::args().any(|arg| arg == wanted);
    if let Some(name) = std::env::args().skip_while(|arg| arg != "--count").nth(1) {
        // This is the process that valgrind watches.
        CASES.iter().find(|case| case.name == name).expect("a case of that name").run(CALLS);
        return ExitCode::SUCCESS;
    }
    if !measuring() {
        figures::check();
        CASES.iter().for_each(|case| case.run(3));
        return ExitCode::SUCCESS;
    }
    let counted: Figures = CASES.iter().map(|case| (case.name.to_owned(), count(case))).collect();
    if given("--bless") {
        let text = committed().with(ARCH, &compiler(), &counted);
        std::fs::write(FILE, text).expect("the file of figures can be written");
        println!("Wrote {FILE}.");
    }
    // Figures of another profile than the committed ones prove nothing, so a plain `cargo bench` compares none.
    if given("--bless") || given("--check") { compare(&counted) } else { show(&counted) }
}

fn show(counted: &Figures) -> ExitCode {
    for (name, figure) in counted {
        println!("{name:<24} {figure:>7} instructions");
    }
    ExitCode::SUCCESS
}

fn compare(counted: &Figures) -> ExitCode {
    let (committed, mut bad) = (committed(), false);
    let known = committed.of(ARCH);
    if known.is_empty() {
        println!("There are no figures for {ARCH} in {FILE}, so none are compared; --bless writes them.");
        return show(counted);
    }
    let mut names: Vec<_> = known.keys().chain(counted.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let (old, new) = (known.get(name).copied(), counted.get(name).copied());
        let text = |figure: Option<u64>| figure.map_or_else(|| "-".to_owned(), |figure| figure.to_string());
        let problem = problem(old, new);
        bad |= problem.is_some();
        println!("{name:<24} {:>7} -> {:>7}  {}", text(old), text(new), problem.unwrap_or("ok"));
    }
    if !bad {
        return ExitCode::SUCCESS;
    }
    let (then, now) = (committed.compiler(ARCH).unwrap_or("an unknown compiler"), compiler());
    if then != now {
        println!("The figures were written with {then}; this is {now}, which may be the whole difference.");
    }
    ExitCode::FAILURE
}

fn committed() -> Committed {
    Committed::new(std::fs::read_to_string(FILE).unwrap_or_default())
}

fn compiler() -> String {
    let version = Command::new("rustc").arg("--version").output().expect("rustc says its version");
    String::from_utf8_lossy(&version.stdout).trim().to_owned()
}

/// Runs this program again under callgrind. Returns the instructions of one call of that case.
fn count(case: &Case) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("callgrind.out");
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*counted_by_callgrind*"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe().unwrap())
        .args(["--count", case.name])
        .output()
        .expect("valgrind is installed");
    assert!(run.status.success(), "{}: {}", case.name, String::from_utf8_lossy(&run.stderr));
    let total = total(&out);
    assert!(total > 0, "callgrind found no function counted_by_callgrind");
    total / CALLS
}

fn total(out: &Path) -> u64 {
    let text = std::fs::read_to_string(out).unwrap();
    text.lines().find_map(|line| line.strip_prefix("totals: ")?.parse().ok()).expect("callgrind says a total")
}

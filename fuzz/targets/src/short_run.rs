//! Runs each target over its seeds and over mutations of them, both fixed ones and fresh ones.
//!
//! `KAVACH_FUZZ_SEED=n` repeats one seed, `KAVACH_FUZZ_RUNS=n` sets the number of inputs per seed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use fastrand::Rng;

use super::mutator::mutate;
use kavach_fixture::small_tenant::Small;

/// The folder with a target's inputs.
fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(target)
}

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

fn run(name: &str, target: fn(&[u8]), runs: u64) {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(corpus(name)).expect("a corpus").map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{name} has no seeds");
    let inputs: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    for (file, input) in files.iter().zip(&inputs) {
        attempt(name, target, input, &file.display().to_string());
    }
    let runs = from_env("KAVACH_FUZZ_RUNS").unwrap_or(runs);
    let seeds = from_env("KAVACH_FUZZ_SEED").map_or_else(|| vec![1, fastrand::u64(2..1 << 32)], |seed| vec![seed]);
    for seed in seeds {
        let mut rng = Rng::with_seed(seed);
        for _ in 0..runs {
            let input = mutate(&inputs, &mut rng);
            attempt(name, target, &input, &format!("KAVACH_FUZZ_SEED={seed}"));
        }
    }
}

/// Runs the target. A failing input is saved as a file, which serves the fuzzer and this run as a seed.
fn attempt(name: &str, target: fn(&[u8]), input: &[u8], origin: &str) {
    if catch_unwind(AssertUnwindSafe(|| target(input))).is_err() {
        let file = std::env::temp_dir().join(format!("kavach-fuzz-{name}-{:08x}", crc32fast::hash(input)));
        let kept = std::fs::write(&file, input);
        let text = String::from_utf8_lossy(input);
        panic!("{name} failed by {origin}; the input is in {} ({kept:?}):\n{text}", file.display());
    }
}

#[test]
fn authorize() {
    run("authorize", super::authorize, 400);
}

#[test]
fn commands() {
    run("commands", super::commands, 400);
}

#[test]
fn patterns() {
    run("patterns", super::patterns, 4_000);
}

#[test]
fn values() {
    run("values", super::values, 4_000);
}

#[test]
fn events() {
    run("events", super::events, 1_500);
}

#[test]
fn journal() {
    run("journal", super::journal, 1_000);
}

#[test]
fn snapshot() {
    run("snapshot", super::snapshot, 1_500);
}

#[test]
fn the_small_tenant_is_sound() {
    Small::new().check();
}

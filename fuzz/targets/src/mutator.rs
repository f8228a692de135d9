//! Changes inputs at random, as a fuzzer does, but without coverage feedback.

use fastrand::Rng;

/// Maximum bytes of an input.
const MOST_BYTES: usize = 16 * 1024;

/// Words that the parsers know, and numbers at the ends of their ranges.
const WORDS: &[&str] = &[
    "null",
    "true",
    "{}",
    "[]",
    "[[[[",
    "\"\"",
    "\\u0000",
    "\\ud800",
    "\\\"",
    "é",
    "\u{10ffff}",
    "\n",
    "\0",
    "*",
    ":*",
    "**",
    "/",
    "-",
    "0",
    "-0",
    "1e3",
    "1e-7",
    "1e400",
    "0.000001",
    "18446744073709551616",
    "9223372036854775807",
    "4294967295",
    "\"agentId\":",
    "\"arguments\":",
    "\"permissions\":",
    "\"constraints\":",
    "\"tokensCost\":",
    "\"idempotencyKey\":",
    "\"limits\":",
    "\"status\":",
    "\"expiresAt\":",
    "\"maxDepth\":",
    "\"graceSeconds\":",
    "9999-12-31T23:59:59.999Z",
    "1970-01-01T00:00:00Z",
    "^(a*)*$",
    "::ffff:10.0.0.1",
    "0.0.0.0/0",
    "KAVACHJ\n",
    "KAVACHS\n",
];

/// A changed copy of one of the inputs.
pub fn mutate(inputs: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let mut input = rng.choice(inputs).cloned().unwrap_or_default();
    for _ in 0..1 + rng.usize(0..4) {
        change(&mut input, inputs, rng);
    }
    input.truncate(MOST_BYTES);
    input
}

fn change(input: &mut Vec<u8>, inputs: &[Vec<u8>], rng: &mut Rng) {
    let at = rng.usize(0..=input.len());
    let end = (at + 1 + rng.usize(0..16)).min(input.len());
    match rng.u8(0..8) {
        0 if at < input.len() => input[at] ^= 1 << rng.u8(0..8),
        1 if at < input.len() => input[at] = rng.u8(..),
        2 => {
            input.drain(at..end);
        }
        3 => {
            let word = rng.choice(WORDS).unwrap_or(&"");
            input.splice(at..at, word.bytes());
        }
        4 => {
            let word = rng.choice(WORDS).unwrap_or(&"");
            input.splice(at..end, word.bytes());
        }
        5 => {
            let piece = input[at..end].to_vec();
            let to = rng.usize(0..=input.len());
            input.splice(to..to, piece);
        }
        6 => {
            // The start of this one and the end of another.
            if let Some(other) = rng.choice(inputs) {
                input.truncate(at);
                input.extend_from_slice(&other[rng.usize(0..=other.len())..]);
            }
        }
        _ => {
            let number = rng.choice([0, 1, 7, 0x7f, 0xff, 0xffff, 1 << 31, u64::MAX >> 1, u64::MAX]).unwrap_or(0);
            let bytes = &number.to_le_bytes()[..1 << rng.u8(0..4)];
            let end = (at + bytes.len()).min(input.len());
            input.splice(at..end, bytes.iter().copied());
        }
    }
}

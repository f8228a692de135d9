//! What the fuzzer runs: for each target one function from any bytes to nothing, which panics where something does
//! not hold that must. See `fuzz/README.md`.
//!
//! These are no part of the server: they are compiled for tests, which run them shortly over the seeds and what a
//! mutator makes of them, and for the fuzzer, which runs them for as long as one likes. A target asserts more than that
//! nothing panics: two readers of the same bytes agree, what parses prints and parses to the same, a matcher agrees with
//! a naive one, a state that was changed is the one that replay and a snapshot give back.
//!
//! | target | bytes | body in |
//! | --- | --- | --- |
//! | `authorize` | an authorize body, or a batch's | `api/fuzz.rs` |
//! | `commands` | request lines and bodies of all other routes that take one | `api/fuzz.rs` |
//! | `patterns` | resource patterns, resources, globs, regular expressions | `fuzz/patterns.rs` |
//! | `values` | text of ids, times, costs, names, constraints, arguments | `fuzz/values.rs` |
//! | `events` | an event as the journal holds it | `fuzz/events.rs` |
//! | `journal` | the segments of a tenant's folder | `fuzz/journal.rs` |
//! | `snapshot` | a snapshot file, or its state | `fuzz/snapshot.rs` |
// An assertion that fails is what a target is for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod events;
mod folder;
mod journal;
#[cfg(test)]
mod mutator;
mod patterns;
#[cfg(test)]
mod seeds;
#[cfg(test)]
mod short_run;
pub(crate) mod small;
mod snapshot;
mod values;

pub use crate::api::fuzz::{authorize, commands};
pub use events::events;
pub use journal::journal;
pub use patterns::patterns;
pub use snapshot::snapshot;
pub use values::values;

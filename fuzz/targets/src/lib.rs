//! What the fuzzer runs: for each target one function from any bytes to nothing, which panics where something does
//! not hold that must. See `README.md`.
//!
//! These are no part of the server: they are compiled for tests, which run them shortly over the seeds and what a
//! mutator makes of them, and for the fuzzer, which runs them for as long as one likes. A target asserts more than that
//! nothing panics: two readers of the same bytes agree, what parses prints and parses to the same, a matcher agrees with
//! a naive one, a state that was changed is the one that replay and a snapshot give back.
//!
//! | target | bytes | body in |
//! | --- | --- | --- |
//! | `authorize` | an authorize body, or a batch's | `api.rs` |
//! | `commands` | request lines and bodies of all other routes that take one | `api.rs` |
//! | `patterns` | resource patterns, resources, globs, regular expressions | `patterns.rs` |
//! | `values` | text of ids, times, costs, names, constraints, arguments | `values.rs` |
//! | `events` | an event as the journal holds it | `events.rs` |
//! | `journal` | the segments of a tenant's folder | `journal.rs` |
//! | `snapshot` | a snapshot file, or its state | `snapshot.rs` |
// An assertion that fails is what a target is for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod api;
mod authzen;
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
mod snapshot;
mod values;

pub use api::{authorize, commands};
pub use events::events;
pub use journal::journal;
pub use patterns::patterns;
pub use snapshot::snapshot;
pub use values::values;

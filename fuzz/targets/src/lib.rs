//! What the fuzzer runs: one function for each target, which takes any bytes and panics if an invariant breaks. See
//! `fuzz/README.md`.
//!
//! No part of the server depends on this crate. Its tests run each target for a short time over the seeds and over a
//! mutator's changes of them; the fuzzer runs them for as long as you like. A target asserts more than the absence of
//! panics: two readers of one input agree, what parses prints and parses to an equal value, a matcher agrees with a
//! naive one, replay and a snapshot restore a changed state.
//!
//! This crate may know every other member, because it feeds each of them bytes at its own boundary: the API's bodies, the
//! domain's patterns and values, the codec's events, the journal's files.
//!
//! | target | input | defined in |
//! | --- | --- | --- |
//! | `authorize` | an authorize body, or a batch's | `api.rs` |
//! | `commands` | request lines and bodies of all other routes that take one | `api.rs` |
//! | `patterns` | resource patterns, resources, globs, regular expressions | `patterns.rs` |
//! | `values` | text of ids, times, costs, names, constraints, arguments | `values.rs` |
//! | `events` | an event as the journal holds it | `events.rs` |
//! | `journal` | the segments of a tenant's folder | `journal.rs` |
//! | `snapshot` | a snapshot file, or its state | `snapshot.rs` |
// A failed assertion is the point of a target.
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

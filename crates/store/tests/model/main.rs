//! Random histories of one tenant, compared step by step with a model too simple to share its mistakes.
//!
//! [`naive`] is written from the project's design, not from its code: lists that are scanned, tokens in a `Vec`, all
//! granted calls with their times, patterns by their recursive definition. [`steps`] makes random histories. [`run`]
//! plays one against both and compares; then it compares the tenant with itself, replayed from its events, from a
//! snapshot, and from a journal on disk.
//!
//! `KAVACH_CASES=5000 cargo test --release --test model` plays more of them.

#[cfg(test)]
mod budget_runs;
#[cfg(test)]
mod hooks;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod naive;
#[cfg(test)]
mod recount;
#[cfg(test)]
mod run;
#[cfg(test)]
mod steps;
#[cfg(test)]
mod time_travel;

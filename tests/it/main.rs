//! The integration tests: the real server binary, driven over HTTP as its users drive it.
//!
//! Each test has its own server and its own directory. Nothing waits for a fixed time: [`harness::eventually`] polls
//! a condition instead.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test ends by a panic that says what was wrong"
)]

mod access;
mod access_table;
mod arg_patterns;
mod attempts;
mod audit;
mod audit_streams;
mod authzen;
mod bad_bytes;
mod bad_input;
mod bad_table;
mod bodies;
mod budget_input;
mod budget_proof;
mod budgets;
mod client;
mod clock;
mod conformance;
mod connections;
mod constraints;
mod copied_folders;
mod crash;
mod damage;
mod decisions;
mod delegations;
mod events;
mod every_byte;
mod faults;
mod foreign_ids;
mod framing;
mod gateways;
mod harness;
mod leaks;
mod life;
mod limits;
mod load;
mod metrics;
mod mutation;
mod network;
mod openapi;
mod overload;
#[allow(clippy::print_stdout, reason = "it is there to print figures")]
mod overload_figures;
mod pages;
mod panics;
mod places;
mod policy_owners;
mod queries;
mod readme;
mod reasons;
mod retention;
mod rounds;
mod secrets;
mod snapshots;
mod stats;
mod storage;
mod stream_resume;
mod tls;
mod tokens;
mod tools;
mod trail_access;
mod trail_billing;
mod trail_changes;
mod usage;
mod verify_all;
mod words;
mod world;
mod wrong_types;

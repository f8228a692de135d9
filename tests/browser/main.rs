//! The dashboard in a real browser: headless Chromium, driven by chromedriver (Debian's chromium and chromium-driver).
//!
//! After each test we check the browser's logs: no page may have logged an error or a warning, and no request may have
//! gone to another host. `KAVACH_SCREENSHOTS=folder` keeps pictures of every page.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test ends by a panic that says what was wrong"
)]

mod browser;
#[allow(dead_code, reason = "the other tests use more of it")]
#[path = "../it/client.rs"]
mod client;
#[allow(dead_code, reason = "the other tests use more of it")]
#[path = "../it/conformance.rs"]
mod conformance;
mod dialogs;
mod docs;
#[allow(dead_code, reason = "the other tests use more of it")]
#[path = "../it/harness.rs"]
mod harness;
mod holds;
mod keys;
mod looks;
mod operator;
mod overview;
mod sessions;
mod spend;
mod tenant_key;
mod webhooks;

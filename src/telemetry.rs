//! Structured logs on standard error: what is for people and programs to read goes to standard output instead.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging. `RUST_LOG` says what (`info` without it).
pub fn start(json: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,actix_server=warn"));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // A log that can't be written, as on a full disk, is lost. To complain of that on standard error, where it can't
    // be written either, would be a panic in whoever had something to log.
    let logs = logs.log_internal_errors(false);
    // A subscriber that is there already, as in tests, stays.
    let _ = if json { logs.json().try_init() } else { logs.try_init() };
}

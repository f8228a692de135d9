//! Structured logs on standard error: what is for people and programs to read goes to standard output instead.

use tracing_subscriber::EnvFilter;

/// Starts logging. `RUST_LOG` says what (`info` without it).
pub fn start(json: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,actix_server=warn"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A subscriber that is there already, as in tests, stays.
    let _ = if json { logs.json().try_init() } else { logs.try_init() };
}

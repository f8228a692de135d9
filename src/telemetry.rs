//! Structured logs on standard error: what is for people and programs to read goes to standard output instead.

use std::io::IsTerminal;

use tracing::{Level, Metadata};
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt, registry};

/// Crates whose details are logged where `RUST_LOG` asks for them. What reads requests is none of them: it quotes
/// headers that it can't read, and those may hold a key.
const DETAILED: [&str; 2] = ["kavach", "actix_server"];

/// Starts logging. `RUST_LOG` says what (`info` without it), but for details of other crates.
pub fn start(json: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,actix_server=warn"));
    let filter = filter.and(filter_fn(is_logged));
    let logs = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    // A log that can't be written, as on a full disk, is lost. To complain of that on standard error, where it can't
    // be written either, would be a panic in whoever had something to log.
    let logs = logs.log_internal_errors(false);
    // A subscriber that is there already, as in tests, stays.
    let _ = if json {
        registry().with(logs.json().with_filter(filter)).try_init()
    } else {
        registry().with(logs.with_filter(filter)).try_init()
    };
}

fn is_logged(metadata: &Metadata<'_>) -> bool {
    let of = metadata.target().split("::").next().unwrap_or_default();
    *metadata.level() <= Level::INFO || DETAILED.contains(&of)
}

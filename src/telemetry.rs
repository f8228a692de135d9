//! Structured logs on standard error. Standard output is left for results that people and programs read.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{Level, Metadata};
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt, registry};

/// What is logged by default. actix-http is off: clients can cause its errors (unreadable requests, answers that nobody
/// reads) as often as they like.
const DEFAULT_FILTER: &str = "info,actix_server=warn,actix_http=off";

/// Crates that may log below `info` when `RUST_LOG` asks for it. The HTTP parser is left out: it quotes headers that it
/// can't read, and those may hold a key.
const DETAILED: [&str; 2] = ["kavach", "actix_server"];

/// Starts logging, as JSON or as text. `RUST_LOG` sets the level (`info` by default); only Kavach and actix-server may
/// go below `info`.
pub fn start(json: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let filter = filter.and(filter_fn(is_logged));
    let logs = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    // A line that can't be written, as on a full disk, is lost. Complaining about it on standard error, which fails as
    // well, would panic in the code that wanted to log.
    let logs = logs.log_internal_errors(false);
    // Keep a subscriber that is already installed, as in tests.
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

/// The least time between two lines of one [`ThrottledLog`].
const THROTTLED_FOR: Duration = Duration::from_secs(60);

/// A log line that clients can cause as often as they like. It is written at most once a minute.
#[derive(Default)]
pub struct ThrottledLog(Mutex<LogState>);

#[derive(Default)]
struct LogState {
    last: Option<Instant>,
    unlogged: u64,
}

impl ThrottledLog {
    /// Calls `log` with the number of occurrences since the last line, or only counts this one if that was less than a
    /// minute ago.
    pub fn warn_with(&self, log: impl FnOnce(u64)) {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recent.unlogged += 1;
        if recent.last.is_none_or(|last| last.elapsed() >= THROTTLED_FOR) {
            recent.last = Some(Instant::now());
            let times = std::mem::take(&mut recent.unlogged);
            drop(recent);
            log(times);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frequent_line_is_logged_once() {
        let (seldom, mut said) = (ThrottledLog::default(), Vec::new());
        for _ in 0..3 {
            seldom.warn_with(|times| said.push(times));
        }
        let recent = || seldom.0.lock().unwrap();
        let last = recent().last.and_then(|last| last.checked_sub(THROTTLED_FOR));
        recent().last = last;
        seldom.warn_with(|times| said.push(times));
        assert_eq!(said, if last.is_some() { vec![1, 3] } else { vec![1, 1] });
    }
}

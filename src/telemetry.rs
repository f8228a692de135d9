//! Structured logs on standard error: what is for people and programs to read goes to standard output instead.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{Level, Metadata};
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt, registry};

/// What is logged where nothing else is asked for. What actix-http logs as an error, a client can cause as often as it
/// likes: requests that can't be read, and answers that nobody takes.
const DEFAULT_FILTER: &str = "info,actix_server=warn,actix_http=off";

/// Crates whose details are logged where `RUST_LOG` asks for them. What reads requests is none of them: it quotes
/// headers that it can't read, and those may hold a key.
const DETAILED: [&str; 2] = ["kavach", "actix_server"];

/// Starts logging. `RUST_LOG` says what (`info` without it), but for details of other crates.
pub fn start(json: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
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

/// Time between two lines of a kind that is logged seldom.
const SELDOM: Duration = Duration::from_secs(60);

/// A line of the log that clients can cause as often as they like, written once a minute at most.
#[derive(Default)]
pub struct Seldom(Mutex<Recent>);

#[derive(Default)]
struct Recent {
    last: Option<Instant>,
    unsaid: u64,
}

impl Seldom {
    /// Calls `log` with the number of times there was something to log since it last did; or counts this time.
    pub fn warn_with(&self, log: impl FnOnce(u64)) {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recent.unsaid += 1;
        if recent.last.is_none_or(|last| last.elapsed() >= SELDOM) {
            recent.last = Some(Instant::now());
            let times = std::mem::take(&mut recent.unsaid);
            drop(recent);
            log(times);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_often_is_said_once() {
        let (seldom, mut said) = (Seldom::default(), Vec::new());
        for _ in 0..3 {
            seldom.warn_with(|times| said.push(times));
        }
        let recent = || seldom.0.lock().unwrap();
        let last = recent().last.and_then(|last| last.checked_sub(SELDOM));
        recent().last = last;
        seldom.warn_with(|times| said.push(times));
        assert_eq!(said, if last.is_some() { vec![1, 3] } else { vec![1, 1] });
    }
}

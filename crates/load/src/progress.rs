//! Progress bars on standard error, if that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};

use crate::engine::Progress;
use crate::options::LoadSettings;

/// A bar that counts up to `count` items.
pub fn items(what: &'static str, count: u64) -> ProgressBar {
    let bar = ProgressBar::new(count);
    // The template is a constant.
    if let Ok(style) = ProgressStyle::with_template("{msg:>8} [{wide_bar}] {pos}/{len} {eta}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.with_message(what)
}

/// A bar for a run's time.
pub struct RunBar {
    bar: ProgressBar,
    shown_requests: u64,
    shown_millis: u64,
}

impl RunBar {
    /// A bar for the warm-up and the window.
    pub fn new(settings: &LoadSettings) -> Self {
        let bar = ProgressBar::new(millis(settings.warmup + settings.duration));
        if let Ok(style) = ProgressStyle::with_template("{prefix:>8} [{wide_bar}] {msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        Self { bar, shown_requests: 0, shown_millis: 0 }
    }

    /// Shows how far the run is.
    pub fn show(&mut self, settings: &LoadSettings, progress: Progress) {
        if self.bar.is_hidden() {
            return;
        }
        let now = millis(progress.elapsed);
        let prefix = if progress.elapsed < settings.warmup { "warm-up" } else { "load" };
        let new = progress.requests.saturating_sub(self.shown_requests);
        let rate = new * 1000 / now.saturating_sub(self.shown_millis).max(1);
        (self.shown_requests, self.shown_millis) = (progress.requests, now);
        let seconds = progress.elapsed.as_secs();
        let errors = if progress.errors > 0 { format!(", {} errors", progress.errors) } else { String::new() };
        self.bar.set_prefix(prefix);
        self.bar.set_message(format!("{seconds} s, {rate} requests/s{errors}"));
        self.bar.set_position(now.min(self.bar.length().unwrap_or(now)));
    }

    /// Takes the bar away.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

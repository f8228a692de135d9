//! How long to wait after an attempt that failed.

use std::time::Duration;

use crate::domain::Timestamp;
use crate::domain::limits::MESSAGE_LIFE_MS;

/// Waits in seconds: 5 seconds, 5 minutes, 30 minutes, 2, 5 and then 10 hours. Short ones help against a restart, long ones
/// leave an endpoint in peace that somebody has to repair.
const WAITS: [u64; 6] = [5, 5 * 60, 30 * 60, 2 * 3_600, 5 * 3_600, 10 * 3_600];
/// A wait is longer by up to a tenth, so that many webhooks of one endpoint don't come together.
const JITTER: u64 = 10;

/// The waits after failures.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    /// In place of all waits, for tests.
    fixed: Option<Duration>,
}

impl Backoff {
    /// The waits of this process.
    pub fn of_process() -> Self {
        #[cfg(feature = "test-hooks")]
        if let Some(millis) = std::env::var("KAVACH_TEST_WEBHOOK_WAIT_MS").ok().and_then(|text| text.parse().ok()) {
            return Self { fixed: Some(Duration::from_millis(millis)) };
        }
        Self::default()
    }

    /// How long to wait after that many failures in a row, of a message that waits since `since`. The last attempt is when
    /// the message is to be given up.
    pub fn after(&self, failures: u32, since: Timestamp, now: Timestamp, random: u32) -> Duration {
        if let Some(fixed) = self.fixed {
            return fixed;
        }
        let place = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX);
        let [first, .., last] = WAITS;
        let millis = WAITS.get(place).unwrap_or(&last) * 1_000;
        let jitter = u64::from(random) % (millis / JITTER);
        let left = u64::try_from(since.millis() + MESSAGE_LIFE_MS - now.millis()).unwrap_or(0);
        // Of messages that are all too old, each is tried once, and not all at once.
        Duration::from_millis((millis + jitter).min(left).max(first * 1_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_the_last_attempt_is_after_a_day() {
        let backoff = Backoff::default();
        let since = Timestamp::from_millis(1_700_000_000_000);
        let (mut now, mut attempts) = (since, 1);
        let mut before = Duration::ZERO;
        while now.millis() - since.millis() < MESSAGE_LIFE_MS {
            let wait = backoff.after(attempts, since, now, u32::MAX);
            let is_last = now.millis() + wait.as_millis() as i64 == since.millis() + MESSAGE_LIFE_MS;
            assert!(wait > before || is_last, "{wait:?} after {before:?}");
            before = wait;
            now = now.plus_millis(wait.as_millis() as i64);
            attempts += 1;
        }
        assert_eq!((now.millis() - since.millis(), attempts), (MESSAGE_LIFE_MS, 8));
        assert_eq!(backoff.after(9, since, now, 0), Duration::from_secs(5));
        assert_eq!(backoff.after(1, since, since, 0), Duration::from_secs(5));
    }
}

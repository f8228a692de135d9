//! The sliding hour of `maxCallsPerHour`: twelve buckets of five minutes.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

const BUCKETS: usize = 12;
const BUCKET_SECONDS: i64 = 300;

/// Granted calls of the last hour, to the bucket. A call leaves the count between 55 and 60 minutes after it came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateWindow {
    /// Number of the newest bucket since the epoch.
    newest: i64,
    /// Counts of the newest bucket and the eleven before it, newest first.
    counts: [u32; BUCKETS],
}

fn bucket_of(at: Timestamp) -> i64 {
    at.seconds().div_euclid(BUCKET_SECONDS)
}

impl RateWindow {
    /// Calls counted at that time.
    pub fn used(&self, at: Timestamp) -> u32 {
        self.live(at).fold(0u32, |sum, (_, count)| sum.saturating_add(count))
    }

    /// Seconds until a call fits under `max` again; `None` where it never will.
    pub fn retry_after(&self, at: Timestamp, max: u32) -> Option<u64> {
        if max == 0 {
            return None;
        }
        let mut used = self.used(at);
        let mut oldest_first: Vec<_> = self.live(at).collect();
        oldest_first.reverse();
        for (bucket, count) in oldest_first {
            if used < max {
                break;
            }
            used -= count;
            if used < max {
                let leaves = (bucket + BUCKETS as i64) * BUCKET_SECONDS;
                // Up to the next whole second, so that a caller who waits that long is not early.
                let wait = leaves * 1_000 - at.millis();
                return Some(u64::try_from((wait + 999) / 1_000).unwrap_or(1).max(1));
            }
        }
        Some(0)
    }

    /// Counts one granted call.
    pub fn count(&mut self, at: Timestamp) {
        let now = bucket_of(at);
        let passed = usize::try_from(now.saturating_sub(self.newest)).unwrap_or(0);
        if passed > 0 {
            if passed >= BUCKETS {
                self.counts = [0; BUCKETS];
            } else {
                self.counts.rotate_right(passed);
                self.counts.iter_mut().take(passed).for_each(|count| *count = 0);
            }
            self.newest = now;
        }
        if let Some(count) = self.counts.first_mut() {
            *count = count.saturating_add(1);
        }
    }

    /// The buckets that still count, newest first, with their numbers.
    fn live(&self, at: Timestamp) -> impl Iterator<Item = (i64, u32)> + '_ {
        let oldest = bucket_of(at) - BUCKETS as i64;
        (0..)
            .zip(self.counts)
            .map(|(age, count)| (self.newest - age, count))
            .filter(move |(bucket, _)| *bucket > oldest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(1_700_000_100_000 + seconds * 1_000)
    }

    #[test]
    fn an_hour_after_the_bucket_the_call_is_gone() {
        let mut window = RateWindow::default();
        window.count(at(0));
        assert_eq!(window.used(at(0)), 1);
        assert_eq!(window.used(at(54 * 60)), 1);
        assert_eq!(window.used(at(60 * 60)), 0);
        let wait = window.retry_after(at(0), 1).unwrap() as i64;
        assert_eq!((window.used(at(wait - 1)), window.used(at(wait))), (1, 0));
        assert_eq!(window.retry_after(at(0), 0), None);
    }

    proptest! {
        #[test]
        fn agrees_with_a_list_of_calls(steps in prop::collection::vec((0i64..2_000, any::<bool>()), 1..120)) {
            let (mut window, mut calls, mut now) = (RateWindow::default(), Vec::new(), 0);
            for (step, count) in steps {
                now += step;
                if count {
                    window.count(at(now));
                    calls.push(now);
                }
                let naive = calls.iter().filter(|call| bucket_of(at(**call)) > bucket_of(at(now)) - 12).count();
                prop_assert_eq!(window.used(at(now)) as usize, naive);
                let used = window.used(at(now));
                if used > 0 {
                    let wait = window.retry_after(at(now), used).unwrap() as i64;
                    prop_assert!(window.used(at(now + wait)) < used);
                    prop_assert_eq!(window.used(at(now + wait - 1)), used);
                }
            }
        }
    }
}

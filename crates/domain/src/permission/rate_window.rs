//! The sliding hour of `maxCallsPerHour`: twelve buckets of five minutes.
//!
//! If the clock is set back, the calls it counted ahead were made by now at the latest: all of them count as made now,
//! and leave the count an hour later.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

const BUCKETS: usize = 12;
const BUCKET_SECONDS: i64 = 300;

/// Calls granted in the last hour, by bucket. A call leaves the count between 55 and 60 minutes after it came.
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

    /// Seconds until a call fits under `max` again; `None` if it never will.
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
                // Rounded up, so that a caller who waits that long is not early.
                let wait = leaves * 1_000 - at.millis();
                return Some(u64::try_from((wait + 999) / 1_000).unwrap_or(1).max(1));
            }
        }
        Some(0)
    }

    /// Counts one granted call.
    pub fn count(&mut self, at: Timestamp) {
        let now = bucket_of(at);
        if self.newest > now {
            (self.newest, self.counts) = self.seen(at);
        }
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

    /// The newest bucket and the counts, with no bucket in the future.
    fn seen(&self, at: Timestamp) -> (i64, [u32; BUCKETS]) {
        let now = bucket_of(at);
        if self.newest <= now {
            return (self.newest, self.counts);
        }
        let mut counts = [0; BUCKETS];
        if let Some(newest) = counts.first_mut() {
            *newest = self.counts.iter().fold(0u32, |sum, count| sum.saturating_add(*count));
        }
        (now, counts)
    }

    /// The buckets that still count, newest first, with their numbers.
    fn live(&self, at: Timestamp) -> impl Iterator<Item = (i64, u32)> + use<> {
        let oldest = bucket_of(at) - BUCKETS as i64;
        let (newest, counts) = self.seen(at);
        (0..).zip(counts).map(move |(age, count)| (newest - age, count)).filter(move |(bucket, _)| *bucket > oldest)
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

    #[test]
    fn calls_counted_ahead_count_as_made_now_after_the_clock_is_set_back() {
        for ahead in [600, 3_000, 3_599, 64 * 365 * 86_400] {
            let mut window = RateWindow::default();
            window.count(at(ahead - 1));
            window.count(at(ahead));
            assert_eq!(window.used(at(0)), 2);
            let wait = window.retry_after(at(0), 2).unwrap() as i64;
            assert!((55 * 60..=60 * 60).contains(&wait), "{wait}");
            window.count(at(0));
            assert_eq!(window.used(at(10)), 3);
            assert_eq!((window.used(at(wait - 1)), window.used(at(wait))), (3, 0));
        }
    }

    proptest! {
        /// A clock that jumps ahead by less than an hour, however often, makes no call expire sooner.
        #[test]
        fn a_flapping_clock_grants_no_more(ahead in prop::collection::vec(prop::option::of(1i64..3_300), 1..60)) {
            let (mut window, mut calls) = (RateWindow::default(), 0);
            for (second, ahead) in (0..).zip(ahead) {
                window.count(at(second + ahead.unwrap_or(0)));
                calls += 1;
                prop_assert_eq!(window.used(at(second)), calls);
            }
        }

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

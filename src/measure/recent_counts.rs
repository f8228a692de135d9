//! Decision counts of the last sixty seconds, or minutes, in a ring buffer.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::domain::audit::entry::AuditResult;

/// How many steps can be read.
pub const STEPS: usize = 60;
/// More than can be read: room for the current step, and for some that a reader may still be reading when they expire.
const SLOTS: usize = 64;

/// Counts by result, for each of the last steps. Only one thread adds to it.
#[derive(Debug)]
pub struct RecentCounts([StepCounts; SLOTS]);

#[derive(Debug, Default)]
struct StepCounts {
    /// The number since 1970 of the step that the counts belong to.
    step: AtomicU32,
    counts: [AtomicU32; 3],
}

/// Decisions by result over time, oldest step first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountSeries {
    /// Allowed, denied, rate limited.
    pub counts: [[u64; STEPS]; 3],
}

impl Default for CountSeries {
    fn default() -> Self {
        Self { counts: [[0; STEPS]; 3] }
    }
}

impl Default for RecentCounts {
    fn default() -> Self {
        Self(std::array::from_fn(|_| StepCounts::default()))
    }
}

/// The index of a result's counts.
pub fn place(result: AuditResult) -> usize {
    match result {
        AuditResult::Allowed => 0,
        AuditResult::Denied => 1,
        AuditResult::RateLimited => 2,
    }
}

impl RecentCounts {
    /// Counts one decision in step `step`.
    pub fn add(&self, step: u32, result: AuditResult) {
        let Some(slot) = self.0.get(step as usize % SLOTS) else { return };
        if slot.step.load(Ordering::Relaxed) != step {
            // No reader looks at a slot while it is reused: its old step has expired by then.
            for count in &slot.counts {
                count.store(0, Ordering::Relaxed);
            }
            slot.step.store(step, Ordering::Release);
        }
        if let Some(count) = slot.counts.get(place(result)) {
            count.store(count.load(Ordering::Relaxed).saturating_add(1), Ordering::Relaxed);
        }
    }

    /// Adds the counts of the steps from `first` on to a series that starts there.
    pub fn add_to(&self, first: u32, series: &mut CountSeries) {
        for slot in &self.0 {
            let at = slot.step.load(Ordering::Acquire).wrapping_sub(first) as usize;
            for (sums, count) in series.counts.iter_mut().zip(&slot.counts) {
                if let Some(sum) = sums.get_mut(at) {
                    *sum += u64::from(count.load(Ordering::Relaxed));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RESULTS: [AuditResult; 3] = [AuditResult::Allowed, AuditResult::Denied, AuditResult::RateLimited];

    #[test]
    fn a_step_is_forgotten_after_an_hour_and_not_before() {
        let ring = RecentCounts::default();
        ring.add(1_000, AuditResult::Denied);
        let seen = |first| {
            let mut series = CountSeries::default();
            ring.add_to(first, &mut series);
            series.counts
        };
        assert_eq!((seen(1_000)[1][0], seen(941)[1][59], seen(1_000)[0][0]), (1, 1, 0));
        assert_eq!((seen(1_001)[1], seen(940)[1]), ([0; STEPS], [0; STEPS]), "it is of another time");
        // The slot is reused for another step.
        ring.add(1_000 + SLOTS as u32, AuditResult::Allowed);
        assert_eq!(seen(1_000)[1][0], 0);
        assert_eq!(seen(1_064)[0][0], 1);
    }

    proptest! {
        /// Against a list of all that happened, which forgets nothing. The clock may stand, jump and step back a little.
        #[test]
        fn counts_match_a_list_of_all_decisions(
            moves in prop::collection::vec((-2i64..70, 0usize..3, 1usize..4), 1..200),
        ) {
            let ring = RecentCounts::default();
            let (mut now, mut latest, mut all) = (1_000_000i64, 0, Vec::new());
            for (step, result, times) in moves {
                // A clock that steps back does so from the latest time, and not further each time.
                now = if step < 0 { latest + step } else { now.max(latest) + step };
                latest = latest.max(now);
                for _ in 0..times {
                    ring.add(now as u32, RESULTS[result]);
                    all.push((now, result));
                }
                let first = latest - STEPS as i64;
                let mut wanted = CountSeries::default();
                for (at, result) in &all {
                    if (first..latest).contains(at) {
                        wanted.counts[*result][(at - first) as usize] += 1;
                    }
                }
                let mut found = CountSeries::default();
                ring.add_to(first as u32, &mut found);
                prop_assert_eq!(found, wanted);
            }
        }
    }
}

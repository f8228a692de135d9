//! Durations since the process started, in the buckets of a Prometheus histogram.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The first bucket ends at 32 microseconds, the last at 8.4 seconds. Each bound is twice the one before.
const FIRST_BITS: u32 = 5;
const LAST_BITS: u32 = 23;
/// One more bucket for everything longer.
const BUCKETS: usize = (LAST_BITS - FIRST_BITS + 2) as usize;

/// A histogram of durations. Any thread may add to it.
#[derive(Debug, Default)]
pub struct Histogram {
    counts: [AtomicU64; BUCKETS],
    micros: AtomicU64,
}

/// The counts of one or more histograms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistogramCounts {
    counts: [u64; BUCKETS],
    micros: u64,
}

impl Histogram {
    /// Adds a duration in microseconds.
    pub fn add(&self, micros: u32) {
        let bits = (u32::BITS - micros.leading_zeros()).clamp(FIRST_BITS, LAST_BITS + 1);
        if let Some(count) = self.counts.get((bits - FIRST_BITS) as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.micros.fetch_add(micros.into(), Ordering::Relaxed);
    }

    /// Adds a duration.
    pub fn add_time(&self, time: Duration) {
        self.add(u32::try_from(time.as_micros()).unwrap_or(u32::MAX));
    }
}

impl HistogramCounts {
    /// Adds the counts of a histogram.
    pub fn add(&mut self, times: &Histogram) {
        for (sum, count) in self.counts.iter_mut().zip(&times.counts) {
            *sum += count.load(Ordering::Relaxed);
        }
        self.micros += times.micros.load(Ordering::Relaxed);
    }

    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The sum of the durations, in seconds.
    pub fn seconds(&self) -> f64 {
        self.micros as f64 / 1e6
    }

    /// Each bucket's upper bound in seconds and its own count, not cumulative. Durations beyond the last bound are left
    /// out.
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        (FIRST_BITS..=LAST_BITS).map(|bits| f64::from(1 << bits) / 1e6).zip(self.counts).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_first_bucket_with_a_higher_bound() {
        for (micros, bound) in
            [(0, 32), (31, 32), (32, 64), (63, 64), (64, 128), (1_000, 1_024), ((1 << 23) - 1, 1 << 23)]
        {
            let (times, mut read) = (Histogram::default(), HistogramCounts::default());
            times.add(micros);
            read.add(&times);
            let found: Vec<_> = read.buckets().into_iter().filter(|(_, count)| *count > 0).collect();
            assert_eq!(found, [(f64::from(bound) / 1e6, 1)], "{micros}");
        }
        let (times, mut read) = (Histogram::default(), HistogramCounts::default());
        times.add_time(Duration::from_secs(9));
        read.add(&times);
        assert!(read.buckets().iter().all(|(_, count)| *count == 0));
        assert_eq!((read.count(), read.seconds()), (1, 9.0));
    }
}

//! How long recent decisions took, in buckets that grow with the duration.

use std::sync::atomic::{AtomicU32, Ordering};

/// Buckets per doubling of the duration. So a bucket is at most a quarter as wide as its lower bound.
const PER_OCTAVE: u32 = 4;
const PER_OCTAVE_BITS: u32 = PER_OCTAVE.ilog2();
/// Buckets for any duration in microseconds that fits in 32 bits.
const BUCKETS: usize = (PER_OCTAVE * (33 - PER_OCTAVE_BITS)) as usize;
/// Minutes kept: the last five complete ones, and the current one.
const MINUTES: u32 = 6;

/// The bucket of a duration.
fn bucket(micros: u32) -> usize {
    if micros < PER_OCTAVE {
        return micros as usize;
    }
    let octave = micros.ilog2() - PER_OCTAVE_BITS;
    // The bits right after the highest one give the place within the octave.
    (PER_OCTAVE * octave + (micros >> octave)) as usize
}

/// The shortest duration in a bucket.
fn lower_bound(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let per_octave = u64::from(PER_OCTAVE);
    if bucket < per_octave {
        return bucket;
    }
    let octave = bucket / per_octave - 1;
    (per_octave + bucket % per_octave) << octave
}

/// Durations of the last five minutes. Only one thread adds to it.
#[derive(Debug)]
pub struct RecentLatency([Minute; MINUTES as usize]);

#[derive(Debug)]
struct Minute {
    /// The minute's number since 1970.
    minute: AtomicU32,
    max: AtomicU32,
    counts: [AtomicU32; BUCKETS],
}

impl Default for RecentLatency {
    fn default() -> Self {
        let counts = || std::array::from_fn(|_| AtomicU32::new(0));
        Self(std::array::from_fn(|_| Minute { minute: AtomicU32::new(0), max: AtomicU32::new(0), counts: counts() }))
    }
}

impl RecentLatency {
    /// Adds a duration.
    pub fn add(&self, minute: u32, micros: u32) {
        let Some(slot) = self.0.get((minute % MINUTES) as usize) else { return };
        if slot.minute.load(Ordering::Relaxed) != minute {
            slot.max.store(0, Ordering::Relaxed);
            for count in &slot.counts {
                count.store(0, Ordering::Relaxed);
            }
            slot.minute.store(minute, Ordering::Release);
        }
        if micros > slot.max.load(Ordering::Relaxed) {
            slot.max.store(micros, Ordering::Relaxed);
        }
        if let Some(count) = slot.counts.get(bucket(micros)) {
            count.store(count.load(Ordering::Relaxed).saturating_add(1), Ordering::Relaxed);
        }
    }

    /// Adds the durations of the current minute `minute`, and of the five before it, to a histogram.
    pub fn add_to(&self, minute: u32, histogram: &mut LatencyHistogram) {
        for slot in &self.0 {
            if minute.wrapping_sub(slot.minute.load(Ordering::Acquire)) >= MINUTES {
                continue;
            }
            histogram.max = histogram.max.max(slot.max.load(Ordering::Relaxed));
            for (sum, count) in histogram.counts.iter_mut().zip(&slot.counts) {
                *sum += u64::from(count.load(Ordering::Relaxed));
            }
        }
    }
}

/// Durations added up, with their quantiles.
#[derive(Clone, Debug)]
pub struct LatencyHistogram {
    counts: [u64; BUCKETS],
    /// The longest duration, in microseconds.
    pub max: u32,
}

impl Default for LatencyHistogram {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], max: 0 }
    }
}

impl LatencyHistogram {
    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The quantile `share` (0.0 to 1.0) in microseconds; 0 if nothing was counted. It is off by at most a bucket's width,
    /// a quarter of the value, and never above the longest duration.
    pub fn quantile(&self, share: f64) -> f64 {
        let count = self.count();
        let rank = ((share * count as f64).ceil() as u64).clamp(1, count.max(1));
        let mut before = 0;
        for (bucket, &here) in self.counts.iter().enumerate() {
            if before + here >= rank {
                let (from, to) = (lower_bound(bucket), lower_bound(bucket + 1));
                // Assume that durations are spread evenly over the bucket.
                let within = (rank - before) as f64 / here as f64;
                return (from as f64 + within * (to - from) as f64).min(f64::from(self.max));
            }
            before += here;
        }
        0.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_bucket_begins_where_the_one_before_ends() {
        assert_eq!(bucket(u32::MAX), BUCKETS - 1);
        for at in 0..BUCKETS {
            let from = u32::try_from(lower_bound(at)).unwrap();
            assert_eq!(bucket(from), at);
            if from > 0 {
                assert_eq!(bucket(from - 1), at - 1, "{from}");
            }
        }
    }

    #[test]
    fn a_minute_counts_for_five_more() {
        let recent = RecentLatency::default();
        recent.add(100, 700);
        for (minute, count) in [(99, 0), (100, 1), (105, 1), (106, 0)] {
            let mut histogram = LatencyHistogram::default();
            recent.add_to(minute, &mut histogram);
            assert_eq!(histogram.count(), count, "{minute}");
        }
        recent.add(106, 90);
        let mut histogram = LatencyHistogram::default();
        recent.add_to(106, &mut histogram);
        assert_eq!((histogram.count(), histogram.max), (1, 90));
    }

    #[test]
    fn an_empty_histogram_is_all_zero() {
        let histogram = LatencyHistogram::default();
        assert_eq!((histogram.count(), histogram.quantile(0.99), histogram.max), (0, 0.0, 0));
    }

    proptest! {
        #[test]
        fn a_quantile_is_right_to_a_quarter(
            times in prop::collection::vec(prop_oneof![0u32..100, 0u32..100_000, any::<u32>()], 1..300),
            share in 0.0f64..=1.0,
        ) {
            let recent = RecentLatency::default();
            times.iter().for_each(|micros| recent.add(7, *micros));
            let mut histogram = LatencyHistogram::default();
            recent.add_to(7, &mut histogram);
            let mut sorted = times;
            sorted.sort_unstable();
            let rank = ((share * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len());
            let exact = f64::from(sorted[rank - 1]);
            let found = histogram.quantile(share);
            prop_assert!((found - exact).abs() <= exact / 4.0 + 1.0, "{found} for {exact}");
            prop_assert!(found <= f64::from(*sorted.last().unwrap()));
            prop_assert_eq!(histogram.count(), sorted.len() as u64);
        }
    }
}

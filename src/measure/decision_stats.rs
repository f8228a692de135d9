//! Counts of decisions: by result, by code, over time, and by duration.

use super::Count;
use super::recent_counts::{CountSeries, RecentCounts, STEPS, place};
use super::recent_latency::{LatencyHistogram, RecentLatency};
use crate::domain::audit::entry::AuditResult;
use crate::domain::{Code, Timestamp};

/// Counts of one tenant's decisions, or of one thread's. One thread writes them, any thread reads them. They take about
/// six kilobytes, in cache lines of their own.
#[derive(Debug)]
#[repr(align(64))]
pub struct DecisionStats {
    results: [Count; 3],
    codes: [Count; Code::ALL.len()],
    seconds: RecentCounts,
    minutes: RecentCounts,
    latency: RecentLatency,
}

impl Default for DecisionStats {
    fn default() -> Self {
        Self {
            results: Default::default(),
            codes: std::array::from_fn(|_| Count::default()),
            seconds: RecentCounts::default(),
            minutes: RecentCounts::default(),
            latency: RecentLatency::default(),
        }
    }
}

/// The number of a step since 1970, for steps of `seconds` seconds.
fn step_of(at: Timestamp, seconds: i64) -> u32 {
    u32::try_from(at.seconds() / seconds).unwrap_or(u32::MAX)
}

impl DecisionStats {
    /// Counts a decision. `micros` is the time from the request's arrival to the decision, as in the audit trail.
    pub fn note(&self, at: Timestamp, micros: u32, result: AuditResult, code: Option<Code>) {
        if let Some(count) = self.results.get(place(result)) {
            count.add(1);
        }
        if let Some(count) = code.and_then(|code| self.codes.get(code as usize)) {
            count.add(1);
        }
        self.seconds.add(step_of(at, 1), result);
        let minute = step_of(at, 60);
        self.minutes.add(minute, result);
        self.latency.add(minute, micros);
    }

    /// Decisions since the process started: allowed, denied, rate limited.
    pub fn results(&self) -> [u64; 3] {
        self.results.each_ref().map(Count::get)
    }

    /// How long the decisions of the last five minutes took.
    pub fn latency(&self, now: Timestamp) -> LatencyHistogram {
        let mut histogram = LatencyHistogram::default();
        self.latency.add_to(step_of(now, 60), &mut histogram);
        histogram
    }
}

/// Decision counts added up over threads or tenants.
#[derive(Clone, Debug)]
pub struct DecisionTotals {
    /// The moment that the minute and the hour end at.
    pub now: Timestamp,
    /// Decisions since the process started: allowed, denied, rate limited.
    pub results: [u64; 3],
    codes: [u64; Code::ALL.len()],
    /// Decisions of the last sixty complete seconds.
    pub seconds: CountSeries,
    /// Decisions of the last sixty minutes, including the current one.
    pub minutes: CountSeries,
    /// How long the decisions of the last five minutes took.
    pub latency: LatencyHistogram,
}

impl DecisionTotals {
    /// All counts zero.
    pub fn new(now: Timestamp) -> Self {
        Self {
            now,
            results: [0; 3],
            codes: [0; Code::ALL.len()],
            seconds: CountSeries::default(),
            minutes: CountSeries::default(),
            latency: LatencyHistogram::default(),
        }
    }

    /// Adds the counts of one tenant or thread.
    pub fn add(&mut self, traffic: &DecisionStats) {
        for (sum, count) in self.results.iter_mut().zip(&traffic.results) {
            *sum += count.get();
        }
        for (sum, count) in self.codes.iter_mut().zip(&traffic.codes) {
            *sum += count.get();
        }
        traffic.seconds.add_to(self.first_second(), &mut self.seconds);
        traffic.minutes.add_to(self.first_minute(), &mut self.minutes);
        traffic.latency.add_to(step_of(self.now, 60), &mut self.latency);
    }

    /// The first of the last sixty complete seconds. The current second is left out: half a second looks like a slump.
    fn first_second(&self) -> u32 {
        step_of(self.now, 1).saturating_sub(STEPS as u32)
    }

    /// The first of the last sixty minutes, including the current one: without it, the hour would lack decisions that the
    /// last sixty seconds show.
    fn first_minute(&self) -> u32 {
        step_of(self.now, 60).saturating_add(1).saturating_sub(STEPS as u32)
    }

    /// When the first of the seconds started.
    pub fn seconds_from(&self) -> Timestamp {
        Timestamp::from_millis(i64::from(self.first_second()) * 1_000)
    }

    /// When the first of the minutes started.
    pub fn minutes_from(&self) -> Timestamp {
        Timestamp::from_millis(i64::from(self.first_minute()) * 60_000)
    }

    /// Denials by code, the most frequent first. Codes without denials are left out.
    pub fn denials(&self) -> Vec<(Code, u64)> {
        let counts = Code::ALL.iter().copied().zip(self.codes);
        let mut denials: Vec<_> = counts.filter(|(_, count)| *count > 0).collect();
        denials.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        denials
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_counts_at_once_and_in_its_second_once_that_is_complete() {
        let traffic = DecisionStats::default();
        let at = Timestamp::parse("at", "2026-11-24T17:59:59.250Z").unwrap();
        traffic.note(at, 80, AuditResult::Allowed, None);
        traffic.note(at, 1_200, AuditResult::Denied, Some(Code::PermissionDenied));
        traffic.note(at, 1_200, AuditResult::RateLimited, Some(Code::BudgetExceeded));
        traffic.note(at, 1_200, AuditResult::Denied, Some(Code::BudgetExceeded));
        let report = |after| {
            let mut report = DecisionTotals::new(at.plus_millis(after));
            report.add(&traffic);
            report
        };
        let now = report(0);
        assert_eq!(now.results, [1, 2, 1]);
        assert_eq!(now.denials(), [(Code::BudgetExceeded, 2), (Code::PermissionDenied, 1)]);
        assert_eq!(now.latency.count(), 4);
        assert_eq!(now.seconds, CountSeries::default(), "it is not over");
        assert_eq!(now.minutes.counts.map(|counts| counts[59]), [1, 2, 1], "the hour has the minute under way");
        assert_eq!(now.minutes_from().to_string(), "2026-11-24T17:00:00.000Z");
        let then = report(750);
        assert_eq!(then.seconds.counts.map(|counts| counts[59]), [1, 2, 1]);
        assert_eq!(then.minutes.counts.map(|counts| counts[58]), [1, 2, 1]);
        assert_eq!(then.seconds_from().to_string(), "2026-11-24T17:59:00.000Z");
        assert_eq!(then.minutes_from().to_string(), "2026-11-24T17:01:00.000Z");
        let gone = report(60_750);
        assert_eq!((gone.seconds, gone.results), (CountSeries::default(), [1, 2, 1]));
        assert_eq!(gone.minutes.counts.map(|counts| counts[57]), [1, 2, 1]);
    }
}

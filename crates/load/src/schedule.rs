//! When each request is due. Times are nanoseconds since the run began.

use crate::options::LoopMode;

const SECOND: u64 = 1_000_000_000;

/// Says when the next request is due.
#[derive(Clone, Debug)]
pub struct Schedule {
    loop_mode: LoopMode,
    /// Requests taken so far.
    taken: u64,
    /// No request is due from here on.
    end: u64,
}

impl Schedule {
    /// A schedule that ends at `end`.
    pub fn new(loop_mode: LoopMode, end: u64) -> Self {
        Self { loop_mode, taken: 0, end }
    }

    /// Takes the next request if it is due. Answers when it was: maybe long ago by a fixed schedule, now without one.
    pub fn take(&mut self, now: u64) -> Option<u64> {
        let due = self.next(now).filter(|due| *due <= now)?;
        self.taken += 1;
        Some(due)
    }

    /// When the next request is due; `None` where there is no more.
    pub fn next(&self, now: u64) -> Option<u64> {
        let due = match self.loop_mode {
            // By whole seconds and the rest, so that no rounding adds up and nothing overflows.
            LoopMode::Open { rate } => {
                let rate = u64::from(rate);
                (self.taken / rate).saturating_mul(SECOND).saturating_add(self.taken % rate * SECOND / rate)
            }
            LoopMode::Closed => now,
        };
        (due < self.end).then_some(due)
    }

    /// The end of the schedule.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Ends the schedule now, unless it has ended.
    pub fn cut(&mut self, now: u64) {
        self.end = self.end.min(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_exactly_over_any_time() {
        for rate in [1, 3, 7, 1000, 99_991, 1_000_000] {
            let end = 2 * SECOND;
            let mut schedule = Schedule::new(LoopMode::Open { rate }, end);
            let mut before = None;
            let mut count = 0;
            // However late they are taken, each is due at its own time.
            while let Some(due) = schedule.take(u64::MAX) {
                assert!(before.is_none_or(|before| due > before), "{rate}");
                assert_eq!(due, count * SECOND / u64::from(rate), "{rate}");
                (before, count) = (Some(due), count + 1);
            }
            assert_eq!(count, 2 * u64::from(rate), "{rate}");
        }
    }

    #[test]
    fn nothing_is_taken_before_it_is_due() {
        let mut schedule = Schedule::new(LoopMode::Open { rate: 1000 }, SECOND);
        assert_eq!(schedule.take(0), Some(0));
        assert_eq!(schedule.take(999_999), None);
        assert_eq!(schedule.next(999_999), Some(1_000_000));
        assert_eq!(schedule.take(1_000_000), Some(1_000_000));
        schedule.cut(2_000_000);
        assert_eq!((schedule.take(u64::MAX), schedule.end()), (None, 2_000_000));
        schedule.cut(5_000_000);
        assert_eq!(schedule.end(), 2_000_000);
    }

    #[test]
    fn without_a_rate_a_request_is_due_when_it_is_taken() {
        let mut schedule = Schedule::new(LoopMode::Closed, 100);
        assert_eq!((schedule.take(7), schedule.take(7), schedule.take(99)), (Some(7), Some(7), Some(99)));
        assert_eq!(schedule.take(100), None);
    }

    #[test]
    fn a_day_at_the_highest_rate_does_not_overflow() {
        let taken = 24 * 60 * 60 * 10_000_000 + 1;
        let schedule = Schedule { loop_mode: LoopMode::Open { rate: 10_000_000 }, taken, end: u64::MAX };
        assert_eq!(schedule.next(0), Some(24 * 60 * 60 * SECOND + 100));
    }
}

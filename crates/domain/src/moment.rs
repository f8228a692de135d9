//! When an event happens, on two clocks.
//!
//! The system's clock may be wrong and be set right again, so an event has two times, which are nearly always equal:
//!
//! - [`at`](Moment::at) is the event's place in the order. It never runs backwards: ids, the trail's order, its `since`
//!   and `until`, retention and the journal's segments rely on that. An event under a clock that is years ahead keeps
//!   this time for good.
//! - [`wall`](Moment::wall) is what the clock says. Time windows, the expiry of agents, delegations and old tokens, the
//!   hour of `maxCallsPerHour`, and the days and months of budgets go by it, so they are right again with the first
//!   call after the clock is. `createdAt` and `lastActiveAt` are this time too.
//!
//! The event holds both if they differ, so replay repeats what was decided. They differ only if the clock is behind the
//! last event by more than [`MAX_STANDSTILL_MS`]. Smaller steps back, as of a clock kept right, are waited out: they
//! wake no token whose grace was over, and the event needs no second time.

use crate::limits::MAX_STANDSTILL_MS;
use crate::time::Timestamp;

/// When an event happens: its two times and its number in the tenant's journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Its place in the order: never earlier than that of the event before it.
    pub at: Timestamp,
    /// What the clock says, never later than `at`.
    pub wall: Timestamp,
    /// From 1, without a gap.
    pub seq: u64,
}

impl Moment {
    /// The moment of an event under a right clock.
    pub fn new(at: Timestamp, seq: u64) -> Self {
        Self { at, wall: at, seq }
    }

    /// The moment of the event after the one numbered `seq` at `at`, with the clock at `now`.
    pub fn after(seq: u64, at: Timestamp, now: Timestamp) -> Self {
        let behind = at.millis().saturating_sub(now.millis());
        let at = at.max(now);
        Self { at, wall: if behind <= MAX_STANDSTILL_MS { at } else { now }, seq: seq + 1 }
    }

    /// What the clock said, if that is not the event's place in the order.
    pub fn other_wall(self) -> Option<Timestamp> {
        (self.wall != self.at).then_some(self.wall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_steps_back_are_waited_out_and_others_are_followed() {
        let time = Timestamp::from_millis;
        let next = |now: i64| {
            let Moment { at, wall, seq } = Moment::after(7, time(100_000), time(now));
            assert_eq!(seq, 8);
            (at.millis(), wall.millis())
        };
        assert_eq!(next(100_001), (100_001, 100_001));
        assert_eq!(next(100_000), (100_000, 100_000));
        assert_eq!(next(100_000 - MAX_STANDSTILL_MS), (100_000, 100_000));
        assert_eq!(next(100_000 - MAX_STANDSTILL_MS - 1), (100_000, 100_000 - MAX_STANDSTILL_MS - 1));
        assert_eq!(next(0), (100_000, 0));
    }
}

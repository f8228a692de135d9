//! The charges in one hour, day, week or month of a budget, and how they follow a clock that jumps.
//!
//! A charge belongs to the window that the clock shows. A wrong clock shows windows that are not now's, and shows now's
//! again once it is right, so the window we last left is kept:
//!
//! - Returning to that window continues its count, so that no day is granted twice.
//! - A charge in a later window counts in the kept earlier one too: if the clock goes back there, the call was made then
//!   or before.
//! - If the clock goes back to an unknown window, that window takes over the count of the one it came from, for that
//!   reason. A later unknown window begins at zero.
//!
//! So what was used under a clock that is ahead ends with the window that the right clock shows.
//!
//! Two windows of one calendar are the same or have no moment in common. After a change of the calendar, or of its
//! zone's rules, a new window may overlap the open one. Then the open one goes on, with its count, until the new one's
//! end: no moment is granted twice.
//!
//! A part of the cost may be held: charged, but not spent yet. A hold counts as held in the window that was open at its
//! call. In other windows, to which the rules above copy the charge, it counts as spent.

use serde::{Deserialize, Serialize};

use crate::budget::cost::Cost;
use crate::moment::Moment;
use crate::time::Timestamp;

/// From `start` up to `end`, which is not part of it, in Unix milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The first moment.
    pub start: i64,
    /// The first moment past it.
    pub end: i64,
}

impl Bounds {
    /// The bounds of a window that never ends.
    pub const FOREVER: Self = Self { start: 0, end: i64::MAX };

    /// Whether the time lies in it.
    pub fn contains(self, time: Timestamp) -> bool {
        self.start <= time.millis() && time.millis() < self.end
    }

    /// When it ends; `None` is never.
    pub fn ends_at(self) -> Option<Timestamp> {
        (self.end < i64::MAX).then(|| Timestamp::from_millis(self.end))
    }
}

/// What of a window a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Counted {
    /// Calls.
    Calls,
    /// Cost.
    Cost,
}

/// What was charged in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Its first moment, in Unix milliseconds.
    pub start: i64,
    /// The first moment past it; the largest number if it never ends.
    pub end: i64,
    /// Calls.
    pub calls: u64,
    /// Cost, what is held included.
    pub cost: Cost,
    /// The part of the cost that open holds hold.
    #[serde(default, skip_serializing_if = "Cost::is_zero")]
    pub held: Cost,
    /// Number of an event. Charges up to it are not in this count, and can't be given back.
    pub reset: u64,
    /// The highest threshold of its limits on calls that was told, in percent; 0 is none.
    #[serde(default, skip_serializing_if = "is_none_told")]
    pub told_calls: u16,
    /// The same of its limits on cost.
    #[serde(default, skip_serializing_if = "is_none_told")]
    pub told_cost: u16,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_none_told(percent: &u16) -> bool {
    *percent == 0
}

impl Window {
    /// A window without charges, opened by an event after `reset`.
    pub fn empty(bounds: Bounds, reset: u64) -> Self {
        let Bounds { start, end } = bounds;
        let (cost, held) = (Cost::default(), Cost::default());
        Self { start, end, calls: 0, cost, held, reset, told_calls: 0, told_cost: 0 }
    }

    /// The highest threshold that was told, in percent.
    pub(crate) fn told_mut(&mut self, of: Counted) -> &mut u16 {
        match of {
            Counted::Calls => &mut self.told_calls,
            Counted::Cost => &mut self.told_cost,
        }
    }

    /// Its bounds.
    pub fn bounds(&self) -> Bounds {
        Bounds { start: self.start, end: self.end }
    }

    /// Whether the time lies in it.
    pub fn contains(&self, time: Timestamp) -> bool {
        self.bounds().contains(time)
    }

    /// The cost that is no longer held.
    pub fn spent(&self) -> Cost {
        self.cost.minus(self.held)
    }

    fn charge(&mut self, calls: u64, cost: Cost) {
        self.calls = self.calls.saturating_add(calls);
        self.cost = self.cost.plus(cost);
    }

    /// Whether it has the charge of that event.
    fn has(&self, charged: Moment) -> bool {
        self.contains(charged.wall) && charged.seq > self.reset
    }

    /// The window, going on until the end of one that it overlaps. Mostly that is itself.
    fn until_end_of(self, bounds: Bounds) -> Self {
        Self { start: self.start.min(bounds.start), end: bounds.end, ..self }
    }

    fn overlaps(&self, bounds: Bounds) -> bool {
        self.start < bounds.end && bounds.start < self.end
    }
}

/// The open window of one span, and the one that was left last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// The window that the clock showed at the last charge.
    pub open: Window,
    /// The window that was open before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<Window>,
}

impl Count {
    /// A count that begins at zero after the event `reset`.
    pub fn empty(bounds: Bounds, reset: u64) -> Self {
        Self { open: Window::empty(bounds, reset), other: None }
    }

    /// The count once the event `seq` finds the clock at `now`, which lies in `bounds`.
    #[must_use]
    pub fn turned_to(self, bounds: Bounds, now: Timestamp, seq: u64) -> Self {
        let Self { open, other } = self;
        if open.contains(now) {
            return Self { open: open.until_end_of(bounds), other };
        }
        let opened = match other {
            Some(known) if known.contains(now) => known.until_end_of(bounds),
            _ if open.overlaps(bounds) => return Self { open: open.until_end_of(bounds), other },
            // Its own count may have been known once, and dropped.
            Some(_) if bounds.start < open.start => {
                let Bounds { start, end } = bounds;
                Window { start, end, held: Cost::default(), reset: seq.saturating_sub(1), ..open }
            }
            // Also back from the first window: a snapshot of an older version says only where its clock was, so we can't
            // know how much of that count is of today, or even of this year.
            _ => Window::empty(bounds, seq.saturating_sub(1)),
        };
        Self { open: opened, other: Some(open) }
    }

    /// Charges calls and cost to the open window, and to the kept one if that is earlier. The cost may be held.
    pub fn charge(&mut self, calls: u64, cost: Cost, held: bool) {
        self.open.charge(calls, cost);
        if held {
            self.open.held = self.open.held.plus(cost);
        }
        if let Some(other) = self.other.as_mut().filter(|other| other.start < self.open.start) {
            other.charge(calls, cost);
        }
    }

    /// Gives back a part of the cost of that charge, if it is in the open window. Nothing goes below zero.
    pub fn give_back(&mut self, charged: Moment, cost: Cost) {
        if self.open.has(charged) {
            self.open.cost = self.open.cost.minus(cost);
        }
    }

    /// Ends the hold of that charge: it is no longer held, and `less` is given back if its window is still open.
    pub fn end_hold(&mut self, charged: Moment, estimate: Cost, less: Cost) {
        if self.open.has(charged) {
            self.open.held = self.open.held.minus(estimate);
            self.give_back(charged, less);
        } else if let Some(other) = self.other.as_mut().filter(|other| other.has(charged)) {
            other.held = other.held.minus(estimate);
        }
    }

    /// Sets the count to zero at the event `seq`, also the one that a clock set back would return to.
    pub fn reset(&mut self, seq: u64) {
        *self = Self::empty(self.open.bounds(), seq);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 1_000;

    fn day(number: i64) -> Bounds {
        Bounds { start: number * DAY, end: (number + 1) * DAY }
    }

    fn in_day(number: i64, seq: u64) -> Moment {
        Moment::new(Timestamp::from_millis(number * DAY + 5), seq)
    }

    fn turned(count: Count, number: i64, seq: u64) -> Count {
        count.turned_to(day(number), in_day(number, seq).wall, seq)
    }

    fn cost(millionths: u64) -> Cost {
        Cost::from_millionths(millionths)
    }

    /// Calls, spent and held.
    fn shown(window: &Window) -> (u64, u64, u64) {
        (window.calls, window.spent().millionths(), window.held.millionths())
    }

    #[test]
    fn a_hold_becomes_spent_or_nothing_in_its_own_window() {
        for (actual, spent) in [(0, 2), (4, 6), (10, 12), (15, 12)] {
            let mut count = Count::empty(day(3), 0);
            count.charge(1, cost(2), false);
            count.charge(1, cost(10), true);
            assert_eq!(shown(&count.open), (2, 2, 10));
            count.end_hold(in_day(3, 2), cost(10), cost(10).minus(cost(actual)));
            assert_eq!(shown(&count.open), (2, spent, 0), "what is more is charged by the policy");
        }
    }

    #[test]
    fn a_hold_that_ends_late_is_held_nowhere() {
        let mut count = Count::empty(day(3), 0);
        count.charge(1, cost(10), true);
        count = turned(count, 4, 7);
        count.charge(1, cost(1), false);
        count.end_hold(in_day(3, 2), cost(10), cost(6));
        assert_eq!(shown(&count.open), (1, 1, 0));
        assert_eq!(count.other.as_ref().map(shown), Some((2, 11, 0)), "a window that is over keeps its cost");
    }

    #[test]
    fn a_hold_from_before_a_reset_takes_nothing_away() {
        let mut count = Count::empty(day(3), 0);
        count.charge(1, cost(10), true);
        count.reset(5);
        count.charge(1, cost(4), true);
        count.end_hold(in_day(3, 2), cost(10), cost(10));
        assert_eq!(shown(&count.open), (1, 0, 4));
    }

    #[test]
    fn a_count_that_another_window_takes_over_is_spent() {
        let mut count = turned(Count::empty(day(3), 0), 5, 2);
        count.charge(1, cost(10), true);
        let back = turned(count, 4, 4);
        assert_eq!(shown(&back.open), (1, 10, 0), "the call may have been made then");
        let again = turned(back, 5, 5);
        assert_eq!(shown(&again.open), (1, 0, 10));
    }

    #[test]
    fn a_held_charge_is_spent_in_the_kept_earlier_window() {
        let mut count = turned(Count::empty(day(3), 0), 4, 2);
        count.charge(1, cost(10), true);
        count.end_hold(in_day(4, 2), cost(10), cost(10));
        assert_eq!(shown(&turned(count, 3, 4).open), (1, 10, 0));
    }

    #[test]
    fn a_window_that_grew_gives_back_only_what_was_charged_to_it() {
        for earlier_windows in 0..3 {
            let mut count = Count::empty(day(2 - earlier_windows), 0);
            for number in 2 - earlier_windows..2 {
                count = turned(count, number + 1, 1);
            }
            count.charge(1, cost(5), true);
            count = turned(count, 3, 8);
            count.charge(1, cost(5), true);
            // Another calendar: the window now begins in the day before.
            let moved = Bounds { start: 3 * DAY - 999, end: 4 * DAY - 999 };
            count = count.turned_to(moved, Timestamp::from_millis(3 * DAY), 9);
            assert!(count.open.contains(in_day(2, 5).wall));
            count.give_back(in_day(2, 5), cost(5));
            count.end_hold(in_day(2, 5), cost(5), cost(5));
            assert_eq!(shown(&count.open), (1, 0, 5), "after {earlier_windows} windows");
        }
    }

    #[test]
    fn a_window_goes_on_where_a_new_one_overlaps_it() {
        let mut count = Count::empty(day(3), 0);
        count.charge(1, cost(10), true);
        let moved = Bounds { start: 3 * DAY - 300, end: 4 * DAY - 300 };
        for now in [3 * DAY + 5, 4 * DAY - 301] {
            let count = count.turned_to(moved, Timestamp::from_millis(now), 9);
            assert_eq!((shown(&count.open), count.open.bounds()), ((1, 0, 10), moved));
        }
        let later = Bounds { start: 3 * DAY + 300, end: 4 * DAY + 300 };
        let count = count.turned_to(later, Timestamp::from_millis(4 * DAY + 1), 9);
        let bounds = Bounds { start: 3 * DAY, end: 4 * DAY + 300 };
        assert_eq!((shown(&count.open), count.open.bounds(), count.other), ((1, 0, 10), bounds, None));
    }
}

//! The charges in one day or month of a budget, and how they follow a clock that jumps.
//!
//! A charge belongs to the day that the clock shows. A wrong clock shows days that are not today, and shows today again
//! once it is right, so the day we last left is kept:
//!
//! - Returning to that day continues its count, so that no day is granted twice.
//! - A charge in a later day counts in the kept earlier one too: if the clock goes back there, the call was made then
//!   or before.
//! - If the clock goes back to an unknown day, that day takes over the count of the day it came from, for that reason.
//!   A later unknown day begins at zero.
//!
//! So what was used under a clock that is ahead ends with the day that the right clock shows.

use serde::{Deserialize, Serialize};

use crate::budget::cost::Cost;

/// What was charged in one day or month.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetWindow {
    /// Number of the day or month.
    pub number: i64,
    /// Calls.
    pub calls: u64,
    /// Cost.
    pub cost: Cost,
    /// Number of an event. Charges up to it are not in this count, and can't be given back.
    pub reset: u64,
}

impl BudgetWindow {
    /// Charges calls and cost.
    pub fn charge(&mut self, calls: u64, cost: Cost) {
        self.calls = self.calls.saturating_add(calls);
        self.cost = self.cost.plus(cost);
    }

    /// The window with that number, at the event `seq`. `other` is the window last left, and becomes this one.
    #[must_use]
    pub fn turn_to(self, number: i64, other: &mut Option<Self>, seq: u64) -> Self {
        if self.number == number {
            return self;
        }
        let before = other.replace(self);
        match before {
            Some(known) if known.number == number => known,
            // Its own count may have been known once, and dropped.
            Some(_) if number < self.number => Self { number, reset: seq.saturating_sub(1), ..self },
            Some(_) => Self { number, reset: seq.saturating_sub(1), ..Self::default() },
            // A snapshot of an older version says only where its clock was: we can't know how much of the count is of
            // today, or even of this year.
            None => Self { number, reset: self.reset, ..Self::default() },
        }
    }
}

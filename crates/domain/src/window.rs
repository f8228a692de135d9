//! What was charged in one day or month of a budget, and which of two of them a clock that steps shows.
//!
//! A charge belongs to the day that the clock shows. A clock that is wrong shows days that are not today, and shows today
//! again once it is right, so the day that was left last is kept:
//!
//! - who comes back to a day goes on with what was used of it, so that no day is granted twice;
//! - what is charged in a later day counts in the kept earlier one too: if the clock goes back to that, its calls were
//!   made there, or before;
//! - one that the clock goes back to and that is not known takes over what was used of the one it came from, for the
//!   same reason. The step back itself is when it does: later days begin with nothing.
//!
//! So whatever was used under a clock that is ahead is over with the day that the right clock shows.

use serde::{Deserialize, Serialize};

use crate::budget::cost::Cost;

/// What was charged in one day or month.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Number of the day or month.
    pub number: i64,
    /// Calls.
    pub calls: u64,
    /// Cost.
    pub cost: Cost,
    /// Number of the event up to which what was charged is not in it, and can't be given back.
    pub reset: u64,
}

impl Window {
    /// Charges calls and cost.
    pub fn charge(&mut self, calls: u64, cost: Cost) {
        self.calls = self.calls.saturating_add(calls);
        self.cost = self.cost.plus(cost);
    }

    /// The one with that number, in the event `seq`. `other` is the one that was left last, and then this one.
    #[must_use]
    pub fn turn_to(self, number: i64, other: &mut Option<Self>, seq: u64) -> Self {
        if self.number == number {
            return self;
        }
        let before = other.replace(self);
        match before {
            Some(known) if known.number == number => known,
            // It may be one that was known once.
            Some(_) if number < self.number => Self { number, reset: seq.saturating_sub(1), ..self },
            Some(_) => Self { number, reset: seq.saturating_sub(1), ..Self::default() },
            // Of an older version's snapshot, which says only where its clock was: how much of it is of today is unknown,
            // and it may be of years.
            None => Self { number, reset: self.reset, ..Self::default() },
        }
    }
}

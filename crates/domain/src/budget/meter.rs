//! One limit of a policy, and how much of it is used.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::budget::calendar::Span;
use crate::budget::cost::Cost;
use crate::schema::inline_schema;
use crate::time::Timestamp;

/// An amount of a limit: calls or cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// A number of calls.
    Calls(u64),
    /// A cost.
    Cost(Cost),
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Calls(calls) => calls.fmt(f),
            Self::Cost(cost) => cost.fmt(f),
        }
    }
}

inline_schema!(Amount { "type": "number", "minimum": 0 });

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Calls(calls) => calls.serialize(serializer),
            Self::Cost(cost) => cost.serialize(serializer),
        }
    }
}

/// One limit of a policy, and how much of it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meter {
    /// The limit's name, such as `maxCallsPerDay`.
    pub name: &'static str,
    /// What it spans.
    pub span: Span,
    /// How much is used, what is held included.
    pub used: Amount,
    /// How much the call asks for.
    pub requested: Amount,
    /// The limit.
    pub max: Amount,
    /// Whether the limit is used up, no matter what the call asks for.
    pub used_up: bool,
    /// Whether the call exceeds it: it is used up, or the call would go past it.
    pub exceeded: bool,
    /// When the count starts anew; `None` is never.
    pub resets_at: Option<Timestamp>,
    /// When the call may fit at the latest: the count starts anew, or a temporary limit has ended. `None` is never.
    pub fits_at: Option<Timestamp>,
}

impl Meter {
    /// Whether a call that exceeds this limit has to wait longer than one that exceeds the other.
    pub fn outlasts(&self, other: &Self) -> bool {
        match (self.fits_at, other.fits_at) {
            (Some(own), Some(other)) => own > other,
            (None, Some(_)) => true,
            (_, None) => false,
        }
    }
}

/// Of the exceeded limits the one that takes longest to start anew, which says when to retry; of equals the first.
pub(crate) fn longest_exceeded(meters: impl Iterator<Item = Meter>) -> Option<Meter> {
    meters.filter(|meter| meter.exceeded).reduce(|worst, meter| if meter.outlasts(&worst) { meter } else { worst })
}

/// How far usage and a request reach, against a limit.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Nothing is left.
    pub(crate) used_up: bool,
    /// What is left is less than the request.
    pub(crate) passed: bool,
}

impl Reach {
    pub(crate) fn of(used: u64, requested: u64, max: u64) -> Self {
        Self { used_up: used >= max, passed: requested > max.saturating_sub(used) }
    }

    /// Whether the request fits.
    pub(crate) fn fits(self) -> bool {
        !self.used_up && !self.passed
    }
}

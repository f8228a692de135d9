//! A window that an event opens, with its bounds.
//!
//! A policy with a time zone counts in windows whose bounds follow from the zone's rules, and rules change. So an event
//! that touches such a policy when one of its windows is over carries the bounds of the new one
//! ([`completion`](crate::budget::completion)). In a policy by UTC bounds are arithmetic, and no event carries them.

use serde::{Deserialize, Serialize};

use crate::budget::calendar::Span;
use crate::budget::window::Bounds;
use crate::id::PolicyId;

/// A window that an event opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// The policy, by the number of the event that created it.
    pub policy: u64,
    /// What the window spans.
    pub period: Span,
    /// Its first moment, in Unix milliseconds.
    pub start: i64,
    /// The first moment past it.
    pub end: i64,
}

impl Opened {
    /// That policy's window, with these bounds.
    pub fn new(policy: PolicyId, period: Span, bounds: Bounds) -> Self {
        let Bounds { start, end } = bounds;
        Self { policy: policy.seq(), period, start, end }
    }

    /// Its bounds.
    pub fn bounds(&self) -> Bounds {
        Bounds { start: self.start, end: self.end }
    }
}

/// The bounds of that policy's window, if the event opens it.
pub(crate) fn bounds_in(opens: &[Opened], policy: PolicyId, span: Span) -> Option<Bounds> {
    let opened = opens.iter().find(|opened| opened.policy == policy.seq() && opened.period == span);
    opened.map(Opened::bounds)
}

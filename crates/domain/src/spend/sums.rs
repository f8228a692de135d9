//! What an event adds to a spend report.

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::Serialize;

use crate::budget::cost::Cost;
use crate::budget::settlement::UsageRecord;
use crate::event::BriefRecord;

/// What the events of one group add up to. Sums saturate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub struct Sums {
    /// Allowed decisions, and the calls of usage reports that settled no decision.
    pub calls: u64,
    /// Denied decisions, those denied because a rate is used up too.
    pub denied: u64,
    /// The estimates of allowed decisions.
    pub estimated: Cost,
    /// What settled decisions really cost, and the costs of usage reports that settled no decision.
    pub settled: Cost,
    /// The part of `cost` that is the estimates of decisions whose hold is open.
    pub held: Cost,
    /// What counts: of a settled decision its real cost, of another its estimate, held or not, and the costs of usage
    /// reports that settled no decision.
    pub cost: Cost,
}

impl Sums {
    /// What a decision adds, given what it was settled at, if it was.
    pub fn of_decision(record: &BriefRecord<'_>, settled: Option<Cost>) -> Self {
        if !record.allowed {
            return Self { denied: 1, ..Self::default() };
        }
        Self { calls: 1, ..Self::outcome(record.cost.unwrap_or_default(), record.held, settled) }
    }

    /// What an allowed decision came to: the one place that says whether its cost is settled, held or only estimated. A
    /// hold that was given back is settled at nothing.
    fn outcome(estimated: Cost, held: bool, settled: Option<Cost>) -> Self {
        match settled {
            Some(settled) => Self { estimated, settled, cost: settled, ..Self::default() },
            None if held => Self { estimated, held: estimated, cost: estimated, ..Self::default() },
            None => Self { estimated, cost: estimated, ..Self::default() },
        }
    }

    /// Changes what a decision added whose hold was open: it is settled at `actual`.
    pub fn end_hold(&mut self, estimate: Cost, actual: Cost) {
        self.held = self.held.minus(estimate);
        self.settled = self.settled.plus(actual);
        self.cost = self.cost.minus(estimate).plus(actual);
    }

    /// What a usage report adds. A settlement adds nothing: what it says counts with its decision. Nor does the
    /// extension of a hold.
    pub fn of_report(record: &UsageRecord) -> Option<Self> {
        let UsageRecord { calls, cost, settles, hold, .. } = record;
        (settles.is_none() && hold.is_none()).then(|| Self {
            calls: *calls,
            settled: *cost,
            cost: *cost,
            ..Self::default()
        })
    }

    /// Adds another group's.
    pub fn add(&mut self, other: &Self) {
        let Self { calls, denied, estimated, settled, held, cost } = other;
        self.calls = self.calls.saturating_add(*calls);
        self.denied = self.denied.saturating_add(*denied);
        self.estimated = self.estimated.plus(*estimated);
        self.settled = self.settled.plus(*settled);
        self.held = self.held.plus(*held);
        self.cost = self.cost.plus(*cost);
    }
}

//! Holds: estimates that are charged until somebody says what the call really cost, or until their time is over.
//!
//! A call with a hold charges its estimate as *held*: it is not left, and not spent either. A hold ends once:
//!
//! | how | what becomes of its cost |
//! | --- | --- |
//! | settled, by a usage report about its decision | the actual cost is spent, the rest is left again |
//! | released | all of it is left again |
//! | expired, at its end | all of it is left again |
//!
//! For every window of every policy `max = left + spent + held`, where left is negative after a settlement above the
//! estimate.
//!
//! **The end is a function of time, not of a timer.** From its end on a hold is *due*: every read shows it as ended. Its
//! event is recorded before the tenant next decides a call or changes a hold, so the trail has it in order. It ends by the
//! clock, as windows do. If the clock was ahead and is set back, a hold that ended stays ended, and an open one ends at
//! most [`MAX_HOLD_SECONDS`] later than now.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::budget::chunked::{Chunked, Numbered};
use crate::budget::cost::Cost;
use crate::budget::settlement::SettledDecision;
use crate::error::{Code, Error};
use crate::id::AgentId;
use crate::limits::{MAX_ENDED_HOLDS, MAX_HOLD_SECONDS};
use crate::time::Timestamp;

/// How long a hold lasts if nothing ends it before: whole seconds, from 1 to [`MAX_HOLD_SECONDS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldTime(u32);

impl HoldTime {
    /// Checks a number of seconds.
    ///
    /// # Errors
    /// `INVALID_FIELD`.
    pub fn parse(field: &str, seconds: u64) -> Result<Self, Error> {
        match u32::try_from(seconds) {
            Ok(valid) if (1..=MAX_HOLD_SECONDS).contains(&valid) => Ok(Self(valid)),
            _ => {
                let problem = format!("must be from 1 to {MAX_HOLD_SECONDS}, not {seconds}");
                Err(Error::field(Code::InvalidField, field, problem))
            }
        }
    }

    /// The end of a hold that lasts so long from `now`.
    pub fn end_from(self, now: Timestamp) -> Timestamp {
        now.plus_millis(i64::from(self.0) * 1_000)
    }
}

/// An open hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// The decision, with the estimate that is held.
    pub decision: SettledDecision,
    /// The agent.
    pub agent: AgentId,
    /// The agent's owner when it was decided.
    pub owner: Arc<str>,
    /// The scoped policies that hold it, by the numbers of the events that created them.
    #[serde(default, skip_serializing_if = "<[u64]>::is_empty")]
    pub scoped: Box<[u64]>,
    /// The instance policies whose slices hold it, by the numbers of the events that created them.
    #[serde(default, skip_serializing_if = "<[u64]>::is_empty")]
    pub instance: Box<[u64]>,
    /// When it ends by itself.
    pub ends_at: Timestamp,
}

impl Numbered for Hold {
    fn number(&self) -> u64 {
        self.decision.seq
    }
}

/// How a hold ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HoldEnd {
    /// A usage report settled it at this cost.
    Settled(Cost),
    /// Somebody gave it back.
    Released,
    /// Its time was over.
    Expired,
}

impl HoldEnd {
    /// What the call really cost.
    pub fn cost(self) -> Cost {
        match self {
            Self::Settled(cost) => cost,
            Self::Released | Self::Expired => Cost::default(),
        }
    }
}

/// A hold that has ended, remembered so that a repeat gets the same answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndedHold {
    /// Number of the decision's event.
    pub decision: u64,
    /// Time of that event.
    pub decided_at: Timestamp,
    /// The agent.
    pub agent: AgentId,
    /// How it ended.
    pub end: HoldEnd,
    /// Number of the event that ended it.
    pub seq: u64,
    /// Time of that event.
    pub at: Timestamp,
}

impl Numbered for EndedHold {
    fn number(&self) -> u64 {
        self.seq
    }
}

/// A tenant's holds: all that are open, and those that ended last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Holds {
    /// By decision number.
    pub(crate) open: Chunked<Hold>,
    /// By the number of the event that ended each.
    ended: Chunked<EndedHold>,
    /// The highest decision number among the holds whose end is forgotten; 0 before the first.
    forgotten_to: u64,
}

impl Holds {
    /// Whether there never was one.
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.ended.is_empty()
    }

    /// The open holds, oldest first.
    pub fn open(&self) -> &Chunked<Hold> {
        &self.open
    }

    /// The holds that ended last, in the order of their ends.
    pub fn ended(&self) -> &Chunked<EndedHold> {
        &self.ended
    }

    /// How the hold of that decision ended, if it did and is remembered. Looks at all that are remembered: ask only about
    /// one that is not open.
    pub fn ended_one(&self, decision: u64) -> Option<&EndedHold> {
        // Nearly always it is a repeat, shortly after the first.
        self.ended.iter().rev().find(|ended| ended.decision == decision)
    }

    /// The ends of holds of decisions past this number are all known.
    pub fn forgotten_to(&self) -> u64 {
        self.forgotten_to
    }

    /// Remembers an end. If there are too many, forgets the one that came first.
    pub(crate) fn remember(&mut self, ended: EndedHold) {
        self.ended.push(ended);
        if self.ended.len() > MAX_ENDED_HOLDS
            && let Some(oldest) = self.ended.pop_first()
        {
            self.forgotten_to = self.forgotten_to.max(oldest.decision);
        }
    }
}

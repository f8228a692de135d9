//! The tenant's open holds: how they begin and end, and what follows from that for its policies.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::budget::calendar::Span;
use crate::budget::hold::{EndedHold, Hold, HoldEnd, Holds};
use crate::budget::policy::Policy;
use crate::budget::settlement::{HoldChange, SettledDecision, UsageRecord};
use crate::event::Record;
use crate::limits::{MAX_HOLD_SECONDS, MAX_HOLDS};
use crate::moment::Moment;
use crate::tenant::Tenant;
use crate::time::Timestamp;

/// The ends of open holds with the numbers of their decisions, the next one first. It is derived from the holds.
pub(super) type HoldEnds = BTreeSet<(Timestamp, u64)>;

/// The index over these holds.
pub(super) fn index(holds: &Holds) -> HoldEnds {
    holds.open().iter().map(|hold| (hold.ends_at, hold.decision.seq)).collect()
}

impl Tenant {
    /// Its open holds, and how the last of the others ended. Some of the open ones may be due.
    pub fn holds(&self) -> &Holds {
        &self.state.holds
    }

    /// When the next hold ends by itself.
    pub fn next_hold_end(&self) -> Option<Timestamp> {
        self.hold_ends.first().map(|(end, _)| *end)
    }

    /// Whether a hold is over, and its end is not recorded yet.
    pub fn has_due_hold(&self, now: Timestamp) -> bool {
        self.next_hold_end().is_some_and(|end| end <= now)
    }

    /// The decisions whose holds are over although their ends are not recorded yet, by their numbers.
    pub fn due_holds(&self, now: Timestamp) -> impl Iterator<Item = u64> {
        self.hold_ends.range(..=(now, u64::MAX)).map(|(_, decision)| *decision)
    }

    /// The hold that has been due longest.
    pub(crate) fn first_due_hold(&self, now: Timestamp) -> Option<&Hold> {
        let (_, decision) = self.hold_ends.first().filter(|(end, _)| *end <= now)?;
        self.state.holds.open().get(*decision)
    }

    /// Seconds until there is room for one more hold; `None` if there is now.
    pub(crate) fn seconds_to_hold_room(&self, now: Timestamp) -> Option<u64> {
        let end = self.next_hold_end().filter(|end| self.state.holds.open().len() >= MAX_HOLDS && *end > now)?;
        u64::try_from(end.millis() - now.millis()).ok().map(|millis| millis.div_ceil(1_000))
    }

    /// Its policies, as they are once every hold that is due at `now` has ended. Nearly always they are as they are.
    pub fn policies_at(&self, now: Timestamp) -> Cow<'_, [Policy]> {
        if !self.has_due_hold(now) {
            return Cow::Borrowed(self.policies());
        }
        let mut policies = self.policies().to_vec();
        let moment = self.next_moment(now);
        for decision in self.due_holds(now) {
            if let Some(hold) = self.state.holds.open().get(decision) {
                let places = self.policies_of_hold(hold);
                go_to_zoned_windows(&mut policies, &places, moment, hold);
                end_in(&mut policies, &places, moment, hold, HoldEnd::Expired);
            }
        }
        Cow::Owned(policies)
    }

    /// Opens the hold of a decision.
    pub(super) fn open_hold(&mut self, moment: Moment, record: &Record<'_>, ends_at: Timestamp) {
        let (Some(agent), Some(owner)) = (record.agent, &record.owner) else { return };
        let (seq, at, wall) = (moment.seq, moment.at, moment.other_wall());
        let decision = SettledDecision { seq, at, wall, estimate: record.cost.unwrap_or_default() };
        let scoped = record.extras.as_ref().map_or(&[][..], |extras| &extras.scoped).into();
        let instance = record.extras.as_ref().map_or(&[][..], |extras| &extras.instance).into();
        let owner = Arc::clone(owner);
        if self.state.holds.open.push(Hold { decision, agent, owner, scoped, instance, ends_at }) {
            self.hold_ends.insert((ends_at, seq));
        }
    }

    /// Ends the open hold of that decision as the record says: its policies give it back, or have it spent. `false` if
    /// there is none.
    pub(crate) fn end_hold(&mut self, moment: Moment, decision: u64, record: &UsageRecord) -> bool {
        let Some(hold) = self.state.holds.open.remove(decision) else { return false };
        self.hold_ends.remove(&(hold.ends_at, decision));
        let end = match record.hold {
            Some(HoldChange::Released) => HoldEnd::Released,
            Some(HoldChange::Expired) => HoldEnd::Expired,
            Some(HoldChange::Extended { .. }) | None => HoldEnd::Settled(record.cost),
        };
        let places = self.policies_of_hold(&hold);
        end_in(&mut self.state.policies, &places, moment, &hold, end);
        let (decided_at, agent) = (hold.decision.at, hold.agent);
        self.state.holds.remember(EndedHold { decision, decided_at, agent, end, seq: moment.seq, at: moment.at });
        true
    }

    /// Moves the end of the open hold of that decision.
    pub(crate) fn prolong_hold(&mut self, decision: u64, until: Timestamp) {
        let Some(old) = self.state.holds.open.get(decision).map(|hold| hold.ends_at) else { return };
        self.state.holds.open.change(decision, |hold| hold.ends_at = until);
        self.hold_ends.remove(&(old, decision));
        self.hold_ends.insert((until, decision));
    }

    /// The clock was set back to `now`: holds made while it was ahead must not last until it is there again.
    pub(super) fn shorten_holds(&mut self, now: Timestamp) {
        let latest = now.plus_millis(i64::from(MAX_HOLD_SECONDS) * 1_000);
        if self.hold_ends.last().is_some_and(|(end, _)| *end > latest) {
            self.state.holds.open.change_all(|hold| hold.ends_at = hold.ends_at.min(latest));
            self.hold_ends = index(&self.state.holds);
        }
    }
}

/// Goes to the windows of policies with a time zone, as the event of the hold's end would with the bounds that it carries.
fn go_to_zoned_windows(policies: &mut [Policy], places: &[u32], moment: Moment, hold: &Hold) {
    for place in places {
        let Some(policy) = charged(policies, *place, hold) else { continue };
        for span in Span::ALL {
            let calendar = &policy.profile.terms.calendar;
            if calendar.is_zoned() && policy.is_over(span, moment.wall) {
                let bounds = calendar.bounds(span, moment.wall);
                policy.open(span, bounds, moment);
            }
        }
    }
}

/// The policy at that place, if the hold was charged to it: one made later was not.
fn charged<'a>(policies: &'a mut [Policy], place: u32, hold: &Hold) -> Option<&'a mut Policy> {
    policies.get_mut(place as usize).filter(|policy| policy.profile.id.seq() <= hold.decision.seq)
}

/// Ends a hold in the policies that it was charged to, which are among those at `places`.
fn end_in(policies: &mut [Policy], places: &[u32], moment: Moment, hold: &Hold, end: HoldEnd) {
    let decision = &hold.decision;
    for place in places {
        if let Some(policy) = charged(policies, *place, hold) {
            policy.end_hold(moment, decision.moment(), decision.estimate, end.cost());
        }
    }
}

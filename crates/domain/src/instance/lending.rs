//! The lender's side: how much it gives to whom, from whom it wants something back, and what that means for the policy's
//! windows.
//!
//! What is lent counts as held in each window in which it may still be spent, and becomes spent when the tenant tells so.
//! Both together never pass a limit.

use std::collections::BTreeSet;

use crate::budget::calendar::Span;
use crate::budget::cost::Cost;
use crate::budget::crossed::Crossed;
use crate::budget::meter::longest_exceeded;
use crate::budget::policy::Policy;
use crate::budget::window::Count;
use crate::id::{PolicyId, TenantId};
use crate::instance::amounts::Amounts;
use crate::instance::lease::{Ask, Lease, LeaseRecord, Outcome, Recall, Totals};
use crate::instance::lent::Lent;
use crate::instance::published::Limited;
use crate::moment::Moment;
use crate::tenant::Tenant;
use crate::time::Timestamp;

/// The part of what remains that a tenant gets at once: one tenant leaves most of it to others, and a busy one asks
/// rarely.
const SHARE: u64 = 16;
/// Tenants that are asked at once for what they have: those that may have most come first.
pub const RECALLED_AT_ONCE: usize = 64;

/// What the lender makes of a question: something to record first, perhaps, and then what to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Lending {
    /// To be recorded before anything is told, in order.
    pub records: Vec<LeaseRecord>,
    /// What to do then.
    pub next: Next,
}

/// What the lender does about a question.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// It answers.
    Answer(Lease),
    /// It asks these for what they have, and decides once they answered.
    Recall(Vec<Recall>),
}

/// What of a policy is not used and not lent; `None` is not limited.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    calls: Option<u64>,
    cost: Option<u64>,
}

impl Tenant {
    /// Decides a question for a slice. `asked` are the tenants that were asked for what they have since it came, whether
    /// they answered or not. `version` is for [`Outcome::Exhausted`].
    pub fn lend(&self, ask: &Ask, moment: Moment, asked: &BTreeSet<TenantId>, version: u64) -> Lending {
        let now = moment.wall;
        let number = ask.policy.seq();
        let policy = self.policy_of(number);
        let Some(policy) = policy.filter(|policy| policy.profile.id == ask.policy && policy.profile.terms.instance)
        else {
            let (granted, until, outstanding) = Default::default();
            let answer = Lease { granted, until, outstanding, outcome: Outcome::NoPolicy };
            return Lending { records: Vec::new(), next: Next::Answer(answer) };
        };
        let old = self.lent_out().lent(number, ask.tenant);
        let told = old.told(&ask.totals);
        let answer = |lent: Lent, outcome| {
            let mut records = Vec::new();
            // What is news of the slice before the last belongs to other windows than a slice that ends now.
            if lent.until != old.until && told.before != old.before {
                records.push(lent_record(number, told));
            }
            if lent.without_order() != old.without_order() {
                records.push(lent_record(number, lent));
            }
            let Lent { granted, until, .. } = lent;
            let answer = Lease { granted, until, outstanding: lent.outstanding(), outcome };
            Lending { records, next: Next::Answer(answer) }
        };
        if policy.profile.disabled {
            return answer(told, Outcome::NoPolicy);
        }
        let limited = Limited::by(&policy.limits(now));
        let least = limited.of(ask.least);
        if least.is_zero() {
            return answer(told, Outcome::Granted);
        }
        let out = limited.of(told.outstanding());
        if told.until <= now && !told.outstanding().is_zero() {
            return answer(told, Outcome::MustReturn);
        }
        // What the tenant has already, it does not need.
        let lacks = least.minus(out);
        if lacks.is_zero() {
            return answer(told, Outcome::Granted);
        }
        let charged = self.after(policy, &old, &told, moment);
        let room = Room::of(&charged, now);
        if room.has(lacks) {
            let until = told.until.max(self.slice_end(policy, now));
            let base = told.granted.max(told.accounted());
            let wanted = limited.of(ask.wanted).minus(out);
            let granted = base.plus(room.share(lacks, wanted));
            return answer(Lent { granted, ..told.begins(until) }, Outcome::Granted);
        }
        let holders = self.holders(number, ask.tenant, limited, asked);
        let recalled = holders.iter().map(|lent| lent.outstanding()).fold(Amounts::default(), Amounts::plus);
        if room.with(recalled).has(lacks) {
            let lacking = room.lacking(lacks);
            let mut holders: Vec<_> = holders.into_iter().filter(|lent| lacking.touches(lent.outstanding())).collect();
            holders.sort_by_key(|lent| std::cmp::Reverse(lacking.weight(lent.outstanding())));
            holders.truncate(RECALLED_AT_ONCE);
            let is_news = told.without_order() != old.without_order();
            let records = is_news.then(|| lent_record(number, told)).into_iter().collect();
            let recalls = holders.into_iter().map(|lent| recall(ask.policy, lent, false)).collect();
            return Lending { records, next: Next::Recall(recalls) };
        }
        // What is held now may come back, but those who have it do not answer. A new window helps at the latest.
        let worst = charged.at(now, |standing| longest_exceeded(standing.meters(lacks.calls, lacks.cost)));
        let fits_at = worst.and_then(|meter| meter.fits_at);
        let of_policy = self.lent_out().of_policy(number);
        let silent = |lent: &Lent| asked.contains(&lent.tenant) && limited.touches(lent.outstanding());
        let all_asked = !of_policy.into_iter().any(silent);
        answer(told, Outcome::Exhausted { fits_at, version, all_asked })
    }

    /// What can be lent to whoever asks that.
    pub(super) fn room(&self, ask: &Ask, moment: Moment) -> Option<Room> {
        let policy = self.policy_of(ask.policy.seq())?;
        let old = self.lent_out().lent(ask.policy.seq(), ask.tenant);
        Some(Room::of(&self.after(policy, &old, &old.told(&ask.totals), moment), moment.wall))
    }

    /// Whether what a record of the lender says frees something, or that a tenant has more than was known: then it is worth
    /// asking again.
    pub fn frees(&self, record: &LeaseRecord) -> bool {
        let LeaseRecord::Lent { policy, lent, .. } = record else { return false };
        let Some(old) = self.lent_out().get(*policy, lent.tenant) else { return false };
        !lent.charged().covers(old.charged()) || lent.until == old.until && !lent.spent.covers(old.spent)
    }

    /// Takes in what a tenant told.
    pub fn hear(&self, ask: &Ask) -> Option<LeaseRecord> {
        let number = ask.policy.seq();
        self.place_of_policy(number)?;
        let old = self.lent_out().lent(number, ask.tenant);
        let told = old.told(&ask.totals);
        (told.without_order() != old.without_order()).then(|| lent_record(number, told))
    }

    /// Takes in that a tenant is gone for good: nobody knows what it spent of what it had, so it counts as spent.
    pub fn write_off(&self, policy: PolicyId, tenant: TenantId) -> Option<LeaseRecord> {
        let lent = *self.lent_out().get(policy.seq(), tenant)?;
        let out = lent.outstanding();
        let order = u64::MAX;
        (!out.is_zero()).then(|| lent_record(policy.seq(), Lent { spent: lent.spent.plus(out), order, ..lent }))
    }

    /// Whom to ask for what they have before the policy is changed or deleted: all that may have something. Before it is
    /// reset (`anew`) also those whose slice has not ended, since nothing of before may go back into that.
    pub fn recalls_of_all(&self, policy: PolicyId, now: Timestamp, anew: bool) -> Vec<Recall> {
        let of_policy = self.lent_out().of_policy(policy.seq());
        let asked = of_policy.filter(|lent| !lent.outstanding().is_zero() || anew && now < lent.until);
        asked.map(|lent| recall(policy, lent, anew)).collect()
    }

    /// The policy with what is lent counted as held.
    pub fn with_lent(&self, policy: &Policy, now: Timestamp) -> Policy {
        self.with_lent_as(policy, now, None)
    }

    /// The same, where one tenant has something else.
    fn with_lent_as(&self, policy: &Policy, now: Timestamp, instead: Option<&Lent>) -> Policy {
        let mut usage = policy.used(now).into_owned();
        let of_policy = self.lent_out().of_policy(policy.profile.id.seq());
        let others = of_policy.filter(|lent| instead.is_none_or(|instead| instead.tenant != lent.tenant));
        for lent in others.chain(instead) {
            let out = lent.outstanding();
            if !out.is_zero() {
                let counts = usage.counts_mut().filter(|(_, count)| lent.is_in_window_from(count.open.start));
                counts.for_each(|(_, count)| count.hold(out));
            }
        }
        Policy { usage, ..policy.clone() }
    }

    /// The policy with what is lent counted as held, once a tenant's entry has changed.
    fn after(&self, policy: &Policy, old: &Lent, new: &Lent, moment: Moment) -> Policy {
        self.with_lent_as(&policy.having_heard(old, new, moment.wall), moment.wall, Some(new))
    }

    /// When a slice ends that is granted now: with the shortest window that is counted, or with temporary limits.
    fn slice_end(&self, policy: &Policy, now: Timestamp) -> Timestamp {
        let counted = Span::ALL.into_iter().filter(|span| policy.usage.count(*span).is_some());
        let windows = counted.filter_map(|span| policy.bounds(span, now).ends_at());
        let temporary = policy.profile.terms.temporary.as_ref().map(|temporary| temporary.until);
        // The day is always counted.
        windows.chain(temporary.filter(|until| *until > now)).min().unwrap_or(now)
    }

    /// The other tenants that may have something of a kind that is limited.
    fn holders(&self, policy: u64, asking: TenantId, limited: Limited, asked: &BTreeSet<TenantId>) -> Vec<&Lent> {
        let others = self.lent_out().of_policy(policy).filter(|lent| {
            lent.tenant != asking && !asked.contains(&lent.tenant) && !limited.of(lent.outstanding()).is_zero()
        });
        others.collect()
    }

    /// The calls of a policy that are lent in each window and not known to be spent, beside its cost.
    pub fn calls_lent(&self, policy: &Policy, span: Span, now: Timestamp) -> u64 {
        let start = policy.bounds(span, now).start;
        let lent = self.lent_out().of_policy(policy.profile.id.seq());
        let held = lent.filter(|lent| lent.is_in_window_from(start)).map(|lent| lent.outstanding().calls);
        held.fold(0, u64::saturating_add)
    }

    /// The thresholds that are reached by what a tenant told.
    pub(crate) fn crossed_by_lease(&self, moment: Moment, number: u64, lent: &Lent) -> Vec<Crossed> {
        let Some(policy) = self.policy_of(number) else {
            return Vec::new();
        };
        let old = self.lent_out().lent(number, lent.tenant);
        let policy = policy.having_heard(&old, lent, moment.wall);
        policy.at(moment.wall, |standing| standing.crossings(0, Cost::default()))
    }

    /// Applies what the lender records.
    pub(crate) fn apply_lent(&mut self, moment: Moment, number: u64, lent: &Lent) {
        let old = self.lent_out().lent(number, lent.tenant);
        let Some(place) = self.place_of_policy(number) else { return };
        if let Some(policy) = self.policy_mut(place) {
            policy.turn_to(moment);
            policy.hear(&old, lent);
        }
        self.lent_out_mut().insert(number, *lent);
    }
}

impl Policy {
    /// The policy at `now`, once it has heard what a tenant told.
    fn having_heard(&self, old: &Lent, new: &Lent, now: Timestamp) -> Self {
        let mut policy = Self { usage: self.used(now).into_owned(), ..self.clone() };
        policy.hear(old, new);
        policy
    }

    /// Has its open windows say what a tenant told: that it spent more, or less, than was known.
    fn hear(&mut self, old: &Lent, new: &Lent) {
        // What was spent from a slice belongs to the slice's windows. What was used without one is told at once, and belongs
        // to those of now.
        let late = new.late.minus(old.late);
        let diff = |new: Amounts, old: Amounts| (new.minus(old), old.minus(new));
        let (before, spent) = if new.until == old.until {
            (diff(new.before, old.before), diff(new.spent, old.spent))
        } else {
            (Default::default(), diff(new.before, old.before.plus(old.spent)))
        };
        for (_, count) in self.usage.counts_mut() {
            count.hear(|start| start < old.earlier.millis(), before);
            count.hear(|start| old.is_in_window_from(start), spent);
            count.hear(|_| true, (late, Amounts::default()));
        }
    }
}

impl Count {
    /// Counts this as held in the open window.
    fn hold(&mut self, out: Amounts) {
        self.open.calls = self.open.calls.saturating_add(out.calls);
        self.open.cost = self.open.cost.plus(out.cost);
        self.open.held = self.open.held.plus(out.cost);
    }

    /// Charges what a slice spent to the windows that it was in, by their start.
    fn hear(&mut self, is_in: impl Fn(i64) -> bool, (more, less): (Amounts, Amounts)) {
        if is_in(self.open.start) {
            self.charge(more.calls, more.cost, false);
            self.open.calls = self.open.calls.saturating_sub(less.calls);
            self.open.cost = self.open.cost.minus(less.cost);
        } else if let Some(other) = self.other.as_mut().filter(|other| is_in(other.start)) {
            other.calls = other.calls.saturating_add(more.calls).saturating_sub(less.calls);
            other.cost = other.cost.plus(more.cost).minus(less.cost);
        }
    }
}

impl Lent {
    /// The same, as the tenant tells it. An old report says nothing new.
    fn told(&self, totals: &Totals) -> Self {
        let Totals { order, granted, returned, before, spent, late, until } = *totals;
        if order < self.order {
            return *self;
        }
        // It may not have heard of the present slice.
        let (before, spent) =
            if until < self.until { (before.plus(spent), Amounts::default()) } else { (before, spent) };
        // If the lender forgot a grant, as after a restored backup, the tenant still has it.
        Self { granted: self.granted.max(granted), order, returned, before, spent, late, ..*self }
    }

    fn without_order(&self) -> Self {
        Self { order: 0, ..*self }
    }
}

impl Limited {
    /// The part of the amounts that is limited.
    fn of(self, amounts: Amounts) -> Amounts {
        Amounts {
            calls: if self.calls { amounts.calls } else { 0 },
            cost: if self.cost { amounts.cost } else { Cost::default() },
        }
    }

    fn touches(self, amounts: Amounts) -> bool {
        !self.of(amounts).is_zero()
    }

    /// How much of it there is. Calls and millionths are not compared: one of the two is mostly all that counts.
    fn weight(self, amounts: Amounts) -> (u64, u64) {
        let Amounts { calls, cost } = self.of(amounts);
        (calls, cost.millionths())
    }
}

impl Room {
    /// Calls; `None` if they are not limited.
    pub fn calls(self) -> Option<u64> {
        self.calls
    }

    /// Cost; `None` if it is not limited.
    pub fn cost(self) -> Option<Cost> {
        self.cost.map(Cost::from_millionths)
    }

    /// What is left of a policy, whose usage has what is held.
    fn of(policy: &Policy, now: Timestamp) -> Self {
        let (limits, mut room) = (policy.limits(now), Self { calls: None, cost: None });
        let least = |room: &mut Option<u64>, left: u64| *room = Some(room.map_or(left, |room| room.min(left)));
        for span in Span::ALL {
            let Some(window) = policy.window(span, now) else { continue };
            if let Some(max) = limits.calls(span) {
                least(&mut room.calls, max.saturating_sub(window.calls));
            }
            if let Some(max) = limits.cost(span) {
                least(&mut room.cost, max.millionths().saturating_sub(window.cost.millionths()));
            }
        }
        room
    }

    fn has(self, amounts: Amounts) -> bool {
        self.calls.is_none_or(|room| amounts.calls <= room)
            && self.cost.is_none_or(|room| amounts.cost.millionths() <= room)
    }

    fn with(self, more: Amounts) -> Self {
        let Self { calls, cost } = self;
        Self {
            calls: calls.map(|room| room.saturating_add(more.calls)),
            cost: cost.map(|room| room.saturating_add(more.cost.millionths())),
        }
    }

    /// What there is not enough of.
    fn lacking(self, amounts: Amounts) -> Limited {
        Limited {
            calls: self.calls.is_some_and(|room| amounts.calls > room),
            cost: self.cost.is_some_and(|room| amounts.cost.millionths() > room),
        }
    }

    /// What a tenant gets: what it lacks, at least; what it wants or a share, if that is there.
    fn share(self, lacks: Amounts, wanted: Amounts) -> Amounts {
        let part = |room: Option<u64>, lacks: u64, wanted: u64| {
            room.map_or(0, |room| wanted.max(room / SHARE).max(lacks).min(room))
        };
        Amounts {
            calls: part(self.calls, lacks.calls, wanted.calls),
            cost: Cost::from_millionths(part(self.cost, lacks.cost.millionths(), wanted.cost.millionths())),
        }
    }
}

fn recall(policy: PolicyId, lent: &Lent, anew: bool) -> Recall {
    Recall { tenant: lent.tenant, policy, granted: lent.granted, until: lent.until, anew }
}

fn lent_record(policy: u64, lent: Lent) -> LeaseRecord {
    LeaseRecord::Lent { policy, lent, opens: Vec::new(), crossed: Vec::new() }
}

//! A tenant's side: how it takes slices, returns them, and what charges them.

use crate::budget::cost::Cost;
use crate::budget::settlement::{HoldChange, UsageRecord};
use crate::event::{Event, Record};
use crate::id::PolicyId;
use crate::instance::amounts::Amounts;
use crate::instance::lease::{Ask, Lease, LeaseRecord, Outcome, Recall, Totals};
use crate::instance::published::InstanceSet;
use crate::instance::slice::Slice;
use crate::instance::slice_check::Need;
use crate::moment::Moment;
use crate::tenant::Tenant;
use crate::time::Timestamp;

impl Tenant {
    /// Its slice of the policy of that number, if it ever had one.
    pub fn slice(&self, policy: u64) -> Option<&Slice> {
        let slices = self.slices();
        slices.binary_search_by_key(&policy, |slice| slice.policy).ok().and_then(|at| slices.get(at))
    }

    /// Its slice of that policy; one that was never granted anything if it never had one.
    fn slice_or_none(&self, policy: PolicyId) -> Slice {
        self.slice(policy.seq()).copied().unwrap_or_else(|| Slice::none(policy.seq()))
    }

    /// The slice of the policy of that number, to be changed.
    fn slice_mut(&mut self, policy: u64) -> Option<&mut Slice> {
        let slices = self.slices_mut();
        let at = match slices.binary_search_by_key(&policy, |slice| slice.policy) {
            Ok(at) => at,
            Err(at) => {
                slices.insert(at, Slice::none(policy));
                at
            }
        };
        slices.get_mut(at)
    }

    /// What to record before it asks for a slice: that it returns what is left of one that has ended.
    pub fn return_ended(&self, policy: PolicyId, now: Timestamp) -> Option<LeaseRecord> {
        let slice = self.slice(policy.seq()).filter(|slice| !slice.is_open(now))?;
        (!slice.left().is_zero()).then(|| returning(slice, false))
    }

    /// What to record when a slice is recalled: that it returns all that is left.
    pub fn give_up(&self, recall: &Recall) -> Option<LeaseRecord> {
        let Recall { tenant: _, policy, granted, until, anew } = *recall;
        let old = self.slice_or_none(policy);
        let known = taken(&old, granted, until);
        (anew || !known.left().is_zero() || known != old).then(|| returning(&known, anew))
    }

    /// What to record of an answer: the grant, if it is news. Of one that has ended, that it is returned.
    pub fn take(&self, policy: PolicyId, lease: &Lease) -> Option<LeaseRecord> {
        let old = self.slice_or_none(policy);
        let mut known = taken(&old, lease.granted, lease.until);
        if known.until != old.until {
            // What came back after the tenant last told belongs to the slice before, and ends with it.
            known.returned = known.returned.plus(known.left().minus(lease.outstanding));
        }
        match lease.outcome {
            Outcome::MustReturn if !known.left().is_zero() => Some(returning(&known, false)),
            _ => (known != old).then(|| held(&known, false)),
        }
    }

    /// What to record of slices of policies that are gone: that they are forgotten. A slice of a policy that is only
    /// switched off says what was spent of it, and stays.
    pub fn drop_slices(&self, set: &InstanceSet) -> Option<LeaseRecord> {
        let gone: Vec<u64> =
            self.slices().iter().map(|slice| slice.policy).filter(|policy| !set.has(*policy)).collect();
        (!gone.is_empty()).then_some(LeaseRecord::Dropped { policies: gone })
    }

    /// What it tells of its slice of that policy.
    pub fn slice_totals(&self, policy: PolicyId) -> Totals {
        let slice = self.slice_or_none(policy);
        let Slice { granted, returned, before, spent, late, until, .. } = slice;
        Totals { order: self.seq(), granted, returned, before, spent, late, until }
    }

    /// The question for what is missing. `wanted` is what would be of use at once.
    pub fn ask_for(&self, need: Need, wanted: Amounts) -> Ask {
        let Need { policy, least } = need;
        Ask { tenant: self.id(), policy, totals: self.slice_totals(policy), least, wanted: wanted.max(least) }
    }

    /// A report without a question.
    pub fn report_of(&self, policy: PolicyId) -> Ask {
        self.ask_for(Need { policy, least: Amounts::default() }, Amounts::default())
    }

    /// Applies what a tenant records of a slice.
    pub(crate) fn apply_held(&mut self, moment: Moment, record: &LeaseRecord) {
        let LeaseRecord::Held { policy, granted, returned, until, anew } = *record else { return };
        let Some(slice) = self.slice_mut(policy) else { return };
        if slice.until != until {
            // Another slice begins.
            (slice.before, slice.spent) = (slice.before.plus(slice.spent), Amounts::default());
            slice.until = until;
            slice.since = moment.seq;
        }
        if anew {
            slice.since = moment.seq;
        }
        (slice.granted, slice.returned) = (granted, returned);
    }

    pub(crate) fn apply_dropped(&mut self, policies: &[u64]) {
        self.slices_mut().retain(|slice| !policies.contains(&slice.policy));
    }

    /// Charges the slices of an allowed call.
    pub(crate) fn charge_slices(&mut self, moment: Moment, record: &Record<'_>) {
        let Some(extras) = record.extras.as_ref().filter(|extras| !extras.instance.is_empty()) else { return };
        let amounts = Amounts::new(1, record.cost.unwrap_or_default());
        for policy in &extras.instance {
            if let Some(slice) = self.slice_mut(*policy) {
                slice.charge(moment.wall, amounts);
            }
        }
    }

    /// Charges the slices of a usage report, or gives back to those that its decision charged.
    pub(crate) fn settle_slices(&mut self, moment: Moment, record: &UsageRecord) {
        if let Some(HoldChange::Extended { .. }) = record.hold {
            return;
        }
        for policy in &record.instance {
            let Some(slice) = self.slice_mut(*policy) else { continue };
            match &record.settles {
                None => slice.charge(moment.wall, Amounts::new(record.calls, record.cost)),
                Some(decision) if record.cost >= decision.estimate => {
                    let more = record.cost.minus(decision.estimate);
                    if more != Cost::default() {
                        slice.charge(moment.wall, Amounts::new(0, more));
                    }
                }
                Some(decision) => {
                    let less = decision.estimate.minus(record.cost);
                    slice.give_back(moment.wall, decision.seq, Amounts::new(0, less));
                }
            }
        }
    }
}

impl Event<'_> {
    /// The instance policies that it charges, by their numbers.
    pub fn charged_instance(&self) -> &[u64] {
        match self {
            Self::Decided(record) => record.extras.as_ref().map_or(&[], |extras| &extras.instance),
            Self::Used(record) => &record.instance,
            Self::Changed(_) | Self::Delivered(_) | Self::Leased(_) => &[],
        }
    }
}

impl UsageRecord {
    /// Whether it changes slices in a way that the lender should hear of: something came back, or was used without asking.
    pub fn changes_slices(&self) -> bool {
        let is_other = self.settles.as_ref().is_none_or(|decision| decision.estimate != self.cost);
        !self.instance.is_empty() && is_other && !matches!(self.hold, Some(HoldChange::Extended { .. }))
    }
}

/// The slice once its tenant has heard of that grant. Totals and ends only grow, so an answer that comes late says nothing
/// new.
fn taken(old: &Slice, granted: Amounts, until: Timestamp) -> Slice {
    Slice { granted: old.granted.max(granted), until: old.until.max(until), ..*old }
}

fn held(slice: &Slice, anew: bool) -> LeaseRecord {
    let Slice { policy, granted, returned, until, .. } = *slice;
    LeaseRecord::Held { policy, granted, returned, until, anew }
}

fn returning(slice: &Slice, anew: bool) -> LeaseRecord {
    held(&Slice { returned: slice.returned.plus(slice.left()), ..*slice }, anew)
}

//! Which tenants get a label of their own in metrics. Each label value is a time series that someone has to store, so
//! their number is limited.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::tenant_measures::TenantMeasures;
use crate::domain::TenantId;

/// Decisions: allowed, denied, rate limited.
pub type Results = [u64; 3];

/// The tenants with a label of their own.
///
/// A tenant keeps its label until it is erased; a free label goes to the busiest tenant without one. A decision stays
/// under the label that it was first counted under. So the shared counter of the others never goes down when one of
/// them is erased, leaves memory or gets a label: a monitoring system takes a counter that drops for one that was reset.
#[derive(Debug)]
pub struct TenantLabels {
    most: Option<u32>,
    given: Mutex<LabelState>,
}

#[derive(Debug, Default)]
struct LabelState {
    /// Tenants with a label.
    named: HashMap<TenantId, Labelled>,
    /// Tenants in memory without a label, each with its decisions when last seen.
    unnamed: HashMap<TenantId, Results>,
    /// The count of the shared label.
    others: Results,
}

/// What is counted under a tenant's label.
#[derive(Debug, Default)]
struct Labelled {
    /// Before it last came into memory.
    earlier: Results,
    /// What it had decided since then before it got the label.
    before: Results,
    /// Since then.
    now: Results,
}

/// Decisions by label.
#[derive(Debug, PartialEq)]
pub struct LabelledResults {
    /// Decisions of each tenant with a label.
    pub named: Vec<(TenantId, Results)>,
    /// Decisions of all the others.
    pub others: Results,
}

impl TenantLabels {
    /// At most `most` labels; `None` to leave tenants out of metrics.
    pub fn new(most: Option<u32>) -> Self {
        Self { most, given: Mutex::default() }
    }

    /// Splits the decisions of all tenants in memory, since they came there, by label. `None` if tenants are left out of
    /// metrics.
    pub fn split<'a>(&self, all: impl Iterator<Item = (TenantId, &'a TenantMeasures)>) -> Option<LabelledResults> {
        let most = self.most? as usize;
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let LabelState { named, unnamed, others } = &mut *given;
        // One that left meanwhile is counted already.
        let here = all.filter(|(_, measures)| !measures.has_left());
        let mut all: Vec<_> = here.map(|(id, measures)| (id, measures.results())).collect();
        all.sort_by_key(|(id, results)| (std::cmp::Reverse(results.iter().sum::<u64>()), *id));
        for (id, results) in all {
            if let Some(labelled) = named.get_mut(&id) {
                labelled.now = results;
            } else if named.len() < most {
                let before = unnamed.remove(&id).unwrap_or_default();
                named.insert(id, Labelled { before, now: results, ..Labelled::default() });
            } else {
                let before = unnamed.insert(id, results).unwrap_or_default();
                add(others, since(results, before));
            }
        }
        let of = |labelled: &Labelled| sum(labelled.earlier, since(labelled.now, labelled.before));
        let mut named: Vec<_> = named.iter().map(|(id, labelled)| (*id, of(labelled))).collect();
        named.sort_unstable_by_key(|(id, results)| (std::cmp::Reverse(results.iter().sum::<u64>()), *id));
        Some(LabelledResults { named, others: *others })
    }

    /// A tenant has left memory.
    pub fn left(&self, tenant: TenantId, measures: &TenantMeasures) {
        if self.most.is_none() {
            return;
        }
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        measures.left();
        let results = measures.results();
        let LabelState { named, unnamed, others } = &mut *given;
        match named.get_mut(&tenant) {
            Some(labelled) => {
                let earlier = sum(labelled.earlier, since(results, labelled.before));
                *labelled = Labelled { earlier, ..Labelled::default() };
            }
            None => add(others, since(results, unnamed.remove(&tenant).unwrap_or_default())),
        }
    }

    /// A tenant was erased.
    pub fn forget(&self, tenant: TenantId) {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.named.remove(&tenant);
        given.unnamed.remove(&tenant);
    }
}

fn add(to: &mut Results, more: Results) {
    *to = sum(*to, more);
}

fn sum(one: Results, other: Results) -> Results {
    std::array::from_fn(|at| one.get(at).copied().unwrap_or_default() + other.get(at).copied().unwrap_or_default())
}

fn since(now: Results, before: Results) -> Results {
    std::array::from_fn(|at| {
        let of = |results: &Results| results.get(at).copied().unwrap_or_default();
        of(&now).saturating_sub(of(&before))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::Timestamp;
    use crate::domain::audit::entry::AuditResult;
    use crate::measure::TenantMeter;

    #[test]
    fn the_busiest_get_a_label_and_no_count_ever_goes_down() {
        let id = |of: u8| TenantId::generate(Timestamp::default(), [of; 10]).unwrap();
        let labels = TenantLabels::new(Some(2));
        let measured = |busy: u64| {
            let measures = Arc::<TenantMeasures>::default();
            let meter = TenantMeter::new(Arc::clone(&measures), Arc::default());
            (0..busy).for_each(|_| meter.decided(Timestamp::default(), 1, AuditResult::Allowed, None));
            measures
        };
        let split = |all: &[(u8, u64)]| {
            let all: Vec<_> = all.iter().map(|(of, busy)| (id(*of), measured(*busy))).collect();
            let split = labels.split(all.iter().map(|(id, measures)| (*id, &**measures))).unwrap();
            let named = split
                .named
                .into_iter()
                .map(|(of, results)| ((1..9).find(|known| id(*known) == of).unwrap(), results[0]));
            (named.collect::<Vec<_>>(), split.others[0])
        };
        assert_eq!(split(&[(1, 5), (2, 9), (3, 7)]), (vec![(2, 9), (3, 7)], 5));
        assert_eq!(split(&[(1, 100), (2, 9), (3, 7)]), (vec![(2, 9), (3, 7)], 100), "who has one keeps it");
        labels.forget(id(2));
        assert_eq!(
            split(&[(1, 100), (3, 7), (4, 99)]),
            (vec![(3, 7), (1, 0)], 199),
            "a free place goes to the busiest"
        );
        assert_eq!(split(&[(1, 103), (3, 8), (4, 99)]), (vec![(3, 8), (1, 3)], 199), "what was counted stays there");
        labels.forget(id(4));
        assert_eq!(split(&[(1, 103), (3, 8)]), (vec![(3, 8), (1, 3)], 199), "one of the others is erased");
        let left = measured(110);
        labels.left(id(1), &left);
        labels.left(id(5), &measured(6));
        let again = labels.split([(id(1), &*left)].into_iter()).unwrap();
        assert_eq!(again.named.iter().find(|(of, _)| *of == id(1)), Some(&(id(1), [10, 0, 0])), "it was still listed");
        assert_eq!(split(&[(3, 8)]), (vec![(1, 10), (3, 8)], 205), "they left memory");
        assert_eq!(split(&[(1, 2), (3, 8), (5, 1)]), (vec![(1, 12), (3, 8)], 206), "and came back");
        assert!(TenantLabels::new(None).split([(id(1), &*measured(1))].into_iter()).is_none());
        assert_eq!(
            TenantLabels::new(Some(0)).split([(id(1), &*measured(7))].into_iter()),
            Some(LabelledResults { named: vec![], others: [7, 0, 0] })
        );
    }
}

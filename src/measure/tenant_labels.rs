//! Which tenants get a label of their own in metrics. Each label value is a time series that someone has to store, so
//! their number is limited.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use crate::domain::TenantId;

/// Decisions: allowed, denied, rate limited.
pub type Results = [u64; 3];

/// The tenants with a label of their own.
///
/// A tenant keeps its label until it is erased; a free label goes to the busiest tenant without one. A decision stays
/// under the label that it was first counted under. So the shared counter of the others never goes down when one of
/// them is erased or gets a label: a monitoring system takes a counter that drops for one that was reset.
#[derive(Debug)]
pub struct TenantLabels {
    most: Option<u32>,
    given: Mutex<LabelState>,
}

#[derive(Debug, Default)]
struct LabelState {
    /// Tenants with a label, each with the decisions that were counted under the shared label before.
    named: HashMap<TenantId, Results>,
    /// Tenants without a label, each with its decisions when last seen.
    unnamed: HashMap<TenantId, Results>,
    /// The count of the shared label.
    others: Results,
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

    /// Splits the decisions of all tenants since the start by label. `None` if tenants are left out of metrics.
    pub fn split(&self, mut all: Vec<(TenantId, Results)>) -> Option<LabelledResults> {
        let most = self.most? as usize;
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let LabelState { named, unnamed, others } = &mut *given;
        let there: HashSet<_> = all.iter().map(|(id, _)| *id).collect();
        named.retain(|id, _| there.contains(id));
        unnamed.retain(|id, _| there.contains(id));
        all.sort_by_key(|(id, results)| (!named.contains_key(id), std::cmp::Reverse(results.iter().sum::<u64>()), *id));
        let mut with_label = Vec::with_capacity(most.min(all.len()));
        for (id, results) in all {
            if with_label.len() < most {
                let before = named.entry(id).or_insert_with(|| unnamed.remove(&id).unwrap_or_default());
                with_label.push((id, since(results, *before)));
            } else {
                let before = unnamed.insert(id, results).unwrap_or_default();
                for (sum, more) in others.iter_mut().zip(since(results, before)) {
                    *sum += more;
                }
            }
        }
        Some(LabelledResults { named: with_label, others: *others })
    }
}

fn since(now: Results, before: Results) -> Results {
    std::array::from_fn(|at| {
        let of = |results: &Results| results.get(at).copied().unwrap_or_default();
        of(&now).saturating_sub(of(&before))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    #[test]
    fn the_busiest_get_a_label_and_no_count_ever_goes_down() {
        let id = |of: u8| TenantId::generate(Timestamp::default(), [of; 10]).unwrap();
        let labels = TenantLabels::new(Some(2));
        let split = |all: &[(u8, u64)]| {
            let split = labels.split(all.iter().map(|(of, busy)| (id(*of), [*busy, 0, 0])).collect()).unwrap();
            let named = split
                .named
                .into_iter()
                .map(|(of, results)| ((1..9).find(|known| id(*known) == of).unwrap(), results[0]));
            (named.collect::<Vec<_>>(), split.others[0])
        };
        assert_eq!(split(&[(1, 5), (2, 9), (3, 7)]), (vec![(2, 9), (3, 7)], 5));
        assert_eq!(split(&[(1, 100), (2, 9), (3, 7)]), (vec![(2, 9), (3, 7)], 100), "who has one keeps it");
        assert_eq!(
            split(&[(1, 100), (3, 7), (4, 99)]),
            (vec![(3, 7), (1, 0)], 199),
            "a free place goes to the busiest"
        );
        assert_eq!(split(&[(1, 103), (3, 8), (4, 99)]), (vec![(1, 3), (3, 8)], 199), "what was counted stays there");
        assert_eq!(split(&[(1, 103), (3, 8)]), (vec![(1, 3), (3, 8)], 199), "one of the others is erased");
        assert!(TenantLabels::new(None).split(vec![(id(1), [1, 0, 0])]).is_none());
        assert_eq!(
            TenantLabels::new(Some(0)).split(vec![(id(1), [7, 1, 2])]),
            Some(LabelledResults { named: vec![], others: [7, 1, 2] })
        );
    }
}

//! Which tenants are told apart in metrics. Each label value is a time series that somebody has to keep, so there are only
//! so many.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use crate::domain::TenantId;

/// Decisions: allowed, denied and rate limited ones.
pub type Results = [u64; 3];

/// The tenants with a label of their own.
///
/// Who has one keeps it until it is erased, and a free place goes to the busiest of the others. A decision counts under
/// the label that its tenant had when it was first seen, and stays there: the count of the others may not go down when
/// one of them is erased or gets a label, since a counter that does is taken for one that began anew.
#[derive(Debug)]
pub struct TenantLabels {
    most: Option<u32>,
    given: Mutex<LabelState>,
}

#[derive(Debug, Default)]
struct LabelState {
    /// Those with a label, with what had been counted under the others' before.
    named: HashMap<TenantId, Results>,
    /// What was last seen of each of the others.
    unnamed: HashMap<TenantId, Results>,
    /// What counts under the others' label.
    others: Results,
}

/// Decisions by label.
#[derive(Debug, PartialEq)]
pub struct LabelledResults {
    /// Of each tenant that has one.
    pub named: Vec<(TenantId, Results)>,
    /// Of all others.
    pub others: Results,
}

impl TenantLabels {
    /// So many; `None` is that no tenant is named at all.
    pub fn new(most: Option<u32>) -> Self {
        Self { most, given: Mutex::default() }
    }

    /// Splits the decisions of all tenants since the start into those of tenants with a label and those of the others.
    /// `None` where no tenant is to be named.
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

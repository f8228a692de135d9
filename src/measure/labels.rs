//! Which tenants are told apart in metrics. Each label value is a time series that somebody has to keep, so there are only
//! so many.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use crate::domain::TenantId;

/// The tenants with a label of their own.
///
/// Who has one keeps it until it is erased: a tenant that came and went among them would make the sum of all others go
/// down, which a counter may not. A free place goes to the busiest of the others.
#[derive(Debug)]
pub struct Labels {
    most: Option<u32>,
    given: Mutex<HashSet<TenantId>>,
}

/// What is known of tenants, by whether they have a label.
#[derive(Debug, PartialEq)]
pub struct Split<T> {
    /// Of each that has one.
    pub named: Vec<(TenantId, T)>,
    /// Of the others.
    pub others: Vec<T>,
}

impl Labels {
    /// So many; `None` is that no tenant is named at all.
    pub fn new(most: Option<u32>) -> Self {
        Self { most, given: Mutex::default() }
    }

    /// Splits what is known of tenants, with how busy each is, into those with a label and the others. `None` where no
    /// tenant is to be named.
    pub fn split<T>(&self, all: Vec<(TenantId, u64, T)>) -> Option<Split<T>> {
        let most = self.most? as usize;
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let there: HashSet<_> = all.iter().map(|(id, ..)| *id).collect();
        given.retain(|id| there.contains(id));
        let mut all = all;
        all.sort_by_key(|(id, busy, _)| (!given.contains(id), std::cmp::Reverse(*busy), *id));
        let mut split = Split { named: Vec::new(), others: Vec::new() };
        for (id, _, known) in all {
            if split.named.len() < most {
                given.insert(id);
                split.named.push((id, known));
            } else {
                split.others.push(known);
            }
        }
        Some(split)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    #[test]
    fn the_busiest_get_a_label_and_keep_it_until_they_are_gone() {
        let id = |of: u8| TenantId::generate(Timestamp::default(), [of; 10]).unwrap();
        let labels = Labels::new(Some(2));
        let split = |all: &[(u8, u64)]| {
            let split = labels.split(all.iter().map(|(of, busy)| (id(*of), *busy, *of)).collect()).unwrap();
            (split.named.into_iter().map(|(_, of)| of).collect::<Vec<_>>(), split.others)
        };
        assert_eq!(split(&[(1, 5), (2, 9), (3, 7)]), (vec![2, 3], vec![1]));
        assert_eq!(split(&[(1, 100), (2, 9), (3, 7)]), (vec![2, 3], vec![1]), "who has one keeps it");
        assert_eq!(split(&[(1, 100), (3, 7), (4, 101)]), (vec![3, 4], vec![1]), "a free place goes to the busiest");
        assert!(Labels::new(None).split(vec![(id(1), 1, ())]).is_none());
        assert_eq!(Labels::new(Some(0)).split(vec![(id(1), 1, 7)]), Some(Split { named: vec![], others: vec![7] }));
    }
}

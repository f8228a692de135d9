//! Look-ups of agents by what they hold themselves, their ids and their tokens. A look-up keeps eight bytes an agent
//! instead of a copy of the key, so that with a hundred thousand agents it still fits into a core's cache.

use std::fmt;
use std::hash::{BuildHasher, Hash};

use foldhash::fast::FixedState;
use hashbrown::HashTable;

/// Places of agents by a key. Who looks one up checks that the agent there is the right one.
#[derive(Default)]
pub struct Slots(HashTable<Entry>);

struct Entry {
    /// Half of the key's hash, so that the table grows without a look at any agent.
    hash: u32,
    slot: u32,
}

/// Half of a key's hash.
fn half(key: &impl Hash) -> u32 {
    FixedState::default().hash_one(key) as u32
}

/// The table wants its bits spread over all of a word.
fn spread(half: u32) -> u64 {
    u64::from(half).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Slots {
    /// The place under that key that `is_it` agrees to.
    pub fn find(&self, key: &impl Hash, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let hash = half(key);
        self.0.find(spread(hash), |entry| entry.hash == hash && is_it(entry.slot)).map(|entry| entry.slot)
    }

    /// Adds a place under a key.
    pub fn insert(&mut self, key: &impl Hash, slot: u32) {
        let hash = half(key);
        self.0.insert_unique(spread(hash), Entry { hash, slot }, |entry| spread(entry.hash));
    }

    /// Takes it out again, once for each time that it was added.
    pub fn remove(&mut self, key: &impl Hash, slot: u32) {
        let hash = half(key);
        if let Ok(entry) = self.0.find_entry(spread(hash), |entry| entry.hash == hash && entry.slot == slot) {
            entry.remove();
        }
    }
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slots({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_place_is_found_under_its_keys_and_under_no_other(
            steps in prop::collection::vec((any::<bool>(), 0u16..200), 0..400),
        ) {
            let (mut slots, mut model) = (Slots::default(), HashSet::new());
            let slot_of = |key: u16| u32::from(key) * 7;
            for (add, key) in steps {
                if add && model.insert(key) {
                    slots.insert(&key, slot_of(key));
                } else if !add && model.remove(&key) {
                    slots.remove(&key, slot_of(key));
                }
            }
            for key in 0..200 {
                let found = slots.find(&key, |found| found == slot_of(key));
                prop_assert_eq!(found, model.contains(&key).then_some(slot_of(key)));
            }
            prop_assert_eq!(slots.0.len(), model.len());
        }
    }

    #[test]
    fn two_agents_whose_keys_have_one_hash_are_told_apart() {
        let mut slots = Slots::default();
        for slot in [3, 4] {
            slots.insert(&"key", slot);
        }
        assert_eq!(slots.find(&"key", |slot| slot == 4), Some(4));
        slots.remove(&"key", 4);
        assert_eq!((slots.find(&"key", |slot| slot == 3), slots.find(&"key", |slot| slot == 4)), (Some(3), None));
    }
}

//! Finds things of a list by a key that they hold, such as agents by id and by token. A lookup keeps eight bytes per
//! thing and no copy of the key. So the lookup for a hundred thousand agents still fits in a core's cache.

use std::fmt;
use std::hash::{BuildHasher, Hash};

use foldhash::fast::FixedState;
use hashbrown::HashTable;

/// Slots by the hash of a key. Callers check that the slot holds the right thing.
#[derive(Default)]
pub struct SlotLookup(HashTable<SlotEntry>);

struct SlotEntry {
    /// Half of the key's hash. Kept so that the table can grow without reading what the slots hold.
    hash: u32,
    slot: u32,
}

/// Half of the key's hash.
fn half(key: &impl Hash) -> u32 {
    FixedState::default().hash_one(key) as u32
}

/// Spreads the bits over a whole word, as the hash table expects.
fn spread(half: u32) -> u64 {
    u64::from(half).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl SlotLookup {
    /// The slot under `key` that `is_it` accepts.
    pub fn find(&self, key: &impl Hash, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let hash = half(key);
        self.0.find(spread(hash), |entry| entry.hash == hash && is_it(entry.slot)).map(|entry| entry.slot)
    }

    /// Adds a slot under `key`.
    pub fn insert(&mut self, key: &impl Hash, slot: u32) {
        let hash = half(key);
        self.0.insert_unique(spread(hash), SlotEntry { hash, slot }, |entry| spread(entry.hash));
    }

    /// Removes one entry for `slot` under `key`, even if it was added more than once.
    pub fn remove(&mut self, key: &impl Hash, slot: u32) {
        let hash = half(key);
        if let Ok(entry) = self.0.find_entry(spread(hash), |entry| entry.hash == hash && entry.slot == slot) {
            entry.remove();
        }
    }
}

impl fmt::Debug for SlotLookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SlotLookup({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_slot_is_found_under_its_keys_and_under_no_other(
            steps in prop::collection::vec((any::<bool>(), 0u16..200), 0..400),
        ) {
            let (mut lookup, mut model) = (SlotLookup::default(), HashSet::new());
            let slot_of = |key: u16| u32::from(key) * 7;
            for (add, key) in steps {
                if add && model.insert(key) {
                    lookup.insert(&key, slot_of(key));
                } else if !add && model.remove(&key) {
                    lookup.remove(&key, slot_of(key));
                }
            }
            for key in 0..200 {
                let found = lookup.find(&key, |found| found == slot_of(key));
                prop_assert_eq!(found, model.contains(&key).then_some(slot_of(key)));
            }
            prop_assert_eq!(lookup.0.len(), model.len());
        }
    }

    #[test]
    fn two_slots_with_one_hash_are_kept_apart() {
        let mut lookup = SlotLookup::default();
        for slot in [3, 4] {
            lookup.insert(&"key", slot);
        }
        assert_eq!(lookup.find(&"key", |slot| slot == 4), Some(4));
        lookup.remove(&"key", 4);
        assert_eq!((lookup.find(&"key", |slot| slot == 3), lookup.find(&"key", |slot| slot == 4)), (Some(3), None));
    }
}

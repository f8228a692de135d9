//! The keys that a tenant remembers, in the order of their events, and a look-up of them.
//!
//! A snapshot copies the state on the thread of its tenant, so the keys lie in chunks that copies share: a copy of all
//! takes a microsecond, and the next key after it copies one chunk. A key takes 40 bytes, and about 16 in the look-up.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::idempotency::key::UsedKey;
use crate::limits::{KEY_LIFETIME_MS, MAX_REMEMBERED_KEYS};
use crate::slot_lookup::SlotLookup;
use crate::time::Timestamp;

/// Keys of a chunk: 20 KB.
const CHUNK: usize = 512;

/// Old keys that one event forgets at most. An event adds at most one, so they get fewer, and no event after a quiet day
/// has to forget all.
const MOST_FORGOTTEN: usize = 16;

/// A key that was used, and the event that its request made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RememberedKey {
    /// The key.
    pub key: UsedKey,
    /// Number of the event.
    pub seq: u64,
    /// Time of the event.
    pub at: Timestamp,
}

impl RememberedKey {
    /// Whether an event at that time, or later, may use the key anew.
    pub fn is_old(&self, at: Timestamp) -> bool {
        self.at.millis().saturating_add(KEY_LIFETIME_MS) <= at.millis()
    }
}

/// The keys that a tenant remembers, oldest first.
#[derive(Clone, Default)]
pub struct KeyMemory {
    /// All are full but the last.
    chunks: VecDeque<Arc<Vec<RememberedKey>>>,
    /// How many of the first chunk are forgotten.
    forgotten: usize,
}

impl KeyMemory {
    /// Whether it remembers none.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// How many it remembers.
    pub fn len(&self) -> usize {
        let last = self.chunks.back().map_or(0, |chunk| chunk.len());
        (self.chunks.len().saturating_sub(1) * CHUNK + last).saturating_sub(self.forgotten)
    }

    /// The key at that place, counted from the oldest.
    fn get(&self, place: usize) -> Option<&RememberedKey> {
        let place = place.checked_add(self.forgotten)?;
        self.chunks.get(place / CHUNK)?.get(place % CHUNK)
    }

    /// All of them, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &RememberedKey> {
        self.chunks.iter().flat_map(|chunk| chunk.iter()).skip(self.forgotten)
    }

    fn push(&mut self, key: RememberedKey) {
        match self.chunks.back_mut() {
            Some(last) if last.len() < CHUNK => Arc::make_mut(last).push(key),
            _ => self.chunks.push_back(Arc::new(vec![key])),
        }
    }

    fn pop(&mut self) -> Option<RememberedKey> {
        let first = self.chunks.front()?;
        let oldest = first.get(self.forgotten).copied();
        self.forgotten += 1;
        if self.forgotten >= first.len() {
            self.chunks.pop_front();
            self.forgotten = 0;
        }
        oldest
    }

    /// Checks that events up to that number and time can have made it.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(crate) fn validate(&self, seq: u64, at: Timestamp) -> Result<(), String> {
        let is_in_order = |before: &RememberedKey, key: &RememberedKey| before.seq < key.seq && before.at <= key.at;
        let ends_in_time = self.iter().last().is_none_or(|last| last.seq <= seq && last.at <= at);
        if !ends_in_time || !self.iter().is_sorted_by(|before, key| is_in_order(before, key)) {
            return Err("the used keys are not in the order of their events".to_owned());
        }
        if self.len() > MAX_REMEMBERED_KEYS {
            return Err(format!("it remembers {} used keys", self.len()));
        }
        Ok(())
    }
}

/// Two are equal if they remember the same keys, however these are split.
impl PartialEq for KeyMemory {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl fmt::Debug for KeyMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Serialize for KeyMemory {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.len()))?;
        self.iter().try_for_each(|key| list.serialize_element(key))?;
        list.end()
    }
}

impl<'de> Deserialize<'de> for KeyMemory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> de::Visitor<'de> for List {
            type Value = KeyMemory;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of used keys")
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<KeyMemory, A::Error> {
                let mut memory = KeyMemory::default();
                while let Some(key) = list.next_element()? {
                    memory.push(key);
                }
                Ok(memory)
            }
        }
        deserializer.deserialize_seq(List)
    }
}

/// Finds a key in the memory. It is no part of the state: it is built from the memory at a restart.
#[derive(Debug, Default)]
pub struct KeyIndex {
    /// Keys by their hash. The slot is the key's number, which goes on from key to key and around.
    lookup: SlotLookup,
    /// The oldest key's number.
    first: u32,
}

impl KeyIndex {
    /// The index of all keys of a memory.
    pub fn build(memory: &KeyMemory) -> Self {
        let mut index = Self::default();
        for (key, number) in memory.iter().zip(0..) {
            index.add(memory, &key.key, number);
        }
        index
    }

    /// The newest use of the key.
    pub fn find<'m>(&self, memory: &'m KeyMemory, key: &UsedKey) -> Option<&'m RememberedKey> {
        memory.get(self.place(self.number_of(memory, key)?))
    }

    fn number_of(&self, memory: &KeyMemory, key: &UsedKey) -> Option<u32> {
        let is_it = |number| memory.get(self.place(number)).is_some_and(|known| known.key.hash() == key.hash());
        self.lookup.find(&key.hash(), is_it)
    }

    fn place(&self, number: u32) -> usize {
        number.wrapping_sub(self.first) as usize
    }

    fn add(&mut self, memory: &KeyMemory, key: &UsedKey, number: u32) {
        // An older use is past its time, or nothing came of it: else the key would not have been used anew. It may be
        // remembered for a while.
        if let Some(older) = self.number_of(memory, key) {
            self.lookup.remove(&key.hash(), older);
        }
        self.lookup.insert(&key.hash(), number);
    }

    /// Remembers a key. If there are too many, forgets the oldest.
    pub fn remember(&mut self, memory: &mut KeyMemory, key: RememberedKey) {
        // The memory is far smaller than all numbers.
        let number = self.first.wrapping_add(memory.len() as u32);
        self.add(memory, &key.key, number);
        memory.push(key);
        if memory.len() > MAX_REMEMBERED_KEYS {
            self.forget_oldest(memory);
        }
    }

    /// Forgets keys that are past their time, a few at most.
    pub fn forget_old(&mut self, memory: &mut KeyMemory, at: Timestamp) {
        for _ in 0..MOST_FORGOTTEN {
            if memory.get(0).is_none_or(|oldest| !oldest.is_old(at)) {
                return;
            }
            self.forget_oldest(memory);
        }
    }

    fn forget_oldest(&mut self, memory: &mut KeyMemory) {
        if let Some(oldest) = memory.pop() {
            self.lookup.remove(&oldest.key.hash(), self.first);
            self.first = self.first.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::idempotency::key::{IdempotencyKey, KeyOwner, RequestKey};

    fn key(number: usize, ms: i64) -> RememberedKey {
        let text = IdempotencyKey::parse("key", &format!("k{number}")).unwrap();
        let key = RequestKey::new(text, &[]).used_by(KeyOwner::Operators);
        RememberedKey { key, seq: number as u64 + 1, at: Timestamp::from_millis(ms) }
    }

    #[test]
    fn the_oldest_keys_leave_when_there_are_too_many() {
        let (mut memory, mut index) = (KeyMemory::default(), KeyIndex::default());
        let most = MAX_REMEMBERED_KEYS;
        // The numbers go around while it fills.
        index.first = u32::MAX - 10;
        for number in 0..most + 700 {
            index.remember(&mut memory, key(number, number as i64));
            assert_eq!(memory.len(), most.min(number + 1));
        }
        for number in [0, 1, 699, 700, 701, 1_000, most, most + 699] {
            let wanted = (number >= 700).then(|| key(number, number as i64));
            assert_eq!(index.find(&memory, &key(number, 0).key), wanted.as_ref(), "{number}");
        }
        memory.validate(most as u64 + 700, Timestamp::from_millis(most as i64 + 700)).unwrap();
        let bytes = rmp_serde::to_vec_named(&memory).unwrap();
        let read: KeyMemory = rmp_serde::from_slice(&bytes).unwrap();
        assert_eq!(read, memory);
        let rebuilt = KeyIndex::build(&read);
        assert_eq!(rebuilt.find(&read, &key(700, 0).key), Some(&key(700, 700)));
        assert_eq!(rebuilt.find(&read, &key(699, 0).key), None);
        assert!(bytes.len() / most < 60, "{} bytes for each in a snapshot", bytes.len() / most);
    }

    #[test]
    fn a_copy_shares_the_chunks() {
        let (mut memory, mut index) = (KeyMemory::default(), KeyIndex::default());
        for number in 0..10 * CHUNK + 7 {
            index.remember(&mut memory, key(number, 0));
        }
        let copy = memory.clone();
        index.remember(&mut memory, key(10 * CHUNK + 7, 0));
        let shared = memory.chunks.iter().zip(&copy.chunks).filter(|(one, other)| Arc::ptr_eq(one, other)).count();
        assert_eq!((shared, memory.chunks.len()), (10, 11));
        assert_eq!((copy.len() + 1, copy.iter().count()), (memory.len(), copy.len()));
        assert_ne!(copy, memory);
    }

    #[test]
    fn a_key_takes_less_than_80_bytes() {
        // The table behind the look-up is at least three eighths full when it has grown, and has a byte beside each slot.
        assert!(size_of::<RememberedKey>() + 9 * 8 / 3 <= 80);
    }

    #[test]
    fn old_keys_leave_a_few_at_a_time() {
        let (mut memory, mut index) = (KeyMemory::default(), KeyIndex::default());
        for number in 0..40 {
            index.remember(&mut memory, key(number, 5));
        }
        let day = |ms| Timestamp::from_millis(KEY_LIFETIME_MS + ms);
        index.forget_old(&mut memory, day(4));
        assert_eq!(memory.len(), 40);
        index.forget_old(&mut memory, day(5));
        assert_eq!(memory.len(), 40 - MOST_FORGOTTEN);
        // One that is still there, past its time, is used anew and found, also when the old use leaves.
        let again = RememberedKey { seq: 99, ..key(30, KEY_LIFETIME_MS + 5) };
        index.remember(&mut memory, again);
        for _ in 0..3 {
            index.forget_old(&mut memory, day(5));
            assert_eq!(index.find(&memory, &again.key), Some(&again));
        }
        assert_eq!((memory.len(), memory.is_empty()), (1, false));
        index.forget_old(&mut memory, Timestamp::from_millis(2 * KEY_LIFETIME_MS + 5));
        assert!(memory.is_empty());
        assert_eq!(index.find(&memory, &again.key), None);
    }
}

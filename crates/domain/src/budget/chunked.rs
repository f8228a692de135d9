//! A long list of numbered things in pieces.
//!
//! A snapshot copies the state while its tenant waits. Copies share the pieces, so copying a hundred thousand holds takes
//! as long as copying a thousand pointers; a later change copies the one piece it is in.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Things in one piece: a change after a copy moves a few kilobytes.
const PIECE: usize = 128;

/// Something with a number of its own that never changes.
pub trait Numbered {
    /// Its number.
    fn number(&self) -> u64;
}

/// A list in ascending order of its numbers.
#[derive(Clone, Debug)]
pub struct Chunked<T> {
    /// None is empty.
    pieces: Vec<Arc<Vec<T>>>,
    len: usize,
}

impl<T> Default for Chunked<T> {
    fn default() -> Self {
        Self { pieces: Vec::new(), len: 0 }
    }
}

/// Where the pieces begin depends on what was removed before, and means nothing.
impl<T: PartialEq> PartialEq for Chunked<T> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<T> Chunked<T> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.pieces.iter().flat_map(|piece| piece.iter())
    }
}

impl<T: Numbered + Clone> Chunked<T> {
    /// The piece and the place in it of that number.
    fn find(&self, number: u64) -> Option<(usize, usize)> {
        let piece = self.pieces.partition_point(|piece| piece.last().is_some_and(|last| last.number() < number));
        let at = self.pieces.get(piece)?.binary_search_by_key(&number, T::number).ok()?;
        Some((piece, at))
    }

    /// The one with that number.
    pub fn get(&self, number: u64) -> Option<&T> {
        let (piece, at) = self.find(number)?;
        self.pieces.get(piece)?.get(at)
    }

    /// Changes the one with that number, which keeps its number.
    pub fn change(&mut self, number: u64, change: impl FnOnce(&mut T)) {
        let Some((piece, at)) = self.find(number) else { return };
        if let Some(item) = self.pieces.get_mut(piece).and_then(|piece| Arc::make_mut(piece).get_mut(at)) {
            change(item);
        }
    }

    /// Changes all of them. They keep their numbers.
    pub fn change_all(&mut self, mut change: impl FnMut(&mut T)) {
        for piece in &mut self.pieces {
            Arc::make_mut(piece).iter_mut().for_each(&mut change);
        }
    }

    /// Adds one past all others; any other is refused.
    pub fn push(&mut self, item: T) -> bool {
        let last = self.pieces.last_mut();
        if last.as_ref().and_then(|piece| piece.last()).is_some_and(|last| last.number() >= item.number()) {
            return false;
        }
        match last.filter(|piece| piece.len() < PIECE) {
            Some(piece) => Arc::make_mut(piece).push(item),
            None => self.pieces.push(Arc::new(vec![item])),
        }
        self.len += 1;
        true
    }

    /// Takes out the one with that number.
    pub fn remove(&mut self, number: u64) -> Option<T> {
        let (place, at) = self.find(number)?;
        let piece = Arc::make_mut(self.pieces.get_mut(place)?);
        let item = piece.remove(at);
        self.len -= 1;
        if piece.is_empty() {
            self.pieces.remove(place);
        }
        // Two neighbours never hold fewer than half of a piece, so the number of pieces follows that of things.
        for first in [place, place.saturating_sub(1)] {
            if let Some([one, next]) = self.pieces.get_mut(first..first + 2)
                && one.len() + next.len() <= PIECE / 2
            {
                Arc::make_mut(one).extend(next.iter().cloned());
                self.pieces.remove(first + 1);
            }
        }
        Some(item)
    }

    /// Takes out the first one.
    pub fn pop_first(&mut self) -> Option<T> {
        let first = self.iter().next()?.number();
        self.remove(first)
    }
}

impl<T: Serialize> Serialize for Chunked<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeSeq;
        let mut list = serializer.serialize_seq(Some(self.len))?;
        self.iter().try_for_each(|item| list.serialize_element(item))?;
        list.end()
    }
}

impl<'de, T: Deserialize<'de> + Numbered + Clone> Deserialize<'de> for Chunked<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut list = Self::default();
        for item in Vec::<T>::deserialize(deserializer)? {
            if !list.push(item) {
                return Err(de::Error::custom("a list is not in ascending order"));
            }
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    impl Numbered for (u64, u8) {
        fn number(&self) -> u64 {
            self.0
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(u64),
        Remove(prop::sample::Index),
        PopFirst,
        Change(prop::sample::Index),
        ChangeAll,
        Copy,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            12 => (0..3u64).prop_map(Step::Push),
            8 => any::<prop::sample::Index>().prop_map(Step::Remove),
            2 => Just(Step::PopFirst),
            2 => any::<prop::sample::Index>().prop_map(Step::Change),
            1 => Just(Step::ChangeAll),
            1 => Just(Step::Copy),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn it_does_what_a_sorted_map_does(fill in 0..600u64, steps in prop::collection::vec(step(), 0..600)) {
            let mut list: Chunked<(u64, u8)> = (0..fill).fold(Chunked::default(), |mut list, number| {
                assert!(list.push((number, 0)));
                list
            });
            let mut map: BTreeMap<u64, u8> = (0..fill).map(|number| (number, 0)).collect();
            let mut copies = Vec::new();
            let chosen = |map: &BTreeMap<u64, u8>, index: prop::sample::Index| {
                // Often one that is not there.
                index.index(map.last_key_value().map_or(1, |(last, _)| *last as usize + 2)) as u64
            };
            for step in steps {
                match step {
                    Step::Push(gap) => {
                        let last = map.last_key_value().map(|(last, _)| *last);
                        let number = last.map_or(gap, |last| last + gap);
                        let fits = last.is_none_or(|last| number > last);
                        prop_assert_eq!(list.push((number, 1)), fits);
                        map.entry(number).or_insert(1);
                    }
                    Step::Remove(index) => {
                        let number = chosen(&map, index);
                        prop_assert_eq!(list.remove(number), map.remove(&number).map(|value| (number, value)));
                    }
                    Step::PopFirst => prop_assert_eq!(list.pop_first(), map.pop_first()),
                    Step::Change(index) => {
                        let number = chosen(&map, index);
                        list.change(number, |item| item.1 = 7);
                        map.entry(number).and_modify(|value| *value = 7);
                    }
                    Step::ChangeAll => {
                        list.change_all(|item| item.1 = 9);
                        map.values_mut().for_each(|value| *value = 9);
                    }
                    Step::Copy => copies.push((list.clone(), map.clone())),
                }
                prop_assert!(list.pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= PIECE));
                prop_assert!(list.pieces.windows(2).all(|two| two[0].len() + two[1].len() > PIECE / 2));
            }
            copies.push((list, map));
            for (list, map) in copies {
                prop_assert_eq!(list.len(), map.len());
                prop_assert!(list.iter().copied().eq(map.iter().map(|(number, value)| (*number, *value))));
                let middle = map.keys().nth(map.len() / 2).copied().unwrap_or(3);
                prop_assert_eq!(list.get(middle).map(|item| item.1), map.get(&middle).copied());
                let read: Chunked<(u64, u8)> = serde_json::from_str(&serde_json::to_string(&list).unwrap()).unwrap();
                prop_assert_eq!(read, list);
            }
        }
    }

    #[test]
    fn a_list_out_of_order_is_refused() {
        assert!(serde_json::from_str::<Chunked<(u64, u8)>>("[[1,0],[1,0]]").is_err());
        assert!(serde_json::from_str::<Chunked<(u64, u8)>>("[[2,0],[1,0]]").is_err());
    }
}

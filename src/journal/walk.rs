//! Reading a journal forward in steps, so that whoever reads may stop, let others go first, and read on.

use std::io;

use super::reader::{JournalReader, Loaded};

/// A place in a [`JournalReader`]'s view, and the way on from there. It holds no thread, and one segment in memory
/// at most.
pub struct Walk {
    reader: JournalReader,
    /// The event that comes next, if it is there.
    next_seq: u64,
    /// The piece after the one in memory.
    next_piece: usize,
    loaded: Option<Loaded>,
    /// The next of its events.
    next_event: usize,
}

impl JournalReader {
    /// The way from event `from_seq` to the end of this view, the oldest first.
    pub fn walk(&self, from_seq: u64) -> Walk {
        let next_piece = self.piece_of(from_seq);
        Walk { reader: self.clone(), next_seq: from_seq, next_piece, loaded: None, next_event: 0 }
    }

    /// The first event that is `late`, where no event after a late one is not; one past the end where none is.
    /// Blocking; reads a few segments, however many there are.
    pub fn first_late(&self, late: &mut dyn FnMut(&[u8]) -> io::Result<bool>) -> io::Result<u64> {
        // Pieces before `low` begin with an event that is not late, pieces from `high` on with one that is.
        let (mut low, mut high) = (0, self.pieces());
        while low < high {
            let middle = low + (high - low) / 2;
            let begins_late = match self.load_piece(middle)? {
                Some(loaded) => match loaded.events.first() {
                    Some((_, place)) => late(loaded.payload(place))?,
                    None => false,
                },
                // What retention removed is older than what it left.
                None => false,
            };
            if begins_late {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        // The last piece that does not begin late may end late.
        if let Some(before) = low.checked_sub(1)
            && let Some(loaded) = self.load_piece(before)?
        {
            for (seq, place) in &loaded.events {
                if late(loaded.payload(place))? {
                    return Ok(*seq);
                }
            }
        }
        Ok(self.piece(low).map_or(self.last_seq() + 1, |piece| piece.first_seq))
    }
}

impl Walk {
    /// The next event with its sequence number; `None` at the end of the view. Blocking.
    ///
    /// # Errors
    /// `InvalidData` names the file and the place of damage.
    pub fn step(&mut self) -> io::Result<Option<(u64, &[u8])>> {
        while self.loaded.as_ref().is_none_or(|loaded| self.next_event >= loaded.events.len()) {
            self.loaded = None;
            if self.next_piece >= self.reader.pieces() {
                return Ok(None);
            }
            self.loaded = self.reader.load_piece(self.next_piece)?;
            self.next_piece += 1;
            let wanted = self.next_seq;
            self.next_event =
                self.loaded.as_ref().map_or(0, |loaded| loaded.events.partition_point(|(seq, _)| *seq < wanted));
        }
        let Some(loaded) = &self.loaded else { return Ok(None) };
        let Some((seq, place)) = loaded.events.get(self.next_event) else { return Ok(None) };
        self.next_event += 1;
        self.next_seq = seq + 1;
        Ok(Some((*seq, loaded.payload(place))))
    }

    /// The event that comes next, if it is there.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Gives back the memory until the next step.
    pub fn rest(&mut self) {
        self.loaded = None;
        self.next_piece = self.reader.piece_of(self.next_seq);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{SEVERAL, TENANT, append, fresh, payload, read_all, recovered, several_segments};
    use super::super::writer::JournalOptions;

    #[test]
    fn a_walk_goes_on_where_it_stopped() {
        let (dir, events) = several_segments();
        let (journal, _) = recovered(dir.path(), TENANT, 0).unwrap();
        let reader = journal.reader();
        for from in 0..=SEVERAL + 1 {
            let mut walk = reader.walk(from);
            let mut seen = Vec::new();
            while let Some((seq, payload)) = walk.step().unwrap() {
                seen.push((seq, payload.to_vec()));
                assert_eq!(walk.next_seq(), seq + 1);
                if seq % 3 == 0 {
                    walk.rest();
                }
            }
            let expected: Vec<_> = events.iter().filter(|event| event.0 >= from).cloned().collect();
            assert_eq!(seen, expected, "from {from}");
            assert_eq!(walk.step().unwrap(), None);
        }
    }

    #[test]
    fn the_first_late_event_is_found() {
        let (dir, _) = several_segments();
        let (journal, _) = recovered(dir.path(), TENANT, 0).unwrap();
        let (_large, mut active) = fresh(JournalOptions::default());
        for _ in 0..SEVERAL {
            append(&mut active, 40);
        }
        active.flush().unwrap();
        for reader in [journal.reader(), active.reader()] {
            let number = |bytes: &[u8]| (1..=SEVERAL).find(|seq| payload(*seq, 40) == bytes).unwrap();
            for from in 1..=SEVERAL + 1 {
                assert_eq!(reader.first_late(&mut |bytes| Ok(number(bytes) >= from)).unwrap(), from);
            }
            assert_eq!(read_all(&reader).len() as u64, SEVERAL);
        }
        let (_dir, empty) = fresh(JournalOptions::default());
        assert_eq!(empty.reader().first_late(&mut |_| Ok(true)).unwrap(), 1);
    }
}

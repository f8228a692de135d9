//! Reads a journal forward in steps, so that the reader can stop, let others go first, and continue.

use std::io;

use crate::reader::{JournalReader, LoadedPiece};
use crate::segment::read_header;

/// A position in a [`JournalReader`]'s view that moves forward. It holds no thread, and at most one segment in memory.
pub struct JournalCursor {
    reader: JournalReader,
    /// The next event, if it exists.
    next_seq: u64,
    /// The piece after the one in memory.
    next_piece: usize,
    loaded: Option<LoadedPiece>,
    /// The next of its events.
    next_event: usize,
}

impl JournalReader {
    /// A cursor from event `from_seq` to the end of this view, oldest first.
    pub fn cursor(&self, from_seq: u64) -> JournalCursor {
        let next_piece = self.piece_of(from_seq);
        JournalCursor { reader: self.clone(), next_seq: from_seq, next_piece, loaded: None, next_event: 0 }
    }

    /// The first event that is `late`: of that time (Unix milliseconds) or later. No event after a late one is not; one
    /// past the end where none is. Blocking; reads headers, and a segment or two, however many there are.
    pub fn first_late(&self, time_ms: i64, late: &mut dyn FnMut(&[u8]) -> io::Result<bool>) -> io::Result<u64> {
        let mut low = self.last_begun_before(time_ms)?;
        while low < self.older.len() {
            if let Some(loaded) = self.load_piece(low)?
                && let Some(seq) = first_late_in(&loaded, late)?
            {
                return Ok(seq);
            }
            low += 1;
        }
        // Blocks before `low` begin with an event that is not late, blocks from `high` on with one that is.
        let mut high = self.pieces();
        while low < high {
            let middle = low + (high - low) / 2;
            let begins_late = match self.load_piece(middle)? {
                Some(loaded) => match loaded.events.first() {
                    Some((_, place)) => late(loaded.payload(place))?,
                    None => false,
                },
                None => false,
            };
            if begins_late {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        // The last block that does not begin late may end late.
        if low > self.older.len()
            && let Some(loaded) = self.load_piece(low - 1)?
            && let Some(seq) = first_late_in(&loaded, late)?
        {
            return Ok(seq);
        }
        Ok(self.piece(low).map_or(self.last_seq() + 1, |piece| piece.first_seq))
    }

    /// The last of the segments, oldest first, that was begun before that time, or the first one: no event of those
    /// before it is of that time or later, since a segment is begun after all events before it.
    fn last_begun_before(&self, time_ms: i64) -> io::Result<usize> {
        let (mut low, mut high) = (0, self.older.len() + 1);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            // A segment whose header can't be read is judged by those after it.
            let mut known = (middle, None);
            for at in middle..high {
                known = (at, self.is_begun_before(at, time_ms)?);
                if known.1.is_some() {
                    break;
                }
            }
            match known {
                (at, Some(true)) => low = at,
                (_, Some(false) | None) => high = middle,
            }
        }
        Ok(low)
    }

    /// Whether that segment (the last is the active one) began before that time; `None` if its header can't be read.
    fn is_begun_before(&self, at: usize, time_ms: i64) -> io::Result<Option<bool>> {
        let header = match read_header(&self.folder, self.older.get(at).copied().unwrap_or(self.active)) {
            // What retention removed is older than what it left.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(true)),
            // The system's own errors have a number; the decompressor's have none.
            Err(error) if error.raw_os_error().is_none() => None,
            header => header?,
        };
        Ok(header.map(|header| header.created_ms < time_ms))
    }

    /// Whether a segment begins with event `seq` and was begun before that time (Unix milliseconds), so that no event
    /// before it is of that time or later. Blocking; reads a header.
    pub fn is_older_before(&self, seq: u64, time_ms: i64) -> io::Result<bool> {
        let at = self.older.partition_point(|first| *first < seq);
        let first = self.older.get(at).copied().unwrap_or(self.active);
        Ok(first == seq && self.is_begun_before(at, time_ms)? == Some(true))
    }
}

fn first_late_in(loaded: &LoadedPiece, late: &mut dyn FnMut(&[u8]) -> io::Result<bool>) -> io::Result<Option<u64>> {
    for (seq, place) in &loaded.events {
        if late(loaded.payload(place))? {
            return Ok(Some(*seq));
        }
    }
    Ok(None)
}

impl JournalCursor {
    /// The next event with its sequence number; `None` at the end of the view. Blocking.
    ///
    /// # Errors
    /// `InvalidData` names the file and the byte of the damage.
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

    /// Whether every event in memory was returned, so that a rest costs nothing.
    pub fn is_between_pieces(&self) -> bool {
        self.loaded.as_ref().is_none_or(|loaded| self.next_event >= loaded.events.len())
    }

    /// The next event, if it exists.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Frees the memory until the next step.
    pub fn rest(&mut self) {
        self.loaded = None;
        self.next_piece = self.reader.piece_of(self.next_seq);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::folder::Folder;
    use crate::segment::HEADER;
    use crate::tests::{SEVERAL, TENANT, append, fresh, payload, read_all, recovered, several_segments};
    use crate::writer::JournalOptions;

    #[test]
    fn a_cursor_goes_on_where_it_stopped() {
        let (dir, events) = several_segments();
        let (journal, _) = recovered(dir.path(), TENANT, 0).unwrap();
        let reader = journal.reader();
        for from in 0..=SEVERAL + 1 {
            let mut cursor = reader.cursor(from);
            let mut seen = Vec::new();
            while let Some((seq, payload)) = cursor.step().unwrap() {
                seen.push((seq, payload.to_vec()));
                assert_eq!(cursor.next_seq(), seq + 1);
                if seq % 3 == 0 {
                    cursor.rest();
                }
            }
            let expected: Vec<_> = events.iter().filter(|event| event.0 >= from).cloned().collect();
            assert_eq!(seen, expected, "from {from}");
            assert_eq!(cursor.step().unwrap(), None);
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
                let time = from as i64 - 1;
                assert_eq!(reader.first_late(time, &mut |bytes| Ok(number(bytes) >= from)).unwrap(), from);
            }
            assert_eq!(read_all(&reader).len() as u64, SEVERAL);
        }
        let (_dir, empty) = fresh(JournalOptions::default());
        assert_eq!(empty.reader().first_late(0, &mut |_| Ok(true)).unwrap(), 1);
    }

    #[test]
    fn a_start_is_found_past_segments_that_are_damaged_or_gone() {
        let (dir, _) = several_segments();
        let (journal, _) = recovered(dir.path(), TENANT, 0).unwrap();
        let reader = journal.reader();
        let segments = Folder::open(dir.path()).unwrap().list().unwrap().segments;
        assert!(segments.len() > 4 && segments[1].compressed && segments[3].raw);
        // Their headers are as they were, but for one.
        let folder = Folder::open(dir.path()).unwrap();
        for (entry, upto) in [(segments[1], 0), (segments[2], HEADER)] {
            let path = folder.current(entry);
            let bytes = fs::read(&path).unwrap();
            fs::write(&path, &bytes[..bytes.len().min(upto)]).unwrap();
        }
        fs::remove_file(folder.current(segments[0])).unwrap();
        let number = |bytes: &[u8]| (1..=SEVERAL).find(|seq| payload(*seq, 40) == bytes).unwrap();
        // From the first event whose segment was begun after a whole one.
        for from in segments[3].first_seq + 1..=SEVERAL + 1 {
            let time = from as i64 - 1;
            let found = reader.first_late(time, &mut |bytes| Ok(number(bytes) >= from));
            assert_eq!(found.unwrap(), from);
        }
        let last = segments.last().unwrap().first_seq;
        assert!(reader.is_older_before(last, SEVERAL as i64).unwrap());
        assert!(!reader.is_older_before(last, 0).unwrap());
        assert!(!reader.is_older_before(last + 1, SEVERAL as i64).unwrap(), "no segment begins there");
    }
}

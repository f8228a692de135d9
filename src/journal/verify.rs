//! Checking the hash chain from end to end.

use std::io;
use std::os::unix::fs::FileExt;

use super::chain::{Chain, Checkpoint, genesis};
use super::error::invalid;
use super::frame::{self, Frame};
use super::reader::JournalReader;
use super::segment::{HEADER, Header};

impl JournalReader {
    /// Computes every link anew and returns the newest. Whoever kept a [`Checkpoint`] elsewhere compares it
    /// with `checkpoints`' answers; an edited journal differs or is an `InvalidData` error that names the
    /// place. The first segment that retention left is taken at its header's word. Blocking, reads everything.
    pub fn verify(&self) -> io::Result<Checkpoint> {
        self.checkpoints(&mut |_| {})
    }

    /// [`verify`](JournalReader::verify) that calls `each` with every link on the way, the oldest first.
    pub fn checkpoints(&self, each: &mut dyn FnMut(Checkpoint)) -> io::Result<Checkpoint> {
        let mut chain: Option<Chain> = None;
        let firsts = self.older.iter().copied().chain([self.active.first_seq]);
        for (at, first_seq) in firsts.enumerate() {
            let bytes = if at < self.older.len() {
                match self.read_older(at, first_seq)? {
                    Some(bytes) => bytes,
                    None => continue,
                }
            } else {
                let mut bytes = vec![0; self.end as usize];
                self.active.file().read_exact_at(&mut bytes, 0)?;
                bytes
            };
            let fault = |offset: usize, detail: &str| invalid(&self.folder.raw(first_seq), offset as u64, detail);
            let header = Header::decode(&bytes).map_err(|_| fault(0, "the header is torn"))?;
            let previous = match &chain {
                Some(chain) => chain.link().hash,
                None if first_seq == 1 => genesis(self.tenant),
                None => header.previous,
            };
            let follows = chain.as_ref().is_none_or(|c| c.link().seq + 1 == first_seq);
            if header.previous != previous || !follows {
                return Err(fault(0, "the segment does not continue the hash chain"));
            }
            let mut links = chain.unwrap_or_else(|| {
                Chain::resume(Checkpoint {
                    seq: first_seq.saturating_sub(1),
                    hash: previous,
                    time_ms: header.created_ms,
                })
            });
            let mut position = HEADER;
            let mut seq = first_seq.saturating_sub(1);
            while let Some(rest) = bytes.get(position..).filter(|rest| !rest.is_empty()) {
                let (frame, length) = frame::parse(rest).map_err(|e| fault(position, e))?;
                match frame {
                    Frame::Event { seq: found, .. } if found != seq + 1 => {
                        return Err(fault(position, "an event is missing"));
                    }
                    Frame::Event { .. } => {
                        links.extend(rest.get(..length).unwrap_or_default());
                        seq += 1;
                    }
                    Frame::Marker(marker) if marker.hash != links.next_hash() => {
                        return Err(fault(position, "the hash chain is broken"));
                    }
                    Frame::Marker(marker) => {
                        let link = Checkpoint { seq, hash: marker.hash, time_ms: marker.time_ms };
                        each(link);
                        links = Chain::resume(link);
                    }
                }
                position += length;
            }
            chain = Some(links);
        }
        chain.map(|chain| chain.link()).ok_or_else(|| invalid(&self.folder.path, 0, "there is no journal segment"))
    }
}

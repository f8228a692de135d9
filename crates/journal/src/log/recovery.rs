//! Reads the log after a crash.
//!
//! Each batch has a position, and positions have no gaps. The chain starts at the highest floor that any batch names,
//! and ends before the first batch that is missing or bad. That is a torn end, unless a batch says that the position was
//! certainly on disk: then it is damage, and costs only the tenants that had events there. Each start goes on in a new
//! segment of a higher number. So where two batches have one position, the one of the later segment counts, and a batch
//! of an earlier segment never follows one of a later.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;

use super::batch::{self, BatchHead, Floor, check_frames};
use super::error::LogError;
use super::manifest::LogId;
use super::slot::{HEADER, SharedSlot};
use super::tail::{LogPlace, LostEvents, Tail, check};
use memchr::memmem;

/// The floor of a log that has no batch yet.
pub(super) const FIRST: Floor = Floor { position: 1, segment: 1 };

/// What a start or a reopening knows already.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KnownProgress {
    /// The last batch that is on disk for certain.
    pub synced: u64,
    /// The first batch that is needed.
    pub floor: Floor,
}

/// What the log's files hold.
#[derive(Debug)]
pub(super) struct Recovered {
    /// The batches that count, oldest first.
    pub chain: Vec<ChainBatch>,
    /// The first batch that recovery needs.
    pub floor: Floor,
    /// The floor that batches of the chain name.
    pub chain_floor: Floor,
    /// The last batch on disk for certain.
    pub certain: u64,
    /// The highest number of a segment in any slot.
    pub last_segment: u64,
    /// The last position of any batch in each slot, whether it counts or not.
    pub slot_ends: HashMap<u32, u64>,
    pub tails: HashMap<[u8; 16], Tail>,
}

/// A batch of the chain and where it lies.
#[derive(Clone, Debug)]
pub(super) struct ChainBatch {
    /// The index of its slot in the list.
    pub at: usize,
    pub offset: u64,
    pub length: usize,
    pub head: BatchHead,
    /// Its bytes as they were read, if they may not be on disk. After a failed sync the kernel may drop them at any time.
    pub unsynced: Vec<u8>,
}

impl Recovered {
    /// The position that the next batch gets.
    pub fn next_position(&self) -> u64 {
        self.chain.last().map_or(self.floor.position, |last| last.head.position + 1)
    }
}

/// Reads all slots. Changes nothing. Blocking.
pub(super) fn read(slots: &[SharedSlot], id: LogId, known: KnownProgress) -> Result<Recovered, LogError> {
    let mut found = Vec::new();
    for (at, slot) in slots.iter().enumerate() {
        let bytes = slot.read().map_err(LogError::io(&slot.path))?;
        find_batches(&bytes, id, at, &mut found);
    }
    let floor = found.iter().map(|batch| batch.head.floor).fold(known.floor.max(FIRST), Floor::max);
    let certain = found.iter().map(|batch| batch.head.synced).fold(known.synced, u64::max);
    let last_segment = found.iter().map(|batch| batch.head.segment).max().unwrap_or(0);
    let mut slot_ends = HashMap::new();
    for batch in &found {
        if let Some(slot) = slots.get(batch.at) {
            let end = slot_ends.entry(slot.number).or_insert(0);
            *end = batch.head.position.max(*end);
        }
    }
    let mut latest: BTreeMap<u64, ChainBatch> = BTreeMap::new();
    for batch in found.into_iter().filter(|batch| batch.head.position >= floor.position) {
        let slot = latest.entry(batch.head.position);
        slot.and_modify(|other| {
            if other.head.segment < batch.head.segment {
                *other = batch.clone();
            }
        })
        .or_insert(batch);
    }
    let mut reading = Reading { slots, id, certain, open: None, tails: HashMap::new() };
    let chain = reading.chain(floor, latest)?;
    let tails = reading.tails;
    let chain_floor = chain.iter().map(|batch| batch.head.floor).max().unwrap_or_default().max(known.floor);
    Ok(Recovered { chain, floor, chain_floor, certain, last_segment, slot_ends, tails })
}

/// All batches with good heads in a slot, also those that no longer count.
pub(super) fn find_batches(bytes: &[u8], id: LogId, at: usize, found: &mut Vec<ChainBatch>) {
    let finder = memmem::Finder::new(&batch::MAGIC);
    let mut offset = HEADER as usize;
    while let Some(next) = finder.find(bytes.get(offset..).unwrap_or_default()) {
        offset += next;
        let rest = bytes.get(offset..).unwrap_or_default();
        match batch::parse(rest, id).filter(|batch| batch.length <= rest.len()) {
            Some(batch) => {
                let (length, head) = (batch.length, batch.head);
                let found_here = ChainBatch { at, offset: offset as u64, length, head, unsynced: Vec::new() };
                let is_whole =
                    sections_of(&found_here, bytes).all(|(section, frames, _)| check_frames(section, frames).is_ok());
                found.push(found_here);
                // Where frames are bad, later batches may have been written over them.
                offset += if is_whole { length } else { 1 };
            }
            None => offset += 1,
        }
    }
}

struct Reading<'a> {
    slots: &'a [SharedSlot],
    id: LogId,
    certain: u64,
    /// The content of the slot read last.
    open: Option<(usize, Vec<u8>)>,
    tails: HashMap<[u8; 16], Tail>,
}

impl Reading<'_> {
    fn chain(&mut self, floor: Floor, mut latest: BTreeMap<u64, ChainBatch>) -> Result<Vec<ChainBatch>, LogError> {
        let mut chain: Vec<ChainBatch> = Vec::new();
        let mut position = floor.position;
        loop {
            let segment = chain.last().map_or(floor.segment, |last| last.head.segment);
            match latest.remove(&position).filter(|batch| batch.head.segment >= segment) {
                Some(mut batch) => {
                    if !self.take(&mut batch)? {
                        self.say_cut(&batch);
                        break;
                    }
                    chain.push(batch);
                }
                None if position <= self.certain => {
                    let place = self.place_after(chain.last());
                    // A later batch may name those that had events here.
                    let next = latest.range(position + 1..).next().map(|(_, next)| &next.head);
                    let Some(next) = next.filter(|next| next.previous_from <= position) else {
                        let detail = format!("batch {position} can't be read, and no later one says what was in it");
                        return Err(LogError::damaged(&place.file, place.offset, detail));
                    };
                    for last in next.previous.clone() {
                        let detail = format!("batch {position} can't be read");
                        let lost = LostEvents { last_seq: last.seq, place: place.clone(), detail };
                        self.tails.entry(last.tenant).or_default().push_lost(lost);
                    }
                }
                None => break,
            }
            position += 1;
        }
        Ok(chain)
    }

    /// Takes the events of a batch. `false` if it is torn.
    fn take(&mut self, batch: &mut ChainBatch) -> Result<bool, LogError> {
        let Some(slot) = self.slots.get(batch.at) else { return Ok(false) };
        if self.open.as_ref().is_none_or(|(at, _)| *at != batch.at) {
            self.open = Some((batch.at, slot.read().map_err(LogError::io(&slot.path))?));
        }
        let Some((_, bytes)) = &self.open else { return Ok(false) };
        if batch.head.position > self.certain {
            let start = batch.offset as usize;
            let own = bytes.get(start..start + batch.length).unwrap_or_default();
            let is_same = batch::parse(own, self.id).is_some_and(|read| read.head == batch.head);
            let is_bad = |(section, frames, at): (&_, &[u8], u64)| check(section, frames, &slot.path, at).is_err();
            if !is_same || sections_of(batch, bytes).any(is_bad) {
                return Ok(false);
            }
            batch.unsynced = own.to_vec();
        }
        for (section, frames, offset) in sections_of(batch, bytes) {
            let tail = self.tails.entry(section.tenant).or_default();
            tail.add(section, frames, &slot.path, offset, batch.head.position);
        }
        Ok(true)
    }

    fn place_after(&self, last: Option<&ChainBatch>) -> LogPlace {
        let (at, offset) = last.map_or((0, HEADER), |last| (last.at, last.offset + last.length as u64));
        LogPlace { file: self.slots.get(at).map(|slot| slot.path.clone()).unwrap_or_default(), offset }
    }

    fn say_cut(&self, batch: &ChainBatch) {
        let file = self.slots.get(batch.at).map(|slot| slot.path.as_path()).unwrap_or(Path::new(""));
        tracing::warn!(
            file = %file.display(),
            offset = batch.offset,
            "leaving out the torn end of the log, which was never reported as synced"
        );
    }
}

/// Each section of a batch with its frames and where in the slot they start. `bytes` is the content of the slot.
pub(super) fn sections_of<'a>(
    batch: &'a ChainBatch,
    bytes: &'a [u8],
) -> impl Iterator<Item = (&'a batch::Section, &'a [u8], u64)> + Clone {
    let frames: u64 = batch.head.sections.iter().map(|section| u64::from(section.length)).sum();
    let mut at = (batch.offset + batch.length as u64).saturating_sub(frames);
    batch.head.sections.iter().map(move |section| {
        let start = at;
        at += u64::from(section.length);
        (section, bytes.get(start as usize..at as usize).unwrap_or_default(), start)
    })
}

/// The events of one tenant in the batches of a segment up to the last position, from the slot's content. What is bad behind
/// `synced` is no damage: a sync has just failed, and the kernel dropped what it held.
///
/// # Errors
/// `Io`, also where something bad may not be on disk.
pub(super) fn events_of(
    slot: &SharedSlot,
    id: LogId,
    (segment, upto): (u64, u64),
    synced: u64,
    tenant: [u8; 16],
    tail: &mut Tail,
) -> Result<(), LogError> {
    let bytes = slot.read().map_err(LogError::io(&slot.path))?;
    let mut found = Vec::new();
    find_batches(&bytes, id, 0, &mut found);
    for batch in found.iter().filter(|batch| batch.head.segment == segment && batch.head.position <= upto) {
        for (section, frames, offset) in sections_of(batch, &bytes).filter(|(section, ..)| section.tenant == tenant) {
            if batch.head.position > synced && check(section, frames, &slot.path, offset).is_err() {
                let problem = io::Error::other("what was written to it is not there any more");
                return Err(LogError::io(&slot.path)(problem));
            }
            tail.add(section, frames, &slot.path, offset, batch.head.position);
        }
    }
    Ok(())
}

//! A log on another machine, in memory: it takes batches at once, and answers later, out of step, for each tenant by itself.
//!
//! A tenant has one append under way, as its events have to follow each other. Each attempt is recorded, fenced by another
//! owner, refused, or loses its answer. A lost answer is found again, or the engine gives up: then the events may have come
//! into the log, may still come, or never do.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use fastrand::Rng;
use kavach_journal::{
    AcceptedBatch, AppendFailure, Completions, EventLog, LogError, LogProgress, LogSection, NotRecorded, SectionAnswer,
    SectionOutcome, Tail,
};

use super::tally::RemoteTally;

type TenantKey = [u8; 16];

/// Bytes of frames above which a batch takes no more: few, so that histories meet several batches of one turn.
const BATCH_BYTES: usize = 3_000;

#[derive(Debug)]
pub struct Engine(Mutex<EngineState>);

#[derive(Debug)]
struct EngineState {
    rng: Rng,
    position: u64,
    tenants: BTreeMap<TenantKey, EngineTenant>,
    tally: RemoteTally,
}

#[derive(Debug, Default)]
struct EngineTenant {
    /// Whether nothing ever goes wrong with it.
    is_calm: bool,
    /// The frame of each event in the log, from event 1 on.
    frames: Vec<Vec<u8>>,
    /// Events that the folder has.
    folded: usize,
    /// The last event that was taken, recorded or not.
    accepted: u64,
    /// Taken and not answered, oldest first.
    under_way: VecDeque<Append>,
    /// What may still come into the log although nobody waits for it.
    late: Option<Append>,
    /// Answers that their thread did not get yet, oldest first.
    answers: VecDeque<(Arc<Completions>, SectionAnswer)>,
    /// Whether something was lost, or perhaps, since the last tail.
    is_lost: bool,
    /// Whether the thread got that answer.
    is_told: bool,
}

#[derive(Clone, Debug)]
struct Append {
    position: u64,
    section: usize,
    frames: Vec<Vec<u8>>,
    completions: Arc<Completions>,
    /// It is in the log, and the answer was lost.
    is_done: bool,
}

impl EngineTenant {
    fn record(&mut self, append: &Append) {
        self.frames.extend(append.frames.iter().cloned());
    }

    fn answer(&mut self, append: &Append, outcome: SectionOutcome) {
        self.is_lost |= outcome != SectionOutcome::Recorded;
        let answer = SectionAnswer { position: append.position, section: append.section, outcome };
        self.answers.push_back((Arc::clone(&append.completions), answer));
    }

    /// What comes after something that is lost does not come into the log.
    fn lose_rest(&mut self) {
        while let Some(append) = self.under_way.pop_front() {
            self.answer(&append, SectionOutcome::NotRecorded(NotRecorded::AfterLoss));
        }
    }

    /// The engine deals with the oldest append.
    fn attempt(&mut self, rng: &mut Rng, tally: &mut RemoteTally) {
        if let Some(late) = self.late.take() {
            tally.late += 1;
            return self.record(&late);
        }
        let Some(mut append) = self.under_way.pop_front() else { return };
        match rng.u32(0..40) {
            _ if append.is_done => {
                tally.found += 1;
                self.answer(&append, SectionOutcome::Recorded);
            }
            0 if !self.is_calm => {
                tally.fenced += 1;
                self.answer(&append, SectionOutcome::NotRecorded(NotRecorded::Fenced));
                self.lose_rest();
            }
            1 if !self.is_calm => {
                self.answer(&append, SectionOutcome::NotRecorded(NotRecorded::Refused("no room".to_owned())));
                self.lose_rest();
            }
            2 | 3 if !self.is_calm => {
                tally.unknown += 1;
                self.answer(&append, SectionOutcome::Unknown("no answer".to_owned()));
                match rng.u32(0..3) {
                    0 => self.record(&append),
                    1 => self.late = Some(append),
                    _ => {}
                }
                self.lose_rest();
            }
            4..8 => {
                self.record(&append);
                append.is_done = true;
                self.under_way.push_front(append);
            }
            _ => {
                self.record(&append);
                self.answer(&append, SectionOutcome::Recorded);
            }
        }
    }

    /// A new owner takes the tenant over: what is under way comes before, or never.
    fn settle(&mut self, rng: &mut Rng) {
        if let Some(late) = self.late.take().filter(|_| rng.bool()) {
            self.record(&late);
        }
        if let Some(append) = self.under_way.pop_front() {
            let is_recorded = append.is_done || rng.bool();
            if is_recorded && !append.is_done {
                self.record(&append);
            }
            let outcome = match is_recorded {
                true => SectionOutcome::Recorded,
                false => SectionOutcome::NotRecorded(NotRecorded::Fenced),
            };
            self.answer(&append, outcome);
            self.lose_rest();
        }
    }

    /// Has the threads get that many answers, as one parcel for each.
    fn deliver(&mut self, many: usize) -> Vec<(Arc<Completions>, SectionAnswer)> {
        let parcel: Vec<_> = self.answers.drain(..many.min(self.answers.len())).collect();
        self.is_told |= parcel.iter().any(|(_, answer)| answer.outcome != SectionOutcome::Recorded);
        parcel
    }
}

/// Returns the number of parcels.
fn deliver(mut answers: Vec<(Arc<Completions>, SectionAnswer)>) -> u64 {
    let mut parcels = 0;
    while let Some((first, _)) = answers.first().cloned() {
        let own = answers.extract_if(.., |(completions, _)| Arc::ptr_eq(completions, &first));
        first.deliver(own.map(|(_, answer)| answer).collect::<Vec<_>>());
        parcels += 1;
    }
    parcels
}

impl Engine {
    pub fn new(rng: Rng) -> Self {
        let (tenants, tally) = Default::default();
        Self(Mutex::new(EngineState { rng, position: 0, tenants, tally }))
    }

    fn lock(&self) -> MutexGuard<'_, EngineState> {
        self.0.lock().unwrap()
    }

    /// A tenant whose folder has one event.
    pub fn add(&self, tenant: TenantKey, is_calm: bool) {
        let new = EngineTenant { is_calm, frames: vec![Vec::new()], folded: 1, accepted: 1, ..EngineTenant::default() };
        self.lock().tenants.insert(tenant, new);
    }

    /// Makes one attempt for a tenant.
    pub fn work(&self) {
        let EngineState { rng, tenants, tally, .. } = &mut *self.lock();
        let busy: Vec<_> =
            tenants.values_mut().filter(|tenant| !tenant.under_way.is_empty() || tenant.late.is_some()).collect();
        if let Some(tenant) = rng.choice(busy) {
            tenant.attempt(rng, tally);
        }
    }

    /// Has threads get some answers.
    pub fn deliver(&self, all: bool) {
        let mut answers = Vec::new();
        let EngineState { rng, tenants, tally, .. } = &mut *self.lock();
        for tenant in tenants.values_mut() {
            let many = if all { usize::MAX } else { rng.usize(0..3) };
            answers.extend(tenant.deliver(many));
        }
        // Out of step, but for each tenant's own.
        answers.sort_by_key(|(_, answer)| (answer.position / 4) % 3);
        tally.parcels += deliver(answers);
    }

    /// Whether nothing is under way, and every answer was given.
    pub fn is_idle(&self) -> bool {
        let is_idle =
            |tenant: &EngineTenant| tenant.under_way.is_empty() && tenant.late.is_none() && tenant.answers.is_empty();
        self.lock().tenants.values().all(is_idle)
    }

    /// The last event that the log has of a tenant.
    pub fn last_seq(&self, tenant: TenantKey) -> u64 {
        self.lock().tenants[&tenant].frames.len() as u64
    }

    /// Whether the log has exactly that event.
    pub fn has(&self, tenant: TenantKey, seq: u64, payload: &[u8]) -> bool {
        let state = self.lock();
        let frame = state.tenants[&tenant].frames.get(seq as usize - 1);
        frame.is_some_and(|frame| frame.get(16..).unwrap_or_default() == payload)
    }

    pub fn tally(&self) -> RemoteTally {
        self.lock().tally
    }
}

/// The frames of a section, which has to have the events that it names.
fn events_of(section: &LogSection, mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for seq in section.first_seq..=section.last_seq {
        let length = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize + 8;
        let (frame, rest) = bytes.split_at(length);
        assert_eq!(frame[8..16], seq.to_le_bytes(), "a section has other events than it says");
        frames.push(frame.to_vec());
        bytes = rest;
    }
    assert!(bytes.is_empty(), "a section has more events than it says");
    frames
}

impl EventLog for Engine {
    fn append(
        &self,
        generation: usize,
        sections: &[LogSection],
        frames: &[u8],
        completions: &Arc<Completions>,
    ) -> Result<AcceptedBatch, AppendFailure> {
        assert_eq!(generation, 0);
        let mut state = self.lock();
        state.position += 1;
        let position = state.position;
        let mut at = 0;
        for (index, section) in sections.iter().enumerate() {
            let frames = events_of(section, &frames[at..at + section.bytes]);
            at += section.bytes;
            let tenant = state.tenants.get_mut(&section.tenant).unwrap();
            assert!(!tenant.is_told, "an event was appended after one that is known to be lost");
            assert_eq!(section.first_seq, tenant.accepted + 1, "an event was appended after a gap");
            tenant.accepted = section.last_seq;
            let completions = Arc::clone(completions);
            tenant.under_way.push_back(Append { position, section: index, frames, completions, is_done: false });
            if tenant.is_lost {
                tenant.lose_rest();
            }
        }
        assert_eq!(at, frames.len(), "a batch has bytes of no section");
        state.tally.batches += 1;
        Ok(AcceptedBatch { position, is_recorded: false })
    }

    fn progress(&self, _: usize) -> LogProgress {
        LogProgress { generation: 0, synced: u64::MAX, failed: None }
    }

    fn batch_bytes(&self) -> usize {
        BATCH_BYTES
    }

    fn tail(&self, tenant: [u8; 16]) -> Result<Tail, LogError> {
        let EngineState { rng, tenants, tally, .. } = &mut *self.lock();
        let tenant = tenants.get_mut(&tenant).unwrap();
        tenant.settle(rng);
        tally.parcels += deliver(tenant.deliver(usize::MAX));
        (tenant.is_lost, tenant.is_told) = (false, false);
        tenant.accepted = tenant.frames.len() as u64;
        let first = tenant.folded + 1;
        let frames: Vec<u8> = tenant.frames[tenant.folded..].concat();
        Ok(match frames.is_empty() {
            true => Tail::default(),
            false => Tail::of_events(Path::new("the engine"), first as u64, tenant.accepted, &frames),
        })
    }

    fn folded(&self, tenant: [u8; 16], seq: u64) {
        self.lock().tenants.get_mut(&tenant).unwrap().folded = seq as usize;
    }

    fn due_to_fold(&self) -> Vec<[u8; 16]> {
        Vec::new()
    }

    fn not_folded(&self, _: [u8; 16]) {}
}

//! One turn of a thread: what its tenants recorded, and the replies that wait for it.

use std::borrow::Cow;
use std::sync::Arc;

use kavach_journal::{AcceptedBatch, AppendFailure, Completions, EventLog, LogSection, SectionOutcome};

/// A turn of a [`CommitQueue`](crate::CommitQueue). Zero is before all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommitTurn(pub(crate) u64);

/// How far the log has to be for a tenant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CommitMark {
    pub tenant: [u8; 16],
    /// The turn of an event.
    pub turn: CommitTurn,
    /// The section of that turn that has it.
    pub section: u32,
    /// The last batch of the log when the tenant was loaded from it.
    pub loaded: u64,
    /// The failures that the queue had seen by then.
    pub failures: usize,
}

/// What a reply waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// The log has its events.
    Recorded,
    /// They are on disk too.
    Synced,
}

/// A reply that waits for a section of its turn.
pub(crate) struct WaitingReply<R> {
    pub section: u32,
    pub until: Until,
    pub held: R,
}

/// A turn that the log has not taken yet.
pub(crate) struct GatheredTurn<R> {
    pub turn: CommitTurn,
    sections: Vec<LogSection>,
    frames: Vec<u8>,
    /// Whether some sections were refused. They have no bytes any more.
    has_refused: bool,
    pub replies: Vec<WaitingReply<R>>,
}

impl<R> GatheredTurn<R> {
    pub fn new(turn: CommitTurn) -> Self {
        Self { turn, sections: Vec::new(), frames: Vec::new(), has_refused: false, replies: Vec::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.sections.is_empty()
    }

    /// Takes a tenant's next event, and returns its section.
    pub fn push(&mut self, tenant: [u8; 16], seq: u64, frame: &[u8]) -> u32 {
        self.frames.extend_from_slice(frame);
        let follows = |last: &&mut LogSection| last.tenant == tenant && last.last_seq + 1 == seq && last.bytes > 0;
        match self.sections.last_mut().filter(follows) {
            Some(last) => {
                last.last_seq = seq;
                last.bytes += frame.len();
            }
            None => {
                self.sections.push(LogSection { tenant, first_seq: seq, last_seq: seq, bytes: frame.len() });
            }
        }
        self.sections.len() as u32 - 1
    }

    /// Bytes of all frames.
    pub fn bytes(&self) -> usize {
        self.frames.len()
    }

    /// The number of events.
    pub fn events(&self) -> u64 {
        let taken = self.sections.iter().filter(|section| section.bytes > 0);
        taken.map(|section| section.last_seq + 1 - section.first_seq).sum()
    }

    /// Takes a tenant's events out, and returns the replies that wait for them. Sections keep their places.
    pub fn refuse(&mut self, tenant: [u8; 16]) -> Vec<WaitingReply<R>> {
        if !self.sections.iter().any(|section| section.tenant == tenant) {
            return Vec::new();
        }
        self.has_refused = true;
        let mut kept = Vec::with_capacity(self.frames.len());
        let mut rest = self.frames.as_slice();
        for section in &mut self.sections {
            let (own, others) = rest.split_at_checked(section.bytes).unwrap_or_default();
            rest = others;
            match section.tenant == tenant {
                true => section.bytes = 0,
                false => kept.extend_from_slice(own),
            }
        }
        self.frames = kept;
        let is_of = |section: u32| self.sections.get(section as usize).is_some_and(|found| found.tenant == tenant);
        self.replies.extract_if(.., |reply| is_of(reply.section)).collect()
    }

    /// Appends the turn to the log; `None` if nothing of it is left.
    pub fn append(
        &self,
        log: &dyn EventLog,
        generation: usize,
        completions: &Arc<Completions>,
    ) -> Result<Option<AcceptedBatch>, AppendFailure> {
        let sections = match self.has_refused {
            true => Cow::Owned(self.sections.iter().copied().filter(|section| section.bytes > 0).collect()),
            false => Cow::Borrowed(self.sections.as_slice()),
        };
        if sections.is_empty() {
            return Ok(None);
        }
        log.append(generation, &sections, &self.frames, completions).map(Some)
    }

    /// The turn once the log has taken it as a batch, which is recorded or gets an answer for each section.
    pub fn accepted(self, batch: AcceptedBatch) -> AppendedTurn<R> {
        let Self { turn, sections, has_refused, replies, .. } = self;
        let AcceptedBatch { position, is_recorded } = batch;
        let unanswered = (!is_recorded).then(|| Unanswered::new(&sections, has_refused));
        AppendedTurn { turn, position, unanswered, replies }
    }
}

/// A turn that the log has taken.
pub(crate) struct AppendedTurn<R> {
    pub turn: CommitTurn,
    pub position: u64,
    /// `None` if all of it is recorded, and on disk once the log is up to its position.
    pub unanswered: Option<Unanswered>,
    pub replies: Vec<WaitingReply<R>>,
}

/// What becomes of a turn's sections, where the log answers for each.
pub(crate) struct Unanswered {
    sections: Vec<([u8; 16], SectionState)>,
    open: usize,
    /// The sections in the order of the batch, if the batch does not have them all.
    in_batch: Option<Vec<usize>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SectionState {
    Open,
    Recorded,
    NotRecorded,
    Unknown,
}

impl Unanswered {
    fn new(sections: &[LogSection], has_refused: bool) -> Self {
        let is_taken = |section: &LogSection| section.bytes > 0;
        let in_batch: Vec<usize> = match has_refused {
            true => sections.iter().enumerate().filter(|(_, section)| is_taken(section)).map(|(at, _)| at).collect(),
            false => Vec::new(),
        };
        let state = |section| if is_taken(section) { SectionState::Open } else { SectionState::NotRecorded };
        Self {
            open: if has_refused { in_batch.len() } else { sections.len() },
            sections: sections.iter().map(|section| (section.tenant, state(section))).collect(),
            in_batch: has_refused.then_some(in_batch),
        }
    }

    pub fn is_done(&self) -> bool {
        self.open == 0
    }

    pub fn state(&self, section: u32) -> SectionState {
        self.sections.get(section as usize).map_or(SectionState::Unknown, |(_, state)| *state)
    }

    /// Takes the answer for a section of the batch. Returns its tenant if its events are lost, or perhaps. A section that
    /// has its answer keeps it.
    pub fn answer(&mut self, in_batch: usize, outcome: &SectionOutcome) -> Option<[u8; 16]> {
        let section = match &self.in_batch {
            Some(places) => *places.get(in_batch)?,
            None => in_batch,
        };
        let (tenant, state) = self.sections.get_mut(section).filter(|(_, state)| *state == SectionState::Open)?;
        self.open -= 1;
        *state = match outcome {
            SectionOutcome::Recorded => SectionState::Recorded,
            SectionOutcome::NotRecorded(_) => SectionState::NotRecorded,
            SectionOutcome::Unknown(_) => SectionState::Unknown,
        };
        (*state != SectionState::Recorded).then_some(*tenant)
    }

    /// Nobody waits any more for what becomes of a tenant's sections.
    pub fn give_up(&mut self, tenant: [u8; 16]) {
        let open = self.sections.iter_mut().filter(|(of, state)| *of == tenant && *state == SectionState::Open);
        for (_, state) in open {
            *state = SectionState::Unknown;
            self.open -= 1;
        }
    }
}

impl<R> AppendedTurn<R> {
    /// Whether it is on disk, or else wholly answered, when the log is on disk up to `synced`.
    pub fn is_done(&self, synced: u64) -> bool {
        match &self.unanswered {
            Some(unanswered) => unanswered.is_done(),
            None => self.position <= synced,
        }
    }

    /// Takes out the replies whose section has its answer.
    pub fn take_answered(&mut self) -> impl Iterator<Item = (SectionState, R)> {
        let Self { unanswered, replies, .. } = self;
        let unanswered = unanswered.as_ref();
        let state = move |section| unanswered.map_or(SectionState::Open, |unanswered| unanswered.state(section));
        let answered = replies.extract_if(.., move |reply| state(reply.section) != SectionState::Open);
        answered.map(move |reply| (state(reply.section), reply.held))
    }
}

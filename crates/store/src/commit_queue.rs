//! What the tenants of one thread recorded and the log does not have yet, and the replies that wait for it.
//!
//! While a thread handles everything that is ready, its tenants put their events in here. At the end of that *turn* the
//! thread writes them all with one append. Turns are numbered, and a tenant remembers the turn of its last event. So
//! whether an event is written or on disk is a comparison of two numbers.

use std::collections::VecDeque;

use kavach_domain::Error;
use kavach_journal::{AppendFailure, Log, LogProgress, LogSection};

use crate::pending_replies::HeldReply;
use crate::refusal::{outcome_unknown, storage_unavailable};

/// Replies that may wait for the disk in one thread. A disk that takes this long is not working, and what waits is in
/// memory.
pub const MAX_WAITING: usize = 100_000;

/// A turn of a [`CommitQueue`]. Zero is before all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommitTurn(u64);

/// How far the log has to be for a tenant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CommitMark {
    /// The turn of an event.
    pub turn: CommitTurn,
    /// The last batch of the log when the tenant was loaded from it.
    loaded: u64,
    /// The failures that the queue had seen by then.
    failures: usize,
}

/// The events of one thread's tenants on their way into the log, and the replies of type `R` that wait for them.
pub struct CommitQueue<R> {
    /// The turn that takes events now.
    current: GatheredTurn<R>,
    /// Turns that ended but are not written yet, oldest first.
    gathered: VecDeque<GatheredTurn<R>>,
    /// Turns in the log that are not known to be on disk, oldest first.
    appended: VecDeque<AppendedTurn<R>>,
    /// The last turn that is in the log, with all before it.
    written: CommitTurn,
    /// The last turn that is on disk, with all before it.
    synced: CommitTurn,
    /// The last batch of the log that is on disk.
    synced_position: u64,
    /// What this queue knows of the log's failures.
    generation: usize,
    failures: Vec<LogFailure>,
    waiting: usize,
    /// Bytes of frames above which the next events go into a batch of their own.
    batch_bytes: usize,
}

/// What a failure of the log took: turns that are not in it, or perhaps not.
struct LogFailure {
    after: CommitTurn,
    upto: CommitTurn,
    /// What was loaded from a later batch than this is perhaps lost too.
    position: u64,
}

struct GatheredTurn<R> {
    turn: CommitTurn,
    sections: Vec<LogSection>,
    frames: Vec<u8>,
    until_written: Vec<R>,
    until_synced: Vec<R>,
}

impl<R> GatheredTurn<R> {
    fn new(turn: CommitTurn) -> Self {
        let (sections, frames, until_written, until_synced) = Default::default();
        Self { turn, sections, frames, until_written, until_synced }
    }
}

struct AppendedTurn<R> {
    turn: CommitTurn,
    position: u64,
    until_synced: Vec<R>,
}

/// What the last writes of a queue came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// There was nothing to write.
    Nothing,
    /// Everything is in the log.
    All,
    /// The log refused a turn, or failed. Tenants with events in it are ahead of the log.
    Failed,
}

impl<R: HeldReply> CommitQueue<R> {
    /// A queue that will be written to that log.
    pub fn new(log: &Log) -> Self {
        let LogProgress { generation, synced, failed: _ } = log.progress(usize::MAX);
        Self {
            current: GatheredTurn::new(CommitTurn(1)),
            gathered: VecDeque::new(),
            appended: VecDeque::new(),
            written: CommitTurn(0),
            synced: CommitTurn(0),
            synced_position: synced,
            generation,
            failures: Vec::new(),
            waiting: 0,
            batch_bytes: log.batch_bytes(),
        }
    }

    /// What comes next is of another turn.
    fn end_turn(&mut self) {
        let GatheredTurn { turn, sections, until_written, until_synced, .. } = &self.current;
        if !(sections.is_empty() && until_written.is_empty() && until_synced.is_empty()) {
            let next = GatheredTurn::new(CommitTurn(turn.0 + 1));
            self.gathered.push_back(std::mem::replace(&mut self.current, next));
        }
    }

    /// Takes a tenant's next event, and returns the turn that it is of.
    pub(crate) fn push(&mut self, tenant: [u8; 16], seq: u64, frame: &[u8]) -> CommitTurn {
        let gathered = &mut self.current;
        gathered.frames.extend_from_slice(frame);
        match gathered.sections.last_mut().filter(|last| last.tenant == tenant && last.last_seq + 1 == seq) {
            Some(last) => {
                last.last_seq = seq;
                last.bytes += frame.len();
            }
            None => {
                gathered.sections.push(LogSection { tenant, first_seq: seq, last_seq: seq, bytes: frame.len() });
            }
        }
        self.current.turn
    }

    /// The mark of a tenant that was just loaded, when the log's last batch was `position`.
    pub(crate) fn mark_loaded(&self, position: u64) -> CommitMark {
        CommitMark { turn: CommitTurn(0), loaded: position, failures: self.failures.len() }
    }

    /// Whether the log has failed, as far as this queue knows, since it had failed so many times.
    pub(crate) fn has_failed_since(&self, generation: usize) -> bool {
        generation < self.generation
    }

    /// Whether the log has what was recorded in a turn.
    pub(crate) fn is_written(&self, turn: CommitTurn) -> bool {
        turn <= self.written
    }

    /// Whether everything up to a mark is on disk.
    pub(crate) fn is_synced(&self, mark: CommitMark) -> bool {
        mark.turn <= self.synced && mark.loaded <= self.synced_position
    }

    /// Whether what a mark stands for is not in the log, or perhaps not.
    pub(crate) fn has_failed(&self, mark: CommitMark) -> bool {
        let since = self.failures.get(mark.failures..).unwrap_or_default();
        since
            .iter()
            .any(|failure| (failure.after < mark.turn && mark.turn <= failure.upto) || mark.loaded > failure.position)
    }

    /// The turn that takes events now.
    pub fn turn(&self) -> CommitTurn {
        self.current.turn
    }

    /// Whether as many replies wait as may.
    pub fn is_full(&self) -> bool {
        self.waiting >= MAX_WAITING
    }

    /// Whether a reply waits for the disk.
    pub fn needs_sync(&self) -> bool {
        self.appended.iter().any(|appended| !appended.until_synced.is_empty())
    }

    /// Holds a reply until this turn is written.
    pub(crate) fn hold_until_written(&mut self, held: R) {
        self.waiting += 1;
        self.current.until_written.push(held);
        self.split();
    }

    /// Has what comes next go into a batch of its own, if this one is large. The events of one reply are in one batch, so
    /// they are recorded together or not at all.
    fn split(&mut self) {
        if self.current.frames.len() >= self.batch_bytes {
            self.end_turn();
        }
    }

    /// The events that are not written yet, and their bytes.
    pub fn gathered(&self) -> (u64, usize) {
        let all = || self.gathered.iter().chain([&self.current]);
        let sections = all().flat_map(|gathered| &gathered.sections);
        let events = sections.map(|section| section.last_seq + 1 - section.first_seq).sum();
        (events, all().map(|gathered| gathered.frames.len()).sum())
    }

    /// Holds a reply until everything up to a mark is on disk.
    pub(crate) fn hold_until_synced(&mut self, mark: CommitMark, held: R) {
        if self.is_synced(mark) {
            return held.release(Ok(()));
        }
        self.waiting += 1;
        if mark.turn > self.written {
            self.current.until_synced.push(held);
            return self.split();
        }
        let covers = |appended: &&mut AppendedTurn<R>| appended.turn >= mark.turn && appended.position >= mark.loaded;
        match self.appended.iter_mut().find(covers) {
            Some(appended) => appended.until_synced.push(held),
            // Another thread appended it, or an earlier tenant.
            None => {
                let (turn, position) = (self.written, mark.loaded);
                self.appended.push_back(AppendedTurn { turn, position, until_synced: vec![held] });
            }
        }
    }

    /// Ends the turn: appends what was gathered to the log, and releases the replies that waited for that.
    pub fn write(&mut self, log: &Log) -> Written {
        let mut outcome = if self.update(log) { Written::Failed } else { Written::Nothing };
        self.end_turn();
        while let Some(gathered) = self.gathered.pop_front() {
            let appended = match gathered.sections.as_slice() {
                [] => Ok(self.appended.back().map_or(0, |last| last.position)),
                sections => log.append(self.generation, sections, &gathered.frames),
            };
            match appended {
                Ok(position) => {
                    let GatheredTurn { turn, until_written, until_synced, .. } = gathered;
                    self.release(until_written, &Ok(()));
                    self.written = turn;
                    self.note_appended(AppendedTurn { turn, position, until_synced });
                    outcome = Written::All;
                }
                Err(problem) => {
                    tracing::error!(%problem, "events could not be recorded");
                    let error = match problem {
                        AppendFailure::Refused(_) => storage_unavailable(),
                        AppendFailure::Unknown(_) => outcome_unknown(),
                    };
                    self.refuse(gathered, &error);
                    // An event after one that is lost would be one after a gap.
                    while let Some(later) = self.gathered.pop_front() {
                        self.refuse(later, &storage_unavailable());
                    }
                    return Written::Failed;
                }
            }
        }
        outcome
    }

    fn note_appended(&mut self, new: AppendedTurn<R>) {
        if new.position <= self.synced_position {
            self.release(new.until_synced, &Ok(()));
            if self.appended.is_empty() {
                self.synced = new.turn;
            }
            return;
        }
        match self.appended.back_mut() {
            // Turns that nobody waits for need no entries of their own.
            Some(last) if last.until_synced.is_empty() && new.until_synced.is_empty() => *last = new,
            _ => self.appended.push_back(new),
        }
    }

    /// Releases replies that waited in here, all with one outcome.
    fn release(&mut self, replies: impl IntoIterator<Item = R>, outcome: &Result<(), Error>) {
        for held in replies {
            self.waiting -= 1;
            held.release(outcome.clone());
        }
    }

    /// Takes note of how far the log has come. Says whether it failed since the last time; then tenants may be
    /// [ahead](crate::CommitPipeline::is_ahead) of it.
    pub fn update(&mut self, log: &Log) -> bool {
        let mut has_failed = false;
        loop {
            let LogProgress { generation, synced, failed } = log.progress(self.generation);
            let Some(position) = failed else {
                self.synced(synced);
                return has_failed;
            };
            self.log_failed(position);
            self.generation = generation.min(self.generation + 1);
            has_failed = true;
        }
    }

    /// The log is on disk up to a position: releases the replies that waited for that.
    fn synced(&mut self, position: u64) {
        self.synced_position = self.synced_position.max(position);
        let reached = self.synced_position;
        while let Some(appended) = self.appended.pop_front_if(|appended| appended.position <= reached) {
            self.release(appended.until_synced, &Ok(()));
            self.synced = appended.turn;
        }
    }

    /// The log failed, and is on disk only up to a position. Nobody knows what it lost of the rest: the replies that wait
    /// for it say so, and the tenants with events in it are ahead of the log.
    fn log_failed(&mut self, position: u64) {
        self.synced(position);
        self.failures.push(LogFailure { after: self.synced, upto: self.written, position });
        while let Some(appended) = self.appended.pop_front() {
            self.release(appended.until_synced, &Err(outcome_unknown()));
        }
        // Events that are not written yet may be of tenants that lost the ones before.
        self.end_turn();
        while let Some(gathered) = self.gathered.pop_front() {
            self.refuse(gathered, &storage_unavailable());
        }
    }

    /// A turn that is not in the log ends.
    fn refuse(&mut self, gathered: GatheredTurn<R>, error: &Error) {
        let GatheredTurn { turn, until_written, until_synced, .. } = gathered;
        let after = CommitTurn(turn.0 - 1);
        // Each is an entry of its own: a tenant that was loaded since the last one does not look at that.
        self.failures.push(LogFailure { after, upto: turn, position: u64::MAX });
        self.release(until_written.into_iter().chain(until_synced), &Err(error.clone()));
    }
}

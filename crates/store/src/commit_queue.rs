//! What the tenants of one thread recorded and the log does not have yet, and the replies that wait for it.
//!
//! While a thread handles everything that is ready, its tenants put their events in here. At the end of that *turn* the
//! thread has the log take them all with one append. Turns are numbered, and a tenant remembers the turn of its last event
//! and the *section* of the turn that has it. So whether an event is recorded or on disk is a comparison of two numbers,
//! and of one more flag where the log answers later, for each section.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use kavach_domain::Error;
use kavach_journal::{AppendFailure, Completions, EventLog, LogProgress, SectionAnswer, SectionOutcome};

use crate::commit_turn::{AppendedTurn, CommitMark, CommitTurn, GatheredTurn, SectionState, Until, WaitingReply};
use crate::pending_replies::HeldReply;
use crate::refusal::{outcome_unknown, storage_unavailable, too_many_waiting};

/// Replies that may wait for the log in one thread. A log that takes this long is not working, and what waits is in
/// memory.
pub const MAX_WAITING: usize = 100_000;

/// The events of one thread's tenants on their way into the log, and the replies of type `R` that wait for them.
pub struct CommitQueue<R> {
    /// The turn that takes events now.
    current: GatheredTurn<R>,
    /// Turns that ended but are not appended yet, oldest first.
    gathered: VecDeque<GatheredTurn<R>>,
    /// Turns that the log has taken and that are not known to be on disk, oldest first.
    appended: VecDeque<AppendedTurn<R>>,
    /// How many of those the log answers for later.
    unanswered: usize,
    completions: Arc<Completions>,
    /// The last turn that the log has taken, with all before it.
    taken: CommitTurn,
    /// The last turn that is on disk, with all before it.
    synced: CommitTurn,
    /// The last batch of the log that is on disk.
    synced_position: u64,
    /// What this queue knows of the log's failures.
    generation: usize,
    failures: Vec<LogFailure>,
    /// Tenants that lost events by themselves, or perhaps, until they are loaded again.
    lost: HashSet<[u8; 16]>,
    waiting: usize,
    most_waiting: usize,
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

/// What the last writes of a queue came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// There was nothing to write.
    Nothing,
    /// The log has taken everything.
    All,
    /// The log refused a turn, or failed, or lost events of a tenant. Tenants with events in it are ahead of the log.
    Failed,
}

impl<R: HeldReply> CommitQueue<R> {
    /// A queue that will be written to that log. `wake` is called, on any thread, when the log has answered: then
    /// [`update`](CommitQueue::update) releases replies. A log that records while it is written to never calls it.
    pub fn new(log: &dyn EventLog, wake: impl Fn() + Send + Sync + 'static) -> Self {
        let LogProgress { generation, synced, failed: _ } = log.progress(usize::MAX);
        Self {
            current: GatheredTurn::new(CommitTurn(1)),
            gathered: VecDeque::new(),
            appended: VecDeque::new(),
            unanswered: 0,
            completions: Arc::new(Completions::new(wake)),
            taken: CommitTurn(0),
            synced: CommitTurn(0),
            synced_position: synced,
            generation,
            failures: Vec::new(),
            lost: HashSet::new(),
            waiting: 0,
            most_waiting: MAX_WAITING,
            batch_bytes: log.batch_bytes(),
        }
    }

    /// The same with another bound than [`MAX_WAITING`].
    pub fn with_most_waiting(self, most_waiting: usize) -> Self {
        Self { most_waiting, ..self }
    }

    /// What comes next is of another turn.
    fn end_turn(&mut self) {
        if !self.current.is_empty() {
            let next = GatheredTurn::new(CommitTurn(self.current.turn.0 + 1));
            self.gathered.push_back(std::mem::replace(&mut self.current, next));
        }
    }

    /// Takes the next event of a mark's tenant, and sets the mark to it.
    pub(crate) fn push(&mut self, mark: &mut CommitMark, seq: u64, frame: &[u8]) {
        mark.section = self.current.push(mark.tenant, seq, frame);
        mark.turn = self.current.turn;
    }

    /// The mark of a tenant that was just loaded, when the log's last batch was `position`. What it recorded before it was
    /// loaded is of a state that is gone.
    pub(crate) fn mark_loaded(&mut self, tenant: [u8; 16], position: u64) -> CommitMark {
        self.lost.remove(&tenant);
        self.refuse_gathered(tenant);
        if self.unanswered > 0 {
            // The log has answered, so this is only for one that does not keep its word.
            let Self { appended, waiting, .. } = self;
            for turn in appended {
                turn.unanswered.iter_mut().for_each(|unanswered| unanswered.give_up(tenant));
                release_answered(turn, waiting);
            }
            self.pop_done();
        }
        CommitMark { tenant, turn: CommitTurn(0), section: 0, loaded: position, failures: self.failures.len() }
    }

    /// Whether the log has failed, as far as this queue knows, since it had failed so many times.
    pub(crate) fn has_failed_since(&self, generation: usize) -> bool {
        generation < self.generation
    }

    /// Whether the log has what a mark stands for.
    pub(crate) fn is_recorded(&self, mark: CommitMark) -> bool {
        let is_open = || self.answers_later(mark).is_some_and(|state| state == SectionState::Open);
        mark.turn <= self.taken && !is_open()
    }

    /// Whether everything up to a mark is on disk.
    pub(crate) fn is_synced(&self, mark: CommitMark) -> bool {
        let is_recorded = || self.answers_later(mark).is_some_and(|state| state != SectionState::Open);
        mark.loaded <= self.synced_position && (mark.turn <= self.synced || mark.turn <= self.taken && is_recorded())
    }

    /// What has become of a mark's section, if the log answers for it by itself.
    fn answers_later(&self, mark: CommitMark) -> Option<SectionState> {
        if self.unanswered == 0 {
            return None;
        }
        let at = self.appended.binary_search_by_key(&mark.turn, |appended| appended.turn).ok()?;
        Some(self.appended.get(at)?.unanswered.as_ref()?.state(mark.section))
    }

    /// Whether what a mark stands for is not in the log, or perhaps not.
    pub(crate) fn has_failed(&self, mark: CommitMark) -> bool {
        let since = self.failures.get(mark.failures..).unwrap_or_default();
        let has_failed = |failure: &LogFailure| {
            (failure.after < mark.turn && mark.turn <= failure.upto) || mark.loaded > failure.position
        };
        since.iter().any(has_failed) || (!self.lost.is_empty() && self.lost.contains(&mark.tenant))
    }

    /// The turn that takes events now.
    pub fn turn(&self) -> CommitTurn {
        self.current.turn
    }

    /// The number of replies that wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether as many replies wait as may.
    pub fn is_full(&self) -> bool {
        self.waiting >= self.most_waiting
    }

    /// Whether a reply waits for a sync.
    pub fn needs_sync(&self) -> bool {
        self.appended.iter().any(|appended| appended.unanswered.is_none() && !appended.replies.is_empty())
    }

    /// Has what comes next go into a batch of its own, if this one is large. The events of one reply are in one batch, so
    /// they are recorded together or not at all.
    fn split(&mut self) {
        if self.current.bytes() >= self.batch_bytes {
            self.end_turn();
        }
    }

    /// The events that the log has not taken yet, and their bytes.
    pub fn gathered(&self) -> (u64, usize) {
        let all = || self.gathered.iter().chain([&self.current]);
        (all().map(GatheredTurn::events).sum(), all().map(GatheredTurn::bytes).sum())
    }

    /// Holds a reply until the log has everything up to a mark, or until it is on disk. If too many wait, the reply leaves
    /// with that error: there was room when its events were recorded, so it has none.
    pub(crate) fn hold(&mut self, mark: CommitMark, until: Until, held: R) {
        if self.has_failed(mark) {
            return held.release(Err(outcome_unknown()));
        }
        let is_done = match until {
            Until::Recorded => self.is_recorded(mark),
            Until::Synced => self.is_synced(mark),
        };
        if is_done {
            return held.release(Ok(()));
        }
        if self.is_full() {
            return held.release(Err(too_many_waiting()));
        }
        self.waiting += 1;
        let reply = WaitingReply { section: mark.section, until, held };
        if mark.turn == self.current.turn {
            self.current.replies.push(reply);
            return self.split();
        }
        if let Some(gathered) = self.gathered.iter_mut().find(|gathered| gathered.turn == mark.turn) {
            return gathered.replies.push(reply);
        }
        let covers = |appended: &&mut AppendedTurn<R>| match appended.unanswered {
            Some(_) => appended.turn == mark.turn,
            None => appended.turn >= mark.turn && appended.position >= mark.loaded,
        };
        match self.appended.iter_mut().find(covers) {
            Some(appended) => appended.replies.push(reply),
            // Another thread appended it, or an earlier tenant.
            None => {
                let (turn, position) = (self.taken, mark.loaded);
                self.appended.push_back(AppendedTurn { turn, position, unanswered: None, replies: vec![reply] });
            }
        }
    }

    /// Ends the turn: has the log take what was gathered, and releases the replies that waited for that.
    pub fn write(&mut self, log: &dyn EventLog) -> Written {
        let has_failed = self.update(log);
        let mut outcome = if has_failed { Written::Failed } else { Written::Nothing };
        self.end_turn();
        while let Some(gathered) = self.gathered.pop_front() {
            match gathered.append(log, self.generation, &self.completions) {
                Ok(None) => self.taken = gathered.turn,
                Ok(Some(batch)) => {
                    self.taken = gathered.turn;
                    self.note_appended(gathered.accepted(batch));
                    if !has_failed {
                        outcome = Written::All;
                    }
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

    /// The log has taken a turn. What waits for no sync leaves, if it is recorded.
    fn note_appended(&mut self, mut new: AppendedTurn<R>) {
        if new.unanswered.is_some() {
            self.unanswered += 1;
            return self.appended.push_back(new);
        }
        let waiting = &mut self.waiting;
        release(waiting, new.replies.extract_if(.., |reply| reply.until == Until::Recorded), &Ok(()));
        if new.is_done(self.synced_position) {
            release(waiting, new.replies, &Ok(()));
            if self.appended.is_empty() {
                self.synced = new.turn;
            }
            return;
        }
        match self.appended.back_mut() {
            // Turns that nobody waits for need no entries of their own.
            Some(last) if last.unanswered.is_none() && last.replies.is_empty() && new.replies.is_empty() => *last = new,
            _ => self.appended.push_back(new),
        }
    }

    /// Takes note of how far the log has come. Says whether it failed since the last time, or lost events of a tenant; then
    /// tenants may be [ahead](crate::CommitPipeline::is_ahead) of it.
    pub fn update(&mut self, log: &dyn EventLog) -> bool {
        let mut has_failed = self.unanswered > 0 && self.take_answers();
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

    /// Releases the replies that the log has answered for. Says whether it lost events of a tenant.
    fn take_answers(&mut self) -> bool {
        let mut answers = self.completions.take();
        // Each tenant's answers keep their order.
        answers.sort_by_key(|answer| answer.position);
        let mut lost = Vec::new();
        for answers in answers.chunk_by(|one, next| one.position == next.position) {
            self.answer(answers, &mut lost);
        }
        if let Some((_, first)) = lost.first() {
            let problem = match first {
                SectionOutcome::NotRecorded(reason) => reason.to_string(),
                SectionOutcome::Unknown(reason) => format!("nobody knows what became of them: {reason}"),
                SectionOutcome::Recorded => String::new(),
            };
            tracing::error!(sections = lost.len(), %problem, "events could not be recorded; here is why for the first");
        }
        for (tenant, _) in &lost {
            self.lost.insert(*tenant);
            // Its later events would be events after a gap.
            self.refuse_gathered(*tenant);
        }
        self.pop_done();
        !lost.is_empty()
    }

    /// Takes the answers for sections of one batch. Notes tenants with lost events.
    fn answer(&mut self, answers: &[SectionAnswer], lost: &mut Vec<([u8; 16], SectionOutcome)>) {
        let Some(position) = answers.first().map(|answer| answer.position) else { return };
        let found = self.appended.binary_search_by_key(&position, |appended| appended.position);
        let Some(appended) = found.ok().and_then(|at| self.appended.get_mut(at)) else { return };
        let Some(unanswered) = &mut appended.unanswered else { return };
        for SectionAnswer { section, outcome, .. } in answers {
            lost.extend(unanswered.answer(*section, outcome).map(|tenant| (tenant, outcome.clone())));
        }
        release_answered(appended, &mut self.waiting);
    }

    /// Refuses what a tenant recorded and the log has not taken.
    fn refuse_gathered(&mut self, tenant: [u8; 16]) {
        let Self { gathered, current, waiting, .. } = self;
        for turn in gathered.iter_mut().chain([current]) {
            release(waiting, turn.refuse(tenant), &Err(storage_unavailable()));
        }
    }

    /// The log is on disk up to a position: releases the replies that waited for that.
    fn synced(&mut self, position: u64) {
        self.synced_position = self.synced_position.max(position);
        self.pop_done();
    }

    /// Forgets the oldest turns that are on disk or wholly answered, and releases the replies that waited for that.
    fn pop_done(&mut self) {
        let reached = self.synced_position;
        while let Some(appended) = self.appended.pop_front_if(|appended| appended.is_done(reached)) {
            self.unanswered -= usize::from(appended.unanswered.is_some());
            release(&mut self.waiting, appended.replies, &Ok(()));
            self.synced = appended.turn;
        }
    }

    /// The log failed, and is on disk only up to a position. Nobody knows what it lost of the rest: the replies that wait
    /// for it say so, and the tenants with events in it are ahead of the log.
    fn log_failed(&mut self, position: u64) {
        self.synced(position);
        self.failures.push(LogFailure { after: self.synced, upto: self.taken, position });
        self.unanswered = 0;
        while let Some(appended) = self.appended.pop_front() {
            release(&mut self.waiting, appended.replies, &Err(outcome_unknown()));
        }
        // Events that are not written yet may be of tenants that lost the ones before.
        self.end_turn();
        while let Some(gathered) = self.gathered.pop_front() {
            self.refuse(gathered, &storage_unavailable());
        }
    }

    /// A turn that is not in the log ends.
    fn refuse(&mut self, gathered: GatheredTurn<R>, error: &Error) {
        let GatheredTurn { turn, replies, .. } = gathered;
        let after = CommitTurn(turn.0 - 1);
        // Each is an entry of its own: a tenant that was loaded since the last one does not look at that.
        self.failures.push(LogFailure { after, upto: turn, position: u64::MAX });
        release(&mut self.waiting, replies, &Err(error.clone()));
    }
}

/// Releases replies that waited, all with one outcome.
fn release<R: HeldReply>(
    waiting: &mut usize,
    replies: impl IntoIterator<Item = WaitingReply<R>>,
    outcome: &Result<(), Error>,
) {
    for reply in replies {
        *waiting -= 1;
        reply.held.release(outcome.clone());
    }
}

/// Releases the replies of a turn whose section has its answer.
fn release_answered<R: HeldReply>(appended: &mut AppendedTurn<R>, waiting: &mut usize) {
    for (state, held) in appended.take_answered() {
        *waiting -= 1;
        held.release(match state {
            SectionState::Recorded => Ok(()),
            SectionState::NotRecorded => Err(storage_unavailable()),
            SectionState::Open | SectionState::Unknown => Err(outcome_unknown()),
        });
    }
}

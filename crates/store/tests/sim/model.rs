//! What a tenant's history must look like, by the simplest means: the list of what was sent and what callers were
//! answered.

use std::ops::ControlFlow;

use kavach_domain::{Code, Event, Moment, Tenant};
use kavach_journal::{Checkpoint, Folder, LogTails, Passage, verify_chain};
use kavach_store::loader::LoadedTenant;
use kavach_store::{CommitPipeline, codec};

/// What an answer promises its caller.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    /// The first event that the answer is about; there is none if `first > last`.
    pub first: u64,
    pub last: u64,
    /// Events up to this one survive a killed process.
    pub written: u64,
    /// Events up to this one survive a power failure.
    pub synced: u64,
}

/// What the machine went through before a recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Through {
    /// Only errors: the process kept running.
    Errors,
    Kill,
    Power,
}

struct Sent {
    bytes: Vec<u8>,
    at: i64,
    /// Whether its caller got the answer that it did not happen.
    refused: bool,
}

/// One tenant's history.
#[derive(Default)]
pub struct Model {
    sent: Vec<Sent>,
    /// The most that was promised of each kind.
    written: u64,
    synced: u64,
    /// The last change, as opposed to a decision.
    pub last_change: u64,
    /// Events after that time may not be removed.
    cutoff: Option<i64>,
    /// The last reported link of the hash chain.
    kept: Option<Checkpoint>,
}

impl Model {
    /// An event was recorded.
    pub fn record(&mut self, moment: Moment, event: &Event<'_>) {
        let mut bytes = Vec::new();
        codec::encode_event(moment, event, &mut bytes).unwrap();
        self.sent.push(Sent { bytes, at: moment.at.millis(), refused: false });
        assert_eq!(moment.seq, self.sent.len() as u64, "events have no gaps");
        if matches!(event, Event::Changed(_)) || matches!(event, Event::Decided(record) if record.revokes) {
            self.last_change = moment.seq;
        }
    }

    pub fn len(&self) -> u64 {
        self.sent.len() as u64
    }

    /// The event with that number, as it was sent.
    pub fn event(&self, seq: u64) -> Option<(Moment, Event<'_>)> {
        let sent = self.sent.get((seq as usize).checked_sub(1)?)?;
        Some(codec::decode_event(seq, &sent.bytes).unwrap())
    }

    /// Every event is now promised to survive a power failure.
    pub fn all_synced(&mut self) {
        self.synced = self.len();
    }

    /// Only events up to `synced` are promised.
    pub fn promise_only(&mut self, synced: u64) {
        self.synced = self.synced.min(synced);
    }

    /// A caller got an answer.
    pub fn answered(&mut self, promise: Promise, outcome: Result<(), Code>) {
        match outcome {
            Ok(()) => {
                self.written = self.written.max(promise.written);
                self.synced = self.synced.max(promise.synced);
            }
            Err(Code::StorageUnavailable) => {
                for seq in promise.first..=promise.last {
                    self.sent[seq as usize - 1].refused = true;
                }
            }
            Err(Code::OutcomeUnknown) => {}
            Err(code) => panic!("a caller got {code:?}"),
        }
    }

    /// A checkpoint was reported.
    pub fn checkpoint(&mut self, link: Checkpoint) {
        if self.kept.is_none_or(|kept| kept.seq <= link.seq) {
            self.kept = Some(link);
        }
    }

    /// Events before that time may be removed.
    pub fn may_forget(&mut self, cutoff: i64) {
        self.cutoff = self.cutoff.max(Some(cutoff));
    }

    /// Compares what was recovered with what was sent, and continues from there. `lost` says that a sync failed, which
    /// may lose what was only written. `rotten` says that a bit was flipped, so reading may fail.
    pub fn recovered(&mut self, loaded: &LoadedTenant, folder: &Folder, through: Through, lost: bool, rotten: bool) {
        let last = loaded.tenant.seq();
        assert_eq!(loaded.journal.next_seq(), last + 1, "state and journal agree on the last event");
        assert!(last <= self.len(), "event {last} was recovered, where {} were sent", self.len());
        assert!(last >= self.synced, "event {last} is the last, where {} was promised to be on disk", self.synced);
        if through != Through::Power && !lost {
            assert!(
                last >= self.written,
                "event {last} is the last, where {} was promised to be written",
                self.written
            );
        }
        let refused = self.sent.iter().take(last as usize).position(|sent| sent.refused);
        assert_eq!(refused.map(|at| at + 1), None, "an event exists though its caller was told that it did not happen");
        self.sent.truncate(last as usize);
        // A reader has now seen all this, so only a power failure may take it. What is read from a log that has failed may
        // vanish, and nobody is told more than that it can't be confirmed.
        self.written = if loaded.is_provisional { self.written.min(last) } else { last };
        self.last_change = self.last_change.min(last);
        self.same_state(&loaded.tenant);
        self.same_events(loaded, rotten);
        self.proven(folder, rotten);
    }

    /// The state as of an event.
    pub fn state_at(&self, last: u64) -> Tenant {
        let mut replayed = Tenant::default();
        for (seq, sent) in (1..=last).zip(&self.sent) {
            let (moment, event) = codec::decode_event(seq, &sent.bytes).unwrap();
            replayed.apply(moment, &event);
        }
        replayed
    }

    fn same_state(&self, tenant: &Tenant) {
        let replayed = self.state_at(self.len());
        let [found, expected] = [tenant, &replayed].map(|tenant| codec::encode_state(&tenant.state()).unwrap());
        assert!(
            found == expected,
            "the state is not what the events give:\n{:?}\n{:?}",
            tenant.state(),
            replayed.state()
        );
    }

    fn same_events(&self, loaded: &LoadedTenant, rotten: bool) {
        let reader = loaded.journal.reader();
        let (mut first, mut next) = (self.len() + 1, None);
        let read = reader.oldest_first(0, &mut |seq, bytes| {
            first = first.min(seq);
            assert_eq!(seq, next.unwrap_or(seq), "events are read in order, each once");
            assert!(self.sent[seq as usize - 1].bytes == bytes, "event {seq} is another one than was sent");
            next = Some(seq + 1);
            ControlFlow::Continue(())
        });
        if let Err(problem) = &read {
            assert!(rotten && problem.raw_os_error().is_none(), "the events can't be read: {problem}");
            return;
        }
        assert_eq!(next.unwrap_or(first), self.len() + 1, "all events are read");
        for gone in &self.sent[..first as usize - 1] {
            assert!(self.cutoff.is_some_and(|cutoff| gone.at <= cutoff), "an event of {} was removed", gone.at);
        }
        if let Err(problem) = reader.verify() {
            assert!(rotten, "the hash chain does not hold: {problem}");
        }
    }

    /// The audit trail verifies, by itself and against the kept link.
    fn proven(&self, folder: &Folder, rotten: bool) {
        let found = verify_chain(folder, &LogTails::default(), self.kept, &mut |_, _| None);
        if rotten {
            return;
        }
        let found = found.unwrap();
        if let Some(fault) = &found.fault {
            panic!("the audit trail is accused: {fault:?}");
        }
        let kept_seq = self.kept.map_or(0, |kept| kept.seq);
        let expected = if self.kept.is_none() { Passage::NotAsked } else { Passage::Through };
        if found.passage != expected {
            assert!(found.passage == Passage::TooOld && found.first_seq > kept_seq, "{found:?}");
        }
    }

    /// The state of a tenant that was never interrupted.
    pub fn undisturbed(&self, pipeline: &CommitPipeline) {
        assert_eq!(pipeline.tenant().seq(), self.len());
        self.same_state(pipeline.tenant());
    }
}

//! What callers of a tenant were told, and whether it was true.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use kavach_domain::{Code, Error, TenantId};
use kavach_store::BoxedReply;

use super::engine::Engine;
use super::tally::RemoteTally;

/// An event as it was recorded in the state: its number and its bytes.
pub type Sent = (u64, Vec<u8>);

/// One tenant's callers.
#[derive(Clone)]
pub struct Callers {
    id: TenantId,
    /// Whether nothing goes wrong with the tenant.
    is_calm: bool,
    engine: Arc<Engine>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    calls: u64,
    /// Calls that have no answer yet, each with its thread. Threads don't wait for each other.
    open: BTreeSet<(usize, u64)>,
    /// Events of which a caller was told that they did not happen.
    never: Vec<Sent>,
    tally: RemoteTally,
}

impl Callers {
    pub fn new(id: TenantId, is_calm: bool, engine: Arc<Engine>) -> Self {
        Self { id, is_calm, engine, seen: Arc::default() }
    }

    /// A reply of the next call, on that thread. It recorded `own`, and shows everything up to `shown`.
    pub fn reply(&self, thread: usize, own: Vec<Sent>, shown: Option<Sent>) -> BoxedReply {
        let call = {
            let mut seen = self.seen.lock().unwrap();
            seen.calls += 1;
            let call = (thread, seen.calls);
            seen.open.insert(call);
            call
        };
        let callers = self.clone();
        Box::new(move |outcome| callers.answered(call, own, shown, outcome))
    }

    fn answered(&self, call: (usize, u64), own: Vec<Sent>, shown: Option<Sent>, outcome: Result<(), Error>) {
        let is_recorded = |(seq, bytes): &Sent| self.engine.has(self.id.bytes(), *seq, bytes);
        let mut seen = self.seen.lock().unwrap();
        assert!(seen.open.remove(&call), "a caller was answered twice");
        let outcome = outcome.map_err(|error| error.code());
        match outcome {
            Ok(()) => {
                seen.tally.answered += 1;
                assert!(own.iter().all(is_recorded), "a caller was told yes, and its event is not recorded");
                assert!(shown.iter().all(is_recorded), "a read shows what is not recorded");
                let earlier = seen.open.range((call.0, 0)..call).next();
                assert_eq!(earlier, None, "a reply left before an earlier one of its tenant");
            }
            Err(Code::StorageUnavailable) => {
                seen.tally.refused += 1;
                seen.never.extend(own);
            }
            Err(Code::OutcomeUnknown) => seen.tally.unsure += 1,
            Err(Code::Overloaded) => {
                seen.tally.overloaded += 1;
                assert!(own.is_empty(), "it was recorded, and its caller was told to try again");
            }
            Err(code) => panic!("a caller got {code:?}"),
        }
        if self.is_calm {
            assert!(matches!(outcome, Ok(()) | Err(Code::Overloaded)), "another tenant's failure hit it: {outcome:?}");
        }
    }

    /// The number of calls without an answer.
    pub fn open(&self) -> usize {
        self.seen.lock().unwrap().open.len()
    }

    /// What callers were told did not happen has not happened since.
    pub fn check_refused(&self) {
        for (seq, bytes) in &self.seen.lock().unwrap().never {
            let happened = self.engine.has(self.id.bytes(), *seq, bytes);
            assert!(!happened, "event {seq} is recorded, and its caller was told that it did not happen");
        }
    }

    pub fn tally(&self) -> RemoteTally {
        self.seen.lock().unwrap().tally
    }
}

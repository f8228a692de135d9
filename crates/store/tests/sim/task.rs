//! Jobs of other threads, one step at a time: each is a thread that stops before every disk operation until the
//! scheduler lets it go on (except before the sync of a file, which holds a lock). So only one thread runs at any
//! moment, and a seed decides which.

use std::cell::RefCell;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};

#[derive(Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    /// Operations it may still do.
    permits: usize,
    /// It waits before an operation that it may not do yet.
    waits: bool,
    finished: bool,
}

thread_local! {
    static GATE: RefCell<Option<Arc<Gate>>> = const { RefCell::new(None) };
}

/// Called before each operation of the disk.
pub fn pass() {
    GATE.with_borrow(|gate| {
        let Some(gate) = gate else { return };
        let mut state = gate.state.lock().unwrap();
        while state.permits == 0 {
            state.waits = true;
            gate.changed.notify_all();
            state = gate.changed.wait(state).unwrap();
        }
        state.waits = false;
        state.permits -= 1;
    });
}

/// Does part of a job without a stop, since it holds a lock that others may wait for.
pub fn unstopped<T>(part: impl FnOnce() -> T) -> T {
    let gate = GATE.take();
    let outcome = part();
    GATE.set(gate);
    outcome
}

/// A job under way.
pub struct Task<T> {
    gate: Arc<Gate>,
    thread: Option<JoinHandle<T>>,
}

impl<T: Send + 'static> Task<T> {
    /// Starts it, up to its first operation.
    pub fn start(job: impl FnOnce() -> T + Send + 'static) -> Self {
        let gate = Arc::new(Gate::default());
        let own = Arc::clone(&gate);
        let thread = thread::spawn(move || {
            /// Marks the job as done, even after a panic.
            struct Finish(Arc<Gate>);
            impl Drop for Finish {
                fn drop(&mut self) {
                    self.0.state.lock().unwrap().finished = true;
                    self.0.changed.notify_all();
                }
            }
            let _finish = Finish(Arc::clone(&own));
            GATE.set(Some(own));
            // Writes between its creation and its start count as its own.
            pass();
            job()
        });
        let task = Self { gate, thread: Some(thread) };
        task.settle(0);
        task
    }

    /// Lets it do that many operations, or all; returns whether it is done.
    pub fn advance(&self, operations: usize) -> bool {
        self.settle(operations)
    }

    fn settle(&self, permits: usize) -> bool {
        let mut state = self.gate.state.lock().unwrap();
        state.permits += permits;
        self.gate.changed.notify_all();
        while !(state.finished || state.waits && state.permits == 0) {
            state = self.gate.changed.wait(state).unwrap();
        }
        state.permits = 0;
        state.finished
    }

    /// Lets it run to its end, and returns its result.
    pub fn finish(mut self) -> T {
        while !self.settle(usize::MAX / 2) {}
        match self.thread.take().unwrap().join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        // An unfinished job, as after a failed check, runs to its end: nothing it does matters any more.
        if let Some(thread) = self.thread.take() {
            self.gate.state.lock().unwrap().permits = usize::MAX / 2;
            self.gate.changed.notify_all();
            let _ = thread.join();
        }
    }
}

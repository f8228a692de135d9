//! Compresses sealed segments for all tenants, out of the way of their calls.
//!
//! To compress an event takes a third as long as to decide it, and nobody waits for it. So one thread does it with the
//! lowest priority there is, in what the calls leave of the cores: under full load segments wait as they are. That
//! takes room on the disk, so only so many wait; past that a second thread, with the usual priority, takes its share.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::process::setpriority_process;
use rustix::thread::gettid;

use super::seal::{Packer, SealJob};

/// Segments that may wait for a free core: at 16 MiB each one gigabyte, which a disk that holds audit trails has.
const MAX_BACKLOG: usize = 64;

/// The lowest priority (see `setpriority(2)`): some sixtieth of what other threads get of a busy core.
const LOWEST_PRIORITY: i32 = 19;

type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// A handle to the threads that compress; they end once the last handle is dropped. What still waits then is handed
/// out again after the next start.
#[derive(Clone)]
pub struct Sealer(Arc<Handle>);

struct Handle(Arc<Queue>);

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<(SealJob, Done)>,
    ended: bool,
}

impl Sealer {
    /// Starts the threads.
    pub fn start() -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        for (name, patient) in [("kavach-seal", true), ("kavach-seal-late", false)] {
            let queue = Arc::clone(&queue);
            thread::Builder::new().name(name.into()).spawn(move || {
                if patient {
                    // On Linux a thread has a priority of its own. Where it can't be had, the usual one does.
                    let _ = setpriority_process(Some(gettid()), LOWEST_PRIORITY);
                }
                let spare = if patient { 0 } else { MAX_BACKLOG };
                while let Some(mut next) = queue.next(spare) {
                    let mut packer = Packer::default();
                    loop {
                        let (job, done) = next;
                        // A defect costs the segment its compression, not all tenants theirs.
                        let _ = catch_unwind(AssertUnwindSafe(|| done(job.run_with(&mut packer))));
                        // While nothing waits, nothing is held.
                        let Some(following) = queue.try_next(spare) else { break };
                        next = following;
                    }
                }
            })?;
        }
        Ok(Self(Arc::new(Handle(queue))))
    }

    /// Queues a segment; `done` is called on another thread with what came of it.
    pub fn submit(&self, job: SealJob, done: Done) {
        let Handle(queue) = &*self.0;
        queue.lock().jobs.push_back((job, done));
        queue.changed.notify_all();
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The oldest job, where more than `spare` wait now.
    fn try_next(&self, spare: usize) -> Option<(SealJob, Done)> {
        let mut state = self.lock();
        if state.ended || state.jobs.len() <= spare { None } else { state.jobs.pop_front() }
    }

    /// The oldest job, once more than `spare` wait. `None` at the end.
    fn next(&self, spare: usize) -> Option<(SealJob, Done)> {
        let waits = |state: &mut State| !state.ended && state.jobs.len() <= spare;
        let mut state = self.changed.wait_while(self.lock(), waits).unwrap_or_else(PoisonError::into_inner);
        if state.ended { None } else { state.jobs.pop_front() }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.changed.notify_all();
    }
}

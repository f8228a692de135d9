//! The threads that compress segments for all tenants, out of the way of their calls.
//!
//! Compressing an event takes a third as long as deciding it, and nobody waits for it. So one thread compresses only
//! while calls leave a core idle; under full load segments wait. Waiting segments take room on the disk, so once many
//! wait, a second thread with the usual priority helps.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};

use crate::compress::{CompressionJob, Packer};

/// Segments that may wait for an idle core. At 16 MiB each that is a gigabyte, which a disk for audit trails has.
const MAX_BACKLOG: usize = 64;

type CompressionCallback = Box<dyn FnOnce(io::Result<()>) + Send>;

/// A handle to the threads that compress. They end once it is closed or its last copy is dropped. Jobs that still wait
/// then come again after the next start.
#[derive(Clone)]
pub struct Compressor(Arc<Handle>);

struct Handle {
    queue: Arc<Queue>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Default)]
struct QueueState {
    jobs: VecDeque<(CompressionJob, CompressionCallback)>,
    ended: bool,
}

impl Compressor {
    /// Starts the threads.
    pub fn start() -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let mut threads = Vec::new();
        for (name, patient) in [("kavach-compress", true), ("kavach-compress-late", false)] {
            let queue = Arc::clone(&queue);
            threads.push(thread::Builder::new().name(name.into()).spawn(move || {
                if patient {
                    give_way();
                }
                let spare = if patient { 0 } else { MAX_BACKLOG };
                let mut packer = Packer::default();
                while let Some((job, done)) = queue.next(spare, &mut packer) {
                    // A defect costs one segment its compression, and not all tenants their thread.
                    let _ = catch_unwind(AssertUnwindSafe(|| done(job.run_with(&mut packer))));
                }
            })?);
        }
        Ok(Self(Arc::new(Handle { queue, threads: Mutex::new(threads) })))
    }

    /// Ends the threads, after the segments they are working on. Blocking.
    pub fn close(&self) {
        self.0.queue.end();
        let threads = std::mem::take(&mut *self.0.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A panic was contained where it happened.
            let _ = thread.join();
        }
    }

    /// Queues a job. Another thread calls `done` with the outcome.
    pub fn submit(&self, job: CompressionJob, done: CompressionCallback) {
        let queue = &self.0.queue;
        queue.lock().jobs.push_back((job, done));
        queue.changed.notify_all();
    }
}

impl Queue {
    fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until more than `spare` jobs wait, and takes the oldest; `None` at the end. `packer` gives back its memory while
    /// this waits.
    fn next(&self, spare: usize, packer: &mut Packer) -> Option<(CompressionJob, CompressionCallback)> {
        let rests = |state: &mut QueueState| !state.ended && state.jobs.len() <= spare;
        let mut state = self.lock();
        if rests(&mut state) {
            *packer = Packer::default();
            state = self.changed.wait_while(state, rests).unwrap_or_else(PoisonError::into_inner);
        }
        if state.ended { None } else { state.jobs.pop_front() }
    }
}

/// Makes the calling thread run only while a core is idle (`SCHED_IDLE`, see `sched(7)`). The lowest nice value is not
/// enough: such a thread keeps a core for milliseconds after a worker was woken on it.
fn give_way() {
    let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    // If the system refuses, the usual priority will do.
    let _ = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy);
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.queue.end();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::JournalOptions;
    use crate::tests::{fresh, segment, sync};

    #[test]
    fn every_segment_is_compressed_however_many_wait() {
        let (_dir, mut journal) = fresh(JournalOptions { segment_bytes: 1 });
        let segments = 2 * MAX_BACKLOG as i64;
        for day in 0..segments {
            segment(&mut journal, day);
        }
        sync(&mut journal, segments + 1);
        let jobs = journal.take_compression_jobs();
        assert_eq!(jobs.len(), 2 * MAX_BACKLOG);
        let compressor = Compressor::start().unwrap();
        let (done, outcomes) = mpsc::channel();
        for job in jobs {
            let done = done.clone();
            compressor.submit(job, Box::new(move |outcome| done.send(outcome).unwrap()));
        }
        drop(done);
        assert_eq!(outcomes.iter().filter(Result::is_ok).count(), 2 * MAX_BACKLOG);
        assert!(journal.folder.compressed(1).exists() && !journal.folder.raw(1).exists());
    }

    #[test]
    fn an_erased_tenant_is_no_problem_and_a_lost_segment_is() {
        let (dir, mut journal) = fresh(JournalOptions { segment_bytes: 1 });
        for day in 0..3 {
            segment(&mut journal, day);
        }
        sync(&mut journal, 9);
        let jobs = journal.take_compression_jobs();
        jobs[0].run().unwrap();
        jobs[0].run().unwrap();
        std::fs::remove_file(journal.folder.raw(2)).unwrap();
        assert!(jobs[1].run().is_err());
        std::fs::remove_dir_all(dir.path()).unwrap();
        jobs[2].run().unwrap();
    }

    #[test]
    fn a_closed_compressor_lets_go_of_what_waits() {
        let (_dir, mut journal) = fresh(JournalOptions { segment_bytes: 1 });
        segment(&mut journal, 0);
        sync(&mut journal, 9);
        let compressor = Compressor::start().unwrap();
        compressor.close();
        compressor.submit(journal.take_compression_jobs().remove(0), Box::new(|_| panic!("nobody is there to do it")));
        assert!(journal.folder.raw(1).exists());
    }
}

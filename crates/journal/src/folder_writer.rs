//! The thread that writes tails to tenants' folders.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use crate::flush::{FlushJob, Flushed};

type FlushCallback = Box<dyn FnOnce(Flushed) + Send>;

enum Request {
    Flush(FlushJob, FlushCallback),
    /// Tells when everything before it is done.
    Reach(Sender<()>),
}

/// A handle to the thread that writes to tenants' folders, one job after another. The thread ends when the last handle is
/// dropped and every submitted job is done.
#[derive(Clone, Debug)]
pub struct FolderWriter {
    requests: Sender<Request>,
}

impl FolderWriter {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no room for another thread.
    pub fn start() -> io::Result<Self> {
        let (requests, queue) = channel();
        thread::Builder::new().name("kavach-fold".into()).spawn(move || serve(&queue))?;
        Ok(Self { requests })
    }

    /// Queues a job. The thread calls `done` with what became of it; `done` should only pass it on.
    pub fn submit(&self, job: FlushJob, done: Box<dyn FnOnce(Flushed) + Send>) {
        // The thread ends after the last handle, so it takes everything.
        _ = self.requests.send(Request::Flush(job, done));
    }

    /// Waits until the jobs submitted so far are done. Blocking. Whoever opens a journal that was not closed has to wait
    /// before: a job of its last owner may still write.
    pub fn wait(&self) {
        let (reached, reaches) = channel();
        if self.requests.send(Request::Reach(reached)).is_ok() {
            _ = reaches.recv();
        }
    }
}

fn serve(queue: &Receiver<Request>) {
    while let Ok(request) = queue.recv() {
        // A panic costs one tenant an answer, and not all tenants their thread.
        let served = catch_unwind(AssertUnwindSafe(|| match request {
            Request::Flush(job, done) => done(job.run()),
            Request::Reach(reached) => _ = reached.send(()),
        }));
        if served.is_err() {
            tracing::error!("a write to a tenant's folder panicked");
        }
    }
}

//! Threads that read audit trails, at a lower priority than those that decide calls.
//!
//! A long report keeps a core busy. With equal priorities a call that comes while every core is busy waits until the
//! scheduler takes one away, which is milliseconds. So these give way at once.

use std::io;

use rustix::process::setpriority_process;
use rustix::thread::gettid;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;
use tracing::warn;

/// About a tenth of the share of a thread that decides calls, where both want the same core.
const NICENESS: i32 = 10;

/// The threads. They end when this is dropped, after what they do.
pub struct ReaderThreads {
    handle: Handle,
    /// Kept to be shut down.
    runtime: Option<Runtime>,
}

impl ReaderThreads {
    /// At most that many threads, started when needed.
    ///
    /// # Errors
    /// The system has no room for them.
    pub fn new(most: usize) -> io::Result<Self> {
        let give_way = || {
            if let Err(problem) = setpriority_process(Some(gettid()), NICENESS) {
                warn!(%problem, "a thread that reads audit trails has the priority of those that decide calls");
            }
        };
        let mut builder = Builder::new_current_thread();
        let runtime =
            builder.max_blocking_threads(most).thread_name("audit-reader").on_thread_start(give_way).build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Runs work that reads, and may wait for the disk.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        self.handle.spawn_blocking(work)
    }
}

impl Drop for ReaderThreads {
    fn drop(&mut self) {
        // A runtime must not be dropped where other futures run: it would wait for its threads.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

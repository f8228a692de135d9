//! The thread that writes the catalog.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use kavach_store::catalog_writer::{CatalogWriter, RowBytes, Rows};
use tracing::{error, warn};

use crate::domain::TenantId;
use crate::journal::{CatalogFile, Log};

/// How long we wait before we write again after a failure.
const RETRY_DELAY: Duration = Duration::from_millis(250);

enum Task {
    /// See [`CatalogWriter::note`].
    Note(TenantId, RowBytes, u64),
    /// See [`CatalogWriter::folded`].
    Folded(TenantId, u64),
    Stop,
}

/// The thread that writes the catalog.
pub struct CatalogKeeper {
    tasks: Sender<Task>,
    /// What the thread will take when it starts.
    waiting: Mutex<Option<Receiver<Task>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for CatalogKeeper {
    fn default() -> Self {
        let (tasks, waiting) = channel();
        Self { tasks, waiting: Mutex::new(Some(waiting)), thread: Mutex::default() }
    }
}

impl CatalogKeeper {
    /// Starts the thread.
    pub fn start(&self, file: CatalogFile, log: Arc<Log>, rows: impl Rows + Send + 'static) -> io::Result<()> {
        let Some(tasks) = lock(&self.waiting).take() else { return Ok(()) };
        let keep = move || keep(CatalogWriter::new(file), &log, &rows, &tasks);
        *lock(&self.thread) = Some(thread::Builder::new().name("kavach-catalog".into()).spawn(keep)?);
        Ok(())
    }

    /// Writes a tenant's row, which may say only what is on disk, and then lets the log forget its events up to `folded`.
    pub fn note(&self, tenant: TenantId, row: RowBytes, folded: u64) {
        // Without the thread the log keeps the events.
        let _ = self.tasks.send(Task::Note(tenant, row, folded));
    }

    /// Lets the log forget a tenant's events up to `folded`, of which the row tells that was noted last.
    pub fn folded(&self, tenant: TenantId, folded: u64) {
        let _ = self.tasks.send(Task::Folded(tenant, folded));
    }

    /// Notes that a tenant was erased.
    pub fn forget(&self, tenant: TenantId) {
        self.note(tenant, RowBytes::default(), u64::MAX);
    }

    /// Writes what waits, and ends the thread. Blocking.
    pub fn stop(&self) {
        let _ = self.tasks.send(Task::Stop);
        if let Some(thread) = lock(&self.thread).take()
            && thread.join().is_err()
        {
            error!("the thread that writes the catalog panicked");
        }
    }
}

fn keep(mut writer: CatalogWriter, log: &Log, rows: &dyn Rows, tasks: &Receiver<Task>) {
    loop {
        let next = match writer.is_idle() {
            true => tasks.recv().map_err(|_| RecvTimeoutError::Disconnected),
            false => tasks.recv_timeout(RETRY_DELAY),
        };
        let mut stop = matches!(next, Err(RecvTimeoutError::Disconnected));
        for task in next.into_iter().chain(tasks.try_iter()) {
            match task {
                Task::Note(tenant, row, folded) => writer.note(tenant, row, folded),
                Task::Folded(tenant, folded) => writer.folded(tenant, folded, log),
                Task::Stop => stop = true,
            }
        }
        if let Err(problem) = writer.write(log, rows) {
            warn!(%problem, "the catalog could not be written; it is tried again, and the log keeps what it needs");
        }
        if stop {
            if writer.is_idle()
                && let Err(problem) = writer.close()
            {
                warn!(%problem, "the catalog could not be closed; the next start makes it anew");
            }
            return;
        }
    }
}

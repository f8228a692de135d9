//! The thread that writes the catalog, and lets the log forget what a tenant's folder and its row have.
//!
//! A row may say only what is on disk: a tenant's row waits until the log is synced up to the moment it was made. And the log
//! keeps a tenant's events until its row is written. So after a crash, each tenant without a tail in the log has a row that
//! holds.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tracing::{error, warn};

use super::log_keeper::LogKeeper;
use crate::domain::TenantId;
use crate::journal::{CatalogFile, Log, LogProgress};

/// How often we look whether the log is synced, after we asked for it.
const SYNC_DELAY: Duration = Duration::from_millis(5);
/// How long we wait before we write again after a failure.
const RETRY_DELAY: Duration = Duration::from_millis(250);
/// Bytes of outdated rows (16 MiB) that the file may have beside as many as it has of current ones.
const MOST_OUTDATED: u64 = 16 << 20;

/// A tenant's row; empty if the tenant is gone.
pub type RowBytes = Arc<[u8]>;

/// The directory, as far as the catalog needs it.
pub trait Rows: Send {
    /// The newest row of every tenant that is in the catalog.
    fn all(&self) -> Vec<(TenantId, RowBytes)>;
    /// A row is in the catalog.
    fn written(&self, tenant: TenantId, row: RowBytes);
}

/// The place in the log that has to be on disk before a row may be.
#[derive(Clone, Copy, Debug)]
pub struct LogMark {
    generation: usize,
    position: u64,
}

impl LogMark {
    /// Everything that is in the log now.
    pub fn now(log: &Log) -> Self {
        // In this order: a failure in between makes the mark one of before it.
        let generation = log.progress(usize::MAX).generation;
        Self { generation, position: log.position() }
    }
}

/// What became of a place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    OnDisk,
    Waits,
    /// The log failed before it was on disk.
    Lost,
}

impl LogMark {
    fn standing(self, log: &Log) -> Standing {
        let LogProgress { synced, failed, .. } = log.progress(self.generation);
        match failed {
            Some(synced) if self.position > synced => Standing::Lost,
            Some(_) => Standing::OnDisk,
            None if self.position > synced => Standing::Waits,
            None => Standing::OnDisk,
        }
    }
}

/// A row to write.
#[derive(Debug)]
struct Note {
    row: RowBytes,
    /// The last event that the tenant's folder has on disk.
    folded: u64,
    /// `None` if the log is synced already.
    mark: Option<LogMark>,
}

enum Task {
    Write(TenantId, Note),
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
    pub fn start(
        &self,
        file: CatalogFile,
        log: Arc<Log>,
        log_keeper: Arc<LogKeeper>,
        rows: impl Rows + 'static,
    ) -> io::Result<()> {
        let Some(tasks) = lock(&self.waiting).take() else { return Ok(()) };
        let compact_at = file.bytes() * 2 + MOST_OUTDATED;
        let writer = CatalogWriter { file, log, log_keeper, rows, pending: BTreeMap::new(), compact_at };
        let thread = thread::Builder::new().name("kavach-catalog".into()).spawn(move || writer.run(&tasks))?;
        *lock(&self.thread) = Some(thread);
        Ok(())
    }

    /// Writes a tenant's row once the log is synced up to `mark`, and then lets the log forget its events up to `folded`.
    pub fn note(&self, tenant: TenantId, row: RowBytes, folded: u64, mark: Option<LogMark>) {
        // Without the thread the log keeps the events.
        let _ = self.tasks.send(Task::Write(tenant, Note { row, folded, mark }));
    }

    /// Notes that a tenant was erased.
    pub fn forget(&self, tenant: TenantId) {
        self.note(tenant, Arc::default(), u64::MAX, None);
    }

    /// Writes what waits, as far as the log is synced, and ends the thread. Blocking.
    pub fn stop(&self) {
        let _ = self.tasks.send(Task::Stop);
        if let Some(thread) = lock(&self.thread).take()
            && thread.join().is_err()
        {
            error!("the thread that writes the catalog panicked");
        }
    }
}

struct CatalogWriter<R> {
    file: CatalogFile,
    log: Arc<Log>,
    log_keeper: Arc<LogKeeper>,
    rows: R,
    /// For each tenant the newest row that is not written.
    pending: BTreeMap<TenantId, Note>,
    /// Bytes of the file from which on it is written anew, without outdated rows.
    compact_at: u64,
}

impl<R: Rows> CatalogWriter<R> {
    fn run(mut self, tasks: &Receiver<Task>) {
        let mut pause = Duration::ZERO;
        loop {
            let next = match self.pending.is_empty() {
                true => tasks.recv().map_err(|_| RecvTimeoutError::Disconnected),
                false => tasks.recv_timeout(pause),
            };
            let mut stop = matches!(next, Err(RecvTimeoutError::Disconnected));
            for task in next.into_iter().chain(tasks.try_iter()) {
                match task {
                    Task::Write(tenant, note) => _ = self.pending.insert(tenant, note),
                    Task::Stop => stop = true,
                }
            }
            pause = self.write(stop);
            if stop {
                return;
            }
        }
    }

    /// Writes the rows that may be on disk now. Returns how long to wait with the others.
    fn write(&mut self, is_last: bool) -> Duration {
        let mut ready = BTreeMap::new();
        for (tenant, note) in std::mem::take(&mut self.pending) {
            match note.mark.map_or(Standing::OnDisk, |mark| mark.standing(&self.log)) {
                Standing::OnDisk => _ = ready.insert(tenant, note),
                Standing::Waits => _ = self.pending.insert(tenant, note),
                // The tenant hears of the failure, and makes another row.
                Standing::Lost => self.log.not_folded(tenant.bytes()),
            }
        }
        if !self.pending.is_empty() && !is_last {
            self.log_keeper.appended(true);
        }
        let written = self.put(&ready);
        if let Err(problem) = written {
            warn!(%problem, "the catalog could not be written; it is tried again, and the log keeps what it needs");
            self.pending.extend(ready);
            return RETRY_DELAY;
        }
        for (tenant, Note { row, folded, .. }) in ready {
            if !row.is_empty() {
                self.rows.written(tenant, row);
            }
            self.log.folded(tenant.bytes(), folded);
        }
        SYNC_DELAY
    }

    fn put(&mut self, ready: &BTreeMap<TenantId, Note>) -> io::Result<()> {
        if self.file.needs_replacing() || self.file.bytes() > self.compact_at {
            let mut all: BTreeMap<_, _> = self.rows.all().into_iter().collect();
            all.extend(ready.iter().map(|(tenant, note)| (*tenant, Arc::clone(&note.row))));
            let all = all.iter().filter(|(_, row)| !row.is_empty());
            self.file.replace(all.map(|(tenant, row)| (tenant.bytes(), &**row)))?;
            self.compact_at = self.file.bytes() * 2 + MOST_OUTDATED;
            return Ok(());
        }
        if ready.is_empty() {
            return Ok(());
        }
        self.file.append(ready.iter().map(|(tenant, note)| (tenant.bytes(), &*note.row)))
    }
}

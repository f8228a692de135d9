//! The threads of the log: one syncs it for all tenants, and reads it anew after a failure; one makes its files ahead and
//! asks tenants to fold.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tracing::{error, info, warn};

use crate::domain::TenantId;
use crate::journal::Log;
use crate::measure::Histogram;

/// How long a decision may stay off the disk, less the time that a busy disk takes.
const SYNC_DELAY: Duration = Duration::from_millis(500);
/// How often a failed log is read anew until that succeeds.
const REOPEN_DELAY: Duration = Duration::from_millis(250);
/// How often we look for files to make and tenants to fold, while the log grows.
const LOOK_DELAY: Duration = Duration::from_millis(50);
/// How often we look for more tenants to fold, while some are at it.
const FOLD_DELAY: Duration = Duration::from_millis(100);
/// How long an erased tenant's events may stay in the log, so that one pass over the log overwrites those of many.
const ERASE_DELAY: Duration = Duration::from_secs(15);

/// The threads of the log.
pub struct LogKeeper {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    look: SyncSender<()>,
    looks: Mutex<Option<Receiver<()>>>,
}

struct Shared {
    log: Arc<Log>,
    wanted: Mutex<Wanted>,
    changed: Condvar,
    /// Threads with tenants, which hear when the log has come further.
    bells: Mutex<Vec<Weak<Notify>>>,
    syncs: Arc<Histogram>,
    has_ended: AtomicBool,
}

/// What the sync thread should do.
#[derive(Default)]
struct Wanted {
    now: bool,
    at: Option<Instant>,
    stop: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LogKeeper {
    /// Starts the thread that syncs the log. `syncs` gets the time of each sync.
    pub fn start(log: Arc<Log>, syncs: Arc<Histogram>) -> io::Result<Self> {
        let (wanted, changed, bells) = Default::default();
        let shared = Arc::new(Shared { log, wanted, changed, bells, syncs, has_ended: AtomicBool::new(false) });
        let (look, looks) = sync_channel(1);
        // A killed process may have left tails.
        let _ = look.try_send(());
        let (own, own_look) = (Arc::clone(&shared), look.clone());
        let thread = thread::Builder::new().name("kavach-log".into()).spawn(move || own.sync(&own_look))?;
        Ok(Self { shared, threads: Mutex::new(vec![thread]), look, looks: Mutex::new(Some(looks)) })
    }

    /// Starts the thread that makes files ahead. `fold` asks a tenant to fold; it says whether the tenant can.
    pub fn keep(&self, fold: impl Fn([u8; 16]) -> bool + Send + 'static) -> io::Result<()> {
        let Some(looks) = lock(&self.looks).take() else { return Ok(()) };
        let shared = Arc::clone(&self.shared);
        let keep = move || shared.keep(&looks, &fold);
        lock(&self.threads).push(thread::Builder::new().name("kavach-log-files".into()).spawn(keep)?);
        Ok(())
    }

    /// Rings a thread's bell whenever the log has come further, or failed.
    pub fn ring(&self, bell: &Arc<Notify>) {
        let mut bells = lock(&self.shared.bells);
        bells.retain(|bell| bell.strong_count() > 0);
        bells.push(Arc::downgrade(bell));
    }

    /// Something was appended. If somebody waits for the disk, it is synced as soon as possible, else within a second.
    pub fn appended(&self, is_awaited: bool) {
        let mut wanted = lock(&self.shared.wanted);
        let is_news = match is_awaited {
            true => !std::mem::replace(&mut wanted.now, true),
            false => wanted.at.is_none(),
        };
        if is_news {
            wanted.at.get_or_insert_with(|| Instant::now() + SYNC_DELAY);
            drop(wanted);
            self.shared.changed.notify_one();
        }
    }

    /// A tenant was erased: overwrites what the log has of it, soon.
    pub fn erased(&self, tenant: [u8; 16]) {
        self.shared.log.folded(tenant, u64::MAX);
        let _ = self.look.try_send(());
    }

    /// Whether the threads were told to end.
    pub fn has_ended(&self) -> bool {
        self.shared.has_ended.load(Ordering::Acquire)
    }

    /// Syncs the log once more, and ends the threads. Blocking.
    pub fn stop(&self) {
        lock(&self.shared.wanted).stop = true;
        self.shared.has_ended.store(true, Ordering::Release);
        self.shared.changed.notify_one();
        let _ = self.look.try_send(());
        let threads = std::mem::take(&mut *lock(&self.threads));
        // The last owner may be one of them, which asked a tenant to fold.
        let own = thread::current().id();
        for thread in threads.into_iter().filter(|thread| thread.thread().id() != own) {
            if thread.join().is_err() {
                error!("a thread of the log panicked");
            }
        }
        self.shared.ring_all();
    }
}

impl Drop for LogKeeper {
    fn drop(&mut self) {
        // A process that goes on without the server must not write to a directory that another may open.
        self.stop();
    }
}

impl Shared {
    fn sync(&self, look: &SyncSender<()>) {
        loop {
            let stop = self.wait();
            if self.log.is_broken() {
                self.reopen();
            }
            if let Some(sync) = self.log.begin_sync() {
                let start = Instant::now();
                let outcome = sync.run();
                self.syncs.add_time(start.elapsed());
                self.log.finish_sync(&sync, &outcome);
                if let Err(problem) = outcome {
                    error!(%problem, "the log could not be synced; what was not confirmed is checked, and calls are refused meanwhile");
                    let mut wanted = lock(&self.wanted);
                    (wanted.now, wanted.at) = (false, Some(Instant::now()));
                }
            }
            self.ring_all();
            // If the other thread was told already, or is gone, there is nothing to tell.
            let _ = look.try_send(());
            if stop {
                return;
            }
        }
    }

    /// Waits until there is something to do. Says whether the thread is to end.
    fn wait(&self) -> bool {
        let mut wanted = lock(&self.wanted);
        loop {
            let now = Instant::now();
            if wanted.stop || wanted.now || wanted.at.is_some_and(|at| at <= now) {
                (wanted.now, wanted.at) = (false, None);
                return wanted.stop;
            }
            wanted = match wanted.at {
                Some(at) => {
                    let waited = self.changed.wait_timeout(wanted, at - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(wanted).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn reopen(&self) {
        match self.log.reopen() {
            Ok(()) => info!("the log works again"),
            Err(problem) => {
                warn!(%problem, "the log still fails");
                lock(&self.wanted).at = Some(Instant::now() + REOPEN_DELAY);
            }
        }
    }

    /// Makes files ahead, asks tenants to fold, and overwrites what is erased.
    fn keep(&self, looks: &Receiver<()>, fold: &dyn Fn([u8; 16]) -> bool) {
        let mut erasure_due = None;
        while !self.has_ended.load(Ordering::Acquire) {
            if self.log.is_slot_due()
                && let Err(problem) = self.log.prepare()
            {
                warn!(%problem, "the log's next file could not be made; it is tried again when it is needed");
            }
            for tenant in self.log.due_to_fold() {
                if !fold(tenant) {
                    self.log.not_folded(tenant);
                }
            }
            match self.log.carry_forward() {
                Ok(stuck) if stuck.is_empty() => {}
                Ok(stuck) => {
                    let tenants: Vec<_> = stuck.into_iter().map(|id| TenantId::from_bytes(id).folder_name()).collect();
                    warn!(
                        ?tenants,
                        "the log grows, since it keeps damaged events of these tenants: restore or remove them"
                    );
                }
                Err(problem) => warn!(%problem, "the log is longer than it should be, and can't be made shorter"),
            }
            let is_erased = !self.log.erased().is_empty();
            let due = *erasure_due.get_or_insert_with(|| Instant::now() + ERASE_DELAY);
            if !is_erased {
                erasure_due = None;
            } else if due <= Instant::now() {
                erasure_due = None;
                if let Err(problem) = self.log.overwrite_erased() {
                    warn!(%problem, "the log still has events of erased tenants; they are overwritten at the next attempt");
                }
            }
            thread::sleep(LOOK_DELAY);
            let longest = match (self.log.is_folding(), is_erased) {
                (true, _) => FOLD_DELAY,
                (false, true) => ERASE_DELAY,
                (false, false) => Duration::from_secs(60 * 60),
            };
            let _ = looks.recv_timeout(longest);
        }
    }

    fn ring_all(&self) {
        for bell in lock(&self.bells).iter().filter_map(Weak::upgrade) {
            bell.notify_one();
        }
    }
}

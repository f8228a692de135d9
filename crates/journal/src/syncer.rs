//! The thread that syncs tenants' folders.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use crate::sync_job::{SyncJob, SyncPoint};

/// The number of files above which one `syncfs` is cheaper than a sync of each. A `syncfs` also waits for what others
/// wrote to the file system, so a few files are better synced one by one.
const SYNCFS_THRESHOLD: usize = 16;

type SyncCallback = Box<dyn FnOnce(io::Result<SyncPoint>) + Send>;

struct SyncRequest {
    job: SyncJob,
    done: SyncCallback,
}

/// A handle to the thread that waits for the disk. The thread ends when the last handle is dropped and every submitted
/// job is done.
#[derive(Clone, Debug)]
pub struct Syncer {
    requests: Sender<SyncRequest>,
}

impl Syncer {
    /// Starts the thread. `data_dir` holds all tenants' folders.
    pub fn start(data_dir: &Path) -> io::Result<Self> {
        let file_system = FileSystem::open(data_dir)?;
        let (requests, queue) = channel();
        thread::Builder::new().name("kavach-sync".into()).spawn(move || file_system.serve(&queue))?;
        Ok(Self { requests })
    }

    /// Queues a job. The thread calls `done` with the result; `done` should only pass it on. Jobs that wait when the thread
    /// is free are synced together.
    pub fn submit(&self, job: SyncJob, done: Box<dyn FnOnce(io::Result<SyncPoint>) + Send>) {
        if let Err(refused) = self.requests.send(SyncRequest { job, done }) {
            let error = io::Error::other("the sync thread has ended");
            (refused.0.done)(Err(error));
        }
    }
}

/// The file system below the data directory.
struct FileSystem {
    /// Syncs all of it.
    sync_all: Box<dyn Fn() -> io::Result<()> + Send>,
    /// Whether that has never failed. The kernel reports a lost write of any file only once (Linux 5.8 and later). After one
    /// failure, a success says nothing about files that were not in that batch, so each file has to be synced by itself.
    is_trusted: Cell<bool>,
    number: u64,
}

impl FileSystem {
    fn open(data_dir: &Path) -> io::Result<Self> {
        let handle = File::open(data_dir)?;
        let number = handle.metadata()?.dev();
        let sync_all = Box::new(move || Ok(rustix::fs::syncfs(&handle)?));
        Ok(Self { sync_all, is_trusted: Cell::new(true), number })
    }

    fn serve(&self, queue: &Receiver<SyncRequest>) {
        while let Ok(first) = queue.recv() {
            let mut batch = vec![first];
            batch.extend(queue.try_iter());
            self.sync(batch);
        }
    }

    fn sync(&self, batch: Vec<SyncRequest>) {
        // A tenant's folder may be a link to another file system, which syncfs here would not reach.
        let (here, elsewhere): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|request| request.job.folder.file_system == self.number);
        let files: usize = here.iter().map(|request| request.job.files()).sum();
        if files > SYNCFS_THRESHOLD && self.is_trusted.get() {
            self.is_trusted.set((self.sync_all)().is_ok());
            for request in here {
                let result = if self.is_trusted.get() { request.job.confirm() } else { request.job.run() };
                finish(request.done, result);
            }
        } else {
            run_each(here);
        }
        run_each(elsewhere);
    }
}

fn run_each(batch: Vec<SyncRequest>) {
    for request in batch {
        let result = request.job.run();
        finish(request.done, result);
    }
}

/// Contains a panic of the callback: it costs one tenant an answer, and not all tenants their thread.
fn finish(done: SyncCallback, result: io::Result<SyncPoint>) {
    if catch_unwind(AssertUnwindSafe(|| done(result))).is_err() {
        tracing::error!("a sync callback panicked");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::JournalOptions;
    use crate::disk::DiskFile;
    use crate::segment::SegmentFile;
    use crate::synced_file::SyncFailure;
    use crate::tests::fresh_in;

    #[test]
    fn jobs_of_many_tenants_are_all_answered_and_a_panic_harms_only_its_own() {
        for tenants in [1, SYNCFS_THRESHOLD + 4] {
            let dir = tempfile::tempdir().unwrap();
            let file_system = FileSystem::open(dir.path()).unwrap();
            let (answers, answered) = channel();
            let mut batch = Vec::new();
            for tenant in 0..tenants {
                let folder = dir.path().join(tenant.to_string());
                std::fs::create_dir(&folder).unwrap();
                let mut journal = fresh_in(&folder, JournalOptions::default());
                journal.append(1, |_| {}).unwrap();
                journal.flush().unwrap();
                let answers = answers.clone();
                batch.push(SyncRequest {
                    job: journal.begin_sync(),
                    done: Box::new(move |result| {
                        answers.send(result.unwrap().seq).unwrap();
                        assert!(tenant != 0, "a callback that panics");
                    }),
                });
            }
            drop(answers);
            file_system.sync(batch);
            assert_eq!(answered.iter().count(), tenants);
        }
    }

    /// A file of which the kernel lost a write.
    #[derive(Debug)]
    struct Lossy;

    impl DiskFile for Lossy {
        fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
            Ok(0)
        }

        fn write_at(&self, bytes: &[u8], _: u64) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn size(&self) -> io::Result<u64> {
            Ok(0)
        }

        fn set_size(&self, _: u64) -> io::Result<()> {
            Ok(())
        }

        fn reserve(&self, _: u64) -> io::Result<()> {
            Ok(())
        }

        fn sync(&self) -> io::Result<()> {
            Err(io::Error::other("a write was lost"))
        }
    }

    #[test]
    fn after_the_file_system_failed_each_file_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        let failed = Cell::new(false);
        // It reports a lost write once, to the first caller.
        let sync_all = move || if failed.replace(true) { Ok(()) } else { Err(io::Error::other("a write was lost")) };
        let number = dir.path().metadata().unwrap().dev();
        let file_system = FileSystem { sync_all: Box::new(sync_all), is_trusted: Cell::new(true), number };
        for lossy in [false, true] {
            let (answers, answered) = channel();
            let batch = (0..SYNCFS_THRESHOLD + 4).map(|tenant| {
                let folder = dir.path().join(format!("{lossy}-{tenant}"));
                std::fs::create_dir(&folder).unwrap();
                let mut journal = fresh_in(&folder, JournalOptions::default());
                if lossy && tenant == 7 {
                    let lossy = SegmentFile::new(1, Box::new(Lossy), SyncFailure::default());
                    journal.active.file = Some(Arc::new(lossy));
                }
                journal.append(1, |_| {}).unwrap();
                journal.flush().unwrap();
                let answers = answers.clone();
                let done = move |result: io::Result<SyncPoint>| answers.send((tenant, result.is_ok())).unwrap();
                SyncRequest { job: journal.begin_sync(), done: Box::new(done) }
            });
            file_system.sync(batch.collect());
            drop(answers);
            assert!(answered.iter().all(|(tenant, synced)| synced != (lossy && tenant == 7)));
        }
    }

    #[test]
    fn the_thread_outlives_a_panic_and_answers_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let syncer = Syncer::start(dir.path()).unwrap();
        let journal = fresh_in(dir.path(), JournalOptions::default());
        let (answers, answered) = channel();
        syncer.submit(journal.begin_sync(), Box::new(|_| panic!("on purpose")));
        for _ in 0..3 {
            let answers = answers.clone();
            let done = move |result: io::Result<SyncPoint>| answers.send(result.is_ok()).unwrap();
            syncer.clone().submit(journal.begin_sync(), Box::new(done));
        }
        drop((syncer, answers));
        assert_eq!(answered.iter().collect::<Vec<_>>(), [true; 3]);
    }
}

//! New tenants' folders: several are made together, with one sync.

use std::io;
use std::sync::Arc;

use crate::chain::{Checkpoint, genesis};
use crate::data_dir::{DataDir, FolderError, LABEL, NewFolder, UNFINISHED};
use crate::disk::{DiskFile, OpenMode};
use crate::folder::Folder;
use crate::writer::Journal;

/// The number of folders from which on one `syncfs` is cheaper than a sync of each file. It also waits for what others
/// wrote to the file system.
const SYNCFS_THRESHOLD: usize = 4;

/// A folder that does not have its tenant's name yet.
struct Unnamed {
    journal: Journal,
    label: Box<dyn DiskFile>,
}

impl DataDir {
    /// Creates a tenant's folder with its first events, all on disk when this returns. Blocking. After a crash the tenant
    /// exists wholly or not at all. If the name is taken, that is an `AlreadyExists` error.
    pub fn create_tenant(&self, new: NewFolder<'_>) -> Result<Journal, FolderError> {
        let none = || Err(io::Error::other("the folder was not made").into());
        self.create_tenants(&[new]).pop().unwrap_or_else(none)
    }

    /// Creates the folders of several tenants, each as [`create_tenant`](DataDir::create_tenant) does, with as few syncs as
    /// one. Blocking. One that fails keeps no other from being made.
    pub fn create_tenants(&self, new: &[NewFolder<'_>]) -> Vec<Result<Journal, FolderError>> {
        let built: Vec<_> = new.iter().map(|new| self.build(new)).collect();
        // A folder gets its tenant's name only once its content is on disk.
        let is_synced = built.iter().filter(|built| built.is_ok()).count() >= SYNCFS_THRESHOLD && self.sync_all();
        let named = built.into_iter().zip(new).map(|(built, new)| {
            let named = built.and_then(|unnamed| self.name(unnamed, new, is_synced));
            named.inspect_err(|_| {
                // A leftover is removed at the next start; the first error is the one to report.
                let _ = self.disk.remove_folder(&self.unfinished(new));
            })
        });
        let named: Vec<_> = named.collect();
        match self.disk.sync_folder(&self.path) {
            Ok(()) => named.into_iter().map(|named| named.map_err(FolderError::from)).collect(),
            Err(problem) => named.into_iter().zip(new).map(|(named, new)| self.undo(named, new, &problem)).collect(),
        }
    }

    fn unfinished(&self, new: &NewFolder<'_>) -> std::path::PathBuf {
        self.path.join(format!("{UNFINISHED}{}", new.name))
    }

    /// Builds a folder without syncing it.
    fn build(&self, new: &NewFolder<'_>) -> io::Result<Unnamed> {
        let target = self.tenant_path(new.name)?;
        if self.disk.exists(&target) {
            let problem = format!("the folder {} exists", target.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, problem));
        }
        let path = self.unfinished(new);
        self.remove_tree(&path)?;
        let build = || {
            // The journal holds arguments of calls: only the owner may read it, whoever created the data directory.
            self.disk.make_folder(&path)?;
            let label = self.disk.open(&path.join(LABEL), OpenMode::Create)?;
            label.write_all_at(new.label, 0).map_err(|(_, error)| error)?;
            let link = Checkpoint { seq: 0, hash: genesis(new.tenant), time_ms: new.now_ms };
            let folder = Arc::new(Folder::on(Arc::clone(&self.disk), &path)?);
            let mut journal = Journal::start(folder, new.tenant, new.options, Vec::new(), link, new.now_ms)?;
            for event in new.events {
                journal.append(journal.next_seq(), |buffer| buffer.extend_from_slice(event))?;
            }
            journal.flush()?;
            Ok(Unnamed { journal, label })
        };
        build().inspect_err(|_| _ = self.disk.remove_folder(&path))
    }

    /// Syncs everything on the file system, if that is possible and succeeds.
    fn sync_all(&self) -> bool {
        self.lock.as_ref().is_some_and(|lock| rustix::fs::syncfs(lock).is_ok())
    }

    /// Gives a folder its tenant's name, which is not on disk yet.
    fn name(&self, unnamed: Unnamed, new: &NewFolder<'_>, is_synced: bool) -> io::Result<Journal> {
        let Unnamed { mut journal, label } = unnamed;
        // Even without events, the header and the file's entry in the folder have to be on disk.
        let sync = journal.begin_sync();
        let point = match is_synced {
            true => sync.point(),
            false => {
                label.sync()?;
                sync.run()?
            }
        };
        journal.finish_sync(point, new.now_ms)?;
        journal.settle(new.now_ms)?;
        let target = self.tenant_path(new.name)?;
        self.disk.rename(&self.unfinished(new), &target)?;
        journal.folder = Arc::new(Folder { path: target, ..(*journal.folder).clone() });
        Ok(journal)
    }

    /// Takes a new folder back after the data directory could not be synced.
    fn undo(
        &self,
        named: io::Result<Journal>,
        new: &NewFolder<'_>,
        problem: &io::Error,
    ) -> Result<Journal, FolderError> {
        let target = named.and_then(|_| self.tenant_path(new.name))?;
        let unfinished = self.unfinished(new);
        // The disk may have either name. Remove the content only once the folder certainly has no tenant's name.
        let undone = self.disk.rename(&target, &unfinished).and_then(|()| self.remove_named(&unfinished));
        let source = io::Error::new(problem.kind(), problem.to_string());
        Err(FolderError { source, may_have_happened: undone.is_err() })
    }
}

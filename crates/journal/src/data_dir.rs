//! The data directory: one folder per tenant, and a lock against a second process.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use thiserror::Error;

use crate::catalog::{CatalogEnd, CatalogFile, OnRow};
use crate::disk::{Disk, FileKind, Listed, SystemDisk};
use crate::files::{TEMPORARY, parent, read_small, write_atomic};
use crate::folder::Folder;
use crate::log::{LOG_FOLDER, Log, LogError, LogOptions};
use crate::probe::probe;
use crate::writer::JournalOptions;

const LOCK: &str = "LOCK";
pub(super) const LABEL: &str = "tenant.json";
pub(super) const UNFINISHED: &str = ".new-";
const ERASED: &str = ".erased-";

/// Longest name of a tenant's folder, in bytes. With the prefixes above it is well within the limits of file systems.
const NAME_BYTES: usize = 128;

/// The locked data directory. Dropping this value, or ending the process, releases the lock.
#[derive(Debug)]
pub struct DataDir {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) path: PathBuf,
    /// The lock file; none on a disk that no other process reaches.
    pub(super) lock: Option<File>,
    /// What was in it when it was opened, until somebody asks: with a million tenants each listing takes most of a second.
    found: Mutex<Option<Listing>>,
}

/// What was found in a folder. All names lie in one piece of memory: a million that one thread makes and another drops
/// would stay with the allocator.
#[derive(Debug, Default)]
struct Listing {
    names: String,
    /// Where each name ends.
    entries: Vec<(usize, FileKind)>,
}

impl Listing {
    fn of(found: &[Listed]) -> Self {
        let mut listing = Self::default();
        for Listed { name, kind } in found {
            listing.names.push_str(name);
            listing.entries.push((listing.names.len(), *kind));
        }
        listing
    }

    fn entries(&self) -> Vec<Listed> {
        let mut start = 0;
        let listed = self.entries.iter().filter_map(|(end, kind)| {
            let name = self.names.get(start..*end)?.to_owned();
            start = *end;
            Some(Listed { name, kind: *kind })
        });
        listed.collect()
    }
}

/// One tenant's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantFolder {
    /// Its name in the data directory.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// The bytes of its `tenant.json`; `None` where that is missing or cannot be read.
    pub label: Option<Vec<u8>>,
}

/// Why a tenant's folder could not be created or erased.
#[derive(Debug, Error)]
#[error("{source}")]
pub struct FolderError {
    /// What went wrong.
    pub source: io::Error,
    /// Whether it may have happened completely all the same, perhaps visible only after a power failure.
    pub may_have_happened: bool,
}

impl From<io::Error> for FolderError {
    fn from(source: io::Error) -> Self {
        Self { source, may_have_happened: false }
    }
}

/// The folder of a new tenant, to be created.
#[derive(Clone, Copy, Debug)]
pub struct NewFolder<'a> {
    /// The folder's name: ASCII letters, digits, `-` and `_`, at most 128.
    pub name: &'a str,
    /// The bytes of `tenant.json`.
    pub label: &'a [u8],
    /// The tenant's uuid, written into every file.
    pub tenant: [u8; 16],
    /// Unix milliseconds.
    pub now_ms: i64,
    /// The payloads of its first events, from event 1 on.
    pub events: &'a [Vec<u8>],
    /// For its journal.
    pub options: JournalOptions,
}

impl DataDir {
    /// Opens or creates the directory, locks it, and removes what a crash left unfinished.
    ///
    /// # Errors
    /// `ResourceBusy` if another process holds the directory. Every error names the directory and says what to do.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::try_open(path).map_err(|error| match error.kind() {
            io::ErrorKind::ResourceBusy => error,
            kind => io::Error::new(kind, unwritable(path, &error)),
        })
    }

    fn try_open(path: &Path) -> io::Result<Self> {
        // Only the owner may read what is in there, wherever the directory is.
        let is_new = !path.exists();
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let path = fs::canonicalize(path)?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path.join(LOCK))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::Error(error) => error,
            TryLockError::WouldBlock => io::Error::new(
                io::ErrorKind::ResourceBusy,
                format!(
                    "the data directory {} is in use by another process; stop that one, or choose another \
                     directory",
                    path.display()
                ),
            ),
        })?;
        let dir = Self::start(SystemDisk::shared(), path, Some(lock))?;
        // One that somebody made for the server may lie where the server can't read.
        if is_new {
            dir.disk.sync_folder(parent(&dir.path))?;
        }
        Ok(dir)
    }

    /// Opens an existing directory on the caller's disk, without a lock.
    pub fn on(disk: Arc<dyn Disk>, path: &Path) -> io::Result<Self> {
        Self::start(disk, path.to_path_buf(), None)
    }

    fn start(disk: Arc<dyn Disk>, path: PathBuf, lock: Option<File>) -> io::Result<Self> {
        let dir = Self { disk, path, lock, found: Mutex::default() };
        let mut found = dir.disk.list(&dir.path)?;
        dir.remove_leftovers(&mut found)?;
        dir.disk.sync_folder(&dir.path)?;
        Ok(Self { found: Mutex::new(Some(Listing::of(&found))), ..dir })
    }

    fn remove_leftovers(&self, found: &mut Vec<Listed>) -> io::Result<()> {
        let is_leftover = |entry: &mut Listed| match entry.kind {
            FileKind::Folder => entry.name.starts_with(UNFINISHED) || entry.name.starts_with(ERASED),
            FileKind::File | FileKind::Other => entry.name.ends_with(TEMPORARY),
        };
        for Listed { name, kind } in found.extract_if(.., is_leftover) {
            let path = self.path.join(name);
            if kind == FileKind::Folder { self.remove_tree(&path)? } else { self.disk.remove(&path)? }
        }
        Ok(())
    }

    /// The directory, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of the tenant's folder of that name, whether it exists or not.
    pub fn tenant_path(&self, name: &str) -> io::Result<PathBuf> {
        folder_path(&self.path, name)
    }

    /// A tenant's folder, which has to exist. Blocking.
    pub fn folder(&self, name: &str) -> io::Result<Folder> {
        Folder::on(Arc::clone(&self.disk), &self.tenant_path(name)?)
    }

    /// Tries whether a file can be written directly in the directory. Blocking.
    ///
    /// # Errors
    /// The system's error, if it can't.
    pub fn probe(&self) -> io::Result<()> {
        probe(&Folder::on(Arc::clone(&self.disk), &self.path)?)
    }

    /// Opens the log, or starts one with the id `new_id`, which must be unique. Blocking.
    ///
    /// # Errors
    /// See [`LogError`].
    pub fn open_log(&self, new_id: [u8; 16], options: LogOptions) -> Result<Log, LogError> {
        Log::open(Arc::clone(&self.disk), &self.path, new_id, options)
    }

    /// Looks whether the catalog is one that this server reads, or missing or damaged, before anything is changed. Blocking.
    ///
    /// # Errors
    /// `InvalidData` for one of another version.
    pub fn check_catalog_version(&self) -> io::Result<()> {
        CatalogFile::check_version(&*self.disk, &self.path)
    }

    /// Opens the catalog, and passes each of its rows to `on_row`. Says how it ends. Blocking.
    ///
    /// # Errors
    /// The system's error; `InvalidData` for a file of another version.
    pub fn open_catalog(&self, on_row: &mut OnRow<'_>) -> io::Result<(CatalogFile, CatalogEnd)> {
        CatalogFile::open(Arc::clone(&self.disk), &self.path, on_row)
    }

    /// All tenants' folders, ordered by name. Blocking; reads each label.
    pub fn tenants(&self) -> io::Result<Vec<TenantFolder>> {
        list_on(&*self.disk, &self.path)
    }

    /// The tenant's folder of that name, with its label. Blocking.
    pub fn labelled(&self, name: &str) -> io::Result<TenantFolder> {
        Ok(read_label(&*self.disk, name.to_owned(), self.tenant_path(name)?))
    }

    /// All folders and links in the directory but the log's, whether or not they can be a tenant's, in no order: at the first
    /// call those that were there when it was opened. Blocking.
    pub fn entries(&self) -> io::Result<Vec<Listed>> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut entries = found.map_or_else(|| self.disk.list(&self.path), |found| Ok(found.entries()))?;
        entries.retain(|entry| entry.kind != FileKind::File && entry.name != LOG_FOLDER);
        Ok(entries)
    }

    /// The uuid of the tenant that the files in a folder belong to, whatever its name; `None` if there are none. Blocking.
    pub fn owner(&self, name: &str) -> io::Result<Option<[u8; 16]>> {
        Folder::on(Arc::clone(&self.disk), &self.path.join(name))?.owner()
    }

    /// The content of a small file directly in the directory; `None` if there is no such file. A file over 1 MiB is an
    /// `InvalidData` error. Blocking.
    pub fn read_file(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        read_small(&*self.disk, &self.path.join(name))
    }

    /// Replaces a small file directly in the directory in one step. Blocking. On an error the old content stays.
    pub fn write_file(&self, name: &str, content: &[u8]) -> io::Result<()> {
        write_atomic(&*self.disk, &self.path.join(name), content)
    }

    /// Replaces a tenant's label in one step. Blocking.
    pub fn write_label(&self, name: &str, label: &[u8]) -> io::Result<()> {
        write_atomic(&*self.disk, &self.tenant_path(name)?.join(LABEL), label)
    }

    /// Removes a tenant's folder with everything in it. Blocking. The tenant is gone once the rename is on disk; what a later
    /// crash or error leaves, the next start removes. A folder that does not exist is a `NotFound` error.
    pub fn erase_tenant(&self, name: &str) -> Result<(), FolderError> {
        let path = self.tenant_path(name)?;
        let erased = self.path.join(format!("{ERASED}{name}"));
        let was_begun = self.disk.exists(&erased);
        self.remove_tree(&erased)?;
        if was_begun && !self.disk.exists(&path) {
            return Ok(());
        }
        self.disk.rename(&path, &erased)?;
        if let Err(source) = self.disk.sync_folder(&self.path) {
            // The disk may have either name. Later writes are safe only under the tenant's own.
            let undone = self.disk.rename(&erased, &path).and_then(|()| self.disk.sync_folder(&self.path));
            return Err(FolderError { source, may_have_happened: undone.is_err() });
        }
        if let Err(problem) = self.disk.remove_folder(&erased) {
            tracing::warn!(folder = %erased.display(), %problem, "could not remove all of an erased tenant; the next start will");
        }
        Ok(())
    }

    /// Removes a folder if it exists, after syncing its name: after a power failure no tenant's name may lead to a
    /// half-removed folder.
    pub(super) fn remove_tree(&self, path: &Path) -> io::Result<()> {
        if !self.disk.exists(path) {
            return Ok(());
        }
        self.remove_named(path)
    }

    /// [`remove_tree`](DataDir::remove_tree) of a folder that exists.
    pub(super) fn remove_named(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_folder(&self.path)?;
        self.disk.remove_folder(path)
    }
}

/// The sentence for a data directory that can't be used, with what to do.
pub fn unwritable(data_dir: &Path, problem: &io::Error) -> String {
    let path = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned());
    format!(
        "the data directory {} can't be written: {problem}; see that the server may write there and that the file \
         system is not read-only or full, or choose another directory",
        path.display()
    )
}

fn folder_path(data_dir: &Path, name: &str) -> io::Result<PathBuf> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if name.is_empty() || name.len() > NAME_BYTES || !name.bytes().all(allowed) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} cannot name a tenant's folder")));
    }
    Ok(data_dir.join(name))
}

/// All tenants' folders in a data directory, ordered by name, without taking its lock. Blocking; reads each label.
pub fn list_tenants(data_dir: &Path) -> io::Result<Vec<TenantFolder>> {
    list_on(&SystemDisk, data_dir)
}

fn list_on(disk: &dyn Disk, data_dir: &Path) -> io::Result<Vec<TenantFolder>> {
    let mut tenants = Vec::new();
    for Listed { name, kind } in disk.list(data_dir)? {
        // Folders of other names (`lost+found`, a backup) are not ours.
        let Ok(path) = folder_path(data_dir, &name) else { continue };
        // A link may lead to a disk that is not mounted now. It is still a tenant, and its name is taken.
        if kind == FileKind::File {
            continue;
        }
        tenants.push(read_label(disk, name, path));
    }
    tenants.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(tenants)
}

fn read_label(disk: &dyn Disk, name: String, path: PathBuf) -> TenantFolder {
    let label = read_small(disk, &path.join(LABEL)).unwrap_or_else(|error| {
        tracing::warn!(tenant = name, %error, "the tenant's label cannot be read");
        None
    });
    TenantFolder { name, path, label }
}

/// Keeps servers from starting on a data directory while the returned file is open, and changes nothing in it. `None` if
/// there is no lock file: then the directory is a copy that no server has used. If a server holds it, that is a
/// `ResourceBusy` error.
pub fn keep_servers_out(data_dir: &Path) -> io::Result<Option<File>> {
    let lock = match File::open(data_dir.join(LOCK)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    match lock.try_lock_shared() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::Error(error)) => Err(error),
        Err(TryLockError::WouldBlock) => Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            format!("a server is using the data directory {}", data_dir.display()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{TENANT, recovered};

    fn tenant(name: &str) -> NewFolder<'_> {
        NewFolder {
            name,
            label: br#"{"slug":"acme"}"#,
            tenant: TENANT,
            now_ms: 5,
            events: &[],
            options: JournalOptions::default(),
        }
    }

    #[test]
    fn a_second_opener_gets_an_error_that_the_directory_is_in_use() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        let dir = DataDir::open(&path).unwrap();
        let error = DataDir::open(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
        assert!(error.to_string().contains("in use by another process"));
        drop(dir);
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn a_tenant_is_made_listed_and_erased() {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir::open(root.path()).unwrap();
        let events = [b"created".to_vec(), b"updated".to_vec()];
        let new = NewFolder { events: &events, ..tenant("tnt_1") };
        let mut journal = dir.create_tenant(new).unwrap();
        assert_eq!((journal.synced_seq(), journal.is_dirty()), (2, false));
        assert_eq!(journal.reader().verify().unwrap(), journal.checkpoint());
        journal.append(3, |b| b.push(3)).unwrap();
        journal.close(6).unwrap();
        let taken = dir.create_tenant(tenant("tnt_1")).unwrap_err();
        assert_eq!(taken.source.kind(), io::ErrorKind::AlreadyExists);
        dir.write_label("tnt_1", b"{}").unwrap();
        fs::create_dir(dir.path().join("lost+found")).unwrap();
        let tenants = dir.tenants().unwrap();
        assert_eq!(tenants.len(), 1);
        assert_eq!(tenants[0].name, "tnt_1");
        assert_eq!(tenants[0].label.as_deref(), Some(&b"{}"[..]));
        let (_, events) = recovered(&tenants[0].path, TENANT, 0).unwrap();
        assert_eq!(events.len(), 3);
        dir.erase_tenant("tnt_1").unwrap();
        assert!(dir.tenants().unwrap().is_empty());
        let gone = dir.erase_tenant("tnt_1").unwrap_err();
        assert_eq!(gone.source.kind(), io::ErrorKind::NotFound);
        let empty = dir.create_tenant(tenant("tnt_1")).unwrap();
        assert_eq!((empty.next_seq(), empty.is_dirty()), (1, false));
        std::os::unix::fs::symlink("/not/there", dir.path().join("away")).unwrap();
        assert_eq!(dir.tenants().unwrap()[0].name, "away");
        assert!(dir.create_tenant(tenant("away")).is_err());
    }

    #[test]
    fn a_tenant_that_cannot_be_made_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir::open(root.path()).unwrap();
        let events = [vec![0; crate::MAX_FRAME + 1]];
        let new = NewFolder { events: &events, ..tenant("big") };
        assert!(dir.create_tenant(new).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "the lock");
    }

    #[test]
    fn leftovers_of_a_crash_are_removed_at_open() {
        let root = tempfile::tempdir().unwrap();
        for name in [".new-a", ".erased-b", "kept"] {
            fs::create_dir(root.path().join(name)).unwrap();
            fs::write(root.path().join(name).join("file"), b"").unwrap();
        }
        fs::write(root.path().join("operator.json.tmp"), b"").unwrap();
        fs::write(root.path().join("operator.json"), b"").unwrap();
        let dir = DataDir::open(root.path()).unwrap();
        let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["LOCK", "kept", "operator.json"]);
        assert_eq!(dir.tenants().unwrap().len(), 1);
    }

    #[test]
    fn names_cannot_lead_out_of_the_directory() {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir::open(root.path()).unwrap();
        for name in ["", ".", "..", "a/b", ".new-a", "a b", &"a".repeat(129)] {
            assert!(dir.create_tenant(tenant(name)).is_err());
            assert!(dir.erase_tenant(name).is_err());
        }
    }
}

//! A disk in memory for the tests of the log and the catalog: it fails on request, and a power failure leaves any part of what was not synced.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use fastrand::Rng;

use crate::disk::{Disk, DiskFile, FileKind, Listed, OpenMode};

/// Parts of a write that reach the disk or not. Real disks have 512 or 4,096; smaller ones tear more.
const SECTOR: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    Write,
    Sync,
}

#[derive(Debug, Default)]
struct Content {
    cached: Vec<u8>,
    durable: Vec<u8>,
}

#[derive(Debug)]
struct World {
    rng: Rng,
    files: BTreeMap<PathBuf, Arc<Mutex<Content>>>,
    /// Names that are on disk. Only files are told apart, folders are there at once.
    durable_names: BTreeMap<PathBuf, Arc<Mutex<Content>>>,
    folders: BTreeSet<PathBuf>,
    failure: Option<Failure>,
    left: Option<u32>,
    meanwhile: Meanwhile,
}

/// What somebody else does while a file is opened.
#[derive(Default)]
struct Meanwhile(Option<Box<dyn FnOnce() + Send>>);

impl std::fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meanwhile")
    }
}

#[derive(Clone, Debug)]
pub(crate) struct MemoryDisk(Arc<Mutex<World>>);

fn broken() -> io::Error {
    io::Error::other("the disk is broken")
}

impl MemoryDisk {
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(World {
            rng: Rng::with_seed(seed ^ 0xD15C),
            files: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            folders: BTreeSet::from([PathBuf::from("data")]),
            failure: None,
            left: None,
            meanwhile: Meanwhile::default(),
        })))
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    /// Begins an operation that changes something.
    fn change(&self) -> io::Result<MutexGuard<'_, World>> {
        let mut world = self.world();
        match &mut world.left {
            Some(0) => return Err(broken()),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(world)
    }

    pub fn fail(&self, failure: Option<Failure>) {
        self.world().failure = failure;
    }

    /// While the next file is opened, somebody does that, and the file can't be opened.
    pub fn meanwhile(&self, act: impl FnOnce() + Send + 'static) {
        self.world().meanwhile = Meanwhile(Some(Box::new(act)));
    }

    /// After that many changes everything fails.
    pub fn stop_after(&self, changes: Option<u32>) {
        self.world().left = changes;
    }

    /// What was not synced reaches the disk in parts or not at all.
    pub fn power_failure(&self) {
        let mut world = self.world();
        let World { rng, files, durable_names, .. } = &mut *world;
        files.clone_from(durable_names);
        for file in files.values() {
            let mut file = file.lock().unwrap();
            file.lose(rng);
            file.cached = file.durable.clone();
        }
    }

    pub fn flip(&self) -> bool {
        let mut world = self.world();
        let World { rng, files, .. } = &mut *world;
        let slots: Vec<_> = files.iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "log")).collect();
        let Some((_, file)) = rng.choice(slots) else { return false };
        let mut file = file.lock().unwrap();
        let used = file.cached.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
        let (at, bit) = (rng.usize(0..used), rng.u32(0..8));
        file.cached[at] ^= 1 << bit;
        file.durable = file.cached.clone();
        true
    }

    pub fn names(&self) -> Vec<String> {
        let world = self.world();
        world.files.keys().map(|path| path.display().to_string()).collect()
    }

    pub fn remove(&self, path: &str) {
        self.world().files.remove(Path::new(path));
    }

    pub fn content(&self, path: &str) -> Vec<u8> {
        let file = Arc::clone(&self.world().files[Path::new(path)]);
        let file = file.lock().unwrap();
        file.cached.clone()
    }

    /// Changes what readers of an open file see.
    pub fn overwrite(&self, path: &str, bytes: &[u8]) {
        let file = Arc::clone(&self.world().files[Path::new(path)]);
        bytes.clone_into(&mut file.lock().unwrap().cached);
    }

    pub fn put(&self, path: &str, bytes: &[u8]) {
        let content = Content { cached: bytes.to_vec(), durable: bytes.to_vec() };
        self.world().files.insert(PathBuf::from(path), Arc::new(Mutex::new(content)));
    }
}

impl Content {
    /// Some sectors that are not synced reach the disk.
    fn lose(&mut self, rng: &mut Rng) {
        let Self { cached, durable } = self;
        if rng.bool() || durable.len() < cached.len() {
            durable.resize(cached.len(), 0);
        }
        for (new, old) in cached.chunks(SECTOR).zip(durable.chunks_mut(SECTOR)) {
            if rng.bool() && new.len() == old.len() {
                old.copy_from_slice(new);
            }
        }
    }
}

impl Disk for MemoryDisk {
    fn open(&self, path: &Path, access: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let meanwhile = self.world().meanwhile.0.take();
        if let Some(act) = meanwhile {
            act();
            return Err(broken());
        }
        let file = match access {
            OpenMode::Create => {
                let mut world = self.change()?;
                if world.files.contains_key(path) {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                let file = Arc::<Mutex<Content>>::default();
                world.files.insert(path.to_owned(), Arc::clone(&file));
                file
            }
            OpenMode::Read | OpenMode::Write => {
                Arc::clone(self.world().files.get(path).ok_or(io::ErrorKind::NotFound)?)
            }
        };
        Ok(Box::new(MemoryFile { disk: self.clone(), file }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = Arc::clone(self.world().files.get(path).ok_or(io::ErrorKind::NotFound)?);
        let file = file.lock().unwrap();
        Ok(file.cached.clone())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.change()?;
        let file = world.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        world.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change()?.files.remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.change()?.folders.insert(path.to_owned());
        Ok(())
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        let mut world = self.change()?;
        world.files.retain(|file, _| !file.starts_with(path));
        world.durable_names.retain(|file, _| !file.starts_with(path));
        world.folders.remove(path);
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let mut world = self.change()?;
        let World { files, durable_names, .. } = &mut *world;
        durable_names.retain(|file, _| file.parent() != Some(path));
        let here = files.iter().filter(|(file, _)| file.parent() == Some(path));
        durable_names.extend(here.map(|(file, content)| (file.clone(), Arc::clone(content))));
        Ok(())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Listed>> {
        let world = self.world();
        let here = world.files.keys().filter(|file| file.parent() == Some(folder));
        let name = |file: &PathBuf| file.file_name().unwrap().to_str().unwrap().to_owned();
        Ok(here.map(|file| Listed { name: name(file), kind: FileKind::File }).collect())
    }

    fn exists(&self, path: &Path) -> bool {
        let world = self.world();
        world.folders.contains(path) || world.files.contains_key(path)
    }

    fn file_system(&self, _: &Path) -> io::Result<u64> {
        Ok(0)
    }
}

#[derive(Debug)]
struct MemoryFile {
    disk: MemoryDisk,
    file: Arc<Mutex<Content>>,
}

impl DiskFile for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let file = self.file.lock().unwrap();
        let rest = file.cached.get(offset as usize..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut world = self.disk.change()?;
        let fails = world.failure == Some(Failure::Write);
        let length = if fails { world.rng.usize(0..=bytes.len()) } else { bytes.len() };
        drop(world);
        let mut file = self.file.lock().unwrap();
        let (start, end) = (offset as usize, offset as usize + length);
        if file.cached.len() < end {
            file.cached.resize(end, 0);
        }
        file.cached[start..end].copy_from_slice(&bytes[..length]);
        if fails { Err(broken()) } else { Ok(length) }
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.file.lock().unwrap().cached.len() as u64)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        drop(self.disk.change()?);
        self.file.lock().unwrap().cached.resize(size as usize, 0);
        Ok(())
    }

    fn reserve(&self, size: u64) -> io::Result<()> {
        self.set_size(size)
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.disk.change()?;
        let mut file = self.file.lock().unwrap();
        if world.failure == Some(Failure::Sync) {
            // The kernel takes the bytes for clean from here on, and a part of them is lost.
            file.lose(&mut world.rng);
            return Err(broken());
        }
        file.durable = file.cached.clone();
        Ok(())
    }
}

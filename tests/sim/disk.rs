//! A disk in memory that does to a journal what disks do: it keeps what was synced, and of the rest what it likes.
//!
//! For each file there is what reads see and what is on the platter, and between them the writes that are under way.
//! A power failure takes any of these, whole or torn, and drops the others; a folder's entries likewise. A sync may
//! fail, upon which the kernel forgets what was to be written: reads may still show it, and the next sync succeeds.
//! Not simulated: a failed sync of a folder loses no entry for good (file systems keep those in a journal of their own).

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use fastrand::Rng;
use kavach::journal::{Access, Disk, DiskFile, Kind, Listed};

use super::task;

/// Bytes that the disk writes as one.
const SECTOR: usize = 512;

const SYNC: &str = "sync";

/// How the machine goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The process is killed: the kernel keeps what it has.
    Kill,
    /// The power fails.
    Power,
}

/// What happened, for those who want to know that it does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub operations: u64,
    pub write_errors: u64,
    pub short_writes: u64,
    pub sync_errors: u64,
    pub other_errors: u64,
    pub full: u64,
    pub lost_writes: u64,
    pub torn_writes: u64,
    pub lost_entries: u64,
}

#[derive(Clone, Debug)]
pub struct SimDisk(Arc<Mutex<World>>);

#[derive(Debug)]
struct World {
    rng: Rng,
    nodes: Vec<Node>,
    down: bool,
    /// Operations until the machine stops by itself.
    stop_in: Option<u64>,
    /// Of so many operations one fails; 0 for none.
    error_every: u32,
    /// Bytes that fit.
    capacity: Option<usize>,
    /// While somebody looks who is no part of the simulation.
    calm: bool,
    /// Grows with each restart: handles of before are dead.
    life: u32,
    /// Syncs of files that failed, upon which even what was written may be gone.
    losses: u64,
    seen: Seen,
    verbose: bool,
    /// Of all operations in order: the same for the same seed.
    digest: crc32fast::Hasher,
}

#[derive(Debug)]
enum Node {
    File(FileNode),
    Folder(FolderNode),
}

#[derive(Debug, Default)]
struct FileNode {
    /// What reads see.
    cached: Vec<u8>,
    durable: Vec<u8>,
    /// What is to be written, oldest first.
    pending: Vec<Change>,
    /// A sync failed: what reads see is not what the disk has, and may be forgotten at any time.
    forgetful: bool,
    /// Syncs that failed. Each open file is told of it once.
    errors: u32,
}

#[derive(Clone, Debug)]
enum Change {
    Data(usize, Vec<u8>),
    Size(usize),
}

#[derive(Debug, Default)]
struct FolderNode {
    cached: Entries,
    durable: Entries,
    pending: Vec<EntryChange>,
}

type Entries = Vec<(String, usize)>;

/// One step of a folder: an entry goes, one comes, or, where it is renamed, both at once.
#[derive(Clone, Debug)]
struct EntryChange {
    gone: Option<String>,
    come: Option<(String, usize)>,
}

enum Fate {
    Good,
    Fail,
    /// The machine stops in the middle of it.
    Stop,
}

fn down() -> io::Error {
    io::Error::other("the machine is down")
}

/// An error of the kernel's, which has a number.
fn broken() -> io::Error {
    io::Error::from_raw_os_error(5)
}

fn full() -> io::Error {
    io::Error::from_raw_os_error(28)
}

fn missing() -> io::Error {
    io::Error::from_raw_os_error(2)
}

fn exists() -> io::Error {
    io::Error::from_raw_os_error(17)
}

fn apply(content: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Data(at, bytes) => {
            if content.len() < at + bytes.len() {
                content.resize(at + bytes.len(), 0);
            }
            content[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        Change::Size(size) => content.resize(*size, 0),
    }
}

fn apply_entry(entries: &mut Entries, change: &EntryChange) {
    let EntryChange { gone, come } = change;
    entries.retain(|(name, _)| Some(name) != gone.as_ref() && Some(name) != come.as_ref().map(|(name, _)| name));
    entries.extend(come.clone());
}

impl FileNode {
    /// The disk took some of what is under way, in whatever order and pieces.
    fn take_some(&mut self, rng: &mut Rng, seen: &mut Seen) {
        let pending = std::mem::take(&mut self.pending);
        let way = rng.u32(0..6);
        let upto = rng.usize(0..=pending.len());
        let end = self.cached.len();
        for (at, change) in pending.iter().enumerate() {
            let whole = match way {
                0 => false,
                1 => true,
                2 => at < upto,
                _ => rng.bool(),
            };
            match change {
                Change::Data(offset, bytes) if way >= 3 => {
                    // Each sector by itself, and one of them torn anywhere.
                    let mut start = 0;
                    while start < bytes.len() {
                        let length = (SECTOR - (offset + start) % SECTOR).min(bytes.len() - start);
                        if rng.bool() {
                            let torn = rng.u32(0..8) == 0;
                            seen.torn_writes += u64::from(torn);
                            let kept = if torn { rng.usize(0..length) } else { length };
                            let piece = bytes[start..start + kept].to_vec();
                            apply(&mut self.durable, &Change::Data(offset + start, piece));
                        } else {
                            seen.lost_writes += 1;
                        }
                        start += length;
                    }
                }
                change if whole => apply(&mut self.durable, change),
                Change::Data(offset, bytes) if way == 2 && at == upto => {
                    seen.torn_writes += 1;
                    apply(&mut self.durable, &Change::Data(*offset, bytes[..rng.usize(0..=bytes.len())].to_vec()));
                }
                _ => seen.lost_writes += 1,
            }
        }
        // The size may have come before the data: what lies between is zeros, or whatever was there before.
        if !pending.is_empty() && self.durable.len() < end && rng.u32(0..3) == 0 {
            let garbage = rng.u32(0..4) == 0;
            while self.durable.len() < end {
                self.durable.push(if garbage { rng.u8(..) } else { 0 });
            }
        }
    }

    /// The kernel forgets what it holds of the file beyond what is on disk or under way.
    fn forget(&mut self) {
        self.cached.clone_from(&self.durable);
        for change in &self.pending {
            apply(&mut self.cached, change);
        }
        self.forgetful = false;
    }
}

impl FolderNode {
    fn change(&mut self, change: EntryChange) {
        apply_entry(&mut self.cached, &change);
        self.pending.push(change);
    }

    /// Some of the steps reached the disk, mostly the first ones.
    fn take_some(&mut self, rng: &mut Rng, seen: &mut Seen) {
        let in_order = rng.bool();
        let upto = rng.usize(0..=self.pending.len());
        for (at, change) in std::mem::take(&mut self.pending).iter().enumerate() {
            if if in_order { at < upto } else { rng.bool() } {
                apply_entry(&mut self.durable, change);
            } else {
                seen.lost_entries += 1;
            }
        }
    }
}

impl World {
    fn folder(&self, id: usize) -> io::Result<&FolderNode> {
        match &self.nodes[id] {
            Node::Folder(folder) => Ok(folder),
            Node::File(_) => Err(io::Error::from_raw_os_error(20)),
        }
    }

    fn folder_mut(&mut self, id: usize) -> &mut FolderNode {
        match &mut self.nodes[id] {
            Node::Folder(folder) => folder,
            Node::File(_) => panic!("a file is no folder"),
        }
    }

    fn file_mut(&mut self, id: usize) -> &mut FileNode {
        match &mut self.nodes[id] {
            Node::File(file) => file,
            Node::Folder(_) => panic!("a folder is no file"),
        }
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        let mut at = 0;
        for part in path.iter().skip(1) {
            let entries = &self.folder(at)?.cached;
            at = entries.iter().find(|(name, _)| part == name.as_str()).ok_or_else(missing)?.1;
        }
        Ok(at)
    }

    /// The folder a path lies in, and its name there.
    fn place(&self, path: &Path) -> io::Result<(usize, String)> {
        let name = path.file_name().ok_or_else(missing)?.to_str().unwrap().to_owned();
        Ok((self.find(path.parent().ok_or_else(missing)?)?, name))
    }

    fn room(&self) -> usize {
        let used = self.nodes.iter().map(|node| if let Node::File(file) = node { file.cached.len() } else { 0 });
        self.capacity.map_or(usize::MAX, |capacity| capacity.saturating_sub(used.sum()))
    }

    fn add(&mut self, path: &Path, node: Node) -> io::Result<usize> {
        let (folder, name) = self.place(path)?;
        if self.find(path).is_ok() {
            return Err(exists());
        }
        self.nodes.push(node);
        let id = self.nodes.len() - 1;
        self.folder_mut(folder).change(EntryChange { gone: None, come: Some((name, id)) });
        Ok(id)
    }

    fn remove_tree(&mut self, id: usize) {
        let Node::Folder(folder) = &self.nodes[id] else { return };
        for (_, id) in folder.cached.clone() {
            self.remove_tree(id);
        }
        let folder = self.folder_mut(id);
        for (name, _) in folder.cached.clone() {
            folder.change(EntryChange { gone: Some(name), come: None });
        }
    }
}

impl SimDisk {
    /// An empty disk with one folder, `/data`, that is there for good.
    pub fn new(seed: u64, verbose: bool) -> Self {
        let data = FolderNode::default();
        let entries = vec![("data".to_owned(), 1)];
        let root = FolderNode { cached: entries.clone(), durable: entries, pending: Vec::new() };
        Self(Arc::new(Mutex::new(World {
            rng: Rng::with_seed(seed),
            nodes: vec![Node::Folder(root), Node::Folder(data)],
            down: false,
            stop_in: None,
            error_every: 0,
            capacity: None,
            calm: false,
            life: 0,
            losses: 0,
            seen: Seen::default(),
            verbose,
            digest: crc32fast::Hasher::new(),
        })))
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    /// Begins an operation: it may have to wait for its turn, and may be told to fail.
    fn enter(&self, name: &str, path: &dyn std::fmt::Debug) -> io::Result<(MutexGuard<'_, World>, Fate)> {
        // A journal's file is synced under a lock, which nobody may stop before.
        if name != SYNC {
            task::pass();
        }
        let mut world = self.world();
        if world.calm {
            return Ok((world, Fate::Good));
        }
        if world.down {
            return Err(down());
        }
        world.seen.operations += 1;
        world.digest.update(name.as_bytes());
        if world.verbose {
            let mut text = String::new();
            let _ = write!(text, "{path:?}");
            eprintln!("      {name} {}", text.rsplit('/').next().unwrap_or_default().trim_matches('"'));
        }
        if let Some(left) = &mut world.stop_in {
            *left = left.saturating_sub(1);
            if *left == 0 {
                world.stop_in = None;
                world.down = true;
                if world.verbose {
                    eprintln!("      -- the machine stops in the middle of it");
                }
                return Ok((world, Fate::Stop));
            }
        }
        let every = world.error_every;
        let fails = every > 0 && world.rng.u32(0..every) == 0;
        if fails && world.verbose {
            eprintln!("      -- it is to fail");
        }
        Ok((world, if fails { Fate::Fail } else { Fate::Good }))
    }

    /// An operation that happens wholly or not at all.
    fn simple<T>(&self, name: &str, path: &Path, done: impl FnOnce(&mut World) -> io::Result<T>) -> io::Result<T> {
        let (mut world, fate) = self.enter(name, &path)?;
        match fate {
            Fate::Good => done(&mut world),
            Fate::Fail => {
                world.seen.other_errors += 1;
                Err(broken())
            }
            Fate::Stop => {
                if world.rng.bool() {
                    let _ = done(&mut world);
                }
                Err(down())
            }
        }
    }

    /// Stops the machine by itself after so many operations.
    pub fn stop_in(&self, operations: Option<u64>) {
        self.world().stop_in = operations;
    }

    /// Stops it now: whatever runs gets errors from here on.
    pub fn stop(&self) {
        self.world().down = true;
    }

    pub fn is_down(&self) -> bool {
        self.world().down
    }

    /// Starts it again.
    pub fn start(&self, stop: Stop) {
        let mut world = self.world();
        let World { rng, nodes, seen, .. } = &mut *world;
        for node in nodes {
            match (stop, node) {
                (Stop::Power, Node::File(file)) => {
                    file.take_some(rng, seen);
                    file.forget();
                }
                (Stop::Power, Node::Folder(folder)) => {
                    folder.take_some(rng, seen);
                    folder.cached.clone_from(&folder.durable);
                }
                (Stop::Kill, _) => {}
            }
        }
        world.down = false;
        world.stop_in = None;
        world.life += 1;
    }

    /// Of so many operations one fails from here on; 0 for none.
    pub fn fail(&self, every: u32) {
        self.world().error_every = every;
    }

    /// So many bytes more fit.
    pub fn fill(&self, room: Option<usize>) {
        let mut world = self.world();
        let used: usize =
            world.nodes.iter().map(|node| if let Node::File(file) = node { file.cached.len() } else { 0 }).sum();
        world.capacity = room.map(|room| used + room);
    }

    /// Syncs of files that failed until now.
    pub fn losses(&self) -> u64 {
        self.world().losses
    }

    /// Nothing happens by itself while `look` looks.
    pub fn calmly<T>(&self, look: impl FnOnce() -> T) -> T {
        let before = std::mem::replace(&mut self.world().calm, true);
        let seen = look();
        self.world().calm = before;
        seen
    }

    /// Flips a bit of what is on disk; says where.
    pub fn flip(&self) -> Option<String> {
        let mut world = self.world();
        let World { rng, nodes, .. } = &mut *world;
        let mut files = Vec::new();
        for node in nodes.iter() {
            if let Node::Folder(folder) = node {
                files.extend(folder.durable.iter().filter(|(_, id)| matches!(&nodes[*id], Node::File(_))).cloned());
            }
        }
        files.retain(|(_, id)| matches!(&nodes[*id], Node::File(file) if !file.durable.is_empty()));
        let (name, id) = rng.choice(files)?;
        let Node::File(file) = &mut nodes[id] else { return None };
        let (at, bit) = (rng.usize(0..file.durable.len()), rng.u32(0..8));
        file.durable[at] ^= 1 << bit;
        file.forget();
        Some(format!("bit {bit} of byte {at} of {name}"))
    }

    pub fn seen(&self) -> Seen {
        self.world().seen
    }

    /// The same after the same operations.
    pub fn digest(&self) -> u32 {
        let mut world = self.world();
        let next = world.rng.u32(..);
        world.digest.update(&next.to_le_bytes());
        world.digest.clone().finalize()
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>> {
        self.simple(if access == Access::Create { "create" } else { "open" }, path, |world| {
            let id = match access {
                Access::Create if world.room() == 0 => {
                    world.seen.full += 1;
                    return Err(full());
                }
                Access::Create => world.add(path, Node::File(FileNode::default()))?,
                Access::Read | Access::Write => world.find(path)?,
            };
            let (life, told) = (world.life, AtomicU32::new(world.file_mut(id).errors));
            Ok(Box::new(SimFile { disk: self.clone(), id, life, told, path: path.to_owned() }) as Box<dyn DiskFile>)
        })
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path, Access::Read)?;
        let mut bytes = vec![0; file.size()? as usize];
        // It may have been cut off since.
        let length = file.read_at(&mut bytes, 0)?;
        bytes.truncate(length);
        Ok(bytes)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        assert_eq!(from.parent(), to.parent(), "renamed within its folder");
        self.simple("rename", to, |world| {
            let id = world.find(from)?;
            let ((folder, old), (_, new)) = (world.place(from)?, world.place(to)?);
            world.folder_mut(folder).change(EntryChange { gone: Some(old), come: Some((new, id)) });
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.simple("remove", path, |world| {
            world.find(path)?;
            let (folder, name) = world.place(path)?;
            world.folder_mut(folder).change(EntryChange { gone: Some(name), come: None });
            Ok(())
        })
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.simple("make folder", path, |world| world.add(path, Node::Folder(FolderNode::default())).map(drop))
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.simple("remove folder", path, |world| {
            let id = world.find(path)?;
            world.remove_tree(id);
            let (folder, name) = world.place(path)?;
            world.folder_mut(folder).change(EntryChange { gone: Some(name), come: None });
            Ok(())
        })
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let (mut world, fate) = self.enter("sync folder", &path)?;
        let id = world.find(path)?;
        let World { rng, nodes, seen, .. } = &mut *world;
        let Node::Folder(folder) = &mut nodes[id] else { return Err(missing()) };
        match fate {
            Fate::Good => {
                folder.durable.clone_from(&folder.cached);
                folder.pending.clear();
                Ok(())
            }
            Fate::Fail => {
                seen.sync_errors += 1;
                Err(broken())
            }
            Fate::Stop => {
                let upto = rng.usize(0..=folder.pending.len());
                for change in folder.pending.drain(..upto) {
                    apply_entry(&mut folder.durable, &change);
                }
                Err(down())
            }
        }
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Listed>> {
        self.simple("list", folder, |world| {
            let entries = &world.folder(world.find(folder)?)?.cached;
            let kind = |id: usize| if matches!(world.nodes[id], Node::File(_)) { Kind::File } else { Kind::Folder };
            Ok(entries.iter().map(|(name, id)| Listed { name: name.clone(), kind: kind(*id) }).collect())
        })
    }

    fn exists(&self, path: &Path) -> bool {
        self.simple("look for", path, |world| world.find(path)).is_ok()
    }

    fn file_system(&self, folder: &Path) -> io::Result<u64> {
        self.simple("look at", folder, |world| world.find(folder).map(|_| 0))
    }
}

/// An open file.
#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    id: usize,
    life: u32,
    /// Failed syncs that it knows of.
    told: AtomicU32,
    path: PathBuf,
}

impl SimFile {
    fn enter(&self, name: &str) -> io::Result<(MutexGuard<'_, World>, Fate)> {
        let (mut world, fate) = self.disk.enter(name, &self.path)?;
        if world.life != self.life {
            return Err(down());
        }
        let World { rng, nodes, calm, .. } = &mut *world;
        if let Node::File(file) = &mut nodes[self.id]
            && file.forgetful
            && !*calm
            && rng.u32(0..8) == 0
        {
            file.forget();
        }
        Ok((world, fate))
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let (mut world, fate) = self.enter("read")?;
        match fate {
            Fate::Good => {
                let content = &world.file_mut(self.id).cached;
                let rest = content.get(offset as usize..).unwrap_or_default();
                let length = rest.len().min(buffer.len());
                buffer[..length].copy_from_slice(&rest[..length]);
                Ok(length)
            }
            Fate::Fail => {
                world.seen.other_errors += 1;
                Err(broken())
            }
            Fate::Stop => Err(down()),
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let (mut world, fate) = self.enter("write")?;
        let offset = offset as usize;
        let grows = (offset + bytes.len()).saturating_sub(world.file_mut(self.id).cached.len());
        let room = world.room();
        let mut length = bytes.len();
        if grows > room {
            world.seen.full += 1;
            length = length.saturating_sub(grows - room);
            if length == 0 {
                return Err(full());
            }
        }
        match fate {
            Fate::Good => {}
            Fate::Fail if length > 1 && world.rng.bool() => {
                // The next one is likely to fail.
                world.seen.short_writes += 1;
                length = world.rng.usize(1..length);
            }
            Fate::Fail => {
                world.seen.write_errors += 1;
                return Err(broken());
            }
            Fate::Stop => length = world.rng.usize(0..=length),
        }
        let change = Change::Data(offset, bytes[..length].to_vec());
        let file = world.file_mut(self.id);
        apply(&mut file.cached, &change);
        file.pending.push(change);
        if matches!(fate, Fate::Stop) { Err(down()) } else { Ok(length) }
    }

    fn size(&self) -> io::Result<u64> {
        let (mut world, fate) = self.enter("size")?;
        match fate {
            Fate::Good => Ok(world.file_mut(self.id).cached.len() as u64),
            Fate::Fail => Err(broken()),
            Fate::Stop => Err(down()),
        }
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        let (mut world, fate) = self.enter("set size")?;
        match fate {
            Fate::Fail => return Err(broken()),
            Fate::Stop if world.rng.bool() => return Err(down()),
            Fate::Good | Fate::Stop => {}
        }
        let change = Change::Size(size as usize);
        let file = world.file_mut(self.id);
        apply(&mut file.cached, &change);
        file.pending.push(change);
        if matches!(fate, Fate::Stop) { Err(down()) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        let (mut world, fate) = self.enter(SYNC)?;
        let World { rng, nodes, seen, losses, .. } = &mut *world;
        let Node::File(file) = &mut nodes[self.id] else { return Err(missing()) };
        if self.told.swap(file.errors, Ordering::Relaxed) < file.errors {
            return Err(broken());
        }
        match fate {
            Fate::Good => {
                for change in std::mem::take(&mut file.pending) {
                    apply(&mut file.durable, &change);
                }
                Ok(())
            }
            Fate::Fail => {
                seen.sync_errors += 1;
                *losses += 1;
                file.errors += 1;
                self.told.store(file.errors, Ordering::Relaxed);
                file.take_some(rng, seen);
                file.forgetful = true;
                Err(broken())
            }
            Fate::Stop => {
                let upto = rng.usize(0..=file.pending.len());
                for change in file.pending.drain(..upto) {
                    apply(&mut file.durable, &change);
                }
                Err(down())
            }
        }
    }
}

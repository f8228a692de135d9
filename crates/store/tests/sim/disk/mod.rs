//! A disk in memory that treats a journal as disks do: it keeps what was synced, and of the rest whatever it likes.
//!
//! Each file has the contents that reads see, the contents on the platter, and the writes under way between them. A
//! power failure takes any of these, whole or torn, and drops the others; so it does with a folder's entries. A sync
//! may fail. The kernel then forgets what was to be written: reads may still show it, and the next sync succeeds. What
//! was under way when a file was closed may be lost, and nobody is told. Not simulated: a failed sync of a folder never
//! loses an entry for good (file systems journal entries themselves).

mod nodes;
mod operations;

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use fastrand::Rng;

use crate::task;
use nodes::{EntryChange, FileNode, FolderNode, Node};

const SYNC: &str = "sync";

/// How the machine goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The process is killed: the kernel keeps what it has.
    Kill,
    /// The power fails.
    Power,
}

/// What happened, to check that each event does happen.
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
    pub unwatched_losses: u64,
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
    /// One in this many operations fails; 0 for none.
    error_every: u32,
    /// Bytes that still fit.
    capacity: Option<usize>,
    /// Set while an observer outside the simulation reads the disk.
    calm: bool,
    /// Grows with each restart: older handles are dead.
    life: u32,
    /// Failed syncs of files, after which even written bytes may be gone.
    losses: u64,
    seen: Seen,
    verbose: bool,
    /// Of all operations in order: equal for equal seeds.
    digest: crc32fast::Hasher,
}

enum Fate {
    Good,
    Fail,
    /// The machine stops in the middle of the operation.
    Stop,
}

fn down() -> io::Error {
    io::Error::other("the machine is down")
}

/// An error of the kernel, with a number.
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

    /// The folder that a path lies in, and its name there.
    fn place(&self, path: &Path) -> io::Result<(usize, String)> {
        let name = path.file_name().ok_or_else(missing)?.to_str().unwrap().to_owned();
        Ok((self.find(path.parent().ok_or_else(missing)?)?, name))
    }

    fn room(&self) -> usize {
        let used = self.nodes.iter().map(|node| if let Node::File(file) = node { file.cached.len() } else { 0 });
        self.capacity.map_or(usize::MAX, |capacity| capacity.saturating_sub(used.sum()))
    }

    /// While nobody had the file open, the kernel failed to write what was under way, and forgot it: nobody hears of that.
    /// Only segments are ever closed before all of them is on disk.
    fn lose_unwatched(&mut self, id: usize, path: &Path) {
        let fails = !self.calm && self.error_every > 0;
        let Self { rng, nodes, seen, .. } = self;
        if let Node::File(file) = &mut nodes[id]
            && fails
            && Arc::strong_count(&file.handle) == 1
            && !file.pending.is_empty()
            && path.extension().is_some_and(|extension| extension == "journal")
            && rng.u32(0..4) == 0
        {
            file.take_some(rng, seen);
            file.forget();
            seen.unwatched_losses += 1;
        }
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
    /// An empty disk with one folder, `/data`, which never goes away.
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

    /// Begins an operation: it may have to wait for its turn, and may be made to fail.
    fn enter(&self, name: &str, path: &dyn std::fmt::Debug) -> io::Result<(MutexGuard<'_, World>, Fate)> {
        // A journal's file is synced under a lock, so no job may stop before it.
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

    /// An operation that happens completely or not at all.
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

    /// Stops the machine by itself after that many operations.
    pub fn stop_in(&self, operations: Option<u64>) {
        self.world().stop_in = operations;
    }

    /// Stops the machine now: from here on everything gets errors.
    pub fn stop(&self) {
        self.world().down = true;
    }

    pub fn is_down(&self) -> bool {
        self.world().down
    }

    /// Starts the machine again.
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

    /// From here on one in `every` operations fails; 0 for none.
    pub fn fail(&self, every: u32) {
        self.world().error_every = every;
    }

    /// From here on only `room` more bytes fit.
    pub fn fill(&self, room: Option<usize>) {
        let mut world = self.world();
        let used: usize =
            world.nodes.iter().map(|node| if let Node::File(file) = node { file.cached.len() } else { 0 }).sum();
        world.capacity = room.map(|room| used + room);
    }

    /// Failed syncs of files until now.
    pub fn losses(&self) -> u64 {
        self.world().losses
    }

    /// Nothing happens by itself while `look` runs.
    pub fn calmly<T>(&self, look: impl FnOnce() -> T) -> T {
        let before = std::mem::replace(&mut self.world().calm, true);
        let seen = look();
        self.world().calm = before;
        seen
    }

    /// Flips a bit on the disk; returns where.
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

    /// Equal after equal operations.
    pub fn digest(&self) -> u32 {
        let mut world = self.world();
        let next = world.rng.u32(..);
        world.digest.update(&next.to_le_bytes());
        world.digest.clone().finalize()
    }
}

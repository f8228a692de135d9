//! The operations that the journal uses.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, MutexGuard};

use kavach_journal::{Disk, DiskFile, FileKind, Listed, OpenMode};

use super::nodes::{EntryChange, FileChange, FileNode, FolderNode, Node, apply, apply_entry};
use super::{Fate, SYNC, SimDisk, World, broken, down, full, missing};
use crate::task;

impl Disk for SimDisk {
    fn open(&self, path: &Path, access: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        self.simple(if access == OpenMode::Create { "create" } else { "open" }, path, |world| {
            let id = match access {
                OpenMode::Create if world.room() == 0 => {
                    world.seen.full += 1;
                    return Err(full());
                }
                OpenMode::Create => world.add(path, Node::File(FileNode::default()))?,
                OpenMode::Read | OpenMode::Write => world.find(path)?,
            };
            if access == OpenMode::Write {
                world.lose_unwatched(id, path);
            }
            let life = world.life;
            let FileNode { errors, handle, .. } = world.file_mut(id);
            let (reported, _handle) = (AtomicU32::new(*errors), Arc::clone(handle));
            Ok(Box::new(SimFile { disk: self.clone(), id, life, reported, path: path.to_owned(), _handle })
                as Box<dyn DiskFile>)
        })
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path, OpenMode::Read)?;
        let mut bytes = vec![0; file.size()? as usize];
        // The file may have been cut since.
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
            let kind =
                |id: usize| if matches!(world.nodes[id], Node::File(_)) { FileKind::File } else { FileKind::Folder };
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
    /// Failed syncs that it has reported.
    reported: AtomicU32,
    path: PathBuf,
    _handle: Arc<()>,
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

/// Whether a file is the catalog, or becomes it. It is synced under no lock, so a job may stop before that.
fn is_of_catalog(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("catalog"))
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
                // The next write is likely to fail.
                world.seen.short_writes += 1;
                length = world.rng.usize(1..length);
            }
            Fate::Fail => {
                world.seen.write_errors += 1;
                return Err(broken());
            }
            Fate::Stop => length = world.rng.usize(0..=length),
        }
        let change = FileChange::Data(offset, bytes[..length].to_vec());
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
        let change = FileChange::Size(size as usize);
        let file = world.file_mut(self.id);
        apply(&mut file.cached, &change);
        file.pending.push(change);
        if matches!(fate, Fate::Stop) { Err(down()) } else { Ok(()) }
    }

    fn reserve(&self, size: u64) -> io::Result<()> {
        let (mut world, fate) = self.enter("reserve")?;
        let grows = (size as usize).saturating_sub(world.file_mut(self.id).cached.len());
        if grows > world.room() {
            world.seen.full += 1;
            return Err(full());
        }
        match fate {
            Fate::Fail => return Err(broken()),
            Fate::Stop if world.rng.bool() => return Err(down()),
            Fate::Good | Fate::Stop => {}
        }
        let change = FileChange::Size(size as usize);
        let file = world.file_mut(self.id);
        apply(&mut file.cached, &change);
        file.pending.push(change);
        if matches!(fate, Fate::Stop) { Err(down()) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        if is_of_catalog(&self.path) {
            task::pass();
        }
        let (mut world, fate) = self.enter(SYNC)?;
        let World { rng, nodes, seen, losses, .. } = &mut *world;
        let Node::File(file) = &mut nodes[self.id] else { return Err(missing()) };
        if self.reported.swap(file.errors, Ordering::Relaxed) < file.errors {
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
                self.reported.store(file.errors, Ordering::Relaxed);
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

//! Files and folders: the contents that reads see, those on the platter, and the writes under way.

use std::sync::Arc;

use fastrand::Rng;

use super::Seen;

/// Bytes that the disk writes as a unit.
const SECTOR: usize = 512;

#[derive(Debug)]
pub enum Node {
    File(FileNode),
    Folder(FolderNode),
}

#[derive(Debug, Default)]
pub struct FileNode {
    /// What reads see.
    pub cached: Vec<u8>,
    pub durable: Vec<u8>,
    /// Writes under way, oldest first.
    pub pending: Vec<FileChange>,
    /// A sync failed: reads see something other than the disk has, and the kernel may forget it at any time.
    pub forgetful: bool,
    /// Failed syncs. Each open file reports each of them once.
    pub errors: u32,
    /// Shared by those who have it open.
    pub handle: Arc<()>,
}

#[derive(Clone, Debug)]
pub enum FileChange {
    Data(usize, Vec<u8>),
    Size(usize),
}

#[derive(Debug, Default)]
pub struct FolderNode {
    pub cached: Entries,
    pub durable: Entries,
    pub pending: Vec<EntryChange>,
}

pub type Entries = Vec<(String, usize)>;

/// One step of a folder: an entry goes, or one comes, or both at once in a rename.
#[derive(Clone, Debug)]
pub struct EntryChange {
    pub gone: Option<String>,
    pub come: Option<(String, usize)>,
}

pub fn apply(content: &mut Vec<u8>, change: &FileChange) {
    match change {
        FileChange::Data(at, bytes) => {
            if content.len() < at + bytes.len() {
                content.resize(at + bytes.len(), 0);
            }
            content[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        FileChange::Size(size) => content.resize(*size, 0),
    }
}

pub fn apply_entry(entries: &mut Entries, change: &EntryChange) {
    let EntryChange { gone, come } = change;
    entries.retain(|(name, _)| Some(name) != gone.as_ref() && Some(name) != come.as_ref().map(|(name, _)| name));
    entries.extend(come.clone());
}

impl FileNode {
    /// The disk takes some of the writes under way, in any order and in pieces.
    pub fn take_some(&mut self, rng: &mut Rng, seen: &mut Seen) {
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
                FileChange::Data(offset, bytes) if way >= 3 => {
                    // Each sector by itself, and one of them torn anywhere.
                    let mut start = 0;
                    while start < bytes.len() {
                        let length = (SECTOR - (offset + start) % SECTOR).min(bytes.len() - start);
                        if rng.bool() {
                            let torn = rng.u32(0..8) == 0;
                            seen.torn_writes += u64::from(torn);
                            let kept = if torn { rng.usize(0..length) } else { length };
                            let piece = bytes[start..start + kept].to_vec();
                            apply(&mut self.durable, &FileChange::Data(offset + start, piece));
                        } else {
                            seen.lost_writes += 1;
                        }
                        start += length;
                    }
                }
                change if whole => apply(&mut self.durable, change),
                FileChange::Data(offset, bytes) if way == 2 && at == upto => {
                    seen.torn_writes += 1;
                    apply(&mut self.durable, &FileChange::Data(*offset, bytes[..rng.usize(0..=bytes.len())].to_vec()));
                }
                _ => seen.lost_writes += 1,
            }
        }
        // The size may have arrived before the data: then there are zeros in between, or the old bytes.
        if !pending.is_empty() && self.durable.len() < end && rng.u32(0..3) == 0 {
            let garbage = rng.u32(0..4) == 0;
            while self.durable.len() < end {
                self.durable.push(if garbage { rng.u8(..) } else { 0 });
            }
        }
    }

    /// The kernel forgets what it holds of the file beyond what is on disk or under way.
    pub fn forget(&mut self) {
        self.cached.clone_from(&self.durable);
        for change in &self.pending {
            apply(&mut self.cached, change);
        }
        self.forgetful = false;
    }
}

impl FolderNode {
    pub fn change(&mut self, change: EntryChange) {
        apply_entry(&mut self.cached, &change);
        self.pending.push(change);
    }

    /// Some of the steps reach the disk, mostly the first ones.
    pub fn take_some(&mut self, rng: &mut Rng, seen: &mut Seen) {
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

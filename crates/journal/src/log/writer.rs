//! The log while it is in use.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::batch::{self, BatchHead, Floor, LastEvent, MAX_SECTIONS, Section};
use super::error::LogError;
use super::manifest::{self, LogId, Manifest};
use super::recovery::{self, FIRST, KnownProgress, Recovered};
use super::segments::LogSegments;
use super::slot::{self, HEADER, LOG_FOLDER, LogSlot, SharedSlot};
use super::sync::LogSync;
use super::tail::{PROVISIONAL, Tail};
use crate::disk::{Disk, FileKind, Listed, OpenMode};
use crate::event_log::{AppendFailure, LogProgress, LogSection};

/// How large the log gets.
#[derive(Clone, Copy, Debug)]
pub struct LogOptions {
    /// Bytes of a slot. 32 MiB by default: a second or two at full rate, so slots change rarely. A batch takes a
    /// thirty-second of it, or one event.
    pub slot_bytes: u64,
    /// The number of segments in use above which tenants in the oldest one are asked to fold. 16 by default, so half a GiB:
    /// the more there are, the larger are the pieces that folders get.
    pub segments: usize,
    /// Bytes of all tails above which the largest are asked to fold. 256 MiB by default; they are in memory.
    pub tail_bytes: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { slot_bytes: 32 << 20, segments: 16, tail_bytes: 256 << 20 }
    }
}

/// What there is to say about the log in metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogFigures {
    /// Bytes of its files.
    pub bytes: u64,
    /// Bytes of events that no folder has yet.
    pub tail_bytes: u64,
    /// Tenants with such events.
    pub tenants: usize,
}

/// The log of a data directory. Any thread may use it.
#[derive(Debug)]
pub struct Log {
    disk: Arc<dyn Disk>,
    data_dir: PathBuf,
    folder: PathBuf,
    pub(super) id: LogId,
    pub(super) options: LogOptions,
    /// Whether the log of an earlier process was found.
    was_found: bool,
    state: Mutex<LogState>,
    /// What the manifest says. Locked while a slot is made, and before the state.
    kept: Mutex<KeptManifest>,
    /// Held while the files are read anew or written over, before the other two.
    upkeep: Mutex<()>,
    /// Held while the files of a log that failed are read, before all others.
    reading: Mutex<()>,
}

/// What the manifest keeps while the log is open.
#[derive(Debug, Default)]
pub(super) struct KeptManifest {
    slots: u32,
    /// Tenants that were erased, and of which the files may still have something.
    pub erased: HashSet<[u8; 16]>,
}

/// Slots that are made ahead of a log in use: as many as it may fill while nobody looks.
const SLOTS_AHEAD: usize = 3;
/// Bytes before a batch in which others may begin whose tenants it names: damage of a sector of 4 KiB hits no more.
const NAMED_BYTES: u64 = 8 << 10;
/// The number of batches that can begin in so many bytes.
const NAMED_BATCHES: usize = 128;

/// Where the next batch goes if it is to start a segment.
const NOWHERE: u64 = u64::MAX / 2;

#[derive(Debug)]
pub(super) struct LogState {
    pub segments: LogSegments,
    /// Where the next batch goes in the current segment.
    end: u64,
    /// The last batch.
    position: u64,
    last_segment: u64,
    pub synced: u64,
    /// The floors that batches name which are not known to be on disk yet: position of the batch, floor.
    floors: VecDeque<(u64, Floor)>,
    named_floor: Floor,
    pub synced_floor: Floor,
    /// The last batches: position, bytes, their tenants' last events.
    recent: VecDeque<(u64, u64, Vec<LastEvent>)>,
    /// The tenants of those batches.
    previous: Vec<LastEvent>,
    /// Slots with batches that are not known to be on disk, and the last position in each.
    dirty: VecDeque<(SharedSlot, u64)>,
    /// What recovery read and nobody took yet.
    tails: HashMap<[u8; 16], Tail>,
    /// What the files of a broken log hold, once somebody has asked.
    provisional: Option<HashMap<[u8; 16], Tail>>,
    /// A write or a sync failed, and the log was not reopened since.
    is_broken: bool,
    /// For each time that the log was reopened, the last batch that was on disk for certain when it had failed.
    failures: Vec<u64>,
    scratch: Vec<u8>,
}

impl Log {
    /// Opens the log of a data directory, or starts one with the id `new_id`. Blocking.
    ///
    /// # Errors
    /// Nothing was changed, unless it is `Io`.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        data_dir: &Path,
        new_id: LogId,
        options: LogOptions,
    ) -> Result<Self, LogError> {
        let folder = data_dir.join(LOG_FOLDER);
        let log = |id, state, kept| Self {
            disk: Arc::clone(&disk),
            data_dir: data_dir.to_path_buf(),
            folder: folder.clone(),
            id,
            options,
            was_found: id != new_id,
            state: Mutex::new(state),
            kept: Mutex::new(kept),
            upkeep: Mutex::new(()),
            reading: Mutex::new(()),
        };
        match Manifest::read(&*disk, data_dir)? {
            Some(Manifest { id, slots, is_closed: false, erased }) => {
                // What was read may not be on disk: the last write of it may have failed half-way.
                let clean = || {
                    disk.sync_folder(data_dir)?;
                    make_folder(&*disk, data_dir, &folder)
                };
                clean().map_err(LogError::io(data_dir))?;
                let kept = KeptManifest { slots, erased: erased.into_iter().collect() };
                check_all_named(&*disk, data_dir, id, slots)?;
                let state = recover(&*disk, data_dir, id, &kept, KnownProgress::default())?;
                let log = log(id, state, kept);
                match log.mark(&mut log.lock_kept(), &mut log.lock()) {
                    // Reads need no space. The log takes something once there is some.
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                        tracing::warn!(folder = %folder.display(), "the disk is full: the log takes nothing");
                    }
                    marked => marked.map_err(LogError::io(&folder))?,
                }
                return Ok(log);
            }
            Some(Manifest { is_closed: true, .. }) => remove_files(&*disk, data_dir, &folder)?,
            None => check_no_slots(&*disk, data_dir, &folder)?,
        }
        // The manifest comes first: slots that it does not name are nobody's.
        let create = || {
            Manifest { id: new_id, slots: 0, is_closed: false, erased: Vec::new() }.write(&*disk, data_dir)?;
            make_folder(&*disk, data_dir, &folder)?;
            let log = log(new_id, LogState::new(LogSegments::new(Vec::new(), Vec::new())), KeptManifest::default());
            log.make_slot(false)?;
            Ok(log)
        };
        create().map_err(LogError::io(&folder))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lock_kept(&self) -> MutexGuard<'_, KeptManifest> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lock_upkeep(&self) -> MutexGuard<'_, ()> {
        self.upkeep.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write_manifest(&self, kept: &KeptManifest, is_closed: bool) -> io::Result<()> {
        let erased = kept.erased.iter().copied().collect();
        Manifest { id: self.id, slots: kept.slots, is_closed, erased }.write(&*self.disk, &self.data_dir)
    }

    /// Appends a batch, and returns its position. It is in the kernel's hands then, and survives a killed process.
    /// `generation` is that of the last [`progress`](Log::progress) that the caller has taken note of. So nobody who does
    /// not know of a failure can append an event after one that is lost.
    ///
    /// # Errors
    /// See [`AppendFailure`].
    pub fn append(&self, generation: usize, sections: &[LogSection], frames: &[u8]) -> Result<u64, AppendFailure> {
        loop {
            let mut state = self.lock();
            if state.is_broken || state.failures.len() != generation {
                let problem = "an earlier write or sync of it failed";
                return Err(AppendFailure::Refused(io::Error::other(problem)));
            }
            let size = batch::size(sections.len(), state.previous.len(), frames.len());
            if sections.len() > MAX_SECTIONS || size > self.options.slot_bytes - HEADER {
                let problem = format!("a batch of {size} bytes is larger than a slot of the log");
                return Err(AppendFailure::Refused(io::Error::new(io::ErrorKind::InvalidInput, problem)));
            }
            if let Some(slot) = state.slot_for(size, self.options.slot_bytes) {
                return state.append(&slot, self.id, sections, frames, size);
            }
            drop(state);
            // It should have been made ahead. This takes a few milliseconds.
            self.make_slot(false).map_err(AppendFailure::Refused)?;
        }
    }

    /// Makes a slot if none is free. With `filled`, every block of it is written once: a block that never was costs a sync
    /// a write of metadata.
    fn make_slot(&self, filled: bool) -> io::Result<()> {
        let mut kept = self.lock_kept();
        if !filled && self.lock().segments.has_free() {
            return Ok(());
        }
        let slot = self.make_numbered_slot(&mut kept, filled)?;
        self.lock().segments.add_free(slot);
        Ok(())
    }

    fn make_numbered_slot(&self, kept: &mut KeptManifest, filled: bool) -> io::Result<SharedSlot> {
        let slot = LogSlot::create(&*self.disk, &self.folder, kept.slots, self.id, self.options.slot_bytes)?;
        if filled {
            slot.zero(HEADER, self.options.slot_bytes)?;
            slot.sync()?;
        }
        kept.slots += 1;
        if let Err(error) = self.write_manifest(kept, false) {
            // The file stays for the next attempt, since the manifest may name it all the same.
            kept.slots -= 1;
            return Err(error);
        }
        Ok(Arc::new(slot))
    }

    /// Whether the next slot should be made ahead, by [`prepare`](Log::prepare).
    pub fn is_slot_due(&self) -> bool {
        let state = self.lock();
        let is_busy = state.segments.used() > 1 || state.end > self.options.slot_bytes / 4;
        !state.is_broken && is_busy && state.segments.free() < SLOTS_AHEAD
    }

    /// Makes the next slot ahead. Blocking, for a thread of its own.
    ///
    /// # Errors
    /// The file could not be made. Appending tries it again when it needs one.
    pub fn prepare(&self) -> io::Result<()> {
        self.make_slot(true)
    }

    /// Bytes of frames above which a batch should take no more.
    pub fn batch_bytes(&self) -> usize {
        (self.options.slot_bytes / 32) as usize
    }

    /// A sync of everything appended; `None` if all of it is on disk.
    pub fn begin_sync(&self) -> Option<LogSync> {
        let state = self.lock();
        let is_due = state.position > state.synced && !state.is_broken;
        let slots = state.dirty.iter().map(|(slot, _)| Arc::clone(slot)).collect();
        is_due.then(|| LogSync { slots, position: state.position, generation: state.failures.len() })
    }

    /// Takes the outcome of a sync. After a failure the log is broken: nobody knows what the disk has lost of what was
    /// appended since the last sync.
    pub fn finish_sync(&self, sync: &LogSync, outcome: &io::Result<()>) {
        let mut state = self.lock();
        // A sync that began before the log was reopened says nothing about what was written since.
        if sync.generation == state.failures.len() {
            match outcome {
                Ok(()) if !state.is_broken => state.reached(sync.position),
                Ok(()) => {}
                Err(_) => state.is_broken = true,
            }
        }
    }

    /// How far the log has come, for a caller that has taken note of its state in `generation`.
    pub fn progress(&self, generation: usize) -> LogProgress {
        let state = self.lock();
        let failed = match state.failures.get(generation) {
            Some(synced) => Some(*synced),
            None if state.is_broken && state.failures.len() == generation => Some(state.synced),
            None => None,
        };
        let reached = state.failures.len() + usize::from(state.is_broken);
        LogProgress { generation: reached, synced: state.synced, failed }
    }

    /// The last batch.
    pub fn position(&self) -> u64 {
        self.lock().position
    }

    /// The last batch that is on disk for certain.
    pub fn synced(&self) -> u64 {
        self.lock().synced
    }

    /// Whether a write or a sync failed, so that the log takes nothing.
    pub fn is_broken(&self) -> bool {
        self.lock().is_broken
    }

    /// Reads a broken log anew, and goes on with what it holds. Blocking. Who had events in a batch after
    /// [`synced`](Log::synced) has to ask for the [`tail`](Log::tail) before the next append.
    ///
    /// # Errors
    /// The log stays broken.
    pub fn reopen(&self) -> Result<(), LogError> {
        let _upkeep = self.lock_upkeep();
        let mut kept = self.lock_kept();
        let (known, mut failures) = {
            let state = self.lock();
            if !state.is_broken {
                return Ok(());
            }
            (KnownProgress { synced: state.synced, floor: state.synced_floor }, state.failures.clone())
        };
        failures.push(known.synced);
        let recovered = recover(&*self.disk, &self.data_dir, self.id, &kept, known)?;
        let mut state = LogState { failures, ..recovered };
        self.mark(&mut kept, &mut state).map_err(LogError::io(&self.folder))?;
        *self.lock() = state;
        Ok(())
    }

    /// Whether the log takes a batch now. Blocking: it may have to make a file for that.
    ///
    /// # Errors
    /// What keeps it from that.
    pub fn probe(&self) -> io::Result<()> {
        {
            let state = self.lock();
            if state.is_broken {
                return Err(io::Error::other("an earlier write or sync of it failed"));
            }
            if state.segments.has_free() || state.end + self.batch_bytes() as u64 <= self.options.slot_bytes {
                return Ok(());
            }
        }
        self.make_slot(false)
    }

    /// Starts a segment with a batch without events, which says what is on disk, and syncs it.
    fn mark(&self, kept: &mut KeptManifest, state: &mut LogState) -> io::Result<()> {
        let size = batch::size(0, state.previous.len(), 0);
        let slot = match state.slot_for(size, self.options.slot_bytes) {
            Some(slot) => slot,
            None => {
                let made = self.make_numbered_slot(kept, false)?;
                state.segments.add_free(made);
                let slot = state.slot_for(size, self.options.slot_bytes);
                slot.ok_or_else(|| io::Error::other("a batch is larger than a slot of the log"))?
            }
        };
        let position = state.append(&slot, self.id, &[], &[], size).map_err(|failure| match failure {
            AppendFailure::Refused(error) | AppendFailure::Unknown(error) => error,
        })?;
        slot.sync()?;
        state.reached(position);
        Ok(())
    }

    /// Appends a batch without events, in a new segment if asked for, and syncs everything.
    pub(super) fn append_mark(&self, in_new_segment: bool) -> io::Result<()> {
        let generation = {
            let mut state = self.lock();
            if in_new_segment {
                state.end = NOWHERE;
            }
            state.failures.len()
        };
        self.append(generation, &[], &[]).map_err(|failure| match failure {
            AppendFailure::Refused(error) | AppendFailure::Unknown(error) => error,
        })?;
        if let Some(sync) = self.begin_sync() {
            let outcome = sync.run();
            self.finish_sync(&sync, &outcome);
            outcome?;
        }
        Ok(())
    }

    /// What the log has of a tenant. If the log has failed, the tail is [provisional](Tail::is_provisional): good for
    /// reads, until the log was reopened. Blocking.
    ///
    /// # Errors
    /// A file can't be read.
    pub fn tail(&self, tenant: [u8; 16]) -> Result<Tail, LogError> {
        let (segments, (position, generation), synced) = {
            let mut state = self.lock();
            if state.is_broken {
                drop(state);
                return self.provisional_tail(tenant);
            }
            let at = (state.position, state.failures.len());
            // Whoever was asked to fold before is gone.
            state.segments.ask_again(tenant);
            if let Some(tail) = state.tails.remove(&tenant) {
                return Ok(tail.at(at.0, at.1));
            }
            (state.segments.of_tenant(tenant), at, state.synced)
        };
        if segments.is_empty() {
            // Its folder has everything on disk.
            return Ok(Tail::default().at(0, generation));
        }
        let mut tail = Tail::default();
        for (segment, slot, upto) in segments {
            recovery::events_of(&slot, self.id, (segment, upto), synced, tenant, &mut tail)?;
        }
        Ok(tail.at(position, generation))
    }

    fn provisional_tail(&self, tenant: [u8; 16]) -> Result<Tail, LogError> {
        // Many tenants ask at once, and one of them reads for all. The other locks are not kept: a log that is read anew
        // meanwhile must not wait for this.
        let reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let slots = self.lock_kept().slots;
        let (known, generation) = {
            let state = self.lock();
            if !state.is_broken {
                drop((state, reading));
                return self.tail(tenant);
            }
            if let Some(tails) = state.provisional.as_ref() {
                let generation = state.failures.len();
                return Ok(tails.get(&tenant).cloned().unwrap_or_default().at(PROVISIONAL, generation));
            }
            (KnownProgress { synced: state.synced, floor: state.synced_floor }, state.failures.len())
        };
        let files = slot::open_all(&*self.disk, &self.data_dir, self.id, slots, OpenMode::Write);
        let read = files.and_then(|files| recovery::read(&files, self.id, known));
        let mut state = self.lock();
        if !state.is_broken || state.failures.len() != generation {
            // Files may have been written over while they were read, so an error means as little as what was found.
            drop((state, reading));
            return self.tail(tenant);
        }
        let tails = state.provisional.insert(read?.tails);
        Ok(tails.get(&tenant).cloned().unwrap_or_default().at(PROVISIONAL, generation))
    }

    /// Whether the log of an earlier process was found, which did not stop cleanly.
    pub fn was_found(&self) -> bool {
        self.was_found
    }

    /// The tenants with events that their folders may not have.
    pub fn tenants(&self) -> Vec<[u8; 16]> {
        self.lock().segments.tenants()
    }

    /// Whether the log has events of the tenant that its folder lacks.
    pub fn has_tail(&self, tenant: [u8; 16]) -> bool {
        self.lock().segments.has_tail(tenant)
    }

    /// A tenant's folder has everything up to `seq` on disk; `u64::MAX` for a tenant that was erased.
    pub fn folded(&self, tenant: [u8; 16], seq: u64) {
        let mut state = self.lock();
        state.segments.folded(tenant, seq);
        if state.tails.get(&tenant).is_some_and(|tail| tail.last_seq() <= seq) {
            state.tails.remove(&tenant);
        }
    }

    /// Tenants that should fold now. Each is named once until it has.
    pub fn due_to_fold(&self) -> Vec<[u8; 16]> {
        let LogOptions { tail_bytes, segments, .. } = self.options;
        self.lock().segments.due_to_fold(tail_bytes, segments)
    }

    /// A tenant could not fold: it is to be asked again.
    pub fn not_folded(&self, tenant: [u8; 16]) {
        self.lock().segments.ask_again(tenant);
    }

    /// Whether tenants were asked to fold and have not yet: others may have to wait for them.
    pub fn is_folding(&self) -> bool {
        self.lock().segments.is_folding()
    }

    /// Copies what tenants have in the oldest segments, and can't fold, to the current one, if the log is twice as long as
    /// it should be. Blocking. Returns the tenants that keep it long all the same, since something of them is damaged.
    ///
    /// # Errors
    /// A file can't be read or written.
    pub fn carry_forward(&self) -> Result<Vec<[u8; 16]>, LogError> {
        let pinning = self.lock().segments.pinning(2 * self.options.segments);
        let mut stuck = Vec::new();
        for tenant in pinning {
            let tail = self.tail(tenant)?;
            let Some((first_seq, last_seq, frames)) = tail.whole().filter(|_| !tail.is_damaged()) else {
                stuck.push(tenant);
                continue;
            };
            let section = LogSection { tenant, first_seq, last_seq, bytes: frames.len() };
            match self.append(tail.generation(), &[section], &frames) {
                Ok(_) => self.lock().segments.carried(tenant),
                Err(AppendFailure::Refused(error) | AppendFailure::Unknown(error)) => {
                    return Err(LogError::io(&self.folder)(error));
                }
            }
        }
        Ok(stuck)
    }

    /// Notes that a tenant is about to be erased, so that a start after a crash forgets it too. Blocking.
    ///
    /// # Errors
    /// The note could not be written. Don't erase the tenant.
    pub fn note_erased(&self, tenant: [u8; 16]) -> io::Result<()> {
        let mut kept = self.lock_kept();
        if kept.erased.insert(tenant)
            && let Err(error) = self.write_manifest(&kept, false)
        {
            kept.erased.remove(&tenant);
            return Err(error);
        }
        Ok(())
    }

    /// The tenant was not erased after all. Blocking.
    ///
    /// # Errors
    /// The note could not be taken back. A start that finds the tenant's folder does it.
    pub fn not_erased(&self, tenant: [u8; 16]) -> io::Result<()> {
        let mut kept = self.lock_kept();
        if kept.erased.remove(&tenant) { self.write_manifest(&kept, false) } else { Ok(()) }
    }

    /// Tenants that were erased, and of which the files may still have something.
    pub fn erased(&self) -> Vec<[u8; 16]> {
        self.lock_kept().erased.iter().copied().collect()
    }

    /// Figures for metrics.
    pub fn figures(&self) -> LogFigures {
        let state = self.lock();
        LogFigures {
            bytes: state.segments.slots() as u64 * self.options.slot_bytes,
            tail_bytes: state.segments.tail_bytes(),
            tenants: state.segments.tails(),
        }
    }

    /// Removes the log at a clean stop, if every folder has everything. Says whether it did. Blocking.
    ///
    /// # Errors
    /// Files of it may remain; the next start copes with them.
    pub fn close(&self) -> Result<bool, LogError> {
        let _upkeep = self.lock_upkeep();
        let kept = self.lock_kept();
        let mut state = self.lock();
        if state.is_broken || state.segments.tails() > 0 {
            return Ok(false);
        }
        state.is_broken = true;
        self.write_manifest(&kept, true).map_err(LogError::io(manifest::path(&self.data_dir)))?;
        remove_files(&*self.disk, &self.data_dir, &self.folder)?;
        Ok(true)
    }
}

impl From<&LogSection> for Section {
    fn from(section: &LogSection) -> Self {
        let LogSection { tenant, first_seq, last_seq, bytes } = *section;
        Self { tenant, first_seq, last_seq, length: bytes as u32 }
    }
}

impl LogState {
    fn new(segments: LogSegments) -> Self {
        Self {
            segments,
            end: NOWHERE,
            position: 0,
            last_segment: 0,
            synced: 0,
            floors: VecDeque::new(),
            named_floor: FIRST,
            synced_floor: FIRST,
            recent: VecDeque::new(),
            previous: Vec::new(),
            dirty: VecDeque::new(),
            tails: HashMap::new(),
            provisional: None,
            is_broken: false,
            failures: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// The slot that takes `size` more bytes, with a new segment if they don't fit in the current one; `None` if that
    /// needs a slot and none is free.
    fn slot_for(&mut self, size: u64, slot_bytes: u64) -> Option<SharedSlot> {
        if let Some(current) = self.segments.current()
            && self.end + size <= slot_bytes
        {
            return Some(Arc::clone(&current.slot));
        }
        let slot = self.segments.take_free()?;
        self.last_segment += 1;
        self.segments.start(self.last_segment, Arc::clone(&slot), self.position + 1);
        self.end = HEADER;
        Some(slot)
    }

    fn append(
        &mut self,
        slot: &SharedSlot,
        id: LogId,
        sections: &[LogSection],
        frames: &[u8],
        size: u64,
    ) -> Result<u64, AppendFailure> {
        let position = self.position + 1;
        let floor = self.segments.floor(Floor { position, segment: self.last_segment }).max(self.named_floor);
        let head = BatchHead {
            segment: self.last_segment,
            position,
            floor,
            synced: self.synced,
            sections: sections.iter().map(Section::from).collect(),
            previous_from: self.recent.front().map_or(position, |(position, ..)| *position),
            previous: std::mem::take(&mut self.previous),
        };
        batch::encode(&head, id, frames, &mut self.scratch);
        if let Err(error) = slot.write(&self.scratch, self.end) {
            self.is_broken = true;
            return Err(AppendFailure::Unknown(error));
        }
        self.end += size;
        self.position = position;
        if floor > self.named_floor {
            self.named_floor = floor;
            self.floors.push_back((position, floor));
        }
        match self.dirty.back_mut().filter(|(dirty, _)| Arc::ptr_eq(dirty, slot)) {
            Some((_, last)) => *last = position,
            None => self.dirty.push_back((Arc::clone(slot), position)),
        }
        self.segments.take(position, &head.sections);
        if !self.tails.is_empty() {
            // What recovery read of these tenants is no longer all.
            head.sections.iter().for_each(|section| drop(self.tails.remove(&section.tenant)));
        }
        self.note_recent(position, size, &head.sections);
        Ok(position)
    }

    /// Notes the tenants of a batch, for the next ones to name.
    fn note_recent(&mut self, position: u64, size: u64, sections: &[Section]) {
        let last = sections.iter().map(|s| LastEvent { tenant: s.tenant, seq: s.last_seq }).collect();
        self.recent.push_back((position, size, last));
        let mut bytes: u64 = self.recent.iter().map(|(_, size, _)| size).sum();
        while self.recent.len() > 1
            && let Some((_, first, _)) = self.recent.front()
            && bytes - first >= NAMED_BYTES
        {
            bytes -= first;
            self.recent.pop_front();
        }
        let all = self.recent.iter().flat_map(|(.., last)| last);
        self.previous = match self.recent.len() {
            1 => all.copied().collect(),
            _ => {
                let mut newest = HashMap::new();
                all.for_each(|last| _ = newest.insert(last.tenant, last.seq));
                let mut previous: Vec<_> = newest.into_iter().map(|(tenant, seq)| LastEvent { tenant, seq }).collect();
                previous.sort_unstable_by_key(|last| last.tenant);
                previous
            }
        };
    }

    /// Everything up to a position is on disk.
    fn reached(&mut self, position: u64) {
        self.synced = self.synced.max(position);
        let synced = self.synced;
        self.dirty.retain(|(_, last)| *last > synced);
        while let Some((_, floor)) = self.floors.pop_front_if(|(at, _)| *at <= synced) {
            self.synced_floor = floor;
        }
        self.segments.floor_synced(self.synced_floor);
    }
}

/// Reads the log, and makes sure that what counts is on disk.
fn recover(
    disk: &dyn Disk,
    data_dir: &Path,
    id: LogId,
    kept: &KeptManifest,
    known: KnownProgress,
) -> Result<LogState, LogError> {
    let files = slot::open_all(disk, data_dir, id, kept.slots, OpenMode::Write)?;
    let found = recovery::read(&files, id, known)?;
    rewrite(&files, &found)?;
    let used: HashSet<usize> = found.chain.iter().map(|batch| batch.at).collect();
    let (mut free, mut released) = (Vec::new(), Vec::new());
    for (_, file) in files.iter().enumerate().filter(|(at, _)| !used.contains(at)) {
        // A batch that names the floor may be lost again, if it is not of the chain.
        let end = found.slot_ends.get(&file.number).copied().unwrap_or(0);
        if end < found.chain_floor.position || end >= found.floor.position {
            free.push(Arc::clone(file));
        } else {
            released.push((Arc::clone(file), end));
        }
    }
    let mut segments = LogSegments::new(free, released);
    for batch in &found.chain {
        if segments.current().is_none_or(|segment| segment.number != batch.head.segment)
            && let Some(file) = files.get(batch.at)
        {
            segments.start(batch.head.segment, Arc::clone(file), batch.head.position);
        }
        segments.take(batch.head.position, &batch.head.sections);
    }
    segments.inherit();
    kept.erased.iter().for_each(|tenant| segments.folded(*tenant, u64::MAX));
    let found_last =
        found.chain.last().and_then(|last| Some((last.offset + last.length as u64, Arc::clone(files.get(last.at)?))));
    let position = found.next_position() - 1;
    let Recovered { chain, last_segment, chain_floor, mut tails, .. } = found;
    // While a process goes on, only those ask for their tails who had events that were not on disk.
    tails.retain(|tenant, tail| !kept.erased.contains(tenant) && (known.synced == 0 || tail.newest() > known.synced));
    let mut state = LogState::new(segments);
    state.position = position;
    state.last_segment = last_segment;
    state.synced = position;
    (state.named_floor, state.synced_floor) = (chain_floor, chain_floor);
    // What comes next is a segment of its own, behind the last batch that counts.
    if let Some((last, file)) = found_last {
        state.end = last;
        state.last_segment += 1;
        state.segments.start(state.last_segment, file, position + 1);
    }
    for batch in chain.iter().skip(chain.len().saturating_sub(NAMED_BATCHES)) {
        state.note_recent(batch.head.position, batch.length as u64, &batch.head.sections);
    }
    state.tails = tails;
    Ok(state)
}

/// Makes the log's folder, and removes what was left unfinished in it.
fn make_folder(disk: &dyn Disk, data_dir: &Path, folder: &Path) -> io::Result<()> {
    if !disk.exists(folder) {
        disk.make_folder(folder)?;
        return disk.sync_folder(data_dir);
    }
    for entry in disk.list(folder)?.iter().filter(|entry| entry.name.ends_with(crate::files::TEMPORARY)) {
        disk.remove(&folder.join(&entry.name))?;
    }
    Ok(())
}

/// Writes what may not be on disk over itself, and syncs it. After a failed sync the kernel takes bytes for clean that it
/// lost; only a new write makes the next sync cover them.
fn rewrite(files: &[SharedSlot], found: &Recovered) -> Result<(), LogError> {
    let mut touched: Vec<&SharedSlot> = Vec::new();
    for batch in found.chain.iter().filter(|batch| batch.head.position > found.certain) {
        let Some(file) = files.get(batch.at) else { continue };
        file.write(&batch.unsynced, batch.offset).map_err(LogError::io(&file.path))?;
        if touched.last().is_none_or(|last| last.number != file.number) {
            touched.push(file);
        }
    }
    touched.iter().try_for_each(|file| file.sync().map_err(LogError::io(&file.path)))
}

pub(super) fn check_no_slots(disk: &dyn Disk, data_dir: &Path, folder: &Path) -> Result<(), LogError> {
    if !disk.exists(folder) {
        return Ok(());
    }
    let names = disk.list(folder).map_err(LogError::io(folder))?;
    match names.iter().find(|entry| slot::path(folder, 0).file_name().is_some_and(|name| name == entry.name.as_str())) {
        Some(_) => {
            let manifest = manifest::path(data_dir);
            Err(LogError::damaged(&manifest, 0, "the file is missing, and the folder of the log has slots"))
        }
        None => Ok(()),
    }
}

/// Checks that no slot behind those that the manifest names has anything of the log: its count has no checksum. One that was
/// made and not named yet is empty.
pub(super) fn check_all_named(disk: &dyn Disk, data_dir: &Path, id: LogId, slots: u32) -> Result<(), LogError> {
    let unnamed = (slots..).map(|number| slot::path(&data_dir.join(LOG_FOLDER), number));
    for path in unnamed.take_while(|path| disk.exists(path)) {
        let mut found = Vec::new();
        recovery::find_batches(&disk.read(&path).map_err(LogError::io(&path))?, id, 0, &mut found);
        if !found.is_empty() {
            let detail = format!("it does not name {}, which has events of the log", path.display());
            return Err(LogError::damaged(&manifest::path(data_dir), 0, detail));
        }
    }
    Ok(())
}

/// Removes the log's files and then its manifest. Other files in the folder stay.
fn remove_files(disk: &dyn Disk, data_dir: &Path, folder: &Path) -> Result<(), LogError> {
    let remove = || {
        if disk.exists(folder) {
            let entries = disk.list(folder)?;
            let is_slot = |entry: &&Listed| entry.kind == FileKind::File && slot::is_slot(&entry.name);
            for entry in entries.iter().filter(is_slot) {
                disk.remove(&folder.join(&entry.name))?;
            }
            if entries.iter().all(|entry| is_slot(&entry)) {
                disk.remove_folder(folder)?;
            }
            if disk.exists(folder) {
                disk.sync_folder(folder)?;
            }
            disk.sync_folder(data_dir)?;
        }
        Manifest::remove(disk, data_dir)
    };
    remove().map_err(LogError::io(folder))
}

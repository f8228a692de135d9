//! The catalog: rows that are made when a folder is synced, noted once the log is on disk, written on another thread, and
//! read at the start. The order of these steps is that of the server's actors.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use kavach_domain::{Tenant, TenantId, Timestamp};
use kavach_journal::{CatalogEnd, CatalogFile, DataDir};
use kavach_store::catalog_writer::{CatalogWriter, RowBytes, Rows};
use kavach_store::{BoxedReply, CatalogRow, LoadedTenant};

use super::History;
use super::member::{Part, folder_synced};
use crate::disk::Stop;
use crate::task::Task;

/// What is sent to the thread that writes the catalog.
pub enum Note {
    /// A tenant's row, and the last event that its folder has on disk.
    Row(TenantId, RowBytes, u64),
    /// The folder has events up to that one on disk, and the row noted last holds.
    Folded(TenantId, u64),
}

/// What is on its way to that thread.
pub type Inbox = Arc<Mutex<Vec<Note>>>;

/// A write of the catalog on another thread.
type RunningWrite = Task<(CatalogWriter, io::Result<()>)>;

/// The catalog of a running process, and what the simulation remembers of the ones before.
#[derive(Default)]
pub struct Catalog {
    /// `None` while a write is under way.
    writer: Option<CatalogWriter>,
    write: Option<RunningWrite>,
    pub inbox: Inbox,
    /// Tenants whose rows the writer has and the file lacks.
    waiting: BTreeSet<TenantId>,
    pub directory: Arc<Directory>,
    /// What was read at the start; `None` if that is not all.
    found: Option<BTreeMap<TenantId, RowBytes>>,
    /// Every row that was ever made, and when.
    made: Vec<MadeRow>,
}

struct MadeRow {
    row: CatalogRow,
    /// The last event it knows of.
    seq: u64,
    at: Timestamp,
}

/// What a process knows of tenants that are not in memory, and a little more.
#[derive(Default)]
pub struct Directory(Mutex<BTreeMap<TenantId, Known>>);

#[derive(Clone)]
struct Known {
    row: RowBytes,
    /// Whether nothing has happened in the tenant since.
    is_current: bool,
    /// Whether a row of the tenant is in the catalog for certain.
    is_written: bool,
}

impl Rows for Directory {
    fn all(&self) -> Vec<(TenantId, RowBytes)> {
        self.0.lock().unwrap().iter().map(|(id, known)| (*id, Arc::clone(&known.row))).collect()
    }

    fn written(&self, tenant: TenantId, row: RowBytes) {
        let mut all = self.0.lock().unwrap();
        let known =
            all.entry(tenant).or_insert_with(|| Known { row: row.clone(), is_current: false, is_written: true });
        known.is_written = true;
        // A row of an idle tenant is the last.
        if !known.is_current {
            known.row = row;
        }
    }
}

impl Directory {
    /// A tenant is not in memory, and that is its row, if it has one.
    pub fn left(&self, tenant: TenantId, row: Option<RowBytes>) {
        let Some(row) = row else { return };
        let mut all = self.0.lock().unwrap();
        let is_written = all.get(&tenant).is_some_and(|known| known.is_written);
        all.insert(tenant, Known { row, is_current: true, is_written });
    }

    /// A tenant comes into memory. Returns the row that its actor gets.
    pub fn wake(&self, tenant: TenantId) -> Option<RowBytes> {
        let mut all = self.0.lock().unwrap();
        let known = all.get_mut(&tenant)?;
        known.is_current = false;
        Some(Arc::clone(&known.row))
    }

    fn is_written(&self, tenant: TenantId) -> bool {
        self.0.lock().unwrap().get(&tenant).is_some_and(|known| known.is_written)
    }
}

impl Catalog {
    /// The process ends: only what is on disk stays, and what the simulation remembers.
    pub fn stop(&mut self) {
        let made = std::mem::take(&mut self.made);
        *self = Self { made, ..Self::default() };
    }

    /// A tenant's row now.
    pub fn make(&mut self, tenant: &Tenant, now: Timestamp, since_snapshot: u64) -> CatalogRow {
        let row = CatalogRow::of(tenant, now, since_snapshot);
        self.made.push(MadeRow { row: of_state(row.clone()), seq: tenant.seq(), at: now });
        row
    }

    /// Sends something to the thread that writes the catalog.
    pub fn send(&self, note: Note) {
        self.inbox.lock().unwrap().push(note);
    }

    /// The writer takes what was sent to it.
    fn take_notes(&mut self, log: &kavach_journal::Log) {
        let Some(writer) = &mut self.writer else { return };
        for note in self.inbox.lock().unwrap().drain(..) {
            match note {
                Note::Row(tenant, row, folded) => {
                    self.waiting.insert(tenant);
                    writer.note(tenant, row, folded);
                }
                Note::Folded(tenant, folded) => writer.folded(tenant, folded, log),
            }
        }
    }
}

/// Opens the catalog.
fn read(data: &DataDir) -> io::Result<(CatalogFile, CatalogEnd, BTreeMap<TenantId, RowBytes>)> {
    let mut rows = BTreeMap::new();
    let (file, end) = data.open_catalog(&mut |tenant, row| {
        rows.insert(TenantId::from_bytes(tenant), RowBytes::from(row));
    })?;
    Ok((file, end, rows))
}

/// What a row says of a tenant's state. The rest is about its folder.
fn of_state(row: CatalogRow) -> CatalogRow {
    CatalogRow { since_snapshot: 0, retention_due: None, ..row }
}

impl History {
    /// The folder has more on disk: the log may forget it, once the tenant's row is in the catalog.
    pub(super) fn note_folded(&mut self, at: usize) {
        let (now, log) = (self.now(), self.log());
        let inbox = Arc::clone(&self.catalog.inbox);
        let member = &mut self.members[at];
        member.take_lost_row();
        let lost = Arc::clone(&member.row_lost);
        let (id, synced) = (member.id, folder_synced(&member.part));
        let Part::Up(pipeline) = &member.part else { return };
        let seq = pipeline.tenant().seq();
        let note = match member.row.is_some() && member.row_seq == seq {
            true => Note::Folded(id, synced),
            false => {
                let row = self.catalog.make(pipeline.tenant(), now, pipeline.since_snapshot());
                let row = RowBytes::from(row.encode());
                (member.row, member.row_seq) = (Some(Arc::clone(&row)), seq);
                Note::Row(id, row, synced)
            }
        };
        // A row tells of the newest events too, and what is noted after it may not overtake it.
        let held: BoxedReply = Box::new(move |outcome| match outcome {
            Ok(()) => inbox.lock().unwrap().push(note),
            Err(_) => {
                lost.store(true, Ordering::Relaxed);
                log.not_folded(id.bytes());
            }
        });
        pipeline.hold_changed(held, self.queue.as_mut().unwrap());
        self.say(|| format!("{at}: a row of event {seq}, with {synced} in the folder"));
    }

    /// The thread that writes the catalog begins, if there is something to write.
    pub(super) fn start_catalog_write(&mut self) {
        let log = self.log();
        self.catalog.take_notes(&log);
        let Some(mut writer) = self.catalog.writer.take_if(|writer| !writer.is_idle()) else { return };
        let rows = Arc::clone(&self.catalog.directory);
        self.say(|| "the catalog is being written".to_owned());
        self.catalog.write = Some(Task::start(move || {
            let outcome = writer.write(&*log, &*rows);
            (writer, outcome)
        }));
    }

    pub(super) fn advance_catalog_write(&mut self) {
        let operations = self.rng.usize(1..5);
        if self.catalog.write.as_ref().is_some_and(|task| task.advance(operations)) {
            self.finish_catalog_write();
        }
    }

    fn finish_catalog_write(&mut self) {
        let Some(task) = self.catalog.write.take() else { return };
        let (writer, outcome) = task.finish();
        self.say(|| format!("the catalog is written: {outcome:?}"));
        self.catalog.writer = Some(writer);
        match outcome {
            Ok(()) => {
                let rows = std::mem::take(&mut self.catalog.waiting).len();
                self.tally.rows_written += rows as u64;
                self.tally.rows_together += u64::from(rows > 1);
            }
            Err(_) => {
                self.tally.failed_catalog_writes += 1;
                // What the kernel shows of the file may not be on disk.
                if self.rng.u32(0..4) == 0 && !self.disk.is_down() {
                    self.stop(Stop::Kill, false);
                }
            }
        }
    }

    /// Everything that was noted is written, on a disk that works.
    pub(super) fn write_catalog_now(&mut self) {
        self.finish_catalog_write();
        self.start_catalog_write();
        self.finish_catalog_write();
        assert!(self.catalog.waiting.is_empty(), "a disk that works takes rows");
    }

    /// A clean stop: everything is written, and the catalog says so.
    pub(super) fn close_catalog(&mut self) {
        self.write_catalog_now();
        self.catalog.writer.take().unwrap().close().unwrap();
    }

    /// Opens the catalog at a start, retrying if the disk refuses.
    pub(super) fn open_catalog(&mut self) {
        while self.catalog.writer.is_none() && !self.disk.is_down() {
            match read(self.data.as_ref().unwrap()) {
                Ok((file, end, rows)) => {
                    let holds = CatalogFile::holds(end, self.log().was_found());
                    self.catalog_opened(file, holds.then_some(rows));
                }
                Err(error) => {
                    self.say(|| format!("the catalog can't be read: {error}"));
                    assert!(error.raw_os_error().is_some() || self.disk.is_down(), "{error}");
                }
            }
        }
    }

    /// After a clean stop a bit was flipped. Rows that count are right all the same.
    pub(super) fn check_closed_catalog(&self, data: &DataDir, place: &str) {
        let is_elsewhere = !place.ends_with(" catalog");
        let (_, end, rows) = match read(data) {
            Ok(read) => read,
            Err(error) => return assert!(!is_elsewhere && error.raw_os_error().is_none(), "{error}"),
        };
        let holds = CatalogFile::holds(end, false);
        assert!(holds || !is_elsewhere, "it was closed, and is {end:?}");
        for (at, member) in self.members.iter().enumerate().filter(|_| holds) {
            let seq = member.model.len();
            self.assert_row(at, &member.model.state_at(seq), &rows[&member.id], seq);
        }
    }

    fn catalog_opened(&mut self, file: CatalogFile, found: Option<BTreeMap<TenantId, RowBytes>>) {
        self.say(|| format!("the catalog has {:?} rows", found.as_ref().map(BTreeMap::len)));
        let was_written = self.members.iter().any(|member| member.has_row);
        self.tally.catalogs_not_whole += u64::from(found.is_none() && was_written);
        for (id, row) in found.iter().flatten() {
            let is_known = self.members.iter().any(|member| member.id == *id);
            assert!(is_known, "a row of a tenant that never was");
            let row = of_state(CatalogRow::decode(*id, row).unwrap());
            assert!(self.catalog.made.iter().any(|made| made.row == row), "nobody made the row of {id}");
        }
        self.catalog.writer = Some(CatalogWriter::new(file));
        self.catalog.found = found;
    }

    /// A tenant was loaded at a start. If the log has nothing of it, its row has to hold.
    pub(super) fn check_row(&mut self, at: usize, loaded: &LoadedTenant, has_tail: bool) {
        let id = self.members[at].id;
        if has_tail {
            self.members[at].in_log = loaded.tenant.seq();
        }
        let found = match &self.catalog.found {
            Some(rows) => {
                let row = rows.get(&id);
                assert!(row.is_some() || !self.members[at].has_row, "{at}: its row is gone");
                row.cloned()
            }
            // All folders are read.
            None => None,
        };
        let row = match found {
            Some(row) => {
                let seq = loaded.tenant.seq();
                let oldest = match has_tail {
                    // The log may have newer events. But the row says only what is on disk.
                    true => 1,
                    false => seq,
                };
                self.assert_row(at, &loaded.tenant, &row, oldest);
                self.tally.rows_checked += u64::from(!has_tail);
                row
            }
            None => {
                let since_snapshot = loaded.tenant.seq() - loaded.snapshot_seq;
                let row = RowBytes::from(self.catalog.make(&loaded.tenant, self.now(), since_snapshot).encode());
                if !has_tail {
                    self.catalog.send(Note::Row(id, Arc::clone(&row), 0));
                }
                row
            }
        };
        self.catalog.directory.left(id, Some(row));
    }

    /// The row is exactly what the state gave at some time, as of an event from `oldest` on.
    fn assert_row(&self, at: usize, tenant: &Tenant, row: &RowBytes, oldest: u64) {
        let member = &self.members[at];
        let (found, seq) = (of_state(CatalogRow::decode(member.id, row).unwrap()), tenant.seq());
        let made = || self.catalog.made.iter().filter(|made| made.row == found);
        let holds = |made: &MadeRow| {
            let state = match made.seq == seq {
                true => tenant,
                false => &member.model.state_at(made.seq),
            };
            (oldest..=seq).contains(&made.seq) && of_state(CatalogRow::of(state, made.at, 0)) == found
        };
        assert!(
            made().any(holds),
            "{at}: its row is that of events {:?}, not of one from {oldest} to {seq}",
            made().map(|made| made.seq).collect::<Vec<_>>(),
        );
    }

    /// The process ends. Rows that were not written are lost; those that were may not be.
    pub(super) fn stop_catalog(&mut self) {
        if let Some(task) = self.catalog.write.take() {
            drop(task);
        }
        let waits = self.catalog.inbox.lock().unwrap().len() + self.catalog.waiting.len();
        self.tally.rows_lost += waits as u64;
        for member in &mut self.members {
            member.has_row |= self.catalog.directory.is_written(member.id);
        }
        self.catalog.stop();
    }
}

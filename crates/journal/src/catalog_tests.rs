//! What must hold for the catalog: over random histories with killed processes, power failures, failed writes and syncs,
//! against a model that only remembers what was appended.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use fastrand::Rng;

use crate::catalog::{CatalogEnd, CatalogFile};
use crate::disk::Disk as _;
use crate::memory_disk::{Failure, MemoryDisk};

/// Rows that a tenant was given, from the first on; an empty one says that it is gone.
struct Tenant {
    rows: Vec<Vec<u8>>,
    /// The number of the newest row that is known to be in the file. Before the first there is none.
    known: usize,
}

struct History {
    rng: Rng,
    disk: MemoryDisk,
    file: CatalogFile,
    tenants: Vec<Tenant>,
    /// Whether the file was ever written whole.
    was_written: bool,
    /// Whether its writer ended it.
    is_closed: bool,
    closed: u32,
}

fn key(tenant: usize) -> [u8; 16] {
    [tenant as u8 + 1; 16]
}

fn open(disk: &MemoryDisk) -> (CatalogFile, CatalogEnd, BTreeMap<[u8; 16], Vec<u8>>) {
    let mut rows = BTreeMap::new();
    let mut note = |tenant, row: &[u8]| match row {
        [] => _ = rows.remove(&tenant),
        row => _ = rows.insert(tenant, row.to_vec()),
    };
    // As every process does that opens a data directory.
    disk.sync_folder(Path::new("data")).unwrap();
    let (file, end) = CatalogFile::open(Arc::new(disk.clone()), Path::new("data"), &mut note).unwrap();
    (file, end, rows)
}

impl History {
    fn new(seed: u64) -> Self {
        let (mut rng, disk) = (Rng::with_seed(seed), MemoryDisk::new(seed));
        let tenants = (0..rng.usize(1..8)).map(|_| Tenant { rows: vec![Vec::new()], known: 0 }).collect();
        let (file, end, _) = open(&disk);
        assert_eq!(end, CatalogEnd::Damaged);
        Self { rng, disk, file, tenants, was_written: false, is_closed: false, closed: 0 }
    }

    /// New rows of some tenants.
    fn make_rows(&mut self) -> Vec<usize> {
        let mut changed = Vec::new();
        for (n, tenant) in self.tenants.iter_mut().enumerate() {
            if self.rng.bool() {
                let length = if self.rng.u8(0..8) == 0 { 0 } else { self.rng.usize(1..300) };
                let mut row = vec![self.rng.u8(..); length];
                // No two are equal.
                row.splice(..length.min(4), (tenant.rows.len() as u32).to_le_bytes().into_iter().take(length.min(4)));
                tenant.rows.push(row);
                changed.push(n);
            }
        }
        changed
    }

    fn append(&mut self) {
        let changed = self.make_rows();
        let rows = changed.iter().map(|n| (key(*n), &**self.tenants[*n].rows.last().unwrap()));
        if self.file.needs_replacing() {
            assert!(self.file.append(rows).is_err());
            return self.replace();
        }
        if self.file.append(rows).is_ok() {
            for n in changed {
                self.tenants[n].known = self.tenants[n].rows.len() - 1;
            }
        }
        self.is_closed = false;
    }

    fn replace(&mut self) {
        let rows = self.tenants.iter().enumerate().map(|(n, tenant)| (key(n), &**tenant.rows.last().unwrap()));
        if self.file.replace(rows.filter(|(_, row)| !row.is_empty())).is_ok() {
            assert!(!self.file.needs_replacing());
            self.was_written = true;
            self.tenants.iter_mut().for_each(|tenant| tenant.known = tenant.rows.len() - 1);
        }
        self.is_closed = false;
    }

    fn close(&mut self) {
        // What is written next goes to the next file.
        let (next, ..) = open(&self.disk);
        let needs_replacing = self.file.needs_replacing();
        let closed = std::mem::replace(&mut self.file, next).close();
        assert!(!needs_replacing || closed.is_err());
        self.is_closed = closed.is_ok();
        self.closed += u32::from(self.is_closed);
    }

    fn reopen(&mut self) {
        self.disk.fail(None);
        self.disk.stop_after(None);
        if self.rng.bool() {
            self.disk.power_failure();
        }
        let (file, end, rows) = open(&self.disk);
        self.file = file;
        // An append that failed may have left the end where it was.
        assert!(end == CatalogEnd::Closed || !self.is_closed, "{end:?}");
        if end == CatalogEnd::Damaged {
            assert!(!self.was_written, "nothing was damaged");
            return assert!(self.file.needs_replacing());
        }
        for (n, tenant) in self.tenants.iter_mut().enumerate() {
            let read = rows.get(&key(n)).cloned().unwrap_or_default();
            let newest = tenant.rows.iter().rposition(|row| *row == read);
            let newest = newest.unwrap_or_else(|| panic!("tenant {n} has a row that nobody appended"));
            assert!(newest >= tenant.known, "tenant {n} has row {newest}, and {} was on disk", tenant.known);
            assert!(!self.is_closed || newest == tenant.known || read.is_empty());
            // What was read is what its owner goes on with.
            tenant.rows.truncate(newest + 1);
            tenant.known = newest;
        }
        assert!(rows.keys().all(|tenant| (0..self.tenants.len()).any(|n| key(n) == *tenant)));
    }

    fn play(&mut self) {
        for _ in 0..self.rng.u32(1..60) {
            match self.rng.u8(0..16) {
                0..8 => self.append(),
                8..10 => self.replace(),
                10 => self.disk.fail(Some(Failure::Write)),
                11 => self.disk.fail(Some(Failure::Sync)),
                12 => self.disk.stop_after(Some(self.rng.u32(0..8))),
                13 => {
                    self.disk.fail(None);
                    self.disk.stop_after(None);
                }
                14 if self.rng.bool() => {
                    self.disk.fail(None);
                    self.disk.stop_after(None);
                    self.close();
                    self.reopen();
                }
                _ => self.reopen(),
            }
        }
        self.reopen();
    }
}

#[test]
fn a_row_that_was_appended_is_never_lost_and_none_is_made_up() {
    let seeds = std::env::var("KAVACH_CATALOG_SEEDS").map_or(3_000, |count| count.parse().unwrap());
    let mut closed = 0;
    for seed in 0..seeds {
        let mut history = History::new(seed);
        let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| history.play()));
        assert!(played.is_ok(), "seed {seed}");
        closed += history.closed;
    }
    assert!(closed > 0);
}

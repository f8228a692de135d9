//! The last step of a commit: once a tenant's folder has its events, its row goes into the catalog, and then the log may
//! forget them. So after a crash, each tenant without events in the log has a row that holds.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use kavach_domain::TenantId;
use kavach_journal::{CatalogFile, EventLog};

/// Bytes of outdated rows (16 MiB) that the file may have beside as many as it has of current ones.
const MOST_OUTDATED: u64 = 16 << 20;

/// A tenant's row; empty if the tenant is gone.
pub type RowBytes = Arc<[u8]>;

/// What is known of the tenants in the catalog.
pub trait Rows {
    /// The newest row of every tenant that is in the catalog.
    fn all(&self) -> Vec<(TenantId, RowBytes)>;
    /// A row is in the catalog.
    fn written(&self, tenant: TenantId, row: RowBytes);
}

/// Writes the catalog.
#[derive(Debug)]
pub struct CatalogWriter {
    file: CatalogFile,
    /// For each tenant the newest row that is not written, and the last event that the tenant's folder has on disk.
    pending: BTreeMap<TenantId, (RowBytes, u64)>,
    /// Bytes of the file from which on it is written anew, without outdated rows.
    compact_at: u64,
}

impl CatalogWriter {
    /// Goes on with a file.
    pub fn new(file: CatalogFile) -> Self {
        let compact_at = file.bytes() * 2 + MOST_OUTDATED;
        Self { file, pending: BTreeMap::new(), compact_at }
    }

    /// Takes a tenant's row. It may say only what is on disk. The tenant's folder has the events up to `folded` there.
    pub fn note(&mut self, tenant: TenantId, row: RowBytes, folded: u64) {
        let (_, newest) = self.pending.remove(&tenant).unwrap_or_default();
        self.pending.insert(tenant, (row, folded.max(newest)));
    }

    /// The tenant's folder has the events up to `folded` on disk, and its newest row tells of them. Lets the log forget them,
    /// now or once that row is written.
    pub fn folded(&mut self, tenant: TenantId, folded: u64, log: &dyn EventLog) {
        match self.pending.get_mut(&tenant) {
            Some((_, waiting)) => *waiting = folded.max(*waiting),
            None => log.folded(tenant.bytes(), folded),
        }
    }

    /// Whether nothing waits to be written.
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// Writes what waits, and lets the log forget. Blocking.
    ///
    /// # Errors
    /// Everything still waits, and the log keeps what it has.
    pub fn write(&mut self, log: &dyn EventLog, rows: &dyn Rows) -> io::Result<()> {
        self.put(rows)?;
        for (tenant, (row, folded)) in std::mem::take(&mut self.pending) {
            if !row.is_empty() {
                rows.written(tenant, row);
            }
            log.folded(tenant.bytes(), folded);
        }
        Ok(())
    }

    /// Notes in the file that everything is in it. Blocking.
    ///
    /// # Errors
    /// The next start makes the file anew.
    pub fn close(self) -> io::Result<()> {
        self.file.close()
    }

    fn put(&mut self, rows: &dyn Rows) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        if self.file.needs_replacing() || self.file.bytes() > self.compact_at {
            let mut all: BTreeMap<_, _> = rows.all().into_iter().collect();
            all.extend(self.pending.iter().map(|(tenant, (row, _))| (*tenant, Arc::clone(row))));
            let all = all.iter().filter(|(_, row)| !row.is_empty());
            self.file.replace(all.map(|(tenant, row)| (tenant.bytes(), &**row)))?;
            self.compact_at = self.file.bytes() * 2 + MOST_OUTDATED;
            return Ok(());
        }
        self.file.append(self.pending.iter().map(|(tenant, (row, _))| (tenant.bytes(), &**row)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Mutex;

    use super::*;
    use kavach_domain::Timestamp;
    use kavach_journal::{DataDir, LogOptions};

    #[derive(Default)]
    struct Known(Mutex<HashMap<TenantId, RowBytes>>);

    impl Rows for Known {
        fn all(&self) -> Vec<(TenantId, RowBytes)> {
            self.0.lock().unwrap().iter().map(|(id, row)| (*id, Arc::clone(row))).collect()
        }

        fn written(&self, tenant: TenantId, row: RowBytes) {
            self.0.lock().unwrap().insert(tenant, row);
        }
    }

    #[test]
    fn outdated_rows_do_not_pile_up_and_none_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        let log = data.open_log([1; 16], LogOptions::default()).unwrap();
        let known = Known::default();
        let id = |of: u8| TenantId::generate(Timestamp::default(), [of; 10]).unwrap();
        let mut writer = CatalogWriter::new(data.open_catalog(&mut |_, _| {}).unwrap().0);
        let large = |of: u8| RowBytes::from(vec![of; 1 << 20]);
        writer.note(id(1), large(1), 0);
        writer.write(&log, &known).unwrap();
        let mut largest = 0;
        for round in 0..40 {
            writer.note(id(2), large(round), 0);
            writer.write(&log, &known).unwrap();
            largest = largest.max(writer.file.bytes());
        }
        assert!(largest <= MOST_OUTDATED + (8 << 20), "{largest}");
        writer.note(id(1), large(1), 4);
        writer.folded(id(1), 5, &log);
        assert_eq!(writer.pending.get(&id(1)).map(|(_, folded)| *folded), Some(5), "only once the row is written");
        writer.folded(id(2), 5, &log);
        assert!(!writer.pending.contains_key(&id(2)));
        writer.note(id(2), RowBytes::default(), u64::MAX);
        writer.write(&log, &known).unwrap();
        assert!(writer.is_idle());
        let mut rows = HashMap::new();
        data.open_catalog(&mut |tenant, row| _ = rows.insert(TenantId::from_bytes(tenant), row.len())).unwrap();
        assert_eq!((rows.get(&id(1)), rows.get(&id(2))), (Some(&(1 << 20)), Some(&0)));
    }
}

//! From a tenant's folder to what its actor starts from, and back to a folder for a new tenant.

use std::io;

use serde::{Deserialize, Serialize};

use crate::domain::event::{By, ChangeRecord};
use crate::domain::tenant_commands::TenantSpec;
use crate::domain::text::{DEFAULT_TENANT_NAME, Slug};
use crate::domain::{Event, Tenant, TenantId, Timestamp, tenant::Moment};
use crate::journal::{
    self, DataDir, Folder, Journal, JournalOptions, NewTenant, NotDone, RecoveryError, TenantFolder, codec,
    load_snapshot,
};

/// What labels a tenant's folder for people, and keeps its slug taken when the rest can't be read.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Label {
    /// The tenant's id, or `default`.
    pub id: String,
    /// Its slug.
    pub slug: Option<String>,
    /// Its name when it was created.
    pub name: String,
}

/// What a folder's name and label say of it. Whose it is, only the files in it say.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The tenant it is named after.
    pub id: TenantId,
    /// The slug that its label names.
    pub slug: Option<Slug>,
    /// Whether the label is one of the tenant it is named after: a copy of another's folder has that one's.
    pub is_own_label: bool,
}

/// The tenant that a folder of that name is named after.
pub fn named_after(folder: &str) -> Option<TenantId> {
    match folder {
        DEFAULT_TENANT_NAME => Some(TenantId::DEFAULT),
        // The digits of the default tenant's id are no other spelling of its folder's name.
        name => TenantId::parse(name).filter(|id| !id.is_default()),
    }
}

/// The tenant a folder is named after, and what its label says; `None` for a name that is no tenant's.
pub fn identify(folder: &TenantFolder) -> Option<Claim> {
    let id = named_after(&folder.name)?;
    let label: Label = folder.label.as_deref().and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or_default();
    let slug = label.slug.and_then(|slug| Slug::parse("slug", &slug).ok()).filter(|_| !id.is_default());
    Some(Claim { id, slug, is_own_label: label.id == folder.name })
}

/// What a tenant goes on from.
pub struct Loaded {
    /// Its state.
    pub tenant: Tenant,
    /// Its journal, ready to append.
    pub journal: Journal,
    /// Number of the last event the newest snapshot holds.
    pub snapshot_seq: u64,
    /// The last event that is no news to followers of the journal.
    pub told: u64,
}

/// Why a tenant could not be read.
#[derive(Debug)]
pub struct LoadError {
    /// A sentence that says which file is bad and what to do.
    pub problem: String,
    /// Whether the system refused to read or write, which may pass, while damage does not.
    pub may_pass: bool,
    /// Whether what is in the folder is another tenant's, by its headers or its events.
    pub is_foreign: bool,
}

impl From<String> for LoadError {
    fn from(problem: String) -> Self {
        Self { problem, may_pass: false, is_foreign: false }
    }
}

impl From<RecoveryError> for LoadError {
    fn from(error: RecoveryError) -> Self {
        Self {
            problem: error.to_string(),
            may_pass: matches!(error, RecoveryError::Io { .. }),
            is_foreign: matches!(error, RecoveryError::Foreign { .. }),
        }
    }
}

/// Reads a tenant from its folder: the newest good snapshot, then the events after it.
///
/// # Errors
/// What kept it from being read.
pub fn load(folder: &Folder, id: TenantId, now: Timestamp, options: JournalOptions) -> Result<Loaded, LoadError> {
    let path = folder.path();
    let loaded = load_snapshot(folder, id.bytes())?;
    let (mut tenant, snapshot_seq) = match loaded.snapshot {
        Some(snapshot) => {
            let seq = snapshot.seq;
            let problem = |problem: String| format!("{}: the snapshot of event {seq}: {problem}", path.display());
            let tenant = Tenant::restore(codec::read_state(snapshot).map_err(|error| problem(error.to_string()))?);
            if tenant.seq() != seq {
                return Err(problem(format!("its state is that of event {}", tenant.seq())).into());
            }
            (tenant, seq)
        }
        None => (Tenant::default(), 0),
    };
    let mut replay = |seq: u64, bytes: &[u8]| {
        let (at, event) = codec::decode_event(bytes).map_err(|problem| problem.to_string())?;
        if at < tenant.time() {
            return Err("its time is before that of the event before it".to_owned());
        }
        tenant.apply(Moment { at, seq }, &event);
        Ok(())
    };
    let read = journal::read(folder, id.bytes(), snapshot_seq, &mut replay)?;
    // A folder is there only once its tenant's first event is on disk.
    if tenant.seq() == 0 {
        let detail = "none of the tenant's events is left in it".to_owned();
        return Err(RecoveryError::Damaged { file: path.to_owned(), offset: 0, detail }.into());
    }
    if tenant.id() != id {
        return Err(RecoveryError::Foreign { file: path.to_owned(), owner: tenant.id().bytes() }.into());
    }
    tenant.check_soundness().map_err(|problem| format!("{}: its state is not one: {problem}", path.display()))?;
    // Only now is anything on disk changed.
    let journal = read.reopen(options, now.millis())?;
    let told = journal.written_seq();
    Ok(Loaded { tenant, journal, snapshot_seq, told })
}

/// Makes a tenant's folder with its first event on disk.
///
/// # Errors
/// What kept the folder from being written.
pub fn create(
    data: &DataDir,
    id: TenantId,
    spec: TenantSpec,
    now: Timestamp,
    options: JournalOptions,
) -> Result<Loaded, NotDone> {
    let slug = spec.slug().map(|slug| slug.to_string());
    let label = Label { id: id.folder_name(), slug, name: spec.name().to_owned() };
    let label = serde_json::to_vec_pretty(&label).map_err(io::Error::from)?;
    let mut tenant = Tenant::default();
    let moment = tenant.next_moment(now);
    let event = Event::Changed(ChangeRecord { by: By::Operator, change: spec.created(id) });
    let mut payload = Vec::new();
    codec::encode_event(moment.at, &event, &mut payload).map_err(io::Error::other)?;
    let journal = data.create_tenant(NewTenant {
        name: &id.folder_name(),
        label: &label,
        tenant: id.bytes(),
        now_ms: now.millis(),
        events: &[payload],
        options,
    })?;
    tenant.apply(moment, &event);
    Ok(Loaded { tenant, journal, snapshot_seq: 0, told: 0 })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::fuzz::small::{Small, tenant_id};
    use crate::journal::DataDir;

    /// A folder with those events, and the state as a snapshot of that one.
    fn folder(root: &Path, events: &[Vec<u8>], snapshot: Option<(u64, &Tenant)>) -> PathBuf {
        let data = DataDir::open(root).unwrap();
        let new = NewTenant {
            name: "t",
            label: b"{}",
            tenant: tenant_id().bytes(),
            now_ms: 1,
            events: &events[..1],
            options: JournalOptions::default(),
        };
        let mut journal = data.create_tenant(new).unwrap();
        let mut write = |upto: usize| {
            while (journal.next_seq() as usize) <= upto {
                let next = &events[journal.next_seq() as usize - 1];
                journal.append(journal.next_seq(), |buffer| buffer.extend_from_slice(next)).unwrap();
            }
            journal.flush().unwrap();
            journal.begin_snapshot()
        };
        if let Some((seq, tenant)) = snapshot {
            write(seq as usize).run(|file| codec::write_state(&tenant.state(), file)).unwrap();
        }
        drop(write(events.len()));
        journal.close(2).unwrap();
        data.path().join("t")
    }

    fn loaded(path: &Path) -> Result<Tenant, String> {
        let folder = Folder::open(path).unwrap();
        let loaded = load(&folder, tenant_id(), Timestamp::default(), JournalOptions::default());
        loaded.map(|loaded| loaded.tenant).map_err(|error| error.problem)
    }

    /// Where not one event is left, nothing says that there was more than one, so the rest looks like a torn tail.
    #[test]
    fn a_folder_without_an_event_is_refused_before_anything_is_cut() {
        let small = Small::new();
        let dir = tempfile::tempdir().unwrap();
        let path = folder(dir.path(), &small.journal, None);
        let file = path.join("00000000000000000001.journal");
        let whole = fs::read(&file).unwrap();
        let mut refused = 0;
        for length in 0..whole.len() {
            fs::write(&file, &whole[..length]).unwrap();
            if loaded(&path).is_err() {
                refused += 1;
                assert_eq!(fs::read(&file).unwrap(), &whole[..length], "{length} bytes");
            }
        }
        assert!(refused > 64, "without a whole event it has no owner: {refused}");
    }

    #[test]
    fn a_state_or_an_event_that_was_forged_keeps_the_tenant_down() {
        let small = Small::new();
        let last = small.journal.len() as u64;
        let root = || tempfile::tempdir().unwrap();
        let dir = root();
        let path = folder(dir.path(), &small.journal, Some((last, &small.tenant)));
        assert_eq!(loaded(&path).unwrap().state(), small.tenant.state());
        // A snapshot's state of another event than its header says.
        let dir = root();
        let path = folder(dir.path(), &small.journal, Some((last - 1, &small.tenant)));
        assert!(loaded(&path).unwrap_err().contains(&format!("that of event {last}")));
        // An event of a time before the one before it.
        let dir = root();
        let mut events = small.journal.clone();
        events.swap(1, 2);
        assert!(loaded(&folder(dir.path(), &events, None)).unwrap_err().contains("time is before"));
        // A state that would send the search for a delegation round in circles.
        let dir = root();
        let mut state = small.tenant.state();
        std::sync::Arc::make_mut(&mut state.delegations[0].profile).spec.stands_on = vec![0];
        let path = folder(dir.path(), &small.journal, Some((last, &Tenant::restore(state))));
        assert!(loaded(&path).unwrap_err().contains("came after it"));
        assert!(fs::exists(path).unwrap());
    }
}

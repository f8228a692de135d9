//! From a tenant's folder to what its actor starts from, and back to a folder for a new tenant.

use std::io;

use kavach_domain::author::Author;
use kavach_domain::author::By;
use kavach_domain::tenant::commands::TenantSpec;
use kavach_domain::text::{DEFAULT_TENANT_NAME, Slug};
use kavach_domain::{Event, Tenant, TenantId, Timestamp};
use kavach_journal::{
    self as journal, DataDir, Folder, Journal, JournalOptions, NewTenant, NotDone, RecoveryError, TenantFolder,
    load_snapshot,
};
use serde::{Deserialize, Serialize};

use crate::codec;

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
        let (moment, event) = codec::decode_event(seq, bytes).map_err(|problem| problem.to_string())?;
        if moment.at < tenant.time() {
            return Err("its time is before that of the event before it".to_owned());
        }
        tenant.apply(moment, &event);
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
    tenant.validate().map_err(|problem| format!("{}: its state is not one: {problem}", path.display()))?;
    // Only now is anything on disk changed.
    let journal = read.reopen(options, now.millis())?;
    let told = journal.written_seq();
    Ok(Loaded { tenant, journal, snapshot_seq, told })
}

/// Makes a tenant's folder with its first event on disk, which says what is known of who made it.
///
/// # Errors
/// What kept the folder from being written.
pub fn create(
    data: &DataDir,
    id: TenantId,
    spec: TenantSpec,
    author: Option<Author>,
    now: Timestamp,
    options: JournalOptions,
) -> Result<Loaded, NotDone> {
    let slug = spec.slug().map(|slug| slug.to_string());
    let label = Label { id: id.folder_name(), slug, name: spec.name().to_owned() };
    let label = serde_json::to_vec_pretty(&label).map_err(io::Error::from)?;
    let mut tenant = Tenant::default();
    let moment = tenant.next_moment(now);
    let event = Event::Changed(tenant.describe(By::Operator, author, spec.created(id), moment.at));
    let mut payload = Vec::new();
    codec::encode_event(moment, &event, &mut payload).map_err(io::Error::other)?;
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

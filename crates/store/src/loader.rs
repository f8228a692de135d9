//! Loads a tenant from its folder and the log, and makes the folder of a new tenant.

use std::io;

use kavach_domain::author::Author;
use kavach_domain::author::By;
use kavach_domain::event::ChangeRecord;
use kavach_domain::tenant::commands::TenantSpec;
use kavach_domain::text::{DEFAULT_TENANT_NAME, Slug};
use kavach_domain::{Event, Tenant, TenantId, Timestamp};
use kavach_journal::{
    self as journal, DataDir, Folder, FolderError, Journal, JournalOptions, LogError, NewFolder, RecoveryError, Tail,
    TenantFolder, load_snapshot,
};
use serde::{Deserialize, Serialize};

use crate::codec;

/// The label in a tenant's folder (`tenant.json`). It shows people which tenant the folder belongs to, and keeps the
/// slug taken when nothing else can be read.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct FolderLabel {
    /// The tenant's id, or `default`.
    pub id: String,
    /// The slug; `None` for the default tenant.
    pub slug: Option<String>,
    /// The tenant's name when it was created.
    pub name: String,
}

/// The tenant that a folder claims to hold, by its name and label. Only the journal's own headers and events prove it.
#[derive(Clone, Debug)]
pub struct ClaimedIdentity {
    /// The tenant that the folder is named after.
    pub id: TenantId,
    /// The slug on the label.
    pub slug: Option<Slug>,
    /// Whether name and label agree. In a copied folder they don't.
    pub is_own_label: bool,
}

/// The tenant that a folder of this name belongs to; `None` if no tenant's folder can have the name.
pub fn named_after(folder: &str) -> Option<TenantId> {
    match folder {
        DEFAULT_TENANT_NAME => Some(TenantId::DEFAULT),
        // The default tenant's folder has one name only; the digits of its id are not another.
        name => TenantId::parse(name).filter(|id| !id.is_default()),
    }
}

/// What a folder's name and label claim; `None` if no tenant's folder can have the name.
pub fn claimed_identity(folder: &TenantFolder) -> Option<ClaimedIdentity> {
    let id = named_after(&folder.name)?;
    let label: FolderLabel =
        folder.label.as_deref().and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or_default();
    let slug = label.slug.and_then(|slug| Slug::parse("slug", &slug).ok()).filter(|_| !id.is_default());
    Some(ClaimedIdentity { id, slug, is_own_label: label.id == folder.name })
}

/// A loaded tenant, ready for the next event.
pub struct LoadedTenant {
    /// The state.
    pub tenant: Tenant,
    /// The journal, ready to append.
    pub journal: Journal,
    /// The last event that the newest snapshot covers.
    pub snapshot_seq: u64,
    /// The last event that followers of the journal already know.
    pub announced_seq: u64,
    /// The last batch of the log when it was asked for the tail; 0 if the folder has everything on disk.
    pub log_position: u64,
    /// Whether the log had failed when it was asked for the tail.
    pub is_provisional: bool,
    /// The log's failures until then.
    pub log_generation: usize,
}

/// Why a tenant could not be loaded.
#[derive(Debug)]
pub struct LoadError {
    /// A sentence that names the bad file and says what to do.
    pub problem: String,
    /// Whether a retry may help: the system refused to read or write. Damage does not pass.
    pub may_pass: bool,
    /// Whether the folder holds another tenant's journal, by its headers or its events.
    pub is_foreign: bool,
}

impl From<String> for LoadError {
    fn from(problem: String) -> Self {
        Self { problem, may_pass: false, is_foreign: false }
    }
}

impl From<LogError> for LoadError {
    fn from(error: LogError) -> Self {
        Self { problem: error.to_string(), may_pass: matches!(error, LogError::Io { .. }), is_foreign: false }
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

/// Loads a tenant: the newest good snapshot, the events after it in the folder, then those that only the log has, its
/// `tail`. Blocking.
///
/// # Errors
/// Damage, a foreign or newer file, or the system's error. The disk is unchanged, unless the error may pass.
pub fn load(
    folder: &Folder,
    tail: &Tail,
    id: TenantId,
    now: Timestamp,
    options: JournalOptions,
) -> Result<LoadedTenant, LoadError> {
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
            return Err("its time is before the time of the event before it".to_owned());
        }
        tenant.apply(moment, &event);
        Ok(())
    };
    let mut read = journal::scan(folder, id.bytes(), snapshot_seq, &mut replay)?;
    read.add_tail(tail, &mut replay)?;
    // A folder gets its name only once the first event is on disk, so there was an event.
    if tenant.seq() == 0 {
        let detail = "none of the tenant's events is left".to_owned();
        return Err(RecoveryError::Damaged { file: path.to_owned(), offset: 0, detail }.into());
    }
    if tenant.id() != id {
        return Err(RecoveryError::Foreign { file: path.to_owned(), owner: tenant.id().bytes() }.into());
    }
    tenant.validate().map_err(|problem| format!("{}: its state can't be right: {problem}", path.display()))?;
    // Nothing on disk is changed before this.
    let journal = read.reopen(options, now.millis())?;
    let announced_seq = tenant.seq();
    Ok(LoadedTenant {
        tenant,
        journal,
        snapshot_seq,
        announced_seq,
        log_position: tail.position(),
        is_provisional: tail.is_provisional(),
        log_generation: tail.generation(),
    })
}

/// A tenant to be created.
#[derive(Clone, Debug)]
pub struct NewTenant {
    /// Its id.
    pub id: TenantId,
    /// Its name, slug and settings.
    pub spec: TenantSpec,
    /// Who creates it.
    pub by: By,
    /// What else is known of who creates it.
    pub author: Option<Author>,
    /// Why, if that was said.
    pub reason: Option<Box<str>>,
}

/// Creates a tenant's folder, with its first event on disk. The event records who created the tenant. Blocking.
///
/// # Errors
/// The folder could not be written.
pub fn create(
    data: &DataDir,
    id: TenantId,
    spec: TenantSpec,
    author: Option<Author>,
    now: Timestamp,
    options: JournalOptions,
) -> Result<LoadedTenant, FolderError> {
    let none = || Err(io::Error::other("the tenant was not made").into());
    let new = NewTenant { id, spec, by: By::Operator, author, reason: None };
    create_all(data, vec![new], now, options).pop().unwrap_or_else(none)
}

/// Creates the folders of several tenants, in the order given, each as [`create`] does. Blocking.
pub fn create_all(
    data: &DataDir,
    new: Vec<NewTenant>,
    now: Timestamp,
    options: JournalOptions,
) -> Vec<Result<LoadedTenant, FolderError>> {
    let begun: Vec<_> = new.into_iter().map(|new| FirstEvent::of(new, now)).collect();
    let folders: Vec<_> = begun
        .iter()
        .flatten()
        .map(|first| NewFolder {
            name: &first.name,
            label: &first.label,
            tenant: first.tenant.id().bytes(),
            now_ms: now.millis(),
            events: &first.payload,
            options,
        })
        .collect();
    let mut journals = data.create_tenants(&folders).into_iter();
    let created = begun.into_iter().map(|begun| {
        let first = begun?;
        let journal = journals.next().ok_or_else(|| io::Error::other("the tenant was not made"))??;
        Ok(LoadedTenant {
            tenant: first.tenant,
            journal,
            snapshot_seq: 0,
            announced_seq: 0,
            log_position: 0,
            is_provisional: false,
            log_generation: usize::MAX,
        })
    });
    created.collect()
}

/// A new tenant after its first event, which is not on disk yet.
struct FirstEvent {
    name: String,
    label: Vec<u8>,
    payload: [Vec<u8>; 1],
    tenant: Tenant,
}

impl FirstEvent {
    fn of(new: NewTenant, now: Timestamp) -> io::Result<Self> {
        let NewTenant { id, spec, by, author, reason } = new;
        let name = id.folder_name();
        let slug = spec.slug().map(|slug| slug.to_string());
        let label = FolderLabel { id: name.clone(), slug, name: spec.name().to_owned() };
        let label = serde_json::to_vec_pretty(&label).map_err(io::Error::from)?;
        let mut tenant = Tenant::default();
        let moment = tenant.next_moment(now);
        let described = tenant.describe(by, author, spec.created(id), moment.at);
        let event = Event::Changed(ChangeRecord { reason, ..described });
        let mut payload = Vec::new();
        codec::encode_event(moment, &event, &mut payload).map_err(io::Error::other)?;
        tenant.apply(moment, &event);
        Ok(Self { name, label, payload: [payload], tenant })
    }
}

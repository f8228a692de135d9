//! The start: the catalog says what is known of each tenant, and only tenants without a row are read.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use actix::{ActorFutureExt, Context, Handler, ResponseActFuture, WrapFuture};
use actix_rt::task::spawn_blocking;
use foldhash::fast::RandomState;
use kavach_store::loader::{self, ClaimedIdentity, LoadError};
use kavach_store::{CatalogRow, LoadedTenant};
use tracing::{info, warn};

use super::loading::load;
use super::{AT_ONCE, Registry};
use crate::actors::core::{Core, Phase};
use crate::actors::registry_messages::OpenAll;
use crate::actors::tenant_directory::{Route, TenantDirectory};
use crate::domain::event::ChangeRecord;
use crate::domain::instance::published::InstanceSet;
use crate::domain::tenant::commands::TenantSpec;
use crate::domain::text::Slug;
use crate::domain::{Change, Event, TenantId};
use crate::journal::{CatalogFile, FileKind, JournalOptions, unwritable};
use kavach_store::catalog_writer::{RowBytes, Rows};
use kavach_store::codec::{decode_event, may_be_change};

type Ids = HashSet<TenantId, RandomState>;
/// Tenants' rows, and their slugs.
type KnownRows = HashMap<TenantId, (RowBytes, Option<Slug>), RandomState>;

/// What is in a data directory.
struct Found {
    catalog: CatalogFile,
    rows: KnownRows,
    /// Tenants with a folder.
    folders: Ids,
    /// Folders with other names.
    strays: Vec<String>,
    /// Tenants with events in the log that no folder has.
    tails: HashSet<TenantId>,
    /// What the default tenant's may have made, so that its row may lack it.
    newer: NewerThanRow,
}

/// Whether events of the default tenant that its row lacks may have made what the start must know of.
struct NewerThanRow {
    instance_policies: bool,
    operator_keys: bool,
}

/// A tenant without a row, as it was read.
struct ReadTenant {
    claim: ClaimedIdentity,
    /// The tenant in a few numbers.
    row: Result<CatalogRow, LoadError>,
}

impl Handler<OpenAll> for Registry {
    type Result = ResponseActFuture<Self, Result<(), String>>;

    fn handle(&mut self, _: OpenAll, _: &mut Self::Context) -> Self::Result {
        let core = Arc::clone(&self.core);
        let start = Instant::now();
        let work = async move {
            let searched = Arc::clone(&core);
            let found = spawn_blocking(move || look(&searched)).await.map_err(|problem| problem.to_string())?;
            let mut found = found.map_err(|problem| problem.to_string())?;
            let unknown: Vec<_> = found.folders.iter().filter(|id| !found.rows.contains_key(*id)).copied().collect();
            if !unknown.is_empty() {
                info!(tenants = unknown.len(), "reading the tenants that are not in the catalog");
            }
            let mut read = read_all(&core, unknown).await?;
            refuse_strays(&core, std::mem::take(&mut found.strays));
            settle_erasures(&core, &found).map_err(|problem| unwritable(core.data.path(), &problem))?;
            if !found.folders.contains(&TenantId::DEFAULT) {
                read.push(create_default(Arc::clone(&core)).await?);
            }
            Ok((found, read))
        };
        Box::pin(work.into_actor(self).map(move |outcome: Result<_, String>, actor, ctx| {
            let (Found { catalog, rows, folders, tails, newer, .. }, mut read) = outcome?;
            actor.note_what_is_not(&newer, &rows, &read);
            for (id, (row, slug)) in rows {
                if folders.contains(&id) {
                    // What stands in the log may be newer than the row.
                    actor.core.directory.add_idle(Route { id, slug }, row, !tails.contains(&id));
                } else {
                    warn!(tenant = id.folder_name(), "the catalog has a tenant without a folder; it is forgotten");
                    actor.core.catalog.forget(id);
                }
            }
            read.sort_by_cached_key(precedence);
            for ReadTenant { claim, row } in read {
                actor.take_read(claim, row, ctx);
            }
            let directory = Arc::clone(&actor.core.directory);
            let log = Arc::clone(&actor.core.log);
            let started = actor.core.catalog.start(catalog, log, DirectoryRows(directory));
            started.map_err(|problem| problem.to_string())?;
            let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
            actor.core.measures.recovery_micros.store(micros, Ordering::Relaxed);
            actor.core.clock.check_start();
            actor.schedule_retention(ctx);
            actor.core.set_phase(Phase::Ready);
            Ok(())
        }))
    }
}

/// The directory's rows, for the thread that writes the catalog.
struct DirectoryRows(Arc<TenantDirectory>);

impl Rows for DirectoryRows {
    fn all(&self) -> Vec<(TenantId, RowBytes)> {
        self.0.rows()
    }

    fn written(&self, tenant: TenantId, row: RowBytes) {
        self.0.note_row(tenant, row);
    }
}

/// Looks at the data directory and the catalog, both at once. Blocking.
fn look(core: &Core) -> io::Result<Found> {
    std::thread::scope(|threads| {
        let folders = threads.spawn(|| look_at_folders(core));
        let (catalog, rows) = read_catalog(core)?;
        let (folders, strays) = folders.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let tails = core.log.tenants().into_iter().map(TenantId::from_bytes).collect();
        Ok(Found { catalog, rows, folders, strays, tails, newer: NewerThanRow::find(core) })
    })
}

impl NewerThanRow {
    /// Looks at the log.
    fn find(core: &Core) -> Self {
        let Ok(tail) = core.log.tail(TenantId::DEFAULT.bytes()) else {
            return Self { instance_policies: true, operator_keys: true };
        };
        let may_have = |is_one: fn(&Change) -> bool| {
            let makes_one = |seq, bytes: &[u8]| match decode_event(seq, bytes) {
                Ok((_, Event::Changed(ChangeRecord { change, .. }))) => is_one(&change),
                Ok(_) => false,
                Err(_) => true,
            };
            // Decisions may be many, and make none.
            tail.may_have(|seq, bytes| may_be_change(bytes) && makes_one(seq, bytes))
        };
        let is_of_instance = |change: &Change| match change {
            Change::PolicyCreated { terms, .. } => terms.as_deref().is_some_and(|terms| terms.instance),
            _ => false,
        };
        Self { instance_policies: may_have(is_of_instance), operator_keys: may_have(Change::is_of_operator_keys) }
    }
}

fn read_catalog(core: &Core) -> io::Result<(CatalogFile, KnownRows)> {
    let mut rows = KnownRows::default();
    let (catalog, end) = core.data.open_catalog(&mut |tenant, row| {
        let id = TenantId::from_bytes(tenant);
        match row {
            [] => _ = rows.remove(&id),
            // A folder whose row says nothing to us is read.
            row => match CatalogRow::decode(id, row) {
                Ok(known) => _ = rows.insert(id, (RowBytes::from(row), known.profile.slug)),
                Err(_) => _ = rows.remove(&id),
            },
        }
    })?;
    if !CatalogFile::holds(end, core.log.was_found()) {
        rows.clear();
    }
    Ok((catalog, rows))
}

/// The tenants' folders, and the names of those that are named otherwise.
fn look_at_folders(core: &Core) -> io::Result<(Ids, Vec<String>)> {
    let (mut folders, mut strays) = (Ids::default(), Vec::new());
    for entry in core.data.entries()? {
        match loader::named_after(&entry.name) {
            Some(id) => _ = folders.insert(id),
            // A link may lead anywhere.
            None if entry.kind == FileKind::Folder => strays.push(entry.name),
            None => {}
        }
    }
    Ok((folders, strays))
}

/// Reads tenants, a few at a time. What is kept of each is its row.
async fn read_all(core: &Arc<Core>, tenants: Vec<TenantId>) -> Result<Vec<ReadTenant>, String> {
    let mut read = Vec::with_capacity(tenants.len());
    let mut rest = tenants.into_iter();
    let mut under_way = std::collections::VecDeque::new();
    loop {
        while under_way.len() < AT_ONCE
            && let Some(id) = rest.next()
        {
            under_way.push_back(actix_rt::spawn(read_one(Arc::clone(core), id)));
        }
        let Some(next) = under_way.pop_front() else { return Ok(read) };
        read.extend(next.await.map_err(|problem| problem.to_string())?);
    }
}

async fn read_one(core: Arc<Core>, id: TenantId) -> Option<ReadTenant> {
    let labelled = Arc::clone(&core);
    let folder = spawn_blocking(move || labelled.data.labelled(&id.folder_name())).await.ok()?.ok()?;
    let claim = loader::claimed_identity(&folder)?;
    let now = core.clock.now();
    let row = load(core, id).await.map(|loaded| row_of(&loaded, now));
    Some(ReadTenant { claim, row })
}

fn row_of(loaded: &LoadedTenant, now: crate::domain::Timestamp) -> CatalogRow {
    // If it can't be found out, no segment is removed until somebody calls the tenant.
    let oldest_ends_ms = loaded.journal.oldest_ends_ms().unwrap_or(None);
    CatalogRow::of(&loaded.tenant, now, loaded.tenant.seq() - loaded.snapshot_seq).with_oldest_end(oldest_ends_ms)
}

async fn create_default(core: Arc<Core>) -> Result<ReadTenant, String> {
    let create = move || {
        let (options, now, spec) = (JournalOptions::default(), core.clock.now(), TenantSpec::default_tenant());
        let created = loader::create(&core.data, TenantId::DEFAULT, spec, None, now, options);
        let created = created.map_err(|problem| unwritable(core.data.path(), &problem.source))?;
        let claim = ClaimedIdentity { id: TenantId::DEFAULT, slug: None, is_own_label: true };
        Ok(ReadTenant { claim, row: Ok(row_of(&created, now)) })
    };
    spawn_blocking(create).await.map_err(|problem| problem.to_string())?
}

/// Which claim wins if folders that were copied or restored by hand claim one slug or one tag; the least wins. Tenants
/// that can be served come before those that can't, and folders with their own label before those with another tenant's
/// files. Among equals the newest tenant wins: the server gave it its names after the older one was gone.
fn precedence(ReadTenant { claim, row }: &ReadTenant) -> (u8, bool, Reverse<TenantId>) {
    let standing = match row {
        Ok(_) => 0,
        Err(error) if error.is_foreign => 3,
        Err(_) if claim.is_own_label => 1,
        Err(_) => 2,
    };
    (standing, !claim.id.is_default(), Reverse(claim.id))
}

impl Registry {
    /// If the default tenant has no instance policies, or no operators' keys, says so. Else it is read for that, before
    /// the first decision or at the end of the start.
    fn note_what_is_not(&self, newer: &NewerThanRow, rows: &KnownRows, read: &[ReadTenant]) {
        let id = TenantId::DEFAULT;
        let read = read.iter().find(|read| read.claim.id == id).and_then(|read| read.row.as_ref().ok().cloned());
        let Some(row) = read.or_else(|| CatalogRow::decode(id, &rows.get(&id)?.0).ok()) else { return };
        if row.instance_policies == 0 && !newer.instance_policies {
            self.core.leases.publish_loaded(0, InstanceSet::default());
        }
        if row.operator_keys == 0 && !newer.operator_keys {
            self.core.operators.publish(&[]);
        }
    }

    /// Makes a tenant known that was read at the start.
    fn take_read(&mut self, claim: ClaimedIdentity, row: Result<CatalogRow, LoadError>, ctx: &mut Context<Self>) {
        let ClaimedIdentity { id, slug, .. } = claim;
        let row = row.and_then(|row| self.check_conflict(id, row.profile.slug.as_ref()).map(|()| row));
        match row {
            Ok(row) => {
                let bytes = RowBytes::from(row.encode());
                // While the log has events of it, its folder lacks them: it will be folded, and makes another row.
                let is_current = !self.core.log.has_tail(id.bytes());
                self.core.directory.add_idle(Route { id, slug: row.profile.slug }, RowBytes::clone(&bytes), is_current);
                if is_current {
                    self.core.catalog.note(id, bytes, 0);
                }
            }
            Err(error) => self.refuse(Route { id, slug }, error, ctx),
        }
    }
}

/// Finishes what a killed server had begun to erase, and says of which tenants the log has events and nobody a folder.
fn settle_erasures(core: &Core, found: &Found) -> io::Result<()> {
    let erased = core.log.erased();
    for tenant in &erased {
        match found.folders.contains(&TenantId::from_bytes(*tenant)) {
            // It was not erased yet, and its caller got no answer.
            true => core.log.not_erased(*tenant)?,
            false => core.log_keeper.erased(*tenant),
        }
    }
    for tenant in &found.tails {
        if !found.folders.contains(tenant) && !erased.contains(&tenant.bytes()) {
            warn!(tenant = tenant.folder_name(), "the log has events of a tenant that has no folder; it keeps them");
        }
    }
    Ok(())
}

/// Looks at folders that are not named after a tenant. Those with a tenant's files in them were copied or renamed by
/// hand.
fn refuse_strays(core: &Core, names: Vec<String>) {
    for name in names {
        let folder = core.data.path().join(&name);
        let folder = folder.display();
        // If we can't look into one, it is none of the server's business.
        match core.data.owner(&name).ok().flatten().map(TenantId::from_bytes) {
            Some(owner) => {
                warn!(
                    %folder, owner = owner.folder_name(),
                    "this folder holds a tenant's files, but its name is no tenant's id, so it is not served; move it out \
                     of the data directory, or, if the tenant has no other folder, rename it to its owner's id"
                );
                let reason = format!(
                    "the folder {name} holds a tenant's files, but its name is no tenant's id: move it out of the data \
                     directory; the server's log names their owner"
                );
                core.directory.refuse(name, reason);
            }
            None => info!(%folder, "this folder is no tenant's and is left alone"),
        }
    }
}

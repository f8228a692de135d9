//! A tenant's actor: the only owner of its state and its journal.
//!
//! Pure code decides a command against the state and yields an event. The actor records the event, applies it, and holds
//! the reply. At the end of the thread's turn one write puts the events of all its tenants into the log, and the replies
//! that wait only for that leave. Those that wait for the disk leave when a sync on another thread has finished. So one
//! write, or one fsync, serves all calls that came meanwhile. The tenant's folder gets the events later.
//!
//! | to find | look in |
//! | --- | --- |
//! | deciding calls | `decisions` |
//! | administrative commands, usage reports, holds | `changes` |
//! | ending holds whose time is over | `due_holds` |
//! | slices of instance policies: calls that wait for one; lending them | `slices`; `lending` |
//! | looking at the state, opening the audit trail, checkpoints | `reads`, `checkpoint` |
//! | when keys were last used | `key_uses` |
//! | recording an event and holding its reply | `commit` |
//! | writing the tail to the folder, and syncing that | `fold` |
//! | snapshots, removing what is past the retention | `snapshots`, `retention` |
//! | the end of an actor, and its storage coming back | `shutdown`, `storage_probe` |
//! | what comes before an erasure | `erasure` |

mod changes;
mod checkpoint;
mod commit;
mod decisions;
mod due_holds;
mod erasure;
mod fold;
mod key_uses;
mod lending;
mod reads;
mod retention;
mod shutdown;
mod slices;
mod snapshots;
mod storage_probe;
#[cfg(feature = "test-hooks")]
mod test_hooks;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context};
use kavach_store::catalog_writer::RowBytes;
use kavach_store::commit_turn::CommitTurn;
use kavach_store::{CommitPipeline, LoadedTenant};

use self::fold::FolderNeed;
use self::key_uses::KeyUses;
use self::lending::Recalls;
use self::slices::SliceDesk;
use super::log_turns::LogTurns;
use super::messages::{Ending, TenantDown};
use super::resources::Resources;
use crate::domain::tenant::Caller;
use crate::domain::{Credential, Error, Tenant, TenantId, Timestamp};
use crate::measure::TenantMeter;

/// How often a tenant with fewer new events writes a snapshot.
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(300);

/// A tenant's actor.
pub struct TenantActor {
    resources: Arc<Resources>,
    /// The thread's way into the log.
    turns: Rc<LogTurns>,
    /// Its journal is `None` once the actor ends.
    pipeline: CommitPipeline,
    retention_running: bool,
    /// The turn of the last event.
    last_turn: CommitTurn,
    /// Events recorded in this turn without a break.
    unbroken: usize,
    fold_running: bool,
    /// The tenant's row that is in the catalog, or on its way there.
    row: Option<RowBytes>,
    /// The last event that the row knows of, if the folder has it too.
    row_seq: u64,
    /// About how many bytes of the folder are not on disk.
    unsynced: usize,
    /// What waits until the folder has everything up to an event, in any order.
    needs: Vec<(u64, FolderNeed)>,
    /// How many snapshots are being written: each caller who asks for one gets its own.
    snapshots_running: usize,
    /// What it knows of instance policies, and the calls that wait for a slice.
    desk: SliceDesk,
    /// If it is the default tenant: what it asked others for.
    recalls: Recalls,
    /// Somebody who has seen a version of the tenant is about to erase it.
    is_being_erased: bool,
    meter: TenantMeter,
    key_uses: KeyUses,
    report: EndReport,
}

/// Tells the registry that a tenant's actor has ended, however that came. It is there before the actor is, which may never
/// start if its thread ends.
pub struct EndReport {
    resources: Arc<Resources>,
    id: TenantId,
    generation: u64,
    ending: Ending,
}

impl EndReport {
    pub(super) fn new(resources: Arc<Resources>, id: TenantId, generation: u64) -> Self {
        Self { resources, id, generation, ending: Ending::Panic }
    }
}

impl Drop for EndReport {
    fn drop(&mut self) {
        if self.ending != Ending::Clean
            && let Some(supervisor) = self.resources.supervisor()
        {
            let Self { id, generation, ending, .. } = *self;
            supervisor.do_send(TenantDown { id, generation, ending });
        }
    }
}

impl TenantActor {
    /// The actor of a loaded tenant, on its own thread.
    pub(super) fn new(
        loaded: LoadedTenant,
        storage_failed: bool,
        row: Option<RowBytes>,
        meter: TenantMeter,
        report: EndReport,
    ) -> Self {
        let resources = Arc::clone(&report.resources);
        if storage_failed || loaded.is_provisional {
            resources.storage_failures.fetch_add(1, Ordering::Relaxed);
        }
        let turns = LogTurns::here(&resources);
        turns.write();
        // If the folder has everything on disk, the row tells of everything.
        let is_whole = loaded.log_position == 0 && loaded.journal.tail_bytes() == 0;
        let row_seq = if row.is_some() && is_whole { loaded.tenant.seq() } else { 0 };
        let pipeline = CommitPipeline::new(loaded, resources.durability, storage_failed, &mut turns.queue());
        Self {
            pipeline,
            turns,
            unbroken: 0,
            last_turn: CommitTurn::default(),
            retention_running: false,
            fold_running: false,
            row,
            row_seq,
            unsynced: 0,
            needs: Vec::new(),
            snapshots_running: 0,
            desk: SliceDesk::default(),
            recalls: Recalls::default(),
            is_being_erased: false,
            key_uses: KeyUses::new(resources.clock.now()),
            resources,
            meter,
            report,
        }
    }

    fn tenant(&self) -> &Tenant {
        self.pipeline.tenant()
    }

    /// Identifies a caller. One with a good key or token of this tenant keeps it in memory.
    fn authenticate(&self, credential: &Credential, at: Timestamp) -> Result<Caller, Error> {
        let caller = self.tenant().authenticate(credential, at)?;
        if let Caller::Key(key, _) = caller {
            self.key_uses.note(key, at, |known| self.tenant().keys().iter().any(|own| own.id == known));
        }
        if !caller.is_operator() {
            self.meter.used(self.resources.residency_clock.load(Ordering::Relaxed));
        }
        Ok(caller)
    }
}

impl Actor for TenantActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if self.tenant().id().is_default() {
            self.resources.operators.publish(self.tenant().operator_keys());
        }
        // Tenants that started together take turns.
        let offset = Duration::from_secs(u64::from(self.tenant().id().tag().0) % SNAPSHOT_INTERVAL.as_secs());
        ctx.run_later(offset, |actor, ctx| {
            actor.snapshot(None, ctx);
            ctx.run_interval(SNAPSHOT_INTERVAL, |actor, ctx| actor.snapshot(None, ctx));
        });
        if self.tenant().id().is_default() {
            let (seq, set) = (self.tenant().seq(), self.tenant().instance_set());
            self.resources.leases.publish_loaded(seq, set);
        }
        self.note_unsaved(self.resources.clock.now());
        self.turns.join(self.report.generation, ctx.address().downgrade().recipient());
        // It was loaded, and the log may have failed since.
        self.check_ahead(ctx);
        // A killed process may have left bytes in the folder that are not on disk.
        self.sync_folder(ctx);
        if self.pipeline.storage_failed() {
            self.probe_storage(ctx);
        }
        if self.tenant().has_due_messages() {
            self.resources.webhooks.bell.ring(self.tenant().id());
        }
    }
}

impl Drop for TenantActor {
    fn drop(&mut self) {
        if self.pipeline.storage_failed() {
            self.resources.storage_failures.fetch_sub(1, Ordering::Relaxed);
        }
        self.turns.leave(self.report.generation);
        // The registry loads the tenant from folder and log again. Nobody else may have its journal open then, and the log
        // has to have what was recorded.
        self.turns.write();
        self.pipeline.drop_journal();
    }
}

//! A tenant's actor: the only owner of its state and its journal.
//!
//! Pure code decides a command against the state and yields an event. The actor appends the event to the journal's
//! buffer, applies it, and holds the reply. When the mailbox is empty, one write hands the buffer to the kernel, and
//! the replies that wait only for that leave. Those that wait for the disk leave when a sync on another thread has
//! finished. So one write, or one fsync, serves all calls that came meanwhile.
//!
//! | to find | look in |
//! | --- | --- |
//! | deciding calls | `decisions` |
//! | administrative commands and usage reports | `changes` |
//! | looking at the state, opening the audit trail, checkpoints | `reads`, `checkpoint` |
//! | recording an event, holding its reply, writes and syncs | `commit` |
//! | snapshots, removing what is past the retention | `snapshots`, `retention` |
//! | the end of an actor, and its storage coming back | `shutdown`, `storage_probe` |

mod changes;
mod checkpoint;
mod commit;
mod decisions;
mod reads;
mod retention;
mod shutdown;
mod snapshots;
mod storage_probe;
#[cfg(feature = "test-hooks")]
mod test_hooks;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context};
use kavach_store::{CommitPipeline, LoadedTenant};

use super::messages::{Ending, TenantDown};
use super::resources::Resources;
use super::tenant_reply::TenantReply;
use crate::domain::Tenant;
use crate::measure::TenantMeter;

/// How often a tenant with fewer new events writes a snapshot.
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(300);

/// A tenant's actor.
pub struct TenantActor {
    resources: Arc<Resources>,
    /// Its journal is `None` once the actor ends.
    pipeline: CommitPipeline<TenantReply>,
    ending: Ending,
    /// The last event announced to followers of the journal.
    announced: u64,
    retention_running: bool,
    generation: u64,
    /// Events recorded since the last flush.
    unflushed: usize,
    flush_scheduled: bool,
    sync_running: bool,
    sync_scheduled: bool,
    snapshot_running: bool,
    meter: TenantMeter,
}

impl TenantActor {
    pub(super) fn new(
        resources: Arc<Resources>,
        loaded: LoadedTenant,
        generation: u64,
        storage_failed: bool,
        meter: TenantMeter,
    ) -> Self {
        let announced = loaded.announced_seq;
        if storage_failed {
            resources.storage_failures.fetch_add(1, Ordering::Relaxed);
        }
        Self {
            announced,
            pipeline: CommitPipeline::new(loaded, resources.durability, storage_failed),
            resources,
            unflushed: 0,
            ending: Ending::Panic,
            retention_running: false,
            generation,
            flush_scheduled: false,
            sync_running: false,
            sync_scheduled: false,
            snapshot_running: false,
            meter,
        }
    }

    fn tenant(&self) -> &Tenant {
        self.pipeline.tenant()
    }
}

impl Actor for TenantActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // Tenants that started together take turns.
        let offset = Duration::from_secs(u64::from(self.tenant().id().tag().0) % SNAPSHOT_INTERVAL.as_secs());
        ctx.run_later(offset, |actor, ctx| {
            actor.snapshot(None, ctx);
            ctx.run_interval(SNAPSHOT_INTERVAL, |actor, ctx| actor.snapshot(None, ctx));
        });
        self.schedule_retention(ctx);
        self.note_unsaved(self.resources.clock.now());
        // A killed process may have left events with the kernel only.
        self.sync_when_due(ctx);
        if self.pipeline.storage_failed() {
            self.probe_storage(ctx);
        }
    }
}

impl Drop for TenantActor {
    fn drop(&mut self) {
        if self.pipeline.storage_failed() {
            self.resources.storage_failures.fetch_sub(1, Ordering::Relaxed);
        }
        // The registry loads the tenant from disk again, and nobody else may have its journal open then.
        self.pipeline.drop_journal();
        if self.ending != Ending::Clean
            && let Some(supervisor) = self.resources.supervisor()
        {
            let (id, generation, ending) = (self.tenant().id(), self.generation, self.ending);
            supervisor.do_send(TenantDown { id, generation, ending });
        }
    }
}

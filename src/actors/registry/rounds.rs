//! What is done to all tenants: snapshots, retention, and the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix::dev::ToEnvelope;
use actix::{AsyncContext, Context, Handler, Message, ResponseFuture};
use actix_rt::task::spawn_blocking;
use kavach_store::refusal::storage_unavailable;
use tokio::sync::oneshot;
use tracing::warn;

use super::leaving::MOST_LEAVING;
use super::{AT_ONCE, Registry};
use crate::actors::core::{Core, Phase, Visit};
use crate::actors::messages::{Close, RemoveOldSegments, TakeSnapshot};
use crate::actors::registry_messages::{CloseAll, SnapshotAll};
use crate::actors::tenant::TenantActor;
use crate::actors::tenant_directory::{KnownTenant, Presence};
use crate::domain::{Error, TenantId};

/// How often we look for segments that are past their tenants' retention.
const RETENTION_INTERVAL: Duration = Duration::from_secs(60 * 60);

impl Handler<SnapshotAll> for Registry {
    type Result = ResponseFuture<Result<usize, Error>>;

    fn handle(&mut self, _: SnapshotAll, _: &mut Self::Context) -> Self::Result {
        let core = Arc::clone(&self.core);
        Box::pin(async move {
            // The newest snapshot of some covers all of them.
            let covered = Arc::new(AtomicUsize::new(0));
            let counts = Arc::clone(&covered);
            let tenants = selected(&core, move |known| match known.presence {
                Presence::Idle | Presence::Leaving => {
                    let is_covered = known.row().is_some_and(|row| row.since_snapshot == 0);
                    counts.fetch_add(usize::from(is_covered), Ordering::Relaxed);
                    !is_covered
                }
                Presence::Resident(_) => true,
                Presence::Down(_) => false,
            })
            .await;
            let (mut written, mut failed) = (covered.load(Ordering::Relaxed), None);
            for batch in tenants.chunks(AT_ONCE) {
                for answer in send_to(&core, batch, |reply| TakeSnapshot { reply }).await {
                    match answer.await.unwrap_or_else(|_| Err(storage_unavailable())) {
                        Ok(()) => written += 1,
                        // One tenant's failure keeps no other from its snapshot.
                        Err(error) => failed = Some(error),
                    }
                }
            }
            failed.map_or(Ok(written), Err)
        })
    }
}

/// The tenants that `wanted` accepts, in order of their ids. They are looked at on another thread.
async fn selected(core: &Arc<Core>, wanted: impl Fn(&KnownTenant) -> bool + Send + 'static) -> Vec<TenantId> {
    let core = Arc::clone(core);
    let select = move || {
        let mut tenants = Vec::new();
        core.directory.each(|known| {
            if wanted(&known) {
                tenants.push(known.route.id);
            }
        });
        tenants
    };
    spawn_blocking(select).await.unwrap_or_default()
}

/// Sends tenants a message each. The answers of those that can be reached arrive at the returned receivers.
async fn send_to<M, T>(
    core: &Core,
    tenants: &[TenantId],
    make: impl Fn(oneshot::Sender<T>) -> M,
) -> Vec<oneshot::Receiver<T>>
where
    M: Message<Result = ()> + Send + 'static,
    TenantActor: Handler<M>,
    Context<TenantActor>: ToEnvelope<TenantActor, M>,
{
    let mut answers = Vec::with_capacity(tenants.len());
    for tenant in tenants {
        let (reply, answer) = oneshot::channel();
        let mailbox = core.reach(*tenant, Visit::Scan, |resident| Arc::clone(&resident.mailbox));
        if let Ok(mailbox) = mailbox
            && mailbox.send(make(reply)).await.is_ok()
        {
            answers.push(answer);
        }
    }
    answers
}

impl Registry {
    /// Has tenants remove what is past their retention, every hour. One that is not in memory is read for that only when
    /// its row says that something is.
    pub(super) fn schedule_retention(&self, ctx: &mut Context<Self>) {
        ctx.run_interval(RETENTION_INTERVAL, |actor, _| {
            let core = Arc::clone(&actor.core);
            actix_rt::spawn(remove_old_segments(core));
        });
    }
}

/// Has tenants remove what is past their retention, once.
pub(crate) async fn remove_old_segments(core: Arc<Core>) {
    let now = core.clock.now();
    let tenants = selected(&core, move |known| match known.presence {
        Presence::Idle | Presence::Leaving => {
            known.row().is_none_or(|row| row.retention_due.is_some_and(|due| due <= now))
        }
        Presence::Resident(_) => true,
        Presence::Down(_) => false,
    })
    .await;
    for batch in tenants.chunks(AT_ONCE) {
        for ended in send_to(&core, batch, |done| RemoveOldSegments { done }).await {
            // One that ended meanwhile does it in the next round.
            let _ = ended.await;
        }
    }
}

impl Handler<CloseAll> for Registry {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: CloseAll, _: &mut Self::Context) -> Self::Result {
        self.core.set_phase(Phase::Draining);
        // Nobody waits for room any more.
        self.room.close();
        self.core.audit.watch.close();
        let core = Arc::clone(&self.core);
        let (loads, leaves) = (Arc::clone(&self.loads), Arc::clone(&self.leaves));
        Box::pin(async move {
            // From now on nobody is read, and those that are leave or stay.
            let all = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
            let _loads = loads.acquire_many(all(AT_ONCE)).await;
            let _leaves = leaves.acquire_many(all(MOST_LEAVING)).await;
            let residents = selected(&core, |known| matches!(known.presence, Presence::Resident(_))).await;
            for batch in residents.chunks(AT_ONCE) {
                let mut ends = Vec::new();
                for tenant in batch {
                    let Some(resident) = core.directory.resident(*tenant) else { continue };
                    let (done, ended) = oneshot::channel();
                    if resident.mailbox.send(Close { snapshot_from: 1, done }).await.is_ok() {
                        ends.push((*tenant, ended));
                    }
                }
                for (tenant, ended) in ends {
                    if ended.await.is_err() {
                        warn!(tenant = tenant.folder_name(), "the tenant ended before it could be closed");
                    }
                }
            }
        })
    }
}

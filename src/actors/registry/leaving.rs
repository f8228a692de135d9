//! How tenants leave memory: those that were called longest ago, when more are there than may be.

use std::sync::Arc;
use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use tokio::sync::{Semaphore, oneshot};

use super::{InMemory, Registry};
use crate::actors::messages::Close;
use crate::actors::tenant_directory::Resident;
use crate::domain::TenantId;
use kavach_store::catalog_writer::RowBytes;

/// How often we look whether a call is still on its way to a tenant that leaves.
const CALL_DELAY: Duration = Duration::from_millis(1);
/// The share of the limit that leaves at once, so that not every new tenant has to look for one to leave.
const BATCH: usize = 16;
/// Events that no snapshot covers from which on a tenant writes one before it leaves. Replaying fewer takes about a
/// millisecond.
const SNAPSHOT_EVENTS: u64 = 1_000;

/// Tenants that leave at once: more would only wait for the disk.
pub(super) const MOST_LEAVING: usize = 16;

/// How many tenants may be in memory, those that leave among them.
pub(super) fn room_for(residents: usize) -> usize {
    (residents + residents / BATCH + MOST_LEAVING).min(Semaphore::MAX_PERMITS)
}

impl Registry {
    /// Has tenants leave, if more are in memory than may be.
    pub(super) fn make_room(&mut self, ctx: &mut Context<Self>) {
        let most = self.core.resident_tenants;
        let count = self.residents.len() + self.loading;
        if count <= most {
            return;
        }
        // One that is to leave may have come back after its actor ended. It leaves all the same.
        // One that is being erased goes anyway.
        let stays = |id: &TenantId| !self.leaving.contains_key(id) && !self.deleting.contains(id);
        let residents = self.residents.iter().filter(|(id, _)| stays(id));
        let mut by_age: Vec<_> = residents.map(|(id, one)| (one.measures.last_use(), *id)).collect();
        // Where two were called between the same two loads, either may go.
        by_age.sort_unstable();
        for (_, id) in by_age.into_iter().take(count - most + most / BATCH) {
            let room = self.residents.remove(&id);
            self.leave(id, room, ctx);
        }
    }

    fn leave(&mut self, id: TenantId, room: Option<InMemory>, ctx: &mut Context<Self>) {
        self.leaving.insert(id, None);
        let leaves = Arc::clone(&self.leaves);
        let permit = async move { leaves.acquire_owned().await };
        let work = permit.into_actor(self).then(move |permit, actor, _| {
            actor.residents.remove(&id);
            actor.show_residents();
            let core = Arc::clone(&actor.core);
            let row = async move {
                // If its actor ended meanwhile, it is not here, or comes back by itself.
                let row = match core.directory.begin_leaving(id) {
                    Some(resident) => {
                        let measures = Arc::clone(&resident.measures);
                        let row = end(resident).await;
                        core.measures.labels.left(id, &measures);
                        Some(row)
                    }
                    None => None,
                };
                drop(permit);
                row
            };
            row.into_actor(actor)
        });
        ctx.spawn(work.map(move |row, actor, ctx| {
            if let Some(row) = row {
                actor.core.directory.left(id, row);
            }
            drop(room);
            let comes_back = actor.leaving.remove(&id).flatten();
            actor.show_residents();
            // Somebody may have called it meanwhile.
            if let Some(wake) = comes_back {
                actor.load_woken(wake, ctx);
            }
        }));
    }
}

/// Ends an actor once no call is on its way to it. Returns its last row, if its folder has everything.
async fn end(resident: Arc<Resident>) -> Option<RowBytes> {
    // From the directory nobody gets the mailbox any more. Callers that have it use it within a turn.
    while Arc::strong_count(&resident) > 1 || Arc::strong_count(&resident.mailbox) > 1 {
        actix_rt::time::sleep(CALL_DELAY).await;
    }
    let (done, ended) = oneshot::channel();
    // It comes behind every call in the mailbox. An actor that is already gone needs no end.
    let _ = resident.mailbox.send(Close { snapshot_from: SNAPSHOT_EVENTS, done }).await;
    ended.await.ok().flatten()
}

//! The end of an actor: with everything on disk, or at once if its tenant is being erased.

use std::sync::Arc;

use actix::{ActorContext, Context, Handler};
use actix_rt::task::spawn_blocking;
use tokio::sync::oneshot;
use tracing::error;

use super::TenantActor;
use crate::actors::messages::{Close, Ending, Retire};
use crate::actors::tenant_reply::TenantReply;

impl Handler<Close> for TenantActor {
    type Result = ();

    fn handle(&mut self, Close { done }: Close, ctx: &mut Context<Self>) {
        let is_folded = self.fold(ctx);
        // The log is synced for the replies that still wait, and tells when it is.
        let (settled, settles) = oneshot::channel();
        if !self.pipeline.storage_failed() {
            let held = TenantReply::Other(Box::new(move |_| _ = settled.send(())));
            self.pipeline.hold_changed(held, &mut self.turns.queue());
        }
        self.turns.write();
        let seq = self.tenant().seq();
        let Some(job) = self.pipeline.begin_close() else { return };
        self.report.ending = Ending::Clean;
        let (id, resources) = (self.tenant().id(), Arc::clone(&self.resources));
        ctx.stop();
        actix_rt::spawn(async move {
            let now = resources.clock.now();
            let closed = spawn_blocking(move || job.close(now)).await;
            let snapshot = match closed
                .map_err(|panic| panic.to_string())
                .and_then(|job| job.map_err(|e| e.to_string()))
            {
                Ok(snapshot) => {
                    if is_folded {
                        resources.log.folded(id.bytes(), seq);
                    }
                    snapshot
                }
                Err(problem) => {
                    error!(tenant = %id, problem, "the tenant's folder could not be closed; the log keeps its events");
                    None
                }
            };
            let _ = settles.await;
            if let Some(snapshot) = snapshot
                && let Ok(Err(problem)) = spawn_blocking(move || snapshot.write()).await
            {
                error!(tenant = %id, %problem, "a snapshot could not be written; the journal has it all");
            }
            let _ = done.send(());
        });
    }
}

impl Handler<Retire> for TenantActor {
    type Result = ();

    fn handle(&mut self, Retire { done }: Retire, ctx: &mut Context<Self>) {
        self.report.ending = Ending::Clean;
        self.turns.write();
        self.pipeline.drop_journal();
        ctx.stop();
        let _ = done.send(());
    }
}
